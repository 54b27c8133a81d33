"""Folders of real images, such as ImageNet's, of which only some classes are listed and few images are decoded.

FOLDER/n01440764/*.JPEG -> rows with another's labels and names -> pixels of those rows that are asked for
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .class_names import match_classes
from .image_formats import image_suffixes
from .metadata import METADATA, SELECTED
from .pools import PROVENANCE, ChosenImages, Pool, read_pool

NO_BARE_FOLDER = (METADATA, SELECTED, PROVENANCE, "state.json", "dataset_dict.json")


def _is_bare(path: Path) -> bool:
    return path.is_dir() and not any((path / name).exists() for name in NO_BARE_FOLDER)


def class_names_in(path: Path) -> dict[int, str]:
    """Label to class name of real images, whose files are not listed if folders tell it.

    Raises:
        ValueError: a folder has no class folders, as ILSVRC's validation set comes.
    """
    if not _is_bare(path):
        return read_pool(path).class_names
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise ValueError(f"{path} has no class folders; sort its images into folders such as {path / 'n01440764'}")
    return dict(enumerate(names))


def real_images(path: Path, names: Mapping[int, str], written: Mapping[int, str]) -> Pool:
    """Real images of some classes, with the labels and names that the pipeline gives them.

    Args:
        path: whatever ``read_pool`` reads.  Of a bare folder only these classes are listed, and links are followed.
        names: label of the pipeline to class name.
        written: the same labels to what the user called them, which may be the very name of a folder.

    Raises:
        ValueError: a class is missing or has no images.
    """
    known = class_names_in(path)
    by_name = {name: label for label, name in known.items()}
    table = {label: by_name[text] for label, text in written.items() if text in by_name}
    table |= match_classes({k: name for k, name in names.items() if k not in table}, known, f"the folder {path}")
    if _is_bare(path):
        pool = Pool(path, [row for theirs in sorted(table.values()) for row in _listed(path, theirs, known[theirs])])
    else:
        pool = read_pool(path)
    ours = {theirs: label for label, theirs in table.items()}
    kept = rows_of(pool, [index for index, row in enumerate(pool.rows) if row["label"] in ours])
    rows = [row | {"label": ours[row["label"]], "class_name": names[ours[row["label"]]]} for row in kept.rows]
    return replace(kept, rows=rows)


def _listed(path: Path, label: int, name: str) -> list[dict[str, Any]]:
    found = sorted(
        file.relative_to(path).as_posix()
        for file in (path / name).rglob("*")
        if file.suffix.lower() in image_suffixes() and not file.name.startswith(".")
    )
    if not found:
        raise ValueError(f"{path / name} holds no images; put those of the class there, or choose other classes")
    return [{"file_name": file, "label": label, "class_name": name} for file in found]


def rows_of(pool: Pool, indices: Sequence[int] | np.ndarray) -> Pool:
    """Some images of a pool, in the order given."""
    chosen = [int(index) for index in indices]
    encoded = None if pool.encoded is None else ChosenImages(pool.encoded, chosen)
    return replace(pool, rows=[pool.rows[index] for index in chosen], encoded=encoded)


def channels_of(pool: Pool) -> int:
    """1 if an image of every class is grey, else 3; among photographs a few are grey."""
    first = {row["label"]: index for index, row in reversed(list(enumerate(pool.rows)))}
    return 1 if all(pool.open(index).mode == "L" for index in first.values()) else 3
