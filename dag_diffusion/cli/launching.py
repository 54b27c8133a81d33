"""How many processes a command starts that several may work on, each of them with the same command."""

import os
import sys

from typer import Exit

MOST = 4  # processes that a command starts unasked: each takes half a gigabyte, and more cores go to each of them


def launch_several(num_processes: int | None, device: str | None, *, trainings: int) -> None:
    """Leave the command to several processes, if it is worth it and this is not one of them already.

    Args:
        num_processes: None: one per core where the work is on a CPU, up to ``MOST``, and else one.
        trainings: a process is started for two or more of them.

    Raises:
        Exit: they have done it.
    """
    from dag_diffusion.processes import is_started, launch

    if is_started():
        return
    if num_processes is None:
        num_processes = min(len(os.sched_getaffinity(0)), MOST, trainings // 2) if _is_cpu(device) else 1
    if num_processes > 1:
        raise Exit(launch(num_processes, sys.argv[1:]))


def _is_cpu(device: str | None) -> bool:
    if device is not None:
        return device == "cpu"
    import torch

    return not torch.accelerator.is_available()
