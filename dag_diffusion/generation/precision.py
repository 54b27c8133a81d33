"""What the networks of a pool compute in: chosen once, by what the first process's device does fast, and recorded.

weights float32:  transformer, VAE and probe in float32 or bfloat16; latents, scheduler and guidance in float32
other weights:    everything as they are, and so in pipelines other than our own
"""

from pathlib import Path
from typing import Any

import torch

from dag_diffusion.data.files import read_json_object
from dag_diffusion.data.pools import PROVENANCE
from dag_diffusion.pipelines.denoiser_answers import denoiser_of
from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline
from dag_diffusion.processes import fail_together, gather
from dag_diffusion.processor import fast_precision

from .same_settings import precision_of


def weights_of(pipeline: Any) -> str:
    """Name of the precision that the denoiser's weights are in, or those of the first part where none is known."""
    denoiser = denoiser_of(pipeline)
    return str((pipeline if denoiser is None else denoiser).dtype).removeprefix("torch.")


def agreed_precision(wanted: str, pipeline: Any, begun: Path | None = None) -> str:
    """What the networks compute in, by name; for ``auto`` the same in all processes.

    Args:
        wanted: one of ``plan.PRECISIONS``.
        pipeline: of diffusers; all but ``DifficultyGuidedPipeline`` compute in what their weights are in.
        begun: folder of a pool to go on with, if it is there, which is drawn in what it was begun in.

    Raises:
        ValueError: the weights are in another precision than float32 or the wanted one.
        FailedElsewhereError: they are in another process.
    """
    with fail_together():
        own = _resolved(wanted, pipeline, begun)
    first = gather(own)[0]  # another process may have another processor
    return first if wanted == "auto" else own


def _resolved(wanted: str, pipeline: Any, begun: Path | None) -> str:
    weights = weights_of(pipeline)
    if weights != "float32" or not isinstance(pipeline, DifficultyGuidedPipeline):
        if wanted not in ("auto", weights):
            kind = "float32" if isinstance(pipeline, DifficultyGuidedPipeline) else wanted
            raise ValueError(
                f"the pipeline's weights are {weights}, so that it cannot draw in {wanted}; load it with "
                f"dtype='{kind}', or choose precision='auto'"
            )
        return weights
    if wanted != "auto":
        return wanted
    if begun is not None and (begun / PROVENANCE).exists():
        return precision_of(read_json_object(begun / PROVENANCE))
    return fast_precision(pipeline.device)


def network_dtype(precision: str, pipeline: Any) -> torch.dtype | None:
    """What the pipeline has to be told for a precision of ``agreed_precision``; None for that of its weights."""
    return None if precision == weights_of(pipeline) else getattr(torch, precision)
