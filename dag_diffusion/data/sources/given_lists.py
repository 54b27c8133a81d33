"""A list that is given itself instead of a folder, as those of splits are, whose images lie in one folder.

    data/train.csv            file,label               images are looked for below data
    food-101/meta/train.txt   apple_pie/1005649        below food-101, in its folder images if that has them
    clipart_train.txt         clipart/tiger/0.jpg 7    the class of number 7 is called tiger, as its folder is
    data/train.jsonl          {"file_name": "0.png", "label": "cat"}

A name may have folders above those that are there, /home/me/data/cat/0.png, if all have the same; what differs from
name to name always counts.  A list without classes has those of the images' folders.
"""

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import chain
from pathlib import Path, PurePosixPath

from dag_diffusion.data.rows import Row, folded_name, require_inside

from .folders import CONTAINERS, labelled_rows
from .image_lists import LISTS, are_one_to_one, classes_by_list, with_synsets
from .naming import require_images
from .records import may_have_file_names, rows_in, rows_of_records
from .separated import SEPARATORS, fields_of, other_encoding, text_of
from .walking import files_in, images_in, is_image_name, visible_folders

ABOUT_IMAGES = re.compile(
    r"(annotations?|meta(data)?|lists?|splits?|labels?|csvs?|image[-_ ]?sets?|(data|file|image)[-_ ]?lists?)", re.I
)  # what a folder of lists is called, beside which the images lie
JSON_LINES = ".jsonl"


def is_list(file: Path) -> bool:
    """Whether a file may be a list of images."""
    return file.is_file() and file.suffix.lower() in (*LISTS, JSON_LINES)


def rows_of_list(file: Path) -> tuple[Path, list[Row]]:
    """The folder below which the images of a list lie, and a row for each.

    Raises:
        ValueError: it names no images, one that is not there or not the only one called so, one twice, images of
            several splits, or nothing tells the classes.
    """
    place = file.absolute().parent
    if file.suffix.lower() == JSON_LINES or _names_files_beside(file):
        rows = rows_in(file) if file.suffix.lower() == JSON_LINES else rows_of_records(file)
        if not rows:
            raise ValueError(f"{file} lists no images; write one row for each image")
        require_inside(place, rows, file)
        return place, rows
    root = place.parent if ABOUT_IMAGES.fullmatch(place.name) else place
    try:
        lines = [line for line in text_of(file).splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise other_encoding(file) from error
    names = {_plain(field) for field in _fields(lines) if is_image_name(os.path.basename(field))}
    below = {inside for name in names for start in {root, place} if (inside := _inside(name, start, root))}
    for images in _candidates(root, [name for name in below if os.path.isfile(root / name)]):
        shared = _folders_shared_by(names)
        named = _Below(root, place, images, shared), _Below(root, place, images, shared, stems=True)
        if found := classes_by_list(file, images, named=named) or _without_classes(lines, named, file):
            return root, _rows(found, file)
    raise ValueError(
        f"{file} names no images below {root}; put it into the folder of the images, with their paths from there on"
    )


def _names_files_beside(file: Path) -> bool:
    """Whether a table has the column file_name of ``metadata.csv``, and its images lie where that says."""
    rows: list[Row] = []
    with suppress(ValueError):  # which is told where it is read as a list
        rows = rows_of_records(file) if file.suffix.lower() == ".csv" and may_have_file_names(file) else []
    return bool(rows) and (file.parent / rows[0]["file_name"]).is_file()


def _fields(lines: Iterable[str]) -> set[str]:
    """Every field of a list, whatever separates them."""
    found = set[str]()
    for line in lines:
        found.update([line], line.split(maxsplit=1), *(fields_of(line, one) for one in SEPARATORS if one in line))
    return found


def _plain(field: str) -> str:
    return field.strip().replace("\\", "/")


def _inside(name: str, start: Path, root: Path) -> str:
    """A name, which counts from the folder ``start`` on, as it is below ``root``; empty if it leads elsewhere."""
    found, above = posixpath.normpath(f"{start}/{name}" if name[:1] != "/" else name), f"{root}/"
    return found.removeprefix(above) if found.startswith(above) else ""


def _candidates(root: Path, below: Sequence[str]) -> Iterator[list[str]]:
    """Images among which those of a list may be: where it says, else in the folder of all images, else anywhere."""
    if below:
        yield sorted(below)
        return
    found = {folder: sorted(images_in(root, folder)) for folder in visible_folders(root)}
    yield from (found[folder] for folder in found if folder.casefold() in CONTAINERS)
    yield [*filter(is_image_name, files_in(root)), *chain.from_iterable(found.values())]


class _Below:
    """Images by the end of their path, if no other ends so; by the whole path first.

    Args:
        shared: folders that all names of a list have in common, of which those above the images need not be there.
    """

    def __init__(
        self, root: Path, place: Path, images: Sequence[str], shared: Sequence[str], *, stems: bool = False
    ) -> None:
        self._root, self._starts, self._shared, self._stems = root, {root, place}, shared, stems
        self._images, self._known = {*images}, dict[str, str | None]()

    @cached_property
    def _ends(self) -> dict[str, set[str]]:
        """The images whose paths, or those without a suffix, end alike."""
        found = defaultdict[str, set[str]](set)
        for image in self._images:
            parts = folded_name(os.path.splitext(image)[0] if self._stems else image).split("/")
            for start in range(len(parts)):
                found["/".join(parts[start:])].add(image)
        return found

    def image_in(self, field: str) -> str | None:
        if field not in self._known:  # since each column is tried by several separators
            self._known[field] = self._found(posixpath.normpath(_plain(field)))
        return self._known[field]

    def _found(self, name: str) -> str | None:
        if name in self._images:
            return name
        for start in self._starts:
            if (found := _inside(name, start, self._root)) in self._images:
                return found
        parts = folded_name(name.strip("/")).split("/")
        droppable = len(self._shared) if parts[: len(self._shared)] == self._shared else 0
        for dropped in range(droppable + 1):
            if images := self._ends.get("/".join(parts[dropped:])):
                image = next(iter(images))
                elsewhere = dropped and dropped == len(parts) - 1 and "/" in image  # no val/0.png for train/0.png
                return image if len(images) == 1 and not elsewhere else None
        return None


def _folders_shared_by(names: Iterable[str]) -> list[str]:
    folders = {posixpath.dirname(folded_name(name.strip("/"))) for name in names}
    return posixpath.commonpath(folders).split("/") if folders and all(folders) else []


def _without_classes(lines: Sequence[str], named: Sequence[_Below], file: Path) -> dict[str, str]:
    """Image to the class that its folder tells, of a list of names alone; empty if it is none."""
    for by in named:
        found = [*map(by.image_in, lines)]
        if any(found):
            require_images(lines, found, file)
            return dict.fromkeys(filter(None, found), "")
    return {}


def _rows(classes: dict[str, str], file: Path) -> list[Row]:
    images = sorted(classes)
    told = with_synsets(images, [classes[image] for image in images])
    folders = _class_folders(images)
    numbers = all(one.isdecimal() for one in told)
    numbered = numbers and all(folders) and 1 < len({*folders}) < len({*told}) == len(told)
    if not any(told) or numbered:
        if not all(folders):
            raise ValueError(f"{file} tells no class of {images[0]}, nor does its folder; write one beside each name")
        told = folders
    elif numbers and all(folders) and are_one_to_one(zip(told, folders, strict=True)):
        rows = zip(images, told, folders, strict=True)
        return [{"file_name": image, "label": int(one), "class_name": folder} for image, one, folder in rows]
    return labelled_rows(zip(told, images, strict=True))


def _class_folders(images: Sequence[str]) -> list[str]:
    """The folder of each image, of several classes in one folder; nothing for each if they do not lie so."""
    parts = [PurePosixPath(image).parts[:-1] for image in images]
    parts = [one[:-1] if one and one[-1].casefold() in CONTAINERS else one for one in parts]
    above = {one[:-1] for one in parts}
    return [one[-1] if one and len(above) == 1 else "" for one in parts]
