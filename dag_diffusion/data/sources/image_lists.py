"""Classes of images that lie in one folder, from a list beside them.

    val_0.JPEG  n03444034  0 32 44 62        Tiny-ImageNet's val_annotations.txt
    ILSVRC2012_val_00000001,n03995372 85 1   Kaggle's LOC_val_solution.csv
    ILSVRC2012_val_00000001.JPEG 65          val.txt, with ImageNet's numbers in their usual order
    n01751748                                one synset a line, in the order of the files
    filename,label                           any .csv, .tsv or .txt that names the images; also filename;label
    filename,cat,dog                         with a 1 in the column of the class, see ``one_hot``

The list lies beside the images, or above their folder under its name: ``val.txt`` beside ``val``, ``trainLabels.csv``
beside ``train_images``, and Kaggle's four folders above ``ILSVRC/Data/CLS-LOC/val``.  Lists of ILSVRC's own
numbers, such as its ground_truth.txt, are not read: they follow another order than all models.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from dag_diffusion.data.imagenet import IMAGENET_CLASSES, imagenet_synsets, is_synset

from .one_hot import one_hot_classes
from .separated import fields_of, other_encoding, separators_in, text_of
from .splits import require_one_split_in

LISTS = (".csv", ".tsv", ".txt")
OF_ILSVRC = "ILSVRC2012_"  # what its own images are called
MOST_ABOVE = 4  # folders above the images that are looked into, as far as Kaggle's list lies from them
SPLIT_NAMES = ({"val", "valid", "validation"}, {"test", "testing"}, {"train", "training"})
CLASS_COLUMNS = ("class_name", "class", "label", "labels", "category", "synset", "wnid", "species", "breed")
NO_CLASSES = ("caption", "captions", "text", "prompt", "description", "url")
INDICES = ("", "index", "unnamed: 0")  # numbers of rows, as pandas writes them first, which may be names of images
MOST_COLUMNS = 8  # that are looked at for the names of images


def listed_classes(path: Path, images: Sequence[str]) -> list[tuple[str, str]] | None:
    """Class and file name of each image, by the one list in ``path`` or the folder above ``images``; None without one.

    Args:
        images: names below ``path``.

    Raises:
        ValueError: two lists name the images, or one lacks an image.
    """
    if not images:
        return None
    files = list(_lists_for(path))
    found = {file: classes for file in files if file.is_file() and (classes := _read(file, images))}
    if len(found) > 1:
        raise ValueError(
            f"{' and '.join(str(file) for file in list(found)[:2])} both name the images in {path}; keep the one that "
            "tells their classes"
        )
    for file, classes in found.items():
        if missing := [name for name in images if name not in classes]:
            raise ValueError(
                f"{file} names no class of {missing[0]} and {len(missing) - 1} other images in {path}; add them, or "
                "remove these images"
            )
        return [(told, name) for told, name in zip(_synsets(images, classes), images, strict=True)]
    return None


def _synsets(images: Sequence[str], classes: Mapping[str, str]) -> list[str]:
    """The class of each image; numbers of ILSVRC's own images become synsets, since a folder has no usual order."""
    told = [classes[name] for name in images]
    ours = all(PurePosixPath(name).name.startswith(OF_ILSVRC) for name in images)
    if not ours or not all(one.isdecimal() and int(one) < IMAGENET_CLASSES for one in told):
        return told
    synsets = imagenet_synsets()
    return [synsets[int(one)] for one in told]


def unread_list(path: Path, images: Sequence[str]) -> Path | None:
    """A list right above a folder that names its images, under a name that does not say that it is of this folder."""
    with suppress(OSError):  # which we may not look into
        for file in sorted(path.absolute().parent.iterdir()):
            with suppress(ValueError):
                if file.suffix.lower() in LISTS and file.is_file() and len(_read(file, images)) == len(images) > 0:
                    return file
    return None


def _lists_for(path: Path) -> Iterator[Path]:
    """Files that may list the images of a folder, in it and above it."""
    places = [path, path.parent] if path.name.casefold() == "images" else [path]
    for place in places:
        yield from (file for file in sorted(place.iterdir()) if file.suffix.lower() in LISTS)
    name, said = path.absolute().name, _words(path.absolute().name)
    called = {one for names in SPLIT_NAMES if names & said for one in names} or {name.casefold()}
    for above in list(path.absolute().parents)[len(places) - 1 : MOST_ABOVE]:
        try:
            files = sorted(above.iterdir())
        except OSError:  # which we may not look into
            return
        for file in files:
            if file.suffix.lower() in LISTS and called & {*_words(file.stem), file.stem.casefold()}:
                yield file


def _read(file: Path, images: Sequence[str]) -> dict[str, str]:
    """File name to class of the images that a list names; empty if it is no such list."""
    try:
        text = text_of(file)
    except UnicodeDecodeError:
        text = None
    except OSError:
        return {}
    separators, told = separators_in(file.read_text("latin-1") if text is None else text)
    lines = [line for line in told.splitlines() if line.strip()]
    if len(lines) == len(images) and all(map(is_synset, lines)):
        return {name: line.strip() for name, line in zip(images, lines, strict=True)}
    rows, place, named = _rows_in(lines, [*separators, *([] if file.suffix.lower() == ".csv" else [""])], file, images)
    if not rows:
        return {}
    if text is None:  # now that it is known to be a list of these images
        raise other_encoding(file)
    header = rows[0] if _base(rows[0], place) not in named else []
    naming = [row for row in rows if _base(row, place) in named]
    found: dict[str, str] = {}
    for row, class_name in zip(naming, _classes_in(naming, place, header, file), strict=True):
        image = named[_base(row, place)]
        if class_name and found.setdefault(image, class_name) != class_name:
            raise ValueError(
                f"{file} calls {row[place]} both {found[image]!r} and {class_name!r}; keep one row and class for each "
                "image"
            )
    return found


def _rows_in(
    lines: Sequence[str], separators: Sequence[str], file: Path, images: Sequence[str]
) -> tuple[list[list[str]], int, Mapping[str, str]]:
    """Fields of each line by the separator by which most images are named, with more than their name; none by none.

    Args:
        separators: "" for spaces after the first field, which count less than any other.

    Returns:
        The rows, and the column and the names of ``_place_of_images``.

    Raises:
        ValueError: the images are named by several separators alike.
    """
    found = []
    for separator in separators if lines else ():
        rows = [fields_of(line, separator) if separator else line.split(maxsplit=1) for line in lines]
        place, named = _place_of_images(rows, images)
        count = sum(len(row) > 1 and _base(row, place) in named for row in rows)
        if count:
            even = separator != "" and len({len(row) for row in rows}) == 1
            found.append(((count, separator != "", even), separator, (rows, place, named)))
    if not found:
        return [], 0, {}
    best = max(rank for rank, _, _ in found)
    (first, told), *others = [(separator, told) for rank, separator, told in found if rank == best]
    if others:
        raise ValueError(
            f"{file} names images by the separators {first!r} and {others[0][0]!r} alike; put fields that hold one of "
            f"them in quotes, or write sep={first} above all lines"
        )
    return told


def _place_of_images(rows: Sequence[Sequence[str]], images: Sequence[str]) -> tuple[int, Mapping[str, str]]:
    """The column that names the images, and the name below the folder of each: whole names, or without a suffix."""
    whole = _InAnyCase({PurePosixPath(name).name: name for name in images})
    stems = _InAnyCase({PurePosixPath(name).stem: name for name in images} | whole)
    header, width = _names(rows[0]), max(map(len, rows))
    counts = [sum(_base(row, place) in whole for row in rows) for place in range(min(width, MOST_COLUMNS))]
    if any(counts):
        return counts.index(max(counts)), whole
    told = [place for place, name in enumerate(header[:MOST_COLUMNS]) if name not in CLASS_COLUMNS and width > 2] or [0]
    places = [place for place in told if header[place] not in INDICES] or told
    return max(places, key=lambda place: sum(_base(row, place) in stems for row in rows)), stems


class _InAnyCase(dict[str, str]):
    """Names of images, found as they are or in another case: IMG_1.JPG for img_1.jpg, if case tells no two apart."""

    def __init__(self, named: Mapping[str, str]) -> None:
        super().__init__(named)
        folded = Counter(name.casefold() for name in named)
        self.folded = {name.casefold(): file for name, file in named.items() if folded[name.casefold()] == 1}

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or str(name).casefold() in self.folded

    def __missing__(self, name: str) -> str:
        return self.folded[name.casefold()]


def _classes_in(told: Sequence[Sequence[str]], place: int, header: Sequence[str], file: Path) -> list[str | None]:
    """The class in each row that names an image; None where the file tells none.

    Raises:
        ValueError: the rows are of several splits, or no column, or several, tell classes.
    """
    for column, name in enumerate(header):
        require_one_split_in(name, (row[column] for row in told if len(row) > column), file)
    names = _names(header)
    others = [column for column in range(max(map(len, told), default=0)) if column != place]
    called = [names.index(name) for name in CLASS_COLUMNS if name in names and names.index(name) != place]
    if not called and len(others) > 1 and header:
        columns = [
            (name.strip(), [row[column] if len(row) > column else "" for row in told])
            for column, name in enumerate(header)
            if column != place
        ]
        found = one_hot_classes(columns, [row[place] for row in told], file)
        if found is None:
            raise ValueError(
                f"{file} names images, but none of its columns {', '.join(header)} is called "
                f"{', '.join(CLASS_COLUMNS)}; keep the name of the image and one column of classes"
            )
        return [*found]
    column = (called or others or [1])[0]
    if column < len(names) and names[column] in NO_CLASSES:
        return [None] * len(told)
    return [_class_in(row[column]) if len(row) > column else None for row in told]


def _names(header: Sequence[str]) -> list[str]:
    return [name.strip().casefold() for name in header]


def _words(name: str) -> set[str]:
    return set(re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).casefold()))


def _base(row: Sequence[str], place: int) -> str:
    return PurePosixPath(row[place].strip()).name if len(row) > place else ""


def _class_in(text: str) -> str | None:
    """The class in a field, without the box that may follow it; None for a list of numbers, as of attributes."""
    first, *rest = text.split() or [""]
    if is_synset(first) or (rest and all(one.isdecimal() for one in (first, *rest))):
        return first
    return None if rest and all(re.fullmatch(r"[-+]?[0-9.]+", one) for one in (first, *rest)) else text.strip()
