"""One way to ask any transformers or timm image classifier for its logits, so that gradients reach the pixels.

A *guide* is a classifier whose difficulty steers; an *evaluator* one that never does.  Both are plain transformers
models (timm ones through transformers' wrapper), since a pipeline keeps no other kind when it is saved.
"""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """What a classifier expects of an image in [0, 1].

    Attributes:
        height, width: pixels that the classifier sees.
        channels: 1 (grey) or 3.
        mean, std: per channel, for values in [0, 1].
        crop: the side of the central crop as a fraction of the resized image: 224 / 256 for the usual ImageNet recipe.
        resample: ``bilinear`` or ``bicubic``.
    """

    height: int
    width: int
    channels: int = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop: float = 0.875
    resample: str = "bilinear"

    def __call__(self, images: Tensor) -> Tensor:
        """Resize, crop and normalise ``(batch, channels, height, width)`` in [0, 1]; differentiable."""
        images = _with_channels(images, self.channels)
        if images.shape[-2:] != (self.height, self.width) or self.crop < 1:
            images = self._resized(images)
        mean, std = (images.new_tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return (images - mean) / std

    def _resized(self, images: Tensor) -> Tensor:
        wanted = (round(self.height / self.crop), round(self.width / self.crop))
        height, width = images.shape[-2:]
        ratio = max(wanted[0] / height, wanted[1] / width)
        size = [max(wanted[0], round(height * ratio)), max(wanted[1], round(width * ratio))]
        resample = transforms.InterpolationMode(self.resample)
        images = transforms.resize(images, size, interpolation=resample, antialias=True)
        return transforms.center_crop(images, [self.height, self.width])

    def as_fields(self) -> dict[str, Any]:
        """For a model's configuration, which is JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}


def _with_channels(images: Tensor, channels: int) -> Tensor:
    if images.shape[1] == channels:
        return images
    if channels == 3 and images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if channels == 1 and images.shape[1] == 3:
        return transforms.rgb_to_grayscale(images)
    raise ValueError(
        f"images have {images.shape[1]} channels and the classifier wants {channels}; only 1 and 3 convert"
    )


def preprocessing_of(classifier: nn.Module) -> Preprocessing:
    """How a classifier wants its images: from its own config, timm's ``pretrained_cfg``, or the processor beside it.

    Raises:
        ValueError: none of them is known.  Set ``classifier.config.preprocessing`` then, a dictionary of the fields of
            ``Preprocessing``; transformers saves it with the model.
    """
    config = classifier.config
    if (own := getattr(config, "preprocessing", None)) is not None:
        return _from_fields(own)
    if timm := getattr(config, "pretrained_cfg", None):
        channels, height, width = timm["input_size"]
        crop, resample = timm.get("crop_pct", 0.875), timm.get("interpolation", "bilinear")
        return Preprocessing(height, width, channels, tuple(timm["mean"]), tuple(timm["std"]), crop, resample)
    return _from_image_processor(classifier)


def _from_fields(fields: Mapping[str, Any]) -> Preprocessing:
    return Preprocessing(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def _from_image_processor(classifier: nn.Module) -> Preprocessing:
    from transformers import AutoImageProcessor

    name = classifier.config._name_or_path
    try:
        processor = AutoImageProcessor.from_pretrained(name) if name else None
    except (OSError, ValueError):
        processor = None
    if processor is None:
        raise ValueError(
            f"the preprocessing of {type(classifier).__name__} is unknown: no image processor beside {name or 'it'}; "
            "set classifier.config.preprocessing = {'height': 224, 'width': 224, 'channels': 3, ...}"
        )
    if getattr(processor, "do_flip_channel_order", False):
        raise ValueError(
            f"the image processor of {name} turns RGB into BGR, which is not supported; "
            "set classifier.config.preprocessing yourself, or use another classifier"
        )
    size, crop = _size_of(processor.size), getattr(processor, "crop_size", None)
    height, width = _size_of(crop) if crop and getattr(processor, "do_center_crop", False) else size
    fraction = getattr(processor, "crop_pct", None) or height / size[0]
    resample = "bicubic" if int(getattr(processor, "resample", 2) or 2) == 3 else "bilinear"
    channels = getattr(classifier.config, "num_channels", 3)
    normalises = getattr(processor, "do_normalize", True)
    mean, std = (processor.image_mean, processor.image_std) if normalises else ([0.0], [1.0])
    return Preprocessing(height, width, channels, tuple(mean), tuple(std), fraction, resample)


def _size_of(size: Mapping[str, int]) -> tuple[int, int]:
    edge = size.get("shortest_edge")
    return (edge, edge) if edge else (size["height"], size["width"])


def prepared_logits(classifier: nn.Module, prepared: Tensor) -> Tensor:
    """Logits, ``(batch, classes)`` float32, of images that went through the classifier's ``Preprocessing`` already."""
    weight = next(classifier.parameters())
    return classifier(prepared.to(weight.device, weight.dtype)).logits.float().to(prepared.device)


def image_logits(classifier: nn.Module, images: Tensor, preprocessing: Preprocessing | None = None) -> Tensor:
    """Logits of images in [0, 1]; differentiable with respect to them.

    Args:
        classifier: a transformers image classifier.
        images: ``(batch, 1 or 3, height, width)``, any size.
        preprocessing: looked up if not given.

    Returns:
        ``(batch, classes)`` float32.
    """
    return prepared_logits(classifier, (preprocessing or preprocessing_of(classifier))(images.float()))


def load_classifier(name: str | Path, *, revision: str | None = None) -> nn.Module:
    """A trained image classifier, in evaluation mode, from a local folder or a Hub id, safetensors only.

    Args:
        name: such as ``assets/evaluator``, ``microsoft/resnet-50`` or ``timm/resnet50.tv_in1k``.
        revision: branch, tag or commit on the Hub.

    Raises:
        ValueError: it is no image classifier, or has no safetensors weights.
    """
    from transformers import AutoModelForImageClassification

    try:
        model = AutoModelForImageClassification.from_pretrained(str(name), revision=revision, use_safetensors=True)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{name} is not a transformers or timm image classifier with safetensors weights ({reason}); "
            "give a folder written by save_pretrained, or a Hub id such as timm/resnet50.tv_in1k"
        ) from error
    return model.eval()


def class_names_of(classifier: nn.Module) -> dict[int, str]:
    """Label to class name as the classifier has it, such as ``{0: "tench, Tinca tinca", ...}``."""
    return {int(k): v for k, v in sorted(classifier.config.id2label.items(), key=lambda item: int(item[0]))}


def match_classes(wanted: Mapping[int, str], known: Mapping[int, str], owner: str = "the classifier") -> dict[int, int]:
    """Labels of ``wanted`` to labels of ``known``, by class name; commas separate synonyms, case does not count.

    Whole names come before first synonyms, and those before others.  A name that ``known`` has twice (ImageNet has two
    cranes) goes to the equal label if that is one of them, or is told apart as ``crane_517``.

    Args:
        wanted: label to class name of a pipeline or a pool.
        known: the same of the classifier.
        owner: what to call ``known`` in an error.

    Raises:
        ValueError: a name is missing in ``known`` or fits several of its classes; the nearest names are suggested.
    """
    if _unnamed(known) or _unnamed(wanted):
        return _match_by_number(wanted, known, owner)
    tiers = [_labels_by(known, keys) for keys in (_whole, _folder_like, _first, _synonyms)]
    return {label: _match_one(label, name, tiers, owner) for label, name in wanted.items()}


def _unnamed(names: Mapping[int, str]) -> bool:
    return all(name == f"LABEL_{label}" for label, name in names.items())


def _match_by_number(wanted: Mapping[int, str], known: Mapping[int, str], owner: str) -> dict[int, int]:
    if not set(wanted) <= set(known) or (_unnamed(wanted) and len(wanted) != len(known)):
        raise ValueError(
            f"{owner} has {len(known)} classes without names, but {len(wanted)} are needed; "
            "use a classifier trained on the same classes, or set its config.id2label"
        )
    return {label: label for label in wanted}


Keys = Callable[[int, str], set[str]]


def _labels_by(known: Mapping[int, str], keys: Keys) -> dict[str, set[int]]:
    labels_of: dict[str, set[int]] = {}
    for label, name in known.items():
        for key in keys(label, name):
            labels_of.setdefault(key, set()).add(label)
    return labels_of


def _whole(label: int, name: str) -> set[str]:
    return {name.strip()}


def _folder_like(label: int, name: str) -> set[str]:
    return {f"{name.split(',')[0].strip()}_{label}"}  # what a pool calls the folder of a class whose name is taken


def _first(label: int, name: str) -> set[str]:
    return {_plain(name.split(",")[0])}


def _synonyms(label: int, name: str) -> set[str]:
    return {_plain(part) for part in [name, *name.split(",")]} - {""}


def _plain(name: str) -> str:
    return name.strip().casefold().replace("_", " ")


def _match_one(label: int, name: str, tiers: Sequence[Mapping[str, set[int]]], owner: str) -> int:
    whole, folder_like, first, synonyms = tiers
    any_synonym = set().union(*(synonyms.get(key, set()) for key in _synonyms(label, name)))
    keyed = (whole.get(name.strip()), folder_like.get(name.strip()), first.get(_plain(name.split(",")[0])), any_synonym)
    for found in keyed:
        if found and (len(found) == 1 or label in found):
            return next(iter(found)) if len(found) == 1 else label
    if any_synonym:
        ways = ", ".join(f"{name}_{number}" for number in sorted(any_synonym))
        raise ValueError(f"{owner} has several classes called {name!r}; call the class or its folder {ways}")
    near = difflib.get_close_matches(_plain(name), list(synonyms), n=3, cutoff=0.5)
    hint = f"the nearest are {', '.join(near)}" if near else f"it knows {', '.join(list(whole)[:10])}"
    raise ValueError(f"{owner} has no class called {name!r}; {hint}")
