"""How many images to draw to each mode, of which the easiest is kept: what more of them gain and cost.

    python benchmarks/downstream.py pools FOLDER --seeds 25 --only unguided "drawn to modes, 10"
    python benchmarks/candidates.py FOLDER

Each seed has 25 images of each mode to itself; the fewer are the first of these, so that sets of a seed differ by what
the others bring.  Networks are tested on held-out training images, by which such a choice has to be made.  The record
is downstream-candidates-IPC.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from downstream import BASELINE, Study, held_out, rounds, run, test_images

from dag_diffusion.distillation.learnable import lowest_of_each
from dag_diffusion.evaluation.labelled_images import LabelledImages, subset

OFFERED = (1, 5, 10, 25)  # images of each mode


class DrawnToModes:
    """Images drawn to modes in turn, with the guide's difficulties; ``form`` as in names of pools."""

    def __init__(self, study: Study, form: str = "") -> None:
        self.pool, self.images, _ = study.pool(f"drawn to modes, {study.ipc}{form}")
        self.modes = np.array([int(row["mode"]) for row in self.pool.rows])  # numbered through all classes
        self.by_guide, self.turns = self.pool.difficulties, rounds(self.pool, study.ipc)

    def least(self, score: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The row of each mode with the lowest score."""
        return rows[lowest_of_each(score[rows], self.modes[rows])]

    def easiest(self, offered: int, seed: int) -> LabelledImages:
        """The easiest of the first ``offered`` images of each mode that belong to a seed."""
        own = np.flatnonzero(self.turns // max(OFFERED) == seed)
        own = own[self.turns[own] % max(OFFERED) < offered]
        return subset(self.images, np.sort(self.least(self.by_guide, own)))


def parser_of(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the pools")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=["convnet-3"])
    return parser


def study_for(options: argparse.Namespace, *, on_test_images: bool = False) -> Study:
    """The sets of one IPC, tested on held-out training images unless told otherwise."""
    options.protocol, options.device = "quick", "cpu"
    test = test_images(10_000) if on_test_images else held_out(options.folder, test_images(10).class_names)
    return Study(options.folder, options.ipc, test)


def random_unguided(study: Study) -> Callable[[int], LabelledImages]:
    return partial(study.chosen, "unguided", "random", None, 5 * study.ipc)


def main() -> None:
    options = parser_of(__doc__).parse_args()
    study = study_for(options)
    drawn = DrawnToModes(study)
    sets = {f"easiest of {offered}": partial(drawn.easiest, offered) for offered in OFFERED}
    sets[BASELINE] = random_unguided(study)
    run(f"candidates-{options.ipc}", sets, study.test, options, baseline="easiest of 5")


if __name__ == "__main__":
    main()
