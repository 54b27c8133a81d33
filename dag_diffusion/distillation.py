"""A distillation: pools -> selection -> a classifier trained on each set -> real test images -> a report.

Five sets are compared at the same IPC: random real images, random ones of an unguided pool, DGS on that pool by the
paper's rule and by matching, and DGS on a guided pool, whose images were drawn to modes of the real ones and, where a
target is given, steered to its difficulties.  Herding of the real images is a sixth, where it is asked for.  Control is
then measured by the guide, which steered, and by an evaluator, which did not.  Several processes, as accelerate starts
them, divide images and trainings among them; the first writes sets and report.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import embedded
from .compared_sets import (
    FOLDERS,
    HERDING,
    REAL,
    SELECTIONS,
    UNGUIDED,
    Choice,
    digests_of_sets,
    herding_of,
    write_sets,
)
from .data.class_folders import require_enough
from .data.files import differences, locked, read_json_object, require_replaceable, write_json
from .data.pools import Pool
from .distillation_setup import (
    DistillationInputs,
    DistillationSetup,
    load_setup,
    modes_for,
    reference_for,
    target_for,
    whole_places,
)
from .evaluation.labelled_images import digest, random_rows, usual_normalisation
from .evaluation.networks import build_network, require_trainable
from .evaluation.protocols import as_protocol, require_hard_labels
from .evaluation.records import append_result, finished_trainings, part_of, trainings_on
from .evaluation.results import Result
from .evaluation.tables import Table, accuracy_table
from .evaluation.training import derived_seeds
from .evaluation.trials import Source, evaluate
from .generation.filling import BATCH_SIZE, fill_pool
from .generation.modes import Modes
from .generation.plan import PoolConfig, networks_precision
from .generation.pool_state import looked_through
from .guidance.difficulty_guidance import GuidanceConfig
from .guidance.mode_guidance import ModeGuidance
from .pipelines.call_inputs import require_number
from .pipelines.difficulty_guided import DifficultyGuidedPipeline
from .processes import fail_together, gather, is_main_process, rank
from .progress import Progress, Stage, renamed
from .reporting.control import Control, control_table, measure_control
from .reporting.report import write_report
from .reporting.reproduction import command_of_run
from .reporting.results import accuracy_drawings
from .reporting.sets import ReportedSet
from .sampling.scoring import score_pool
from .sampling.targets import TargetDistribution

SETTINGS, TRAININGS, RESULTS, REPORT = "run.json", "trainings.jsonl", "results.json", "report.html"
AUTOGUIDANCE = 1.5  # scale of pools where there is a weak denoiser and nothing else is said
EMBEDDED_SIZE, EMBEDDED_PER_CLASS = (32, 32), 100  # pixels of the embedded images; real training images of each class


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """One distillation, from noise to test accuracy, by default on what is embedded.

    Attributes:
        ipc: images per class in the final sets.  At most as many as there are real training images (embedded: 100).
        pool_factor: pool size as a multiple of IPC; the paper advises 5.  So many images are drawn to each mode.
        network: classifier to train on each set, such as convnet-3 or resnet-ap-10.  See ``list_networks``.
        protocol: how to train it: quick, classic or hard-label.  See ``list_protocols``.
        seeds: draws and trainings of each set, paired by seed.  The i-th uses the same seed for every set.
        seed: random seed of the pools.  The seeds of draws and trainings follow from it.
        num_inference_steps: denoising steps; default: the pipeline's own.
        guidance_scale: strength of classifier-free guidance, on above 1; default: the pipeline's own.
        autoguidance_scale: strength of autoguidance of both pools, on above 1, which needs a weak denoiser; default:
            the pipeline's own, or else 1.5 where there is a weak denoiser.
        mode_scale: strength of mode guidance; default: as strong as 0.2 at 20 steps.  See ``ModeGuidance``.
        herding: also train on real images chosen by herding on the guide's features, the usual coreset.
        inputs: models and real images.
    """

    ipc: int = 10
    pool_factor: int = 5
    network: str = "convnet-3"
    protocol: str = "quick"
    seeds: int = 3
    seed: int = 0
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    autoguidance_scale: float | None = None
    mode_scale: float | None = ModeGuidance.scale
    herding: bool = False
    inputs: DistillationInputs = field(default_factory=DistillationInputs)

    def __post_init__(self) -> None:
        for name, least in {"ipc": 1, "pool_factor": 1, "seeds": 1, "seed": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.inputs.train is None and self.ipc > EMBEDDED_PER_CLASS:
            raise ValueError(
                f"ipc is {self.ipc}, but there are only {EMBEDDED_PER_CLASS} real images a class to compare with; "
                "lower it"
            )
        ModeGuidance(scale=self.mode_scale)
        require_scales(self.guidance_scale, self.autoguidance_scale, weak=self.inputs.weak)
        require_hard_labels(self.protocol)
        if not self.inputs.given():  # else it depends on what will be loaded
            build_network(self.network, channels=1, size=EMBEDDED_SIZE, num_classes=len(embedded.CLASS_NAMES))

    def settings(self) -> dict[str, Any]:
        """What must agree when a run goes on; of the inputs, those that were given.  JSON values only."""
        own = {name: value for name, value in vars(self).items() if name != "inputs"}
        for name in ("herding", "autoguidance_scale"):
            if own[name] in (None, False):
                del own[name]  # so that runs of versions without it go on
        return own | ({"inputs": self.inputs.given()} if self.inputs.given() else {})

    def given(self) -> dict[str, Any]:
        """The settings that are not the defaults."""
        own = {name: value for name, value in self.settings().items() if name != "inputs"}
        return self.inputs.given() | {k: v for k, v in own.items() if v != getattr(DistillationConfig, k)}


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
    device: str = "cpu",
    batch_size: int = BATCH_SIZE,
    origin: Origin | None = None,
    progress: Progress | None = None,
) -> DistillationResult:
    """Run a whole distillation into ``output``; a run that was interrupted goes on where it stopped.

    Args:
        output: new or empty folder, or that of an interrupted run with the same settings.
        config: sizes, seeds, models and images.
        device: of generation, scoring and training.
        batch_size: images drawn at a time, halved where memory does not suffice.
        origin: where models and images come from; default: the inputs themselves.
        progress: called with stage, done and total.

    Raises:
        FileExistsError: the folder holds something else, or another run works on it.
        ValueError: it holds a run with other settings; or see ``distillation_setup.load_setup``.
    """
    output, config = Path(output), config or DistillationConfig()
    with ExitStack() as leaving:
        with fail_together():
            if is_main_process():
                check_output(output, config)
                leaving.enter_context(locked(output))
            loaded = Stage("models and real images", 1, progress)
            setup = load_setup(config.inputs, device)
            loaded()
            _check_setup(setup, config)
            if is_main_process():
                write_json(output / SETTINGS, whole_places(config.settings()))
        origin = origin or _origin(setup, output, config)
        return _distill(setup, output, config, origin, device, batch_size, progress or _untold)


def _untold(stage: str, done: int, total: int) -> None:
    """The progress of a call that nobody follows."""


def _origin(setup: DistillationSetup, output: Path, config: DistillationConfig) -> Origin:
    record = {"images": setup.record()} if setup.record() else {}
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
        pools[name] = looked_through(_pool_folder(output, name), guide, setup.guide_name, scores[name])
        looked()
    choice = Choice(
        pools=pools,
        targets={"unguided": target, "guided": steer_to},
        features={name: one.features for name, one in scores.items()},
        ipc=config.ipc,
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
    with fail_together():
        if is_main_process():
            _report(output, config, origin, reference, pools, sets, control, results, note, setup.measured)
            images = read_json_object((output / TRAININGS).with_suffix(".json"))
            write_json(output / RESULTS, _record(config, origin, images, results, control))
    return DistillationResult(results=results, control=control, report=output / REPORT, config=config, note=note)


def check_output(output: Path, config: DistillationConfig) -> None:
    """Refuse an output that holds something else, or a run of other settings, before anything is written."""
    if (output / SETTINGS).exists():
        before, now = map(whole_places, (read_json_object(output / SETTINGS), config.settings()))
        differing = list(differences(before, now))
        if differing:
            raise ValueError(
                f"{output} holds a run with other settings: {'; '.join(differing)}; give those, or another folder"
            )
    else:
        require_replaceable(output, "run", lambda folder: False, overwrite=False)


def require_scales(guidance_scale: float | None, autoguidance_scale: float | None, *, weak: str | None) -> None:
    """Refuse scales that are no finite numbers, and a weak denoiser that no image would be drawn with; ValueError."""
    for name, scale in (("guidance_scale", guidance_scale), ("autoguidance_scale", autoguidance_scale)):
        if scale is not None:
            require_number(name, scale)
    if weak is not None and autoguidance_scale is not None and autoguidance_scale <= 1:
        raise ValueError(
            f"weak is {weak!r}, which draws nothing at autoguidance_scale={autoguidance_scale:g}; leave one of the two "
            "out"
        )


def autoguidance_of(pipeline: DifficultyGuidedPipeline, scale: float | None) -> float:
    """Scale of autoguidance that pools are drawn with, see ``DistillationConfig``; 1 is off.

    Raises:
        ValueError: it is on, and the pipeline has no weak denoiser.
    """
    if pipeline.weak_transformer is None:
        require_weak(scale)
        return 1.0
    own = pipeline.config.get("default_autoguidance_scale")
    return next(one for one in (scale, own, AUTOGUIDANCE) if one is not None)


def require_weak(scale: float | None) -> None:
    """Refuse autoguidance where there is no weak denoiser; ValueError."""
    if scale is not None and scale > 1:
        raise ValueError(
            f"autoguidance_scale is {scale:g}, and the pipeline has no weak denoiser; give weak='FOLDER', a pipeline "
            "trained smaller or shorter with the same VAE on the same images, or leave autoguidance_scale out"
        )


def _check_setup(setup: DistillationSetup, config: DistillationConfig) -> None:
    """What the last hour of a run would need is there before the first."""
    autoguidance_of(setup.pipeline, config.autoguidance_scale)
    classes, batch_size = len(setup.class_names), as_protocol(config.protocol).batch_size
    numbers = [config.ipc * classes]
    require_trainable(
        config.network, numbers, batch_size, channels=setup.channels, size=setup.size, num_classes=classes
    )
    require_enough(setup.train, config.ipc, f"ipc={config.ipc}")  # for random real images to compare with


def fill_pools(
    setup: DistillationSetup,
    output: Path,
    *,
    config: DistillationConfig,
    modes: Modes,
    target: TargetDistribution | None,
    batch_size: int,
    progress: Progress,
) -> dict[str, Pool]:
    """Draw both pools into ``output``, going on where a run was interrupted.

    Args:
        modes: clusters that images of the guided pool are drawn to.
        target: difficulties that they are steered to; None: they are drawn to modes alone.
        progress: called with stage, done and total.
    """
    everything = setup.class_names == setup.pipeline.class_names
    plain = PoolConfig(
        images_per_class=config.ipc * config.pool_factor,
        labels=None if everything else list(setup.class_names),
        seed=config.seed,
        num_inference_steps=config.num_inference_steps,
        guidance_scale=config.guidance_scale,
        autoguidance_scale=autoguidance_of(setup.pipeline, config.autoguidance_scale),
        precision=networks_precision(setup.inputs.precision),
        difficulty_guidance=GuidanceConfig(among=setup.inputs.among),
    )
    guided = replace(plain, target=target, modes=modes, mode_guidance=ModeGuidance(scale=config.mode_scale))
    return {
        name: fill_pool(
            setup.pipeline,
            _pool_folder(output, name),
            pool,
            batch_size=batch_size,
            resume=True,
            source=setup.pipeline_name,
            progress=renamed(progress, f"pool, {name}"),
        )
        for name, pool in (("unguided", plain), ("guided", guided))
    }


def _pool_folder(output: Path, name: str) -> Path:
    return output / f"pool-{name}"


def train_and_test(
    choice: Choice,
    setup: DistillationSetup,
    output: Path,
    *,
    config: DistillationConfig,
    device: str,
    progress: Progress,
) -> list[Result]:
    """Train a network on each set and seed, or on what ``trainings.jsonl`` lacks, and test it on real images.

    Trainings of it that were on other images are done again.
    """

    def drawn(pool: Pool, seed: int) -> np.ndarray:
        return random_rows(setup.network_labels(pool), config.ipc, seed, setup.network_class_names)

    def at_random(pool: Pool) -> Source:
        return lambda seed: setup.decode(pool, drawn(pool, seed))

    def chosen(name: str) -> Source:
        pool = choice.pools[SELECTIONS[name][0]]
        if not choice.is_seeded(name):
            return setup.decode(pool, choice.select(name, config.seed).indices)
        return lambda seed: setup.decode(pool, choice.select(name, seed).indices)

    def coreset() -> Pool:
        scored = renamed(progress, "features of real images")
        features = score_pool(setup.train, setup.pipeline.classifier, features=True, progress=scored).features
        return setup.train.select(herding_of(setup.train, config.ipc, features))

    seeds, herding = derived_seeds(config.seed, config.seeds), {HERDING: coreset()} if config.herding else {}
    sets = {
        REAL: at_random(setup.train),
        **{name: setup.decode(pool) for name, pool in herding.items()},
        UNGUIDED: at_random(choice.pools["unguided"]),
        **{name: chosen(name) for name in SELECTIONS},
    }
    test, known = setup.decode(setup.test), list[Result]()
    with fail_together():
        if is_main_process():
            rows = np.unique([drawn(setup.train, seed) for seed in seeds])  # of all real images it would take hours
            digests = digests_of_sets(choice, output, {REAL: setup.train.select(rows), **herding})
            known = trainings_on({"test": {"digest": digest(test)}, "sets": digests}, output / TRAININGS)
    known = gather(known)[0]
    results = evaluate(
        sets,
        test,
        network=config.network,
        protocol=replace(as_protocol(config.protocol), precision=networks_precision(config.inputs.precision)),
        seeds=seeds,
        normalisation=usual_normalisation(setup.channels),
        device=device,
        known=known,
        on_result=partial(append_result, part_of(output / TRAININGS, rank())),
        progress=renamed(progress, "training and testing"),
    )
    with fail_together():
        if is_main_process():
            finished_trainings(output / TRAININGS)  # with those of the other processes, which are all done
    return results


def accuracy_note(config: DistillationConfig, test_images: int, split: str | None = None) -> str:
    """How the accuracies came about, so that their table can be read alone."""
    of_split = f" ({split} split)" if split else ""
    return (
        f"{config.network}, protocol {config.protocol}, last epoch, hard labels, {test_images:,} real test images"
        f"{of_split}; mean and deviation over {config.seeds} seeds; sets x runs: drawn sets, and trainings of each, "
        "from one pool each; the interval is paired by seed"
    )


def _record(
    config: DistillationConfig,
    origin: Origin,
    images: Mapping[str, Any],
    results: Sequence[Result],
    control: Sequence[Control],
) -> dict[str, Any]:
    return {
        "config": config.settings(),
        "settings": images,
        "results": [asdict(one) for one in results],
        "control": [asdict(one) for one in control],
        **origin.record,
    }


def _report(
    output: Path,
    config: DistillationConfig,
    origin: Origin,
    reference: Mapping[str, np.ndarray],
    pools: Mapping[str, Pool],
    sets: Mapping[str, Pool],
    control: list[Control],
    results: list[Result],
    note: str,
    measured: str,
) -> Path:
    of_pools = {f"pool, {name}": pool.provenance for name, pool in pools.items()}
    return write_report(
        output / REPORT,
        title=f"Distilled {origin.title}, {config.ipc} {'image' if config.ipc == 1 else 'images'} per class",
        reference=reference,
        pools=[ReportedSet(f"pool, {name}", pool, measured) for name, pool in pools.items()],
        selected=[ReportedSet(name, pool, measured) for name, pool in sets.items()],
        tables=[
            accuracy_table(results, baseline=UNGUIDED, note=note),
            *([control_table(control)] if control else []),
            *origin.tables(),
        ],
        drawings=accuracy_drawings(results, UNGUIDED),
        provenance={"distillation": config.settings(), **origin.record, **of_pools},
        commands=[origin.command],
    )
