"""Curves of a run in TensorBoard, Weights & Biases, or whatever else accelerate has a tracker for."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def require_trackers(trackers: Sequence[str], folder: Path) -> None:
    """Refuse a tracker that accelerate does not know, or, as it does in silence, one whose package is not installed.

    Raises:
        ValueError: there is one.
    """
    if not trackers:
        return
    from accelerate.tracking import filter_trackers

    for name in trackers:
        try:
            found = filter_trackers(name, str(folder))
        except ValueError as error:
            raise ValueError(f"there is no tracker {name!r} for --log-with ({error})") from error
        if not found:
            raise ValueError(f"the package of the tracker {name!r} is not installed; install it, or leave it out")


@contextmanager
def tracked(trackers: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> Iterator[Callable[[int, int], None]]:
    """A progress callback that logs how many images there are and how many come a second, step by step.

    Args:
        trackers: names as in ``accelerate.Accelerator(log_with=...)``; none gives a callback that does nothing.
        folder: for those that write files, outside of the pool.
        settings: what the run is filed under, flat.

    """
    if not trackers:
        yield lambda done, total: None
        return
    import torch
    from accelerate import Accelerator

    on_cpu = not torch.accelerator.is_available()  # see processes.this_process
    accelerator = Accelerator(log_with=list(trackers), project_dir=str(folder), cpu=on_cpu)
    accelerator.init_trackers("dag-diffusion", config=dict(settings))
    begun, first = time.monotonic(), None

    def log(done: int, total: int) -> None:
        nonlocal first
        first, seconds = done if first is None else first, time.monotonic() - begun
        values = {"images": done, "share": done / total, "images per second": (done - first) / max(seconds, 1e-9)}
        accelerator.log(values, step=done)

    try:
        yield log
    finally:
        accelerator.end_training()
