"""How long calls say how far they are: ``progress(stage, done, total)``, the same everywhere."""

from typing import Protocol


class Progress(Protocol):
    """What a caller gives to be told how far a call has come."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note that ``done`` of ``total`` are finished in a stage, such as ``"images"``."""


class Stage:
    """Adds up what is done in one stage, and tells it; without a ``progress`` it tells nobody."""

    def __init__(self, name: str, total: int, progress: Progress | None) -> None:
        self.name, self.total, self.progress, self.done = name, total, progress, 0
        self(0)

    def __call__(self, more: int = 1) -> None:
        """``more`` are done."""
        self.done += more
        if self.progress is not None:
            self.progress(self.name, self.done, self.total)
