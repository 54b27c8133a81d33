"""What a library draws from torch's own generator, such as weights and dropout, follows from a seed alone."""

import operator
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def as_seed(seed: Any) -> int:
    """A random seed as Python's whole number, which it may be of numpy or torch too; ValueError for anything else."""
    try:
        return operator.index(seed)
    except TypeError as error:
        raise ValueError(f"seed is {seed!r}; give a whole number of at least 0, such as 0") from error


def as_numpy_seed(seed: Any) -> int:
    """``as_seed`` for numpy, which takes none below 0."""
    if (found := as_seed(seed)) < 0:
        raise ValueError(f"seed is {seed}; give a whole number of at least 0")
    return found


@contextmanager
def seeded(seed: int, device: "str | torch.device" = "cpu") -> Iterator[None]:
    """Seed torch's generators of the CPU and of ``device``, if that is a GPU, for a while; then they are as they were.

    Those of other devices never change.
    """
    import torch

    seed, gpu = as_seed(seed), torch.device(device).type == "cuda"
    with ExitStack() as leaving:
        if gpu:
            leaving.enter_context(torch.cuda.device(device))  # which the state and the seed below are of
        leaving.enter_context(torch.random.fork_rng(devices=[torch.cuda.current_device()] if gpu else []))
        seed_own(seed, device if gpu else "cpu")
        yield


def seed_own(seed: int, device: "str | torch.device") -> None:
    """Seed torch's generators of the CPU and of a device, and of no other."""
    import torch

    kind = torch.device(device).type
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed all accelerators too, and for good
    if kind == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif kind != "cpu":
        torch.get_device_module(kind).manual_seed(seed)
