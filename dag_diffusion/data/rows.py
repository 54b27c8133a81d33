"""Rows of a pool: one JSON line an image, which names its file, its class and, once scored, its difficulty.

    {"file_name": "Bag/00000.png", "label": 1, "class_name": "Bag", "difficulty": 0.25, "score_key": ...}

Any program may have written them, so all is checked: a row names a file below its pool's folder and no other, and a
difficulty is a number in [0, 1].
"""

import json
import math
import os
import sys
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path, PurePath, PureWindowsPath
from types import NoneType
from typing import Any, TypedDict, cast

import numpy as np

METADATA = "metadata.jsonl"
RECORDS = (METADATA, "metadata.csv", "metadata.parquet", "dataset.json")  # of other programs, too
SELECTED = "selected.jsonl"  # instead of METADATA in a set that only lists images of its pool
SCORE_COLUMNS = ("difficulty", "difficulty_by", "score_key", "correct")
TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}  # as tables write them, too


class Row(TypedDict, total=False):
    """Columns of the schema; a row may have more, which are carried along.

    Attributes:
        file_name: path below the pool's folder, with forward slashes.
        label, class_name: the class, as a number and in words.
        target_difficulty: in [0, 1], what the image was steered to; None if it was not.
        difficulty: in [0, 1], as it was measured; None if it was not.
        difficulty_by: measure and classifiers.
        score_key: hash that tells whether a score is still that of this image and these classifiers.
        correct: whether they find no other class as probable as the image's own; None, or none, if it is not known.
        seed: random seed of the image's noise.
        mode: number of the mode that the image was drawn to.
        group: number of the set, among those of its class, that the image was made in.
        source: the image of the pool that an image of a distilled set was.
        bin, rank: of the difficulty scale, and order of the choice, in a distilled set.
    """

    file_name: str
    label: int
    class_name: str
    target_difficulty: float | None
    difficulty: float | None
    difficulty_by: str
    score_key: str
    correct: bool | None
    seed: int
    mode: int
    group: int
    source: str
    bin: int
    rank: int


def finite(text: str) -> float | None:
    """A number as JSON has it: None for one that overflows."""
    number = float(text)
    return number if math.isfinite(number) else None  # such as 1e999


DECODER = json.JSONDecoder(parse_float=finite, parse_constant=lambda name: None)


def read_rows(path: Path, *, growing: bool = False) -> list[Row]:
    """Rows of a JSON-lines file.  NaN and infinities, which JSON lacks, are read as null, wherever they stand.

    Args:
        growing: rows are appended one by one, so that a last line without its newline was cut off by a kill; it is
            left out.

    Raises:
        ValueError: a line is no row; its number is named.
    """
    return _rows_of(path, _row, "file_name, label and class_name", growing=growing)


def _rows_of(path: Path, checked: Callable[[Row], Row], needed: str, *, growing: bool = False) -> list[Row]:
    rows = []
    with path.open("rb") as lines:  # as bytes, since a kill may cut within a letter
        for number, line in enumerate(lines, 1):
            try:
                if line.strip() and (line.endswith(b"\n") or not growing):
                    rows.append(checked(DECODER.decode(line.removeprefix(BOM_UTF8).rstrip(b"\n").decode())))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ValueError(f"line {number} of {path} has no {needed} ({error}); mend or remove it") from error
    return rows


def _row(row: Row) -> Row:
    if not (isinstance(row["file_name"], str) and isinstance(row["class_name"], str)):
        raise TypeError("file_name and class_name must be text")
    label = int(row["label"])
    if float(row["label"]) != label:
        raise ValueError(f"the label {row['label']!r:.40} is no whole number")
    if abs(label) >= 2**63:
        raise ValueError(f"the label {row['label']!r:.40} is a number of more than 64 bits")
    # a decoder makes every word anew, which for a million rows would be half of their memory
    shared = {sys.intern(name): value for name, value in row.items()}
    shared["label"], shared["class_name"] = label, sys.intern(row["class_name"])
    if isinstance(by := row.get("difficulty_by"), str):
        shared["difficulty_by"] = sys.intern(by)
    return cast(Row, shared)


def rows_meant(indices: Any, count: int) -> list[int]:
    """The rows, of so many, that whole numbers name, or a mask with true or false for each row.

    Raises:
        ValueError: they are neither; truths are no row numbers, and fractions would be cut.
    """
    found = np.asarray(indices.tolist() if hasattr(indices, "tolist") else list(indices))
    if found.dtype == bool and found.shape == (count,):
        return np.flatnonzero(found).tolist()
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iu"):
        raise ValueError(
            f"indices of the shape {found.shape} and kind {found.dtype} choose no rows; give whole numbers, or a mask "
            f"of {count} times true or false"
        )
    return found.astype(int).tolist()


def _score(row: Row) -> Row:
    if not isinstance(row["file_name"], str):
        raise TypeError("file_name must be text")
    return row


def with_columns(row: Row, columns: Mapping[str, Any]) -> Row:
    """A row with further columns, or with other values in those that it has."""
    return cast(Row, {**row, **columns})


def for_loaders(row: Row) -> Row:
    """The row for a set whose images ``datasets`` calls ``image``: a column of that name gets another."""
    return cast(Row, {"image_column" if name == "image" else name: value for name, value in row.items()})


def require_inside(root: Path, rows: Sequence[Row], source: Path) -> None:
    """Check that each row names a file below ``root`` that exists and that no other row names.

    Raises:
        ValueError: one does not; it is named, with ``source``, the file that the rows are from.
    """
    real = os.path.realpath(root)
    inside: dict[tuple[str, ...], bool] = {}
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        name = PurePath(row["file_name"])  # parts, since Bag/./1.png is Bag/1.png
        file = os.path.join(real, name)
        if _leads_out(real, name, file, inside):
            raise ValueError(
                f"{root / name} leads out of {root}; a row or link that does is refused, so copy the images"
            )
        if name.parts in seen:
            raise ValueError(f"{source} names {str(name)!r} twice; keep one row an image and remove the others")
        if not os.path.isfile(file):
            raise ValueError(
                f"{source} names {str(name)!r}, which does not exist in {root}; {_way_out_of_missing(file)}"
            )
        seen.add(name.parts)


def _way_out_of_missing(file: str) -> str:
    folder, name = os.path.split(file)
    there = os.listdir(folder) if os.path.isdir(folder) else []
    like = next((one for one in sorted(there) if folded_name(one) == folded_name(name)), None)
    if like is None:
        return "remove the row or restore the file"
    if like.casefold() == name.casefold():
        return f"write it {like!r}, as the file is called"
    return f"the file is called {like!a}, the same letters in another Unicode form, so rename it to {name!a}"


def folded_name(name: str) -> str:
    """What two spellings of a file's name share that differ in case or Unicode form alone."""
    return unicodedata.normalize("NFC", name).casefold()


def require_distinct_classes(rows: Sequence[Row], source: Path) -> None:
    """Check that a label has one name, and a class one label, which rows of two pools put together often have not.

    Raises:
        ValueError: a label has two names, or images in one folder have one name and two labels.
    """
    names: dict[int, str] = {}
    labels: dict[tuple[str, str], int] = {}  # a name alone may be that of two classes: ImageNet has two cranes
    for row in rows:
        label, name = row["label"], row["class_name"]
        if names.setdefault(label, name) != name:
            raise ValueError(
                f"{source} calls the label {label} both {names[label]!r} and {name!r}, as rows of two joined pools "
                "do; give each class a label of its own"
            )
        folder = row["file_name"].rpartition("/")[0]
        if folder and labels.setdefault((folder, name), label) != label:
            raise ValueError(
                f"{source} gives {name!r} in {folder} the labels {labels[folder, name]} and {label}, as rows of two "
                "pools put together do; give it one label"
            )


def names_elsewhere(name: PurePath) -> bool:
    """Whether a name alone leads out of its folder, on this system or on another, where a set may be read as well."""
    if name.anchor or ".." in name.parts:  # also one that comes back: a set is written to the names of its rows
        return True
    if "\\" not in str(name) and ":" not in str(name):
        return False
    elsewhere = PureWindowsPath(name)
    return bool(elsewhere.anchor) or ".." in elsewhere.parts


def _leads_out(root: str, name: PurePath, file: str, inside: dict[tuple[str, ...], bool]) -> bool:
    """Whether a file is elsewhere than below ``root``; ``inside`` keeps the answer for each folder, for speed."""
    folder = name.parts[:-1]
    if names_elsewhere(name):
        return True
    if folder not in inside:
        inside[folder] = _is_below(root, os.path.join(root, *folder))
    return not inside[folder] or (os.path.islink(file) and not _is_below(root, file))


def _is_below(root: str, path: str) -> bool:
    try:
        return os.path.commonpath([root, os.path.realpath(path)]) == root
    except ValueError:  # a NUL byte, or half a surrogate: there is no such file; or another drive
        return "\0" in path


def with_scores(rows: Sequence[Row], scores: Path, pool: Path) -> list[Row]:
    """Rows of a pool with the score columns of another file, joined by file name; those they had are left out.

    Scores of another program need a file name and a difficulty alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it lacks one of the images or calls its class otherwise, so that it belongs to another pool.
    """
    if not scores.is_file():
        raise FileNotFoundError(
            f"there is no file of scores at {scores}; write it by score_and_record() with destination={str(scores)!r}"
        )
    found = {row["file_name"]: row for row in _rows_of(scores, _score, "file_name")}
    joined = []
    for row in rows:
        name, scored = row["file_name"], found.get(row["file_name"])
        if scored is None:
            raise ValueError(f"{scores} lacks {name} of {pool}; score the pool again, or give the scores of this pool")
        if scored.get("class_name") not in (None, row["class_name"]):
            raise ValueError(
                f"{scores} belongs to another pool: {name} is of the class {scored['class_name']} there and of "
                f"{row['class_name']} in {pool}; give the scores of this pool"
            )
        asked = [column for column in SCORE_COLUMNS if column != "correct" or column in row or column in scored]
        joined.append(with_columns(row, {column: scored.get(column) for column in asked}))
    return joined


def difficulties_of(rows: Sequence[Row], pool: Path) -> np.ndarray:
    """``(rows,)`` float64 in [0, 1], NaN where there is no difficulty yet.

    Raises:
        ValueError: a difficulty is something else than a number from 0 to 1; file and value are named.
    """
    found = [row.get("difficulty") for row in rows]
    plain = set(map(type, found)) <= {float, NoneType}  # a million rows: look for the culprit only if there may be one
    values = np.array(found, np.float64) if plain else None
    if values is None or bool(((values < 0) | (values > 1)).any()):
        for row, value in zip(rows, found, strict=True):
            if not _is_difficulty(value):
                raise ValueError(
                    f"{pool / row['file_name']} has the difficulty {value!r:.40}; it must be a number from 0 to 1, so "
                    "score it again or mend its row"
                )
    return np.array(found, np.float64) if values is None else values


def correct_in(row: Row, pool: Path) -> bool | None:
    """Whether the classifiers get an image right, as its row says it: true and false, in words too, or 1 and 0.

    Returns:
        None where the row does not say it.

    Raises:
        ValueError: it says something else; file and value are named.
    """
    value: Any = row.get("correct")
    if value is None or value == "" or value != value:
        return None
    if (found := TRUTHS.get(str(value).strip().casefold())) is None:
        raise ValueError(
            f"{pool / row['file_name']} has {value!r:.40} in its column correct; it must be true or false, so score it "
            "again or mend its row"
        )
    return found


def _is_difficulty(value: Any) -> bool:
    if value is None:
        return True
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and bool(value != value or 0 <= value <= 1)
