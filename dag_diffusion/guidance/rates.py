"""Rates of diffusers' schedulers: how much of a sample is signal and how much noise, before a call and after it.

    x = a x0 + s e   now,   x' = a' x0 + s' e'   when ``scheduler.step`` returns

    family        level u of a sample    a, s                            schedulers
    cumulative    share of the signal    sqrt(u), sqrt(1 - u)            DDIM, DDPM, PNDM, LCM, TCD
    exploding     sigma                  1, u                            Euler, Heun, LMS, KDPM2
    preserving    sigma                  1, u, over sqrt(1 + u^2)        DPM-Solver, UniPC, DEIS, SA-Solver
    flow          sigma                  1 - u, u                        flow matching; those above with flow sigmas
    angles        angle                  cos u, sin u, by sigma_data     SCM

Schedulers are known by the names of their classes: importing diffusers takes seconds.
"""

from collections.abc import Callable
from math import cos, sin
from typing import Any, NamedTuple

from .schedulers import kind_among, require_unclipped


class Rates(NamedTuple):
    """Shares of signal and noise of the sample that a call is given, and of the one that it returns."""

    signal: float
    noise: float
    next_signal: float
    next_noise: float


class Family(NamedTuple):
    """Levels of the samples before and after the next call, of a scheduler at a timestep; ``(a, s)`` at a level."""

    levels: Callable[[Any, Any], tuple[float, float]]
    shares: Callable[[float], tuple[float, float]]


def signal_share(signal: float, noise: float) -> float:
    """The share of signal in a sample's variance, which schedules that preserve it call the cumulative rate."""
    return signal**2 / (signal**2 + noise**2)


def rates_of(scheduler: Any, timestep: Any) -> Rates:
    """Rates of the next call of ``scheduler.step``; nothing is changed by asking.

    Args:
        scheduler: one that ``require_family`` accepts, after ``set_timesteps``.
        timestep: that the call will be given, a number or a tensor.
    """
    family, size = family_of(scheduler), scheduler.config.get("sigma_data", 1.0)
    return Rates(*(size * share for level in family.levels(scheduler, timestep) for share in family.shares(level)))


def begins_step(scheduler: Any) -> bool:
    """Whether the next call begins a step.  Some solvers call several times, and remember what the first is given."""
    if _name(scheduler) == "PNDMScheduler":
        return _call_of_pndm(scheduler)[0] == 0
    return bool(getattr(scheduler, "state_in_first_order", True))


def count_steps(scheduler: Any, calls: int) -> int:
    """How many of so many calls begin a step."""
    if _name(scheduler) == "PNDMScheduler":
        return calls - (1 if scheduler.config.skip_prk_steps else 9)
    return -(-calls // scheduler.order)


def take_sample_as_given(scheduler: Any) -> None:
    """Before a call: a corrector would put a sample in its place that is made of the one before."""
    if hasattr(scheduler, "last_sample"):
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
    has_flow = FAMILIES[name] is PRESERVING and scheduler.config.get("use_flow_sigmas", False)
    return FLOW if has_flow else FAMILIES[name]


def require_family(scheduler: Any) -> None:
    """Refuse a scheduler that would go wrong without a word.

    Raises:
        ValueError: an unknown family, clipping that is meant for pixels, or a prediction that does not fit its rates.
    """
    family, name = family_of(scheduler), type(scheduler).__name__
    require_unclipped(scheduler)
    if scheduler.config.get("invert_sigmas", False):
        raise ValueError(f"{name} has invert_sigmas=True, where noise and signal change places; use it without")
    if family is PRESERVING and prediction_of(scheduler) == "flow_prediction":
        raise ValueError(
            f"{name} has prediction_type 'flow_prediction' without flow sigmas, so that its rates contradict each "
            f"other; use {name}.from_config(pipeline.scheduler.config, use_flow_sigmas=True)"
        )


def prediction_of(scheduler: Any) -> str:
    """What the denoiser predicts: epsilon, v_prediction, sample, flow_prediction or trigflow."""
    kind = scheduler.config.get("prediction_type", "flow_prediction")
    return "sample" if kind == "original_sample" else kind


# -- levels


def _signals(scheduler: Any, timestep: Any) -> tuple[float, float]:
    after = _following(scheduler, timestep)
    return _signal(scheduler, int(timestep)), 1.0 if after is None else _signal(scheduler, after)


def _signal(scheduler: Any, timestep: int) -> float:
    """At a timestep, or behind the last one if it is negative."""
    final = getattr(scheduler, "final_alpha_cumprod", 1.0)
    return float(scheduler.alphas_cumprod[timestep] if timestep >= 0 else final)


def _following(scheduler: Any, timestep: Any) -> int | None:
    """The timestep of the sample that the call returns, negative behind the last one; None if it is clean."""
    name, t = _name(scheduler), int(timestep)
    if name in ("DDPMScheduler", "DDPMParallelScheduler"):
        return int(scheduler.previous_timestep(t))
    if name in ("LCMScheduler", "TCDScheduler"):
        rest = scheduler.timesteps[_index(scheduler, timestep) + 1 :]
        return int(rest[0]) if len(rest) else {"LCMScheduler": None, "TCDScheduler": 0}[name]
    stride = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    if name == "PNDMScheduler":
        call, calls = _call_of_pndm(scheduler)
        stride = 0 if call % 2 else stride // (2 if calls == 4 else 1)
    return t - stride


def _call_of_pndm(scheduler: Any) -> tuple[int, int]:
    """Which call of its step is next, and of how many: four by Runge-Kutta, without it two in the first step."""
    if scheduler.config.skip_prk_steps:
        return (scheduler.counter, 2) if scheduler.counter < 2 else (0, 1)
    return (scheduler.counter % 4, 4) if scheduler.counter < len(scheduler.prk_timesteps) else (0, 1)


def _sigmas(scheduler: Any, timestep: Any) -> tuple[float, float]:
    """Solvers of the second order call twice between two levels, KDPM2 with one of its own between them."""
    index, levels = _index(scheduler, timestep), scheduler.sigmas
    first, between = getattr(scheduler, "state_in_first_order", True), getattr(scheduler, "sigmas_interpol", None)
    if between is None:
        return float(levels[index]), float(levels[index + 1 if first else index])
    ancestral = _name(scheduler) == "KDPM2AncestralDiscreteScheduler"
    level, middle = float(levels[index]), float(between[index + int(first) - int(ancestral)])
    return (level, middle) if first else (middle, level)


def _angles(scheduler: Any, timestep: Any) -> tuple[float, float]:
    index = _index(scheduler, timestep)
    return float(scheduler.timesteps[index]), float(scheduler.timesteps[index + 1])


def _index(scheduler: Any, timestep: Any) -> int:
    """Place of the call in the schedule: with flow sigmas, timesteps are cut to integers and tell it only roughly."""
    for known in (scheduler.step_index, scheduler.begin_index):
        if known is not None:
            return known
    return scheduler.index_for_timestep(timestep)


def _name(scheduler: Any) -> str | None:
    """The name in ``FAMILIES`` of a scheduler's class or of the nearest one that it is derived from."""
    return kind_among(scheduler, FAMILIES)


CUMULATIVE = Family(_signals, lambda u: (u**0.5, (1 - u) ** 0.5))
EXPLODING = Family(_sigmas, lambda u: (1.0, u))
PRESERVING = Family(_sigmas, lambda u: ((1 + u**2) ** -0.5, u * (1 + u**2) ** -0.5))
FLOW = Family(_sigmas, lambda u: (1 - u, u))
ANGLES = Family(_angles, lambda u: (cos(u), sin(u)))
FAMILIES: dict[str, Family] = {
    f"{name}Scheduler": family
    for family, names in (
        (CUMULATIVE, "DDIM DDIMParallel DDPM DDPMParallel PNDM LCM TCD"),
        (EXPLODING, "EulerDiscrete EulerAncestralDiscrete LMSDiscrete HeunDiscrete KDPM2Discrete"),
        (EXPLODING, "KDPM2AncestralDiscrete"),
        (PRESERVING, "DPMSolverMultistep DPMSolverSinglestep UniPCMultistep DEISMultistep SASolver"),
        (FLOW, "FlowMatchEulerDiscrete FlowMatchHeunDiscrete FlowMatchLCM"),
        (ANGLES, "SCM"),
    )
    for name in names.split()
}
