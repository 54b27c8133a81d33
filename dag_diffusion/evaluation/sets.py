"""The sets that an evaluation compares, each with its baseline: read from folders, or drawn from them at random.

    FOLDER          the images that are there, one set
    random:FOLDER   IPC images of each class, drawn anew for each seed; of several IPC, one baseline each

A set is compared with the random draw of its own IPC, or with the first set where there is no random draw.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dag_diffusion.data.canvas import Canvas
from dag_diffusion.data.class_folders import limited_to
from dag_diffusion.data.pools import Pool, read_pool
from dag_diffusion.processes import warn_once

from .labelled_images import LabelledImages, Labels, RandomDraw, digest, fingerprints, load_labelled_images
from .soft_labels.teachers import LabelSource, require_one_teacher
from .trials import Source

logger = logging.getLogger(__name__)
RANDOM = "random:"


@dataclass(frozen=True, kw_only=True)
class ComparedSets:
    """Sets by name, ready for ``evaluate``.

    Attributes:
        sources: name to images, or to what draws them.
        baselines: name to that of the set that it is compared with; a baseline's own is itself.
        digests: name to a hash of its images and labels.
        soft_digests: the same with soft labels, where they were asked for.
        teachers: name to whose soft labels a set has, where they were asked for.
        has_random: whether the baselines are random draws.
    """

    sources: dict[str, Source]
    baselines: dict[str, str]
    digests: dict[str, str]
    soft_digests: dict[str, str]
    teachers: dict[str, LabelSource] = field(default_factory=dict)
    has_random: bool


def load_compared_sets(
    texts: Sequence[str],
    test: LabelledImages,
    *,
    ipc: Sequence[int] = (),
    labels: Labels = "hard",
    class_map: Mapping[str, str | int] | None = None,
    canvas: Canvas | None = None,
    pools: Mapping[str, Pool] | None = None,
) -> ComparedSets:
    """Read the sets that texts such as ``random:pool`` and ``runs/first/set-dgs`` name.

    Args:
        texts: folders, parquet files or saved datasets; ``random:`` before one draws from it.
        test: rules size, channels and classes.
        ipc: at which the random draws are made; by default that of each set that is not drawn.
        labels: ``soft`` or ``views``: also read these of every set.
        class_map: class names of the sets to those of the test images, where no rule finds them.
        canvas: what images are laid on, as of ``read_pool``.
        pools: those of the texts where they have been listed already, as by ``listed_sets``.

    Raises:
        ValueError: a set is named twice, cannot be read, has other classes than the test images, or has an IPC that
            nothing random is drawn at; or ``ipc`` is given and nothing is drawn.
    """
    require_drawable(texts, ipc, labels)
    names = named_sets(texts)
    random = {name for name, text in names.items() if text.startswith(RANDOM)}
    listed = pools or listed_sets(texts, canvas)
    loaded = {name: load_images(listed[text], test, labels=labels, class_map=class_map) for name, text in names.items()}
    _warn_of_test_images(loaded, test)
    require_one_teacher((name, images.taught) for name, images in loaded.items() if images.taught is not None)
    drawn = {name: images for name, images in loaded.items() if name in random}
    sizes = {name: _even_size(name, images) for name, images in loaded.items() if name not in random} if drawn else {}
    drawn_at = sorted(set(ipc) or set(sizes.values()))
    for name, size in sizes.items():
        if size not in drawn_at:
            raise ValueError(
                f"{name} has {size} images a class, but random images are drawn at "
                f"{' and '.join(map(str, drawn_at))}, which does not compare; add ipc={size}, or leave ipc out"
            )
    return _arrange(loaded, drawn, sizes, drawn_at, labels)


def require_drawable(texts: Sequence[str], ipc: Sequence[int], labels: Labels) -> None:
    """Check what can be checked of texts as of ``load_compared_sets`` before any image is read.

    Raises:
        ValueError: a set is named twice, or what is to be drawn cannot be.
    """
    named_sets(texts)
    random = [text for text in texts if text.startswith(RANDOM)]
    if random and labels == "views":
        raise ValueError(
            "labels per view are of a whole set, and random:FOLDER draws from one; write random sets with "
            "subsample(method='random'), and label each"
        )
    if ipc and not random:
        raise ValueError(
            f"ipc={ipc[0]} is for random sets, but there are none; name one as random:FOLDER, or leave it out"
        )
    if len(random) == len(texts) and not ipc:
        raise ValueError("only random draws are given, so that their IPC is open; add ipc=10, or a distilled set")


def listed_sets(texts: Sequence[str], canvas: Canvas | None = None) -> dict[str, Pool]:
    """The images that each text names, listed and not yet read."""
    return {text: read_pool(text.removeprefix(RANDOM), canvas=canvas) for text in texts}


def drawn_from(pool: Pool, sets: Iterable[Mapping[int, str]], real: Pool) -> Pool:
    """Of images to draw from, those of the classes that are compared, called as in the sets or as the real images are.

    Args:
        sets: label to name of each set's classes.
        real: images of the classes that are compared.
    """
    return limited_to(limited_to(pool, sets, "the sets"), [real.class_names], "the real images")


def load_images(
    pool: Pool,
    test: LabelledImages,
    *,
    labels: Labels = "hard",
    class_map: Mapping[str, str | int] | None = None,
) -> LabelledImages:
    """The images of a pool, brought to size, channels and labels of the test images."""
    height, width, channels = test.images.shape[1:]
    return load_labelled_images(
        pool,
        size=(height, width),
        channels=channels,
        class_names=test.class_names,
        class_map=class_map,
        labels=labels,
    )


def _arrange(
    loaded: dict[str, LabelledImages],
    pools: dict[str, LabelledImages],
    sizes: dict[str, int],
    drawn_at: Sequence[int],
    labels: Labels,
) -> ComparedSets:
    first = next(iter(pools or loaded))
    sources: dict[str, Source] = {}
    baselines: dict[str, str] = {}
    digests: dict[str, str] = {}
    soft: dict[str, str] = {}
    teachers: dict[str, LabelSource] = {}
    for name, images in loaded.items():
        for size in drawn_at if name in pools else [None]:
            given = name if size is None else _drawn_name(name, size)
            sources[given] = images if size is None else _random_draw(images, size)
            baselines[given] = _drawn_name(first, size or sizes[name]) if pools else first
            digests[given] = digest(images)
            if labels != "hard":
                soft[given] = digest(images, soft_labels=True)
            if images.taught is not None:
                teachers[given] = images.taught
    return ComparedSets(
        sources=sources,
        baselines=baselines,
        digests=digests,
        soft_digests=soft,
        teachers=teachers,
        has_random=bool(pools),
    )


def _random_draw(images: LabelledImages, size: int) -> RandomDraw:
    draw = RandomDraw(images, size)
    draw(0)  # a class with fewer images is refused now
    return draw


def _drawn_name(name: str, size: int) -> str:
    return f"{name}, IPC {size}"


def folders_of(texts: Sequence[str]) -> list[str]:
    """Where the images of sets are, drawn anew or not."""
    return [text.removeprefix(RANDOM) for text in texts]


def named_sets(texts: Sequence[str]) -> dict[str, str]:
    """Each set's folder name, or the whole text where folder names are equal."""
    places = [(text.startswith(RANDOM), Path(text.removeprefix(RANDOM)).resolve()) for text in texts]
    if len(set(places)) < len(places):
        raise ValueError("the same set is given twice; name each set once, the baseline first")
    short = [f"{RANDOM if drawn else ''}{place.name}" for drawn, place in places]
    return dict(zip(short if len(set(short)) == len(short) else texts, texts, strict=True))


def _warn_of_test_images(loaded: Mapping[str, LabelledImages], test: LabelledImages) -> None:
    known = fingerprints(test)
    for name, images in loaded.items():
        if shared := len(fingerprints(images) & known):
            warn_once(logger, "%d images of %s are test images too, so that its accuracy says too much", shared, name)


def _even_size(name: str, images: LabelledImages) -> int:
    counts = np.unique(np.asarray(images.labels), return_counts=True)[1]
    if len(counts) < len(images.class_names) or counts.min() != counts.max():
        raise ValueError(
            f"{name} has {counts.min()} to {counts.max()} images a class, so that no random draw has its IPC; "
            f"draw from it as {RANDOM}FOLDER, or leave the random sets out"
        )
    return int(counts[0])
