"""Several processes that work as one: how they start, fail together with one word, and stop when they are told to.

with in_step(): ...        # what fails in one process fails in all, and is told once
with stop_signal() as asked: ...        # SIGTERM sets ``asked`` instead of killing, so that a batch can be finished
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import PartialState

SHUTDOWN_SECONDS = 600  # a batch may take so long after a SIGTERM; torchrun's own 30 s would tear it


class FailedElsewhereError(RuntimeError):
    """Another process failed, and tells why."""


class StoppedError(RuntimeError):
    """The run was asked to stop, and has done so in good order."""


def this_process() -> "PartialState":
    """Which of the processes that accelerate started this one is; one of one, if it started none."""
    import torch
    from accelerate import PartialState

    # without this word accelerate takes each of several processes on CPUs for the only one; and the usual ten to thirty
    # minutes are too short for others to wait while the first looks through a large pool
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(hours=12))


@contextmanager
def in_step() -> Iterator[None]:
    """Let no process leave before all have come to the end, and none go on if one has failed.

    Raises:
        FailedElsewhereError: in all but the first of the processes that failed, which raises its own error.
    """
    from accelerate.utils import gather_object

    state, failure = this_process(), None
    try:
        yield
    except Exception as error:
        failure = error
    if state.num_processes == 1:
        reports = [failure]
    else:
        reports = gather_object([None if failure is None else str(failure) or type(failure).__name__])
    failed = [number for number, report in enumerate(reports) if report is not None]
    if failed and failed[0] == state.process_index:
        raise failure
    if failed:
        raise FailedElsewhereError(f"process {failed[0]} of {state.num_processes} failed: {reports[failed[0]]}")


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, as schedulers and spot machines send it some time before they kill.

    Outside the main thread, where Python hands over no signals, nobody sets it.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def is_started() -> bool:
    """Whether this process is one of several that accelerate, torchrun or ``launch`` has started."""
    return "LOCAL_RANK" in os.environ


def speaks() -> bool:
    """Whether this process, of all that were started, is the one to say what all would."""
    return os.environ.get("RANK", "0") == "0"


def leave() -> None:
    """Part from the other processes before this one ends, which else may crash on its way out and hide why."""
    if is_started() and "torch" in sys.modules:
        from torch import distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()


def launch(num_processes: int, arguments: Sequence[str]) -> int:
    """Run ``dag-diffusion ARGUMENTS`` in several processes on this machine, one a GPU, or sharing the cores.

    Returns:
        0, or the exit code of the first that failed, whereupon the others are stopped.

    Raises:
        ValueError: there are not so many GPUs.
    """
    import torch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    gpus = torch.cuda.device_count()
    if 0 < gpus < num_processes:
        raise ValueError(f"{num_processes} processes need a GPU each, and this machine has {gpus}; ask for {gpus}")
    # as many threads in each as there are cores would make them wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // num_processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id="dag-diffusion",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # any free port
        max_restarts=0,  # whoever wants that starts it with accelerate launch
        signals_to_handle="SIGTERM,SIGINT",
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    for name in list(logging.root.manager.loggerDict):  # the process that failed has said why, in words for people
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        elastic_launch(config, sys.executable)("-m", "dag_diffusion", *arguments)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code > 0 else 128 - code  # as shells say it of a process that a signal killed
    except SignalException as error:
        return 128 + error.sigval
    return 0
