"""Difficulty-guided sampling (DGS): from a pool, keep the IPC images per class whose difficulties follow a target.

    thresholds -> transform -> quota of each bin -> draw each quota at random -> fill up what is missing at random

(arXiv 2601.10090; predecessor 2507.03331).  Works on plain arrays of difficulties too: no images are needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .pools import Pool
from .targets import BINS, TargetDistribution, log_transform, search_thresholds

METHODS = ("histogram", "random", "easiest", "hardest")
FILLED = -1  # bin of an image that was drawn to fill up a bin that had too few


@dataclass(frozen=True)
class Selection:
    """What was chosen in one class, and how far it met the target.

    Attributes:
        indices: ``(ipc,)`` chosen positions, in the order of drawing.
        bins: ``(ipc,)`` the bin that each was drawn for, 0 (easy) to 9, or -1 if it only fills up.
        quotas, found: ``(10,)`` images wanted and drawn in each bin; empty for methods without bins.
        thresholds: the paper's (bottom, top), numbers of clipped images; empty likewise.
    """

    indices: np.ndarray
    bins: np.ndarray
    quotas: tuple[int, ...] = ()
    found: tuple[int, ...] = ()
    thresholds: tuple[int, ...] = ()


def select(
    difficulties: Sequence[float],
    ipc: int,
    *,
    method: str = "histogram",
    target: TargetDistribution | None = None,
    class_name: str = "",
    seed: int | Sequence[int] = 0,
    search: str = "pool",
) -> Selection:
    """Choose ``ipc`` distinct images of one class by their difficulties.

    Args:
        difficulties: ``(n,)`` in [0, 1], n >= ipc.
        ipc: images to keep, at least 1.
        method: ``histogram`` (the paper's rule), or the baselines ``random``, ``easiest``, ``hardest``.
        target: needed by ``histogram``.
        class_name: the class in the target's reference.
        seed: of all draws.
        search: range of the threshold search: ``pool``, 0..n/2-1, which the authors' recorded thresholds need, or
            ``ipc``, 0..ipc/2-1, as in their released code.

    Raises:
        ValueError: fewer images than ``ipc``, a difficulty outside [0, 1] or NaN, or an unknown method.
    """
    values = _checked(difficulties, ipc)
    generator = np.random.default_rng(seed)
    if method == "random":
        return _unbinned(generator.permutation(len(values))[:ipc])
    if method in ("easiest", "hardest"):
        order = np.argsort(values if method == "easiest" else -values, kind="stable")
        return _unbinned(order[:ipc])
    if method != "histogram":
        raise ValueError(f"there is no selection method {method!r}; choose one of {', '.join(METHODS)}")
    if target is None:
        raise ValueError(
            "the histogram rule needs a target: TargetDistribution.from_reference(...), .preset('hill'), ..."
        )
    if search not in ("pool", "ipc"):
        raise ValueError(
            f"search is {search!r}; use 'pool' (as the paper's figures need) or 'ipc' (as its released code)"
        )
    thresholds = search_thresholds(values, (len(values) if search == "pool" else ipc) // 2)
    bins = log_transform(values, *thresholds).bins(values)
    return _draw(bins, target.quotas(class_name, ipc, *thresholds), thresholds, generator)


def _checked(difficulties: Sequence[float], ipc: int) -> np.ndarray:
    values = np.asarray(difficulties, np.float64)
    if ipc < 1:
        raise ValueError(f"ipc (images per class) is {ipc}; it must be at least 1")
    if len(values) < ipc:
        raise ValueError(
            f"the pool has {len(values)} images in this class, but ipc is {ipc}; generate more or lower ipc"
        )
    if not np.all((values >= 0) & (values <= 1)):
        bad = int(np.flatnonzero(~((values >= 0) & (values <= 1)))[0])
        raise ValueError(f"difficulty number {bad} is {values[bad]}; all must lie in [0, 1], so score the pool again")
    return values


def _unbinned(indices: np.ndarray) -> Selection:
    return Selection(indices, np.full(len(indices), FILLED))


def _draw(
    bins: np.ndarray, quotas: np.ndarray, thresholds: tuple[int, int], generator: np.random.Generator
) -> Selection:
    drawn = [
        generator.permutation(np.flatnonzero(bins == number))[:quota]  # a bin with too few gives all it has
        for number, quota in enumerate(quotas)
    ]
    found = [len(indices) for indices in drawn]
    chosen = np.concatenate(drawn)
    rest = generator.permutation(np.setdiff1d(np.arange(len(bins)), chosen))[: quotas.sum() - len(chosen)]
    labels = np.concatenate([np.repeat(np.arange(BINS), found), np.full(len(rest), FILLED)])
    return Selection(np.concatenate([chosen, rest]), labels, tuple(quotas.tolist()), tuple(found), thresholds)


@dataclass(frozen=True)
class PoolSelection:
    """A whole pool subsampled.

    Attributes:
        indices: rows of the pool, class by class.
        bins: the bin that each was drawn for, aligned with ``indices``.
        classes: ``Selection`` of each class, by label; its indices count within the class.
    """

    indices: np.ndarray
    bins: np.ndarray
    classes: dict[int, Selection]

    def quota_rows(self, class_names: dict[int, str]) -> list[dict[str, Any]]:
        """One row for each class and bin: class, bin, wanted, found."""
        return [
            {"class": class_names[label], "bin": number, "wanted": wanted, "found": found}
            for label, chosen in self.classes.items()
            for number, (wanted, found) in enumerate(zip(chosen.quotas, chosen.found, strict=True))
        ]


def subsample(
    pool: Pool,
    ipc: int,
    *,
    target: TargetDistribution | None = None,
    method: str = "histogram",
    seed: int = 0,
    search: str = "pool",
) -> PoolSelection:
    """DGS on a scored pool: ``ipc`` images of every class.  Write them with ``pools.write_distilled_set``.

    Each class draws from its own stream, (seed, label), so that one class does not change another.

    Raises:
        ValueError: as ``select``, with the class named.
    """
    # a random baseline needs no scores
    difficulties, labels = np.zeros(len(pool)) if method == "random" else pool.difficulties, pool.labels
    parts, classes = [], {}
    for label, name in pool.class_names.items():
        rows = np.flatnonzero(labels == label)
        try:
            chosen = select(
                difficulties[rows],
                ipc,
                method=method,
                target=target,
                class_name=name,
                seed=(seed, label),
                search=search,
            )
        except ValueError as error:
            raise ValueError(f"class {name!r} of {pool.path}: {error}") from error
        parts.append((rows[chosen.indices], chosen.bins))
        classes[label] = chosen
    return PoolSelection(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), classes)
