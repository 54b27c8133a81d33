"""Difficulty of an image for a classifier, ``d(x, y) = 1 - p(y | x)``, and other measures of how hard it is.

    m = z_y - logsumexp_{j != y} z_j = log p(y | x) - log(1 - p(y | x)),   d = sigmoid(-m)

0 is an image that the classifier is sure of, 1 one that it is sure is something else.  Every measure is computed from
m and from q, the probabilities of the other classes among themselves: both stay exact where p(y | x) rounds to 1.

p is a softmax over all classes of the classifier, as in the paper, or over those of the set alone (``among``): to a
classifier of 1,000 classes a dog among birds is hard for the sake of 117 other breeds that the set does not contain.
"""

from collections.abc import Callable, Iterable
from math import log, sqrt
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Among = Literal["all", "set"]
AMONG = get_args(Among)  # the classes that difficulty is measured among: of the classifier, or of the set
CLAMP = 1e-5  # a target of exactly 0 or 1 has an infinite margin; this one asks for a margin of 11.5


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds of the true class, ``log p(y | x) - log(1 - p(y | x))``.

    Args:
        logits: ``(batch, classes)``, any float dtype, at least two classes.
        labels: ``(batch,)``, integer class ids.

    Returns:
        ``(batch,)``, float64 of float64 logits, else float32; difficulty is ``sigmoid(-margin)``.
    """
    logits = _in_full(logits)
    return _true(logits, labels) - _without(logits, labels).logsumexp(1)


def difficulty(logits: Tensor, labels: Tensor) -> Tensor:
    """``1 - p(y | x)``, exact also near 0, where ``1 - softmax`` would round to 0; the measure ``error_probability``.

    Returns:
        ``(batch,)`` in [0, 1], float64 of float64 logits, else float32.
    """
    return torch.sigmoid(-margin(logits, labels))


def rival_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The true class against its strongest rival, ``sigmoid(max_{j != y} z_j - z_y)``; the measure ``rival_margin``.

    1/2 is where the prediction flips, whatever the other classes get; of two classes it is ``difficulty``.  After the
    area under the margin of Pleiss et al. 2020 (arXiv 2001.10528), which is the plain logit gap: the sigmoid only
    brings it to [0, 1].  Arguments and result as of ``difficulty``.
    """
    logits = _in_full(logits)
    return torch.sigmoid(_without(logits, labels).amax(1) - _true(logits, labels))


def entropy(logits: Tensor, labels: Tensor | None = None) -> Tensor:
    """``H(p) / ln(classes)``: how undecided the classifier is, be it right or wrong; ``labels`` do not count.

    With t the most probable class and d = 1 - p_t, the chain rule ``H(p) = H(d, 1 - d) + d H(q)`` is exact near 0.
    Result as of ``difficulty``.
    """
    logits = _in_full(logits)
    top = logits.argmax(1)
    m = margin(logits, top)
    rest = torch.special.entr(_without(logits, top).softmax(1)).sum(1)
    of_top = torch.sigmoid(m) * F.softplus(-m) + torch.sigmoid(-m) * F.softplus(m)
    return ((of_top + torch.sigmoid(-m) * rest) / log(logits.shape[1])).clamp(max=1)


def el2n(logits: Tensor, labels: Tensor) -> Tensor:
    """``|p - onehot(y)|_2 / sqrt(2)``, the error norm of Paul et al. 2021 (arXiv 2107.07075), scaled to [0, 1].

    Since p_j = d q_j for every other class, it is ``d sqrt((1 + |q|^2) / 2)``.  Arguments, result as of ``difficulty``.
    """
    logits = _in_full(logits)
    others = _without(logits, labels).softmax(1)
    return difficulty(logits, labels) * (1 + others.square().sum(1)).sqrt().clamp(max=sqrt(2)) / sqrt(2)


def _in_full(logits: Tensor) -> Tensor:
    """Half precision saturates where the classifier is sure, that is nearly everywhere."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _true(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None])[:, 0]


def _without(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.scatter(1, labels[:, None], float("-inf"))


def among(logits: Tensor, labels: Tensor, classes: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits of some classes alone, and the places of the labels among them: difficulty as if there were no others.

    Args:
        logits: ``(batch, classes of the classifier)``.
        labels: ``(batch,)``, each one of ``classes``.
        classes: ``(n,)`` rising, at least two; None for all, which changes nothing.
    """
    if classes is None:
        return logits, labels
    classes = classes.to(logits.device)
    return logits[:, classes], torch.searchsorted(classes, labels)


def classes_among(name: str, labels: Iterable[int]) -> tuple[int, ...] | None:
    """The classes that ``among`` takes, rising: for ``set`` those that are named, for ``all`` None.

    Args:
        name: a name in ``AMONG``.
        labels: the set's classes, as the classifier numbers them.

    Raises:
        ValueError: there is no such name, or the set has one class, among which nothing is hard.
    """
    if as_among(name) == "all":
        return None
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise ValueError(
            "among='set' measures difficulty among the set's classes, but the set has one; use among='all', or "
            "name more classes"
        )
    return classes


def as_among(name: str) -> Among:
    """The name itself, if it says among which classes difficulty is measured; else ValueError."""
    if name not in AMONG:
        raise ValueError(
            f"among is {name!r}; use 'all' (every class of the classifier, the paper's) or 'set' (the set's alone)"
        )
    return cast(Among, name)


Measure = Callable[[Tensor, Tensor], Tensor]
MeasureName = Literal["error_probability", "rival_margin", "entropy", "el2n"]
MEASURES: dict[str, Measure] = {
    "error_probability": difficulty,
    "rival_margin": rival_margin,
    "entropy": entropy,
    "el2n": el2n,
}
LABEL_FREE = ("entropy",)  # a classifier of other classes can tell it too


def as_measure(name: str) -> MeasureName:
    """The name itself, if it is that of a measure; else ValueError."""
    if name not in MEASURES:
        raise ValueError(
            f"there is no measure {name!r}; choose one of {', '.join(MEASURES)}; error_probability is the paper's"
        )
    return cast(MeasureName, name)


def measure_named(name: str) -> Measure:
    """A measure by its name in ``MEASURES``; ValueError if there is none."""
    return MEASURES[as_measure(name)]


def is_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether no other class is as probable as the true one, ``(batch,)`` bool."""
    return _without(logits, labels).amax(1) < _true(logits, labels)


def difficulty_to_margin(values: Tensor) -> Tensor:
    """The margin of an image of this difficulty, ``m* = logit(1 - d*)``, with d* kept off 0 and 1 by ``CLAMP``."""
    return -torch.logit(values.float().clamp(CLAMP, 1 - CLAMP))
