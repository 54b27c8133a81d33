"""Redundancy and coverage as tables: a row for each set, and one for each class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dag_diffusion.data.class_names import listed
from dag_diffusion.evaluation.tables import Table

from .coverage import MEASURES
from .measuring import Redundancy, RedundancyConfig

NONE = "\N{EN DASH}"
KINDS = {"empty": "empty", "duplicate": "duplicates", "near": "near copies", "wrong": "of another class"}


def redundancy_table(found: Sequence[Redundancy], settings: Mapping[str, Any]) -> Table:
    """A row for each set: cross accuracy of its parts, coverage of the real images."""
    columns = ["set", "IPC", "cross accuracy, %", *MEASURES]
    rows = []
    for one in found:
        deviation = f" ± {100 * np.std(one.accuracies, ddof=1):.1f}" if len(one.accuracies) > 1 else ""
        rows.append(
            [
                one.set,
                f"{one.images_per_class:g}",
                f"{100 * one.cross_accuracy:.1f}{deviation}",
                *(_cell(one.coverage.get(name), ".3f") for name in MEASURES),
            ]
        )
    return Table("Redundancy and coverage", columns, rows, note=_note(found, settings))


def fault_counts(found: Sequence[Redundancy]) -> Table:
    """How many images of each set have a fault, by its kind."""
    rows = [[one.set, *(_cell(one.faults.get(kind), ",") for kind in KINDS)] for one in found]
    note = "each image by the first that was found"
    if any(NONE in row for row in rows):
        note += f"; {NONE} where the classifier has other classes than the set and cannot tell"
    return Table("Images with faults", ["set", *KINDS.values()], rows, note=note)


def _note(found: Sequence[Redundancy], settings: Mapping[str, Any]) -> str:
    parts, trainings = settings.get("parts", RedundancyConfig.parts), len(found[0].accuracies) if found else 0
    return (
        f"cross accuracy: {settings.get('network')}, protocol {settings.get('protocol')}, trained on one of {parts} "
        f"disjoint parts and tested on the others, mean ± standard deviation of {trainings} trainings, high where "
        f"parts repeat each other; precision, recall, density, coverage: means over classes, by features of "
        f"{settings.get('classifier')} against {Path(str(settings.get('real'))).name}, "
        f"{settings.get('neighbours', RedundancyConfig.neighbours)} neighbours, comparable at one IPC only"
        + "".join(f"; {sentence}" for sentence in unmeasured(found, settings))
    )


def unmeasured(found: Sequence[Redundancy], settings: Mapping[str, Any]) -> list[str]:
    """Why measures of coverage are missing, or are means over some classes only; nothing where all are there."""
    neighbours = settings.get("neighbours", RedundancyConfig.neighbours)
    sentences = dict[str, None]()  # in order, each once: all sets share the real images
    classes = len({name for one in found for name in one.classes})
    for one in found:
        if len(one.classes) < classes:
            sentences[f"means of {one.set} are of {len(one.classes)} classes, where others have more"] = None
        real = [name for name, measured in one.classes.items() if measured["coverage"] is None]
        own = [name for name, measured in one.classes.items() if measured["recall"] is None]
        few = f"{neighbours} or fewer, too few for {neighbours} neighbours"
        if real:
            sentences[f"no precision, density or coverage {_where(real, one)}: its real images are {few}"] = None
        if own:
            sentences[f"no recall of {one.set} {_where(own, one)}: its images are {few}"] = None
    return [*sentences]


def _where(names: Sequence[str], one: Redundancy) -> str:
    if len(names) == len(one.classes):
        return "in any class"
    return f"in {len(names)} of {len(one.classes)} classes ({listed(names)})"


def class_table(found: Sequence[Redundancy]) -> Table:
    """Coverage of each class by each set."""
    names = dict.fromkeys(name for one in found for name in one.classes)
    rows = [[name, *(_of_class(one, name) for one in found)] for name in names]
    note = "share of real images covered"
    if any(NONE in row for row in rows):
        note += f"; {NONE} where a set has no image of the class, or there are no more real ones than neighbours"
    return Table("Coverage by class", ["class", *(one.set for one in found)], rows, note=note)


def _of_class(one: Redundancy, name: str) -> str:
    return _cell(one.classes.get(name, {}).get("coverage"), ".3f")


def _cell(value: float | None, form: str) -> str:
    return NONE if value is None else format(value, form)
