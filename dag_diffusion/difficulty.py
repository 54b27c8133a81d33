"""Difficulty of an image for a classifier, ``d(x, y) = 1 - p(y | x)``, and scores of whole folders.

    m = z_y - logsumexp_{j != y} z_j = log p(y | x) - log(1 - p(y | x)),   d = sigmoid(-m)

0 is an image that the classifier is sure of, 1 one that it is sure is something else.  Scores of images that the
classifier was trained on crowd at 0: prefer scores out of sample where the distribution matters.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .classifiers import (
    Preprocessing,
    class_names_of,
    image_logits,
    match_classes,
    prepared_logits,
    preprocessing_of,
)
from .pools import Pool, UnreadableImageError, as_eight_bit

logger = logging.getLogger(__name__)
CLAMP = 1e-5  # a target of exactly 0 or 1 has an infinite margin; this one asks for a margin of 11.5


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Log-odds of the true class, ``log p(y | x) - log(1 - p(y | x))``.

    Args:
        logits: ``(batch, classes)``, any float dtype, at least two classes.
        labels: ``(batch,)``, integer class ids.

    Returns:
        ``(batch,)`` float32; difficulty is ``sigmoid(-margin)``.
    """
    logits = logits.float()  # half precision saturates where the classifier is sure, that is nearly everywhere
    true = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], float("-inf")).logsumexp(1)
    return true - others


def difficulty(logits: Tensor, labels: Tensor) -> Tensor:
    """``1 - p(y | x)``, exact to float32 also near 0, where ``1 - softmax`` would round to 0.

    Returns:
        ``(batch,)`` float32 in [0, 1].
    """
    return torch.sigmoid(-margin(logits, labels))


def difficulty_to_margin(values: Tensor) -> Tensor:
    """The margin of an image of this difficulty, ``m* = logit(1 - d*)``, with d* kept off 0 and 1 by ``CLAMP``."""
    return -torch.logit(values.float().clamp(CLAMP, 1 - CLAMP))


@dataclass(frozen=True)
class Guide:
    """A classifier and its own labels of a batch of images, ``(batch,)``."""

    classifier: nn.Module
    labels: Tensor
    preprocessing: Preprocessing


def mean_margin(guides: Sequence[Guide], images: Tensor) -> Tensor:
    """The guides' mean margin of images in [0, 1], ``(batch,)`` float32; differentiable."""
    each = [margin(image_logits(g.classifier, images, g.preprocessing), g.labels) for g in guides]
    return torch.stack(each).mean(0)


@dataclass(frozen=True)
class Scores:
    """Difficulties of a pool, in the order of its rows.

    Attributes:
        difficulties: ``(images,)`` float64 in [0, 1]; NaN for a skipped file.
        skipped: file names that could not be read.
    """

    difficulties: np.ndarray
    skipped: list[str]


def score_pool(
    pool: Pool,
    classifier: nn.Module,
    *,
    batch_size: int = 256,
    on_error: str = "raise",
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Difficulty of every image of a pool or of any folder of class folders.

    Args:
        pool: from ``pools.read_pool``; its classes are matched with the classifier's by name.
        classifier: the guide or an evaluator.
        batch_size: images a forward pass.
        on_error: ``raise`` or ``skip`` a file that is no readable image.
        progress: called with the number of images done in each batch.

    Raises:
        ValueError: a class that the classifier lacks; with ``on_error="raise"``, an unreadable image, named.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error is {on_error!r}; use 'raise' to stop at an unreadable image or 'skip' to go on")
    if classifier.training:
        raise ValueError("the classifier is in training mode, where scores depend on the batch; call classifier.eval()")
    table = match_classes(pool.class_names, class_names_of(classifier))
    labels = torch.tensor([table[row["label"]] for row in pool.rows])
    scores, unread = np.full(len(pool), np.nan), np.ones(len(pool), bool)
    for count, indices, images in _batches(pool, preprocessing_of(classifier), batch_size, on_error):
        if indices:
            with torch.inference_mode():
                logits = prepared_logits(classifier, images)
            unread[indices] = False
            scores[indices] = difficulty(logits, labels[indices]).double().numpy()
        if progress is not None:
            progress(count)
    return Scores(scores, [pool.rows[i]["file_name"] for i in np.flatnonzero(unread)])


def prepared_image(pool: Pool, index: int, preprocessing: Preprocessing) -> Tensor:
    """One image of a pool as a model wants it, ``(1, channels, height, width)``; UnreadableImageError if it is none."""
    array = as_eight_bit(pool.open(index), preprocessing.channels)
    return preprocessing(torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255)


def _batches(
    pool: Pool, preprocessing: Preprocessing, batch_size: int, on_error: str
) -> Iterator[tuple[int, list[int], Tensor]]:
    def prepared(index: int) -> Tensor | None:
        try:
            return prepared_image(pool, index, preprocessing)
        except UnreadableImageError as error:
            if on_error == "raise":
                raise
            logger.warning("skipped: %s", error)
            return None

    with ThreadPoolExecutor(max_workers=4) as threads:
        for start in range(0, len(pool), batch_size):
            chunk = range(start, min(start + batch_size, len(pool)))
            images = dict(zip(chunk, threads.map(prepared, chunk), strict=True))
            kept = [i for i, image in images.items() if image is not None]
            yield len(chunk), kept, torch.cat([images[i] for i in kept]) if kept else torch.empty(0)
