"""How much of the real images a set covers, and how much of it is like them, in the features of a classifier.

    B(x; X)   = ball around x that reaches to its k-th nearest neighbour in X
    precision = share of the set's images that lie in B(x; real) of any real image x
    recall    = share of the real images that lie in B(y; set) of any image y of the set
    density   = number of balls B(x; real) that an image of the set lies in, on average, divided by k
    coverage  = share of the real images x whose B(x; real) holds an image of the set

Precision and recall are those of Kynkäänniemi et al. 2019 (arXiv 1904.06991), density and coverage those of Naeem et
al. 2020 (arXiv 2002.09797), which one far-off image moves less.  Both are taken class by class, since an image that
covers another class than its own teaches that wrongly.  All depend on the number of images: compare sets of one IPC.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Four shares, all in [0, 1] but for the density, which may be above 1; None where there are too few images."""

    precision: float | None
    recall: float | None
    density: float | None
    coverage: float | None


MEASURES = tuple(field.name for field in fields(Coverage))


def coverage_of(real: np.ndarray, images: np.ndarray, neighbours: int = 5) -> Coverage:
    """Coverage of the real images of one class by those of a set.

    Args:
        real: features ``(n, dim)``.
        images: features ``(m, dim)`` by the same network.
        neighbours: k.

    Returns:
        None for the recall of a set of k images or fewer, and for all but that if there are as few real ones.

    Raises:
        ValueError: ``neighbours`` is below 1, or the features do not fit.
    """
    from scipy.spatial.distance import cdist

    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}; a ball reaches to the nearest or a later one, such as the 5th")
    if real.ndim != 2 or images.ndim != 2 or real.shape[1] != images.shape[1] or not len(images):
        raise ValueError(
            f"features have shapes {real.shape} and {images.shape}; give (images, dim) of both by the same network"
        )
    apart = cdist(real, images)  # (real, images)
    found: dict[str, float] = {}
    if len(real) > neighbours:
        held = apart <= _radii(cdist(real, real), neighbours)[:, None]
        found["precision"] = float(held.any(0).mean())
        found["density"] = float(held.sum(0).mean() / neighbours)
        found["coverage"] = float(held.any(1).mean())
    if len(images) > neighbours and len(real):
        found["recall"] = float((apart <= _radii(cdist(images, images), neighbours)).any(1).mean())
    return Coverage(**{name: found.get(name) for name in MEASURES})


def _radii(distances: np.ndarray, neighbours: int) -> np.ndarray:
    """Distance from each to its k-th nearest neighbour; the nearest of all is itself."""
    return np.partition(distances, neighbours, axis=1)[:, neighbours]


def mean_coverage(classes: Iterable[Coverage]) -> Coverage:
    """Mean over classes, of those that have a number."""
    found = list(classes)

    def mean(name: str) -> float | None:
        values = [value for one in found if (value := getattr(one, name)) is not None]
        return float(np.mean(values)) if values else None

    return Coverage(**{name: mean(name) for name in MEASURES})


def class_coverage(
    real: tuple[np.ndarray, np.ndarray],
    images: tuple[np.ndarray, np.ndarray],
    class_names: Mapping[int, str],
    neighbours: int = 5,
) -> dict[str, Coverage]:
    """Coverage of each class.

    Args:
        real, images: features ``(n, dim)``, NaN where an image could not be read, and labels ``(n,)`` of both.
        class_names: label to name.
    """
    found = {}
    for label, name in class_names.items():
        own = [features[(labels == label) & ~np.isnan(features).any(1)] for features, labels in (real, images)]
        if len(own[1]):
            found[name] = coverage_of(own[0], own[1], neighbours)
    return found
