"""Which images a training step sees and what it draws, known from (seed, step) alone.

    epochs = permutations by (seed, epoch), in a row;   step s sees places s * batch .. (s + 1) * batch of that row
    noise, timesteps, ... = for the whole batch by a generator of (seed, step), of which each share takes its rows

So a killed run goes on as if nothing had happened, and a batch is the same however processes share it.
"""

from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from dag_diffusion.seeding import seed_own

ORDER, STEP, SHARE = range(3)  # streams of random numbers that share none


def stream(seed: int, *place: int) -> torch.Generator:
    """A generator on the CPU for one place in a run."""
    word = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word >> np.uint64(1)))


class Order:
    """The order in which ``count`` images are seen, epoch after epoch; every image once in each."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self._epochs: dict[int, Tensor] = {}

    def __call__(self, step: int) -> Tensor:
        """Images of a step, ``(batch_size,)`` int64; a batch may reach into the next epoch."""
        places = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        first, last = int(places[0]) // self.count, int(places[-1]) // self.count
        self._epochs = {epoch: self._epoch(epoch) for epoch in range(first, last + 1)}
        return torch.cat([self._epochs[epoch] for epoch in self._epochs])[places - first * self.count]

    def _epoch(self, epoch: int) -> Tensor:
        known = self._epochs.get(epoch)
        return torch.randperm(self.count, generator=stream(self.seed, ORDER, epoch)) if known is None else known


@dataclass(frozen=True, eq=False)
class Batch:
    """The share of a step's batch that is computed at once, and all that may be drawn for it.

    Attributes:
        every: ``(batch_size,)`` int64, indices of the whole batch, on the CPU.
        rows: which of them are this share.
        step: 0 for the first.
        seed: of the run.
        device: where drawn tensors go.
    """

    every: Tensor
    rows: slice
    step: int
    seed: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def indices(self) -> Tensor:
        """``(n,)`` int64, images of this share, on the CPU."""
        return self.every[self.rows]

    def generator(self, name: str) -> torch.Generator:
        """A generator of the step, the same in every share, for what is drawn for ``every`` image of the batch.

        Args:
            name: of what is drawn, such as ``"noise"``; the same name draws the same, another name something else.
        """
        return stream(self.seed, STEP, self.step, crc32(name.encode()))

    def normal(self, name: str, *shape: int) -> Tensor:
        """``(n, *shape)`` float32 on the device, normally distributed."""
        return self._share(torch.randn(len(self.every), *shape, generator=self.generator(name)))

    def uniform(self, name: str, *shape: int) -> Tensor:
        """``(n, *shape)`` float32 in [0, 1) on the device."""
        return self._share(torch.rand(len(self.every), *shape, generator=self.generator(name)))

    def integers(self, name: str, end: int, *shape: int) -> Tensor:
        """``(n, *shape)`` int64 in [0, end) on the device."""
        return self._share(torch.randint(end, (len(self.every), *shape), generator=self.generator(name)))

    def seed_layers(self) -> None:
        """Seed torch's own generators of the CPU and the device, which dropout draws from, for this share.

        Those of other devices never change, and a GPU is not asked for where training is on the CPU.
        """
        seed_own(stream(self.seed, SHARE, self.step, self.rows.start).initial_seed(), self.device)

    def _share(self, drawn: Tensor) -> Tensor:
        return drawn[self.rows].to(self.device, non_blocking=True)


def shares(batch_size: int, processes: int, parts: int, process: int) -> list[slice]:
    """Rows of a batch that one of several processes computes, in so many parts; sizes differ by one at most.

    Raises:
        ValueError: there are fewer images than parts.
    """
    if batch_size < processes * parts:
        raise ValueError(
            f"a batch of {batch_size} images cannot be divided among {processes} processes in accumulation={parts} "
            "parts each; give a larger batch_size or fewer of them"
        )
    ends = np.linspace(0, batch_size, processes * parts + 1).astype(int).tolist()
    spans = [slice(start, end) for start, end in pairwise(ends)]
    return spans[process * parts : (process + 1) * parts]
