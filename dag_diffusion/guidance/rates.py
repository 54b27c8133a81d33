"""Rates of diffusers' schedulers: how much of a sample is signal and how much noise, before a call and after it.

    x = a x0 + s e   now,   x' = a' x0 + s' e'   when ``scheduler.step`` returns

    cumulative     a^2 + s^2 = 1 by timestep        DDIM, DDPM, PNDM, LCM, TCD
    exploding      a = 1, s = sigma                 Euler, Heun, LMS, KDPM2
    preserving     s / a = sigma, a^2 + s^2 = 1     DPM-Solver, UniPC, DEIS, SA-Solver
    flow           a = 1 - sigma, s = sigma         flow matching, and the solvers above with flow sigmas
    angles         a = d cos t, s = d sin t         SCM, where d is ``sigma_data``

Schedulers are known by the names of their classes: importing diffusers takes seconds.
"""

from collections.abc import Callable
from itertools import chain
from math import cos, sin
from typing import Any, NamedTuple

from .schedulers import require_unclipped


class Rates(NamedTuple):
    """Shares of signal and noise of the sample that a call is given, and of the one that it returns."""

    signal: float
    noise: float
    next_signal: float
    next_noise: float


Family = Callable[[Any, Any], Rates]  # of a scheduler at a timestep, before its call


def signal_share(signal: float, noise: float) -> float:
    """The share of signal in a sample's variance, which schedules that preserve it call the cumulative rate."""
    return signal**2 / (signal**2 + noise**2)


def rates_of(scheduler: Any, timestep: Any) -> Rates:
    """Rates of the next call of ``scheduler.step``; nothing is changed by asking.

    Args:
        scheduler: one that ``require_family`` accepts, after ``set_timesteps``.
        timestep: that the call will be given, a number or a tensor.
    """
    return family_of(scheduler)(scheduler, timestep)


def begins_step(scheduler: Any) -> bool:
    """Whether the next call begins a step.  Some solvers call several times, and remember what the first is given."""
    if _name(scheduler) == "PNDMScheduler":
        return scheduler.counter % 4 == 0 if _starts_by_runge_kutta(scheduler) else not _is_repeated(scheduler)
    return bool(getattr(scheduler, "state_in_first_order", True))


def count_steps(scheduler: Any, calls: int) -> int:
    """How many of so many calls begin a step."""
    if _name(scheduler) == "PNDMScheduler":
        return calls - (1 if scheduler.config.skip_prk_steps else 9)
    return -(-calls // scheduler.order)


def take_sample_as_given(scheduler: Any) -> None:
    """Before a call: a corrector would put a sample in its place that is made of the one before."""
    if getattr(scheduler, "last_sample", None) is not None:
        scheduler.last_sample = None


def begin_anew(scheduler: Any) -> None:
    """Before the call after the last guided one: a multistep solver leaves out what it remembers.

    Whatever the denoiser takes back of the last shifts would be extrapolated, as if it went on like that.
    """
    take_sample_as_given(scheduler)
    if hasattr(scheduler, "lower_order_nums"):
        scheduler.lower_order_nums = 0


def family_of(scheduler: Any) -> Family:
    """The family of a scheduler; ValueError with the list of known ones if it has none."""
    if (name := _name(scheduler)) is None:
        raise ValueError(
            f"{type(scheduler).__name__} is not supported, since its rates of signal and noise are not known; "
            f"use one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[name]


def require_family(scheduler: Any) -> None:
    """Refuse a scheduler that would go wrong without a word.

    Raises:
        ValueError: an unknown family, clipping that is meant for pixels, or a prediction that does not fit its rates.
    """
    family, name, config = family_of(scheduler), type(scheduler).__name__, scheduler.config
    require_unclipped(scheduler)
    if config.get("invert_sigmas", False):
        raise ValueError(f"{name} has invert_sigmas=True, where noise and signal change places; use it without")
    if family is _preserving and prediction_of(scheduler) == "flow_prediction" and not _has_flow(config):
        raise ValueError(
            f"{name} has prediction_type 'flow_prediction' without flow sigmas, so that its rates contradict each "
            f"other; use {name}.from_config(pipeline.scheduler.config, use_flow_sigmas=True)"
        )


def prediction_of(scheduler: Any) -> str:
    """What the denoiser predicts: epsilon, v_prediction, sample, flow_prediction or trigflow."""
    family = family_of(scheduler)
    if family is _flow:
        return "flow_prediction"
    kind = "trigflow" if family is _angles else scheduler.config.prediction_type
    return "sample" if kind == "original_sample" else kind


# -- families


def _cumulative(scheduler: Any, timestep: Any) -> Rates:
    now, after = _signal(scheduler, int(timestep)), _signal(scheduler, _following(scheduler, timestep))
    return Rates(now**0.5, (1 - now) ** 0.5, after**0.5, (1 - after) ** 0.5)


def _signal(scheduler: Any, timestep: int | None) -> float:
    """Cumulative signal rate at a timestep, behind the last one if it is negative; of a clean sample if it is None."""
    if timestep is None:
        return 1.0
    if timestep < 0:
        return float(getattr(scheduler, "final_alpha_cumprod", 1.0))
    return float(scheduler.alphas_cumprod[timestep])


def _following(scheduler: Any, timestep: Any) -> int | None:
    """The timestep of the sample that the call returns; None if it is clean."""
    name, t = _name(scheduler), int(timestep)
    if name in ("DDPMScheduler", "DDPMParallelScheduler"):
        return int(scheduler.previous_timestep(t))
    if name in ("LCMScheduler", "TCDScheduler"):
        index = _index(scheduler, timestep) + 1
        if index < len(scheduler.timesteps):
            return int(scheduler.timesteps[index])
        return None if name == "LCMScheduler" else 0
    stride = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    if name == "PNDMScheduler" and _starts_by_runge_kutta(scheduler):
        stride = 0 if scheduler.counter % 2 else stride // 2
    elif name == "PNDMScheduler" and _is_repeated(scheduler):
        stride = 0
    return t - stride


def _starts_by_runge_kutta(scheduler: Any) -> bool:
    """Whether PNDM is in its first steps, of four calls each, unless it was told to skip them."""
    return not scheduler.config.skip_prk_steps and scheduler.counter < len(scheduler.prk_timesteps)


def _is_repeated(scheduler: Any) -> bool:
    """Whether PNDM is at the second call of its first step, which without Runge-Kutta has two."""
    return scheduler.config.skip_prk_steps and scheduler.counter == 1


def _of_noise_levels(rates: Callable[[float], tuple[float, float]]) -> Family:
    """A family whose rates follow from the scheduler's noise levels."""
    return lambda scheduler, timestep: Rates(*chain.from_iterable(map(rates, _sigmas(scheduler, timestep))))


_exploding = _of_noise_levels(lambda sigma: (1.0, sigma))
_flow = _of_noise_levels(lambda sigma: (1 - sigma, sigma))
_variance_preserving = _of_noise_levels(lambda sigma: ((1 + sigma**2) ** -0.5, sigma * (1 + sigma**2) ** -0.5))


def _preserving(scheduler: Any, timestep: Any) -> Rates:
    return (_flow if _has_flow(scheduler.config) else _variance_preserving)(scheduler, timestep)


def _angles(scheduler: Any, timestep: Any) -> Rates:
    index, data = _index(scheduler, timestep), scheduler.config.sigma_data
    now, after = (float(scheduler.timesteps[i]) for i in (index, index + 1))
    return Rates(data * cos(now), data * sin(now), data * cos(after), data * sin(after))


def _sigmas(scheduler: Any, timestep: Any) -> tuple[float, float]:
    """Noise levels now and after the call; solvers of the second order call twice between two levels."""
    index, levels = _index(scheduler, timestep), scheduler.sigmas
    between = getattr(scheduler, "sigmas_interpol", None)
    first = between is None or scheduler.state_in_first_order
    if between is None:
        pair = levels[index], levels[index if not getattr(scheduler, "state_in_first_order", True) else index + 1]
    elif _name(scheduler) == "KDPM2AncestralDiscreteScheduler":
        pair = (levels[index], between[index]) if first else (between[index - 1], levels[index])
    else:
        pair = (levels[index], between[index + 1]) if first else (between[index], levels[index])
    return float(pair[0]), float(pair[1])


def _index(scheduler: Any, timestep: Any) -> int:
    """Place of the call in the schedule: with flow sigmas, timesteps are cut to integers and tell it only roughly."""
    for known in (scheduler.step_index, scheduler.begin_index):
        if known is not None:
            return known
    return scheduler.index_for_timestep(timestep)


def _has_flow(config: Any) -> bool:
    return bool(config.get("use_flow_sigmas", False))


def _name(scheduler: Any) -> str | None:
    """The name in ``FAMILIES`` of a scheduler's class or of the nearest one that it is derived from."""
    return next((kind.__name__ for kind in type(scheduler).__mro__ if kind.__name__ in FAMILIES), None)


FAMILIES: dict[str, Family] = {
    f"{name}Scheduler": family
    for family, names in (
        (_cumulative, "DDIM DDIMParallel DDPM DDPMParallel PNDM LCM TCD"),
        (_exploding, "EulerDiscrete EulerAncestralDiscrete LMSDiscrete HeunDiscrete KDPM2Discrete"),
        (_exploding, "KDPM2AncestralDiscrete"),
        (_preserving, "DPMSolverMultistep DPMSolverSinglestep UniPCMultistep DEISMultistep SASolver"),
        (_flow, "FlowMatchEulerDiscrete FlowMatchHeunDiscrete FlowMatchLCM"),
        (_angles, "SCM"),
    )
    for name in names.split()
}
