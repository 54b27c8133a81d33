"""One page that shows a distillation run: accuracies, difficulty histograms, images from easy to hard, provenance.

    x = logit(d) = log(d / (1 - d))

Difficulties crowd near 0, so every figure spreads them over the log-odds and writes d on the axis.  The page is one
file: it opens from disk, asks the network for nothing, and takes every name that it shows for text, never for markup.
"""

import base64
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from dag_diffusion.pools import Pool, as_eight_bit, write_atomically

if TYPE_CHECKING:  # a third of a second, wanted only by whoever draws
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
IMAGES_PER_CLASS = 12
IMAGES_PER_SET = 3000  # a thousand classes must still open in a browser
THUMBNAIL = 96
POINTS = 800
DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class ReportedSet:
    """A pool or a distilled set to be shown, such as ``ReportedSet("DAG + DGS", pool, "10 of 200 images a class")``."""

    name: str
    pool: Pool
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Numbers to be shown.  Cells are text or numbers; ``None`` and NaN are shown as a dash.

    A first column called ``class`` makes the rows follow the page's class filter.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {number} of table {self.title!r} has {len(row)} cells for {len(self.columns)} columns "
                    f"({', '.join(self.columns)}); give one cell a column, None where there is nothing"
                )


@dataclass(frozen=True)
class _Series:
    """One row of a histogram figure.  ``filled`` is false for the target, which is a line over all the others."""

    name: str
    color: str
    by_class: Mapping[str, np.ndarray]
    filled: bool = True

    def of(self, class_name: str | None) -> np.ndarray:
        if class_name is None:
            return np.concatenate(list(self.by_class.values()))
        return self.by_class.get(class_name, np.zeros(0))


def write_report(
    path: Path,
    *,
    title: str,
    reference: Mapping[str, np.ndarray],
    pools: Sequence[ReportedSet],
    selected: Sequence[ReportedSet],
    target: Mapping[str, np.ndarray] | None = None,
    tables: Sequence[Table] = (),
    provenance: Mapping[str, Any] = {},
    commands: Sequence[str] = (),
) -> Path:
    """Write the report, whole or not at all.

    Args:
        reference: class name to the difficulties ``(n,)`` in [0, 1] of real images.
        pools: what was generated; those whose rows have a target get a figure of target against achieved.
        selected: what was chosen from them.
        target: class name to the difficulties that were aimed at; without it the reference is.
        tables: shown first, as the accuracies are what readers look for.
        provenance: anything that JSON can say, and whatever else as its ``str``.
        commands: how to make all of this again.

    Returns:
        The path of the file.

    Raises:
        ValueError: an image has no difficulty yet.
    """
    series = _all_series(reference, pools, selected, target)
    classes = list(dict.fromkeys(name for one in series for name in one.by_class))
    page = _template().render(
        title=title,
        classes={name: number for number, name in enumerate(classes)},
        series=series,
        palette=PALETTE,
        tables=tables,
        overall=_svg(_ridges(series), "Histogram of difficulty, all classes") if series else None,
        by_class={name: _svg(_ridges(series, name), f"Histogram of difficulty, {name}") for name in classes},
        scatters=_scatters(pools),
        sets=[_shown_set(one, _color(i), len(classes)) for i, one in enumerate([*pools, *selected])],
        facts=_facts(len(classes), pools, selected),
        compared=_compared(series),
        limits=(_plain(LOWEST), _plain(HIGHEST)),
        provenance=json.dumps(provenance, indent=2, ensure_ascii=False, default=str) if provenance else "",
        commands=commands,
    )
    return _write(path, page.encode(errors="replace"))  # file names may hold what no text can


def save_histogram_png(
    path: Path,
    *,
    reference: Mapping[str, np.ndarray],
    pools: Sequence[ReportedSet],
    selected: Sequence[ReportedSet],
    target: Mapping[str, np.ndarray] | None = None,
    title: str = "",
) -> Path:
    """Save the report's histogram of all classes as a picture on white, for a README; arguments as in the report.

    Raises:
        ValueError: there is nothing to draw, or an image has no difficulty yet.
    """
    series = _all_series(reference, pools, selected, target)
    if not series:
        raise ValueError("there are no difficulties to draw a histogram of; give a reference, a pool or a selected set")
    return _save_png(path, _ridges(series, title=title), dpi=200)


def save_grid_png(path: Path, pool: Pool, per_class: int = 10, title: str = "") -> Path:
    """Save images as a picture on white: a row for each class, an even sample of it from easy to hard.

    Raises:
        ValueError: ``per_class`` is below 1, or an image has no difficulty yet.
    """
    if per_class < 1:
        raise ValueError(
            f"a grid needs at least one image a class, but per_class={per_class}; 10 fills a README's width"
        )
    rows = {name: _even_sample(order, per_class) for name, order in _easy_to_hard(pool).items()}
    cells = {name: [_enlarged(_small(pool, i, 128), 112) for i in indices] for name, indices in rows.items()}
    return _save_png(path, _grid(cells, title), dpi=72)


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "numeric": _is_numeric, "css": _css}
    return environment.get_template("report.html.jinja")


def _cell(value: Any) -> str:
    if value is None or value != value:
        return DASH
    return f"{value:.4g}" if isinstance(value, Real) and not isinstance(value, Integral) else str(value)


def _is_numeric(cells: Iterable[Any]) -> bool:
    """Whether a column reads better flush right: numbers, and text such as ``+3.1`` or ``[1.2, 5.0]``."""
    return all(text == DASH or text.lstrip("+-\N{MINUS SIGN}±<>≤≥[( ")[:1].isdigit() for text in map(_cell, cells))


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _facts(classes: int, pools: Sequence[ReportedSet], selected: Sequence[ReportedSet]) -> str:
    facts = [_count(classes, "class", "classes")]
    for kind, sets in (("pool", pools), ("distilled set", selected)):
        images = _count(sum(len(one.pool) for one in sets), "image", "images")
        facts += [f"{_count(len(sets), kind, kind + 's')} with {images}"] if sets else []
    return ", ".join(facts)


def _color(number: int) -> str:
    return PALETTE[number % len(PALETTE)][0]


def _css(text: str) -> str:
    """Colours replaced by those of the page's scheme."""
    for i, (light, _) in enumerate(PALETTE):
        text = text.replace(light, f"var(--set-{i})")
    return text.replace(INK, "currentColor")


def _all_series(
    reference: Mapping[str, np.ndarray],
    pools: Sequence[ReportedSet],
    selected: Sequence[ReportedSet],
    target: Mapping[str, np.ndarray] | None,
) -> list[_Series]:
    """What the histograms show, from top to bottom; what holds no image is left out."""
    colored = [_Series(one.name, _color(i), _by_class(one.pool)) for i, one in enumerate([*pools, *selected])]
    series = [
        _Series("reference", GREY, _as_arrays(reference)),
        *colored[: len(pools)],
        _Series("target", INK, _as_arrays(target or {}), filled=False),
        *colored[len(pools) :],
    ]
    return [one for one in series if one.by_class]


def _as_arrays(difficulties: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.asarray(values, np.float64) for name, values in difficulties.items() if len(values)}


def _by_class(pool: Pool) -> dict[str, np.ndarray]:
    difficulties = pool.difficulties
    return {name: difficulties[order] for name, order in _easy_to_hard(pool).items()}


def _easy_to_hard(pool: Pool) -> dict[str, np.ndarray]:
    """Class name to the rows of its images, the easiest first; classes in the order of their labels."""
    names = np.array([row["class_name"] for row in pool.rows], object)
    order = np.argsort(pool.difficulties, kind="stable")
    return {name: order[names[order] == name] for name in dict.fromkeys(names)}


def _even_sample(order: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of them, the first and the last among them."""
    count = min(count, len(order))
    return order[np.linspace(0, len(order) - 1, count).round().astype(int)]


def _shown_set(one: ReportedSet, color: str, classes: int) -> dict[str, Any]:
    count = min(IMAGES_PER_CLASS, max(3, IMAGES_PER_SET // max(classes, 1)))
    rows = [
        {"name": name, "images": [_shown_image(one.pool, i) for i in _even_sample(order, count)], "total": len(order)}
        for name, order in _easy_to_hard(one.pool).items()
    ]
    return {
        "name": one.name,
        "note": one.note,
        "color": color,
        "rows": rows,
        "aimed": any(map(_is_aimed, one.pool.rows)),
    }


def _shown_image(pool: Pool, index: int) -> dict[str, Any]:
    row, image = pool.rows[index], _small(pool, index, THUMBNAIL)
    pixelated = max(image.size) <= 64
    factor = _factor(image, 64) if pixelated else 0.75  # photographs are shown finer, as sharp screens can
    target = row.get("target_difficulty")
    return {
        "source": _data_uri(image),
        "width": round(image.width * factor),
        "height": round(image.height * factor),
        "pixelated": pixelated,
        "difficulty": _short(row["difficulty"]),
        "target": None if target is None else _short(target),
        "hover": _hover(row),
    }


def _hover(row: Mapping[str, Any]) -> str:
    target, seed = row.get("target_difficulty"), row.get("seed")
    lines = [
        f"d = {row['difficulty']:.4g}" + ("" if target is None else f", d* = {target:.4g}"),
        f"{row['class_name']}, {row['file_name']}",
        *([] if seed is None else [f"seed {seed}"]),
    ]
    return "\n".join(lines)


def _plain(difficulty: float) -> str:
    return f"{difficulty:f}".rstrip("0")


def _short(difficulty: float) -> str:
    if difficulty < 0.0005:
        return "<.001"
    return ">.999" if difficulty >= 0.9995 else f"{difficulty:.3f}".removeprefix("0")


def _small(pool: Pool, index: int, side: int) -> Image.Image:
    """The image, eight bits a channel, at most ``side`` pixels wide and high."""
    image = pool.open(index)
    pixels = as_eight_bit(image, 1 if image.mode in {"1", "L", "I", "I;16"} else 3)
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _factor(image: Image.Image, side: int) -> int:
    """By how many whole times the image fits ``side``: pixels stay square and equal."""
    return max(1, side // max(image.size))


def _enlarged(image: Image.Image, side: int) -> np.ndarray:
    factor = _factor(image, side)
    size = (image.width * factor, image.height * factor)
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.NEAREST))


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _log_odds(difficulties: np.ndarray) -> np.ndarray:
    clipped = np.clip(difficulties, LOWEST, HIGHEST)
    return np.log(clipped) - np.log1p(-clipped)


def _shares(difficulties: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts, _ = np.histogram(_log_odds(difficulties), edges)
    return counts / max(counts.sum(), 1)


def _figure(width: float, height: float) -> "Figure":
    """A figure measured in the page's pixels, which matplotlib's SVG takes for points."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72))


def _panel(figure: "Figure", *, left: float, bottom: float, right: float, top: float) -> "Axes":
    """The drawing area inside margins in pixels, without a frame."""
    width, height = figure.get_size_inches() * 72
    axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height), frameon=False
    )
    axes.tick_params(length=0, labelsize=10, labelcolor=INK, pad=4)
    axes.grid(color=INK, alpha=0.13, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def _difficulty_ticks(axis: Any, *, short: bool = False) -> None:
    ticks = TICKS[short:]  # the lowest has the longest label
    axis.set_ticks(_log_odds(np.array(ticks)), [_plain(tick)[short:] for tick in ticks])


def _ridges(series: Sequence[_Series], class_name: str | None = None, title: str = "") -> "Figure":
    """Histograms under each other on one axis: all classes with names and counts, or one class, small and bare.

    The target, or else the reference, is drawn over each of them as a line.
    """
    bare = class_name is not None
    width, pitch, head = (220, 30, 4) if bare else (560, 66, 26 if title else 4)
    figure = _figure(width, pitch * len(series) + head + (20 if bare else 36))
    axes = _panel(figure, left=8, bottom=20 if bare else 36, right=8, top=head)
    edges = np.linspace(*_log_odds(np.array([LOWEST, HIGHEST])), 17 if bare else 33)
    _draw_ridges(axes, series, class_name, edges, room=0.88 if bare else 0.66)
    axes.set(xlim=edges[[0, -1]], ylim=(0, len(series)), yticks=[])
    _difficulty_ticks(axes.xaxis, short=bare)
    if not bare:
        axes.set_xlabel("difficulty d, on a log-odds scale", fontsize=11, color=INK)
        figure.text(8 / width, 0.985, title, fontsize=13, weight="bold", color=INK, va="top", parse_math=False)
    return figure


def _draw_ridges(
    axes: "Axes", series: Sequence[_Series], class_name: str | None, edges: np.ndarray, room: float
) -> None:
    shares = [_shares(one.of(class_name), edges) for one in series]
    # one scale for all rows, so that areas compare; the outermost bins hold a whole tail each and must not set it
    scale = room / max(0.02, *(share[1:-1].max() for share in shares))
    heights = [np.minimum(scale * share, room) for share in shares]
    compared = _compared(series)
    for i, one in enumerate(series):
        base = len(series) - 1 - i
        if one.filled:
            axes.stairs(base + heights[i], edges, baseline=base, fill=True, color=one.color, alpha=0.85, linewidth=0)
        if compared is not None and (i != compared or not one.filled):
            axes.stairs(base + heights[compared], edges, baseline=base, color=INK, linewidth=1)
        if class_name is None:
            _name_ridge(axes, one, edges, base + 0.73)
        _mark_cut(axes, shares[i], edges, base + room - 0.04, room / scale)


def _mark_cut(axes: "Axes", share: np.ndarray, edges: np.ndarray, y: float, limit: float) -> None:
    """Say how high an outermost bar would be that does not fit."""
    for outer, inner, side in ((0, 1, "left"), (-1, -2, "right")):
        if share[outer] > limit:
            gap = 0.15 if side == "left" else -0.15
            text = f"{100 * share[outer]:.0f} %"
            axes.text(edges[inner] + gap, y, text, fontsize=9, color=INK, alpha=0.75, ha=side, va="top")


def _compared(series: Sequence[_Series]) -> int | None:
    """Which one is drawn over all others: the target, or else the reference, if there is either."""
    by_color = {one.color: i for i, one in enumerate(series)}
    return by_color.get(INK, by_color.get(GREY))


def _name_ridge(axes: "Axes", one: _Series, edges: np.ndarray, y: float) -> None:
    values = one.of(None)
    facts = f"n = {len(values):,}, median {np.median(values):.2g}"
    axes.text(edges[0], y, one.name, fontsize=11, weight="bold", color=INK, parse_math=False)
    axes.text(edges[-1], y, facts, fontsize=10, color=INK, alpha=0.75, ha="right")


def _scatters(pools: Sequence[ReportedSet]) -> list[dict[str, Any]]:
    """Target against achieved, for each pool whose rows say what was aimed at."""
    scatters = []
    for i, one in enumerate(pools):
        pairs = [(row["target_difficulty"], row["difficulty"]) for row in one.pool.rows if _is_aimed(row)]
        if pairs:
            aimed, achieved = np.array(pairs, np.float64).T
            figure = _svg(_scatter(aimed, achieved, _color(i)), f"Target against achieved difficulty, {one.name}")
            error = float(np.abs(aimed - achieved).mean())
            scatters.append({"name": one.name, "color": _color(i), "figure": figure, "error": error, "n": len(pairs)})
    return scatters


def _is_aimed(row: Mapping[str, Any]) -> bool:
    return row.get("target_difficulty") is not None


def _scatter(aimed: np.ndarray, achieved: np.ndarray, color: str) -> "Figure":
    figure = _figure(360, 360)
    axes = _panel(figure, left=52, bottom=40, right=8, top=8)
    limits = _log_odds(np.array([LOWEST, HIGHEST]))
    drawn = _even_sample(np.argsort(aimed, kind="stable"), POINTS)  # more dots say no more and cost a megabyte
    axes.plot(limits, limits, color=INK, linewidth=1, alpha=0.6)
    axes.plot(_log_odds(aimed[drawn]), _log_odds(achieved[drawn]), "o", color=color, alpha=0.5, ms=4, mew=0)
    axes.set(xlim=limits, ylim=limits)
    _difficulty_ticks(axes.xaxis, short=True)
    _difficulty_ticks(axes.yaxis, short=True)
    axes.set_xlabel("target d*", fontsize=11, color=INK)
    axes.set_ylabel("measured difficulty d", fontsize=11, color=INK)
    return figure


def _grid(cells: Mapping[str, Sequence[np.ndarray]], title: str) -> "Figure":
    """Class names to the left, images in columns of equal width, what the columns mean above."""
    images = [image for row in cells.values() for image in row]
    columns = max((len(row) for row in cells.values()), default=1)
    side = max((max(image.shape[:2]) for image in images), default=1) + 8
    names = [name if len(name) <= 24 else name[:23] + "…" for name in cells]
    left, head = 24 + 11.5 * max(map(len, names), default=0), 92 if title else 44
    figure = _figure(left + side * columns + 8, head + side * len(cells) + 8)
    axes = _panel(figure, left=left, bottom=8, right=8, top=head)
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


def _save_png(path: Path, figure: "Figure", dpi: float) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return _write(path, buffer.getvalue())


def _write(path: Path, data: bytes) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    return path


def _svg(figure: "Figure", label: str) -> Markup:
    """The figure as a part of the page: without the wrappers of a file, in the colours of the page's scheme."""
    import matplotlib

    buffer = io.StringIO()
    # text stays text; the salt keeps ids of several figures apart, since one hidden by the filter would take them along
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    box = re.search(r'viewBox="([^"]+)"', svg)
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index(">", svg.index("<svg")) + 1 :], flags=re.DOTALL)
    body = _css(re.sub(r'<g id="[^"]*"', "<g", body))
    assert box is not None
    return Markup(f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(label)}">{body}')  # noqa: S704 drawn here
