"""One call from a folder of images to a distilled set: what is lacking is trained, the rest is the distillation of run.

    FOLDER -> images -> (rehearsal) -> guide, evaluator, generator, weak one -> distill -> SET
    WORK = SET-work: images, models, pools, sets, report        SET: the chosen images, their rows and their card

Each stage leaves a folder that is whole or not there, so that the same call goes on wherever it was stopped.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dag_diffusion.data.distilled_sets import OWN, require_apart, write_distilled_set
from dag_diffusion.data.files import (
    bytes_in,
    differences,
    locked,
    read_json_object,
    require_disk,
    require_writable,
    write_json,
)
from dag_diffusion.data.imagenet import split_of, split_warning
from dag_diffusion.data.pools import PROVENANCE, Pool, read_pool, require_writable_target
from dag_diffusion.distillation.choosing import CHOOSING, require_room
from dag_diffusion.distillation.compared_sets import FOLDERS, GUIDED_DGS, SELECTIONS
from dag_diffusion.distillation.config import whole_places
from dag_diffusion.distillation.pools import pool_folder
from dag_diffusion.distillation.run import DistillationResult, Origin, distill, rounds_asked
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.generation.filling import BATCH_SIZE
from dag_diffusion.loading import load_pipeline
from dag_diffusion.processes import fail_together, gather, is_main_process, resolve_device, warn_once
from dag_diffusion.progress import Progress
from dag_diffusion.reporting.reproduction import command_of_folder

from .config import FolderConfig
from .durations import BAR, PLAN, Clock, Expected, duration_table, read_plan, within_minutes
from .models import Models, models_table, require_classes, run_config, trained_models
from .plain_images import RECORD, PlainImages, plain_images, require_same_images
from .planning.dry_run import Plan, dry_run
from .planning.models import files_of, grey_warning
from .rehearsal import rehearse
from .requirements import (
    USUAL_SIZE,
    bytes_needed,
    require_network,
    require_size,
    require_target,
    require_there,
)

logger = logging.getLogger(__name__)
SETTINGS, TIMES = "distill.json", "times.json"  # in the work folder
IMAGES, RUN = "images", "run"
OUTPUT = "output"  # in the settings, of which it is none
STAGES = {  # of the distillation, to the rows of the table of minutes
    "real images scored": "reference",
    "models and real images": "modes",
    "real images encoded": "modes",
    "pool, unguided": "pools",
    "pool, guided": "pools",
    "pools and sets looked through": "pools",
    f"{CHOOSING}, images read": "comparison",
    f"{CHOOSING}, students": "comparison",
    "features of real images": "comparison",
    "training and testing": "comparison",
}


@dataclass(frozen=True, kw_only=True)
class FolderResult:
    """What came of a folder.

    Attributes:
        chosen: the distilled set.
        distillation: accuracies, control and report.
        minutes: table of what each stage took.
    """

    chosen: Pool
    distillation: DistillationResult
    minutes: Table


@dataclass(frozen=True)
class _Task:
    """What is to be done, where, and on what."""

    folder: Path
    output: Path
    work: Path
    config: FolderConfig
    device: str
    batch_size: int

    def settings(self) -> dict[str, Any]:
        """What must agree when a distillation goes on."""
        return {"folder": str(self.folder.resolve()), **whole_places(self.config.settings())}

    def as_begun(self) -> FolderConfig:
        """The configuration, and the rounds that an earlier call has begun to choose in, where it says none."""
        return replace(self.config, rounds=rounds_asked(self.config.rounds, self.work / RUN))

    def command(self) -> str:
        """What does all of it again."""
        given = self.as_begun().given()
        if self.work != work_folder(self.output):
            given["work"] = str(self.work)
        if self.batch_size != BATCH_SIZE:
            given["batch_size"] = self.batch_size
        return command_of_folder(self.folder, self.output, given)

    def written_before(self) -> bool:
        """Whether an output that is there already is what an earlier call with this work folder has written."""
        if not (self.work / SETTINGS).exists():
            return False
        whose = read_json_object(self.work / SETTINGS).get(OUTPUT)
        return whose == str(self.output.resolve()) or self.work.resolve() == work_folder(self.output)


def work_folder(output: str | Path) -> Path:
    """Where models, pools and report of a set are: beside it, so that nobody shares them by sharing the set."""
    output = Path(output).resolve()
    return output.with_name(f"{output.name}-work")


def distill_folder(
    folder: str | Path,
    output: str | Path,
    config: FolderConfig | None = None,
    *,
    work: str | Path | None = None,
    device: str | None = None,
    batch_size: int = BATCH_SIZE,
    only_estimate: bool = False,
    on_plan: Callable[[Table], None] | None = None,
    progress: Progress | None = None,
) -> FolderResult | None:
    """Distil a folder of images; a call that was interrupted goes on where it stopped.

    Under ``accelerate launch`` every process has to call it.

    Args:
        folder: whatever ``read_pool`` reads, such as a folder for each class.
        output: of the distilled set: new or empty.
        config: how large, how long and with what.
        work: models, pools, splits and report; default: ``OUTPUT-work`` beside the output.
        device: of all that is trained and drawn; default: what accelerate finds.
        batch_size: images drawn at a time, halved where memory does not suffice.
        only_estimate: prepare the images, tell how long the rest will take, and return None.
        on_plan: called with a table of stages and minutes before the work starts.
        progress: called with stage, done and total.

    Raises:
        FileExistsError: output or work folder hold something else, or another run works there.
        FileNotFoundError: there is no such folder.
        ValueError: too few images or classes, other settings or images than those of the interrupted call, a model
            that lacks a class, or too little disk.
    """
    work = work_folder(output) if work is None else Path(work).resolve()
    with fail_together():
        device = resolve_device(device)
    task = _Task(Path(folder), Path(output), work, config or FolderConfig(), device, batch_size)
    with ExitStack() as leaving:
        with fail_together():
            if is_main_process():
                require_there(task.folder)
                _check_output(task)
                leaving.enter_context(locked(work))
                leaving.enter_context(_removed_if_refused(work))
                _begin(task)
        clock = Clock(work / TIMES, progress) if is_main_process() else Clock(None)
        leaving.callback(clock.keep)  # however this ends
        with fail_together():
            size = _size(task) if is_main_process() else 0
        images = plain_images(task.folder, work / IMAGES, task.config, gather(size)[0], clock)
        with fail_together():
            _check_before_hours(task, images)
        expected = _planned(task, images, clock)
        if on_plan is not None and is_main_process():
            on_plan(duration_table(expected, clock.seconds, note=f"on this machine; models and pools go to {work}"))
        if only_estimate:
            return None
        steps = {name: one.steps for name, one in expected.items() if one.steps}
        models = trained_models(images, work, task.config, steps, device, clock)
        result = _compared(task, images, models, expected, clock)
        with fail_together():
            if is_main_process():
                _write_set(task, images)
        minutes = duration_table(expected, clock.seconds)
        return FolderResult(chosen=read_pool(task.output), distillation=result, minutes=minutes)


def plan_folder(
    folder: str | Path,
    output: str | Path,
    config: FolderConfig | None = None,
    *,
    work: str | Path | None = None,
    batch_size: int = BATCH_SIZE,
    command: str | None = None,
) -> Plan:
    """What ``distill_folder`` would need for the same arguments, and how long it may take; nothing is done.

    Args:
        folder, output, config, work, batch_size: as of ``distill_folder``.
        command: that does it on one GPU; default: put together from the configuration.

    Raises:
        ProblemsError: something stands against it; all of that, each in a sentence.
    """
    work = work_folder(output) if work is None else Path(work).resolve()
    task = _Task(Path(folder), Path(output), work, config or FolderConfig(), "cpu", batch_size)
    return dry_run(
        folder,
        task.as_begun(),
        command=command or task.command(),
        check_places=lambda: _check_as_begun(task),
        work=work,
        batch_size=batch_size,
    )


def _check_as_begun(task: _Task) -> None:
    """Refuse what cannot go on: other settings, or other images."""
    _check_output(task)
    if (task.work / IMAGES / RECORD).exists() and not _other_settings(task):
        require_same_images(task.folder, task.work / IMAGES, task.config)


def _check_output(task: _Task) -> None:
    folder, output, work = task.folder, task.output, task.work
    for place in (output, work):
        require_apart(folder, place)
    require_apart(work, output)
    begun = (work / SETTINGS).exists()
    if _is_worked_in(work) and (differing := _other_settings(task)):
        raise ValueError(
            f"{work} holds a distillation with other settings: {'; '.join(differing)}; give those, or another output"
        )
    if not begun and work.is_dir() and any(work.iterdir()):
        raise FileExistsError(f"{work}, where models and pools go, holds something else; choose another output or work")
    own = task.written_before()
    if (output / PROVENANCE).exists() and not own:
        raise FileExistsError(
            f"{output} holds a pool or a set that {work} does not know as its output; choose another output"
        )
    require_writable_target(output, overwrite=own)
    require_writable(work)


def _is_worked_in(work: Path) -> bool:
    """Whether something was trained or drawn, and not only images prepared and a plan made of how long it will take."""
    prepared = {IMAGES, SETTINGS, TIMES, PLAN}
    return work.is_dir() and any(one.name not in prepared and not one.name.startswith(".") for one in work.iterdir())


def _other_settings(task: _Task) -> list[str]:
    """What an earlier call in the work folder was asked otherwise, in words."""
    place = task.work / SETTINGS
    if not place.exists():
        return []
    before, now = whole_places(read_json_object(place)), task.settings()
    told = {OUTPUT, "rounds"} | (_known_images(task) if (task.work / PLAN).exists() else set())
    before, now = ({name: one[name] for name in one.keys() - told} for one in (before, now))
    return list(differences(before, now))


def _known_images(task: _Task) -> set[str]:
    """Which folders the images themselves tell, wherever they are; ``plain_images`` compares them."""
    record = task.work / IMAGES / RECORD
    known = read_json_object(record)["files"] if record.exists() else {}
    given = {"folder": task.folder, "test": task.config.test}
    return {role for role, place in given.items() if place and "content" in known.get(role, {})}


def _begin(task: _Task) -> None:
    """Note the settings; what a call with others prepared, before it was refused or ended with its plan, goes."""
    if _other_settings(task):
        for prepared in (task.work / IMAGES / RECORD, task.work / PLAN):
            prepared.unlink(missing_ok=True)
    write_json(task.work / SETTINGS, task.settings() | {OUTPUT: str(task.output.resolve())})


@contextmanager
def _removed_if_refused(work: Path) -> Iterator[None]:
    """Leave nothing in the work folder of a call that was refused before its images were there."""
    try:
        yield
    except (ValueError, FileNotFoundError):
        if not (work / IMAGES / RECORD).exists() and not (work / PLAN).exists():
            shutil.rmtree(work / IMAGES, ignore_errors=True)
            for name in (TIMES, SETTINGS):  # which says whose folder it is
                (work / name).unlink(missing_ok=True)
        raise


def _check_before_hours(task: _Task, images: PlainImages) -> None:
    require_classes(task.config, images)
    require_network(task.config, images.class_names, images.networks_size(task.config), images.channels)
    require_target(task.config, images.class_names)
    if warning := split_warning(images.test_counts, task.config.split):
        warn_once(logger, "%s", warning)
    side, pool = images.size[0], task.config.ipc * task.config.pool_factor * len(images.class_names)
    require_room(task.as_begun().rounds_at(side), pool, side, images.channels)
    needed = bytes_needed(task.config, classes=len(images.class_names), size=images.size[0])
    there = bytes_in(task.work) - bytes_in(task.work / IMAGES)  # which an earlier call has written
    require_disk(task.work, needed - there, "models and pools")


def _size(task: _Task) -> int:
    """Pixels per side of the generated images: as asked for, or as a given pipeline draws them."""
    config, record = task.config, task.work / IMAGES / RECORD
    if record.exists():
        return read_json_object(record)["size"]
    given = config.pipeline or config.base
    if given is None:
        return config.size or USUAL_SIZE
    side, _ = load_pipeline(given, device="cpu", trust_bin=config.trust_bin).image_size
    require_size(config, side)
    return side


def _planned(task: _Task, images: PlainImages, clock: Clock) -> Mapping[str, Expected]:
    """What was expected when the distillation was begun, since the number of training steps follows from it."""
    plan = task.work / PLAN
    if gather(plan.exists())[0]:
        with fail_together():  # a disk that they share may not show it to the others yet
            known = read_plan(task.work) if is_main_process() else {}
        return gather(known)[0]
    drawn_by = task.config.pipeline or task.config.vae or task.config.base
    with fail_together():
        if is_main_process() and drawn_by and (grey := grey_warning(files_of(drawn_by), images.channels)):
            logger.warning(grey)
    measured = rehearse(images, task.work, task.config, task.device, task.batch_size, clock.within("rehearsal"))
    expected = within_minutes(measured, task.config.minutes)
    with fail_together():
        if is_main_process():
            write_json(plan, {name: vars(one) for name, one in expected.items()})
    return expected


def _compared(
    task: _Task, images: PlainImages, models: Models, expected: Mapping[str, Expected], clock: Clock
) -> DistillationResult:
    config, folder = task.config, task.folder
    split = {"stated": config.split, "found": split_of(images.test_counts)}
    origin = Origin(
        title=f"{folder.resolve().name} ({len(images.class_names)} classes)",
        command=task.command(),
        record={"images": images.record, "split": split, "models": models.records},
        tables=lambda: [
            *models_table(models),
            *images.tables(),
            duration_table(expected, clock.seconds, note="when this report was written"),
        ],
    )
    return distill(
        task.work / RUN,
        run_config(images, config, models),
        device=task.device,
        batch_size=task.batch_size,
        origin=origin,
        progress=lambda stage, done, total: clock(f"{STAGES.get(stage, stage)}{BAR}{stage}", done, total),
    )


def _write_set(task: _Task, images: PlainImages) -> None:
    """Keep what the rule chose that was best in all that was measured before, whatever these test images say."""
    run, balance = task.work / RUN, task.config.balance
    pool, chosen = read_pool(pool_folder(run, SELECTIONS[GUIDED_DGS][0])), read_pool(run / FOLDERS[GUIDED_DGS])
    places = {row["file_name"]: place for place, row in enumerate(pool.rows)}
    added = dict.fromkeys(name for row in chosen.rows for name in row if name not in (*pool.rows[0], *OWN))
    write_distilled_set(
        pool,
        [places[row["source"]] for row in chosen.rows],
        task.output,
        columns={name: [row.get(name) for row in chosen.rows] for name in added},
        provenance={
            "selection": chosen.provenance["selection"],
            "images": images.summary() | ({"balance": balance} if balance else {}),
        },
        overwrite=True,
    )
