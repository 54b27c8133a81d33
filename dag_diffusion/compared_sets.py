"""Which sets an evaluation trains on, at which IPC, and which random draw each is compared with.

    FOLDER          the images that are there, one set
    random:FOLDER   IPC images a class, drawn anew for each seed; of several IPC, one baseline each

A set is compared with the random draw of its own IPC, or with the first set where there is no random draw.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .evaluation import Source
from .labelled_images import LabelledImages, RandomDraw, digest, fingerprints, load_labelled_images
from .pools import read_pool

logger = logging.getLogger(__name__)
RANDOM = "random:"


@dataclass(frozen=True)
class ComparedSets:
    """Sets by name, ready for ``evaluate``.

    Attributes:
        sources: name to images, or to what draws them.
        baselines: name to that of the set that it is compared with; the baseline's own is itself.
        digests: name to what tells its images and labels from others.
        soft_digests: the same with soft labels, where they were asked for.
        has_random: whether the baselines are random draws.
    """

    sources: dict[str, Source]
    baselines: dict[str, str]
    digests: dict[str, str]
    soft_digests: dict[str, str]
    has_random: bool


def load_compared_sets(
    texts: Sequence[str], test: LabelledImages, *, ipc: Sequence[int] = (), soft_labels: bool = False
) -> ComparedSets:
    """Read the sets that texts such as ``random:pool`` and ``runs/first/set-dgs`` name.

    Args:
        texts: folders, parquet files or saved datasets; ``random:`` before one draws from it.
        test: rules size, channels and classes.
        ipc: at which the random draws are made; by default that of each set that is not drawn.
        soft_labels: also read the soft labels of every set.

    Raises:
        ValueError: a set is named twice, cannot be read, has other classes than the test images, or has an IPC that
            nothing random is drawn at; or ``ipc`` is given and nothing is drawn.
    """
    names = _names(texts)
    places = {name: Path(text.removeprefix(RANDOM)) for name, text in names.items()}
    loaded = {name: load_images(place, test, soft_labels=soft_labels) for name, place in places.items()}
    _warn_of_test_images(loaded, test)
    pools = {name: images for name, images in loaded.items() if names[name].startswith(RANDOM)}
    fixed = {name: images for name, images in loaded.items() if name not in pools}
    if ipc and not pools:
        raise ValueError("--ipc says how many images to draw, but no set is drawn; name one as random:FOLDER")
    sizes = {name: _even_size(name, images) for name, images in fixed.items()} if pools else {}
    drawn_at = sorted(set(ipc) or set(sizes.values()))
    if pools and not drawn_at:
        raise ValueError("only random draws are given, so that their IPC is open; add --ipc 10, or a distilled set")
    for name, size in sizes.items():
        if size not in drawn_at:
            raise ValueError(
                f"{name} has {size} images a class, but random images are drawn at {_listed(drawn_at)}, which does not "
                f"compare; add --ipc {size}, or leave --ipc out"
            )
    return _arranged(loaded, pools, sizes, drawn_at, soft_labels)


def _arranged(
    loaded: dict[str, LabelledImages],
    pools: dict[str, LabelledImages],
    sizes: dict[str, int],
    drawn_at: Sequence[int],
    soft_labels: bool,
) -> ComparedSets:
    first = next(iter(pools or loaded))
    sources: dict[str, Source] = {}
    baselines: dict[str, str] = {}
    digests: dict[str, str] = {}
    soft: dict[str, str] = {}
    for name, images in loaded.items():
        for size in drawn_at if name in pools else [None]:
            given = name if size is None else _drawn_name(name, size)
            sources[given] = images if size is None else _checked_draw(images, size)
            baselines[given] = _drawn_name(first, size or sizes[name]) if pools else first
            digests[given] = digest(images)
            if soft_labels:
                soft[given] = digest(images, soft_labels=True)
    return ComparedSets(sources, baselines, digests, soft, bool(pools))


def _checked_draw(images: LabelledImages, size: int) -> RandomDraw:
    draw = RandomDraw(images, size)
    draw(0)  # a class with fewer images is refused now
    return draw


def _drawn_name(name: str, size: int) -> str:
    return f"{name}, IPC {size}"


def _names(texts: Sequence[str]) -> dict[str, str]:
    """Short names where they tell the sets apart, and the texts themselves where they do not."""
    places = [(text.startswith(RANDOM), Path(text.removeprefix(RANDOM)).resolve()) for text in texts]
    if len(set(places)) < len(places):
        raise ValueError("the same set is given twice; name each set once, the baseline first")
    short = [f"{RANDOM if drawn else ''}{place.name}" for drawn, place in places]
    return dict(zip(short if len(set(short)) == len(short) else texts, texts, strict=True))


def _warn_of_test_images(loaded: Mapping[str, LabelledImages], test: LabelledImages) -> None:
    known = fingerprints(test)
    for name, images in loaded.items():
        if shared := len(fingerprints(images) & known):
            logger.warning("%d images of %s are test images too, so that its accuracy says too much", shared, name)


def load_images(path: Path, test: LabelledImages, *, soft_labels: bool = False) -> LabelledImages:
    """The images at ``path``, brought to size, channels and labels of the test images."""
    height, width, channels = test.images.shape[1:]
    return load_labelled_images(
        read_pool(path),
        size=(height, width),
        channels=channels,
        class_names=test.class_names,
        soft_labels=soft_labels,
    )


def _even_size(name: str, images: LabelledImages) -> int:
    counts = np.unique(np.asarray(images.labels), return_counts=True)[1]
    if len(counts) < len(images.class_names) or counts.min() != counts.max():
        raise ValueError(
            f"{name} has {counts.min()} to {counts.max()} images a class, so that no random draw has its IPC; "
            f"draw from it as {RANDOM}FOLDER, or leave the random sets out"
        )
    return int(counts[0])


def _listed(sizes: Iterable[int]) -> str:
    return " and ".join(map(str, sizes))
