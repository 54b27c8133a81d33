"""What a distillation from a folder requires, as ``plan_folder`` and ``distill_folder`` both ask before it begins.

folder -> classes -> sizes, network, target -> disk
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dag_diffusion.data.class_folders import instead_of_one_class, require_enough
from dag_diffusion.data.class_names import listed
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.preparing.shared_images import shared_rows
from dag_diffusion.data.preparing.splitting import LoneImageError, number_held_out
from dag_diffusion.data.sources.shards import is_there
from dag_diffusion.evaluation.networks import build_network
from dag_diffusion.sampling.target_parser import as_target
from dag_diffusion.sampling.targets import TargetDistribution
from dag_diffusion.training.generators.images import require_different

from .config import FolderConfig

USUAL_SIZE = 32  # pixels per side of the images that a generator is trained on
PNG_SHARE = 0.53  # of the raw pixels: scaling.json, six photographs of 256 px, 103,780 bytes on average
BYTES_OF_TRAINING = 600_000_000  # checkpoints of generator and classifiers at the sizes that are trained here


def require_there(folder: Path) -> None:
    """Check that there is a folder, a file, or what a pattern stands for; FileNotFoundError if not."""
    if not is_there(folder):
        raise FileNotFoundError(f"there is no folder {folder}; give one with a folder of images for each class")


def require_several(folder: Path, class_names: Mapping[int, str]) -> None:
    """Check that there is more than one class; ValueError if not."""
    if len(class_names) < 2:
        name = next(iter(class_names.values()))
        raise ValueError(
            f"{folder} has one class, {name!r}, so that there is nothing to tell apart; "
            f"{instead_of_one_class(folder, name)}"
        )


def least_images(config: FolderConfig) -> int:
    """Images that a class has to have in the folder: to train on, to calibrate classifiers with, and to test on."""
    return least_to_train_on(config) + (config.test is None)


def least_to_train_on(config: FolderConfig) -> int:
    """Of these those that do not test: guide and evaluator, where they are trained, are calibrated with some."""
    return 1 if config.classifier and config.evaluator else 2


def require_names_apart(folder: Path, class_names: Mapping[int, str], config: FolderConfig) -> None:
    """Check that a generator, if one is trained, can tell the classes apart by name; ValueError if not."""
    if config.pipeline is None:
        require_different(class_names, folder)


def left_to_train_on(images: int, config: FolderConfig) -> int:
    """Of so many images of a class that has no twins, those that do not test."""
    return images if config.test is not None else max(images - number_held_out(images, config.held_out), 0)


def images_for_ipc(config: FolderConfig) -> int:
    """Images that a class has to have in the folder, so that IPC are left to train on."""
    if config.test is not None:
        return config.ipc
    fewest = int((config.ipc - 0.5) / (1 - config.held_out))  # what tests is rounded by a half at most
    return next(images for images in itertools.count(fewest) if left_to_train_on(images, config) >= config.ipc)


def require_ipc(images: Pool, config: FolderConfig, *, divided: bool = False) -> None:
    """Check that each class has as many images as random real ones, modes and herding take.

    Args:
        divided: ``images`` are the part that is trained on, no longer those of the folder.

    Raises:
        ValueError: one has fewer.  A lower IPC is advised that all have, and to leave out such classes, if two have it.
    """
    needed = config.ipc if divided else images_for_ipc(config)
    counts = sorted(Counter(images.labels.tolist()).values())
    lower = counts[0] if divided else left_to_train_on(counts[0], config)
    ways = [f"lower it to {lower}"] if lower else []
    ways.append("add images")
    if sum(count >= needed for count in counts) > 1:
        ways.append(f"leave such classes out by least={images_for_ipc(config)}")
    way = " or ".join(ways) if len(ways) < 3 else f"{ways[0]}, {ways[1]}, or {ways[2]}"
    require_enough(images, needed, f"ipc={config.ipc}", way, "to train on" if divided else "")


def rows_apart(train: Pool, test: Pool, folder: Path) -> list[int]:
    """Rows of the training images that are no test images too, file by file.

    Args:
        folder: that the training images are from, for the error.

    Raises:
        ValueError: a class has none.
    """
    shared = set(shared_rows(train, test))
    apart = [row for row in range(len(train)) if row not in shared]
    left = set(train.labels[apart].tolist())
    if gone := [repr(name) for label, name in train.class_names.items() if label not in left]:
        raise ValueError(
            f"{folder} has no images left to train on of {listed(gone)}, since all of them are among the test images; "
            "give test images that nothing is trained on, or leave such classes out"
        )
    return apart


def require_several_images(images: Pool, each: int, config: FolderConfig) -> None:
    """Check that each class can be divided as it will be; ValueError if not.

    Args:
        each: images that a class has to have in ``images``.
    """
    counts = Counter(images.labels.tolist())
    if few := [repr(name) for label, name in images.class_names.items() if counts[label] < each]:
        told = f"{listed(few)} of {images.path} {'has' if len(few) == 1 else 'have'} too few images"
        raise ValueError(_of_few(told, config))


@contextmanager
def several_images(config: FolderConfig) -> Iterator[None]:
    """Say of classes that cannot be divided what a distillation offers for them."""
    try:
        yield
    except LoneImageError as error:
        raise ValueError(_of_few(error.told, config)) from error


def _of_few(told: str, config: FolderConfig) -> str:
    least = least_images(config)
    parts = "to train on"
    if least_to_train_on(config) > 1:
        parts += f" and to calibrate the {'evaluator' if config.classifier else 'guide'} with"
    parts += ", and to test on" if config.test is None else ""
    return f"{told}: some are {parts}; give each class {least} or more, or leave out those with fewer by least={least}"


def require_size(config: FolderConfig, size: int) -> None:
    """Check that a pipeline, which is given or fine-tuned, draws images as large as asked for; ValueError if not."""
    if (config.size or 0) > size:
        raise ValueError(
            f"{config.pipeline or config.base} draws images of {size} pixels, which size={config.size} does not change;"
            " leave size out, or take a pipeline of images of at least that size"
        )


def require_network(config: FolderConfig, class_names: Mapping[int, str], size: tuple[int, int], channels: int) -> None:
    """Check that the network that is trained on the sets can be built for their images; ValueError if not."""
    build_network(config.network, channels=channels, size=size, num_classes=max(len(class_names), 2))


def require_target(config: FolderConfig, class_names: Mapping[int, str]) -> None:
    """Check that the target, if there is one, can be read for all classes; ValueError if not."""
    if config.target is not None:
        own = TargetDistribution.from_reference({name: np.array([0.5]) for name in class_names.values()})
        as_target(config.target, class_names, reference=own)


def bytes_needed(config: FolderConfig, *, classes: int, size: int, copied: int = 0, trains: bool = True) -> int:
    """Of the disk that the work lies on, for pools, the sets chosen from them, models and copies of real images.

    Args:
        size: pixels per side of the generated images.
        copied: real images that are still to be written.
        trains: whether models that are not given are trained.
    """
    png = size * size * 3 * PNG_SHARE
    drawn = 2 * config.ipc * config.pool_factor * classes
    needed = png * (drawn * (1 + 2 / config.pool_factor) + copied)
    if trains and None in (config.pipeline, config.classifier, config.evaluator):
        needed += BYTES_OF_TRAINING
    return math.ceil(needed)
