"""Which difficulties a distilled set should have: taken from real images, a preset of the paper, or given outright.

The paper (arXiv 2601.10090) counts difficulties in ten bins after a logarithm, since most images are easy, near 0:

    y = ln(d / low) / ln(high / low),   low = o[bottom],   high = o[n - 1 - top],   o = sorted d, clipped to [low, high]

and picks the numbers of clipped images (bottom, top) that minimise ``0.5 KL(raw || y) + 0.5 KL(uniform || y)``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

BINS = 10
BLOCK = 200_000  # pairs of thresholds at a time: 16 MB for each array of ten bins
TINY = 1e-300  # below every difficulty but 0
FLOOR = 1e-4  # the paper's stand-in for a difficulty of exactly 0, whose logarithm does not exist

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


@dataclass(frozen=True)
class LogTransform:
    """Difficulty to the paper's logarithmic scale and back: ``low`` to 0, ``high`` to 1, clipped outside."""

    low: float
    high: float

    def __call__(self, difficulties: np.ndarray) -> np.ndarray:
        """``(n,)`` in [0, 1] to ``(n,)`` in [0, 1]; all 1 where low = high, since then nothing tells images apart."""
        if self.high <= self.low:
            return np.ones(len(difficulties))
        clipped = np.clip(np.asarray(difficulties, np.float64), self.low, self.high)
        return np.log(clipped / self.low) / np.log(self.high / self.low)

    def inverse(self, transformed: np.ndarray) -> np.ndarray:
        """``(n,)`` in [0, 1] back to difficulties in [low, high]."""
        return self.low * (self.high / self.low) ** np.asarray(transformed, np.float64)

    def bins(self, difficulties: np.ndarray) -> np.ndarray:
        """Bin of each image, ``(n,)`` integers 0 (easiest) to 9; every value falls into exactly one."""
        if self.high <= self.low:
            return np.full(len(difficulties), BINS - 1)
        logs = np.log(np.clip(np.asarray(difficulties, np.float64), self.low, self.high))
        return np.searchsorted(_inner_edges(np.log(self.low), np.log(self.high)), logs, side="right")


def _inner_edges(low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """The nine edges between ten bins, in logarithms; one formula for search, quotas and draw."""
    low, high = np.asarray(low)[..., None], np.asarray(high)[..., None]
    return low + (high - low) * (np.arange(1, BINS) / BINS)


def log_transform(difficulties: Sequence[float], bottom: int = 0, top: int = 0) -> LogTransform:
    """The transform that clips the ``bottom`` easiest and the ``top`` hardest of these difficulties."""
    ordered = np.sort(np.asarray(difficulties, np.float64))
    if bottom + top >= len(ordered):
        raise ValueError(
            f"cannot clip {bottom} easiest and {top} hardest of {len(ordered)} images; lower bottom or top"
        )
    low, high = max(ordered[bottom], FLOOR if ordered[bottom] == 0 else 0.0), ordered[len(ordered) - 1 - top]
    return LogTransform(float(low), float(max(low, high)))


def search_thresholds(difficulties: Sequence[float], limit: int) -> tuple[int, int]:
    """The paper's (bottom, top): the first minimum over 0..limit-1 squared, ``bottom`` outer.

    The objective is infinite as soon as a bin is empty; where it is so everywhere, nothing is clipped: (0, 0).

    Args:
        difficulties: of one class of the pool, ``(n,)``.
        limit: half of the pool (what the authors' recorded thresholds need) or half of IPC (their released code).
    """
    ordered = np.sort(np.asarray(difficulties, np.float64))
    limit = max(1, min(limit, (len(ordered) + 1) // 2))
    lowest, found = np.inf, (0, 0)
    rows = max(1, BLOCK // limit)  # a class of 6,000 has nine million pairs
    for start in range(0, limit, rows):
        objective = _objective(ordered, np.arange(start, min(start + rows, limit)), np.arange(limit))
        if objective.min() < lowest:
            bottom, top = np.unravel_index(np.argmin(objective), objective.shape)
            lowest, found = objective.min(), (start + int(bottom), int(top))
    return found


def _objective(ordered: np.ndarray, bottom: np.ndarray, top: np.ndarray) -> np.ndarray:
    """``0.5 KL(raw || transformed) + 0.5 KL(uniform || transformed)`` in bits, ``(len(bottom), len(top))``."""
    count = len(ordered)
    low = np.where(ordered[bottom] == 0, FLOOR, ordered[bottom])[:, None]
    high = ordered[count - 1 - top][None, :]
    usable = high > low
    low, high = np.broadcast_to(low, usable.shape), np.where(usable, high, low * np.e)
    # an image counts as below an edge if its clipped logarithm is: low is below all edges and high is above all
    below = np.searchsorted(np.log(np.maximum(ordered, TINY)), _inner_edges(np.log(low), np.log(high)))
    transformed = np.diff(below, axis=-1, prepend=0, append=count) / count
    raw = np.histogram(ordered, BINS, (0, 1))[0] / count
    filled = raw > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(transformed)
        cross = -0.5 * (logs[..., filled] @ raw[filled]) - 0.5 * logs.mean(-1)
    divergence = 0.5 * np.sum(raw[filled] * np.log2(raw[filled])) - 0.5 * np.log2(BINS) + cross
    return np.where(usable & (transformed > 0).all(-1), divergence, np.inf)


def largest_remainder(proportions: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers that sum to ``total``, nearest to ``proportions * total``; ties go to the easier bin."""
    exact = np.asarray(proportions, np.float64) / np.sum(proportions) * total
    counts = np.floor(exact).astype(int)
    by_remainder = np.argsort(-(exact - counts), kind="stable")
    counts[by_remainder[: total - counts.sum()]] += 1
    return counts


@dataclass(frozen=True)
class TargetDistribution:
    """The difficulties that are wanted: of real reference images by class, one shape over ten bins, or one difficulty.

    Make one with ``from_reference``, ``preset``, ``histogram`` or ``constant``.
    """

    reference: Mapping[str, np.ndarray] | None = None
    shape: tuple[float, ...] | None = None
    value: float | None = None
    counts: Mapping[int, tuple[int, ...]] = field(
        default_factory=dict
    )  # whole quotas for some IPC, as the paper has them
    name: str = ""

    @classmethod
    def from_reference(
        cls, difficulties: Mapping[str, Sequence[float]], name: str = "reference"
    ) -> "TargetDistribution":
        """Follow real images: class name to their difficulties, best scored by a guide that was not trained on them.

        Raises:
            ValueError: a class is empty, or a difficulty is not in [0, 1].
        """
        checked = {key: np.asarray(values, np.float64) for key, values in difficulties.items()}
        for key, values in checked.items():
            if not (len(values) and np.all((values >= 0) & (values <= 1))):
                raise ValueError(f"reference difficulties of {key!r} must be a non-empty list in [0, 1] without NaN")
        return cls(reference=checked, name=name)

    @classmethod
    def preset(cls, name: str) -> "TargetDistribution":
        """``hill``, ``ground``, ``slope`` or ``cliff`` of the paper's ablation."""
        if name not in PRESETS:
            raise ValueError(f"there is no target preset {name!r}; choose {', '.join(PRESETS)}, or give ten numbers")
        return cls(shape=PRESETS[name][50], counts=PRESETS[name], name=name)

    @classmethod
    def histogram(cls, shares: Sequence[float], name: str = "histogram") -> "TargetDistribution":
        """Ten non-negative shares, easiest bin first; they need not sum to one."""
        values = np.asarray(shares, np.float64)
        if values.shape != (BINS,) or not np.all(np.isfinite(values) & (values >= 0)) or values.sum() == 0:
            raise ValueError(
                f"a target histogram needs {BINS} non-negative numbers, easiest bin first, but got {list(shares)}"
            )
        return cls(shape=tuple(values.tolist()), name=name)

    @classmethod
    def constant(cls, difficulty: float) -> "TargetDistribution":
        """The same difficulty for every image, in [0, 1]; it can steer a pool, but has no histogram to select by."""
        if not 0 <= difficulty <= 1:
            raise ValueError(f"a target difficulty must lie in [0, 1], 0 easy and 1 hard, but is {difficulty}")
        return cls(value=float(difficulty), name=f"{difficulty:g}")

    def reference_of(self, class_name: str) -> np.ndarray:
        """Reference difficulties of one class, ``(n,)``."""
        assert self.reference is not None
        if class_name not in self.reference:
            raise ValueError(
                f"the target's reference has no class {class_name!r}; it has {', '.join(list(self.reference)[:10])}"
            )
        return self.reference[class_name]

    def quotas(self, class_name: str, ipc: int, bottom: int, top: int) -> np.ndarray:
        """Images wanted in each bin, ``(10,)``, summing to ``ipc``; see the module for (bottom, top).

        Raises:
            ValueError: the target is one difficulty, or its reference lacks the class.
        """
        if self.value is not None:
            raise ValueError(
                f"the one difficulty {self.name} can steer images but not select them; "
                f"select by a reference, a histogram or a preset ({', '.join(PRESETS)})"
            )
        if self.shape is not None:
            return np.array(self.counts.get(ipc) or largest_remainder(np.array(self.shape), ipc))
        values = self.reference_of(class_name)
        transform = log_transform(values, min(bottom, (len(values) - 1) // 2), min(top, (len(values) - 1) // 2))
        return largest_remainder(np.bincount(transform.bins(values), minlength=BINS), ipc)

    def difficulties(self, class_name: str, count: int, scale: LogTransform = LogTransform(1e-3, 1.0)) -> np.ndarray:
        """``count`` target difficulties that follow the distribution, easiest first, to steer a pool with.

        They are the quantiles at ``(i + 1/2) / count``: of the reference, or of the shape laid over ``scale``.
        """
        if self.value is not None:
            return np.full(count, self.value)
        at = (np.arange(count) + 0.5) / count
        if self.shape is None:
            return np.quantile(self.reference_of(class_name), at)
        cumulative = np.concatenate([[0], np.cumsum(self.shape)]) / np.sum(self.shape)
        return scale.inverse(np.interp(at, cumulative, np.arange(BINS + 1) / BINS))
