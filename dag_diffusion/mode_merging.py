"""Fewer modes from many, without the images: k-means of the modes' means, each weighted by its number of images.

    centre of a merged mode = sum_i n_i centre_i / sum_i n_i,   over the modes i of its cluster

So a file of 50 modes a class also serves 10 images a class, and latents of the images need not be kept.
"""

from collections.abc import Sequence

import numpy as np
import torch

from .modes import Modes, cluster_numbers


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

    def mean(values: torch.Tensor, members: np.ndarray) -> torch.Tensor:
        share = weights[members] / weights[members].sum()
        return torch.tensordot(share, values[members].double(), 1).float()

    return Modes(
        torch.stack([mean(modes.centres, members) for members in clusters]),
        torch.tensor([int(modes.labels[members[0]]) for members in clusters]),
        torch.tensor([int(modes.sizes[members].sum()) for members in clusters]),
        modes.class_names,
        None
        if modes.difficulties is None
        else torch.stack([mean(modes.difficulties, members) for members in clusters]),
        modes.vae,
    )


def _clusters(modes: Modes, positions: np.ndarray, count: int, seed: Sequence[int]) -> list[np.ndarray]:
    if len(positions) <= count:
        return [positions[[index]] for index in range(len(positions))]
    features, weights = modes.centres[positions].flatten(1).numpy(), modes.sizes[positions].numpy()
    found = cluster_numbers(features, count, seed, starts=10, weights=weights)  # few modes, so that starts cost nothing
    return [positions[found == cluster] for cluster in np.unique(found)]
