"""How many processes a command starts that several may work on, each of them with the same command."""

import sys
from collections.abc import Iterable
from pathlib import Path

from typer import Exit

from .console import importing

MOST = 4  # processes that a command starts unasked: each takes half a gigabyte, and more cores go to each of them
SMALL = 256 * 2**20  # bytes of weights that each of them may load unasked; larger networks keep cores busy alone
WEIGHTS = (".safetensors", ".bin")


def launch_several(num_processes: int, quiet: bool) -> bool:
    """Leave the command to several processes, if it is to have them and this is not one of them already.

    This comes before the command's own imports, since this process only waits for the others then, as they load the
    same beside it.  What several refuse one of them tells.

    Args:
        quiet: no bar tells what is waited for.

    Returns:
        Whether this process is to be quiet, as all but the first are.

    Raises:
        Exit: they have done it.
    """
    from dag_diffusion.processes import is_main_process, is_started, launch

    if num_processes > 1 and not is_started():
        raise Exit(launch(num_processes, sys.argv[1:], importing(quiet)))
    return quiet or not is_main_process()


def processes_to_draw(
    images: int,
    batch_size: int,
    models: Iterable[str | None],
    num_processes: int | None,
    device: str | None,
    quiet: bool,
) -> int:
    """``processes_for`` the batches of a pool, if its models are small enough for each process to load them unasked.

    Args:
        models: folders, None for what comes with the package, or "none"; what is to be fetched counts as large.
    """
    named = [Path(model) for model in models if model not in (None, "none")]
    small = all(path.is_dir() for path in named) and sum(map(_bytes_of_weights, named)) <= SMALL
    return processes_for(images // batch_size if small else 0, num_processes, device, quiet)


def _bytes_of_weights(folder: Path) -> int:
    """Of a classifier, or of all parts of a pipeline."""
    files = (path for place in ("*", "*/*") for path in folder.glob(place) if path.suffix in WEIGHTS)
    return sum(path.stat().st_size for path in files)


def processes_for(tasks: int, num_processes: int | None, device: str | None, quiet: bool) -> int:
    """How many processes to start: as many as are asked for, or else one per core where the work is on a CPU.

    The server that they are forked from begins its imports, while this process goes on with its own.

    Args:
        tasks: trainings or batches; unasked, a process is started for two or more of them, up to ``MOST``.
    """
    from dag_diffusion.processes import is_started, start_server
    from dag_diffusion.processor import cores

    if num_processes is not None:
        if num_processes > 1 and not is_started():
            start_server(num_processes)
        return num_processes
    if is_started() or device not in (None, "cpu"):
        return 1
    unasked = max(1, min(cores(), MOST, tasks // 2))
    if unasked > 1 and device is None:
        with importing(quiet):
            start_server(unasked)  # most likely there is no GPU; torch, which knows, takes seconds to come
            return unasked if _is_cpu() else 1
    return unasked


def _is_cpu() -> bool:
    import torch

    return not torch.accelerator.is_available()
