"""Exact matching: the IPC of N images whose difficulties are nearest to a target in Wasserstein-1 distance.

    W1(S, Q) = integral of |S(u) - Q(u)| over levels u = sum_i c_i(s_i),   c_i(x) = integral of |x - Q| over slot i

with the chosen difficulties s_1 <= s_2 <= ... and the target's quantile function Q.  Each image fills a slot,
levels [i, i + 1] / IPC, and the best choice keeps the order, so that dynamic programming over slots and sorted images
finds it.  Images that are nearly equal may then be exchanged so that the chosen ones look different.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from .coresets import SPREADS, Diversity
from .rules import Choice, ClassImages, Goal, TargetRule


class Matching(TargetRule):
    """Choose the images whose difficulties are nearest to the target.

    Args:
        diversity: a name of ``coresets.SPREADS``, by which nearly equal images are exchanged; None for the exact match.
        tolerance: what nearly equal means, in difficulty.

    See Also:
        ``paper_rule.Histogram``, the paper's rule.
    """

    options = ("diversity", "tolerance")

    def __init__(self, diversity: Diversity | None = None, tolerance: float = 0.01) -> None:
        self.diversity, self.tolerance = diversity, tolerance

    def choose(self, images: ClassImages, among: np.ndarray, goal: Goal, generator: np.random.Generator) -> Choice:
        """Match, evenly over the groups if there are any, then exchange."""
        difficulties, groups = images.difficulties[among], None if images.groups is None else images.groups[among]
        if groups is None:
            chosen = match(difficulties, goal.values, goal.ipc)
        else:
            chosen = match_evenly(difficulties, goal.values, goal.ipc, groups, generator)
        if self.diversity is not None:
            features = difficulties[:, None] if images.features is None else images.features[among]
            chosen = diversify(
                difficulties,
                chosen,
                features,
                spread=self.diversity,
                tolerance=self.tolerance,
                generator=generator,
                groups=groups,
            )
        return Choice(among[chosen], goal.scale.bins(difficulties[chosen]), goal.quotas())


def slot_edges(values: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Levels between which each slot lies, ``(slots + 1,)``, and the integral of the target's quantiles up to each.

    Args:
        values: ``(n,)`` equally likely difficulties, rising.
    """
    levels = np.arange(slots + 1) / slots
    return levels, np.interp(levels, np.arange(len(values) + 1) / len(values), _integral(values))


def _integral(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(values)]) / len(values)


def match(difficulties: np.ndarray, values: np.ndarray, ipc: int) -> np.ndarray:
    """The images whose difficulties are nearest to the target, easiest first, ``(ipc,)`` positions.

    Args:
        difficulties: ``(n,)`` of the images, n >= ipc; of equal ones the first is taken.
        values: ``(m,)`` equally likely target difficulties, rising.

    See Also:
        ``match_evenly``, for as many images of every group.

    Examples:
        >>> match(np.array([0.6, 0.02, 0.3, 0.9, 0.05]), values=np.array([0.0, 0.5, 1.0]), ipc=3).tolist()
        [1, 0, 3]
    """
    order = np.argsort(difficulties, kind="stable")
    ordered = difficulties[order]
    below = np.searchsorted(values, ordered, side="right")
    level_of, integral_of = below / len(values), _integral(values)[below]
    levels, integrals = slot_edges(values, ipc)
    starts, stops = _within_reach(ordered, values, ipc)
    total, latest = np.zeros(0), []  # least cost of the slots so far if the last image taken is at most this one
    for slot, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        image = (ordered[start:stop], level_of[start:stop], integral_of[start:stop])
        cost = _slot_cost(*image, levels[slot : slot + 2], integrals[slot : slot + 2])
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


def match_evenly(
    difficulties: np.ndarray, values: np.ndarray, ipc: int, groups: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """As ``match``, but with as many images of every group, such as the mode that each was drawn to; as exact.

    Any assignment of images to slots costs at least the distance, and the sorted one costs just that, so the best
    assignment is the answer.  The images that a group has to spare go to rows that cost nothing to fill.  Where ``ipc``
    is no multiple of the groups, chance says which give one more, and the choice is the nearest of those.  The costs
    take ``(n, n)`` numbers: a second for 3,000 images.

    Args:
        difficulties, values, ipc: as in ``match``.
        groups: ``(n,)``.  A group that is too small gives all it has.
        generator: of which groups give one more, where ``ipc`` is no multiple of them.

    Returns:
        Positions, easiest first, ``(ipc,)``.
    """
    names, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    counts = even_counts(sizes, ipc, generator)
    below = np.searchsorted(values, difficulties, side="right")
    levels, integrals = slot_edges(values, ipc)
    image = (difficulties, below / len(values), _integral(values)[below])
    cost = [_slot_cost(*image, levels[slot : slot + 2], integrals[slot : slot + 2]) for slot in range(ipc)]
    spare = np.repeat(np.arange(len(names)), sizes - counts)
    _, chosen = linear_sum_assignment(np.vstack([*cost, np.where(inverse == spare[:, None], 0.0, np.inf)]))
    return chosen[:ipc][np.argsort(difficulties[chosen[:ipc]], kind="stable")]


def even_counts(sizes: np.ndarray, total: int, generator: np.random.Generator) -> np.ndarray:
    """``total`` shared out as evenly as groups of these sizes allow, ``(groups,)``."""
    counts = np.zeros(len(sizes), np.int64)
    while counts.sum() < total:
        takers = generator.permutation(np.flatnonzero(counts < sizes))[: total - counts.sum()]
        counts[takers] += 1
    return counts


def _slot_cost(
    x: np.ndarray, level_of: np.ndarray, integral_of: np.ndarray, levels: np.ndarray, integrals: np.ndarray
) -> np.ndarray:
    """``c_i(x)``: |x - Q| integrated over a slot, whose levels and integrals of Q are those at its two ends.

    x stands above Q up to its own level and below it from there on.
    """
    cost = x * (2 * np.clip(level_of, *levels) - levels.sum()) + integrals.sum()
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


def diversify(
    difficulties: np.ndarray,
    chosen: np.ndarray,
    features: np.ndarray,
    *,
    spread: Diversity,
    tolerance: float,
    generator: np.random.Generator,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Exchange chosen images for ones of nearly equal difficulty that differ more from each other, ``(ipc,)``.

    Slot after slot, in random order, takes the image within the tolerance that adds most to those taken before.  No
    difficulty moves by more than the tolerance, so neither does the Wasserstein-1 distance.

    Args:
        difficulties: ``(n,)`` of all images.
        chosen: from ``match``.
        features: ``(n, dim)``, such as what the classifier's last layer sees.
        spread: ``k-center``, farthest from the nearest one taken, ``determinantal``, greatest determinant of
            similarities, or ``random``.
        tolerance: in difficulty.
        generator: of the order, and of the random choice.
        groups: ``(n,)``; if given, images are exchanged within their group only.
    """
    state, result = SPREADS[spread](features, generator), chosen.copy()
    free = np.ones(len(difficulties), bool)
    free[chosen] = False  # kept for its own slot until that had its turn, so that no slot finds its place taken
    for slot in generator.permutation(len(chosen)):
        own = chosen[slot]
        free[own] = True
        near = free & (np.abs(difficulties - difficulties[own]) <= tolerance)
        near = np.flatnonzero(near if groups is None else near & (groups == groups[own]))
        result[slot] = near[np.argmax(state.gains()[near])]
        free[result[slot]] = False
        state.add(int(result[slot]))
    return result
