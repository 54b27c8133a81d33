"""A teacher labels a set: each image once, or each image of each view, shared by all processes.

    label_images    SET/soft_labels.safetensors        one row of logits an image, the image as it is
    label_views     SET/view_labels.json and shards    one row a view of an image, the view as a network will see it

The labels are the same whatever the number of processes: a part is computed in the same batches by any of them, and
written at once.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dag_diffusion import embedded
from dag_diffusion.classifiers.image_classifiers import class_names_of, prepared_logits, preprocessing_of
from dag_diffusion.data.class_folders import limited_to
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.common_kind import common_kind
from dag_diffusion.data.files import differences, held, require_writable
from dag_diffusion.data.pools import Pool, read_pool
from dag_diffusion.evaluation.labelled_images import load_labelled_images
from dag_diffusion.evaluation.protocols import Protocol, as_protocol
from dag_diffusion.processes import fail_together, gather, is_main_process
from dag_diffusion.processor import usual_torch
from dag_diffusion.progress import Progress
from dag_diffusion.turns import Turns

from .compression import CompressedLogits, compress, joined, require_top_k
from .per_image import SOFT_LABELS, image_source, teacher_logits, write_soft_labels
from .teachers import LabelSource, Teacher, teacher_of
from .view_files import (
    VIEW_LABELS,
    key_of,
    pixel_digest,
    place_of,
    read_index,
    shard_name,
    view_source,
    whole_shards,
    write_index,
    write_shard,
)
from .views import PIXELS, drawing_of, draws, generator_of, mixed_batches

TOP_K = 10  # logits kept of a label unless more are asked for
LABELS_A_SHARD, MOST_SHARDS = 2_500, 64
STRETCH = 512  # images that a process labels at a time, of one label each


@dataclass(frozen=True, kw_only=True)
class ViewPlan:
    """Which views of a set are labelled.

    Attributes:
        views: how many; a training under a protocol of more epochs sees them again.
        top_k: logits that are kept of each label; default: 10, or all of fewer classes.
        seed: of the views.
        protocol: whose changes of images are drawn.
    """

    views: int = 400
    top_k: int | None = None
    seed: int = 0
    protocol: str | Protocol = "unified"

    def __post_init__(self) -> None:
        if self.views < 1:
            raise ValueError(f"views={self.views} is too few; give 1 or more, such as the epochs of the protocol")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} is too few; a label keeps at least 1 logit, so give a number above 0")
        as_protocol(self.protocol)

    def shards(self, images: int) -> list[range]:
        """The views of each shard, for a set of so many images."""
        count = min(self.views, MOST_SHARDS, max(1, self.views * images // LABELS_A_SHARD))
        return [range(self.views * i // count, self.views * (i + 1) // count) for i in range(count)]


def label_folder(
    pool: Pool,
    classifier: nn.Module,
    name: str,
    plan: ViewPlan | None = None,
    *,
    test: Path | None = None,
    size: int | None = None,
    class_map: Mapping[str, str | int] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LabelSource:
    """Measure a teacher on real images, then let it label a set.

    Args:
        pool: the set, in a folder.
        classifier: the teacher, in evaluation mode.
        name: of the teacher, for the record.
        plan: of the views; None: one label an image.
        test: real images, whose size and channels views get too, as ``evaluate`` brings sets to them; those of other
            classes than the set's are left out.  None: those of Fashion-MNIST where the classes are its own, and else
            nothing is measured and the set's own size taken.
        size: pixels per side of the views; by default as above.
        class_map: the set's class names to the teacher's, where no rule finds them.
        overwrite: replace labels of another teacher or plan.
        progress: called with stage, done and total; of several processes in the first.

    Raises:
        ValueError, FileExistsError: as ``label_images`` and ``label_views``.
    """
    with fail_together():
        place_of(pool)
        if plan is not None:
            _top_k(plan, len(pool.class_names))
        found = match_classes(
            pool.class_names, class_names_of(classifier), "the teacher", class_map or {}, trainable=True
        )
        real = _test_pool(pool, test)
        if real is not None:  # whose classes may be called as the set's are, or as the teacher's
            theirs = {label: class_names_of(classifier)[one] for label, one in found.items()}
            real = limited_to(limited_to(real, [pool.class_names], "the set"), [theirs], "the set")
    called = "" if real is None else f"{len(real):,} of {test.name if test else 'Fashion-MNIST'}"
    teacher = teacher_of(classifier, name, real, test_name=called, class_map=class_map, progress=progress)
    if plan is None:
        return label_images(pool, classifier, teacher, class_map=class_map, overwrite=overwrite, progress=progress)
    with fail_together():
        kind = common_kind(pool if real is None else real)
        shape = kind.size if size is None else (size, size)
        images = load_labelled_images(pool, size=shape, channels=kind.channels, progress=progress).images
    return label_views(
        pool,
        np.asarray(images),
        classifier,
        teacher,
        plan,
        class_map=class_map,
        overwrite=overwrite,
        progress=progress,
    )


def _test_pool(pool: Pool, test: Path | None) -> Pool | None:
    if test is not None:
        return read_pool(test, canvas=pool.canvas)
    return read_pool(embedded.TEST) if set(pool.class_names.values()) <= set(embedded.CLASS_NAMES) else None


def label_images(
    pool: Pool,
    classifier: nn.Module,
    teacher: Teacher,
    *,
    class_map: Mapping[str, str | int] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LabelSource:
    """Write one label an image, ``per_image.SOFT_LABELS``, whole or not at all.

    Args:
        pool, classifier, class_map, progress: as of ``label_folder``.
        teacher: as ``teacher_of`` measured it.
        overwrite: replace labels of another teacher; those of the same one are made again unasked.

    Raises:
        ValueError: the teacher lacks a class of the set.
        FileExistsError: there are labels of another teacher, or another run writes some.
    """
    path = place_of(pool) / SOFT_LABELS
    with fail_together():
        require_writable(path)
        if path.is_file() and not overwrite:
            earlier = image_source(pool).teacher
            _require_equal(path, {"teacher_digest": earlier.digest}, {"teacher_digest": teacher.digest})
            if teacher.accuracy is None and teacher.key == earlier.key:  # of a teacher that was mended it is unknown
                teacher = replace(teacher, accuracy=earlier.accuracy, test=earlier.test)
    parts, turns = [], Turns("images labelled", len(pool), progress)
    with _alone(path):
        with turns.together():
            for start in turns.take(range(0, len(pool), STRETCH), 1):
                part = pool.select(range(start, min(start + STRETCH, len(pool))))
                logits = teacher_logits(classifier, part, class_names=pool.class_names, class_map=class_map)
                parts.append((start, logits))
                turns.report(len(part))
        together = [logits for _, logits in sorted((one for part in gather(parts) for one in part), key=lambda p: p[0])]
        with fail_together():
            if is_main_process():
                write_soft_labels(path.parent, torch.cat(together), [row["file_name"] for row in pool.rows], teacher)
    return image_source(pool)


@usual_torch()
def label_views(
    pool: Pool,
    pixels: np.ndarray,
    classifier: nn.Module,
    teacher: Teacher,
    plan: ViewPlan | None = None,
    *,
    class_map: Mapping[str, str | int] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LabelSource:
    """Write the labels of every view; a run that was stopped goes on with the shards that it lacks.

    So it does with those that were damaged since.

    Args:
        pool: the set.
        pixels: ``(images, height, width, channels)`` uint8, its images in its order at the size of the trainings.
        classifier: the teacher, in evaluation mode.
        teacher: as ``teacher_of`` measured it.
        plan: which views, and how many logits of each are kept.
        class_map, progress: as of ``label_folder``.
        overwrite: replace labels of another teacher or plan.

    Raises:
        ValueError: the teacher lacks a class of the set or gives logits that are not finite; top_k is above the number
            of classes.
        FileExistsError: there are labels of another teacher or plan, or another run writes some.
    """
    plan = plan or ViewPlan()
    folder, settings = place_of(pool), _settings(pool, pixels, teacher, plan, class_map)
    names = _names(settings, plan.shards(len(pool)))
    teach = _Teaching(classifier, pool, class_map, plan)
    with fail_together():
        require_writable(folder)
        index = read_index(folder) if (folder / VIEW_LABELS).is_file() and not overwrite else {}
        if index:
            _require_equal(folder / VIEW_LABELS, {name: index.get(name) for name in settings}, settings)
    with _alone(folder / VIEW_LABELS):
        with fail_together():
            whole = whole_shards(folder, names) if is_main_process() else set[str]()
        missing = gather([name for name in names if name not in whole])[0]
        turns = Turns("views labelled", plan.views, progress)
        turns.report(sum(len(names[name]) for name in names if name not in missing) if is_main_process() else 0)
        images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        with turns.together():
            for name in turns.take(missing, 1):
                labels = []
                for view in names[name]:
                    labels.append(teach(images, view))
                    turns.report(1)
                write_shard(folder / name, joined(labels))
        with fail_together():
            untold = teacher.accuracy is not None and index.get("teacher") != asdict(teacher)
            if is_main_process() and (missing or not index or untold):
                if index and teacher.accuracy is None:  # as of one that was not tested again
                    earlier = Teacher(**index["teacher"])
                    teacher = replace(teacher, accuracy=earlier.accuracy, test=earlier.test)
                write_index(folder, settings, teacher, list(names))
    return view_source(pool)


class _Teaching:
    """What a teacher says of one view after another."""

    def __init__(
        self, classifier: nn.Module, pool: Pool, class_map: Mapping[str, str | int] | None, plan: ViewPlan
    ) -> None:
        found = match_classes(
            pool.class_names, class_names_of(classifier), "the teacher", class_map or {}, trainable=True
        )
        self.columns = [found[label] for label in sorted(found)]
        self.top_k = _top_k(plan, len(self.columns))
        self.protocol, self.seed = as_protocol(plan.protocol), plan.seed
        self.classifier, self.preprocessing = classifier, preprocessing_of(classifier)
        if classifier.training:
            raise ValueError(
                "the teacher is in training mode, where logits depend on the batch; call classifier.eval()"
            )

    @torch.inference_mode()
    def __call__(self, images: Tensor, view: int) -> CompressedLogits:
        """``(1, images)`` rows of one view of images ``(n, channels, height, width)`` uint8."""
        logits = torch.empty(len(images), len(self.columns))
        for batch, inputs in mixed_batches(images, self.protocol, generator_of(self.seed, view), PIXELS):
            seen = self.preprocessing.normalised(self.preprocessing.fitted(inputs.clamp(0, 1)))
            logits[batch] = prepared_logits(self.classifier, seen)[:, self.columns].float().cpu()
        if not logits.isfinite().all():
            raise ValueError("the teacher's logits are not finite; compute in float32 (classifier.float()) or check it")
        return compress(logits[None], self.top_k)


def _settings(
    pool: Pool, pixels: np.ndarray, teacher: Teacher, plan: ViewPlan, class_map: Mapping[str, str | int] | None
) -> dict[str, Any]:
    """What makes two runs the same work; values as JSON has them."""
    return {
        "teacher_digest": teacher.digest,
        "teacher_key": teacher.key,
        "class_map": None if class_map is None else dict(class_map),
        "class_names": [pool.class_names[label] for label in sorted(pool.class_names)],
        "file_names": [row["file_name"] for row in pool.rows],
        "images": pixel_digest(pixels),
        "size": list(pixels.shape[1:3]),
        "channels": pixels.shape[3],
        "protocol": as_protocol(plan.protocol).name,
        "drawing": drawing_of(as_protocol(plan.protocol)),
        "views": plan.views,
        "top_k": _top_k(plan, len(pool.class_names)),
        "seed": plan.seed,
        "draws": draws(),
    }


def _top_k(plan: ViewPlan, classes: int) -> int:
    top_k = min(TOP_K, classes) if plan.top_k is None else plan.top_k
    require_top_k(top_k, classes)
    return top_k


def _names(settings: Mapping[str, Any], shards: list[range]) -> dict[str, range]:
    key = key_of(settings)
    return {shard_name(key, number, len(shards)): views for number, views in enumerate(shards)}


def _require_equal(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if found := [text for text in differences(dict(before), dict(now)) if not text.startswith("file_names")]:
        raise FileExistsError(
            f"{path} has other labels: {'; '.join(found[:3])[:90]}; add overwrite=True to replace them"
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other runs away from the labels at ``path``, while all processes of this one write them.

    What writers left that were killed goes, since none other is at work.
    """
    with ExitStack() as leaving:
        with fail_together():
            if is_main_process():
                leaving.enter_context(held(path.with_name(f".{path.name}.lock"), path))
                for partial in path.parent.glob(f".{path.stem}*.partial"):
                    partial.unlink()
        yield
