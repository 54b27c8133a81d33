"""A pool while it is being filled: whose turn a batch is, which images are there, and what a kill has left.

    POOL/pool.json   POOL/Bag/00000.png ...   POOL/.rows/earlier.jsonl   POOL/.rows/RUN/{00001.jsonl,000012.claim,stop}

Each process appends rows to a file of its own, a row after its image, and takes a batch by making its claim file, which
only one can.  Nothing else is shared, so a folder on a network disk is enough.  Each run has a folder of its own below
``.rows``: a process left over from an earlier one finds its own gone, and can neither claim nor write any more.
``metadata.jsonl`` comes at the end.  ``pool_state`` reads from these files how far a pool is.
"""

import logging
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from dag_diffusion.data.class_names import folder_names
from dag_diffusion.data.dataset_cards import card_in, describe
from dag_diffusion.data.files import LOCK, json_line, json_lines, read_json_object, write_atomically
from dag_diffusion.data.layouts import class_folders
from dag_diffusion.data.pools import EARLIER, PROVENANCE, require_place_for_pool, write_provenance
from dag_diffusion.data.rows import METADATA, Row, read_rows, with_columns

from .same_settings import require_same_settings

if TYPE_CHECKING:  # torch would be imported with it, for those who only look at a pool
    from .plan import ImageJob

logger = logging.getLogger(__name__)
ROWS = ".rows"
EARLIER_ROWS, STOP = "earlier.jsonl", "stop"
NO_IMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises


def begin(folder: Path, provenance: Mapping[str, Any], *, resume: bool, overwrite: bool) -> bool:
    """Open a folder for a pool, an earlier one put aside until this one is finished, or go on with one begun before.

    Returns:
        Whether this run has begun it, so that all that is in the folder is its own.

    Raises:
        FileExistsError: the folder holds something else, or a pool while neither ``resume`` nor ``overwrite`` is given.
        ValueError: the pool to go on with has other settings.
    """
    anew = not (resume and (folder / PROVENANCE).exists())
    if not anew:
        require_same_settings(read_json_object(folder / PROVENANCE), provenance, folder)
    else:
        require_place_for_pool(folder, overwrite=overwrite)
        with undone_if_empty(folder):
            _put_aside(folder)
            write_provenance(folder, provenance)
    for torn in folder.rglob(".*.partial"):
        if not torn.is_dir():  # as of a set that was saved within the pool
            torn.unlink(missing_ok=True)
    return anew


def folders_begun(folder: Path, class_names: Mapping[int, str]) -> dict[int, str]:
    """Class folder of each label in a pool to go on with, whose folders may have the plain names that once all had."""
    plain, folders = folder_names(class_names), class_folders(class_names)
    earlier = set(plain.values()) - set(folders.values())
    return plain if any((folder / name).is_dir() for name in earlier) else folders


def take_stock(
    folder: Path,
    jobs: "Sequence[ImageJob]",
    size: tuple[int, int] | None,
    *,
    again: Collection[str] = (),
    check: bool = True,
) -> tuple[int, Path]:
    """Gather the rows of images that are whole and as planned, and open a run; all others are drawn again.

    Args:
        size: (width, height) of every image; None: that of most of them.
        again: file names of images that are to be drawn again, so that nobody need be told.
        check: whether to look at the files too.

    Returns:
        How many images are there, and the folder of the run.
    """
    rows, planned = rows_so_far(folder), {job.file_name: job for job in jobs}
    kept = [row for row in rows if row["file_name"] in planned and planned[row["file_name"]].made(row)]
    damaged = set(damaged_images(folder, kept, size or usual_size(folder, kept))) if check else set()
    kept = [row for row in kept if row["file_name"] not in damaged]
    names = {row["file_name"] for row in kept}
    if lost := sum(row["file_name"] not in names and row["file_name"] not in again for row in rows):
        logger.warning(
            "%d images of %s are damaged, of another size, or not as planned; they are drawn again", lost, folder
        )
    (folder / ROWS).mkdir(exist_ok=True)
    write_atomically(folder / ROWS / EARLIER_ROWS, json_lines(kept))  # none appends to a line that a kill tore
    for old in runs_of(folder):
        # renamed first, so that a process left over from that run finds nothing to write to
        shutil.rmtree(old.rename(old.with_name(f".{old.name}")))
    run = folder / ROWS / uuid.uuid4().hex[:12]
    run.mkdir()
    if len(kept) < len(jobs):  # else a finished pool stays one
        (folder / METADATA).unlink(missing_ok=True)
    return len(kept), run


def runs_of(folder: Path) -> list[Path]:
    """Folders of the run that fills the pool, or of the last that did."""
    return [path for path in (folder / ROWS).glob("*") if path.is_dir()]


def earlier_images(folder: Path) -> set[str]:
    """File names of the images that were there when this run began."""
    return {row["file_name"] for row in read_rows(folder / ROWS / EARLIER_ROWS)}


def rows_so_far(folder: Path, *, absent: bool = False) -> list[Row]:
    """Rows of images that are there, a row being written after its image; with ``absent`` of those gone since too."""
    rows = read_rows(folder / METADATA) if (folder / METADATA).exists() else []
    for file in sorted((folder / ROWS).rglob("*.jsonl")):
        rows += read_rows(file, growing=True)
    rows.sort(key=times_redrawn)  # stable: of rows of one image the last counts, and one drawn again before any other
    by_name = {row["file_name"]: row for row in rows}
    return [row for name, row in by_name.items() if absent or (folder / name).is_file()]


def times_redrawn(row: Mapping[str, Any]) -> int:
    """How often an image was drawn again, by its row."""
    times = row.get("redrawn")
    return times if isinstance(times, int) else 0


def image_size(path: Path) -> tuple[int, int] | None:
    """(width, height) by the header of a PNG, None if it has none."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.size
    except NO_IMAGE:
        return None


def usual_size(folder: Path, rows: Sequence[Row]) -> tuple[int, int] | None:
    """(width, height) of most images by their headers; None if there are none."""
    sizes = Counter(size for row in rows if (size := image_size(folder / row["file_name"])))
    return sizes.most_common(1)[0][0] if sizes else None


def damaged_images(folder: Path, rows: Sequence[Row], size: tuple[int, int] | None) -> list[str]:
    """File names of images that are cut off, altered, or of another size than (width, height), if one is given.

    A PNG's checksums cover its pixels, so they are not decoded: a quarter of a million take a minute or two.
    """

    def is_whole(row: Row) -> bool:
        try:
            with Image.open(folder / row["file_name"], formats=["PNG"]) as image:
                right = size is None or image.size == size
                image.verify()
                return right
        except NO_IMAGE:
            return False

    with ThreadPoolExecutor() as threads:
        return [row["file_name"] for row, good in zip(rows, threads.map(is_whole, rows), strict=True) if not good]


def claim(run: Path, batch: int) -> bool:
    """Take a batch, by its number in the plan, unless another process has; atomic on local and network disks."""
    try:
        (run / f"{batch:06d}.claim").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def ask_to_stop(run: Path) -> None:
    """Let no process of a run take another batch."""
    (run / STOP).touch()


def is_asked_to_stop(run: Path) -> bool:
    """Whether one process of the run was asked to stop, or has failed."""
    return (run / STOP).exists()


def require_current(run: Path) -> None:
    """Refuse to write into a pool that a later run has taken over.

    Raises:
        FileNotFoundError: one has.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"a later run has taken over {run.parent.parent}; this one ends, nothing is to be done")


def append_rows(run: Path, process: int, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows of images that are written to the file of one process."""
    with (run / f"{process:05d}.jsonl").open("ab") as file:
        file.write(json_lines(rows))


class RowCount:
    """Counts the rows that the processes of a run have written; a call reads what was appended since the last one."""

    def __init__(self, run: Path) -> None:
        self.run, self._rows = run, 0
        self._read: dict[Path, int] = {}  # bytes

    def __call__(self) -> int:
        for path in self.run.glob("*.jsonl"):
            with suppress(FileNotFoundError), path.open("rb") as file:  # gone if the pool was finished just now
                file.seek(self._read.get(path, 0))
                added = file.read()
                self._read[path] = self._read.get(path, 0) + len(added)
                self._rows += added.count(b"\n")
        return self._rows


def rows_of_all(folder: Path, jobs: "Sequence[ImageJob]", *, patience: float = 0.0) -> list[Row]:
    """The rows of a pool that is all there, by label and file name.

    Args:
        patience: seconds to wait for what seems to be missing, since a network disk may list a file that another
            machine has written only after a while.

    Raises:
        OSError: an image is missing.
    """
    deadline = time.monotonic() + patience
    while missing := _missing(rows := {row["file_name"]: row for row in rows_so_far(folder)}, jobs):
        if time.monotonic() >= deadline:
            raise OSError(f"{len(missing)} images of {folder} are missing ({missing[0]}, ...); go on with resume=True")
        time.sleep(1)
    return sorted((rows[job.file_name] for job in jobs), key=lambda row: (row["label"], row["file_name"]))


def finish(
    folder: Path,
    jobs: "Sequence[ImageJob]",
    *,
    patience: float = 0.0,
    given_up: Mapping[str, str] | None = None,
    repaired: Mapping[str, Any] | None = None,
) -> None:
    """Write ``metadata.jsonl`` and remove what was needed only until then.

    Args:
        patience: as of ``rows_of_all``.
        given_up: file name to fault of the images that no repair could mend, for their column ``fault``; None leaves
            that as it is.
        repaired: what else the record says of a repair.

    Raises:
        OSError: an image is missing.
    """
    ordered = rows_of_all(folder, jobs, patience=patience)
    if given_up is not None:
        ordered = [_with_fault(row, given_up.get(row["file_name"])) for row in ordered]
    write_atomically(folder / METADATA, map(json_line, ordered))
    record, card = read_json_object(folder / PROVENANCE), card_in(folder) or card_in(folder / EARLIER)
    if any("redrawn" in row for row in ordered) or repaired is not None:
        record |= {"redrawn": sum(times_redrawn(row) > 0 for row in ordered), **(repaired or {})}
        write_provenance(folder, record)
    _remove([path for path in (folder / ROWS, folder / EARLIER) if path.exists()])
    describe(folder, ordered, record, earlier=card)


def _with_fault(row: Row, fault: str | None) -> Row:
    kept: Any = {name: value for name, value in row.items() if name != "fault"}
    return with_columns(kept, {} if fault is None else {"fault": fault})


def _missing(rows: Mapping[str, Any], jobs: "Sequence[ImageJob]") -> list[str]:
    return [job.file_name for job in jobs if not (job.file_name in rows and job.made(rows[job.file_name]))]


@contextmanager
def undone_if_empty(folder: Path) -> Iterator[None]:
    """Leave the folder as it was found if something fails before one image has come."""
    try:
        yield
    except BaseException:
        if not rows_so_far(folder):
            _remove([path for path in folder.iterdir() if path.name not in (LOCK, EARLIER)])
            if (folder / EARLIER).exists():
                for path in (folder / EARLIER).iterdir():
                    os.replace(path, folder / path.name)
                (folder / EARLIER).rmdir()
        raise


def _put_aside(folder: Path) -> None:
    content = [path for path in folder.iterdir() if path.name not in (LOCK, EARLIER)]
    if content and not (folder / EARLIER).exists():  # else the content is itself unfinished, and the older one is kept
        (folder / EARLIER).mkdir()
        for path in content:
            os.replace(path, folder / EARLIER / path.name)
    else:
        _remove(content)


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
