"""Figures of an evaluation: every training as a dot with the mean of each set, or mean accuracy over images per class.

band, bar = mean ± standard deviation over seeds, of accuracies after the last epoch
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dag_diffusion.evaluation.comparisons import Row

from .figures import GREY, INK, PALETTE, PHONE, blank_figure, name_row, panel, set_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


LINES = 2 * len(PALETTE)  # that colours, solid and dashed, can tell apart
DOTTED = 40  # sets of one figure of dots


def families(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of sets that differ only in IPC, such as ``random:pool, IPC 10`` and ``... 50``, the smallest IPC first.

    A name without its number stands for the family, and ``distilled`` where nothing else is left of it.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        number = re.escape(f"{row.images_per_class:g}")
        name = re.sub(rf"[\s,;:_/-]*(?<![a-z])(ipc[\s=_-]*)?(?<!\d){number}$", "", row.set, flags=re.IGNORECASE)
        found.setdefault(name or "distilled", []).append(row)
    return {name: sorted(own, key=lambda row: row.images_per_class) for name, own in found.items()}


def curves(lines: Mapping[str, Sequence[Row]]) -> "Figure":
    """Accuracy over images per class, a line with a band for each family, a mark with a bar for one at a single IPC."""
    figure = blank_figure(PHONE, 300)
    axes = panel(figure, left=52, bottom=44, right=16, top=12)
    for i, rows in enumerate(list(lines.values())[:LINES]):
        _draw_line(axes, rows, i)
    sizes = sorted({row.images_per_class for rows in lines.values() for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlim(sizes[0] / 1.15, sizes[-1] * 1.15)
    axes.set_xlabel("images per class, on a log scale", fontsize=11, color=INK)
    axes.set_ylabel("test accuracy, %", fontsize=11, color=INK)
    return figure


def _draw_line(axes: "Axes", rows: Sequence[Row], number: int) -> None:
    x = np.array([row.images_per_class for row in rows])
    mean, std = (100 * np.array([value or 0.0 for value in values]) for values in
                 ([row.mean for row in rows], [row.std for row in rows]))  # fmt: skip
    color, style = set_color(number), "-" if is_solid(number) else (0, (3, 2))
    if len(rows) > 1:
        axes.fill_between(x, mean - std, mean + std, color=color, alpha=0.18, linewidth=0)
        axes.plot(x, mean, linestyle=style, marker="o", color=color, linewidth=2, markersize=5)
    else:
        axes.errorbar(x, mean, std, fmt="o" if is_solid(number) else "D", color=color, markersize=5, linewidth=1.5)


def is_solid(number: int) -> bool:
    """Whether the line with this number is solid; those beyond the palette's colours are dashed."""
    return number < len(PALETTE)


def dots(rows: Sequence[Row], accuracies: Mapping[str, Sequence[float]], baseline: str = "") -> "Figure":
    """A row for each set, its name above: each training a dot, the mean a stroke, the baseline's through all rows.

    Args:
        rows: at most ``DOTTED`` are drawn, the first ones.
        accuracies: name of each set to those of its trainings, in [0, 1].
        baseline: name of one of the rows.
    """
    shown, pitch = list(rows)[:DOTTED], 32
    figure = blank_figure(PHONE, pitch * len(shown) + 54)
    axes = panel(figure, left=8, bottom=44, right=8, top=10)
    axes.margins(x=0.04)
    for i, row in enumerate(shown):
        own, color = 100 * np.array(accuracies[row.set]), GREY if row.set == baseline else set_color(0)
        axes.axhline(i, color=INK, linewidth=0.8, alpha=0.13)
        axes.plot(own, np.full(len(own), i), "o", color=color, alpha=0.6, markersize=7, markeredgewidth=0)
        if len(own) > 1:
            axes.plot([100 * row.mean] * 2, [i - 0.2, i + 0.2], color=INK, linewidth=2)
        if row.set == baseline:
            axes.axvline(100 * row.mean, color=INK, linewidth=1, alpha=0.5, linestyle=(0, (4, 3)))
        name_row(axes, row.set, i)
    axes.set(ylim=(len(shown) - 0.6, -0.9), yticks=[])
    axes.set_xlabel("test accuracy, %", fontsize=11, color=INK)
    return figure
