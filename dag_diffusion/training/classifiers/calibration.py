"""Probabilities that mean what they say: a temperature fitted on images that a classifier has not seen.

    p = softmax(z / T),   T = argmin -mean(sum over c of q(c) log p(c | x)),   q(y) = (n + 1) / (n + 2) of n images,
    ECE = sum over bins of share * |accuracy - mean confidence|          the other classes share the rest (Platt 1999)

Difficulty is read from probabilities, so that an overconfident classifier finds everything easy.  A temperature may
also harm (Guo et al. 2017 fit it on thousands of images), so it is tested out of sample: each fold of the images by the
temperature of the others.  It goes into the last layer, where no reader of the model can forget it.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from dag_diffusion.classifiers.image_classifiers import class_names_of, logits_of

logger = logging.getLogger(__name__)
BINS = 15  # of equal width, as Guo et al. (2017) have it
FEWEST = 20  # images below which one wrong answer decides the temperature
RANGE = (0.05, 20.0)  # of temperatures
PARTS = 5  # of the images, for testing
TOLERANCE = 1e-3  # of the largest logit, by which a scaled head may miss


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it does to images that it was not fitted on.

    Attributes:
        temperature: fitted on all the images; above 1 the classifier was too sure of itself.
        kept: whether likelihood and calibration both gained; in the record of a training, whether it is in the model.
        images: how many there were.
        negative_log_likelihood, expected_calibration_error: before and after, each image by the temperature of others.
    """

    temperature: float
    kept: bool
    images: int
    negative_log_likelihood: tuple[float, float]
    expected_calibration_error: tuple[float, float]

    def as_record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def calibrate(logits: Tensor, labels: Tensor, folds: np.ndarray | None = None) -> tuple[Calibration, Tensor]:
    """Fit a temperature, and test it on images that it was not fitted on.

    Args:
        logits: ``(n, classes)`` of images that the classifier was not trained on.
        labels: ``(n,)`` integers.
        folds: ``(n,)`` integers, which of several classifiers gave the logits of each image; None: one classifier.

    Returns:
        the calibration, and ``(n,)`` float32 temperatures, each fitted on the images of the other folds; all 1 if it is
        not kept.
    """
    labels, logits = labels.cpu(), logits.cpu().double()
    parts = np.random.default_rng(0).permutation(len(labels)) % PARTS if folds is None else folds
    each = torch.ones(len(labels), dtype=torch.float64)
    if enough := len(labels) >= FEWEST:
        for part in np.unique(parts):
            mine = torch.from_numpy(parts == part)
            each[mine] = fit_temperature(logits[~mine], labels[~mine])
    after = logits / each[:, None]
    likelihoods = tuple(negative_log_likelihood(z, labels) for z in (logits, after))
    errors = tuple(expected_calibration_error(z, labels) for z in (logits, after))
    kept = enough and likelihoods[1] < likelihoods[0] and errors[1] < errors[0]
    temperature = fit_temperature(logits, labels) if enough else 1.0
    found = Calibration(
        temperature,
        kept,
        len(labels),
        (likelihoods[0], likelihoods[1]),
        (errors[0], errors[1]),
    )
    return found, (each if kept else torch.ones_like(each)).float()


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature in ``RANGE`` under which the labels are likeliest; convex in its inverse, so there is one.

    The labels are smoothed, the less the more images there are: where all are right, ever sharper would be likelier.
    """
    images, classes = logits.shape
    smoothing = classes / (classes - 1) / (images + 2)
    found = minimize_scalar(
        lambda inverse: float(nn.functional.cross_entropy(logits * inverse, labels, label_smoothing=smoothing)),
        bounds=(1 / RANGE[1], 1 / RANGE[0]),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return 1 / float(found.x)


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Mean of ``-log p(y | x)``; logits ``(n, classes)``, labels ``(n,)``."""
    return float(nn.functional.cross_entropy(logits, labels))


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """How far confidence is from accuracy, in [0, 1]: the mean over images of the gap of their bin of confidence.

    Args:
        logits: ``(n, classes)``.
        labels: ``(n,)`` integers.
        bins: of equal width, of the probability of the predicted class.
    """
    confidence, predicted = logits.softmax(1).max(1)
    gaps = ((predicted == labels).double() - confidence.double()).cpu().numpy()
    place = np.minimum((confidence.cpu().numpy() * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, gaps, bins)).sum() / len(gaps))


@torch.no_grad()
def scale_logits(classifier: nn.Module, temperature: float, prepared: Tensor) -> bool:
    """Divide a classifier's logits by a temperature, in the weights of its last layer.

    Args:
        classifier: of transformers or timm, in evaluation mode; changed in place.
        prepared: some images as it wants them, on which the result is checked.

    Returns:
        Whether that was possible; if not, the classifier is as it was.
    """
    before = logits_of(classifier(prepared))
    tensors = [tensor for head in heads_of(classifier) for tensor in head.parameters(recurse=False)]
    kept = [tensor.clone() for tensor in tensors]
    for tensor in tensors:
        tensor.div_(temperature)
    missed = (logits_of(classifier(prepared)) * temperature - before).abs().max()
    if tensors and missed <= TOLERANCE * before.abs().max():
        return True
    logger.warning("the temperature %.2f is left out: no last layer is found to put it into", temperature)
    for tensor, old in zip(tensors, kept, strict=True):
        tensor.copy_(old)
    return False


@torch.no_grad()
def scale_all(classifiers: Sequence[nn.Module], temperatures: Sequence[float], prepared: Tensor) -> bool:
    """Divide the logits of each of some classifiers by a temperature of its own, see ``scale_logits``.

    Returns:
        Whether that was possible; if not of all of them, each is as it was.
    """
    before = list[tuple[Tensor, Tensor]]()
    for classifier, temperature in zip(classifiers, temperatures, strict=True):
        own = [(tensor, tensor.clone()) for head in heads_of(classifier) for tensor in head.parameters(recurse=False)]
        if not scale_logits(classifier, temperature, prepared):
            for tensor, old in before:
                tensor.copy_(old)
            return False
        before += own
    return True


def heads_of(classifier: nn.Module) -> list[nn.Module]:
    """The layers that make a classifier's logits: those that timm names, else the last with an output a class.

    Networks that learnt from a teacher have two of them side by side, whose logits are averaged.
    """
    if (own := getattr(classifier, "timm_model", None)) is not None:
        named = own.pretrained_cfg.get("classifier") or ()  # exact where get_classifier() is one of two, or a whole MLP
        names = (named,) if isinstance(named, str) else named
        if found := list(_layers(module for name, module in own.named_modules() if name in names)):
            return found
        if (last := own.get_classifier()) is not None:
            return list(_layers(last if isinstance(last, tuple) else (last,)))
    classes = len(class_names_of(classifier))
    fitting = {
        module: (name.count("."), module.in_features)
        for name, module in classifier.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes
    }
    return [module for module, place in fitting.items() if place == list(fitting.values())[-1]]


def _layers(modules: Any) -> Iterator[nn.Module]:
    for module in modules:
        yield from (m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d))
