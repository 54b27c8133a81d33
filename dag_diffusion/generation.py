"""Fill a pool with guided images: work is named, seeded and written one image at a time.

The seed of an image comes from (pool seed, label, index) alone, so processes, batches and kills change nothing.  Runs
under ``accelerate launch`` without other code: process r of R draws every R-th of the images that are still missing.
"""

import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from .class_names import folder_names
from .files import LOCK, json_lines, locked, read_json_object, write_atomically, write_image
from .guidance import GuidanceConfig
from .modes import ModeGuidance, Modes, allot, match_modes
from .pipelines.difficulty_guided import DifficultyGuidedPipeline, DifficultyGuidedPipelineOutput
from .pools import (
    EARLIER,
    METADATA,
    PROVENANCE,
    Pool,
    read_pool,
    read_rows,
    require_writable_target,
    write_provenance,
)
from .probes import fingerprint
from .targets import TargetDistribution

FORMAT = "dag-diffusion pool 1"
PARTS = ("weights", "extra_guides", "reference_classifier")
ROWS = ".rows"  # while a pool is being filled, each process appends its own rows here
LIBRARIES = ("dag-diffusion", "accelerate", "diffusers", "torch", "torchvision", "transformers")


@dataclass(frozen=True)
class PoolConfig:
    """What a pool holds.  Together with the pipeline it determines every image.

    Attributes:
        images_per_class: pool size; the paper advises 5 x IPC.
        labels: the pipeline's labels to draw; None for all.
        target: difficulties to steer toward; None leaves the images unguided.
        seed: of the pool.
        num_inference_steps: denoising steps; 20 are enough with a trailing spacing of the timesteps.
        guidance_scale: of classifier-free guidance.
        difficulty_guidance: scale, window and trust region of the steering.
        modes: clusters of real images that each class's images are drawn to in turn.  If modes and images both have
            difficulties, the images with the hardest targets are drawn to the hardest modes.
        mode_guidance: strength and window of that.
    """

    images_per_class: int = 50
    labels: Sequence[int] | None = None
    target: TargetDistribution | None = None
    seed: int = 0
    num_inference_steps: int = 20
    guidance_scale: float = 1.5
    difficulty_guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    modes: Modes | None = None
    mode_guidance: ModeGuidance = field(default_factory=ModeGuidance)

    def __post_init__(self) -> None:
        if self.labels is not None and not len(self.labels):
            raise ValueError("the list of labels is empty; name at least one class, or leave it out for all of them")
        if self.images_per_class < 1:
            raise ValueError(f"a pool of {self.images_per_class} images per class is empty; ask for at least 1")

    def settings(self) -> dict[str, Any]:
        """What must agree when a pool is resumed; JSON values only."""
        values = asdict(replace(self, target=None, modes=None))
        values["labels"] = None if self.labels is None else list(self.labels)
        values["modes"] = None if self.modes is None else self.modes.summary()
        values["target"] = None if self.target is None else self.target.summary()
        return values


@dataclass(frozen=True)
class ImageJob:
    """One image to draw."""

    file_name: str
    label: int
    class_name: str
    seed: int
    target_difficulty: float | None
    mode: int | None = None

    def row(self) -> dict[str, Any]:
        """Its columns in the metadata; that of the mode only if there are modes."""
        values = asdict(self)
        return values if self.mode is not None else {k: v for k, v in values.items() if k != "mode"}


def image_seed(pool_seed: int, label: int, index: int) -> int:
    """Seed of one image, from its name alone: any process may draw it in any batch."""
    word = np.random.SeedSequence([pool_seed, label, index]).generate_state(1, np.uint64)[0]
    return int(word >> np.uint64(11))  # 53 bits: 32 clash within 250,000 images, 64 are not exact in every JSON reader


def plan(config: PoolConfig, class_names: Mapping[int, str]) -> list[ImageJob]:
    """Every image of the pool, classes interleaved so that any stretch of the list holds all of them.

    Raises:
        ValueError: a label that the pipeline lacks, or a target without one of the classes.
    """
    labels = list(class_names) if config.labels is None else list(dict.fromkeys(config.labels))
    if unknown := [label for label in labels if label not in class_names]:
        raise ValueError(f"the pipeline has no label {unknown}; it has 0..{max(class_names)}")
    folders = folder_names(class_names)
    jobs = []
    for label in labels:
        targets = _shuffled_targets(config, class_names[label], label)
        modes = _modes_of(config, label, targets)
        for index in range(config.images_per_class):
            file_name = f"{folders[label]}/{index:05d}.png"
            seed = image_seed(config.seed, label, index)
            jobs.append((index, ImageJob(file_name, label, class_names[label], seed, targets[index], modes[index])))
    return [job for _, job in sorted(jobs, key=lambda item: (item[0], item[1].label))]


def _shuffled_targets(config: PoolConfig, class_name: str, label: int) -> list[float | None]:
    if config.target is None:
        return [None] * config.images_per_class
    values = config.target.difficulties(class_name, config.images_per_class)
    # shuffled, so that the first images of a pool that is still growing follow the target too
    return np.random.default_rng([config.seed, label]).permutation(values).tolist()


def _modes_of(config: PoolConfig, label: int, targets: list[float | None]) -> list[int | None]:
    if config.modes is None:
        return [None] * config.images_per_class
    by_size = config.mode_guidance.proportional
    chosen = allot(config.modes, label, config.images_per_class, proportional=by_size, seed=config.seed)
    if config.modes.difficulties is not None and config.target is not None:
        chosen = match_modes(config.modes, chosen, targets)
    return chosen.tolist()


def fill_pool(
    pipeline: DifficultyGuidedPipeline,
    folder: str | Path,
    config: PoolConfig | None = None,
    *,
    batch_size: int = 50,
    resume: bool = False,
    overwrite: bool = False,
    source: str = "",
    extra_guides: Sequence[nn.Module] = (),
    reference_classifier: nn.Module | None = None,
    progress: Callable[[int], None] | None = None,
) -> Pool:
    """Generate a pool of images into ``folder``, resumable, under any number of processes.

    Args:
        pipeline: on the device of its process.
        folder: new, empty, or with ``resume`` a pool that was begun with the same settings.
        config: what to generate.
        batch_size: images at a time; changes the speed, not the images beyond rounding.
        resume: go on with a pool that was interrupted.
        overwrite: replace an earlier pool.
        source: name of the pipeline, for the record; its own ``_name_or_path`` if empty.
        extra_guides, reference_classifier: more classifiers that steer; see the pipeline.
        progress: called with the number of images that this process has finished.

    Returns:
        The finished pool.

    Raises:
        FileExistsError: the folder holds something else, or a pool while neither ``resume`` nor ``overwrite`` is given.
        ValueError: the settings of a resumed pool differ (the message says which), or bad settings.
    """
    from accelerate import PartialState

    config, folder, state = config or PoolConfig(), Path(folder), PartialState()
    jobs = plan(config, pipeline.class_names)
    others = {"extra_guides": tuple(extra_guides), "reference_classifier": reference_classifier}
    _check(pipeline, config, jobs, others)
    provenance = _provenance(pipeline, config, source) | _names_of(others)
    _check_folder(folder, provenance, resume, overwrite)
    with locked(folder) if state.is_main_process else nullcontext():
        try:
            if state.is_main_process:
                _open_pool(folder, provenance, resume)
            state.wait_for_everyone()
            _draw_missing(partial(pipeline, **others), folder, jobs, config, state, batch_size, progress)
        except BaseException:
            if state.num_processes == 1 and not _rows_so_far(folder):  # others might still be writing
                _undo(folder)
            raise
        state.wait_for_everyone()
        if state.is_main_process:
            _finish(folder, jobs)
    state.wait_for_everyone()
    return read_pool(folder)


def _draw_missing(
    pipeline: Callable[..., DifficultyGuidedPipelineOutput],
    folder: Path,
    jobs: Sequence[ImageJob],
    config: PoolConfig,
    state: Any,
    batch_size: int,
    progress: Callable[[int], None] | None,
) -> None:
    done = {row["file_name"] for row in _rows_so_far(folder)}
    todo = [job for job in jobs if job.file_name not in done][state.process_index :: state.num_processes]
    state.wait_for_everyone()  # whoever counts rows while others write them would deal out another list
    if progress is not None and done:
        progress(len(done))
    for start in range(0, len(todo), batch_size):
        _draw(pipeline, folder, todo[start : start + batch_size], config, state.process_index)
        if progress is not None:
            progress(len(todo[start : start + batch_size]))


def _check(
    pipeline: DifficultyGuidedPipeline, config: PoolConfig, jobs: Sequence[ImageJob], others: Mapping[str, Any]
) -> None:
    """Whatever would stop the first batch stops the run before a file is touched."""
    labels = sorted({job.label for job in jobs})
    targets = None if config.target is None else torch.zeros(len(labels))
    pipeline.check_inputs(labels, targets, "pil", config.num_inference_steps)
    if pipeline.classifier is not None:
        pipeline.guide(pipeline.classifier, labels)
    if config.target is not None:
        config.difficulty_guidance.steps(config.num_inference_steps)
    reference = others["reference_classifier"]
    models = [*others["extra_guides"], *([] if reference is None else [reference])]
    pipeline.other_guides(models, labels, targets is not None)
    if config.modes is not None:
        config.mode_guidance.steps(config.num_inference_steps)
        pipeline.check_modes(config.modes.centres, len(config.modes.centres))


def _provenance(pipeline: DifficultyGuidedPipeline, config: PoolConfig, source: str) -> dict[str, Any]:
    source = source or _path_of(pipeline) or type(pipeline).__name__
    return {
        "format": FORMAT,
        "pipeline": source,
        "guide": _guide_name(pipeline, source),
        "weights": {name: None if part is None else fingerprint(part) for name, part in _models_of(pipeline).items()},
        "dtype": str(pipeline.transformer.dtype).removeprefix("torch."),
        "scheduler": {"name": type(pipeline.scheduler).__name__, **_json_values(pipeline.scheduler.config)},
        "settings": config.settings(),
        "classes": {str(k): v for k, v in pipeline.class_names.items()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }


def _models_of(pipeline: DifficultyGuidedPipeline) -> dict[str, nn.Module | None]:
    return {name: part for name, part in pipeline.components.items() if part is None or isinstance(part, nn.Module)}


def _names_of(others: Mapping[str, Any]) -> dict[str, Any]:
    def name(model: nn.Module) -> list:
        return [str(model.config._name_or_path), fingerprint(model)]

    reference = others["reference_classifier"]
    return {
        "extra_guides": [name(guide) for guide in others["extra_guides"]],
        "reference_classifier": None if reference is None else name(reference),
    }


def _guide_name(pipeline: DifficultyGuidedPipeline, source: str) -> str | None:
    if pipeline.classifier is None:
        return None
    name = str(pipeline.classifier.config._name_or_path)
    own = not name or (_path_of(pipeline) and name.startswith(_path_of(pipeline)))
    return f"classifier of {source}" if own else name


def _path_of(pipeline: DifficultyGuidedPipeline) -> str:
    return str(pipeline.config.get("_name_or_path") or "")


def _json_values(config: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if not k.startswith("_") and isinstance(v, bool | int | float | str | None)}


def _check_folder(folder: Path, provenance: Mapping[str, Any], resume: bool, overwrite: bool) -> None:
    if resume and (folder / PROVENANCE).exists():
        _require_same_settings(read_json_object(folder / PROVENANCE), provenance, folder)
    else:
        require_writable_target(folder, overwrite=overwrite)


def _open_pool(folder: Path, provenance: Mapping[str, Any], resume: bool) -> None:
    """Begin a pool, the earlier one put aside until this one is finished; or gather what a killed run has left."""
    if not (resume and (folder / PROVENANCE).exists()):
        _put_aside(folder)
        write_provenance(folder, provenance)
    for torn in folder.rglob(".*.partial"):
        torn.unlink()
    rows = _rows_so_far(folder)
    (folder / ROWS).mkdir(exist_ok=True)
    write_atomically(folder / ROWS / "earlier.jsonl", json_lines(rows))  # no process appends to a line that a kill tore
    for file in (folder / ROWS).glob("[0-9]*.jsonl"):
        file.unlink()


def _put_aside(folder: Path) -> None:
    content = [path for path in folder.iterdir() if path.name not in (LOCK, EARLIER)]
    if content and not (folder / EARLIER).exists():  # else the content is itself unfinished, and the older one is kept
        (folder / EARLIER).mkdir()
        for path in content:
            os.replace(path, folder / EARLIER / path.name)
    else:
        _remove(content)


def _undo(folder: Path) -> None:
    """Not one image came: leave the folder as it was found."""
    _remove([path for path in folder.iterdir() if path.name not in (LOCK, EARLIER)])
    if (folder / EARLIER).exists():
        for path in (folder / EARLIER).iterdir():
            os.replace(path, folder / path.name)
        (folder / EARLIER).rmdir()


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _require_same_settings(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    keys = ("pipeline", "guide", *PARTS, "dtype", "scheduler", "settings", "classes")
    before, after = ({k: json.loads(json.dumps(p.get(k))) for k in keys} for p in (old, new))
    differing = list(differences(before, after))
    if differing:
        raise ValueError(
            f"{folder} was begun with other settings: {'; '.join(differing[:5])}; give the same ones, or another folder"
        )


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """In which settings two records differ, as sentences such as ``settings.seed was 0 and is now 1``."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield f"{name} was {old!r} and is now {new!r}"


def _rows_so_far(folder: Path) -> list[dict[str, Any]]:
    """Rows of images that are surely there: a row is written after its image."""
    rows = read_rows(folder / METADATA) if (folder / METADATA).exists() else []
    for file in sorted((folder / ROWS).glob("*.jsonl")):
        rows += read_rows(file, growing=True)
    rows = {row["file_name"]: row for row in rows}
    return [row for name, row in rows.items() if (folder / name).is_file()]


def _draw(
    pipeline: Callable[..., DifficultyGuidedPipelineOutput],
    folder: Path,
    jobs: Sequence[ImageJob],
    config: PoolConfig,
    process: int,
) -> None:
    targets = None if config.target is None else [job.target_difficulty for job in jobs]
    output = pipeline(
        [job.label for job in jobs],
        target_difficulty=targets,
        guidance_scale=config.guidance_scale,
        num_inference_steps=config.num_inference_steps,
        generator=[torch.Generator().manual_seed(job.seed) for job in jobs],
        difficulty_guidance=config.difficulty_guidance,
        modes=None if config.modes is None else config.modes.centres[[job.mode for job in jobs]],
        mode_guidance=config.mode_guidance,
    )
    measured = [None] * len(jobs) if output.difficulties is None else output.difficulties.tolist()
    for job, image, value in zip(jobs, output.images, measured, strict=True):
        _write(folder, job, image, value, process)


def _write(folder: Path, job: ImageJob, image: Image.Image, difficulty: float | None, process: int) -> None:
    write_image(folder / job.file_name, image)
    path = folder / ROWS / f"{process:05d}.jsonl"
    with path.open("ab") as file:
        file.write(json_lines([{**job.row(), "difficulty": difficulty}]))


def _finish(folder: Path, jobs: Sequence[ImageJob]) -> None:
    rows = {row["file_name"]: row for row in _rows_so_far(folder)}
    missing = [job.file_name for job in jobs if job.file_name not in rows]
    if missing:
        raise OSError(f"{len(missing)} images of {folder} are missing ({missing[0]}, ...); run the same with --resume")
    ordered = sorted((rows[job.file_name] for job in jobs), key=lambda row: (row["label"], row["file_name"]))
    write_atomically(folder / METADATA, json_lines(ordered))
    _remove([path for path in (folder / ROWS, folder / EARLIER) if path.exists()])
