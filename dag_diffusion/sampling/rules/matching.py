"""The rule ``matching``: the images nearest to the target, near equals exchanged so that they look different.

``nearest`` finds the exact match, ``even_matching`` the exact match of as many images of every group.
"""

import numpy as np

from .coresets import SPREADS, Diversity
from .even_matching import match_evenly
from .nearest import match
from .rule import Choice, ClassImages, Goal, TargetRule


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
