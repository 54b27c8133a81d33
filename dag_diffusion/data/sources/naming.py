"""How a list names images: in which of its columns, by whole names or without a suffix, with which separator.

cat/0.png,tabby       IMG_1.JPG for img_1.jpg       ILSVRC2012_val_00000001,n03995372 85 1       17;cat of 17.png
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from dag_diffusion.data.rows import folded_name

from .separated import fields_of
from .walking import is_image_name

CLASS_COLUMNS = ("class_name", "class", "label", "labels", "category", "synset", "wnid", "species", "breed")
INDICES = ("", "index", "unnamed: 0")  # numbers of rows, as pandas writes them first, which may be names of images
MOST_COLUMNS = 32  # that are looked at for the names of images
MOST_WITH_STEMS = 8  # for names without a suffix, such as numbers, which may be other things


class Named(Protocol):
    """How the fields of a list name images."""

    def image_in(self, field: str) -> str | None:
        """The image that a field names; None if it names none."""


def words_of(header: Sequence[str]) -> list[str]:
    """Names of columns as they are compared."""
    return [name.strip().casefold() for name in header]


class MissingImagesError(ValueError):
    """A list names images that are not there, or not told apart.

    Attributes:
        count: how many.
    """

    def __init__(self, file: Path, lacking: Sequence[str]) -> None:
        super().__init__(
            f"{file} names {len(lacking)} images such as {lacking[0]!r:.80}, of which there is none, or several, or "
            "one of another split alone; write their paths from the folder of the list on, or remove the rows"
        )
        self.count = len(lacking)


def require_images(names: Sequence[str], images: Sequence[str | None], file: Path) -> None:
    """Refuse names of a list, but for those of its header, that are of no image."""
    skipped = 1 if images[0] is None and not is_image_name(names[0]) else 0
    if lacking := [name for name, image in zip(names[skipped:], images[skipped:], strict=True) if image is None]:
        raise MissingImagesError(file, lacking)


def rows_in(
    lines: Sequence[str], separators: Sequence[str], file: Path, named: Sequence[Named]
) -> tuple[list[list[str]], str, int, Named]:
    """Fields of each line by the separator by which most images are named, with more than their name; none by none.

    Args:
        separators: "" for spaces after the first field, which count less than any other.

    Returns:
        The rows, their separator, and the column of names and how they name, of ``place_of_images``.

    Raises:
        ValueError: the images are named by several separators alike.
    """
    found = []
    for separator in separators if lines else ():
        rows = [fields_of(line, separator) if separator else line.split(maxsplit=1) for line in lines]
        place, by = place_of_images(rows, *named)
        count = sum(len(row) > 1 and _names_one(row, place, by) for row in rows)
        if count:
            even = separator != "" and len({len(row) for row in rows}) == 1
            found.append(((count, separator != "", even), separator, (rows, separator or " ", place, by)))
    if not found:
        return [], " ", 0, named[0]
    best = max(rank for rank, _, _ in found)
    (first, told), *others = [(separator, told) for rank, separator, told in found if rank == best]
    if others:
        raise ValueError(
            f"{file} names images by the separators {first!r} and {others[0][0]!r} alike; put fields that hold one of "
            f"them in quotes, or write sep={first} above all lines"
        )
    return told


def place_of_images(rows: Sequence[Sequence[str]], whole: Named, stems: Named) -> tuple[int, Named]:
    """The column that names the images, and how it does: by whole names, or without a suffix."""
    header, width = words_of(rows[0]), max(map(len, rows))
    counts = [_count(rows, place, whole) for place in range(min(width, MOST_COLUMNS))]
    if any(counts):
        return counts.index(max(counts)), whole
    told = [
        place for place, name in enumerate(header[:MOST_WITH_STEMS]) if name not in CLASS_COLUMNS and width > 2
    ] or [0]
    places = [place for place in told if header[place] not in INDICES] or told
    return max(places, key=lambda place: _count(rows, place, stems)), stems


def _count(rows: Sequence[Sequence[str]], place: int, named: Named) -> int:
    return sum(_names_one(row, place, named) for row in rows)


def _names_one(row: Sequence[str], place: int, named: Named) -> bool:
    return len(row) > place and named.image_in(row[place]) is not None


def by_tails(images: Sequence[str]) -> tuple[Named, Named]:
    """Images by the last parts of their paths, as whole names and without a suffix."""
    return _Tails(images), _Tails(images, stems=True)


class _Tails:
    """Images by the names that a list gives them, in any folder, case or Unicode form, if these tell no two apart.

    IMG_1.JPG is img_1.jpg; of images in folders that share names, cat/0.png is not dog/0.png.
    """

    def __init__(self, images: Sequence[str], *, stems: bool = False) -> None:
        depths = range(1, 2 + max((name.count("/") for name in images), default=0))
        self._depth = next((one for one in depths if len({_tail(name, one) for name in images}) == len(images)), 1)
        named = {_tail(name, self._depth): name for name in images}
        self._exact = {os.path.splitext(name)[0]: image for name, image in named.items()} | named if stems else named
        folded = {name: folded_name(name) for name in self._exact}
        counts = Counter(folded.values())
        self._folded = {folded[name]: image for name, image in self._exact.items() if counts[folded[name]] == 1}

    def image_in(self, field: str) -> str | None:
        name = _tail(field.strip(), self._depth)
        return self._exact.get(name) or self._folded.get(folded_name(name))


def _tail(name: str, depth: int) -> str:
    """The last parts of a name, which Windows separates by backslashes."""
    return "/".join(name.replace("\\", "/").split("/")[-depth:])
