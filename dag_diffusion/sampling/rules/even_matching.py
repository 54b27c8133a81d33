"""Exact matching with as many images of every group, such as the mode that each was drawn to.

    min sum_i c_i(x_a(i))   over assignments a of images to slots, and of those that a group can spare to spare rows

scipy finds it as a matching of rows to images (Jonker and Volgenant's, for sparse costs).  Few pairs can matter:
where a group gives c images, a slot takes one of its c nearest, and the j-th image that it spares is one of its images
j to j + c.  So memory is linear in the images.
"""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from .nearest import quantile_function, slot_cost, slot_edges

OFFSET = 1.0  # of all costs, since scipy takes a cost of 0 for no pair; every matching has as many pairs


def match_evenly(
    difficulties: np.ndarray, values: np.ndarray, ipc: int, groups: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """As ``nearest.match``, but with as many images of every group; as exact.

    Any assignment of images to slots costs at least the distance, and the sorted one costs just that, so the best
    assignment is the answer.  The images that a group has to spare go to rows that cost nothing to fill.  Where ``ipc``
    is no multiple of the groups, chance says which give one more, and the choice is the nearest of those.

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
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(sizes)[:-1])
    costs, pairs, first = _costs(difficulties, values, ipc), [], ipc  # the first spare row of the group
    for own, count in zip(members, even_counts(sizes, ipc, generator), strict=True):
        if count:
            near = own[np.argpartition(costs[:, own], count - 1, axis=1)[:, :count]]
            own_costs = np.take_along_axis(costs, near, axis=1)
            pairs.append((np.repeat(np.arange(ipc), count), near.ravel(), own_costs.ravel()))
        spare = np.arange(len(own) - count)
        spared = own[spare[:, None] + np.arange(count + 1)]
        pairs.append((first + np.repeat(spare, count + 1), spared.ravel(), np.zeros(spared.size)))
        first += len(spare)
    rows, columns, weights = map(np.concatenate, zip(*pairs, strict=True))
    shape = (len(difficulties), len(difficulties))
    chosen = min_weight_full_bipartite_matching(csr_array((weights + OFFSET, (rows, columns)), shape=shape))[1][:ipc]
    return chosen[np.argsort(difficulties[chosen], kind="stable")]


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
