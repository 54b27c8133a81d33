"""A distilled set: the chosen images of a pool in a folder of the same form, each row with its ``source`` in the pool.

    pool, indices -> .SET.partial -> rename -> SET

The folder appears whole or not at all, an earlier set stays until the new one is there, and a lock beside it keeps
other runs out meanwhile.  What a kill has left goes with the next write; an earlier set that it had put aside returns.
"""

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

import numpy as np

from .dataset_cards import card_in, describe
from .files import LOCK, held, json_line, recorded, require_writable, write_atomically
from .images import UnreadableImageError, readable, suffix_of
from .layouts import placements, with_suffix
from .pools import PROVENANCE, Pool, PoolSource, as_pool, read_pool, require_writable_target, write_provenance
from .rows import METADATA, SELECTED, Row, for_loaders, rows_meant, with_columns

Files = Literal["copy", "link", "list"]
FILES = get_args(Files)


def as_files(name: str) -> Files:
    """One of ``FILES`` by its name; ValueError if there is none of that name."""
    for known in FILES:
        if name == known:
            return known
    raise ValueError(f"files is {name!r}; use 'copy', 'link' (hard links) or 'list' (rows without images)")


OWN = ("file_name", "image", "label", "class_name", "source")  # columns that say which image a row is


def write_distilled_set(
    pool: PoolSource,
    indices: Sequence[int] | np.ndarray,
    folder: str | Path,
    *,
    columns: Mapping[str, Sequence] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    files: Files = "copy",
) -> Pool:
    """Write the chosen images of ``pool`` into a new folder of the same form.

    Args:
        pool: from ``read_pool``, or what that reads.
        indices: rows of ``pool`` to keep, each once, or a mask with true or false for each image.
        columns: further metadata, one value per chosen image, such as the bin that it was drawn for.
        provenance: how they were chosen; the pool's own provenance is kept under ``pool``, with its absolute path.
        overwrite: replace an earlier set.
        files: ``copy``; ``link``, hard links that take no space, on the disk of the pool; or ``list``, no images but
            the rows in ``selected.jsonl``.

    Returns:
        The set, as ``read_pool`` reads it; of a list the chosen part of ``pool``, in the order given.

    Raises:
        ValueError: no index, a repeated one or one outside the pool; columns of another length; or images to be linked
            that are rows of a dataset.
        OSError: the file system refuses hard links.
        UnreadableImageError: bytes of a dataset are no image.
        FileExistsError: ``folder`` is the pool, holds it or lies in it; another run writes there; it is the current
            folder and holds something; and, as PermissionError, see ``require_writable_target``.
    """
    pool = as_pool(pool)
    folder = Path(folder).resolve()  # behind a link, the folder itself is replaced and the link stays
    require_apart(pool.path, folder)
    require_writable(folder.parent)
    require_free(folder, overwrite)
    indices = _checked(pool, indices, files)
    added = _by_image(recorded({**(columns or {})}), len(indices))
    record = {**(provenance or {}), "pool": pool.provenance | {"path": _path_of(pool)}}
    with _replaced(folder, overwrite) as partial:
        placed = _all_placed(pool, sorted(indices), partial, files)  # in the order in which a dataset is read
        rows = [with_columns(placed[index], more) for index, more in zip(indices, added, strict=True)]
        write_atomically(partial / (SELECTED if files == "list" else METADATA), map(json_line, rows))
        write_provenance(partial, record)
        if files != "list":
            describe(partial, rows, record, place=folder, earlier=card_in(folder))
    if files != "list":
        return read_pool(folder)
    return replace(pool.select(indices), rows=rows, provenance=record, listing=folder)


def require_apart(pool: str | Path, folder: str | Path) -> None:
    """Check that what is made of a pool would neither replace it nor become a part of it.

    Args:
        pool: where it is; the fingerprint that stands for a dataset in memory is no place and always apart.

    Raises:
        FileExistsError: ``folder`` is the pool, holds it or lies in it.
    """
    inner, outer = Path(pool).resolve(), Path(folder).resolve()
    if inner.exists() and (inner.is_relative_to(outer) or outer.is_relative_to(inner)):
        raise FileExistsError(
            f"{folder} is the folder of the images, or holds it, or lies in it; choose another place for the output"
        )


def _path_of(pool: Pool) -> str:
    return str(pool.path.resolve() if pool.path.exists() else pool.path)


def _checked(pool: Pool, indices: Sequence[int] | np.ndarray, files: str) -> list[int]:
    as_files(files)
    if files == "link" and pool.encoded is not None:
        raise ValueError(f"{pool.path} is a dataset, whose images are no files that can be linked; use files='copy'")
    indices = rows_meant(indices, len(pool))
    if not indices:
        raise ValueError("no image is chosen; give at least one index, since an empty folder is no distilled set")
    if outside := [index for index in indices if not 0 <= index < len(pool)]:
        raise ValueError(f"index {outside[0]} is outside the pool {pool.path}; it has the rows 0 to {len(pool) - 1}")
    if twice := [index for index, count in Counter(indices).items() if count > 1]:
        repeats = len(indices) - len(set(indices))
        raise ValueError(f"index {twice[0]} is chosen twice ({repeats} repeats); give each image of a set once")
    return indices


def _by_image(columns: Mapping[str, Sequence], count: int) -> list[dict[str, Any]]:
    if own := [name for name in columns if name in OWN]:
        raise ValueError(f"columns may not be called {', '.join(own)}, which say which image a row is; rename them")
    for name, values in columns.items():
        if len(values) != count:
            raise ValueError(f"column {name!r} has {len(values)} values, but {count} images are chosen; give as many")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)] or [{}] * count


def require_free(folder: Path, overwrite: bool) -> None:
    """Check that the folder may be replaced, before the work and again after it."""
    require_writable_target(folder, overwrite=overwrite)
    if (folder / LOCK).exists():
        with held(folder / LOCK, folder):  # refused while a run fills it; the file goes if a kill has left it
            pass
    if folder.exists() and any(folder.iterdir()):
        require_not_current(folder)


def require_not_current(folder: Path) -> None:
    """Check that the folder, which will be replaced, is not the current one and does not hold it."""
    if _is_current(folder):
        raise FileExistsError(
            f"{folder} holds an earlier set and is, or holds, the current folder, which would be deleted; "
            "go to another folder first"
        )


def _is_current(folder: Path) -> bool:
    try:
        return Path.cwd().resolve().is_relative_to(folder)
    except FileNotFoundError:  # the current folder was deleted
        return False


@contextmanager
def _replaced(folder: Path, overwrite: bool) -> Iterator[Path]:
    """A new folder to fill, which takes the place of ``folder`` if all goes well and is removed if not."""
    partial = folder.with_name(f".{folder.name}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held(folder.with_name(f".{folder.name}.lock"), folder):
        bring_back(folder)
        require_free(folder, overwrite)
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir()  # fails on a link that was planted there to be followed
        try:
            yield partial
            require_free(folder, overwrite)
            put_in_place(partial, folder, overwrite)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def bring_back(folder: Path) -> None:
    """Put the earlier set back if a run was killed between the two renames; only while its lock is held."""
    earlier = _earlier(folder)
    if earlier.is_dir() and not earlier.is_symlink() and not (folder.exists() and any(folder.iterdir())):
        os.replace(earlier, folder)


def _earlier(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.earlier")


def put_in_place(partial: Path, folder: Path, overwrite: bool) -> None:
    """Let a finished folder take the place of one that ``require_free`` has checked, while its lock is held."""
    if not folder.exists():
        os.replace(partial, folder)
    elif overwrite and any(folder.iterdir()):
        _exchange(partial, folder)
    elif _is_current(folder):
        _fill(partial, folder)
    else:
        folder.rmdir()  # refuses to, if something came into it just now
        os.replace(partial, folder)


def _exchange(partial: Path, folder: Path) -> None:
    earlier = _earlier(folder)
    shutil.rmtree(earlier, ignore_errors=True)  # of a run that was killed when its own was in place
    try:
        os.replace(folder, earlier)
        os.replace(partial, folder)
    except BaseException:
        if earlier.exists() and not folder.exists():
            os.replace(earlier, folder)
        raise
    os.replace(earlier, partial)  # so that what is removed in part is never brought back
    shutil.rmtree(partial, ignore_errors=True)


def _fill(partial: Path, folder: Path) -> None:
    """Move everything into an empty folder that must stay the same one."""
    last = (METADATA, SELECTED)  # a set with provenance and without rows is seen to be unfinished
    for path in sorted(partial.iterdir(), key=lambda path: (path.name in last, path.name != PROVENANCE)):
        os.replace(path, folder / path.name)


def _all_placed(pool: Pool, indices: Sequence[int], folder: Path, files: str) -> dict[int, Row]:
    """Put images into the folder, under names that every loader reads rightly; the row of each."""
    if files == "list":
        return {index: with_columns(pool.rows[index], {"source": pool.rows[index]["file_name"]}) for index in indices}
    places = placements([pool.rows[index] for index in indices], pool.class_names)
    return {index: _placed(pool, index, folder, place, files) for index, place in zip(indices, places, strict=True)}


def _placed(pool: Pool, index: int, folder: Path, place: str, files: str) -> Row:
    """Put one image into the folder; its row, in which an image that was no file before gets the right suffix."""
    name = pool.rows[index]["file_name"]
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    if pool.encoded is not None:
        place = _written(pool, index, folder, place)
    else:
        place = with_suffix(place, pool.path / name)
        (shutil.copyfile if files == "copy" else _link)(pool.path / name, folder / place)
    return with_columns(for_loaders(pool.rows[index]), {"file_name": place, "source": name})


def _written(pool: Pool, index: int, folder: Path, place: str) -> str:
    with readable(pool.path / pool.rows[index]["file_name"]):
        data = b"" if pool.encoded is None else pool.encoded[index]
    try:
        place = PurePath(place).with_suffix(suffix_of(data)).as_posix()
    except ValueError as error:
        name = pool.path / pool.rows[index]["file_name"]
        raise UnreadableImageError(f"{name} is not an image that can be copied ({error}); leave out its row") from error
    (folder / place).write_bytes(data)
    return place


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
