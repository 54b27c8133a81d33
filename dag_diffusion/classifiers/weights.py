"""Weights are read whole or not at all, and from safetensors alone.

    guide/model.safetensors -> read        guide/pytorch_model.bin, guide.ckpt -> refused with a word why
    a tensor is missing, of another shape or not a number -> refused, where the libraries make it up at random

A pickle is a program that runs when it is read, so that the author of the file could do anything.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from dag_diffusion.data.class_names import listed

logger = logging.getLogger(__name__)
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
UNREAD = ".num_batches_tracked"  # a counter of training that old files and converters lack; it starts at 0
SHARD = r"(?:-\d+-of-\d+)?"  # before the name of the variant in older files
VARIANT = re.compile(rf"[a-z_]+{SHARD}\.(\w+){SHARD}\.safetensors")  # model.fp16.safetensors


class IncompleteWeightsError(ValueError):
    """Files of a model that lack some of its weights, or hold such as are of no use."""


def load_whole(
    load: Callable[..., Any],
    name: str | Path,
    *,
    may_lack: Callable[[nn.Module], set[str]] | None = None,
    **options: Any,
) -> nn.Module:
    """A model by ``from_pretrained`` of transformers or diffusers, all of whose weights are in its files.

    Args:
        load: such as ``AutoModelForImageClassification.from_pretrained``.
        name: folder or Hub id; ``options`` are those of ``load``.
        may_lack: names of the weights of a model that need not be in its files, since they are made anew.

    Raises:
        IncompleteWeightsError: a tensor is missing, of another shape, or holds what is no number; it is named.
    """
    if variant := only_variant(Path(name)):
        options.setdefault("variant", variant)
    # mismatches are told by us: the libraries' own error is a table of many lines
    model, report = load(str(name), output_loading_info=True, ignore_mismatched_sizes=True, **options)
    if may_lack is not None:
        report = report | {"missing_keys": set(report["missing_keys"]) - may_lack(model)}
    require_reported_whole(report, str(name))
    require_filled(model, str(name))
    return model


def only_variant(folder: Path) -> str | None:
    """The variant, such as ``fp16``, in which all weights in a folder come; None if there are plain ones, or none."""
    found = [VARIANT.fullmatch(path.name) for path in folder.glob("*.safetensors")]
    variants = {match[1] for match in found if match}
    return variants.pop() if len(variants) == 1 and all(found) else None


def variant_of_parts(folder: Path, parts: Iterable[str]) -> str | None:
    """The variant that some parts of a pipeline come in alone; libraries read the plain weights of the others."""
    return next(filter(None, (only_variant(folder / part) for part in parts)), None)


def require_reported_whole(report: Mapping[str, Any], name: str) -> None:
    """Check what a library reports of the loading of a model; the error names what is missing or does not fit."""
    if any(".base_layer." in key for key in report.get("unexpected_keys") or ()):
        raise IncompleteWeightsError(
            f"{name} was saved with a LoRA beside its weights, which libraries do not read again; call fuse_lora() and "
            "unload_lora_weights() of the pipeline before save_pretrained, or merge_and_unload() of a model of peft"
        )
    missing = sorted(key for key in report.get("missing_keys") or () if not key.endswith(UNREAD))
    if missing:
        raise IncompleteWeightsError(
            f"{name} lacks the weights {listed(missing)}, which would be made up at random; save the whole model"
        )
    if mismatched := list(report.get("mismatched_keys") or ()):
        key, *shapes = mismatched[0] if isinstance(mismatched[0], tuple | list) else (mismatched[0],)
        sizes = " where the configuration asks for ".join(str(tuple(shape)) for shape in shapes)
        raise IncompleteWeightsError(f"the weights {key} of {name} have another shape ({sizes}); mend its config.json")
    if unexpected := sorted(report.get("unexpected_keys") or ()):
        logger.warning("%s holds weights that its model has no place for: %s", name, listed(unexpected))


def require_filled(model: nn.Module, name: str) -> None:
    """Check that every tensor of a model has been loaded and holds numbers; the error names one that does not."""
    for key, tensor in model.state_dict().items():
        if tensor.is_meta:
            raise IncompleteWeightsError(
                f"{name} lacks the weights {key}, in whose place there is nothing; save the whole model"
            )
        if tensor.is_floating_point() and torch.isnan(tensor).any():
            raise IncompleteWeightsError(
                f"the weights {key} of {name} hold NaN, so that nothing can be computed; take an earlier checkpoint"
            )


def require_same_tensors(model: nn.Module, folder: str | Path, load: Callable[..., Any]) -> None:
    """Check that a model which was loaded from a folder has nothing made up in it.

    Only where names or shapes in the files differ from the model's, as of older versions, it is loaded once more for
    the library's own report.

    Args:
        load: reads it again, ``from_pretrained`` of its class.

    Raises:
        IncompleteWeightsError: see ``load_whole``.
    """
    stored = _shapes_in(Path(folder))
    if any(stored.get(key) != tuple(tensor.shape) for key, tensor in model.state_dict().items()):
        load_whole(load, folder)
    require_filled(model, str(folder))


def _shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors in the safetensors files of a folder, from their headers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no dict
    return shapes


def refuse_pickles(place: str | Path) -> None:
    """Refuse a file that is a pickle by its name, or a folder whose weights come in no other form.

    Whatever is not on this machine is left to who downloads it, and asks for safetensors alone.

    Raises:
        ValueError: it is one; the file is named.
    """
    place = Path(place)
    files = sorted(place.iterdir()) if place.is_dir() else [place] * place.is_file()
    pickles = [file for file in files if file.suffix.lower() in PICKLES]
    if pickles and not any(".safetensors" in file.name for file in files):
        raise ValueError(
            f"{pickles[0]} is a pickle, which may run any program when it is read, and is refused; "
            "save the weights as safetensors: by save_pretrained, or timm's save_for_hf(..., safe_serialization=True)"
        )
