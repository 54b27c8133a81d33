"""Exact matching with as many images of every group, such as the mode that each was drawn to.

    min sum_i c_i(x_a(i))   over assignments a of images to slots, and of those that a group can spare to spare rows

Let every slot take the nearest image of the group that serves it, even one that another slot takes too: c columns for a
group that gives c.  Nearly always no image is taken twice, and the choice is the best of all.  Otherwise the images are
told apart.  A slot takes one of its c nearest of a group, of which one is always free, so that scipy solves a matrix of
at most IPC^2 images each way, however many there are.  (Its matching of sparse matrices would need less memory, but
scipy 1.17 does not always come to an end with it.)
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from .nearest import quantile_function, slot_cost, slot_edges


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
    counts, costs = even_counts(sizes, ipc, generator), _costs(difficulties, values, ipc)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(sizes)[:-1])
    chosen = _nearest_of_groups(costs, members, counts)
    if len(np.unique(chosen)) < ipc:
        near = [_nearest(costs, own, count) for own, count in zip(members, counts, strict=True)]
        candidates = np.concatenate(near)
        spare = np.repeat(np.arange(len(sizes)), np.array([len(own) for own in near]) - counts)
        rows = np.where(inverse[candidates] == spare[:, None], 0.0, np.inf)
        chosen = candidates[linear_sum_assignment(np.vstack([costs[:, candidates], rows]))[1][:ipc]]
    return chosen[np.argsort(difficulties[chosen], kind="stable")]


def _nearest_of_groups(costs: np.ndarray, members: list[np.ndarray], counts: np.ndarray) -> np.ndarray:
    """For each slot the nearest image of the group that serves it; some image may be there twice."""
    near = np.stack([own[costs[:, own].argmin(axis=1)] for own in members], axis=1).repeat(counts, axis=1)
    slots, columns = linear_sum_assignment(np.take_along_axis(costs, near, axis=1))
    return near[slots, columns]


def _nearest(costs: np.ndarray, own: np.ndarray, count: int) -> np.ndarray:
    """Those of a group's images that are among the ``count`` nearest of any slot."""
    if count in (0, len(own)):
        return own[:count]
    return own[np.unique(np.argpartition(costs[:, own], count - 1, axis=1)[:, :count])]


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
