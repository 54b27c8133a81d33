"""Images that are in a pool more than once, as links or as files of equal pixels, in one class or under two names.

    within a class: one is kept, the first by name        across classes: none is, since no label is right for both

Who links to a picture from another class says that it is of both, so that such pictures go the same way unless the
place of the real file is to count: a network that then calls it by its other name would be wrong, and the picture hard,
for no fault of theirs.

Pixels are compared on the pool's background after decoding, so that a PNG and a palette of the same picture are twins.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast, get_args

from dag_diffusion.data.images import THREADS
from dag_diffusion.data.pools import Pool

from .inspection import Look, groups_of_equal, looks_of, pixel_digest, real_files

TwinRule = Literal["leave_out", "refuse", "keep"]
LinkRule = Literal["leave_out", "real"]
SHOWN = 3


def as_twin_rule(name: str) -> TwinRule:
    """What becomes of twins, checked.

    Raises:
        ValueError: it is none of leave_out, refuse and keep.
    """
    if name not in get_args(TwinRule):
        raise ValueError(f"twins is {name!r}; use 'leave_out', 'refuse' to stop at twins across classes, or 'keep'")
    return cast(TwinRule, name)


def as_link_rule(name: str) -> LinkRule:
    """What becomes of a picture that lies in one class and is linked to from others, checked.

    Raises:
        ValueError: it is none of leave_out and real.
    """
    if name not in get_args(LinkRule):
        raise ValueError(f"links is {name!r}; use 'real' to keep such a picture where its file lies, or 'leave_out'")
    return cast(LinkRule, name)


@dataclass(frozen=True)
class Twins:
    """Groups of equal images of a pool, as indices of its rows.

    Attributes:
        within: groups of which all are of one class.
        across: groups of two or more classes.
        links: rows whose file is a link to that of another row, and ``misled`` those where that is of another class.
    """

    within: list[list[int]]
    across: list[list[int]]
    links: list[int]
    misled: list[int]

    @property
    def groups(self) -> list[list[int]]:
        """All of them."""
        return sorted(self.within + self.across)


def find_twins(pool: Pool, looks: Sequence[Look] | None = None) -> Twins:
    """Links and images of equal pixels in a pool.

    Args:
        looks: of its images, from ``looks_of``; else all are decoded.
    """
    looks = looks_of(pool) if looks is None else looks
    groups, labels = list(groups_of_equal(pool, looks)), pool.labels
    across = [rows for rows in groups if len(set(labels[rows].tolist())) > 1]
    within = [rows for rows in groups if len(set(labels[rows].tolist())) == 1]
    links, misled = _links(pool)
    return Twins(within, across, links, misled)


def _links(pool: Pool) -> tuple[list[int], list[int]]:
    if pool.encoded is not None:
        return [], []
    files, root = real_files(pool), str(pool.path.resolve())
    own = {f"{root}/{row['file_name']}": index for index, row in enumerate(pool.rows)}
    links = [i for i, row in enumerate(pool.rows) if files[i] != f"{root}/{row['file_name']}" and files[i] in own]
    return links, [i for i in links if pool.rows[own[files[i]]]["label"] != pool.rows[i]["label"]]


def rows_of_equal_pixels(pool: Pool, looks: Sequence[Look], other: Pool, others: Sequence[Look]) -> list[int]:
    """Rows of ``pool`` whose picture, pixel for pixel on the same background, is in ``other`` too.

    Args:
        looks, others: of the images of both, from ``looks_of``.
    """
    ours, theirs = _by_sketch(looks), _by_sketch(others)
    common = ours.keys() & theirs.keys()
    rows = sorted(row for key in common for row in ours[key])
    with ThreadPoolExecutor(THREADS) as threads:
        known = set(threads.map(partial(pixel_digest, other), [row for key in common for row in theirs[key]]))
        digests = threads.map(partial(pixel_digest, pool), rows)
        return [row for row, digest in zip(rows, digests, strict=True) if digest in known]


def _by_sketch(looks: Sequence[Look]) -> dict[tuple[int, int, str], list[int]]:
    """Rows of readable images by what those of equal pixels have in common."""
    found: dict[tuple[int, int, str], list[int]] = defaultdict(list)
    for row, look in enumerate(looks):
        if not look.problem:
            found[look.width, look.height, look.sketch].append(row)
    return found


def require_no_twins_across(pool: Pool, twins: Twins) -> None:
    """Check that no image has two classes.

    Raises:
        ValueError: some have; three are named.
    """
    if not twins.across:
        return
    pairs = [" = ".join(pool.rows[row]["file_name"] for row in rows[:2]) for rows in twins.across[:SHOWN]]
    raise ValueError(
        f"{len(twins.across)} images of {pool.path} are in two classes or more, such as {', '.join(pairs)}; remove "
        "them there, or use twins='leave_out'"
    )
