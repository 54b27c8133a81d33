"""Logits of a teacher in a byte each: the largest of a row one by one, and all others of it as one number.

    code = round((z_1 - z) / step),   step = (z_1 - z_k) / 255,   z_1 >= ... >= z_k the logits that are kept
    rest = z_1 - log mean exp(others)

Softmax does not change when a constant is added to a row, so that only distances to the largest are kept.  Every other
class gets the logit ``-rest``, with which the others keep together what they had at a temperature of 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

LEVELS = 255  # of a code


@dataclass(frozen=True, eq=False)
class CompressedLogits:
    """Logits of many rows, to within half a step of each.

    Attributes:
        codes: ``(..., top_k)`` uint8, distances to the largest logit of the row, in steps.
        step: ``(...)`` float16.
        classes: how many there are.
        columns: ``(..., top_k)`` the class of each code; None where all are kept, in their order.
        rest: ``(...)`` float16; None where all are kept.
    """

    codes: Tensor
    step: Tensor
    classes: int
    columns: Tensor | None = None
    rest: Tensor | None = None

    @property
    def top_k(self) -> int:
        """How many logits of each row are kept."""
        return self.codes.shape[-1]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is to be stored, by name."""
        stored = {"codes": self.codes, "step": self.step, "columns": self.columns, "rest": self.rest}
        return {name: tensor for name, tensor in stored.items() if tensor is not None}

    def __getitem__(self, row: int | slice) -> "CompressedLogits":
        return self.of({name: tensor[row] for name, tensor in self.tensors.items()})

    def of(self, tensors: Mapping[str, Tensor]) -> "CompressedLogits":
        """Other rows of the same build, from what is stored of them."""
        return CompressedLogits(
            tensors["codes"], tensors["step"], self.classes, tensors.get("columns"), tensors.get("rest")
        )

    def decoded(self) -> Tensor:
        """``(..., classes)`` float32, of which the largest of each row is 0."""
        near = -self.codes.float() * self.step.float()[..., None]
        if self.columns is None or self.rest is None:
            return near
        far = -self.rest.float()[..., None].expand(*self.rest.shape, self.classes)
        return far.scatter(-1, self.columns.long(), near)

    def probabilities(self, temperature: float = 1.0) -> Tensor:
        """``(..., classes)`` float32, each row with sum 1."""
        return (self.decoded() / temperature).softmax(-1)

    def in_order(self, order: Tensor) -> "CompressedLogits":
        """The same with class ``order[i]`` as class ``i``."""
        if self.columns is None:
            return replace(self, codes=self.codes[..., order])
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        return replace(self, columns=place[self.columns.long()].to(self.columns.dtype))


def compress(logits: Tensor, top_k: int) -> CompressedLogits:
    """Keep the ``top_k`` largest logits of each row.

    Args:
        logits: ``(..., classes)`` finite.

    Raises:
        ValueError: ``top_k`` is below 1 or above the number of classes.
    """
    classes = logits.shape[-1]
    require_top_k(top_k, classes)
    values, columns = logits.float().topk(top_k, -1)
    largest, smallest = values[..., :1], values[..., -1:]
    step = ((largest - smallest) / LEVELS).half()
    kept = values if top_k < classes else logits.float()
    # a row of equal logits has no steps, and one far from any classifier's more than float16 holds
    codes = ((largest - kept) / step.float().clamp(min=1e-12)).round().clamp(0, LEVELS).to(torch.uint8)
    if top_k == classes:
        return CompressedLogits(codes, step[..., 0], classes)
    others = logits.float().scatter(-1, columns, -math.inf).logsumexp(-1) - math.log(classes - top_k)
    rest = (largest[..., 0] - others).half()
    return CompressedLogits(codes, step[..., 0], classes, columns.to(_smallest_integer(classes)), rest)


def require_top_k(top_k: int, classes: int) -> None:
    """ValueError for a number of logits that cannot be kept of so many classes."""
    if not 1 <= top_k <= classes:
        raise ValueError(
            f"top_k={top_k} does not fit a set of {classes} classes, of whose logits a label keeps from 1 "
            f"to {classes}; give such a number, or leave it out"
        )


def joined(parts: list[CompressedLogits]) -> CompressedLogits:
    """Parts of one build after each other."""
    names = parts[0].tensors
    return parts[0].of({name: torch.cat([part.tensors[name] for part in parts]) for name in names})


def _smallest_integer(classes: int) -> torch.dtype:
    if classes <= 1 << 8:
        return torch.uint8
    return torch.int16 if classes <= 1 << 15 else torch.int32
