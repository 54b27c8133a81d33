"""How long each stage takes, on what it was measured on, and spread over GPUs.

seconds on n GPUs = seconds / n for images, seconds of one * ceil(trainings / n) for trainings of networks
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dag_diffusion import embedded
from dag_diffusion.distillation.learnable import NETWORK, PROTOCOL, students_of
from dag_diffusion.evaluation.protocols import as_protocol
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.own_images.config import FolderConfig
from dag_diffusion.own_images.durations import FEWEST_STEPS, MOST_STEPS, Expected
from dag_diffusion.own_images.models import EVALUATOR, GENERATOR, GUIDE, WEAK, classifier_config, number_learnt_from
from dag_diffusion.own_images.rehearsal import SETS
from dag_diffusion.training.classifiers.backbones import default_backbone
from dag_diffusion.training.classifiers.plan import kind_of
from dag_diffusion.training.generators.settings import GeneratorConfig
from dag_diffusion.training.loop import LoopConfig

from . import rates
from .commands import GPUS
from .rates import UNMEASURED, Rate


@dataclass(frozen=True)
class Stage:
    """A part of the work.

    Attributes:
        work: how much of it there is, in words.
        parts: that may be done at the same time; 0: any number.
        cpu, gpu: how long all of it takes on one.
    """

    work: str
    cpu: Rate
    gpu: Rate
    parts: int = 0

    def on_gpus(self, count: int) -> float | None:
        """Seconds on so many."""
        if self.gpu.seconds is None:
            return None
        if not self.parts:
            return self.gpu.seconds / count
        return self.gpu.seconds / self.parts * math.ceil(self.parts / count)


def stages_of(
    config: FolderConfig,
    *,
    images: int,
    classes: int,
    size: int,
    batch_size: int,
    is_dit_xl: bool,
    trains: bool,
    here: Mapping[str, Expected],
) -> dict[str, Stage]:
    """All that takes long, by its name in the table of minutes.

    Args:
        images: to train on.
        size: pixels per side of the generated images.
        is_dit_xl: the pipeline is of the network that was measured.
        trains: guide and evaluator that are not given are trained, and herding of real images is compared too.
        here: what was measured on this machine, by stage; its training steps are those that will be taken.
    """
    steps = {name: one.steps for name, one in here.items() if one.steps}
    found: dict[str, Stage] = {}
    for role, given in ((GUIDE, config.classifier), (EVALUATOR, config.evaluator)):
        if given is None and trains:
            asked = classifier_config(role, config, steps.get(role, config.classifier_steps))
            kind = kind_of(default_backbone(asked.as_role(), (size, size)), "pretrained")
            loop = asked.loop(number_learnt_from(images), kind)
            trainings = 1 + (config.folds if role == GUIDE else 0)
            rate = rates.learning(role, trainings * _seen(loop), size)
            work = f"{loop.steps:,} steps" + (f", {trainings} classifiers" if trainings > 1 else "")
            found[role] = Stage(work, rate, UNMEASURED)
    if config.pipeline is None:
        usual = GeneratorConfig(steps=steps.get(GENERATOR, config.generator_steps))
        rate = UNMEASURED
        if config.base is None:
            vae_images = 0 if config.vae else _seen(usual.vae_loop)
            rate = rates.learning_of_generator(_seen(usual.loop), vae_images, size)
        found[GENERATOR] = Stage(f"{usual.loop.steps:,} steps", rate, UNMEASURED)
        if config.trains_weak:
            weaker = usual.weaker("")
            loop = replace(weaker, steps=steps.get(WEAK, weaker.steps)).loop
            found[WEAK] = Stage(f"{loop.steps:,} steps", rates.learning(WEAK, _seen(loop), size), UNMEASURED)
    found["modes"] = Stage(f"{images:,} real images scored and encoded", UNMEASURED, UNMEASURED)
    found["pools"] = _pools(config, 2 * config.ipc * config.pool_factor * classes, size, batch_size, is_dit_xl)
    found["comparison"] = _comparison(config, classes, size, SETS - (not trains))
    return found


def _seen(loop: LoopConfig) -> int:
    """Images in all steps of a training together."""
    return loop.steps * loop.batch_size


def _pools(config: FolderConfig, images: int, size: int, batch_size: int, is_dit_xl: bool) -> Stage:
    gpu = cpu = UNMEASURED
    steered = config.target is not None
    if is_dit_xl:
        steps = config.num_inference_steps or rates.STEPS_OF_DIT_XL
        options = {"precision": config.precision}
        plain = rates.drawing_by_dit_xl(images // 2, steps, batch_size, steered=False, **options)
        guided = rates.drawing_by_dit_xl(images - images // 2, steps, batch_size, steered=steered, **options)
        told = plain.source + (f"; {guided.source.partition(': ')[2]}" if steered else "")
        gpu = Rate((plain.seconds or 0) + (guided.seconds or 0), told)
    elif config.base is None and config.pipeline in (None, str(embedded.PIPELINE)):  # the network that was measured
        cpu = rates.drawing_by_small(images, config.num_inference_steps or rates.STEPS_OF_SMALL, size)
    return Stage(f"{images:,} images", cpu, gpu)


def _comparison(config: FolderConfig, classes: int, size: int, sets: int) -> Stage:
    trainings, side = sets * config.seeds, config.size or size
    epochs, images = as_protocol(config.protocol).epochs_for(config.ipc), config.ipc * classes
    students = students_of(config.rounds_at(size))

    def taken(*, gpu: bool) -> Rate:
        one = rates.training_on_set(config.network, config.protocol, epochs * images, side, gpu=gpu)
        if one.seconds is None:
            return one
        learnt = as_protocol(PROTOCOL).epochs_for(config.ipc) * images // 2
        student = rates.training_on_set(NETWORK, PROTOCOL, learnt, size, gpu=gpu)
        unmeasured = ", without the students" if students and student.seconds is None else ""
        return Rate(trainings * one.seconds + students * (student.seconds or 0), one.source + unmeasured)

    work = f"{trainings} trainings of {images:,} images, {epochs:,} epochs each"
    work += f", and {students} students" if students else ""
    return Stage(work, taken(gpu=False), taken(gpu=True), parts=trainings)


def time_table(stages: Mapping[str, Stage], here: Mapping[str, Expected], *, minutes: float | None = None) -> Table:
    """Stages and what they take where any of it is known; which figure that is from stands below.

    Args:
        here: what an earlier ``--estimate`` has measured on this machine, by stage.
        minutes: what all of it is to take, for which steps of training are fitted when it is first measured.
    """
    gpus = {f"{n} GPU{'s' * (n > 1)}": n for n in GPUS}
    times: dict[str, list[float | None]] = {
        "here": [here[name].total if name in here else None for name in stages],
        "2 cores": [stage.cpu.seconds for stage in stages.values()],
        **{column: [stage.on_gpus(n) for stage in stages.values()] for column, n in gpus.items()},
    }
    known = {column: found for column, found in times.items() if any(seconds is not None for seconds in found)}
    known = known or {"2 cores": times["2 cores"]}
    rows = [
        [name, stage.work, *(_told(found[row]) for found in known.values())]
        for row, (name, stage) in enumerate(stages.items())
    ]
    measured = ([seconds for seconds in found if seconds is not None] for found in known.values())
    rows.append(["what is known of", "", *(_told(sum(found) if found else None) for found in measured)])
    note = _origins(stages, gpus=bool(known.keys() & gpus.keys()))
    if minutes is not None and not here:
        note += (
            f" Shown is the usual number of steps; for minutes={minutes:g} training gets {FEWEST_STEPS:g} to "
            f"{MOST_STEPS:g} times as many, by the speed that is measured when it begins."
        )
    return Table("Time", ["stage", "work", *known], rows, note=note)


def _origins(stages: Mapping[str, Stage], *, gpus: bool) -> str:
    """Where the times are from, and what they leave out."""
    sources = {
        name: dict.fromkeys(rate.source for rate in (stage.cpu, stage.gpu) if rate.seconds is not None)
        for name, stage in stages.items()
    }
    told = [f"{name}: {' and '.join(found)}." for name, found in sources.items() if found]
    devices = f"{rates.CPU}; GPUs as {rates.GPU}, taken to be independent" if gpus else f"{rates.CPU}, never on a GPU"
    measured = ["Rates measured, in benchmarks/results:", *told] if told else []
    return " ".join(
        [*measured, f"Measured on {devices}; loading and writing left out. What was never measured is a ?."]
    )


def _told(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
