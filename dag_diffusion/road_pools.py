"""The pools and sets of a run: what is drawn, by which guidance, and what DGS chooses from it.

    unguided pool  -> DGS, the paper's rule -> set         both follow the run's target, by default the reference
                   -> DGS, matching         -> set
    pool by DAG    -> DGS, one image of each mode -> set   the easiest; where a target is given, those that match it

DAG draws each image to a mode of the real training images, and steers it where a target is given.  The modes bring the
variety, so that the images may be easy: so drawn and chosen sets trained best (docs/results.md).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr
from torch import nn

from . import embedded
from .distilled_sets import write_distilled_set
from .generation import fill_pool
from .inputs import modes_found
from .mode_merging import merge_modes
from .modes import ModeGuidance, Modes
from .plans import PoolConfig
from .pools import Pool
from .real_images import rows_of
from .reporting import Table
from .road_inputs import Road
from .scoring import score_pool
from .selection import SelectionRule
from .subsampling import PoolSelection, subsample
from .targets import TargetDistribution

if TYPE_CHECKING:
    from .distillation import RoadConfig

Progress = Callable[[str, int, int], None]  # stage, done, of
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
MODES = "modes.safetensors"
MOST_ENCODED = 5000, 100_000  # real images in which modes are looked for: of a class, and of all; 1.6 GB at 256 px


def modes_of_road(road: Road, output: Path, count: int, batch_size: int, progress: Progress) -> Modes:
    """Clusters of the real training images, ``count`` of each class: the embedded ones, or found once and kept."""
    if not (road.inputs.pipeline or road.inputs.train):
        return merge_modes(Modes.load(embedded.MODES), count)
    if not (output / MODES).exists():
        of_class, of_all = MOST_ENCODED
        most = max(count, min(of_class, of_all // len(road.class_names)))
        images, done = rows_of(road.train, _some_of_each_class(road.train, most)), 0

        def encoded(more: int) -> None:
            nonlocal done
            done += more
            progress("real images encoded", done, len(images))

        options: dict[str, Any] = {"average": 1, "seed": 0, "batch_size": batch_size, "progress": encoded}
        modes_found(road.pipeline, images, count, None, **options).save(output / MODES)
    return Modes.load(output / MODES)


def _some_of_each_class(pool: Pool, count: int) -> np.ndarray:
    own = {label: np.flatnonzero(pool.labels == label) for label in pool.class_names}
    drawn = [np.random.default_rng([0, label]).permutation(rows)[:count] for label, rows in own.items()]
    return np.sort(np.concatenate(drawn))


def fill_pools(
    road: Road,
    output: Path,
    config: "RoadConfig",
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
    everything = road.class_names == road.pipeline.class_names
    plain = PoolConfig(
        images_per_class=config.ipc * config.pool_factor,
        labels=None if everything else list(road.class_names),
        seed=config.seed,
        num_inference_steps=config.num_inference_steps,
        guidance_scale=config.guidance_scale,
    )
    guided = replace(plain, target=target, modes=modes, mode_guidance=ModeGuidance(scale=config.mode_scale))
    source = road.inputs.pipeline or "embedded default"
    return {
        name: fill_pool(
            road.pipeline,
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


@dataclass(frozen=True)
class Control:
    """How near a pool came to its targets, by one classifier: mean absolute error and Spearman's rank correlation.

    There is no correlation, None, if all targets are one difficulty, or all images equally hard.
    """

    pool: str
    classifier: str
    error: float
    spearman: float | None


def measure_control(pools: Mapping[str, Pool], evaluator: nn.Module) -> list[Control]:
    """Both pools have the same images in mind, so the unguided one says how near chance comes to the targets.

    Nothing where there are no targets.
    """
    if any(row["target_difficulty"] is None for row in pools["DAG"].rows):
        return []
    wanted = np.array([row["target_difficulty"] for row in pools["DAG"].rows])
    rows = []
    for name, pool in pools.items():
        for classifier, found in (
            ("guide", pool.difficulties),
            ("evaluator", score_pool(pool, evaluator).difficulties),
        ):
            constant = np.ptp(found) == 0 or np.ptp(wanted) == 0
            correlation = None if constant else float(spearmanr(found, wanted).statistic)
            rows.append(Control(name, classifier, float(np.abs(found - wanted).mean()), correlation))
    return rows


def control_table(control: list[Control]) -> Table:
    """Error and rank correlation of the difficulty reached, by guide and evaluator."""
    rows = [
        [c.pool, c.classifier, f"{c.error:.3f}", "none" if c.spearman is None else f"{c.spearman:.2f}"] for c in control
    ]
    note = "The guide steered the images, so its error proves little; the evaluator is a network that never steers."
    return Table("Control of the difficulty", ["pool", "measured by", "mean |d - d*|", "Spearman"], rows, note)
