"""Images of known class in memory, and small sets drawn from them.

    random draw of IPC images: a fresh permutation of each class for each seed, never the first files by name

Classes are matched by name: folders sorted otherwise than the labels of the test set fail silently.
"""

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Literal, cast, get_args

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dag_diffusion.classifiers.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from dag_diffusion.data.class_names import listed, matching_classes, own_part
from dag_diffusion.data.images import THREADS, as_plain, wait_if_large
from dag_diffusion.data.pools import Pool, PoolSource, as_pool
from dag_diffusion.progress import Progress, Stage
from dag_diffusion.sampling.scoring import in_threads

from .augmentations import Normalisation
from .soft_labels.teachers import LabelSource
from .soft_labels.views import ViewLabels

REPORTED = 100  # images that are read between two calls of progress
Labels = Literal["hard", "soft", "views"]  # classes, or a teacher's probabilities: of each image, or of each view of it


def as_labels(labels: str) -> Labels:
    """Check a kind of labels; ValueError if there is none of that name."""
    if labels not in get_args(Labels):
        raise ValueError(
            f"labels are {labels!r}, but must be hard (classes), soft (a teacher's, one an image) or views (its, one a "
            "view); choose one of these"
        )
    return cast(Labels, labels)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of known class, in memory.

    Attributes:
        images: ``(n, height, width, channels)`` uint8, numpy or torch.
        labels: ``(n,)`` int64, numpy or torch.
        class_names: label to name, of every class, also of one that has no image here.
        probabilities: soft labels, ``(n, classes)`` in [0, 1], one column a class in the order of labels.
        views: soft labels per view, whose columns are in the same order.
        taught: whose soft labels they are, where that is known.
    """

    images: np.ndarray | Tensor
    labels: np.ndarray | Tensor
    class_names: Mapping[int, str]
    _: KW_ONLY
    probabilities: Tensor | None = None
    views: ViewLabels | None = None
    taught: LabelSource | None = None

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
        expected = (len(self), len(self.class_names))
        if self.probabilities is not None and tuple(self.probabilities.shape) != expected:
            raise ValueError(
                f"soft labels of these images must have shape {expected}, one column a class, but have "
                f"{tuple(self.probabilities.shape)}; make them by a teacher of these classes"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def per_class(self) -> float:
        """Mean number of images a class."""
        return len(self) / len(self.class_names)


def load_labelled_images(
    pool: PoolSource,
    *,
    size: int | tuple[int, int],
    channels: int,
    class_names: Mapping[int, str] | None = None,
    class_map: Mapping[str, str | int] | None = None,
    labels: Labels = "hard",
    progress: Progress | None = None,
) -> LabelledImages:
    """Decode a pool or distilled set into memory, at one size.

    Args:
        pool: from ``read_pool``, or what that reads.
        size: (height, width), or the side of squares.  Other images are scaled until they cover it and cropped in the
            middle.
        channels: 1 (grey) or 3.
        class_names: those of the test set, whose labels the images then get by name; None keeps the pool's.
        class_map: the pool's class names to those, where no rule finds them; other names in it are passed by.
        labels: ``soft`` or ``views``: also read what a teacher said, see ``soft_labels``.
        progress: called with stage, done and total.

    Raises:
        ValueError: an image is unreadable, the classes are not those of ``class_names``, or soft labels do not fit.
        FileNotFoundError: there are no soft labels.
    """
    pool, size = as_pool(pool), (size, size) if isinstance(size, int) else size
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels}; give 1 for grey images or 3 for coloured ones")
    if class_names is not None:
        labels_in_test(pool.class_names, class_names, str(pool.path), class_map)
    pixels, read = np.empty((len(pool), *size, channels), np.uint8), Stage("images read", len(pool), progress)

    def keep(index: int) -> None:  # at once, so that none that is done waits in memory for one before it
        pixels[index] = read_pixels(pool, index, size, channels)

    for done, _ in enumerate(in_threads(keep, range(len(pool)), THREADS), 1):
        if done % REPORTED == 0 or done == len(pool):
            read(done - read.done)
    probabilities, views, taught = None, None, None
    if as_labels(labels) == "soft":
        from .soft_labels.per_image import image_source, read_soft_labels

        probabilities, taught = read_soft_labels(pool), image_source(pool)
    if labels == "views":
        from .soft_labels.view_files import read_view_labels, view_source

        views, taught = read_view_labels(pool, pixels), view_source(pool)
    loaded = LabelledImages(
        pixels, pool.labels, pool.class_names, probabilities=probabilities, views=views, taught=taught
    )
    return loaded if class_names is None else relabelled(loaded, class_names, str(pool.path), class_map)


def read_pixels(pool: Pool, index: int, size: tuple[int, int], channels: int) -> np.ndarray:
    """One image as ``load_labelled_images`` brings it to a size: ``(height, width, channels)`` uint8.

    Several threads may call it, of which one at a time has a large image.
    """
    with ExitStack() as held:
        image = as_plain(pool.open(index, partial(wait_if_large, held)), channels)
        if image.size != size[::-1]:
            image = ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(*size, channels)


def relabelled(
    given: LabelledImages,
    class_names: Mapping[int, str],
    name: str = "the set",
    class_map: Mapping[str, str | int] | None = None,
) -> LabelledImages:
    """The same images with the labels that ``class_names`` gives to their classes, matched by name.

    The rule is that of every command, see ``class_names.match_classes``; columns of soft labels move along.

    Raises:
        ValueError: the classes differ; ``name`` tells whose.
    """
    table = labels_in_test(given.class_names, class_names, name, class_map)
    labels = np.array([table[label] for label in given.labels.tolist()], np.int64)
    columns = np.argsort([table[label] for label in sorted(table)])
    soft = None if given.probabilities is None else given.probabilities[:, columns]
    views = None if given.views is None else given.views.in_order(torch.from_numpy(columns))
    return LabelledImages(given.images, labels, dict(class_names), probabilities=soft, views=views, taught=given.taught)


def labels_in_test(
    given: Mapping[int, str],
    class_names: Mapping[int, str],
    name: str,
    class_map: Mapping[str, str | int] | None = None,
    *,
    way: str | None = None,
) -> dict[int, int]:
    """Label of a set to that of the test images, which must have the same classes.

    Args:
        name: of the set.
        class_map: as of ``load_labelled_images``.
        way: what to do where they differ; by default what fits the difference.

    Raises:
        ValueError: the classes differ.
    """
    own = own_part(class_map, given.values())
    table = matching_classes(given, class_names, "the test set", own, places=True)
    if len(set(table.values())) < len(table):
        raise ValueError(f"the class map gives two classes of {name} one of the test set; join them in {name} itself")
    if len(table) == len(given) == len(class_names):
        return table
    missing = sorted(class_names[label] for label in class_names.keys() - set(table.values()))
    foreign = sorted(given[label] for label in given.keys() - table.keys())
    lacks, has = (listed(map(repr, names)) if names else "none" for names in (missing, foreign))
    if missing and foreign:
        usual = "rename them until both agree, or give a class map (class_map=FILE)"
    elif missing:
        usual = "give sets of the same classes, or test images of its own"
    else:
        usual = "leave those out, or give test images of them"
    raise ValueError(
        f"{name} has other classes than the test set: it lacks {lacks} and has {has} besides; {way or usual}"
    )


def normalise(images: np.ndarray | Tensor, normalisation: Normalisation | None = None) -> Tensor:
    """``(x / 255 - mean) / std``, ready for a network.

    Args:
        images: ``(n, height, width, channels)`` uint8.
        normalisation: by default to [-1, 1].

    Returns:
        ``(n, channels, height, width)`` float32.
    """
    given = torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)
    pixels = torch.empty(given.shape, dtype=torch.float32).copy_(given)  # contiguous() leaves grey ones channels-last
    by = normalisation or Normalisation()
    mean, std = (torch.as_tensor(value, dtype=torch.float32).view(-1, 1, 1) for value in (by.mean, by.std))
    return pixels.div_(255).sub_(mean).div_(std)  # in place: there may be many images


def usual_normalisation(channels: int) -> Normalisation:
    """That of ImageNet for colours, as the field does, and 0.5 each for grey."""
    return Normalisation(IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else Normalisation()


def subset(images: LabelledImages, indices: np.ndarray) -> LabelledImages:
    """Some of the images, with their soft labels if they have any, and the class names of all.

    Labels per view stay behind: a view mixes images, of which some would be missing.
    """
    soft = None if images.probabilities is None else images.probabilities[indices]
    return LabelledImages(
        images.images[indices], images.labels[indices], images.class_names, probabilities=soft, taught=images.taught
    )


def random_rows(labels: np.ndarray, ipc: int, seed: int, class_names: Mapping[int, str]) -> np.ndarray:
    """``ipc`` indices of every class, drawn at random for each seed, never the first files by name.

    Args:
        labels: ``(images,)`` integers.
        class_names: label to name; each of these classes is drawn from.

    Raises:
        ValueError: a class has fewer images.
    """
    chosen, places = [], {label: place for place, label in enumerate(sorted(class_names))}
    for label, name in class_names.items():
        rows = np.flatnonzero(labels == label)
        if len(rows) < ipc:
            raise ValueError(f"class {name!r} has {len(rows)} images, but {ipc} are to be drawn; lower ipc")
        chosen.append(np.random.default_rng([seed, places[label]]).permutation(rows)[:ipc])
    return np.concatenate(chosen)


def random_subset(images: LabelledImages, ipc: int, seed: int) -> LabelledImages:
    """``ipc`` images of every class drawn at random.

    Raises:
        ValueError: a class has fewer.
    """
    return subset(images, random_rows(np.asarray(images.labels), ipc, seed, images.class_names))


@dataclass(frozen=True, eq=False)
class RandomDraw:
    """``ipc`` images of every class, drawn anew for each seed: the baseline of a distilled set of ``ipc``.

    Loaders of the field take the first files by name instead, one fixed set whose luck every comparison then shares.
    """

    images: LabelledImages
    ipc: int

    def __len__(self) -> int:
        return self.ipc * len(self.images.class_names)

    def __call__(self, seed: int) -> LabelledImages:
        return random_subset(self.images, self.ipc, seed)


def digest(images: LabelledImages, *, soft_labels: bool = False) -> str:
    """A hash of a set: its pixels in order, labels, class names, and soft labels, or those per view, if used."""
    found = hashlib.blake2b(digest_size=8)
    found.update(repr((tuple(images.images.shape), sorted(images.class_names.items()))).encode())
    arrays = [images.images, images.labels]
    if soft_labels and images.views is not None:
        found.update(repr((images.views.seed, sorted(images.views.drawing.items()))).encode())
        arrays += [images.views.rows, *images.views.logits.tensors.values()]
    elif soft_labels and images.probabilities is not None:
        arrays.append(images.probabilities)
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def fingerprints(images: LabelledImages) -> set[bytes]:
    """A hash of each different image.  Two sets share those that both hold pixel for pixel."""
    arrays = map(np.ascontiguousarray, np.asarray(images.images))
    return {hashlib.blake2b(array.data, digest_size=16).digest() for array in arrays}
