"""Python programs in processes that have their imports behind them, so that a test need not wait for those.

A server imports torch, diffusers and the rest once; each program is forked from it.  Where a program starts
interpreters of its own, as ``--num-processes`` does, they are forked from that program in the same way.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import util
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory

import disks  # noqa: F401 - what else the tests run in such a process
import killed  # noqa: F401
import psutil
import pytest
import transformers.models.auto.modeling_auto
import transformers.models.resnet.modeling_resnet  # noqa: F401 - the tiny classifiers are of this kind
from accelerate import PartialState  # noqa: F401
from accelerate.commands import launch  # noqa: F401
from torch.distributed.launcher import api  # noqa: F401

from dag_diffusion import loading  # noqa: F401
from dag_diffusion.cli import commands  # noqa: F401
from dag_diffusion.generation import filling, tracking  # noqa: F401

ASK = """
import os, sys
from multiprocessing.connection import Client

with Client({address!r}) as server:
    server.send((sys.argv[1:], dict(os.environ), os.getcwd()))
    shown, told, code = server.recv()
sys.stdout.write(shown)
sys.stderr.write(told)
sys.exit(code)
"""


@cache
def context() -> multiprocessing.context.ForkServerContext:
    """Where ``Process`` starts one that has imported what this module imports."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # Python 3.11 hands its server no sys.path
        multiprocessing.forkserver.ensure_running()
    return found


class Module:
    """``python -m MODULE ARGUMENTS`` with the methods of ``subprocess.Popen``, in a session of its own."""

    stdin = stdout = stderr = None

    def __init__(
        self,
        module: str,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        cwd: object = ".",
        nohup: bool = False,
    ) -> None:
        self._folder = TemporaryDirectory()
        self._told = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        words = [str(argument) for argument in arguments]
        environment = dict(os.environ if env is None else env)
        options = (module, words, environment, os.path.abspath(cwd), self._told, nohup)
        self._process = context().Process(target=run_module, args=options)
        self._process.start()
        self.pid = self._process.pid
        while self.poll(timeout=0.001) is None and os.getsid(self.pid) != self.pid:
            pass

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self, timeout: float = 0.0) -> int | None:
        """The exit code once it has ended, for which it has so many seconds."""
        self._process.join(timeout)
        return self.returncode

    def wait(self) -> int:
        """The exit code, once there is one."""
        self._process.join()
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self) -> tuple[str, str]:
        """Standard output and standard error."""
        self.wait()
        return self._told[0].read_text(), self._told[1].read_text()


class Command(Module):
    """``dag-diffusion ARGUMENTS``."""

    def __init__(self, *arguments: object, nohup: bool = False) -> None:
        super().__init__("dag_diffusion", *arguments, nohup=nohup)


def run_together(program: Callable[..., None], folder: Path, *more: object) -> None:
    """Run ``program(folder, rank, 2, port, *more)`` in two processes, which find each other by ``join_others``."""
    with socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = [context().Process(target=program, args=(folder, rank, 2, port, *more)) for rank in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]


def join_others(rank: int, processes: int, port: int) -> None:
    """Make this process one of several, as accelerate starts them."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}


def process_of_rank(run: Command, rank: int) -> psutil.Process:
    """One of the two processes that a command has started."""
    assert run.poll() is None, run.communicate()  # what it said, where it ended before anybody stopped it
    workers: list[psutil.Process] = []
    for server in psutil.Process(run.pid).children():
        with suppress(psutil.NoSuchProcess):  # a program that it asks for something, and that has ended by now
            workers += server.children()
    assert len(workers) == 2
    return sorted(workers, key=lambda worker: worker.pid)[rank]  # started in this order


@contextmanager
def interpreter(folder: Path) -> Iterator[Path]:
    """A program that other programs start as ``python -m MODULE ARGUMENTS``, and that need not import anything."""
    program, address = folder / "python", str(folder / "socket")
    program.write_text(f"#!{sys.executable} -IS\n{ASK.format(address=address)}")
    program.chmod(0o755)
    with Listener(address) as listener:
        threading.Thread(target=_answer_all, args=(listener,), daemon=True).start()
        yield program


def _answer_all(listener: Listener) -> None:
    with suppress(OSError):  # closed
        while True:
            threading.Thread(target=_answer, args=(listener.accept(),), daemon=True).start()


def _answer(asked: Connection) -> None:
    with asked:
        words, environment, folder = asked.recv()
        module, *arguments = words[words.index("-m") + 1 :]
        run = Module(module, *arguments, env=environment, cwd=folder)
        asked.send((*run.communicate(), run.returncode))


def run_module(
    module: str,
    arguments: list[str],
    environment: dict[str, str],
    folder: str,
    told: list[Path],
    nohup: bool = False,
) -> None:
    """Become ``python -m MODULE ARGUMENTS`` in that environment and folder, with what it says going to two files."""
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)  # however the tests were started
    for number, path in enumerate(told, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[1:] = arguments
    util.spawnv_passfds = _fork_python
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _fork_python(path: str, arguments: list[str], descriptors: list[int]) -> int:
    """In place of a new interpreter, to which ``multiprocessing`` gives its code by ``-c``, a fork of this one."""
    if pid := os.fork():
        return pid
    for descriptor in {int(name) for name in os.listdir("/dev/fd")} - {0, 1, 2, *descriptors}:
        with suppress(OSError):  # that of the listing itself
            os.close(descriptor)
    try:
        exec(arguments[-1], {})  # noqa: S102 - multiprocessing's own
    except SystemExit:
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    os._exit(1)
