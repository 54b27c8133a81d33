"""Results of evaluations as tables and figures of the report.

    results.json -> trainings that compare -> tables (mean ± deviation, paired difference) and curves over IPC

Each table and figure names protocol, last epoch, number of trainings and kind of labels, without which an accuracy
compares with nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from numbers import Real
from pathlib import Path
from typing import Any

from dag_diffusion.data.files import read_json_object
from dag_diffusion.evaluation.comparisons import Row, by_setting, summarise
from dag_diffusion.evaluation.records import teachers_in
from dag_diffusion.evaluation.results import Result, results_of
from dag_diffusion.evaluation.tables import Table, accuracy_table, labels_table, named_labels, networks_table

from .accuracy_figures import DOTTED, LINES, curves, dots, families, is_solid
from .figures import Drawing, set_color, svg

Baselines = str | dict[str, str]


@dataclass(frozen=True, kw_only=True)
class ShownResults:
    """Tables and figures of some trainings, and the commands that made these."""

    tables: list[Table]
    drawings: list[Drawing]
    commands: list[str]


def read_results(paths: Sequence[Path], baseline: str | None = None) -> ShownResults:
    """Read the JSON files of ``evaluate`` or ``run``, and make tables and figures of them.

    Args:
        paths: files; sets of one name and different IPC get their IPC added.
        baseline: name of the set that all others are compared with; by default the random draw of the same IPC, or the
            first set where nothing was drawn.

    Raises:
        ValueError: a file holds something else, or no set has the baseline's name.
    """
    records = [(path, read_json_object(path)) for path in paths]
    results = _with_distinct_names([result for path, record in records for result in _trainings(path, record)])
    if not results:
        raise ValueError(f"{paths[0]} holds no training yet; wait for the first result of evaluate(), or leave it out")
    if baseline is not None and baseline not in {result.set for result in results}:
        names = ", ".join(dict.fromkeys(result.set for result in results))
        raise ValueError(f"no set of the results is called {baseline!r}; choose the baseline among {names}")
    tables, drawings = shown_results(results, baseline or default_baselines(results))
    if teachers := {
        name: source for _, record in records for name, source in teachers_in(record.get("settings")).items()
    }:
        tables.append(labels_table(teachers))
    commands = [str(record["command"]) for _, record in records if isinstance(record.get("command"), str)]
    return ShownResults(tables=tables, drawings=drawings, commands=commands)


def shown_results(results: Sequence[Result], baseline: Baselines) -> tuple[list[Table], list[Drawing]]:
    """Tables and figures of trainings; series of seeds that others lack are cut to what compares, and the note says so.

    Args:
        baseline: as for ``comparisons.summarise``.
    """
    tables, drawings, groups = [], [], by_setting(results)
    for _, settings in groupby(groups, lambda setting: setting[1:]):
        own = {setting: _comparable(groups[setting], baseline) for setting in settings}
        if len(own) > 1:
            together = [result for kept, _ in own.values() for result in kept]
            tables.append(networks_table(together))
        for setting, (kept, note) in own.items():
            against = _within(kept, baseline)
            tables.append(_table(kept, against, f"Test accuracy, {setting[0]}", note))
            drawings += accuracy_drawings(kept, against)
    return tables, drawings


def default_baselines(results: Sequence[Result]) -> Baselines:
    """Each set's baseline: the first one drawn anew for each seed at its IPC, or the first set where none was drawn.

    Sets of an IPC that nothing was drawn at have none.
    """
    drawn: dict[float, str] = {}
    for result in results:
        if result.draw is not None:
            drawn.setdefault(result.images_per_class, result.set)
    if not drawn or len({*drawn, *(result.images_per_class for result in results)}) == 1:
        return next(iter(drawn.values()), results[0].set)
    return {r.set: drawn[r.images_per_class] for r in results if r.images_per_class in drawn}


def accuracy_drawings(results: Sequence[Result], baseline: Baselines) -> list[Drawing]:
    """The figure of one setting: curves over IPC if a family has several, dots otherwise."""
    rows = summarise(results, baseline)
    lines = families(rows)
    if any(len({row.images_per_class for row in own}) > 1 for own in lines.values()):
        legend = [(name, set_color(i), is_solid(i)) for i, name in enumerate(list(lines)[:LINES])]
        what, figure = "Mean test accuracy over images per class", svg(curves(lines), _label("Accuracy over IPC", rows))
        caption = f"{what}, with bands of ± one standard deviation over seeds; {how(rows)}"
        return [Drawing(figure, caption + _left_out(len(lines), LINES, "families"), legend=legend, wide=True)]
    accuracies: dict[str, list[float]] = {}
    for result in results:
        accuracies.setdefault(result.set, []).append(result.accuracy)
    baselines = {baseline} if isinstance(baseline, str) else {row.baseline for row in rows if row.baseline}
    against = baselines.pop() if len(baselines) == 1 else ""
    line = f", the dashed line at the mean of {against}" if against in accuracies else ""
    caption = f"Each training a dot, the mean a stroke{line}; {how(rows)}{_left_out(len(rows), DOTTED, 'sets')}"
    figure = svg(dots(rows, accuracies, against), _label("Accuracy of each training", rows))
    return [Drawing(figure, caption, wide=True)]


def how(rows: Sequence[Row]) -> str:
    """How accuracies came about, in a line: network, protocol, last epoch, trainings, labels, test images."""
    first, epochs = rows[0], sorted({row.epochs for row in rows if row.epochs is not None})
    after = f" ({', '.join(map(str, epochs))})" if epochs else ""
    trainings = list(dict.fromkeys(row.trainings for row in rows))
    parts = [
        ", ".join(dict.fromkeys(row.network for row in rows)),
        f"protocol {first.protocol}",
        f"last epoch{after}",
        f"{' or '.join(trainings)} trainings (sets x runs)",
        named_labels(first.labels),
        *([f"test images: {first.test}"] if first.test else []),
    ]
    return ", ".join(parts)


def _within(results: Sequence[Result], baseline: Baselines) -> Baselines:
    """The baseline, or none where a setting, such as soft labels, lacks it."""
    return baseline if not isinstance(baseline, str) or baseline in {r.set for r in results} else {}


def _table(results: Sequence[Result], baseline: Baselines, title: str, note: str) -> Table:
    table = accuracy_table(results, baseline=baseline, title=title)
    details = [f"{row.set}: {how([row])}" for row in summarise(results, baseline)]
    return replace(table, note="; ".join(part for part in (table.note, note) if part), details=details)


def _label(what: str, rows: Sequence[Row]) -> str:
    return f"{what}, {rows[0].network}, {rows[0].protocol}, {named_labels(rows[0].labels)}, {rows[0].test}"


def _left_out(count: int, limit: int, what: str) -> str:
    return f"; the first {limit} of {count} {what}" if count > limit else ""


def _comparable(results: Sequence[Result], baseline: Baselines) -> tuple[list[Result], str]:
    """Trainings of seeds that all kept sets have, as many as possible, and a note on what that leaves out."""
    seeds: dict[str, set[int]] = {}
    for result in results:
        seeds.setdefault(result.set, set()).add(result.seed)
    needed = {baseline} if isinstance(baseline, str) else set(baseline.values())
    candidates = Counter(frozenset(own) for own in seeds.values())

    def value(common: frozenset[int]) -> tuple[bool, int]:
        kept = {name for name, own in seeds.items() if common <= own}
        return (needed & seeds.keys()) <= kept, len(common) * len(kept)

    common = max(candidates, key=value)
    short = [name for name, own in seeds.items() if not common <= own]
    cut = [name for name, own in seeds.items() if common < own]
    notes = [f"left out, with fewer trainings: {', '.join(short)}"] if short else []
    notes += [f"of {', '.join(cut)} only those {len(common)} with the seeds that all sets have"] if cut else []
    return [r for r in results if r.set not in short and r.seed in common], "; ".join(notes)


def _trainings(path: Path, record: Mapping[str, Any]) -> list[Result]:
    rows = record.get("results")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} holds no results of an evaluation; give the JSON file of an evaluation")
    try:
        results = results_of(rows)
    except ValueError as error:
        raise ValueError(f"{path} holds a row that is no training; give the JSON file of an evaluation") from error
    for result in results:
        numbers = (result.accuracy, result.images_per_class)
        if not all(isinstance(n, Real) and not isinstance(n, bool) for n in numbers) or not 0 <= result.accuracy <= 1:
            raise ValueError(
                f"{path} gives {result.set!r} the accuracy {result.accuracy!r:.20} at {result.images_per_class!r:.20} "
                "images per class; an accuracy is a fraction from 0 to 1, so mend the file"
            )
    return results


def _with_distinct_names(results: Sequence[Result]) -> list[Result]:
    """Each training once; a name that stands for sets of several IPC gets the IPC added."""
    sizes: dict[str, set[float]] = {}
    for result in results:
        sizes.setdefault(result.set, set()).add(result.images_per_class)
    named = [replace(r, set=f"{r.set}, IPC {r.images_per_class:g}") if len(sizes[r.set]) > 1 else r for r in results]
    return list({result.identity: result for result in named}.values())
