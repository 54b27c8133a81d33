"""A distillation: pools -> selection -> a classifier trained on each set -> real test images -> a report.

Five sets are compared at the same IPC: random real images, random ones of an unguided pool, DGS on that pool by the
paper's rule and by matching, and DGS on a guided pool, whose images were drawn to modes of the real ones and, where a
target is given, steered to its difficulties.  Control is then measured by the guide, which steered, and by an
evaluator, which did not.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import embedded
from .data.distilled_sets import write_distilled_set
from .data.files import differences, json_lines, locked, read_json_object, write_atomically, write_json
from .data.pools import Pool, require_writable_target
from .distillation_setup import DistillationInputs, DistillationSetup, load_setup, modes_for, reference_for, target_for
from .evaluation.control import Control, control_table, measure_control
from .evaluation.labelled_images import LabelledImages, random_rows, usual_normalisation
from .evaluation.networks import build_network
from .evaluation.protocols import PROTOCOLS
from .evaluation.results import Result
from .evaluation.tables import accuracy_table
from .evaluation.training import derived_seeds
from .evaluation.trials import Source, evaluate
from .generation.filling import BATCH_SIZE, fill_pool
from .generation.modes import Modes
from .generation.plan import PoolConfig
from .guidance.mode_guidance import ModeGuidance
from .progress import Progress, Stage
from .reporting.report import write_report
from .reporting.reproduction import command_of_run
from .reporting.results import accuracy_drawings
from .reporting.sets import ReportedSet
from .sampling.scoring import score_pool
from .sampling.selection import SelectionRule
from .sampling.subsampling import PoolSelection, subsample
from .sampling.targets import TargetDistribution

REAL, UNGUIDED = "random real", "random, unguided pool"
PAPER, DGS, DAG_DGS = "DGS, the paper's rule", "DGS, matching", "DAG + DGS"
FOLDERS = {PAPER: "set-paper", DGS: "set-dgs", DAG_DGS: "set-dag-dgs"}
SELECTIONS = {  # of each set: its pool, and the rule by which it is chosen
    PAPER: ("unguided", SelectionRule("histogram")),
    DGS: ("unguided", SelectionRule("matching", diversity="k-center")),
    DAG_DGS: ("DAG", SelectionRule("easiest", evenly="mode")),
}
# in place of the easiest, where the pool was steered
STEERED_RULE = SelectionRule("matching", diversity="k-center", evenly="mode")


def fill_pools(
    setup: DistillationSetup,
    output: Path,
    config: "DistillationConfig",
    modes: Modes,
    target: TargetDistribution | None,
    batch_size: int,
    progress: Progress,
) -> dict[str, Pool]:
    """Draw both pools into ``output``, going on where a run was interrupted.

    Args:
        modes: that DAG draws to.
        target: target difficulties of DAG; None: it draws to the modes alone.
        progress: called with stage, done and total.
    """
    everything = setup.class_names == setup.pipeline.class_names
    plain = PoolConfig(
        images_per_class=config.ipc * config.pool_factor,
        labels=None if everything else list(setup.class_names),
        seed=config.seed,
        num_inference_steps=config.num_inference_steps,
        guidance_scale=config.guidance_scale,
    )
    guided = replace(plain, target=target, modes=modes, mode_guidance=ModeGuidance(scale=config.mode_scale))
    source = setup.inputs.pipeline or "embedded default"
    return {
        name: fill_pool(
            setup.pipeline,
            output / f"pool-{name.lower()}",
            pool,
            batch_size=batch_size,
            resume=True,
            source=source,
            progress=partial(progress, f"pool, {name}"),
        )
        for name, pool in (("unguided", plain), ("DAG", guided))
    }


@dataclass(frozen=True)
class Choice:
    """DGS of a run: called with the name of a set and a seed, it chooses that set.

    Attributes:
        pools: by name.
        targets: of each pool, which its sets follow; None for a pool drawn to modes alone.
        features: of each pool's images, for rules that need them.
        ipc: images per class.
    """

    pools: Mapping[str, Pool]
    targets: Mapping[str, TargetDistribution | None]
    features: Mapping[str, np.ndarray | None]
    ipc: int

    def rule(self, name: str) -> SelectionRule:
        """By which a set is chosen; that of images drawn to modes depends on whether they were steered."""
        return STEERED_RULE if name == DAG_DGS and self.targets["DAG"] is not None else SELECTIONS[name][1]

    def is_seeded(self, name: str) -> bool:
        """Whether another seed makes another set."""
        return self.rule(name).method != "easiest"

    def __call__(self, name: str, seed: int) -> PoolSelection:
        source = SELECTIONS[name][0]
        return subsample(
            self.pools[source],
            self.ipc,
            target=self.targets[source],
            method=self.rule(name),
            features=self.features[source],
            seed=seed,
        )


def write_sets(choose: Choice, output: Path, seed: int) -> dict[str, Pool]:
    """Every set, chosen with ``seed``, in a folder of its own in ``output``; by name."""
    sets = {}
    for name, (source, _) in SELECTIONS.items():
        chosen = choose(name, seed)
        sets[name] = write_distilled_set(
            choose.pools[source],
            chosen.indices.tolist(),
            output / FOLDERS[name],
            columns=chosen.columns,
            provenance={"selection": chosen.record},
            overwrite=True,
        )
    return sets


SETTINGS = "run.json"
SIZE, REAL_IMAGES = (32, 32), 100  # of the embedded images: pixels, and how many real ones a class
MEASURED = "Difficulties by the guide."


@dataclass(frozen=True)
class DistillationConfig:
    """One distillation, from noise to test accuracy, by default on what is embedded.

    Attributes:
        ipc: images per class in the final sets, at most as many as there are real training images (embedded: 100).
        pool_factor: pool size as a multiple of IPC; the paper advises 5.  So many images are drawn to each mode.
        network, protocol: of the downstream training.
        seeds: draws and trainings of each set, paired: the i-th uses the same seed for every set.
        seed: of the pools, and of those seeds.
        mode_scale: how strongly images are drawn to modes; see ``ModeGuidance``.
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
    mode_scale: float = ModeGuidance.scale
    inputs: DistillationInputs = field(default_factory=DistillationInputs)

    def __post_init__(self) -> None:
        for name in ("ipc", "pool_factor", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.inputs.train and self.ipc > REAL_IMAGES:
            raise ValueError(
                f"ipc is {self.ipc}, but there are only {REAL_IMAGES} real images a class to compare with; lower it"
            )
        ModeGuidance(scale=self.mode_scale)
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"there is no protocol {self.protocol!r}; choose one of {', '.join(PROTOCOLS)}")
        if not self.inputs.given():  # else it depends on what will be loaded
            build_network(self.network, channels=1, size=SIZE, num_classes=len(embedded.CLASS_NAMES))

    def settings(self) -> dict[str, Any]:
        """What must agree when a run goes on; of the inputs, those that were given.  JSON values only."""
        own = {name: value for name, value in vars(self).items() if name != "inputs"}
        return own | ({"inputs": self.inputs.given()} if self.inputs.given() else {})


@dataclass(frozen=True)
class DistillationResult:
    """Everything that the road measured; ``results.json`` holds the same."""

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
    progress: Progress | None = None,
) -> DistillationResult:
    """Run the whole road into ``output``; a run that was interrupted goes on where it stopped.

    Args:
        output: new or empty folder, or that of an interrupted run with the same settings.
        config: sizes, seeds, models and images.
        device: of generation, scoring and training.
        batch_size: images drawn at a time, halved where memory does not suffice.
        progress: called with stage, done and total.

    Raises:
        FileExistsError: the folder holds something else, or another run works on it.
        ValueError: it holds a run with other settings; or see ``road_inputs.load_setup``.
    """
    output, config, progress = (
        Path(output),
        config or DistillationConfig(),
        progress or (lambda stage, done, total: None),
    )
    _check_output(output, config)
    with locked(output):
        setup = load_setup(config.inputs, device)
        _check_setup(setup, config)
        write_json(output / SETTINGS, config.settings())
        return _distill(setup, output, config, device, batch_size, progress)


def _check_output(output: Path, config: DistillationConfig) -> None:
    if (output / SETTINGS).exists():
        differing = list(differences(read_json_object(output / SETTINGS), config.settings()))
        if differing:
            raise ValueError(
                f"{output} holds a run with other settings: {'; '.join(differing)}; give those, or another folder"
            )
    elif output.is_dir() and any(output.iterdir()):
        raise FileExistsError(f"{output} holds something that is no run; choose an empty or new folder for the output")
    else:
        require_writable_target(output)


def _check_setup(setup: DistillationSetup, config: DistillationConfig) -> None:
    """What the last hour of a run would need is there before the first."""
    build_network(config.network, channels=setup.channels, size=setup.size, num_classes=len(setup.class_names))
    if few := [name for name, count in _counts(setup.train).items() if count < config.ipc]:
        raise ValueError(
            f"{setup.train.path} has fewer than {config.ipc} images of {', '.join(few)}; lower ipc, so that random "
            "real images can be drawn to compare with"
        )


def _counts(pool: Pool) -> dict[str, int]:
    return {name: int((pool.labels == label).sum()) for label, name in pool.class_names.items()}


def _distill(
    setup: DistillationSetup, output: Path, config: DistillationConfig, device: str, batch_size: int, progress: Progress
) -> DistillationResult:
    count = Stage("real images scored", len(setup.train), progress) if setup.scored else (lambda more: None)
    reference = reference_for(setup, output, count)
    target = target_for(setup, reference, output)
    targets = {"unguided": target, "DAG": target if setup.inputs.target else None}
    modes = modes_for(setup, output, config.ipc, batch_size, progress)
    pools = fill_pools(setup, output, config, modes, targets["DAG"], batch_size, progress)
    guide = setup.pipeline.classifier
    features = {name: score_pool(pool, guide, features=True).features for name, pool in pools.items()}
    choose = Choice(pools, targets, features, config.ipc)
    sets = write_sets(choose, output, config.seed)
    control = measure_control(pools, setup.evaluator)
    results = _train_and_test(setup, choose, output, config, device, progress)
    note = accuracy_note(config, len(setup.test), setup.split)
    record = {
        "config": config.settings(),
        "results": [asdict(r) for r in results],
        "control": [asdict(c) for c in control],
        **({"images": setup.record()} if setup.record() else {}),
    }
    report = _report(setup, output, config, reference, pools, sets, control, results, note)
    write_json(output / "results.json", record)
    return DistillationResult(results, control, report, config, note)


def _train_and_test(
    setup: DistillationSetup,
    choose: Choice,
    output: Path,
    config: DistillationConfig,
    device: str,
    progress: Progress,
) -> list[Result]:
    def at_random(pool: Pool) -> Callable[[int], LabelledImages]:
        positions = np.array([setup.positions[label] for label in pool.labels.tolist()])
        names = dict(enumerate(setup.class_names.values()))
        return lambda seed: setup.decoded(pool, random_rows(positions, config.ipc, seed, names))

    def chosen(name: str) -> Source:
        pool = choose.pools[SELECTIONS[name][0]]
        if not choose.is_seeded(name):
            return setup.decoded(pool, choose(name, config.seed).indices)
        return lambda seed: setup.decoded(pool, choose(name, seed).indices)

    sets = {
        REAL: at_random(setup.train),
        UNGUIDED: at_random(choose.pools["unguided"]),
        **{name: chosen(name) for name in SELECTIONS},
    }
    path, count = output / "trainings.jsonl", Stage("training and testing", len(sets) * config.seeds, progress)
    known = [Result(**row) for row in _finished_lines(path)]
    count(len(known))

    def keep(result: Result) -> None:
        write_atomically(path, json_lines([*_finished_lines(path), asdict(result)]))
        count()

    return evaluate(
        sets,
        setup.decoded(setup.test),
        network=config.network,
        protocol=PROTOCOLS[config.protocol],
        seeds=derived_seeds(config.seed, config.seeds),
        **usual_normalisation(setup.channels),
        device=device,
        known=known,
        on_result=keep,
    )


def _finished_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def _report(
    setup: DistillationSetup,
    output: Path,
    config: DistillationConfig,
    reference: Mapping[str, np.ndarray],
    pools: Mapping[str, Pool],
    sets: Mapping[str, Pool],
    control: list[Control],
    results: list[Result],
    note: str,
) -> Path:
    return write_report(
        output / "report.html",
        title=f"Distilled {setup.title}, {config.ipc} {'image' if config.ipc == 1 else 'images'} per class",
        reference=reference,
        pools=[ReportedSet(f"pool, {name}", pool, MEASURED) for name, pool in pools.items()],
        selected=[ReportedSet(name, pool, MEASURED) for name, pool in sets.items()],
        tables=[accuracy_table(results, baseline=UNGUIDED, note=note), *([control_table(control)] if control else [])],
        drawings=accuracy_drawings(results, UNGUIDED),
        provenance=_provenance(setup, config, pools),
        commands=[command_of_run(output, _given(config))],
    )


def accuracy_note(config: DistillationConfig, test_images: int, split: str = "") -> str:
    """How the accuracies came about, for whoever reads the table alone."""
    of_split = f" ({split} split)" if split else ""
    return (
        f"{config.network}, protocol {config.protocol}, last epoch, hard labels, {test_images:,} real test images"
        f"{of_split}; mean and deviation over {config.seeds} seeds; sets x runs: drawn sets, and trainings of each, "
        "from one pool each; the interval is paired by seed"
    )


def _provenance(setup: DistillationSetup, config: DistillationConfig, pools: Mapping[str, Pool]) -> dict[str, Any]:
    images = {"real images": setup.record()} if setup.record() else {}
    return {"road": config.settings(), **images, **{f"pool, {name}": pool.provenance for name, pool in pools.items()}}


def _given(config: DistillationConfig) -> dict[str, Any]:
    """Settings that are not the defaults."""
    own = {k: v for k, v in config.settings().items() if k != "inputs" and v != getattr(DistillationConfig, k)}
    return {**config.inputs.given(), **own}
