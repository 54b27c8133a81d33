"""What may stand against a distillation, and what it needs of disk and memory; what is found out on the way is kept.

images, models -> classes matched by name -> sizes -> disk, memory
"""

import math
import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dag_diffusion.data.canvas import fit_for
from dag_diffusion.data.class_folders import split_warning
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.preparing.shared_images import shared_images
from dag_diffusion.evaluation.networks import build_network
from dag_diffusion.loading import as_dtype
from dag_diffusion.own_images.config import FolderConfig
from dag_diffusion.sampling.target_parser import as_target
from dag_diffusion.sampling.targets import TargetDistribution

from .folders import classes_in, images_of, require_enough, require_there
from .models import PARTS, ModelFiles, PipelineFacts, classifier_names, files_of, pipeline_facts
from .problems import Problems

PNG_SHARE = 0.53  # of the raw pixels: scaling.json, six photographs of 256 px, 103,780 bytes on average
SHARE_OF_MEMORY = 0.7  # that decoded images may take
MOST_COMPARED = 200_000  # files whose lengths are looked at to find test images among training images
BYTES_OF_TRAINING = 600_000_000  # checkpoints of generator and classifiers at the sizes that are trained here
USUAL_SIZE = 32


@dataclass
class Found:
    """What the checks found out, as far as they came."""

    names: dict[int, str] = field(default_factory=dict)
    train: Pool | None = None
    test: Pool | None = None
    pipeline: PipelineFacts | None = None
    models: dict[str, ModelFiles] = field(default_factory=dict)
    known: dict[str, dict[int, str]] = field(default_factory=dict)  # of each model that must know the classes
    warnings: list[str] = field(default_factory=list)


def read_models(config: FolderConfig, problems: Problems, found: Found) -> None:
    """Read what the configurations of the models say that are given."""
    given = {"pipeline": config.pipeline or config.base, "classifier": config.classifier, "evaluator": config.evaluator}
    for role, name in given.items():
        if name is None:
            continue
        with problems.gathered():
            files = found.models[role] = files_of(name)
            if role == "pipeline":
                found.pipeline = pipeline_facts(files, trust_bin=config.trust_bin)
            else:
                found.known[f"the {role} {name}"] = classifier_names(files)
    if found.pipeline is not None and config.base is None:
        found.known[f"the pipeline {config.pipeline}"] = found.pipeline.class_names


def check_images(folder: Path, config: FolderConfig, problems: Problems, found: Found, *, trains: bool) -> None:
    """List the real images of the classes that are meant, and match these with the models'.

    Args:
        trains: classes are those of the training images, as of ``distill``; else those of the test images, as of
            ``run``, which takes labels of the pipeline for classes too.
    """
    test, wanted = None if config.test is None else Path(config.test), config.class_list
    if wanted is not None and not trains and found.pipeline is not None:
        labels = found.pipeline.class_names
        wanted = [labels.get(int(text), text) if text.isdecimal() else text for text in wanted]
    with problems.gathered():
        require_there(folder)
        found.names = classes_in(test if wanted is None and test is not None and not trains else folder, wanted)
        if len(found.names) < 2:
            raise ValueError(f"{folder} has one class, {next(iter(found.names.values()))!r}; give two or more")
    if not found.names:
        if test is not None:
            with problems.gathered():
                require_there(test)
        return
    for owner, names in found.known.items():
        with problems.gathered():
            match_classes(found.names, names, owner)
    found.train = images_of(folder, found.names, problems)
    if found.train is not None and config.class_list is None and config.least > 1:
        counts = Counter(found.train.labels.tolist())
        found.names = {label: name for label, name in found.names.items() if counts[label] >= config.least}
        found.train = found.train.select([r for r, one in enumerate(found.train.labels.tolist()) if one in found.names])
    if test is not None:
        found.test = images_of(test, found.names, problems)
    with problems.gathered():
        if found.train is not None:
            needed = config.ipc if config.test is not None else math.ceil(config.ipc / (1 - config.held_out))
            require_enough(found.train, needed, f"ipc={config.ipc}")


def check_guide(config: FolderConfig, problems: Problems, found: Found) -> None:
    """Refuse a pipeline without a guide where none is given or trained."""
    if config.classifier is not None or found.pipeline is None:
        return
    with problems.gathered():
        if (own := found.pipeline.own_classifier) is None:
            raise ValueError(f"{config.pipeline} has no classifier of its own; give a classifier of the same classes")
        match_classes(found.names, own, f"the classifier of {config.pipeline}")


def check_sizes(
    config: FolderConfig, problems: Problems, found: Found, size: int, channels: int, *, trains: bool
) -> None:
    """Refuse a size, a network, a precision, a target or a fit that cannot be."""
    side = config.size or size
    with problems.gathered():
        as_dtype(config.precision)
    with problems.gathered():
        fit_for(config.fit, (config.pipeline, config.base, config.classifier, config.evaluator))
    with problems.gathered():
        if trains and found.pipeline is not None and side > size:
            raise ValueError(
                f"{config.pipeline or config.base} draws images of {size} pixels, which size={side} does not change; "
                "leave size out"
            )
        shape, classes = (side, side), max(len(found.names), 2)
        build_network(config.network, channels=config.channels or channels, size=shape, num_classes=classes)
    with problems.gathered():
        if config.target is not None and found.names:
            own = TargetDistribution.from_reference({name: np.array([0.5]) for name in found.names.values()})
            as_target(config.target, found.names, reference=own)


def bytes_needed(config: FolderConfig, found: Found, size: int, *, trains: bool) -> int:
    """Of the disk that the work lies on."""
    png = size * size * 3 * PNG_SHARE
    drawn = 2 * config.ipc * config.pool_factor * len(found.names)
    needed = png * drawn * (1 + 2 / config.pool_factor)  # and the sets chosen from them
    if trains:
        most = math.inf if config.most is None else config.most * len(found.names)
        used = min(len(found.train or ()), most)
        needed += png * (used + len(found.test or ()))
        needed += BYTES_OF_TRAINING if None in (config.pipeline, config.classifier, config.evaluator) else 0
    return int(needed)


def check_disk(config: FolderConfig, found: Found, size: int, work: Path, *, trains: bool) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    fetched = sum(files.to_fetch for files in found.models.values())
    for place, needed, what in (
        (work, bytes_needed(config, found, size, trains=trains), "models, pools and images"),
        (Path(HF_HUB_CACHE), fetched, "weights from the Hub"),
    ):
        free = free_at(place)
        if needed > free:
            raise ValueError(
                f"the disk of {place} has {free / 1e9:.1f} GB free, but {what} need about {needed / 1e9:.1f} GB; free "
                "some, or choose a folder on another disk"
            )


def free_at(place: Path) -> int:
    return shutil.disk_usage(next(one for one in (place, *place.absolute().parents) if one.exists())).free


def bytes_in_memory(config: FolderConfig, found: Found, size: int, channels: int, *, trains: bool) -> int:
    """What all images take that are decoded at a time, and the weights."""
    side, kinds = config.size or size, config.channels or channels
    tested = len(found.test) if found.test is not None else math.ceil(config.held_out * len(found.train or ()))
    learnt = len(found.train or ()) * size**2 if trains and None in (config.pipeline, config.classifier) else 0
    weights = sum(files.weights(part) for files in found.models.values() for part in ("", *PARTS))
    return (tested * side**2 + learnt) * kinds + weights


def check_memory(config: FolderConfig, found: Found, size: int, channels: int, *, trains: bool) -> None:
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if (needed := bytes_in_memory(config, found, size, channels, trains=trains)) > SHARE_OF_MEMORY * there:
        raise ValueError(
            f"images and weights take {needed / 2**30:.1f} GiB of this machine's {there / 2**30:.1f}; choose a smaller "
            "size, fewer test images, or a machine with more memory"
        )


def look_at_test_images(config: FolderConfig, found: Found) -> None:
    if found.test is None or found.train is None:
        return
    if warning := split_warning(Counter(row["class_name"] for row in found.test.rows), config.split):
        found.warnings.append(warning)
    if len(found.test) + len(found.train) > MOST_COMPARED:
        found.warnings.append("too many images to look for test images among the training images; run and distill do")
    elif shared := shared_images(found.test, found.train):
        found.warnings.append(
            f"{shared} of {len(found.test)} test images are training images too, so that accuracies say too much"
        )
