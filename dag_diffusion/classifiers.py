"""One way to ask any transformers or timm image classifier for its logits, so that gradients reach the pixels.

A *guide* is a classifier whose difficulty steers; an *evaluator* one that never does.  Both are plain transformers
models (timm ones through transformers' wrapper), since a pipeline keeps no other kind when it is saved.

Weights are read from safetensors alone.

    guide/model.safetensors -> read        guide/pytorch_model.bin, guide.ckpt -> refused with a word why

A pickle is a program that runs when it is read, so that the author of the file could do anything.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as transforms

from .difficulty import margin

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
        """Resize, crop and normalise ``(batch, channels, height, width)``, uint8 or float in [0, 1]; differentiable."""
        return self.normalised(self.fitted(images))

    def fitted(self, images: Tensor) -> Tensor:
        """Resize and crop alone, in the dtype of the images.

        uint8 is resized as Pillow does it (rounded, so that a bicubic filter cannot leave the range), some ten times
        faster than float and in a quarter of its memory.
        """
        images = _with_channels(images, self.channels)
        return self._resized(images) if images.shape[-2:] != (self.height, self.width) or self.crop < 1 else images

    def normalised(self, images: Tensor) -> Tensor:
        """Subtract the mean and divide by the deviation; uint8 becomes float32 in [0, 1] first."""
        images = images if images.is_floating_point() else images.float() / 255
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
    config: Any = classifier.config
    if (own := getattr(config, "preprocessing", None)) is not None:
        return _from_fields(own)
    if timm := getattr(config, "pretrained_cfg", None):
        channels, height, width = timm["input_size"]
        crop, resample = timm.get("crop_pct", 0.875), timm.get("interpolation", "bilinear")
        return Preprocessing(height, width, channels, tuple(timm["mean"]), tuple(timm["std"]), crop, resample)
    return _from_image_processor(classifier)


def _from_fields(fields: Mapping[str, Any]) -> Preprocessing:
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return Preprocessing(**given)


def _from_image_processor(classifier: nn.Module) -> Preprocessing:
    from transformers import AutoImageProcessor

    config: Any = classifier.config
    name = config._name_or_path
    try:
        processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False) if name else None
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
        ValueError: it is no image classifier, has no safetensors weights, or needs code of its own to be run.
    """
    from transformers import AutoModelForImageClassification

    refuse_pickles(name)
    # without trust_remote_code=False a terminal would be asked whether to run the repository's own code
    options: dict[str, Any] = {"revision": revision, "use_safetensors": True, "trust_remote_code": False}
    try:
        model = AutoModelForImageClassification.from_pretrained(str(name), **options)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{name} is not a transformers or timm image classifier with safetensors weights ({reason}); "
            "give a folder written by save_pretrained, or a Hub id such as timm/resnet50.tv_in1k"
        ) from error
    return model.eval()


def class_names_of(classifier: nn.Module) -> dict[int, str]:
    """Label to class name as the classifier has it, such as ``{0: "tench, Tinca tinca", ...}``."""
    config: Any = classifier.config
    return {int(k): v for k, v in sorted(config.id2label.items(), key=lambda item: int(item[0]))}


PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")


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
            "save the weights as safetensors, such as by save_pretrained"
        )


@dataclass(frozen=True)
class Guide:
    """A classifier and its own labels of a batch of images, ``(batch,)``."""

    classifier: nn.Module
    labels: Tensor
    preprocessing: Preprocessing


def mean_margin(guides: Sequence[Guide], images: Tensor) -> Tensor:
    """The guides' mean margin of images in [0, 1], ``(batch,)`` float32; differentiable."""
    each = [margin(image_logits(g.classifier, images, g.preprocessing), g.labels) for g in guides]
    return torch.stack(each).mean(0)
