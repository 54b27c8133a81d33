"""Control: how near a pool's difficulties came to its targets, by the guide that steered and by an evaluator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from torch import nn

from dag_diffusion.data.pools import Pool
from dag_diffusion.difficulty import Among
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.sampling.scoring import score_pool


@dataclass(frozen=True, kw_only=True)
class Control:
    """How near a pool came to its targets, by one classifier: mean absolute error and Spearman's rank correlation.

    There is no correlation, None, if all targets are one difficulty, or all images equally hard.
    """

    pool: str
    classifier: str
    error: float
    spearman: float | None


def measure_control(pools: Mapping[str, Pool], evaluator: nn.Module, *, among: Among = "all") -> list[Control]:
    """Difficulties of the pools ``unguided`` and ``guided`` against the targets of ``guided``; nothing if it has none.

    The i-th images of both pools share their seed, so the unguided pool shows how near to the targets chance comes.

    Args:
        among: classes that difficulty is measured among, as the guide did; see ``score_pool``.
    """
    if any(row["target_difficulty"] is None for row in pools["guided"].rows):
        return []
    target = np.array([row["target_difficulty"] for row in pools["guided"].rows])
    return [
        _control_by(name, classifier, found, target)
        for name, pool in pools.items()
        for classifier, found in (
            ("guide", pool.difficulties),
            ("evaluator", score_pool(pool, evaluator, among=among).difficulties),
        )
    ]


def _control_by(pool: str, classifier: str, found: np.ndarray, target: np.ndarray) -> Control:
    constant = np.ptp(found) == 0 or np.ptp(target) == 0
    correlation = None if constant else float(spearmanr(found, target).statistic)
    return Control(pool=pool, classifier=classifier, error=float(np.abs(found - target).mean()), spearman=correlation)


def control_table(control: Sequence[Control]) -> Table:
    """Error and rank correlation of the difficulty reached, by guide and evaluator."""
    rows = [
        [c.pool, c.classifier, f"{c.error:.3f}", "none" if c.spearman is None else f"{c.spearman:.2f}"] for c in control
    ]
    note = "The guide steered the images, so its error proves little; the evaluator is a network that never steers."
    return Table("Control of the difficulty", ["pool", "measured by", "mean |d - d*|", "Spearman"], rows, note=note)
