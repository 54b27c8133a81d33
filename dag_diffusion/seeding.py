"""What a library draws from torch's own generator, such as weights and dropout, follows from a seed alone."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def seeded(seed: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Seed torch's generators of the CPU and of ``device``, if that is a GPU, for a while; then they are as they were.

    Those of other devices never change.
    """
    gpu = torch.device(device).type == "cuda"
    with ExitStack() as leaving:
        if gpu:
            leaving.enter_context(torch.cuda.device(device))  # which the state and the seed below are of
        leaving.enter_context(torch.random.fork_rng(devices=[torch.cuda.current_device()] if gpu else []))
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed all accelerators too, and for good
        if gpu:
            torch.cuda.manual_seed(seed)
        yield
