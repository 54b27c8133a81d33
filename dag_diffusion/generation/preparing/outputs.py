"""Modes in a file, a probe in a folder: made once, and found there when the same is asked for again.

output is there, of the same images, models and settings -> read      of others -> refused, or made anew if asked
output is not there -> made, in parts that are kept from kills -> written
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from dag_diffusion.data.files import is_made_so, read_json_object, require_no_mount, require_replaceable
from dag_diffusion.data.pools import Pool
from dag_diffusion.generation.modes import Modes, require_replaceable_modes
from dag_diffusion.guidance.probes import description_of
from dag_diffusion.processes import fail_together, gather, is_main_process
from dag_diffusion.progress import Progress
from dag_diffusion.sampling.targets import TargetDistribution

from .kept_parts import kept_parts
from .mode_search import find_pool_modes, settings_of_modes
from .probe_training import FIDELITY, TRAINING, Fidelity, ProbeConfig, record_of_probe, train_probe

if TYPE_CHECKING:
    from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline


def modes_at(
    output: Path,
    pipeline: Any,
    real: Pool,
    per_class: int,
    *,
    target: TargetDistribution | None = None,
    average: int = 1,
    seed: int = 0,
    batch_size: int = 32,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Modes:
    """The modes of a pool in a file: found and written, or read where an earlier call has done so.

    Every one of several processes has to call it.

    Args:
        output: file of the modes.
        pipeline, real, per_class, target, average, seed, batch_size, progress: as of ``find_pool_modes``.
        overwrite: replace modes, or parts of them, that are of other images or settings.

    Raises:
        ValueError: as of ``find_pool_modes``; or there are modes of other images or settings.
        FileExistsError: something else is there, or another run works on it.
        StoppedError: SIGTERM came; what is encoded is kept.
    """
    how: dict[str, Any] = {"target": target, "average": average, "seed": seed}
    with kept_parts(output, overwrite=overwrite) as kept:
        modes = None
        with fail_together():
            if is_main_process() and (earlier := require_replaceable_modes(output)) is not None:
                asked = settings_of_modes(pipeline, real, per_class, **how)
                told = f"{output} holds modes of other images or settings"
                how["images"] = asked["images"]  # not hashed again by the search
                modes = earlier if is_made_so(earlier.settings, asked, told, overwrite=overwrite) else None
        if (modes := gather(modes)[0]) is None:
            how |= {"batch_size": batch_size, "kept": kept, "progress": progress}
            modes = find_pool_modes(pipeline, real, per_class, **how)
            with fail_together():
                if is_main_process():
                    modes.save(output)
        kept.remove()
    return modes


def probe_at(
    folder: Path,
    pipeline: "DifficultyGuidedPipeline",
    guides: Sequence[nn.Module],
    config: ProbeConfig,
    *,
    labels: Sequence[int] | None = None,
    batch_size: int = 50,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Fidelity:
    """How faithful the probe in a folder is: trained and saved, or by an earlier call that has done so.

    Every one of several processes has to call it.

    Args:
        folder: of the probe, for ``load_probe``.
        pipeline, guides, config, labels, batch_size, progress: as of ``train_probe``.
        overwrite: replace a probe, or runs for one, of another training.

    Raises:
        ValueError: as of ``train_probe``; or there is a probe of another training.
        FileExistsError: something else is there, or another run works on it.
        StoppedError: SIGTERM came; the runs that are drawn are kept.
    """
    how: dict[str, Any] = {"labels": labels, "batch_size": batch_size}
    with kept_parts(folder, overwrite=overwrite) as kept:
        fidelity = None
        with fail_together():
            if is_main_process():
                require_place_for_probe(folder)
                if guides and _is_probe(folder):
                    earlier = description_of(read_json_object(folder / "config.json")) or {}
                    asked = record_of_probe(pipeline, guides, config, **how)
                    told = f"{folder} holds a probe of another training"
                    if is_made_so(earlier.get(TRAINING, {}), asked, told, overwrite=overwrite):
                        fidelity = Fidelity(**earlier[FIDELITY])
        if (fidelity := gather(fidelity)[0]) is None:
            probe, fidelity = train_probe(pipeline, guides, config, **how, kept=kept, progress=progress)
            with fail_together():
                if is_main_process():
                    save_probe(probe, folder)
        kept.remove()
    return fidelity


def require_place_for_probe(folder: Path) -> None:
    """Check that a folder may become that of a probe: absent or empty, or an earlier one's, of whichever training.

    Raises:
        FileExistsError: it holds something that would be lost.
        PermissionError: it, or the folder above it, cannot be written.
    """
    require_replaceable(folder, "probe", _is_probe, overwrite=True)
    require_no_mount(folder)


def _is_probe(folder: Path) -> bool:
    try:
        return description_of(read_json_object(folder / "config.json")) is not None
    except (OSError, ValueError):
        return False


def save_probe(probe: Any, folder: str | Path) -> None:
    """Write a probe: each file whole beside its place, then moved there."""
    folder = Path(folder).resolve()  # behind a link, on whose disk alone a file can be moved there
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir(parents=True)
    try:
        probe.save_pretrained(partial)
        folder.mkdir(exist_ok=True)
        for name in ("model.safetensors", "config.json"):
            os.replace(partial / name, folder / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
