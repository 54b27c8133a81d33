"""How much training images are changed: the fewer there are of a class, the more.

    light    shift by a sixteenth, mirror                          1,000 images a class and more
    medium   and crop to 60 % of the area, colours by a fifth      150 and more
    strong   and crop to 35 %, colours by two fifths               fewer

Labels are neither mixed nor smoothed unless asked for: both teach a network to be less sure than it may be, and
difficulty is read from how sure it is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dag_diffusion.evaluation.augmentations import Normalisation, cropped, flipped, recoloured, shifted

ENOUGH = {"light": 1000, "medium": 150, "strong": 0}  # images a class, from which on a strength suffices


@dataclass(frozen=True)
class ImageChanges:
    """Random changes of a training image.

    Attributes:
        shift: most of it, as a fraction of the side.
        crop: least area of a window that is resized to the whole; None crops nothing.
        colours: strength of brightness, contrast and saturation.
        mirror: half of the images left to right.
    """

    shift: float = 0.0
    crop: float | None = None
    colours: float = 0.0
    mirror: bool = True

    def __call__(self, images: Tensor, generator: torch.Generator, normalisation: Normalisation) -> Tensor:
        """Change normalised images ``(batch, channels, height, width)``; all draws come from the generator."""
        changed = shifted(images, round(self.shift * min(images.shape[2:])), generator)
        changed = cropped(changed, self.crop, generator)
        changed = flipped(changed, generator) if self.mirror else changed
        return recoloured(changed, self.colours, 0.0, generator, normalisation=normalisation)


STRENGTHS = {
    "none": ImageChanges(mirror=False),
    "light": ImageChanges(shift=1 / 16),
    "medium": ImageChanges(shift=1 / 16, crop=0.6, colours=0.2),
    "strong": ImageChanges(shift=1 / 16, crop=0.35, colours=0.4),
}


def strength_for(images_per_class: float) -> str:
    """The strength for so many images a class."""
    return next(name for name, enough in ENOUGH.items() if images_per_class >= enough)
