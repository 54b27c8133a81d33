"""What a selection rule is given and what it gives: images of one class, what a target asks of them, a choice.

    rule.sets(images, sizes, goal_of, generator) -> one choice for each size, from the largest to the smallest

A rule is a class in a module of its own; ``selection.RULES`` lists them all.  A rule that follows a target chooses each
smaller set within the next larger one; a rule that only orders the images takes the first of its order.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.stats import wasserstein_distance

from dag_diffusion.sampling.scales import Scale
from dag_diffusion.sampling.targets import TargetDistribution, even_levels

FILLED = -1  # bin of an image that was drawn to fill up a bin that had too few, or by a rule without bins


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassImages:
    """Images of one class, in the order of their names.

    Attributes:
        difficulties: ``(n,)`` in [0, 1].
        features: ``(n, dim)``, None if none are given.
        groups: ``(n,)``, such as the mode of each, of which equally many are to be chosen; None if it does not matter.
        positions: ``(n,)``, where the caller has them.
        correct: ``(n,)`` bool, whether the classifier gets each right; None if no rule asks.
    """

    difficulties: np.ndarray
    features: np.ndarray | None
    groups: np.ndarray | None
    positions: np.ndarray
    correct: np.ndarray | None = None

    def of(self, rows: np.ndarray) -> "ClassImages":
        """Some of them."""
        own = {name: None if values is None else values[rows] for name, values in vars(self).items()}
        return ClassImages(**own)  # type: ignore[arg-type] # difficulties and positions are never None


@dataclass(frozen=True, kw_only=True, eq=False)
class Goal:
    """What a target asks of ``ipc`` images of one class.

    Attributes:
        scale: that the ten bins lie on.
        thresholds: the paper's (bottom, top), numbers of clipped images; None on the raw scale.
    """

    target: TargetDistribution
    class_name: str
    ipc: int
    scale: Scale
    thresholds: tuple[int, int] | None

    @property
    def values(self) -> np.ndarray:
        """Equally likely difficulties, rising, ``(m,)``."""
        return self.target.values(self.class_name, self.scale, self.ipc)

    def quotas(self, *, clip_reference: bool = False) -> np.ndarray:
        """Images wanted in each bin, ``(10,)``; ``clip_reference`` bins a reference by thresholds of its own."""
        return self.target.quotas(self.class_name, self.ipc, self.scale, self.thresholds if clip_reference else None)

    def distances(self, difficulties: np.ndarray) -> tuple[float, float]:
        """Wasserstein-1 from the target to these difficulties, and the least that ``ipc`` numbers could have."""
        values = self.values
        medians = np.quantile(values, even_levels(self.ipc), method="inverted_cdf")  # of the target's slots
        return float(wasserstein_distance(difficulties, values)), float(wasserstein_distance(medians, values))


class Choice(NamedTuple):
    """Images that a rule chose.

    Attributes:
        chosen: ``(ipc,)`` rows of the ``ClassImages``.
        bins: ``(ipc,)``, the bin that each was chosen for, or ``FILLED``.
        quotas: ``(10,)`` images wanted in each bin; empty without bins.
    """

    chosen: np.ndarray
    bins: np.ndarray
    quotas: np.ndarray

    @classmethod
    def without_bins(cls, chosen: np.ndarray) -> "Choice":
        """What a rule chose that knows no bins."""
        return cls(chosen, np.full(len(chosen), FILLED), np.zeros(0, np.int64))


GoalOf = Callable[[int], Goal | None]  # of a set of so many images


class Rule(ABC):
    """One way to choose; made with no argument, or with the options of ``SelectionRule`` that it lists."""

    options: ClassVar[tuple[str, ...]] = ()
    by_target: ClassVar[bool] = False
    by_features: ClassVar[bool] = False
    by_difficulty: ClassVar[bool] = False  # also without a target
    by_correct: ClassVar[bool] = False

    @abstractmethod
    def sets(
        self, images: ClassImages, sizes: Sequence[int], goal_of: GoalOf, generator: np.random.Generator
    ) -> Iterator[Choice]:
        """A choice for each of ``sizes``, which fall; each within the one before."""


class TargetRule(Rule):
    """A rule that follows a target."""

    by_target = True

    def quotas(self, goal: Goal) -> np.ndarray:
        """``(10,)`` images wanted in each bin."""
        return goal.quotas()

    @abstractmethod
    def choose(self, images: ClassImages, among: np.ndarray, goal: Goal, generator: np.random.Generator) -> Choice:
        """``goal.ipc`` of the images in the rows ``among``."""

    def sets(
        self, images: ClassImages, sizes: Sequence[int], goal_of: GoalOf, generator: np.random.Generator
    ) -> Iterator[Choice]:
        among = np.arange(len(images.difficulties))
        for size in sizes:
            goal = goal_of(size)
            assert goal is not None  # select refuses such a rule without a target
            choice = self.choose(images, among, goal, generator)
            among = choice.chosen
            yield choice


class OrderRule(Rule):
    """A rule that orders the images and takes the first."""

    @abstractmethod
    def order(self, images: ClassImages, count: int, generator: np.random.Generator) -> np.ndarray:
        """The first ``count`` rows of the order."""

    def sets(
        self, images: ClassImages, sizes: Sequence[int], goal_of: GoalOf, generator: np.random.Generator
    ) -> Iterator[Choice]:
        largest, groups = max(sizes), images.groups
        order = self.order(images, largest if groups is None else len(images.difficulties), generator)
        if groups is not None:
            order = in_turns(order, groups)
        for size in sizes:
            yield Choice.without_bins(order[:size])


def in_turns(order: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rows in another order: the first of every group, then the second of every group, and so on."""
    return order[np.argsort(_turns(groups[order]), kind="stable")]


def _turns(groups: np.ndarray) -> np.ndarray:
    """How many of the same group stand before each, ``(n,)``."""
    turns = np.empty(len(groups), np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        turns[members] = np.arange(len(members))
    return turns
