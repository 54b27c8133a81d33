"""Real training images of four data sets: some to choose sets from, and others to judge the sets by.

    fashion    Fashion-MNIST, with the difficulties that the embedded default ships
    digits     400 of each digit, by ``digits.py images FOLDER/digits``
    emoji      nine categories in colour, by ``emoji.py images FOLDER/emoji``
    clipart    ten folders of Debian's clip art; FOLDER/clipart/train is what ``distill --estimate``, called as
               docs/results/clipart tells, has left in runs/clipart-work/images/train

Difficulties of the last three are out of sample too, by two short trainings:

    dag-diffusion train-classifier FOLDER/NAME/train --output FOLDER/NAME/guide --steps 400 --folds 2

with ``--never-mirror`` for digits, and for emoji, of 64 px, ``--size 32 --batch-size 64 --steps 300`` instead.  No test
image is read.  The records of digits and clip art at 10 images a class, and both of emoji, were put together from
processes of one seed each.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from downstream import SIZE, make_real, with_difficulties
from emoji import same_kind

from dag_diffusion import TargetDistribution, embedded, read_pool
from dag_diffusion.data import split_pool
from dag_diffusion.data.pools import Pool
from dag_diffusion.evaluation.labelled_images import LabelledImages, load_labelled_images
from dag_diffusion.sampling.targets import even_levels
from dag_diffusion.training.classifiers.classifier import DIFFICULTIES

CHANNELS = {"fashion": 1, "digits": 1, "emoji": 3, "clipart": 3}
OFFERED, JUDGES = 5500, 200  # images of each class of Fashion-MNIST
JUDGING = 0.25  # share of each class of the others
NAMES = dict(enumerate(embedded.CLASS_NAMES))


@dataclass(frozen=True, kw_only=True, eq=False)
class Divided:
    """One data set.

    Attributes:
        offered: images to choose from, each with its difficulty.
        judges: images of the same classes that no set is chosen from.
        known: the difficulties of each class.
        channels: 1 (grey) or 3.
    """

    offered: Pool
    judges: LabelledImages
    known: dict[str, np.ndarray]
    channels: int

    def moved(self, move: float) -> TargetDistribution:
        """Real images' difficulties with the levels of their quantiles raised to ``2 ** move``."""
        levels = even_levels(1000) ** 2**move
        return TargetDistribution.from_reference(
            {name: np.quantile(values, levels) for name, values in self.known.items()}
        )

    def load(self, pool: Pool) -> LabelledImages:
        """Images in memory, as the judges are."""
        size = SIZE | {"channels": self.channels}
        return load_labelled_images(pool, **size, class_names=self.judges.class_names)


def divided(name: str, folder: Path, data: Path) -> Divided:
    """One of ``CHANNELS``; ``data`` are the idx files of Fashion-MNIST."""
    if name == "fashion":
        make_real(folder, data)
        offered, judging, known = _fashion(read_pool(folder / "real.parquet"))
    else:
        pool = read_pool(folder / name / "train", scores=folder / name / "guide" / DIFFICULTIES)
        offered, judging = split_pool(pool, JUDGING, twins=same_kind(pool))
        found = np.array([row["difficulty"] for row in offered.rows])
        known = {kind: found[offered.labels == label] for label, kind in offered.class_names.items()}
    channels = CHANNELS[name]
    judges = load_labelled_images(judging, **(SIZE | {"channels": channels}), class_names=offered.class_names)
    return Divided(offered=offered, judges=judges, known=known, channels=channels)


def _fashion(whole: Pool) -> tuple[Pool, Pool, dict[str, np.ndarray]]:
    known = embedded.training_difficulties(NAMES)
    own = {label: np.flatnonzero(whole.labels == label) for label in whole.class_names}
    rows = np.concatenate([own[label][:OFFERED] for label in own])
    difficulties = np.concatenate([known[whole.class_names[label]][:OFFERED] for label in own])
    judging = whole.select(np.sort(np.concatenate([own[label][-JUDGES:] for label in own])))
    return with_difficulties(whole.select(rows), difficulties), judging, known
