"""One call of any scheduler, guided: read the clean sample off the answer, and move what the call is given.

    x = a x0 + s e,   m = c x0 + b e        what the denoiser was given, and what it answered
    x0 = (b x - s m) / w,   w = a b - s c   what it meant
    x <- x + a delta,   m <- m + c delta    the whole state moves, and the noise e stays as it was

One formula for every kind of prediction.  A scheduler that is given a moved state returns a sample that has moved by
``a' delta``, and what it keeps of this call for the next ones is true of the moved state: no memory has to be mended.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .rates import Rates, prediction_of, rates_of, take_sample_as_given

LEAST = 1e-3  # share of the denominators; below it, as at zero terminal signal, an answer says nothing of x0
ShiftOf = Callable[[Tensor, Rates], Tensor]  # clean samples -> delta, float32


def guided_call(
    scheduler: Any, answer: Tensor, timestep: Any, sample: Tensor, shift_of: ShiftOf
) -> tuple[Tensor, Tensor]:
    """Answer and sample to give to ``scheduler.step`` instead, so that the clean sample of its result is shifted.

    Args:
        scheduler: one that ``rates.require_family`` accepts, before a call that ``rates.begins_step``.
        answer, timestep, sample: as the step would take them; channels of a learned variance may follow the answer's.
        shift_of: not asked where the answer says nothing of the clean sample.
    """
    rates, kind = rates_of(scheduler, timestep), prediction_of(scheduler)
    if not tells_clean(kind, rates):
        return answer, sample
    delta = shift_of(clean_sample(answer, sample, rates, kind), rates)
    take_sample_as_given(scheduler)
    return moved(answer, sample, delta, rates, kind)


def answer_parts(kind: str, rates: Rates) -> tuple[float, float]:
    """``(c, b)``: how much of the clean sample and of the noise is in the answer of a call with these rates.

    Args:
        kind: as ``rates.prediction_of`` tells it; ValueError for another.
    """
    a, s = rates.signal, rates.noise
    size = (a**2 + s**2) ** 0.5
    parts = {
        "epsilon": (0.0, 1.0),
        "sample": (1.0, 0.0),
        "flow_prediction": (-1.0, 1.0),
        "v_prediction": (-s / size, a / size),
        "trigflow": (-s, a),
    }
    if kind not in parts:
        raise ValueError(f"prediction_type is {kind!r}; guidance knows {', '.join(parts)}")
    return parts[kind]


def tells_clean(kind: str, rates: Rates) -> bool:
    """Whether an answer says something of the clean sample, and a scheduler listens to it, at these rates."""
    c, b = answer_parts(kind, rates)
    a, s = rates.signal, rates.noise
    return abs(a * b - s * c) > LEAST * (abs(b) * (a**2 + s**2) ** 0.5 + s * abs(c)) and s > 0


def clean_sample(answer: Tensor, sample: Tensor, rates: Rates, kind: str) -> Tensor:
    """The clean sample that an answer means.

    Args:
        answer: the denoiser's, ``(batch, channels, ...)``; channels of a learned variance may follow.
        sample: what the scheduler's step is given, ``(batch, channels, ...)``.
        rates: of this call; ``tells_clean`` must hold.
        kind: as of ``answer_parts``.

    Returns:
        float32, shaped like ``sample``.
    """
    c, b = answer_parts(kind, rates)
    w = rates.signal * b - rates.noise * c
    meant = answer[:, : sample.shape[1]].float()
    return sample.float() * (b / w) - meant * (rates.noise / w)


def moved(answer: Tensor, sample: Tensor, delta: Tensor, rates: Rates, kind: str) -> tuple[Tensor, Tensor]:
    """Answer and sample with the clean sample shifted by ``delta`` and the same noise, in the precisions they came in.

    Args:
        answer, sample, rates, kind: as of ``clean_sample``.
        delta: shaped like ``sample``, float32; an image that it would make overflow stays as it is.
    """
    c, _ = answer_parts(kind, rates)
    said, rest = answer[:, : sample.shape[1]], answer[:, sample.shape[1] :]
    pairs = [(each, (each.float() + by * delta).to(each.dtype)) for each, by in ((said, c), (sample, rates.signal))]
    finite = torch.stack([torch.isfinite(after).flatten(1).all(1) for _, after in pairs]).all(0)
    said, sample = (torch.where(finite.view(-1, *[1] * (after.ndim - 1)), after, each) for each, after in pairs)
    return torch.cat([said, rest], dim=1) if rest.shape[1] else said, sample
