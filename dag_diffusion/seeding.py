"""Weights that a library draws from torch's own generator, so that they follow from a seed alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator of the CPU for a while; then it is as it was, and those of accelerators never change."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed accelerators too, and for good
        yield
