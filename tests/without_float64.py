"""A device without float64, as Apple's mps is, played by the CPU."""

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


class WithoutFloat64(TorchFunctionMode):
    """Refuses ``double()`` of a tensor that has not come from the device by ``cpu()``, nor from one that has."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        here = any(getattr(one, "is_here", False) for one in tree_leaves((args, kwargs)))
        if func is Tensor.double and not here:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        found = func(*args, **kwargs or {})
        if isinstance(found, torch.Tensor) and (here or func is Tensor.cpu):
            found.is_here = True
        return found
