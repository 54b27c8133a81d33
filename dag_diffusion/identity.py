"""Which model this is: an exact digest of its weights, and a sketch that knows it again in another precision.

    sketch of a matrix w = <w, r> / |w|, ln |w|,   r_i = sqrt(2) cos(i^2)

Any change of a weight changes the digest.  The sketch has two numbers for each matrix, of which the first is standard
normal: rounding to half precision moves them by some thousandths, another matrix, such as that of a new head, by about
one.  Only the first weights of each matrix count, so that it can be taken before every call.
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
    """Two numbers for each weight matrix, in the order of the parameters; see the module."""
    matrices = [matrix.flatten()[:PROJECTED].float() for matrix in model.parameters() if matrix.ndim > 1]
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


def _projected(weights: Tensor, direction: Tensor) -> Tensor:
    norm = weights.norm().clamp(min=1e-12)
    return torch.stack([weights @ direction / norm, norm.log()])
