"""How long a distillation will take here, and how long it took, stage by stage.

    expected = overhead of a rehearsal + seconds a step in it * steps        needed = what the clock says, over all runs

The clock goes on where an interrupted run has stopped it.
"""

import math
import time
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dag_diffusion.data.files import read_json_object, write_json
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.progress import Progress
from dag_diffusion.training.generators.settings import vae_steps_beside

KEPT_EVERY = 10.0  # seconds between two looks of the clock that are written down
FEWEST_STEPS, MOST_STEPS = 0.1, 5.0  # times the usual number, to keep to a number of minutes
PLAN = "plan.json"  # in the work folder
BAR = ": "  # between a stage and the part of it that a bar shows


@dataclass(frozen=True)
class Expected:
    """What a stage will take.

    Attributes:
        work: how much there is to do, in words.
        seconds: that do not depend on training steps.
        steps: of each training; 0 where nothing is trained.
        seconds_each: of a step, of all trainings of the stage together.
        vae_seconds_each: of a step of the VAE that is trained before, for steps that follow from these; 0 without one.
    """

    work: str
    seconds: float
    steps: int = 0
    seconds_each: float = 0.0
    vae_seconds_each: float = 0.0

    @property
    def total(self) -> float:
        """Seconds in all, also of what an earlier run has done."""
        vae = vae_steps_beside(self.steps) * self.vae_seconds_each
        return self.seconds + self.steps * self.seconds_each + vae

    def times(self, share: float) -> "Expected":
        """The same with so many times the steps."""
        return replace(self, steps=max(round(share * self.steps), 1)) if self.steps else self


class Clock:
    """A progress that adds up the seconds of each stage, keeps them in a file, and hands all on to another progress.

    A stage is the text before the colon of what is reported, such as ``guide`` of ``guide: training``.  Of several
    processes only one has the file: others do not hear of every stage, and would put its time down to the next.
    """

    def __init__(self, file: Path | None, progress: Progress | None = None) -> None:
        self._file, self._progress = file, progress
        self.seconds: dict[str, float] = {} if file is None or not file.exists() else read_json_object(file)
        self._last = self._kept = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now, name = time.monotonic(), stage.partition(BAR)[0]
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
        if now - self._kept > KEPT_EVERY:
            self.keep()
        if self._progress is not None:
            self._progress(stage, done, total)

    def within(self, name: str) -> Progress:
        """A progress for the calls that make up a stage."""
        return lambda stage, done, total: self(f"{name}{BAR}{stage}", done, total)

    def keep(self) -> None:
        """Write down what was measured so far."""
        self._kept = time.monotonic()
        if self._file is not None:
            write_json(self._file, {name: round(value, 1) for name, value in self.seconds.items()})


class Pace:
    """A progress that measures seconds a unit: of each stage, from its first report with something done to its last."""

    def __init__(self) -> None:
        self.begun = self._heard = time.monotonic()
        self._first: dict[str, tuple[float, int]] = {}
        self._last: dict[str, tuple[float, int]] = {}
        self._spent: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done > 0:
            self._spent[stage] = self._spent.get(stage, 0.0) + now - self._heard
            self._first.setdefault(stage, (now, done))
            self._last[stage] = (now, done)
        self._heard = now

    def seconds_each(self, stage: str) -> float:
        """Of one unit of a stage; the first, which is slower, counts only where there was no other.

        0 for a stage that was never reported, as in all processes but the first.
        """
        if stage not in self._last:
            return 0.0
        (start, before), (end, after) = self._first[stage], self._last[stage]
        return (end - start) / (after - before) if after > before else (end - self.begun) / max(after, 1)

    def beside(self, *stages: str) -> float:
        """Seconds since the beginning that were spent on anything else than units of these stages."""
        spent = sum(self._last[stage][0] - self._first[stage][0] for stage in stages if stage in self._last)
        return time.monotonic() - self.begun - spent

    def spent(self, *stages: str) -> float:
        """Seconds that went by before reports of something done in these stages, each since the report before it."""
        return sum(self._spent.get(stage, 0.0) for stage in stages)


def read_plan(work: Path) -> dict[str, Expected]:
    """What was expected when the distillation in a work folder was begun; nothing where none was."""
    plan = work / PLAN
    return {name: Expected(**one) for name, one in read_json_object(plan).items()} if plan.exists() else {}


def within_minutes(expected: Mapping[str, Expected], minutes: float | None) -> dict[str, Expected]:
    """The same stages with so many training steps that all of it takes the minutes; None leaves them as they are.

    All of them get more or fewer in the same proportion, but for the VAE.

    Raises:
        ValueError: what is no training takes longer than that, or nearly.
    """
    if minutes is None or not any(one.steps for one in expected.values()):
        return dict(expected)

    def total(share: float) -> float:
        return sum(one.times(share).total for one in expected.values())

    shares = np.geomspace(FEWEST_STEPS, MOST_STEPS, 4000).tolist()  # a thousandth apart
    fitting = bisect_right(shares, 60 * minutes, key=total)
    if not fitting:
        enough = math.ceil(total(FEWEST_STEPS) / 60)
        raise ValueError(
            f"minutes is {minutes:g}, but pools, comparison and the least training take about {enough}; give more "
            "minutes, or fewer seeds, a lower ipc or pool_factor"
        )
    return {name: one.times(shares[fitting - 1]) for name, one in expected.items()}


def duration_table(expected: Mapping[str, Expected], needed: Mapping[str, float], *, note: str = "") -> Table:
    """Minutes of each stage: what was expected, and what was needed so far."""
    rows = []
    for name in dict.fromkeys([*expected, *needed]):
        stage = expected.get(name)
        told = [] if stage is None else [f"{stage.steps:,} steps" if stage.steps else "", stage.work]
        work = ", ".join(filter(None, told))
        rows.append([name, work, _minutes(None if stage is None else stage.total), _minutes(needed.get(name))])
    rows.append(["in all", "", _minutes(sum(one.total for one in expected.values())), _minutes(sum(needed.values()))])
    return Table("Minutes", ["stage", "work", "expected", "needed"], rows, note=note)


def _minutes(seconds: float | None) -> str:
    return "" if not seconds else f"{seconds / 60:.1f}"
