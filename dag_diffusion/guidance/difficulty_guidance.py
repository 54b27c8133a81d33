"""Difficulty-aware guidance: shift a predicted clean sample so that the guide finds it as hard as asked.

    d(x, y) = 1 - p(y | x) = sigmoid(-m),   g = dm/dx0
    delta = scale * (m* - m) * Pg / (g.Pg + eps),   |delta| <= max_norm * |x0|,   z_{t-1} += sqrt(a_{t-1}) * delta

The squared error on d itself vanishes wherever the classifier is sure, that is nearly everywhere; the margin does not.
The shift lands on x0 while the predicted noise is kept (after MPGD, arXiv 2311.16424), so no graph goes through the
denoiser; with ``gradient="denoiser"`` g is taken with respect to z_t (after FreeDoM, arXiv 2303.09833).  The metric P
lengthens the step along the denoiser's own class direction, where steps stay near real images.  This module knows
tensors only: no pipeline, no scheduler, no files.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dag_diffusion.difficulty import difficulty_to_margin

logger = logging.getLogger(__name__)
TINY = 1e-12  # keeps a flat classifier from dividing by zero; max_norm then bounds the step
MarginOf = Callable[[Tensor], Tensor]  # differentiable, samples -> (batch,)
Draw = Callable[[tuple[int, ...]], Tensor]  # standard normal numbers of a shape, from the images' own generators

# How far the margin still has to go, in the unit of the margin.  All three agree near d = 0.5, to first order.
OBJECTIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "margin": lambda m, wanted: wanted - m,
    "cross_entropy": lambda m, wanted: 4 * (wanted.sigmoid() - m.sigmoid()),  # -dCE/dm for a soft target, bounded
    "squared_error": lambda m, wanted: 16 * m.sigmoid() * (-m).sigmoid() * (wanted.sigmoid() - m.sigmoid()),
}
# Scale of the steps along the window, whose progress runs from 0 to 1.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "increasing": lambda progress: progress,
    "decreasing": lambda progress: 1 - progress,
}
GRADIENTS = ("x0", "denoiser")


@dataclass(frozen=True)
class GuidanceConfig:
    """When and how strongly to steer.  ``start`` and ``stop`` are fractions of the steps, ``[start, stop)``.

    The defaults are those that ``benchmarks/guidance.py`` found best; ``docs/guidance.md`` tells what else was tried.

    Attributes:
        scale: 1 is the linearised hit of the target, so the number has a meaning; 0.5 goes half of the way each time.
        start: from the first step on, since what is decided late only fools the guide; later is cheaper.
        stop: the last tenth is left to the denoiser; a shift after its last word would only fool the guide.
        every: guide one step in so many; without a probe, decoder and guide are the cost of guidance.
        max_norm: trust region, the largest |delta| as a fraction of |x0|.
        class_direction: how much of the step goes along the direction in which the denoiser itself changes the class,
            in [0, 1); needs classifier-free guidance to be on, and costs nothing then.
        decoded_steps: with a probe, how many steps at the end of the window still ask the decoder and the guide; the
            probe leads there cheaply, and these few land on the target exactly.
        objective: ``margin``, ``cross_entropy`` (bounded) or ``squared_error`` (for comparison; it barely steers).
        schedule: of the scale along the window: ``constant``, ``increasing`` or ``decreasing``.
        gradient: with respect to ``x0``, or to z_t through the ``denoiser``, which costs more and keeps its graph; then
            ``max_norm`` is a fraction of |z_t|, and there is no class direction.
        recurrence: how often each guided step is taken, with noise added back between (FreeDoM's time travel).
        samples, smoothing: Monte-Carlo smoothing, the margin's mean over so many draws of x0 plus noise, whose
            deviation is ``smoothing * sqrt(1 - a_t)`` (after LGD, Song et al. 2023).
        jitter: shift, blur and noise of the images that the guide sees, 1 is strong; 0 is none.
        reference_weight: with a reference classifier, how much of its wish is followed that hard images stay members
            of their class.  With a probe, jitter and reference have a say in the decoded steps only.
    """

    scale: float = 1.0
    start: float = 0.0
    stop: float = 0.9
    every: int = 1
    max_norm: float = 0.4
    class_direction: float = 0.1
    decoded_steps: int = 2
    objective: str = "margin"
    schedule: str = "constant"
    gradient: str = "x0"
    recurrence: int = 1
    samples: int = 1
    smoothing: float = 0.0
    jitter: float = 0.0
    reference_weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= 1:
            raise ValueError(
                f"guidance needs 0 <= start < stop <= 1, but start={self.start} and stop={self.stop}; "
                "use start=0.0, stop=0.9 to steer all but the last tenth of the steps"
            )
        if not (0 < self.scale < float("inf") and 0 < self.max_norm < float("inf")):
            raise ValueError(
                f"guidance needs a positive, finite scale and max_norm, but they are {self.scale} and {self.max_norm}; "
                "leave the target difficulty out to generate without guidance"
            )
        if self.every < 1:
            raise ValueError(f"guidance on every {self.every}th step is impossible; every must be 1, 2, 3, ...")
        self._check_options()

    def _check_options(self) -> None:
        for name, known in (("objective", OBJECTIVES), ("schedule", SCHEDULES), ("gradient", GRADIENTS)):
            if getattr(self, name) not in known:
                raise ValueError(f"guidance has no {name} {getattr(self, name)!r}; choose one of {', '.join(known)}")
        for name in ("recurrence", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"guidance needs {name} of 1 or more, but it is {getattr(self, name)}; 1 is plain")
        for name in ("smoothing", "jitter", "reference_weight", "decoded_steps"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"guidance needs {name} of 0 or more, but it is {getattr(self, name)}; 0 is none")
        if not 0 <= self.class_direction < 1:
            raise ValueError(
                f"class_direction is {self.class_direction}; it is a share in [0, 1), 0 for the guide's gradient alone"
            )

    def steps(self, num_steps: int) -> range:
        """Which of ``num_steps`` steps (0 is the noisiest) are steered.

        Raises:
            ValueError: none is; a target would be ignored without a word.
        """
        guided = range(int(self.start * num_steps), int(self.stop * num_steps), self.every)
        if not guided:
            raise ValueError(
                f"none of {num_steps} steps lies in the guidance window [{self.start}, {self.stop}); "
                "take more num_inference_steps or a wider window"
            )
        return guided

    def decoded(self, num_steps: int) -> set[int]:
        """Which of the steered steps ask the decoder and the guide even where there is a probe."""
        guided = self.steps(num_steps)
        return set(guided[max(0, len(guided) - self.decoded_steps) :])

    def scale_at(self, step: int, num_steps: int) -> float:
        """``scale`` at one of the steered steps, along the schedule."""
        guided = self.steps(num_steps)
        return self.scale * SCHEDULES[self.schedule]((step - guided.start + 0.5) / (guided.stop - guided.start))


class Shift(NamedTuple):
    """A step of the sample and what was wrong with the guide.

    Attributes:
        delta: ``(batch, ...)`` float32, finite.
        broken: ``(batch,)`` bool, the step was not finite, so ``delta`` is zero.
        flat: ``(batch,)`` bool, the gradient was exactly zero.
    """

    delta: Tensor
    broken: Tensor
    flat: Tensor


def predicted_clean(output: Tensor, noisy: Tensor, alpha: Tensor | float, prediction_type: str) -> Tensor:
    """The clean sample that the denoiser believes in, ``x0``, from what it predicts.

    Args:
        output: the denoiser's prediction, ``(batch, channels, height, width)``.
        noisy: ``z_t = sqrt(alpha) x0 + sqrt(1 - alpha) noise``, same shape.
        alpha: cumulative signal rate at this step, in (0, 1].
        prediction_type: ``epsilon``, ``v_prediction`` or ``sample``, as the scheduler's configuration names it.

    Returns:
        float32, same shape.
    """
    output, noisy = output.float(), noisy.float()
    alpha = torch.as_tensor(alpha, dtype=torch.float32, device=noisy.device)
    if prediction_type == "epsilon":
        return (noisy - (1 - alpha).sqrt() * output) / alpha.sqrt()
    if prediction_type == "v_prediction":
        return alpha.sqrt() * noisy - (1 - alpha).sqrt() * output
    if prediction_type == "sample":
        return output
    raise ValueError(f"prediction_type is {prediction_type!r}; guidance knows epsilon, v_prediction and sample")


def newton_step(gap: Tensor, gradient: Tensor, direction: Tensor | None = None) -> Tensor:
    """The step along ``direction`` that, were the margin linear, would change it by ``gap``.

    Args:
        gap: ``(batch,)``, wanted change of the margin.
        gradient: ``(batch, ...)``, of the margin with respect to the sample.
        direction: same shape, with a positive product with ``gradient``; the gradient itself, which gives the shortest
            step, if not given.

    Returns:
        ``delta``, shaped like ``gradient``.
    """
    direction = gradient if direction is None else direction
    length = gap / ((gradient * direction).flatten(1).sum(1) + TINY)
    return _per_sample(length, gradient) * direction


def along_class(gradient: Tensor, class_direction: Tensor, share: float) -> Tensor:
    """``Pg``: the gradient with more of its part along the direction in which the denoiser changes the class.

    P = (1 - share) I + share sqrt(n) u u^T, with u the unit class direction and n the sample's size.  P is positive,
    so that the step still leads to the target; sqrt(n) makes the two parts of a random gradient equally long.

    Args:
        gradient: ``(batch, ...)``.
        class_direction: same shape, conditional minus unconditional prediction of x0; zero means none.
        share: in [0, 1).
    """
    flat = class_direction.flatten(1)
    unit = (flat / flat.norm(dim=1, keepdim=True).clamp(min=TINY)).view_as(gradient)
    part = (gradient * unit).flatten(1).sum(1) * unit[0].numel() ** 0.5
    return (1 - share) * gradient + share * _per_sample(part, gradient) * unit


def within_trust_region(delta: Tensor, clean: Tensor, max_norm: float) -> Tensor:
    """Shorten each sample's ``delta`` to at most ``max_norm * |clean|``; a step that is not finite becomes none.

    Without it a flat classifier, whose gradient is nearly zero, sends the latents to infinity.
    """
    return at_most(delta, max_norm * clean.flatten(1).norm(dim=1))


def at_most(delta: Tensor, length: Tensor) -> Tensor:
    """Shorten each sample's ``delta`` to ``length``, ``(batch,)`` or one number; what is not finite becomes zero."""
    factor = (length / delta.flatten(1).norm(dim=1).clamp(min=TINY)).clamp(max=1)
    finite = torch.isfinite(delta).flatten(1).all(1) & torch.isfinite(factor)
    return torch.where(_per_sample(finite, delta), delta * _per_sample(factor, delta), 0.0)


def margin_and_gradient(sample: Tensor, margin_of: MarginOf) -> tuple[Tensor, Tensor]:
    """The margin of each sample, ``(batch,)``, and its gradient, shaped like ``sample``; float32."""
    with torch.enable_grad():
        sample = sample.detach().float().requires_grad_()
        margin = margin_of(sample)
        (gradient,) = torch.autograd.grad(margin.sum(), sample)
    return margin.detach(), gradient


def difficulty_shift(
    clean: Tensor,
    margin_of: MarginOf,
    target_difficulty: Tensor,
    config: GuidanceConfig,
    *,
    scale: float | None = None,
    class_direction: Tensor | None = None,
    reference_margin_of: MarginOf | None = None,
) -> Shift:
    """``delta`` for a predicted clean sample: toward the target difficulty, by the gradient of the guide's margin.

    Args:
        clean: predicted clean samples ``x0``, ``(batch, ...)``; or z_t, if ``margin_of`` goes through the denoiser.
        margin_of: differentiable, ``x0 -> (batch,)``; decoder and guide, or a network on latents.
        target_difficulty: ``(batch,)`` in [0, 1].
        config: objective, scale and trust region.
        scale: instead of the configuration's, as its schedule has it at this step.
        class_direction: shaped like ``clean``; see ``along_class``.
        reference_margin_of: of a second classifier, by which the sample should stay a member of its class.
    """
    margin, gradient = margin_and_gradient(clean, margin_of)
    target_margin = difficulty_to_margin(target_difficulty).to(gradient)
    gap = (config.scale if scale is None else scale) * OBJECTIVES[config.objective](margin, target_margin)
    direction = gradient
    if class_direction is not None and config.class_direction:
        direction = along_class(gradient, class_direction, config.class_direction)
    delta = newton_step(gap, gradient, direction)
    if reference_margin_of is not None and config.reference_weight:
        delta = delta + config.reference_weight * membership_step(clean, reference_margin_of, gradient)
    finite = torch.isfinite(delta).flatten(1).all(1)
    flat = (gradient == 0).flatten(1).all(1)
    return Shift(within_trust_region(delta, clean.detach(), config.max_norm), ~finite, flat)


def membership_step(clean: Tensor, reference_margin_of: MarginOf, gradient: Tensor) -> Tensor:
    """The step that brings back into its class, by a second classifier, what the guide has driven out of it.

    Zero where the reference gives the class more than 1/2.  It runs across the guide's gradient, so that it does not
    undo the step toward the target.  (Learnability-Guided Diffusion, arXiv 2604.00519, subtracts a part of a reference
    model's loss instead, which fights its own objective wherever the two models agree.)

    Args:
        clean: ``(batch, ...)``.
        reference_margin_of: ``x0 -> (batch,)``.
        gradient: of the guide's margin, shaped like ``clean``.
    """
    margin, own = margin_and_gradient(clean, reference_margin_of)
    squared = gradient.flatten(1).square().sum(1)
    across = own - _per_sample((own * gradient).flatten(1).sum(1) / (squared + TINY), own) * gradient
    # divided by |own|^2 and not by own.across: where the two classifiers agree there is no way across, and no step
    length = (-margin).clamp(min=0) / (own.flatten(1).square().sum(1) + TINY)
    return _per_sample(length, own) * across


def smoothed(margin_of: MarginOf, deviation: Tensor | float, samples: int, draw: Draw) -> MarginOf:
    """The mean of the margin over ``samples`` draws of Gaussian noise on its argument, of the given deviation."""

    def mean_margin(clean: Tensor) -> Tensor:
        noisy = (clean + deviation * draw(tuple(clean.shape)).to(clean) for _ in range(samples))
        return torch.stack([margin_of(each) for each in noisy]).mean(0)

    return mean_margin


def jitter(images: Tensor, strength: float, draw: Draw) -> Tensor:
    """Shift, blur and noise each image a little, so that gradients point at what classifiers share; differentiable.

    At strength 1 the deviations are 5 % of the side, all of a 3 x 3 mean, and 0.1 of the range [0, 1].

    Args:
        images: ``(batch, channels, height, width)``, about in [0, 1].
        strength: 0 is none.
        draw: gives the randomness.
    """
    images = images.float()  # in half precision the grid of positions is as coarse as the pixels
    numbers = draw((len(images), 3)).to(images) * strength
    moved = torch.eye(2, 3, device=images.device, dtype=images.dtype).repeat(len(images), 1, 1)
    moved[:, :, 2] = 0.1 * numbers[:, :2]  # the grid runs from -1 to 1, so 0.1 is 5 % of the side
    grid = F.affine_grid(moved, list(images.shape), align_corners=False)
    shifted = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    blurred = F.avg_pool2d(F.pad(shifted, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mixed = shifted.lerp(blurred, _per_sample(numbers[:, 2].abs().clamp(max=1), shifted))
    return mixed + 0.1 * strength * draw(tuple(images.shape)).to(images)


def warn_of_trouble(broken: Tensor, flat: Tensor) -> None:
    """Say once what was wrong with the guide for some of the images; see ``Shift``."""
    for found, what in (
        (
            broken,
            "the guide's gradient is not finite for %d of %d images, which some steps left unguided; "
            "keep the VAE, the classifiers and the probe in float32 or bfloat16",
        ),
        (
            flat,
            "the guide is flat (its gradient is zero) for %d of %d images, which stay as they would be unguided; "
            "a classifier that is saturated or constant cannot steer",
        ),
    ):
        if found.any():
            logger.warning(what, int(found.sum()), len(found))


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
