"""Which model this is: an exact digest of its weights, and a sketch that knows it again in another precision.

    sketch of a matrix w = <w, r> / |w|, ln |w|,   r_i = sqrt(2) cos(i^2)

Any change of a weight changes the digest.  The sketch has two numbers for each matrix, of which the first is standard
normal: rounding to half precision moves them by some thousandths, another matrix, such as that of a new head, by about
one.  Only the first weights of each matrix count, so that it can be taken before every call.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from typing import Any

import torch
from torch import Tensor, nn

PROJECTED = 4096  # weights of each matrix that the sketch looks at
# what lies in every module, or in one of transformers by where and how it was loaded
NO_SETTINGS = {*vars(nn.Module()), "name_or_path", "_is_hf_initialized", "_use_kernels", "_weight_conversions"}
TOLERANCE = 0.05  # of a number of the sketch: far more than rounding to half precision, far less than another matrix


@torch.no_grad()
def digest_of(model: nn.Module) -> str:
    """Hexadecimal digest of the names, dtypes, shapes and bytes of all weights and buffers, on whatever device."""
    return digest_of_values(_at_hand(model, model.state_dict()).items())


@torch.no_grad()
def full_digest_of(model: nn.Module) -> str:
    """As ``digest_of``, and of what a network computes by but does not save.

    That is buffers that are not persistent, and plain tensors, numbers and texts that its modules have as attributes.
    """
    unsaved = {
        f"{place}.{name}": value
        for place, module in model.named_modules()
        for name, value in (vars(module) | dict(module.named_buffers(recurse=False))).items()
        if name not in NO_SETTINGS and (isinstance(value, Tensor) or is_plain(value))
    }
    return digest_of_values([*_at_hand(model, model.state_dict()).items(), *sorted(unsaved.items())])


def digest_of_values(parts: Iterable[tuple[str, Any]]) -> str:
    """Hexadecimal digest of names with tensors, by their bytes on whatever device, or plain values."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in parts:
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            numbers: Any = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
            digest.update(numbers)
        else:
            digest.update(f"{name} {value!r}".encode())
    return digest.hexdigest()


def is_plain(value: Any) -> bool:
    """Whether a value says something by itself; an empty collection may be a cache, which the first call fills."""
    if isinstance(value, Mapping | list | tuple):
        members = value.values() if isinstance(value, Mapping) else value
        return bool(value) and all(map(is_plain, members))
    return isinstance(value, str | Number)


@torch.no_grad()
def sketch_of(model: nn.Module) -> list[float]:
    """Two numbers for each weight matrix, in the order of the parameters; see the module."""
    weights = _at_hand(model, dict(model.named_parameters())).values()
    matrices = [matrix.flatten()[:PROJECTED].float() for matrix in weights if matrix.ndim > 1]
    if not matrices:
        return []
    direction = 2**0.5 * torch.arange(PROJECTED, dtype=torch.float64).square().cos().float().to(matrices[0].device)
    numbers = [_projected(matrix, direction[: len(matrix)].to(matrix.device)) for matrix in matrices]
    found = torch.stack([one.to(direction.device) for one in numbers]).cpu()  # one wait for the device, not hundreds
    return [round(number, 4) for number in found.flatten().tolist()]


def is_same_model(sketch: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two sketches are of one model, perhaps in another precision."""
    return len(sketch) == len(other) > 0 and all(
        abs(one - two) <= TOLERANCE for one, two in zip(sketch, other, strict=True)
    )


def _at_hand(model: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Tensors of a model by name, read from where accelerate has offloaded them if it has."""

    def read(name: str) -> Tensor:  # accelerate's own way to do so fails at tensors of the outermost module
        place, _, own = name.rpartition(".")
        hook = getattr(model.get_submodule(place), "_hf_hook", None)
        maps = (getattr(one, "weights_map", None) for one in getattr(hook, "hooks", (hook,)))
        return next(found for found in maps if found is not None)[own]

    return {name: read(name) if getattr(tensor, "is_meta", False) else tensor for name, tensor in tensors.items()}


def _projected(weights: Tensor, direction: Tensor) -> Tensor:
    norm = weights.norm().clamp(min=1e-12)
    return torch.stack([weights @ direction / norm, norm.log()])
