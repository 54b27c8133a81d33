"""Of each mode the image that a set has yet to teach: chosen in rounds, by networks that learn what was chosen before.

    first part of the modes    the easiest image of each, by the guide
    each further part          of each mode the image with the lowest d(guide) - d(students): clear to the guide, and
                               new to students of the parts before

So selection asks what a set lacks, as Learnability-Guided Diffusion asks while it draws; docs/results/training.md has
what it gains.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from dag_diffusion.data.common_kind import common_kind
from dag_diffusion.data.pools import Pool, PoolSource, as_pool
from dag_diffusion.evaluation.labelled_images import (
    LabelledImages,
    load_labelled_images,
    normalise,
    subset,
    usual_normalisation,
)
from dag_diffusion.evaluation.networks import seeded_network
from dag_diffusion.evaluation.protocols import Protocol, as_protocol
from dag_diffusion.evaluation.training import train
from dag_diffusion.processes import gather, resolve_device
from dag_diffusion.progress import Progress, Stage
from dag_diffusion.sampling.selection import SelectionRule
from dag_diffusion.sampling.subsampling import PoolSelection, subsample
from dag_diffusion.sampling.targets import Target
from dag_diffusion.turns import Turns

from .config import ROUNDS

BATCH = 50  # images that a student is asked about at a time
STUDENTS = 2  # of each round
NETWORK, PROTOCOL = "convnet-3", "quick"  # what they are and how they learn


def subsample_in_rounds(
    pool: PoolSource,
    ipc: int,
    *,
    rounds: int = ROUNDS,
    students: int = STUDENTS,
    network: str = NETWORK,
    protocol: str = PROTOCOL,
    evenly: str = "mode",
    size: int | tuple[int, int] | None = None,
    target: Target | None = None,
    skip_unscored: bool = False,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> PoolSelection:
    """``learnable_rows`` of a pool whose classes have ``ipc`` modes each; write them with ``save``.

    Under ``accelerate launch`` every process has to call it; they share the students, and get the same.

    Args:
        pool: scored, from ``read_pool`` or what that reads.
        ipc: images per class.
        evenly: column of the metadata that says the mode of an image.
        size: side, or (height, width), of the images that students see; default: that of most images.
        target: only tells how near the images come to it.
        skip_unscored: leave out images without difficulty, such as unreadable ones, instead of refusing.

    Raises:
        ValueError: a class has another number of modes, some images have none or no difficulty, and as
            ``learnable_rows``.
    """
    pool = as_pool(pool)
    rule = SelectionRule("easiest", evenly=evenly)
    options: dict[str, Any] = {"target": target, "seed": seed}
    settings = subsample(pool, ipc, method=rule, skip_unscored=skip_unscored, **options).settings  # which checks rows
    whole, usable = pool, np.arange(len(pool))
    if skip_unscored:
        usable = np.flatnonzero(~np.isnan(pool.known_difficulties))
        pool = pool.select(usable)
    modes = _numbered([dict(row)[evenly] for row in pool.rows])
    for label, name in pool.class_names.items():
        if (count := len(np.unique(modes[pool.labels == label]))) != ipc:
            raise ValueError(
                f"the images of {name!r} are of {count} values of {evenly!r}, but one image of each is chosen, {ipc} "
                "in all; draw to as many modes as images per class, or choose without rounds"
            )
    kind = common_kind(pool)
    images = load_labelled_images(pool, size=size or kind.size, channels=kind.channels, progress=progress)
    device = resolve_device(device)
    how: dict[str, Any] = {"rounds": rounds, "students": students, "network": network, "protocol": protocol}
    rows = learnable_rows(images, pool.difficulties, modes, **how, seed=seed, device=device, progress=progress)
    told = how | {"precision": as_protocol(protocol).on(device).precision}  # on which roundings depend
    return selection_of_rows(whole, usable[rows].tolist(), ipc, {**settings, **told}, **options)


def selection_of_rows(
    pool: Pool, rows: list[int], ipc: int, settings: dict[str, Any], *, target: Target | None = None, seed: int = 0
) -> PoolSelection:
    """The rows of a pool that were chosen, ``ipc`` of each class, as ``subsample`` has them."""
    chosen = subsample(pool.select(rows), ipc, method="easiest", target=target, seed=seed)
    return replace(chosen, indices=np.array(rows)[chosen.indices], pool=pool, settings=settings)


def _numbered(values: list[Any]) -> np.ndarray:
    """A number for each value, in the order of integers where all are, else in that of their texts."""
    whole = all(isinstance(value, int) for value in values)
    return np.unique(values if whole else [str(value) for value in values], return_inverse=True)[1]


def learnable_rows(
    images: LabelledImages,
    difficulties: np.ndarray,
    modes: np.ndarray,
    *,
    rounds: int = ROUNDS,
    students: int = STUDENTS,
    network: str = NETWORK,
    protocol: str | Protocol = PROTOCOL,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Choose one image of each mode, in rounds.

    Under ``accelerate launch`` every process has to call it; they share the students, and get the same.

    Args:
        images: of a pool that was drawn to modes, from ``load_labelled_images``.
        difficulties: ``(n,)`` in [0, 1], by the guide, which are ``Pool.difficulties``.
        modes: ``(n,)`` integers, the column ``mode`` of the pool; equal numbers in two classes are two modes.
        rounds: parts that the modes of each class are divided into; with fewer modes there are fewer parts.
        students: networks that are trained in each round after the first; their difficulties are averaged.
        network, protocol: what students are and how they learn, as of ``evaluate``.
        seed: of the students.
        device: default: what accelerate finds.
        progress: called with stage, done and total.

    Returns:
        ``(modes of all classes,)`` rows, ascending.

    Raises:
        ValueError: shapes differ, ``rounds`` or ``students`` is below 1, or the network does not suit the images.
    """
    difficulties, modes = np.asarray(difficulties, np.float64), np.asarray(modes)
    if not difficulties.shape == modes.shape == (len(images),):
        raise ValueError(
            f"there are {len(images)} images, but difficulties {difficulties.shape} and modes {modes.shape}; give one "
            "of each for every image"
        )
    if not np.isfinite(difficulties).all():
        raise ValueError("some images have no difficulty; score the pool first, or leave them out")
    if min(rounds, students) < 1:
        raise ValueError(f"rounds is {rounds} and students {students}; give at least 1 of each")
    mode_of, part_of = _places(np.asarray(images.labels), modes, rounds)
    parts = [np.flatnonzero(part_of == part) for part in range(int(part_of.max()) + 1)]
    learning = Students(images, network, as_protocol(protocol), resolve_device(device))
    stage = Stage("students", students * (len(parts) - 1), progress)
    chosen = np.zeros(0, np.int64)
    for part, rows in enumerate(parts):
        found = dict[int, np.ndarray]()
        turns = Turns("students", students, stage.after(stage.done))
        with turns.together():
            for number in turns.take(range(students if part else 0), 1):
                found[number] = learning.difficulties(chosen, 2000 * part + students * seed + number, rows)
                turns.report(1)
        known = {number: hard for of_one in gather(found) for number, hard in of_one.items()}
        score = difficulties[rows] - sum(known[number] / students for number in sorted(known))
        chosen = np.concatenate([chosen, rows[lowest_of_each(score, mode_of[rows])]])
    return np.sort(chosen)


def students_of(rounds: int) -> int:
    """How many students learn in all rounds, half of a set on average."""
    return STUDENTS * (rounds - 1)


def _places(labels: np.ndarray, modes: np.ndarray, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """The mode of each image, numbered through all classes, and which part it belongs to; the first has one of each."""
    found, mode_of = np.unique(np.stack([labels, modes]), axis=1, return_inverse=True)
    first = np.searchsorted(found[0], found[0])  # number of the first mode of the same class
    return mode_of.ravel(), ((np.arange(found.shape[1]) - first) % rounds)[mode_of.ravel()]


def lowest_of_each(score: np.ndarray, mode_of: np.ndarray) -> np.ndarray:
    """Places of the lowest score of each mode, in the order of the modes; of equal ones the first."""
    order = np.lexsort((score, mode_of))
    return order[np.unique(mode_of[order], return_index=True)[1]]


class Students:
    """Networks that learn some of the images, and are asked about others."""

    def __init__(self, images: LabelledImages, network: str, protocol: Protocol, device: str) -> None:
        self.network, self.protocol, self.device = network, protocol, device
        self.images, (height, width, channels) = images, images.images.shape[1:]
        self.place = {label: place for place, label in enumerate(sorted(images.class_names))}
        self.shape: dict[str, Any] = {"size": (height, width), "channels": channels, "num_classes": len(self.place)}
        self.normalisation = usual_normalisation(channels)

    def difficulties(self, learnt: np.ndarray, seed: int, asked: np.ndarray) -> np.ndarray:
        """``(asked,)`` in [0, 1], by a student of the ``learnt`` rows."""
        student = seeded_network(self.network, seed=seed, **self.shape)
        inputs, targets = self._given(learnt)
        train(student, inputs, targets, self.protocol, seed=seed, normalisation=self.normalisation)
        found = []
        with torch.inference_mode():
            for start in range(0, len(asked), BATCH):  # a part of a large pool need not fit into a GPU
                inputs, targets = self._given(asked[start : start + BATCH])
                shares = student(inputs).float().softmax(1)
                wrong = 1 - shares[torch.arange(len(targets)), targets]
                found.append(wrong.cpu().double())  # Apple's mps has no float64
        return torch.cat(found).numpy()

    def _given(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        part = subset(self.images, rows)
        places = [self.place[label] for label in np.asarray(part.labels).tolist()]
        inputs = normalise(part.images, self.normalisation).to(self.device)
        return inputs, torch.tensor(places, device=self.device)
