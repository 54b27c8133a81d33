"""Latents as a pipeline's loop has them and as its VAE does: scale, shift, statistics of channels; encoder and decoder.

decoded = z * deviation / scale + mean          deviation 1 and one shift as the mean, or both by channel
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

DECODERS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "AutoencoderKLQwenImage")  # whose latents are known
Unpack = Callable[[Tensor], Tensor]
OF_VIDEOS = ("AutoencoderKLQwenImage",)  # an image is a video of one frame


def unscaled(latents: Tensor, config: Any) -> Tensor:
    """Latents of a pipeline's loop as its VAE decodes them: by scale and shift, or by statistics of the channels."""
    scale, deviation, mean = _scaling(latents, config)
    return latents * deviation / scale + mean


def scaled(latents: Tensor, config: Any) -> Tensor:
    """Latents of a VAE as the pipeline's loop has them; the inverse of ``unscaled``."""
    scale, deviation, mean = _scaling(latents, config)
    return (latents - mean) * scale / deviation


def _scaling(latents: Tensor, config: Any) -> tuple[float, Any, Any]:
    """Scale, deviation and mean; the last two by channel where the VAE has statistics."""
    scale, statistics = config.get("scaling_factor") or 1.0, (config.get("latents_std"), config.get("latents_mean"))
    if None in statistics:
        return scale, 1.0, config.get("shift_factor") or 0.0
    deviation, mean = (latents.new_tensor(v).view(1, -1, *[1] * (latents.ndim - 2)) for v in statistics)
    return scale, deviation, mean


def encoded(vae: Any, images: Tensor, *, scaled_only: bool = False) -> Tensor:
    """Images as latents of the pipeline's loop, not packed: the mean of the VAE's posterior, scaled.

    Args:
        images: ``(n, channels, height, width)`` in [-1, 1], on the device and in the precision of the VAE.
        scaled_only: as of a pipeline that knows no shift and no statistics, whatever its VAE has.

    Returns:
        ``(n, channels, h, w)`` float32.
    """
    found = vae.encode(_as_frames(images, vae), return_dict=False)[0]  # a distribution or the latents themselves
    latents = found if isinstance(found, Tensor) else found.mean
    latents = _first_frame(latents).float()
    return latents * vae.config.scaling_factor if scaled_only else scaled(latents, vae.config)


def decoded(decoder: Any, latents: Tensor) -> Tensor:
    """Latents of the pipeline's loop, not packed, as images ``(n, channels, height, width)`` in about [-1, 1]."""
    frames = _as_frames(unscaled(latents, decoder.config), decoder)
    return _first_frame(decoder.decode(frames.to(decoder.dtype), return_dict=False)[0])


def unpacking(unpack: Callable[..., Tensor], height: int, width: int, vae_scale_factor: int) -> Unpack:
    """How latents of a size are unpacked by a pipeline's own method, ``(n, tokens, values) -> (n, channels, h, w)``."""
    return lambda packed: _first_frame(unpack(packed, height, width, vae_scale_factor))


def _as_frames(images: Tensor, vae: Any) -> Tensor:
    return images[:, :, None] if type(vae).__name__ in OF_VIDEOS else images


def _first_frame(images: Tensor) -> Tensor:
    return images[:, :, 0] if images.ndim == 5 else images


def pixels_of_a_latent(vae: Any) -> int:
    """How many pixels of a side one latent stands for."""
    return getattr(vae, "spatial_compression_ratio", None) or 2 ** (len(vae.config.block_out_channels) - 1)


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
