"""``auto``: a target that moves with the size of the set, from easy images to all kinds of them.

    Q_auto(u) = Q(u ** g),   log2 g = EASE - PER_DOUBLING * log2(ipc)

Q are the quantiles of real images.  g > 1 asks for easier ones than those, g = 1 for just those, g < 1 for harder ones.
Several works agree that few images want easy ones and many want hard ones (CaO2, ICCV 2025; ACS, ICME 2025; DATM, ICLR
2024); none gives a rule for all sizes.  The two numbers were chosen on held-out training images of Fashion-MNIST; on
digits, emoji and clip art the easy end carries over to one image, and no exponent to ten (docs/results/sampling).
"""

from dataclasses import dataclass, replace
from math import log2
from typing import Any

import numpy as np

from .scales import Scale
from .targets import RESOLUTION, Mixture, PerClass, TargetDistribution, even_levels

EASE, PER_DOUBLING = 3.0, 0.5


def exponent(ipc: int) -> float:
    """``g`` for sets of ``ipc`` images per class: 8 for one image, 2.5 for ten, 1.1 for fifty.

    Examples:
        >>> [round(exponent(ipc), 1) for ipc in (1, 10, 50)]
        [8.0, 2.5, 1.1]
    """
    return float(2 ** (EASE - PER_DOUBLING * log2(ipc)))


@dataclass(frozen=True, eq=False)
class AutoTarget(TargetDistribution):
    """Real images' difficulties, moved to the easy or hard end as the size of the set wants it.

    Attributes:
        reference: of real images, or any other target.
        ipc: images per class, where these are known before a set is chosen.
    """

    reference: TargetDistribution
    text: str | None = "auto"
    ipc: int | None = None
    name: str = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.reference, AutoTarget):
            raise ValueError(
                f"auto moves a target once, but {self.reference.text or 'auto'} is moved already; name it alone"
            )

    @property
    def relative(self) -> bool:  # type: ignore[override]
        """Whether what it moves is."""
        return self.reference.relative

    def values(self, class_name: str, scale: Scale, ipc: int | None = None) -> np.ndarray:
        size = self.ipc if ipc is None else ipc
        if size is None:
            raise ValueError(
                "the target auto depends on the images per class, which a pool does not tell; name it where a set is "
                "chosen (subsample, run), or steer to 'reference'"
            )
        values = self.reference.values(class_name, scale, ipc)
        levels = even_levels(max(RESOLUTION, len(values))) ** exponent(size)
        # np.quantile(values, levels, method="inverted_cdf"), which takes ten times as long for so many levels
        return np.sort(values)[np.maximum(np.ceil(len(values) * levels - 1).astype(int), 0)]

    def may_lie_apart(self, class_name: str) -> bool:
        return self.reference.may_lie_apart(class_name)

    def summary(self) -> dict[str, Any]:
        moved = self.reference.summary()
        rule: dict[str, Any] = {"ease": EASE, "per_doubling": PER_DOUBLING} | (
            {} if self.ipc is None else {"ipc": self.ipc}
        )
        if "reference" not in moved:  # of real images no record holds all, so that these are named by the text alone
            rule |= {"of": {name: moved[name] for name in ("name", "text")}}
        return moved | {"name": self.name, "text": self.text, "auto": rule}


def of_size(target: TargetDistribution, ipc: int) -> TargetDistribution:
    """The same target for sets of ``ipc`` images per class, so that a pool may be steered to it too."""
    if isinstance(target, AutoTarget):
        return replace(target, ipc=ipc)
    if isinstance(target, Mixture):
        return replace(target, targets=tuple(of_size(part, ipc) for part in target.targets))
    if isinstance(target, PerClass):
        return replace(target, targets={name: of_size(part, ipc) for name, part in target.targets.items()})
    return target
