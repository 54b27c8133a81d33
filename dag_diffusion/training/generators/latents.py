"""Latents of all images, encoded once, in safetensors shards; those that an earlier run has written are kept.

    FOLDER/latents-00000.safetensors: (images, views, channels, height, width) float16, scaled; view 1 is mirrored

A loop that encodes in every step spends 70 % of its time on that.
"""

from collections.abc import Iterator, Sequence
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
from dag_diffusion.processes import gather
from dag_diffusion.progress import Progress
from dag_diffusion.training.checkpoints import read_record, read_tensors, write_tensors
from dag_diffusion.turns import Turns

from .vae import as_input, at_once

SHARD = 4096  # images in a file


class Latents:
    """All of them, read from their files when asked for."""

    def __init__(self, shards: Sequence[Tensor]) -> None:
        self._shards = list(shards)
        self._size = len(shards[0])

    def __len__(self) -> int:
        return sum(map(len, self._shards))

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
        return torch.stack([self._shards[i // self._size][i % self._size, view].float() for i, view in places])


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
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = recorded({"images": images, "vae": digest_of(vae), "scale": vae.config.scaling_factor, "size": size})
    record |= {"mirrored": flip}
    names = {first: folder / f"latents-{first // SHARD:05d}.safetensors" for first in range(0, len(pool), SHARD)}
    turns = Turns("latents", len(pool), progress)
    with turns.together():
        for first in turns.take(list(names), 1):
            rows = range(first, min(first + SHARD, len(pool)))
            if names[first].exists():
                _require_same(names[first], record)
            else:
                found = torch.cat(list(_encoded(vae, pool.select(rows), size, flip)))
                write_tensors(names[first], {"latents": found}, record)
            turns.report(len(rows))
    gather(None)  # all are written
    return Latents([read_tensors(path).tensors["latents"] for path in names.values()])


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
