"""Classes of images that lie in one folder, from a list beside them.

    val_0.JPEG  n03444034  0 32 44 62        Tiny-ImageNet's val_annotations.txt
    ILSVRC2012_val_00000001,n03995372 85 1   Kaggle's LOC_val_solution.csv
    ILSVRC2012_val_00000001.JPEG 65          val.txt, with ImageNet's numbers in their usual order
    n01751748                                one synset a line, in the order of the files
    filename,label                           any .csv, .tsv or .txt that names the images first

The list lies beside the images, or above their folder under its name: ``val.txt`` beside ``val``, and Kaggle's four
folders above ``ILSVRC/Data/CLS-LOC/val``.  Lists of ILSVRC's own numbers, such as its ground_truth.txt, are not read:
they follow another order than all models.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from dag_diffusion.data.imagenet import IMAGENET_CLASSES, imagenet_synsets, is_synset

LISTS = (".csv", ".tsv", ".txt")
OF_ILSVRC = "ILSVRC2012_"  # what its own images are called
MOST_ABOVE = 4  # folders above the images that are looked into, as far as Kaggle's list lies from them
SPLIT_NAMES = ({"val", "valid", "validation"}, {"test", "testing"}, {"train", "training"})
CLASS_COLUMNS = ("class_name", "class", "label", "category", "synset", "wnid", "species", "breed")


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


def _lists_for(path: Path) -> Iterator[Path]:
    """Files that may list the images of a folder, in it and above it."""
    places = [path, path.parent] if path.name.casefold() == "images" else [path]
    for place in places:
        yield from (file for file in sorted(place.iterdir()) if file.suffix.lower() in LISTS)
    name = path.absolute().name.casefold()
    called = next((names for names in SPLIT_NAMES if name in names), {name})
    for above in list(path.absolute().parents)[len(places) - 1 : MOST_ABOVE]:
        try:
            files = sorted(above.iterdir())
        except OSError:  # which we may not look into
            return
        for file in files:
            if file.suffix.lower() in LISTS and called & set(re.split("[^a-z]+", file.stem.casefold())):
                yield file


def _read(file: Path, images: Sequence[str]) -> dict[str, str]:
    """File name to class of the images that a list names; empty if it is no such list."""
    try:
        lines = [line for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return {}
    if len(lines) == len(images) and all(map(is_synset, lines)):
        return {name: line.strip() for name, line in zip(images, lines, strict=True)}
    named = {PurePosixPath(name).name: name for name in images}
    named |= {PurePosixPath(name).stem: name for name in images}
    rows = [_fields(line, file.suffix.lower()) for line in lines]
    header = rows[0] if rows and _base(rows[0][0]) not in named else []
    column = _class_column(header)
    found: dict[str, str] = {}
    for row in rows:
        if len(row) > (column or 0) and _base(row[0]) in named:
            if column is None:
                raise ValueError(
                    f"{file} names images, but none of its columns {', '.join(header)} is called "
                    f"{', '.join(CLASS_COLUMNS)}; keep the name of the image and one column of classes"
                )
            image, told = named[_base(row[0])], _class_in(row[column])
            if told and found.setdefault(image, told) != told:
                raise ValueError(
                    f"{file} calls {row[0]} both {found[image]!r} and {told!r}; keep one row and class for each image"
                )
    return found


def _fields(line: str, suffix: str) -> list[str]:
    if "\t" in line:
        return line.split("\t")
    if suffix == ".csv" or ("," in line and suffix == ".txt"):
        return next(csv.reader([line], skipinitialspace=True))
    return line.split(maxsplit=1)


def _class_column(header: Sequence[str]) -> int | None:
    names = [name.strip().casefold() for name in header]
    return next((names.index(name) for name in CLASS_COLUMNS if name in names[1:]), 1 if len(names) <= 2 else None)


def _base(name: str) -> str:
    return PurePosixPath(name.strip()).name


def _class_in(text: str) -> str:
    """The class in a field, without the box that may follow it."""
    first, *rest = text.split()
    return first if is_synset(first) or (rest and all(one.isdecimal() for one in (first, *rest))) else text.strip()
