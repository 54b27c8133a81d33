"""Figures of a selection: how far difficulties follow a target, and how many images each bin wanted and found.

    F(d) = share of images that are at most as hard as d

The area between two such curves, on an even axis, is their Wasserstein-1 distance; the axis here is that of log-odds.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .figures import (
    HIGHEST,
    INK,
    LOWEST,
    Series,
    blank_figure,
    difficulty_ticks,
    even_sample,
    log_odds,
    panel,
    shortened,
)
from .scales import BINS
from .targets import even_levels

if TYPE_CHECKING:  # a third of a second, wanted only by whoever draws
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CORNERS = 300  # of a curve; more say no more and cost a megabyte
FEW_TICKS = (0.001, 0.1, 0.9)
PANELS = 12  # classes that get a panel of their own


def cumulative(series: Sequence[Series], *, ipc: int = 0, title: str = "", classes: Sequence[str] = ()) -> "Figure":
    """One curve a series, the target drawn as a thin dark line over the others.

    Args:
        ipc: dots for the difficulties that so many images should have, in the panels of the classes.
        classes: draw each of these, at most twelve, in a small panel below the one for all.
    """
    columns, shown = 4, list(classes)[:PANELS] if len(classes) > 1 else []
    rows = -(-len(shown) // columns)
    head, main, small = 30 if title else 8, 290, 150
    figure = blank_figure(560, head + main + small * rows)
    height = head + main + small * rows
    axes = panel(figure, left=44, bottom=36 + small * rows, right=12, top=head)
    _draw(axes, series, None, ipc)
    axes.set_ylabel("share of images at most so hard", fontsize=11, color=INK)
    axes.set_xlabel("difficulty d, on a log-odds scale", fontsize=11, color=INK)
    for i, one in enumerate(series):
        axes.text(0.02, 0.96 - 0.075 * i, one.name, transform=axes.transAxes, fontsize=11, weight="bold",
                  color=one.color, va="top", parse_math=False)  # fmt: skip
    for i, name in enumerate(shown):
        left, top = 20 + 135 * (i % columns), head + main + small * (i // columns)
        axes = panel(figure, left=left, bottom=height - top - small + 24, right=560 - left - 122, top=top + 20)
        _draw(axes, series, name, ipc)
        axes.set_xticks(log_odds(np.array(FEW_TICKS)), [f"{tick:g}".removeprefix("0") for tick in FEW_TICKS])
        axes.set_yticks([0, 0.5, 1], ["", "", ""])
        axes.tick_params(labelsize=8)
        axes.set_title(shortened(name, 20), fontsize=10, color=INK, parse_math=False, pad=3)
    figure.text(8 / 560, 1 - 6 / height, title, fontsize=13, weight="bold", color=INK, va="top", parse_math=False)
    return figure


def _draw(axes: "Axes", series: Sequence[Series], class_name: str | None, ipc: int) -> None:
    limits = log_odds(np.array([LOWEST, HIGHEST]))
    for one in series:
        values = np.sort(one.of(class_name))
        if not len(values):
            continue
        corners = even_sample(np.arange(len(values)), CORNERS)
        x = np.concatenate([limits[:1], log_odds(values[corners]), limits[1:]])
        y = np.concatenate([[0], (corners + 1) / len(values), [1]])
        line = {"linewidth": 1.2, "zorder": 3} if one.color == INK else {"linewidth": 2.4}
        axes.step(x, y, where="post", color=one.color, **line)
        if one.color == INK and ipc and class_name is not None:
            slots = np.quantile(values, even_levels(ipc))
            axes.plot(log_odds(slots), even_levels(ipc), "o", color=INK, markersize=2.5, zorder=4)
    axes.set(xlim=limits, ylim=(0, 1.02))
    difficulty_ticks(axes.xaxis)


def quota_bars(wanted: Sequence[int], found: Sequence[int], color: str) -> "Figure":
    """Images of each bin: those found as bars, those wanted as outlines around them."""
    from matplotlib.ticker import MaxNLocator

    figure = blank_figure(360, 200)
    axes = panel(figure, left=40, bottom=40, right=8, top=10)
    edges = np.arange(BINS + 1) - 0.5
    axes.bar(np.arange(BINS), found, width=0.8, color=color, alpha=0.85)
    axes.stairs(wanted, edges, color=INK, linewidth=1.4)
    axes.set(xlim=(-0.6, BINS - 0.4), ylim=(0, 1.08 * max(*wanted, *found, 1)), xticks=np.arange(BINS))
    axes.set_xlabel("bin, easy to hard", fontsize=11, color=INK)
    axes.set_ylabel("images", fontsize=11, color=INK)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
