"""The stages that take long, each for a few steps on this machine, so that it can be told how long all of it will take.

    some images, few steps -> guide, evaluator, generators -> a batch of images -> one training on real images

It is the same code that does the work, so that what does not fit or cannot be written fails now and not after an hour.
"""

import logging
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.pools import Pool
from dag_diffusion.difficulty import classes_among
from dag_diffusion.distillation.compared_sets import SELECTIONS
from dag_diffusion.distillation.learnable import NETWORK, PROTOCOL, STUDENTS, students_of
from dag_diffusion.distillation.pools import unguided_pool
from dag_diffusion.distillation.setup import leave_out_other_probe
from dag_diffusion.evaluation.labelled_images import load_labelled_images, random_rows, usual_normalisation
from dag_diffusion.evaluation.protocols import as_protocol
from dag_diffusion.evaluation.trials import evaluate
from dag_diffusion.generation.filling import fill_pool
from dag_diffusion.generation.plan import networks_precision
from dag_diffusion.loading import load_pipeline
from dag_diffusion.processes import gather, is_main_process, this_process
from dag_diffusion.progress import Progress, Stage
from dag_diffusion.training.classifiers import train_classifier
from dag_diffusion.training.classifiers.plan import kind_of
from dag_diffusion.training.generators import train_generator

from .config import FolderConfig
from .durations import Expected, Pace
from .models import (
    EVALUATOR,
    GENERATOR,
    GUIDE,
    WEAK,
    classifier_config,
    generator_config,
    models_in,
    number_learnt_from,
    run_config,
    weak_config,
)
from .plain_images import PlainImages

PREFIX = ".rehearsal."  # of the folder that it works in
STEPS = 6  # of each training
OF_IMAGES = ("images read", "latents")  # stages that take longer the more images there are
MOST_IMAGES = 400  # that are looked at
PASSES = 2000  # images seen by a network's training on a set
SETS = 3 + len(SELECTIONS)  # random real, herding of real, random of the pool, and those chosen


def rehearse(
    images: PlainImages, work: Path, config: FolderConfig, device: str, batch_size: int, progress: Progress
) -> dict[str, Expected]:
    """What each stage will take; every one of several processes has to call it, and gets the same.

    Args:
        progress: called with stage, done and total.
    """
    few = images.train.select(_some(images.train, MOST_IMAGES))
    if is_main_process():
        for left in work.glob(f"{PREFIX}*"):  # of one that was killed
            shutil.rmtree(left, ignore_errors=True)
    gather(None)
    with _unwarned(), TemporaryDirectory(dir=work, prefix=PREFIX) as own:
        rehearsal = _Rehearsal(images, few, Path(gather(own)[0]), config, device, batch_size)
        told, expected = Stage("stages", 5, progress), dict[str, Expected]()
        for role, given in ((GUIDE, config.classifier), (EVALUATOR, config.evaluator)):
            if given is None:
                expected[role] = rehearsal.classifier(role)
            told()
        if config.pipeline is None:
            expected[GENERATOR] = rehearsal.generator()
        if config.trains_weak:
            expected[WEAK] = rehearsal.weak()
        told()
        expected["pools"] = rehearsal.pools()
        told()
        expected["comparison"] = rehearsal.comparison()
        told()
        return gather(expected)[0]


@contextmanager
def _unwarned() -> Iterator[None]:
    """Say nothing of the few images of a rehearsal: what is true of all of them, their training will tell."""
    package = logging.getLogger("dag_diffusion")
    before = package.level
    package.setLevel(logging.ERROR)
    try:
        yield
    finally:
        package.setLevel(before)


def _some(pool: Pool, count: int) -> np.ndarray:
    """Rows of so many images, of each class its share and at least two."""
    generator, rows = np.random.default_rng(0), []
    for label in pool.class_names:
        own = np.flatnonzero(pool.labels == label)
        rows.append(generator.permutation(own)[: max(2, math.ceil(count * len(own) / len(pool)))])
    return np.sort(np.concatenate(rows))


@dataclass(frozen=True)
class _Rehearsal:
    """One stage after the other, with few images, in a folder that will be removed."""

    images: PlainImages
    few: Pool
    folder: Path
    config: FolderConfig
    device: str
    batch_size: int

    def classifier(self, role: str) -> Expected:
        """Guide or evaluator, and the classifiers of its folds."""
        pace, usual = Pace(), classifier_config(role, self.config, self.config.classifier_steps)
        images = number_learnt_from(len(self.images.train))
        batch = usual.loop(images, "small").batch_size  # of few images it would be smaller; all of them are trained on
        short = replace(usual, steps=STEPS, batch_size=batch, folds=0, held_out=0.0, uncalibrated=True)
        made = train_classifier(self.few, self.folder / role, short, device=self.device, progress=pace).record
        steps = usual.loop(images, kind_of(made["model"], made["weights"])).steps
        trainings, work = 1 + usual.folds, f"{1 + usual.folds} classifiers" if usual.folds else ""
        once = self._of_all(pace, "training")
        return Expected(work, once, steps, trainings * pace.seconds_each("training"))

    def _of_all(self, pace: Pace, *trained: str) -> float:
        """Seconds beside the steps of training: of all images what was spent on reading and encoding the few."""
        more = len(self.images.train) / len(self.few)
        return pace.beside(*trained) + (more - 1) * pace.spent(*OF_IMAGES)

    def generator(self) -> Expected:
        """Its denoiser, and its autoencoder, whose steps follow from the denoiser's."""
        pace, usual = Pace(), generator_config(self.images, self.config, self.config.generator_steps)
        short = replace(usual, steps=STEPS, vae_steps=STEPS, sample_grids=0)
        train_generator(
            self.few,
            self.folder / GENERATOR,
            short,
            fine_tuning=self.config.fine_tuning,
            device=self.device,
            progress=pace,
        )
        denoiser, autoencoder = (pace.seconds_each(stage) for stage in ("denoiser", "autoencoder"))
        once = self._of_all(pace, "denoiser", "autoencoder")
        return Expected("", once, usual.loop.steps, denoiser, autoencoder)

    def weak(self) -> Expected:
        """The weak denoiser, on the latents of that generator."""
        pace, generator = Pace(), self.folder / GENERATOR
        usual = weak_config(self.images, self.config, None, generator)
        short = replace(usual, steps=STEPS)
        train_generator(self.few, self.folder / WEAK, short, device=self.device, progress=pace)
        return Expected("", self._of_all(pace, "denoiser"), usual.loop.steps, pace.seconds_each("denoiser"))

    def pools(self) -> Expected:
        """Two pools, of which one batch a process is drawn."""
        config, classes = self.config, len(self.images.class_names)
        models = models_in(self.folder, config, with_weak=config.trains_weak)
        pipeline = load_pipeline(
            models.pipeline,
            classifier=models.classifier,
            weak=models.weak,
            device=self.device,
            dtype=config.precision,
            trust_bin=config.trust_bin,
        )
        labels = sorted(match_classes(self.images.class_names, pipeline.class_names, "the pipeline").values())
        leave_out_other_probe(pipeline, classes_among(config.among, labels))
        each = max(1, math.ceil(self.batch_size * this_process().num_processes / classes))
        whole = unguided_pool(pipeline, run_config(self.images, config, models), labels)
        usual = replace(whole, images_per_class=min(each, whole.images_per_class))
        begun, kinds = time.monotonic(), [usual, *([replace(usual, target=0.5)] if config.target else [])]
        for kind in kinds:  # the second pool is steered, if there is a target
            fill_pool(pipeline, self.folder / f"pool-{kind.target}", kind, batch_size=self.batch_size)
        seconds = (time.monotonic() - begun) / (len(kinds) * usual.images_per_class * classes)
        total = 2 * config.ipc * config.pool_factor * classes
        return Expected(f"{total:,} images", total * seconds)

    def comparison(self) -> Expected:
        """All trainings of networks on sets, of which each process makes one, shortened where it would be long."""
        config, processes = self.config, this_process().num_processes
        rows = random_rows(self.images.train.labels, config.ipc, 0, self.images.class_names)
        tested = _some(self.images.test, MOST_IMAGES)

        @cache
        def seconds_each(network: str, name: str, size: tuple[int, int]) -> float:
            options: dict[str, Any] = {"size": size, "channels": self.images.channels}
            real = load_labelled_images(self.images.train.select(rows), **options)
            test = load_labelled_images(self.images.test.select(tested), **options)
            protocol = as_protocol(name)
            epochs = protocol.epochs_for(config.ipc)
            short = min(epochs, max(1, PASSES // len(real)))
            begun = time.monotonic()
            evaluate(
                {"random real": real},
                test,
                network=network,
                protocol=replace(protocol, epochs=short, precision=networks_precision(config.precision)),
                seeds=range(processes),
                normalisation=usual_normalisation(self.images.channels),
                device=self.device,
            )
            return (time.monotonic() - begun) * epochs / short

        trainings, rounds = SETS * config.seeds, config.rounds_at(self.images.size[0])
        trained_on = self.images.networks_size(config)
        seconds = math.ceil(trainings / processes) * seconds_each(config.network, config.protocol, trained_on)
        if students := students_of(rounds):  # which learn half of a set on average, those of a round at the same time
            at_a_time = math.ceil(STUDENTS / processes) * (rounds - 1)
            seconds += at_a_time / 2 * seconds_each(NETWORK, PROTOCOL, self.images.size)
        return Expected(f"{trainings} trainings" + (f", {students} students" if students else ""), seconds)
