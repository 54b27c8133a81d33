"""One guided denoising step: predict the clean sample, shift it, let the scheduler step, place the shift.

    predict    x0 = (z_t - sqrt(1 - a_t) eps) / sqrt(a_t)
    shift      delta toward the target difficulty, by the margin of the guide at x0
    step       z_{t-1} = scheduler(eps, z_t)
    place      z_{t-1} += sqrt(a_{t-1}) delta + scale * sigma_t * (mode - x0)

DPM-Solver and UniPC remember earlier predictions, so that they are given the shifted state before their step instead,
and what they remember is true of it; see ``guided_call``.

``delta`` is difficulty guidance, diversity guidance or their sum, the pull to a mode is mode guidance; a run may have
any of them, all or none.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .difficulty_guidance import (
    Draw,
    GuidanceConfig,
    MarginOf,
    difficulty_shift,
    predicted_clean,
    smoothed,
    warn_of_trouble,
)
from .diversity_guidance import DiversityPush
from .guided_call import moved
from .mode_guidance import mode_delta, mode_shift
from .rates import begin_anew, rates_of, signal_share, take_sample_as_given
from .schedulers import denoise, remembers

Generators = torch.Generator | list[torch.Generator] | None  # one for the batch, or one for each image
Predict = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]  # (z_t, t) -> prediction, its change by the class


class GuidedStep(NamedTuple):
    """What a step gives: ``z_{t-1}``, the clean sample that it predicted, and the signal rate ``a_t``."""

    latents: Tensor
    clean: Tensor
    signal_rate: Tensor


def guided_step(
    z_t: Tensor,
    t: Tensor,
    step: int,
    *,
    predict: Predict,
    scheduler: Any,
    difficulty: "Steering | None" = None,
    modes: "ModePull | None" = None,
    diversity: DiversityPush | None = None,
    generator: Generators = None,
) -> GuidedStep:
    """One step of a run, guided where the windows of the guidances say so.

    Args:
        z_t: noisy latents, ``(batch, channels, height, width)``.
        t: timestep of the scheduler.
        step: number of the step, 0 the noisiest, which the windows count in.
        predict: the denoiser with classifier-free guidance; learned variance channels may follow the prediction.
        scheduler: one of ``schedulers.SCHEDULERS``.
        generator: of the scheduler's own noise.
    """
    rates = rates_of(scheduler, t)
    a_t, a_next = torch.tensor([signal_share(*rates[:2]), signal_share(*rates[2:])])
    eps, eps_by_class = predict(z_t, t)
    kind, channels = scheduler.config.prediction_type, z_t.shape[1]

    x0 = predicted_clean(eps[:, :channels], z_t, a_t, kind)  # predict
    deltas = []
    if difficulty is not None and step in difficulty.steps:
        # x0 is linear in the prediction, so that the part of the noise cancels in its change by the class
        by_class = None if eps_by_class is None else predicted_clean(eps_by_class, torch.zeros_like(z_t), a_t, kind)
        deltas.append(difficulty.shift(x0, a_t, step, by_class))  # shift
    if diversity is not None and step in diversity.steps:
        deltas.append(diversity.shift(x0))
    pull = modes if modes is not None and step in modes.steps else None

    if remembers(scheduler):
        if pull is not None:
            deltas.append(mode_delta(x0, pull.centres, float(a_t), float(a_next), pull.scale))
        if difficulty is not None and step - 1 in difficulty.steps and step not in difficulty.steps:
            begin_anew(scheduler)
        if deltas:
            take_sample_as_given(scheduler)
            eps, z_t = moved(eps, z_t, sum(deltas[1:], deltas[0]), rates, kind)  # place
        return GuidedStep(denoise(scheduler, eps, t, z_t, generator), x0, a_t)  # step
    z = denoise(scheduler, eps, t, z_t, generator)  # step
    moves = [delta * a_next.sqrt().to(z.device) for delta in deltas]
    if pull is not None:
        moves.append(mode_shift(x0, pull.centres, a_t, a_next, pull.scale))
    if moves:
        z = (z.float() + sum(moves[1:], moves[0])).to(z.dtype)  # place
    return GuidedStep(z, x0, a_t)


@contextmanager
def _deterministic_convolutions() -> Iterator[None]:
    """On a GPU the fastest gradient of a convolution adds up in another order each time, and so would the images."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


@dataclass(kw_only=True, eq=False)
class Steering:
    """What the images of one run are steered by toward their target difficulties.

    Attributes:
        config: window, scale and trust region.
        targets: ``(batch,)`` difficulties in [0, 1].
        num_steps: denoising steps of the run.
        decoded: margin of the guides, through the decoder; clean latents -> ``(batch,)``, differentiable.
        probed: margin that a probe predicts at a signal rate; None without a probe.
        draw: standard normal numbers, for smoothing.
    """

    config: GuidanceConfig
    targets: Tensor
    num_steps: int
    decoded: MarginOf
    probed: Callable[[Tensor], MarginOf] | None = None
    draw: Draw
    _broken: list[Tensor] = field(default_factory=list)
    _flat: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.steps = self.config.steps(self.num_steps)
        self.decoded_steps = self.config.decoded(self.num_steps)

    def shift(self, clean: Tensor, alpha: Tensor, step: int, by_class: Tensor | None) -> Tensor:
        """``delta`` for the clean samples that a step predicted, and note what was wrong with the guide."""
        by_probe = None if step in self.decoded_steps else self.probed
        margin_of = self.decoded if by_probe is None else by_probe(alpha)
        if self.config.smoothing or self.config.samples > 1:
            deviation = self.config.smoothing * (1 - alpha).sqrt()
            margin_of = smoothed(margin_of, deviation, self.config.samples, self.draw)
        with _deterministic_convolutions():
            found = difficulty_shift(clean, margin_of, self.targets, self.config, class_direction=by_class)
        self._broken.append(found.broken)
        if by_probe is None:
            self._flat.append(found.flat)
        return found.delta

    def warn(self) -> None:
        """Say once, after the run, for how many images the guide was broken or flat."""
        never = torch.zeros(len(self.targets), dtype=torch.bool)
        broken = torch.stack(self._broken).any(0) if self._broken else never
        warn_of_trouble(broken, torch.stack(self._flat).all(0) if self._flat else never)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModePull:
    """The modes that the images of one run are drawn to.

    Attributes:
        centres: the mode of each image, shaped like the latents.
        scale: strength.
        steps: which steps are drawn.
    """

    centres: Tensor
    scale: float
    steps: range
