"""Views of a set: passes over it whose order, crops, flips and CutMix boxes follow from one seed and their number.

    seed, number of the view -> generator -> order, batches, changes        teacher, view -> one row of logits an image

The parameters of a view are drawn again wherever it is needed, by the code that drew them: a seed takes no space and
gives the same whole numbers, where the parameters would take as much space as the labels.  A digest of draws tells when
another version of the libraries would draw other ones.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from dag_diffusion.evaluation.augmentations import Normalisation, augmented, cutmixed
from dag_diffusion.evaluation.protocols import Protocol

from .compression import CompressedLogits

# what of a protocol decides how views look
DRAWN_BY = ("batch_size", "max_shift", "crop_scale", "flip", "color_jitter", "lighting", "cutmix")
PIXELS = Normalisation(0.0, 1.0)  # of images in [0, 1], which a teacher sees


@dataclass(frozen=True, eq=False)
class ViewLabels:
    """What a teacher says of several views of a set, see ``view_files.read_view_labels``.

    Attributes:
        logits: ``(views, images)`` rows.
        seed: of the views.
        drawing: of the protocol that the views are drawn by, see ``DRAWN_BY``.
        rows: ``(images,)`` which image of the set each labelled one is.
        outputs: columns of the probabilities; those beyond the classes are 0.
    """

    logits: CompressedLogits
    seed: int
    drawing: dict[str, Any]
    rows: Tensor
    outputs: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def views(self) -> int:
        """How many there are."""
        return len(self.logits.codes)

    def of_epoch(self, epoch: int, seed: int, temperature: float = 1.0) -> tuple[Generator, Tensor]:
        """The view of one epoch, counted from 1, of a training: each comes once before any comes again.

        Args:
            seed: of the training, by which views are ordered.

        Returns:
            the generator that draws it, and ``(images, outputs)`` float32 probabilities of its images.
        """
        turn, place = divmod(epoch - 1, self.views)
        view = int(np.random.default_rng([seed, turn]).permutation(self.views)[place])
        probabilities = self.logits[view].probabilities(temperature)
        padded = torch.nn.functional.pad(probabilities, (0, self.outputs - self.logits.classes))
        return generator_of(self.seed, view), padded

    def in_order(self, order: Tensor) -> "ViewLabels":
        """The same with class ``order[i]`` as class ``i``."""
        return replace(self, logits=self.logits.in_order(order))


def generator_of(seed: int, view: int) -> Generator:
    """What draws one view."""
    word = np.random.SeedSequence([seed, view]).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(word >> np.uint64(11)))


def drawing_of(protocol: Protocol) -> dict[str, Any]:
    """What of a protocol decides how views look."""
    return {field.name: getattr(protocol, field.name) for field in fields(Protocol) if field.name in DRAWN_BY}


def require_drawn_alike(labels: ViewLabels, images: int, protocol: Protocol) -> None:
    """ValueError where views are of other images, or of a protocol that changes images in another way."""
    if len(labels) != images:
        raise ValueError(f"labels per view are of {len(labels)} images, but there are {images}; label the set as it is")
    now = drawing_of(protocol)
    if now != labels.drawing:
        theirs = {name: labels.drawing.get(name) for name in now if now[name] != labels.drawing.get(name)}
        differing = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in theirs.items())
        raise ValueError(
            f"labels per view were made with {differing}, not as protocol {protocol.name!r} changes images; "
            "train under theirs, or label the set again"
        )


def mixed_batches(
    images: Tensor, protocol: Protocol, generator: Generator, normalisation: Normalisation
) -> Iterator[tuple[Tensor, Tensor]]:
    """One view, batch by batch: which images they are, and what has become of them.

    Args:
        images: ``(n, channels, height, width)`` float32; or uint8, of which each batch is brought to [0, 1].
    """
    for batch in torch.randperm(len(images), generator=generator).to(images.device).split(protocol.batch_size):
        chosen = images[batch] if images.is_floating_point() else images[batch].float() / 255
        inputs = augmented(chosen, protocol, generator, normalisation)
        yield batch, cutmixed(inputs, protocol.cutmix, generator)[0] if protocol.cutmix > 0 else inputs


def draws() -> str:
    """A digest of what the generators here draw from a known seed: equal ones draw equal views."""
    generator, found = generator_of(0, 0), hashlib.blake2b(digest_size=8)
    drawn = [
        torch.randperm(97, generator=generator),
        torch.rand(97, generator=generator),
        torch.randint(2**62, (97,), generator=generator),
    ]
    for tensor in drawn:
        found.update(tensor.numpy().tobytes())
    # rounded, since the last bits of its powers are the mathematical library's
    found.update(np.random.default_rng(0).beta(1.0, 1.0, 97).astype(np.float16).tobytes())
    return found.hexdigest()
