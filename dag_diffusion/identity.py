"""Which model this is: an exact digest of its weights, and a sketch that knows it again in another precision.

    sketch of a matrix w = <w, r> / |w|,   r_i = sqrt(2) cos(i^2)

Any change of a weight changes the digest.  The sketch has a standard normal number for each matrix: rounding to half
precision moves it by some thousandths, another matrix, such as that of a new head, by about one.  Only the first
weights of each matrix count, so that it can be taken before every call.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

PROJECTED = 4096  # weights of each matrix that the sketch looks at
TOLERANCE = 0.05  # of a number of the sketch: far more than rounding to half precision, far less than another matrix


@torch.no_grad()
def digest_of(model: nn.Module) -> str:
    """Hexadecimal digest of the names, dtypes, shapes and bytes of all weights and buffers, on whatever device."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@torch.no_grad()
def sketch_of(model: nn.Module) -> list[float]:
    """One number for each weight matrix, in the order of the parameters; see the module."""
    return [_projected(parameter) for parameter in model.parameters() if parameter.ndim > 1]


def is_same_model(sketch: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two sketches are of one model, perhaps in another precision."""
    return len(sketch) == len(other) > 0 and all(
        abs(one - two) <= TOLERANCE for one, two in zip(sketch, other, strict=True)
    )


def _projected(matrix: Tensor) -> float:
    weights = matrix.flatten()[:PROJECTED].double().cpu()
    direction = 2**0.5 * torch.arange(len(weights), dtype=torch.float64).square().cos()
    return round(float(weights @ direction / weights.norm().clamp(min=1e-12)), 4)
