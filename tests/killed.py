"""Processes that kill themselves at the n-th thing that they do to the files of their pool."""

import os
import signal
import sys
import threading
from pathlib import Path

from tiny import tiny_pipeline

from dag_diffusion import PoolConfig, fill_pool

EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}


def count_events(folder: Path, kill_at: int | None = None) -> list[str]:
    """Note each operation on a path below the folder from now on, and die before the one of that number."""
    seen, lock = [], threading.Lock()

    def note(event: str, arguments: tuple) -> None:
        if event in EVENTS and isinstance(arguments[0], str | os.PathLike) and str(folder) in str(arguments[0]):
            with lock:
                if len(seen) == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen.append(event)

    sys.addaudithook(note)
    return seen


def fill_and_count(pool: Path, config: PoolConfig, count: Path) -> None:
    seen = count_events(pool)
    fill_pool(tiny_pipeline(), pool, config, batch_size=2)
    count.write_text(str(len(seen)))


def fill_until_killed(pool: Path, config: PoolConfig, kill_at: int) -> None:
    count_events(pool, kill_at)
    fill_pool(tiny_pipeline(), pool, config, batch_size=2)
