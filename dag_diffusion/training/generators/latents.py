"""Latents of all images, encoded once, in safetensors shards; those that an earlier run has written are kept.

    FOLDER/latents-0000256.safetensors    from image 256 on: (images, views, channels, height, width) float16, scaled

View 1 is mirrored.  A shard is what a process encodes at a time, so that none waits long and a kill costs little.

A loop that encodes in every step spends 70 % of its time on that.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from dag_diffusion.data.files import differences, recorded
from dag_diffusion.data.pools import Pool
from dag_diffusion.evaluation.labelled_images import load_labelled_images
from dag_diffusion.identity import digest_of
from dag_diffusion.pipelines.latents import encoded
from dag_diffusion.processes import StoppedError, gather, stop_signal
from dag_diffusion.progress import Progress
from dag_diffusion.training.checkpoints import read_record, read_tensors, write_tensors
from dag_diffusion.turns import Turns

from .vae import as_input, at_once

SHARD, EARLIER_SHARD = 256, 4096  # images in a file, and in one of earlier versions, which were numbered


class Latents:
    """All of them, read from their files when asked for."""

    def __init__(self, shards: Sequence[Tensor]) -> None:
        self._shards = list(shards)
        self._starts = list(accumulate(map(len, shards), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def shape(self) -> torch.Size:
        """Channels, height and width of one."""
        return self._shards[0].shape[2:]

    def rows(self, indices: Tensor, mirrored: Tensor | None = None) -> Tensor:
        """``(n, channels, height, width)`` float32 on the CPU.

        Args:
            indices: ``(n,)`` int64.
            mirrored: ``(n,)`` bool, those to take mirrored; None: none.
        """
        views = torch.zeros_like(indices) if mirrored is None else mirrored.long()
        places = zip(indices.tolist(), views.tolist(), strict=True)
        # single precision before they are stacked, which autocast on a CPU refuses to do in half
        return torch.stack([self._row(index)[view].float() for index, view in places])

    def _row(self, index: int) -> Tensor:
        shard = bisect_right(self._starts, index) - 1
        return self._shards[shard][index - self._starts[shard]]


def encode_images(
    vae: AutoencoderKL,
    pool: Pool,
    folder: Path,
    *,
    size: int,
    flip: bool,
    images: str,
    progress: Progress | None = None,
) -> Latents:
    """Latents of every image of a pool, in the order of its rows: means of the VAE's posterior times its scale.

    Under ``accelerate launch`` every process has to call it; they share the shards, and each gets all.

    Args:
        size: side that images are brought to.
        flip: encode mirrored images too.
        images: digest of the images, see ``data.pools.digest_of_images``.

    Raises:
        ValueError: the folder holds latents of other images, of another VAE or size; or the VAE makes none of these.
        StoppedError: SIGTERM came; what is encoded is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = recorded({"images": images, "vae": digest_of(vae), "scale": vae.config.scaling_factor, "size": size})
    record |= {"mirrored": flip}
    shards = gather(list(_shards(folder, len(pool))))[0]
    turns, encoded_here = Turns("latents", len(pool), progress), 0
    with stop_signal() as asked, turns.together():
        for rows, path in turns.take(shards, 1, asked):
            if path.exists():
                _require_same(path, record)
            else:
                write_tensors(path, {"latents": torch.cat(list(_encoded(vae, pool.select(rows), size, flip)))}, record)
            encoded_here += len(rows)
            turns.report(len(rows))
    stopped, counts = zip(*gather((asked.is_set(), encoded_here)), strict=True)  # and all are written
    if any(stopped):
        left = len(pool) - sum(counts)
        raise StoppedError(f"stopped as asked with {left} of {len(pool)} latents to come; the same call goes on there")
    return Latents([read_tensors(path).tensors["latents"] for _, path in shards])


def _shards(folder: Path, count: int) -> Iterator[tuple[range, Path]]:
    """Which images come into which file; large files of an earlier version, where it has left any, are kept."""
    for begin in range(0, count, EARLIER_SHARD):
        rows, earlier = range(begin, min(begin + EARLIER_SHARD, count)), begin // EARLIER_SHARD
        if (path := folder / f"latents-{earlier:05d}.safetensors").exists():
            yield rows, path
        else:
            for first in rows[::SHARD]:
                yield range(first, min(first + SHARD, rows.stop)), folder / f"latents-{first:07d}.safetensors"


@torch.no_grad()
def _encoded(vae: AutoencoderKL, pool: Pool, size: int, flip: bool) -> Iterator[Tensor]:
    """``(n, views, channels, height, width)`` float16, a batch at a time."""
    device, batch = next(vae.parameters()).device, at_once(size)
    for first in range(0, len(pool), batch):
        part = pool.select(range(first, min(first + batch, len(pool))))
        loaded = load_labelled_images(part, size=(size, size), channels=vae.config.in_channels)
        inputs = as_input(torch.as_tensor(loaded.images), device)
        views = [inputs, inputs.flip(3)] if flip else [inputs]
        found = torch.stack([encoded(vae, view, scaled_only=True) for view in views], 1).half().cpu()
        if not found.isfinite().all():
            raise ValueError(
                f"the VAE makes latents of {part.rows[0]['file_name']} or images near it that are no numbers; give "
                "another vae, or leave it out to train one"
            )
        yield found


def _require_same(path: Path, record: dict[str, Any]) -> None:
    if found := list(differences(read_record(path), record)):
        raise ValueError(
            f"{path.parent} holds latents of other images or another VAE: {'; '.join(found)}; remove that folder"
        )
