"""Networks compiled for the processor at hand, where there is enough work to pay for compiling.

    work = FLOP of an image's logits * (3 * images trained on + images tested)

Norm, ReLU and pooling become one pass over memory each.  Compiling takes ten seconds to a minute, so that one quick
training is never worth it.  The work of a whole evaluation decides, not a clock: its processes, and a run that goes on
with it, compile alike and round alike.
"""

import copy
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

logger = logging.getLogger(__name__)
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it misses a GPU that nobody asked for
Forward = Callable[[nn.Module, Tensor], Tensor]  # (network, images) -> logits
NETWORKS = 64  # compiled ones that are kept, each for training and for testing
PAYING = 5e12  # FLOP, some 50 s of a core; what compiling saves of them is what it takes


def plain(network: nn.Module, images: Tensor) -> Tensor:
    """The network's logits, as it is."""
    return network(images)


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Let convolutions and linear layers compute in ``float32`` or ``bfloat16`` while the context lasts."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def flop_of(network: nn.Module, image: Tensor) -> int:
    """Floating-point operations of the logits of one image, ``(1, channels, height, width)``; nothing is computed."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(network).to("meta").eval()(image.to("meta"))
    return counter.get_total_flops()


def _flop_if_known(network: nn.Module, image: Tensor) -> int:
    try:
        return flop_of(network, image)
    except RuntimeError:  # a network that has to see values, which are not there while nothing is computed
        return 0


def forward_for(network: nn.Module, images: Tensor, precision: str, *, trained: int, tested: int) -> Forward:
    """The faster of ``plain`` and a compiled one for so much work; networks of the same build share what is compiled.

    Args:
        network: left as it is.
        images: a few, ``(2 or more, channels, height, width)`` on the device of the work.
        precision: ``float32`` or ``bfloat16``, in which it will compute.
        trained, tested: passes of images in all.
    """
    if images.device.type != "cpu" or _flop_if_known(network, images[:1]) * (3 * trained + tested) < PAYING:
        return plain
    torch._dynamo.config.recompile_limit = NETWORKS  # beyond which it would go on without compiling
    compiled = torch.compile(plain)

    def forward(network: nn.Module, images: Tensor) -> Tensor:
        if len(images) < 2:  # a size of its own to the compiler
            return network(images)
        torch._dynamo.mark_dynamic(images, 0)
        return compiled(network, images)

    try:
        with computing_in(precision, images.device):
            forward(copy.deepcopy(network).train(), images).sum().backward()
            with torch.inference_mode():
                forward(copy.deepcopy(network).eval(), images.clone())
    except RuntimeError as error:  # no C++ compiler, or a network that cannot be compiled
        logger.info("going on without compiling: %s", str(error).strip().split("\n")[0])
        return plain
    return forward
