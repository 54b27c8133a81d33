"""Images in tars as webdataset writes them: samples of several files, one of which tells the class.

    img.0001.png + img.0001.cls | img.0001.json | img.0001.txt

Members are listed once and read where they lie, never unpacked; what a pickle would say is not asked.  Unlike in
webdataset and ``datasets``, a name is cut at its last dot first: img.0001.png and img.0002.png are two samples.
"""

import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .splits import require_one_split_of
from .walking import is_image_name

LABELS = (".cls", ".json", ".txt")  # the first that says something counts
PICKLES = (".pyd", ".pickle", ".pkl", ".pth", ".pt")
NUMBERS = ("label", "cls", "class_id", "class_label", "target", "class")  # keys of a .json
NAMES = ("class_name", "label_name", "classname", "category", "synset", "wnid", "label", "class")
LONGEST = 1 << 20  # bytes of a file that tells a class


class Member(NamedTuple):
    """A file in a tar, and where its bytes are."""

    tar: Path
    name: str
    start: int
    size: int

    def read(self) -> bytes:
        """Its bytes; of several threads, each opens the tar for itself."""
        with self.tar.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


class TarImages(Sequence[bytes]):
    """Encoded images, each read from its tar when asked for."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override] # slices are not needed
        return self._members[index].read()


def read_tars(files: Sequence[Path]) -> tuple[list[tuple[int | None, str]], TarImages]:
    """Label, if a number is told, and class name of every image, and the images, in the order of the tars.

    Raises:
        ValueError: a tar is broken or holds pickles; an image has no class, or a sample has several images.
    """
    classes, images = [], []
    for file in files:
        members = _members(file)
        told = {_stem(name): name for suffix in reversed(LABELS) for name in members if name.endswith(suffix)}
        for name, of in _images(file, members, told).items():
            classes.append(_class_of(members, name, of))
            images.append(members[name])
    require_one_split_of({str(PurePosixPath(image.name).parent).partition("/")[0] for image in images}, files[0])
    if not images:
        raise ValueError(f"{files[0]} holds no images; expected samples such as 0001.png and 0001.cls in it")
    _refuse_captions(files[0], classes)
    return classes, TarImages(images)


def _members(file: Path) -> dict[str, Member]:
    found: dict[str, Member] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for one in tar:
                if not one.isreg() or one.issparse() or PurePosixPath(one.name).name.startswith("."):
                    continue
                if one.name in found:
                    raise ValueError(f"{file} has two files called {one.name}; give each sample a name of its own")
                if one.name.lower().endswith(PICKLES):
                    raise ValueError(
                        f"{file} holds the pickle {one.name}, which may run any program when it is read; write classes "
                        "as .cls or .json"
                    )
                found[one.name] = Member(file, one.name, one.offset_data, one.size)
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"{file} is no plain tar that can be read ({error}); restore it, or pack it anew") from error
    size = os.path.getsize(file)
    if cut := [one.name for one in found.values() if one.start + one.size > size]:
        raise ValueError(f"{file} is cut off within {cut[0]}; restore the whole file")
    return found


def _images(file: Path, members: Mapping[str, Member], told: Mapping[str, str]) -> dict[str, str]:
    """Name of each image to that of the file which tells its class."""
    of_image: dict[str, str] = {}
    image_of: dict[str, str] = {}
    for name in (name for name in members if is_image_name(PurePosixPath(name).name)):
        short = PurePosixPath(name).with_name(PurePosixPath(name).name.split(".")[0]).as_posix()
        key = next((key for key in (_stem(name), short) if key in told), None)
        if key is None:
            raise ValueError(
                f"{name} in {file} has no class; put one beside it as {_stem(name)}.cls, a number or a name, or as "
                ".json with a label; where folders tell it, or the tar's own name, unpack the tar into folders"
            )
        if (other := image_of.setdefault(key, name)) != name:
            raise ValueError(f"the sample {key} in {file} has two images, {other} and {name}; keep one of them")
        of_image[name] = told[key]
    return of_image


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _class_of(members: Mapping[str, Member], image: str, told: str) -> tuple[int | None, str]:
    """Label and class name; a name in the .json goes with the number in the .cls."""
    number, name = None, None
    stem = told[: -len(PurePosixPath(told).suffix)]
    for suffix in LABELS if stem + LABELS[1] in members or stem + LABELS[0] in members else LABELS[-1:]:
        if suffix == LABELS[-1] and (number is not None or name is not None):
            break
        if (member := members.get(stem + suffix)) is None:
            continue
        said, called = _told_by(member, suffix)
        if said is not None and number is not None and said != number:
            raise ValueError(
                f"{stem}.cls in {member.tar} says {number} and {stem}.json {said}, of one image; keep the right one"
            )
        number, name = (said if number is None else number), name or called
    if number is None and not name:
        raise ValueError(
            f"{image} in {members[image].tar} has no class in {told}; write a number or a name there, in a .json as "
            "its 'label'"
        )
    return number, name or str(number)


def _told_by(member: Member, suffix: str) -> tuple[int | None, str | None]:
    try:
        if member.size > LONGEST:
            raise ValueError(f"{member.size:,} bytes")
        text = member.read().decode("utf-8-sig").strip()
        found = json.loads(text) if suffix == ".json" else {"label": text}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{member.name} in {member.tar} tells no class ({error}); mend or remove it") from error
    if not isinstance(found, dict):
        return None, None
    numbers = [int(found[key]) for key in NUMBERS if _is_number(found.get(key))]
    names = [str(found[key]).strip() for key in NAMES if isinstance(found.get(key), str) and not _is_number(found[key])]
    return next(iter(numbers), None), next(iter(filter(None, names)), None)


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().isascii() and value.strip().isdecimal() and len(value.strip()) < 10
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refuse_captions(file: Path, classes: Sequence[tuple[int | None, str]]) -> None:
    names = {name for number, name in classes if number is None}
    if len(names) > max(2, len(classes) // 2):
        raise ValueError(
            f"{file} tells {len(names)} different texts of {len(classes)} images, such as {next(iter(names))[:40]!r}: "
            "captions and no classes; add .cls files"
        )
