"""One small histogram of difficulty for each class, as a few strokes of SVG: a thousand of them weigh a megabyte.

    M x0 y  V y0  H x1  V y1  H x2 ...   one stroke a series, a step a bin of the log-odds

The axis below them is the same for all and drawn once; the page refers to it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .figures import HIGHEST, LOWEST, TICKS, Series, bin_edges, compared_series, log_odds, plain, scaled_heights, themed

WIDTH, MARGIN, PITCH, AXIS = 220, 8, 34, 20  # the page's pixels: of a panel, beside the bars, a series, the axis
BINS, ROOM = 16, 0.86  # bins of a panel; the part of a series' height that the highest bar fills


def class_axis(series: Sequence[Series]) -> dict[str, Any]:
    """Size of every panel, and where its ticks stand."""
    ticks = [(_x(float(log_odds(np.array(tick)))), plain(tick).removeprefix("0")) for tick in TICKS[1:]]
    return {"width": WIDTH, "height": PITCH * len(series) + AXIS, "bottom": PITCH * len(series), "ticks": ticks}


def class_panel(series: Sequence[Series], name: str) -> list[dict[str, Any]]:
    """The strokes of one class, those of each series with what to say of it, from top to bottom."""
    edges = bin_edges(BINS)
    heights, cuts = scaled_heights(series, name, edges, ROOM)
    compared = compared_series(series)
    panel = []
    for i, one in enumerate(series):
        base, values = PITCH * (i + 1), one.of(name)
        over = compared is not None and (i != compared or not one.filled)
        panel.append(
            {
                "color": themed(one.color),
                "bars": _outline(heights[i], edges, base, closed=True) if one.filled else "",
                "line": _outline(heights[compared], edges, base) if over and compared is not None else "",
                "says": f"{one.name}: {_facts(values)}",
                "cuts": [{"x": _x(edges[0]) + 18 if left else _x(edges[-1]) - 18, "y": base - 0.62 * PITCH,
                          "side": "start" if left else "end", "text": text} for left, text in cuts[i]],
            }
        )  # fmt: skip
    return panel


def _facts(values: np.ndarray) -> str:
    return f"n = {len(values):,}, median {np.median(values):.2g}" if len(values) else "none"


def _outline(heights: np.ndarray, edges: np.ndarray, base: int, *, closed: bool = False) -> str:
    """Steps over the bins, from the base and back to it; of an empty series nothing."""
    if not heights.any():
        return ""
    steps = [f"V{base - PITCH * h:.1f}H{_x(edge):.1f}" for h, edge in zip(heights, edges[1:], strict=True)]
    return f"M{_x(edges[0]):.1f} {base}{''.join(steps)}V{base}{'z' if closed else ''}"


def _x(position: float) -> float:
    low, high = log_odds(np.array([LOWEST, HIGHEST]))
    return round(float(MARGIN + (WIDTH - 2 * MARGIN) * (position - low) / (high - low)), 1)
