"""``POOL/generation.log``: what a run did and when, for whoever looks after a night.

Process 0 writes it.  The others write ``generation-00003.log`` and so on, once they have something to say.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class _PatientHandler(logging.FileHandler):
    """A full disk shall stop the run by the image that it cannot write, not by a traceback for each line of the log."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        pass


@contextmanager
def run_log(folder: Path, process: int) -> Iterator[logging.Logger]:
    """A logger that appends to the log of this process, as do the warnings of the whole library meanwhile.

    It belongs to no hierarchy, so that its lines do not come to the terminal too.
    """
    name = "generation.log" if process == 0 else f"generation-{process:05d}.log"
    handler = _PatientHandler(folder / name, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.Logger(f"generation in {folder}", logging.INFO)
    log.addHandler(handler)
    library = logging.getLogger(__package__)
    library.addHandler(handler)
    try:
        yield log
    except BaseException as error:
        log.error("ended by %s", f"{type(error).__name__}: {error}".rstrip(": "))
        raise
    finally:
        library.removeHandler(handler)
        handler.close()
