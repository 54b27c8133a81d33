"""Batch norm by the statistics of a whole batch, of which several processes have a share each.

    mean = sum_p sum_i x_i / n,   var = sum_p sum_i (x_i - mean)^2 / n        over all processes p, with gradients

So a network is trained alike by any number of processes.  ``torch.nn.SyncBatchNorm`` does this on GPUs alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dag_diffusion.processes import others_there, this_process


class _Sum(torch.autograd.Function):
    """A tensor summed over all processes; and so is its gradient, since each of them uses the sum."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        with others_there():
            distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(context, gradient)


def _summed(values: Tensor) -> Tensor:
    return _Sum.apply(values)


class _Shared:
    """What a norm is made of besides its own class while several processes train it."""

    def forward(self: Any, images: Tensor) -> Tensor:
        """Images ``(batch, channels, ...)``, of which other processes have the rest."""
        if not self.training:
            return super().forward(images)  # type: ignore[misc] # of the norm
        values, inner = images.float(), [0, *range(2, images.ndim)]
        count = _summed(values.new_tensor(values.numel() / values.shape[1]))
        mean = _summed(values.sum(inner)) / count
        shape = [1, -1, *[1] * (images.ndim - 2)]
        centred = values - mean.view(shape)
        variance = _summed(centred.square().sum(inner)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        normed = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normed = normed * self.weight.view(shape) + self.bias.view(shape)
        normed = normed.to(images.dtype)
        return self.act(self.drop(normed)) if hasattr(self, "drop") else normed  # timm's have an activation

    @torch.no_grad()
    def _remember(self: Any, mean: Tensor, variance: Tensor) -> None:
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance, momentum)


@contextmanager
def shared_norms(model: nn.Module) -> Iterator[None]:
    """Let a network's batch norms see the whole batch while several processes train it; with one nothing changes."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)] if this_process().num_processes > 1 else []
    own = [type(norm) for norm in norms]
    for norm, kind in zip(norms, own, strict=True):
        norm.__class__ = type(f"Shared{kind.__name__}", (_Shared, kind), {})
    try:
        yield
    finally:
        for norm, kind in zip(norms, own, strict=True):
            norm.__class__ = kind
