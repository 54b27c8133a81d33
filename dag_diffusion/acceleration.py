"""What makes a loaded pipeline faster, or need less memory, and changes its images by rounding only.

pipeline -> attention by xformers -> channels last -> VAE image by image -> compiled, in place
"""

import logging
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from .pipelines.denoiser_answers import denoiser_of

logger = logging.getLogger(__name__)


def speed_up(
    pipeline: Any,
    *,
    compiled: bool = False,
    channels_last: bool = False,
    vae_slicing: bool = False,
    xformers: bool = False,
) -> None:
    """Change how a pipeline computes, in place.

    Args:
        compiled: torch.compile of transformer and decoder; the first batch takes minutes, for thousands of images.  So
            does the last if it is smaller.  Needs a C++ compiler on CPUs.
        channels_last: memory layout of VAE and classifier for GPUs with tensor cores, in half precision.
        vae_slicing: decode finished images one at a time: larger batches in the same memory.
        xformers: attention by xformers; torch's own needs as little memory, so this rarely gains.  See
            ``use_xformers``.

    Raises:
        ValueError: xformers is asked for and does not work here, see ``use_xformers``; or a part that is to be changed
            is none of the pipeline's.
    """
    denoiser: Any = denoiser_of(pipeline)
    vae: Any = getattr(pipeline, "vae", None)
    if (compiled and (denoiser is None or vae is None)) or (vae_slicing and vae is None):
        raise ValueError(
            f"{type(pipeline).__name__} has no vae, or no denoiser that is known here, to be compiled or sliced; leave "
            "the option out"
        )
    if xformers:
        use_xformers(pipeline)
    if channels_last:
        for name in ("vae", "classifier", "guidance_vae"):
            for module in () if (part := getattr(pipeline, name, None)) is None else part.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):  # those of videos, in 3D, cannot
                    module.to(memory_format=torch.channels_last)
    if vae_slicing:
        vae.enable_slicing()
    if compiled:
        # in place, so that the pipeline still saves, and is recorded, as the model that it is
        denoiser.compile()
        if getattr(pipeline, "weak_transformer", None) is not None:
            pipeline.weak_transformer.compile()
        vae.decoder.compile()


def use_xformers(pipeline: Any) -> None:
    """Attention by xformers.  torch's own has been as frugal since 2.0, so this rarely gains anything.

    Raises:
        ValueError: xformers is not installed, or there is no CUDA GPU, without which it does nothing.
    """
    if find_spec("xformers") is None:
        raise ValueError(
            "xformers is not installed; install the extra dag-diffusion[xformers], or leave the option out: torch has "
            "memory-efficient attention too"
        )
    if not torch.cuda.is_available():
        raise ValueError("xformers computes on CUDA GPUs alone and torch finds none here; leave the option out")
    before = _attention_of(pipeline)
    try:
        pipeline.enable_xformers_memory_efficient_attention()
    except Exception as error:  # whatever a library that does not fit this torch or GPU raises
        raise ValueError(f"xformers does not work here ({error}); leave the option out") from error
    if _attention_of(pipeline) == before:
        logger.warning("xformers changes nothing: this transformer has no attention that it could replace")


def _attention_of(pipeline: Any) -> list[str]:
    denoiser = denoiser_of(pipeline)
    parts = [] if denoiser is None else denoiser.modules()
    return [type(part.processor).__name__ for part in parts if hasattr(part, "processor")]
