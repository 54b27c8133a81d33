"""A file exists whole or not at all, in a folder that may be written, has room, and that no other run works on.

    data -> .NAME.PID.partial -> rename -> NAME

A rename within a folder happens at once or not, so that a kill or a full disk leaves the old file, never half of a new.
What a kill leaves of a new one goes when the next run holds the lock.
"""

import errno
import fcntl
import io
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


NUMBERS = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN')  # and texts, whose words stay
STRICT = {"Infinity": "1e999", "-Infinity": "-1e999", "NaN": "null"}
ELSEWHERE = "choose an output folder of your own or change its permissions"
HEAD = 65536  # bytes in which a file tells what it is
LOCK = ".lock"  # in a folder while a run works on it
PARTIAL = re.compile(r"\.(?P<name>.+)\.\d+\.partial")  # what a file is called until it is whole
NO_FLOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # Lustre without flock, NFS without lockd, some of FUSE
LONGEST = 60  # letters of a setting that are told


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file so that a kill or a full disk leaves the old one or none, never half of the new one.

    Args:
        data: whole, or in parts, of which one at a time is in memory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.unlink(missing_ok=True)  # of a run that was killed, or a link that was planted to be followed
        with partial.open("xb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(folder: Path, name: str | None = None) -> None:
    """Remove what writers of a file, or of any in the folder, left that were killed; only while no other is at work."""
    for path in folder.glob(".*.partial"):
        partial = PARTIAL.fullmatch(path.name)
        if partial and name in (None, partial["name"]) and not path.is_dir():  # as .v1.2.partial of a set v1.2 is
            path.unlink(missing_ok=True)


def write_image(path: Path, image: "Image.Image") -> None:
    """Write a PNG, whole or not at all, making the class folder if need be."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as JSON lines, non-finite numbers refused since other readers reject them."""
    return b"".join(map(json_line, rows))


def json_line(row: Mapping[str, Any]) -> bytes:
    """One of them; a file of many is written line by line, ``write_atomically(path, map(json_line, rows))``."""
    return (json.dumps(row, ensure_ascii=False, allow_nan=False, default=recorded) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write a record as indented JSON that every reader takes; see ``recorded``."""
    write_atomically(path, (json.dumps(recorded(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def recorded(value: Any) -> Any:
    """A value as JSON has it, so that it compares equal when it is read again.

    Infinities and NaN, which JSON lacks, become the words ``Infinity``, ``-Infinity`` and ``NaN``; numbers and arrays
    of numpy plain ones; members of an Enum their values; whatever else is no JSON, such as a path, its text.
    """
    if isinstance(value, Enum):
        return recorded(value.value)
    if isinstance(value, Mapping):
        return {key if isinstance(key, str | int | None) else str(key): recorded(one) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(recorded, value), key=str)
    if isinstance(value, list | tuple):
        return [recorded(one) for one in value]
    if hasattr(value, "tolist"):  # of numpy or torch, which are not imported for the sake of a question
        return recorded(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(float(value))
    return value if isinstance(value, str | int | float | None) else str(value)


def write_config(path: Path, value: Mapping[str, Any]) -> None:
    """Write a model's configuration so that its own library reads the same numbers from it.

    An infinity becomes ``1e999``: JSON by its grammar, and infinite to every reader that knows infinities, where
    Python's own ``Infinity`` is none.  NaN, for which there is no such number, becomes null.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    write_atomically(path, (NUMBERS.sub(lambda found: STRICT.get(found[0], found[0]), text) + "\n").encode())


def write_safetensors(path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, the same bytes each time; its own ``save`` orders the metadata anew each time."""
    from safetensors.torch import save

    kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
    numbers, header = safetensors_parts(save(kept, dict(metadata) if metadata else None))
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    write_atomically(path, safetensors_joined(numbers, header))


def safetensors_parts(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """The numbers of a safetensors file, and the header before them."""
    end = 8 + int.from_bytes(data[:8], "little")
    return data[end:], json.loads(data[8:end])


def safetensors_joined(numbers: bytes, header: Mapping[str, Any]) -> bytes:
    """A safetensors file of both."""
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the numbers start at a multiple of 8
    return len(text).to_bytes(8, "little") + text + numbers


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        ValueError: it is no JSON, or another value than an object.
    """
    try:
        value = json.loads(path.read_text("utf-8-sig"))  # editors of Windows put a mark before it
        if not isinstance(value, dict):
            raise ValueError(f"a {type(value).__name__} stands in it")
    except (ValueError, RecursionError) as error:  # of the decoder, of UTF-8, of a file of a million brackets
        raise ValueError(f"{path} is no JSON object ({error}); restore the file, or write it as {{...}}") from error
    return value


def require_writable(path: Path, advice: str = ELSEWHERE) -> None:
    """Check that ``path``, or the nearest folder above it that exists, can be written.

    Raises:
        NotADirectoryError: a file stands where a folder above it would be.
        PermissionError: it cannot.
    """
    above = nearest_existing(path)
    if above != path:
        _require_folder(above, path)
    if not os.access(above, os.W_OK):
        raise PermissionError(f"{above} cannot be written; {advice}")


def require_file_place(path: Path, example: str, advice: str = ELSEWHERE) -> None:
    """Check that ``path`` may become a file, best before the hours that go into it.

    Args:
        example: name of such a file, told where a folder was given.
        advice: told where a place was given that cannot be written.

    Raises:
        IsADirectoryError: there is a folder.
        NotADirectoryError: a file stands where a folder above it would be.
        PermissionError: it cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder, but the output is one file; give its name, such as {path / example}"
        )
    folder = path.absolute().parent
    _require_folder(nearest_existing(folder), path)
    require_writable(folder, advice)


def require_own_file(path: Path, mark: bytes, what: str) -> None:
    """Check that a file that is to be replaced unasked, since it is made again in seconds, is such a file.

    Args:
        mark: what stands in the first part of every such file.
        what: it is, such as ``report``.

    Raises:
        FileExistsError: it is something else.
    """
    if not path.is_file():
        return
    with path.open("rb") as opened:
        if mark not in opened.read(HEAD):
            raise FileExistsError(
                f"{path} holds something that is no {what} of dag-diffusion; remove it, or choose another output"
            )


def _require_folder(above: Path, path: Path) -> None:
    if not above.is_dir():
        raise NotADirectoryError(f"{path} cannot be made, since {above} is a file and no folder; choose another output")


def nearest_existing(path: Path) -> Path:
    """``path``, or the nearest folder above it that exists."""
    return next(one for one in (path, *path.absolute().parents) if one.exists())


def require_disk(place: Path, needed: int, what: str) -> None:
    """Check that so many bytes are free where a folder is or will be; ValueError if not, which says what needs them."""
    free = free_at(place)
    if needed > free:
        raise ValueError(
            f"the disk of {place} has {free / 1e9:.1f} GB free, but {what} need about {needed / 1e9:.1f} GB; free "
            "some, or choose a folder on another disk"
        )


def bytes_in(folder: Path) -> int:
    """What the files in and below a folder take; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def free_at(place: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(nearest_existing(place)).free


def require_replaceable(
    folder: Path,
    what: str,
    is_one: Callable[[Path], bool],
    *,
    overwrite: bool,
    strangers_in: Callable[[Path], Iterable[Path]] | None = None,
) -> None:
    """Check that a folder may become something: absent or empty, or an earlier one of its kind to be replaced.

    Args:
        what: it is to become, such as ``probe``.
        is_one: whether a folder with something in it is such a thing.
        strangers_in: what lies in it and is none of that, such as a report; None: nobody looks.

    Raises:
        FileExistsError: it holds something that would be lost.
        PermissionError: it, or the folder above it, cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose another output folder")
    if folder.exists() and any(path.name != LOCK for path in folder.iterdir()):
        if not is_one(folder):
            raise FileExistsError(
                f"{folder} holds something that is no {what}; choose an empty or new folder for the output"
            )
        if not overwrite:
            raise FileExistsError(
                f"{folder} already holds a {what}; add overwrite=True to replace it, or choose another folder"
            )
        if strangers_in is not None and (stranger := next(iter(strangers_in(folder)), None)):
            raise FileExistsError(
                f"{folder} holds a {what} and more, such as {stranger.relative_to(folder)}, which would be deleted; "
                "move it elsewhere, or choose another folder"
            )
    require_writable(folder)


def require_no_mount(folder: Path) -> None:
    """Check that no disk is mounted at a folder that will be replaced whole, by a rename.

    Raises:
        FileExistsError: one is, as volumes of a container are.
    """
    if folder.resolve().is_mount():
        raise FileExistsError(
            f"{folder} is where a disk is mounted and cannot be replaced whole; give a folder in it, such as "
            f"{folder / 'output'}"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if need be and removed again if nothing came into it.

    What writers of files in it left that were killed goes.

    Raises:
        FileExistsError: another run works on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with held(folder / LOCK, folder):
            remove_partials(folder)
            yield
    finally:
        with suppress(OSError):  # it holds something, as it should
            folder.rmdir()


@contextmanager
def held(lock: Path, guarded: Path) -> Iterator[None]:
    """Hold a lock file, in a folder that exists, while working on what it guards, and remove it then.

    What writers of a guarded file left that were killed goes.

    Raises:
        FileExistsError: another run holds it.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    has_flock = _has_flock(lock.parent)
    held_lock = FileLock(lock, timeout=0) if has_flock else SoftFileLock(lock, timeout=0)
    try:
        held_lock.acquire()
    except Timeout as error:
        # a lock that is a file alone outlives a machine that was lost
        way_out = "choose another output" if has_flock else f"remove {lock}{_owner(lock)} if that has ended"
        raise FileExistsError(f"another run works on {guarded}; wait for it, or {way_out}") from error
    try:
        remove_partials(guarded.parent, guarded.name)
        yield
    finally:
        if has_flock:  # else it goes with its release
            lock.unlink(missing_ok=True)
        held_lock.release()


def _has_flock(folder: Path) -> bool:
    """Whether files there can be locked; on some network disks they cannot."""
    with TemporaryFile(prefix=".", suffix=".partial", dir=folder) as probe:  # nameless where the system can
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            return False
    return True


def _owner(lock: Path) -> str:
    with suppress(OSError, ValueError):
        number, machine = lock.read_text().split()[:2]
        return f" of process {number} on {machine}"
    return ""


def is_made_so(before: Mapping[str, Any], asked: Mapping[str, Any], told: str, *, overwrite: bool) -> bool:
    """Whether what is there was made as is asked for now, by the record of how it was made.

    Args:
        before: that record; empty where none was kept.
        told: what is there if not, such as ``guide holds a classifier of another training``.
        overwrite: whether it may be replaced then.

    Raises:
        ValueError: it was not, and is to be kept; up to five settings that differ are named.
    """
    found = list(differences({name: before.get(name) for name in asked}, asked))
    if found and not overwrite:
        why = "; ".join(found[:5]) if before else "it does not say of which"
        raise ValueError(f"{told}: {why}; give overwrite=True to replace it, or choose another output")
    return not found


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """In which settings two records differ, as sentences such as ``settings.seed was 0 and is now 1``."""
    texts = [value.get("text") if isinstance(value, dict) else None for value in (old, new)]
    if isinstance(old, dict) and isinstance(new, dict) and (None in texts or texts[0] == texts[1]):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield f"{name} was {_told(old)} and is now {_told(new)}"


def _told(value: Any) -> str:
    """A value of a record in a few words: a target by its text, what is long by its beginning."""
    shown = repr(value.get("text", value) if isinstance(value, dict) else value)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."
