"""A distillation: pools -> selection -> a classifier trained on each set -> real test images -> a report.

Five sets are compared at the same IPC: random real images, random ones of an unguided pool, DGS on that pool by the
paper's rule and by matching, and DGS on a guided pool, whose images were drawn to modes of the real ones and, where a
target is given, steered to its difficulties.  Herding of the real images is a sixth, where it is asked for.  Control is
then measured by the guide, which steered, and by an evaluator, which did not.  Several processes, as accelerate starts
them, divide images and trainings among them; the first writes sets and report.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dag_diffusion.data.class_folders import require_enough
from dag_diffusion.data.files import (
    differences,
    locked,
    read_json_object,
    require_replaceable,
    write_json,
)
from dag_diffusion.data.pools import Pool
from dag_diffusion.evaluation.networks import require_trainable
from dag_diffusion.evaluation.protocols import as_protocol
from dag_diffusion.evaluation.results import Result
from dag_diffusion.evaluation.tables import Table, accuracy_table
from dag_diffusion.generation.filling import BATCH_SIZE
from dag_diffusion.generation.pool_state import looked_through
from dag_diffusion.generation.preparing.mode_search import channels_of_vae
from dag_diffusion.memory import require_memory
from dag_diffusion.processes import fail_together, gather, is_main_process, resolve_device
from dag_diffusion.progress import Progress, Stage
from dag_diffusion.reporting.control import Control, control_table, measure_control
from dag_diffusion.reporting.recipes import recipe_of
from dag_diffusion.reporting.report import write_report
from dag_diffusion.reporting.reproduction import command_of_run
from dag_diffusion.reporting.results import accuracy_drawings
from dag_diffusion.reporting.sets import ReportedSet
from dag_diffusion.sampling.scoring import score_pool

from .choosing import choose_in_rounds, require_room, with_rounds
from .compared_sets import FOLDERS, GUIDED_DGS, UNGUIDED, Choice, write_sets
from .config import DistillationConfig, whole_places
from .pools import autoguidance_of, fill_pools, pool_folder
from .setup import DistillationSetup, load_setup
from .targets_and_modes import modes_for, number_of_modes, reference_for, target_for
from .trainings import TRAININGS, accuracy_note, train_and_test

SETTINGS, RESULTS, REPORT = "run.json", "results.json", "report.html"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the models and images of a distillation come from, as its report and records tell it.

    Attributes:
        title: what is distilled.
        command: that makes all of it again.
        record: whatever else is known, JSON values.
        tables: after that of the accuracies; asked for when the report is written.
    """

    title: str
    command: str
    record: Mapping[str, Any]
    tables: Callable[[], Sequence[Table]] = tuple


@dataclass(frozen=True, kw_only=True)
class DistillationResult:
    """Everything that a distillation measured; ``results.json`` holds the same.

    Attributes:
        note: how the accuracies came about.
    """

    results: list[Result]
    control: list[Control]
    report: Path
    config: DistillationConfig
    note: str


def distill(
    output: str | Path,
    config: DistillationConfig | None = None,
    *,
    device: str | None = None,
    batch_size: int = BATCH_SIZE,
    origin: Origin | None = None,
    progress: Progress | None = None,
) -> DistillationResult:
    """Run a whole distillation into ``output``; a run that was interrupted goes on where it stopped.

    Args:
        output: new or empty folder, or that of an interrupted run with the same settings.
        config: sizes, seeds, models and images.
        device: of generation, scoring and training; default: what accelerate finds.
        batch_size: images drawn at a time, halved where memory does not suffice.
        origin: where models and images come from; default: the inputs themselves.
        progress: called with stage, done and total.

    Raises:
        FileExistsError: the folder holds something else, or another run works on it.
        ValueError: it holds a run with other settings; or see ``load_setup``.
    """
    output, config = Path(output), config or DistillationConfig()
    with ExitStack() as leaving:
        with fail_together():
            if is_main_process():
                check_output(output, config)
                leaving.enter_context(locked(output))
            device = resolve_device(device)
            loaded = Stage("models and real images", 1, progress)
            setup = load_setup(config.inputs, device)
            loaded()
            asked = replace(config, rounds=rounds_asked(config.rounds, output))
            config = with_rounds(asked, side=_side(setup), modes=number_of_modes(setup.inputs, config.ipc))
            _check_setup(setup, config)
        config, asked = gather((config, asked))[0]  # a disk that they share may show others an older folder
        origin = origin or _origin(setup, output, asked)
        with fail_together():
            if is_main_process():
                write_json(output / SETTINGS, whole_places(config.settings()))
        return _distill(setup, output, config, origin, device, batch_size, progress or _untold)


def _untold(stage: str, done: int, total: int) -> None:
    """The progress of a call that nobody follows."""


def _origin(setup: DistillationSetup, output: Path, config: DistillationConfig) -> Origin:
    record = {"images": images} if (images := setup.record()) else {}
    return Origin(title=setup.title, command=command_of_run(output, config.given()), record=record)


def _distill(
    setup: DistillationSetup,
    output: Path,
    config: DistillationConfig,
    origin: Origin,
    device: str,
    batch_size: int,
    progress: Progress,
) -> DistillationResult:
    reference = reference_for(setup, output, progress)
    target = target_for(setup, reference, output, config.ipc)
    modes = modes_for(setup, output, config.ipc, batch_size, progress)
    steer_to = target if setup.inputs.target is not None else None
    pools = fill_pools(
        setup, output, config=config, modes=modes, target=steer_to, batch_size=batch_size, progress=progress
    )
    guide, among = setup.pipeline.classifier, config.inputs.among
    looked = Stage("pools and sets looked through", len(pools) + len(FOLDERS), progress)
    scores = {name: score_pool(one, guide, among=among, features=True) for name, one in pools.items()}
    for name in pools:
        pools[name] = looked_through(pool_folder(output, name), guide, setup.guide_name, scores[name])
        looked()
    choice = Choice(
        pools=pools,
        targets={"unguided": target, "guided": steer_to},
        features={name: one.features for name, one in scores.items()},
        ipc=config.ipc,
        in_rounds=choose_in_rounds(pools["guided"], output, config, device, progress),
    )
    with fail_together():
        if is_main_process():
            write_sets(choice, output, seed=config.seed)
    sets = {}
    for name, folder in FOLDERS.items():
        sets[name] = looked_through(output / folder, guide, setup.guide_name)
        looked()
    control = measure_control(pools, setup.evaluator, among=config.inputs.among)
    results = train_and_test(choice, setup, output, config=config, device=device, progress=progress)
    note = accuracy_note(config, len(setup.test), setup.split)
    found = DistillationResult(results=results, control=control, report=output / REPORT, config=config, note=note)
    with fail_together():
        if is_main_process():
            _report(found, origin, reference, pools, sets, setup.measured)
            images = read_json_object((output / TRAININGS).with_suffix(".json"))
            write_json(output / RESULTS, _record(found, origin, images))
    return found


def rounds_asked(rounds: int | None, output: Path) -> int | None:
    """The rounds that are given, or those that a run was begun with; runs of versions without them chose in one."""
    if rounds is None and (output / SETTINGS).exists():
        return int(read_json_object(output / SETTINGS).get("rounds", 1))
    return rounds


def _side(setup: DistillationSetup) -> int:
    """Pixels of the longer side of generated images."""
    return max(setup.pipeline.image_size)


def check_output(output: Path, config: DistillationConfig) -> None:
    """Refuse an output that holds something else, or a run of other settings, before anything is written."""
    if (output / SETTINGS).exists():
        before, now = map(whole_places, (read_json_object(output / SETTINGS), config.settings()))
        for settings in (before, now):
            settings.pop("rounds", None)  # which may be others: only a set and its trainings follow from them
        differing = list(differences(before, now))
        if differing:
            raise ValueError(
                f"{output} holds a run with other settings: {'; '.join(differing)}; give those, or another folder"
            )
    else:
        require_replaceable(output, "run", lambda folder: False, overwrite=False)


def _check_setup(setup: DistillationSetup, config: DistillationConfig) -> None:
    """What the last hour of a run would need is there before the first."""
    autoguidance_of(setup.pipeline, config.autoguidance_scale)
    classes, batch_size = len(setup.class_names), as_protocol(config.protocol).batch_size
    numbers = [config.ipc * classes]
    require_trainable(
        config.network, numbers, batch_size, channels=setup.channels, size=setup.size, num_classes=classes
    )
    require_enough(setup.train, config.ipc, f"ipc={config.ipc}")  # for random real images to compare with
    side, pool = _side(setup), config.ipc * config.pool_factor * classes
    require_room(config.rounds_at(side), pool, side, channels_of_vae(setup.pipeline.vae))
    (height, width), way = setup.size, "choose a smaller size, or fewer test images"
    require_memory(len(setup.test), max(height, width), height * width * setup.channels, way)


def _record(found: DistillationResult, origin: Origin, images: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "config": found.config.settings(),
        "settings": images,
        "results": [asdict(one) for one in found.results],
        "control": [asdict(one) for one in found.control],
        **origin.record,
    }


def _report(
    found: DistillationResult,
    origin: Origin,
    reference: Mapping[str, np.ndarray],
    pools: Mapping[str, Pool],
    sets: Mapping[str, Pool],
    measured: str,
) -> None:
    ipc, of_pools = found.config.ipc, {f"pool, {name}": pool.provenance for name, pool in pools.items()}
    # the name alone reads as if difficulty guidance had won
    note = f"{found.note}. DGS: difficulty-guided sampling. {GUIDED_DGS}: {recipe_of(sets[GUIDED_DGS])}"
    write_report(
        found.report,
        title=f"Distilled {origin.title}, {ipc} {'image' if ipc == 1 else 'images'} per class",
        reference=reference,
        pools=[ReportedSet(f"pool, {name}", pool, measured) for name, pool in pools.items()],
        selected=[ReportedSet(name, pool, measured) for name, pool in sets.items()],
        tables=[
            accuracy_table(found.results, baseline=UNGUIDED, note=note),
            *([control_table(found.control)] if found.control else []),
            *origin.tables(),
        ],
        drawings=accuracy_drawings(found.results, UNGUIDED),
        provenance={"distillation": found.config.settings(), **origin.record, **of_pools},
        commands=[origin.command],
    )
