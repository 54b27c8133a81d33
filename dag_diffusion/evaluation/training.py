"""Training from scratch on few images held in memory: every random choice follows from one seed.

    seed -> generators -> order of images, augmentations, dropout        (the initial weights come with the network)
    loss = share * CE(p, y) + (1 - share) * CE(p, y of the partner)        (share is 1 but for CutMix)
    loss = CE(p, y of the view)                                            (labels per view: of the mixed image)

A protocol says how long and how fast, see ``protocols``.  Labels are hard, or a teacher's probabilities.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dag_diffusion.processes import this_process
from dag_diffusion.processor import computing_in, usual_torch
from dag_diffusion.seeding import as_seed, seeded

from .augmentations import Normalisation, augmented, cutmixed
from .labelled_images import normalise
from .protocols import Protocol
from .soft_labels.views import ViewLabels, mixed_batches, require_drawn_alike

MOST_LOOKS = 100  # at the test set while training, as the field has it
CPU_BATCH = 50  # test images at a time


def derived_seeds(seed: int, count: int) -> list[int]:
    """``count`` seeds that share none with those of another ``seed``, as 0, 1, 2 and 1, 2, 3 would."""
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(count, np.uint32)]


@usual_torch()
def train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor | ViewLabels,
    protocol: Protocol,
    *,
    seed: int,
    epochs: int | None = None,
    normalisation: Normalisation | None = None,
    track_best: Callable[[int, nn.Module], None] | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train ``network``, in place, and return it in evaluation mode.

    Args:
        images: ``(n, channels, height, width)`` float32, normalised; the network is moved to their device.
        labels: ``(n,)`` int64 below the number of the network's logits, or ``(n, logits)`` float32 probabilities, on
            the same device; or labels per view of these images in their order, drawn by a protocol like this one.
        seed: of the order of the images, their augmentations, and what the network draws, such as dropout; sets of
            equal size are seen and changed alike.  Views have a seed of their own, and this one says in which order
            they come.
        epochs: None: the protocol's for so many images per class, counting the classes that occur (for probabilities,
            as the likeliest of an image), so that sets of soft labels had better say it.
        normalisation: how the images were normalised, see ``evaluation.normalise``; only colours depend on it.
        track_best: called with the number of epochs done and the network, in evaluation mode, about ``MOST_LOOKS``
            times and after the last epoch; what it does changes no random draw.
        progress: called after each epoch with the number of epochs done and their last mean loss.

    Raises:
        ValueError: shapes, types or probabilities are not as above.
        FloatingPointError: the loss is no longer finite.
    """
    _check_data(images, labels, protocol)
    protocol = protocol.on(images.device)
    epochs = protocol.epochs_for(_images_per_class(labels)) if epochs is None else _at_least_one(epochs)
    lessons = _Lessons(images, labels, protocol, seed, normalisation or Normalisation())
    network = network.to(images.device).train()
    optimizer, schedule = descent(network.parameters(), len(images), protocol, epochs)
    with seeded(seed, images.device):  # what the network itself draws, such as dropout
        for epoch in range(1, epochs + 1):
            losses = []
            for inputs, targets in lessons.of_epoch(epoch):
                losses.append(_descend(network, optimizer, inputs, targets, protocol))
                schedule.step()
            loss = require_finite(torch.stack(losses).mean().item(), epoch, protocol)
            if track_best is not None and is_look(epoch, epochs):
                track_best(epoch, network.eval())
                network.train()
            if progress is not None:
                progress(epoch, loss)
    return network.eval()


def accuracy(
    network: nn.Module,
    images: Tensor | np.ndarray,
    labels: Tensor,
    batch_size: int | None = None,
    *,
    precision: str = "float32",
    normalisation: Normalisation | None = None,
) -> float:
    """Fraction of images whose largest logit is that of their label; the network is left in evaluation mode.

    Args:
        images: ``(n, channels, height, width)`` float32, normalised; or ``(n, height, width, channels)`` uint8, a
            quarter of that, of which each batch is normalised.  Each batch is moved to the network's device.
        labels: ``(n,)`` int64.
        batch_size: by default 50 on a CPU, where memory for larger activations may be freed and allocated again at
            every layer, and 500 elsewhere.
        precision: ``float32`` or ``bfloat16``, in which the network computes.
        normalisation: of uint8 images; default: to [-1, 1].
    """
    guessed = correct(network, images, labels, batch_size, precision=precision, normalisation=normalisation)
    return guessed / len(images)


def correct(
    network: nn.Module,
    images: Tensor | np.ndarray,
    labels: Tensor,
    batch_size: int | None = None,
    *,
    precision: str = "float32",
    normalisation: Normalisation | None = None,
) -> int:
    """How many images have their largest logit where their label is, see ``accuracy``; of none it is 0."""

    def given(start: int) -> Tensor:
        batch = images[start : start + size]
        if batch.dtype in (np.uint8, torch.uint8):
            batch = normalise(batch, normalisation)
        return torch.as_tensor(batch).to(device)

    network.eval()
    device = next(network.parameters()).device
    size = batch_size or (CPU_BATCH if device.type == "cpu" else 500)
    found = 0
    with torch.inference_mode(), computing_in(precision, device):
        for start in range(0, len(images), size):
            guesses = network(given(start)).argmax(1).cpu()
            found += int((guesses == labels[start : start + size].cpu()).sum())
    return found


def share_of_this_process(images: int) -> slice:
    """Which of so many test images this one of several CPU processes takes: whole batches, as one alone has them."""
    process, batches = this_process(), -(-images // CPU_BATCH)
    first, end = (batches * (process.process_index + more) // process.num_processes for more in (0, 1))
    return slice(first * CPU_BATCH, end * CPU_BATCH)


class _Lessons:
    """What a network is shown batch by batch, and which labels have which share in each."""

    def __init__(
        self, images: Tensor, labels: Tensor | ViewLabels, protocol: Protocol, seed: int, normalisation: Normalisation
    ) -> None:
        self.images, self.protocol, self.seed, self.normalisation = images, protocol, seed, normalisation
        self.labels = labels if isinstance(labels, ViewLabels) else softened(labels, protocol.temperature)
        self.generator = torch.Generator().manual_seed(as_seed(seed))

    def of_epoch(self, epoch: int) -> Iterator[tuple[Tensor, list[tuple[float, Tensor]]]]:
        """Batches of one epoch; the same draws in the same order whatever the images, so that seeds pair sets."""
        if not isinstance(self.labels, ViewLabels):
            yield from self._mixed(self.labels)
            return
        generator, labels = self.labels.of_epoch(epoch, self.seed, self.protocol.temperature)
        labels = labels.to(self.images.device)
        for batch, inputs in mixed_batches(self.images, self.protocol, generator, self.normalisation):
            yield inputs, [(1.0, labels[batch])]

    def _mixed(self, labels: Tensor) -> Iterator[tuple[Tensor, list[tuple[float, Tensor]]]]:
        order = torch.randperm(len(self.images), generator=self.generator).to(self.images.device)
        for batch in order.split(self.protocol.batch_size):
            inputs = augmented(self.images[batch], self.protocol, self.generator, self.normalisation)
            targets = labels[batch]
            if self.protocol.cutmix == 0:
                yield inputs, [(1.0, targets)]
                continue
            inputs, partners, share = cutmixed(inputs, self.protocol.cutmix, self.generator)
            yield inputs, [(share, targets), (1 - share, targets[partners])]


def softened(labels: Tensor, temperature: float) -> Tensor:
    """Probabilities as they would be if a teacher's logits had been divided by a temperature; hard labels as they are.

    softmax(z / T) = softmax(log softmax(z) / T)
    """
    if temperature == 1 or not labels.is_floating_point():
        return labels
    return (labels.log() / temperature).softmax(-1)


def cross_entropy(logits: Tensor, labels: Tensor, temperature: float, **options: Any) -> Tensor:
    """That of hard labels, or of a teacher's softened probabilities and the network's at the same temperature."""
    return F.cross_entropy(logits / temperature if labels.is_floating_point() else logits, labels, **options)


def _images_per_class(labels: Tensor | ViewLabels) -> float:
    if isinstance(labels, ViewLabels):
        return len(labels) / labels.logits.classes
    hard = labels if labels.ndim == 1 else labels.argmax(1)
    return len(labels) / len(hard.unique())


def _at_least_one(epochs: int) -> int:
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; train for at least 1, or leave it out to follow the protocol")
    return epochs


def descent(
    parameters: Iterable[Tensor], images: int, protocol: Protocol, epochs: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Optimizer and schedule of a protocol for so many epochs over so many images."""
    steps = epochs * math.ceil(images / protocol.batch_size)
    optimizer: torch.optim.Optimizer
    rate, momentum, decay = protocol.learning_rate, protocol.momentum, protocol.weight_decay
    if protocol.optimizer == "adamw":
        optimizer = torch.optim.AdamW(parameters, rate, (momentum, 0.999), weight_decay=decay)
    else:
        optimizer = torch.optim.SGD(parameters, rate, momentum, weight_decay=decay)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: protocol.rate_factor(step / steps))


def is_look(epoch: int, epochs: int) -> bool:
    """Whether a network is looked at after this of so many epochs."""
    return epoch % max(1, epochs // MOST_LOOKS) == 0 or epoch == epochs


def _descend(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    targets: Sequence[tuple[float, Tensor]],
    protocol: Protocol,
) -> Tensor:
    with computing_in(protocol.precision, images.device):
        logits = network(images).float()
    losses = [share * cross_entropy(logits, labels, protocol.temperature) for share, labels in targets]
    loss = sum(losses[1:], losses[0])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def require_finite(loss: float, epoch: int, protocol: Protocol) -> float:
    """The loss; FloatingPointError if the training has diverged."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss is {loss} after epoch {epoch}; lower the learning_rate of protocol {protocol.name!r} "
            f"({protocol.learning_rate})"
        )
    return loss


def _check_data(images: Tensor, labels: Tensor | ViewLabels, protocol: Protocol) -> None:
    if images.ndim != 4 or images.dtype != torch.float32 or len(images) == 0:
        raise ValueError(
            f"training needs float32 images (n, channels, height, width), but got {images.dtype} "
            f"{tuple(images.shape)}; use evaluation.normalise"
        )
    if isinstance(labels, ViewLabels):
        require_drawn_alike(labels, len(images), protocol)
        return
    hard = labels.shape == images.shape[:1] and labels.dtype == torch.int64
    soft = labels.ndim == 2 and len(labels) == len(images) and labels.dtype == torch.float32
    if not hard and not soft:
        raise ValueError(
            f"{len(images)} images need int64 labels of shape ({len(images)},) or float32 probabilities "
            f"({len(images)}, classes), but got {labels.dtype} {tuple(labels.shape)}; pass one an image"
        )
    if soft and not (bool((labels >= 0).all()) and torch.allclose(labels.sum(1), labels.new_ones(()), atol=1e-3)):
        raise ValueError("soft labels must be probabilities whose rows sum to 1; apply softmax to a teacher's logits")
