"""Exact matching: the IPC of N images whose difficulties are nearest to a target in Wasserstein-1 distance.

    W1(S, Q) = integral of |S(u) - Q(u)| over levels u = sum_i c_i(s_i),   c_i(x) = integral of |x - Q| over slot i

with the chosen difficulties s_1 <= s_2 <= ... and the target's quantile function Q.  Each image fills a slot,
levels [i, i + 1] / IPC, and the best choice keeps the order, so that dynamic programming over slots and sorted images
finds it.
"""

import numpy as np


def slot_edges(values: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels between which each slot lies, ``(slots + 1,)``, and the integral of the target's quantiles up to each.

    Args:
        values: ``(n,)`` equally likely difficulties, rising.
    """
    levels = np.arange(slots + 1) / slots
    return levels, np.interp(levels, np.arange(len(values) + 1) / len(values), _integral(values))


def quantile_function(difficulties: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The level up to which the target stays below each difficulty, ``(n,)``, and the integral of its quantiles there.

    Args:
        values: ``(m,)`` equally likely difficulties, rising.
    """
    below = np.searchsorted(values, difficulties, side="right")
    return below / len(values), _integral(values)[below]


def _integral(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(values)]) / len(values)


def match(difficulties: np.ndarray, values: np.ndarray, ipc: int) -> np.ndarray:
    """The images whose difficulties are nearest to the target, easiest first, ``(ipc,)`` positions.

    Args:
        difficulties: ``(n,)`` of the images, n >= ipc; of equal ones the first is taken.
        values: ``(m,)`` equally likely target difficulties, rising.

    See Also:
        ``even_matching.match_evenly``, for as many images of every group.

    Examples:
        >>> match(np.array([0.6, 0.02, 0.3, 0.9, 0.05]), values=np.array([0.0, 0.5, 1.0]), ipc=3).tolist()
        [1, 0, 3]
    """
    order = np.argsort(difficulties, kind="stable")
    ordered = difficulties[order]
    level_of, integral_of = quantile_function(ordered, values)
    levels, integrals = slot_edges(values, ipc)
    starts, stops = _within_reach(ordered, values, ipc)
    total, latest = np.zeros(0), []  # least cost of the slots so far if the last image taken is at most this one
    for slot, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        image = (ordered[start:stop], level_of[start:stop], integral_of[start:stop])
        cost = slot_cost(*image, levels[slot : slot + 2], integrals[slot : slot + 2])
        if slot:
            before = np.clip(np.arange(start, stop) - starts[slot - 1], 0, len(total))
            cost += np.concatenate([[np.inf], total])[before]
        total = np.minimum.accumulate(cost)
        better = np.concatenate([[True], total[1:] < total[:-1]])
        latest.append(np.maximum.accumulate(np.where(better, np.arange(start, stop), start)))
    chosen, last = np.empty(ipc, np.int64), len(order) - 1
    for slot in reversed(range(ipc)):
        chosen[slot] = latest[slot][min(last, stops[slot] - 1) - starts[slot]]
        last = chosen[slot] - 1
    return order[chosen]


def slot_cost(
    x: np.ndarray, level_of: np.ndarray, integral_of: np.ndarray, levels: np.ndarray, integrals: np.ndarray
) -> np.ndarray:
    """``c_i(x)``: |x - Q| integrated over a slot, whose levels and integrals of Q are those at its two ends.

    x stands above Q up to its own level and below it from there on.

    Args:
        x: difficulties; with them come what ``quantile_function`` says of them.
        levels, integrals: ``(2, ...)``, at the two ends, of one slot or of several that x broadcasts with.
    """
    cost = x * (2 * np.clip(level_of, *levels) - levels.sum(0)) + integrals.sum(0)
    return cost - 2 * np.clip(integral_of, *integrals)


def _within_reach(ordered: np.ndarray, values: np.ndarray, ipc: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that each slot may need, ``[start, stop)``: others push it no further from its best place than there are.

    If a slot lay beyond, one of the ``ipc`` places nearer to its target would be free, and it and the slots between
    could all move one place nearer without leaving their order.
    """
    levels = np.arange(ipc + 1) / ipc * len(values)
    # the best image of a slot lies between the target's difficulties at its two ends, or right beside
    first = np.searchsorted(ordered, values[np.minimum(levels[:-1].astype(int), len(values) - 1)])
    last = np.searchsorted(ordered, values[np.minimum(np.ceil(levels[1:]).astype(int), len(values)) - 1])
    return np.maximum(first - ipc, 0), np.minimum(last + ipc, len(ordered))
