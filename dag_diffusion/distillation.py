"""The whole road: guided pools -> DGS -> a classifier trained on the distilled set -> real test images -> a report.

Four sets are compared at the same IPC: random real images, random from an unguided pool, DGS on that pool, and DGS on a
pool that difficulty-aware guidance steered (DAG + DGS).  Control is measured by the guide, which steered, and by an
evaluator, which did not.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from torch import nn

from . import embedded
from .classifiers import load_classifier
from .difficulty import score_pool
from .evaluation import LabelledImages, Result, evaluate, load_labelled_images, summarise
from .generation import PoolConfig, fill_pool
from .pipelines.difficulty_guided import DifficultyGuidedPipeline
from .pools import Pool, read_pool, write_atomically, write_distilled_set
from .reporting import ReportedSet, Table, write_report
from .subsampling import PoolSelection, subsample
from .targets import TargetDistribution
from .training import PROTOCOLS

logger = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]  # stage, done, of
REAL, UNGUIDED, DGS, DAG_DGS = "random real", "random, unguided pool", "DGS", "DAG + DGS"


@dataclass(frozen=True)
class RoadConfig:
    """One distillation on the embedded default, from noise to test accuracy.

    Attributes:
        ipc: images per class in the final sets.
        pool_factor: pool size as a multiple of IPC; the paper advises 5.
        network, protocol, seeds: of the downstream training; results are paired by seed.
        seed: of pools and draws.
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
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"there is no protocol {self.protocol!r}; choose one of {', '.join(PROTOCOLS)}")


@dataclass(frozen=True)
class Control:
    """How well a pool met its targets, by one classifier: mean absolute error and Spearman's rank correlation."""

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
    config: RoadConfig = field(default_factory=RoadConfig)


def distill(output: str | Path, config: RoadConfig | None = None, *, progress: Progress | None = None) -> RoadResult:
    """Run the whole road into ``output``; a run that was interrupted goes on where it stopped.

    Args:
        output: new or empty folder, or that of an interrupted run with the same settings.
        config: sizes and seeds.
        progress: called with stage, done and total.

    Raises:
        FileExistsError: the folder holds something else.
        ValueError: it holds a run with other settings.
    """
    output, config, progress = Path(output), config or RoadConfig(), progress or (lambda stage, done, total: None)
    pipeline = load_embedded_pipeline()
    reference = embedded.training_difficulties(pipeline.class_names)
    target = TargetDistribution.from_reference(reference, name="training images, out of sample")
    pools = _fill_pools(pipeline, output, config, target, progress)
    sets = _select_sets(pools, output, config, target)
    control = _measure_control(pools["DAG"], load_classifier(embedded.EVALUATOR))
    results = _train_and_test(pools["unguided"], sets, config, progress)
    report = _report(output, config, reference, pools, sets, control, results)
    record = {
        "config": asdict(config),
        "results": [asdict(r) for r in results],
        "control": [asdict(c) for c in control],
    }
    write_atomically(output / "results.json", (json.dumps(record, indent=2) + "\n").encode())
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
        count = _Counter(f"pool, {name}", pool.images_per_class * len(pipeline.class_names), progress)
        folder = output / f"pool-{name.lower()}"
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


def _select_sets(
    pools: Mapping[str, Pool], output: Path, config: RoadConfig, target: TargetDistribution
) -> dict[str, tuple[Pool, PoolSelection]]:
    sets = {}
    for name, folder, pool in ((DGS, "set-dgs", pools["unguided"]), (DAG_DGS, "set-dag-dgs", pools["DAG"])):
        chosen = subsample(pool, config.ipc, target=target, seed=config.seed)
        provenance = {
            "selection": {"method": "histogram", "ipc": config.ipc, "target": target.name, "seed": config.seed}
        }
        columns = {"bin": chosen.bins.tolist()}
        written = write_distilled_set(
            pool, chosen.indices.tolist(), output / folder, columns=columns, provenance=provenance, overwrite=True
        )
        sets[name] = (written, chosen)
    return sets


def _measure_control(pool: Pool, evaluator: nn.Module) -> list[Control]:
    wanted = np.array([row["target_difficulty"] for row in pool.rows])
    by_evaluator = score_pool(pool, evaluator).difficulties
    return [
        Control("DAG", name, float(np.abs(measured - wanted).mean()), float(spearmanr(measured, wanted).statistic))
        for name, measured in (("guide", pool.difficulties), ("evaluator", by_evaluator))
    ]


def _train_and_test(
    unguided: Pool, sets: Mapping[str, tuple[Pool, PoolSelection]], config: RoadConfig, progress: Progress
) -> list[Result]:
    load = {"size": (32, 32), "channels": 1}
    test = load_labelled_images(read_pool(embedded.TEST), **load)
    load["class_names"] = test.class_names
    real = load_labelled_images(read_pool(embedded.REFERENCE), **load)
    pool = load_labelled_images(unguided, **load)
    compared = {
        REAL: lambda seed: random_subset(real, config.ipc, seed),
        UNGUIDED: lambda seed: random_subset(pool, config.ipc, seed),
        **{name: load_labelled_images(chosen, **load) for name, (chosen, _) in sets.items()},
    }
    count = _Counter("training and testing", len(compared) * config.seeds, progress)
    return evaluate(
        compared,
        test,
        network=config.network,
        protocol=PROTOCOLS[config.protocol],
        seeds=range(config.seeds),
        on_result=lambda result: count(),
    )


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
    indices = np.concatenate(chosen)
    return LabelledImages(images.images[indices], images.labels[indices], images.class_names)


def accuracy_table(results: list[Result], *, baseline: str = UNGUIDED, note: str = "") -> Table:
    """Test accuracy of each set in percent, with the paired difference to the baseline set."""
    rows = []
    for row in summarise(results, baseline=baseline):
        std = "" if row.std is None else f" ± {100 * row.std:.1f}"
        difference, interval = "", ""
        if row.set != baseline:
            difference = _signed(row.difference)
            interval = "" if row.interval is None else " to ".join(map(_signed, row.interval))
        rows.append([row.set, f"{100 * row.mean:.1f}{std}", row.seeds, difference, interval])
    return Table(
        "Test accuracy", ["trained on", "accuracy, %", "seeds", f"against {baseline}", "95 % interval"], rows, note
    )


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
    sets: Mapping[str, tuple[Pool, PoolSelection]],
    control: list[Control],
    results: list[Result],
) -> Path:
    note = (
        f"{config.network}, protocol {config.protocol}, {config.ipc} images per class, last epoch, "
        "10,000 real test images; mean and standard deviation over seeds"
    )
    quotas = [
        Table(f"Quotas of {name}", ["class", "bin, easy to hard", "wanted", "found"], [list(r.values()) for r in rows])
        for name, (_, chosen) in sets.items()
        if (rows := [r for r in chosen.quota_rows(pools["DAG"].class_names) if r["wanted"]])
    ]
    return write_report(
        output / "report.html",
        title=f"Distilled Fashion-MNIST, {config.ipc} images per class",
        reference=reference,
        pools=[ReportedSet(f"pool, {name}", pool) for name, pool in pools.items()],
        selected=[ReportedSet(name, pool) for name, (pool, _) in sets.items()],
        tables=[accuracy_table(results, note=note), control_table(control), *quotas],
        provenance=_provenance(config, pools),
        commands=[_command(config)],
    )


def _provenance(config: RoadConfig, pools: Mapping[str, Pool]) -> dict[str, Any]:
    return {"road": asdict(config), **{f"pool, {name}": pool.provenance for name, pool in pools.items()}}


def _command(config: RoadConfig) -> str:
    changed = {k: v for k, v in asdict(config).items() if v != getattr(RoadConfig, k)}
    return " ".join(["dag-diffusion run", *(f"--{k.replace('_', '-')} {v}" for k, v in changed.items())])
