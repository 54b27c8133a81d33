"""Folders of real images, such as ImageNet's, of which only some classes are listed and few images are decoded.

FOLDER/n01440764/*.JPEG -> rows with another's labels and names -> pixels of those rows that are asked for
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from dag_diffusion.processes import warn_once

from .class_names import listed, match_classes, matching_classes, own_part
from .pools import PROVENANCE, Pool, read_pool
from .rows import RECORDS, SELECTED
from .sources.folders import (
    class_folders_in,
    labels_by_name,
    listed_images,
    require_one_split_within,
)
from .sources.image_lists import require_agreeing_lists
from .sources.masks import without_masks
from .sources.shards import shards_of
from .sources.walking import images_in, visible_folders

logger = logging.getLogger(__name__)
NO_BARE_FOLDER = (*RECORDS, SELECTED, PROVENANCE, "state.json", "dataset_dict.json")


def _is_bare(path: Path) -> bool:
    if not path.is_dir() or any((path / name).exists() for name in NO_BARE_FOLDER):
        return False
    return shards_of(path) is None and listed_images(path) is None


def class_names_in(path: Path) -> dict[int, str]:
    """Label to class name of real images, whose files are not listed if folders tell it.

    Raises:
        ValueError: a folder has no class folders, as ILSVRC's validation set comes.
    """
    if not _is_bare(path):
        return read_pool(path).class_names
    return {label: name for name, label in labels_by_name(class_folders_in(path)).items()}


def real_images(path: Path, names: Mapping[int, str], written: Mapping[int, str]) -> Pool:
    """Real images of some classes, with the labels and names that the pipeline gives them.

    Args:
        path: whatever ``read_pool`` reads.  Of a bare folder only these classes are listed, and links are followed.
        names: label of the pipeline to class name.
        written: the same labels to what the user called them, which may be the very name of a folder.

    Raises:
        ValueError: a class is missing or has no images, or a list beside the folders tells other classes.
    """
    bare = _is_bare(path)
    folders = class_folders_in(path) if bare else {}
    pool = None if bare else read_pool(path)
    known = {label: name for name, label in labels_by_name(folders).items()} if pool is None else pool.class_names
    table = _places_of(names, written, known, f"the folder {path}")
    if pool is None:
        found = {known[theirs]: theirs for theirs in sorted(table.values())}
        listed = without_masks(path, [(name, file) for name in found for file in _images_of(path, name, folders)])
        require_agreeing_lists(path, folders, listed)
        pool = Pool(path, [{"file_name": file, "label": found[name], "class_name": name} for name, file in listed])
    ours = {theirs: label for label, theirs in table.items()}
    kept = pool.select([index for index, row in enumerate(pool.rows) if row["label"] in ours])
    rows = [row | {"label": ours[row["label"]], "class_name": names[ours[row["label"]]]} for row in kept.rows]
    return replace(kept, rows=rows)


def limited_to(
    pool: Pool, owners: Iterable[Mapping[int, str]], whose: str, class_map: Mapping[str, str | int] | None = None
) -> Pool:
    """The images of the classes that others have, such as those of ImageNet's validation set that a subset needs.

    All images, where one of these classes is not found by its name, or only one class is wanted: who compares them says
    what is missing.  A warning tells what is left out.

    Args:
        owners: label to name of each of the others' classes.
        whose: what to call the others in the warning.
        class_map: the others' names to those of the pool, where no rule finds them; other names in it are passed by.

    Raises:
        ValueError: two names of one owner are one class here.
    """
    kept = set[int]()
    for names in owners:
        own = own_part(class_map, names.values())
        found = matching_classes(names, pool.class_names, str(pool.path), own, places=True)
        if len(found) < len(names):
            return pool
        kept |= set(found.values())
    out = [repr(name) for label, name in sorted(pool.class_names.items()) if label not in kept]
    if not out or len(kept) < 2:  # within one class nothing is told apart
        return pool
    warn_once(
        logger, "%d of the %d classes in %s are used, those of %s; left out: %s",
        len(kept), len(pool.class_names), pool.path, whose, listed(out),
    )  # fmt: skip
    return pool.select([row for row, label in enumerate(pool.labels.tolist()) if label in kept])


def require_enough(
    pool: Pool, least: int, what: str, way: str = "lower that, add images, or leave such classes out", kind: str = ""
) -> None:
    """Check that each class has so many images.

    Args:
        what: needs them, such as ``ipc=10``.
        way: what to do.
        kind: of images, such as ``to train on``.

    Raises:
        ValueError: one has fewer; three are named.
    """
    counts = Counter(pool.labels.tolist())
    if few := [f"{name} ({counts[label]})" for label, name in pool.class_names.items() if counts[label] < least]:
        raise ValueError(
            f"{pool.path} has fewer than {least} images{kind and f' {kind}'}, which {what} needs, of {listed(few)}; "
            f"{way}"
        )


def instead_of_one_class(path: Path, name: str) -> str:
    """For an error, what to give instead of a folder that has one class, which may be a folder around flat images."""
    way = "give a folder with a folder for each of several classes, such as the one above it"
    inside = path.is_dir() and name in visible_folders(path)
    return f"{way}, or {path / name} if a list tells the classes of the images in it" if inside else way


def _places_of(
    names: Mapping[int, str], written: Mapping[int, str], known: Mapping[int, str], owner: str
) -> dict[int, int]:
    """Labels of the pipeline to those of the folder, whose very names the user may have written."""
    by_name = {name: label for label, name in known.items()}
    table = {label: by_name[text] for label, text in written.items() if text in by_name}
    table |= match_classes({k: name for k, name in names.items() if k not in table}, known, owner, places=True)
    if len(set(table.values())) < len(table):
        twice = next(theirs for theirs in table.values() if list(table.values()).count(theirs) > 1)
        ours = [names[label] for label, theirs in table.items() if theirs == twice]
        raise ValueError(f"{owner} has one class, {known[twice]!r}, for {' and '.join(ours)}; choose one of these")
    return table


def _images_of(path: Path, name: str, folders: Mapping[str, str]) -> list[str]:
    found = sorted(images_in(path, folders[name]))
    if not found:
        raise ValueError(f"{path / name} holds no images; put those of the class there, or choose other classes")
    require_one_split_within(path, {file.removeprefix(folders[name]).rpartition("/")[0] for file in found})
    return found
