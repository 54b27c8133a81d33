"""What a denoiser answers with the class and without, overheard where classifier-free guidance asks for both.

    direction = answer given the label or prompt - answer given none

A predicted clean sample is linear in the answer, whatever is predicted, so that this is the line along which the
denoiser itself changes the class.  Its length and its sign are of no account: see ``difficulty_guidance.along_class``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import finalize

import torch
from torch import Tensor, nn

DENOISERS = ("transformer", "unet", "decoder", "prior_prior")  # what pipelines call theirs, the last two Stable Cascade


def denoiser_of(pipeline: Any) -> Any:
    """The denoiser of a pipeline; None where it is not known."""
    found = (getattr(pipeline, name, None) for name in DENOISERS)
    return next((one for one in found if isinstance(one, nn.Module)), None)


class DenoiserAnswers:
    """Listens to the denoiser of a pipeline, if it has one, until ``close`` or until nobody has this object."""

    def __init__(self, pipeline: Any) -> None:
        self._answers = answers = list[Any]()
        network = denoiser_of(pipeline)
        undo = (lambda: None) if network is None else _listen(network, answers)
        self.close: Callable[[], Any] = finalize(self, undo)

    def take(self) -> list[Any]:
        """What was answered since this was asked last."""
        taken = self._answers[:]
        self._answers.clear()
        return taken


def class_direction(answers: list[Any], sample: Tensor) -> Tensor | None:
    """The direction for the samples of one step, or None where the answers are not two for each.

    Args:
        answers: of the denoiser since the step before: one of twice the batch, or two; others are passed over.
        sample: what the scheduler's step is given, ``(batch, ...)``; an answer's further channels or tokens are cut.

    Returns:
        float32, shaped like ``sample``.
    """
    each = [_tensor(answer) for answer in answers]
    doubled = [one for one in each if len(one) == 2 * len(sample)]
    pair = doubled[-1].chunk(2) if doubled else tuple(one for one in each if len(one) == len(sample))
    if len(pair) != 2:
        return None
    one, other = (part[:, : sample.shape[1]].float() for part in pair)
    return one - other if one.shape == other.shape == sample.shape else None


def _listen(network: nn.Module, answers: list[Any]) -> Callable[[], Any]:
    """Have each answer put into the list; call what is returned to end it."""
    compiled = network._compiled_call_impl
    if compiled is None:
        return network.register_forward_hook(lambda module, given, output: answers.append(output)).remove

    def call(*args: Any, **kwargs: Any) -> Any:  # a hook would be compiled too, or passed over
        answers.append(output := compiled(*args, **kwargs))
        return output

    network._compiled_call_impl = call
    return partial(setattr, network, "_compiled_call_impl", compiled)


def _tensor(answer: Any) -> Tensor:
    """The prediction in what a denoiser returns: a tuple, an output of diffusers, or a list of images as Z-Image's."""
    first = answer if isinstance(answer, Tensor) else answer[0]
    return first if isinstance(first, Tensor) else torch.stack([*first]).squeeze(2)
