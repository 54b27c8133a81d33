"""Difficulty-aware guidance: shift a predicted clean sample so that the guide finds it as hard as asked.

    d(x, y) = 1 - p(y | x) = sigmoid(-m),   g = dm/dx0
    delta = scale * (m* - m) * g / (|g|^2 + eps),   |delta| <= max_norm * |x0|,   z_{t-1} += sqrt(a_{t-1}) * delta

The squared error on d itself vanishes wherever the classifier is sure, that is nearly everywhere; the margin does not.
The shift lands on x0 while the predicted noise is kept (after MPGD, arXiv 2311.16424), so no graph goes through the
denoiser.  This module knows tensors only: no pipeline, no scheduler, no files.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .difficulty import difficulty_to_margin

logger = logging.getLogger(__name__)
TINY = 1e-12  # keeps a flat classifier from dividing by zero; max_norm then bounds the step


@dataclass(frozen=True)
class GuidanceConfig:
    """When and how strongly to steer.  ``start`` and ``stop`` are fractions of the steps, ``[start, stop)``.

    Attributes:
        scale: 1 is the linearised hit of the target, so the number has a meaning; 0.5 goes half of the way each time.
        start: from the first step on, since what is decided late only fools the guide; later is cheaper.
        stop: the last tenth is left to the denoiser; a shift after its last word would only fool the guide.
        every: guide one step in so many; the decoder and the guide are the cost of guidance.
        max_norm: trust region, the largest |delta| as a fraction of |x0|.
    """

    scale: float = 1.0
    start: float = 0.0
    stop: float = 0.9
    every: int = 1
    max_norm: float = 0.4

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


def newton_step(margin: Tensor, gradient: Tensor, target_margin: Tensor, scale: float = 1.0) -> Tensor:
    """The shortest step that, were the margin linear, would carry it from ``margin`` to ``target_margin``.

    Args:
        margin: ``(batch,)``.
        gradient: ``(batch, ...)``, of the margin with respect to the sample.
        target_margin: ``(batch,)``.
        scale: fraction of the way.

    Returns:
        ``delta``, shaped like ``gradient``.
    """
    squared = gradient.flatten(1).square().sum(1)
    length = scale * (target_margin - margin) / (squared + TINY)
    return length.view(-1, *[1] * (gradient.ndim - 1)) * gradient


def within_trust_region(delta: Tensor, clean: Tensor, max_norm: float) -> Tensor:
    """Shorten each sample's ``delta`` to at most ``max_norm * |clean|``; a step that is not finite becomes none.

    Without it a flat classifier, whose gradient is nearly zero, sends the latents to infinity.
    """
    length = delta.flatten(1).norm(dim=1)
    allowed = max_norm * clean.flatten(1).norm(dim=1)
    factor = (allowed / length.clamp(min=TINY)).clamp(max=1)
    shape = (-1, *[1] * (delta.ndim - 1))
    finite = torch.isfinite(delta).flatten(1).all(1) & torch.isfinite(factor)
    return torch.where(finite.view(shape), delta * factor.view(shape), 0.0)


def difficulty_shift(
    clean: Tensor, margin_of: Callable[[Tensor], Tensor], target_difficulty: Tensor, config: GuidanceConfig
) -> Tensor:
    """``delta`` for a predicted clean sample: toward the target difficulty, by the gradient of the guide's margin.

    Args:
        clean: predicted clean samples ``x0``, ``(batch, ...)``.
        margin_of: differentiable, ``x0 -> (batch,)``; decoder and guide, or a network on latents.
        target_difficulty: ``(batch,)`` in [0, 1].
        config: scale and trust region.

    Returns:
        float32, shaped like ``clean``; zero, with a warning, where the guide's gradient is not finite.
    """
    with torch.enable_grad():
        clean = clean.detach().float().requires_grad_()
        margin = margin_of(clean)
        (gradient,) = torch.autograd.grad(margin.sum(), clean)
    broken = int((~torch.isfinite(gradient)).flatten(1).any(1).sum())
    if broken:
        logger.warning(
            "the guide's gradient is not finite for %d of %d images, which this step leaves unguided; "
            "keep the VAE and the classifier in float32 or bfloat16",
            broken,
            len(clean),
        )
    target_margin = difficulty_to_margin(target_difficulty)
    delta = newton_step(margin.detach(), gradient, target_margin.to(gradient), config.scale)
    return within_trust_region(delta, clean.detach(), config.max_norm)
