"""Diversity guidance: push the images of a class apart that are denoised together, by a determinantal term.

    u_i = x0_i / |x0_i|,   K_ij = u_i . u_j,   F = log det(K + RIDGE I)
    dF/dx0_i = 2 (I - u_i u_i^T) sum_j [(K + RIDGE I)^-1]_ij u_j / |x0_i|
    delta_i = scale * |x0_i|^2 * dF/dx0_i,   |delta_i| <= max_norm * |x0_i|,   z_{t-1} += sqrt(a_{t-1}) * delta

The determinant of the cosines is the squared volume that the images span, and largest where no two are alike.  -F is
the term of Xu et al. (CVPR 2026), who denoise all images of a class together; that ``delta`` turns x0 by an angle, the
trust region and the window are ours.  No network is asked: the cost is that of n x n cosines.  This module knows
tensors only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .difficulty_guidance import GuidanceConfig, at_most

RIDGE = 0.01  # two images push each other by 1 / sqrt(2 RIDGE) = 7 per radian at most, and less where they coincide
COINCIDE = 1 - 1e-6  # cosine from which on two images have no direction to part in
APART = 0.01  # as a fraction of |x0|, what such images are told apart by


@dataclass(frozen=True, kw_only=True)
class DiversityGuidance:
    """When and how strongly to push images apart.  ``start`` and ``stop`` are fractions of the steps.

    Attributes:
        scale: strength of diversity guidance, 0 for none.  Each guided step turns a predicted clean sample by so many
            radians for a unit gradient of the log-determinant.
        start: from the first step on, while the layout is open.
        stop: the rest is left to the denoiser, which makes images of what was pushed.
        max_norm: trust region, the largest |delta| as a fraction of |x0|.
    """

    scale: float = 0.0
    start: float = 0.0
    stop: float = 0.5
    max_norm: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.start < self.stop <= 1 and 0 <= self.scale < float("inf")):
            raise ValueError(
                f"diversity guidance needs 0 <= start < stop <= 1 and scale >= 0, but they are {self.start}, "
                f"{self.stop} and {self.scale}; a scale of 0 is none"
            )
        if not 0 < self.max_norm < float("inf"):
            raise ValueError(
                f"diversity guidance needs a positive, finite max_norm, but it is {self.max_norm}; 0.2 lets a step "
                "move x0 by a fifth of its length"
            )

    def steps(self, num_steps: int) -> range:
        """Which of ``num_steps`` steps (0 is the noisiest) push; none at strength 0.

        Raises:
            ValueError: the window holds no step.
        """
        return GuidanceConfig(start=self.start, stop=self.stop).steps(num_steps) if self.scale else range(0)


def groups_of(numbers: Sequence[Any]) -> list[Tensor]:
    """Places of the images of each group of two or more, each ``(n,)`` int64, from what each image is marked by."""
    places: dict[Any, list[int]] = {}
    for place, number in enumerate(numbers):
        places.setdefault(number, []).append(place)
    return [torch.tensor(group) for group in places.values() if len(group) > 1]


def log_volume(clean: Tensor) -> Tensor:
    """``log det(K + RIDGE I)`` of one group; the higher, the less alike the samples are.

    Args:
        clean: ``(n, ...)``; samples of length 0, and such as are not finite, span nothing.

    Returns:
        A float32 scalar, at most ``n log(1 + RIDGE)``.
    """
    unit, _ = _units(clean)
    return torch.logdet(unit @ unit.T + RIDGE * torch.eye(len(unit), device=unit.device))


def volume_gradient(clean: Tensor) -> Tensor:
    """Gradient of ``log_volume``, shaped like ``clean``, float32; 0 where a sample spans nothing."""
    unit, length = _units(clean)
    gram = unit @ unit.T + RIDGE * torch.eye(len(unit), device=unit.device)
    pull = 2 * torch.linalg.solve(gram, unit)
    across = pull - (pull * unit).sum(1, keepdim=True) * unit  # a sample's length changes no cosine
    return torch.where(length > 0, across / length.clamp(min=torch.finfo(length.dtype).tiny), 0.0).view_as(clean)


def diversity_shift(clean: Tensor, groups: Sequence[Tensor], scale: float, max_norm: float) -> Tensor:
    """``delta`` for predicted clean samples: apart from the others of their group.

    Args:
        clean: predicted clean samples ``x0``, ``(batch, ...)``.
        groups: places of the images of each group; see ``groups_of``.
        scale: strength; see ``DiversityGuidance``.
        max_norm: trust region.

    Returns:
        float32, shaped like ``clean``, finite; 0 for images of no group.  What else is in the batch changes nothing.
    """
    clean = clean.float()
    delta = torch.zeros_like(clean)
    for group in groups:
        places = group.to(clean.device)
        own = _told_apart(clean[places])
        length = own.flatten(1).norm(dim=1)
        square = (length**2).view(-1, *[1] * (own.ndim - 1))
        delta[places] = at_most(scale * square * volume_gradient(own), max_norm * length)
    return delta


def _units(clean: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors ``(n, size)`` and lengths ``(n, 1)``; both 0 for a sample that is 0 or not finite."""
    flat = clean.float().flatten(1)
    flat = torch.where(torch.isfinite(flat).all(1, keepdim=True), flat, 0.0)
    length = flat.norm(dim=1, keepdim=True)
    return torch.where(length > 0, flat / length.clamp(min=torch.finfo(length.dtype).tiny), 0.0), length


def _told_apart(clean: Tensor) -> Tensor:
    """The samples, each that coincides with another moved a little in a direction of its own place in the group.

    Two equal images are a saddle of F: its gradient is 0, and they would stay equal to the end.
    """
    unit, length = _units(clean)
    cosines = (unit @ unit.T).fill_diagonal_(0)
    alike = (cosines.max(1).values > COINCIDE)[:, None]
    if not alike.any():
        return clean
    own = torch.randn(unit.shape, generator=torch.Generator().manual_seed(0)).to(unit)
    own = own / own.norm(dim=1, keepdim=True)
    return torch.where(alike, clean.flatten(1) + APART * length * own, clean.flatten(1)).view_as(clean)


@dataclass(frozen=True, kw_only=True, eq=False)
class DiversityPush:
    """The groups that the images of one run are pushed apart in.

    Attributes:
        config: strength and window.
        groups: places of the images of each.
        steps: which steps push.
    """

    config: DiversityGuidance
    groups: Sequence[Tensor]
    steps: range

    def shift(self, clean: Tensor) -> Tensor:
        """``delta`` for the clean samples that a step predicted."""
        return diversity_shift(clean, self.groups, self.config.scale, self.config.max_norm)
