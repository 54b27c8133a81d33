"""What long work has made so far, on disk until all of it is done, so that a killed command goes on with the rest.

    FOLDER/record.json                 what the parts follow from; they serve nothing else
    FOLDER/part-0000050.safetensors    what came of some items, named by the first of them: items (n,), and tensors

A part is whole or not there.  Several processes share the items; where they share no disk, those that the first one
sees are gone on from, and the others cost time and no result.
"""

import logging
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dag_diffusion.data.files import (
    LOCK,
    differences,
    locked,
    read_json_object,
    recorded,
    write_json,
    write_safetensors,
)
from dag_diffusion.processes import StoppedError, fail_together, gather, is_main_process, stop_signal
from dag_diffusion.progress import Progress
from dag_diffusion.turns import Turns

logger = logging.getLogger(__name__)
RECORD, PART = "record.json", "part-*.safetensors"
OWN = (RECORD, PART, LOCK, ".*.partial")
Parts = dict[int, dict[str, Tensor]]  # by the first item of each


@contextmanager
def kept_parts(output: str | Path, *, overwrite: bool = False) -> Iterator["KeptParts"]:
    """Parts of the work for an output, in ``OUTPUT.work`` beside it, kept from other runs; every process has to call.

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
    folder = Path(f"{output}.work")
    with ExitStack() as leaving:
        with fail_together():
            if is_main_process():
                leaving.enter_context(locked(folder))
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
        self, stage: str, total: int, size: int, record: Mapping[str, Any], progress: Progress | None
    ) -> Iterator[Iterator[int]]:
        """The items of this process that nobody has done, in stretches that are ``add``-ed; every process has to call.

        Args:
            stage: what ``progress`` is told, with the items that all have done, and their number.
            total: number of items, from 0 on.
            size: of a stretch.
            record: all that the parts follow from, JSON values; not looked at without a folder.

        Raises:
            FileExistsError: the folder holds something else.
            ValueError: it holds parts of other work.
            StoppedError: SIGTERM came; what is done is kept.
        """
        with fail_together():
            if self.folder is not None and is_main_process():
                self._earlier = self._parts_in(self.folder, recorded(record))
        done = gather({item for part in self._earlier.values() for item in part["items"].tolist()})[0]
        self._turns = Turns(stage, total, progress)
        if done and is_main_process():
            self._turns.report(len(done))
        missing = [item for item in range(total) if item not in done]
        with ExitStack() as leaving:
            asked = threading.Event() if self.folder is None else leaving.enter_context(stop_signal())
            with self._turns.together():
                yield self._turns.take(missing, size, asked)
        if left := len(missing) - sum(gather(sum(len(part["items"]) for part in self._own.values()))):
            raise StoppedError(
                f"stopped as asked, {left} {stage} are still to come; the same command goes on with them"
            )

    def add(self, items: Sequence[int], tensors: Mapping[str, Tensor]) -> None:
        """Keep what came of a stretch of items, on disk before it returns; OSError where the disk is full."""
        part = {"items": torch.tensor(items), **{name: value.cpu() for name, value in tensors.items()}}
        if self.folder is not None:
            write_safetensors(self.folder / f"part-{items[0]:07d}.safetensors", part)
        self._own[items[0]] = part
        if self._turns is not None:
            self._turns.report(len(items))

    def all(self) -> list[dict[str, Tensor]]:
        """All parts of all processes, in the order of their items; every process has to call it."""
        found = {first: part for parts in gather(self._earlier | self._own) for first, part in parts.items()}
        return [found[first] for first in sorted(found)]

    def remove(self) -> None:
        """Remove the folder, since the result is where it belongs; the first process does."""
        if self.folder is not None and is_main_process():
            shutil.rmtree(self.folder, ignore_errors=True)

    def _parts_in(self, folder: Path, record: dict[str, Any]) -> Parts:
        if strange := [one.name for one in folder.iterdir() if not any(fnmatch(one.name, name) for name in OWN)]:
            raise FileExistsError(
                f"{folder}, where this work is kept until it is done, holds something else ({strange[0]}); move it, or "
                "choose another output"
            )
        place, parts = folder / RECORD, sorted(folder.glob(PART))
        if parts and (found := list(differences(read_json_object(place) if place.exists() else {}, record))):
            if not self._overwrite:
                raise ValueError(
                    f"{folder} holds the beginning of other work: {'; '.join(found)}; go on with the same images and "
                    "settings, choose another output, or give overwrite=True to begin anew"
                )
            for part in parts:
                part.unlink()
            parts = []
        write_json(place, record)
        return {int(part["items"][0]): part for part in map(_read, parts) if part is not None}


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
    if not any(folder.glob(PART)):
        (folder / RECORD).unlink(missing_ok=True)
