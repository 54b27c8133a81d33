"""Exact matching with as many images of every group, such as the mode that each was drawn to.

    min sum_i c_i(x_a(i))   over assignments a of images to slots, of each group as many as it gives

Let every slot take the nearest image of the group that serves it, even one that another slot takes too: c columns for a
group that gives c.  Nearly always no image is taken twice, and the choice is the best of all.  Otherwise the images are
told apart.  That is a flow, whose linear program has a solution in whole numbers, and few pairs of slot and image
matter.  (scipy's matching of sparse matrices would do too, but scipy 1.17 does not always come to an end with it.)
"""

import numpy as np
from scipy.optimize import linear_sum_assignment, linprog
from scipy.sparse import csr_array, vstack

from .nearest import quantile_function, slot_cost, slot_edges

ROUNDING = 1e-12  # of the differences between costs


def match_evenly(
    difficulties: np.ndarray, values: np.ndarray, ipc: int, groups: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """As ``nearest.match``, but with as many images of every group; as exact.

    Any assignment of images to slots costs at least the distance, and the sorted one costs just that, so the best
    assignment is the answer.  Where ``ipc`` is no multiple of the groups, chance says which give one more, and the
    choice is the nearest of those.

    Args:
        difficulties, values, ipc: as in ``match``.
        groups: ``(n,)``.  A group that is too small gives all it has.
        generator: of which groups give one more, where ``ipc`` is no multiple of them.

    Returns:
        Positions, easiest first, ``(ipc,)``.

    Examples:
        >>> pool, groups = np.array([0.1, 0.2, 0.3, 0.9]), np.array([0, 0, 0, 1])
        >>> match_evenly(pool, np.array([0.15]), 2, groups, np.random.default_rng(0)).tolist()
        [0, 3]
    """
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    counts, costs = even_counts(sizes, ipc, generator), _costs(difficulties, values, ipc)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(sizes)[:-1])
    chosen = _nearest_of_groups(costs, members, counts)
    if len(np.unique(chosen)) < ipc:
        chosen = _told_apart(costs, members, counts)
    return chosen[np.argsort(difficulties[chosen], kind="stable")]


def _nearest_of_groups(costs: np.ndarray, members: list[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """For each slot the nearest image of the group that serves it; some image may be there twice."""
    near = _least_of_groups(costs, members).repeat(counts, axis=1)
    slots, columns = linear_sum_assignment(np.take_along_axis(costs, near, axis=1))
    return near[slots, columns]


def _least_of_groups(values: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
    """Of each group the image with the least value for each slot, ``(slots, groups)``."""
    return np.stack([own[values[:, own].argmin(axis=1)] for own in members], axis=1)


def _told_apart(costs: np.ndarray, members: list[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """For each slot an image that no other has, as many of each group as it gives.

    Only some pairs of slot and image are considered at first, and those added that would make it better, until there
    are none: then the choice is the best of all pairs.
    """
    members, counts = [own for own, count in zip(members, counts, strict=True) if count], counts[counts > 0]
    number, slots = np.full(costs.shape[1], -1), np.arange(len(costs))
    for group, own in enumerate(members):
        number[own] = group
    considered = np.zeros(costs.shape, bool)
    allowed = np.concatenate([own[:count] for own, count in zip(members, counts, strict=True)])
    considered[slots, allowed] = True
    rows, least = slots[:, None], _least_of_groups(costs, members)
    better = np.ones(least.shape, bool)
    while better.any():
        considered[rows, least] |= better
        chosen, reduced = _cheapest(costs, considered, number, counts)
        least = _least_of_groups(reduced, members)
        better = (reduced[rows, least] < -ROUNDING) & ~considered[rows, least]
    return chosen


def _cheapest(
    costs: np.ndarray, considered: np.ndarray, number: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best choice among the pairs that are considered, and what each pair would change, ``(slots, n)``.

    Args:
        number: ``(n,)``, of each image's group; -1 for one that gives none.
        counts: what each group gives.
    """
    slots, pairs = np.nonzero(considered)
    images, columns = np.unique(pairs, return_inverse=True)
    solved = linprog(
        costs[slots, pairs],
        A_ub=_incidence(columns, len(images)),
        b_ub=np.ones(len(images)),
        A_eq=vstack([_incidence(slots, len(costs)), _incidence(number[pairs], len(counts))]),
        b_eq=np.concatenate([np.ones(len(costs)), counts]),
        method="highs-ds",  # ends at a corner, and corners are whole
        options={"dual_feasibility_tolerance": 1e-10},
    )
    of_slots, of_groups = np.split(solved.eqlin.marginals, [len(costs)])
    reduced = costs - of_slots[:, None] - np.append(of_groups, 0)[number]
    reduced[:, images] -= solved.ineqlin.marginals
    return pairs[solved.x > 0.5], reduced


def _incidence(rows: np.ndarray, count: int) -> csr_array:
    """One column for each pair, with a 1 in its row."""
    return csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=(count, len(rows)))


def _costs(difficulties: np.ndarray, values: np.ndarray, slots: int) -> np.ndarray:
    """``c_i(x)`` of every slot and image, ``(slots, n)``."""
    image = (difficulties, *quantile_function(difficulties, values))
    levels, integrals = slot_edges(values, slots)
    return np.stack([slot_cost(*image, levels[i : i + 2], integrals[i : i + 2]) for i in range(slots)])


def even_counts(sizes: np.ndarray, total: int, generator: np.random.Generator) -> np.ndarray:
    """``total`` shared out as evenly as groups of these sizes allow, ``(groups,)``."""
    counts = np.zeros(len(sizes), np.int64)
    while counts.sum() < total:
        takers = generator.permutation(np.flatnonzero(counts < sizes))[: total - counts.sum()]
        counts[takers] += 1
    return counts
