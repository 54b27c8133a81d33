"""A distilled set: the chosen images of a pool in a folder of the same form, each row with its ``source`` in the pool.

    pool, indices -> .SET.PID.partial -> rename -> SET

The folder appears whole or not at all, and an earlier set stays until the new one is there.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from .files import json_lines, write_atomically
from .image_formats import suffix_of
from .pools import METADATA, SELECTED, Pool, UnreadableImageError, read_pool, require_writable_target, write_provenance

FILES = ("copy", "link", "list")
OWN = ("file_name", "label", "class_name", "source")  # columns that say which image a row is


def write_distilled_set(
    pool: Pool,
    indices: Sequence[int],
    folder: str | Path,
    *,
    columns: Mapping[str, Sequence],
    provenance: Mapping[str, Any],
    overwrite: bool = False,
    files: str = "copy",
) -> Pool:
    """Write the chosen images of ``pool`` into a new folder of the same form.

    Args:
        indices: rows of ``pool`` to keep, each once.
        columns: further metadata, one value per chosen image, such as the bin that it was drawn for.
        provenance: how they were chosen; the pool's own provenance is kept under ``pool``.
        overwrite: replace an earlier set.
        files: ``copy``; ``link``, hard links that take no space, on the disk of the pool; or ``list``, no images but
            the rows in ``selected.jsonl``.

    Returns:
        The set, as ``read_pool`` reads it; of a list the chosen part of ``pool``, whose images are still there.

    Raises:
        ValueError: no index, a repeated one or one outside the pool; columns of another length; or images to be linked
            that are rows of a dataset.
        OSError: the file system refuses hard links.
        UnreadableImageError: bytes of a dataset are no image.
        FileExistsError: ``folder`` is or holds the pool; and, as PermissionError, see ``require_writable_target``.
    """
    folder = Path(folder).resolve()  # behind a link, the folder itself is replaced and the link stays
    if pool.path.resolve().is_relative_to(folder):
        raise FileExistsError(f"{folder} is the pool itself or holds it; choose another folder for the distilled set")
    require_writable_target(folder, overwrite=overwrite)
    indices = _checked(pool, indices, files)
    added = _by_image(columns, len(indices))
    with _replaced(folder) as partial:
        rows = [_placed(pool, i, partial, files) | more for i, more in zip(indices, added, strict=True)]
        write_atomically(partial / (SELECTED if files == "list" else METADATA), json_lines(rows))
        record = {**provenance, "pool": {"path": str(pool.path), **pool.provenance}}
        write_provenance(partial, record)
    if files != "list":
        return read_pool(folder)
    encoded = None if pool.encoded is None else _Chosen(pool.encoded, indices)
    return replace(pool, rows=rows, provenance=record, encoded=encoded)


def _checked(pool: Pool, indices: Sequence[int], files: str) -> list[int]:
    if files not in FILES:
        raise ValueError(f"files is {files!r}; use 'copy', 'link' (hard links) or 'list' (rows without images)")
    if files == "link" and pool.encoded is not None:
        raise ValueError(f"{pool.path} is a dataset, whose images are no files that can be linked; use files='copy'")
    indices = [int(index) for index in indices]
    if not indices:
        raise ValueError("no image is chosen; give at least one index, since an empty folder is no distilled set")
    if outside := [index for index in indices if not 0 <= index < len(pool)]:
        raise ValueError(f"index {outside[0]} is outside the pool {pool.path}; it has the rows 0 to {len(pool) - 1}")
    seen: set[int] = set()
    if twice := [index for index in indices if index in seen or seen.add(index)]:
        raise ValueError(f"index {twice[0]} is chosen twice ({len(twice)} repeats); give each image of a set once")
    return indices


def _by_image(columns: Mapping[str, Sequence], count: int) -> list[dict[str, Any]]:
    if own := [name for name in columns if name in OWN]:
        raise ValueError(f"columns may not be called {', '.join(own)}, which say which image a row is; rename them")
    for name, values in columns.items():
        if len(values) != count:
            raise ValueError(f"column {name!r} has {len(values)} values, but {count} images are chosen; give as many")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)] or [{}] * count


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of ``folder`` if all goes well and is removed if not."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    earlier = folder.with_name(f".{folder.name}.{os.getpid()}.earlier")
    try:
        yield partial
        if folder.exists():
            os.replace(folder, earlier)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if earlier.exists() and not folder.exists():
            os.replace(earlier, folder)
        shutil.rmtree(earlier, ignore_errors=True)


def _placed(pool: Pool, index: int, folder: Path, files: str) -> dict[str, Any]:
    """Put one image into the folder; its row, in which an image that was no file before gets the right suffix."""
    name = pool.rows[index]["file_name"]
    placed = name
    if files != "list" and pool.encoded is not None:
        placed = _written(pool, index, folder)
    elif files != "list":
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copyfile if files == "copy" else _link)(pool.path / name, folder / name)
    return pool.rows[index] | {"file_name": placed, "source": name}


def _written(pool: Pool, index: int, folder: Path) -> str:
    name, data = pool.rows[index]["file_name"], pool.encoded[index]
    try:
        name = PurePath(name).with_suffix(suffix_of(data)).as_posix()
    except ValueError as error:
        raise UnreadableImageError(
            f"{pool.path / name} is not an image that can be copied ({error}); leave out its row"
        ) from error
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return name


def _link(source: Path, target: Path) -> None:
    try:
        os.link(os.path.realpath(source), target)  # a second name of a symbolic link would point elsewhere from there
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise OSError(
            f"{source} cannot have a hard link in the set ({error.strerror}); use files='copy', or a folder on the "
            "disk of the pool"
        ) from error


class _Chosen(Sequence[bytes]):
    """Some of a pool's encoded images, read when asked for."""

    def __init__(self, images: Sequence[bytes], indices: Sequence[int]) -> None:
        self._images, self._indices = images, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> bytes:
        return self._images[self._indices[index]]
