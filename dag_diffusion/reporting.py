"""One page that shows a distillation run: accuracies, difficulty histograms, images from easy to hard, provenance.

The page is one file: it opens from disk, asks the network for nothing, and takes every name that it shows for text,
never for markup.
"""

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from .class_names import distinct_names
from .figures import (
    GREY,
    HIGHEST,
    INK,
    LOWEST,
    PALETTE,
    Series,
    compared_series,
    even_sample,
    grid,
    plain,
    ridges,
    scatter,
    set_color,
    svg,
    themed,
)
from .files import write_atomically
from .pools import Pool, as_eight_bit
from .scales import searched_scale
from .selection_figures import cumulative, quota_bars
from .targets import TargetDistribution

if TYPE_CHECKING:  # a third of a second, wanted only by whoever draws
    from matplotlib.figure import Figure

IMAGES_PER_CLASS = 12
IMAGES_PER_SET = 3000  # a thousand classes must still open in a browser
THUMBNAIL = 96
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
        tables=[*tables, *_distances(selected)],
        overall=svg(ridges(series), "Histogram of difficulty, all classes") if series else None,
        by_class={name: svg(ridges(series, name), f"Histogram of difficulty, {name}") for name in classes},
        scatters=_scatters(pools),
        selections=_selections(selected, len(pools)),
        sets=[_shown_set(one, set_color(i), len(classes)) for i, one in enumerate([*pools, *selected])],
        facts=_facts(len(classes), pools, selected),
        compared=compared_series(series),
        limits=(plain(LOWEST), plain(HIGHEST)),
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
    return _save_png(path, ridges(series, title=title), dpi=200)


def save_grid_png(path: Path, pool: Pool, per_class: int = 10, title: str = "") -> Path:
    """Save images as a picture on white: a row for each class, an even sample of it from easy to hard.

    Raises:
        ValueError: ``per_class`` is below 1, or an image has no difficulty yet.
    """
    if per_class < 1:
        raise ValueError(
            f"a grid needs at least one image a class, but per_class={per_class}; 10 fills a README's width"
        )
    rows = {name: even_sample(order, per_class) for name, order in _easy_to_hard(pool).items()}
    cells = {name: [_enlarged(_small(pool, i, 128), 112) for i in indices] for name, indices in rows.items()}
    return _save_png(path, grid(cells, title), dpi=72)


def save_target_png(path: Path, target: TargetDistribution, pool: Pool, *, ipc: int = 10) -> Path:
    """Draw a target, laid over each class's own scale, beside the difficulties that a pool offers.

    Raises:
        ValueError: an image has no difficulty yet; the target lacks a class.
    """
    difficulties, labels = pool.difficulties, pool.labels
    offered = {name: difficulties[labels == label] for label, name in distinct_names(pool.class_names).items()}
    wanted = {name: target.values(name, searched_scale(values), ipc) for name, values in offered.items()}
    name = (pool.listing or pool.path).name
    series = [Series(name, set_color(0), offered), Series(f"target: {target.name}", INK, wanted)]
    title = f"What {ipc} {'image' if ipc == 1 else 'images'} per class shall follow, and what there is"
    return _save_png(path, cumulative(series, ipc=ipc, title=title, classes=list(offered)), 150)


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "numeric": _is_numeric, "css": themed}
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


def _all_series(
    reference: Mapping[str, np.ndarray],
    pools: Sequence[ReportedSet],
    selected: Sequence[ReportedSet],
    target: Mapping[str, np.ndarray] | None,
) -> list[Series]:
    """What the histograms show, from top to bottom; what holds no image is left out."""
    colored = [Series(one.name, set_color(i), _by_class(one.pool)) for i, one in enumerate([*pools, *selected])]
    series = [
        Series("reference", GREY, _as_arrays(reference)),
        *colored[: len(pools)],
        Series("target", INK, _as_arrays(target or {}), filled=False),
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


def _shown_set(one: ReportedSet, color: str, classes: int) -> dict[str, Any]:
    count = min(IMAGES_PER_CLASS, max(3, IMAGES_PER_SET // max(classes, 1)))
    rows = [
        {"name": name, "images": [_shown_image(one.pool, i) for i in even_sample(order, count)], "total": len(order)}
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


def _scatters(pools: Sequence[ReportedSet]) -> list[dict[str, Any]]:
    """Target against achieved, for each pool whose rows say what was aimed at."""
    scatters = []
    for i, one in enumerate(pools):
        pairs = [(row["target_difficulty"], row["difficulty"]) for row in one.pool.rows if _is_aimed(row)]
        if pairs:
            aimed, achieved = np.array(pairs, np.float64).T
            figure = svg(scatter(aimed, achieved, set_color(i)), f"Target against achieved difficulty, {one.name}")
            error = float(np.abs(aimed - achieved).mean())
            scatters.append(
                {"name": one.name, "color": set_color(i), "figure": figure, "error": error, "n": len(pairs)}
            )
    return scatters


def _selections(selected: Sequence[ReportedSet], first: int) -> list[dict[str, Any]]:
    """Images that the bins wanted and found, for each set that records them."""
    shown = []
    for i, one in enumerate(selected):
        classes = [row for row in _recorded(one) if row["quotas"]]
        if classes:
            wanted, found = (np.sum([row[key] for row in classes], axis=0) for key in ("quotas", "found"))
            figure = svg(quota_bars(wanted, found, set_color(first + i)), f"Images wanted and found, {one.name}")
            drawn_by_bin = one.pool.provenance["selection"].get("method") == "histogram"
            missing = sum(sum(row["deficits"]) for row in classes) if drawn_by_bin else 0
            shown.append({"name": one.name, "color": set_color(first + i), "figure": figure, "missing": missing})
    return shown


def _distances(selected: Sequence[ReportedSet]) -> list[Table]:
    """How near each set came to its target, by class; nothing if no set says."""
    found = {one.name: {row["class"]: row for row in _recorded(one)} for one in selected}
    found = {name: rows for name, rows in found.items() if any(row["distance"] is not None for row in rows.values())}
    if not found:
        return []
    classes = dict.fromkeys(name for rows in found.values() for name in rows)
    rows = [[name, *(_distance(by_class.get(name)) for by_class in found.values())] for name in classes]
    note = "In brackets the least that any so many numbers could have, since few cannot follow a distribution closely."
    return [Table("Wasserstein-1 distance to the target", ["class", *found], rows, note)]


def _distance(row: Mapping[str, Any] | None) -> str | None:
    return None if row is None or row["distance"] is None else f"{row['distance']:.4f} ({row['floor']:.4f})"


def _recorded(one: ReportedSet) -> list[dict[str, Any]]:
    """What ``PoolSelection.record`` said of each class; nothing of a set that somebody else made."""
    selection = one.pool.provenance.get("selection")
    classes = selection.get("classes") if isinstance(selection, dict) else None
    known = {"class", "quotas", "found", "deficits", "distance", "floor"}
    return [row for row in classes or [] if isinstance(row, dict) and known <= row.keys()]


def _is_aimed(row: Mapping[str, Any]) -> bool:
    return row.get("target_difficulty") is not None


def _save_png(path: Path, figure: "Figure", dpi: float) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return _write(path, buffer.getvalue())


def _write(path: Path, data: bytes) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    return path
