"""Networks of one build trained at once as one stacked network, each as it would be alone but for rounding.

    weights (s, ...), images (s, batch, ...)  ->  logits (s, batch, classes),   loss = sum of the s losses

A small network leaves a GPU idle, which waits for kernels to start; stacked, s networks need as many kernels as one.
Each keeps its own images, draws and batch statistics, and its gradient in the sum is that of its own loss.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, stack_module_state

from dag_diffusion.processes import warn_once
from dag_diffusion.processor import computing_in

from .augmentations import Normalisation, augmented, cutmixed
from .protocols import Protocol
from .soft_labels.views import ViewLabels
from .training import cross_entropy, descent, is_look, require_finite, softened

logger = logging.getLogger(__name__)
MOST = 20  # trainings at once unless more are asked for; a kill loses them
SHARE = 0.8  # of a device's free memory that may be taken
COPIES = 5  # of the weights: themselves, gradients, two moments, and what a step of the optimizer makes on its way


class Stack:
    """Networks whose weights and buffers lie in common tensors, called as one.

    Attributes:
        parameters: by name, ``(networks, ...)``; what is learnt.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = list(networks)
        self.parameters, self.buffers = stack_module_state(self.networks)
        self._shell = copy.deepcopy(self.networks[0]).to("meta").train()
        self._logits = torch.vmap(self._logits_of_one)

    def __call__(self, images: Tensor) -> Tensor:
        """``(networks, batch, channels, height, width)`` to logits ``(networks, batch, classes)``, in training mode."""
        return self._logits(self.parameters, self.buffers, images)

    def _logits_of_one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(self._shell, (parameters, buffers), (images,))

    @torch.no_grad()
    def unstack(self) -> list[nn.Module]:
        """The networks with what they have learnt so far, in evaluation mode."""
        stacked = {**self.parameters, **self.buffers}
        for place, network in enumerate(self.networks):
            for name, own in [*network.named_parameters(), *network.named_buffers()]:
                own.copy_(stacked[name][place])
        return [network.eval() for network in self.networks]


def train_stack(
    networks: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor | Sequence[ViewLabels],
    protocol: Protocol,
    *,
    seeds: Sequence[int],
    epochs: int,
    normalisation: Normalisation | None = None,
    track_best: Callable[[int, int, nn.Module], None] | None = None,
) -> list[nn.Module]:
    """Train each network, in place, as ``training.train`` would with its images, labels and seed.

    Args:
        networks: of one build, with no ``reason_against`` them; they are moved to the device of the images.
        images: ``(networks, n, channels, height, width)`` float32, normalised.
        labels: ``(networks, n)`` int64, or ``(networks, n, logits)`` float32 probabilities, or labels per view of each.
        seeds: one a network; may be equal.
        track_best: called with the number of epochs done, the place of a network and that network in evaluation mode.

    Returns:
        the networks in evaluation mode.

    Raises:
        FloatingPointError: the loss of one is no longer finite.
    """
    protocol, normalisation = protocol.on(images.device), normalisation or Normalisation()
    generators = [Generator().manual_seed(seed) for seed in seeds]
    targets = softened(labels, protocol.temperature) if isinstance(labels, Tensor) else images.new_empty(0)
    stack = Stack([network.to(images.device).train() for network in networks])
    optimizer, schedule = descent(stack.parameters.values(), images.shape[1], protocol, epochs)
    member = torch.arange(len(networks), device=images.device)[:, None]
    for epoch in range(1, epochs + 1):
        losses, views = [], None
        if not isinstance(labels, Tensor):
            views = [own.of_epoch(epoch, seed, protocol.temperature) for own, seed in zip(labels, seeds, strict=True)]
            generators, targets = [draw for draw, _ in views], torch.stack([one for _, one in views]).to(images.device)
        orders = torch.stack([torch.randperm(images.shape[1], generator=generator) for generator in generators])
        for batch in orders.to(images.device).split(protocol.batch_size, 1):
            inputs = augmented(images[member, batch].flatten(0, 1), protocol, generators, normalisation)
            loss = _losses(stack, inputs, targets[member, batch], protocol, generators, of_views=views is not None)
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        for loss in torch.stack(losses).mean(0).tolist():
            require_finite(loss, epoch, protocol)
        if track_best is not None and is_look(epoch, epochs):
            for place, network in enumerate(stack.unstack()):
                track_best(epoch, place, network)
    return stack.unstack()


def _losses(
    stack: Stack, images: Tensor, labels: Tensor, protocol: Protocol, generators: Sequence[Generator], *, of_views: bool
) -> Tensor:
    """``(networks,)`` mean losses of ``(networks * batch, ...)`` images with ``(networks, batch, ...)`` labels.

    Args:
        of_views: labels are those of the images as CutMix leaves them.
    """
    mixtures = []
    if protocol.cutmix > 0:
        own = images.chunk(len(generators))
        mixtures = [cutmixed(part, protocol.cutmix, draw) for part, draw in zip(own, generators, strict=True)]
        images = torch.cat([mixed for mixed, _, _ in mixtures])
    with computing_in(protocol.precision, images.device):
        logits = stack(images.unflatten(0, (len(generators), -1))).float()
    losses = _mean_losses(logits, labels, protocol.temperature)
    if mixtures and not of_views:
        others = torch.stack([one[partners] for one, (_, partners, _) in zip(labels, mixtures, strict=True)])
        share = torch.tensor([share for _, _, share in mixtures]).to(losses)
        losses = share * losses + (1 - share) * _mean_losses(logits, others, protocol.temperature)
    return losses


def _mean_losses(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    each = cross_entropy(logits.flatten(0, 1), labels.flatten(0, 1), temperature, reduction="none")
    return each.view(logits.shape[:2]).mean(1)


def reason_against(network: nn.Module, images: Tensor, precision: str) -> str | None:
    """Why several such networks do not compute as one; what draws at random, as dropout does, draws otherwise alone.

    Args:
        network: on the device of the images; left as it is.
        images: a few, ``(2 or more, channels, height, width)``.
        precision: ``float32`` or ``bfloat16``, in which it will compute.
    """
    if precision != "float32" and images.device.type == "cpu":
        # torch 2.14.1's autocast for CPUs does not reach what vmap calls: it would be float32 by another name
        return f"on a CPU they stack in float32 alone, and these are in {precision}"
    try:
        Stack([copy.deepcopy(network) for _ in range(2)])(images.expand(2, *images.shape)).sum().backward()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        return f"they do not stack: {str(error).strip().splitlines()[0]}"
    return None


def bytes_of_training(network: nn.Module, images: Tensor) -> int:
    """Memory that one more training in a stack takes: weights, what a batch leaves for the gradient, and as much again.

    Args:
        network: on the device of the images; left as it is.
        images: a batch, ``(batch, channels, height, width)``.
    """
    learner, kept = copy.deepcopy(network).train(), dict[int, int]()

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = learner(images)  # held, so that no two tensors of the graph have one place in turn
    weights = {weight.untyped_storage().data_ptr(): weight.nbytes for weight in learner.parameters()}
    activations = sum(size for place, size in kept.items() if place not in weights)
    return COPIES * sum(weights.values()) + 2 * activations + logits.nbytes


def most_at_once(network: nn.Module, images: Tensor, asked: int | None, precision: str) -> int:
    """How many trainings of such a network to do at once, at least 1.

    Args:
        network: on the device of the images; left as it is.
        images: a batch of a training, ``(batch, channels, height, width)``.
        asked: as many, if they stack; None: on a CUDA device ``MOST``, or those that its memory takes, and elsewhere 1.
        precision: as of ``reason_against``.
    """
    if asked == 1 or (asked is None and images.device.type != "cuda"):
        return 1
    if reason := reason_against(network, images[:2], precision):
        tell = logger.info if asked is None else partial(warn_once, logger)
        tell("trainings are done one by one, since %s", reason)
        return 1
    if asked is not None:
        return asked
    free = torch.cuda.mem_get_info(images.device)[0]
    return min(MOST, max(1, int(SHARE * free) // bytes_of_training(network, images)))
