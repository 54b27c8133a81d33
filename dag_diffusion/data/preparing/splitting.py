"""Two parts of a pool, one to train on and one to be tested on, of which none holds a twin of the other's images.

    order of a class: groups of twins by hash(seed, class, first name)      held out: the first, until they are enough

By names and seed alone: whatever the order of reading, and an image that comes later moves few of the others.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from dag_diffusion.data.class_names import listed
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.rows import Row

from .duplicates import find_twins


class LoneImageError(ValueError):
    """A class has one different image, which cannot be divided; ``told`` says so without a way out."""

    def __init__(self, told: str, way: str) -> None:
        super().__init__(f"{told}; {way}")
        self.told = told


class Split(NamedTuple):
    """Two parts of a pool, each in the order of its rows: what is to ``train`` on, and what is ``held_out``."""

    train: Pool
    held_out: Pool


def split_pool(
    pool: Pool,
    held_out: float = 0.1,
    *,
    seed: int = 0,
    twins: Sequence[Sequence[int]] | None = None,
    lone: Literal["refuse", "train"] = "refuse",
) -> Split:
    """Hold out a share of each class, at least one image and never all of them.

    Args:
        held_out: share of each class, in (0, 1); of few images the nearest number of one or more.
        seed: another one holds out others.
        twins: groups of rows that must not be divided, from ``find_twins(pool).groups``, which is called if None.
        lone: what becomes of a class that cannot be divided, since it has one image or only twins of one.

    Raises:
        LoneImageError: such a class is refused, and named.
        ValueError: ``held_out`` is no share.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out}, a share of each class; use a number between 0 and 1, such as 0.1")
    groups = _joined(len(pool), find_twins(pool).groups if twins is None else twins)
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(row)
    # an image of two classes is trained on, if at all: it says nothing to be asked for its class
    alone = {group for group, rows in members.items() if len(set(pool.labels[rows].tolist())) == 1}
    chosen, lonely = set[int](), []
    for label, name in sorted(pool.class_names.items()):
        present = set(groups[pool.labels == label].tolist())
        own = [members[group] for group in present & alone]
        if len(present) < 2 or not own:
            lonely.append(name)
            continue
        wanted = number_held_out(int((pool.labels == label).sum()), held_out)
        chosen.update(_first(pool, own, wanted, seed, all_of_them=len(own) < len(present)))
    if lonely and lone == "refuse":
        _refuse_lonely(pool, lonely)
    rows = range(len(pool))
    return Split(pool.select([row for row in rows if row not in chosen]), pool.select(sorted(chosen)))


def number_held_out(images: int, share: float) -> int:
    """Of so many images of a class that has no twins."""
    return max(round(share * images), 1)


def _joined(rows: int, groups: Iterable[Sequence[int]]) -> np.ndarray:
    """For each row the least one that it must stay with, through groups that share rows too."""
    first = list(range(rows))

    def root(row: int) -> int:
        while first[row] != row:
            row = first[row]
        return row

    for group in groups:
        least = min(map(root, group))
        for row in group:
            first[root(row)] = least
    return np.array([root(row) for row in range(rows)], np.int64)


def _first(pool: Pool, groups: list[list[int]], wanted: int, seed: int, *, all_of_them: bool) -> list[int]:
    """Rows of as many groups as ``wanted`` has room for, at least of one, and of all only if that may be."""
    ordered = [sorted(group, key=lambda row: pool.rows[row]["file_name"]) for group in groups]
    ordered.sort(key=lambda group: order_of(pool.rows[group[0]], seed))
    taken: list[int] = []
    for group in ordered if all_of_them else ordered[:-1]:
        if not taken or len(taken) + len(group) <= wanted:
            taken += group
    return taken


def order_of(row: Row, seed: int) -> bytes:
    """A place of an image among those of its class, random for each seed, from its name alone."""
    named = f"{seed}\0{row['class_name']}\0{row['file_name']}"
    return hashlib.blake2b(named.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def capped(pool: Pool, most: int, seed: int = 0) -> list[int]:
    """Rows of at most ``most`` images of each class, drawn by ``order_of``, in the order of the pool."""
    kept: list[int] = []
    for label in pool.class_names:
        rows = np.flatnonzero(pool.labels == label).tolist()
        kept += sorted(rows, key=lambda row: order_of(pool.rows[row], seed))[:most]
    return sorted(kept)


def images_per_class(pool: Pool) -> Mapping[str, int]:
    """Number of images of each class by name, the largest class first."""
    labels, counts = np.unique(pool.labels, return_counts=True)
    found = [(pool.class_names[label], int(count)) for label, count in zip(labels.tolist(), counts, strict=True)]
    return dict(sorted(found, key=lambda one: (-one[1], one[0])))


def _refuse_lonely(pool: Pool, names: Sequence[str]) -> None:
    has = "has" if len(names) == 1 else "have"
    raise LoneImageError(
        f"{listed(map(repr, names))} of {pool.path} {has} one different image, which cannot be divided into two parts",
        "add images, leave these classes out, or use lone='train'",
    )
