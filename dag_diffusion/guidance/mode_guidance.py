"""Mode guidance: draw each image to one mode, a cluster centre of real images of its class in the latent space.

    z_{t-1} += scale * sigma_t * (mode - x0),   sigma_t^2 = (1 - a_{t-1}) / (1 - a_t) * (1 - a_t / a_{t-1})

Drawn to different modes, the few images of a class differ as its real ones do, and no gradient is taken.  After MGD3,
on which DAG (arXiv 2601.10090) builds.  This module knows tensors only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .difficulty_guidance import GuidanceConfig, at_most

SCALE_AT_20 = 0.2  # steps
TINY = 1e-12  # keeps the clean end of the schedule, 0 / 0, at 0

# Step i of 50, 0 the noisiest, has the index 49 - i in these papers: MGD3's 49..26 are the steps 0..23, [0, 24 / 50).
WINDOWS: dict[str, tuple[float, float]] = {
    "mgd3": (0.0, 0.48),  # 49..26
    "igd": (0.08, 0.4),  # 45..30
    "lgd": (0.08, 0.8),  # 45..10, Learnability-Guided Diffusion
}


@dataclass(frozen=True, kw_only=True)
class ModeGuidance:
    """When and how strongly to draw images to modes.  ``start`` and ``stop`` are fractions of the steps.

    Attributes:
        scale: strength of mode guidance; default: as strong as 0.2 at 20 steps.  It multiplies
            ``sigma_t * (mode - x0)``, and the pull adds up as the square root of the steps: that is 0.26 at 12 steps,
            and 0.13 at 50, where MGD3 has 0.1.  Of 0.1, 0.2 and 0.4 at 20 steps 0.2 trained best (docs/results).
        start: from the first step on, while the layout is open; published windows are in ``WINDOWS``.
        stop: the later half is left to the denoiser; a mode is a mean, and as blurred as one.
        proportional: draw images to modes in proportion to their real images instead of in turn.  See ``allot``.
    """

    scale: float | None = None
    start: float = 0.0
    stop: float = 0.5
    proportional: bool = False

    def __post_init__(self) -> None:
        strong = self.scale is None or 0 < self.scale < float("inf")
        if not (0 <= self.start < self.stop <= 1 and strong):
            raise ValueError(
                f"mode guidance needs 0 <= start < stop <= 1 and scale > 0, but they are {self.start}, {self.stop} and "
                f"{self.scale}; use ModeGuidance(), or no modes for none"
            )

    def scale_at(self, num_steps: int) -> float:
        """Strength in a run of so many steps."""
        return SCALE_AT_20 * (20 / num_steps) ** 0.5 if self.scale is None else self.scale

    def steps(self, num_steps: int) -> range:
        """Which of ``num_steps`` steps (0 is the noisiest) are drawn to a mode; ValueError if none is."""
        return GuidanceConfig(start=self.start, stop=self.stop).steps(num_steps)


def mode_shift(clean: Tensor, modes: Tensor, alpha: Tensor | float, alpha_next: Tensor | float, scale: float) -> Tensor:
    """The shift of ``z_{t-1}`` toward the modes, ``scale * sigma_t * (mode - x0)``, after MGD3.

    ``sigma_t`` is the deviation of the DDPM posterior, from signal rates alone, and so for any scheduler: DDIM, which
    draws no noise, has no sigma of its own.

    Args:
        clean: predicted clean samples ``x0``, ``(batch, channels, height, width)``.
        modes: the mode of each, same shape.
        alpha, alpha_next: cumulative signal rates of this step and the next, less noisy one, in [0, 1].
        scale: strength.

    Returns:
        float32, shaped like ``clean``, never longer than the noise that is left; zero on the last step
        (``alpha_next`` 1), and where ``clean`` is not finite.
    """
    clean = clean.float()
    now, after = (torch.as_tensor(a, dtype=torch.float32, device=clean.device) for a in (alpha, alpha_next))
    variance = (1 - after) / (1 - now).clamp(min=TINY) * (after - now) / after.clamp(min=TINY)
    shift = scale * variance.clamp(min=0).sqrt() * (modes.to(clean) - clean)
    shift = torch.where(torch.isfinite(shift), shift, 0.0)
    # a denoiser whose first guesses of x0 are far off would send the latents to infinity
    return at_most(shift, (1 - after).sqrt() * clean[0].numel() ** 0.5)


def mode_delta(clean: Tensor, modes: Tensor, alpha: float, alpha_next: float, scale: float) -> Tensor:
    """The shift of x0 by which a sample of any schedule moves as by ``mode_shift``, with the noise as it was.

    Args:
        clean, modes, scale: as of ``mode_shift``.
        alpha, alpha_next: shares of signal in the variance now and next; see ``rates.signal_share``.

    Returns:
        float32, shaped like ``clean``; zero where the next sample holds no signal.
    """
    if alpha_next <= 0:
        return torch.zeros_like(clean, dtype=torch.float32)
    return mode_shift(clean, modes, alpha, alpha_next, scale) / alpha_next**0.5
