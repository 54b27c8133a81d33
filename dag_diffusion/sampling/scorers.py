"""A classifier as it scores one pool: its preprocessing, its own labels of the pool's classes, and its precision."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dag_diffusion.classifiers.guide_checks import require_classifier, require_logits_of_two
from dag_diffusion.classifiers.image_classifiers import class_names_of, preprocessing_of, require_fitting
from dag_diffusion.classifiers.model_transforms import AnyPreprocessing
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.pools import Pool
from dag_diffusion.difficulty import LABEL_FREE, Among, MeasureName, classes_among
from dag_diffusion.identity import full_digest_of


@dataclass(frozen=True)
class Scorer:
    """A classifier as it scores one pool.

    Attributes:
        preprocessing: how it wants its images.
        labels: the pool's labels to its own.
        precision: what its forward pass computes in.
        classes: its own labels that difficulty is measured among, rising; None for all.
    """

    classifier: nn.Module
    preprocessing: AnyPreprocessing
    labels: dict[int, int]
    precision: torch.dtype
    classes: tuple[int, ...] | None = None


def scorers_of(
    pool: Pool,
    classifiers: nn.Module | Sequence[nn.Module],
    class_map: Mapping[str, str | int] | None = None,
    dtype: torch.dtype | None = None,
    measure: MeasureName = "error_probability",
    among: Among = "all",
) -> list[Scorer]:
    """What each classifier needs to score a pool; ValueError if one cannot."""
    given: Any = classifiers
    single = isinstance(given, str) or not isinstance(given, Sequence)
    classifiers = [given] if single else given
    if not classifiers:
        raise ValueError("the list of classifiers is empty; give at least one, such as the pipeline's own classifier")
    for classifier in classifiers:
        require_classifier(classifier)
    if any(classifier.training for classifier in classifiers):
        raise ValueError("a classifier is in training mode, where scores depend on the batch; call classifier.eval()")
    for classifier in classifiers:
        require_fitting(classifier, len(class_names_of(classifier)))
    names = pool.class_names

    def labels_of(classifier: nn.Module) -> dict[int, int]:
        if measure in LABEL_FREE and among == "all":
            return dict.fromkeys(names, 0)
        return match_classes(names, class_names_of(classifier), mapping=class_map or {}, trainable=True)

    def scorer_of(classifier: nn.Module) -> Scorer:
        labels, preprocessing = labels_of(classifier), preprocessing_of(classifier)
        require_logits_of_two(classifier, preprocessing)  # images may come one at a time
        classes = classes_among(among, labels.values())
        return Scorer(classifier, preprocessing, labels, _precision(classifier, dtype), classes)

    return [scorer_of(classifier) for classifier in classifiers]


def classifier_key(classifier: nn.Module, precision: torch.dtype) -> str:
    """A digest of all that makes a classifier's logits: modules, what these hold, preprocessing, precision."""
    parts = [str(classifier), class_names_of(classifier), preprocessing_of(classifier).as_fields(), precision]
    text = json.dumps([*parts, full_digest_of(classifier)], default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _precision(classifier: nn.Module, dtype: torch.dtype | None) -> torch.dtype:
    weight = next(classifier.parameters())
    if dtype is None:
        return torch.float16 if weight.is_cuda and weight.dtype == torch.float32 else weight.dtype
    if dtype == torch.float32 and weight.dtype != dtype:
        raise ValueError(
            f"the classifier's weights are {weight.dtype}, too coarse for dtype=torch.float32; call classifier.float()"
        )
    return dtype
