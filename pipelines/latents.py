"""Latents as a pipeline's loop has them and as its VAE does: scale, shift, statistics of channels; and its decoder.

decoded = z / scale + shift      or      z * deviation / scale + mean
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

DECODERS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "AutoencoderKLQwenImage")  # whose latents are known


def unscaled(latents: Tensor, config: Any) -> Tensor:
    """Latents of a pipeline's loop as its VAE decodes them: by scale and shift, or by statistics of the channels."""
    scale, shift = config.get("scaling_factor") or 1.0, config.get("shift_factor") or 0.0
    if (statistics := _statistics(latents, config)) is None:
        return latents / scale + shift
    mean, deviation = statistics
    return latents * deviation / scale + mean


def scaled(latents: Tensor, config: Any) -> Tensor:
    """Latents of a VAE as the pipeline's loop has them; the inverse of ``unscaled``."""
    scale, shift = config.get("scaling_factor") or 1.0, config.get("shift_factor") or 0.0
    if (statistics := _statistics(latents, config)) is None:
        return (latents - shift if shift else latents) * scale
    mean, deviation = statistics
    return (latents - mean) * scale / deviation


def _statistics(latents: Tensor, config: Any) -> tuple[Tensor, Tensor] | None:
    known = config.get("latents_mean"), config.get("latents_std")
    if known[0] is None or known[1] is None:
        return None
    mean, deviation = (latents.new_tensor(v).view(1, -1, *[1] * (latents.ndim - 2)) for v in known)
    return mean, deviation


def decoder_of(vae: Any) -> Any:
    """A decoder for gradients: the VAE itself, or a copy in full precision where half precision overflows.

    Raises:
        ValueError: a VAE whose latents are not known, or one in training mode.
    """
    if type(vae).__name__ not in DECODERS:
        raise ValueError(
            f"the latents of {type(vae).__name__} are not known here, only those of {', '.join(DECODERS)}; "
            "video and pixel pipelines cannot be steered"
        )
    if vae.training:
        raise ValueError(f"the {type(vae).__name__} is in training mode; call its eval() first")
    overflows = vae.dtype == torch.float16 and vae.config.get("force_upcast", False)
    return deepcopy(vae).float() if overflows else vae
