"""Models and real images of a run: the embedded default, or whatever pipeline, classifiers and folders are named.

    class as written -> label of the pipeline = folder of the training images = folder of the test images

Real images are listed, and only of the classes that are asked for; one is decoded when it is used.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from . import embedded
from .classifiers import class_names_of
from .data.class_folders import channels_of, class_names_in, real_images, rows_of, split_of, split_warning, subset_of
from .data.class_names import match_classes
from .data.pools import Pool
from .evaluation.labelled_images import LabelledImages, load_labelled_images
from .generation.mode_search import merge_modes, modes_found
from .generation.modes import Modes
from .loading import labels_named, load_guide, load_pipeline, precision_named
from .pipelines.difficulty_guided import DifficultyGuidedPipeline
from .progress import Progress, Stage
from .sampling.score_cache import score_and_record
from .sampling.target_parser import reference_named, target_named
from .sampling.targets import TargetDistribution

if TYPE_CHECKING:
    pass


logger = logging.getLogger(__name__)
SCORES = "reference.jsonl"  # difficulties of the real training images, in the folder of the run
IN_SAMPLE = "real training images by the guide, in sample if it was trained on them, as every ImageNet guide was"


@dataclass(frozen=True)
class DistillationInputs:
    """What a run works with; whatever is empty is that of the embedded default.

    Attributes:
        pipeline, guide, evaluator: folders or Hub ids; without a guide, the pipeline's own.
        train, test: real images, ``FOLDER/CLASS/IMAGE``, where CLASS may be an ImageNet synset.
        classes: names, synsets or labels, in the order of the trained networks' labels; empty for all of ``test``.
        size: pixels a side for the trained networks; 0: as the pipeline draws them.
        channels: 1, 3, or 0: as the test images have them.
        target: as ``target_texts`` reads it, where ``reference`` means the real training images; empty for those.
        precision: of the pipeline and its guide; empty: as saved.
        split: what the test images are, for the record, such as ``ilsvrc``.
        trust_bin: read .bin weights of a pipeline that has no safetensors.
    """

    pipeline: str = ""
    guide: str = ""
    evaluator: str = ""
    train: str = ""
    test: str = ""
    classes: tuple[str, ...] = ()
    size: int = 0
    channels: int = 0
    target: str = ""
    precision: str = ""
    split: str = ""
    trust_bin: bool = False

    def __post_init__(self) -> None:
        if bool(self.train) != bool(self.test):
            raise ValueError(
                f"train is {self.train!r} and test {self.test!r}, but real images of both kinds are needed; give "
                "--train and --test, or neither for Fashion-MNIST"
            )
        if self.channels not in (0, 1, 3):
            raise ValueError(f"channels are {self.channels}, but images have 1 (grey) or 3; 0 asks the test images")
        if self.evaluator and self.evaluator == self.guide:
            raise ValueError(
                f"guide and evaluator are both {self.guide}, so that one would judge its own steering; "
                "give an evaluator of another family"
            )

    def given(self) -> dict[str, Any]:
        """The attributes that were given, as JSON has them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {name: value for name, value in plain.items() if value}


@dataclass(frozen=True, eq=False)
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

    @cached_property
    def positions(self) -> dict[int, int]:
        """Labels of the pipeline to those of the trained networks, 0, 1, 2, ..."""
        return {label: position for position, label in enumerate(self.class_names)}

    @property
    def scored(self) -> bool:
        """Whether the reference has to be scored, since the embedded one is of another guide or other images."""
        return bool(self.inputs.pipeline or self.inputs.guide or self.inputs.train)

    @property
    def test_counts(self) -> dict[str, int]:
        """Class folder of the test images to their number."""
        return dict(Counter(PurePath(row["file_name"]).parts[0] for row in self.test.rows))

    @property
    def title(self) -> str:
        """What is distilled, in a word or two."""
        if not self.inputs.train:
            return "Fashion-MNIST"
        return subset_of(self.test_counts) or f"{len(self.class_names)} classes of {Path(self.inputs.train).resolve()}"

    def decoded(self, pool: Pool, indices: Sequence[int] | np.ndarray | None = None) -> LabelledImages:
        """Some images of a pool, or all, in memory and with the labels of the trained networks."""
        part = pool if indices is None else rows_of(pool, indices)
        loaded = load_labelled_images(part, size=self.size, channels=self.channels)
        labels = np.array([self.positions[label] for label in loaded.labels.tolist()], np.int64)
        return LabelledImages(loaded.images, labels, dict(enumerate(self.class_names.values())))

    @property
    def split(self) -> str:
        """Which split of an ImageNet subset the test images are: ``ilsvrc``, ``fastai``, or empty if neither."""
        return split_of(self.test_counts).replace("other", "")

    def record(self) -> dict[str, Any]:
        """Which real images the figures are of; empty for the embedded default."""
        if not self.inputs.train:
            return {}
        return {
            "subset": subset_of(self.test_counts),
            "classes": list(self.class_names.values()),
            "split": {"stated": self.inputs.split or None, "found": self.split or None},
            "training_images": len(self.train),
            "test_images": len(self.test),
            "reference": IN_SAMPLE,
        }


def load_setup(inputs: DistillationInputs, device: str) -> DistillationSetup:
    """Load models, list real images, and refuse at once what would fail after hours.

    Raises:
        FileNotFoundError: there is no folder of real images.
        ValueError: something cannot be loaded, or the pipeline, a classifier or a folder lacks a class.
    """
    train, test = Path(inputs.train or embedded.REFERENCE), Path(inputs.test or embedded.TEST)
    for path in (train, test):  # before models are loaded, which may take minutes
        if not path.exists():
            raise FileNotFoundError(
                f"there are no real images at {path}; give a folder such as {path}/n01440764/*.JPEG"
            )
    pipeline = load_pipeline(
        inputs.pipeline,
        inputs.guide,
        device,
        use_safetensors=None if inputs.trust_bin else True,
        dtype=precision_named(inputs.precision),
    )
    if pipeline.classifier is None:
        raise ValueError(f"{inputs.pipeline} has no classifier of its own; name one by --guide, of the same classes")
    written = classes_written(inputs, pipeline, test)
    names = {label: pipeline.class_names[label] for label in written}
    evaluator = load_guide(inputs.evaluator or str(embedded.EVALUATOR), device)
    owner = "the evaluator" if inputs.evaluator else "the embedded evaluator (--evaluator names another)"
    match_classes(names, class_names_of(evaluator), owner)
    pipeline.guide(pipeline.classifier, list(names))
    tests = real_images(test, names, written)
    size = (inputs.size, inputs.size) if inputs.size else pipeline.image_size[::-1]
    channels = inputs.channels or channels_of(tests)
    setup = DistillationSetup(
        inputs, pipeline, evaluator, names, real_images(train, names, written), tests, size, channels
    )
    if inputs.train and (warning := split_warning(setup.test_counts, inputs.split)):
        logger.warning(warning)
    return setup


def classes_written(inputs: DistillationInputs, pipeline: DifficultyGuidedPipeline, test: Path) -> dict[int, str]:
    """Label of the pipeline to what the class was called: in ``classes``, or else by the folders of test images.

    Raises:
        ValueError: the pipeline lacks a class, or two of the names are one class.
    """
    texts = [part.strip() for text in inputs.classes for part in text.split(";") if part.strip()]
    if texts:
        pairs = [(label, text) for text in texts for label in labels_named(pipeline, text) or []]
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


def reference_for(setup: DistillationSetup, output: Path, progress: Callable[[int], None]) -> dict[str, np.ndarray]:
    """Difficulties of real training images by class: the embedded ones, or by the guide, written into ``output``.

    Args:
        progress: called with the number of images done in each batch.
    """
    if not setup.scored:
        return reference_named(None, setup.class_names)
    name = setup.inputs.guide or f"classifier of {setup.inputs.pipeline or 'embedded default'}"
    score_and_record(setup.train, {name: setup.pipeline.classifier}, output / SCORES, progress=progress)
    return reference_named(output / SCORES, setup.class_names)


def target_for(setup: DistillationSetup, reference: Mapping[str, np.ndarray], output: Path) -> TargetDistribution:
    """The target that was asked for, or the reference itself."""
    if setup.inputs.target in ("", "reference"):
        name = IN_SAMPLE if setup.scored else "reference"  # by which --target knows the embedded ones
        return TargetDistribution.from_reference(reference, name=name)
    text = setup.inputs.target
    if setup.scored:  # the word would mean the embedded images
        text = re.sub(r"(?<![\w./-])reference(?![\w./-])", lambda _: str(output / SCORES), text)
    return target_named(text, setup.class_names)


MODES = "modes.safetensors"
MOST_ENCODED = 5000, 100_000  # real images in which modes are looked for: of a class, and of all; 1.6 GB at 256 px


def modes_for(setup: DistillationSetup, output: Path, count: int, batch_size: int, progress: Progress) -> Modes:
    """Clusters of the real training images, ``count`` of each class: the embedded ones, or found once and kept."""
    if not (setup.inputs.pipeline or setup.inputs.train):
        return merge_modes(Modes.load(embedded.MODES), count)
    if not (output / MODES).exists():
        of_class, of_all = MOST_ENCODED
        most = max(count, min(of_class, of_all // len(setup.class_names)))
        images = rows_of(setup.train, _some_of_each_class(setup.train, most))
        encoded = Stage("real images encoded", len(images), progress)
        options: dict[str, Any] = {"average": 1, "seed": 0, "batch_size": batch_size, "progress": encoded}
        modes_found(setup.pipeline, images, count, None, **options).save(output / MODES)
    return Modes.load(output / MODES)


def _some_of_each_class(pool: Pool, count: int) -> np.ndarray:
    own = {label: np.flatnonzero(pool.labels == label) for label in pool.class_names}
    drawn = [np.random.default_rng([0, label]).permutation(rows)[:count] for label, rows in own.items()]
    return np.sort(np.concatenate(drawn))
