"""Rows that another program wrote beside its images, as ``load_dataset("imagefolder")`` reads them.

    metadata.csv | metadata.parquet | metadata.jsonl        file_name, and label or class_name, a number or a word,
                                                            or one column called so, such as category
    dataset.json                                            {"labels": [["00000/img00000000.png", 6], ...]}

A file without either has the classes of its folders; those of dataset.json, as StyleGAN and EDM write it, are shards.
"""

import codecs
import csv
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, cast

from dag_diffusion.data.files import recorded
from dag_diffusion.data.rows import DECODER, METADATA, RECORDS, Row, finite, read_rows

from .folders import CONTAINERS, labels_by_name
from .image_lists import MOST_OF_HEADER, are_one_to_one, varies_within
from .naming import CLASS_COLUMNS
from .separated import NUMBER, fields_of, numbers_with_commas, other_encoding, separators_in, text_of
from .splits import require_one_split_in

logger = logging.getLogger(__name__)
LABELS = "dataset.json"
OWN = ("file_name", "label", "class_name")
DIFFICULTIES = ("difficulty", "target_difficulty")
NOT_FINITE = {sign + word for sign in ("", "-", "+") for word in ("nan", "inf", "infinity")}
CODE = re.compile(r"[-+]?(0\d|\d{19})")  # leading zeros count in it, or it is no number of 64 bits
DIGITS = 18  # of a label at the most; longer ones are names, and no number of 64 bits
WHOLE = re.compile(r"([0-9]+)(\.0*)?")  # 1.0 is how pandas writes 1 where another row has no number


def records_file(path: Path) -> Path | None:
    """The file of a folder whose rows are another program's."""
    return next((path / name for name in RECORDS if (path / name).is_file() and _tells_classes(path / name)), None)


def _tells_classes(file: Path) -> bool:
    """Whether a file is what its name says; other programs write a dataset.json or a metadata.csv of other things.

    A metadata.csv whose first line has no file_name may be a list of images.
    """
    if file.suffix == ".csv":
        return may_have_file_names(file)
    if file.name != LABELS:
        return True
    try:
        found = json.loads(file.read_bytes())
    except ValueError:
        return False
    return isinstance(found, dict) and isinstance(found.get("labels", 0), list | None)


def may_have_file_names(file: Path) -> bool:
    """Whether the first line of a table has a column called file_name."""
    try:
        separators, text = separators_in(text_of(file, MOST_OF_HEADER))
    except UnicodeDecodeError:
        return True  # which is told where it is read
    header = text.partition("\n")[0].strip()
    return not header or any(OWN[0] in names for names in _names_by_separator(header, [*separators, ","]).values())


def _names_by_separator(header: str, separators: Sequence[str]) -> dict[str, list[str]]:
    return {one: [name.strip().casefold() for name in fields_of(header, one)] for one in separators}


def is_of_another_program(file: Path) -> bool:
    """Whether a JSON-lines file that is none of ours has rows all the same, which lack a number or a name alike.

    Where some rows have both, the others are broken rows of ours.
    """
    data = file.read_bytes().removeprefix(codecs.BOM_UTF8)
    if b'"class_name"' not in data and data.lstrip().startswith(b'{"file_name"'):
        return True
    try:
        rows = [*_records(file)]
    except (ValueError, TypeError, RecursionError):
        return False
    named = ["file_name" in row for row in rows]
    return all(named) == any(named or [True]) and all(
        "class_name" not in row or isinstance(row.get("label"), str | None) for row in rows
    )


def rows_in(file: Path) -> list[Row]:
    """Rows as ours are, or those of another program, none of which has a label and a class_name.

    Raises:
        ValueError: a line is no row; its number is named.
    """
    if file.name in RECORDS and file.name != METADATA:
        return rows_of_records(file)
    try:
        return read_rows(file)
    except ValueError:
        if not is_of_another_program(file):
            raise
        return rows_of_records(file)


def rows_of_records(file: Path) -> list[Row]:
    """Rows with labels and class names, the other columns as they are, but for what JSON lacks, such as NaN.

    Raises:
        ValueError: the file is broken, names no files, or nothing tells the classes.
    """
    if file.name == LABELS:
        return _rows_of_labels(file)
    try:
        records = list(_records(file))
        names = [str(PurePosixPath(str(record["file_name"]))) for record in records]
    except UnicodeDecodeError as error:
        raise other_encoding(file) from error
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(
            f"{file} has no rows with a file_name ({error!r:.60}); call the column of names so, or mend or remove it"
        ) from error
    classes = _classes(file, records, names)
    others = [{key: value for key, value in record.items() if key not in OWN} for record in records]
    return [
        cast(Row, {"file_name": name, "label": label, "class_name": called, **other})
        for name, (label, called), other in zip(names, classes, others, strict=True)
    ]


def require_agreeing(rows: Sequence[Row], source: Path) -> None:
    """Check rows against another file of rows beside theirs, which may say what theirs does not, such as the split.

    Raises:
        ValueError: it divides these images into other classes, or into several splits.
    """
    known = {row["file_name"]: row["class_name"] for row in rows}
    for other in (source.with_name(name) for name in RECORDS if name not in (source.name, METADATA, LABELS)):
        told: list[tuple[str, Mapping[str, Any]]] = []
        with suppress(OSError, ValueError, TypeError, csv.Error):  # of another program, which names no images
            named = [(str(PurePosixPath(str(one.get("file_name")))), one) for one in _records(other)]
            told = [(known[name], one) for name, one in named if name in known]
        for column in ("label", "class_name"):
            pairs = [(ours, str(one[column]).strip()) for ours, one in told if one.get(column) not in (None, "")]
            if not are_one_to_one(pairs):
                raise ValueError(
                    f"{source} and {other.name} beside it divide the images into other classes; keep the one that is "
                    "right"
                )
        for column in sorted(set().union(*(one for _, one in told))):
            require_one_split_in(column, (one.get(column) for _, one in told), other)


def _rows_of_labels(file: Path) -> list[Row]:
    """Rows of a dataset.json, whose classes are numbers alone."""
    labels = json.loads(file.read_bytes())["labels"] or []
    for one in labels:
        if not (isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) and _number(one[1]) is not None):
            raise ValueError(
                f'{file} has the label {one!r:.60}, which is no class; expected ["00000/img00000000.png", 6], with a '
                "whole number from 0 on"
            )
    if not labels:
        raise ValueError(
            f"{file} has no labels, as of images without classes, and the folders beside it are shards; list the "
            f"classes in {file.parent / METADATA}"
        )
    numbered = [(name, _number(label) or 0) for name, label in labels]
    return [{"file_name": name, "label": label, "class_name": str(label)} for name, label in numbered]


def _records(file: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a file, with the columns that are ours under our names: ``label`` for `` Label``."""
    names: dict[str, str] = {}
    for record in _written_records(file):
        if not isinstance(record, dict):
            raise TypeError(f"a {type(record).__name__} stands for a row")
        if record.keys() != names.keys():
            names = {name: _own_name(name, record) for name in record}
        yield {names[name]: value for name, value in record.items()}


def _own_name(name: str, record: Mapping[str, Any]) -> str:
    bare = name.strip()
    own = bare.casefold() if bare.casefold() in OWN else bare
    return name if own in record else own


def _written_records(file: Path) -> Iterator[Any]:
    if file.suffix == ".csv":
        yield from _separated_records(file)
    elif file.suffix == ".parquet":
        from pyarrow.parquet import ParquetFile

        records = ParquetFile(file).read().to_pylist()
        yield from (DECODER.decode(json.dumps(record, default=recorded)) for record in records)
    else:
        yield from (DECODER.decode(line) for line in file.read_text("utf-8-sig").split("\n") if line.strip())


def _separated_records(file: Path) -> Iterator[Mapping[str, Any]]:
    separators, text = separators_in(text_of(file))
    header = text.partition("\n")[0].strip("\r")
    names = _names_by_separator(header, separators)
    separator = next((one for one in separators if OWN[0] in names[one]), ",")
    records = [*csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)]
    columns = {key: [record[key] for record in records] for key in records[0] if key} if records else {}
    for key, values in columns.items():
        if key.strip().casefold() not in OWN:
            comma = numbers_with_commas(values, separator)
            columns[key] = _values(key, [value.replace(",", ".") if comma and value else value for value in values])
    yield from (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))


def _values(key: str, values: Sequence[str | None]) -> list[float | str | None]:
    """A column of a CSV: numbers, if nothing else stands in it; what JSON lacks, and nothing, as None; else the texts.

    A difficulty is a number or is refused, so that its column need not be one of numbers alone.
    """
    written = [value.strip() for value in values if value and value.strip()]
    known = (NUMBER.fullmatch(value) or value.casefold() in NOT_FINITE for value in written)
    if key.strip() not in DIFFICULTIES and (any(map(CODE.match, written)) or not all(known)):
        return [value or None for value in values]
    return [_value((value or "").strip()) for value in values]


def _value(text: str) -> float | str | None:
    if text.casefold() in NOT_FINITE:
        return None
    if not NUMBER.fullmatch(text):
        return text or None
    return int(text) if text.lstrip("+-").isdecimal() else finite(text)


def _classes(file: Path, records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[tuple[int, str]]:
    told, called = ([record.get(column) for record in records] for column in ("label", "class_name"))
    told, called = ([one.strip() if isinstance(one, str) else one for one in column] for column in (told, called))
    folders = [PurePosixPath(name).parts[0] if "/" in name else None for name in names]
    if all(str(folder).casefold() in CONTAINERS for folder in folders):
        folders = [None]  # of images of every class
    if all(one in (None, "") for one in (*told, *called)):
        told = _told_otherwise(file, records, folders) or told
    numbers = [_number(one) for one in told]
    if all(number is not None for number in numbers):
        words = folders if _one_to_one(numbers, folders) else [str(number) for number in numbers]
        if any(called):  # two names of one label are refused by require_distinct_classes
            words = called
            _require_all(file, "class_name", names, words)
        return [(int(number or 0), str(word)) for number, word in zip(numbers, words, strict=True)]
    for column, words in (("class_name", called), ("label", told), (None, folders)):
        if column and any(word not in (None, "") for word in words):  # never folders instead of what some rows lack
            _require_all(file, column, names, words)
        if all(isinstance(word, str) and word.strip() for word in words):
            by_name = labels_by_name({str(word) for word in words})
            return [(by_name[str(word)], str(word)) for word in words]
    lacking = next((name for name, one in zip(names, told, strict=True) if one in (None, "")), names[:1])
    raise ValueError(f"{file} tells no class of {lacking}; give every row a label, a number from 0 on or a name")


def _told_otherwise(file: Path, records: Sequence[Mapping[str, Any]], folders: Sequence[str | None]) -> list[Any]:
    """Values of the one column that is called as classes are in lists; empty without one, or where the folders tell.

    Beside several folders a column that has one value in each may be of larger classes, and lists may be tags.

    Raises:
        ValueError: there are several, or one that divides the images of a folder.
    """
    columns = dict.fromkeys(name for record in records for name, value in record.items() if value not in (None, ""))
    told = {name: [one.get(name) for one in records] for name in columns if name.casefold() in CLASS_COLUMNS}
    found = [*told]
    if all(folders) and len(set(folders)) > 1:
        told = {name: values for name, values in told.items() if not any(isinstance(v, list | dict) for v in values)}
        agreeing = [values for values in told.values() if _one_to_one([*map(str, values)], folders)]
        if agreeing or not told:
            return agreeing[0] if len(agreeing) == 1 else []
        pairs = {name: [*zip(folders, values, strict=True)] for name, values in told.items()}
        found = [name for name in told if varies_within(pair for pair in pairs[name] if pair[1] not in (None, ""))]
        if not found:
            logger.warning(
                "the classes of %s are its folders, of which each has one %s; call that column label if it has the "
                "classes", file, " and one ".join(told),
            )  # fmt: skip
            return []
        found.append("folders")
    if len(found) > 1:
        raise ValueError(
            f"{file} may tell classes by {' or by '.join(found)}; call the column that does label, or remove it if the "
            "folders do"
        )
    return [value for values in told.values() for value in values]


def _require_all(file: Path, column: str, names: Sequence[str], words: Sequence[Any]) -> None:
    """Check that a column that tells the classes of some images tells, in words, those of all."""
    wrong = [pair for pair in zip(names, words, strict=True) if not (isinstance(pair[1], str) and pair[1])]
    if wrong:
        # numbers are wrong beside words alone
        name, word = next((pair for pair in wrong if _number(pair[1]) is None), wrong[0])
        raise ValueError(
            f"{file} gives {name} the {column} {word!r:.40}; give every row a name, or a whole number from 0 on as its "
            "label, or remove the row"
        )


def _number(value: Any) -> int | None:
    if isinstance(value, str):
        written = WHOLE.fullmatch(value.strip())
        return int(written[1]) if written and len(written[1]) <= DIGITS else None
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    return int(value) if whole and 0 <= value < 10**DIGITS else None


def _one_to_one(told: Sequence[int | str | None], words: Sequence[Any]) -> bool:
    """Whether each number has one word and each word one number."""
    named = all(isinstance(word, str) and word.strip() for word in words)
    return named and are_one_to_one(zip(told, words, strict=True))
