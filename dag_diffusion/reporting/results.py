"""Results of evaluations as tables and figures of the report.

    results.json -> trainings that compare -> tables (mean ± deviation, paired difference) and curves over IPC

Each table and figure names protocol, last epoch, number of trainings and kind of labels, without which an accuracy
compares with nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

from dag_diffusion.data.files import read_json_object
from dag_diffusion.evaluation.comparisons import Baselines, Row, by_setting, default_baselines, summarise
from dag_diffusion.evaluation.records import PER_VIEW, commands_in, protocol_in, teachers_in
from dag_diffusion.evaluation.results import Result, results_of
from dag_diffusion.evaluation.soft_labels.teachers import LabelSource
from dag_diffusion.evaluation.tables import Table, accuracy_table, labels_table, named_labels, networks_table

from .accuracy_figures import DOTTED, LINES, curves, dots, families, is_solid
from .figures import Drawing, set_color, svg


@dataclass(frozen=True, kw_only=True)
class ShownResults:
    """Tables and figures of some trainings, and the commands that made these."""

    tables: list[Table]
    drawings: list[Drawing]
    commands: list[str]


def read_results(paths: Sequence[Path], baseline: str | None = None) -> ShownResults:
    """Read the JSON files of ``evaluate`` or ``run``, and make tables and figures of them.

    Args:
        paths: files; what they call alike and is not gets its IPC, its file, precision or teacher added.
        baseline: name of the set that all others are compared with; by default the random draw of the same IPC, or the
            first set where nothing was drawn.

    Raises:
        ValueError: a file holds something else, or no set has the baseline's name.
    """
    records = [(path, read_json_object(path)) for path in paths]
    read = _told_apart(
        [
            _Read(result, result.set, result.labels, name, record.get("settings"))
            for name, (path, record) in zip(_short_names(paths), records, strict=True)
            for result in _trainings(path, record)
        ]
    )
    results = list({one.result.identity: one.result for one in read}.values())
    if not results:
        raise ValueError(f"{paths[0]} holds no training yet; wait for the first result of evaluate(), or leave it out")
    if baseline is not None and baseline not in {result.set for result in results}:
        names = ", ".join(dict.fromkeys(result.set for result in results))
        raise ValueError(f"no set of the results is called {baseline!r}; choose the baseline among {names}")
    tables, drawings = shown_results(results, baseline)
    teachers = {(one.result.set, one.result.labels): one.taught for one in read if one.taught is not None}
    if teachers:
        tables.append(labels_table([(name, source) for (name, _), source in teachers.items()]))
    commands = [command for _, record in records for command in commands_in(record)]
    return ShownResults(tables=tables, drawings=drawings, commands=commands)


def shown_results(results: Sequence[Result], baseline: Baselines | None = None) -> tuple[list[Table], list[Drawing]]:
    """Tables and figures of trainings; series of seeds that others lack are cut to what compares, and the note says so.

    Args:
        baseline: as for ``comparisons.summarise``; None: in each table its ``default_baselines``.
    """
    tables, drawings, groups = [], [], by_setting(results)
    drawn = any(result.draw is not None for result in results)
    for _, settings in groupby(groups, lambda setting: setting[1:]):
        own = {}
        for setting in settings:
            its = baseline or default_baselines(groups[setting], drawn=drawn)
            own[setting] = its, *_comparable(groups[setting], its)
        if len(own) > 1:
            table = networks_table([result for _, kept, _ in own.values() for result in kept])
            notes = [f"{setting[0]}: {note}" for setting, (_, _, note) in own.items() if note]
            tables.append(replace(table, note="; ".join([table.note, *notes])))
        for setting, (its, kept, note) in own.items():
            against = _within(kept, its)
            tables.append(_table(kept, against, f"Test accuracy, {setting[0]}", note))
            drawings += accuracy_drawings(kept, against)
    return tables, drawings


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
    """Trainings of seeds that all kept sets have, and a note on what that leaves out.

    As many as possible, and of equally many those of most sets; with the baseline and something to compare with it, or
    without it if nothing shares its seeds.
    """
    seeds: dict[str, set[int]] = {}
    for result in results:
        seeds.setdefault(result.set, set()).add(result.seed)
    needed = {baseline} if isinstance(baseline, str) else set(baseline.values())
    needed &= seeds.keys()
    groups = [[own] for own in seeds.values()] + [[seeds[name] for name in needed], list(seeds.values())]
    several = dict.fromkeys(frozenset.intersection(*map(frozenset, group)) for group in groups if group)
    candidates = filter(None, dict.fromkeys(one & other for one in several for other in several))

    def value(common: frozenset[int]) -> tuple[bool, int, int, bool]:
        kept = {name for name, own in seeds.items() if common <= own}
        return needed < kept, len(common) * len(kept), len(kept), needed <= kept

    common = max(candidates, key=value)
    short = [name for name, own in seeds.items() if not common <= own]
    cut = [name for name, own in seeds.items() if common < own]
    notes = [f"left out, without the seeds of the others: {', '.join(short)}"] if short else []
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


class _Read(NamedTuple):
    """A training as it will be called, since what several files call alike may be different things.

    Attributes:
        set, labels: what the file calls them.
        file: a short name of the file.
        settings: of the evaluation, as far as the file says.
    """

    result: Result
    set: str
    labels: str
    file: str
    settings: Any

    @property
    def images(self) -> object:
        """Equal for equal images and labels; the file where it does not say."""
        name = self.set + PER_VIEW if self.labels == "views" else self.set
        soft = _said(self.settings, "soft_labels", name) if self.labels != "hard" else None
        return _said(self.settings, "sets", self.set) or self.file, soft

    @property
    def taught(self) -> LabelSource | None:
        """Whose soft labels the set has."""
        return teachers_in(self.settings).get((self.set, self.labels))

    @property
    def teacher(self) -> str | None:
        """Name and digest of the teacher, as far as they are known; None where there is none."""
        return (self.taught.teacher.label or None) if self.taught else None

    @property
    def protocol(self) -> str | None:
        """All that a protocol says but the precision."""
        found = protocol_in(self.settings)
        return None if found is None else json.dumps({**found, "precision": None}, sort_keys=True)


def _said(settings: Any, *keys: str) -> str | None:
    """What a file says in a place, None if it does not."""
    for key in keys:
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    return None if settings is None else str(settings)


def _told_apart(read: Sequence[_Read]) -> list[_Read]:
    """The same with other names where one name stands for several teachers, sets, test images or protocols."""
    read = _named(read, "labels", lambda one: one.teacher, " by {0.teacher}")
    read = _named(read, "set", lambda one: one.result.images_per_class, ", IPC {0.result.images_per_class:g}")
    read = _named(read, "set", lambda one: one.images, " ({0.file})")
    read = _named(read, "test", lambda one: _said(one.settings, "test", "digest"), " ({0.file})")
    read = _named(read, "protocol", lambda one: one.protocol, " ({0.file})")
    return _named(read, "protocol", lambda one: one.result.precision, " in {0.result.precision}")


def _named(read: Sequence[_Read], field: str, meant: Callable[[_Read], object], added: str) -> list[_Read]:
    """Add to a name where ``meant`` differs among those of one name and kind of labels, as far as it is known."""
    known: dict[tuple[str, str], set[object]] = {}
    for one in read:
        known.setdefault((getattr(one.result, field), one.result.labels), set()).add(meant(one))
    found = []
    for one in read:
        name = getattr(one.result, field)
        if len(known[name, one.result.labels] - {None}) > 1 and meant(one) is not None:
            changed: dict[str, Any] = {field: (name + added.format(one)).strip()}
            one = one._replace(result=replace(one.result, **changed))
        found.append(one)
    return found


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Of files: without the ending, else of their folders, else whole, whichever differ first."""
    whole = [str(path) for path in paths]
    candidates = ([path.stem for path in paths], [path.resolve().parent.name for path in paths], whole)
    return next((names for names in candidates if len(set(names)) == len(names)), whole)
