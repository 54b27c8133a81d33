"""Which files are images, and what a file of such bytes is called: whatever Pillow here can decode.

Formats are asked of Pillow, not listed, so that one that a later Pillow or a plug-in learns is read as well.
"""

import io
import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    pass


# Pillow knows all but EPS by their first bytes and decodes none of them; an EPS is a program, for Ghostscript to run
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
SHOWN_AS = {"MPO": "JPEG"}  # two pictures of a stereo camera, the first of which is an ordinary JPEG

# between one and two times its limit Pillow only warns; at the end of the list, so that a user's own filter comes first
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)


@cache
def image_formats() -> tuple[str, ...]:
    """Formats that Pillow decodes by itself, for ``Image.open``, which goes by a file's bytes and not by its name."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NO_PICTURES)


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of the formats that Pillow opens, in lower case, such as ``.png``; containers of other data left out."""
    Image.init()
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in known if name in Image.OPEN and name not in NO_PICTURES)


def suffix_of(data: bytes) -> str:
    """The suffix of an image file with these bytes, such as ``.jpeg``; only its header is read.

    Raises:
        ValueError: it is no image that Pillow opens.
    """
    try:
        with Image.open(io.BytesIO(data), formats=image_formats()) as image:
            name = str(image.format)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow raises all of these
        raise ValueError(f"it is not an image, or too large ({error}); remove its row") from error
    name = SHOWN_AS.get(name, name)
    own, registered = f".{name.lower()}", [s for s, n in Image.registered_extensions().items() if n == name]
    return own if own in registered or not registered else registered[0]


class UnreadableImageError(ValueError):
    """A file that should be an image is none."""


def as_eight_bit(image: Image.Image, channels: int) -> np.ndarray:
    """Any image as ``(height, width, channels)`` uint8: grey, palette, 16-bit, CMYK and transparent ones included.

    Transparency is laid over white, as browsers and print do; a rotation in the EXIF data is applied.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[..., None] if channels == 1 else array
