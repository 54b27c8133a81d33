"""Choosing images by their features: k-center and herding, the baselines, and measures of how much an image adds.

k-center takes the image farthest from the nearest one taken (Sener and Savarese, arXiv 1708.00489), herding the one
that brings the mean of those taken nearest to the mean of all (Welling 2009, as in iCaRL, arXiv 1611.07725), and a
determinantal point process the one that adds most volume (greedy MAP of Chen et al., arXiv 1709.05135).
"""

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

RIDGE = 1e-9  # what is left of an image that equals one taken


class Spread(Protocol):
    """How much each image would add to those taken so far."""

    def gains(self) -> np.ndarray:
        """``(n,)``, larger is better."""

    def add(self, index: int) -> None:
        """Count the image in this row among those taken."""


class FarthestFirst:
    """Distance to the nearest image taken; before the first, closeness to the mean."""

    def __init__(self, features: np.ndarray, generator: np.random.Generator | None = None) -> None:
        self.features = np.asarray(features, np.float64)
        self.nearest = -np.linalg.norm(self.features - self.features.mean(0), axis=1)
        self.begun = False

    def gains(self) -> np.ndarray:
        return self.nearest

    def add(self, index: int) -> None:
        distances = np.linalg.norm(self.features - self.features[index], axis=1)
        self.nearest, self.begun = np.minimum(self.nearest, distances) if self.begun else distances, True


class Determinantal:
    """Share of an image that those taken do not explain, under Gaussian similarities as wide as the mean distance."""

    def __init__(self, features: np.ndarray, generator: np.random.Generator | None = None) -> None:
        self.features = np.asarray(features, np.float64)
        self.width = 2 * max(self.features.var(0).sum(), RIDGE)  # mean squared distance of two images
        self.left, self.rows = np.ones(len(self.features)), np.empty((0, len(self.features)))

    def gains(self) -> np.ndarray:
        return self.left

    def add(self, index: int) -> None:
        # one more row of the Cholesky factor of the similarities
        similar = np.exp(-np.square(self.features - self.features[index]).sum(1) / self.width)
        explained = self.rows.T @ self.rows[:, index]
        row = (similar - explained) / np.sqrt(max(self.left[index], RIDGE))
        self.rows, self.left = np.vstack([self.rows, row]), np.maximum(self.left - row**2, 0)


class AtRandom:
    """All images add alike; a number drawn for each decides."""

    def __init__(self, features: np.ndarray, generator: np.random.Generator) -> None:
        self.drawn = generator.random(len(features))

    def gains(self) -> np.ndarray:
        return self.drawn

    def add(self, index: int) -> None:
        pass  # the others add as much as before


Diversity = Literal["k-center", "determinantal", "random"]
SPREADS: dict[str, Callable[[np.ndarray, np.random.Generator], Spread]] = {
    "k-center": FarthestFirst,
    "determinantal": Determinantal,
    "random": AtRandom,
}


def k_center(features: np.ndarray, count: int) -> np.ndarray:
    """``(count,)`` positions, from the image nearest to the mean on, each next the farthest from those before.

    Examples:
        >>> k_center(np.array([[0.0], [1], [5], [9]]), 3).tolist()
        [2, 0, 3]
    """
    state, taken = FarthestFirst(features), np.zeros(len(features), bool)
    order = []
    for _ in range(count):
        order.append(int(np.argmax(np.where(taken, -np.inf, state.gains()))))
        taken[order[-1]] = True
        state.add(order[-1])
    return np.array(order)


def herding(features: np.ndarray, count: int) -> np.ndarray:
    """``(count,)`` positions, each next the one that brings the mean nearest to that of all.

    Features are brought to length 1 first, as in iCaRL.

    Examples:
        >>> herding(np.array([[1.0, 0], [0, 1], [1, 1]]), 2).tolist()
        [2, 0]
    """
    features = np.asarray(features, np.float64)
    features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), RIDGE)
    mean, total, taken = features.mean(0), np.zeros(features.shape[1]), np.zeros(len(features), bool)
    order = []
    for number in range(1, count + 1):
        distance = np.linalg.norm(mean - (total + features) / number, axis=1)
        order.append(int(np.argmin(np.where(taken, np.inf, distance))))
        taken[order[-1]] = True
        total = total + features[order[-1]]
    return np.array(order)
