"""What the shown images should have been like, as far as their records say.

    a set chosen by a shape     shares of ten bins, laid over the scale that its record gives for each class
    a set chosen by a curve     the quantiles that its record gives
    a steered pool              the targets of its images

A set that follows a reference does not repeat the reference's numbers: the report's reference stands for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .reported_sets import ReportedSet
from .scales import LogScale, RawScale, Scale, searched_scale
from .targets import PRESETS, Curve, TargetDistribution


def target_of_sets(pools: Sequence[ReportedSet], selected: Sequence[ReportedSet]) -> tuple[dict[str, np.ndarray], str]:
    """Class name to the difficulties aimed at, and by whom: the first set that says so, or else the first steered pool.

    Nothing where that set followed a reference.
    """
    for one in selected:
        target, recorded = one.record.get("target"), _recorded(one.record.get("target"))
        if isinstance(target, dict) and "reference" in target:
            return {}, ""
        if recorded is not None:
            return laid_over(recorded, one), one.name
    return next(((one.aims, one.name) for one in pools if one.aims), ({}, ""))


def laid_over(target: TargetDistribution, one: ReportedSet) -> dict[str, np.ndarray]:
    """The difficulties that a target asks of each class, a mere shape laid over the scale that the set records.

    Raises:
        ValueError: the target lacks a class.
    """
    ipc = one.record.get("ipc")
    options = {"ipc": ipc if isinstance(ipc, int) else None}
    scales = {row["class"]: _scale_of(row) for row in one.selection} if target.relative else {}
    return {
        name: target.values(name, scales.get(name) or searched_scale(values), **options)
        for name, values in one.by_class.items()
    }


def _recorded(record: Any) -> TargetDistribution | None:
    """The target of a record that holds all of it; a record that holds nonsense has none."""
    known = record if isinstance(record, dict) else {}
    try:
        if known.get("shares"):
            preset = known.get("name") in PRESETS  # of which some IPC have counts of their own
            return TargetDistribution.preset(known["name"]) if preset else TargetDistribution.histogram(known["shares"])
        levels, knots = np.array(known.get("levels"), np.float64), np.array(known.get("difficulties"), np.float64)
    except (TypeError, ValueError):
        return None
    usable = levels.ndim == 1 and levels.shape == knots.shape and len(levels) and ((knots >= 0) & (knots <= 1)).all()
    return Curve(levels, knots, "target") if usable else None


def _scale_of(row: Mapping[str, Any]) -> Scale | None:
    match row.get("scale"):
        case []:
            return RawScale()
        case [float(low), float(high)] if 0 < low <= high <= 1:
            return LogScale(low, high)
    return None
