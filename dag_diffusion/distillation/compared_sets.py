"""The sets that a distillation compares: from which pool each is chosen, and by which rule.

    unguided pool -> the paper's rule, matching        guided pool -> the easiest image of each mode, or in rounds

The last is the one to keep: it is the best of those measured (docs/results), and no test image has a say in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dag_diffusion.data.pools import Pool, digest_of_images, read_pool
from dag_diffusion.sampling.selection import SelectionRule
from dag_diffusion.sampling.subsampling import PoolSelection, subsample
from dag_diffusion.sampling.targets import TargetDistribution

REAL, HERDING, UNGUIDED = "random real", "herding of real", "random, unguided pool"
PAPER, DGS, GUIDED_DGS = "DGS, the paper's rule", "DGS, matching", "DGS, guided pool"
FOLDERS = {PAPER: "set-paper", DGS: "set-dgs", GUIDED_DGS: "set-guided"}
SELECTIONS: dict[str, tuple[str, SelectionRule]] = {  # of each set: its pool, and the rule by which it is chosen
    PAPER: ("unguided", SelectionRule("histogram")),
    DGS: ("unguided", SelectionRule("matching", diversity="k-center")),
    GUIDED_DGS: ("guided", SelectionRule("easiest", evenly="mode")),
}
# in place of the easiest, where the pool was steered
STEERED_RULE = SelectionRule("matching", diversity="k-center", evenly="mode")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How the sets of a run are chosen from its pools.

    Attributes:
        pools: by name.
        targets: of each pool, which its sets follow; None for a pool drawn to modes alone.
        features: of each pool's images, for rules that need them.
        ipc: images per class.
        in_rounds: the set of the guided pool, where it was chosen in rounds, see ``learnable``.
    """

    pools: Mapping[str, Pool]
    targets: Mapping[str, TargetDistribution | None]
    features: Mapping[str, np.ndarray | None]
    ipc: int
    in_rounds: PoolSelection | None = None

    def rule(self, name: str) -> SelectionRule:
        """The rule of a set; that of images drawn to modes depends on whether they were steered."""
        return STEERED_RULE if name == GUIDED_DGS and self.targets["guided"] is not None else SELECTIONS[name][1]

    def is_seeded(self, name: str) -> bool:
        """Whether another seed makes another set."""
        return self.rule(name).method != "easiest"

    def select(self, name: str, seed: int) -> PoolSelection:
        """Choose the images of a set."""
        if name == GUIDED_DGS and self.in_rounds is not None:
            return self.in_rounds
        source = SELECTIONS[name][0]
        return subsample(
            self.pools[source],
            self.ipc,
            target=self.targets[source],
            method=self.rule(name),
            features=self.features[source],
            seed=seed,
        )


def write_sets(choice: Choice, output: Path, *, seed: int) -> None:
    """Write every set, chosen with ``seed``, into its folder in ``output``, see ``FOLDERS``."""
    for name, folder in FOLDERS.items():
        choice.select(name, seed).save(output / folder, overwrite=True)


def herding_of(real: Pool, ipc: int, features: np.ndarray | None) -> np.ndarray:
    """Rows of the real images that herding chooses, ``ipc`` of each class; ``features`` are ``(images, dim)``."""
    return subsample(real, ipc, method="herding", features=features).indices


def digests_of_sets(choice: Choice, output: Path, real: Mapping[str, Pool]) -> dict[str, str]:
    """A hash of the images that each set is drawn or chosen from, and of what ``write_sets`` chose, by name.

    Args:
        real: images of the sets that are of real ones.
    """
    pools = {name: digest_of_images(pool) for name, pool in choice.pools.items()}
    chosen = {name: digest_of_images(read_pool(output / folder)) for name, folder in FOLDERS.items()}
    return {
        **{name: digest_of_images(pool) for name, pool in real.items()},
        UNGUIDED: pools["unguided"],
        **{name: f"{own} of {pools[SELECTIONS[name][0]]}" for name, own in chosen.items()},
    }
