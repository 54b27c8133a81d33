"""Which of diffusers' schedulers ``DifficultyGuidedPipeline`` takes, and how they step there."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

DDIM, DDPM, *SOLVERS = SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
)
DPM_SOLVER, UNIPC = SOLVERS
CLIPPING = ("clip_sample", "thresholding")


def kind_among(scheduler: Any, names: Iterable[str]) -> str | None:
    """The name of a scheduler's class or of the nearest that it is derived from; importing diffusers takes seconds."""
    known = set(names)
    return next((kind.__name__ for kind in type(scheduler).__mro__ if kind.__name__ in known), None)


def require_supported(scheduler: Any, transformer: Any) -> None:
    """Refuse a scheduler that would go wrong without a word.

    Args:
        scheduler: of the pipeline.
        transformer: configuration of the denoiser.

    Raises:
        ValueError: another kind, pixel clipping, flow sigmas, betas that are none, or a learned variance that does not
            fit; with a way out.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if kind_among(scheduler, SCHEDULERS) is None:
        allowed = ", ".join(SCHEDULERS)
        raise ValueError(
            f"{name} is not supported, since its noise or its history would be wrong here; "
            f"use one of {allowed}: DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)"
        )
    # a configuration that was converted keeps clip_sample, which solvers do not know
    require_unclipped(scheduler, CLIPPING[1:] if remembers(scheduler) else CLIPPING)
    if config.prediction_type not in ("epsilon", "v_prediction", "sample") or config.get("use_flow_sigmas", False):
        raise ValueError(
            f"{name} has prediction_type {config.prediction_type!r} or flow sigmas; use epsilon, v_prediction or sample"
        )
    signal = scheduler.alphas_cumprod
    if not bool(((signal >= 0) & (signal <= 1)).all()):  # NaN is neither
        raise ValueError(
            f"{name} has betas that leave no share of signal in [0, 1], such as NaN or below 0; "
            "mend beta_start, beta_end or trained_betas of its configuration"
        )
    _require_fitting_variance(scheduler, transformer)


def require_unclipped(scheduler: Any, options: Sequence[str] = CLIPPING) -> None:
    """Refuse options of a scheduler that are meant for pixels; ValueError with a way out."""
    name = type(scheduler).__name__
    for option in options:
        if scheduler.config.get(option, False):
            raise ValueError(
                f"{name} has {option}=True, which is for pixels and would clip latents; "
                f"use pipeline.scheduler = {name}.from_config(pipeline.scheduler.config, {option}=False)"
            )


def require_trained_timesteps(scheduler: Any, num_steps: int) -> None:
    """Refuse a number of steps of whose timesteps, that are set already, nothing was trained for one; ValueError.

    "trailing" ones are ``arange(T, 0, -T / steps) - 1``, into which rounding lets 0, as for 61 of 1,000; an offset
    moves all of T "leading" ones up by one, to T.
    """
    trained = scheduler.config.num_train_timesteps
    if scheduler.config.get("steps_offset") and int(scheduler.timesteps.max()) >= trained:
        raise ValueError(
            f"num_inference_steps is {num_steps}, of which steps_offset={scheduler.config.steps_offset} makes the first"
            f" timestep {int(scheduler.timesteps.max())}, and 0..{trained - 1} were trained; use fewer, or no offset"
        )
    if scheduler.config.get("timestep_spacing") != "trailing" or int(scheduler.timesteps.min()) >= 0:
        return
    good = [n for n in range(1, trained + 1) if len(np.arange(trained, 0, -trained / n)) == n]
    if kind_among(scheduler, [DDIM]):  # whose own steps stop short of timesteps that are not evenly spaced
        good = [n for n in good if trained % n == 0]
    raise ValueError(
        f'num_inference_steps is {num_steps}, of which "trailing" spacing makes a step more, at timestep -1, for which '
        f"nothing was trained; use {min(good, key=lambda n: abs(n - num_steps))}, or another timestep_spacing"
    )


def _require_fitting_variance(scheduler: Any, transformer: Any) -> None:
    """A scheduler that wants a learned variance must get one, and take it in the form in which it comes."""
    if str(scheduler.config.get("variance_type")) not in ("learned", "learned_range"):
        return
    learns = (transformer.out_channels or transformer.in_channels) == 2 * transformer.in_channels
    kind = kind_among(scheduler, SCHEDULERS)
    if kind == DPM_SOLVER or (kind == DDPM and not learns):
        name = type(scheduler).__name__
        raise ValueError(
            f"{name} wants a learned variance that this pipeline cannot give it; "
            f"use pipeline.scheduler = {name}.from_config(pipeline.scheduler.config, variance_type='fixed_small')"
        )


def remembers(scheduler: Any) -> bool:
    """Whether a scheduler is a solver that makes its step of earlier predictions too."""
    return kind_among(scheduler, SOLVERS) is not None


def denoise(scheduler: Any, output: Tensor, timestep: Tensor, latents: Tensor, generator: Any) -> Tensor:
    """One step of the scheduler; the learned variance goes only to the one that can use it."""
    if kind_among(scheduler, [DDPM]) is None or scheduler.variance_type not in ("learned", "learned_range"):
        output = output[:, : latents.shape[1]]
    noise = {} if kind_among(scheduler, [UNIPC]) else {"generator": generator}  # it draws none
    return scheduler.step(output, timestep, latents, **noise).prev_sample
