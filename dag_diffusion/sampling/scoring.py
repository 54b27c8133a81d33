"""Difficulties of whole folders: threads read and resize images while the classifiers look at earlier ones.

    decode -> the model's own transform (in threads, a few batches ahead) -> logits -> measure -> mean

Scores of images that a classifier was trained on crowd at 0: where the distribution matters, score out of sample.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeVar, cast, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dag_diffusion.classifiers.frozen_networks import AskedNetwork, asked, frozen
from dag_diffusion.classifiers.model_transforms import AnyPreprocessing
from dag_diffusion.data.images import THREADS, UnreadableImageError, fitted_pixels, wait_if_large
from dag_diffusion.data.pools import Pool, PoolSource, as_pool
from dag_diffusion.difficulty import LABEL_FREE, Among, MeasureName, as_among, as_measure, is_correct, measure_named
from dag_diffusion.difficulty import among as logits_among
from dag_diffusion.processes import gather, this_process
from dag_diffusion.progress import Progress
from dag_diffusion.turns import Turns

from .scorers import Scorer, scorers_of

logger = logging.getLogger(__name__)
OnError = Literal["raise", "skip"]  # at a file that is no readable image
AHEAD = 2  # batches that are read before they are needed; more would only take memory
FROZEN_FROM = 200 * 224**2  # pixels to score from which on freezing a network pays for its second
Item = TypeVar("Item")
Given = TypeVar("Given")


@dataclass(frozen=True, eq=False)
class Scores:
    """Difficulties of a pool, in the order of its rows.

    Attributes:
        difficulties: ``(images,)`` float64 in [0, 1]; NaN for a skipped file.
        skipped: file names that could not be read.
        correct: ``(images,)`` bool, whether most of the classifiers find no other class as probable; None for a measure
            that asks for no class.
        features: ``(images, dim)`` float32, if asked for, of the first classifier; NaN for a skipped file.
    """

    difficulties: np.ndarray
    skipped: list[str]
    features: np.ndarray | None = None
    correct: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class ScoredBatch:
    """Rows that were ``seen``, those of them that could be ``read``, and of these values, ``correct`` and features."""

    seen: list[int]
    read: list[int]
    values: np.ndarray
    correct: np.ndarray
    features: np.ndarray


def score_pool(
    pool: PoolSource,
    classifier: nn.Module | Sequence[nn.Module],
    *,
    measure: MeasureName = "error_probability",
    among: Among = "all",
    batch_size: int | None = None,
    on_error: OnError = "raise",
    class_map: Mapping[str, str | int] | None = None,
    dtype: torch.dtype | None = None,
    features: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Difficulty of every image of a pool or of any folder of class folders.

    Args:
        pool: from ``read_pool``, or what that reads; its classes are matched with the classifier's by name.
        classifier: the guide, an evaluator, or several classifiers, whose measures are averaged.
        measure: a name in ``difficulty.MEASURES``.
        among: ``all`` classes of the classifier, as the paper has it, or those of the ``set``, the pool's, alone.
        batch_size: images a forward pass; None: what is fast for the classifier's image size and device.
        on_error: ``raise`` or ``skip`` a file that is no readable image.
        class_map: the pool's class names to the classifier's names or labels, where no rule finds them.
        dtype: of the forward pass; None: float16 where float32 weights are on a CUDA device, else that of the weights.
        features: keep the input of the classifier's last layer too, as k-center and herding want it.
        progress: called with stage, done and total; of several processes in the first.

    Under ``accelerate launch`` every process has to call it; they share the images, and each gets all scores.

    Raises:
        FailedElsewhereError: another process failed, which raises why.
        ValueError: a class that a classifier lacks, a classifier in training mode, an unknown measure, a set of one
            class to measure among, logits that are not finite; with ``on_error="raise"``, an unreadable image, named.

    See Also:
        ``score_and_record``, which also writes the scores and skips what was scored before.

    Examples:
        >>> images = read_pool("my_images")  # doctest: +SKIP
        >>> score_pool(images, load_classifier("timm/resnet50.tv_in1k")).difficulties  # doctest: +SKIP
    """
    require_options(measure, on_error, among)
    pool = as_pool(pool)
    scorers = scorers_of(pool, classifier, class_map, dtype, measure, among)
    size = batch_size_for(scorers, batch_size)
    difficulties, correct, kept = np.full(len(pool), np.nan), np.zeros(len(pool), bool), None
    turns = Turns("images", len(pool), progress)
    with turns.together():
        for batch in scored_batches(
            pool,
            turns.take(range(len(pool)), size),
            scorers,
            measure=measure,
            batch_size=size,
            on_error=on_error,
            features=features,
            expected=len(pool),
        ):
            difficulties[batch.read], correct[batch.read] = batch.values, batch.correct
            if features and batch.read:
                kept = np.full((len(pool), batch.features.shape[1]), np.nan, np.float32) if kept is None else kept
                kept[batch.read] = batch.features
            turns.report(len(batch.seen))
    return _of_all(pool, difficulties, correct, kept, told=measure not in LABEL_FREE)


def _of_all(
    pool: Pool, difficulties: np.ndarray, correct: np.ndarray, kept: np.ndarray | None, *, told: bool
) -> Scores:
    """The scores of all processes, each of which has those of some images and NaN for the others."""
    if this_process().num_processes > 1:
        mine = np.flatnonzero(~np.isnan(difficulties))
        own = (mine, difficulties[mine], correct[mine], None if kept is None else kept[mine])
        for rows, values, right, features in gather(own):
            difficulties[rows], correct[rows] = values, right
            if features is not None:
                kept = np.full((len(pool), features.shape[1]), np.nan, np.float32) if kept is None else kept
                kept[rows] = features
    skipped = [pool.rows[i]["file_name"] for i in np.flatnonzero(np.isnan(difficulties))]
    return Scores(difficulties, skipped, kept, correct if told else None)


def require_options(measure: str, on_error: str, among: str) -> None:
    """Refuse what would only be found wrong when the first image is scored."""
    as_measure(measure)
    as_on_error(on_error)
    as_among(among)


def as_on_error(name: str) -> OnError:
    """The name itself, if it says what to do at an unreadable image; else ValueError."""
    if name not in get_args(OnError):
        raise ValueError(f"on_error is {name!r}; use 'raise' to stop at an unreadable image or 'skip' to go on")
    return cast(OnError, name)


def scored_batches(
    pool: Pool,
    indices: Iterable[int],
    scorers: Sequence[Scorer],
    *,
    measure: MeasureName,
    batch_size: int,
    on_error: OnError,
    expected: int,
    features: bool = False,
) -> Iterator[ScoredBatch]:
    """Score some rows of a pool, a batch at a time and in order; arguments as of ``score_pool``.

    On a CPU each thread takes a batch of its own from its files to its values, since networks divide few images badly
    among cores; elsewhere threads read and the device computes.

    Args:
        indices: rows, taken as they are needed.
        expected: about how many they are; many are worth a network that is frozen for them.
    """
    measured, wanted = measure_named(measure), {scorer.preprocessing for scorer in scorers}

    def fitted(index: int) -> dict[AnyPreprocessing, Tensor] | None:
        try:
            return fitted_image(pool, index, wanted)
        except UnreadableImageError as error:
            if on_error == "raise":
                raise
            logger.warning("skipped: %s", error)
            return None

    with ExitStack() as asking:
        networks = [
            _network_for(asking.enter_context(asked(scorer.classifier, features)), scorer, batch_size, expected)
            for scorer in scorers
        ]

        def scored(batch: Sequence[tuple[int, dict[AnyPreprocessing, Tensor] | None]]) -> ScoredBatch:
            images = {index: image for index, image in batch if image is not None}
            values, correct, kept = torch.empty(0), torch.empty(0, dtype=torch.bool), torch.empty(0)
            if images:
                rows = [pool.rows[index] for index in images]
                answers = [
                    _answers(scorer, network, list(images.values()), rows, measured)
                    for scorer, network in zip(scorers, networks, strict=True)
                ]
                values, kept = torch.stack([value for value, _, _ in answers]).mean(0), answers[0][2]
                correct = torch.stack([right for _, right, _ in answers]).double().mean(0) > 0.5
            seen = [index for index, _ in batch]
            return ScoredBatch(seen, list(images), values.numpy(), correct.numpy(), kept.numpy())

        if _on_cpu(scorers):
            each = lambda batch: scored([(index, fitted(index)) for index in batch])  # noqa: E731
            yield from in_threads(each, batches_of(indices, batch_size), torch.get_num_threads())
        else:
            yield from map(scored, read_ahead(fitted, indices, batch_size))


def batch_size_for(scorers: Sequence[Scorer], batch_size: int | None) -> int:
    """As asked; else few images on a CPU, where 2 of 224 pixels in each thread leave their activations in its cache."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1, or leave it out for what is fast")
    pixels = max(scorer.preprocessing.height * scorer.preprocessing.width for scorer in scorers)
    return batch_size or min(max((2 if _on_cpu(scorers) else 256) * 224**2 // pixels, 1), 512)


def _on_cpu(scorers: Sequence[Scorer]) -> bool:
    return all(next(scorer.classifier.parameters()).device.type == "cpu" for scorer in scorers)


def _network_for(network: nn.Module, scorer: Scorer, batch_size: int, expected: int) -> AskedNetwork:
    """The network as it is, or on a CPU frozen for full batches where these are enough to pay for it.

    By a fixed number of pixels and not by the clock, so that all processes and runs round alike.
    """
    wanted, weight = scorer.preprocessing, next(scorer.classifier.parameters())
    plain = weight.device.type == "cpu" and weight.dtype == scorer.precision == torch.float32
    if not plain or expected * wanted.height * wanted.width < FROZEN_FROM:
        return network
    shape = (batch_size, wanted.channels, wanted.height, wanted.width)
    quick = frozen(network, shape)
    return lambda images: quick(images) if images.shape == shape else network(images)


def batches_of(indices: Iterable[int], size: int) -> Iterator[list[int]]:
    """Indices in lists of a size, the last one shorter; taken as they are needed."""
    remaining = iter(indices)
    while batch := list(islice(remaining, size)):
        yield batch


def in_threads(work: Callable[[Given], Item], parts: Iterable[Given], threads: int) -> Iterator[Item]:
    """``work(part)`` of each part in order, done by threads; only one part waits, so that others may take the last."""
    waiting: deque[Future[Item]] = deque()
    with _single_threads(threads) as pool:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_ahead(
    read: Callable[[int], Item], indices: Iterable[int], batch_size: int
) -> Iterator[list[tuple[int, Item]]]:
    """``(index, read(index))`` in batches and in order, read by threads ``AHEAD`` batches before they are asked for."""
    waiting: deque[list[tuple[int, Future[Item]]]] = deque()
    with _single_threads(THREADS) as pool:
        for batch in batches_of(indices, batch_size):
            waiting.append([(index, pool.submit(read, index)) for index in batch])
            if len(waiting) > AHEAD:
                yield [(index, future.result()) for index, future in waiting.popleft()]
        while waiting:
            yield [(index, future.result()) for index, future in waiting.popleft()]


@contextmanager
def _single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads of which each has one of torch, since teams of them on every core would slow each other down."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # after an error what was done ahead is not needed
        torch.set_num_threads(before)  # of threads to come, which would get what these got


def fitted_image(pool: Pool, index: int, wanted: Iterable[AnyPreprocessing]) -> dict[AnyPreprocessing, Tensor]:
    """One image of a pool as each preprocessing reads it, ``(1, channels, height, width)``, to be normalised.

    Raises:
        UnreadableImageError: the file is no image, or so thin a strip that resizing it would fill the memory.
    """
    wanted = list(wanted)
    with ExitStack() as held:

        def take_turns(image: Image.Image) -> None:
            edges = [max(each.height, each.width) for each in wanted]
            fitted = 0  # of a square, which the canvas makes of any strip
            if pool.canvas.fit == "crop":
                fitted = max((fitted_pixels(image, edge) for edge in edges), default=0)
            wait_if_large(held, image, fitted)

        image = pool.open(index, take_turns)
        return {each: each.read(image) for each in wanted}


def prepared_image(pool: Pool, index: int, preprocessing: AnyPreprocessing) -> Tensor:
    """One image of a pool as a model wants it, ``(1, channels, height, width)``; UnreadableImageError if it is none."""
    return preprocessing.normalised(fitted_image(pool, index, [preprocessing])[preprocessing])


@torch.inference_mode()
def _answers(
    scorer: Scorer,
    network: AskedNetwork,
    images: Sequence[Mapping[AnyPreprocessing, Tensor]],
    rows: Sequence[Mapping[str, Any]],
    measured: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Values ``(batch,)`` float64, whether the classifier is right, and features ``(batch, dim)`` float32, on the CPU.

    The features are empty where they are not asked for.
    """
    weight = next(scorer.classifier.parameters())
    batch = torch.cat([image[scorer.preprocessing] for image in images]).to(weight.device)
    batch = scorer.preprocessing.normalised(batch).contiguous(memory_format=torch.channels_last)  # faster convolutions
    with torch.autocast(weight.device.type, scorer.precision, enabled=scorer.precision != weight.dtype):
        logits, *kept = network(batch.to(weight.dtype))
    _require_finite(logits, rows, scorer.precision)
    labels = torch.tensor([scorer.labels[row["label"]] for row in rows], device=logits.device)
    classes = None if scorer.classes is None else torch.tensor(scorer.classes)
    logits, labels = logits_among(logits, labels, classes)
    features = kept[0].flatten(1).float().cpu() if kept else torch.empty(0)
    values = measured(logits, labels).cpu().double()  # Apple's mps has no float64
    return values, is_correct(logits, labels).cpu(), features


def _require_finite(logits: Tensor, rows: Sequence[Mapping[str, Any]], precision: torch.dtype) -> None:
    broken = ~logits.isfinite().all(1)
    if broken.any():
        name = rows[int(broken.int().argmax())]["file_name"]
        raise ValueError(
            f"the classifier's logits of {name} are not finite in {str(precision).removeprefix('torch.')}; "
            "compute in float32 (dtype=torch.float32), or check its weights"
        )
