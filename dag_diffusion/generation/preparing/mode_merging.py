"""Merge modes: fewer from many without the images, so that a file of 50 modes a class also serves 10 images a class.

merged mode = sum_i n_i mode_i / sum_i n_i,   over the modes i of its cluster
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dag_diffusion.generation.modes import Modes

from .mode_search import cluster_numbers


def merge_modes(modes: Modes, per_class: int, *, seed: int = 0) -> Modes:
    """``per_class`` modes of each class, or all of a class that has no more than that.

    Args:
        modes: from ``find_modes``; difficulties, if it has any, are averaged too.
        per_class: at least 1; best the number of images to generate, or a divisor of it.
        seed: each class clusters by its own stream, so that one class does not change another.

    Raises:
        ValueError: ``per_class`` is below 1.
    """
    if per_class < 1:
        raise ValueError(f"cannot merge modes to {per_class} a class; ask for at least 1")
    clusters = [
        cluster
        for label in modes.class_names
        for cluster in _clusters(modes, modes.of_class(label), per_class, (seed, label))
    ]
    weights = modes.sizes.double()

    def means(values: Tensor) -> Tensor:
        shares = [weights[members] / weights[members].sum() for members in clusters]
        pairs = zip(shares, clusters, strict=True)
        return torch.stack([torch.tensordot(share, values[members].double(), 1).float() for share, members in pairs])

    return Modes(
        centres=means(modes.centres),
        labels=torch.tensor([int(modes.labels[members[0]]) for members in clusters]),
        sizes=torch.tensor([int(modes.sizes[members].sum()) for members in clusters]),
        class_names=modes.class_names,
        difficulties=None if modes.difficulties is None else means(modes.difficulties),
        vae=modes.vae,
        space=modes.space,
        images=modes.images,
    )


def _clusters(modes: Modes, positions: np.ndarray, count: int, seed: Sequence[int]) -> list[np.ndarray]:
    if len(positions) <= count:
        return [positions[[index]] for index in range(len(positions))]
    features, weights = modes.centres[positions].flatten(1).numpy(), modes.sizes[positions].numpy()
    found = cluster_numbers(features, count, seed, starts=10, weights=weights)  # few modes, so that starts cost nothing
    return [positions[found == cluster] for cluster in np.unique(found)]
