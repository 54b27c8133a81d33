"""Several processes that work as one: how they start, fail together with one word, and stop when they are told to.

with fail_together(): ...        # what fails in one process fails in all, and is told once
with stop_signal() as asked: ...        # SIGTERM sets ``asked`` instead of killing, so that a batch can be finished
"""

import hashlib
import logging
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import runpy
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from .processor import cores

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState
    from torch.distributed import TCPStore


logger = logging.getLogger(__name__)
MEETING_SECONDS = 20.0  # after which a process says for whom it waits
STORE_SECONDS = 5.0  # that a process gives its launcher to answer
SHUTDOWN_SECONDS = 600  # a batch may take so long after a SIGTERM to the launcher; torchrun's own 30 s are too short
STOP_SIGNALS = {signal.SIGTERM, signal.SIGHUP}
BLOCKED = {*STOP_SIGNALS, signal.SIGINT}  # in the server that workers are forked from
LONGEST_PLACE = 70  # bytes of the folder of a socket, whose whole name may have 104
# what a launcher hands on, else workers outlive a closed terminal; under nohup nobody minds SIGHUP
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_STOPS: list[int] = []  # those that this process was sent while it put them off
MEETING = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LAUNCHED = (  # what accelerate takes for several processes, of torchrun, Open MPI, MPICH and MVAPICH
    *MEETING, "LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK", "PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "MPI_LOCALRANKID", "MV2_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_RANK",
)  # fmt: skip
PRELOADED = ["dag_diffusion.preloaded"]


class FailedElsewhereError(RuntimeError):
    """Another process failed, and tells why."""


class KilledError(RuntimeError):
    """A process was killed from outside; ``signal`` is by which signal."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


class StoppedError(RuntimeError):
    """The run was asked to stop, and has done so in good order."""


def this_process() -> "PartialState":
    """Which of the processes that accelerate started this one is; one of one, if it started none."""
    import torch
    from accelerate import PartialState

    # without this word accelerate takes each of several processes on CPUs for the only one; and the usual ten to thirty
    # minutes are too short for others to wait while the first looks through a large pool
    with _told_if_nobody_comes() if is_started() else _environment(dict.fromkeys(LAUNCHED)):
        return PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(hours=12))


def resolve_device(device: "str | torch.device | None" = None) -> str:
    """The device, or the one that accelerate finds, tried out with one number.

    Raises:
        ValueError: it cannot be used here.
    """
    import torch

    found = str(this_process().device if device is None else device)
    try:
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"the device {found!r} cannot be used here ({reason}); use device='cpu'") from error
    return found


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Have variables in the environment for a moment, or, where they are None, keep them out of it."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def _told_if_nobody_comes() -> Iterator[None]:
    """Say for whom this process waits, if it does so for long."""
    rank, count = (os.environ[name] for name in ("RANK", "WORLD_SIZE"))
    text = "process %s of %s waits for the others at %s; start them, or unset WORLD_SIZE to work alone"
    teller = threading.Timer(MEETING_SECONDS, logger.warning, (text, rank, count, os.environ["MASTER_ADDR"]))
    teller.daemon = True
    teller.start()
    try:
        yield
    finally:
        teller.cancel()


@contextmanager
def fail_together() -> Iterator[None]:
    """Let no process leave before all have come to the end, and none go on if one has failed.

    Raises:
        FailedElsewhereError: in all but the first of the processes that failed, which raises its own error.
    """
    if not is_started():
        yield
        return
    state = this_process()
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    try:
        reports = gather(None if failure is None else str(failure) or type(failure).__name__)
    except FailedElsewhereError as gone:
        raise failure or gone from None
    failed = [number for number, report in enumerate(reports) if report is not None]
    if failure is not None and failed[0] == state.process_index:
        raise failure
    if failed:
        raise FailedElsewhereError(f"process {failed[0]} of {state.num_processes} failed: {reports[failed[0]]}")


def is_first_to_say(text: str) -> bool:
    """Whether this process is to say something that several would: alone it is, and of several the first that asks.

    They ask the launcher, since processes that fail no longer meet; where it answers none, each says it.
    """
    if not is_started() or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    with suppress(RuntimeError):
        said = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')} {text}".encode(errors="replace")
        store = _launchers_store(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        return bool(store.add(f"dag_diffusion/said/{hashlib.blake2b(said, digest_size=16).hexdigest()}", 1) == 1)
    return True


@cache
def _launchers_store(place: str, port: int) -> "TCPStore":
    from torch.distributed import TCPStore

    return TCPStore(place, port, is_master=False, timeout=timedelta(seconds=STORE_SECONDS))


def gather(value: Any) -> list[Any]:
    """What each process says, in their order, known to all of them; waits for the last.

    Raises:
        FailedElsewhereError: one is gone.
    """
    if not is_started():
        return [value]
    from accelerate.utils import gather_object

    this_process()
    with others_there():
        return gather_object([value])


@contextmanager
def others_there() -> Iterator[None]:
    """A FailedElsewhereError for what torch raises where another process is gone."""
    try:
        yield
    except RuntimeError as gone:
        raise FailedElsewhereError("another process is gone, so that this one ends too") from gone


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, as schedulers and spot machines send it some time before they kill, or SIGHUP.

    Outside the main thread, where Python hands over no signals, nobody sets it.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    # who runs under nohup has SIGHUP ignored, and keeps it so
    numbers = [n for n in STOP_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]

    def note(number: int, frame: object) -> None:
        _STOPS.append(number)
        asked.set()

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_started() -> bool:
    """Whether this process is one of several that accelerate, torchrun or ``launch`` has started.

    They say who it is and where to meet.  Others leave a part of that behind, in a shell of srun, a notebook's machine
    or a pod of Kubeflow, where nobody would come to the meeting.
    """
    return all(name in os.environ for name in MEETING)


def work_alone() -> None:
    """Forget what launchers left in the environment: a command that shares no work waits for nobody."""
    for name in LAUNCHED:
        os.environ.pop(name, None)


def rank() -> int:
    """Which of all processes that were started this one is, from 0 on."""
    return int(os.environ["RANK"]) if is_started() else 0


def is_main_process() -> bool:
    """Whether this process, of all that were started, is the one to say what all would."""
    return rank() == 0


def warn_once(logger: logging.Logger, text: str, *values: object) -> None:
    """Warn in the first of several processes, where all would say the same."""
    if is_main_process():
        logger.warning(text, *values)


def leave_process_group() -> None:
    """Part from the other processes before this one ends, which else may crash on its way out and hide why."""
    if is_started() and "torch" in sys.modules:
        from torch import distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()


def launch(num_processes: int, arguments: Sequence[str], warming: AbstractContextManager[None] | None = None) -> int:
    """Run ``dag-diffusion ARGUMENTS`` in several processes on this machine, one a GPU, or sharing the cores.

    They are forked from a server that has imported torch and diffusers once for all of them.

    Args:
        warming: what lasts until they can be forked, which takes seconds, and ends before they show anything.

    Returns:
        0, or the exit code of the first that failed, whereupon the others are stopped.

    Raises:
        ValueError: there are not so many GPUs.
        KilledError: one was killed from outside, as for want of memory; the others are stopped too.
    """
    with warming or nullcontext():
        start_server(num_processes)
        os.environ.setdefault("OMP_NUM_THREADS", threads_of_each(num_processes))
        import torch
        from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        gpus = torch.cuda.device_count()
        if 0 < gpus < num_processes:
            raise ValueError(f"{num_processes} processes need a GPU each, and this machine has {gpus}; ask for {gpus}")
        _await_server()
    config = partial(
        LaunchConfig,
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id="dag-diffusion",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # any free port
        max_restarts=0,  # restarts are what accelerate launch is for
        signals_to_handle=",".join(one.name for one in PASSED_ON if signal.getsignal(one) is not signal.SIG_IGN),
        shutdown_timeout=SHUTDOWN_SECONDS,
        start_method="forkserver",
    )
    for name in list(logging.root.manager.loggerDict):  # the process that failed has said why, in words for people
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as logs:  # torch would leave a folder of its own
            elastic_launch(config(logs_specs=DefaultLogsSpecs(log_dir=logs)), _run_command)(*arguments)
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        if first.exitcode > 0:
            return first.exitcode
        name = signal.Signals(-first.exitcode).name
        why = " (out of memory? take a smaller num_processes)" if name == "SIGKILL" else ""
        raise KilledError(f"process {rank} was killed by {name}{why}", -first.exitcode) from None
    except SignalException as error:
        return 128 + error.sigval
    return 0


def threads_of_each(num_processes: int) -> str:
    """As many threads in each of several processes as there are cores would make them wait for each other."""
    return str(max(1, cores() // num_processes))


def start_server(num_processes: int) -> None:
    """Start the server that ``launch`` forks workers from, while this process goes on with its own imports.

    Signals to stop are blocked in it: it ends with the launcher, and a signal to the whole group of processes, as Slurm
    and Ctrl+C send it, must not take it from under workers that finish a batch.
    """
    multiprocessing.forkserver.set_forkserver_preload(PRELOADED)
    variables = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads_of_each(num_processes))}  # read by torch
    if os.getcwd() not in map(os.path.abspath, sys.path):
        variables["PYTHONSAFEPATH"] = "1"  # else a user's random.py would be taken for Python's, from 3.11 on
    # what a process that was killed has left is removed without a word
    said = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker:UserWarning"]))
    with _environment(variables), _place_for_sockets():
        with _environment({"PYTHONWARNINGS": said}):
            multiprocessing.resource_tracker.ensure_running()  # which unblocks SIGTERM when it starts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
        try:
            multiprocessing.forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _place_for_sockets() -> Iterator[None]:
    """A folder for temporary files whose name leaves room for that of a socket, which has some hundred letters."""
    before = tempfile.gettempdir()
    if len(os.fsencode(before)) > LONGEST_PLACE:
        tempfile.tempdir = "/tmp"  # noqa: S108 - multiprocessing makes a folder of its own in it
    try:
        multiprocessing.util.get_temp_dir()  # which is kept
        yield
    finally:
        tempfile.tempdir = before


def _await_server() -> None:
    """Wait until the server has imported everything: only then it forks the first process, here one without work."""
    first = multiprocessing.get_context("forkserver").Process(target=int)
    first.start()
    first.join()


def _stop_with_launcher() -> None:
    """Stop as by a SIGTERM once the launcher is gone: killed by -9 it passes none on, and nobody waits for more."""
    launcher = multiprocessing.parent_process()
    assert launcher is not None
    launcher.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _run_command(*arguments: str) -> None:
    """What a worker does: ``python -m dag_diffusion ARGUMENTS``."""
    os.setsid()  # so that Ctrl+C comes once, from the launcher, and not from the terminal too
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED)
    threading.Thread(target=_stop_with_launcher, daemon=True).start()
    sys.argv[1:] = arguments
    try:
        runpy.run_module("dag_diffusion", run_name="__main__", alter_sys=True)
    except SystemExit as stopped:
        if stopped.code:  # without a code it has to return, which is what the launcher waits for
            raise
    except Exception:  # the launcher, which gets it, says nothing
        traceback.print_exc()
        raise SystemExit(1) from None
    if _STOPS:  # after the last batch: the launcher, which sent it, waits for the end and takes no result any more
        raise SystemExit(128 + _STOPS[-1])
