"""What lies in a folder of images: files and folders by name, without what is hidden or left behind by programs."""

import os
from collections.abc import Iterator
from pathlib import Path

from dag_diffusion.data.images import image_suffixes

# what programs leave behind: archives of macOS, disks of Windows and Linux, thumbnails and bins of a NAS
NO_DATA = {
    "__MACOSX", "@eaDir", "@Recycle", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information",
    "lost+found",
}  # fmt: skip


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its suffix, and not hidden."""
    return os.path.splitext(name)[1].lower() in image_suffixes() and not name.startswith(".")


def files_in(path: Path) -> Iterator[str]:
    """Names of the files in a folder, whatever they are."""
    with os.scandir(path) as entries:
        yield from (entry.name for entry in entries if entry.is_file())


def visible_folders(path: Path) -> list[str]:
    """Folders in a folder that may hold data: neither hidden nor what programs leave behind."""
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(".") and e.name not in NO_DATA)


def images_in(path: Path, folder: str) -> Iterator[str]:
    """Names below ``path`` of every image in one of its folders; hidden ones left out, links followed once.

    Raises:
        PermissionError: a folder in it may not be entered, so that its images would be lost.
    """
    return (name for name in files_below(path, folder) if is_image_name(name.rpartition("/")[2]))


def files_below(path: Path, folder: str) -> Iterator[str]:
    """Names below ``path`` of every file in one of its folders, as ``images_in`` finds those of images."""
    root = path.resolve()
    seen = {_identity(place) for place in (root, *root.parents)}  # a link that leads back up is not followed
    for place, folders, files in os.walk(path / folder, onerror=_refuse_folder, followlinks=True):
        if _identity(place) in seen:
            folders.clear()
            continue
        seen.add(_identity(place))
        folders[:] = [name for name in folders if not name.startswith(".") and name not in NO_DATA]
        inside = Path(place).relative_to(path).as_posix()
        yield from (f"{inside}/{name}" for name in files)


def _refuse_folder(error: OSError) -> None:
    raise error


def _identity(place: str | Path) -> tuple[int, int]:
    found = os.stat(place)
    return found.st_dev, found.st_ino
