"""The column of classes in a list without a first line that names its columns, if no other can be.

0.png,cat,0.9                    val_0.JPEG n01443537 0 32 44 62        0.png,837,346,981,456,cow
Abyssinian_1 1 1 1               the species and the breed's number, which the class tells
0.png,patient3,cat               0.png,patient3,1                       0.png,1,0      refused: which one is it?
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .one_hot import NUMBER, may_tell_classes
from .splits import require_one_split_in, split_of

NUMBERS_OF_A_BOX = 4  # which stand beside the class of an object


class NoClassesError(ValueError):
    """A list names images, but does not say which of its columns has their classes.

    Attributes:
        file: the list.
    """

    def __init__(self, file: Path, told: str) -> None:
        super().__init__(told)
        self.file = file


def numbers_apart(
    header: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Header and rows, of which numbers with spaces between them, as after a name, stand in fields of their own.

    The header of such rows is left out, since its names may have spaces as well, unless it has a word for each field
    and calls one of them label.
    """
    fields = [[row[0], *row[1].split()] if len(row) == 2 else [] for row in rows]
    if len({len(row) for row in fields}) != 1 or len(fields[0]) < 3:
        return header, rows
    if not all(one.isdecimal() for row in fields for one in row[1:]):
        return header, rows
    names = " ".join(header).split()
    return names if len(names) == len(fields[0]) and "label" in map(str.casefold, names) else [], fields


def column_of_classes(columns: Mapping[int, Sequence[str]], file: Path, separator: str) -> int:
    """The one column of words, or the first of numbers, unless another may tell classes as well.

    The numbers of a box are no classes, be they before or after the class, nor is what is measured or a split.

    Args:
        separator: of the file, for errors.

    Raises:
        ValueError: several columns may tell classes, or the images are of several splits.
    """
    written = dict[int, list[str]]()
    for column, values in columns.items():
        if all(map(split_of, values)):
            require_one_split_in("split", values, file)
        elif any(map(str.strip, values)):
            written[column] = [value.strip() for value in values]
    words = [column for column, values in written.items() if not all(map(NUMBER.fullmatch, filter(None, values)))]
    for column in words if len(words) == 1 else [*written][:1] if not words else []:
        told = written.pop(column)
        boxed = len(written) >= NUMBERS_OF_A_BOX
        if not words:  # 837,346,981,456,3 has the box first
            boxed = boxed and all(len({*told}) < len({*values}) for values in written.values())
        if boxed or not any(_may_tell_classes(values, told) for values in written.values()):
            return column
    raise NoClassesError(
        file,
        f"{file} does not say which of its columns has the classes; call that column label in a first line, such as "
        f"{f'file{separator}label'!r}",
    )


def _may_tell_classes(values: Sequence[str], told: Sequence[str]) -> bool:
    alone = len({*told}) == len(told)  # as patients of one image each, which tell all that is told of these
    return may_tell_classes("numbers", values, [""] * len(told) if alone else told)
