"""Tables of an evaluation: accuracy on every network, each set against its baseline, DD-Ranking's scores.

    results -> rows of ``comparisons`` -> cells as text, under a note that says how the numbers came about

A table holds results of one protocol, one kind of labels and one test set, and its note says which: soft labels lift
random images too, so that a cell that hides them compares with nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import groupby
from typing import Any

from .comparisons import Baselines, Row, by_setting, summarise
from .dd_ranking import Score
from .results import Result
from .soft_labels.teachers import LabelSource

TRAININGS = "sets x runs"
LABELS = {"views": "soft labels per view", "soft": "soft labels", "hard": "hard labels"}


@dataclass(frozen=True)
class Table:
    """Numbers to be shown.  Cells are text or numbers; ``None`` and NaN are shown as a dash.

    A first column called ``class`` makes the rows follow the page's class filter.

    Attributes:
        title, columns: above the table, and above each column.
        rows: a cell a column.
        note: below the table: how its numbers came about.
        details: of each row, shown when the mouse points at it; empty for none.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    _: KW_ONLY
    note: str = ""
    details: Sequence[str] = ()

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {number} of table {self.title!r} has {len(row)} cells for {len(self.columns)} columns "
                    f"({', '.join(self.columns)}); give one cell a column, None where there is nothing"
                )
        if self.details and len(self.details) != len(self.rows):
            raise ValueError(
                f"table {self.title!r} has {len(self.rows)} rows but details of {len(self.details)}; give one a row, "
                "or leave them out"
            )


def accuracy_table(
    results: Sequence[Result], *, baseline: Baselines, note: str = "", title: str = "Test accuracy"
) -> Table:
    """Test accuracy of each set in percent, with the paired difference to its baseline.

    Args:
        results: of one protocol, kind of labels and test set; Holm's correction counts every comparison among them.
        baseline: as for ``comparisons.summarise``.
        note: instead of the one that says how the accuracies came about.

    Raises:
        ValueError: the results mix protocols, hard with soft labels, or test sets.
    """
    rows = _of_one_setting(summarise(results, baseline))
    several, looked = len({row.network for row in rows}) > 1, _looked(rows)
    difference = f"against {baseline}" if isinstance(baseline, str) else "difference"  # the note says to which
    columns = ["trained on", *(["network"] if several else []), "IPC", "accuracy, %"]
    columns += [*(["best look, %"] if looked else []), TRAININGS, difference, "95 % interval", "p, Holm"]
    cells = [_cells(row, several=several, looked=looked) for row in rows]
    return Table(title, columns, cells, note=note or setting_note(rows))


def _cells(row: Row, *, several: bool, looked: bool) -> list[str]:
    return [
        row.set,
        *([row.network] if several else []),
        f"{row.images_per_class:g}",
        _mean(row),
        *([_percent(row.best)] if looked else []),
        row.trainings,
        _signed(row.difference) if row.baseline and row.difference is not None else "",
        " to ".join(map(_signed, row.interval)) if row.baseline and row.interval is not None else "",
        _p(row.corrected),
    ]


def networks_table(results: Sequence[Result]) -> Table:
    """One row for each set, one column for each network: whether an advantage carries over to other networks.

    Args:
        results: of one protocol, kind of labels and test set.

    Raises:
        ValueError: the results mix protocols, hard with soft labels, or test sets.
    """
    rows = _of_one_setting(summarise(results, {}))
    cells = {(row.set, row.network): row for row in rows}
    networks = list(dict.fromkeys(row.network for row in rows))
    table = []
    for name in dict.fromkeys(row.set for row in rows):
        found = [cells.get((name, network)) for network in networks]
        known = [row for row in found if row is not None]
        accuracies = ["" if row is None else _mean(row) for row in found]
        trainings = " or ".join(dict.fromkeys(row.trainings for row in known))
        table.append([name, f"{known[0].images_per_class:g}", trainings, *accuracies])
    columns = ["trained on", "IPC", TRAININGS, *networks]
    return Table("Test accuracy by network, %", columns, table, note=setting_note(rows))


def evaluation_tables(results: Iterable[Result], baseline: Baselines) -> list[Table]:
    """All tables of an evaluation: for each protocol and kind of labels, the networks, then each one's comparisons."""
    tables, groups = [], by_setting(results)
    for _, settings in groupby(groups, lambda setting: setting[1:]):
        own = list(settings)
        if len(own) > 1:
            tables.append(networks_table([result for setting in own for result in groups[setting]]))
        for setting in own:
            title = f"Test accuracy, {setting[0]}"
            tables.append(accuracy_table(groups[setting], baseline=baseline, title=title))
    return tables


def setting_note(rows: Sequence[Row]) -> str:
    """How the accuracies of a table came about, so that it can be read alone."""
    first, epochs = rows[0], sorted({row.epochs for row in rows if row.epochs is not None})
    networks = dict.fromkeys(row.network for row in rows)
    parts = [
        f"test images: {first.test}" if first.test else "",
        named_labels(first.labels),
        f"protocol {first.protocol}, last epoch{f' ({_join(epochs)})' if epochs else ''}",
        f"network {next(iter(networks))}" if len(networks) == 1 else "",
        f"mean ± standard deviation over seeds; {TRAININGS}: number of image sets x trainings of each",
        _compared(rows),
        "best look: chosen on the test set itself, only to compare with papers" if _looked(rows) else "",
    ]
    return "; ".join(part for part in parts if part)


def named_labels(labels: str) -> str:
    """A kind of labels in words, and whose they are where that follows, as in ``soft by NAME``."""
    kind, by, teacher = labels.partition(" by ")
    return LABELS.get(kind, f"{kind} labels") + by + teacher


def labels_table(sources: Sequence[tuple[str, LabelSource]]) -> Table:
    """Whose the soft labels of sets are, how good that teacher is, and what they weigh beside the images.

    Args:
        sources: with the names of the sets, of which one may have labels of several kinds.
    """
    rows = [
        [
            name,
            source.teacher.name,
            source.teacher.digest[:8],
            _percent(source.teacher.accuracy),
            source.told,
            f"{source.label_bytes / 1000:,.1f}",
            f"{source.image_bytes / 1000:,.1f}",
        ]
        for name, source in sources
    ]
    columns = ["set", "teacher", "its digest", "its accuracy, %", "labels", "labels, kB", "images, kB"]
    tests = _join(dict.fromkeys(source.teacher.test for _, source in sources if source.teacher.test))
    note = "students of other teachers compare with nothing here" + (f"; teachers tested on {tests}" if tests else "")
    return Table("Soft labels", columns, rows, note=note)


def ranking_table(scores: Sequence[Score]) -> Table:
    """DD-Ranking's scores, HLR and IOR in points of accuracy, LRS and ARS in percent as in the paper.

    A cell is empty where the trainings that a score needs are missing.
    """
    columns = ["set", "network", "labels", "HLR", "IOR", "LRS", "95 % of LRS", "ARS", "95 % of ARS"]
    rows = [
        [
            score.set,
            score.network,
            score.labels,
            "" if score.recovery is None else _signed(score.recovery),
            _signed(score.improvement),
            _percent(score.label_robust),
            _range(score.label_interval),
            _percent(score.augmentation_robust),
            _range(score.augmentation_interval),
        ]
        for score in scores
    ]
    note = (
        f"definitions of arXiv 2505.13300; protocol {_join(dict.fromkeys(score.protocol for score in scores))}, "
        "last epoch, paired by seed; as good as random with nothing lost is 26.9"
    )
    return Table("DD-Ranking", columns, rows, note=note)


def _of_one_setting(rows: list[Row]) -> list[Row]:
    settings = {(row.protocol, named_labels(row.labels), row.test) for row in rows}
    if len(settings) != 1:
        raise ValueError(
            f"one table cannot hold results of {len(settings)} settings: {sorted(settings)}; "
            "make one for each protocol, kind of labels and test set"
        )
    return rows


def _compared(rows: Sequence[Row]) -> str:
    names, tested = {row.baseline for row in rows} - {""}, sum(row.p_value is not None for row in rows)
    if not names:
        return ""
    against = names.pop() if len(names) == 1 else "the random draw of its IPC"
    corrected = f", corrected for {tested} comparisons" if tested > 1 else ""
    paired = f", paired by seed; p of the paired t-test{corrected}" if tested else ""
    return f"difference to {against} in points{paired}"


def _looked(rows: Sequence[Row]) -> bool:
    return any(row.best is not None for row in rows)


def _mean(row: Row) -> str:
    return _percent(row.mean) + ("" if row.std is None else f" ± {100 * row.std:.1f}")


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f}"


def _signed(fraction: float) -> str:
    return f"{round(100 * fraction, 1) + 0.0:+.1f}"  # adding 0 turns -0.0 into +0.0


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _join(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
