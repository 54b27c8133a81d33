"""How much memory a process may use, and what it keeps for its next tensors.

A large tensor that is freed goes back to the system, and the next one is paid for anew, page by page; kept, the same
memory serves layer after layer.  On a CPU that makes networks with large activations 1.2 to 2 times as fast.

All threads share what is kept.  By itself glibc gives each an arena of its own, so that threads that decode large
images hold several times what they need, and leave it to nobody.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .processor import limits_of_job

SHARE = 0.7  # of the memory that images may take
KEPT = 1 << 30  # bytes that may be free at the end of the heap, and the largest tensor that comes from it
TOP_PAD = 1 << 26  # bytes by which the heap grows at least
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8  # names of glibc's mallopt(3)


def memory() -> int:
    """Bytes of this machine's memory that this process may use, by the limits of its job."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *(int(limit) for limit in limits_of_job("memory.max") if limit != "max")])


def require_memory(
    images: int, size: int, each: int, way: str = "choose a smaller size, or fewer images", *, weights: int = 0
) -> None:
    """Check that what is kept of all images fits into the memory that may be used here.

    Each of the processes that a launcher has started on this machine keeps all of it.

    Args:
        size: pixels of their longer side.
        each: bytes that one takes.
        way: what to do otherwise.
        weights: bytes that a network takes besides.

    Raises:
        ValueError: it does not.
    """
    processes, there = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), memory()
    needed = (images * each + weights) * processes
    if needed > SHARE * there:
        what = f"{images} images of {size} pixels" + (" and the weights in training" if weights else "")
        of_all, fewer = (f" in {processes} processes", ", or start fewer processes") if processes > 1 else ("", "")
        raise ValueError(
            f"{what} take {needed / 2**30:.1f} GiB{of_all} of the {there / 2**30:.1f} that may be used here; "
            f"{way}{fewer}"
        )


def keep_freed_memory() -> bool:
    """Keep memory that tensors leave for those that come, for the whole process; up to ``KEPT`` more stays taken.

    It has to be called before other threads ask for memory, since arenas that they have by then stay theirs.

    Returns:
        Whether the system's allocator could be told; only glibc's can, which is that of most Linux systems.
    """
    tell = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    sizes = ((_TRIM_THRESHOLD, KEPT), (_MMAP_THRESHOLD, KEPT), (_TOP_PAD, TOP_PAD), (_ARENA_MAX, 1))
    return tell is not None and all(tell(what, size) for what, size in sizes)


@contextmanager
def libraries_kept() -> Iterator[None]:
    """Import without looking again and again through what is imported for objects that nobody uses.

    Libraries make half a million objects that stay: importing them is a fifth faster, no later look goes through them,
    and processes that are forked share their memory.
    """
    collecting, there = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > there:  # else what is kept would be of the caller's
            gc.freeze()
        if collecting:
            gc.enable()
