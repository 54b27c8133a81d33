"""What long work has made so far, on disk until all of it is done, so that a killed command goes on with the rest.

    .OUTPUT.work/record.json                 what the parts follow from; they serve nothing else
    .OUTPUT.work/part-0000050.safetensors    what came of some items, the first of which it is named by

A part is whole or not there.  Several processes share the items; where they share no disk, those that the first one
sees are gone on from, and the others cost time and no result.  The folder is hidden, since it may lie among images.
"""

import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dag_diffusion.data.files import (
    LOCK,
    differences,
    json_line,
    locked,
    read_json_object,
    remove_partials,
    write_json,
    write_safetensors,
)
from dag_diffusion.processes import StoppedError, fail_together, gather, is_main_process, stop_signal
from dag_diffusion.progress import Progress
from dag_diffusion.turns import Turns

logger = logging.getLogger(__name__)
FORMAT = "dag-diffusion work 1"
RECORD, PART = "record.json", "part-*.safetensors"
OWN = (RECORD, PART, LOCK, ".*.partial")
Parts = dict[int, dict[str, Tensor]]  # by the first item of each


@contextmanager
def kept_parts(output: str | Path, *, overwrite: bool = False) -> Iterator["KeptParts"]:
    """Parts of the work for an output, in a hidden folder beside it, kept from other runs; every process has to call.

    Args:
        output: file or folder that the work is for.
        overwrite: whether parts of other work, left there by a kill, may go.

    Raises:
        FileExistsError: another run works there.

    Examples:
        >>> with kept_parts("modes.safetensors") as kept:  # doctest: +SKIP
        ...     find_pool_modes(pipeline, real, 10, kept=kept).save("modes.safetensors")
        ...     kept.remove()
    """
    output = Path(output).resolve()
    folder = output.with_name(f".{output.name}.work")
    with ExitStack() as leaving:
        with fail_together():
            if is_main_process():
                leaving.enter_context(locked(folder))
                remove_partials(output.parent, output.name)
                leaving.callback(_remove_record_without_parts, folder)
        yield KeptParts(folder, overwrite=overwrite)


class KeptParts:
    """Parts of one work: in memory, and on disk if there is a folder for them, see ``kept_parts``."""

    def __init__(self, folder: Path | None = None, *, overwrite: bool = False) -> None:
        self.folder, self._overwrite = folder, overwrite
        self._earlier, self._own = Parts(), Parts()
        self._turns: Turns | None = None

    @contextmanager
    def turns(
        self, stage: str, total: int, size: int, record: Callable[[], Mapping[str, Any]], progress: Progress | None
    ) -> Iterator[Iterator[int]]:
        """The items of this process that nobody has done, in stretches that are ``add``-ed; every process has to call.

        Args:
            stage: what ``progress`` is told, with the items that all have done, and their number.
            total: number of items, from 0 on.
            size: of a stretch.
            record: all that the parts follow from, JSON values; asked in the first process, if there is a folder.

        Raises:
            FileExistsError: the folder holds something else.
            ValueError: it holds parts of other work.
            StoppedError: SIGTERM came; what is done is kept.
        """
        self._turns, self._earlier, self._own = Turns(stage, total, progress), Parts(), Parts()
        with fail_together():
            if self.folder is not None and is_main_process():
                asked_for = json.loads(json_line({"format": FORMAT, **record()}))  # as it is when it is read again
                self._earlier = self._parts_in(self.folder, asked_for)
        done = gather({item for part in self._earlier.values() for item in part["items"].tolist()})[0]
        if done and is_main_process():
            self._turns.report(len(done))
        missing = [item for item in range(total) if item not in done]
        never = threading.Event()  # without a folder there is nothing to finish a batch for
        with nullcontext(never) if self.folder is None else stop_signal() as asked, self._turns.together():
            yield self._turns.take(missing, size, asked)
        stopped, added = zip(
            *gather((asked.is_set(), sum(len(part["items"]) for part in self._own.values()))), strict=True
        )
        if any(stopped):
            left = len(missing) - sum(added)
            raise StoppedError(
                f"stopped as asked with {left} of {total} {stage} to come; the same command goes on there"
            )

    def add(self, items: Sequence[int], tensors: Mapping[str, Tensor]) -> None:
        """Keep what came of a stretch of items, on disk before it returns; OSError where the disk is full."""
        part = {"items": torch.tensor(items), **{name: value.cpu() for name, value in tensors.items()}}
        if self.folder is not None:
            write_safetensors(self.folder / f"part-{items[0]:07d}.safetensors", part)
        self._own[items[0]] = part
        if self._turns is not None:
            self._turns.report(len(items))

    def all(self) -> Iterator[dict[str, Tensor]]:
        """All parts of all processes, by the first item of each, no longer held here; every process has to take all."""
        held = self._earlier | self._own
        self._earlier, self._own = Parts(), Parts()
        # one at a time, since each process gets as much memory for every other's as the largest takes
        for first in sorted({first for its in gather(list(held)) for first in its}):
            yield next(part for part in gather(held.pop(first, None)) if part is not None)

    def remove(self) -> None:
        """Remove the folder, since the result is where it belongs; every process, on whatever disk it wrote.

        One that holds something of others stays.
        """
        if self.folder is not None and self.folder.exists() and not _strange_in(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _parts_in(self, folder: Path, record: dict[str, Any]) -> Parts:
        if strange := _strange_in(folder):
            raise FileExistsError(
                f"{folder}, where this work is kept until it is done, holds something else ({strange}); move it, or "
                "choose another output"
            )
        before, parts = _record_in(folder), sorted(folder.glob(PART))
        if parts and (before is None or before != record):
            if not self._overwrite:
                found = "; ".join(differences(before, record)) if before else "what it was of cannot be read"
                raise ValueError(
                    f"{folder} holds the beginning of other work: {found}; go on with the same images and settings, "
                    "choose another output, or give overwrite=True to begin anew"
                )
            for part in parts:
                part.unlink()
            parts = []
        write_json(folder / RECORD, record)
        return {int(part["items"][0]): part for part in map(_read, parts) if part is not None}


def _record_in(folder: Path) -> dict[str, Any] | None:
    """What the parts of a folder are of; None where that is not there, damaged, or no record of ours."""
    with suppress(OSError, ValueError):
        found = read_json_object(folder / RECORD)
        return found if found.get("format") == FORMAT else None
    return None


def _strange_in(folder: Path) -> str:
    """Something in a folder that was not written here; empty if there is none."""
    names = [one.name for one in folder.iterdir() if not any(fnmatch(one.name, name) for name in OWN)]
    lone = (folder / RECORD).exists() and not any(folder.glob(PART)) and _record_in(folder) is None
    return names[0] if names else RECORD if lone else ""


def _read(path: Path) -> dict[str, Tensor] | None:
    """A part; None for a damaged one, whose items are done again."""
    try:
        with safe_open(path, "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return found if len(found["items"]) else None
    except (SafetensorError, KeyError) as error:
        logger.warning("%s is damaged (%s); what was in it is done again", path, error)
        return None


def _remove_record_without_parts(folder: Path) -> None:
    """Leave nothing behind of a call that was refused, or stopped before anything was done."""
    if folder.exists() and not any(folder.glob(PART)) and not _strange_in(folder):
        (folder / RECORD).unlink(missing_ok=True)
