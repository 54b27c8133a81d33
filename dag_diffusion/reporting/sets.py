"""A pool or distilled set as the report sees it: its images by class from easy to hard, and what they should have been.

    class -> rows sorted by d,   images without a difficulty left out and counted

The target is what the record says:

    a set chosen by a shape     shares of ten bins, laid over the scale that its record gives for each class, or else
                                over that of its pool
    a set chosen by a curve     the quantiles that its record gives
    a steered pool              the targets of its images

A set that follows a reference does not repeat the reference's numbers: the report's reference stands for it.  Nothing
is drawn here; figures, grids and tables all start from these rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from dag_diffusion.data.class_names import distinct_names
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.provenance import ClassSelection, SelectionRecord, class_selections, origin_of, selection_of
from dag_diffusion.data.rows import Row
from dag_diffusion.sampling.scales import LogScale, RawScale
from dag_diffusion.sampling.targets import TargetDistribution
from dag_diffusion.sampling.threshold_search import searched_scale

from .figures import GREY, INK, Series, set_color


@dataclass(frozen=True)
class ReportedSet:
    """A pool or a distilled set to be shown, ``ReportedSet("DGS, guided pool", pool, "10 of 200 a class")``.

    Attributes:
        note: below its name.
    """

    name: str
    pool: Pool
    note: str = ""

    @cached_property
    def easy_to_hard(self) -> dict[str, np.ndarray]:
        """Class name to the rows of its scored images, the easiest first; classes in the order of their labels.

        Raises:
            ValueError: no image has a difficulty yet, or one has something else than a number from 0 to 1.
        """
        known = self.pool.known_difficulties
        if np.isnan(known).all():
            known = self.pool.difficulties  # raises, with the command that scores them
        scored = np.flatnonzero(~np.isnan(known))
        order = scored[np.lexsort((known[scored], self.pool.labels[scored]))]
        labels, starts = np.unique(self.pool.labels[order], return_index=True)
        names = distinct_names(self.pool.class_names)
        return {names[label]: rows for label, rows in zip(labels.tolist(), np.split(order, starts[1:]), strict=True)}

    @cached_property
    def by_class(self) -> dict[str, np.ndarray]:
        """Class name to its difficulties, rising, ``(n,)`` in [0, 1]."""
        return {name: self.pool.known_difficulties[rows] for name, rows in self.easy_to_hard.items()}

    @property
    def unscored(self) -> int:
        """How many images have no difficulty, such as those that could not be read."""
        return int(np.isnan(self.pool.known_difficulties).sum())

    @cached_property
    def targets(self) -> dict[str, np.ndarray]:
        """Class name to the target difficulties of its images, of those that have one; empty for an unguided pool."""
        found = {name: [target_of(self.pool.rows[i]) for i in rows] for name, rows in self.easy_to_hard.items()}
        kept = {name: [target for target in own if target is not None] for name, own in found.items()}
        return {name: np.array(own) for name, own in kept.items() if own}

    @property
    def record(self) -> SelectionRecord:
        """What ``PoolSelection.record`` said; empty for a set that other programs made."""
        return selection_of(self.pool.provenance)

    @cached_property
    def selection(self) -> list[ClassSelection]:
        """How the images of each class were chosen, as far as the record says."""
        return class_selections(self.record)


def target_of(row: Row) -> float | None:
    """The target difficulty of one image, None if it has none that is a number."""
    target = row.get("target_difficulty")
    if not isinstance(target, Real) or isinstance(target, bool) or not math.isfinite(target):
        return None
    return float(target)


def series_of(
    reference: Mapping[str, np.ndarray],
    pools: Sequence[ReportedSet],
    selected: Sequence[ReportedSet],
    target: Mapping[str, np.ndarray],
) -> list[Series]:
    """What the histograms show, from top to bottom: reference, pools, target, sets.  What is empty is left out."""
    colored = [Series(one.name, set_color(i), one.by_class) for i, one in enumerate([*pools, *selected])]
    series = [
        Series("reference", GREY, _known(reference)),
        *colored[: len(pools)],
        Series("target", INK, _known(target), filled=False),
        *colored[len(pools) :],
    ]
    return [one for one in series if one.by_class]


def _known(difficulties: Mapping[str, Any]) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(values, np.float64) for name, values in difficulties.items()}
    known = {name: values[~np.isnan(values)] for name, values in arrays.items()}
    return {name: values for name, values in known.items() if len(values)}


def target_of_sets(pools: Sequence[ReportedSet], selected: Sequence[ReportedSet]) -> tuple[dict[str, np.ndarray], str]:
    """Class name to the target difficulties, and whose: the first set that records any, or else the first steered pool.

    Nothing where that set followed a reference.
    """
    for one in selected:
        target, recorded = one.record.get("target"), _recorded(one.record.get("target"))
        if isinstance(target, dict) and "reference" in target:
            return {}, ""
        if recorded is not None:
            return laid_over(recorded, one, pools), one.name
    return next(((one.targets, one.name) for one in pools if one.targets), ({}, ""))


def laid_over(target: TargetDistribution, one: ReportedSet, pools: Sequence[ReportedSet]) -> dict[str, np.ndarray]:
    """The difficulties that a target asks of each class.

    A shape is laid over the scale that the set records, else over that of its pool if this is one of ``pools``, else
    over the set's own.

    Raises:
        ValueError: the target lacks a class.
    """
    recorded = one.record.get("ipc")
    ipc = recorded if isinstance(recorded, int) else None
    raw = one.record.get("scale") == "raw"
    scales = {row["class"]: RawScale() if raw else _scale_of(row) for row in one.selection} if target.relative else {}
    origin = Path(origin_of(one.pool.provenance) or one.pool.path).resolve()
    offered = next((pool.by_class for pool in pools if pool.pool.path.resolve() == origin), {})
    return {
        name: target.values(name, scales.get(name) or searched_scale(offered.get(name, values)), ipc)
        for name, values in one.by_class.items()
    }


def _recorded(record: Any) -> TargetDistribution | None:
    """The target of a record that holds all of it."""
    try:
        return TargetDistribution.from_summary(record)
    except ValueError:
        return None


def _scale_of(row: ClassSelection) -> LogScale | None:
    match row.get("scale"):
        case [float(low), float(high)] if 0 < low <= high <= 1:
            return LogScale(low, high)
    return None
