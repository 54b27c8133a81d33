"""Files that are not read, though they may hold images: HEIC, arrays of numbers, and names without a suffix."""

import logging
import mimetypes
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from dag_diffusion.data.images import header_of

logger = logging.getLogger(__name__)
MOST_LOOKED_INTO = 100  # files whose names do not tell whether they are images
ARRAYS = re.compile(  # also those of DICOM, NIfTI, MNIST and CIFAR
    r".*(\.(npz|npy|pt|pth|pkl|pickle|h5|hdf5|mat|bin|tfrecord|dcm|nii)|[-.]idx[0-9]-ubyte)(\.gz)?|data_batch_[0-9]+",
    re.I,
)
TEXTS = ("text/", "application/json", "application/xml", "application/pdf")


def warn_of_left_out(path: Path, names: Sequence[str]) -> None:
    """Tell of files that are images by their bytes or by their name, such as HEIC, and are not taken."""
    images = [name for name in names if (mimetypes.guess_type(name)[0] or "").startswith("image/")]
    named = set(images)
    for name in [name for name in names if name not in named][:MOST_LOOKED_INTO]:
        with suppress(Exception):  # of Pillow, see images.readable: it is no image
            header_of(path / name)
            images.append(name)
    if images:
        text = "%d files in %s, such as %s, are images and are left out, since their suffix is none that is read; "
        text += "save them as PNG or JPEG, or give them the suffix that they should have"
        logger.warning(text, len(images), path, images[0])


def unread_file(path: Path, names: Iterable[str]) -> Path | None:
    """The first file of the most common kind among those of a folder that holds no images; texts are no such files."""
    kinds: dict[str, list[str]] = {}
    for name in sorted(islice((name for name in names if not _is_text(name)), MOST_LOOKED_INTO)):
        kinds.setdefault(os.path.splitext(name)[1].lower(), []).append(name)
    return path / max(kinds.values(), key=len)[0] if kinds else None


def _is_text(name: str) -> bool:
    return os.path.basename(name).startswith(".") or (mimetypes.guess_type(name)[0] or "").startswith(TEXTS)


def refuse_arrays(file: Path) -> None:
    """Refuse a file of numbers, which other programs make of images, with the way to images."""
    if ARRAYS.fullmatch(file.name):
        raise ValueError(
            f"{file} holds arrays of numbers, not images; save each as a PNG in the folder of its class, as "
            "docs/how-to/other-generators.md shows"
        )
