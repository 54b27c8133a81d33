"""Which difficulties a distilled set should have: of real images, a preset of the paper, a curve, or a mixture.

A target is asked for two things: ``values``, equally likely difficulties (a sample, or even quantiles of a curve), and
``quotas``, how many of IPC images it wants in each of ten bins.  Shapes such as the presets of arXiv 2601.10090 say
nothing but the shares of the bins, so that their difficulties depend on the scale that is binned.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .scales import BINS, LogScale, Scale, log_scale

GAP = 0.1  # between difficulties that follow each other, from which on parts of a mixture lie apart
RESOLUTION = 1000  # quantiles that stand for a curve: each a thousandth of the images
STEERING_SCALE = LogScale(1e-3, 1.0)  # what a shape is laid over where there are no images yet

# Counts of the paper's ablation for 10, 20 and 50 images, easy to hard; other numbers take the shape of the last.
PRESETS = {
    "hill": {
        10: (1, 0, 1, 0, 3, 3, 1, 0, 0, 1),
        20: (1, 1, 1, 2, 5, 5, 2, 1, 1, 1),
        50: (1, 3, 5, 6, 10, 10, 6, 5, 3, 1),
    },
    "ground": {50: (5, 5, 5, 5, 5, 5, 5, 5, 5, 5)},
    "slope": {
        10: (3, 3, 1, 1, 0, 0, 1, 1, 0, 0),
        20: (5, 5, 2, 2, 1, 1, 1, 1, 1, 1),
        50: (10, 10, 6, 6, 5, 5, 3, 3, 1, 1),
    },
    "cliff": {
        10: (6, 3, 0, 1, 0, 0, 0, 0, 0, 0),
        20: (9, 6, 1, 1, 1, 1, 1, 0, 0, 0),
        50: (20, 15, 3, 3, 2, 2, 2, 1, 1, 1),
    },
}


def largest_remainder(proportions: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers that sum to ``total``, nearest to ``proportions * total``; ties go to the easier bin.

    Examples:
        >>> largest_remainder(np.array([0.5, 0.3, 0.2]), 7).tolist()
        [4, 2, 1]
    """
    shares = np.asarray(proportions, np.float64)
    counts, remainders = np.divmod(shares * total, shares.sum())  # exact for whole numbers, so that ties are ties
    by_remainder = np.argsort(-remainders, kind="stable")
    counts[by_remainder[: total - int(counts.sum())]] += 1
    return counts.astype(int)


def even_levels(count: int) -> np.ndarray:
    """``(i + 1/2) / count``: the levels whose quantiles stand for equal shares of a distribution."""
    return (np.arange(count) + 0.5) / count


class TargetDistribution(ABC):
    """The difficulties that are wanted, in each class.  Make one with a static method, ``as_target``, or a subclass.

    Attributes:
        name: what it is in a word, for figures.
        text: what ``as_target`` and ``--target`` make the same target from; None if no text says it.
        relative: whether its values depend on the scale.
    """

    name: str
    text: str | None = None
    relative: bool = False

    def __repr__(self) -> str:
        """By its text, where it has one, and not by all the difficulties that it holds."""
        return f"{type(self).__name__}({self.name if self.text is None else self.text!r})"

    @abstractmethod
    def values(self, class_name: str, scale: Scale, ipc: int | None = None) -> np.ndarray:
        """Equally likely difficulties, rising, ``(n,)`` in [0, 1].

        Args:
            class_name: whose difficulties; ValueError if the target lacks it.
            scale: that a mere shape is laid over; without effect on others.
            ipc: for which a preset of the paper may have counts of its own.
        """

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """What tells one target from another, for the record; JSON values only, with ``name`` and ``text``."""

    @staticmethod
    def from_summary(summary: Mapping[str, Any]) -> "TargetDistribution":
        """The target that ``summary`` recorded.

        Raises:
            ValueError: the record is that of no target, or of real images, whose difficulties it does not repeat.
        """
        from .target_parser import recorded_target  # which imports this module

        return recorded_target(summary)

    def quotas(self, class_name: str, ipc: int, scale: Scale, thresholds: tuple[int, int] | None = None) -> np.ndarray:
        """Images wanted in each bin of the scale, ``(10,)``, summing to ``ipc``.

        Args:
            thresholds: as the paper does, clip this many of a *reference's own* easiest and hardest images, whatever
                the scale; of fewer images than that, all but one or two.  They are counts: the pair that clips 40 % of
                a pool of 50 clips 1.5 % of 1,300 references, so that a bin means other difficulties on either side.
                None bins both by ``scale``.
        """
        return largest_remainder(np.bincount(scale.bins(self.values(class_name, scale, ipc)), minlength=BINS), ipc)

    def difficulties(self, class_name: str, count: int, scale: Scale = STEERING_SCALE) -> np.ndarray:
        """``count`` target difficulties that follow the distribution, easiest first, to steer a pool with."""
        values, levels = self.values(class_name, scale), even_levels(count)
        straight = np.quantile(values, levels)
        if not self.may_lie_apart(class_name):
            return straight
        gaps = np.quantile(values, levels, method="higher") - np.quantile(values, levels, method="lower")
        return np.where(gaps > GAP, np.quantile(values, levels, method="inverted_cdf"), straight)

    def may_lie_apart(self, class_name: str) -> bool:
        """Whether ``difficulties`` leaves gaps between values empty, as those between the parts of a mixture."""
        return False

    @staticmethod
    def from_reference(
        difficulties: Mapping[str, Sequence[float] | np.ndarray] | Sequence[float] | np.ndarray,
        name: str = "reference",
        *,
        text: str | None = None,
    ) -> "TargetDistribution":
        """Follow real images, best scored by a guide that was not trained on them.

        Args:
            difficulties: class name to ``(n,)`` in [0, 1], or one list for all classes.
            name: for figures.
            text: where ``as_target`` finds them again, such as a scored folder.

        Raises:
            ValueError: a class is empty, or a difficulty is not in [0, 1].
        """
        by_class = difficulties if isinstance(difficulties, Mapping) else {EVERY_CLASS: difficulties}
        checked = {key: np.sort(np.asarray(values, np.float64)) for key, values in by_class.items()}
        for key, values in checked.items():
            if not (len(values) and np.all((values >= 0) & (values <= 1))):
                raise ValueError(f"reference difficulties of {key!r} must be a non-empty list in [0, 1] without NaN")
        return Reference(checked, name, text)

    @staticmethod
    def preset(name: str) -> "TargetDistribution":
        """``hill``, ``ground``, ``slope`` or ``cliff`` of the paper's ablation, for any IPC.

        Examples:
            >>> TargetDistribution.preset("hill").quotas("any", 20, LogScale(1e-3, 1.0)).tolist()
            [1, 1, 1, 2, 5, 5, 2, 1, 1, 1]
        """
        if name not in PRESETS:
            raise ValueError(
                f"there is no target preset {name!r}; choose {', '.join(PRESETS)}, or make a TargetDistribution, such "
                "as .histogram of ten numbers or .from_reference of real difficulties"
            )
        return Shape(PRESETS[name][50], name, name, PRESETS[name])

    @staticmethod
    def histogram(
        shares: Sequence[float], edges: Sequence[float] | None = None, name: str = "histogram"
    ) -> "TargetDistribution":
        """Shares of bins, easiest first; they need not sum to one.

        Args:
            shares: non-negative; ten of them unless there are edges.
            edges: difficulties between which the shares lie, one more than shares; evenly spread within each.  Without
                them, shares of the ten bins of the scale at hand.
        """
        values = np.asarray(shares, np.float64)
        count = BINS if edges is None else len(edges) - 1
        if values.shape != (count,) or not np.all(np.isfinite(values) & (values >= 0)) or values.sum() == 0:
            raise ValueError(
                f"a target histogram needs {count} non-negative numbers, easiest bin first, but got {list(shares)}"
            )
        if edges is None:
            return Shape(tuple(values.tolist()), name, numbers_text(*values.tolist()))
        return Curve(np.concatenate([[0], np.cumsum(values)]) / values.sum(), _rising(edges), name)

    @staticmethod
    def quantiles(difficulties: Sequence[float], name: str = "quantiles") -> "TargetDistribution":
        """Difficulties at evenly spaced levels, from the easiest image's to the hardest's, straight between them."""
        values = _rising(difficulties)
        return Curve(np.linspace(0, 1, len(values)), values, name, f"quantiles:{numbers_text(*values.tolist())}")

    @staticmethod
    def uniform(low: float = 0.0, high: float = 1.0) -> "TargetDistribution":
        """Every difficulty between two is equally likely."""
        name, text = f"uniform({low:g}, {high:g})", f"uniform:{numbers_text(low, high)}"
        return Curve(np.array([0.0, 1.0]), _rising([low, high]), name, text)

    @staticmethod
    def beta(a: float, b: float) -> "TargetDistribution":
        """The beta distribution: mean ``a / (a + b)``, easy images prevail where a < b.

        Examples:
            >>> TargetDistribution.beta(0.3, 3).difficulties("any", 3).round(3).tolist()
            [0.001, 0.027, 0.19]
        """
        from scipy.stats import beta

        if not (0 < a < np.inf and 0 < b < np.inf):
            raise ValueError(
                f"a beta target needs two positive numbers, but got {a} and {b}; try 0.3 and 3, mostly easy"
            )
        levels = even_levels(RESOLUTION)
        try:
            values = np.clip(beta.ppf(levels, a, b), 0, 1)
        except OverflowError:
            values = np.array([np.nan])
        if np.isnan(values).any():
            raise ValueError(
                f"no quantiles of a beta target with {a} and {b} can be computed; give others, nearer to 1"
            )
        return Curve(levels, values, f"beta({a:g}, {b:g})", f"beta:{numbers_text(a, b)}")

    @staticmethod
    def constant(difficulty: float) -> "TargetDistribution":
        """The same difficulty for every image, in [0, 1]."""
        if not 0 <= difficulty <= 1:
            raise ValueError(f"a target difficulty must lie in [0, 1], 0 easy and 1 hard, but is {difficulty}")
        return Curve(np.array([0.0]), np.array([float(difficulty)]), f"{difficulty:g}", numbers_text(difficulty))

    @staticmethod
    def mixture(
        targets: "Sequence[TargetDistribution]", weights: Sequence[float] | None = None
    ) -> "TargetDistribution":
        """Images of several targets, each for its share; equal shares without weights."""
        shares = np.ones(len(targets)) if weights is None else np.asarray(weights, np.float64)
        if not len(targets) or shares.shape != (len(targets),) or not np.all((shares > 0) & np.isfinite(shares)):
            raise ValueError(
                f"a mixture needs targets and a positive weight for each, but got {len(targets)} targets and "
                f"weights {shares.tolist()}"
            )
        return Mixture(tuple(targets), tuple((shares / shares.sum()).tolist()))

    @staticmethod
    def per_class(targets: "Mapping[str, TargetDistribution]", *, text: str | None = None) -> "TargetDistribution":
        """Another target for each class name.

        Args:
            text: where ``as_target`` finds them again, a JSON file.
        """
        if not targets:
            raise ValueError("a target per class needs at least one class; give {class name: target, ...}")
        return PerClass(dict(targets), text)


Target = TargetDistribution | Mapping[str, Any] | str | Path | float  # what ``target_parser.as_target`` reads
EVERY_CLASS = ""  # key of a reference that all classes share


def numbers_text(*numbers: float) -> str:
    """Numbers as ``--target`` takes them, as short as they can be without loss."""
    short = [f"{number:g}" for number in numbers]
    return ",".join(s if float(s) == number else repr(float(number)) for s, number in zip(short, numbers, strict=True))


def _rising(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if len(array) < 2 or not np.all((array >= 0) & (array <= 1)) or np.any(np.diff(array) < 0):
        raise ValueError(
            f"difficulties of a target must be at least two, rise, and lie in [0, 1], but are {array.tolist()[:12]}"
        )
    return array


@dataclass(frozen=True, eq=False, repr=False)
class Reference(TargetDistribution):
    """Sorted difficulties of real images by class; the only target that has order statistics to clip by."""

    by_class: Mapping[str, np.ndarray]
    name: str
    text: str | None = None

    def values(self, class_name: str, scale: Scale | None = None, ipc: int | None = None) -> np.ndarray:
        found = self.by_class.get(class_name, self.by_class.get(EVERY_CLASS))
        if found is None:
            raise ValueError(
                f"the target's reference has no class {class_name!r}; it has {', '.join(list(self.by_class)[:10])}"
            )
        return found

    def quotas(self, class_name: str, ipc: int, scale: Scale, thresholds: tuple[int, int] | None = None) -> np.ndarray:
        if thresholds is not None and isinstance(scale, LogScale):
            values = self.values(class_name)
            if sum(thresholds) >= len(values):  # a reference smaller than the pool, of which nothing would be left
                thresholds = np.minimum(thresholds, (len(values) - 1) // 2).tolist()
            scale = log_scale(values, *thresholds)
        return super().quotas(class_name, ipc, scale)

    def summary(self) -> dict[str, Any]:
        known = {name: [len(values), float(np.mean(values))] for name, values in self.by_class.items()}
        return {"name": self.name, "text": self.text, "reference": known}


@dataclass(frozen=True, eq=False, repr=False)
class Shape(TargetDistribution):
    """Shares of the ten bins of whatever scale is at hand, and the paper's whole numbers for some IPC."""

    shares: tuple[float, ...]
    name: str
    text: str | None
    counts: Mapping[int, tuple[int, ...]] | None = None
    relative = True

    def _shares(self, ipc: int | None) -> tuple[float, ...]:
        known = self.counts or {}
        return self.shares if ipc is None or ipc not in known else known[ipc]

    def values(self, class_name: str, scale: Scale, ipc: int | None = None) -> np.ndarray:
        shares = self._shares(ipc)
        levels = np.concatenate([[0], np.cumsum(shares)]) / np.sum(shares)
        return scale.inverse(np.interp(even_levels(RESOLUTION), levels, np.arange(BINS + 1) / BINS))

    def quotas(self, class_name: str, ipc: int, scale: Scale, thresholds: tuple[int, int] | None = None) -> np.ndarray:
        return largest_remainder(np.array(self._shares(ipc)), ipc)

    def summary(self) -> dict[str, Any]:
        return {"name": self.name, "text": self.text, "shares": list(self.shares)}


@dataclass(frozen=True, eq=False, repr=False)
class Curve(TargetDistribution):
    """A quantile function, straight between its knots ``(levels, knots)``."""

    levels: np.ndarray
    knots: np.ndarray
    name: str
    text: str | None = None

    def values(self, class_name: str, scale: Scale | None = None, ipc: int | None = None) -> np.ndarray:
        return np.interp(even_levels(RESOLUTION if len(self.knots) > 1 else 1), self.levels, self.knots)

    def summary(self) -> dict[str, Any]:
        known = {"name": self.name, "text": self.text}
        if self.text is not None:  # which says all
            return known
        return known | {"levels": self.levels.tolist(), "difficulties": self.knots.tolist()}


@dataclass(frozen=True, eq=False, repr=False)
class Mixture(TargetDistribution):
    """Several targets, each for its share of the images."""

    targets: tuple[TargetDistribution, ...]
    weights: tuple[float, ...]

    @property
    def name(self) -> str:  # type: ignore[override] # a field in others
        """Weights and names of the parts."""
        return " + ".join(f"{w:.3g}*{t.name}" for w, t in zip(self.weights, self.targets, strict=True))

    @property
    def text(self) -> str | None:  # type: ignore[override]
        """A sum of the texts of the parts; None where one has none, or would not be read back as one."""
        texts = [target.text for target in self.targets]
        if any(text is None or "+" in text or "*" in text for text in texts):
            return None
        return " + ".join(f"{numbers_text(w)}*{text}" for w, text in zip(self.weights, texts, strict=True))

    @property
    def relative(self) -> bool:  # type: ignore[override]
        """Whether a part is."""
        return any(target.relative for target in self.targets)

    def values(self, class_name: str, scale: Scale, ipc: int | None = None) -> np.ndarray:
        parts = [target.values(class_name, scale, ipc) for target in self.targets]
        weights = np.concatenate([np.full(len(p), w / len(p)) for w, p in zip(self.weights, parts, strict=True)])
        values = np.concatenate(parts)
        order = np.argsort(values, kind="stable")
        at = np.searchsorted(np.cumsum(weights[order]), even_levels(RESOLUTION))
        return values[order][np.minimum(at, len(values) - 1)]

    def may_lie_apart(self, class_name: str) -> bool:
        return True

    def summary(self) -> dict[str, Any]:
        parts = [target.summary() for target in self.targets]
        return {"name": self.name, "text": self.text, "weights": list(self.weights), "parts": parts}


@dataclass(frozen=True, eq=False, repr=False)
class PerClass(TargetDistribution):
    """Another target for each class."""

    targets: Mapping[str, TargetDistribution]
    text: str | None = None
    name: str = "per class"

    @property
    def relative(self) -> bool:  # type: ignore[override]
        """Whether that of some class is."""
        return any(target.relative for target in self.targets.values())

    def of(self, class_name: str) -> TargetDistribution:
        """The target of one class; ValueError if there is none."""
        if class_name not in self.targets:
            raise ValueError(
                f"there is no target for class {class_name!r}, only for {', '.join(list(self.targets)[:10])}; add one"
            )
        return self.targets[class_name]

    def values(self, class_name: str, scale: Scale, ipc: int | None = None) -> np.ndarray:
        return self.of(class_name).values(class_name, scale, ipc)

    def may_lie_apart(self, class_name: str) -> bool:
        return self.of(class_name).may_lie_apart(class_name)

    def quotas(self, class_name: str, ipc: int, scale: Scale, thresholds: tuple[int, int] | None = None) -> np.ndarray:
        return self.of(class_name).quotas(class_name, ipc, scale, thresholds)

    def summary(self) -> dict[str, Any]:
        classes = {name: target.summary() for name, target in self.targets.items()}
        return {"name": self.name, "text": self.text, "classes": classes}
