"""A guide or an evaluator from images of one's own: trained, calibrated on images that it has not seen, and recorded.

    images -> held-out share of each class -> training -> temperature -> accuracy -> OUTPUT, whole or not at all
           -> folds, each scored by a classifier trained without it -> OUTPUT/difficulties.jsonl

Until it is finished all work is in ``OUTPUT.training`` beside it, from where the same call goes on after a
kill, at the step where it was.
"""

import errno
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from dag_diffusion.classifiers.image_classifiers import load_classifier, require_names_kept
from dag_diffusion.data.distilled_sets import require_apart
from dag_diffusion.data.files import (
    LOCK,
    differences,
    is_made_so,
    json_line,
    locked,
    read_json_object,
    recorded,
    require_no_mount,
    require_replaceable,
    write_atomically,
    write_json,
)
from dag_diffusion.data.pools import Pool, PoolSource, as_pool, digest_of_images
from dag_diffusion.generation.provenance import versions
from dag_diffusion.processes import fail_together, gather, is_main_process, resolve_device
from dag_diffusion.processor import usual_torch
from dag_diffusion.progress import Progress
from dag_diffusion.training.checkpoints import require_own_work, work_folder

from .plan import ClassifierConfig
from .trainings import ClassifierTraining, CrossFitted, class_names_for, of_classes

RECORD, DIFFICULTIES = "training.json", "difficulties.jsonl"
SETTINGS, TRAININGS, FINISHED = "settings.json", "trainings", "finished"  # in the folder of an unfinished training
FORMAT = "dag-diffusion classifier 1"


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """What came of a training.

    Attributes:
        folder: for ``load_classifier``, with ``training.json`` and, of folds, ``difficulties.jsonl``.
        model: in evaluation mode, on the device where it was trained.
        record: what ``training.json`` says; without times in all but the first of several processes.
    """

    folder: Path
    model: nn.Module
    record: dict[str, Any]


@usual_torch()
def train_classifier(
    images: PoolSource,
    output: str | Path,
    config: ClassifierConfig | None = None,
    *,
    holdout: "PoolSource | None" = None,
    test: "PoolSource | None" = None,
    device: str | None = None,
    overwrite: bool = False,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> TrainedClassifier:
    """Train a guide or an evaluator on a pool or folder of images, or go on where an earlier call was stopped.

    Its logits are divided by a temperature, fitted on held-out images, if likelihood and calibration both gain by it.
    The temperature is in the weights, so that everything that reads the model reads calibrated probabilities.  Under
    ``accelerate launch`` every process has to call it.

    Args:
        images: to train on, from ``read_pool``, or what that reads, as are the other two.  Class i of the classifier is
            the i-th by label.
        output: folder of the classifier, for ``load_classifier``.  One that an earlier call with the same images and
            settings has finished is loaded.
        config: how to train.
        holdout: images to calibrate and test with; None: a share of each class of ``images``, with twins together.
        test: images to test with alone.  Of either, classes besides those of ``images`` are left out.
        device: None: the one that accelerate finds.
        overwrite: replace a classifier, or an unfinished training, of other images or settings.
        about: what else to record, JSON values.
        progress: called with stage, done and total; of several processes in the first.

    Raises:
        ValueError: fewer than two classes, or one without a second image to hold out; images that cannot be read; no
            such model; or a training, finished or not, of other settings or images.
        FileExistsError: the output, or the work folder beside it, holds something else, or another run works on it.
        FloatingPointError: the loss is no longer finite.
        StoppedError: SIGTERM came; what is done is kept.
        OSError: the disk is full; what is done is kept.

    Examples:
        >>> trained = train_classifier(read_pool("my_images"), "guide")  # doctest: +SKIP
        >>> score_pool(read_pool("pool"), trained.model).difficulties  # doctest: +SKIP
    """
    config, output, begun = config or ClassifierConfig(), Path(output), time.monotonic()
    work = work_folder(output)
    with fail_together():
        device = resolve_device(device)
        images = as_pool(images)
        names = class_names_for(images)
        known = images.class_names
        holdout, test = of_classes(known, holdout, "holdout"), of_classes(known, test, "test")
        asked, finished = dict[str, Any](), False
        if is_main_process():
            require_target(output)
            require_apart(images.path, output)
            asked = _asked(config, names, images=images, holdout=holdout, test=test)
            finished = _is_finished(output, asked, overwrite=overwrite)
    if gather(finished)[0]:
        return _finished(output, work, device)
    canvas = {"canvas": images.canvas.as_fields()}
    with ExitStack() as leaving:
        told, begun_from = progress if is_main_process() else None, None
        with fail_together():
            if is_main_process():
                leaving.enter_context(locked(work))
                if not (work / SETTINGS).exists():
                    write_json(work / SETTINGS, {"classes": names})  # which says whose folder it is
                begun_from = None if overwrite else _weights_of(work, config)
        try:
            training = ClassifierTraining(images, holdout, names, config, work, device, told, begun_from)
        except ValueError:
            if is_main_process() and not (work / TRAININGS).exists():  # nothing that took long
                _clear(work)
            raise
        with fail_together():
            if is_main_process():
                _require_same(work, training.settings | canvas, output, overwrite=overwrite)
        resumed = (work / TRAININGS).exists()
        model, record = training.classifier(work / TRAININGS)
        folds = training.folds(work / TRAININGS) if config.folds else None
        if test is not None:
            record["test"] = training.tested(model, test, "test images read")
        record = {"format": FORMAT, **record, **canvas, "folds": folds and folds.record}
        record |= {"about": dict(about or {})}
        with fail_together():
            if is_main_process():
                record |= {"command": shlex.join(sys.argv), "seconds": round(time.monotonic() - begun, 1)}
                record["resumed"] = resumed  # so that the seconds are those of a part
                record = recorded(record | asked | {"versions": versions() | {"timm": version("timm")}})
                _write(work / FINISHED, model, record, folds)
                _move(work / FINISHED, output.resolve())  # behind a link, which stays
                _clear(work)
    return TrainedClassifier(output, model, record)


def require_target(output: Path) -> None:
    """Check that the output may become a classifier: absent or empty, or an earlier one, of whichever training.

    Raises:
        FileExistsError: it, or its work folder, holds something else, or a disk is mounted there.
        PermissionError: it, or the folder above it, cannot be written.
    """
    require_replaceable(output, "trained classifier", _is_classifier, overwrite=True)
    require_no_mount(output)
    require_own_work(work_folder(output), SETTINGS)


def _is_classifier(folder: Path) -> bool:
    return (folder / RECORD).is_file() and (folder / "config.json").is_file()


def _asked(config: ClassifierConfig, names: Mapping[int, str], **pools: Pool | None) -> dict[str, Any]:
    """What a finished classifier must have been trained with so that nothing is left to do; JSON values."""
    files = {name: None if pool is None else digest_of_images(pool) for name, pool in pools.items()}
    classes = {str(label): name for label, name in names.items()}
    return recorded({"config": asdict(config), "classes": classes, "files": files})


def _is_finished(output: Path, asked: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether the classifier is there; ValueError if one of other settings or images is, which is to be kept."""
    if not _is_classifier(output):
        return False
    told = f"{output} holds a classifier of another training"
    return is_made_so(read_json_object(output / RECORD), asked, told, overwrite=overwrite)


def _finished(output: Path, work: Path, device: str) -> TrainedClassifier:
    """The classifier that an earlier call has made, which may have been killed before it had tidied up."""
    record = read_json_object(output / RECORD)
    if is_main_process() and work.exists():
        begun = read_json_object(work / SETTINGS) if (work / SETTINGS).exists() else {}
        if begun == {name: record.get(name) for name in begun}:
            with suppress(FileExistsError), locked(work):  # or another run works there
                _clear(work)
    return TrainedClassifier(output, load_classifier(output).to(device), record)


def _clear(work: Path) -> None:
    """Remove what is in a work folder, last of all the file that says whose it is, since a kill may come between."""
    for path in work.iterdir():
        if path.name not in (SETTINGS, LOCK):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (work / SETTINGS).unlink(missing_ok=True)


def _weights_of(work: Path, config: ClassifierConfig) -> str | None:
    """Where the weights of an unfinished training are from, if it was begun with this configuration."""
    before = read_json_object(work / SETTINGS)
    return before["weights"] if before.get("config") == recorded(asdict(config)) else None


def _require_same(work: Path, settings: Mapping[str, Any], output: Path, *, overwrite: bool) -> None:
    """Check that an unfinished training was begun with these settings and images, or let it go."""
    path, wanted = work / SETTINGS, recorded(settings)
    before = read_json_object(path)
    before = before if "config" in before else wanted  # of a call that came to nothing more than its classes
    before = {"canvas": wanted["canvas"]} | before  # of which earlier versions said nothing, but for the pixels
    if found := list(differences(before, wanted)):
        if not overwrite:
            raise ValueError(
                f"{output} was begun with other settings or images: {'; '.join(found[:5])}; give the same ones, or "
                "overwrite=True to begin anew"
            )
        shutil.rmtree(work / TRAININGS, ignore_errors=True)
    write_json(path, wanted)


def _write(folder: Path, model: nn.Module, record: Mapping[str, Any], folds: CrossFitted | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed while it wrote
    _save(model, folder)
    if folds is not None:
        write_atomically(folder / DIFFICULTIES, map(json_line, folds.rows))
        for number, one in enumerate(folds.models, 1):
            _save(one, folder / f"fold-{number}")
    write_json(folder / RECORD, record)


def _save(model: nn.Module, folder: Path) -> None:
    saved: Any = model
    try:
        saved.save_pretrained(folder)
    except SafetensorError as error:  # which says so of a full disk
        raise OSError(errno.ENOSPC, str(error), str(folder)) from error
    require_names_kept(model, folder)


def _move(finished: Path, output: Path) -> None:
    """Put a finished folder into its place, by renaming alone."""
    old = finished.with_name("old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        os.replace(output, old)
    os.replace(finished, output)
