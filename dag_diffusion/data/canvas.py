"""What an image lies on before anything looks at it: a colour behind what is transparent, and a square around it.

    crop: as it is; whoever wants n x n covers it and cuts      pad: bars of the colour      stretch: squashed

A pool has one canvas, so that training, scoring and evaluation see the same picture.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from PIL import Image, ImageColor

from .images import GREY, as_eight_bit, opaque

Fit = Literal["crop", "pad", "stretch"]
MOST_PADDED = 1024  # pixels of a square's side, so that a strip of 30,000 does not become 900 million of them


def as_fit(name: str) -> Fit:
    """How images are fitted, checked.

    Raises:
        ValueError: it is none of crop, pad and stretch.
    """
    if name not in get_args(Fit):
        raise ValueError(f"fit is {name!r}; use 'pad' for bars of the background, 'crop' for the middle, or 'stretch'")
    return cast(Fit, name)


@dataclass(frozen=True)
class Canvas:
    """What the images of a pool are laid on.

    Attributes:
        background: colour behind what is transparent, such as ``white``, ``#e0e0e0`` or ``hsl(200, 50%, 80%)``.
        fit: ``pad`` makes images squares by bars of the background, ``stretch`` by another width or height, and
            ``crop`` takes the middle.  The squares of the first two have sides of at most ``MOST_PADDED``; for the last
            an image keeps its shape, since whoever reads it crops.

    Raises:
        ValueError: the colour is unknown or itself transparent, or the fit is none.
    """

    background: str = "white"
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        as_fit(self.fit)
        try:
            found = ImageColor.getrgb(self.background)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"the background {self.background!r} is no colour; use a name such as 'white', or '#e0e0e0'"
            ) from error
        if len(found) != 3:
            raise ValueError(f"the background {self.background!r} is transparent itself; use an opaque colour")

    def shape_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of this height and width has on the canvas."""
        if self.fit == "crop" or height == width:
            return height, width
        side = min(max(height, width), MOST_PADDED)
        return side, side

    def laid(self, image: Image.Image) -> Image.Image:
        """The image without transparency, and a square unless it is to be cropped later."""
        image = opaque(image, self.background)
        side, _ = shape = self.shape_of(image.height, image.width)
        if shape == (image.height, image.width):
            return image
        colour = ImageColor.getrgb(self.background)
        grey = (image.mode in GREY or image.mode.startswith("I")) and len(set(colour)) == 1
        pixels = as_eight_bit(image, 1 if grey else 3)
        image = Image.fromarray(pixels[..., 0] if grey else pixels)
        if self.fit == "stretch":
            return image.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=3)
        ratio = side / max(image.size)
        if ratio < 1:
            size = (max(round(image.width * ratio), 1), max(round(image.height * ratio), 1))
            image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
        square = Image.new(image.mode, (side, side), colour[0] if grey else colour)
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return square

    def as_fields(self) -> dict[str, Any]:
        """For a record, which is JSON."""
        return asdict(self)
