"""Models and real images of a run: the embedded default, or the pipeline, classifiers and folders that are named.

    class as written -> label of the pipeline = folder of the training images = folder of the test images

Real images are listed, those of the chosen classes alone, and each is decoded when it is used.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from dag_diffusion import embedded
from dag_diffusion.classifiers.image_classifiers import class_names_of
from dag_diffusion.data.canvas import canvas_for
from dag_diffusion.data.class_folders import class_names_in, real_images
from dag_diffusion.data.class_names import match_classes, names_typed
from dag_diffusion.data.common_kind import channels_of
from dag_diffusion.data.imagenet import split_of, split_warning, subset_of
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.preparing.shared_images import shared_rows
from dag_diffusion.data.provenance import AMONG_SET
from dag_diffusion.data.sources.shards import is_there
from dag_diffusion.difficulty import classes_among
from dag_diffusion.evaluation.labelled_images import LabelledImages, load_labelled_images
from dag_diffusion.guidance.probes import classes_measured
from dag_diffusion.loading import labels_of, load_guide, load_pipeline
from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline
from dag_diffusion.processes import warn_once

from .config import DistillationInputs

logger = logging.getLogger(__name__)
IN_SAMPLE = "real training images by the guide, in sample if it was trained on them, as every ImageNet guide was"


@dataclass(frozen=True, eq=False, kw_only=True)
class DistillationSetup:
    """All that is loaded for a run.

    Attributes:
        class_names: label of the pipeline to class name, in the order of the trained networks' labels.
        train, test: real images with those labels and names.
        size: (height, width) for the trained networks.
    """

    inputs: DistillationInputs
    pipeline: DifficultyGuidedPipeline
    evaluator: nn.Module
    class_names: dict[int, str]
    train: Pool
    test: Pool
    size: tuple[int, int]
    channels: int

    @property
    def pipeline_name(self) -> str:
        """The pipeline as records call it."""
        return self.inputs.pipeline or "embedded default"

    @property
    def guide_name(self) -> str:
        """The guide as records call it."""
        return self.inputs.classifier or f"classifier of {self.pipeline_name}"

    @cached_property
    def network_class_names(self) -> dict[int, str]:
        """Labels of the trained networks, 0, 1, 2, ..., to class names."""
        return dict(enumerate(self.class_names.values()))

    def network_labels(self, pool: Pool) -> np.ndarray:
        """Labels of a pool's images as the trained networks count them, ``(images,)``."""
        table = {label: position for position, label in enumerate(self.class_names)}
        return np.array([table[label] for label in pool.labels.tolist()], np.int64)

    @property
    def embedded_reference(self) -> bool:
        """Whether the embedded difficulties are the reference: no other guide or images, and no other difficulties."""
        given = (self.inputs.reference, self.inputs.pipeline, self.inputs.classifier, self.inputs.train)
        return all(one is None for one in given) and self.inputs.among == "all"

    @property
    def reference_name(self) -> str:
        """What the difficulties are of that DGS follows."""
        given = self.inputs.reference
        return IN_SAMPLE if given is None else f"real images, as scored in {given}"

    @property
    def measured(self) -> str:
        """What the difficulties of pools and sets are."""
        return f"Difficulties by the guide{AMONG_SET if self.inputs.among == 'set' else ''}."

    @cached_property
    def test_counts(self) -> dict[str, int]:
        """Class folder of the test images to their number; where they lie flat, that of the training images."""
        folders: dict[int, str] = {}
        for row in (*self.train.rows, *self.test.rows):
            top, inside, _ = row["file_name"].partition("/")
            if inside:
                folders[row["label"]] = top
        return dict(Counter(folders.get(row["label"], row["class_name"]) for row in self.test.rows))

    @property
    def title(self) -> str:
        """What is distilled, in a word or two."""
        if self.inputs.train is None:
            return "Fashion-MNIST"
        return subset_of(self.test_counts) or f"{len(self.class_names)} classes of {Path(self.inputs.train).resolve()}"

    def decode(self, pool: Pool, indices: Sequence[int] | np.ndarray | None = None) -> LabelledImages:
        """Some images of a pool, or all, in memory and with the labels of the trained networks."""
        part = pool if indices is None else pool.select(indices)
        loaded = load_labelled_images(part, size=self.size, channels=self.channels)
        return LabelledImages(loaded.images, self.network_labels(part), self.network_class_names)

    @property
    def split(self) -> str | None:
        """Which split of an ImageNet subset the test images are: ``ilsvrc``, ``fastai``, or None if neither."""
        found = split_of(self.test_counts)
        return None if found == "other" else found

    def record(self) -> dict[str, Any]:
        """Which real images the accuracies are of; empty for the embedded default."""
        if self.inputs.train is None:
            return {}
        return {
            "subset": subset_of(self.test_counts),
            "classes": list(self.class_names.values()),
            "split": {"stated": self.inputs.split, "found": self.split},
            "training_images": len(self.train),
            "test_images": len(self.test),
            "reference": self.reference_name,
        }


def load_setup(inputs: DistillationInputs, device: str) -> DistillationSetup:
    """Load models, list real images, and refuse at once what would fail after hours.

    Raises:
        FileNotFoundError: there is no folder of real images.
        ValueError: something cannot be loaded, or the pipeline, a classifier or a folder lacks a class.
    """
    train, test = Path(inputs.train or embedded.REFERENCE), Path(inputs.test or embedded.TEST)
    for path in (train, test):  # before models are loaded, which may take minutes
        if not is_there(path):
            raise FileNotFoundError(
                f"there are no real images at {path}; give a folder such as {path}/n01440764/*.JPEG"
            )
    pipeline = load_pipeline(
        inputs.pipeline,
        classifier=inputs.classifier,
        weak=inputs.weak,
        device=device,
        dtype=inputs.precision,
        trust_bin=inputs.trust_bin,
    )
    if pipeline.classifier is None:
        raise ValueError(f"{inputs.pipeline} has no classifier of its own; give a classifier of the same classes")
    written = classes_written(inputs, pipeline, test)
    names = {label: pipeline.class_names[label] for label in written}
    evaluator = load_guide(inputs.evaluator or embedded.EVALUATOR, device=device)
    owner = (
        "the evaluator" if inputs.evaluator is not None else "the embedded evaluator (evaluator=FOLDER names another)"
    )
    match_classes(names, class_names_of(evaluator), owner, trainable=True)
    among = classes_among(inputs.among, names)
    pipeline.guide(pipeline.classifier, list(names), among)
    leave_out_other_probe(pipeline, among)
    canvas = canvas_for(inputs.fit, (inputs.pipeline, inputs.classifier, inputs.evaluator), trim=inputs.trim)
    tests = replace(real_images(test, names, written), canvas=canvas)
    setup = DistillationSetup(
        inputs=inputs,
        pipeline=pipeline,
        evaluator=evaluator,
        class_names=names,
        train=replace(real_images(train, names, written), canvas=canvas),
        test=tests,
        size=pipeline.image_size[::-1] if inputs.size is None else (inputs.size, inputs.size),
        channels=channels_of(tests) if inputs.channels is None else inputs.channels,
    )
    if inputs.train is not None:
        _warn(setup)
    return setup


def leave_out_other_probe(pipeline: DifficultyGuidedPipeline, among: Sequence[int] | None) -> None:
    """A probe predicts difficulty among the classes that it was trained for, and guidance decodes without one."""
    if among is not None and pipeline.probe is not None and classes_measured(pipeline.probe) != list(among):
        warn_once(logger, "the pipeline's probe is not for difficulty among the set's classes and is left out: slower")
        pipeline.register_modules(probe=None)


def _warn(setup: DistillationSetup) -> None:
    """Say what makes figures of these real images other than they seem."""
    if warning := split_warning(setup.test_counts, setup.inputs.split):
        warn_once(logger, "%s", warning)
    if shared := len(shared_rows(setup.test, setup.train)):
        warn_once(
            logger,
            "%d of %d test images are training images too, so that accuracies say too much; give other test images",
            shared,
            len(setup.test),
        )


def classes_written(inputs: DistillationInputs, pipeline: DifficultyGuidedPipeline, test: Path) -> dict[int, str]:
    """Label of the pipeline to what the class was called: in ``classes``, or else by the folders of test images.

    Raises:
        ValueError: the pipeline lacks a class, or two of the names are one class.
    """
    if texts := names_typed(inputs.classes):
        pairs = [(label, text) for text in texts for label in labels_of(pipeline, text) or []]
    else:
        known = class_names_in(test)
        found = match_classes(known, pipeline.class_names, "the pipeline")
        pairs = sorted((label, known[theirs]) for theirs, label in found.items())
    written = dict(pairs)
    if absent := [label for label in written if label not in pipeline.class_names]:
        raise ValueError(f"the pipeline has no label {absent}; it has 0..{max(pipeline.class_names)}")
    if len(written) < len(pairs):
        twice = [text for label, text in pairs if written[label] != text] or [text for _, text in pairs]
        raise ValueError(f"a class is named twice, such as {twice[0]!r}; name each class once, by one of its names")
    return written
