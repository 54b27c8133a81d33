"""What the training of a generator takes of memory and disk, which is asked before hours are spent on it.

memory = images, or their latents + on a CPU: weights, of what is trained also gradients, moments of AdamW and average
disk   = latents + two checkpoints of weights, average and moments, as one is written beside the other + the pipeline
"""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from dag_diffusion.data.files import bytes_in, require_disk
from dag_diffusion.memory import require_memory

BYTES = 4  # of a weight in single precision, in which weights are trained
IN_MEMORY, IN_CHECKPOINT = 5, 4  # numbers for a trained weight: the latter and its gradient


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a training takes.

    Attributes:
        images: how many there are.
        size: side of an image in pixels.
        image_bytes: of each image that is kept in memory, as pixels or as latents.
        latent_bytes: of the latents of each image.
        weights: number of weights, of autoencoder and denoiser together.
        trained: how many of them are trained, but for the few that are added to a pretrained denoiser.
    """

    images: int
    size: int
    image_bytes: int
    latent_bytes: int
    weights: int
    trained: int

    def require_memory(self, *, on_cpu: bool) -> None:
        """Check that images, and on a CPU the networks in training, fit into memory; ValueError if not."""
        more = BYTES * (self.weights + (IN_MEMORY - 1) * self.trained) if on_cpu else 0
        way = {"way": "train on a GPU, or fewer weights: a smaller width or depth, or tune='difffit' of a base"}
        heavy = more > self.images * self.image_bytes
        require_memory(self.images, self.size, self.image_bytes, weights=more, **(way if heavy else {}))

    def require_disk(self, work: Path) -> None:
        """Check that what is still to be written fits onto the disk of the work folder; ValueError if not."""
        needed = self.images * self.latent_bytes + BYTES * (2 * IN_CHECKPOINT * self.trained + self.weights)
        require_disk(work, needed - bytes_in(work), "latents and checkpoints")  # less what an earlier call has written


def number_of_weights(model: nn.Module) -> int:
    """How many weights a network has."""
    return sum(weight.numel() for weight in model.parameters())
