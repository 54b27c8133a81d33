"""How far a pool is: finished, being filled, or left by a run that ended before its time.

images a second = rows written since the run began / seconds from its beginning to its last row
"""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .files import read_json_object
from .metadata import METADATA, read_rows
from .pools import PROVENANCE
from .unfinished import EARLIER_ROWS, ROWS, RowCount, damaged_images, image_size, rows_so_far, runs_of


@dataclass(frozen=True)
class PoolStatus:
    """What can be seen from the folder alone, on whatever machine.

    Attributes:
        done, total: images.
        classes: how many the pool has.
        finished: whether ``metadata.jsonl`` is there.
        images_per_second: of the run that fills the pool, of all its processes; None before its first batch.
        seconds_since_last: since its last batch; None if there was none.
        damaged: file names of images that are cut off or altered; None if nobody looked.
    """

    done: int
    total: int
    classes: int
    finished: bool
    images_per_second: float | None = None
    seconds_since_last: float | None = None
    damaged: list[str] | None = None

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None if there is none."""
        return (self.total - self.done) / self.images_per_second if self.images_per_second else None


def pool_status(folder: str | Path, *, verify: bool = False) -> PoolStatus:
    """Look at a pool that ``generate`` has begun.

    Args:
        verify: also check every image; see ``unfinished.damaged_images``.

    Raises:
        FileNotFoundError: nobody has begun a pool there.
    """
    folder = Path(folder)
    if not (folder / PROVENANCE).exists():
        raise FileNotFoundError(f"{folder} is no pool that `generate` has begun, since it has no {PROVENANCE}")
    record = read_json_object(folder / PROVENANCE)
    settings, classes = record.get("settings", {}), len(record.get("classes", {}))
    if not (isinstance(settings, dict) and "images_per_class" in settings):
        raise ValueError(f"{folder} is a pool, but not of `generate`: its {PROVENANCE} names no settings")
    labels = settings.get("labels")
    classes = classes if labels is None else len(set(labels))
    damaged = _damaged(folder) if verify else None
    total = settings["images_per_class"] * classes
    if (folder / METADATA).exists() and not (folder / ROWS).exists():
        return PoolStatus(len(read_rows(folder / METADATA)), total, classes, True, damaged=damaged)
    earlier, runs = folder / ROWS / EARLIER_ROWS, runs_of(folder)
    if not (earlier.exists() and runs):  # killed before it had looked around, or about to
        return PoolStatus(len(rows_so_far(folder)), total, classes, False, damaged=damaged)
    run = max(runs, key=lambda path: path.stat().st_mtime)
    new, written = RowCount(run)(), [file.stat().st_mtime for file in run.glob("*.jsonl")]
    last, begun = max(written, default=None), earlier.stat().st_mtime
    rate = None if last is None or last <= begun else new / (last - begun)
    quiet = None if last is None else max(0.0, time.time() - last)  # clocks of machines differ
    return PoolStatus(len(read_rows(earlier)) + new, total, classes, False, rate, quiet, damaged)


def _damaged(folder: Path) -> list[str]:
    """Images with a row that are absent, cut off, altered, or of another size than most."""
    rows = rows_so_far(folder, absent=True)
    sizes = Counter(size for row in rows if (size := image_size(folder / row["file_name"])))
    return damaged_images(folder, rows, sizes.most_common(1)[0][0] if sizes else None)
