"""Whatever ends a command, as one line for people; ``DAG_DIFFUSION_DEBUG=1`` shows the traceback above it.

    our ValueError, OSError -> its own words        the system's OSError -> which file, what of it, and what to do
                                                    another library's -> whose, what, and a way out if we know one
    out of our own lines, of another kind -> a fault of ours, and how to see where

Libraries raise what they like, such as ``SafetensorError``, ``zlib.error`` or ``KeyError``, so that none is listed as
the only ones: what is not known by name still ends in a line.
"""

import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Collection
from pathlib import Path

from dag_diffusion.processes import is_started

FAILURE = "failure"  # what all processes that fail have to say is one thing: why the command ends
DEBUG = "DAG_DIFFUSION_DEBUG"
OURS = "dag_diffusion"
WRITTEN_FOR_PEOPLE = (ValueError, OSError, FloatingPointError)  # what our own refusals are
SMALLER = ("--batch-size", "--size", "--at-once")  # options that memory depends on
MORE_STEPS = {"--accumulation": "a larger --accumulation", "--gradient-checkpointing": "--gradient-checkpointing"}
FULL = (errno.ENOSPC, errno.EDQUOT)
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc")
ADVICE = {  # names of exception classes, since importing their libraries would take seconds
    "SafetensorError": "a .safetensors file is broken or no such file; download it again, or save it anew",
    "UnpicklingError": "a file of weights is broken or none; download it again, or save it as safetensors",
    "BadZipFile": "a file of weights or an archive is broken; download it again, or save it anew",
    "ModuleNotFoundError": "a package is missing; install it with pip",
    "ImportError": "a package is missing or does not fit the others; install it again with pip",
    "RecursionError": "a file is nested too deeply, or a link leads into itself; mend or remove it",
    "DecompressionBombError": "an image is too large; shrink it, or remove it",
    "UnidentifiedImageError": "a file is not an image; restore it, or remove it",
    "error": "a file is broken; restore it, or remove it",  # zlib.error, struct.error
}
SYSTEM = {  # what the system says of a file
    errno.ENOENT: "there is no {path}; check how it is spelled, or make it first",
    errno.EISDIR: "{path} is a folder, but a file is expected; give the path of a file",
    errno.ENOTDIR: "{path} leads through a file as if it were a folder; check how it is spelled",
    errno.EEXIST: "{path} exists already, and not as a folder that could be used; choose another place",
    errno.ENOTEMPTY: "{path} is a folder with something in it; choose another place",
    errno.EACCES: "{path} may not be read or written; change its permissions, or choose another place",
    errno.EPERM: "{path} may not be changed; change its permissions, or choose another place",
    errno.EROFS: "{path} lies on a disk that cannot be written; choose another place",
    errno.ENAMETOOLONG: "the name {path:.60}... is too long for the disk; choose a shorter one",
    errno.ELOOP: "{path} is a link that leads into itself; remove it, or give another path",
    errno.EMFILE: "too many files are open; raise the limit by `ulimit -n 4096`, and give the command again",
    errno.EIO: "{path} cannot be read from its disk, or written to it; check the disk, or choose another place",
}
PARTIAL = re.compile(r"\.(?P<name>.+?)(\.\d+)?\.partial")  # what a file or folder is called until it is whole


def line_of(error: Exception, options: Collection[str] = ()) -> str:
    """What to tell of an exception, without control characters that a terminal would obey.

    Args:
        options: of the command, such as ``--batch-size``.
    """
    return printable(" ".join(_told(error, options).split()))


def show_traceback(error: BaseException) -> str:
    """The traceback where it was asked for by ``DAG_DIFFUSION_DEBUG``, else nothing."""
    return "".join(traceback.format_exception(error)) if os.environ.get(DEBUG, "0") not in ("", "0") else ""


def leave_to_nobody() -> int:
    """Let what is still to be written vanish, since its reader has gone, as `| head` does; the exit code for that."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def printable(text: str) -> str:
    """A text whose control characters, which a file name may have and a terminal would obey, are shown instead."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _told(error: Exception, options: Collection[str]) -> str:
    kind, said = type(error).__name__, str(error).strip()
    if getattr(error, "errno", None) in FULL:
        again = " with --resume" if "--resume" in options else ""
        return f"the disk is full; free some space and give the command again{again}"
    if is_out_of_memory(error):
        return f"the device ran out of memory; {_less_memory(options)}"
    if isinstance(error, OSError) and error.errno in SYSTEM and (path := _file_of(error)):
        return SYSTEM[error.errno].format(path=path)
    if isinstance(error, WRITTEN_FOR_PEOPLE) and kind not in ADVICE:
        return said or kind
    what = f"{kind}: {_shortened(said)}" if said else kind
    if kind in ADVICE:
        return f"{ADVICE[kind]} ({what}); {DEBUG}=1 shows where"
    library = _raised_in(error)
    if library == OURS:
        return f"a fault of dag-diffusion ({what}), unless a file is broken; {DEBUG}=1 shows where, for a report"
    return f"{library} cannot go on ({what}); check the files and options given, {DEBUG}=1 shows where"


def _less_memory(options: Collection[str]) -> str:
    """What may be given so that memory suffices; fewer processes only where there are several."""
    smaller = [option for option in (*SMALLER, *(["--num-processes"] if is_started() else [])) if option in options]
    ways = [f"a smaller {' or '.join(smaller)}"] if smaller else []
    ways += [way for option, way in MORE_STEPS.items() if option in options]
    return f"give {' or '.join(ways)}" if ways else "give it fewer or smaller images"


def _file_of(error: OSError) -> str:
    """The file that the system means, by the name that it has when it is whole."""
    found = Path(os.fsdecode(error.filename2 or error.filename or ""))
    whole = PARTIAL.fullmatch(found.name)
    return str(found.with_name(whole["name"]) if whole else found) if found.name else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the machine or the device did not suffice, by whichever library it was asked for."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in OUT_OF_MEMORY)


def _shortened(text: str) -> str:
    """The first line of a text, which may be a page of C++ frames."""
    first = text.split("\n")[0]
    return first if len(first) <= 300 else f"{first[:297]}..."


def _raised_in(error: BaseException) -> str:
    """The package of the innermost frame, such as ``torch``; of the standard library that which called it."""
    found = OURS
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if "site-packages" in Path(frame.f_code.co_filename).parts or package == OURS:
            found = package
    return found
