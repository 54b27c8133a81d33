"""How far a pool is, and whether its images are good, as far as its folder tells.

    images per second = rows written since the run began / seconds from its beginning to its last row

A distilled set, which no run has filled, can be verified as well.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dag_diffusion.data.dataset_cards import renew_card
from dag_diffusion.data.files import locked, read_json_object
from dag_diffusion.data.pools import PROVENANCE, Pool, read_pool, write_provenance
from dag_diffusion.data.rows import METADATA, read_rows
from dag_diffusion.processes import fail_together, is_main_process
from dag_diffusion.progress import Progress

from .repairing.faults import Faults, find_faults
from .repairing.repair import FAULTS
from .work_queue import EARLIER_ROWS, ROWS, RowCount, damaged_images, rows_so_far, runs_of, usual_size

if TYPE_CHECKING:
    from dag_diffusion.sampling.scoring import Scores


@dataclass(frozen=True, kw_only=True)
class PoolStatus:
    """How far a pool is, as far as its folder alone tells.

    Attributes:
        done, total: images.
        classes: how many the pool has.
        finished: whether ``metadata.jsonl`` is there.
        images_per_second: of the run that fills the pool, of all its processes; None before its first batch.
        seconds_since_last: since its last batch; None if there was none.
        damaged: file names of images that are cut off or altered; None if that was not checked.
        faults: what else is wrong with images; None if that was not checked.
    """

    done: int
    total: int
    classes: int
    finished: bool
    images_per_second: float | None = None
    seconds_since_last: float | None = None
    damaged: list[str] | None = None
    faults: Faults | None = None

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None if there is none."""
        return (self.total - self.done) / self.images_per_second if self.images_per_second else None


def pool_status(
    folder: str | Path,
    *,
    verify: bool = False,
    classifier: Any = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> PoolStatus:
    """Look at a pool that ``generate`` has begun, or verify any finished pool or set.

    Args:
        folder: of the pool or set.
        verify: also check every image; see ``damaged_images`` and ``find_faults``.
        classifier: with ``verify``, whose features and predictions tell near copies and images of another class.
        name: of the classifier.
        progress: called with stage, done and total.

    Raises:
        FileNotFoundError: no pool was begun there.
        ValueError: it was filled otherwise, so that it has no progress to show; or as of ``find_faults``.
    """
    folder = Path(folder)
    if classifier is not None and not verify:
        raise ValueError("a classifier looks at images only to verify them; add verify=True, or leave it out")
    if not (folder / PROVENANCE).exists():
        raise FileNotFoundError(
            f"{folder} is no pool that fill_pool() has begun, since it has no {PROVENANCE}; give the folder of one"
        )
    record = read_json_object(folder / PROVENANCE)
    settings = record.get("settings", {})
    if not (isinstance(settings, dict) and "images_per_class" in settings):
        if not verify:
            raise ValueError(f"{folder} is a pool, but not of fill_pool(): its {PROVENANCE} names no settings")
        return _of_set(read_pool(folder), classifier, name, progress)
    labels, classes = settings.get("labels"), len(record.get("classes", {}))
    classes = classes if labels is None else len(set(labels))
    finished = (folder / METADATA).exists() and not (folder / ROWS).exists()
    status = PoolStatus(
        done=len(read_rows(folder / METADATA) if finished else rows_so_far(folder)),
        total=settings["images_per_class"] * classes,
        classes=classes,
        finished=finished,
    )
    if verify:
        damaged = _damaged(folder)
        rows = [row for row in rows_so_far(folder) if row["file_name"] not in set(damaged)]
        pool = Pool(folder, sorted(rows, key=lambda row: (row["label"], row["file_name"])), record)
        faults = find_faults(pool, classifier, name=name, progress=progress) if rows else Faults(looked_for=FAULTS[:2])
        status = replace(status, damaged=damaged, faults=faults)
    return status if finished else _with_speed(status, folder)


def _of_set(pool: Pool, classifier: Any, name: str | None, progress: Progress | None) -> PoolStatus:
    faults = find_faults(pool, classifier, name=name, progress=progress)
    return PoolStatus(
        done=len(pool),
        total=len(pool),
        classes=len(pool.class_names),
        finished=True,
        damaged=list(faults.unreadable),
        faults=faults,
    )


def record_faults(folder: str | Path, faults: Faults) -> None:
    """Write how many images have which fault into ``pool.json``, from where report and card take it.

    Args:
        folder: of a finished pool or set.
        faults: as ``find_faults`` found them there.

    Raises:
        FileExistsError: a run works on the pool.
        ValueError: it is not finished.
    """
    folder = Path(folder)
    with locked(folder):
        pool = read_pool(folder)
        record = {**pool.provenance, "faults": faults.record()}
        write_provenance(folder, record)
        renew_card(folder, pool.rows, record)


def looked_through(folder: Path, classifier: Any, name: str, scores: "Scores | None" = None) -> Pool:
    """Find all faults of a finished pool or set and record them there; every process has to call it.

    Args:
        folder: of the pool or set.
        classifier: whose features and predictions tell near copies and images of another class.
        name: of the classifier.
        scores: as of ``find_faults``.

    Returns:
        The pool or set, with the record.

    Raises:
        FileExistsError, ValueError: as of ``record_faults`` and ``find_faults``.
    """
    pool = read_pool(folder)
    faults = find_faults(pool, classifier, name=name, scores=scores)
    with fail_together():
        if is_main_process():
            record_faults(folder, faults)
    return replace(pool, provenance={**pool.provenance, "faults": faults.record()})


def _with_speed(status: PoolStatus, folder: Path) -> PoolStatus:
    earlier, runs = folder / ROWS / EARLIER_ROWS, runs_of(folder)
    if not (earlier.exists() and runs):  # its run has not yet looked at what is there, or was killed before that
        return status
    run = max(runs, key=lambda path: path.stat().st_mtime)
    new, written = RowCount(run)(), [file.stat().st_mtime for file in run.glob("*.jsonl")]
    last, begun = max(written, default=None), earlier.stat().st_mtime
    return replace(
        status,
        done=len(read_rows(earlier)) + new,
        images_per_second=None if last is None or last <= begun else new / (last - begun),
        seconds_since_last=None if last is None else max(0.0, time.time() - last),  # clocks of machines differ
    )


def _damaged(folder: Path) -> list[str]:
    """Images with a row that are absent, cut off, altered, or of another size than most."""
    rows = rows_so_far(folder, absent=True)
    return damaged_images(folder, rows, usual_size(folder, rows))
