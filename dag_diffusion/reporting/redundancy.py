"""What the report shows of redundancy, coverage and faults: one figure, and tables.

redundancy.json -> cross accuracy of each training, four measures of coverage -> figure, tables
pools and sets  -> images that are empty, copies, near copies, of another class -> table
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dag_diffusion.data.preparing.inspection import Seen
from dag_diffusion.evaluation.redundancy.coverage import MEASURES
from dag_diffusion.evaluation.redundancy.measuring import Redundancy, read_redundancy
from dag_diffusion.evaluation.redundancy.tables import class_table, fault_counts, redundancy_table, unmeasured
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.generation.repairing.faults import Faults, faults_in_pixels, recorded_faults
from dag_diffusion.generation.work_queue import times_redrawn

from .figures import INK, PALETTE, PHONE, Drawing, blank_figure, name_row, panel, set_color, svg
from .sets import ReportedSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PITCH = 30  # pixels of a row
MOST_LOOKED_AT = 50_000  # images of one set whose pixels a report looks at; that takes a minute or two


def shown_redundancy(paths: Sequence[Path]) -> tuple[list[Table], list[Drawing]]:
    """Tables and one figure of each record; ValueError for a file that is none."""
    tables, drawings = [], []
    for path in paths:
        found, settings = read_redundancy(path)
        if found:
            tables += [redundancy_table(found, settings), fault_counts(found), class_table(found)]
            drawings.append(redundancy_drawing(found, settings))
    return tables, drawings


def redundancy_drawing(found: Sequence[Redundancy], settings: Any) -> Drawing:
    """The figure of one record, with its caption and the names of its sets."""
    kept = list(found)[: len(PALETTE)]
    caption = (
        f"Above: accuracy of each training on one of {kept[0].parts} disjoint parts, tested on the others, the mean a "
        f"stroke; far to the right the parts repeat each other ({settings.get('network')}, protocol "
        f"{settings.get('protocol')}). Below: what the sets have in common with "
        f"{Path(str(settings.get('real'))).name}, means over classes, by features of {settings.get('classifier')}"
    )
    caption += "".join(f"; {sentence}" for sentence in unmeasured(kept, settings))
    if len(found) > len(kept):
        caption += f"; the first {len(kept)} of {len(found)} sets"
    legend = [(one.set, set_color(i), True) for i, one in enumerate(kept)]
    label = f"Redundancy and coverage of {', '.join(one.set for one in kept)}"
    return Drawing(svg(redundancy_figure(kept), label), caption, legend=legend, wide=True)


def redundancy_figure(found: Sequence[Redundancy]) -> "Figure":
    """Cross accuracy of each set above, the four measures below, a colour for each set."""
    above, below = PITCH * len(found) + 14, PITCH * len(MEASURES) + 8
    figure = blank_figure(PHONE, above + below + 100)
    axes = panel(figure, left=8, bottom=below + 96, right=8, top=4)
    axes.margins(x=0.04)
    for i, one in enumerate(found):
        accuracies = 100 * np.array(one.accuracies)
        axes.axhline(i, color=INK, linewidth=0.8, alpha=0.13)
        axes.plot(accuracies, np.full(len(accuracies), i), "o", color=set_color(i), alpha=0.6, ms=7, mew=0)
        axes.plot([accuracies.mean()] * 2, [i - 0.2, i + 0.2], color=INK, linewidth=2)
        name_row(axes, one.set, i)
    axes.set(ylim=(len(found) - 0.5, -0.9), yticks=[])
    axes.set_xlabel("cross accuracy of the parts, %", fontsize=11, color=INK)
    axes = panel(figure, left=8, bottom=44, right=8, top=above + 56)
    values = [[one.coverage.get(name) for one in found] for name in MEASURES]
    for i, (name, own) in enumerate(zip(MEASURES, values, strict=True)):
        axes.axhline(i, color=INK, linewidth=0.8, alpha=0.13)
        for j, value in enumerate(own):
            if value is not None:
                axes.plot(value, i, "o", color=set_color(j), alpha=0.85, ms=8, mew=0)
        name_row(axes, name, i)
    highest = max((value for own in values for value in own if value is not None), default=1.0)
    axes.set(ylim=(len(MEASURES) - 0.5, -0.9), yticks=[], xlim=(-0.03, 1.05 * max(1.0, highest)))
    axes.set_xlabel("share of images; density is a number of balls", fontsize=11, color=INK)
    return figure


def fault_table(sets: Sequence[ReportedSet]) -> list[Table]:
    """What is wrong with images of pools and sets, as seen here and as their records say; none if nothing is."""
    rows, notes, lookers = [], [], defaultdict[str, list[str]](list)
    looks: Seen = {}
    for one in sets:
        seen = faults_in_pixels(one.pool, looks) if len(one.pool) <= MOST_LOOKED_AT else Faults(looked_for=())
        record = recorded_faults(one.pool.provenance)
        counts = [*(len(seen.of(kind)) if seen.looked_for else None for kind in ("empty", "duplicate"))]
        counts += [record.get(kind) for kind in ("near", "wrong")]
        again = sum(times_redrawn(row) > 0 for row in one.pool.rows)
        given_up = [row["file_name"] for row in one.pool.rows if row.get("fault")]
        if any(counts) or record or again or given_up:
            rows.append([one.name, len(one.pool), *counts, again, len(given_up)])
            notes += [f"{one.name}: {sentence}" for sentence in seen.sentences()]
            notes += [f"{one.name}: given up {', '.join(given_up[:3])}"] if given_up else []
            lookers[str(record.get("classifier") or "")].append(one.name)
    notes += [
        f"{'' if len(lookers) == 1 else ', '.join(names) + ': '}looked at by {classifier}"
        for classifier, names in lookers.items()
        if classifier
    ]
    columns = ["set", "images", "empty", "duplicates", "near copies", "wrong", "drawn again", "given up"]
    return [Table("Faults of images", columns, rows, note="; ".join(notes))] if rows else []
