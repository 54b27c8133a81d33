"""A pool, or a distilled set, on disk: class folders of images, one metadata row an image, and where it came from.

    POOL/0_T-shirt/00000.png ...   POOL/metadata.jsonl   POOL/pool.json   POOL/labels.json   POOL/README.md

The rows make it an ordinary Hugging Face ``imagefolder``.  Labels are read from them, never from the order of folders.
A set may hold ``selected.jsonl`` and no images: its rows are images of the pool that its ``pool.json`` names.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from .canvas import Canvas
from .files import read_json_object, require_no_mount, require_replaceable, write_json
from .imagenet import require_distinct_synsets
from .images import decoded, readable
from .provenance import generation_of
from .rows import (
    METADATA,
    SELECTED,
    Row,
    difficulties_of,
    read_rows,
    require_distinct_classes,
    require_inside,
    rows_meant,
    with_scores,
)
from .sources.folders import rows_of_folder
from .sources.given_lists import is_list, rows_of_list
from .sources.masks import masks_among
from .sources.records import records_file, require_agreeing, rows_in
from .sources.shards import shards_of
from .sources.splits import require_one_split
from .sources.unread_files import refuse_arrays
from .sources.walking import images_in, is_image_name

if TYPE_CHECKING:
    from datasets import Dataset


logger = logging.getLogger(__name__)
PoolSource: TypeAlias = "Pool | str | Path | Dataset"
PROVENANCE = "pool.json"
BLOCK = 2**18  # bytes of a file that are hashed at a time
EARLIER = ".earlier"  # the pool that is being overwritten, until the new one is finished
OWN = (METADATA, SELECTED, PROVENANCE, "labels.json", "README.md")  # files of a pool beside its images
BEGINNINGS = ("soft_labels", "view_labels", "generation")  # of the names of others, labels of teachers and logs
COLUMNS = ("file_name", "label", "class_name", "target_difficulty", "difficulty", "seed")


@dataclass(frozen=True)
class Pool:
    """Images of known class.  ``rows`` follow the schema of ``COLUMNS`` plus whatever else their maker recorded.

    Attributes:
        path: the folder or parquet file that holds the images; for a ``datasets.Dataset`` its fingerprint.
        rows: one dictionary an image, sorted by label and file name, or in the order of a dataset; not to be changed.
        provenance: what ``pool.json`` says; empty for a folder that another program made.
        encoded: the bytes of each image, read when asked for, when they come from a dataset instead of a folder.
        listing: what only lists images, which are in ``path``: the folder of a set, or the file of another program.
        canvas: what the images are laid on, see ``canvas.Canvas``.
    """

    path: Path
    rows: list[Row]
    provenance: dict[str, Any] = field(default_factory=dict)
    encoded: Sequence[bytes] | None = None
    listing: Path | None = None
    canvas: Canvas = field(default_factory=Canvas)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        """In a line: a notebook would print thousands of rows."""
        return f"{type(self).__name__}({str(self.path)!r}, {len(self):,} images of {len(self.class_names)} classes)"

    @cached_property
    def class_names(self) -> dict[int, str]:
        """Label to class name, of the classes that have images."""
        return {row["label"]: row["class_name"] for row in self.rows}

    @cached_property
    def labels(self) -> np.ndarray:
        """``(images,)`` int64."""
        return np.array([row["label"] for row in self.rows], np.int64)

    @cached_property
    def known_difficulties(self) -> np.ndarray:
        """``(images,)`` float64 in [0, 1], NaN for an image without difficulty.

        Raises:
            ValueError: a difficulty is something else than a number from 0 to 1; file and value are named.
        """
        return difficulties_of(self.rows, self.path)

    @cached_property
    def difficulties(self) -> np.ndarray:
        """``(images,)`` float64 in [0, 1].

        Raises:
            ValueError: an image has no difficulty yet, or something else than a number from 0 to 1.
        """
        missing = np.flatnonzero(np.isnan(self.known_difficulties))
        if len(missing):
            place = self.listing or self.path
            raise ValueError(
                f"{len(missing)} of {len(self)} images in {place} have no difficulty (first: "
                f"{self.rows[missing[0]]['file_name']}); run score_and_record() first, "
                "or read its output with scores=FILE"
            )
        return self.known_difficulties

    def select(self, indices: Sequence[int] | np.ndarray) -> "Pool":
        """Some images of the pool, in the order given; read when asked for, as those of the pool are.

        Args:
            indices: rows, or a mask with true or false for each image, such as ``pool.labels == 3``.
        """
        chosen = rows_meant(indices, len(self))
        encoded = None if self.encoded is None else ChosenImages(self.encoded, chosen)
        return replace(self, rows=[self.rows[index] for index in chosen], encoded=encoded)

    def open(self, index: int, before_decoding: Callable[[Image.Image], Any] | None = None) -> Image.Image:
        """The image of one row, decoded, turned upright by its EXIF data, and laid on the canvas of the pool.

        Args:
            before_decoding: called with the image while only its header is read, such as to see how large it is.

        Raises:
            UnreadableImageError: the file is missing, not an image, cut off, or too large to be one; it is named.
        """
        with readable(self.path / self.rows[index]["file_name"]):
            return self.canvas.laid(self.decoded(index, before_decoding))

    def decoded(
        self, index: int, before_decoding: Callable[[Image.Image], Any] | None = None, data: bytes | None = None
    ) -> Image.Image:
        """As ``open``, but as the image is in its file, with its transparency; of ``data``, if it has been read."""
        name = self.path / self.rows[index]["file_name"]
        with readable(name):
            return decoded(data or (name if self.encoded is None else self.encoded[index]), before_decoding)

    def file_bytes(self, index: int) -> bytes:
        """An image as it is stored; OSError if it cannot be read."""
        return (self.path / self.rows[index]["file_name"]).read_bytes() if self.encoded is None else self.encoded[index]

    def file_digest(self, index: int) -> str:
        """A hash of ``file_bytes``, of which not all are held at once; OSError if they cannot be read."""
        if self.encoded is not None:
            return hashlib.blake2b(self.encoded[index]).hexdigest()
        found = hashlib.blake2b()
        with (self.path / self.rows[index]["file_name"]).open("rb") as file:  # hashlib.file_digest is of Python 3.11
            while part := file.read(BLOCK):
                found.update(part)
        return found.hexdigest()


def digest_of_images(pool: Pool) -> str:
    """A digest of the images of a pool in their order, file by file, with names and labels, and what they are laid on.

    Raises:
        UnreadableImageError: a file is missing; it is named.
    """
    found = hashlib.blake2b(json.dumps(pool.canvas.as_fields(), sort_keys=True).encode(), digest_size=12)
    for index, row in enumerate(pool.rows):
        found.update(f"{row['file_name']} {row['label']} {row['class_name']}\n".encode())
        with readable(pool.path / row["file_name"]):
            found.update(pool.file_bytes(index))
    return found.hexdigest()


def read_pool(
    source: "str | Path | Dataset", *, scores: str | Path | None = None, canvas: Canvas | None = None
) -> Pool:
    """Read a pool, a distilled set, a bare folder of class folders, or a Hugging Face dataset of images.

    A folder without ``metadata.jsonl`` gets labels by its class folders, see ``sources.folders``: numbers if all are
    numbers, else their places in sorted order; compare them with a classifier's by name.  Images stay where they are
    until they are asked for.  Those of a set that only lists them are opened in the pool that it names, wherever that
    is on this machine.

    Args:
        source: a folder, a list of images such as ``train.csv``, a ``.parquet`` file, a folder of
            ``Dataset.save_to_disk``, or a ``datasets.Dataset``.
        scores: JSON lines, as ``score_and_record`` writes them, that difficulties are taken from instead of ``source``.
        canvas: colour behind transparent images, and whether they are made squares; None: white, and as they are.

    Raises:
        FileNotFoundError: there is nothing at ``source``, at ``scores``, or where a list says that its pool is.
        ValueError: it holds no images, a broken row, or a row that points outside the folder or to a missing file; a
            list of a dataset that has no path; or ``scores`` lack an image, or belong to another pool.
    """
    pool = replace(_read(source), canvas=canvas or Canvas())
    require_distinct_classes(pool.rows, pool.listing or pool.path)
    require_distinct_synsets(sorted(pool.class_names.values()), pool.path)
    if not pool.provenance:
        require_one_split(pool.rows, pool.path)
    return pool if scores is None else replace(pool, rows=with_scores(pool.rows, Path(scores), pool.path))


def as_pool(source: PoolSource) -> Pool:
    """A pool as it is, and anything else as ``read_pool`` reads it."""
    return source if isinstance(source, Pool) else read_pool(source)


def _read(source: "str | Path | Dataset") -> Pool:
    if isinstance(source, str | os.PathLike):
        source = Path(source)
        if not source.exists() and shards_of(source) is None:
            raise FileNotFoundError(
                f"there is no pool at {source}; give a folder of class folders, or make one by fill_pool()"
            )
        if not _is_table(source):
            return _read_folder(source)
    from .tables import read_table  # pyarrow and datasets take a second, which folders need not wait for

    path, rows, encoded = read_table(source)
    return Pool(path, rows, encoded=encoded)


class ChosenImages(Sequence[bytes]):
    """Some of a pool's encoded images, read when asked for."""

    def __init__(self, images: Sequence[bytes], indices: Sequence[int]) -> None:
        self._images, self._indices = images, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override] # no slices are asked for
        return self._images[self._indices[index]]


def _is_table(path: Path) -> bool:
    saved = all((path / name).exists() for name in ("state.json", "dataset_info.json"))
    return saved or (path / "dataset_dict.json").exists() or (not _is_listed(path) and shards_of(path) is not None)


def _is_listed(path: Path) -> bool:
    return any((path / name).exists() for name in (METADATA, SELECTED, PROVENANCE))


def _read_folder(path: Path) -> Pool:
    if is_list(path):
        root, rows = rows_of_list(path)
        return Pool(root, sorted(rows, key=_by_label), listing=path)
    if not path.is_dir():
        refuse_arrays(path)
        raise ValueError(
            f"{path} is neither a folder of class folders, nor a list of images, nor a .parquet image dataset; give "
            "one of them"
        )
    provenance = read_json_object(path / PROVENANCE) if (path / PROVENANCE).exists() else {}
    listed = (path / METADATA).exists()
    if not listed and (path / SELECTED).exists():
        return _read_list(path, provenance)
    if not listed and (path / PROVENANCE).exists():
        raise ValueError(f"the pool at {path} is not finished; go on by fill_pool() with resume=True")
    source = records_file(path)
    if source is None:
        return Pool(path, sorted(rows_of_folder(path), key=_by_label), provenance)
    rows = rows_in(source)
    if not rows:
        raise ValueError(f"{source} lists no images; remove it, or write one row for each image")
    require_inside(path, rows, source)
    if not provenance:  # else the rows are ours
        require_agreeing(rows, source)
    flat = any("/" not in row["file_name"] for row in rows)  # beside folders a picture at the top is none of the data
    images = [file.name for file in path.iterdir() if flat and is_image_name(file.name)] + [*_image_names(path)]
    extra = len(images) - len(rows)
    if extra > 0:
        extra -= len(masks_among(images).keys() - {row["file_name"] for row in rows})
    if extra > 0:
        text = "%d images in %s have no row in %s and are left out; add rows, or remove that file to read all anew"
        logger.warning(text, extra, path, source.name)
    return Pool(path, sorted(rows, key=_by_label), provenance)


def _by_label(row: Row) -> tuple[int, str]:
    return row["label"], row["file_name"]


def _read_list(path: Path, provenance: Mapping[str, Any]) -> Pool:
    """A set without images of its own; the order is that of a pool, so that a dataset is read from front to back."""
    pool, rows = _pool_of_list(path, provenance), read_rows(path / SELECTED)
    if not rows:
        raise ValueError(f"{path / SELECTED} lists no images; choose them again from {pool}, at least one")
    if not _is_table(pool):
        require_inside(pool, rows, path / SELECTED)
        _require_same_images(path, pool, rows, provenance)
        return Pool(pool, sorted(rows, key=_by_label), dict(provenance), listing=path)
    from .tables import read_table

    _, offered, encoded = read_table(pool)
    places = {row["file_name"]: place for place, row in enumerate(offered)}
    chosen = {places.get(row["file_name"], -1): row for row in rows}
    if -1 in chosen or len(chosen) < len(rows):
        raise ValueError(f"{path / SELECTED} names images twice, or such as {pool} does not hold; choose them again")
    indices = sorted(chosen)
    return Pool(pool, [chosen[i] for i in indices], dict(provenance), ChosenImages(encoded, indices), path)


def _require_same_images(path: Path, pool: Path, rows: Sequence[Row], provenance: Mapping[str, Any]) -> None:
    """Refuse a list of images in whose places others were drawn since, by a repair or for another pool; ValueError."""
    before = generation_of(provenance)
    if not (before and (pool / PROVENANCE).exists() and (pool / METADATA).exists()):
        return
    now = generation_of(read_json_object(pool / PROVENANCE))
    same = (before.get("settings"), before.get("weights")) == (now.get("settings"), now.get("weights"))
    seeds = {row["file_name"]: row.get("seed") for row in read_rows(pool / METADATA)}
    pairs = [(row.get("seed"), seeds.get(row["file_name"])) for row in rows]
    if changed := sum(None not in pair and pair[0] != pair[1] for pair in pairs) if same else len(rows):
        raise ValueError(f"{changed} images that {path} lists were drawn anew in {pool} since; choose them again")


def _pool_of_list(path: Path, provenance: Mapping[str, Any]) -> Path:
    recorded = provenance.get("pool")
    name = recorded.get("path") if isinstance(recorded, dict) else None
    if not (isinstance(name, str) and Path(name).is_absolute()):  # else the fingerprint of a dataset
        raise ValueError(
            f"{path} only lists images of {name or 'another pool'}, which is no absolute path, as when it was a "
            "dataset in memory; choose them again with files='copy'"
        )
    pool = Path(name)
    if not pool.exists():
        raise FileNotFoundError(
            f"{path} only lists images of {pool}, which is gone; restore that pool, or write its new place into "
            f"{path / PROVENANCE}"
        )
    return pool


def _image_names(path: Path) -> Iterator[str]:
    """Every image below ``path`` that is not hidden, also in folders of another class or of none."""
    for folder in sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
        with suppress(PermissionError):  # of a folder that may not be entered no row is, or that row is refused
            yield from images_in(path, folder)


def require_writable_target(folder: Path, *, overwrite: bool = False) -> None:
    """Check that ``folder`` may be replaced: absent or empty, or an earlier pool when ``overwrite`` is asked for.

    Raises:
        FileExistsError: it holds something that would be lost, beside a pool too, or a disk is mounted there.
        PermissionError: it, or the folder above it, cannot be written.
    """
    require_replaceable(folder, "pool", _is_pool, overwrite=overwrite, strangers_in=_strangers_in)
    require_no_mount(folder)


def require_place_for_pool(folder: Path, *, overwrite: bool = False) -> None:
    """Check that a pool may be begun in ``folder``, as ``require_writable_target`` does; it may be a mounted disk.

    Raises:
        FileExistsError: it holds something that would be lost; of a pool that is not finished, how to go on with it.
    """
    if (folder / PROVENANCE).exists() and not (folder / METADATA).exists() and not overwrite:
        raise FileExistsError(
            f"{folder} holds a pool that is not finished; go on with it by resume=True, replace it by overwrite=True, "
            "or choose another folder"
        )
    require_replaceable(folder, "pool", _is_pool, overwrite=overwrite, strangers_in=_strangers_in)


def _strangers_in(folder: Path) -> Iterator[Path]:
    """What lies in a pool's folder and was put there by somebody else, such as a report or a notebook."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not (name.startswith(".") or is_image_name(name))):
            if Path(place) != folder or not (name in OWN or name.startswith(BEGINNINGS)):
                yield Path(place, name)


def _is_pool(folder: Path) -> bool:
    return any((place / PROVENANCE).exists() for place in (folder, folder / EARLIER))


def write_provenance(folder: Path, provenance: Mapping[str, Any]) -> None:
    """Write ``pool.json``: what made this pool, with versions, seeds and settings."""
    write_json(folder / PROVENANCE, provenance)
