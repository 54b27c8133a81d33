"""What the report shows of a selection: quotas and distances as tables, and what was wanted and found as figures.

deficit of a bin = max(0, wanted - found)
"""

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from dag_diffusion.data.provenance import ClassSelection
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.sampling.scales import BINS

from .difficulty_figures import quota_bars
from .figures import Drawing, scatter, set_color, svg
from .sets import ReportedSet, target_of

DASH = "\N{EN DASH}"
NUMBER_STARTS = "+-\N{MINUS SIGN}±<>≤≥[( "


class Lacking(str):
    """A cell that counts something missing, which the page marks."""


def cell(value: Any) -> str:
    """A cell as text: four digits of a fraction, a dash for nothing."""
    if value is None or value != value:
        return DASH
    return f"{value:.4g}" if isinstance(value, Real) and not isinstance(value, Integral) else str(value)


def is_numeric(cells: Iterable[Any]) -> bool:
    """Whether a column reads better flush right: numbers, and text such as ``+3.1`` or ``[1.2, 5.0]``."""
    texts = [cell(value) for value in cells]
    return all(text in ("", DASH) or text.lstrip(NUMBER_STARTS)[:1].isdigit() for text in texts)


def count(number: int, one: str, many: str) -> str:
    """``1 image`` or ``1,000 images``."""
    return f"{number:,} {one if number == 1 else many}"


def quota_tables(selected: Sequence[ReportedSet]) -> list[Table]:
    """Images that each bin of each class wanted and found, for each set that records them."""
    tables = []
    for one in selected:
        if classes := _binned(one):
            rows = [_quota_row(row["class"], row["quotas"], row["found"]) for row in classes]
            if len(rows) > 1:
                wanted, found, lacking = _totals(classes)
                rows.insert(0, [*_quota_row("all classes", wanted, found)[:-1], _marked(str(lacking), lacking > 0)])
            columns = ["class", "0, easy", *map(str, range(1, BINS - 1)), f"{BINS - 1}, hard", "lacking"]
            tables.append(
                Table(f"Quotas, {one.name}", columns, rows, note=_quota_note(str(one.record.get("method", ""))))
            )
    return tables


def _quota_row(name: str, wanted: Sequence[int], found: Sequence[int]) -> list[str]:
    pairs = list(zip(wanted, found, strict=True))
    cells = [_marked(f"{got}/{asked}", got < asked) if asked or got else "" for asked, got in pairs]
    lacking = _lacking(wanted, found)
    return [str(name), *cells, _marked(str(lacking), lacking > 0)]


def _lacking(wanted: Sequence[int], found: Sequence[int]) -> int:
    return sum(max(0, int(asked) - int(got)) for asked, got in zip(wanted, found, strict=True))


def _marked(text: str, lacking: bool) -> str:
    return Lacking(text) if lacking else text


def _quota_note(method: str) -> str:
    what = "Images found/wanted in each of the ten bins, of which the metadata call the easiest 0; what was lacking"
    if method == "histogram":
        return f"{what} was drawn at random from the rest of the class."
    return f"{what} came from the nearest difficulties, since {method or 'this method'} draws by no bins."


def distance_table(selected: Sequence[ReportedSet]) -> list[Table]:
    """How near each set came to its target, by class; no table if no set records it."""
    found = {one.name: {row["class"]: row for row in one.selection} for one in selected}
    found = {name: rows for name, rows in found.items() if any(row["distance"] is not None for row in rows.values())}
    if not found:
        return []
    classes = dict.fromkeys(name for rows in found.values() for name in rows)
    rows = [[name, *(_distance(by_class.get(name)) for by_class in found.values())] for name in classes]
    note = "In brackets the least that so many images could have, since few cannot follow a distribution closely."
    return [Table("Wasserstein-1 distance to the target", ["class", *found], rows, note=note)]


def _distance(row: ClassSelection | None) -> str | None:
    return None if row is None or row["distance"] is None else f"{row['distance']:.4f} ({row['floor']:.4f})"


def _binned(one: ReportedSet) -> list[ClassSelection]:
    """The classes of a set whose images were counted in the ten bins."""
    return [row for row in one.selection if _are_bins(row["quotas"]) and _are_bins(row["found"])]


def _totals(classes: Sequence[ClassSelection]) -> tuple[list[int], list[int], int]:
    """Images of each bin that all classes wanted, those that they found, and how many were lacking."""
    wanted, found = [row["quotas"] for row in classes], [row["found"] for row in classes]
    lacking = sum(map(_lacking, wanted, found))
    return np.sum(wanted, axis=0).tolist(), np.sum(found, axis=0).tolist(), lacking


def _are_bins(counts: Any) -> bool:
    return isinstance(counts, list) and len(counts) == BINS and all(isinstance(n, int) and n >= 0 for n in counts)


def control_drawings(pools: Sequence[ReportedSet]) -> list[Drawing]:
    """Target against measured difficulty, for each pool whose rows have a target."""
    drawings = []
    for i, one in enumerate(pools):
        scored = np.concatenate([*one.easy_to_hard.values(), np.empty(0, np.int64)])
        pairs = [(target_of(row), row["difficulty"]) for row in (one.pool.rows[j] for j in scored)]
        pairs = [(target, found) for target, found in pairs if target is not None]
        if pairs:
            targets, measured = np.array(pairs, np.float64).T
            figure = svg(scatter(targets, measured, set_color(i)), f"Target against achieved difficulty, {one.name}")
            caption = (
                f"{one.name}: target against measured difficulty of {len(pairs):,} images, "
                f"mean |d \N{MINUS SIGN} d*| = {np.abs(targets - measured).mean():.3f}"
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
        if classes := _binned(one):
            wanted, found, lacking = _totals(classes)
            by_bin = one.record.get("method") == "histogram"
            rest = f"; {lacking} lacking, drawn at random instead" if lacking and by_bin else ""
            figure = svg(quota_bars(wanted, found, set_color(first + i)), f"Images wanted and found, {one.name}")
            caption = f"{one.name}: images that each bin wanted (line) and found (bars), all classes{rest}."
            drawings.append(Drawing(figure, caption, set_color(first + i)))
    return drawings


def is_lacking(value: object) -> bool:
    """Whether a cell of a table calls for attention."""
    return isinstance(value, Lacking)
