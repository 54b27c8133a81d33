"""How long calls report how far they are: ``progress(stage, done, total)``, the same everywhere."""

from typing import Protocol


class Progress(Protocol):
    """What a caller gives to follow a call that takes long."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Called whenever more is done: ``done`` of ``total`` in a stage, such as ``"images"``."""


class Stage:
    """Adds up what is done in one stage and reports it; without a ``progress`` it only counts."""

    def __init__(self, name: str, total: int, progress: Progress | None) -> None:
        self.name, self.total, self.progress, self.done = name, total, progress, 0
        self(0)

    def __call__(self, more: int = 1) -> None:
        """Report that ``more`` are done."""
        self.done += more
        if self.progress is not None:
            self.progress(self.name, self.done, self.total)

    def after(self, before: int) -> Progress:
        """A progress for one of several calls that make up this stage, of which ``before`` are done."""

        def tell(stage: str, done: int, total: int) -> None:
            self(before + done - self.done)

        return tell


def renamed(progress: Progress | None, stage: str) -> Progress | None:
    """A progress that reports a call's only stage under another name, where several calls share one display."""
    if progress is None:
        return None
    given = progress
    return lambda _, done, total: given(stage, done, total)
