"""Images in a table: a ``datasets.Dataset``, its folder on disk or a parquet file.

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

CANNOT_READ = (OSError, ValueError, KeyError, NotImplementedError)  # of pyarrow and datasets, for a file that is broken


def read_table(source: Path | Dataset) -> tuple[Path, list[Row], Sequence[bytes]]:
    """Path, metadata rows and encoded images of a dataset.

    Args:
        source: a parquet file, written by ``datasets`` or with the columns ``image`` and ``label``; a folder of
            ``Dataset.save_to_disk``; or a ``datasets.Dataset``, for whose path its fingerprint stands.

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
    if (source / "dataset_dict.json").exists():
        splits = sorted(path.parent.name for path in source.glob("*/dataset_info.json"))
        raise _several_splits(str(source), splits, f"{source}/{{}}")
    return source, *(_of_folder(source) if source.is_dir() else _of_parquet(source))


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


def _of_parquet(path: Path) -> tuple[list[Row], Sequence[bytes]]:
    try:
        file = ParquetFile(path, memory_map=True)
        features = Features.from_arrow_schema(file.schema_arrow)
        table = file.read(columns=_plain_columns(features))  # not Dataset.from_parquet, which fills a cache at home
    except CANNOT_READ as error:
        raise _broken(path, error) from error
    image, label = _columns_of(features, str(path))
    return _rows_of(table, features[label], label, str(path)), _ParquetImages(file, image)


def _of_dataset(dataset: Dataset, name: str, *, follow_paths: bool) -> tuple[list[Row], Sequence[bytes]]:
    image, label = _columns_of(dataset.features, name)
    table = dataset.select_columns(_plain_columns(dataset.features)).with_format("arrow")[:]
    images = _DatasetImages(dataset, image, follow_paths=follow_paths)
    return _rows_of(table, dataset.features[label], label, name), images


def _columns_of(features: Features, name: str) -> tuple[str, str]:
    """The column of images and that of labels, by their types; by their names in a file without features."""
    types = features.arrow_schema
    images = [column for column, kind in features.items() if isinstance(kind, ImageFeature)]
    labels = [column for column, kind in features.items() if isinstance(kind, ClassLabel)]
    if not images and "image" in features and _holds_bytes(types.field("image").type):
        images = ["image"]
    if not labels and "label" in features and pa.types.is_integer(types.field("label").type):
        labels = ["label"]
    return _the_one(images, "Image", features, name), _the_one(labels, "ClassLabel", features, name)


def _holds_bytes(kind: pa.DataType) -> bool:
    kind = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _the_one(found: Sequence[str], kind: str, features: Features, name: str) -> str:
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{name} has several {kind} columns, {', '.join(found)}; keep one, by dataset.remove_columns([...])"
        )
    columns = ", ".join(f"{column} ({getattr(of, 'dtype', None) or of})" for column, of in features.items())
    way = "class_encode_column('label')" if kind == "ClassLabel" else "cast_column('image', datasets.Image())"
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
    lowest, highest = pc.min_max(coded).as_py().values()
    if coded.null_count or lowest < 0 or (names and highest >= len(names)):
        raise ValueError(
            f"the column {label} of {name} must hold class labels from 0 on, but has missing ones, or others; "
            "remove the rows without a class"
        )
    labels = coded.to_pylist()
    columns = {column: _finite(table[column]).to_pylist() for column in table.column_names if column != label}
    own = columns.get("class_name") or [None]
    if names is None and all(isinstance(one, str) for one in own):  # a set of ours that went through `datasets`
        named = own
    else:
        named = [names[i] if names else str(i) for i in labels]
    folders = folder_names(dict(zip(labels, named, strict=True)))
    # no suffix, as no such file exists yet; the names that a table gives its images may repeat, or point anywhere
    files = [f"{folders[of]}/{i:06d}" for i, of in enumerate(labels)]
    columns = {"file_name": files, "label": labels, "class_name": named} | {
        column: values for column, values in columns.items() if column not in ("file_name", "label", "class_name")
    }
    return [cast(Row, dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def _finite(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Missing numbers as pandas writes them, and infinities, as null; JSON has none."""
    return pc.if_else(pc.is_finite(column), column, None) if pa.types.is_floating(column.type) else column


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

    def __init__(self, file: ParquetFile, column: str) -> None:
        self._file, self._column, self._lock = file, column, Lock()
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        self._starts = list(accumulate(sizes, initial=0))
        self._held: dict[int, pa.ChunkedArray] = {}

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
        return _bytes_of(entry, index, follow_paths=False)


def _bytes_of(entry: Mapping[str, Any] | bytes | None, index: int, *, follow_paths: bool) -> bytes:
    if isinstance(entry, bytes):
        return entry
    if entry and entry["bytes"] is not None:
        return entry["bytes"]
    path = entry and entry.get("path")
    if path and follow_paths:
        return Path(path).read_bytes()
    if path:  # a file from elsewhere must not turn other files of this machine into a set, which is published
        raise FileNotFoundError(
            f"row {index} has no bytes, only the path {os.fspath(path)!r}, which is not followed from a file; "
            "read the dataset yourself and give it as datasets.Dataset"
        )
    raise FileNotFoundError(f"row {index} has no image")


def _several_splits(name: str, splits: Iterable[str], way: str) -> ValueError:
    splits = list(splits)
    example = way.format(splits[0] if splits else "train")
    return ValueError(f"{name} has the splits {', '.join(splits)}; give one of them, such as {example}")


def _broken(path: Path, error: Exception) -> ValueError:
    reason = str(error).strip().split("\n")[0]
    return ValueError(f"{path} cannot be read as a dataset of images: {reason}")
