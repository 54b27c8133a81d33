"""ImageNet: its synsets, which name the folders of its images, their descriptions, and the subsets of the field.

    n01440764 <-> 0 <-> "tench, Tinca tinca"

Asked of timm, when a synset is met: the 1000 of the challenge in their usual order, and the other 20,844.

Of the subsets of ten classes that papers report on there are two splits, both called ImageNette and ImageWoof:

    ILSVRC: 50 validation images a class, 500 in all        fastai: the same images divided anew, some 3,900 to test on

Most of fastai's test images are training images of ILSVRC, so that every classifier trained on ImageNet has seen them,
and figures of one split do not compare with those of the other.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

IMAGENET_CLASSES = 1000
SYNSET = re.compile(r"n\d{8}")
SYNSET_AND_MORE = re.compile(r"(?:\d+[-_. ])?(n\d{8})(?:[-_. ].*)?")  # such as n02085620-Chihuahua, 151_n02085620
# in the order of the field, which is that of the labels; ImageIDC are the first ten of IDC's own list of 100
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


def is_synset(name: str) -> bool:
    """Whether a name has the form of a synset, such as n01440764."""
    return SYNSET.fullmatch(name.strip()) is not None


def synset_in(name: str) -> str | None:
    """The synset that a name is, or that stands in it beside a number or a word; else None."""
    found = SYNSET_AND_MORE.fullmatch(name.strip())
    return found and found[1]


def require_distinct_synsets(names: Iterable[str], source: object) -> None:
    """Refuse two folders of one synset, as CaO2 leaves ``n01440764`` and ``n01440764_ss``; ValueError."""
    first: dict[str, str] = {}
    for name in names:
        if (synset := synset_in(name)) and (other := first.setdefault(synset, name)) != name:
            raise ValueError(f"{source} has {synset} twice, as {other!r} and {name!r}; move one of both away")


def imagenet_names() -> dict[int, str]:
    """Label to description of the 1000 classes, in their usual order."""
    return dict(enumerate(_descriptions().values()))


def imagenet_synsets() -> list[str]:
    """Synsets of the 1000 classes, in their usual order."""
    return list(_descriptions())


def synsets_of(
    names: Mapping[int, str], plain: Callable[[str], str], synonyms: Callable[[str], set[str]]
) -> dict[int, str]:
    """Label to synset, of names that are or hold one, or stand at its place among the 1000 in their usual order."""
    found = {label: synset for label, name in names.items() if (synset := synset_in(name))}
    if set(names) == set(range(IMAGENET_CLASSES)):
        for label, (synset, description) in enumerate(_descriptions().items()):
            first = description.split(",")[0]
            usual = {plain(first), plain(f"{first}_{label}"), plain(f"LABEL_{label}"), plain(str(label))}
            if usual & synonyms(names[label]):
                found[label] = synset
    return found


def described(names: Mapping[int, str]) -> dict[int, str]:
    """The same classes with synsets replaced by what ImageNet calls them, also those beyond its 1000 classes."""
    if not any(map(synset_in, names.values())):
        return dict(names)
    from timm.data import ImageNetInfo

    describe = ImageNetInfo().label_name_to_description  # of all 21,844 synsets, not only of the usual subset
    found = dict(names)
    for label, name in names.items():
        if synset := synset_in(name):
            with suppress(KeyError):  # no synset of ImageNet's, so a name like any other
                found[label] = describe(synset)
    return found


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


def _descriptions() -> dict[str, str]:
    from timm.data import ImageNetInfo

    return ImageNetInfo("imagenet-1k").label_descriptions(as_dict=True)
