"""All images of a pool as a classifier sees them, decoded once into one file, from where a batch is read at any place.

    FOLDER/pixels.uint8   (images, channels, height, width)        FOLDER/pixels.json   what they are of

The file is mapped, not loaded: a folder of photographs need not fit into memory, and processes share it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dag_diffusion.classifiers.preprocessing import Preprocessing
from dag_diffusion.data.files import read_json_object, require_disk, write_atomically, write_json
from dag_diffusion.data.images import UnreadableImageError
from dag_diffusion.data.pools import Pool
from dag_diffusion.processes import fail_together, is_main_process
from dag_diffusion.progress import Progress, Stage
from dag_diffusion.sampling.scoring import fitted_image, read_ahead

PIXELS, RECORD = "pixels.uint8", "pixels.json"
READ_AT_ONCE = 64  # images between two calls of progress
SHOWN = 3  # unreadable files in an error; the others are counted


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """Images of a pool, in the order of its rows.

    Attributes:
        pixels: ``(n, channels, height, width)`` uint8, mapped from a file.
        digest: of all pixels.
    """

    pixels: np.ndarray
    digest: str

    def __len__(self) -> int:
        return len(self.pixels)

    def of(self, indices: Tensor | np.ndarray | Sequence[int]) -> Tensor:
        """``(len(indices), channels, height, width)`` uint8."""
        return torch.from_numpy(self.pixels[np.asarray(indices)])

    @cached_property
    def twins(self) -> np.ndarray:
        """``(n,)`` int64, a number for each image, the same for those of equal pixels."""
        digests = [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in self.pixels]
        return np.unique(np.array(digests), return_inverse=True)[1].astype(np.int64)


def decode(
    pool: Pool, preprocessing: Preprocessing, folder: Path, progress: Progress | None = None, stage: str = "images read"
) -> DecodedImages:
    """Decode a pool, or map what an earlier run has decoded of the same files on the same canvas.

    Every one of several processes has to call it; the first decodes.

    Raises:
        ValueError: images cannot be read; all are counted, and the first named.  Or there is no room for them.
        OSError: the disk is full; nothing is kept.
    """
    with fail_together():
        if is_main_process():
            _decode(pool, preprocessing, folder, progress, stage)
    shape = (len(pool), preprocessing.channels, preprocessing.height, preprocessing.width)
    with fail_together():  # the first may come to an end, and remove the folder, before another has looked into it
        digest = read_json_object(folder / RECORD)["digest"]
        return DecodedImages(np.memmap(folder / PIXELS, np.uint8, "r", shape=shape), digest)


def _decode(pool: Pool, preprocessing: Preprocessing, folder: Path, progress: Progress | None, stage: str) -> None:
    of = [*_files(pool), preprocessing.as_fields(), pool.canvas.as_fields()]
    key = hashlib.blake2b(json.dumps(of).encode(), digest_size=16).hexdigest()
    if (folder / RECORD).exists() and (folder / PIXELS).exists() and read_json_object(folder / RECORD)["of"] == key:
        return
    for name in (RECORD, PIXELS):  # of other images, which nothing can use and which take room
        (folder / name).unlink(missing_ok=True)
    each = preprocessing.channels * preprocessing.height * preprocessing.width
    require_disk(folder, len(pool) * each, f"{len(pool)} decoded images")
    digest, unreadable = hashlib.blake2b(digest_size=16), list[str]()

    def images() -> Iterator[bytes]:
        told = Stage(stage, len(pool), progress)
        for batch in read_ahead(lambda index: _image(pool, index, preprocessing), range(len(pool)), READ_AT_ONCE):
            for _, image in batch:
                if isinstance(image, str):
                    unreadable.append(image)
                else:
                    digest.update(image)
                    yield image
            told(len(batch))

    (folder / RECORD).unlink(missing_ok=True)
    write_atomically(folder / PIXELS, images())
    if unreadable:
        (folder / PIXELS).unlink()
        raise ValueError(unreadable_text(unreadable, len(pool)))
    write_json(folder / RECORD, {"of": key, "digest": digest.hexdigest()})


def _image(pool: Pool, index: int, preprocessing: Preprocessing) -> bytes | str:
    """Its pixels, or why it cannot be read."""
    try:
        return fitted_image(pool, index, [preprocessing])[preprocessing].contiguous().numpy().tobytes()
    except UnreadableImageError as error:
        return str(error)


def unreadable_text(reasons: Sequence[str], total: int) -> str:
    """One sentence on images that cannot be read: how many, and the first of them."""
    if len(reasons) == 1:
        return reasons[0]
    more = f" and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    files = ", ".join(reason.partition(" is ")[0] for reason in reasons[:SHOWN])
    return f"{len(reasons)} of {total} images cannot be read: {files}{more}; restore or remove them"


def _files(pool: Pool) -> Iterable[list[Any]]:
    """What tells a changed file: name, length and time; bytes of a dataset, whose images have no time."""
    for index, row in enumerate(pool.rows):
        name = row["file_name"]
        if pool.encoded is not None:
            yield [name, hashlib.blake2b(pool.encoded[index], digest_size=16).hexdigest()]
        else:
            try:
                found = (pool.path / name).stat()
            except OSError:
                yield [name, None]  # decoding will say so
            else:
                yield [name, found.st_size, found.st_mtime_ns]
