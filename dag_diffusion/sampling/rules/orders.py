"""Rules that need no target: random, easiest, hardest, k-center and herding."""

from typing import ClassVar

import numpy as np

from .coresets import herding, k_center
from .rule import ClassImages, OrderRule


class AtRandom(OrderRule):
    """Any image with equal chance."""

    def order(self, images: ClassImages, count: int, generator: np.random.Generator) -> np.ndarray:
        return generator.permutation(len(images.difficulties))[:count]


class Easiest(OrderRule):
    """The lowest difficulty first."""

    by_difficulty = True
    sign: ClassVar[int] = 1

    def order(self, images: ClassImages, count: int, generator: np.random.Generator) -> np.ndarray:
        return np.argsort(self.sign * images.difficulties, kind="stable")[:count]


class Hardest(Easiest):
    """The highest difficulty first."""

    sign = -1


class KCenter(OrderRule):
    """The image farthest from those taken first; see ``coresets.k_center``."""

    by_features = True

    def order(self, images: ClassImages, count: int, generator: np.random.Generator) -> np.ndarray:
        return k_center(np.asarray(images.features), count)


class Herding(OrderRule):
    """The image that brings the mean of those taken nearest to the mean of all first; see ``coresets.herding``."""

    by_features = True

    def order(self, images: ClassImages, count: int, generator: np.random.Generator) -> np.ndarray:
        return herding(np.asarray(images.features), count)
