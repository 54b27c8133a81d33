"""How a classifier is trained, and what is chosen by the size of the data where nothing is said.

    passes over n images = 3000 / sqrt(n), 8 to 200        weights of the loss ~ (images of the class) ^ -balance

A temperature (see ``calibration``) can make up for a network that is too sure of everything, but not for smoothed or
mixed labels, which make it unsure where it need not be; so neither is on by default.
"""

import math
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np

from dag_diffusion.training.loop import LoopConfig

from .backbones import WEIGHTS, Role
from .image_changes import STRENGTHS, ImageChanges, strength_for

PASSES, FEWEST_PASSES, MOST_PASSES = 3000.0, 8.0, 200.0
RATES = {"small": 3e-3, "random": 1e-3, "pretrained": 2e-4}  # peak learning rates
LARGEST_BATCH, SMALLEST_BATCH = 128, 32  # a step of fewer images takes as long
UNEQUAL = 3.0  # times the smallest class, from which on the largest is told of


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """How a classifier is trained; None is chosen by the data.

    Attributes:
        role: guide or evaluator, which are of different families.
        model: small-resnet, small-regnet, a name of timm such as resnet18, or the folder or Hub id of a classifier
            that learns these classes; default: by role and size.
        weights: auto (pretrained where they can be had when a training begins), pretrained (or an error), or none (from
            scratch).
        size: side in pixels of the square that it sees; default: that of the images, or of the pretrained model.
        steps: training steps; default: by the number of images.
        batch_size: images of a step; default: by the number of images, up to 128.
        learning_rate: peak rate; default: by the model.
        weight_decay: pulls matrices to zero; biases and norms are left alone.
        augmentation: none, light, medium or strong; default: auto, the stronger the fewer images a class has.
        never_mirror: no training image is mirrored, as for digits, letters and signs.
        label_smoothing: share of the probability that is spread over all classes, in [0, 1).
        balance: 0 counts every image alike, 1 every class alike, and what lies between in between.
        held_out: share of each class that is not trained on but calibrated and tested with, if no images are given.
        uncalibrated: leave the temperature at 1.
        folds: classifiers that are trained besides, each without its part of the images, for difficulties of all
            images out of sample; 0 for none.
        precision: float32, bfloat16, or auto: bfloat16 where the device has it.
        seed: random seed.
    """

    role: str = "guide"
    model: str | None = None
    weights: str = "auto"
    size: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float = 0.02
    augmentation: str = "auto"
    never_mirror: bool = False
    label_smoothing: float = 0.0
    balance: float = 0.0
    held_out: float = 0.1
    uncalibrated: bool = False
    folds: int = 0
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        _require_among("role", self.role, get_args(Role))
        _require_among("weights", self.weights, WEIGHTS)
        _require_among("augmentation", self.augmentation, ("auto", *STRENGTHS))
        if self.size is not None and self.size < 1:
            raise ValueError(f"size is {self.size}; give the side of the images in pixels, such as 32 or 224")
        if self.folds < 0 or self.folds == 1:
            raise ValueError(f"folds is {self.folds}; give 2 or more classifiers that each leave a part out, or 0")
        for name, end in (("label_smoothing", 1), ("held_out", 1)):
            if not 0 <= getattr(self, name) < end:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a share, at least 0 and below {end}")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance is {self.balance}; give 0 (images count alike) to 1 (classes count alike)")
        self.loop(100, "small")  # which checks the rest

    def as_role(self) -> Role:
        """The role, typed."""
        return cast(Role, self.role)

    def loop(self, images: int, kind: str) -> LoopConfig:
        """The training of a network of a kind in ``RATES`` on so many images."""
        batch = batch_size_for(images) if self.batch_size is None else self.batch_size
        passes = min(max(PASSES / math.sqrt(images), FEWEST_PASSES), MOST_PASSES) / (4 if kind == "pretrained" else 1)
        return LoopConfig(
            steps=math.ceil(passes * images / max(batch, 1)) if self.steps is None else self.steps,
            batch_size=batch,
            learning_rate=RATES[kind] if self.learning_rate is None else self.learning_rate,
            weight_decay=self.weight_decay,
            precision=self.precision,
            seed=self.seed,
        )

    def changes(self, images_per_class: float) -> tuple[str, ImageChanges]:
        """The strength of the changes of training images, and the changes."""
        strength = strength_for(images_per_class) if self.augmentation == "auto" else self.augmentation
        found = STRENGTHS[strength]
        return strength, ImageChanges(found.shift, found.crop, found.colours, found.mirror and not self.never_mirror)


def batch_size_for(images: int) -> int:
    """A power of two, about a tenth of the images, which batch norm needs several of."""
    return min(max(2 ** int(math.log2(max(images / 10, 1))), SMALLEST_BATCH), LARGEST_BATCH)


def kind_of(model: str, weights: str) -> str:
    """The key of ``RATES`` for a network."""
    return "small" if model.startswith("small-") else "random" if weights == "random" else "pretrained"


def image_weights(labels: np.ndarray, balance: float) -> np.ndarray:
    """Weight of each image in the loss, mean 1, ``(n,)`` float32."""
    counts = np.bincount(labels)[labels].astype(np.float64)
    weights = counts**-balance
    return (weights / weights.mean()).astype(np.float32)


def unequal_text(counts: dict[str, int], balance: float) -> str | None:
    """A sentence on classes of very different sizes; None if they are alike, or weighed alike."""
    (small, least), *_, (large, most) = sorted(counts.items(), key=lambda item: item[1])
    if most < UNEQUAL * least or balance == 1:
        return None
    return (
        f"classes have {least} ({small}) to {most} images ({large}), so that rare ones seem harder than they are; "
        "balance=1.0 lets every class count alike"
    )


def _require_among(name: str, value: Any, known: Any) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}")
