"""A model's own transform, run and not rebuilt: its image processor of transformers, or timm's evaluation transform.

    file -> 8-bit picture -> the transform itself                       (exactly what the model's authors run)
    images in [0, 1] * 255 -> its steps on tensors, those before scaling on 8 bits                (differentiable)

Resized floats leave the whole levels of resized pictures by up to ten.  So the differentiable form has the values of
pictures and the gradient of floats.  ``guide_checks`` compares the two forms.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from dag_diffusion.data.images import as_eight_bit

from .preprocessing import OnTensors, Preprocessing, as_pictures, with_channels

Library = Literal["image_processor", "timm"]
ReadPicture = Callable[[Image.Image], Tensor]
WAY_OUT = "set classifier.config.preprocessing = {'height': 224, 'width': 224, 'channels': 3, ...}"
TRIALS = ((96, 64), (64, 96), (80, 80))  # (width, height) of pictures on which a transform is tried


@dataclass(frozen=True)
class ModelTransform:
    """What the authors of a model run before it; has the methods of ``Preprocessing``.

    Attributes:
        library: whose transform it is, ``image_processor`` of transformers or ``timm``.
        settings: its configuration, as JSON.
        channels: 1 (grey) or 3.
        height, width: pixels that the classifier sees.
    """

    library: Library
    settings: str
    channels: int
    height: int
    width: int

    @property
    def mean(self) -> tuple[float, ...]:
        """Per channel, of values in [0, 1], as the transform has it in effect.

        Settings may speak of values in 0..255, or of a mean that is not subtracted.
        """
        return tuple(round(-black / (white - black), 6) for black, white in self._ends())

    @property
    def std(self) -> tuple[float, ...]:
        """See ``mean``."""
        return tuple(round(1 / (white - black), 6) for black, white in self._ends())

    @property
    def resample(self) -> str:
        """How it is resized, such as ``bicubic``."""
        said = self._said("interpolation", "resample")
        return Image.Resampling(said).name.lower() if isinstance(said, int) else str(said)

    @property
    def crop(self) -> float:
        """The crop as a fraction of the resized side, as the settings have it; a library may round or skip it."""
        if fraction := self._said("crop_pct", "crop_pct"):
            return float(fraction)
        edge, cropped = (self._said("", name) or {} for name in ("size", "crop_size"))
        whole = edge.get("shortest_edge") or edge.get("height")
        return cropped["height"] / whole if whole and self._said("", "do_center_crop") and "height" in cropped else 1.0

    def _said(self, by_timm: str, by_processor: str) -> Any:
        return json.loads(self.settings).get(by_timm if self.library == "timm" else by_processor)

    def _ends(self) -> list[tuple[float, float]]:
        """What black and white become, for each channel; in the middle, since borders may be filled in."""
        return list(zip(self._made_of("black"), self._made_of("white"), strict=True))

    @property
    def red_first(self) -> bool:
        """Whether colours come in the order red, green, blue, which some networks were trained otherwise."""
        return self.channels == 1 or self._made_of("red")[0] == self._made_of("white")[0]

    def _made_of(self, colour: str) -> list[float]:
        size, mode = (2 * self.width, 2 * self.height), "L" if self.channels == 1 else "RGB"
        made = self.read(Image.new(mode, size, colour))
        return list(made[0, :, self.height // 2, self.width // 2].tolist())

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images of ``(batch, channels, height, width)``: exact for uint8, differentiable for [0, 1]."""
        return self.fitted(images)

    def read(self, image: Image.Image) -> Tensor:
        """A picture of any mode, ready for the model, ``(1, channels, height, width)`` float32."""
        return _read(_forms(self.library, self.settings)[0], image, self.channels)

    def fitted(self, images: Tensor) -> Tensor:
        """The whole transform, since normalising cannot be taken out of it; see ``__call__``."""
        images = with_channels(images, self.channels)
        if images.is_floating_point():
            return _forms(self.library, self.settings)[1](images.float() * 255)
        pixels = images.permute(0, 2, 3, 1).cpu().numpy()
        pictures = [Image.fromarray(one[..., 0] if self.channels == 1 else one) for one in pixels]
        return torch.cat([self.read(picture) for picture in pictures]).to(images.device)

    def normalised(self, images: Tensor) -> Tensor:
        """What ``read`` and ``fitted`` give is normalised already."""
        return images

    def as_fields(self) -> dict[str, Any]:
        """For a model's configuration, which is JSON."""
        return {self.library: json.loads(self.settings), "channels": self.channels}


AnyPreprocessing = Preprocessing | ModelTransform


def model_transform(library: Library, settings: Mapping[str, Any], channels: int) -> ModelTransform:
    """The transform of a library with a configuration, tried out on small pictures.

    Args:
        settings: an image processor's ``to_dict``, or the data configuration of timm.
        channels: of the pictures that it is given, 1 or 3.

    Raises:
        ValueError: the library cannot make it or it does not run, or its images differ in size or are cut in patches.
    """
    return _tried(library, json.dumps(settings, sort_keys=True, default=str), channels)


@lru_cache(maxsize=64)
def _tried(library: Library, settings: str, channels: int) -> ModelTransform:
    whose = f"the {json.loads(settings).get('image_processor_type') or 'timm transform'} of the classifier"
    try:
        read = _forms(library, settings)[0]
        trials = [_read(read, Image.fromarray(_ramp(size, channels)), channels) for size in TRIALS]
    except Exception as error:  # whatever a library raises at settings that do not fit
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{whose} does not run ({type(error).__name__}: {reason}); {WAY_OUT}") from error
    shapes = sorted({tuple(trial.shape[1:]) for trial in trials})
    if len(shapes) > 1 or len(shapes[0]) != 3:
        raise ValueError(f"{whose} gives images of shape {shapes[0]}, not all of one height and width; {WAY_OUT}")
    if shapes[0][0] != channels:
        raise ValueError(
            f"{whose} gives images of {shapes[0][0]} channels, and the network takes {channels}; mend its settings, or "
            "give a classifier of grey or coloured images"
        )
    return ModelTransform(library, settings, channels, *shapes[0][1:])


def settings_of(processor: Any) -> dict[str, Any]:
    """The configuration of an image processor, with the class that ran: the one of Pillow and another share a name."""
    return json.loads(processor.to_json_string()) | {"image_processor_type": type(processor).__name__}


def timm_settings(pretrained: Mapping[str, Any], model_args: Mapping[str, Any]) -> dict[str, Any]:
    """What timm makes of a model's ``pretrained_cfg`` and of the arguments that it was made with."""
    from timm.data import resolve_data_config

    any_size = model_args.get("dynamic_img_size") or model_args.get("strict_img_size") is False  # as timm decides it
    side = None if any_size else model_args.get("img_size")
    found = resolve_data_config(pretrained_cfg=dict(pretrained), args={})
    if side:  # timm itself writes [height, width]
        found["input_size"] = (found["input_size"][0], *(side if isinstance(side, list | tuple) else (side, side)))
    channels = model_args.get("in_chans") or pretrained.get("input_size", found["input_size"])[0]
    found["input_size"] = (channels, *found["input_size"][1:])
    for name in ("mean", "std"):  # as timm does it for a grey model with the statistics of colours
        if len(found[name]) != channels:
            found[name] = (float(np.mean(found[name])),) * channels
    return found


def _ramp(size: tuple[int, int], channels: int) -> np.ndarray:
    ramp = np.linspace(0, 255, size[0] * size[1] * channels).round().astype(np.uint8)
    return ramp.reshape(size[1], size[0], channels).squeeze()


def _read(read: ReadPicture, image: Image.Image, channels: int) -> Tensor:
    pixels = as_eight_bit(image, channels)
    return read(Image.fromarray(pixels[..., 0] if channels == 1 else pixels))


@lru_cache(maxsize=64)
def _forms(library: Library, settings: str) -> tuple[ReadPicture, OnTensors]:
    """The two forms of a transform: of a picture, ``(1, channels, height, width)``; and on tensors, differentiable."""
    return (_processor_forms if library == "image_processor" else _timm_forms)(json.loads(settings))


def _processor_forms(settings: dict[str, Any]) -> tuple[ReadPicture, OnTensors]:
    kind = _processor_class(settings["image_processor_type"])
    processor = kind.from_dict(settings)

    def read(picture: Image.Image) -> Tensor:
        made = processor(images=picture, return_tensors="pt")
        if set(made) != {"pixel_values"}:
            raise ValueError(f"it gives {', '.join(made)} where pixel_values alone are known")
        return made["pixel_values"]

    on_tensors: list[Any] = []  # made at the first use, since scoring needs none

    def differentiable(levels: Tensor) -> Tensor:
        if not on_tensors:
            on_tensors.append(_differentiable_class(kind).from_dict(settings))
        return on_tensors[0](images=list(levels), return_tensors="pt", device=levels.device)["pixel_values"]

    return read, differentiable


def _processor_class(name: str) -> Any:
    import transformers

    found = getattr(transformers, name, None) or getattr(transformers, name.removesuffix("Fast"), None)
    if not (isinstance(found, type) and issubclass(found, transformers.ImageProcessingMixin)):
        raise ValueError(f"transformers {transformers.__version__} has no image processor {name}")
    return found


def _differentiable_class(kind: Any) -> Any:
    """The processor on tensors, whose resize gives whole levels."""
    kind = _processor_class(kind.__name__.removesuffix("Pil"))

    class Differentiable(kind):
        def resize(self, image: Tensor, *args: Any, **options: Any) -> Tensor:
            step = super().resize
            return as_pictures(lambda images: step(images, *args, **options), image)

    return Differentiable


def _timm_forms(settings: dict[str, Any]) -> tuple[ReadPicture, OnTensors]:
    from timm.data import create_transform

    transform = create_transform(**settings, is_training=False)

    def differentiable(levels: Tensor) -> Tensor:
        images, scaled = levels, False
        for step in transform.transforms:
            if scaled:
                images = step(images)
            elif type(step).__name__.endswith("ToTensor"):
                images, scaled = images / 255, True
            else:
                images = as_pictures(step, images, partial(_by_pillow, step))
        return images

    return lambda picture: transform(picture)[None], differentiable


def _by_pillow(step: Callable[[Image.Image], Image.Image], images: Tensor) -> Tensor:
    """What a step makes of 8-bit images as pictures; torchvision's resize of tensors is up to two levels off."""
    return torch.stack([pil_to_tensor(step(to_pil_image(image))) for image in images])
