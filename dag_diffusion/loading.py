"""Pipelines, classifiers and probes by folder or Hub id, on a device, in a precision; and what makes them faster.

    name -> files (safetensors only) -> parts in evaluation mode -> precision -> device

``speed_up`` changes images by rounding only.  Precision is chosen at loading, since it is recorded with a pool.
"""

import json
import logging
import os
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn

from . import embedded
from .classifiers import refuse_pickles
from .data.files import require_writable
from .guidance.probes import description_of
from .pipelines.difficulty_guided import DifficultyGuidedPipeline

if TYPE_CHECKING:
    import torch

    from .pipelines.difficulty_guided import DifficultyGuidedPipeline


def hide_loading_bars() -> None:
    """Loading from disk takes a second and needs no bars; downloads keep theirs."""
    import diffusers
    import huggingface_hub.utils as hub
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    hub.enable_progress_bars()


def load_pipeline(
    name: str,
    classifier: str,
    device: str,
    *,
    probe: str = "",
    use_safetensors: bool | None = True,
    dtype: "torch.dtype | None" = None,
) -> Any:
    """A pipeline with its guide on its device; the embedded one if no name is given.

    Args:
        probe: folder or Hub id, ``none``, or empty for the pipeline's own, which another classifier makes useless.
        use_safetensors: True refuses .bin files, None falls back to them.
        dtype: of all parts; None keeps each as it was saved.
    """
    from pickle import UnpicklingError  # of a .bin that holds more than weights

    from safetensors import SafetensorError

    from . import embedded
    from .pipelines.difficulty_guided import DifficultyGuidedPipeline

    hide_loading_bars()
    device = device_named(device)
    options = {"classifier": load_guide(classifier, device)} if classifier else {}
    if probe not in ("", "none"):
        options["probe"] = load_probe(probe)
    elif classifier or probe == "none":
        options["probe"] = None
    try:
        pipeline = DifficultyGuidedPipeline.from_pretrained(
            name or embedded.PIPELINE, use_safetensors=use_safetensors, **options
        )
    except UnpicklingError as error:
        raise ValueError(f"{name} has a .bin file that holds more than weights, so that it is not read") from error
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{name} cannot be loaded as a DiT pipeline ({error}); give its folder or Hub id") from error
    pipeline.set_progress_bar_config(disable=True)
    return in_precision(pipeline, dtype).to(device)


def in_precision(pipeline: Any, dtype: "torch.dtype | None") -> Any:
    """The pipeline in one precision; a VAE that asks for it stays in float32, since it overflows in float16."""
    import torch

    if dtype is not None:
        pipeline.to(dtype)
        if dtype == torch.float16 and pipeline.vae.config.get("force_upcast"):
            pipeline.vae.to(torch.float32)
    return pipeline


def device_named(name: str) -> str:
    """The device of that name, or the one that accelerate finds, tried out with one number."""
    import torch

    from .generation.processes import this_process

    device = name or str(this_process().device)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"the device {device!r} is not to be had ({reason}); use --device cpu") from error
    return device


def load_guide(name: str, device: str, dtype: "torch.dtype | None" = None) -> Any:
    """A classifier on its device, in its own precision or another; the embedded guide if no name is given."""
    from . import embedded
    from .classifiers import load_classifier

    hide_loading_bars()
    return load_classifier(name or embedded.PIPELINE / "classifier").to(device_named(device), dtype)


def load_guides(names: Sequence[str], device: str, dtype: "torch.dtype | None" = None) -> list[Any]:
    """Several classifiers on their device."""
    return [load_guide(name, device, dtype) for name in names]


def precision_named(name: str) -> Any:
    """The torch dtype of that name; None for an empty one."""
    import torch

    if name not in ("", "float32", "float16", "bfloat16"):
        raise ValueError(f"--precision {name!r} is none; choose float32, float16 or bfloat16, or leave it out")
    return getattr(torch, name) if name else None


def labels_named(pipeline: Any, classes: str) -> list[int] | None:
    """Labels of "name; name; 3", or None for an empty text, which means all."""
    if not classes:
        return None
    names = [name.strip() for name in classes.split(";") if name.strip()]
    return [int(name) if name.isdecimal() else pipeline.get_label_ids(name)[0] for name in names]


def load_embedded_pipeline() -> DifficultyGuidedPipeline:
    """The embedded default, in float32, quiet."""
    pipeline = DifficultyGuidedPipeline.from_pretrained(embedded.PIPELINE)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


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


def require_no_other_files(folder: Path, *, overwrite: bool) -> None:
    """Check that a folder may become that of a probe: absent or empty, or an earlier probe's to be replaced.

    Raises:
        FileExistsError: it holds something that would be lost.
        PermissionError: it, or the folder above it, cannot be written.
    """
    require_writable(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    ours = _is_probe(folder)
    if not (ours and overwrite):
        way = "give --overwrite to replace it" if ours else "choose an empty or new folder"
        raise FileExistsError(f"{folder} holds {'a probe' if ours else 'something that is no probe'}; {way}")


def _is_probe(folder: Path) -> bool:
    try:
        return description_of(json.loads((folder / "config.json").read_text("utf-8"))) is not None
    except (OSError, ValueError):
        return False


def save_probe(probe: Any, folder: str | Path) -> None:
    """Write a probe: each file whole beside its place, then moved there."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as partial:
        probe.save_pretrained(partial)
        folder.mkdir(exist_ok=True)
        for name in ("model.safetensors", "config.json"):
            os.replace(Path(partial) / name, folder / name)


def load_probe(folder: str | Path) -> nn.Module:
    """Read a probe that ``probe.save_pretrained`` wrote, or one from the Hub, safetensors only.

    Raises:
        ValueError: there is none, or it is another model.
    """
    from transformers import AutoConfig, ConvNextForImageClassification

    refuse_pickles(folder)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if description_of(vars(config)) is None:
            raise ValueError("but another model")
        probe = ConvNextForImageClassification.from_pretrained(folder, config=config, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no probe ({error}); make one with `dag-diffusion train-probe`") from error
    return probe.eval().requires_grad_(False)
