"""Splits of a data set, so that no image to test on is taken for one to train on.

    train/0.png + test/0.png in one metadata.jsonl        file,label,split        path,label,is_valid

A folder is told by its name, a row by its folder or by a column; rows of several splits are refused.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

SPLIT = re.compile(
    r"(train|training|val|valid|validation|test|testing|dev|eval|evaluation)[-_ .]?(set|data|images|mini|[0-9]+)?", re.I
)
COLUMNS = ("split", "subset", "set", "partition", "data set", "data_set")
FLAGS = ("is_train", "is_training", "is_training_img", "is_val", "is_valid", "is_test")
YES, NO = {"true", "1", "1.0"}, {"false", "0", "0.0"}
MEANT = {"train": "train", "val": "validation", "dev": "validation", "test": "test", "eval": "test"}


def split_of(name: str) -> str | None:
    """``train``, ``validation`` or ``test`` of the name of a folder or split, such as val2017; None for other names."""
    found = SPLIT.fullmatch(name.strip())
    return next(split for start, split in MEANT.items() if found[1].lower().startswith(start)) if found else None


def splits_among(names: Iterable[str]) -> dict[str, str]:
    """Name to split, of the names that are one; or of all, if they come in pairs such as ``cars_train, cars_test``.

    ``bullet train`` and ``steam train`` are no pair.
    """
    names = list(names)
    told = {name: found for name in names if (found := split_within(name))}
    pairs = defaultdict(set)
    for split, others in told.values():
        pairs[others].add(split)
    if len(told) == len(names) and all("train" in splits and len(splits) > 1 for splits in pairs.values()):
        return {name: split for name, (split, _) in told.items()}
    return {name: one for name in names if (one := split_of(name))}


def split_within(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The split that one word of a name tells, and its other words without numbers; None for no such word or several.

    ISIC_2019_Training_Input is told to be train of (isic, input).
    """
    words = re.findall(r"[^\W\d_]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).casefold())
    splits = [split for word in words if (split := split_of(word))]
    return (splits[0], tuple(word for word in words if not split_of(word))) if len(splits) == 1 else None


def require_one_split(rows: Sequence[Mapping[str, Any]], source: Path) -> None:
    """Refuse rows of images to train on and to test on, by folders or by a column that tells it.

    Folders that have a class each, however they are called, are classes.

    Raises:
        ValueError: the rows are of several splits.
    """
    labels: dict[str, set[int]] = {}
    for row in rows:
        folder, inside, _ = row["file_name"].partition("/")
        if not inside or (folder not in labels and split_within(folder) is None):
            break
        labels.setdefault(folder, set()).add(row["label"])
    else:
        if any(len(found) > 1 for found in labels.values()) or len(set().union(*labels.values())) < len(labels):
            require_one_split_of(labels, source)
    for column in sorted(set().union(*rows)):
        require_one_split_in(column, (row.get(column) for row in rows), source)


def only_split(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The split that holds the class folders of all rows, as ``train`` of train/CLASS/IMAGE; None without one."""
    found = {row["file_name"].split("/")[0] if row["file_name"].count("/") > 1 else "" for row in rows}
    return split_of(found.pop()) if len(found) == 1 else None


def require_one_split_of(folders: Iterable[str], source: Path) -> None:
    """Refuse folders of images whose classes stand elsewhere if they are several splits, and nothing else.

    Raises:
        ValueError: they are.
    """
    names = sorted(folders)
    splits = splits_among(names)
    if len(splits) == len(names):
        _require_one(splits.values(), source, f"the folders {', '.join(names)}")


def require_one_split_in(column: str, values: Iterable[Any], source: Path) -> None:
    """Refuse the values of a column if it tells several splits; of other columns nothing is asked.

    Raises:
        ValueError: it does.
    """
    name = column.strip().casefold()
    if name not in (*COLUMNS, *FLAGS):
        return
    texts = {str(value).strip().casefold() for value in values}
    if name in COLUMNS:
        _require_one(map(split_of, texts), source, f"the column {column.strip()}")
    if name in FLAGS and texts & YES and texts & NO:
        _require_one(("train", "test"), source, f"the column {column.strip()}")


def _require_one(splits: Iterable[str | None], source: Path, where: str) -> None:
    found = sorted({split for split in splits if split})
    if len(found) > 1:
        raise ValueError(
            f"{source} lists images of {' and '.join(found)} together, by {where}; keep the rows and images of one of "
            "them"
        )
