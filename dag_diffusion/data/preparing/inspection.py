"""What each image of a pool turns out to be once it is decoded: readable, of one colour, perhaps equal to others.

    look = (size, is anything transparent, is all of one colour on this background, exactly (one_colour) or but for
            rounding (empty), has pages or frames after the first, has 16 bits and uses 12 (faint), sketch of at most
            64 x 64 pixels)

Images of equal pixels have equal looks; whether those of equal looks have equal pixels tells a digest of all of them,
which few need.  Looks are kept by name, size and time of change of the file, so that a second run decodes nothing.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dag_diffusion.data.files import read_json_object, write_json
from dag_diffusion.data.images import (
    THREADS,
    UnreadableImageError,
    as_eight_bit,
    has_many_bits,
    is_of_one_colour,
    opaque,
    wait_if_large,
)
from dag_diffusion.data.pools import Pool
from dag_diffusion.processes import gather, is_main_process, is_started, rank, this_process
from dag_diffusion.progress import Progress, Stage

SKETCHED = 64  # pixels of a sketch's side
FAINT = 4096  # of 65,536 levels: what devices of 12 bits leave, of which 16 of 256 levels of grey remain
FORMAT = 5  # raise it when the same image comes to another look
REPORTED = 50  # images between two calls of progress


class Look(NamedTuple):
    """What one image is; ``problem`` says why it cannot be read, and is empty if it can."""

    width: int = 0
    height: int = 0
    transparent: bool = False
    one_colour: bool = False
    empty: bool = False
    several: bool = False
    faint: bool = False
    sketch: str = ""
    problem: str = ""

    @property
    def aspect(self) -> float:
        """Longer side over shorter one."""
        return max(self.width, self.height) / max(min(self.width, self.height), 1)


Seen = dict[tuple[str, bytes], Look]  # background and digest of a file -> its look


def looks_of(
    pool: Pool,
    cache: Path | None = None,
    progress: Progress | None = None,
    *,
    alone: bool = False,
    seen: Seen | None = None,
) -> list[Look]:
    """A look at every image of a pool, in the order of its rows; a file that several rows link to is decoded once.

    Args:
        cache: JSON file that looks are kept in, and read from where a file has not changed.
        progress: called with stage, done and total.
        alone: whether only this process calls it, as of a report that one of several writes.
        seen: looks that are taken from here and added to: of sets that are chosen from pools, no copy of an image that
            was looked at is decoded again.

    Under ``accelerate launch`` every process has to call it, unless ``alone``; they share the images.
    """
    files = real_files(pool)
    wanted = {file: index for index, file in reversed(list(enumerate(files)))}  # to the first row of each
    keys = {file: _key(pool, file, index) for file, index in wanted.items()}
    of = {"format": FORMAT, "source": str(pool.path.resolve()), "background": pool.canvas.background}
    known = _read(cache, of)
    found = {file: Look(*known[key]) for file, key in keys.items() if key in known}
    todo = sorted((file for file in wanted if file not in found), key=lambda file: wanted[file])
    shared = is_started() and not alone
    processes = this_process().num_processes if shared else 1  # torch is not loaded for one
    mine = todo[rank() :: processes] if shared else todo
    stage = Stage("images looked at", len(todo), progress if is_main_process() else None)
    with ThreadPoolExecutor(THREADS) as threads:
        new = {}
        for file, look in zip(mine, threads.map(lambda file: _look_once(pool, wanted[file], seen), mine), strict=True):
            new[file] = look
            if len(new) % REPORTED == 0 or len(new) == len(mine):
                stage(min(len(new) * processes, len(todo)) - stage.done)
    for looks in [new] if alone else gather(new):
        found |= looks
    if cache is not None and todo and is_main_process():
        kept = {key: list(found[file]) for file, key in keys.items() if key and not found[file].problem}
        write_json(cache, {**of, "looks": kept})
    return [found[file] for file in files]


def real_files(pool: Pool) -> list[str]:
    """Where each image really lies, links followed; for images of a dataset their names."""
    names = [row["file_name"] for row in pool.rows]
    if pool.encoded is not None:
        return names
    folders = {folder: os.path.realpath(pool.path / folder) for folder in {os.path.dirname(name) for name in names}}
    return [_real(os.path.join(folders[os.path.dirname(name)], os.path.basename(name))) for name in names]


def _real(path: str) -> str:
    return os.path.realpath(path) if os.path.islink(path) else path


def pixel_digest(pool: Pool, index: int) -> str:
    """A hash of size and pixels on the canvas' background, the same for equal pictures of whatever format or mode.

    Raises:
        UnreadableImageError: the file is no image.
    """
    with ExitStack() as held:
        image = opaque(pool.decoded(index, partial(wait_if_large, held)), pool.canvas.background)
        pixels = as_eight_bit(image, 3)
        digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _look_once(pool: Pool, index: int, seen: Seen | None) -> Look:
    if seen is None:
        return _look(pool, index)
    try:
        data = pool.file_bytes(index)
    except OSError:
        return _look(pool, index)  # which says why it cannot be read
    key = pool.canvas.background, hashlib.blake2b(data, digest_size=16).digest()
    if key not in seen:
        look = _look(pool, index, data)
        if look.problem:  # and in which file
            return look
        seen[key] = look
    return seen[key]


def _look(pool: Pool, index: int, data: bytes | None = None) -> Look:
    """What an image is; of ``data``, where its file has been read already."""
    background = pool.canvas.background
    several = many_bits = False

    def opened(image: Image.Image) -> None:
        nonlocal several, many_bits
        several, many_bits = _has_several(image), has_many_bits(image)
        wait_if_large(held, image)

    try:
        with ExitStack() as held:
            image = pool.decoded(index, opened, data)
            size = (min(image.width, SKETCHED), min(image.height, SKETCHED))
            small = image.resize(size, Image.Resampling.NEAREST)
            sketch = as_eight_bit(opaque(small, background), 3)
            whole = as_eight_bit(opaque(image, background), 3) if _is_empty(sketch) else None
            return Look(
                *image.size,
                transparent=_is_transparent(small),
                one_colour=whole is not None and _is_flat(whole),
                empty=whole is not None and _is_empty(whole),
                several=several,
                faint=many_bits and _is_faint(image),
                sketch=hashlib.blake2b(sketch.tobytes(), digest_size=12).hexdigest(),
            )
    except UnreadableImageError as error:
        return Look(problem=str(error))


def _has_several(image: Image.Image) -> bool:
    """Whether pages or frames follow the first; what phones put behind a photograph (MPO) is no picture of its own."""
    try:
        return bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    except Exception:  # of a later frame that is broken, as Pillow likes
        return False


def _is_faint(image: Image.Image) -> bool:
    """Whether an image of 16 bits, of which Pillow leaves 8 of colours, is all but black, but for something in it."""
    if image.mode.startswith("I;16"):
        levels, most = np.asarray(image), FAINT
    else:
        levels, most = as_eight_bit(image.convert("RGB"), 3), FAINT >> 8
    return bool(levels.min() < levels.max() < most)


def _is_flat(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[:1, :1]).all())


def _is_empty(pixels: np.ndarray) -> bool:
    return is_of_one_colour(Image.fromarray(pixels))


def _is_transparent(image: Image.Image) -> bool:
    """Whether another background would show; an image may have transparency of which nothing is transparent."""
    if not image.has_transparency_data:
        return False
    over_white, over_black = (as_eight_bit(opaque(image, colour), 3) for colour in ("white", "black"))
    return not np.array_equal(over_white, over_black)


def _key(pool: Pool, file: str, index: int) -> str:
    """Name, size and time of change; empty for what has none and is looked at anew."""
    with suppress(OSError):
        if pool.encoded is None:
            found = os.stat(file)
            return f"{pool.rows[index]['file_name']} {found.st_size} {found.st_mtime_ns}"
    return ""


def _read(cache: Path | None, of: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
    """Looks that were kept; none of other images or another background, and none from a file that is broken."""
    if cache is None or not cache.exists():
        return {}
    with suppress(ValueError, OSError):
        kept = read_json_object(cache)
        if {name: kept.get(name) for name in of} == dict(of):
            return {key: look for key, look in kept["looks"].items() if len(look) == len(Look._fields)}
    return {}


def groups_of_equal(pool: Pool, looks: Sequence[Look]) -> Iterator[list[int]]:
    """Rows of equal pixels, two or more in each group, unreadable ones in none; links to one file are equal to it."""
    files, alike = real_files(pool), dict[tuple[int, int, str], dict[str, list[int]]]()
    for index, (file, look) in enumerate(zip(files, looks, strict=True)):
        if not look.problem:
            alike.setdefault((look.width, look.height, look.sketch), {}).setdefault(file, []).append(index)
    doubtful = [rows for files in alike.values() if len(files) > 1 for rows in files.values()]
    with ThreadPoolExecutor(THREADS) as threads:
        digests = threads.map(lambda rows: pixel_digest(pool, rows[0]), doubtful)
        equal: dict[str, list[int]] = {}
        for rows, digest in zip(doubtful, digests, strict=True):
            equal.setdefault(digest, []).extend(rows)
    linked = [rows for files in alike.values() if len(files) == 1 for rows in files.values()]
    yield from sorted(sorted(rows) for rows in (*equal.values(), *linked) if len(rows) > 1)
