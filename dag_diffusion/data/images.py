"""Which files are images, what a file of such bytes is called, and how it is decoded: whatever Pillow here can.

    file -> opened by its bytes -> decoded -> upright, by its EXIF data -> of a mode that converts -> eight bits

Formats are asked of Pillow, not listed, so that one that a later Pillow or a plug-in learns is read as well.
"""

import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from dag_diffusion.processor import cores

# Pillow knows all but EPS by their first bytes and decodes none of them; an EPS is a program, for Ghostscript to run
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
PNG_START = b"\x89PNG\r\n\x1a\n"
SEEN = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf"}  # chunks of a PNG that make what is seen
TEXTS, LONGEST_KEYWORD = {b"tEXt", b"zTXt", b"iTXt"}, 80  # its chunks of words, and bytes in which the first one ends
BITS, COMPRESSION, SAMPLES, PLANAR = 258, 259, 277, 284  # tags of a TIFF
PHOTOMETRIC = 262  # which says which value is white
GREY = ("1", "L", "LA", "La", "F")
PLAIN = ("1", "L", "LA", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "I", "F")  # convert without fail
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by the orientation in EXIF data
ORIENTED = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")  # records that Pillow reads it from
MOST_FITTED = 64_000_000  # pixels when scaled to cover a square: of 224 pixels, one side 1,275 times the other
LARGE = 16_000_000  # pixels from which on images are decoded one at a time, so that memory does not grow with threads
ONE_LARGE_AT_A_TIME = threading.Lock()
THREADS = min(16, cores())  # that read images side by side
MOST_SPREAD = 2  # grey levels of an image of one colour, which rounding may leave
LAID_AT_ONCE = 1 << 22  # pixels that are laid over a colour at a time
SHOWN_AS = {"MPO": "JPEG"}  # two pictures of a stereo camera, the first of which is an ordinary JPEG

# between one and two times its limit Pillow only warns; at the end of the list, so that a user's own filter comes first
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)
# of a TIFF with many bands, whose file alone `opened` names
logging.getLogger(TiffImagePlugin.__name__).addFilter(lambda record: "samples per pixel" not in str(record.msg))


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
        with opened(data) as image:
            name = str(image.format)
    except Exception as error:  # see readable
        raise ValueError(f"it is not an image, or too large ({error}); remove its row") from error
    name = SHOWN_AS.get(name, name)
    own, registered = f".{name.lower()}", [s for s, n in Image.registered_extensions().items() if n == name]
    return own if own in registered or not registered else registered[0]


def wait_if_large(held: ExitStack, image: Image.Image, fitted: int = 0) -> None:
    """Let a thread wait for its turn with an image of more than ``LARGE`` pixels, until it leaves ``held``.

    Args:
        image: of which only the header is read.
        fitted: pixels that it will have once it is resized, see ``fitted_pixels``.
    """
    if max(image.width * image.height, fitted) > LARGE:
        held.enter_context(ONE_LARGE_AT_A_TIME)


class UnreadableImageError(ValueError):
    """A file that should be an image is none.

    Attributes:
        told: what is wrong, and what always helps.
        way: another way out, that of what reads the images.
    """

    def __init__(self, told: str, way: str = "") -> None:
        super().__init__(f"{told}; {way}" if way else told)
        self.told, self.way = told, way


@contextmanager
def offering(way: str) -> Iterator[None]:
    """Name a way out of unreadable images that there is here, in place of any that there is only further in."""
    try:
        yield
    except UnreadableImageError as error:
        raise UnreadableImageError(error.told, way) from error.__cause__


@contextmanager
def readable(name: Path | str) -> Iterator[None]:
    """Turn whatever Pillow raises at a broken file into an error that names it.

    Its plug-ins raise what their parsers do, such as ``struct.error``, ``zlib.error``, KeyError and SyntaxError.

    Raises:
        UnreadableImageError: the file is missing, not an image, cut off, or too large to be one.
    """
    try:
        yield
    except (MemoryError, UnreadableImageError):
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(
            f"{name} is too large: more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which no program should "
            "open unasked; shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except Exception as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise UnreadableImageError(
            f"{name} is not a readable image ({reason}); restore it, or remove the file and its row"
        ) from error


def opened(source: Path | bytes) -> ImageFile.ImageFile:
    """An image of which only the header is read; by its bytes, not its name."""
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=image_formats())
    except ValueError as error:
        return Image.open(io.BytesIO(_without_words(source, error)), formats=image_formats())
    except UnidentifiedImageError as error:
        if tags := _tags_of_tiff(source):
            raise ValueError(
                f"a TIFF of {tags.get(SAMPLES, 1)} x {max(tags.get(BITS, (1,)))} bits and compression "
                f"{tags.get(COMPRESSION, 1)}, which Pillow does not read: save one band, or three, as PNG"
            ) from error
        raise


def _tags_of_tiff(source: Path | bytes) -> dict[int, Any]:
    """The tags of the first page; none of other files, and of broken ones."""
    with suppress(Exception), io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        head = file.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(head + file.read(8 if head[2:3] == b"+" else 0))
        file.seek(tags.next)
        tags.load(file)
        return dict(tags)
    return {}


def has_many_bits(image: Image.Image) -> bool:
    """Whether more than 8 bits of each sample are in the file, of which Pillow leaves 8 of colours."""
    bits = max(getattr(image, "tag_v2", {}).get(BITS, (8,)))
    return bits > 8 or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _require_known_planes(image: ImageFile.ImageFile) -> None:
    """Refuse planes of 16 bits without compression, whose bytes Pillow takes for pixels."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(PLANAR) == 2 and image.tile[0][0] == "raw" and max(tags.get(BITS, (1,))) == 16:
        raise ValueError(
            "a TIFF of planes of 16 bits without compression, which Pillow misreads: save it with 8 bits, or as PNG"
        )


def decoded(source: Path | bytes, before_decoding: Callable[[Image.Image], Any] | None = None) -> Image.Image:
    """An image, upright and of a mode that ``as_eight_bit`` converts; raises whatever Pillow does.

    Args:
        before_decoding: called with the image while only its header is read, such as to see how large it is.
    """

    def load(source: Path | bytes) -> Image.Image:
        with opened(source) as image:
            if before_decoding is not None:
                before_decoding(image)
            _require_known_planes(image)
            tiles = getattr(image, "tile", ())
            stored = tiles[0][3] if image.format == "PNG" and tiles else None
            image.load()
            _scale_transparency(image, stored)
            return image

    try:
        image = load(source)
    except ValueError as error:
        if "PngImagePlugin" not in str(error) and "text chunks" not in str(error):
            raise
        before_decoding = None  # it has seen this header
        image = load(_without_words(source, error))
    made = _convertible(upright(image))
    # a TIFF whose 0 is white, which Pillow turns for 8 bits alone
    if image.mode[0] not in "IF" or dict(getattr(image, "tag_v2", {})).get(PHOTOMETRIC) != 0:
        return made
    return Image.fromarray(np.iinfo(np.asarray(made).dtype).max - np.asarray(made))


def _scale_transparency(image: Image.Image, stored: Any) -> None:
    """Give the transparent colour of a PNG, which Pillow leaves as it is in the file, as many bits as its pixels."""
    level = image.info.get("transparency")
    if stored in ("L;2", "L;4") and isinstance(level, int):
        image.info["transparency"] = level * (85 if stored == "L;2" else 17)
    if stored == "RGB;16B" and isinstance(level, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in level)


def _without_words(source: Path | bytes, refused: ValueError) -> bytes:
    """A PNG without comments and colour profile, of which Pillow allows one megabyte each: the picture is whole.

    Raises:
        ValueError: it is no PNG, and was ``refused`` for something else.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    if not data.startswith(PNG_START):
        raise refused
    chunks = [data[start:end] for kind, start, end in _chunks(io.BytesIO(data)) if kind in SEEN]
    return PNG_START + b"".join(chunk for chunk in chunks if len(chunk) >= 12)  # less is cut off


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk of a PNG; of a chunk that was yielded the file can be read on from its data."""
    start = file.seek(len(PNG_START))
    while len(head := file.read(8)) == 8:
        end = start + 12 + int.from_bytes(head[:4], "big")
        yield head[4:], start, end
        start = file.seek(end)


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF data would have it turned; what else stands there, broken or not, is not touched."""
    turn = UPRIGHT.get(_orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    for record in ORIENTED:  # else it would be turned once more
        turned.info.pop(record, None)
    return turned


def _orientation(image: Image.Image) -> int:
    try:
        found = Image.Image.getexif(image).get(0x0112, 1)  # that of a PNG decodes it first, for what may come later
    except Exception:  # a record that cannot be read turns nothing, as in every viewer
        return 1
    return found if isinstance(found, int) else 1


def _convertible(image: Image.Image) -> Image.Image:
    if image.mode == "P":  # its transparency may be an index or a table, which may not fit the palette
        return image.convert("RGBA") if image.has_transparency_data else image
    if image.mode in ("I", "F"):
        return _from_numbers(image)
    if image.mode.startswith("I;16"):
        _require_range(np.asarray(image))
        return image
    return image if image.mode in PLAIN else image.convert("RGB")


def _from_numbers(image: Image.Image) -> Image.Image:
    """An image of 32-bit integers or floats, whose file does not say what is white, as 8 bits.

    Raises:
        ValueError: its values tell no range: they are negative, not finite or too large, or may be of two ranges.
    """
    values = np.asarray(image, np.float64)
    most = _require_range(values, fraction=image.mode == "F")
    white = 65535
    if image.mode == "F" and most <= 255:  # what 8 bits were turned into, or fractions
        white = 255 if most > 1 else 1
    return Image.fromarray((values * 255 / white).round().astype(np.uint8))


def _require_range(values: np.ndarray, *, fraction: bool = False) -> float:
    """The largest value, if all lie in 0..65535 and it tells the range: an image of 16 bits is not all but black."""
    least, most = float(values.min()), float(values.max())
    if not (least >= 0 and most <= 65535):  # NaN is neither
        raise ValueError(f"values from {least:g} to {most:g} have no known white: save it with 8 bits")
    whole = bool((values == np.floor(values)).all())
    if (0 < most <= 1 and whole) if fraction else 0 < most <= 255:
        raise ValueError(f"values that end at {most:g} may be of 8 or of more bits: save it with 8 bits")
    return most


class Header(NamedTuple):
    """What the header of an image tells: pixels as it is shown, and whether it has no colours."""

    height: int
    width: int
    grey: bool


def header_of(source: Path | bytes) -> Header:
    """Size and kind of an image that is not decoded; raises whatever Pillow does."""
    with opened(source) as image:
        if image.format == "PNG" and image.fp is not None and _turned_later(image.fp):
            with suppress(Exception):  # what is wrong with it tells whoever decodes it
                image.load()
        turned = 5 <= _orientation(image) <= 8
        width, height = image.size[::-1] if turned else image.size
        return Header(height, width, image.mode in GREY or image.mode.startswith("I"))


def _turned_later(file: IO[bytes]) -> bool:
    """Whether a PNG says only after its pixels how it is turned; the file is left where it was."""
    place, pixels, turned = file.tell(), False, False
    for kind, _, _ in _chunks(file):
        pixels = pixels or kind == b"IDAT"
        turned = pixels and (kind == b"eXIf" or (kind in TEXTS and _keyword(file.read(LONGEST_KEYWORD)) in ORIENTED))
        if turned or kind == b"IEND":
            break
    file.seek(place)
    return turned


def _keyword(text: bytes) -> str:
    return text.partition(b"\0")[0].decode("latin-1")


def fitted_pixels(image: Image.Image, edge: int) -> int:
    """Pixels that an image has when it is scaled until its shorter side is ``edge``, as before a central crop.

    Raises:
        ValueError: they are too many for the memory of most machines; a strip is meant, small as its file may be.
    """
    short, long = sorted(image.size)
    pixels = edge * edge * long // max(short, 1)
    if pixels > MOST_FITTED:
        raise ValueError(f"{image.width} x {image.height} pixels are too thin: {edge} high, they would be {pixels:,}")
    return pixels


def as_plain(image: Image.Image, channels: int) -> Image.Image:
    """Any image as 8 bits of grey or of red, green and blue: palette, 16-bit, CMYK and transparent ones included.

    Transparency is laid over white, as browsers and print do; a rotation in the EXIF data is applied.  One that is
    plain as it is comes back itself, since a copy of a large one takes time and memory.
    """
    image, mode = opaque(upright(image)), "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def as_eight_bit(image: Image.Image, channels: int) -> np.ndarray:
    """``as_plain`` as ``(height, width, channels)`` uint8."""
    array = np.asarray(as_plain(image, channels))
    return array[..., None] if channels == 1 else array


def is_of_one_colour(image: Image.Image) -> bool:
    """Whether no channel of an image varies by more than rounding."""
    extrema = image.getextrema()
    bands = [extrema] if isinstance(extrema[0], int | float) else extrema
    return all(high - low <= MOST_SPREAD for low, high in bands)


def opaque(image: Image.Image, background: str = "white") -> Image.Image:
    """The image laid over a colour where it is transparent; of a mode that converts to eight bits."""
    if image.mode.startswith("I;16"):
        image = _sixteen_to_eight_bit(image)
    if image.mode in ("I", "F"):
        image = _from_numbers(image)
    if not image.has_transparency_data:
        return image
    laid = Image.new("RGB", image.size, background)
    for box, part in _strips(image):
        over = Image.alpha_composite(Image.new("RGBA", part.size, background), part)
        laid.paste(over.convert("RGB"), box)
    return laid


def trimmed(image: Image.Image) -> Image.Image:
    """The image without the margins in which nothing is seen; all of it where nothing is transparent, or nothing seen.

    The faintest shadow counts as seen.
    """
    if not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16"):
        image = _sixteen_to_eight_bit(image)
    found = [(box, part.getchannel("A").getbbox()) for box, part in _strips(image)]
    seen = [(one[0], box[1] + one[1], one[2], box[1] + one[3]) for box, one in found if one]
    if not seen:
        return image
    lefts, tops, rights, bottoms = zip(*seen, strict=True)
    box = (min(lefts), min(tops), max(rights), max(bottoms))
    return image if box == (0, 0, *image.size) else image.crop(box)


def _strips(image: Image.Image) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    """The image in parts with their boxes, as RGBA: all at once would take four times the memory of the image."""
    rows = max(LAID_AT_ONCE // max(image.width, 1), 1)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        yield box, image.crop(box).convert("RGBA")


def _sixteen_to_eight_bit(image: Image.Image) -> Image.Image:
    values, see_through = np.asarray(image, np.float64), image.info.get("transparency")
    grey = Image.fromarray((values / 257).clip(0, 255).round().astype(np.uint8))
    if isinstance(see_through, int):
        grey.putalpha(Image.fromarray(np.where(values == see_through, 0, 255).astype(np.uint8)))
    return grey
