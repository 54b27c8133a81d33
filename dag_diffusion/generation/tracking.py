"""How a run went: curves in TensorBoard, Weights & Biases or another tracker of accelerate, and log files.

POOL/generation.log   of process 0        POOL/generation-00003.log ...   of others that had something to log
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dag_diffusion.progress import Progress

ALL = "all"  # trackers that are installed
Log = Callable[[Mapping[str, float], int], None]  # values by name, at a step


def require_trackers(trackers: Sequence[str]) -> None:
    """Check that accelerate knows each tracker and finds its package, since it skips absent ones in silence.

    Raises:
        ValueError: it does not.
    """
    if not trackers:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    installed = {ALL, *map(str, get_available_trackers())}
    for name in trackers:
        if name not in (ALL, *LOGGER_TYPE_TO_CLASS):
            raise ValueError(f"there is no tracker {name!r}; choose one of {', '.join(LOGGER_TYPE_TO_CLASS)}")
        if name not in installed:
            raise ValueError(
                f"the tracker {name!r} needs the package {name}, which is not installed; get it with `pip install "
                f"{name}`, or leave the tracker out"
            )


@contextmanager
def logged(trackers: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> Iterator[Log]:
    """A function that logs values at a step, in the first of several processes.

    Args:
        trackers: names as in ``accelerate.Accelerator(log_with=...)``; none gives a function that does nothing.
        folder: for those that write files.
        settings: a flat mapping that describes the run.
    """
    if not trackers:
        yield lambda values, step: None
        return
    import torch
    from accelerate import Accelerator

    on_cpu = not torch.accelerator.is_available()  # see processes.this_process
    accelerator = Accelerator(log_with=list(trackers), project_dir=str(folder), cpu=on_cpu)
    folder.mkdir(parents=True, exist_ok=True)
    where = {"wandb": {"dir": str(folder)}}  # else its files come into the current folder
    accelerator.init_trackers("dag-diffusion", config=dict(settings), init_kwargs=where)
    try:
        yield lambda values, step: accelerator.log(dict(values), step=step)
    finally:
        for tracker in accelerator.trackers:  # end_training would take the other processes away from who goes on
            tracker.finish()


@contextmanager
def tracked(trackers: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> Iterator[Progress]:
    """A progress callback that logs how many images there are and how many come a second, step by step.

    Args:
        trackers, settings: as ``logged`` takes them.
        folder: for trackers that write files, outside of the pool.
    """
    begun, first = time.monotonic(), None
    with logged(trackers, folder, settings) as log:

        def track(stage: str, done: int, total: int) -> None:
            nonlocal first
            first, seconds = done if first is None else first, time.monotonic() - begun
            values = {"images": done, "share": done / total, "images per second": (done - first) / max(seconds, 1e-9)}
            log(values, done)

        yield track


class _PatientHandler(logging.FileHandler):
    """Ignores a full disk, which stops the run at the next image, instead of a traceback for each line of the log."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        pass


@contextmanager
def run_log(folder: Path, process: int) -> Iterator[logging.Logger]:
    """A logger that appends to the log of this process, as do the warnings of the whole library meanwhile.

    It belongs to no hierarchy, so that its lines do not come to the terminal too.
    """
    name = "generation.log" if process == 0 else f"generation-{process:05d}.log"
    handler = _PatientHandler(folder / name, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.Logger(f"generation in {folder}", logging.INFO)
    log.addHandler(handler)
    library = logging.getLogger("dag_diffusion")
    library.addHandler(handler)
    try:
        yield log
    except BaseException as error:
        log.error("ended by %s", f"{type(error).__name__}: {error}".rstrip(": "))
        raise
    finally:
        library.removeHandler(handler)
        handler.close()
