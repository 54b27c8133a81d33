"""A list that is given itself instead of a folder, as those of splits are, whose images lie in one folder.

    data/train.csv            file,label               images in data, in its folder train or images, or anywhere below
    food-101/meta/train.txt   apple_pie/1005649        below food-101, in its folder images
    clipart_train.txt         clipart/tiger/0.jpg 7    the class of number 7 is called tiger, as its folder is
    data/train.jsonl          {"file_name": "0.png", "label": "cat"}

The first of these places counts in which each name is that of one image.  A name may have folders above those that are
there, /home/me/data/cat/0.png, if all have the same; what differs from name to name always counts, and no image of
another split stands in.  A list without classes has those of the images' folders.
"""

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, product
from pathlib import Path, PurePosixPath

from dag_diffusion.data.rows import Row, folded_name, require_inside

from .folders import CONTAINERS, labelled_rows
from .image_lists import LISTS, are_one_to_one, classes_by_list, is_called_after, with_synsets
from .naming import MOST_COLUMNS, MissingImagesError, require_images
from .records import may_have_file_names, rows_in, rows_of_records
from .separated import SEPARATORS, fields_of, other_encoding, text_of
from .splits import split_within
from .walking import files_in, images_in, is_image_name, visible_folders

ABOUT_IMAGES = re.compile(
    r"(annotations?|meta(data)?|lists?|splits?|labels?|csvs?|image[-_ ]?sets?|(data|file|image)[-_ ]?lists?)", re.I
)  # what a folder of lists is called, beside which the images lie
JSON_LINES = ".jsonl"
SOME = 100  # lines of which one has to name an image, before all are looked at


def is_list(file: Path) -> bool:
    """Whether a file may be a list of images."""
    return file.is_file() and file.suffix.lower() in (*LISTS, JSON_LINES)


def rows_of_list(file: Path) -> tuple[Path, list[Row]]:
    """The folder below which the images of a list lie, and a row for each.

    Raises:
        ValueError: it names no images, one that is not there, not the only one called so or in two classes, images of
            several splits or outside that folder, or nothing tells the classes.
    """
    place = file.absolute().parent
    root = place.parent if ABOUT_IMAGES.fullmatch(place.name) else place
    if (rows := _records(file)) is not None:
        base = place if (place / rows[0]["file_name"]).is_file() else root
        require_inside(base, rows, file)
        return base, rows
    try:
        lines = [line for line in text_of(file).splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise other_encoding(file) from error
    names = _Names(file, root, _fields(lines))
    nearest: MissingImagesError | None = None
    elsewhere = ""
    some = _fields(lines[:SOME])
    for by in _candidates(names):
        if not any(one.image_in(field) for one in by for field in some):
            elsewhere = elsewhere or by[0].elsewhere or by[1].elsewhere
            continue
        try:
            if found := _read(lines, by, file):
                return root, _rows(found, file)
        except MissingImagesError as error:
            nearest = min(nearest or error, error, key=lambda one: one.count)
    if elsewhere and nearest is None:
        raise ValueError(
            f"{file} names images below {root} that lie in a folder of another split alone, such as {elsewhere}; if "
            "these are meant, write their paths like this one, or call that folder images"
        )
    raise nearest or ValueError(
        f"{file} names no images below {root}; put it into the folder of the images, with their paths from there on"
    )


def _records(file: Path) -> list[Row] | None:
    """Rows of JSON lines, or of a table with the column file_name of ``metadata.csv`` whose images lie where that says.

    Raises:
        ValueError: JSON lines are broken, or none; a table is told where it is read as a list.
    """
    if file.suffix.lower() == JSON_LINES:
        if not (rows := rows_in(file)):
            raise ValueError(f"{file} lists no images; write one row for each image")
        return rows
    if file.suffix.lower() == ".csv" and may_have_file_names(file):
        with suppress(ValueError):
            rows = rows_of_records(file)
            return rows if rows and (file.parent / rows[0]["file_name"]).is_file() else None
    return None


def _fields(lines: Iterable[str]) -> set[str]:
    """Every field of a list, whatever separates them."""
    found = set[str]()
    for line in lines:
        found.update([line], line.split(maxsplit=1), *(fields_of(line, one) for one in SEPARATORS if one in line))
    return found


def _parts(field: str) -> list[str]:
    return field.strip().replace("\\", "/").split("/")


class _Names:
    """Names as a list writes them, to the parts of their paths from ``root`` on.

    Attributes:
        written: those that are called as images are, as ``plain`` tells them.
        shared: folders that all of these are in.

    Raises:
        ValueError: one is that of a file outside ``root``.
    """

    def __init__(self, file: Path, root: Path, fields: Iterable[str]) -> None:
        self.file, self.root = file, root
        self.written = {self.plain(field) for field in fields if is_image_name(_parts(field)[-1])}
        folders = {posixpath.dirname(folded_name(name.strip("/"))) for name in self.written}
        self.shared = posixpath.commonpath(folders).split("/") if folders and all(folders) else []
        if outside := next((name for name in self.written if name.startswith("/") and os.path.isfile(name)), None):
            raise ValueError(
                f"{file} names {outside}, which lies outside {root}; put the list into a folder above all its images"
            )

    def plain(self, field: str) -> str:
        """A name with slashes, from ``root`` on if it leads there; else as it is, or from the top of the disk on."""
        name = posixpath.normpath("/".join(_parts(field)))
        if name.startswith(".."):
            name = posixpath.normpath(f"{self.file.absolute().parent}/{name}")
        return name.removeprefix(f"{self.root}/")


class _Images:
    """Images by the names that a list has for them.

    Args:
        called: what an image is called there, and the image; several of a name are told by none.

    Attributes:
        elsewhere: one that is in another split's folder, and not found therefore; empty if there is none.
    """

    elsewhere = ""

    def __init__(self, names: _Names, called: Iterable[tuple[str, str]], *, stems: bool = False) -> None:
        self._names, self._found, self._known = names, defaultdict[str, set[str]](set), dict[str, str | None]()
        for name, image in called:
            self._found[folded_name(os.path.splitext(name)[0] if stems else name)].add(image)
        self._splits = _splits_of([names.file.stem])

    def image_in(self, field: str) -> str | None:
        if field not in self._known:  # since each column is tried by several separators
            self._known[field] = self._image(folded_name(self._names.plain(field)).strip("/").split("/"))
        return self._known[field]

    def _image(self, parts: Sequence[str]) -> str | None:
        shared = self._names.shared
        droppable = len(shared) if [*parts[: len(shared)]] == shared else 0
        for dropped in range(droppable + 1):
            if images := self._found.get("/".join(parts[dropped:])):
                image = next(iter(images))
                unsaid = PurePosixPath(image).parts[: -len(parts[dropped:])]  # folders that the list does not name
                told, found = _splits_of(parts[:dropped]) or self._splits, _splits_of(unsaid)
                nameless = dropped and dropped == len(parts) - 1  # nothing is left but the name of the file
                strange = nameless and any(folder.casefold() not in CONTAINERS for folder in unsaid)
                if len(images) > 1 or strange:
                    return None
                if told and found - told:
                    self.elsewhere = image if told is self._splits else self.elsewhere  # the name says no other place
                    return None
                return image
        return None


def _splits_of(names: Iterable[str]) -> set[str]:
    return {found[0] for name in names if (found := split_within(name))}


def _candidates(names: _Names) -> Iterator[tuple[_Images, _Images]]:
    """The images among which those of a list may be, by whole names and without a suffix, place by place."""
    root, file = names.root, names.file
    there = [name for name in names.written if os.path.isfile(root / name)]
    if there:
        direct = _Images(names, zip(there, there, strict=True))
        yield direct, direct
    below = {folder: sorted(images_in(root, folder)) for folder in visible_folders(root)}
    images = [*filter(is_image_name, files_in(root)), *chain.from_iterable(below.values())]
    called = [folder for folder in below if is_called_after(folder, file)]
    holders = [folder for folder in below if folder.casefold() in CONTAINERS]
    beside = file.absolute().parent.relative_to(root).as_posix()
    for base in dict.fromkeys([beside, ".", *called, *holders]):
        start = "" if base == "." else f"{base}/"
        pairs = [(image.removeprefix(start), image) for image in images if image.startswith(start)]
        yield _Images(names, pairs), _Images(names, pairs, stems=True)
    ends = [
        ("/".join(parts[start:]), image)
        for image in images
        for parts in [image.split("/")]
        for start in range(len(parts))
    ]
    yield _Images(names, ends), _Images(names, ends, stems=True)


def _read(lines: Sequence[str], by: tuple[_Images, _Images], file: Path) -> dict[str, str]:
    """Image to class, which is empty where the list tells none; nothing if it names no images."""
    for one in by:
        found = [*map(one.image_in, lines)]
        if all(found[1:]) and (found[0] or not is_image_name(lines[0])) and any(found):
            return dict.fromkeys(filter(None, found), "")
    return classes_by_list(file, (), named=by) or _without_classes(lines, by, file)


def _without_classes(lines: Sequence[str], by: tuple[_Images, _Images], file: Path) -> dict[str, str]:
    """The images in the column that names most, whatever else the list tells."""
    for one, separator in product(by, SEPARATORS):
        rows = [fields_of(line, separator) for line in lines]
        columns = [
            [row[place] if len(row) > place else "" for row in rows] for place in range(min(len(rows[0]), MOST_COLUMNS))
        ]
        found = [[*map(one.image_in, column)] for column in columns]
        place = max(range(len(columns)), key=lambda place: sum(image is not None for image in found[place]))
        if any(found[place]):
            require_images(columns[place], found[place], file)
            return dict.fromkeys(filter(None, found[place]), "")
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
