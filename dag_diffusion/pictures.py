"""The report's figures as PNG files on white, for a README or a paper.

difficulties -> histogram;   images -> grid from easy to hard;   target and pool -> what is asked and what there is
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .class_names import distinct_names
from .figures import INK, Series, even_sample, grid, ridges, set_color
from .files import write_atomically
from .pools import Pool
from .report_images import enlarged, small
from .reported_sets import ReportedSet, series_of
from .scales import searched_scale
from .selection_figures import cumulative
from .targets import TargetDistribution

if TYPE_CHECKING:  # a third of a second, wanted only by whoever draws
    from matplotlib.figure import Figure


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
        ValueError: there is nothing to draw, or no image of a set has a difficulty yet.
    """
    series = series_of(reference, pools, selected, target or {})
    if not series:
        raise ValueError("there are no difficulties to draw a histogram of; give a reference, a pool or a selected set")
    return _save_png(path, ridges(series, title=title), dpi=200)


def save_grid_png(path: Path, pool: Pool, per_class: int = 10, title: str = "") -> Path:
    """Save images as a picture on white: a row for each class, an even sample of it from easy to hard.

    Raises:
        ValueError: ``per_class`` is below 1, or no image has a difficulty yet.
    """
    if per_class < 1:
        raise ValueError(
            f"a grid needs at least one image a class, but per_class={per_class}; 10 fills a README's width"
        )
    rows = {name: even_sample(order, per_class) for name, order in ReportedSet("", pool).easy_to_hard.items()}
    cells = {name: [enlarged(small(pool, i, 128), 112) for i in indices] for name, indices in rows.items()}
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


def _save_png(path: Path, figure: "Figure", dpi: float) -> Path:
    path, buffer = Path(path), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())
    return path
