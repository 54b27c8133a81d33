"""Real images as a plan sees them: listed and counted by class, of each class one looked at, none kept.

folder -> its classes -> those that are wanted, by name -> images of each, one opened
"""

from collections.abc import Sequence
from pathlib import Path

from dag_diffusion.data.class_folders import class_names_in, real_images
from dag_diffusion.data.class_names import classes_named, match_classes
from dag_diffusion.data.images import UnreadableImageError
from dag_diffusion.data.pools import Pool
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
    by_name = {name: label for label, name in known.items()}
    labels = [
        label
        for text in wanted
        for label in ([by_name[text]] if text in by_name else classes_named([text], known, f"the folder {folder}")[0])
    ]
    return {label: known[label] for label in dict.fromkeys(labels)}


def images_of(folder: Path, names: dict[int, str], problems: Problems) -> Pool | None:
    """The images of some classes, listed; None where the folder lacks one, which is noted.

    Args:
        names: label to name of the classes, whatever the folder's labels are.
    """
    with problems.gathered():
        require_there(folder)
        match_classes(names, class_names_in(folder), f"the folder {folder}", places=True)
        pool = real_images(folder, names, names)
        _open_one_of_each(pool, problems)
        return pool
    return None


def _open_one_of_each(pool: Pool, problems: Problems) -> None:
    first: dict[int, int] = {}
    for row, label in enumerate(pool.labels.tolist()):
        first.setdefault(label, row)
    for row in list(first.values())[:OPENED]:
        try:
            pool.open(row)
        except UnreadableImageError as error:
            problems.note(" ".join(str(error).split()))
