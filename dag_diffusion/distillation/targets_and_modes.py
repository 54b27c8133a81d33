"""What pools and sets follow, found in the real training images: difficulties, the target, and modes."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dag_diffusion import embedded
from dag_diffusion.data.files import json_line, write_atomically
from dag_diffusion.data.pools import PROVENANCE, Pool, digest_of_images
from dag_diffusion.data.sources.records import rows_in
from dag_diffusion.generation.modes import Modes
from dag_diffusion.generation.preparing.kept_parts import kept_parts
from dag_diffusion.generation.preparing.mode_merging import merge_modes
from dag_diffusion.generation.preparing.mode_search import find_pool_modes
from dag_diffusion.processes import fail_together, gather, is_main_process
from dag_diffusion.progress import Progress, renamed
from dag_diffusion.sampling.auto_target import of_size
from dag_diffusion.sampling.references import reference_named
from dag_diffusion.sampling.score_cache import score_and_record
from dag_diffusion.sampling.target_parser import as_target
from dag_diffusion.sampling.targets import TargetDistribution

from .config import DistillationInputs
from .pools import pool_folder
from .setup import DistillationSetup

SCORES, MODES = "reference.jsonl", "modes.safetensors"  # of the real training images, in the folder of the run
MOST_ENCODED = 5000, 100_000  # real images in which modes are looked for: of a class, and of all; 1.6 GB at 256 px


def reference_for(setup: DistillationSetup, output: Path, progress: Progress | None = None) -> dict[str, np.ndarray]:
    """Difficulties of real images by class: embedded, given, or of the training images by the guide.

    The last are written into ``output``.

    Args:
        progress: called with stage, done and total.
    """
    if setup.embedded_reference:
        return reference_named(None, setup.class_names)
    if setup.inputs.reference is not None:
        return reference_named(Path(setup.inputs.reference), setup.class_names)
    with fail_together():
        if is_main_process() and (output / SCORES).exists():
            _drop_removed(setup.train, output / SCORES)
    scored = renamed(progress, "real images scored")
    scorers, among = {setup.guide_name: setup.pipeline.classifier}, setup.inputs.among
    score_and_record(setup.train, scorers, output / SCORES, among=among, progress=scored)
    return reference_named(output / SCORES, setup.class_names)


def _drop_removed(pool: Pool, scores: Path) -> None:
    """Leave out the rows of images that were removed since a run was begun, which its target would count.

    Rows of which no image is there are of another folder, which is refused where they are scored.
    """
    there, rows = {row["file_name"] for row in pool.rows}, rows_in(scores)
    left = [row for row in rows if row["file_name"] in there]
    if 0 < len(left) < len(rows):
        write_atomically(scores, map(json_line, left))


def target_for(
    setup: DistillationSetup, reference: Mapping[str, np.ndarray], output: Path, ipc: int | None = None
) -> TargetDistribution:
    """The target that was asked for, or the reference itself, for sets of ``ipc`` images per class if given."""
    if setup.embedded_reference:
        own = TargetDistribution.from_reference(reference, text="reference")
    else:
        file = setup.inputs.reference or str(output / SCORES)
        own = TargetDistribution.from_reference(reference, name=setup.reference_name, text=file)
    target = as_target(setup.inputs.target or "reference", setup.class_names, reference=own)
    return target if ipc is None else of_size(target, ipc)


def number_of_modes(inputs: DistillationInputs, count: int) -> int:
    """Of each class, where ``count`` are wanted: so many are found, but of the embedded images those that there are."""
    if not has_embedded_modes(inputs):
        return count
    return min(Counter(Modes.load(embedded.MODES).labels.tolist()).values())


def has_embedded_modes(inputs: DistillationInputs) -> bool:
    """Whether the embedded images are drawn, whose modes are embedded too."""
    return inputs.pipeline is None and inputs.train is None


def modes_for(setup: DistillationSetup, output: Path, count: int, batch_size: int, progress: Progress) -> Modes:
    """Clusters of the real training images, ``count`` of each class: the embedded ones, or found and kept.

    Where images have changed since, they are found anew.

    Raises:
        ValueError: and a pool is drawn to the old ones already.
    """
    if has_embedded_modes(setup.inputs):
        return merge_modes(Modes.load(embedded.MODES), count)
    of_class, of_all = MOST_ENCODED
    most = max(count, min(of_class, of_all // len(setup.class_names)))
    images = setup.train.select(_some_of_each_class(setup.train, most))
    with fail_together():
        digest = digest_of_images(images) if is_main_process() else ""
        known = _kept_modes(output, digest) if is_main_process() else None
    known = gather(known)[0]
    if known is not None:
        return known
    encoded = renamed(progress, "real images encoded")
    # a run has no other way out of images that changed while it was stopped than to begin with them anew
    with kept_parts(output / MODES, overwrite=True) as kept:
        told: dict[str, Any] = {"batch_size": batch_size, "kept": kept, "progress": encoded, "images": digest}
        found = find_pool_modes(setup.pipeline, images, count, **told)
        with fail_together():
            if is_main_process():
                found.save(output / MODES)
        kept.remove()
    return found


def _kept_modes(output: Path, images: str) -> Modes | None:
    """What was found before in images of this digest; of versions that do not say in which, as it is."""
    if not (output / MODES).exists():
        return None
    known = Modes.load(output / MODES)
    if known.images in ("", images):
        return known
    if (pool_folder(output, "guided") / PROVENANCE).exists():
        raise ValueError(
            f"training images have changed since the guided pool in {output} was begun, which is drawn to modes of "
            "them; restore them, or choose another output"
        )
    return None


def _some_of_each_class(pool: Pool, count: int) -> np.ndarray:
    own = {label: np.flatnonzero(pool.labels == label) for label in pool.class_names}
    drawn = [np.random.default_rng([0, label]).permutation(rows)[:count] for label, rows in own.items()]
    return np.sort(np.concatenate(drawn))
