"""Difficulty guidance: shift a predicted clean sample so that the guide finds it as hard as asked.

    d(x, y) = 1 - p(y | x) = sigmoid(-m),   g = dm/dx0
    delta = scale * (m* - m) * Pg / (g.Pg + eps),   |delta| <= max_norm * |x0|,   z_{t-1} += sqrt(a_{t-1}) * delta

The squared error on d itself vanishes wherever the classifier is sure, that is nearly everywhere; the margin does not.
The shift lands on x0 while the predicted noise is kept (after MPGD, arXiv 2311.16424), so that no graph goes through
the denoiser.  The metric P lengthens the step along the denoiser's own class direction, where steps stay near real
images.  ``guided_step`` places the shift, before the step where a solver remembers.  This module knows tensors only: no
pipeline, no scheduler, no files.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dag_diffusion.difficulty import Among, as_among, difficulty_to_margin

logger = logging.getLogger(__name__)
TINY = 1e-12  # keeps a flat classifier from dividing by zero; max_norm then bounds the step
MarginOf = Callable[[Tensor], Tensor]  # differentiable, samples -> (batch,)
Draw = Callable[[tuple[int, ...]], Tensor]  # standard normal numbers of a shape, from the images' own generators


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """When and how strongly to steer.  ``start`` and ``stop`` are fractions of the steps, ``[start, stop)``.

    The defaults are those that ``benchmarks/guidance.py`` found best; ``docs/results`` has what else was tried.

    Attributes:
        scale: strength of difficulty guidance; 1 is the linearised hit of the target, 0.5 goes half of the way.
        start: from the first step on, since what is decided late only fools the guide; later is cheaper.
        stop: to the end; what is left to the denoiser alone moves images away from their targets again, the more so the
            fewer steps there are.
        every: guide one step in so many; without a probe, decoder and guide are the cost of guidance.
        max_norm: trust region, the largest |delta| as a fraction of |x0|.
        class_direction: how much of the step goes along the direction in which the denoiser itself changes the class,
            in [0, 1); needs classifier-free guidance to be on, and costs nothing then.
        decoded_steps: with a probe, how many steps at the end of the window still ask the decoder and the guide; the
            probe leads there cheaply, and these few land on the target exactly.
        samples, smoothing: Monte-Carlo smoothing, the margin's mean over so many draws of x0 plus noise, whose
            deviation is ``smoothing * sqrt(1 - a_t)`` (after LGD, Song et al. 2023).
        among: all: difficulty among all classes of the guide, as in the paper; set: among the classes of the set
            alone.  A probe steers only by what it was trained for.
    """

    scale: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    every: int = 1
    max_norm: float = 0.4
    class_direction: float = 0.3
    decoded_steps: int = 2
    samples: int = 1
    smoothing: float = 0.0
    among: Among = "all"

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= 1:
            raise ValueError(
                f"guidance needs 0 <= start < stop <= 1, but start={self.start} and stop={self.stop}; "
                "use start=0.0, stop=1.0 to steer all of the steps"
            )
        if not (0 < self.scale < float("inf") and 0 < self.max_norm < float("inf")):
            raise ValueError(
                f"guidance needs a positive, finite scale and max_norm, but they are {self.scale} and {self.max_norm}; "
                "leave the target difficulty out to generate without guidance"
            )
        for name in ("every", "samples", "decoded_steps"):
            if not hasattr(getattr(self, name), "__index__"):
                raise ValueError(f"guidance needs a whole number of {name}, but it is {getattr(self, name)!r}")
        if self.every < 1:
            raise ValueError(f"guidance on every {self.every}th step is impossible; every must be 1, 2, 3, ...")
        self._check_options()

    def _check_options(self) -> None:
        as_among(self.among)
        if self.samples < 1:
            raise ValueError(f"guidance needs samples of 1 or more, but it is {self.samples}; 1 is plain")
        for name in ("smoothing", "decoded_steps"):
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
        guided = window(self.start, self.stop, num_steps)[:: self.every]
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


def window(start: float, stop: float, num_steps: int) -> range:
    """Steps ``[start, stop)`` in fractions of all; 0.58 of 50 are 29, though the product comes out a little less."""
    first, end = (int(round(float(share) * num_steps, 9)) for share in (start, stop))
    return range(first, end)


def target_values(target: Any) -> Tensor:
    """Target difficulties, one number or several, as a tensor of its own, ``(n,)`` float32.

    Raises:
        ValueError: there are none, they are no numbers, or not in [0, 1].
    """
    try:
        values = torch.as_tensor(target, dtype=torch.float32).reshape(-1).clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"target_difficulty must be numbers in [0, 1], but is {target!r}") from error
    if not len(values) or not bool(((values >= 0) & (values <= 1)).all()):  # NaN is neither
        raise ValueError(f"target difficulties must lie in [0, 1], 0 easy and 1 hard, but got {values.tolist()[:5]}")
    return values


def targets_for(values: Tensor, count: int) -> Tensor:
    """Target difficulties of so many images, ``(count,)``; ValueError unless there is one for all or one for each."""
    if len(values) not in (1, count):
        raise ValueError(f"got {len(values)} target difficulties for {count} images; give one for all or one for each")
    return values.expand(count)


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

    Raises:
        ValueError: the prediction is of another type.
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
    class_direction: Tensor | None = None,
) -> Shift:
    """``delta`` for a predicted clean sample: toward the target difficulty, by the gradient of the guide's margin.

    Args:
        clean: predicted clean samples ``x0``, ``(batch, ...)``.
        margin_of: differentiable, ``x0 -> (batch,)``; decoder and guide, or a network on latents.
        target_difficulty: ``(batch,)`` in [0, 1].
        config: scale, class direction and trust region.
        class_direction: shaped like ``clean``; see ``along_class``.
    """
    margin, gradient = margin_and_gradient(clean, margin_of)
    gap = config.scale * (difficulty_to_margin(target_difficulty).to(gradient) - margin)
    direction = gradient
    if class_direction is not None and config.class_direction:
        direction = along_class(gradient, class_direction, config.class_direction)
    delta = newton_step(gap, gradient, direction)
    finite = torch.isfinite(delta).flatten(1).all(1)
    flat = (gradient == 0).flatten(1).all(1)
    return Shift(within_trust_region(delta, clean.detach(), config.max_norm), ~finite, flat)


def smoothed(margin_of: MarginOf, deviation: Tensor | float, samples: int, draw: Draw) -> MarginOf:
    """The mean of the margin over ``samples`` draws of Gaussian noise on its argument, of the given deviation."""

    def mean_margin(clean: Tensor) -> Tensor:
        noisy = (clean + deviation * draw(tuple(clean.shape)).to(clean) for _ in range(samples))
        return torch.stack([margin_of(each) for each in noisy]).mean(0)

    return mean_margin


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
