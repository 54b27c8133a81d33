"""Models and real images of a run: the embedded default, or the pipeline, classifiers and folders that are named.

    class as written -> label of the pipeline = folder of the training images = folder of the test images

Real images are listed, those of the chosen classes alone, and each is decoded when it is used.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from . import embedded
from .classifiers.image_classifiers import class_names_of
from .data.canvas import as_fit, canvas_for
from .data.class_folders import class_names_in, real_images
from .data.class_names import match_classes, names_typed
from .data.common_kind import channels_of
from .data.imagenet import split_of, split_warning, subset_of
from .data.pools import Pool
from .data.preparing.shared_images import shared_images
from .data.provenance import AMONG_SET
from .data.sources.shards import is_there
from .difficulty import Among, as_among, classes_among
from .evaluation.labelled_images import LabelledImages, load_labelled_images
from .generation.modes import Modes
from .generation.preparing.kept_parts import kept_parts
from .generation.preparing.mode_search import find_pool_modes, merge_modes
from .guidance.probes import classes_measured
from .loading import labels_of, load_guide, load_pipeline
from .pipelines.difficulty_guided import DifficultyGuidedPipeline
from .processes import fail_together, gather, is_main_process
from .progress import Progress, renamed
from .sampling.auto_target import of_size
from .sampling.references import reference_named
from .sampling.score_cache import score_and_record
from .sampling.target_parser import as_target
from .sampling.targets import TargetDistribution

logger = logging.getLogger(__name__)
SCORES, MODES = "reference.jsonl", "modes.safetensors"  # of the real training images, in the folder of the run
MOST_ENCODED = 5000, 100_000  # real images in which modes are looked for: of a class, and of all; 1.6 GB at 256 px
PLACES = ("pipeline", "classifier", "evaluator", "weak", "base", "vae", "train", "test", "reference")  # settings
IN_SAMPLE = "real training images by the guide, in sample if it was trained on them, as every ImageNet guide was"


@dataclass(frozen=True, kw_only=True)
class DistillationInputs:
    """What a run works with.  None, or nothing, stands for the embedded default.

    Attributes:
        pipeline: folder or Hub id of a DiT pipeline; default: the embedded one.
        classifier: folder or Hub id of the guide, which scores and steers; default: the pipeline's own.
        evaluator: folder or Hub id of a classifier of another family that only measures; default: the embedded one.
        weak: folder or Hub id of a pipeline with the same VAE and classes, smaller or less trained, for autoguidance;
            default: the pipeline's own weak denoiser, if it has one.
        train: real training images, such as train/n01440764/*.JPEG; default: embedded.
        test: real test images, such as val/n01440764/*.JPEG; default: embedded.
        classes: class name, ImageNet synset or label, or several with semicolons; default: all of the test images.
            Their order is that of the trained networks' labels.
        size: pixels per side for the trained networks; default: as the pipeline generates.
        channels: 1 (grey) or 3; default: as the test images have them.
        target: difficulties that DGS follows and images are steered to, as for generate; default: DGS follows the real
            training images and no image is steered.  ``reference`` means those images.
        reference: difficulties of real images by the same guide, or guides trained alike, such as a file that score
            --output wrote of images that it has not seen; default: those of the training images are measured.
        precision: float32, bfloat16 or float16, of pipeline and guide; default: as saved.  With float32 the trained
            networks compute in it too, else as their protocol says.
        split: split of the test images, for the record, such as ilsvrc or fastai.
        fit: pad, crop or stretch of real images to a square; default: as the models were trained, if they were trained
            here, else crop.
        trim: cut off transparent margins of real images first, as where models were trained so here.
        trust_bin: read .bin weights of a pipeline that has no safetensors.
        among: classes that difficulty is measured among: all of the classifier's, as in the paper, or those of the set
            alone.  For a set, real images are scored anew, and a probe for all classes is left out.
    """

    pipeline: str | None = None
    classifier: str | None = None
    evaluator: str | None = None
    weak: str | None = None
    train: str | None = None
    test: str | None = None
    classes: tuple[str, ...] = ()
    size: int | None = None
    channels: int | None = None
    target: str | None = None
    reference: str | None = None
    precision: str | None = None
    split: str | None = None
    fit: str | None = None
    trim: bool = False
    trust_bin: bool = False
    among: Among = "all"

    def __post_init__(self) -> None:
        if (self.train is None) != (self.test is None):
            raise ValueError(
                f"train is {self.train!r} and test {self.test!r}, but real images of both kinds are needed; give "
                "train=FOLDER and test=FOLDER, or neither for Fashion-MNIST"
            )
        as_among(self.among)
        if self.fit is not None:
            as_fit(self.fit)
        if self.channels not in (None, 1, 3):
            raise ValueError(
                f"channels are {self.channels}, but images have 1 (grey) or 3; leave them out to take the test images'"
            )
        if self.size is not None and self.size < 1:
            raise ValueError(f"size is {self.size} pixels, but must be at least 1; leave it out for the pipeline's own")
        if self.evaluator is not None and self.evaluator == self.classifier:
            raise ValueError(
                f"classifier and evaluator are both {self.classifier}, so that one would judge its own steering; "
                "give an evaluator of another family"
            )

    def given(self) -> dict[str, Any]:
        """The attributes that were given, as JSON has them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {name: value for name, value in plain.items() if value not in (None, False, []) and value != "all"}


def whole_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which folders and files that exist are whole paths, as they compare from wherever a call is made."""
    found = dict(settings)
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found[name] = whole_places(value)
        elif name in PLACES and isinstance(value, str) and Path(value).exists():
            found[name] = str(Path(value).resolve())
    return found


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

    @property
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
        logger.warning("the pipeline's probe is not for difficulty among the set's classes and is left out: slower")
        pipeline.register_modules(probe=None)


def _warn(setup: DistillationSetup) -> None:
    """Say what makes figures of these real images other than they seem."""
    if warning := split_warning(setup.test_counts, setup.inputs.split):
        logger.warning(warning)
    if shared := shared_images(setup.test, setup.train):
        logger.warning(
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


def reference_for(setup: DistillationSetup, output: Path, progress: Progress | None = None) -> dict[str, np.ndarray]:
    """Difficulties of real images by class: embedded, given, or of the training images by the guide.

    The last are written into ``output``.

    Args:
        progress: called with stage, done and total.
    """
    if setup.embedded_reference:
        return reference_named(None, setup.class_names)
    if setup.inputs.reference is not None:
        return reference_named(Path(setup.inputs.reference), setup.class_names)
    scored = renamed(progress, "real images scored")
    scorers, among = {setup.guide_name: setup.pipeline.classifier}, setup.inputs.among
    score_and_record(setup.train, scorers, output / SCORES, among=among, progress=scored)
    return reference_named(output / SCORES, setup.class_names)


def target_for(
    setup: DistillationSetup, reference: Mapping[str, np.ndarray], output: Path, ipc: int | None = None
) -> TargetDistribution:
    """The target that was asked for, or the reference itself, for sets of ``ipc`` images per class if given."""
    if setup.embedded_reference:
        own = TargetDistribution.from_reference(reference, text="reference")
    else:
        file = setup.inputs.reference or str(output / SCORES)
        own = TargetDistribution.from_reference(reference, name=setup.reference_name, text=file)
    target = as_target(setup.inputs.target or "reference", setup.class_names, reference=own)
    return target if ipc is None else of_size(target, ipc)


def modes_for(setup: DistillationSetup, output: Path, count: int, batch_size: int, progress: Progress) -> Modes:
    """Clusters of the real training images, ``count`` of each class: the embedded ones, or found once and kept."""
    if setup.inputs.pipeline is None and setup.inputs.train is None:
        return merge_modes(Modes.load(embedded.MODES), count)
    if not gather((output / MODES).exists())[0]:
        of_class, of_all = MOST_ENCODED
        most = max(count, min(of_class, of_all // len(setup.class_names)))
        images = setup.train.select(_some_of_each_class(setup.train, most))
        encoded = renamed(progress, "real images encoded")
        # a run has no other way out of images that changed while it was stopped than to begin with them anew
        with kept_parts(output / MODES, overwrite=True) as kept:
            found = find_pool_modes(setup.pipeline, images, count, batch_size=batch_size, kept=kept, progress=encoded)
            with fail_together():
                if is_main_process():
                    found.save(output / MODES)
            kept.remove()
    return Modes.load(output / MODES)


def _some_of_each_class(pool: Pool, count: int) -> np.ndarray:
    own = {label: np.flatnonzero(pool.labels == label) for label in pool.class_names}
    drawn = [np.random.default_rng([0, label]).permutation(rows)[:count] for label, rows in own.items()]
    return np.sort(np.concatenate(drawn))
