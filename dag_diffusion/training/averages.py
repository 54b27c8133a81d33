"""A running average of weights whose memory grows with the run, so that it suits short and long ones alike.

    average_t = (1 - 1/t)^(1 + g) * average_(t-1) + (1 - (1 - 1/t)^(1 + g)) * weights_t

The power-function average of Karras et al. (2024).  ``width`` is the deviation of the steps that it remembers, as a
share of the run, and g solves width^2 (g + 2)^2 (g + 3) = g + 1.  Kept in float32: half precision loses such small
changes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

WIDEST = 0.28  # at 12 ** -0.5 every step of the run would count alike


def exponent_of(width: float) -> float:
    """g of the equation above, for a width in (0, ``WIDEST``]."""
    return float(np.roots([1, 7, 16 - width**-2, 12 - width**-2]).real.max())


class Average:
    """The average of a model's trained weights and of its buffers; weights that are frozen are left out.

    Args:
        width: share of the run that the average looks back, in (0, ``WIDEST``]; 0 follows the weights as they are.
    """

    def __init__(self, model: nn.Module, width: float) -> None:
        self._live = {name: tensor for name, tensor in changing(model).items() if tensor.is_floating_point()}
        self._power = 1 + exponent_of(width) if width else None
        self.values = {} if self._power is None else {name: _copy(tensor) for name, tensor in self._live.items()}

    def update(self, step: int) -> None:
        """Take in the weights after a step, 1 for the first."""
        if self._power is not None:
            decay = (1 - 1 / step) ** self._power
            live = [tensor.detach().float() for tensor in self._live.values()]
            get_ema_multi_avg_fn(decay)(list(self.values.values()), live, None)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from the values of an earlier average of the same model."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Give the model the averaged weights."""
        for name, value in self.values.items():
            self._live[name].copy_(value)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Let the model have the averaged weights for a while."""
        kept = {name: self._live[name].detach().clone() for name in self.values}
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in kept.items():
                    self._live[name].copy_(tensor)


def changing(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters that are not frozen, and buffers that are saved; tied ones once."""
    saved = model.state_dict().keys()
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    return weights | {name: buffer for name, buffer in model.named_buffers() if name in saved}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().float().clone()
