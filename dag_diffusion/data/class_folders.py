"""Folders of real images, such as ImageNet's, of which only some classes are listed and few images are decoded.

FOLDER/n01440764/*.JPEG -> rows with another's labels and names -> pixels of those rows that are asked for

Subsets of ten ImageNet classes that papers report on, and which of two splits a test folder holds.

    ILSVRC: 50 validation images a class, 500 in all        fastai: the same images divided anew, some 3,900 to test on

Both are called ImageNette and ImageWoof.  Most of fastai's test images are training images of ILSVRC, so that every
classifier trained on ImageNet has seen them, and figures of one split do not compare with those of the other.
The ids stand in the order of the field, which is that of the labels; ImageIDC are the first ten of IDC's own list of
100, not of a sorted one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from .class_names import match_classes
from .imagenet_names import IMAGENET_CLASSES, is_synset
from .pools import PROVENANCE, Pool, read_pool
from .rows import SELECTED, Row
from .sources.folders import class_folders_in, images_in, labels_by_name, listed_images
from .sources.records import FILES as RECORDS
from .sources.shards import shards_of

NO_BARE_FOLDER = (*RECORDS, SELECTED, PROVENANCE, "state.json", "dataset_dict.json")
SHOWN = 3


def _is_bare(path: Path) -> bool:
    if not path.is_dir() or any((path / name).exists() for name in NO_BARE_FOLDER):
        return False
    return shards_of(path) is None and listed_images(path) is None


def class_names_in(path: Path) -> dict[int, str]:
    """Label to class name of real images, whose files are not listed if folders tell it.

    Raises:
        ValueError: a folder has no class folders, as ILSVRC's validation set comes.
    """
    if not _is_bare(path):
        return read_pool(path).class_names
    return {label: name for name, label in labels_by_name(class_folders_in(path)).items()}


def real_images(path: Path, names: Mapping[int, str], written: Mapping[int, str]) -> Pool:
    """Real images of some classes, with the labels and names that the pipeline gives them.

    Args:
        path: whatever ``read_pool`` reads.  Of a bare folder only these classes are listed, and links are followed.
        names: label of the pipeline to class name.
        written: the same labels to what the user called them, which may be the very name of a folder.

    Raises:
        ValueError: a class is missing or has no images.
    """
    bare = _is_bare(path)
    folders = class_folders_in(path) if bare else {}
    pool = None if bare else read_pool(path)
    known = {label: name for name, label in labels_by_name(folders).items()} if pool is None else pool.class_names
    table = _places_of(names, written, known, f"the folder {path}")
    if pool is None:
        listed = [row for theirs in sorted(table.values()) for row in _listed(path, theirs, known[theirs], folders)]
        pool = Pool(path, listed)
    ours = {theirs: label for label, theirs in table.items()}
    kept = pool.select([index for index, row in enumerate(pool.rows) if row["label"] in ours])
    rows = [row | {"label": ours[row["label"]], "class_name": names[ours[row["label"]]]} for row in kept.rows]
    return replace(kept, rows=rows)


def require_enough(pool: Pool, least: int, what: str, way: str = "leave such classes out") -> None:
    """Check that each class has so many images.

    Args:
        what: needs them, such as ``ipc=10``.
        way: to do without such classes.

    Raises:
        ValueError: one has fewer; three are named.
    """
    counts = Counter(pool.labels.tolist())
    few = [f"{name} ({counts[label]})" for label, name in pool.class_names.items() if counts[label] < least]
    if few:
        more = f" and {len(few) - SHOWN} more" if len(few) > SHOWN else ""
        raise ValueError(
            f"{pool.path} has fewer than {least} images, which {what} needs, of {', '.join(few[:SHOWN])}{more}; lower "
            f"that, add images, or {way}"
        )


def _places_of(
    names: Mapping[int, str], written: Mapping[int, str], known: Mapping[int, str], owner: str
) -> dict[int, int]:
    """Labels of the pipeline to those of the folder, whose very names the user may have written."""
    by_name = {name: label for label, name in known.items()}
    table = {label: by_name[text] for label, text in written.items() if text in by_name}
    table |= match_classes({k: name for k, name in names.items() if k not in table}, known, owner, places=True)
    if len(set(table.values())) < len(table):
        twice = next(theirs for theirs in table.values() if list(table.values()).count(theirs) > 1)
        ours = [names[label] for label, theirs in table.items() if theirs == twice]
        raise ValueError(f"{owner} has one class, {known[twice]!r}, for {' and '.join(ours)}; choose one of these")
    return table


def _listed(path: Path, label: int, name: str, folders: Mapping[str, str]) -> list[Row]:
    found = sorted(images_in(path, folders[name]))
    if not found:
        raise ValueError(f"{path / name} holds no images; put those of the class there, or choose other classes")
    return [{"file_name": file, "label": label, "class_name": name} for file in found]


SUBSETS = {
    "ImageNette": (
        "n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
        "n03394916", "n03417042", "n03425413", "n03445777", "n03888257",
    ),
    "ImageWoof": (
        "n02096294", "n02093754", "n02111889", "n02088364", "n02086240",
        "n02089973", "n02087394", "n02115641", "n02099601", "n02105641",
    ),
    "ImageIDC": (
        "n02869837", "n01749939", "n02488291", "n02107142", "n13037406",
        "n02091831", "n04517823", "n04589890", "n03062245", "n01773797",
    ),
}  # fmt: skip
ILSVRC_TEST_IMAGES = 50  # of every class in ILSVRC's validation set
FASTAI_TEST_IMAGES = {"ImageNette": 3925, "ImageWoof": 3929}


def subset_of(folders: Iterable[str]) -> str | None:
    """Name of the subset whose class folders these are, in any order; None for others."""
    found = set(folders)
    return next((name for name, synsets in SUBSETS.items() if found == set(synsets)), None)


def split_of(counts: Mapping[str, int]) -> str:
    """``ilsvrc``, ``fastai`` or ``other``: which split of a subset a test folder is.

    Args:
        counts: class folder to number of test images; other classes than those of a subset, or all 1,000, are
            ``other``.
    """
    subset = subset_of(counts)
    whole = len(counts) == IMAGENET_CLASSES and all(map(is_synset, counts))
    if (subset is not None or whole) and set(counts.values()) == {ILSVRC_TEST_IMAGES}:
        return "ilsvrc"
    if subset is not None and sum(counts.values()) == FASTAI_TEST_IMAGES.get(subset):
        return "fastai"
    return "other"


def split_warning(counts: Mapping[str, int], stated: str | None = None) -> str:
    """One line on a test folder that is not what figures of the field are of; empty if there is nothing to say.

    Args:
        counts: class folder to number of test images.
        stated: the split that the user believes it to be; None if the user did not say.
    """
    found, subset, total = split_of(counts), subset_of(counts), sum(counts.values())
    if found == "fastai":
        return (
            f"the {total:,} test images are fastai's split of {subset}, and so are the figures: they do not compare "
            "with those of ILSVRC's 500, and most of these images were ILSVRC training images that the guide has seen"
        )
    if stated and stated != found:
        return (
            f"the split is said to be {stated!r}, but {total:,} test images of {len(counts)} classes are "
            f"{'none that is known' if found == 'other' else found}; figures are of these images"
        )
    return ""
