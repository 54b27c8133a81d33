"""Trainings of one classifier, and of those that each leave a fold of the images out, on images that are decoded once.

    loss = mean over a batch of w(y) * cross-entropy(logits of the changed image, y)

What is random in a step is known from (seed, step) alone, see ``batches``.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dag_diffusion.classifiers.image_classifiers import logits_of, prepared_logits
from dag_diffusion.data.class_folders import instead_of_one_class, limited_to
from dag_diffusion.data.class_names import distinct_names, match_classes
from dag_diffusion.data.common_kind import common_kind
from dag_diffusion.data.pools import Pool, PoolSource, as_pool
from dag_diffusion.data.rows import Row, with_columns
from dag_diffusion.difficulty import difficulty
from dag_diffusion.evaluation.augmentations import Normalisation
from dag_diffusion.processes import fail_together, gather, is_main_process, warn_once
from dag_diffusion.progress import Progress, renamed
from dag_diffusion.training.batches import Batch
from dag_diffusion.training.loop import fit
from dag_diffusion.training.shared_norms import shared_norms

from .backbones import RANDOM, SHAPES, Backbone, build_backbone, default_backbone
from .calibration import Calibration, calibrate, expected_calibration_error, negative_log_likelihood, scale_all
from .decoded_images import DecodedImages, decode
from .folds import Dealing
from .plan import ClassifierConfig, image_weights, kind_of, unequal_text

logger = logging.getLogger(__name__)
ASKED_PIXELS = 256 * 64**2  # of a forward pass without gradients


@dataclass(frozen=True, eq=False)
class Labelled:
    """Some decoded images: which, and the classifier's labels of these, both ``(n,)`` int64."""

    images: DecodedImages
    rows: np.ndarray
    labels: np.ndarray

    def part(self, chosen: np.ndarray) -> "Labelled":
        """Those that are chosen, ``(n,)`` bool."""
        return Labelled(self.images, self.rows[chosen], self.labels[chosen])


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """Difficulties of images by classifiers that have not seen them.

    Attributes:
        models: one a fold, trained on the others.
        rows: of the pool, with these difficulties.
        record: how good the classifiers are on what they have not seen, as JSON.
    """

    models: list[nn.Module]
    rows: list[Row]
    record: dict[str, Any]


class ClassifierTraining:
    """What all trainings on one pool share.

    Args:
        names: the classifier's labels, 0 to n - 1, to class names.
        work: folder for what is not finished.
        device: where to train.
        weights: where those of an unfinished training of this configuration are from, as its settings say; None: there
            is none.  Known to the first process.

    Every one of several processes makes it and calls its methods, in the same order.

    Raises:
        ValueError: see ``train_classifier``.
    """

    def __init__(
        self,
        pool: Pool,
        holdout: Pool | None,
        names: Mapping[int, str],
        config: ClassifierConfig,
        work: Path,
        device: str,
        progress: Progress | None,
        weights: str | None = None,
    ) -> None:
        self.pool, self.names, self.config, self.work = pool, dict(names), config, work
        self.device, self.progress = torch.device(device), progress
        with fail_together():
            self.size, self.channels = self._kind()
        self.backbone = self._agreed_backbone(weights)
        if self.backbone.keeps_head and (config.folds or (holdout is None and config.held_out)):
            warn_once(
                logger,
                "%s was trained for exactly these classes and is trained on: if it has seen these images, held-out "
                "accuracy, temperature and difficulties of folds flatter it; begin with what it was trained from, or "
                "hold out other images",
                self.backbone.name,
            )
        self.all = self._labelled(pool, "images read")
        with fail_together():
            if config.folds:
                self._folds()  # refused now, and not once the classifier is trained
            self.trained, self.held = self._split(holdout is None and config.held_out > 0)
        if holdout is not None:
            self.held = self._labelled(holdout, "held-out images read", "holdout")
        counts = np.bincount(self.trained.labels, minlength=len(names)).tolist()
        self.apart = distinct_names(self.names)  # for records and messages
        self.counts = {self.apart[label]: count for label, count in enumerate(counts)}
        if (said := unequal_text(self.counts, config.balance)) is not None:
            warn_once(logger, "%s", said)
        self.strength, self.changes = config.changes(len(self.trained.rows) / len(names))
        self.settings = {
            "config": asdict(config),
            "model": self.backbone.name,
            "weights": self.backbone.weights,
            "keeps_head": self.backbone.keeps_head,
            "preprocessing": self.backbone.preprocessing.as_fields(),
            "augmentation": self.strength,
            "classes": {str(label): name for label, name in names.items()},
            "images": _digest(self.all),
            "held-out images": None if self.held is None else _digest(self.held),
        }

    def classifier(self, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
        """The classifier, calibrated, and the record of its training."""
        model = self._fitted(self.trained, folder / "classifier", self.config.seed, "training")
        record = {
            **self.settings,
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "training": self._settings_of(self.trained) | {"images of each class": self.counts},
            "held_out": None,
            "calibration": None,
        }
        if self.held is not None:
            logits = self._logits(model, self.held)
            found, _ = calibrate(logits, torch.from_numpy(self.held.labels))
            found = self._applied(found, [model], [found.temperature])
            logits = logits / found.temperature if found.kept else logits
            record |= {"held_out": self._results(logits, self.held.labels), "calibration": found.as_record()}
        return model, record

    def folds(self, folder: Path) -> CrossFitted:
        """A classifier for each fold, trained on the others, and what they say of it."""
        count, models = self.config.folds, list[nn.Module]()
        with fail_together():
            fold = self._folds()
        logits = torch.empty(len(fold), len(self.names))
        for number in range(count):
            stage = f"fold {number + 1} of {count}"
            part, seed = self.all.part(fold != number), self.config.seed + 1 + number
            models.append(self._fitted(part, folder / f"fold-{number + 1}", seed, stage))
            logits[torch.from_numpy(fold == number)] = self._logits(models[-1], self.all.part(fold == number))
        labels = torch.from_numpy(self.all.labels)
        found, temperatures = calibrate(logits, labels, fold)
        by_fold = [float(temperatures[int(np.argmax(fold == number))]) for number in range(count)]
        found = self._applied(found, models, by_fold)
        logits = logits / temperatures[:, None] if found.kept else logits
        by = f"error_probability by {count} classifiers, each trained without the image"
        by += " from one that may have seen it" if self.backbone.keeps_head else ""
        difficulties = difficulty(logits, labels).tolist()
        rows = [
            with_columns(row, {"difficulty": value, "difficulty_by": by, "score_key": None})
            for row, value in zip(self.pool.rows, difficulties, strict=True)
        ]
        record = {"classifiers": count, **self._results(logits, self.all.labels), "calibration": found.as_record()}
        return CrossFitted(models, rows, record)

    def tested(self, model: nn.Module, pool: Pool, stage: str) -> dict[str, Any]:
        """How good the classifier is on other images, as JSON."""
        images = self._labelled(pool, stage, "test")
        return self._results(self._logits(model, images), images.labels) | {"digest": _digest(images)}

    def _kind(self) -> tuple[tuple[int, int], int]:
        kind = common_kind(self.pool)
        for sentence in filter(None, ("" if self.config.size else kind.mixed_sizes, kind.mixed_colours)):
            warn_once(logger, "%s", sentence)
        return (self.config.size,) * 2 if self.config.size else kind.size, kind.channels

    def _agreed_backbone(self, begun: str | None) -> Backbone:
        """The network, with pretrained weights in all processes and calls or in none.

        What ``auto`` comes to depends on whether the Hub answers just then, so that the first process asks, and only
        where no earlier call has.
        """
        found: Backbone | None = None
        with fail_together():
            if is_main_process():
                found = self._backbone(self.config.seed, self._weights_from(begun))
                if begun == RANDOM and self._weights_from(begun) != self.config.weights:
                    logger.warning("%s is trained from scratch, as it was begun in %s", found.name, self.work)
        source = gather(found and found.weights)[0]
        with fail_together():  # once the first has what it downloads
            return found or self._backbone(self.config.seed, self._weights_from(source))

    def _weights_from(self, source: str | None) -> str:
        """What to ask ``build_backbone`` for so that the weights are from there again."""
        if source is None or self._model() in SHAPES:
            return self.config.weights
        return "none" if source == RANDOM else "pretrained"

    def _model(self) -> str:
        return self.config.model or default_backbone(self.config.as_role(), self.size)

    def _backbone(self, seed: int, weights: str) -> Backbone:
        return build_backbone(
            self._model(),
            self.names,
            size=self.size,
            channels=self.channels,
            own_size=self.config.size is None,
            weights=weights,
            seed=seed,
        )

    def _labelled(self, pool: Pool, stage: str, folder: str = "images") -> Labelled:
        # by the labels of the training images, which tell apart classes of one name
        place = {label: place for place, label in enumerate(sorted(self.pool.class_names))}
        table = match_classes(pool.class_names, self.pool.class_names)
        labels = np.array([place[table[label]] for label in pool.labels.tolist()], np.int64)
        images = decode(pool, self.backbone.preprocessing, self.work / folder, self.progress, stage)
        return Labelled(images, np.arange(len(pool)), labels)

    def _split(self, split: bool) -> tuple[Labelled, Labelled | None]:
        """Images to train on, and held-out ones."""
        if not split:
            return self.all, None
        held = self._dealing().held_out(self.config.held_out)
        return self.all.part(~held), self.all.part(held)

    def _dealing(self) -> Dealing:
        names = [row["file_name"] for row in self.pool.rows]
        return Dealing(self.all.labels, self.all.images.twins, names, self.names, self.config.seed)

    def _folds(self) -> np.ndarray:
        """The fold of each image."""
        count, fold = self.config.folds, self._dealing().folds(self.config.folds)
        if (dealt := len(np.unique(fold))) < count:
            raise ValueError(
                f"folds={count} are too many for {len(fold)} images: {count - dealt} of them would have none; lower "
                "folds, or add images"
            )
        return fold

    def _settings_of(self, part: Labelled) -> dict[str, Any]:
        return asdict(self.config.loop(len(part.rows), kind_of(self.backbone.name, self.backbone.weights)))

    def _fitted(self, part: Labelled, folder: Path, seed: int, stage: str) -> nn.Module:
        """A new network, trained on some images, or as far as it is and on from there."""
        loop = self.config.loop(len(part.rows), kind_of(self.backbone.name, self.backbone.weights))
        identity = {"settings": _hashed(repr(sorted(self.settings.items()))), "of": _digest(part)}
        weights = self._weights_from(self.backbone.weights)
        with fail_together():
            model = self._backbone(seed, weights).model.to(self.device).to(memory_format=torch.channels_last)
        labels = torch.from_numpy(part.labels).to(self.device)
        importance = torch.from_numpy(image_weights(part.labels, self.config.balance)).to(self.device)

        def loss(model: nn.Module, batch: Batch) -> Tensor:
            images = self._normalised(part.images.of(part.rows[batch.every.numpy()]))
            images = self.changes(images, batch.generator("changes"), self._normalisation())[batch.rows]
            logits = logits_of(model(images.contiguous(memory_format=torch.channels_last))).float()
            smoothing, chosen = self.config.label_smoothing, batch.indices.to(self.device)
            each = F.cross_entropy(logits, labels[chosen], reduction="none", label_smoothing=smoothing)
            return (each * importance[chosen]).mean()

        config = replace(loop, seed=seed)
        told = renamed(self.progress, stage)
        with shared_norms(model):
            return fit(model, loss, len(part.rows), folder, config, identity=identity, progress=told)

    def _normalised(self, images: Tensor) -> Tensor:
        return self.backbone.preprocessing.normalised(images.to(self.device))

    def _normalisation(self) -> Normalisation:
        return Normalisation(self.backbone.preprocessing.mean, self.backbone.preprocessing.std)

    @torch.inference_mode()
    def _logits(self, model: nn.Module, part: Labelled) -> Tensor:
        """``(n, classes)`` float32 on the CPU."""
        wanted = self.backbone.preprocessing
        size = max(1, min(256, ASKED_PIXELS // (wanted.height * wanted.width)))
        found = []
        for start in range(0, len(part.rows), size):
            images = self._normalised(part.images.of(part.rows[start : start + size]))
            found.append(prepared_logits(model, images.contiguous(memory_format=torch.channels_last)).cpu())
        return torch.cat(found)

    def _applied(self, found: Calibration, models: Sequence[nn.Module], temperatures: Sequence[float]) -> Calibration:
        """Put a temperature into the weights of each model, if it helps and is wanted; of all, or of none."""
        wanted = self.backbone.preprocessing
        noise = torch.randn(2, wanted.channels, wanted.height, wanted.width, generator=torch.Generator().manual_seed(0))
        kept = found.kept and not self.config.uncalibrated
        if kept and (kept := scale_all(models, temperatures, noise.to(self.device))):
            for model, temperature in zip(models, temperatures, strict=True):
                setattr(model.config, "temperature_in_weights", temperature)  # noqa: B010 - typed as a module
        return replace(found, kept=kept)

    def _results(self, logits: Tensor, labels: np.ndarray) -> dict[str, Any]:
        right, known = logits.argmax(1).numpy() == labels, torch.from_numpy(labels)
        by_class = {self.apart[label]: round(float(right[labels == label].mean()), 4) for label in np.unique(labels)}
        return {
            "images": len(labels),
            "accuracy": float(right.mean()),
            "accuracy_by_class": by_class,
            "negative_log_likelihood": negative_log_likelihood(logits, known),
            "expected_calibration_error": expected_calibration_error(logits, known),
        }


def class_names_for(pool: Pool) -> dict[int, str]:
    """The classifier's labels, 0 to n - 1, to the names of a pool's classes by label.

    Raises:
        ValueError: there are fewer than two classes.
    """
    names = dict(enumerate(name for _, name in sorted(pool.class_names.items())))
    if len(names) < 2:
        raise ValueError(
            f"{pool.path} has one class, {names[0]!r}, and a classifier tells classes apart; "
            f"{instead_of_one_class(pool.path, names[0])}"
        )
    return names


def of_classes(names: Mapping[int, str], given: "PoolSource | None", argument: str) -> Pool | None:
    """The images to hold out or to test with of the classes that are trained; None for None.

    Args:
        names: of these classes, by the labels of the training images.

    Raises:
        ValueError: they are of other classes.
    """
    if given is None:
        return None
    pool = limited_to(as_pool(given), [names], "the training images")
    match_classes(pool.class_names, names, f"the folder of training images ({argument}= has other classes)")
    return pool


def _digest(part: Labelled) -> str:
    return _hashed(part.images.digest, part.rows.tobytes(), part.labels.tobytes())


def _hashed(*values: str | bytes) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for value in values:
        digest.update(value.encode() if isinstance(value, str) else value)
    return digest.hexdigest()
