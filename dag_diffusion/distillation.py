"""The whole road: guided pools -> DGS -> a classifier trained on the distilled set -> real test images -> a report.

Five sets are compared at the same IPC: random real images, random ones of an unguided pool, DGS on that pool by the
paper's rule and by matching, and matching on a pool that difficulty-aware guidance steered (DAG + DGS).  Control is
measured by the guide, which steered, and by an evaluator, which did not.
"""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from torch import nn

from . import embedded
from .classifiers import load_classifier
from .distilled_sets import write_distilled_set
from .evaluation import LabelledImages, Result, evaluate, load_labelled_images, summarise
from .files import json_lines, locked, read_json_object, write_atomically, write_json
from .generation import fill_pool
from .networks import build_network
from .pipelines.difficulty_guided import DifficultyGuidedPipeline
from .plans import PoolConfig
from .pools import Pool, read_pool, require_writable_target
from .provenance import differences
from .reporting import ReportedSet, Table, write_report
from .scoring import score_pool
from .selection import SelectionRule
from .subsampling import PoolSelection, subsample
from .targets import TargetDistribution
from .training import PROTOCOLS, derived_seeds

Progress = Callable[[str, int, int], None]  # stage, done, of
Choose = Callable[[str, int], PoolSelection]  # name of a set, seed
SETTINGS = "run.json"
SIZE, REAL_IMAGES = (32, 32), 100  # of the embedded images: pixels, and how many real ones a class
MEASURED = "Difficulties by the guide."
REAL, UNGUIDED = "random real", "random, unguided pool"
PAPER, DGS, DAG_DGS = "DGS, the paper's rule", "DGS, matching", "DAG + DGS, matching"
MATCHING = SelectionRule("matching", diversity="k-center")
SELECTIONS = {PAPER: ("unguided", SelectionRule()), DGS: ("unguided", MATCHING), DAG_DGS: ("DAG", MATCHING)}
FOLDERS = {PAPER: "set-paper", DGS: "set-dgs", DAG_DGS: "set-dag-dgs"}


@dataclass(frozen=True)
class RoadConfig:
    """One distillation on the embedded default, from noise to test accuracy.

    Attributes:
        ipc: images per class in the final sets, at most 100, since the random real images come from 100 a class.
        pool_factor: pool size as a multiple of IPC; the paper advises 5.
        network, protocol: of the downstream training.
        seeds: draws and trainings of each set, paired: the i-th uses the same seed for every set.
        seed: of the pools, and of those seeds.
    """

    ipc: int = 10
    pool_factor: int = 5
    network: str = "convnet-3"
    protocol: str = "quick"
    seeds: int = 3
    seed: int = 0
    num_inference_steps: int = PoolConfig.num_inference_steps
    guidance_scale: float = PoolConfig.guidance_scale

    def __post_init__(self) -> None:
        for name in ("ipc", "pool_factor", "seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.ipc > REAL_IMAGES:
            raise ValueError(
                f"ipc is {self.ipc}, but there are only {REAL_IMAGES} real images a class to compare with; lower it"
            )
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"there is no protocol {self.protocol!r}; choose one of {', '.join(PROTOCOLS)}")
        build_network(self.network, channels=1, size=SIZE, num_classes=len(embedded.CLASS_NAMES))


@dataclass(frozen=True)
class Control:
    """How near a pool came to its targets, by one classifier: mean absolute error and Spearman's rank correlation."""

    pool: str
    classifier: str
    error: float
    spearman: float


@dataclass(frozen=True)
class RoadResult:
    """Everything that the road measured; ``results.json`` holds the same."""

    results: list[Result]
    control: list[Control]
    report: Path
    config: RoadConfig


def distill(
    output: str | Path, config: RoadConfig | None = None, *, device: str = "cpu", progress: Progress | None = None
) -> RoadResult:
    """Run the whole road into ``output``; a run that was interrupted goes on where it stopped.

    Args:
        output: new or empty folder, or that of an interrupted run with the same settings.
        config: sizes and seeds.
        device: of generation, scoring and training.
        progress: called with stage, done and total.

    Raises:
        FileExistsError: the folder holds something else, or another run works on it.
        ValueError: it holds a run with other settings.
    """
    output, config, progress = Path(output), config or RoadConfig(), progress or (lambda stage, done, total: None)
    _check_output(output, config)
    with locked(output):
        write_json(output / SETTINGS, asdict(config))
        return _distill(output, config, device, progress)


def _check_output(output: Path, config: RoadConfig) -> None:
    if (output / SETTINGS).exists():
        differing = list(differences(read_json_object(output / SETTINGS), asdict(config)))
        if differing:
            raise ValueError(
                f"{output} holds a run with other settings: {'; '.join(differing)}; give those, or another folder"
            )
    elif output.is_dir() and any(output.iterdir()):
        raise FileExistsError(f"{output} holds something that is no run; choose an empty or new folder for the output")
    else:
        require_writable_target(output)


def _distill(output: Path, config: RoadConfig, device: str, progress: Progress) -> RoadResult:
    pipeline = load_embedded_pipeline().to(device)
    reference = embedded.training_difficulties(pipeline.class_names)
    target = TargetDistribution.from_reference(reference, name="training images, out of sample")
    pools = _fill_pools(pipeline, output, config, target, progress)
    features = {name: score_pool(pool, pipeline.classifier, features=True).features for name, pool in pools.items()}

    def choose(name: str, seed: int) -> PoolSelection:
        source, rule = SELECTIONS[name]
        options = {"target": target, "method": rule, "features": features[source], "seed": seed}
        return subsample(pools[source], config.ipc, **options)

    sets = _write_sets(pools, choose, output, config.seed)
    control = _measure_control(pools, load_classifier(embedded.EVALUATOR).to(device))
    results = _train_and_test(pools, choose, output, config, device, progress)
    report = _report(output, config, reference, pools, sets, control, results)
    record = {
        "config": asdict(config),
        "results": [asdict(r) for r in results],
        "control": [asdict(c) for c in control],
    }
    write_json(output / "results.json", record)
    return RoadResult(results, control, report, config)


def load_embedded_pipeline() -> DifficultyGuidedPipeline:
    """The embedded default, in float32, quiet."""
    pipeline = DifficultyGuidedPipeline.from_pretrained(embedded.PIPELINE)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _fill_pools(
    pipeline: DifficultyGuidedPipeline, output: Path, config: RoadConfig, target: TargetDistribution, progress: Progress
) -> dict[str, Pool]:
    pools = {}
    for name, wanted in (("unguided", None), ("DAG", target)):
        pool = PoolConfig(
            images_per_class=config.ipc * config.pool_factor,
            target=wanted,
            seed=config.seed,
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
        )
        folder, count = output / f"pool-{name.lower()}", partial(progress, f"pool, {name}")
        pools[name] = fill_pool(pipeline, folder, pool, resume=True, source="embedded default", progress=count)
    return pools


class _Counter:
    """Adds up what one stage reports."""

    def __init__(self, stage: str, total: int, progress: Progress) -> None:
        self.stage, self.total, self.progress, self.done = stage, total, progress, 0
        progress(stage, 0, total)

    def __call__(self, more: int = 1) -> None:
        self.done += more
        self.progress(self.stage, self.done, self.total)


def _write_sets(pools: Mapping[str, Pool], choose: Choose, output: Path, seed: int) -> dict[str, Pool]:
    sets = {}
    for name, (source, _) in SELECTIONS.items():
        chosen = choose(name, seed)
        sets[name] = write_distilled_set(
            pools[source],
            chosen.indices.tolist(),
            output / FOLDERS[name],
            columns=chosen.columns,
            provenance={"selection": chosen.record},
            overwrite=True,
        )
    return sets


def _measure_control(pools: Mapping[str, Pool], evaluator: nn.Module) -> list[Control]:
    """Both pools have the same images in mind, so the unguided one says how near chance comes to the targets."""
    wanted = np.array([row["target_difficulty"] for row in pools["DAG"].rows])
    rows = []
    for name, pool in pools.items():
        for classifier, found in (
            ("guide", pool.difficulties),
            ("evaluator", score_pool(pool, evaluator).difficulties),
        ):
            error, correlation = float(np.abs(found - wanted).mean()), float(spearmanr(found, wanted).statistic)
            rows.append(Control(name, classifier, error, correlation))
    return rows


def _train_and_test(
    pools: Mapping[str, Pool],
    choose: Choose,
    output: Path,
    config: RoadConfig,
    device: str,
    progress: Progress,
) -> list[Result]:
    test = load_labelled_images(read_pool(embedded.TEST), size=SIZE, channels=1)
    options = {"size": SIZE, "channels": 1, "class_names": test.class_names}
    real = load_labelled_images(read_pool(embedded.REFERENCE), **options)
    images = {name: load_labelled_images(pool, **options) for name, pool in pools.items()}

    def chosen(name: str) -> Callable[[int], LabelledImages]:
        return lambda seed: subset(images[SELECTIONS[name][0]], choose(name, seed).indices)

    sets = {
        REAL: lambda seed: random_subset(real, config.ipc, seed),
        UNGUIDED: lambda seed: random_subset(images["unguided"], config.ipc, seed),
        **{name: chosen(name) for name in SELECTIONS},
    }
    path, count = output / "trainings.jsonl", _Counter("training and testing", len(sets) * config.seeds, progress)
    known = [Result(**row) for row in _finished_lines(path)]
    count(len(known))

    def keep(result: Result) -> None:
        write_atomically(path, json_lines([*_finished_lines(path), asdict(result)]))
        count()

    return evaluate(
        sets,
        test,
        network=config.network,
        protocol=PROTOCOLS[config.protocol],
        seeds=derived_seeds(config.seed, config.seeds),
        device=device,
        known=known,
        on_result=keep,
    )


def _finished_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def subset(images: LabelledImages, indices: np.ndarray) -> LabelledImages:
    """Some of the images, with the class names of all."""
    return LabelledImages(images.images[indices], images.labels[indices], images.class_names)


def random_subset(images: LabelledImages, ipc: int, seed: int) -> LabelledImages:
    """``ipc`` images of every class drawn at random.

    Raises:
        ValueError: a class has fewer.
    """
    chosen = []
    for label, name in images.class_names.items():
        rows = np.flatnonzero(np.asarray(images.labels) == label)
        if len(rows) < ipc:
            raise ValueError(f"class {name!r} has {len(rows)} images, but {ipc} are to be drawn; lower ipc")
        chosen.append(np.random.default_rng([seed, label]).permutation(rows)[:ipc])
    return subset(images, np.concatenate(chosen))


def accuracy_table(results: list[Result], *, baseline: str = UNGUIDED, note: str = "") -> Table:
    """Test accuracy of each set in percent, with the paired difference to the baseline set."""
    sizes = {result.set: f"{result.images_per_class:g}" for result in results}
    rows = []
    for row in summarise(results, baseline=baseline):
        std = "" if row.std is None else f" ± {100 * row.std:.1f}"
        difference, interval = "", ""
        if row.set != baseline:
            difference = _signed(row.difference)
            interval = "" if row.interval is None else " to ".join(map(_signed, row.interval))
        rows.append([row.set, sizes[row.set], f"{100 * row.mean:.1f}{std}", row.seeds, difference, interval])
    columns = ["trained on", "IPC", "accuracy, %", "seeds", f"against {baseline}", "95 % interval"]
    return Table("Test accuracy", columns, rows, note)


def _signed(fraction: float) -> str:
    return f"{round(100 * fraction, 1) + 0.0:+.1f}"  # adding 0 turns -0.0 into +0.0


def control_table(control: list[Control]) -> Table:
    """Error and rank correlation of the difficulty reached, by guide and evaluator."""
    rows = [[c.pool, c.classifier, f"{c.error:.3f}", f"{c.spearman:.2f}"] for c in control]
    note = "The guide steered the images, so its error proves little; the evaluator is a network that never steers."
    return Table("Control of the difficulty", ["pool", "measured by", "mean |d - d*|", "Spearman"], rows, note)


def _report(
    output: Path,
    config: RoadConfig,
    reference: Mapping[str, np.ndarray],
    pools: Mapping[str, Pool],
    sets: Mapping[str, Pool],
    control: list[Control],
    results: list[Result],
) -> Path:
    return write_report(
        output / "report.html",
        title=f"Distilled Fashion-MNIST, {config.ipc} {'image' if config.ipc == 1 else 'images'} per class",
        reference=reference,
        pools=[ReportedSet(f"pool, {name}", pool, MEASURED) for name, pool in pools.items()],
        selected=[ReportedSet(name, pool, MEASURED) for name, pool in sets.items()],
        tables=[accuracy_table(results, note=accuracy_note(config)), control_table(control)],
        provenance=_provenance(config, pools),
        commands=[_command(output, config)],
    )


def accuracy_note(config: RoadConfig) -> str:
    """How the accuracies came about, for whoever reads the table alone."""
    return (
        f"{config.network}, protocol {config.protocol}, last epoch, 10,000 real test images; mean and deviation "
        f"over {config.seeds} draws with one training each, from one pool each; the interval is paired by seed"
    )


def _provenance(config: RoadConfig, pools: Mapping[str, Pool]) -> dict[str, Any]:
    return {"road": asdict(config), **{f"pool, {name}": pool.provenance for name, pool in pools.items()}}


def _command(output: Path, config: RoadConfig) -> str:
    changed = {k: v for k, v in asdict(config).items() if v != getattr(RoadConfig, k)}
    return " ".join(
        [
            f"dag-diffusion run --output {shlex.quote(str(output))}",
            *(f"--{k.replace('_', '-')} {v}" for k, v in changed.items()),
        ]
    )
