"""A training of a second, and what may happen to it in a process of its own."""

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from disks import may_mount
from killed import count_events
from safetensors.torch import save_file
from tiny import tiny_vae
from torch import nn
from warm import join_others

from dag_diffusion import read_pool
from dag_diffusion.identity import digest_of
from dag_diffusion.processes import FailedElsewhereError, StoppedError, gather
from dag_diffusion.training.batches import Batch
from dag_diffusion.training.classifiers import train_classifier
from dag_diffusion.training.generators import GeneratorConfig, train_generator
from dag_diffusion.training.generators.latents import encode_images
from dag_diffusion.training.loop import LoopConfig, fit

CONFIG = LoopConfig(steps=12, batch_size=5, learning_rate=0.05, checkpoint_seconds=0, average_width=0.2)
INPUTS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))


class StoppedHereError(Exception):
    pass


def network() -> nn.Module:
    """With what makes resuming hard: units that drop out, and statistics that are no parameters."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    clean = INPUTS[batch.indices]
    return (model(clean + batch.normal("noise", 3)) - clean).square().mean()


def trained(folder: Path, config: LoopConfig = CONFIG, *, stop_after: int | None = None, **options) -> nn.Module:
    def tell(stage: str, done: int, total: int) -> None:
        if done == stop_after:
            raise StoppedHereError

    return fit(network(), loss, len(INPUTS), folder, config, progress=tell, **options)


def train_until_killed(folder: Path, kill_at: int) -> None:
    count_events(folder, kill_at)
    trained(folder)


def fill_up(filler: BinaryIO, stage: str, done: int, total: int) -> None:
    with suppress(OSError):
        while done == 5:
            filler.write(bytes(4096))


def train_on_full_disk(folder: Path, result: Path) -> None:
    """Fill a disk while training, make room, and go on; ``result`` gets what was said and the weights."""
    may_mount()
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "none", disk], check=True)
    try:
        with (disk / "filler").open("wb", buffering=0) as filler:
            fit(network(), loss, len(INPUTS), disk / "run", CONFIG, progress=partial(fill_up, filler))
    except OSError as error:
        (result / "told").write_text(str(error))
    subprocess.run(["mount", "-o", "remount,size=9m", disk], check=True)
    save_file(trained(disk / "run").state_dict(), result / "weights.safetensors")


def train_with_others(folder: Path, rank: int, processes: int, port: int) -> None:
    """A layer without statistics or dropout, whose weights do not depend on how many processes there are."""
    join_others(rank, processes, port)
    model = plainly_trained(folder / "run", seed=rank)
    save_file(model.state_dict(), folder / f"{rank}.safetensors")


def plainly_trained(folder: Path, *, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return fit(nn.Linear(3, 3), loss, len(INPUTS), folder, replace(CONFIG, precision="float32"))


def train_where_only_the_first_sees_the_checkpoint(folder: Path, rank: int, processes: int, port: int) -> None:
    """As on two machines whose disk shows the second nothing yet; say how it ended, and what is done next."""
    join_others(rank, processes, port)
    try:
        fit(nn.Linear(3, 3), loss, len(INPUTS), folder / f"run-{rank}", CONFIG)
        told = "trained"
    except (ValueError, FailedElsewhereError) as error:
        told = f"{type(error).__name__}: {error}"
    (folder / f"{rank}.txt").write_text(f"{told}, then {gather(rank)}")


def train_generator_with_others(folder: Path, rank: int, processes: int, port: int) -> None:
    """Where all but the first process fail if they read the images for a digest; then load what is finished."""
    join_others(rank, processes, port)
    if rank:
        pytest.MonkeyPatch().setattr("dag_diffusion.training.generators.training.digest_of_images", None)
    config = GeneratorConfig(steps=1, vae_steps=1, width=64, depth=1, batch_size=4, sample_grids=0, precision="float32")
    for _ in range(2):
        pipeline = train_generator(folder / "images", folder / "generator", config, device="cpu")
    (folder / f"{rank}.txt").write_text(f"{digest_of(pipeline.transformer)} {pipeline.vae.config.scaling_factor}")


def encode_until_stopped(folder: Path, rank: int, processes: int, port: int) -> None:
    """Encode images two at a time until the first process is told to stop; say how it ended."""
    join_others(rank, processes, port)
    pytest.MonkeyPatch().setattr("dag_diffusion.training.generators.latents.SHARD", 2)

    def ask_to_stop(stage: str, done: int, total: int) -> None:
        if done:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        pool = read_pool(folder / "images")
        encode_images(tiny_vae(), pool, folder / "run", size=16, flip=False, images="", progress=ask_to_stop)
    except StoppedError as stopped:
        (folder / f"{rank}.txt").write_text(str(stopped))


TRAININGS = {
    "loop": lambda folder: plainly_trained(folder / "run"),
    "generator": lambda folder: train_generator(folder / "images", folder / "run"),
    "classifier": lambda folder: train_classifier(folder / "images", folder / "run"),
}


def train_where_another_run_works(folder: Path, rank: int, processes: int, port: int, training: str) -> None:
    """Be refused, say how, and go on with what every process does next."""
    join_others(rank, processes, port)
    try:
        TRAININGS[training](folder)
    except (FileExistsError, FailedElsewhereError) as error:
        (folder / f"{rank}.txt").write_text(f"{type(error).__name__}, then {gather(rank)}")
