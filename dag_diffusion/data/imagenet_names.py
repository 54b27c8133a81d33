"""ImageNet's synsets, which name the folders of its images, and what they are called.

    n01440764 <-> 0 <-> "tench, Tinca tinca"

Asked of timm, when a synset is met: the 1000 of the challenge in their usual order, and the other 20,844.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress

IMAGENET_CLASSES = 1000
SYNSET = re.compile(r"n\d{8}")


def is_synset(name: str) -> bool:
    """Whether a name has the form of a synset, such as n01440764."""
    return SYNSET.fullmatch(name.strip()) is not None


def imagenet_names() -> dict[int, str]:
    """Label to description of the 1000 classes, in their usual order."""
    return dict(enumerate(_descriptions().values()))


def imagenet_synsets() -> list[str]:
    """Synsets of the 1000 classes, in their usual order."""
    return list(_descriptions())


def synsets_of(
    names: Mapping[int, str], plain: Callable[[str], str], synonyms: Callable[[str], set[str]]
) -> dict[int, str]:
    """Label to synset, of names that are one or stand at its place among the 1000 of ImageNet in their usual order."""
    found = {label: name.strip() for label, name in names.items() if is_synset(name)}
    if set(names) == set(range(IMAGENET_CLASSES)):
        for label, (synset, description) in enumerate(_descriptions().items()):
            first = description.split(",")[0]
            usual = {plain(first), plain(f"{first}_{label}"), plain(f"LABEL_{label}"), plain(str(label))}
            if usual & synonyms(names[label]):
                found[label] = synset
    return found


def described(names: Mapping[int, str]) -> dict[int, str]:
    """The same classes with synsets replaced by what ImageNet calls them, also those beyond its 1000 classes."""
    if not any(map(is_synset, names.values())):
        return dict(names)
    from timm.data import ImageNetInfo

    describe = ImageNetInfo().label_name_to_description  # of all 21,844 synsets, not only of the usual subset
    found = dict(names)
    for label, name in names.items():
        if is_synset(name):
            with suppress(KeyError):  # no synset of ImageNet's, so a name like any other
                found[label] = describe(name.strip())
    return found


def _descriptions() -> dict[str, str]:
    from timm.data import ImageNetInfo

    return ImageNetInfo("imagenet-1k").label_descriptions(as_dict=True)
