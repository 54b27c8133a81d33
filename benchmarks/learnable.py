"""DGS relative to what a set teaches: of five images drawn to each mode, the one that students of others find hard.

    python benchmarks/downstream.py pools FOLDER --seeds 5 --only "drawn to modes, 10"
    python benchmarks/learnable.py FOLDER

Students are ConvNets trained on one image of each mode; an image is measured by those that have not learnt it.  It is
learnable where they find it harder than the guide does, after Learnability-Guided Diffusion; "after half" takes the
easiest image of half of the modes, and of the others what is learnable to students of these.  Networks are tested on
held-out training images, by which such a choice has to be made.  The record is downstream-learnable-IPC.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from candidates import DrawnToModes, held_out_study
from downstream import PER_MODE, Study, run

from dag_diffusion.evaluation.labelled_images import LabelledImages, normalise, subset
from dag_diffusion.evaluation.networks import seeded_network
from dag_diffusion.evaluation.protocols import PROTOCOLS
from dag_diffusion.evaluation.training import train

EASIEST = "easiest"


class Learnable(DrawnToModes):
    """Difficulties of images drawn to modes, by the guide and by students, and the sets that follow from them."""

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self.labels = np.asarray(self.images.labels)
        self.by_students = cache(self._by_students)

    def of_seed(self, seed: int) -> np.ndarray:
        return np.flatnonzero(self.turns // PER_MODE == seed)

    def student(self, rows: np.ndarray, seed: int) -> torch.nn.Module:
        size, part = self.images.images.shape[1:3], subset(self.images, rows)
        network = seeded_network("convnet-3", seed=seed, channels=1, size=size, num_classes=10)
        return train(
            network, normalise(part.images), torch.as_tensor(part.labels).long(), PROTOCOLS["quick"], seed=seed
        )

    def difficulties(self, student: torch.nn.Module, rows: np.ndarray) -> np.ndarray:
        images = normalise(subset(self.images, rows).images)
        with torch.inference_mode():
            shares = torch.cat([student(part) for part in images.split(50)]).softmax(1)
        return 1 - shares[torch.arange(len(rows)), torch.as_tensor(self.labels[rows]).long()].numpy()

    def _by_students(self, seed: int) -> np.ndarray:
        """Of all images, 0 outside the seed's; the mean of the students of other turns."""
        own, found = self.of_seed(seed), np.zeros(len(self.turns))
        for turn in range(PER_MODE):
            learnt = self.turns[own] % PER_MODE == turn
            student = self.student(own[learnt], 1000 + PER_MODE * seed + turn)
            found[own[~learnt]] += self.difficulties(student, own[~learnt]) / (PER_MODE - 1)
        return found

    def after_half(self, seed: int) -> np.ndarray:
        own, score = self.of_seed(seed), self.by_guide.copy()
        half = self.modes[own] % 2 == 0
        first, rest = self.least(score, own[half]), own[~half]
        for number in range(2):
            score[rest] -= self.difficulties(self.student(first, 2000 + 2 * seed + number), rest) / 2
        return np.concatenate([first, self.least(score, rest)])

    def sets(self) -> dict[str, Callable[[int], np.ndarray]]:
        guide, students = self.by_guide, self.by_students

        def by(score: Callable[[int], np.ndarray]) -> Callable[[int], np.ndarray]:
            return lambda seed: self.least(score(seed), self.of_seed(seed))

        return {
            EASIEST: by(lambda seed: guide),
            "random": by(lambda seed: np.random.default_rng(seed).random(len(guide))),
            "easiest for students": by(students),
            "hardest for students, right by the guide": by(lambda seed: np.where(guide > 0.5, 1.0, -students(seed))),
            "learnable": by(lambda seed: guide - students(seed)),
            "learnable, after half": self.after_half,
        }


def main() -> None:
    options, study = held_out_study(__doc__)
    learnable = Learnable(study)

    @cache
    def drawn(choose: Callable[[int], np.ndarray], seed: int) -> LabelledImages:
        return subset(learnable.images, np.sort(choose(seed)))

    sets = {name: partial(drawn, choose) for name, choose in learnable.sets().items()}
    run(f"learnable-{options.ipc}", sets, study.test, options, baseline=EASIEST)


if __name__ == "__main__":
    main()
