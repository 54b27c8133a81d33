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
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from dag_diffusion.data.class_names import listed
from dag_diffusion.data.imagenet import IMAGENET_CLASSES, imagenet_synsets, is_synset

from .naming import CLASS_COLUMNS, Named, by_tails, require_images, rows_in, words_of
from .one_hot import one_hot_classes
from .separated import fields_of, other_encoding, separators_in, text_of
from .splits import require_one_split_in, split_of
from .unnamed_columns import NoClassesError, column_of_classes, numbers_apart

logger = logging.getLogger(__name__)
LISTS = (".csv", ".tsv", ".txt")
OF_ILSVRC = "ILSVRC2012_"  # what its own images are called
MOST_ABOVE = 4  # folders above the images that are looked into, as far as Kaggle's list lies from them
SPLIT_NAMES = ({"val", "valid", "validation"}, {"test", "testing"}, {"train", "training"})
NO_CLASSES = ("caption", "captions", "text", "prompt", "description", "url")
MOST_NAMED = 12  # columns in an error, among which a person finds the one that was meant
MOST_OF_HEADER = 2**16  # bytes of a list that are read to see what its columns are


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
            if classes := classes_by_list(file, images):
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
            f"{file} names no class of {missing[0]} and {len(missing) - 1} other images in {path}; add them, give "
            f"the list itself, or leave them out by a {path / 'metadata.csv'} with file_name and label of the rest"
        )
    if telling_none:
        logger.warning(
            "the classes in %s are those of %s, and not of %s, which names its images too but does not say which of "
            "its columns has classes", path, file, telling_none[0].file,
        )  # fmt: skip
    told = with_synsets(images, [classes[name] for name in images])
    _warn_of_joined(told, file)
    return [*zip(told, images, strict=True)]


def _require_agreeing(path: Path, found: Mapping[Path, Mapping[str, str]]) -> None:
    """Refuse lists that tell other classes than the first, or those of other images, as lists of splits do."""
    (first, classes), *others = found.items()
    for other, told in others:
        if told.keys() != classes.keys():
            raise ValueError(
                f"{first} and {other} name different images in {path}; if they are of splits, give one of them, such "
                f"as {first}, instead of the folder, else keep the one that tells all classes"
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


def with_synsets(images: Sequence[str], told: Sequence[str]) -> list[str]:
    """The class of each image; numbers of ILSVRC's own images become synsets, since a folder has no usual order."""
    ours = all(PurePosixPath(name).name.startswith(OF_ILSVRC) for name in images)
    if not ours or not all(one.isdecimal() and int(one) < IMAGENET_CLASSES for one in told):
        return [*told]
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
                told = classes_by_list(file, [*of_image], [column])
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
                names = {name for separator in separators for name in words_of(fields_of(header, separator))}
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
                if _may_list(file) and file.is_file() and len(classes_by_list(file, images)) == len(images) > 0:
                    return file
    return None


def _lists_for(path: Path) -> Iterator[Path]:
    """Files that may list the images of a folder, in it and above it."""
    places = [path, path.parent] if path.name.casefold() == "images" else [path]
    for place in places:
        yield from (file for file in sorted(place.iterdir()) if _may_list(file))
    for above in list(path.absolute().parents)[len(places) - 1 : MOST_ABOVE]:
        try:
            files = sorted(above.iterdir())
        except OSError:  # which we may not look into
            return
        for file in files:
            if _may_list(file) and is_called_after(path.absolute().name, file):
                yield file


def is_called_after(folder: str, file: Path) -> bool:
    """Whether a list says that it is of a folder: ``val.txt`` of ``val``, ``trainLabels.csv`` of ``train_images``."""
    said = _words(folder)
    called = {one for names in SPLIT_NAMES if names & said for one in names} or {folder.casefold()}
    return bool(called & {*_words(file.stem), file.stem.casefold()})


def _may_list(file: Path) -> bool:
    return file.suffix.lower() in LISTS and "submission" not in file.stem.casefold()


def classes_by_list(
    file: Path, images: Sequence[str], columns: Sequence[str] = CLASS_COLUMNS, named: Sequence[Named] = ()
) -> dict[str, str]:
    """File name to class, by the first of ``columns``, of the images that a list names; empty if it is no such list.

    Args:
        named: how rows name images, the first that names any; then each row but the header has to name one, and its
            class.  By default by whole names, or without a suffix.

    Raises:
        ValueError: an image has two classes, the rows are of several splits, or no column, or several, tell classes.
    """
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
    rows, separator, place, naming_by = rows_in(lines, separators, file, named or by_tails(images))
    if not rows:
        return {}
    if text is None:  # now that it is known to be a list of these images
        raise other_encoding(file)
    names = [row[place] if len(row) > place else "" for row in rows]
    images_of = [*map(naming_by.image_in, names)]
    header = rows[0] if images_of[0] is None else []
    naming = [(row, image) for row, image in zip(rows, images_of, strict=True) if image is not None]
    if named:
        require_images(names, images_of, file)
    found: dict[str, str] = {}
    told_classes = _classes_in([row for row, _ in naming], place, header, file, columns, separator)
    if named and any(told_classes) and not all(told_classes):
        image = next(image for (_, image), told in zip(naming, told_classes, strict=True) if not told)
        raise ValueError(f"{file} names no class of {image}; give every row one, or remove the row")
    for (row, image), class_name in zip(naming, told_classes, strict=True):
        if class_name and found.setdefault(image, class_name) != class_name:
            raise ValueError(
                f"{file} calls {row[place]} both {found[image]!r} and {class_name!r}; keep one row and class for each "
                "image"
            )
    return found


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
    if not any(name in columns for name in words_of(header)):
        header, told = numbers_apart(header, told)
    names = words_of(header)
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
                f"{file} names images, but none of its columns {listed(header, MOST_NAMED)} is called "
                f"{', '.join(CLASS_COLUMNS)}; call the column of classes label",
            )
        return [*found]
    if not called and len(others) == 1:
        told_there = [row[others[0]] for row in told if len(row) > others[0]]
        if all(map(split_of, told_there)):  # which tells no class
            require_one_split_in("split", told_there, file)
            return [None] * len(told)
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


def _words(name: str) -> set[str]:
    return set(re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).casefold()))


def _class_in(text: str) -> str | None:
    """The class in a field, without the box that may follow it; None for a list of numbers, as of attributes."""
    first, *rest = text.split() or [""]
    if is_synset(first) or (rest and all(one.isdecimal() for one in (first, *rest))):
        return first
    return None if rest and all(re.fullmatch(r"[-+]?[0-9.]+", one) for one in (first, *rest)) else text.strip()
