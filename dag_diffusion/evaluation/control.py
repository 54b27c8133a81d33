"""Control: how near a pool's difficulties came to its targets, by the guide that steered and by an evaluator."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr
from torch import nn

from dag_diffusion.data.pools import Pool
from dag_diffusion.sampling.scoring import score_pool

from .tables import Table

if TYPE_CHECKING:
    pass


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
