"""DGS relative to what a set teaches: of five images drawn to each mode, the one that students of others find hard.

    python benchmarks/downstream.py pools FOLDER --seeds 5 --only "drawn to modes, 10"
    python benchmarks/learnable.py FOLDER

    python benchmarks/downstream.py pools FOLDER --seeds 10 --only unguided "drawn to modes, 10, CFG 1.5, auto 1.5"
    python benchmarks/learnable.py FOLDER --form ", CFG 1.5, auto 1.5" --seeds 10 --record learnable-autoguidance \
        --sets easiest "learnable, after half" "learnable, in 5 rounds"

Students are ConvNets trained on one image of each mode; an image is measured by those that have not learnt it.  It is
learnable where they find it harder than the guide does, after Learnability-Guided Diffusion; "after half" takes the
easiest image of half of the modes, and of the others what is learnable to students of these; "in 5 rounds" so part by
part.  Networks are tested on held-out training images, by which such a choice has to be made, or with --test-images on
those; other --networks may learn from what ConvNets chose.  The record is downstream-RECORD-IPC.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from candidates import DrawnToModes, parser_of, random_unguided, study_for
from downstream import BASELINE, PER_MODE, Study, in_rounds, run

from dag_diffusion.distillation.learnable import Students
from dag_diffusion.evaluation.labelled_images import LabelledImages, subset
from dag_diffusion.evaluation.protocols import PROTOCOLS

EASIEST = "easiest"


class Learnable(DrawnToModes):
    """Difficulties of images drawn to modes, by the guide and by students, and the sets that follow from them."""

    def __init__(self, study: Study, form: str) -> None:
        super().__init__(study, form)
        self.ipc = study.ipc
        self.students = Students(self.images, "convnet-3", PROTOCOLS["quick"], "cpu")
        self.by_students = cache(self._by_students)

    def of_seed(self, seed: int) -> np.ndarray:
        return np.flatnonzero(self.turns // PER_MODE == seed)

    def _by_students(self, seed: int) -> np.ndarray:
        """Of all images, 0 outside the seed's; the mean of the students of other turns."""
        own, found = self.of_seed(seed), np.zeros(len(self.turns))
        for turn in range(PER_MODE):
            learnt = self.turns[own] % PER_MODE == turn
            hard = self.students.difficulties(own[learnt], 1000 + PER_MODE * seed + turn, own[~learnt])
            found[own[~learnt]] += hard / (PER_MODE - 1)
        return found

    def sets(self) -> dict[str, Callable[[int], LabelledImages]]:
        guide, students = self.by_guide, self.by_students

        def by(score: Callable[[int], np.ndarray]) -> Callable[[int], LabelledImages]:
            return lambda seed: subset(self.images, np.sort(self.least(score(seed), self.of_seed(seed))))

        def after(count: int) -> Callable[[int], LabelledImages]:
            return lambda seed: in_rounds(self.images, self.pool, self.ipc, seed, count)

        return {
            EASIEST: by(lambda seed: guide),
            "random": by(lambda seed: np.random.default_rng(seed).random(len(guide))),
            "easiest for students": by(students),
            "hardest for students, right by the guide": by(lambda seed: np.where(guide > 0.5, 1.0, -students(seed))),
            "learnable": by(lambda seed: guide - students(seed)),
            "learnable, after half": after(2),
            "learnable, in 5 rounds": after(5),
        }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--form", default="", help='of the pool drawn to modes, such as ", CFG 1.5, auto 1.5"')
    parser.add_argument("--sets", nargs="+", help="some of them")
    parser.add_argument("--record", default="learnable")
    parser.add_argument("--test-images", action="store_true", help="instead of held-out ones; beside random images")
    options = parser.parse_args()
    study = study_for(options, on_test_images=options.test_images)
    learnable = Learnable(study, options.form)

    sets = {name: cache(choose) for name, choose in learnable.sets().items()}
    sets = {name: sets[name] for name in options.sets or sets}
    if options.test_images:
        sets[BASELINE] = random_unguided(study)
    run(f"{options.record}-{options.ipc}", sets, study.test, options, baseline=EASIEST)


if __name__ == "__main__":
    main()
