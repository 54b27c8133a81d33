"""The paper's search for the two clipping thresholds, exact, by branch and bound.

    (b, t) = argmin  1/2 KL(h || h_bt) + 1/2 KL(u || h_bt),   b, t = 0..limit - 1

h is the histogram of the difficulties in ten even bins, h_bt that of their logarithms with the b lowest and t highest
clipped, u the uniform one.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from .scales import BINS, FLOOR, INNER_EDGES, TINY, LogScale, log_scale

SLACK = 1e-9  # of the objective's bound, in bits: more than its rounding
PROMISING = 64  # squares whose middle is tried in each round: the best pairs lie where the bound is highest
BLOCK = 50_000  # squares at a time, which bounds the memory where nearly equal difficulties leave little to drop


def search_thresholds(difficulties: Sequence[float] | np.ndarray, limit: int) -> tuple[int, int]:
    """The paper's (bottom, top): the first minimum over 0..limit-1 squared, ``bottom`` outer.

    Found by branch and bound instead of trying every pair: over a square of pairs each edge of a bin moves between
    its places in two corners, which bounds what the bin can hold and so the objective; squares that cannot beat the
    best pair so far are dropped, the others quartered.  Exact, and a hundredth of the pairs in a class of 6,000.

    The objective is infinite as soon as a bin is empty; where it is so everywhere, nothing is clipped: (0, 0).

    Args:
        difficulties: of one class of the pool, ``(n,)``.
        limit: half of the pool (what the authors' recorded thresholds need) or half of IPC (their released code).
    """
    ordered = np.sort(np.asarray(difficulties, np.float64))
    limit = max(1, min(limit, (len(ordered) + 1) // 2))
    objective = _Objective(ordered)
    # pairs with equal thresholds are equally good and the first one wins, so one of each value is enough
    lows, bottoms = np.unique(np.where(ordered[:limit] == 0, FLOOR, ordered[:limit]), return_index=True)
    highs, tops = np.unique(-ordered[::-1][:limit], return_index=True)
    lows, highs = np.log(lows), np.log(np.maximum(-highs, TINY))
    i, j = _best_pairs(objective, lows, highs)
    if not len(i):
        return (0, 0)
    return min(zip(bottoms[i].tolist(), tops[j].tolist(), strict=True))


def searched_scale(difficulties: Sequence[float] | np.ndarray) -> LogScale:
    """The paper's scale of some difficulties, ``(n,)``, searched over half of them on either side."""
    return log_scale(difficulties, *search_thresholds(difficulties, len(difficulties) // 2))


class _Objective:
    """``sum_i w_i log2(share of bin i)``, ``w = raw + uniform``: the divergences up to sign, factor and constant.

    Shares and raw histogram are of one class; logarithms of counts come from a table.
    """

    def __init__(self, ordered: np.ndarray) -> None:
        self.count, self.logs = len(ordered), np.log(np.maximum(ordered, TINY))
        self.weights = np.histogram(ordered, BINS, (0, 1))[0] / len(ordered) + 1 / BINS
        with np.errstate(divide="ignore"):
            self.log_of, self.slope_of = np.log2(np.arange(len(ordered) + 1)), 1 / np.arange(len(ordered) + 1)

    def __call__(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Of pairs of thresholds, given by their logarithms; -inf for a bin without images."""
        # an image counts as below an edge if its clipped logarithm is: low is below all edges and high is above all
        below = self._below(low, high)
        held = [after - before for before, after in pairwise(below)]
        return np.where(high > low, self._value(held), -np.inf)

    def bound(self, low: np.ndarray, low_end: np.ndarray, high: np.ndarray, high_end: np.ndarray) -> np.ndarray:
        """No pair of thresholds in ``[low, low_end]`` and ``[high, high_end]`` is better than this."""
        rounding = 8 * np.spacing(np.maximum(np.abs(low), np.abs(high)))  # of an edge between two thresholds
        least = self._below(low - rounding, high - rounding)
        most = self._below(low_end + rounding, high_end + rounding)
        room = [np.maximum(after - before, 0) for before, after in zip(least, most[1:], strict=False)]
        # the bins hold all images and no more: what they have room for beyond that must go somewhere, and a logarithm
        # falls by its slope at least
        surplus = sum(room) - self.count
        slope = np.min([w * self.slope_of[r] for w, r in zip(self.weights, room, strict=True)], axis=0)
        return self._value(room) - surplus * np.where(np.isfinite(slope), slope, 0) / np.log(2)

    def _below(self, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
        edges = [np.searchsorted(self.logs, low + (high - low) * at) for at in INNER_EDGES]
        return [np.zeros_like(edges[0]), *edges, np.full_like(edges[0], self.count)]

    def _value(self, counts: list[np.ndarray]) -> np.ndarray:
        # one bin after the other, so that pairs with the same counts have the same value to the last bit
        total = self.weights[0] * self.log_of[counts[0]]
        for weight, count in zip(self.weights[1:], counts[1:], strict=True):
            total = total + weight * self.log_of[count]
        return total


def _best_pairs(objective: _Objective, lows: np.ndarray, highs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in ``lows`` (rising) and ``highs`` (falling) of all best pairs; none if each leaves a bin empty."""
    side = 1
    while side * 8 < max(len(lows), len(highs)):
        side *= 2
    i, j = (grid.ravel() for grid in np.mgrid[0 : len(lows) : side, 0 : len(highs) : side])
    best = -np.inf
    while side > 1:
        last_i, last_j = np.minimum(i + side, len(lows)) - 1, np.minimum(j + side, len(highs)) - 1
        bound = _in_blocks(objective.bound, lows[i], lows[last_i], highs[last_j], highs[j])
        first = np.argpartition(-bound, min(PROMISING, len(bound) - 1))[:PROMISING] if len(bound) else np.arange(0)
        middles = lows[(i + last_i)[first] // 2], highs[(j + last_j)[first] // 2]
        best = max(best, objective(*middles).max(initial=-np.inf))
        kept = (bound >= best - SLACK) & (bound > -np.inf)
        side //= 2
        # side by side, since a search for an edge is twice as fast after one for nearly the same edge
        i = (i[kept, None] + np.array([0, 0, side, side])).ravel()
        j = (j[kept, None] + np.array([0, side, 0, side])).ravel()
        inside = (i < len(lows)) & (j < len(highs))
        i, j = i[inside], j[inside]
    values = _in_blocks(objective, lows[i], highs[j])
    winners = (values == values.max(initial=-np.inf)) & (values > -np.inf)
    return i[winners], j[winners]


def _in_blocks(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    starts = range(0, len(arrays[0]), BLOCK)
    return np.concatenate([function(*(array[at : at + BLOCK] for array in arrays)) for at in starts] or [np.empty(0)])
