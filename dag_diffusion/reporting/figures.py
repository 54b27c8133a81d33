"""Figures of difficulty, drawn by matplotlib for the report and the README: histograms, target against achieved, grids.

    x = logit(d) = log(d / (1 - d))

Difficulties crowd near 0, so every axis spreads them over the log-odds and writes d on it.  Figures are measured in the
page's pixels, and their colours are replaced by those of the page's light or dark scheme.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK = "#24292f"  # text and lines; the page turns it into the text colour of its scheme
GREY = "#8b949e"  # the reference, legible on white and on black
# Okabe and Ito's colours, which colour-blind readers tell apart, each with a lighter one for dark pages
PALETTE = (
    ("#0072b2", "#4ba3dc"),
    ("#e69f00", "#f0b83f"),
    ("#009e73", "#2fc39a"),
    ("#cc79a7", "#dc9abd"),
    ("#d55e00", "#ec7f35"),
    ("#56b4e9", "#8accf0"),
)
TICKS = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99)
LOWEST, HIGHEST = 1e-5, 0.999  # the outermost bins and points also stand for what lies beyond
POINTS = 800
PHONE = 380  # pixels of a figure whose text stays legible on a screen of 360
LETTERS = 52  # of a name above a row of such a figure


@dataclass(frozen=True)
class Series:
    """One row of a histogram figure.  ``filled`` is false for the target, which is a line over the others."""

    name: str
    color: str
    by_class: Mapping[str, np.ndarray]
    filled: bool = True

    def of(self, class_name: str | None) -> np.ndarray:
        """Difficulties of one class, or of all."""
        if class_name is None:
            return np.concatenate(list(self.by_class.values()))
        return self.by_class.get(class_name, np.zeros(0))


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption.

    Attributes:
        figure: from ``figures.svg``.
        caption: plain text.
        color: colour of the set that it shows, for a mark before the caption; None for none.
        legend: names, colours and whether the line is solid, where several are drawn.
        wide: over the whole width instead of beside others.
    """

    figure: Markup
    caption: str
    color: str | None = None
    legend: Sequence[tuple[str, str, bool]] = ()
    wide: bool = False


def set_color(number: int) -> str:
    """Colour of the set with this number, the same in every figure."""
    return PALETTE[number % len(PALETTE)][0]


def themed(text: str) -> str:
    """Colours replaced by those of the page's scheme."""
    for i, (light, _) in enumerate(PALETTE):
        text = text.replace(light, f"var(--set-{i})")
    return text.replace(INK, "currentColor")


def even_sample(order: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of the rows, the first and the last among them."""
    count = min(count, len(order))
    return order[np.linspace(0, len(order) - 1, count).round().astype(int)]


def shortened(name: str, letters: int) -> str:
    """A name of at most so many letters, an ellipsis for what is cut off."""
    return name if len(name) <= letters else name[: letters - 1].rstrip() + "…"


def plain(difficulty: float) -> str:
    """A difficulty without exponent and closing zeros, such as ``0.00001``."""
    return f"{difficulty:f}".rstrip("0")


def log_odds(difficulties: np.ndarray) -> np.ndarray:
    """``logit(d)``, with d kept between ``LOWEST`` and ``HIGHEST``."""
    clipped = np.clip(difficulties, LOWEST, HIGHEST)
    return np.log(clipped) - np.log1p(-clipped)


def _shares(difficulties: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts, _ = np.histogram(log_odds(difficulties), edges)
    return counts / max(counts.sum(), 1)


def blank_figure(width: float, height: float) -> "Figure":
    """A figure measured in the page's pixels, which matplotlib's SVG takes for points."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72))


def panel(figure: "Figure", *, left: float, bottom: float, right: float, top: float) -> "Axes":
    """The drawing area inside margins in pixels, without a frame."""
    width, height = figure.get_size_inches() * 72
    axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height), frameon=False
    )
    axes.tick_params(length=0, labelsize=10, labelcolor=INK, pad=4)
    axes.grid(color=INK, alpha=0.13, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def name_row(axes: "Axes", name: str, row: int) -> None:
    """Write a name above its row, over the whole width of a figure of ``PHONE`` pixels."""
    across = axes.get_yaxis_transform()
    axes.text(0, row - 0.28, shortened(name, LETTERS), transform=across, fontsize=11, color=INK, parse_math=False)


def difficulty_ticks(axis: Any, *, short: bool = False) -> None:
    """Difficulties written on an axis of log-odds."""
    ticks = TICKS[short:]  # the lowest has the longest label
    axis.set_ticks(log_odds(np.array(ticks)), [plain(tick)[short:] for tick in ticks])


def ridges(series: Sequence[Series], title: str = "", width: int = 560) -> "Figure":
    """Histograms of all classes under each other on one axis, with names and counts, ``width`` pixels wide.

    The target, or else the reference, is drawn over each of them as a line.
    """
    pitch, head = 66, 26 if title else 4
    figure = blank_figure(width, pitch * len(series) + head + 36)
    axes = panel(figure, left=8, bottom=36, right=8, top=head)
    edges = bin_edges(32)
    _draw_ridges(axes, series, edges, room=0.66, letters=(width - 170) // 8)
    axes.set(xlim=edges[[0, -1]], ylim=(0, len(series)), yticks=[])
    difficulty_ticks(axes.xaxis)
    axes.set_xlabel("difficulty d, on a log-odds scale", fontsize=11, color=INK)
    figure.text(8 / width, 0.985, title, fontsize=13, weight="bold", color=INK, va="top", parse_math=False)
    return figure


def bin_edges(bins: int) -> np.ndarray:
    """Edges of equally wide bins of the log-odds, ``(bins + 1,)``."""
    low, high = log_odds(np.array([LOWEST, HIGHEST])).tolist()
    return np.linspace(low, high, bins + 1)


def scaled_heights(
    series: Sequence[Series], class_name: str | None, edges: np.ndarray, room: float
) -> tuple[list[np.ndarray], list[list[tuple[bool, str]]]]:
    """Height of every bar, at most ``room``, on one scale for all series, so that areas compare.

    The outermost bins hold a whole tail each and must not set the scale; one that does not fit is cut.

    Returns:
        heights ``(bins,)`` of each series, and for each the cut bars: whether it is the left one, and its share.
    """
    shares = [_shares(one.of(class_name), edges) for one in series]
    scale = room / max(0.02, *(share[1:-1].max() for share in shares))
    ends = [[(left, share[0 if left else -1]) for left in (True, False)] for share in shares]
    cuts = [[(left, f"{100 * share:.0f} %") for left, share in end if scale * share > room] for end in ends]
    return [np.minimum(scale * share, room) for share in shares], cuts


def _draw_ridges(axes: "Axes", series: Sequence[Series], edges: np.ndarray, room: float, letters: int) -> None:
    heights, cuts = scaled_heights(series, None, edges, room)
    compared = compared_series(series)
    for i, one in enumerate(series):
        base = len(series) - 1 - i
        if one.filled:
            axes.stairs(base + heights[i], edges, baseline=base, fill=True, color=one.color, alpha=0.85, linewidth=0)
        if compared is not None and (i != compared or not one.filled):
            axes.stairs(base + heights[compared], edges, baseline=base, color=INK, linewidth=1)
        _name_ridge(axes, one, edges, base + 0.73, letters)
        for left, text in cuts[i]:
            x, side = (edges[1] + 0.15, "left") if left else (edges[-2] - 0.15, "right")
            axes.text(x, base + room - 0.04, text, fontsize=10, color=INK, alpha=0.75, ha=side, va="top")


def compared_series(series: Sequence[Series]) -> int | None:
    """Which one is drawn over all others: the target, or else the reference, if there is either."""
    by_color = {one.color: i for i, one in enumerate(series)}
    return by_color.get(INK, by_color.get(GREY))


def _name_ridge(axes: "Axes", one: Series, edges: np.ndarray, y: float, letters: int) -> None:
    facts = number_and_median(one, None)
    axes.text(edges[0], y, shortened(one.name, letters), fontsize=11, weight="bold", color=INK, parse_math=False)
    axes.text(edges[-1], y, facts, fontsize=10, color=INK, alpha=0.75, ha="right")


def number_and_median(one: Series, class_name: str | None) -> str:
    """Of the images of one class, or of all; of a target, which is no number of images, the median alone."""
    values = one.of(class_name)
    if not len(values):
        return "none"
    median = f"median {np.median(values):.2g}"
    return f"n = {len(values):,}, {median}" if one.filled else median


def scatter(targets: np.ndarray, achieved: np.ndarray, color: str) -> "Figure":
    """Achieved against target difficulty, one dot an image; the line is where both agree."""
    figure = blank_figure(360, 360)
    axes = panel(figure, left=52, bottom=40, right=8, top=8)
    limits = log_odds(np.array([LOWEST, HIGHEST]))
    drawn = even_sample(np.argsort(targets, kind="stable"), POINTS)  # more dots look the same and cost a megabyte
    axes.plot(limits, limits, color=INK, linewidth=1, alpha=0.6)
    axes.plot(log_odds(targets[drawn]), log_odds(achieved[drawn]), "o", color=color, alpha=0.5, ms=4, mew=0)
    axes.set(xlim=limits, ylim=limits)
    difficulty_ticks(axes.xaxis, short=True)
    difficulty_ticks(axes.yaxis, short=True)
    axes.set_xlabel("target d*", fontsize=11, color=INK)
    axes.set_ylabel("measured difficulty d", fontsize=11, color=INK)
    return figure


def grid(cells: Mapping[str, Sequence[np.ndarray]], title: str) -> "Figure":
    """Class names to the left, images in columns of equal width, what the columns mean above."""
    images = [image for row in cells.values() for image in row]
    columns = max((len(row) for row in cells.values()), default=1)
    side = max((max(image.shape[:2]) for image in images), default=1) + 8
    names = [shortened(name, 24) for name in cells]
    left, head = 24 + 11.5 * max(map(len, names), default=0), 92 if title else 44
    figure = blank_figure(left + side * columns + 8, head + side * len(cells) + 8)
    axes = panel(figure, left=left, bottom=8, right=8, top=head)
    axes.set(xlim=(0, side * columns), ylim=(side * len(cells), 0), xticks=[], yticks=[])
    for i, (name, row) in enumerate(zip(names, cells.values(), strict=True)):
        axes.text(-12, side * (i + 0.5), name, fontsize=20, color=INK, ha="right", va="center", parse_math=False)
        for j, image in enumerate(row):
            _place(axes, image, side * (j + 0.5), side * (i + 0.5))
    axes.text(4, -14, "easiest", fontsize=18, color=INK, alpha=0.8)
    axes.text(side * columns - 4, -14, "hardest" if columns > 1 else "", fontsize=18, color=INK, alpha=0.8, ha="right")
    axes.text(4, -56, title, fontsize=24, weight="bold", color=INK, parse_math=False)
    return figure


def _place(axes: "Axes", image: np.ndarray, x: float, y: float) -> None:
    height, width = image.shape[:2]
    extent = (x - width / 2, x + width / 2, y + height / 2, y - height / 2)
    axes.imshow(image, extent=extent, interpolation="nearest", aspect="auto")


def svg(figure: "Figure", label: str) -> Markup:
    """The figure as a part of the page: without the wrappers of a file, in the colours of the page's scheme."""
    import matplotlib

    buffer = io.StringIO()
    # text stays text; the salt keeps ids of several figures apart, since one hidden by the filter would take them along
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    box = re.search(r'viewBox="([^"]+)"', svg)
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index(">", svg.index("<svg")) + 1 :], flags=re.DOTALL)
    body = themed(re.sub(r'<g id="[^"]*"', "<g", body))
    assert box is not None
    widest = 1.25 * float(box[1].split()[2])  # text twice as large as the page's reads no better
    head = f'<svg viewBox="{box[1]}" style="max-width: {widest:.0f}px" role="img" aria-label="{escape(label)}">'
    return Markup(head + body)  # noqa: S704 drawn here
