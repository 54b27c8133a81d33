"""Scores of DD-Ranking (arXiv 2505.13300), which separate what images teach from what labels and augmentation add.

    HLR = acc(real, hard) - acc(set, hard)             hard-label recovery; 0 where nothing was lost
    IOR = acc(set, any) - acc(random, any)             improvement over random, both under the same protocol
    LRS = (e^a - e^-1) / (e - e^-1),  a = w IOR - (1 - w) HLR
    ARS = (e^b - e^-1) / (e - e^-1),  b = g (set - random)_augmented + (1 - g) (set - random)_plain

Accuracies are fractions: with percents, as the released package has them, the exponent saturates.  Unlike that package:
last epoch instead of the best on the test set, one learning rate for set and random draw, paired seeds, intervals.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, overload

import numpy as np

from .comparisons import paired
from .protocols import Protocol
from .results import Result

WEIGHT = 0.5  # of the paper's leaderboard, for w and for g
AUGMENTATIONS = ("max_shift", "crop_scale", "flip", "color_jitter", "lighting", "cutmix")  # fields of a protocol
PLAIN = ", no augmentation"  # added to the name of a protocol without its augmentation

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Score:
    """DD-Ranking's scores of one set on one network; None where the trainings that one needs are missing.

    Attributes:
        recovery: HLR in [-1, 1], the smaller the better.
        improvement: IOR in [-1, 1].
        label_robust, augmentation_robust: LRS and ARS in [0, 1]; a set as good as random that loses nothing has 0.269.
        label_interval, augmentation_interval: 95 % over seeds, paired; None for one seed and where all seeds
            give the same exponent, see ``Paired``.
        seeds: number of pairs.
    """

    set: str
    network: str
    protocol: str
    labels: str
    seeds: int
    recovery: float | None
    improvement: float
    label_robust: float | None
    label_interval: Interval | None
    augmentation_robust: float | None
    augmentation_interval: Interval | None


def without_augmentation(protocol: Protocol) -> Protocol:
    """The same protocol with every augmentation off, under a name of its own.

    Raises:
        ValueError: it augments nothing, so that both halves of the ARS would be the same.
    """
    off: dict[str, Any] = {field.name: field.default for field in fields(Protocol) if field.name in AUGMENTATIONS}
    if all(getattr(protocol, name) == value for name, value in off.items()):
        raise ValueError(
            f"protocol {protocol.name!r} augments nothing, so an augmentation-robust score would say nothing; "
            "choose one that does"
        )
    return replace(protocol, name=f"{protocol.name}{PLAIN}", **off)


def scores(
    results: Iterable[Result], baselines: Mapping[str, str], full: str | None = None, *, weight: float = WEIGHT
) -> list[Score]:
    """The scores of every set that has a random baseline, on every network.

    Args:
        results: of the sets, of their random draws, of ``full``, hard and soft, augmented and plain, as far as they go.
        baselines: name of a set to that of its random draw of equal IPC.
        full: name of the set of all real images.
        weight: w and g in [0, 1]; the paper's leaderboard has 0.5.

    Raises:
        ValueError: two accuracies to be compared do not share their seeds, or are no fractions, as percents are not.
    """
    found: dict[_Series, dict[int, float]] = {}
    for result in results:
        series = _Series(result.set, result.network, result.protocol, result.labels)
        found.setdefault(series, {})[result.seed] = result.accuracy
    return [
        _score(series, found, series._replace(set=baselines[series.set]), full, weight)
        for series in found
        if baselines.get(series.set, series.set) != series.set
        and series._replace(set=baselines[series.set]) in found
        and not series.protocol.endswith(PLAIN)
    ]


class _Series(NamedTuple):
    """What the trainings of one accuracy share, all but their seed."""

    set: str
    network: str
    protocol: str
    labels: str


def _score(
    series: _Series, found: Mapping[_Series, Mapping[int, float]], random: _Series, full: str | None, weight: float
) -> Score:
    hard, plain = series._replace(labels="hard"), series.protocol + PLAIN
    improvement = _difference(found[series], found[random])
    recovery = None if full is None else _difference(found.get(hard._replace(set=full)), found.get(hard))
    unaided = _difference(found.get(series._replace(protocol=plain)), found.get(random._replace(protocol=plain)))
    label_robust, label_interval = _scored(improvement, None if recovery is None else -recovery, weight)
    augmentation_robust, augmentation_interval = _scored(improvement, unaided, weight)
    return Score(
        set=series.set,
        network=series.network,
        protocol=series.protocol,
        labels=series.labels,
        seeds=len(found[series]),
        recovery=None if recovery is None else float(recovery.mean()),
        improvement=float(improvement.mean()),
        label_robust=label_robust,
        label_interval=label_interval,
        augmentation_robust=augmentation_robust,
        augmentation_interval=augmentation_interval,
    )


@overload
def _difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> np.ndarray: ...
@overload
def _difference(ours: Mapping[int, float] | None, theirs: Mapping[int, float] | None) -> np.ndarray | None: ...
def _difference(ours: Mapping[int, float] | None, theirs: Mapping[int, float] | None) -> np.ndarray | None:
    """Paired by seed, ``(seeds,)``; None where either was not trained."""
    if ours is None or theirs is None:
        return None
    if ours.keys() != theirs.keys():
        raise ValueError(
            f"accuracies of seeds {sorted(ours)} cannot be paired with those of seeds {sorted(theirs)}; "
            "evaluate both with the same seeds"
        )
    return np.array([ours[seed] - theirs[seed] for seed in sorted(ours)])


def _scored(first: np.ndarray, second: np.ndarray | None, weight: float) -> tuple[float | None, Interval | None]:
    """The score of the mean exponent, and its interval's ends put through the same rising function."""
    if second is None:
        return None, None
    exponents = np.array([_mixed(a, b, weight) for a, b in zip(first, second, strict=True)])
    found = paired(exponents, np.zeros_like(exponents))
    if found.interval is None:
        return _normalised(found.difference), None
    low, high = (_normalised(min(1.0, max(-1.0, end))) for end in found.interval)
    return _normalised(found.difference), (low, high)


def _mixed(first: float, second: float, weight: float) -> float:
    if not (0 <= weight <= 1 and -1 <= first <= 1 and -1 <= second <= 1):
        raise ValueError(
            f"a score mixes differences in [-1, 1] by a weight in [0, 1], but got {first}, {second} and {weight}; "
            "give fractions, not percents"
        )
    return weight * first + (1 - weight) * second


def _normalised(exponent: float) -> float:
    return (math.exp(exponent) - math.exp(-1)) / (math.e - math.exp(-1))
