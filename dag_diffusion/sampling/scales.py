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
FLOOR = 1e-4  # the paper's stand-in for a difficulty of exactly 0
INNER_EDGES = np.arange(1, BINS) / BINS


@dataclass(frozen=True)
class LogScale:
    """The paper's logarithmic scale: ``low`` is 0, ``high`` is 1, and what lies outside is clipped."""

    low: float
    high: float

    def inverse(self, transformed: np.ndarray) -> np.ndarray:
        """``(n,)`` in [0, 1] back to difficulties in [low, high]."""
        low, high = np.log(self.low), np.log(self.high)  # their ratio may be beyond all floats
        return np.clip(np.exp(low + (high - low) * np.asarray(transformed, np.float64)), self.low, self.high)

    def bins(self, difficulties: np.ndarray) -> np.ndarray:
        """Bin of each image, ``(n,)`` integers 0 (easiest) to 9; all 9 where ``low`` is ``high``."""
        if self.high <= self.low:
            return np.full(len(difficulties), BINS - 1)
        logs = np.log(np.clip(np.asarray(difficulties, np.float64), self.low, self.high))
        low, high = np.log(self.low), np.log(self.high)
        return np.searchsorted(low + (high - low) * INNER_EDGES, logs, side="right")


@dataclass(frozen=True)
class RawScale:
    """The difficulty itself, in ten equal bins of [0, 1]."""

    def inverse(self, transformed: np.ndarray) -> np.ndarray:
        """Unchanged, ``(n,)`` in [0, 1]."""
        return np.asarray(transformed, np.float64)

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
    low, high = ordered[bottom] or FLOOR, ordered[len(ordered) - 1 - top]
    return LogScale(float(low), float(max(low, high)))
