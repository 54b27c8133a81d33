"""Where a training stands, in one safetensors file that is whole or not there: weights, average, optimiser, record.

    weight.NAME  average.NAME  exp_avg.NAME  exp_avg_sq.NAME  step.NAME  state.NAME    metadata: step, settings, losses

The optimiser's state is kept by the name of the weight, since torch's own state goes by order, in which another model
loads in silence, and brings back neither ``fused`` nor the learning rate as they were set.
"""

import errno
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dag_diffusion.data.files import LOCK, read_json_object
from dag_diffusion.data.preparing.prepared import LOOKS
from dag_diffusion.processes import is_main_process

from .averages import Average, changing

ADAM = ("exp_avg", "exp_avg_sq", "step")  # what torch keeps of each weight
NOT_BEGUN = (LOCK, LOOKS, ".*.partial")  # files of ours in a work folder in which no training was begun


def work_folder(output: str | Path) -> Path:
    """Where a training keeps what it goes on from, its losses and samples, beside what it makes."""
    return Path(f"{Path(output).resolve()}.training")


def require_own_work(work: Path, record: str) -> None:
    """Check that a training may use a work folder, in which it removes things: absent, empty, or of a training.

    Args:
        record: name of the file that a training writes there first, with its classes.

    Raises:
        FileExistsError: it holds something else.
        ValueError: that file is broken.
    """
    if not work.exists():
        return
    if work.is_dir():
        there = [one.name for one in work.iterdir() if not any(fnmatch(one.name, name) for name in NOT_BEGUN)]
        if not there or (record in there and "classes" in read_json_object(work / record)):
            return
    raise FileExistsError(
        f"{work}, where a training keeps what it goes on from, holds something else; move it, or choose another output"
    )


@contextmanager
def removed_unless_begun(work: Path, record: str) -> Iterator[None]:
    """Leave no work folder behind of a call that has looked at images, and then was refused or had nothing to train.

    Args:
        record: as of ``require_own_work``.
    """
    try:
        yield
    finally:
        if is_main_process() and not (work / record).exists():
            for looks in work.glob(LOOKS):
                looks.unlink(missing_ok=True)
            with suppress(OSError):  # it is not there, or another run works in it
                work.rmdir()


class Checkpoint(NamedTuple):
    """What was written: tensors, and a record of JSON values."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """Tensors whose names begin with ``name.``, without it."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write a safetensors file so that a kill or a full disk leaves the old one, never half of the new one.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    metadata = {"record": json.dumps(record, ensure_ascii=False, allow_nan=False)}
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)
        os.replace(partial, path)
    except SafetensorError as error:
        full = f"os error {errno.ENOSPC}" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error), str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any]:
    """The record alone of what ``write_tensors`` wrote; ValueError as ``read_tensors``."""
    return read_tensors(path, names=()).record


def read_tensors(path: Path, *, names: Collection[str] | None = None) -> Checkpoint:
    """Read what ``write_tensors`` wrote.

    Args:
        names: of the tensors to read; None: all.

    Raises:
        ValueError: it is damaged, or something else.
    """
    try:
        with safe_open(path, "pt") as file:
            record = json.loads((file.metadata() or {})["record"])
            wanted = file.keys() if names is None else names
            return Checkpoint({name: file.get_tensor(name) for name in wanted}, record)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint ({error}); remove it to begin anew") from error


def tensors_of(
    model: nn.Module, average: Average, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """All that a training needs to go on, but frozen weights."""
    weights = changing(model)
    moments = {
        f"{moment}.{name}": optimizer.state[weight][moment]
        for moment in ADAM
        for name, weight in weights.items()
        if weight in optimizer.state
    }
    parts = {"weight": weights, "average": average.values, "state": state}
    return moments | {f"{part}.{name}": tensor for part, values in parts.items() for name, tensor in values.items()}


@torch.no_grad()
def restore(saved: Checkpoint, model: nn.Module, average: Average, optimizer: torch.optim.Optimizer) -> None:
    """Put weights, average and optimiser, all in place, back to where they were.

    Raises:
        ValueError: they are those of another model.
    """
    weights, found = changing(model), saved.part("weight")
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in weights.items()}:
        raise ValueError(
            f"the checkpoint has {len(found)} weights of other names or shapes than the model's {len(weights)}; give "
            "the settings that it was begun with, or overwrite=True"
        )
    for name, weight in weights.items():
        weight.copy_(found[name])
    average.load(saved.part("average"))
    moments = {moment: saved.part(moment) for moment in ADAM}
    for name in moments["step"]:
        weight, state = weights[name], {moment: values[name] for moment, values in moments.items()}
        optimizer.state[weight] = {
            "exp_avg": torch.empty_like(weight).copy_(state["exp_avg"]),  # in the memory layout of the weight
            "exp_avg_sq": torch.empty_like(weight).copy_(state["exp_avg_sq"]),
            "step": state["step"].to(weight.device if optimizer.defaults["fused"] else "cpu"),
        }
