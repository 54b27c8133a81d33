"""Which files are images, and what a file of such bytes is called: whatever Pillow here can decode.

Formats are asked of Pillow, not listed, so that one that a later Pillow or a plug-in learns is read as well.
"""

import io
import warnings
from functools import cache

from PIL import Image

NO_PICTURES = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow knows them by their first bytes and decodes none of them
SHOWN_AS = {"MPO": "JPEG"}  # two pictures of a stereo camera, the first of which is an ordinary JPEG

# between one and two times its limit Pillow only warns; at the end of the list, so that a user's own filter comes first
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)


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
        with Image.open(io.BytesIO(data)) as image:
            name = SHOWN_AS.get(image.format, image.format)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow raises all of these
        raise ValueError(f"it is not an image, or too large ({error}); remove its row") from error
    own, registered = f".{name.lower()}", [s for s, n in Image.registered_extensions().items() if n == name]
    return own if own in registered or not registered else registered[0]
