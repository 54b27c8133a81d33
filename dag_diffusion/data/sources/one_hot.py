"""Classes that a list tells by a column for each, with a 1 in that of the image.

    image,cat,dog,patient_id,validation_weight
    0.png,1,0,a7,1.0                            -> cat: patients and weights are no classes

Several 1s in a row are several classes, and a further column whose words or numbers repeat may be the true classes,
as a diagnosis beside male and female; both are refused.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from dag_diffusion.data.class_names import listed

from .splits import COLUMNS, FLAGS, split_of

Column = tuple[str, Sequence[str]]  # its name, and a value for each image
ONE_HOT = {"": 0, "0": 0, "0.0": 0, "1": 1, "1.0": 1}
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")
NO_CLASS = {
    "id", "index", "unnamed", "patient", "subject", "weight", "fold", "age", "sex", "gender", "width", "height", "path",
    "file", "filename", "image", "url", "date", "time", "year", "score", "confidence", "quality", "caption",
}  # fmt: skip # words of the names of columns


def one_hot_classes(columns: Sequence[Column], images: Sequence[str], file: Path) -> list[str] | None:
    """The name of the one column with a 1, for each image; None where there are no two columns of 0 and 1.

    Args:
        columns: all but that which names the images.
        images: their names, for errors.

    Raises:
        ValueError: an image has no class, or several, or another column may tell the classes.
    """
    marked = [(name, ones) for name, values in columns if (ones := _ones(values)) is not None]
    marked = [column for column in marked if column[0].casefold() not in (*COLUMNS, *FLAGS)]
    certain = [column for column in marked if not _is_no_class(column[0])]
    if len(marked) < 2:
        return None
    if len(certain) > 1 and any(sum(row) != 1 for row in _rows(marked)):
        marked = certain
    told = list[str]()
    for image, row in zip(images, _rows(marked), strict=True):
        if sum(row) != 1:
            raise ValueError(
                f"{file} gives {image} {sum(row)} classes among {listed(name for name, _ in marked)}; keep the rows "
                "and images that have one, and no other columns of 0 and 1 than those of classes"
            )
        told.append(marked[row.index(1)][0])
    taken = {name for name, _ in marked}
    if doubtful := [name for name, values in columns if name not in taken and may_tell_classes(name, values, told)]:
        raise ValueError(
            f"{file} may tell classes by {listed(name for name, _ in marked)}, where one has a 1, or by "
            f"{listed(doubtful)}; remove the columns that tell none, or call one label"
        )
    return told


def _ones(values: Sequence[str]) -> list[int] | None:
    """0 or 1 for each value of a column that has a 1, or 0s alone; None for one of other values, or of none."""
    found = [ONE_HOT.get(value.strip().replace(",", ".")) for value in values]
    return None if None in found or not any(map(str.strip, values)) else [int(value or 0) for value in found]


def _rows(marked: Iterable[tuple[str, Sequence[int]]]) -> list[tuple[int, ...]]:
    return [*zip(*(ones for _, ones in marked), strict=True)]


def _is_no_class(name: str) -> bool:
    words = re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).casefold())
    return name.casefold() in (*COLUMNS, *FLAGS, "") or any(word in NO_CLASS or split_of(word) for word in words)


def may_tell_classes(name: str, values: Sequence[str], told: Sequence[str]) -> bool:
    """Whether a column beside those of 0 and 1 may tell classes, other than those that were told."""
    written = [value.strip() for value in values]
    if _is_no_class(name) or len(set(written)) in (1, len(written)):
        return False
    numbers = [one.replace(",", ".") for one in written if one]
    if all(map(NUMBER.fullmatch, numbers)) and any("." in one for one in numbers):  # what is measured
        return False
    return len(set(zip(told, written, strict=True))) > len(set(told))
