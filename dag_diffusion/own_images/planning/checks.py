"""What may stand against a distillation, and what it needs of disk and memory; what is found out on the way is kept.

images, models -> classes matched by name -> sizes -> disk, memory
"""

import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dag_diffusion.data.canvas import canvas_for
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.common_kind import channels_of
from dag_diffusion.data.files import bytes_in, require_disk
from dag_diffusion.data.imagenet import split_warning
from dag_diffusion.data.images import UnreadableImageError
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.preparing.shared_images import shared_rows
from dag_diffusion.distillation.pools import require_weak
from dag_diffusion.loading import as_dtype
from dag_diffusion.memory import SHARE, memory
from dag_diffusion.own_images.config import FolderConfig
from dag_diffusion.own_images.requirements import (
    bytes_needed,
    images_for_ipc,
    least_images,
    left_to_train_on,
    require_ipc,
    require_names_apart,
    require_network,
    require_several,
    require_several_images,
    require_size,
    require_target,
    require_there,
    rows_apart,
)
from dag_diffusion.training.generators.sizes import require_same_latents, require_suitable

from .folders import OPENED, classes_in, images_of
from .models import (
    PARTS,
    ModelFiles,
    PipelineFacts,
    classifier_names,
    files_of,
    grey_warning,
    latents_of,
    pipeline_facts,
)
from .problems import Problems

MOST_COMPARED = 200_000  # files whose lengths are looked at to find test images among training images


@dataclass(frozen=True)
class Knowing:
    """A model that must know the classes."""

    owner: str  # what to call it
    class_names: dict[int, str]
    trainable: bool  # a classifier, in whose place one can be trained


@dataclass
class Found:
    """What the checks found out, as far as they came."""

    names: dict[int, str] = field(default_factory=dict)
    train: Pool | None = None
    test: Pool | None = None
    pipeline: PipelineFacts | None = None
    latents: tuple[int, int] | None = None  # of a VAE that is named, see ``PipelineFacts``
    models: dict[str, ModelFiles] = field(default_factory=dict)
    known: list[Knowing] = field(default_factory=list)
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
                found.known.append(Knowing(f"the {role} {name}", classifier_names(files), trainable=True))
    _read_weak(config, problems, found)
    if config.vae is not None:
        with problems.gathered():
            files = found.models["vae"] = files_of(config.vae)
            found.latents = latents_of(files)
    if found.pipeline is not None and config.base is None:
        found.known.append(Knowing(f"the pipeline {config.pipeline}", found.pipeline.class_names, trainable=False))


def _read_weak(config: FolderConfig, problems: Problems, found: Found) -> None:
    with problems.gathered():
        if config.weak is not None:
            files = found.models["weak"] = files_of(config.weak)
            weak = pipeline_facts(files, trust_bin=config.trust_bin)
            if found.pipeline is not None and weak.class_names != found.pipeline.class_names:
                raise ValueError(
                    f"{config.weak} has other classes than the pipeline {config.pipeline}, or in another order; give a "
                    "weak one that was trained on the same images"
                )
        elif found.pipeline is not None and not found.pipeline.has_weak:
            require_weak(config.autoguidance_scale)


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
        require_several(folder, found.names)
    if not found.names:
        if test is not None:
            with problems.gathered():
                require_there(test)
        return
    for model in found.known:
        with problems.gathered():
            match_classes(found.names, model.class_names, model.owner, trainable=model.trainable)
    found.train = images_of(folder, found.names, problems, skip_unreadable=config.skip_unreadable)
    if found.train is not None and config.class_list is None and config.least > 1:
        counts = Counter(found.train.labels.tolist())
        found.names = {label: name for label, name in found.names.items() if counts[label] >= config.least}
        if len(found.names) < 2:
            with problems.gathered():
                raise ValueError(
                    f"{len(found.names)} of {len(counts)} classes of {folder} have least={config.least} images, but "
                    "two or more are needed; lower least"
                )
            return
        found.train = found.train.select([r for r, one in enumerate(found.train.labels.tolist()) if one in found.names])
    with problems.gathered():
        require_names_apart(folder, found.names, config)
    if test is not None:
        found.test = images_of(test, found.names, problems, skip_unreadable=config.skip_unreadable)
    if trains:
        with problems.gathered():
            _leave_out_test_images(folder, found)
    with problems.gathered():
        if found.train is not None:
            needed = images_for_ipc(config)
            require_ipc(found.train, config)
            if trains:
                require_several_images(found.train, least_images(config), config)
            if config.most is not None and config.most < needed:
                raise ValueError(
                    f"most={config.most} images of a class are fewer than the {needed} that ipc={config.ipc} needs "
                    "with those that are tested on; raise it, or lower ipc"
                )


def _leave_out_test_images(folder: Path, found: Found) -> None:
    """Leave them out of the training images, as ``distill`` does, which finds those that only look alike besides."""
    if found.train is None or found.test is None or _too_many(found.train, found.test):
        return
    apart = rows_apart(found.train, found.test, folder)
    if shared := len(found.train) - len(apart):
        found.warnings.append(f"{shared} of {len(found.train)} training images are test images too, and are left out")
        found.train = found.train.select(apart)


def _too_many(train: Pool, test: Pool) -> bool:
    return len(train) + len(test) > MOST_COMPARED


def check_guide(config: FolderConfig, problems: Problems, found: Found) -> None:
    """Refuse a pipeline without a guide where none is given or trained."""
    if config.classifier is not None or found.pipeline is None:
        return
    with problems.gathered():
        if (own := found.pipeline.own_classifier) is None:
            raise ValueError(f"{config.pipeline} has no classifier of its own; give a classifier of the same classes")
        match_classes(found.names, own, f"the classifier of {config.pipeline}", trainable=True)


def check_sizes(
    config: FolderConfig, problems: Problems, found: Found, size: int, channels: int, *, trains: bool
) -> None:
    """Refuse a size, a network, a precision, a target or a fit that cannot be."""
    side = config.size or size
    if found.latents is not None:
        with problems.gathered():
            if config.base is None:
                require_suitable(side, found.latents[1])
            elif found.pipeline is not None:
                require_same_latents(config.base, found.pipeline.latents, found.latents)
    with problems.gathered():
        as_dtype(config.precision)
    with problems.gathered():
        canvas_for(config.fit, (config.pipeline, config.base, config.classifier, config.evaluator), trim=config.trim)
    with problems.gathered():
        if trains and found.pipeline is not None:
            require_size(config, size)
        require_network(config, found.names, (side, side), config.channels or channels)
    with problems.gathered():
        if found.names:
            require_target(config, found.names)


def bytes_of_work(config: FolderConfig, found: Found, size: int, *, trains: bool) -> int:
    """Of the disk that the work lies on, where ``trains`` copies all images."""
    most = math.inf if config.most is None else config.most * len(found.names)
    copied = int(min(len(found.train or ()), most)) + len(found.test or ()) if trains else 0
    return bytes_needed(config, classes=len(found.names), size=size, copied=copied, trains=trains)


def check_disk(config: FolderConfig, found: Found, size: int, work: Path, *, trains: bool) -> None:
    from huggingface_hub.constants import HF_HUB_CACHE

    fetched = sum(files.to_fetch for files in found.models.values())
    needed = bytes_of_work(config, found, size, trains=trains) - bytes_in(work)  # what an earlier call has written
    require_disk(work, needed, "models, pools and images")
    require_disk(Path(HF_HUB_CACHE), fetched, "weights from the Hub")


def number_of_images(config: FolderConfig, found: Found) -> tuple[int, int]:
    """How many images are trained on and how many test, in all classes, as far as a plan can tell."""
    counts = Counter([] if found.train is None else found.train.labels.tolist()).values()
    taken = [min(count, config.most or count) for count in counts]
    trained = sum(left_to_train_on(count, config) for count in taken)
    return trained, sum(taken) - trained if found.test is None else len(found.test)


def bytes_in_memory(config: FolderConfig, found: Found, size: int, channels: int, *, trains: bool) -> int:
    """What all images take that are decoded at a time, and the weights."""
    side, kinds = config.size or size, config.channels or channels
    trained, tested = number_of_images(config, found)
    learnt = trained * size**2 if trains and None in (config.pipeline, config.classifier) else 0
    weights = sum(files.weights(part) for files in found.models.values() for part in ("", *PARTS))
    pool = config.ipc * config.pool_factor * len(found.names) if config.rounds_at(size) > 1 else 0
    # a pool is chosen from before anything is tested, and after everything was trained
    return max(tested * side**2 + learnt, pool * size**2) * kinds + weights


def check_memory(config: FolderConfig, found: Found, size: int, channels: int, *, trains: bool) -> None:
    there = memory()
    if (needed := bytes_in_memory(config, found, size, channels, trains=trains)) > SHARE * there:
        raise ValueError(
            f"images and weights take {needed / 2**30:.1f} GiB of the {there / 2**30:.1f} that may be used here; "
            "choose a smaller size, fewer test images, rounds=1, or a machine with more memory"
        )


def look_at_colours(config: FolderConfig, found: Found) -> None:
    """Warn of generated images that will be grey among coloured ones, as one of each class tells."""
    files = found.models.get("vae") or found.models.get("pipeline")
    if files is None or found.train is None:
        return
    few = found.train.select(np.unique(found.train.labels, return_index=True)[1].tolist()[:OPENED])
    with suppress(UnreadableImageError):
        if warning := grey_warning(files, config.channels or channels_of(few)):
            found.warnings.append(warning)


def look_at_test_images(config: FolderConfig, found: Found, *, trains: bool) -> None:
    if found.test is None or found.train is None:
        return
    if warning := split_warning(Counter(row["class_name"] for row in found.test.rows), config.split):
        found.warnings.append(warning)
    if _too_many(found.train, found.test):
        found.warnings.append("too many images to look for test images among the training images; run and distill do")
    elif not trains and (shared := len(shared_rows(found.test, found.train))):
        found.warnings.append(
            f"{shared} of {len(found.test)} test images are training images too, so that accuracies say too much"
        )
