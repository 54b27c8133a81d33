"""A network frozen for many batches of one shape on a CPU: batch norm goes into the convolutions, weights lie ready.

    network(images) -> traced once on noise -> constants folded, layouts chosen -> the same logits within rounding

It takes a second where ``torch.compile`` takes half a minute and a compiler of C++.  It runs in many threads at once,
since it holds no lock of Python.
"""

import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from .image_classifiers import class_names_of, logits_of, prepared_logits

logger = logging.getLogger(__name__)
AskedNetwork = Callable[[Tensor], Sequence[Tensor]]
TOLERANCE = 1e-4  # of the logits, as a share of the largest; a network that branches on what it sees is far off


class _Asked(nn.Module):
    """A classifier as it answers prepared images: logits, and features where a layer's input is kept."""

    def __init__(self, classifier: nn.Module, kept: threading.local | None) -> None:
        super().__init__()
        self.classifier, self.kept = classifier, kept

    def forward(self, prepared: Tensor) -> tuple[Tensor, ...]:
        if torch.jit.is_tracing():  # what is checked on the way was checked before
            logits: Tensor = logits_of(self.classifier(prepared)).float()
        else:
            logits = prepared_logits(self.classifier, prepared)
        return (logits,) if self.kept is None else (logits, getattr(self.kept, "features", logits))


@contextmanager
def asked(classifier: nn.Module, features: bool = False) -> Iterator[nn.Module]:
    """A classifier that gives logits ``(batch, classes)`` float32, and features ``(batch, dim)`` if they are asked for.

    Features are the input of its last linear layer that has an output for each class, else the logits.
    """
    kept, layer = (threading.local(), _head(classifier)) if features else (None, None)

    def keep(module: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        setattr(kept, "features", (*given, *named.values())[0])  # noqa: B010 - of this thread alone

    hook = None if layer is None else layer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        network = _Asked(classifier, kept)
        network.training = False  # not by eval(), which exported programs refuse; the classifier is in that mode
        yield network
    finally:
        if hook is not None:
            hook.remove()


def _head(classifier: nn.Module) -> nn.Module | None:
    classes = len(class_names_of(classifier))
    linear = [m for m in classifier.modules() if isinstance(m, nn.Linear) and m.out_features == classes]
    return linear[-1] if linear else None


@torch.inference_mode()
def frozen(network: nn.Module, shape: tuple[int, int, int, int]) -> Any:
    """A network for batches of one shape alone, or the network itself where it cannot be frozen.

    Args:
        network: in evaluation mode, on the CPU, from ``(batch, channels, height, width)`` to a tuple of tensors.
        shape: of the batches, which lie channels-last.
    """
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    noise = noise.contiguous(memory_format=torch.channels_last)
    # a trace has one way alone of a network that branches on values, so they lie as images do: normalised, 0-1, 0-255
    examples = noise, noise.sigmoid(), 255 * noise.sigmoid()
    expected = [network(example) for example in examples]
    try:
        with _without_warnings():
            traced = torch.jit.trace(network, noise, check_trace=False)
            quick = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
        found = [quick(example) for example in examples]
    except Exception as error:  # whatever torch or a model raises at being traced
        logger.debug("runs as it is, since it cannot be traced: %s", error)
        return network
    if not all(map(_alike, chain(*expected), chain(*found))):
        logger.debug("runs as it is, since its trace finds something else")
        return network
    return quick


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Torch would have it compiled, models warn of what a trace may miss, and transformers of a loss.

    A trace reads every property of a model, and so ``loss_function`` (transformers 5.24), which nobody has asked for.
    """
    models = logging.getLogger("transformers.modeling_utils")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models.disabled, before = True, models.disabled
        try:
            yield
        finally:
            models.disabled = before


def _alike(expected: Tensor, found: Tensor) -> bool:
    return float((expected - found).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))
