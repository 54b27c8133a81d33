"""Figures of difficulties: distributions against a target, quotas, a small histogram for each class; and PNG files.

    F(d) = share of images that are at most as hard as d

The area between two such curves, on an even axis, is their Wasserstein-1 distance; the axis here is that of log-odds.
Histograms of single classes are a few strokes of SVG, since a thousand of them have to fit into one page:

    M x0 y  V y0  H x1  V y1  H x2 ...   one stroke for each series, one step for each bin of the log-odds
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dag_diffusion.data.class_names import distinct_names
from dag_diffusion.data.files import require_file_place, require_own_file, write_atomically
from dag_diffusion.data.pools import Pool
from dag_diffusion.sampling.references import known_by_class
from dag_diffusion.sampling.scales import BINS
from dag_diffusion.sampling.targets import TargetDistribution, even_levels
from dag_diffusion.sampling.threshold_search import searched_scale

from .figures import (
    HIGHEST,
    INK,
    LOWEST,
    TICKS,
    Series,
    bin_edges,
    blank_figure,
    compared_series,
    difficulty_ticks,
    even_sample,
    grid,
    log_odds,
    number_and_median,
    panel,
    plain,
    ridges,
    scaled_heights,
    set_color,
    shortened,
    themed,
)
from .sets import ReportedSet, series_of
from .thumbnails import enlarged, small

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


CORNERS = 300  # steps of a curve at most; more look the same and cost a megabyte
CURVES, CURVE_TICKS = 12, (0.001, 0.1, 0.9)  # classes that get a curve of their own, and its ticks
# histogram of one class, in the page's pixels: width, margins left and right, height of a series and of the axis
WIDTH, MARGIN, PITCH, AXIS = 220, 8, 34, 20
PANEL_BINS, ROOM = 16, 0.86  # its bins, and the part of a series' height that the highest bar fills
SOFTWARE = "dag-diffusion"  # in a figure, so that the next may replace it
PNG_DPI, GRID_DPI, TARGET_DPI = 200, 72, 150


def save_histogram_png(
    path: Path,
    *,
    reference: Mapping[str, np.ndarray],
    pools: Sequence[ReportedSet],
    selected: Sequence[ReportedSet],
    target: Mapping[str, np.ndarray] | None = None,
    title: str = "",
) -> Path:
    """Save the report's histogram of all classes as a picture on white, for a README.

    Args:
        path: PNG file.
        reference, pools, selected, target: as of ``write_report``.
        title: above the histogram; empty for none.

    Raises:
        ValueError: there is nothing to draw, or no image of a set has a difficulty yet.
    """
    series = series_of(reference, pools, selected, target or {})
    if not series:
        raise ValueError("there are no difficulties to draw a histogram of; give a reference, a pool or a selected set")
    return _save_png(path, ridges(series, title=title), dpi=PNG_DPI)


def save_grid_png(path: Path, pool: Pool, per_class: int = 10, title: str = "") -> Path:
    """Save images as a picture on white: a row for each class, an even sample of it from easy to hard.

    Args:
        path: PNG file.
        pool: scored.
        per_class: images of a row at most.
        title: above the rows; empty for none.

    Raises:
        ValueError: ``per_class`` is below 1, or no image has a difficulty yet.
    """
    if per_class < 1:
        raise ValueError(
            f"a grid needs at least one image a class, but per_class={per_class}; 10 fills a README's width"
        )
    rows = {name: even_sample(order, per_class) for name, order in ReportedSet("", pool).easy_to_hard.items()}
    cells = {name: [enlarged(small(pool, i, 128), 112) for i in indices] for name, indices in rows.items()}
    return _save_png(path, grid(cells, title), dpi=GRID_DPI)


def require_figure_place(path: Path) -> None:
    """Check that a figure may be written at ``path``, where it replaces an earlier one and nothing else.

    Raises:
        ValueError: its name is not that of a PNG file.
        FileExistsError: it holds something else.
        OSError: as ``require_file_place``.
    """
    _require_png_place(path)
    require_own_file(path, b"Software\0" + SOFTWARE.encode(), "figure")


def _require_png_place(path: Path) -> None:
    require_file_place(path, "figure.png")
    if path.suffix.lower() not in ("", ".png"):
        raise ValueError(f"{path} is to hold a PNG image; give a name such as {path.with_suffix('.png')}")


def save_target_png(path: Path, target: TargetDistribution, pool: Pool, *, ipc: int = 10) -> Path:
    """Draw a target, laid over each class's own scale, beside the difficulties that a pool offers.

    Args:
        path: PNG file.
        target: of the classes of the pool.
        pool: scored.
        ipc: images per class, whose target difficulties are marked.

    Raises:
        ValueError: no image of a class has a difficulty yet; the target lacks a class.
    """
    offered = known_by_class(pool, {name: label for label, name in distinct_names(pool.class_names).items()})
    wanted = {name: target.values(name, searched_scale(values), ipc) for name, values in offered.items()}
    name = (pool.listing or pool.path).name
    series = [Series(name, set_color(0), offered), Series(f"target: {target.name}", INK, wanted)]
    title = f"What {ipc} {'image' if ipc == 1 else 'images'} per class should follow, and what there is"
    return _save_png(path, cumulative(series, ipc=ipc, title=title, classes=list(offered)), dpi=TARGET_DPI)


def cumulative(series: Sequence[Series], *, ipc: int = 0, title: str = "", classes: Sequence[str] = ()) -> "Figure":
    """A curve for each series, the target drawn as a thin dark line over the others.

    Args:
        ipc: number of images whose target difficulties are marked by dots in the panels of the classes; 0 for none.
        classes: draw each of these, at most ``CURVES``, in a small panel below the one for all.
    """
    columns, shown = 4, list(classes)[:CURVES] if len(classes) > 1 else []
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
        axes.set_xticks(log_odds(np.array(CURVE_TICKS)), [f"{tick:g}".removeprefix("0") for tick in CURVE_TICKS])
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
            slots = np.quantile(values, even_levels(ipc), method="inverted_cdf")  # what a selection comes nearest to
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


def class_axis(series: Sequence[Series]) -> dict[str, Any]:
    """The axis that all histograms of single classes share: their size, and where the ticks stand."""
    ticks = [(_x(float(log_odds(np.array(tick)))), plain(tick).removeprefix("0")) for tick in TICKS[1:]]
    return {"width": WIDTH, "height": PITCH * len(series) + AXIS, "bottom": PITCH * len(series), "ticks": ticks}


def class_panel(series: Sequence[Series], name: str) -> list[dict[str, Any]]:
    """The histogram of one class: strokes and hover text of each series, from top to bottom."""
    edges = bin_edges(PANEL_BINS)
    heights, cuts = scaled_heights(series, name, edges, ROOM)
    compared = compared_series(series)
    panel = []
    for i, one in enumerate(series):
        base = PITCH * (i + 1)
        over = compared is not None and (i != compared or not one.filled)
        panel.append(
            {
                "color": themed(one.color),
                "bars": _outline(heights[i], edges, base, closed=True) if one.filled else "",
                "line": _outline(heights[compared], edges, base) if over and compared is not None else "",
                "says": f"{one.name}: {number_and_median(one, name)}",
                "cuts": [{"x": _x(edges[0]) + 18 if left else _x(edges[-1]) - 18, "y": base - 0.62 * PITCH,
                          "side": "start" if left else "end", "text": text} for left, text in cuts[i]],
            }
        )  # fmt: skip
    return panel


def _outline(heights: np.ndarray, edges: np.ndarray, base: int, *, closed: bool = False) -> str:
    """Steps over the bins, from the base and back to it; an empty series has none."""
    if not heights.any():
        return ""
    steps = [f"V{base - PITCH * h:.1f}H{_x(edge):.1f}" for h, edge in zip(heights, edges[1:], strict=True)]
    return f"M{_x(edges[0]):.1f} {base}{''.join(steps)}V{base}{'z' if closed else ''}"


def _x(position: float) -> float:
    low, high = log_odds(np.array([LOWEST, HIGHEST]))
    return round(float(MARGIN + (WIDTH - 2 * MARGIN) * (position - low) / (high - low)), 1)


def _save_png(path: Path, figure: "Figure", *, dpi: float) -> Path:
    path, buffer = Path(path), io.BytesIO()
    _require_png_place(path)
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": SOFTWARE})
    write_atomically(path, buffer.getvalue())
    return path
