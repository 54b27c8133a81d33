"""Fill a pool with guided images: work is named, seeded and written one image at a time.

    for each batch of the plan of which something is missing and that no other process has claimed:
        draw it -> a thread writes its images, then their rows, while the next one is drawn

Batches are fixed stretches of the plan, so that kills, the number of processes and their speeds change nothing, not
even rounding.  Runs under ``accelerate launch`` without other code.
"""

import logging
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from dag_diffusion.data.files import differences, locked
from dag_diffusion.data.pools import Pool, read_pool
from dag_diffusion.data.rows import read_rows
from dag_diffusion.pipelines.call_inputs import own_interval
from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline
from dag_diffusion.processes import StoppedError, fail_together, gather, stop_signal, this_process
from dag_diffusion.progress import Progress

from .batches import Draw, drawn_pieces, written_behind
from .drawing.by_labels import LabelDrawer
from .drawing.drawer import Drawer
from .noise_sets import with_chosen_noise
from .plan import ImageJob, PoolConfig, plan
from .precision import agreed_precision
from .provenance import provenance_of
from .repairing.first_images import with_colours
from .repairing.repair import Repair, with_faults
from .repairing.rounds import begin_round, next_round, pending_round, times_of_rows, with_times
from .same_settings import DETAILS, guidance_begun
from .tracking import run_log
from .work_queue import (
    EARLIER_ROWS,
    ROWS,
    RowCount,
    ask_to_stop,
    begin,
    earlier_images,
    finish,
    folders_begun,
    rows_of_all,
    rows_so_far,
    take_stock,
    times_redrawn,
    undone_if_empty,
)

logger = logging.getLogger(__name__)
BATCH_SIZE = 50
LOG_SECONDS = 30.0  # between two lines of progress in the log
PATIENCE = 90.0  # Linux trusts what it knows of a folder on a network disk for up to 60 s
Told = TypeVar("Told")


def fill_pool(
    pipeline: DifficultyGuidedPipeline | Drawer,
    folder: str | Path,
    config: PoolConfig | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    resume: bool = False,
    overwrite: bool = False,
    source: str | None = None,
    extra_guides: Sequence[nn.Module] = (),
    repair: Repair | None = None,
    progress: Progress | None = None,
) -> Pool:
    """Generate a pool of images into ``folder``, resumable, under any number of processes.

    Args:
        pipeline: on the device of its process; a ``SteerablePipeline`` is any other of diffusers' that draws from
            prompts or by labels.
        folder: new, empty, or with ``resume`` a pool that was begun with the same settings.
        config: what to generate.
        batch_size: images at a time, the same in all processes; one that runs out of memory halves it for itself.
            Changes the speed, not the images beyond rounding.
        resume: go on with a pool that was interrupted; images that are damaged or not as planned are drawn again.
        overwrite: replace an earlier pool.
        source: name of the pipeline, for the record; by default its own ``_name_or_path``.
        extra_guides: more classifiers that steer; see the pipeline.
        repair: images to draw again once all are there, each in its place with its next seed, until none has a fault
            or has had enough tries; of a pool that was filled before with ``resume``.  Images of one colour, in any
            case, where the pipeline is not our own.
        progress: called in the first process with stage, images that all processes have written, and total.

    Returns:
        The finished pool.

    Raises:
        FileExistsError: the folder holds something else, or a pool while neither ``resume`` nor ``overwrite`` is given,
            or another run works on it.
        ValueError: the settings of a resumed pool differ (the message says which), or bad settings, such as a
            precision that the pipeline's weights are too coarse for.
        StoppedError: SIGTERM came; the batch that was being drawn is finished.
        FailedElsewhereError: another process failed, which raises why.
    """
    folder, state = Path(folder), this_process()
    config, drawer = config or PoolConfig(), _drawer_of(pipeline, extra_guides)
    names = drawer.class_names
    precision = agreed_precision(config.precision, drawer.pipeline, folder if resume else None)
    with fail_together():
        begun = guidance_begun(folder) if resume and state.is_main_process else {}
    begun = gather(begun)[0]  # a disk that they share may show others no record yet
    with fail_together():
        if batch_size < 1:
            raise ValueError(f"the batch size is {batch_size}; draw at least 1 image at a time, such as {BATCH_SIZE}")
        if begun and isinstance(drawer, LabelDrawer):  # the defaults of its pipeline may have changed since
            steps = config.num_inference_steps or drawer.pipeline.default_num_inference_steps
            begun["guidance_interval"] = own_interval(begun["guidance_interval"], steps)
            unsaid = {name: value for name, value in begun.items() if getattr(config, name) is None}
            config = replace(config, **unsaid)
        config = replace(config, precision=precision).for_classes(names)
        jobs = plan(config, names, folders_begun(folder, names) if resume else None)
        if drawer.always_repaired:  # so that every row says how often
            jobs = [replace(job, redrawn=0) for job in jobs]
        repair = with_faults(repair, drawer.always_repaired)
        if repair is not None:
            repair.require_possible(drawer.guide, pushed_apart=config.diversity.scale > 0)
        config = drawer.checked(config, jobs)  # what would stop the first batch does before a file is touched
        class_map = _class_map(drawer, jobs)
        record = provenance_of(drawer, config, source=source)
    _require_alike(record, batch_size)
    with ExitStack() as leaving:
        with fail_together():
            if state.is_main_process:
                leaving.enter_context(locked(folder))
                if begin(folder, record, resume=resume, overwrite=overwrite):
                    leaving.enter_context(undone_if_empty(folder))
        log = leaving.enter_context(run_log(folder, state.process_index))
        asked = leaving.enter_context(stop_signal())
        told = progress if state.is_main_process else None
        if config.noise_candidates > 1:
            with fail_together():
                drawn = _seeds_drawn(folder) if state.is_main_process else {}
            drawn = gather(drawn)[0]
            jobs = with_chosen_noise(jobs, config.noise_candidates, drawer.noise, told, drawn=drawn)
        work = _Work(
            folder,
            drawer.image_size,
            partial(drawer.draw, config),
            batch_size,
            asked,
            told,
            log,
            starts_in_colour="empty" in drawer.always_repaired,
        )
        log.info(_circumstances(drawer.pipeline.device, config.precision, batch_size))
        work.draw_and_repair(jobs, repair, drawer.guide, record["guide"], class_map)
    return read_pool(folder)


def _drawer_of(pipeline: DifficultyGuidedPipeline | Drawer, extra_guides: Sequence[nn.Module]) -> Drawer:
    if isinstance(pipeline, DifficultyGuidedPipeline):
        return LabelDrawer(pipeline, extra_guides)
    if not hasattr(pipeline, "draw"):
        raise ValueError(
            f"fill_pool draws by a DifficultyGuidedPipeline, and not by a {type(pipeline).__name__} as it is; give "
            "SteerablePipeline(pipeline, guide=...)"
        )
    if extra_guides:
        raise ValueError("extra guides belong to the SteerablePipeline itself; give it extra_guides=[...]")
    return pipeline


def _class_map(drawer: Drawer, jobs: Sequence[ImageJob]) -> dict[str, int]:
    """Names of the classes that are drawn to the guide's labels, but for names that two classes share."""
    names = {job.label: job.class_name for job in jobs}
    if drawer.guide is None:
        return {}
    pairs, shared = zip(names.values(), drawer.guide_labels(list(names)), strict=True), Counter(names.values())
    return {name: label for name, label in pairs if shared[name] == 1}


def _seeds_drawn(folder: Path) -> dict[str, int]:
    """File name to seed of the images that are there and were not drawn again."""
    return {row["file_name"]: row["seed"] for row in rows_so_far(folder) if "seed" in row and not times_redrawn(row)}


def _require_alike(record: Mapping[str, Any], batch_size: int) -> None:
    """Processes of other settings, started by hand on another machine, would draw parts of another pool."""
    kept = {
        name: record[name]
        for name in ("pipeline", "settings", "classes", "dtype", "scheduler", DETAILS)
        if name in record
    }
    first, *rest = gather(kept | {"batch_size": batch_size})
    for number, other in enumerate(rest, 1):
        if differing := list(differences(first, other)):
            raise ValueError(
                f"process {number} was started with other settings than process 0: {'; '.join(differing[:5])}; "
                "start all with the same command"
            )


def _circumstances(device: torch.device, precision: str, batch_size: int) -> str:
    """What a pool's speed and last bits depend on and its settings do not tell."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return (
        f"{this_process().num_processes} process(es) on {device.type} ({name}), {torch.get_num_threads()} threads, "
        f"{precision}, torch {torch.__version__}, batch size {batch_size}"
    )


@dataclass(frozen=True)
class _Work:
    """What all runs of one call share: the first, and a further one for each round of a repair."""

    folder: Path
    image_size: tuple[int, int] | None
    draw: Draw
    batch_size: int
    asked: threading.Event
    progress: Progress | None
    log: logging.Logger
    starts_in_colour: bool  # else no seed will mend what it draws

    def draw_and_repair(
        self,
        jobs: Sequence[ImageJob],
        repair: Repair | None,
        guide: nn.Module | None,
        guide_name: str | None,
        class_map: Mapping[str, int],
    ) -> None:
        """Draw what is missing, then what has a fault until nothing more can be mended, and finish the pool."""
        times = self._told(lambda: (times_of_rows(self.folder, jobs), pending_round(self.folder / ROWS)))
        jobs, pending = with_times(with_times(jobs, times[0]), times[1]), times[1]
        self.fill(jobs, jobs, leave=pending)
        number, faults = 0, None
        while pending or repair is not None:
            if not pending:
                assert repair is not None  # the loop asks
                rows = self._told(partial(rows_of_all, self.folder, jobs, patience=self._patience))
                pending, faults = next_round(self.folder, rows, repair, guide, guide_name, class_map, self.progress)
                if not pending:
                    break
                self._told(partial(begin_round, self.folder / ROWS, pending))
            number, jobs = number + 1, with_times(jobs, pending)
            again = [job for job in jobs if job.file_name in pending]
            self.fill(jobs, again, stage=f"drawn again, {number}", again=pending)
            pending = {}
        record = None
        if repair is not None and faults is not None:
            record = {"repair": repair.record() | {"given_up": len(faults.kinds)}, "faults": faults.record()}
        self._told(
            lambda: finish(
                self.folder,
                jobs,
                patience=self._patience,
                given_up=None if faults is None else faults.kinds,
                repaired=record,
            )
        )

    def fill(
        self,
        jobs: Sequence[ImageJob],
        batches: Sequence[ImageJob],
        *,
        stage: str = "images",
        leave: Collection[str] = (),
        again: Collection[str] = (),
    ) -> None:
        """Draw what is missing.

        Args:
            jobs: all images of the pool.
            batches: those whose stretches are drawn.
            leave: file names of images that the next round draws.
            again: those that this one does.
        """
        name = self._told(
            lambda: take_stock(self.folder, jobs, self.image_size, again={*leave, *again}, check=not again)[1].name
        )
        run = self.folder / ROWS / name
        there, names = earlier_images(self.folder), {job.file_name for job in batches}
        scored = bool(again) and any("difficulty_by" in row for row in read_rows(self.folder / ROWS / EARLIER_ROWS))
        done, state = (there & names) | set(leave), this_process()
        self.log.info("%d of %d images are there", len(done) - len(leave), len(batches))
        tell = _teller(run, len(done), len(batches), self.progress, self.log if state.is_main_process else None, stage)
        with fail_together():
            try:
                with written_behind(run, state.process_index, scored=scored) as write:
                    pieces = drawn_pieces(self.draw, run, batches, done, self.batch_size, self.asked)
                    for piece in with_colours(pieces) if self.starts_in_colour and not done else pieces:
                        write([one for one in piece if one[0].file_name not in done])
                        tell()
            except Exception:
                with suppress(OSError):  # of a full disk, or a run that is over; why it failed is what counts
                    ask_to_stop(run)  # the others need not go on for hours
                raise
        stopped, count = any(gather(self.asked.is_set())), tell(last=True)
        if stopped:
            way = "go on with resume=True" if count else "start again"
            raise StoppedError(f"stopped as asked, {count} of {len(batches)} images are there; {way}")

    @property
    def _patience(self) -> float:
        return PATIENCE if this_process().num_processes > 1 else 0

    def _told(self, look: Callable[[], Told]) -> Told:
        """What the first process finds, in every one."""
        found: Any = None
        with fail_together():
            if this_process().is_main_process:
                found = look()
        return gather(found)[0]


def _teller(
    run: Path,
    done: int,
    total: int,
    progress: Progress | None,
    log: logging.Logger | None,
    stage: str,
) -> Callable[..., int]:
    """A function that counts what all processes have written, tells it, and from time to time logs it."""
    rows, begun = RowCount(run), time.monotonic()
    logged = begun
    if progress is not None:
        progress(stage, done, total)

    def tell(*, last: bool = False) -> int:
        nonlocal logged
        if progress is None and log is None and not last:  # one process tells, and the others need not count
            return done
        new, now = rows(), time.monotonic()
        if progress is not None:
            progress(stage, done + new, total)
        if log is not None and (last or now - logged >= LOG_SECONDS):
            rate, logged = new / (now - begun), now
            left = f", about {timedelta(seconds=round((total - done - new) / rate))} left" if rate and not last else ""
            log.info("%d of %d images, %.1f images/s in this run%s", done + new, total, rate, left)
        return done + new

    return tell
