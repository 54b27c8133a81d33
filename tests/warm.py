"""The command line in processes that have its imports behind them: what a test asks of a command, without the wait.

A server imports torch, diffusers and the rest once; each command is forked from it.  Where a command starts
interpreters of its own, as ``--num-processes`` does, they are forked from the command in the same way.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import sys
import traceback
from collections.abc import Mapping
from functools import cache
from multiprocessing import util
from pathlib import Path
from tempfile import TemporaryDirectory

import killed  # noqa: F401 - what else the tests run in such a process
import pytest
import transformers.models.auto.modeling_auto
import transformers.models.resnet.modeling_resnet  # noqa: F401 - the tiny classifiers are of this kind
from accelerate import PartialState  # noqa: F401
from torch.distributed.launcher import api  # noqa: F401

from dag_diffusion import loading  # noqa: F401
from dag_diffusion.cli import commands
from dag_diffusion.generation import filling, tracking  # noqa: F401


@cache
def context() -> multiprocessing.context.ForkServerContext:
    """Where ``Process`` starts one that has imported what this module imports."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # Python 3.11 hands its server no sys.path
        multiprocessing.forkserver.ensure_running()
    return found


class Command:
    """``python -m dag_diffusion ARGUMENTS`` as ``subprocess.Popen`` would have it."""

    def __init__(self, *arguments: object, env: Mapping[str, str] | None = None) -> None:
        self._folder = TemporaryDirectory()
        self._told = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        options = ([str(argument) for argument in arguments], dict(os.environ if env is None else env))
        self._process = context().Process(target=_run, args=(*options, os.getcwd(), self._told))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self, timeout: float = 0.0) -> int | None:
        """The exit code once it has ended, for which it has so many seconds."""
        self._process.join(timeout)
        return self.returncode

    def wait(self) -> int:
        self._process.join()
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self) -> tuple[str, str]:
        """Standard output and standard error."""
        self.wait()
        return self._told[0].read_text(), self._told[1].read_text()


def _run(arguments: list[str], environment: dict[str, str], folder: str, told: list[Path]) -> None:
    for number, path in enumerate(told, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [str(Path(commands.__file__).parents[1] / "__main__.py"), *arguments]
    util.spawnv_passfds = _fork_python
    commands.run_command()


def _fork_python(path: str, arguments: list[str], descriptors: list[int]) -> int:
    """In place of a new interpreter, to which ``multiprocessing`` gives its code by ``-c``, a fork of this one."""
    if pid := os.fork():
        return pid
    try:
        exec(arguments[-1], {})  # noqa: S102 - multiprocessing's own
    except SystemExit:
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    os._exit(1)
