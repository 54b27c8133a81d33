"""Difficulties of images in the forms that pipelines hand out: pictures, arrays or tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dag_diffusion.classifiers.image_classifiers import Guide, mean_margin, picture_margin
from dag_diffusion.processor import usual_torch


def as_images(images: Any) -> "list[Image.Image] | Tensor":
    """Pictures as a list; arrays and tensors as pixels, ``(n, channels, height, width)`` float32.

    Args:
        images: one PIL image or several, an array ``(n, height, width, channels)`` or a tensor
            ``(n, channels, height, width)`` in [0, 1].

    Raises:
        ValueError: something else, no image, or pixels outside [0, 1].
    """
    if isinstance(images, Image.Image):
        return [images]
    if isinstance(images, list | tuple) and images and all(isinstance(one, Image.Image) for one in images):
        return list(images)
    if not isinstance(images, Tensor | np.ndarray):
        raise ValueError(
            f"a {type(images).__name__} holds no images that can be measured; give what the pipeline returned as its "
            "images: PIL images, an array or a tensor"
        )
    pixels = torch.as_tensor(images).float()
    if pixels.ndim != 4 or not len(pixels) or not bool(((pixels >= 0) & (pixels <= 1)).all()):  # NaN is neither
        raise ValueError(
            f"images of shape {tuple(pixels.shape)} cannot be measured, or have values outside [0, 1]; give arrays "
            "(n, height, width, channels) or tensors (n, channels, height, width) of the finished images"
        )
    return pixels.permute(0, 3, 1, 2) if isinstance(images, np.ndarray) else pixels


@usual_torch()
def difficulties_of(images: "list[Image.Image] | Tensor", guides: Sequence[Guide], device: torch.device) -> Tensor:
    """Difficulties, ``(n,)`` float32 on the CPU, by the mean margin of guides that are on a device.

    Raises:
        FloatingPointError: a guide finds no number.
    """
    with torch.no_grad():
        margins = (
            mean_margin(guides, images.to(device)) if isinstance(images, Tensor) else picture_margin(guides, images)
        )
    if broken := int(margins.isnan().sum()):
        raise FloatingPointError(
            f"the guide finds no difficulty of {broken} of {len(margins)} images: its logits are NaN or infinite; keep "
            "it in float32 or bfloat16, or load it anew if its weights are broken"
        )
    return torch.sigmoid(-margins).cpu()
