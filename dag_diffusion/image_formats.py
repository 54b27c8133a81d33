"""Which files are images, and what a file of such bytes is called: whatever Pillow here can decode.

Formats are asked of Pillow, not listed, so that one that a later Pillow or a plug-in learns is read as well.
"""

import io
import warnings
from functools import cache

from PIL import Image

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
