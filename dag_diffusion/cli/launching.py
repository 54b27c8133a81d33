"""How many processes a command starts that several may work on, each of them with the same command."""

import os
import sys

from typer import Exit

from .console import loading

MOST = 4  # processes that a command starts unasked: each takes half a gigabyte, and more cores go to each of them


def launch_several(num_processes: int | None, device: str | None, *, trainings: int, quiet: bool) -> None:
    """Leave the command to several processes, if it is worth it and this is not one of them already.

    Args:
        num_processes: None: one per core where the work is on a CPU, up to ``MOST``, and else one.
        trainings: a process is started for two or more of them.
        quiet: no bar tells what is waited for.

    Raises:
        Exit: they have done it.
    """
    from dag_diffusion.processes import is_started, launch, start_server

    if is_started():
        return
    if num_processes is None:
        num_processes = min(len(os.sched_getaffinity(0)), MOST, trainings // 2) if device in (None, "cpu") else 1
        if num_processes > 1 and device is None:
            with loading("libraries", quiet):
                start_server(num_processes)  # most likely there is no GPU; torch, which knows, takes seconds to come
                num_processes = num_processes if _is_cpu() else 1
    if num_processes > 1:
        raise Exit(launch(num_processes, sys.argv[1:], loading("libraries", quiet)))


def _is_cpu() -> bool:
    import torch

    return not torch.accelerator.is_available()
