"""One call of any scheduler, guided: read the clean sample off the answer, shift it, and keep the shift.

    x = a x0 + s e,   m = c x0 + b e        what the denoiser is given, and what it answers
    x0 = (b x - s m) / w,   w = a b - s c   what it means
    x' <- x' + a' delta                     kept in the returned sample, with the noise as it was
    m <- m - (w / s) g delta                or in the answer: what a denoiser would say that means x0 + g delta

One formula for every kind of prediction, and a placement for every family of schedulers (``rates.Family``): restated
answers go through solvers that make their next sample of what they remember.  This module knows tensors only.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .rates import Rates, family_of, gain_of, prediction_of, rates_of

LEAST = 1e-3  # share of the denominators; below it, as at zero terminal signal, an answer says nothing of x0
ShiftOf = Callable[[Tensor, Rates], Tensor]  # clean samples -> delta, float32


def guided_call(
    step: Callable[..., Any],
    scheduler: Any,
    answer: Tensor,
    timestep: Any,
    sample: Tensor,
    shift_of: ShiftOf,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """What ``scheduler.step`` returns, with the clean sample shifted.

    Args:
        step: the scheduler's own.
        scheduler: one that ``rates.require_family`` accepts, at a call that ``rates.ends_step``.
        answer, timestep, sample: as the step takes them; channels of a learned variance may follow the answer's.
        shift_of: not asked where the answer says nothing of the clean sample.
        *args, **kwargs: more arguments of the step.
    """
    rates, kind = rates_of(scheduler, timestep), prediction_of(scheduler)
    if not tells_clean(kind, rates):
        return step(answer, timestep, sample, *args, **kwargs)
    delta = shift_of(clean_sample(answer, sample, rates, kind), rates)
    if family_of(scheduler).placement != "sample":
        answer = restated(answer, gain_of(scheduler, rates) * delta, rates, kind)
        return step(answer, timestep, sample, *args, **kwargs)
    returned = step(answer, timestep, sample, *args, **kwargs)
    moved = shifted(returned[0], rates.next_signal * delta)
    if isinstance(returned, tuple):
        return moved, *returned[1:]
    returned.prev_sample = moved
    return returned


def answer_parts(kind: str, rates: Rates) -> tuple[float, float]:
    """``(c, b)``: how much of the clean sample and of the noise is in the answer.

    Args:
        kind: epsilon, v_prediction, sample, flow_prediction or trigflow.
        rates: of this call.

    Raises:
        ValueError: another kind.
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


def restated(answer: Tensor, delta: Tensor, rates: Rates, kind: str) -> Tensor:
    """The answer of a denoiser that had meant a clean sample shifted by ``delta``.

    Args:
        answer, rates, kind: as of ``clean_sample``.
        delta: shaped like the sample, float32.

    Returns:
        Shaped like ``answer``, in its precision.
    """
    c, b = answer_parts(kind, rates)
    w, channels = rates.signal * b - rates.noise * c, delta.shape[1]
    moved = shifted(answer[:, :channels], -(w / rates.noise) * delta)
    return moved if channels == answer.shape[1] else torch.cat([moved, answer[:, channels:]], dim=1)


def shifted(sample: Tensor, shift: Tensor) -> Tensor:
    """``sample + shift`` in the sample's precision; each sample that would overflow stays as it is."""
    moved = (sample.float() + shift).to(sample.dtype)
    finite = torch.isfinite(moved).flatten(1).all(1)
    return torch.where(finite.view(-1, *[1] * (moved.ndim - 1)), moved, sample)
