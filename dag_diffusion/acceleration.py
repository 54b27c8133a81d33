"""What makes a pipeline faster or smaller without asking for other images: they differ by rounding only.

Precision is chosen when a pipeline is loaded (``dtype=``), since it is recorded with a pool and these are not.
"""

import logging
from importlib.util import find_spec

import torch

from .pipelines.difficulty_guided import DifficultyGuidedPipeline

logger = logging.getLogger(__name__)


def speed_up(
    pipeline: DifficultyGuidedPipeline,
    *,
    compiled: bool = False,
    channels_last: bool = False,
    vae_slicing: bool = False,
    xformers: bool = False,
) -> None:
    """Change how a pipeline computes, in place.

    Args:
        compiled: ``torch.compile`` of transformer and decoder.  The first batch takes a minute or more, and so does the
            last if it is smaller; worth it for thousands of images.  Needs a C++ compiler on CPUs.
        channels_last: memory layout of VAE and classifier that GPUs with tensor cores prefer in half precision.
        vae_slicing: decode the finished images one at a time, for larger batches in the same memory.
        xformers: its attention instead of torch's, see ``use_xformers``.

    Raises:
        ValueError: xformers is asked for and not to be had.
    """
    if xformers:
        use_xformers(pipeline)
    if channels_last:
        for part in (pipeline.vae, pipeline.classifier, pipeline.guidance_vae):
            if part is not None:
                part.to(memory_format=torch.channels_last)
    if vae_slicing:
        pipeline.vae.enable_slicing()
    if compiled:
        # in place, so that the pipeline still saves, and is recorded, as the model that it is
        pipeline.transformer.compile()
        pipeline.vae.decoder.compile()


def use_xformers(pipeline: DifficultyGuidedPipeline) -> None:
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


def _attention_of(pipeline: DifficultyGuidedPipeline) -> list[str]:
    return [type(m.processor).__name__ for m in pipeline.transformer.modules() if hasattr(m, "processor")]
