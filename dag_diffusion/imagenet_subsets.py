"""Subsets of ten ImageNet classes that papers report on, and which of two splits a test folder holds.

    ILSVRC: 50 validation images a class, 500 in all        fastai: the same images divided anew, some 3,900 to test on

Both are called ImageNette and ImageWoof.  Most of fastai's test images are training images of ILSVRC, so that every
classifier trained on ImageNet has seen them, and figures of one split do not compare with those of the other.
The ids stand in the order of the field, which is that of the labels; ImageIDC are the first ten of IDC's own list of
100, not of a sorted one.
"""

from collections.abc import Iterable, Mapping

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
        counts: class folder to number of test images; other classes than those of a subset are ``other``.
    """
    subset = subset_of(counts)
    if subset is not None and set(counts.values()) == {ILSVRC_TEST_IMAGES}:
        return "ilsvrc"
    if subset is not None and sum(counts.values()) == FASTAI_TEST_IMAGES.get(subset):
        return "fastai"
    return "other"


def split_warning(counts: Mapping[str, int], stated: str = "") -> str:
    """One line on a test folder that is not what figures of the field are of; empty if there is nothing to say.

    Args:
        counts: class folder to number of test images.
        stated: the split that the user believes it to be; empty if nothing was said.
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
