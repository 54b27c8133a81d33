"""Names of class folders and images that every loader reads alike, whatever the classes are called.

    Ankle boot, Bag            kept: sorted they are the labels, and no loader takes them for something else
    0_T-shirt, 1_Trouser       numbered: sorted by name they would be other labels
    466_bullet~train           numbered, and no word that makes a split of it for ``datasets``

torchvision, timm and keras number the sorted folders; ``datasets`` makes splits of words in any part of a path; file
systems fold case and accents, and refuse some names.  The true names of the classes stand in the rows.
"""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path, PurePosixPath

from .class_names import ascii_name, folder_names
from .images import image_suffixes, suffix_of
from .rows import Row

# words that ``datasets`` makes a split of, and timm a root; whole words of a folder's or a file's name
SPLITS = re.compile(
    r"(?:(?<=[-._ 0-9])|^)(train|training|validation|valid|dev|val|test|testing|eval|evaluation)(?=[-._ 0-9]|$)",
    re.IGNORECASE,
)
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._~'()+-]*(?<![ .])")  # the same on every disk, in every pattern and address
SHARD = re.compile(r"-\d{5}-of-\d{5}")  # in a folder ``data`` the part of a split of that name
RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # devices of Windows
MOST_LETTERS = 120  # of a name that is kept; file systems take 255 bytes, and paths on Windows 260 letters
READ_BY_ALL = (".png", ".jpg", ".jpeg")  # timm reads no others
SAMPLE = 50  # class folders that are looked into


def class_folders(class_names: Mapping[int, str]) -> dict[int, str]:
    """A folder for each label: the class's name where every loader reads that rightly, else numbered ones for all."""
    plain = folder_names(class_names)
    return plain if are_read_alike(plain) else numbered_folders(class_names)


def numbered_folders(class_names: Mapping[int, str]) -> dict[int, str]:
    """Folders such as ``03_Dress``, whose order is that of the labels both as texts and as numbers."""
    width = max((len(str(label)) for label in class_names), default=1)
    folders = {}
    for label, name in class_names.items():
        number, word = f"{label:0{width}d}", ascii_name(name.split(",")[0])
        folders[label] = number if word in ("", str(label)) else f"{number}_{word}"
    return {label: re.sub("[_-]~", "~", SPLITS.sub(r"~\1", folder)) for label, folder in folders.items()}


def are_read_alike(folders: Mapping[int, str]) -> bool:
    """Whether every loader finds these classes, in the order of their labels."""
    ordered = [folders[label] for label in sorted(folders)]
    if not all(map(_is_plain, ordered)):
        return False
    return all(one < two and _natural(one) < _natural(two) for one, two in pairwise(ordered))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key of timm, which reads digits as numbers and knows no case."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.lower())]


def _is_plain(name: str) -> bool:
    misread = any(one.search(name) for one in (SPLITS, SHARD, RESERVED))
    return len(name) <= MOST_LETTERS and bool(PLAIN.fullmatch(name)) and not misread


def _is_split(name: PurePosixPath) -> bool:
    return any(map(SPLITS.search, name.parts)) or bool(SHARD.search(name.name))


def placements(rows: Sequence[Row], class_names: Mapping[int, str]) -> list[str]:
    """Where each image of a set goes, as ``FOLDER/IMAGE``: where it is, if every loader reads all of that rightly.

    Args:
        rows: of the images of the set; a name without suffix is one that gets its suffix later.
        class_names: label to name of the classes of the whole pool, so that two sets of it have the same folders.
    """
    names = [PurePosixPath(row["file_name"]) for row in rows]
    labels = [row["label"] for row in rows]
    folders = _folders_of(names, labels)
    if folders is None or not are_read_alike(folders):
        folders = numbered_folders(class_names)
    return [f"{folders[label]}/{file}" for label, file in zip(labels, _files(names, labels), strict=True)]


def _folders_of(names: Sequence[PurePosixPath], labels: Sequence[int]) -> dict[int, str] | None:
    """Label to folder, if each class has one of its own at the top and no images elsewhere."""
    folders: dict[int, str] = {}
    for name, label in zip(names, labels, strict=True):
        if len(name.parts) != 2 or folders.setdefault(label, name.parts[0]) != name.parts[0]:
            return None
    return folders if len(set(folders.values())) == len(folders) else None


def _files(names: Sequence[PurePosixPath], labels: Sequence[int]) -> list[str]:
    """Names of the images within their folders, kept if all are plain and different, else numbered in their order."""
    bare = any(not name.suffix for name in names)  # which gets one, by its contents, and then another's name perhaps
    keys = {(label, (name.stem if bare else name.name).casefold()) for name, label in zip(names, labels, strict=True)}
    known = {"", *image_suffixes()}
    plain = all(_is_plain(name.name) and name.suffix.lower() in known for name in names)
    if plain and len(keys) == len(names):
        return [name.name for name in names]
    numbers: dict[int, int] = defaultdict(int)
    files = [""] * len(names)
    for place in sorted(range(len(names)), key=lambda place: (labels[place], names[place].as_posix())):
        suffix = names[place].suffix if names[place].suffix.lower() in known else ""
        files[place] = f"{numbers[labels[place]]:05d}{suffix}"
        numbers[labels[place]] += 1
    return files


def with_suffix(place: str, file: Path) -> str:
    """The place of an image with its suffix, which is that of its contents if its name has none."""
    if PurePosixPath(place).suffix:
        return place
    with suppress(ValueError):  # what is no image stays as it is
        return place + suffix_of(file.read_bytes())
    return place


def misreading(folder: Path, rows: Sequence[Row]) -> str:
    """What a loader of folders would see otherwise than the rows say, in words; empty if nothing.

    Looks at the folder as it is on disk, and into some of its class folders; nothing is decoded.
    """
    names = [PurePosixPath(row["file_name"]) for row in rows]
    folders = _folders_of(names, [row["label"] for row in rows])
    if folders is None:
        return "its classes have no folder each, so that torchvision and timm take other folders for classes"
    if split := next((str(name) for name in names if _is_split(name)), None):
        return f"`datasets` takes {split} for a split of its own and may load nothing else"
    if not are_read_alike(folders):
        return "its folders are sorted otherwise than its labels, which torchvision, timm and keras number anew"
    return _strangers(folder, set(map(str, names)), sorted(folders.values()))


def _strangers(folder: Path, known: set[str], folders: Sequence[str]) -> str:
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir()) for entry in entries)
    if others := [name for name, is_folder in found if is_folder and name not in folders]:
        return f"torchvision and keras take the folder {others[0]} for a class"
    top = [name for name, is_folder in found if not is_folder]
    step = -(-len(folders) // SAMPLE)
    inside = [f"{name}/{file}" for name in folders[::step] for file in sorted(os.listdir(folder / name))]
    for name in (*top, *inside):
        suffix = PurePosixPath(name).suffix.lower()
        if name not in known and suffix in READ_BY_ALL:
            return f"timm and torchvision take {name} for one of its images"
        if name in known and suffix not in READ_BY_ALL:
            return f"timm leaves out {name}, since it reads {', '.join(READ_BY_ALL)} alone"
    return ""
