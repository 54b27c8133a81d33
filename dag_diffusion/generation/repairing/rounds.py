"""Images of a pool that have a fault are drawn again, each with its next seed, round after round.

    all are there -> look through them -> POOL/.rows/round.json {file: times} -> draw these -> look again -> ...

What a round draws is on disk before the first of its images is, so that a run that is stopped goes on with the same
round, in the same batches.  A round ends when all of it is there; only then does anybody look again.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from dag_diffusion.data.files import read_json_object, write_json
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.rows import Row
from dag_diffusion.generation.plan import ImageJob
from dag_diffusion.generation.work_queue import rows_so_far, times_redrawn
from dag_diffusion.processes import is_main_process
from dag_diffusion.progress import Progress

from .faults import Faults, find_faults
from .repair import Repair

logger = logging.getLogger(__name__)
ROUND = "round.json"


def pending_round(rows: Path) -> dict[str, int]:
    """File name to how often it will have been drawn again, of the round that was begun; empty if none was."""
    return read_json_object(rows / ROUND)["times"] if (rows / ROUND).exists() else {}


def times_of_rows(folder: Path, jobs: Sequence[ImageJob]) -> dict[str, int]:
    """How often earlier runs have drawn images again, so that one of them that is lost comes back as it was."""
    planned = {job.file_name: job for job in jobs}
    rows = [row for row in rows_so_far(folder, absent=True) if times_redrawn(row) and row["file_name"] in planned]
    return {row["file_name"]: times_redrawn(row) for row in rows if planned[row["file_name"]].made(row)}


def with_times(jobs: Sequence[ImageJob], times: Mapping[str, int]) -> list[ImageJob]:
    """The images of a plan, some of them as they are drawn after so many times."""
    return [job.again(times[job.file_name]) if job.file_name in times else job for job in jobs]


def next_round(
    folder: Path,
    rows: Sequence[Row],
    repair: Repair,
    guide: nn.Module | None,
    guide_name: str | None,
    class_map: Mapping[str, int],
    progress: Progress | None,
) -> tuple[dict[str, int], Faults]:
    """What is to be drawn again of a pool that is all there, and all that is wrong with it; the same in every process.

    Args:
        rows: of all images, by label and file name.
        class_map: class names to labels of the guide, as they were drawn by.
    """
    pool = Pool(folder, list(rows))
    faults = find_faults(
        pool,
        guide,
        kinds=repair.faults,
        nearness=repair.nearness,
        name=guide_name,
        class_map=class_map,
        progress=progress,
    )
    drawn = {row["file_name"]: times_redrawn(row) for row in rows}
    times = {name: drawn[name] + 1 for name in faults.kinds if drawn[name] < repair.most_redraws}
    if is_main_process():
        for sentence in faults.sentences():
            logger.warning("%s", sentence)
        if left := len(faults.kinds) - len(times):
            logger.warning("%d of them were drawn again %d times and are given up", left, repair.most_redraws)
    return times, faults


def begin_round(rows: Path, times: Mapping[str, int]) -> None:
    """Put on disk what a round draws, before it does."""
    write_json(rows / ROUND, {"times": dict(times)})
