"""How well networks trained on a set do on real test images: last epoch, several seeds, compared in pairs.

    difference of a set to the baseline = mean over seeds of (accuracy of the set - accuracy of the baseline)

One seed gives every set the same initial weights and, for sets of equal size, the same order of batches, so that the
difference is the images'.  Classes are matched by name: folders sorted otherwise than the test labels fail silently.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from scipy import stats
from torch import Tensor, nn

from .class_names import folder_names
from .networks import build_network, seeded_network
from .pools import Pool, as_eight_bit
from .training import PROTOCOLS, Protocol, train


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of known class, in memory.

    Attributes:
        images: ``(n, height, width, channels)`` uint8, numpy or torch.
        labels: ``(n,)`` int64, numpy or torch.
        class_names: label to name, of every class, also of one that has no image here.
    """

    images: np.ndarray | Tensor
    labels: np.ndarray | Tensor
    class_names: Mapping[int, str]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or str(self.images.dtype).split(".")[-1] != "uint8" or len(self) == 0:
            raise ValueError(
                f"images must be uint8 (n, height, width, channels), but are {self.images.dtype} "
                f"{tuple(self.images.shape)}; grey ones have a last axis of 1"
            )
        unnamed = sorted(set(self.labels.ravel().tolist()) - set(self.class_names))
        if tuple(self.labels.shape) != (len(self),) or unnamed:
            raise ValueError(
                f"{len(self)} images need one label each, each with a name, but labels have shape "
                f"{tuple(self.labels.shape)} and {unnamed} no name; mend either"
            )

    def __len__(self) -> int:
        return len(self.images)


Source = LabelledImages | Callable[[int], LabelledImages]


@dataclass(frozen=True)
class Result:
    """One training: which set taught which network how, and the accuracy in [0, 1] after the last epoch."""

    set: str
    network: str
    protocol: str
    seed: int
    images_per_class: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """One set, one network, one protocol, over all seeds.

    Attributes:
        seeds: how many trainings the row sums up.
        mean, std: of the accuracies; std is the sample's, None for one seed.
        difference: mean paired difference to the baseline, 0 for the baseline itself.
        interval: its 95 % t-interval, None for one seed.
    """

    set: str
    network: str
    protocol: str
    seeds: int
    mean: float
    std: float | None
    difference: float
    interval: tuple[float, float] | None


def load_labelled_images(
    pool: Pool, *, size: tuple[int, int], channels: int, class_names: Mapping[int, str] | None = None
) -> LabelledImages:
    """Decode a pool or distilled set into memory, at one size.

    Args:
        size: (height, width).  Other images are scaled until they cover it and cropped in the middle.
        channels: 1 (grey) or 3.
        class_names: those of the test set, whose labels the images then get by name; None keeps the pool's.

    Raises:
        ValueError: an image is unreadable, or the classes are not those of ``class_names``.
    """
    pixels = np.stack([_pixels(pool, index, size, channels) for index in range(len(pool))])
    loaded = LabelledImages(pixels, pool.labels, pool.class_names)
    return loaded if class_names is None else relabelled(loaded, class_names, str(pool.path))


def _pixels(pool: Pool, index: int, size: tuple[int, int], channels: int) -> np.ndarray:
    pixels = as_eight_bit(pool.open(index), channels)
    if pixels.shape[:2] == size:
        return pixels
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    resized = ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(*size, channels)


def relabelled(given: LabelledImages, class_names: Mapping[int, str], name: str = "the set") -> LabelledImages:
    """The same images with the labels that ``class_names`` gives to their classes, matched by name.

    The name of a class folder stands for its class too: ``T-shirt_top`` is ``T-shirt/top``, and case does not count.

    Raises:
        ValueError: the classes differ; ``name`` tells whose.
    """
    # folder names are distinct where class names are not (ImageNet has two cranes)
    ours, wanted = _keys(given.class_names), _keys(class_names)
    if ours.keys() != wanted.keys():
        missing = [class_names[wanted[key]] for key in sorted(wanted.keys() - ours.keys())]
        foreign = [given.class_names[ours[key]] for key in sorted(ours.keys() - wanted.keys())]
        raise ValueError(
            f"{name} has other classes than the test set: it lacks {missing} and has {foreign} besides; "
            "rename or add classes until both agree"
        )
    table = {ours[key]: label for key, label in wanted.items()}
    labels = np.array([table[label] for label in given.labels.tolist()], np.int64)
    return LabelledImages(given.images, labels, dict(class_names))


def _keys(class_names: Mapping[int, str]) -> dict[str, int]:
    return {folder.casefold(): label for label, folder in folder_names(class_names).items()}


def normalise(
    images: np.ndarray | Tensor, mean: float | Sequence[float] = 0.5, std: float | Sequence[float] = 0.5
) -> Tensor:
    """``(x / 255 - mean) / std``, ready for a network.

    Args:
        images: ``(n, height, width, channels)`` uint8.
        mean, std: one value, or one a channel, for pixels in [0, 1]; the default maps them to [-1, 1].

    Returns:
        ``(n, channels, height, width)`` float32.
    """
    pixels = torch.tensor(np.asarray(images)).permute(0, 3, 1, 2).float()
    pixels = pixels.clone(memory_format=torch.contiguous_format) / 255  # grey images stay channels-last by contiguous()
    shift, scale = (torch.as_tensor(value, dtype=torch.float32).view(-1, 1, 1) for value in (mean, std))
    return (pixels - shift) / scale


def accuracy(network: nn.Module, images: Tensor, labels: Tensor, batch_size: int | None = None) -> float:
    """Fraction of images whose largest logit is that of their label; the network is left in evaluation mode.

    Args:
        images: ``(n, channels, height, width)`` float32, normalised; each batch is moved to the network's device.
        labels: ``(n,)`` int64.
        batch_size: by default 20 on a CPU, where the memory of larger activations is given back and fetched again at
            every layer (half the speed at 500), and 500 elsewhere.
    """
    network.eval()
    device = next(network.parameters()).device
    batch_size = batch_size or (20 if device.type == "cpu" else 500)
    with torch.inference_mode():
        guesses = torch.cat([network(batch.to(device)).argmax(1).cpu() for batch in images.split(batch_size)])
    return (guesses == labels.cpu()).double().mean().item()


def evaluate(
    sets: Mapping[str, Source],
    test: LabelledImages,
    *,
    network: str = "convnet-3",
    protocol: Protocol = PROTOCOLS["classic"],
    seeds: Iterable[int] = (0, 1, 2, 3, 4),
    num_classes: int | None = None,
    mean: float | Sequence[float] = 0.5,
    std: float | Sequence[float] = 0.5,
    device: str | torch.device = "cpu",
    known: Iterable[Result] = (),
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Train one network a set and seed, from scratch, and test it after its last epoch.

    Args:
        sets: name to images, or to a function that draws the images of one seed, as a random baseline should.
        test: images that no set, guide or generator has seen; their class names rule.
        num_classes: logits of the network; by default the largest label of ``test`` and one.
        mean, std: see ``normalise``; the same for every set and the test images.
        known: results of an earlier run with the same images; those trainings are not repeated.
        on_result: called after each new training, so that nothing is lost when a long evaluation is stopped.

    Returns:
        all sets of the first seed, then all of the second, and so on.

    Raises:
        ValueError: a set has other classes or another image size than ``test``, or there is no such network.
        FloatingPointError: a training diverged.
    """
    num_classes = _logits(num_classes, test)
    # a set that does not fit is refused now, not after hours of training the others
    ready = {name: source if callable(source) else _prepared(source, test, name) for name, source in sets.items()}
    test_images, test_labels = normalise(test.images, mean, std), torch.as_tensor(test.labels)
    channels, *size = test_images.shape[1:]
    build_network(network, channels=channels, size=tuple(size), num_classes=num_classes)  # refuses a name or size now
    earlier = {(r.set, r.network, r.protocol, r.seed): r for r in known}
    results = []
    for seed in seeds:
        for name, source in ready.items():
            if (found := earlier.get((name, network, protocol.name, seed))) is not None:
                results.append(found)
                continue
            given = _prepared(source(seed), test, name) if callable(source) else source
            started = time.perf_counter()
            fresh = seeded_network(network, seed=seed, channels=channels, size=tuple(size), num_classes=num_classes)
            images, labels = normalise(given.images, mean, std).to(device), torch.as_tensor(given.labels).to(device)
            score = accuracy(train(fresh, images, labels, protocol, seed=seed), test_images, test_labels)
            ipc, seconds = len(given) / len(given.class_names), time.perf_counter() - started
            results.append(Result(name, network, protocol.name, seed, ipc, score, seconds))
            if on_result is not None:
                on_result(results[-1])
    return results


def _logits(num_classes: int | None, test: LabelledImages) -> int:
    needed = max(test.class_names) + 1
    if num_classes is not None and num_classes < needed:
        raise ValueError(
            f"num_classes is {num_classes}, but the test set has labels up to {needed - 1}; "
            f"give at least {needed}, or leave it out"
        )
    return num_classes or needed


def _prepared(given: LabelledImages, test: LabelledImages, name: str) -> LabelledImages:
    ours, wanted = tuple(given.images.shape[1:]), tuple(test.images.shape[1:])
    if ours != wanted:
        raise ValueError(
            f"images of {name} are {ours}, but those of the test set {wanted} (height, width, channels); "
            "load both with one size and channels"
        )
    return relabelled(given, test.class_names, name)


def summarise(results: Iterable[Result], baseline: str) -> list[Row]:
    """One row a set, network and protocol, in order of appearance, each compared in pairs with ``baseline``.

    Raises:
        ValueError: there are no results of the baseline, or a set has not exactly the baseline's seeds, once each.
    """
    trials: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        trials.setdefault((result.set, result.network, result.protocol), []).append(result)
    return [_row(ours, trials.get((baseline, *key[1:]), []), baseline) for key, ours in trials.items()]


def _row(ours: list[Result], theirs: list[Result], baseline: str) -> Row:
    ours, theirs = (sorted(trials, key=lambda result: result.seed) for trials in (ours, theirs))
    first, seeds, expected = ours[0], [r.seed for r in ours], [r.seed for r in theirs]
    if seeds != expected or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"{first.set!r} on {first.network} has seeds {seeds}, but the baseline {baseline!r} has {expected}; "
            "evaluate both with the same seeds, once each"
        )
    scores = np.array([r.accuracy for r in ours])
    differences = scores - np.array([r.accuracy for r in theirs])
    std = float(scores.std(ddof=1)) if len(scores) > 1 else None
    setting = (first.set, first.network, first.protocol)
    return Row(*setting, len(seeds), float(scores.mean()), std, float(differences.mean()), _interval(differences))


def _interval(differences: np.ndarray) -> tuple[float, float] | None:
    count = len(differences)
    if count < 2:
        return None
    half = stats.t.ppf(0.975, count - 1) * differences.std(ddof=1) / np.sqrt(count)
    return float(differences.mean() - half), float(differences.mean() + half)
