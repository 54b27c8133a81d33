"""Real images as a plan sees them: listed and counted by class, of each class one looked at, none kept.

folder -> its classes -> those that are wanted, by name -> images of each, one opened
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dag_diffusion.data.class_folders import class_names_in, real_images
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.images import UnreadableImageError
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.preparing.prepared import labels_of
from dag_diffusion.own_images.requirements import require_there

from .problems import Problems

OPENED = 100  # images at most, one of a class


def classes_in(folder: Path, wanted: Sequence[str] | None) -> dict[int, str]:
    """Label to name of the classes of a folder that are wanted, in the order in which they are.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: nothing tells its classes, or it lacks one.
    """
    require_there(folder)
    known = class_names_in(folder)
    if wanted is None:
        return known
    return {label: known[label] for label in labels_of(wanted, known, f"the folder {folder}")}


def images_of(folder: Path, names: dict[int, str], problems: Problems, *, skip_unreadable: bool = False) -> Pool | None:
    """The images of some classes, listed; None where the folder lacks one, which is noted.

    Args:
        names: label to name of the classes, whatever the folder's labels are.
        skip_unreadable: whether a class may have unreadable images beside others.
    """
    with problems.gathered():
        require_there(folder)
        match_classes(names, class_names_in(folder), f"the folder {folder}", places=True)
        pool = real_images(folder, names, names)
        _open_one_of_each(pool, problems, skip_unreadable)
        return pool
    return None


def _open_one_of_each(pool: Pool, problems: Problems, skip_unreadable: bool) -> None:
    labels = pool.labels
    for label in list(pool.class_names)[:OPENED]:
        rows = np.flatnonzero(labels == label).tolist()
        tried = rows if skip_unreadable else rows[:1]
        said = ""
        if all(said := _why_unreadable(pool, row) for row in tried):  # up to the first that can be read
            problems.note(said)


def _why_unreadable(pool: Pool, row: int) -> str:
    """Why an image cannot be read, in a sentence; empty if it can."""
    try:
        pool.open(row)
    except UnreadableImageError as error:
        return " ".join(str(error).split())
    return ""
