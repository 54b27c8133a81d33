"""Figures of the report with what stands below them: target against measured, and what a selection wanted and found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from .figures import scatter, set_color, svg
from .report_tables import Lacking, quota_tables
from .reported_sets import ReportedSet, aim_of
from .selection_figures import quota_bars


@dataclass(frozen=True)
class Drawing:
    """A figure, its caption, and whose it is.

    Attributes:
        figure: from ``figures.svg``.
        caption: plain text.
        color: of the set that it shows, for a mark before the caption; empty for none.
        legend: names, colours and whether the line is solid, where several are drawn.
        wide: over the whole width instead of beside others.
        heading: above it; empty for none.
    """

    figure: Markup
    caption: str
    color: str = ""
    legend: Sequence[tuple[str, str, bool]] = ()
    wide: bool = False
    heading: str = ""


def control_drawings(pools: Sequence[ReportedSet]) -> list[Drawing]:
    """Target against measured difficulty, for each pool whose rows say what was aimed at."""
    drawings = []
    for i, one in enumerate(pools):
        scored = np.concatenate([*one.easy_to_hard.values(), np.empty(0, np.int64)])
        pairs = [(aim_of(row), row["difficulty"]) for row in (one.pool.rows[j] for j in scored)]
        pairs = [(aim, found) for aim, found in pairs if aim is not None]
        if pairs:
            aimed, measured = np.array(pairs, np.float64).T
            figure = svg(scatter(aimed, measured, set_color(i)), f"Target against achieved difficulty, {one.name}")
            caption = (
                f"{one.name}: target against measured difficulty of {len(pairs):,} images, "
                f"mean |d \N{MINUS SIGN} d*| = {np.abs(aimed - measured).mean():.3f}"
            )
            drawings.append(Drawing(figure, caption, set_color(i)))
    return drawings


def quota_drawings(selected: Sequence[ReportedSet], first: int) -> list[Drawing]:
    """Images that the bins of all classes wanted and found, for each set that records them.

    Args:
        first: number of the first set, which gives its colour.
    """
    drawings = []
    for i, one in enumerate(selected):
        if quota_tables([one]):
            wanted, found = (np.sum([row[key] for row in one.selection if row[key]], 0) for key in ("quotas", "found"))
            lacking = sum(sum(row["deficits"]) for row in one.selection)
            by_bin = one.record.get("method") == "histogram"
            rest = f"; {lacking} lacking, drawn at random instead" if lacking and by_bin else ""
            figure = svg(quota_bars(wanted, found, set_color(first + i)), f"Images wanted and found, {one.name}")
            caption = f"{one.name}: images that each bin wanted (line) and found (bars), all classes{rest}."
            drawings.append(Drawing(figure, caption, set_color(first + i)))
    return drawings


def lacking(value: object) -> bool:
    """Whether a cell of a table calls for attention."""
    return isinstance(value, Lacking)
