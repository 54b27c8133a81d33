"""What one process draws of a pool: batches that no other has taken, in pieces that fit into memory, written behind.

    claim a batch -> draw a piece -> (too large: half of it) -> write it in a thread while the next is drawn

Batches are fixed stretches of the plan: an image is drawn in the same company whichever process draws it.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dag_diffusion.data.files import write_image

from .drawing.drawer import Drawn
from .plan import ImageJob, batch_end
from .work_queue import append_rows, ask_to_stop, claim, is_asked_to_stop, require_current

logger = logging.getLogger(__name__)
Draw = Callable[[Sequence[ImageJob]], Drawn]


def drawn_pieces(
    draw: Draw, run: Path, jobs: Sequence[ImageJob], done: set[str], batch_size: int, asked: threading.Event
) -> Iterator[Drawn]:
    """Draw each batch that has images missing and that no other process draws, in pieces that fit into memory."""
    size = batch_size
    for number, batch in enumerate(batches(jobs, batch_size)):
        at = 0
        require_current(run)  # else its missing folder would be told by the name of a file in it
        if asked.is_set():
            ask_to_stop(run)
        if is_asked_to_stop(run):
            return
        if _all_done(batch, done) or not claim(run, number):
            continue
        while at < len(batch):
            piece = batch[at : batch_end(batch, at, size)]
            # drawn whole for the sake of one missing image: in other company it would round otherwise
            if not _all_done(piece, done):
                drawn = _draw_if_it_fits(draw, piece)
                if drawn is None:
                    size = (len(piece) + 1) // 2
                    logger.warning("out of memory with %d images at a time, going on with %d", len(piece), size)
                    continue
                yield drawn
            at += len(piece)


def batches(jobs: Sequence[ImageJob], size: int) -> Iterator[Sequence[ImageJob]]:
    """Fixed stretches of the plan, whichever images are there and whichever process draws them."""
    start = 0
    while start < len(jobs):
        end = batch_end(jobs, start, size)
        yield jobs[start:end]
        start = end


def _all_done(jobs: Sequence[ImageJob], done: set[str]) -> bool:
    return all(job.file_name in done for job in jobs)


def _draw_if_it_fits(draw: Draw, jobs: Sequence[ImageJob]) -> Drawn | None:
    """The images, or None if they need more memory than there is and fewer of them might not."""
    from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

    try:
        return draw(jobs)
    except RuntimeError as error:
        if batch_end(jobs, 0, 1) == len(jobs) or not should_reduce_batch_size(error):
            raise
    clear_device_cache(garbage_collection=True)  # outside of the handler, since the error holds on to the memory
    return None


@contextmanager
def written_behind(run: Path, process: int, *, scored: bool = False) -> Iterator[Callable[[Drawn], None]]:
    """A function that writes images in a thread, so that the next are drawn meanwhile; one batch waits at most.

    An error, such as of a full disk, comes with the next call or at the end.

    Args:
        scored: whether somebody has measured the others, so that what the guide says of these does not compare.
    """
    last: list[Future] = []

    def wait() -> None:
        if last:
            last.pop().result()

    def write(drawn: Drawn) -> None:
        wait()
        last.append(thread.submit(_write, run, process, drawn, scored))

    with ThreadPoolExecutor(1, "writer") as thread:
        yield write
        wait()


def _write(run: Path, process: int, drawn: Drawn, scored: bool) -> None:
    require_current(run)
    for job, image, _ in drawn:
        write_image(run.parent.parent / job.file_name, image)
    append_rows(run, process, [{**job.row(), "difficulty": None if scored else found} for job, _, found in drawn])
