"""Scales that difficulties are binned on: the paper's logarithm with searched thresholds, or the raw difficulty.

Most images are easy, near 0, so the paper (arXiv 2601.10090) counts in ten bins after a logarithm,

    y = ln(d / low) / ln(high / low),   low = o[bottom],   high = o[n - 1 - top],   o = sorted d, clipped to [low, high]

and picks the numbers of clipped images (bottom, top) that minimise ``0.5 KL(raw || y) + 0.5 KL(uniform || y)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 10
TINY = 1e-300  # stands for 0, whose logarithm does not exist, below every difficulty that a classifier gives
FLOOR = 1e-4  # the paper's stand-in for a difficulty of exactly 0, whose logarithm does not exist
INNER_EDGES = np.arange(1, BINS) / BINS


@dataclass(frozen=True)
class LogScale:
    """Difficulty to the paper's logarithmic scale and back: ``low`` to 0, ``high`` to 1, clipped outside."""

    low: float
    high: float

    def __call__(self, difficulties: np.ndarray) -> np.ndarray:
        """``(n,)`` in [0, 1] to ``(n,)`` in [0, 1]; all 1 where low = high, since then nothing tells images apart."""
        if self.high <= self.low:
            return np.ones(len(difficulties))
        clipped = np.clip(np.asarray(difficulties, np.float64), self.low, self.high)
        return (np.log(clipped) - np.log(self.low)) / (np.log(self.high) - np.log(self.low))

    def inverse(self, transformed: np.ndarray) -> np.ndarray:
        """``(n,)`` in [0, 1] back to difficulties in [low, high]."""
        low, high = np.log(self.low), np.log(self.high)  # their ratio may be beyond all floats
        return np.clip(np.exp(low + (high - low) * np.asarray(transformed, np.float64)), self.low, self.high)

    def bins(self, difficulties: np.ndarray) -> np.ndarray:
        """Bin of each image, ``(n,)`` integers 0 (easiest) to 9; every value falls into exactly one."""
        if self.high <= self.low:
            return np.full(len(difficulties), BINS - 1)
        logs = np.log(np.clip(np.asarray(difficulties, np.float64), self.low, self.high))
        low, high = np.log(self.low), np.log(self.high)
        return np.searchsorted(low + (high - low) * INNER_EDGES, logs, side="right")


@dataclass(frozen=True)
class RawScale:
    """The difficulty itself, in ten equal bins of [0, 1]."""

    def __call__(self, difficulties: np.ndarray) -> np.ndarray:
        """Unchanged, ``(n,)`` in [0, 1]."""
        return np.asarray(difficulties, np.float64)

    inverse = __call__

    def bins(self, difficulties: np.ndarray) -> np.ndarray:
        """Bin of each image, ``(n,)`` integers 0 (easiest) to 9."""
        return np.searchsorted(INNER_EDGES, np.asarray(difficulties, np.float64), side="right")


Scale = LogScale | RawScale


def log_scale(difficulties: Sequence[float] | np.ndarray, bottom: int = 0, top: int = 0) -> LogScale:
    """The scale that clips the ``bottom`` easiest and the ``top`` hardest of these difficulties.

    Raises:
        ValueError: nothing would be left.
    """
    ordered = np.sort(np.asarray(difficulties, np.float64))
    if bottom + top >= len(ordered):
        raise ValueError(
            f"cannot clip {bottom} easiest and {top} hardest of {len(ordered)} images; lower bottom or top"
        )
    low, high = max(ordered[bottom], FLOOR if ordered[bottom] == 0 else 0.0), ordered[len(ordered) - 1 - top]
    return LogScale(float(low), float(max(low, high)))
