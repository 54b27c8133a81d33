"""Which of its own labels each guide is asked for: classes named as the first guide has them, matched by name."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dag_diffusion.classifiers.guide_checks import require_classifier, require_evaluation_mode
from dag_diffusion.classifiers.image_classifiers import class_names_of
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.difficulty import classes_among
from dag_diffusion.pipelines.call_inputs import labels_named

Labels = int | str | Sequence[int | str]


def as_guides(given: Any) -> list[nn.Module]:
    """One guide or several as a list; ValueError if one of them is no classifier."""
    guides = list(given) if isinstance(given, list | tuple) else [given]
    for guide in guides:
        require_classifier(guide)
    return guides


def labels_of_guides(guides: Sequence[nn.Module], class_labels: Labels) -> list[Tensor]:
    """For each guide its own labels, ``(n,)``, of classes that are named as the first guide has them."""
    require_evaluation_mode(guides)
    if not guides:
        raise ValueError("steer needs a guide; give a classifier, such as load_classifier('microsoft/resnet-50')")
    labels = labels_named(class_labels, class_names_of(guides[0]), "the guide")
    if not labels:
        raise ValueError("steer needs class labels; give one for all images, or one for each")
    return [torch.tensor(own) for own in _in_every_guide(guides, labels)]


def classes_among_guides(
    guides: Sequence[nn.Module], labels: Sequence[Tensor], set_classes: Labels | None, among: str
) -> list[Tensor | None]:
    """For each guide its own labels that difficulty is measured among, rising; None for all of its classes."""
    further = [] if set_classes is None else labels_named(set_classes, class_names_of(guides[0]), "the guide")
    if (classes := classes_among(among, [*labels[0].tolist(), *further])) is None:
        return [None] * len(guides)
    return [torch.tensor(sorted(set(own))) for own in _in_every_guide(guides, classes)]


def _in_every_guide(guides: Sequence[nn.Module], labels: Sequence[int]) -> list[list[int]]:
    """Labels of the first guide as each guide has them, matched by name."""
    names = class_names_of(guides[0])
    asked = {label: names[label] for label in labels}
    tables = [match_classes(asked, class_names_of(guide), "the classifier") for guide in guides[1:]]
    return [[table[label] for label in labels] for table in ({i: i for i in asked}, *tables)]
