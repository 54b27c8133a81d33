"""Work that several processes share: one that is free takes the next stretch, so that a slow one holds up none.

    turns = Turns("images", len(images), progress)    # in every process, at the same point
    with turns.together():
        for image in turns.take(images, 50): ...      # stretches of 50, each in one process
    gather(...)                                       # what each has made of its own

What all have done, and whether one of them stops, are counters in the store where the processes met.
"""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from .processes import fail_together, gather, others_there, this_process
from .progress import Progress

Item = TypeVar("Item")


class Turns:
    """Whose turn it is with which stretch; a process without others takes them all.

    Args:
        stage: what ``progress`` is told.
        total: of the items.
        progress: called in the first process with stage, items that all processes have done, and total.
    """

    def __init__(self, stage: str, total: int, progress: Progress | None = None) -> None:
        state = this_process()
        self._alone, self._own = state.num_processes == 1, Counter[str]()
        self._name = gather(uuid.uuid4().hex)[0]
        self._stage, self._total, self._progress = stage, total, progress if state.is_main_process else None
        self.report(0)

    def take(self, items: Sequence[Item], size: int, asked: threading.Event | None = None) -> Iterator[Item]:
        """Items in stretches of a size that no other process has, until there are none or one process stops.

        Args:
            items: the same in all processes.
            asked: set where this process is to stop, and with it the others.
        """
        while True:
            if asked is not None and asked.is_set():
                self.stop()
            start = (self._add("turns", 1) - 1) * size
            if start >= len(items) or self._add("stops", 0):
                return
            yield from items[start : start + size]

    def report(self, more: int) -> None:
        """Tell that this process has done more items."""
        done = self._add("done", more)
        if self._progress is not None:
            self._progress(self._stage, done, self._total)

    def stop(self) -> None:
        """Let no process take another stretch."""
        self._add("stops", 1)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work until all have come to the end; what fails in one stops all, see ``processes.fail_together``."""
        with fail_together():
            try:
                yield
            except Exception:
                self.stop()
                raise
        if not self._alone:
            self.report(0)  # what others have done since this process had its last

    def _add(self, what: str, more: int) -> int:
        if self._alone:
            self._own[what] += more
            return self._own[what]
        from torch.distributed.distributed_c10d import _get_default_store

        with others_there():
            return _get_default_store().add(f"{self._name}/{what}", more)
