"""Classes of images that lie in one folder, from a list beside them.

    val_0.JPEG  n03444034  0 32 44 62        Tiny-ImageNet's val_annotations.txt
    ILSVRC2012_val_00000001,n03995372 85 1   Kaggle's LOC_val_solution.csv
    ILSVRC2012_val_00000001.JPEG 65          val.txt, with ImageNet's numbers in their usual order
    n01751748                                one synset a line, in the order of the files
    filename,label                           any .csv, .tsv or .txt that names the images; also filename;label
    filename,cat,dog                         with a 1 in the column of the class, see ``one_hot``
    0.png,cat,0.9                            without a first line that names the columns, if one can be no class but cat

The list lies beside the images, or above their folder under its name: ``val.txt`` beside ``val``, ``trainLabels.csv``
beside ``train_images``, and Kaggle's four folders above ``ILSVRC/Data/CLS-LOC/val``.  Lists of ILSVRC's own
numbers, such as its ground_truth.txt, are not read: they follow another order than all models.  Nor are those with
submission in their names, such as sample_submission.csv, whose classes are made up.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from dag_diffusion.data.class_names import listed
from dag_diffusion.data.imagenet import IMAGENET_CLASSES, imagenet_synsets, is_synset
from dag_diffusion.data.rows import folded_name

from .one_hot import one_hot_classes
from .separated import fields_of, other_encoding, separators_in, text_of
from .splits import require_one_split_in
from .unnamed_columns import NoClassesError, column_of_classes, numbers_apart

logger = logging.getLogger(__name__)
LISTS = (".csv", ".tsv", ".txt")
OF_ILSVRC = "ILSVRC2012_"  # what its own images are called
MOST_ABOVE = 4  # folders above the images that are looked into, as far as Kaggle's list lies from them
SPLIT_NAMES = ({"val", "valid", "validation"}, {"test", "testing"}, {"train", "training"})
CLASS_COLUMNS = ("class_name", "class", "label", "labels", "category", "synset", "wnid", "species", "breed")
NO_CLASSES = ("caption", "captions", "text", "prompt", "description", "url")
INDICES = ("", "index", "unnamed: 0")  # numbers of rows, as pandas writes them first, which may be names of images
MOST_OF_HEADER = 2**16  # bytes of a list that are read to see what its columns are
MOST_COLUMNS = 32  # that are looked at for the names of images
MOST_WITH_STEMS = 8  # for names without a suffix, such as numbers, which may be other things


def listed_classes(path: Path, images: Sequence[str]) -> list[tuple[str, str]] | None:
    """Class and file name of each image, by the one list in ``path`` or the folder above ``images``; None without one.

    Args:
        images: names below ``path``.

    Lists that agree are one, and those that tell no classes are passed by where another does.

    Raises:
        ValueError: two lists tell classes of the images, one lacks an image, or none tells any.
    """
    if not images:
        return None
    found: dict[Path, dict[str, str]] = {}
    telling_none: list[NoClassesError] = []
    for file in filter(Path.is_file, _lists_for(path)):
        try:
            if classes := _read(file, images):
                found[file] = classes
        except NoClassesError as error:
            telling_none.append(error)
    if not found and telling_none:
        raise telling_none[0]
    if not found:
        return None
    _require_agreeing(path, found)
    file, classes = next(iter(found.items()))
    if missing := [name for name in images if name not in classes]:
        raise ValueError(
            f"{file} names no class of {missing[0]} and {len(missing) - 1} other images in {path}; add them, or leave "
            f"them out by a {path / 'metadata.csv'} with file_name and label of the rest"
        )
    if telling_none:
        logger.warning(
            "the classes in %s are those of %s, and not of %s, which names its images too but does not say which of "
            "its columns has classes", path, file, telling_none[0].file,
        )  # fmt: skip
    told = _synsets(images, classes)
    _warn_of_joined(told, file)
    return [*zip(told, images, strict=True)]


def _require_agreeing(path: Path, found: Mapping[Path, Mapping[str, str]]) -> None:
    """Refuse lists that tell other classes than the first, or those of other images, as lists of splits do."""
    (first, classes), *others = found.items()
    for other, told in others:
        if told.keys() != classes.keys():
            raise ValueError(
                f"{first} and {other} name different images in {path}; if they are of splits, write one of them as "
                f"{path / 'metadata.csv'} with file_name and label, else keep the one that tells all classes"
            )
        if told != classes:
            raise ValueError(
                f"{first} and {other} both name the images in {path}; keep the one that tells their classes"
            )


def _warn_of_joined(told: Sequence[str], file: Path) -> None:
    """Tell of classes such as cat|dog beside cat, which may be two classes of one image."""
    names = {*told}
    if joined := next((name for name in sorted(names) if names & {*re.split(r"\s*[|;]\s*", name)} - {name}), None):
        logger.warning(
            "%s has the class %s beside one of its parts, which count as two; keep one class for each image if the "
            "first is of images that have several", file, joined,
        )  # fmt: skip


def _synsets(images: Sequence[str], classes: Mapping[str, str]) -> list[str]:
    """The class of each image; numbers of ILSVRC's own images become synsets, since a folder has no usual order."""
    told = [classes[name] for name in images]
    ours = all(PurePosixPath(name).name.startswith(OF_ILSVRC) for name in images)
    if not ours or not all(one.isdecimal() and int(one) < IMAGENET_CLASSES for one in told):
        return told
    synsets = imagenet_synsets()
    return [synsets[int(one)] for one in told]


def require_agreeing_lists(path: Path, folders: Mapping[str, str], images: Sequence[tuple[str, str]]) -> None:
    """Check the classes of images, given as class and file name, against lists that name most of them.

    A list in which a column has the classes of the folders agrees, whatever else it tells.

    Args:
        folders: class name to its folder below ``path``, of all classes.

    Raises:
        ValueError: a list divides the images of a folder into classes of other names.
    """
    of_image = {image: name for name, image in images}
    places = sorted({path, *((path / folder).parent for folder in folders.values())})
    for file, columns in {file.absolute(): told for place in places for file, told in _lists_of_classes(place)}.items():
        found: list[list[tuple[str, str]]] = []
        for column in columns:
            with suppress(OSError, ValueError):  # a list of other things
                told = _read(file, [*of_image], [column])
                found.append([(of_image[image], name) for image, name in told.items()])
        found = [pairs for pairs in found if 2 * len(pairs) > len(of_image)]
        if any(map(are_one_to_one, found)):
            continue
        if any(varies_within(pairs) and not {name for _, name in pairs} <= {*folders} for pairs in found):
            raise ValueError(
                f"{file} and the folders in {path} divide the images into other classes; remove it if the folders are "
                "the classes, else write it as metadata.csv with the columns file_name and label"
            )
        if found:
            logger.warning(
                "%s tells other classes of images than their folders in %s, which count; write it as metadata.csv with "
                "the columns file_name and label if it has the classes", file, path,
            )  # fmt: skip


def _lists_of_classes(path: Path) -> Iterator[tuple[Path, list[str]]]:
    """Lists in or above a folder, with the columns of their first line that are called as classes are."""
    for file in _lists_for(path):
        if file.is_file():
            with suppress(OSError, ValueError):  # it may be of other things, in any encoding
                separators, text = separators_in(text_of(file, MOST_OF_HEADER))
                header = text.partition("\n")[0]
                names = {name for separator in separators for name in _names(fields_of(header, separator))}
                if columns := [name for name in CLASS_COLUMNS if name in names]:
                    yield file, columns


def are_one_to_one(pairs: Iterable[tuple[Any, Any]]) -> bool:
    """Whether each first of the pairs has one second, and each second one first."""
    found = set(pairs)
    return all(len({pair[side] for pair in found}) == len(found) for side in (0, 1))


def varies_within(pairs: Iterable[tuple[Any, Any]]) -> bool:
    """Whether some first of the pairs has several seconds."""
    found = set(pairs)
    return len({pair[0] for pair in found}) < len(found)


def unread_list(path: Path, images: Sequence[str]) -> Path | None:
    """A list right above a folder that names its images, under a name that does not say that it is of this folder."""
    with suppress(OSError):  # which we may not look into
        for file in sorted(path.absolute().parent.iterdir()):
            with suppress(ValueError):
                if _may_list(file) and file.is_file() and len(_read(file, images)) == len(images) > 0:
                    return file
    return None


def _lists_for(path: Path) -> Iterator[Path]:
    """Files that may list the images of a folder, in it and above it."""
    places = [path, path.parent] if path.name.casefold() == "images" else [path]
    for place in places:
        yield from (file for file in sorted(place.iterdir()) if _may_list(file))
    name, said = path.absolute().name, _words(path.absolute().name)
    called = {one for names in SPLIT_NAMES if names & said for one in names} or {name.casefold()}
    for above in list(path.absolute().parents)[len(places) - 1 : MOST_ABOVE]:
        try:
            files = sorted(above.iterdir())
        except OSError:  # which we may not look into
            return
        for file in files:
            if _may_list(file) and called & {*_words(file.stem), file.stem.casefold()}:
                yield file


def _may_list(file: Path) -> bool:
    return file.suffix.lower() in LISTS and "submission" not in file.stem.casefold()


def _read(file: Path, images: Sequence[str], columns: Sequence[str] = CLASS_COLUMNS) -> dict[str, str]:
    """File name to class, by the first of ``columns``, of the images that a list names; empty if it is no such list."""
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
    separators = separators if file.suffix.lower() == ".csv" else [*separators, ""]
    rows, separator, place, named = _rows_in(lines, separators, file, images)
    if not rows:
        return {}
    if text is None:  # now that it is known to be a list of these images
        raise other_encoding(file)
    header = rows[0] if named.image_in(rows[0], place) is None else []
    naming = [(row, image) for row in rows if (image := named.image_in(row, place)) is not None]
    found: dict[str, str] = {}
    told_classes = _classes_in([row for row, _ in naming], place, header, file, columns, separator)
    for (row, image), class_name in zip(naming, told_classes, strict=True):
        if class_name and found.setdefault(image, class_name) != class_name:
            raise ValueError(
                f"{file} calls {row[place]} both {found[image]!r} and {class_name!r}; keep one row and class for each "
                "image"
            )
    return found


def _rows_in(
    lines: Sequence[str], separators: Sequence[str], file: Path, images: Sequence[str]
) -> tuple[list[list[str]], str, int, "_Named"]:
    """Fields of each line by the separator by which most images are named, with more than their name; none by none.

    Args:
        separators: "" for spaces after the first field, which count less than any other.

    Returns:
        The rows, their separator, and the column and the images of ``_place_of_images``.

    Raises:
        ValueError: the images are named by several separators alike.
    """
    found = []
    for separator in separators if lines else ():
        rows = [fields_of(line, separator) if separator else line.split(maxsplit=1) for line in lines]
        place, named = _place_of_images(rows, images)
        count = sum(len(row) > 1 and named.image_in(row, place) is not None for row in rows)
        if count:
            even = separator != "" and len({len(row) for row in rows}) == 1
            found.append(((count, separator != "", even), separator, (rows, separator or " ", place, named)))
    if not found:
        return [], " ", 0, _Named(images)
    best = max(rank for rank, _, _ in found)
    (first, told), *others = [(separator, told) for rank, separator, told in found if rank == best]
    if others:
        raise ValueError(
            f"{file} names images by the separators {first!r} and {others[0][0]!r} alike; put fields that hold one of "
            f"them in quotes, or write sep={first} above all lines"
        )
    return told


def _place_of_images(rows: Sequence[Sequence[str]], images: Sequence[str]) -> tuple[int, "_Named"]:
    """The column that names the images, and how it does: by whole names, or without a suffix."""
    whole, stems = _Named(images), _Named(images, stems=True)
    header, width = _names(rows[0]), max(map(len, rows))
    counts = [_count(rows, place, whole) for place in range(min(width, MOST_COLUMNS))]
    if any(counts):
        return counts.index(max(counts)), whole
    told = [
        place for place, name in enumerate(header[:MOST_WITH_STEMS]) if name not in CLASS_COLUMNS and width > 2
    ] or [0]
    places = [place for place in told if header[place] not in INDICES] or told
    return max(places, key=lambda place: _count(rows, place, stems)), stems


def _count(rows: Sequence[Sequence[str]], place: int, named: "_Named") -> int:
    return sum(named.image_in(row, place) is not None for row in rows)


class _Named:
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

    def image_in(self, row: Sequence[str], place: int) -> str | None:
        """The image that a row names in a column; None if it names none."""
        name = _tail(row[place].strip(), self._depth) if len(row) > place else ""
        return self._exact.get(name) or self._folded.get(folded_name(name))


def _tail(name: str, depth: int) -> str:
    """The last parts of a name, which Windows separates by backslashes."""
    return "/".join(name.replace("\\", "/").split("/")[-depth:])


def _classes_in(
    told: Sequence[Sequence[str]],
    place: int,
    header: Sequence[str],
    file: Path,
    columns: Sequence[str],
    separator: str,
) -> list[str | None]:
    """The class in each row that names an image; None where the file tells none.

    Raises:
        ValueError: the rows are of several splits, or no column, or several, tell classes.
    """
    for column, name in enumerate(header):
        require_one_split_in(name, (row[column] for row in told if len(row) > column), file)
    if not any(name in columns for name in _names(header)):
        header, told = numbers_apart(header, told)
    names = _names(header)
    others = [column for column in range(max(map(len, told), default=0)) if column != place]
    called = [names.index(name) for name in columns if name in names and names.index(name) != place]
    if not called and len(others) > 1 and header:
        fields = [
            (name.strip(), [row[column] if len(row) > column else "" for row in told])
            for column, name in enumerate(header)
            if column != place
        ]
        found = one_hot_classes(fields, [row[place] for row in told], file)
        if found is None:
            raise NoClassesError(
                file,
                f"{file} names images, but none of its columns {listed(header)} is called "
                f"{', '.join(CLASS_COLUMNS)}; call the column of classes label",
            )
        return [*found]
    column = (called or others or [1])[0]
    if not called and len(others) > 1:
        values = {one: [row[one] if len(row) > one else "" for row in told] for one in others}
        column = column_of_classes(values, file, separator)
    if column < len(names) and names[column] in NO_CLASSES:
        return [None] * len(told)
    classes = [_class_in(row[column]) if len(row) > column else None for row in told]
    if all(not one or re.fullmatch(r"[0-9]+\.0+", one) for one in classes):  # as pandas writes whole numbers
        return [one and one.partition(".")[0] for one in classes]
    return classes


def _names(header: Sequence[str]) -> list[str]:
    return [name.strip().casefold() for name in header]


def _words(name: str) -> set[str]:
    return set(re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).casefold()))


def _class_in(text: str) -> str | None:
    """The class in a field, without the box that may follow it; None for a list of numbers, as of attributes."""
    first, *rest = text.split() or [""]
    if is_synset(first) or (rest and all(one.isdecimal() for one in (first, *rest))):
        return first
    return None if rest and all(re.fullmatch(r"[-+]?[0-9.]+", one) for one in (first, *rest)) else text.strip()
