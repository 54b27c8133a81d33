"""Accuracies of several trainings, summed up and compared with a baseline in pairs of equal seed.

    d_i = accuracy of the set - accuracy of the baseline, seed i;   mean(d) +- t(0.975, n - 1) std(d) / sqrt(n)

The p-value is that of the paired t-test, which is below 0.05 exactly where the 95 % interval excludes 0.  Of many
comparisons some are below 0.05 by chance; Holm's correction keeps the chance of any false one in a table at 0.05.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .results import Result

SAME = 1e-9  # differences nearer than that are the same number but for rounding
Baselines = str | Mapping[str, str]  # that of all sets, or each set's own by its name
Setting = tuple[str, str, str, str]  # network, protocol, labels, test set: accuracies compare only within one


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Mean of paired differences, its 95 % t-interval and the p-value of "no difference".

    Both are None for one pair, and where all differences are the same number but 0: accuracies are steps of one test
    image, so that a few pairs differ alike by chance, which tells nothing of how far others would lie apart.
    """

    difference: float
    interval: tuple[float, float] | None
    p_value: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One set, one network, one protocol, one kind of labels, over all seeds.

    Attributes:
        seeds: how many trainings the row sums up.
        mean, std: of the accuracies after the last epoch; std is the sample's, None for one seed.
        difference: mean paired difference to the baseline, 0 for the baseline itself, None for a set that has none.
        interval: its 95 % t-interval, None for one seed and where all seeds differ alike, see ``Paired``.
        p_value: of the paired t-test, None for the baseline and where there is no interval.
        corrected: the p-value after Holm's correction for all rows that were summed up together.
        image_sets: how many different sets of images the trainings used.
        best: mean of the best looks at the test set, None where no training looked at it.
        epochs: of each training, None in records that do not say.
    """

    set: str
    network: str
    protocol: str
    seeds: int
    mean: float
    std: float | None
    difference: float | None
    interval: tuple[float, float] | None
    p_value: float | None = None
    corrected: float | None = None
    image_sets: int = 1
    images_per_class: float = 0.0
    labels: str = "hard"
    test: str = ""
    best: float | None = None
    epochs: int | None = None
    baseline: str = ""

    @property
    def trainings(self) -> str:
        """Number of image sets times trainings of each, such as ``5 x 1`` for a set drawn anew for each seed."""
        return f"{self.image_sets} x {self.seeds / self.image_sets:g}"


def paired(ours: Sequence[float] | np.ndarray, theirs: Sequence[float] | np.ndarray) -> Paired:
    """Compare two lists of accuracies whose i-th values share a seed.

    Args:
        ours, theirs: ``(n,)`` in [0, 1].
    """
    first, second = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    differences = first - second
    mean = float(differences.mean())
    if len(differences) < 2:
        return Paired(difference=mean, interval=None, p_value=None)
    if np.ptp(differences) < SAME:  # a t-test would divide by 0
        none = abs(mean) < SAME
        return Paired(difference=mean, interval=(mean, mean) if none else None, p_value=1.0 if none else None)
    from scipy import stats  # a third of a second, which the first bar need not wait for

    found = stats.ttest_rel(first, second)
    low, high = found.confidence_interval(0.95)
    return Paired(difference=mean, interval=(float(low), float(high)), p_value=float(found.pvalue))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """P-values corrected by Holm's step-down rule, which holds whatever the tests have in common.

        p_(k) -> max over j <= k of min(1, (n - j + 1) p_(j)),   p_(1) <= ... <= p_(n)

    Args:
        p_values: ``(n,)`` in [0, 1], of all tests that are read together.

    Returns:
        ``(n,)`` float64 in the same order.
    """
    given = np.asarray(p_values, np.float64)
    order = np.argsort(given, kind="stable")
    stepped = np.minimum(1, given[order] * np.arange(len(given), 0, -1))
    corrected = np.empty_like(given)
    corrected[order] = np.maximum.accumulate(stepped)
    return corrected


def summarise(results: Iterable[Result], baseline: Baselines, *, shared_seeds: bool = False) -> list[Row]:
    """One row a set and setting, in order of appearance, each compared in pairs with its baseline.

    Args:
        baseline: name of the set that all others are compared with, or the name of each set's own; a set that such a
            mapping does not name, or whose baseline has no results in its setting, is compared with none.
        shared_seeds: sum up of each set the trainings of the seeds that its baseline has too, instead of refusing other
            seeds; a set that shares none is compared with none.

    Raises:
        ValueError: there are no results of the baseline, or a set has not exactly the baseline's seeds, once each.
    """
    trials: dict[tuple[str, Setting], list[Result]] = {}
    for result in results:
        trials.setdefault((result.set, setting_of(result)), []).append(result)
    rows = []
    for (name, setting), ours in trials.items():
        against = baseline if isinstance(baseline, str) else baseline.get(name, "")
        theirs = trials.get((against, setting), [])
        if shared_seeds:
            common = {one.seed for one in ours} & {one.seed for one in theirs}
            theirs = [one for one in theirs if one.seed in common]
            ours = [one for one in ours if one.seed in common] or ours
        if not theirs and (shared_seeds or not isinstance(baseline, str)):
            against, theirs = "", ours
        rows.append(_row(ours, theirs, against))
    return _corrected(rows)


def setting_of(result: Result) -> Setting:
    """What two accuracies must share to be compared."""
    return result.network, result.protocol, result.labels, result.test


def by_setting(results: Iterable[Result]) -> dict[Setting, list[Result]]:
    """The results of each setting, those of one protocol, kind of labels and test set next to each other."""
    groups: dict[Setting, list[Result]] = {}
    for result in results:
        groups.setdefault(setting_of(result), []).append(result)
    first = list(dict.fromkeys(setting[1:] for setting in groups))
    return dict(sorted(groups.items(), key=lambda group: first.index(group[0][1:])))


def default_baselines(results: Sequence[Result], *, drawn: bool = False) -> Baselines:
    """Each set's baseline: the first one drawn anew for each seed at its IPC, or the first set where none was drawn.

    Sets of an IPC that nothing was drawn at have none.

    Args:
        drawn: something was drawn among other results, so that the first set of these is no baseline.
    """
    draws: dict[float, str] = {}
    for result in results:
        if result.draw is not None:
            draws.setdefault(result.images_per_class, result.set)
    if not draws and not drawn:
        return results[0].set
    if len({*draws, *(result.images_per_class for result in results)}) == len(draws) == 1:
        return next(iter(draws.values()))
    return {r.set: draws[r.images_per_class] for r in results if r.images_per_class in draws}


def _row(ours: list[Result], theirs: list[Result], against: str) -> Row:
    ours, theirs = (sorted(trials, key=lambda result: result.seed) for trials in (ours, theirs))
    first, seeds, expected = ours[0], [r.seed for r in ours], [r.seed for r in theirs]
    if seeds != expected or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"{first.set!r} on {first.network} has seeds {seeds}, but the baseline {against!r} has {expected}; "
            "evaluate both with the same seeds, once each"
        )
    scores, looked = np.array([r.accuracy for r in ours]), [r.best for r in ours if r.best is not None]
    found = paired(scores, [r.accuracy for r in theirs])
    compared = bool(against) and against != first.set
    return Row(
        set=first.set,
        network=first.network,
        protocol=first.protocol,
        seeds=len(seeds),
        mean=float(scores.mean()),
        std=float(scores.std(ddof=1)) if len(scores) > 1 else None,
        difference=found.difference if against else None,
        interval=found.interval if against else None,
        p_value=found.p_value if compared else None,
        image_sets=len({r.draw for r in ours}),
        images_per_class=first.images_per_class,
        labels=first.labels,
        test=first.test,
        best=float(np.mean(looked)) if len(looked) == len(ours) else None,
        epochs=first.epochs,
        baseline=against if compared else "",
    )


def _corrected(rows: list[Row]) -> list[Row]:
    tested = [row.p_value for row in rows if row.p_value is not None]
    corrected = iter(holm(tested).tolist())
    return [row if row.p_value is None else replace(row, corrected=next(corrected)) for row in rows]
