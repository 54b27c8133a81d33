"""What a classifier expects of an image: resize, crop, normalise; one form for files, one through which gradients go.

    file -> 8 bits -> resized and cropped in 8 bits -> normalised        images in [0, 1] -> the same, differentiable

``Preprocessing`` is said in a few fields, as our own models carry it; ``ModelTransform`` is what the authors of any
other model run.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from dag_diffusion.data.images import as_eight_bit

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OnTensors = Callable[[Tensor], Tensor]  # (batch, channels, height, width), levels in 0..255


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

    def __post_init__(self) -> None:
        wrong = {
            "height": not _whole(self.height),
            "width": not _whole(self.width),
            "channels": self.channels not in (1, 3),
            "mean": not _numbers(self.mean, self.channels),
            "std": not _numbers(self.std, self.channels) or np.min(self.std) <= 0,
            "crop": not _numbers((self.crop,), 1) or not 0 < self.crop <= 1,
            "resample": self.resample not in ("bilinear", "bicubic"),
        }
        if found := [name for name, is_wrong in wrong.items() if is_wrong]:
            raise ValueError(
                f"the classifier's preprocessing has {found[0]} {getattr(self, found[0])!r}; it takes height and width "
                "as whole numbers, channels 1 or 3, a mean and std above 0 for each channel, crop in (0, 1], and "
                "resample 'bilinear' or 'bicubic'"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Resize, crop and normalise ``(batch, channels, height, width)``, uint8 or float in [0, 1]; differentiable."""
        return self.normalised(self.fitted(images))

    def read(self, image: Image.Image) -> Tensor:
        """A picture of any mode, resized and cropped, ``(1, channels, height, width)`` uint8."""
        return self.fitted(eight_bit_tensor(image, self.channels))

    def fitted(self, images: Tensor) -> Tensor:
        """Resize and crop alone, in the dtype of the images.

        uint8 is resized as Pillow does it (rounded, so that a bicubic filter cannot leave the range), some ten times
        faster than float and in a quarter of its memory.  Resized floats get the values that pictures would have.
        """
        images = with_channels(images, self.channels)
        if images.shape[-2:] == (self.height, self.width) and self.crop == 1:
            return images
        if images.is_floating_point():
            return as_pictures(self._resized, images * 255) / 255
        return self._resized(images)

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


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _numbers(values: Any, count: int) -> bool:
    values = values if isinstance(values, tuple) else (values,)
    return len(values) in (1, count) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in values
    )


def eight_bit_tensor(image: Image.Image, channels: int) -> Tensor:
    """A picture of any mode as ``(1, channels, height, width)`` uint8; see ``as_eight_bit``."""
    return torch.from_numpy(as_eight_bit(image, channels).copy()).permute(2, 0, 1)[None]


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Grey images in colour, or coloured ones in grey; ValueError for other numbers of channels than 1 and 3."""
    if images.shape[1] == channels:
        return images
    if channels == 3 and images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if channels == 1 and images.shape[1] == 3:
        grey = transforms.rgb_to_grayscale(images.float())
        return grey if images.is_floating_point() else grey.round().to(images.dtype)  # on 8 bits it darkens grey by one
    raise ValueError(
        f"images have {images.shape[1]} channels and the classifier wants {channels}; only 1 and 3 convert"
    )


def as_pictures(step: OnTensors, images: Tensor, on_pictures: OnTensors | None = None) -> Tensor:
    """What a step makes of the images as 8-bit pictures; the gradient is that of the step itself.

    The pictures are resized on the CPU, since torchvision has no 8-bit resize elsewhere.

    Args:
        step: differentiable, such as a resize; ``on_pictures`` is its 8-bit form if it has another.
        images: ``(batch, channels, height, width)`` float, levels in 0..255.
    """
    smooth = step(images)
    whole = (on_pictures or step)(images.detach().clamp(0, 255).round().to("cpu", torch.uint8)).to(smooth)
    return whole + (smooth - smooth.detach())
