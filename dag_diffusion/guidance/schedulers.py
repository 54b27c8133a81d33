"""What differs between diffusers' schedulers when the clean sample is shifted: signal rates, steps, and which will do.

z_t = sqrt(a_t) x0 + sqrt(1 - a_t) noise
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

DDIM, DDPM, DPM_SOLVER = SCHEDULERS = ("DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler")
CLIPPING = ("clip_sample", "thresholding")


def _is(scheduler: Any, name: str) -> bool:
    """Whether this is the class of diffusers with that name, or a subclass; importing diffusers takes seconds."""
    return any(kind.__name__ == name for kind in type(scheduler).__mro__)


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
    if not any(_is(scheduler, name) for name in SCHEDULERS):
        allowed = ", ".join(SCHEDULERS)
        raise ValueError(
            f"{name} is not supported, since its noise or its history would be wrong here; "
            f"use one of {allowed}: DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)"
        )
    require_unclipped(scheduler, ("thresholding",) if _is(scheduler, DPM_SOLVER) else CLIPPING)
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


def _require_fitting_variance(scheduler: Any, transformer: Any) -> None:
    """A scheduler that wants a learned variance must get one, and take it in the form in which it comes."""
    if str(scheduler.config.get("variance_type")) not in ("learned", "learned_range"):
        return
    learns = (transformer.out_channels or transformer.in_channels) == 2 * transformer.in_channels
    if _is(scheduler, DPM_SOLVER) or (_is(scheduler, DDPM) and not learns):
        name = type(scheduler).__name__
        raise ValueError(
            f"{name} wants a learned variance that this pipeline cannot give it; "
            f"use pipeline.scheduler = {name}.from_config(pipeline.scheduler.config, variance_type='fixed_small')"
        )


def denoise(scheduler: Any, output: Tensor, timestep: Tensor, latents: Tensor, generator: Any) -> Tensor:
    """One step of the scheduler; the learned variance goes only to the one that can use it."""
    if not (_is(scheduler, DDPM) and scheduler.variance_type in ("learned", "learned_range")):
        output = output[:, : latents.shape[1]]
    return scheduler.step(output, timestep, latents, generator=generator).prev_sample


def signal_rate(scheduler: Any, timestep: Tensor) -> Tensor:
    """Cumulative signal rate at a timestep, in (0, 1]."""
    if _is(scheduler, DPM_SOLVER):
        known = scheduler.step_index is not None  # some spacings have a timestep twice
        index = scheduler.step_index if known else scheduler.index_for_timestep(timestep)
        return 1 / (1 + scheduler.sigmas[index].square())
    return scheduler.alphas_cumprod[timestep.long().cpu()]


def place(scheduler: Any, latents: Tensor, shift: Tensor) -> Tensor:
    """Shift the latents after a step, with the predicted noise kept."""
    if _is(scheduler, DPM_SOLVER):
        # the predictions that it remembers lie on the path before the shift, so it starts anew from here
        scheduler.lower_order_nums = 0
    return (latents.float() + shift).to(latents.dtype)


def signal_rate_after(scheduler: Any, timestep: Tensor) -> Tensor:
    """Cumulative signal rate of the latents that the step at ``timestep`` has just made."""
    if _is(scheduler, DPM_SOLVER):
        return 1 / (1 + scheduler.sigmas[scheduler.step_index].square())  # the index is already that of the next step
    if _is(scheduler, DDPM):
        previous, last = int(scheduler.previous_timestep(timestep)), scheduler.one
    else:
        previous = int(timestep) - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
        last = scheduler.final_alpha_cumprod
    return scheduler.alphas_cumprod[previous] if previous >= 0 else last
