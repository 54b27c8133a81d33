"""Images in a table: a ``datasets.Dataset``, its folder on disk, parquet files as on the Hub, or tars of webdataset.

    column of images -> bytes of one file when asked for        other columns -> one metadata row for each image

No image is decoded, and only what is asked for is read, so that a table may be larger than the memory.
"""

import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from pyarrow.parquet import ParquetFile

from .class_names import folder_names
from .files import read_json_object
from .rows import Row
from .sources.folders import labels_by_name
from .sources.shards import TAR, shards_of
from .sources.tars import read_tars

IMAGES, LABELS = ("image", "img", "picture"), ("label", "labels", "class", "class_name", "category")  # of no type

CANNOT_READ = (OSError, ValueError, KeyError, NotImplementedError)  # of pyarrow and datasets, for a file that is broken


def read_table(source: Path | Dataset) -> tuple[Path, list[Row], Sequence[bytes]]:
    """Path, metadata rows and encoded images of a dataset.

    Args:
        source: parquet files or tars, see ``sources.shards``, with the columns ``image`` and ``label``, a number or
            a name, or such as ``datasets`` writes; a folder of ``Dataset.save_to_disk``; or a ``datasets.Dataset``, for
            whose path its fingerprint stands.

    Raises:
        ValueError: it is none of them, is broken or has several splits, or its columns do not tell images and labels.
    """
    if isinstance(source, DatasetDict):
        raise _several_splits("the DatasetDict", source, "dataset[{!r}]")
    if isinstance(source, Dataset):
        return Path(f"Dataset-{source._fingerprint}"), *_of_dataset(source, "the dataset", follow_paths=True)
    if not isinstance(source, Path):
        raise ValueError(
            f"a pool cannot be read from a {type(source).__name__}; give a path, or a datasets.Dataset, not streamed"
        )
    if (shards := shards_of(source)) is not None:
        return source, *(_of_tars(shards) if shards[0].suffix.lower() == TAR else _of_parquet(shards, source))
    if (source / "dataset_dict.json").exists():
        splits = sorted(path.parent.name for path in source.glob("*/dataset_info.json"))
        raise _several_splits(str(source), splits, f"{source}/{{}}")
    return source, *_of_folder(source)


def _of_folder(folder: Path) -> tuple[list[Row], Sequence[bytes]]:
    _require_own_files(folder)
    try:
        dataset = Dataset.load_from_disk(str(folder))
    except CANNOT_READ as error:
        raise _broken(folder, error) from error
    return _of_dataset(dataset, str(folder), follow_paths=False)


def _require_own_files(folder: Path) -> None:
    """Check that ``state.json`` names tables of its own folder: a set is published, and other files must not be."""
    try:
        named = [str(entry["filename"]) for entry in read_json_object(folder / "state.json")["_data_files"]]
    except (OSError, KeyError, TypeError) as error:
        raise _broken(folder, error) from error
    root = folder.resolve()
    if outside := [name for name in named if (folder / name).resolve().parent != root]:
        raise ValueError(f"{folder / 'state.json'} names {outside[0]!r}, which leads out of {folder}; copy it there")


def _of_parquet(paths: Sequence[Path], source: Path) -> tuple[list[Row], Sequence[bytes]]:
    tables: list[pa.Table] = []
    files: list[_ParquetImages] = []
    known: tuple[str, str, Any] | None = None
    for path in paths:
        try:
            file = ParquetFile(path, memory_map=True)
            features = Features.from_arrow_schema(file.schema_arrow)
            # not Dataset.from_parquet, which fills a cache at home
            table = _decoded(file.read(columns=_plain_columns(features)))
        except CANNOT_READ as error:
            raise _broken(path, error) from error
        image, label = _columns_of(features, str(path))
        found = image, label, features[label]
        if found != (known or found):
            raise ValueError(f"{path} has other columns or classes than {paths[0]}; give files of one data set")
        known = found
        tables.append(table)
        files.append(_ParquetImages(path, image))
    assert known is not None  # shards_of gives at least one file
    try:
        table = pa.concat_tables(tables, promote_options="permissive")  # whole numbers here may be fractions there
    except (*CANNOT_READ, TypeError) as error:
        raise _broken(source, error) from error
    rows = _rows_of(table, known[2], known[1], str(source))
    return rows, files[0] if len(files) == 1 else _Joined(files)


def _decoded(table: pa.Table) -> pa.Table:
    """Categories, as pandas writes them, as the texts that they stand for."""
    for place, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table[place].cast(field.type.value_type))
    return table


def _of_tars(paths: Sequence[Path]) -> tuple[list[Row], Sequence[bytes]]:
    classes, images = read_tars(paths)
    numbered = all(number is not None for number, _ in classes)
    by_name = labels_by_name({name for _, name in classes})
    labels = [number if numbered and number is not None else by_name[name] for number, name in classes]
    return _placed(labels, [name for _, name in classes], {}), images


def _of_dataset(dataset: Dataset, name: str, *, follow_paths: bool) -> tuple[list[Row], Sequence[bytes]]:
    image, label = _columns_of(dataset.features, name)
    table = dataset.select_columns(_plain_columns(dataset.features)).with_format("arrow")[:]
    images = _DatasetImages(dataset, image, follow_paths=follow_paths)
    return _rows_of(table, dataset.features[label], label, name), images


def _columns_of(features: Features, name: str) -> tuple[str, str]:
    """The column of images and that of labels, by their types; of several, or of none, by their names."""
    types = features.arrow_schema
    images = [column for column, kind in features.items() if isinstance(kind, ImageFeature)]
    labels = [column for column, kind in features.items() if isinstance(kind, ClassLabel)]
    if not images:
        images = [column for column in IMAGES if column in features and _holds_bytes(types.field(column).type)][:1]
    if not labels:
        labels = [column for column in LABELS if column in features and _tells_class(types.field(column).type)][:1]
    return _the_one(images, "image", features, name), _the_one(labels, "label", features, name)


def _tells_class(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _holds_bytes(kind: pa.DataType) -> bool:
    kind = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _the_one(found: Sequence[str], called: str, features: Features, name: str) -> str:
    kind = {"image": "Image", "label": "ClassLabel"}[called]
    if len(found) == 1 or called in found:  # such as label beside domain
        return called if called in found else found[0]
    if found:
        raise ValueError(
            f"{name} has several {kind} columns, {', '.join(found)}; keep one, by dataset.remove_columns([...]), or "
            f"call it {called}"
        )
    columns = ", ".join(f"{column} ({getattr(of, 'dtype', None) or of})" for column, of in features.items())
    way = "cast_column('image', datasets.Image())"
    if kind == "ClassLabel":
        if many := [column for column, of in features.items() if isinstance(getattr(of, "feature", None), ClassLabel)]:
            raise ValueError(
                f"the column {many[0]} of {name} has several classes for each image, which is not supported; make a "
                "ClassLabel column of the one that counts"
            )
        # not class_encode_column, which sorts numbers as texts, so that from 11 classes on they change
        named = "cast_column('label', datasets.ClassLabel(names=[...]))"
        way = named if "label" in features else "rename_column(..., 'label')"
    raise ValueError(f"{name} has no {kind} column, but {columns}; make one, for instance by dataset.{way}")


def _plain_columns(features: Features) -> list[str]:
    """Columns of what a JSON row can hold; dates, lists and bytes are left out."""
    is_text = pa.types.is_string, pa.types.is_large_string
    is_plain = pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, *is_text
    return [
        field.name
        for field in features.arrow_schema
        if isinstance(features[field.name], Value | ClassLabel) and any(holds(field.type) for holds in is_plain)
    ]


def _rows_of(table: pa.Table, kind: Any, label: str, name: str) -> list[Row]:
    if len(table) == 0:
        raise ValueError(f"{name} holds no images; give a dataset with at least one row")
    coded, names = table[label], getattr(kind, "names", None)
    if pa.types.is_string(coded.type) or pa.types.is_large_string(coded.type):
        named = coded.to_pylist()
        if any(not (one and one.strip()) for one in named):
            raise ValueError(f"the column {label} of {name} lacks the class of some images; remove those rows")
        by_name = labels_by_name(set(named))
        return _placed([by_name[one] for one in named], named, _others(table, label))
    lowest, highest = pc.min_max(coded).as_py().values()
    if coded.null_count or lowest < 0 or (names and highest >= len(names)):
        raise ValueError(
            f"the column {label} of {name} must hold class labels from 0 on, but has missing ones, or others; "
            "remove the rows without a class"
        )
    labels, columns = coded.to_pylist(), _others(table, label)
    own = columns.get("class_name") or [None]
    if names is None and any(own) and not all(own):
        raise ValueError(f"the column class_name of {name} lacks the class of some images; fill it, or remove it")
    if names is None and all(isinstance(one, str) for one in own):  # a set of ours that went through `datasets`
        named = own
    else:
        named = [names[i] if names else str(i) for i in labels]
    return _placed(labels, named, columns)


def _others(table: pa.Table, label: str) -> dict[str, list]:
    return {column: _finite(table[column]).to_pylist() for column in table.column_names if column != label}


def _placed(labels: Sequence[int], named: Sequence[str], columns: Mapping[str, list]) -> list[Row]:
    """Rows of images that are in no files yet: names without suffix, since those of a table may point anywhere."""
    folders = folder_names(dict(zip(labels, named, strict=True)))
    files = [f"{folders[of]}/{i:06d}" for i, of in enumerate(labels)]
    every: dict[str, Sequence[Any]] = {"file_name": files, "label": labels, "class_name": named}
    every |= {column: values for column, values in columns.items() if column not in every}
    return [cast(Row, dict(zip(every, values, strict=True))) for values in zip(*every.values(), strict=True)]


def _finite(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Missing numbers as pandas writes them, and infinities, as null; JSON has none."""
    return pc.if_else(pc.is_finite(column), column, None) if pa.types.is_floating(column.type) else column


class _Joined(Sequence[bytes]):
    """Images of several files, one after the other."""

    def __init__(self, files: Sequence[Sequence[bytes]]) -> None:
        self._files = files
        self._starts = list(accumulate(map(len, files), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override] # slices are not needed
        place = range(len(self))[index]
        file = bisect_right(self._starts, place) - 1
        return self._files[file][place - self._starts[file]]


class _DatasetImages(Sequence[bytes]):
    """Encoded images of a dataset, each read from the memory-mapped table, or from its file, when asked for."""

    def __init__(self, dataset: Dataset, column: str, *, follow_paths: bool) -> None:
        images = dataset.select_columns([column]).with_format(None)
        if isinstance(dataset.features[column], ImageFeature):
            images = images.cast_column(column, ImageFeature(decode=False))
        self._images, self._column, self._follow_paths = images, column, follow_paths

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override] # slices are not needed
        return _bytes_of(self._images[index][self._column], index, follow_paths=self._follow_paths)


class _ParquetImages(Sequence[bytes]):
    """Encoded images of a parquet file, two row groups in memory at a time; threads may ask for them.

    Two, since threads that read in order are on both sides of a boundary for a while.
    """

    def __init__(self, path: Path, column: str) -> None:
        self._path, self._column, self._lock = path, column, Lock()
        self._file = file = ParquetFile(path, memory_map=True)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        self._starts = list(accumulate(sizes, initial=0))
        self._held: dict[int, pa.ChunkedArray] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied as the file's name: an open file cannot be, and each process needs its own."""
        return type(self), (self._path, self._column)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override] # slices are not needed
        group = bisect_right(self._starts, range(len(self))[index]) - 1
        with self._lock:
            if group not in self._held:
                if len(self._held) == 2:
                    del self._held[next(iter(self._held))]  # the one that was read first
                self._held[group] = self._file.read_row_group(group, columns=[self._column])[self._column]
            entry = self._held[group][range(len(self))[index] - self._starts[group]].as_py()
        return _bytes_of(entry, index, follow_paths=False, file=f" of {self._path}")


def _bytes_of(entry: Mapping[str, Any] | bytes | None, index: int, *, follow_paths: bool, file: str = "") -> bytes:
    if isinstance(entry, bytes):
        return entry
    if entry and entry["bytes"] is not None:
        return entry["bytes"]
    path = entry and entry.get("path")
    if path and follow_paths:
        return Path(path).read_bytes()
    if path:  # a file from elsewhere must not turn other files of this machine into a set, which is published
        raise FileNotFoundError(
            f"row {index}{file} has no bytes, only the path {os.fspath(path)!r}, which is not followed from a file; "
            "read the dataset yourself and give it as datasets.Dataset"
        )
    raise FileNotFoundError(f"row {index}{file} has no image")


def _several_splits(name: str, splits: Iterable[str], way: str) -> ValueError:
    splits = list(splits)
    example = way.format(splits[0] if splits else "train")
    return ValueError(f"{name} has the splits {', '.join(splits)}; give one of them, such as {example}")


def _broken(path: Path, error: Exception) -> ValueError:
    reason = str(error).strip().split("\n")[0]
    return ValueError(f"{path} cannot be read as a dataset of images: {reason}")
