"""What an image lies on before anything looks at it: a colour behind what is transparent, and a square around it.

    crop: as it is, cut to n x n when it is read      pad: bars of the colour      stretch: squashed

A pool has one canvas, so that training, scoring and evaluation see the same picture.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from PIL import Image, ImageColor

from .files import read_json_object
from .images import as_plain, opaque, trimmed
from .provenance import generation_of

Fit = Literal["crop", "pad", "stretch"]
TRAINING, POOL = "training.json", "pool.json"  # in the folder of what was trained, and of what was drawn, here
MOST_PADDED = 1024  # pixels of the side of a square that is made: a strip of 30,000 would become 900 million of them


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
            ``crop`` takes the middle.  Squares that are made have sides of at most ``MOST_PADDED``; what is cropped
            keeps its shape until it is read.
        trim: cut off transparent margins before images are fitted, so that a small thing on an empty canvas fills it.
            Images in which nothing is transparent stay as they are.  For ``pad`` and ``stretch`` alone.

    Raises:
        ValueError: the colour is unknown or itself transparent, the fit is none, or what is trimmed would be cropped.
    """

    background: str = "white"
    fit: Fit = "crop"
    trim: bool = False

    def __post_init__(self) -> None:
        if as_fit(self.fit) == "crop" and self.trim:
            raise ValueError(
                "trim=True leaves things of any shape, of which fit='crop' would cut off the ends; leave that out, or "
                "use fit='pad'"
            )
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
        if self.trim:
            image = trimmed(image)  # step by step, so that the whole of a large one is let go
        image = opaque(image, self.background)
        side, _ = shape = self.shape_of(image.height, image.width)
        if shape == (image.height, image.width):
            return image
        colour = ImageColor.getrgb(self.background)
        grey = image.mode in ("1", "L") and len(set(colour)) == 1
        image = as_plain(image, 1 if grey else 3)
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
        """For a record, which is JSON; of trimming nothing where none is, as in records from before it could be."""
        return {name: value for name, value in asdict(self).items() if name != "trim" or value}


def fit_or_usual(asked: str | None, *, trim: bool) -> Fit:
    """As asked; else what is trimmed is padded, since cropping would cut off its ends, and what is not is cropped."""
    return as_fit(("pad" if trim else "crop") if asked is None else asked)


def _canvas_of(place: str | Path | None) -> Mapping[str, Any]:
    """What is recorded of the canvas of the images that a model, or that of a pool or set, was trained on."""
    if place is None:
        return {}
    if (record := Path(place) / TRAINING).is_file():
        found = read_json_object(record).get("canvas")
    elif (record := Path(place) / POOL).is_file():
        known = read_json_object(record)
        found = known.get("images")
        if not (isinstance(found, dict) and "fit" in found):
            return _canvas_of(generation_of(known).get("pipeline"))
    else:
        return {}
    return found if isinstance(found, dict) and "fit" in found else {}


def trained_fit(place: str | Path | None) -> Fit | None:
    """How the images were fitted that a generator or classifier was trained on; None if no record says.

    Args:
        place: folder of the model, or of a pool or set that a generator has drawn; of a Hub id nothing is known.
    """
    found = _canvas_of(place)
    return as_fit(found["fit"]) if found else None


def fit_for(asked: str | None, models: Iterable[str | Path | None]) -> Fit | None:
    """The fit that images need for models: as these were trained, so that nobody has to remember it.

    Args:
        asked: what a person asks for; None: whatever the models know.
        models: folders or Hub ids, or folders of pools and sets that they have drawn.

    Returns:
        None where nobody asks and no model knows.

    Raises:
        ValueError: another is asked for, or two models were trained differently and nobody says which counts.
    """
    known = {str(model): fit for model in models if (fit := trained_fit(model))}
    if asked is not None:
        if known and as_fit(asked) not in known.values():
            model, fit = next(iter(known.items()))
            raise ValueError(
                f"{model} was trained on images by fit={fit!r}, and fit={asked!r} is asked for; leave that out"
            )
        return as_fit(asked)
    if len(set(known.values())) > 1:
        (one, its), (other, another) = list({fit: (model, fit) for model, fit in known.items()}.values())[:2]
        raise ValueError(
            f"{one} was trained on images by fit={its!r} and {other} by fit={another!r}; say which counts by fit=, or "
            "take models that were trained alike"
        )
    return next(iter(known.values()), None)


def trim_for(asked: bool, models: Iterable[str | Path | None]) -> bool:
    """Whether images are trimmed for models: as those were that these were trained on, or as asked where none knows.

    Args:
        models: as of ``fit_for``.

    Raises:
        ValueError: it is asked for, and the models saw whole images; or some did and some did not, and nobody asks.
    """
    known = {str(model): bool(found.get("trim")) for model in models if (found := _canvas_of(model))}
    whole = [model for model, trims in known.items() if not trims]
    if asked and known and len(whole) == len(known):
        raise ValueError(
            f"{whole[0]} was trained on images with their margins, and trim=True is asked for; leave that out, or take "
            "models of trimmed images"
        )
    if not asked and 0 < len(whole) < len(known):
        one = next(model for model, trims in known.items() if trims)
        raise ValueError(
            f"{one} was trained on trimmed images and {whole[0]} on whole ones; take models that were trained alike"
        )
    return asked or any(known.values())


def canvas_for(asked: str | None, models: Iterable[str | Path | None], *, trim: bool = False, **canvas: Any) -> Canvas:
    """What images are laid on for models: as theirs were; where nobody asks and no model knows, cropped.

    Args:
        asked, models: as of ``fit_for``.
        trim: as of ``trim_for``; where images are trimmed, they are padded unasked.
        canvas: other fields of the canvas.
    """
    models = list(models)
    trims = trim_for(trim, models)
    return Canvas(**canvas, fit=fit_or_usual(fit_for(asked, models), trim=trims), trim=trims)
