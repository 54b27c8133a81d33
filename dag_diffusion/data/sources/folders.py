"""Which class each image of a folder is of, where no rows say so: told by folders, or by a file beside the images.

    CLASS/**/IMAGE   train/CLASS/IMAGE (the only split)   images/IMAGE + val_annotations.txt   IMAGE + labels.csv

Decided by what the folders hold, not by names alone: ``train`` is a split if it holds class folders, and a class beside
others if it holds images.  Where a folder may be read in two ways, it is refused with the folder to give instead.
Labels are the numbers that all folders say, else places in the sorted list, which no model's labels are matched with.
"""

import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from dag_diffusion.data.class_names import listed
from dag_diffusion.data.rows import METADATA, Row

from .image_lists import listed_classes, require_agreeing_lists, unread_list
from .masks import without_masks
from .splits import split_of, split_within, splits_among
from .unread_files import refuse_arrays, unread_file, warn_of_left_out
from .walking import files_below, files_in, images_in, is_image_name, visible_folders

logger = logging.getLogger(__name__)
CONTAINERS = {
    "images", "image", "imgs", "img", "jpegimages", "jpegs", "jpg", "jpeg", "png", "samples",
}  # fmt: skip # of images of one class, or of all
DECORATION = {"assets", "asset", "docs", "doc", "figures", "figs", "media", "screenshots", "thumbnails", "static"}
SHARD = re.compile("[0-9]{5,}")  # img2dataset, EDM and StyleGAN number folders of a thousand or ten thousand images
PART = re.compile(r".*(part|shard|chunk|batch)[-_ ]?[0-9]+", re.I)
PART_OF_IMAGES = re.compile(r"(.*[-_ ])?(images|imgs|(image|img)s?[-_ ]?(part|shard|chunk|batch))[-_ ]?[0-9]+", re.I)
REPOSITORY = ("README.md", ".gitattributes", ".git")  # beside which DECORATION belongs to a page, not to the data


def class_folders_in(path: Path) -> dict[str, str]:
    """Class name to its folder below ``path``, sorted by name; no more is listed than tells what the folders are.

    Raises:
        ValueError: there are no class folders; or these are splits, domains or the like, and hold the classes.
    """
    tops = [_look_at(path, name) for name in visible_folders(path)]
    tops = [top for top in tops if not _is_decoration(path, top, tops)]
    filled = [top for top in tops if top.holds_images]
    if not filled:
        _refuse_without_folders(path)
    _refuse_splits(path, filled)
    _refuse_shards(path, filled)
    _refuse_others_beside_images(path, filled)
    if len(filled) == 1 and _is_split(filled[0].name):  # all images there are
        split = filled[0].name
        if found := _records_file(path / split):
            raise ValueError(f"{path / split} has a list of its own, {found.name}, which counts; give {path / split}")
        return {name: f"{split}/{folder}" for name, folder in class_folders_in(path / split).items()}
    _refuse_nested(path, filled)
    if empty := [top.name for top in tops if not top.holds_images]:
        told = f"{path} has class folders without images: {', '.join(empty)}"
        if file := unread_file(path, (file for name in empty for file in files_below(path, name))):
            raise ValueError(
                f"{told}, but with files such as {file}; save pictures as PNG or JPEG, and remove other folders"
            )
        raise ValueError(f"{told}; fill or remove them")
    _tell_of_two_levels(path, filled)
    return {top.name: top.name for top in filled}


def rows_of_folder(path: Path) -> list[Row]:
    """A row for each image of a folder that has none: of its class folders, or by a list of images beside them.

    Raises:
        ValueError: nothing tells the classes, see ``class_folders_in``, or lists beside the folders tell others.
    """
    if (listed := listed_images(path)) is not None:
        _warn_of_unlisted_folders(path, listed)
        return labelled_rows(listed)
    folders = class_folders_in(path)
    if loose := sum(map(is_image_name, files_in(path))):
        logger.warning("%d images in %s are in no class folder and are left out", loose, path)
    found = [(name, file) for name, folder in folders.items() for file in files_below(path, folder)]
    images = [(name, file) for name, file in found if is_image_name(file.rpartition("/")[2])]
    _require_readable_names(path, [file for _, file in images])
    taken = {file for _, file in images}
    warn_of_left_out(path, [f for _, f in found if f not in taken and not f.rpartition("/")[2].startswith(".")])
    images = without_masks(path, images)
    require_agreeing_lists(path, folders, images)
    require_one_split_within(path, {file.removeprefix(folders[name]).rpartition("/")[0] for name, file in images})
    return labelled_rows(images)


def require_one_split_within(path: Path, inner: Iterable[str]) -> None:
    """Refuse CLASS/train beside CLASS/test: ``inner`` are the folders of images within those of classes."""
    parts = {part for folder in inner for part in folder.split("/") if part}
    found = splits_among(parts)
    if len({*found.values()}) > 1:
        splits = ", ".join(sorted(found))
        raise ValueError(
            f"the classes in {path} hold splits, {splits}, which would be taken together; list the images of one in "
            f"{path / METADATA}"
        )


def _warn_of_unlisted_folders(path: Path, images: Sequence[tuple[str, str]]) -> None:
    taken = {file.rpartition("/")[0] for _, file in images}
    others = [name for name in visible_folders(path) if name not in taken]
    if left := [name for name in others if _look_at(path, name).holds_images]:
        logger.warning("the images in %s of %s are in no list and are left out", ", ".join(left), path)


def _require_readable_names(path: Path, names: Sequence[str]) -> None:
    """Refuse a name in another encoding than UTF-8, which no metadata can hold."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the name of {path}/{ascii(name)[1:-1]} is no UTF-8, as metadata has to be; rename the file or folder"
            ) from error


def listed_images(path: Path) -> list[tuple[str, str]] | None:
    """Class and file name of images that lie in one folder with a list of their classes beside them; else None."""
    return listed_classes(path, _flat_images(path))


def labelled_rows(images: Iterable[tuple[str, str]]) -> list[Row]:
    """Rows of images, given as class and file name, with labels by the names of their classes."""
    images = sorted(images)
    labels = labels_by_name({name for name, _ in images})
    return [{"file_name": file, "label": labels[name], "class_name": name} for name, file in images]


def labels_by_name(names: Iterable[str]) -> dict[str, int]:
    """Name to label: the number, if every name is one ("0" to "11", "3, 7, 11"), else its place in the sorted list."""
    ordered = sorted(names)
    numbers = [int(name) for name in ordered if re.fullmatch("[0-9]{1,9}", name)]
    if len(set(numbers)) == len(ordered):
        return dict(zip(ordered, numbers, strict=True))
    return {name: label for label, name in enumerate(ordered)}


@dataclass(frozen=True)
class _Top:
    """A folder at the top: whether images lie in it, and which of its folders hold some, looked at only if none do."""

    name: str
    direct: bool
    inner: Sequence[str] = ()

    @property
    def holds_images(self) -> bool:
        return self.direct or bool(self.inner)

    @property
    def class_folders(self) -> list[str]:
        return [name for name in self.inner if name.casefold() not in CONTAINERS]


def _look_at(path: Path, name: str) -> _Top:
    if any(map(is_image_name, files_in(path / name))):
        return _Top(name, direct=True)
    return _Top(name, False, [one for one in visible_folders(path / name) if any(images_in(path / name, one))])


def _is_split(name: str) -> bool:
    return split_of(name) is not None


def _is_decoration(path: Path, top: _Top, tops: Sequence[_Top]) -> bool:
    """Whether a folder belongs to the page of a repository, such as assets/banner.png beside its README."""
    if top.name.casefold() not in DECORATION or not any((path / name).exists() for name in REPOSITORY):
        return False  # at once, since there may be thousands of classes
    if not any(other.name.casefold() not in DECORATION and other.holds_images for other in tops):
        return False
    if top.holds_images:
        logger.warning(
            "%s is left out, as a part of the page and no class; list its images to take it", path / top.name
        )
    return True


def _flat_images(path: Path) -> list[str]:
    """Images without class folders: directly in ``path``, or in its one folder called ``images`` or alike."""
    folders = visible_folders(path)
    if not folders:
        return sorted(filter(is_image_name, files_in(path)))
    holders = [name for name in folders if name.casefold() in CONTAINERS]
    if len(holders) == 1:
        return sorted(f"{holders[0]}/{name}" for name in files_in(path / holders[0]) if is_image_name(name))
    return []


def _refuse_without_folders(path: Path) -> None:
    if flat := sorted(filter(is_image_name, files_in(path))):
        found = unread_list(path, flat)
        told = ", which now gives them none" if (path / "labels.csv").is_file() else ""
        way = f"copy {found} into it if that lists them" if found else f"list their classes in labels.csv{told}"
        raise ValueError(
            f"{path} holds {len(flat)} images but no class folders; sort its images into folders such as "
            f"{path / 'n01440764'}, or {way}"
        )
    for name in sorted(files_in(path)):
        refuse_arrays(path / name)
    expected = f"expected {path}/CLASS/IMAGE.png, with or without a {METADATA}"
    below = (file for name in visible_folders(path) for file in files_below(path, name))
    if file := unread_file(path, chain(files_in(path), below)):
        refuse_arrays(file)
        raise ValueError(
            f"{path} holds no images whose suffix is read, but files such as {file}; save pictures as PNG or JPEG, or "
            f"give them the suffix that they should have: {expected}"
        )
    raise ValueError(f"{path} holds no images; {expected}")


def _refuse_splits(path: Path, filled: Sequence[_Top]) -> None:
    told = splits_among(top.name for top in filled)
    named = sorted((top for top in filled if top.name in told), key=lambda top: told[top.name] != "train")
    splits = [top for top in named if top.class_folders]
    if len(named) == len(filled) and not splits:
        if telling := next((top for top in named if _tells_itself(path / top.name)), None):
            raise ValueError(
                f"{path} has splits, {listed(top.name for top in named)}, and lists of classes; give one of them: "
                f"{path / telling.name}"
            )
        inner = (path / top.name / name for top in named for name in top.inner)  # as of Training/Images/CLASS
        if holder := next((place for place in inner if visible_folders(place)), None):
            raise ValueError(
                f"{path} has splits, {listed(top.name for top in named)}; give the classes of one of them: {holder}"
            )
        within = [found[1] for top in named if not _is_split(top.name) and (found := split_within(top.name))]
        classes = {"_".join(words) for words in within}
        way = f"{path / named[0].name}/CLASS/, or list their classes in {path / named[0].name / METADATA}"
        if len(classes) > 1:  # cat_train, cat_test, dog_train, dog_test
            way = f"folders such as {path / 'train' / min(classes)}, and give {path / 'train'}"
        raise ValueError(
            f"{path} has {listed(top.name for top in named)}, which hold images but no class folders; sort them into "
            f"{way}"
        )
    if splits and len(filled) > 1:
        one = splits[0]
        other = next((top for top in splits if told[one.name] == "train" != told[top.name]), None)
        raise ValueError(
            f"{path} has splits, {listed(top.name for top in splits)}, which hold the classes "
            f"{listed(one.class_folders)}; give one of them: {path / one.name}"
            + (f" to train on, {path / other.name} to test on" if other else "")
        )


def _tells_itself(path: Path) -> bool:
    """Whether a list in a folder of images, or above it, is of these images, understood or not."""
    try:
        told = _records_file(path) is not None or listed_images(path) is not None
    except ValueError:
        return True
    return told or unread_list(path, _flat_images(path)) is not None


def _records_file(path: Path) -> Path | None:
    from .records import records_file  # which imports this module

    return records_file(path)


def _refuse_others_beside_images(path: Path, filled: Sequence[_Top]) -> None:
    """Refuse images/ beside annotations/ or masks/, none of which is a class."""
    holder = next((top for top in filled if top.name.casefold() in CONTAINERS), None)
    if holder is not None and len(filled) > 1:
        others = listed(top.name for top in filled if top is not holder)
        way = f"list the classes in {path / METADATA}" if holder.direct else f"give {path / holder.name}"
        raise ValueError(f"{path} has images in {holder.name} beside others in {others}, which are no classes; {way}")


def _refuse_others_within(path: Path, filled: Sequence[_Top]) -> None:
    """Refuse CLASS/images/ beside CLASS/masks/, which are not of the class."""
    if mixed := next((top for top in filled if 0 < len(top.class_folders) < len(top.inner)), None):
        holder = next(name for name in mixed.inner if name not in mixed.class_folders)
        raise ValueError(
            f"{path / mixed.name} has images in {holder} beside others in {listed(mixed.class_folders)}, which would "
            f"be taken together; list those of the classes in {path / METADATA}"
        )


def _tell_of_two_levels(path: Path, filled: Sequence[_Top]) -> None:
    """Tell that folders within folders are taken together, be they the videos of a class or classes of their own."""
    if not any(top.direct for top in filled) and sum(len(top.class_folders) > 1 for top in filled) > 1:
        inner = next(top for top in filled if len(top.class_folders) > 1)
        logger.warning(
            "the classes in %s are its folders %s; those within, such as %s/%s, are not told apart: if they are the "
            "classes, list the images in %s",
            path, listed(top.name for top in filled), inner.name, inner.class_folders[0], path / METADATA,
        )  # fmt: skip


def _refuse_shards(path: Path, filled: Sequence[_Top]) -> None:
    """Refuse folders that only say how many images were written before, not of which class they are."""
    names = [top.name for top in filled]
    numbered = all(map(SHARD.fullmatch, names)) and all(_is_counted(path, name) for name in names)
    parts = len(names) > 1 and all(map(PART.fullmatch, names))  # which may be classes, such as of parts of machines
    same = len(names) > 1 and len({name.rstrip("0123456789") for name in names}) == 1
    of_images = same and PART_OF_IMAGES.fullmatch(names[0]) and not any(top.class_folders for top in filled)
    if numbered or of_images or (parts and any(path.glob("*.csv"))):
        file = next(filter(is_image_name, files_in(path / names[0])), "images")
        raise ValueError(
            f"{listed(names)} in {path} are parts of one list of images, with such as {names[0]}/{file}, and no "
            f"classes; list the classes in {path / METADATA}, or rename the folders if they are the classes"
        )


def _is_counted(path: Path, name: str) -> bool:
    """Whether images go on counting where their folder's number begins: 00012/000120007.jpg, 003000/003017.png."""
    file = next(filter(is_image_name, files_in(path / name)), "")
    number = os.path.splitext(file)[0].removeprefix("img")
    if not number.isdecimal():
        return False
    if len(number) == len(name) == 6:
        return int(number) // 1000 * 1000 == int(name)
    return len(number) > len(name) and number.startswith(name)


def _refuse_nested(path: Path, filled: Sequence[_Top]) -> None:
    """Refuse folders of class folders: one that wraps all, or several that hold the same, such as domains."""
    if len(filled) == 1 and filled[0].inner and not filled[0].direct:
        top = filled[0]
        holder, inner = path / top.name, top.inner
        while len(inner) == 1 and not any(map(is_image_name, files_in(holder))):  # as ILSVRC/Data/CLS-LOC wraps splits
            holder = holder / inner[0]
            inner = [one for one in visible_folders(holder) if any(images_in(holder, one))]
        if len(inner) > 1 or any(map(_is_split, top.inner)):
            raise ValueError(
                f"{path} has one folder, {top.name}, which holds the folders {listed(inner)}; give {holder} if those "
                f"are the classes, or list the images in {METADATA}"
            )
    if len(filled) == 1 and filled[0].direct and filled[0].name.casefold() in CONTAINERS:
        raise ValueError(
            f"{path / filled[0].name} holds images but no class folders, and {path} no list of their classes; "
            f"sort them into {path}/CLASS/, or list them in {path / METADATA}"
        )
    _refuse_others_within(path, filled)
    if twice := [top for top in filled if not top.direct and [*map(str.casefold, top.inner)] == [top.name.casefold()]]:
        name = twice[0].name
        raise ValueError(
            f"{listed(top.name for top in twice)} in {path} hold nothing but a folder of the same name, as unpacked "
            f"archives do; give {path / name / name} if it holds the classes"
        )
    names = {top.name.casefold() for top in filled}
    for copy in (top for top in filled if len(top.inner) == len(filled) - 1 > 1):
        if {copy.name.casefold(), *map(str.casefold, copy.inner)} == names:
            raise ValueError(
                f"{copy.name} in {path} holds {listed(copy.inner)}, as all folders beside it are called; give "
                f"{path / copy.name} or remove it if it is a copy, and list the images in {METADATA} if it is a class"
            )
    if any(top.direct for top in filled):
        return
    holders: dict[str, list[str]] = {}
    for top in filled:
        for name in top.class_folders:
            holders.setdefault(name, []).append(top.name)
    if len(holders) == 1:  # CLASS/originals/IMAGE: of a single class in several domains nobody would learn
        return
    splits = splits_among(holders)
    if shared := [name for name in holders if len(holders[name]) > 1 and name not in splits]:
        first = holders[shared[0]]
        raise ValueError(
            f"{listed(first)} in {path} all hold a folder {shared[0]}, as splits or domains do; give one of them, "
            f"such as {path / first[0]}, or list the images in {METADATA}"
        )
