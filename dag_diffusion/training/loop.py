"""A training loop that a kill does not change: same weights, bit by bit, as if it had gone through at once.

    step s: rate(s) -> loss(model, batch drawn from (seed, s)) -> gradients of all shares -> clip -> AdamW -> average

Order, noise and whatever else is drawn come from (seed, step) alone, see ``batches``.  Another number of threads rounds
otherwise, as AdamW divides its work among them.  Several processes compute a share of every batch each and add their
gradients, so that they all keep the weights that one process would have, but for rounding.

    FOLDER/checkpoint.safetensors, every minute or so      FOLDER/losses.jsonl, a row every so many steps
"""

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, distributed, nn

from dag_diffusion.data.files import (
    differences,
    json_line,
    json_lines,
    locked,
    recorded,
    write_atomically,
)
from dag_diffusion.processes import StoppedError, fail_together, gather, others_there, stop_signal, this_process
from dag_diffusion.processor import computing_in, fast_precision, usual_torch
from dag_diffusion.progress import Progress

from .averages import WIDEST, Average, changing
from .batches import Batch, Order, shares
from .checkpoints import Checkpoint, read_record, read_tensors, restore, tensors_of, write_tensors
from .schedules import rate_factor

logger = logging.getLogger(__name__)
PRECISIONS = ("auto", "float32", "bfloat16")
CHECKPOINT, LOSSES = "checkpoint.safetensors", "losses.jsonl"
EXECUTION = {"accumulation", "checkpoint_seconds"}  # settings that change how it is computed, and rounding alone
LOGGED = 200  # rows of losses in a run, at most some more

Loss = Callable[[nn.Module, Batch], Tensor]


class Stateful(Protocol):
    """Something besides the model that a loss remembers from step to step, such as latents of earlier batches."""

    def state_dict(self) -> dict[str, Tensor]:
        """Its tensors by name."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> Any:
        """Go on from the tensors of an earlier run."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How weights are trained.

    Attributes:
        steps: training steps.
        batch_size: images of a step, of all processes together.
        learning_rate: peak rate of AdamW, reached after the warm-up, from where it falls to zero.
        weight_decay: decay of matrices.  Biases and norms are not decayed.
        warm_up: share of the steps in which the rate rises.
        average_width: share of the run that the average of the weights looks back.  The average is what is
            returned; 0 returns the last weights.
        precision: float32, bfloat16 (autocast, the weights stay float32), or auto: bfloat16 where the device has it.
        accumulation: parts that a batch is computed in, one after the other, to save memory.
        max_norm: gradients that are longer than this are shortened to it.
        checkpoint_seconds: between two checkpoints.
        seed: random seed of order, noise and whatever else is drawn.
    """

    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: float = 0.05
    average_width: float = 0.1
    precision: str = "auto"
    accumulation: int = 1
    max_norm: float = 1.0
    checkpoint_seconds: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, so that nothing would be trained; give at least 1")
        for name in ("learning_rate", "max_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0, such as 0.001 or 1.0")
        ranges = {"weight_decay": math.inf, "warm_up": 1.0, "average_width": WIDEST, "checkpoint_seconds": math.inf}
        for name, end in ranges.items():
            if not 0 <= getattr(self, name) < end:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below {end:g}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; give a whole number of at least 0 and below 2**63, such as 0")
        if self.precision not in PRECISIONS:
            raise ValueError(f"there is no precision {self.precision!r}; choose one of {', '.join(PRECISIONS)}")


@usual_torch()
def fit(
    model: nn.Module,
    loss: Loss,
    count: int,
    folder: str | Path,
    config: LoopConfig | None = None,
    *,
    identity: Mapping[str, Any] | None = None,
    state: Stateful | None = None,
    way_out: str | None = None,
    look: Callable[[int, nn.Module], None] | None = None,
    looks: int = 0,
    log: Callable[[dict[str, float], int], None] | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """Train a model in place, or go on where an earlier run in ``folder`` stopped.

    Under ``accelerate launch`` every process has to call it, with the same model; each returns the same weights.

    Args:
        model: on its device, with the parameters that are to stay as they are frozen; it is trained in training mode.
        loss: mean over the images ``batch.indices``, as a scalar; whatever it draws comes from the batch.
        count: number of the images that indices stand for.
        folder: for checkpoint and losses; made if need be.
        config: how to train.
        identity: what else has to be the same when a run goes on, such as a digest of the images; JSON values.
        state: what the loss remembers between steps.
        way_out: with what to begin anew if it diverges; default: a lower learning rate.
        look: called in the first process with the number of steps done and the model, averaged and in evaluation mode,
            ``looks`` times in the run; what it does changes no random draw.
        log: called in the first process with losses and speed, and the number of steps done.
        progress: called in the first process with stage, done and total.

    Returns:
        the model, with averaged weights and in evaluation mode.

    Raises:
        ValueError: the folder holds a training of other settings, or a damaged checkpoint; the batch is too small; or
            the model is on another device than those by which several processes speak.
        FileExistsError: another run works in the folder.
        FloatingPointError: a loss or gradient is no longer finite; the last checkpoint is kept.
        StoppedError: SIGTERM came; the step is finished and kept.
        OSError: the disk is full; the last checkpoint is kept.
    """
    config, folder = config or LoopConfig(), Path(folder)
    with ExitStack() as leaving:
        start = _Start()
        with fail_together():
            if this_process().is_main_process:
                leaving.enter_context(locked(folder))
                start = _start(folder / CHECKPOINT, config.precision, next(model.parameters()).device)
        start = gather(start)[0]  # others may have another processor, or a disk that shows them no checkpoint yet
        with fail_together():
            training = _Training(model, loss, count, folder, config, start, identity or {}, state, way_out)
        training.run(look, looks, log, progress)
    model.eval()
    return model


class _Start(NamedTuple):
    """Where a training begins, as its first process finds."""

    step: int | None = None  # of the checkpoint; None: there is none
    precision: str = ""


class _Training:
    """One run of ``fit``, and where it stands."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        count: int,
        folder: Path,
        config: LoopConfig,
        start: _Start,
        identity: Mapping[str, Any],
        state: Stateful | None,
        way_out: str | None,
    ) -> None:
        self.process, self.device = this_process(), next(model.parameters()).device
        if self.process.num_processes > 1 and self.device.type != self.process.device.type:
            raise ValueError(
                f"the model is on {self.device.type}, but gradients of several processes are added on "
                f"{self.process.device.type} here, as accelerate has it; leave the device out, or train in one process"
            )
        self.model, self.loss, self.folder, self.config, self.state = model, loss, folder, config, state
        self.way_out = way_out or f"a lower learning_rate than {config.learning_rate:g}"
        self.rows = shares(
            config.batch_size, self.process.num_processes, config.accumulation, self.process.process_index
        )
        self.order = Order(count, config.batch_size, config.seed)
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = _optimizer(self.weights, config)
        self.average = Average(model, config.average_width)
        self.done, self.losses = 0, list[tuple[float, float]]()
        before = None if start.step is None else _checkpoint_of(folder / CHECKPOINT, start.step)
        self.precision = start.precision
        settings = {name: value for name, value in asdict(config).items() if name not in EXECUTION}
        size = sum(weight.numel() for weight in self.weights)
        self.settings = recorded(
            settings | {"precision": self.precision, "images": count, "trained weights": size} | dict(identity)
        )
        if before is not None:
            self._go_on(before)

    def _go_on(self, before: Checkpoint) -> None:
        if found := list(differences(before.record["settings"], self.settings)):
            raise ValueError(
                f"{self.folder} holds a training of other settings: {'; '.join(found)}; go on with the same ones, or "
                "choose another output"
            )
        restore(before, self.model, self.average, self.optimizer)
        if self.state is not None:
            self.state.load_state_dict(before.part("state"))
        self.done = before.record["step"]
        self.losses = [(loss, norm) for loss, norm in before.record["losses"]]

    def run(
        self,
        look: Callable[[int, nn.Module], None] | None,
        looks: int,
        log: Callable[[dict[str, float], int], None] | None,
        progress: Progress | None,
    ) -> None:
        """Train to the end, and leave the averaged weights in the model."""
        steps, first = self.config.steps, self.done
        begun = saved = time.monotonic()
        told = progress if self.process.is_main_process else None
        if self.process.is_main_process:
            _keep_rows(self.folder / LOSSES, self.done)
        if told is not None:
            told("training", self.done, steps)
        _require_same_start(self.model, self.process.num_processes)
        self.model.train()
        devices = [self.device] if self.device.type == "cuda" else []
        row_every, look_every = _interval(steps, LOGGED), _interval(steps, looks) if look and looks else steps + 1
        seen_every = (_steps_together(self.device), row_every, look_every)
        with stop_signal() as asked, torch.random.fork_rng(devices):
            pending: list[Tensor] = []
            for step in range(self.done, steps):
                pending.append(self._step(step, asked))
                self.done = step + 1
                if self.done < steps and all(self.done % every for every in seen_every):
                    continue
                stop, pending = self._take_in(pending), []
                if self.done % row_every == 0 or self.done == steps:
                    self._tell(log, (time.monotonic() - begun) / (self.done - first))
                if look is not None and self.done % look_every == 0:
                    self._show(look)
                last = stop or self.done == steps
                if last or time.monotonic() - saved > self.config.checkpoint_seconds:
                    self._save()
                    saved = time.monotonic()
                if told is not None:
                    told("training", self.done, steps)
                if stop:  # after the last step too, since more may follow this training
                    raise StoppedError(f"stopped as asked after {self.done} of {steps} steps; the same call goes on")
        self.average.copy_to_model()

    def _step(self, step: int, asked: threading.Event) -> Tensor:
        """One step; ``(3,)``: loss, length of the gradients, and whether a process was asked to stop."""
        factor, every = rate_factor(step, self.config.steps, self.config.warm_up), self.order(step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        value = torch.zeros((), device=self.device)
        for rows in self.rows:
            batch = Batch(every, rows, step, self.config.seed, self.device)
            batch.seed_layers()
            with computing_in(self.precision, self.device):
                part = self.loss(self.model, batch).float() * (len(batch) / len(every))
            part.backward()
            value += part.detach()
        value = torch.stack([value, value.new_tensor(asked.is_set())])
        self._add_up([weight.grad for weight in self.weights if weight.grad is not None] + [value])
        norm = nn.utils.clip_grad_norm_(self.weights, self.config.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(step + 1)
        return torch.stack([value[0], norm.to(value), value[1]])

    def _add_up(self, tensors: list[Tensor]) -> None:
        """Sum over all processes, in place."""
        if self.process.num_processes == 1:
            return
        with others_there():
            for work in [distributed.all_reduce(tensor, async_op=True) for tensor in tensors]:
                work.wait()

    def _take_in(self, pending: list[Tensor]) -> bool:
        """Note the losses of the last steps; whether a process was asked to stop."""
        found = torch.stack(pending).tolist()
        for place, (loss, norm, _) in enumerate(found):
            if not math.isfinite(loss + norm):
                self._refuse(self.done - len(found) + place + 1, loss, norm)
            self.losses.append((loss, norm))
        return any(stop for _, _, stop in found)

    def _refuse(self, step: int, loss: float, norm: float) -> None:
        path = self.folder / CHECKPOINT
        kept = f"the checkpoint of step {read_record(path)['step']} is kept" if path.exists() else "none is kept"
        raise FloatingPointError(
            f"the loss is {loss:g} and its gradient {norm:g} long at step {step}, {kept}; begin anew with "
            f"{self.way_out}"
        )

    def _tell(self, log: Callable[[dict[str, float], int], None] | None, seconds_per_step: float) -> None:
        """Append a row of losses."""
        losses, norms = zip(*self.losses, strict=True)
        row = {
            "loss": sum(losses) / len(losses),
            "gradient_norm": sum(norms) / len(norms),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": round(self.config.batch_size / seconds_per_step, 2),
            "seconds_left": round(seconds_per_step * (self.config.steps - self.done), 1),
        }
        self.losses = []
        if self.process.is_main_process:
            with (self.folder / LOSSES).open("ab") as file:
                file.write(json_line({"step": self.done} | row))
            if log is not None:
                log(row, self.done)

    def _save(self) -> None:
        if self.process.is_main_process:
            state = {} if self.state is None else self.state.state_dict()
            record = {"step": self.done, "settings": self.settings, "losses": self.losses}
            tensors = tensors_of(self.model, self.average, self.optimizer, state)
            write_tensors(self.folder / CHECKPOINT, tensors, record)

    def _show(self, look: Callable[[int, nn.Module], None]) -> None:
        if self.process.is_main_process:
            with self.average.in_model():
                look(self.done, self.model.eval())
            self.model.train()


def _optimizer(weights: list[nn.Parameter], config: LoopConfig) -> torch.optim.AdamW:
    matrices, others = [w for w in weights if w.ndim > 1], [w for w in weights if w.ndim <= 1]
    if not weights:
        raise ValueError("the model has no parameter to train, all are frozen; unfreeze some by requires_grad_(True)")
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate, fused=True)


def _start(checkpoint: Path, precision: str, device: torch.device) -> _Start:
    """From a checkpoint, if there is one; ``auto`` stays what a run was begun in, on another processor too."""
    before = read_record(checkpoint) if checkpoint.exists() else None
    if precision == "auto":
        precision = fast_precision(device) if before is None else before["settings"]["precision"]
    return _Start(None if before is None else before["step"], precision)


def _checkpoint_of(path: Path, step: int) -> Checkpoint:
    """The checkpoint that the first process goes on from; ValueError if this process does not have it."""
    found = read_tensors(path) if path.exists() else None
    if found is None or found.record["step"] != step:
        there = "none" if found is None else f"that of step {found.record['step']}"
        raise ValueError(
            f"the first process goes on from step {step}, but this one sees {there} at {path}; give all processes the "
            "same disk, and call again once each of them sees it"
        )
    return found


def _steps_together(device: torch.device) -> int:
    """Steps after which a device is waited for, to see losses and whether to stop, besides those with a row or look."""
    return 1 if device.type == "cpu" else 10


def _interval(steps: int, times: int) -> int:
    """Steps from one of so many rows or looks to the next."""
    return max(1, steps // times)


def _require_same_start(model: nn.Module, processes: int) -> None:
    """Give every process the weights of the first, which an unseeded model else has not."""
    if processes > 1:
        with others_there():
            for tensor in changing(model).values():
                distributed.broadcast(tensor.detach(), 0)


def _keep_rows(path: Path, done: int) -> None:
    """Leave out rows of steps that are done again, and one that a kill has cut off."""
    if path.exists():
        lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        rows = [row for row in map(json.loads, lines) if row["step"] <= done]
        write_atomically(path, json_lines(rows))
