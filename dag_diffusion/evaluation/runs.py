"""An evaluation from folders to tables: read the sets, train on each, keep every result at once, compare.

    FOLDER          the images that are there, one set
    random:FOLDER   IPC images of each class, drawn anew for each seed; of several IPC, one baseline each

    results.json: begun -> one more training -> ... -> finished

Several processes, as accelerate starts them, divide the trainings; the first writes the record and makes the tables.
A set is compared with the random draw of its own IPC, or with the first set where there is no random draw.  The same
evaluation goes on after a kill; another one into the same file is refused.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dag_diffusion import embedded
from dag_diffusion.data.canvas import Canvas
from dag_diffusion.data.common_kind import common_kind
from dag_diffusion.data.pools import read_pool
from dag_diffusion.processes import fail_together, gather, is_main_process, rank
from dag_diffusion.progress import Progress, Stage, renamed

from .comparisons import by_setting, setting_of, summarise
from .dd_ranking import scores, without_augmentation
from .labelled_images import (
    LabelledImages,
    Labels,
    RandomDraw,
    as_labels,
    digest,
    fingerprints,
    load_labelled_images,
    usual_normalisation,
)
from .protocols import Protocol, as_protocol
from .records import (
    EvaluationRecord,
    append_result,
    begun_precision,
    evaluation_record,
    part_of,
    write_summary,
)
from .results import Result
from .soft_labels.teachers import LabelSource
from .tables import Table, evaluation_tables, labels_table, ranking_table
from .trials import Source, evaluate, require_at_once, settled

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


@dataclass(frozen=True)
class EvaluationConfig:
    """How every set is evaluated.

    Attributes:
        protocol: how to train: classic, hard-label, unified or quick.  See ``list_protocols``; or one of your own.
        networks: network to train, such as convnet-3, convnet-6-w64, resnet-18, resnet-ap-10 or timm/NAME.  See
            ``list_networks``.
        seeds: of the trainings and draws.
        labels: hard; soft or views for those that a teacher has written, one an image or one a view; never in one
            table.
        track_best: also test while training and report the best epoch, as papers do; slow.
        without_augmentation: train a second time without augmentation, for the augmentation-robust score.
        precision: auto, float32 or bfloat16; default: the protocol's own.  ``auto`` is bfloat16 on CPUs with
            instructions for it, and what an evaluation was begun in where it goes on.
        device: of the trainings.
        at_once: trainings of equally many images done as one stacked network; default: on a GPU 20, or as many as its
            memory takes, and 1 elsewhere.
    """

    protocol: str | Protocol = "classic"
    _: KW_ONLY
    networks: Sequence[str] = ("convnet-3",)
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    labels: Labels = "hard"
    track_best: bool = False
    without_augmentation: bool = False
    precision: str | None = None
    device: str = "cpu"
    at_once: int | None = None

    def __post_init__(self) -> None:
        as_labels(self.labels)
        require_at_once(self.at_once)
        _ = self.protocols  # refuses a protocol or precision that there is not

    def settled(self, begun: Collection[str]) -> "EvaluationConfig":
        """The same in one precision: that in which an evaluation was ``begun``, or what suits the device."""
        protocol = settled(self.protocols[0], begun, self.device)
        return replace(self, precision=protocol.precision)

    @property
    def protocols(self) -> list[Protocol]:
        """The protocol, and the same without augmentation if that is asked for."""
        augmented = as_protocol(self.protocol)
        if self.precision is not None:
            augmented = replace(augmented, precision=self.precision)
        return [augmented, *([without_augmentation(augmented)] if self.without_augmentation else [])]

    def trainings(self, sets: int, *, full: bool) -> int:
        """How many trainings so many sets take, with or without all real images."""
        return (sets * len(self.protocols) + full) * len(self.networks) * len(self.seeds)


def load_compared_sets(
    texts: Sequence[str],
    test: LabelledImages,
    *,
    ipc: Sequence[int] = (),
    labels: Labels = "hard",
    canvas: Canvas | None = None,
) -> ComparedSets:
    """Read the sets that texts such as ``random:pool`` and ``runs/first/set-dgs`` name.

    Args:
        texts: folders, parquet files or saved datasets; ``random:`` before one draws from it.
        test: rules size, channels and classes.
        ipc: at which the random draws are made; by default that of each set that is not drawn.
        labels: ``soft`` or ``views``: also read these of every set.
        canvas: what images are laid on, as of ``read_pool``.

    Raises:
        ValueError: a set is named twice, cannot be read, has other classes than the test images, or has an IPC that
            nothing random is drawn at; or ``ipc`` is given and nothing is drawn.
    """
    names = named_sets(texts)
    places = {name: Path(text.removeprefix(RANDOM)) for name, text in names.items()}
    if labels == "views" and any(text.startswith(RANDOM) for text in texts):
        raise ValueError(
            "labels per view are of a whole set, and random:FOLDER draws from one; write random sets with "
            "subsample(method='random'), and label each"
        )
    loaded = {name: load_images(place, test, labels=labels, canvas=canvas) for name, place in places.items()}
    _warn_of_test_images(loaded, test)
    _require_one_teacher(loaded)
    pools = {name: images for name, images in loaded.items() if names[name].startswith(RANDOM)}
    fixed = {name: images for name, images in loaded.items() if name not in pools}
    if ipc and not pools:
        raise ValueError(
            f"ipc={ipc[0]} is for random sets, but there are none; name one as random:FOLDER, or leave it out"
        )
    sizes = {name: _even_size(name, images) for name, images in fixed.items()} if pools else {}
    drawn_at = sorted(set(ipc) or set(sizes.values()))
    if pools and not drawn_at:
        raise ValueError("only random draws are given, so that their IPC is open; add ipc=10, or a distilled set")
    for name, size in sizes.items():
        if size not in drawn_at:
            raise ValueError(
                f"{name} has {size} images a class, but random images are drawn at "
                f"{' and '.join(map(str, drawn_at))}, which does not compare; add ipc={size}, or leave ipc out"
            )
    return _arrange(loaded, pools, sizes, drawn_at, labels)


def load_images(
    path: Path, test: LabelledImages, *, labels: Labels = "hard", canvas: Canvas | None = None
) -> LabelledImages:
    """The images at ``path``, brought to size, channels and labels of the test images."""
    height, width, channels = test.images.shape[1:]
    return load_labelled_images(
        read_pool(path, canvas=canvas),
        size=(height, width),
        channels=channels,
        class_names=test.class_names,
        labels=labels,
    )


def evaluate_folders(
    sets: Sequence[str],
    config: EvaluationConfig,
    *,
    test: Path | None = None,
    full: Path | None = None,
    ipc: Sequence[int] = (),
    size: int | None = None,
    canvas: Canvas | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
) -> tuple[list[Result], list[Table]]:
    """Read sets and real images, then ``run_evaluation``.

    Args:
        sets: as of ``load_compared_sets``.
        test: real test images; None: those of Fashion-MNIST.
        full: all real training images, for hard-label recovery.
        ipc: images per class that random sets are drawn with; by default those of the other sets.
        size: pixels per side to resize to; None: as most test images, see ``data.common_kind``.
        canvas: what all images are laid on, as of ``read_pool``.
        output, progress: as of ``run_evaluation``.

    Returns:
        the results of these sets, networks and seeds, and the tables.

    Raises:
        ValueError: as ``load_compared_sets`` and ``run_evaluation``.
    """
    with fail_together():
        real = _real_test_images(test, size, canvas, progress)
        compared = load_compared_sets(sets, real, ipc=ipc, labels=config.labels, canvas=canvas)
        everything = {} if full is None else {f"all of {full.name}": load_images(full, real, canvas=canvas)}
    name = f"{len(real):,} of {test.name if test else 'Fashion-MNIST'}"
    return run_evaluation(compared, real, config, test_name=name, full=everything, output=output, progress=progress)


def _real_test_images(
    path: Path | None, size: int | None, canvas: Canvas | None, progress: Progress | None
) -> LabelledImages:
    tests = read_pool(path or embedded.TEST, canvas=canvas)
    Stage("test images read", len(tests), progress)  # their headers first
    kind = common_kind(tests)
    for mixture in (kind.mixed_colours, kind.mixed_sizes if size is None else ""):
        if mixture and is_main_process():
            logger.warning("test images: %s", mixture)
    height_and_width = kind.size if size is None else (size, size)
    told = renamed(progress, "test images read")
    return load_labelled_images(tests, size=height_and_width, channels=kind.channels, progress=told)


def run_evaluation(
    sets: ComparedSets,
    test: LabelledImages,
    config: EvaluationConfig,
    *,
    test_name: str = "",
    full: Mapping[str, LabelledImages] = {},
    output: Path | None = None,
    progress: Progress | None = None,
) -> tuple[list[Result], list[Table]]:
    """Train on all sets, or on what an earlier run into ``output`` left to do, and make the tables.

    Args:
        full: at most one name, and all real images, for hard-label recovery.
        output: JSON file that receives every result at once, with CSV beside it; a second run goes on.
        progress: called in the first process with stage, trainings that all have finished, and their total.

    Returns:
        the results of these sets, networks and seeds, and the tables.

    Raises:
        ValueError: ``output`` holds an evaluation of other images or another protocol; or see ``evaluate``.
    """
    with ExitStack() as leaving:
        record = None
        with fail_together():
            begun = begun_precision(output) if output is not None else set()
        config = config.settled(begun)
        with fail_together():
            if output is not None and is_main_process():
                settings = _settings(sets, test, config, test_name, full)
                record = leaving.enter_context(evaluation_record(output, settings))
        finished = Stage("trainings", config.trainings(len(sets.sources), full=bool(full)), progress)
        jobs, keep = _jobs(sets, config, full), _Keeper(output, record)
        results = _train(jobs, test, config, test_name, keep, finished)
    shown = _complete(results, config.seeds)
    tables = evaluation_tables(shown, sets.baselines)
    if sets.teachers:
        tables.append(labels_table(sets.teachers))
    if sets.has_random and (full or config.without_augmentation):
        tables.append(ranking_table(scores(shown, sets.baselines, full=next(iter(full), None))))
    if output is not None and is_main_process():
        groups = by_setting(shown).values()  # as the tables have them, so that Holm's correction counts the same
        write_summary(output, [row for own in groups for row in summarise(own, sets.baselines)])
    return shown, tables


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
            logger.warning("%d images of %s are test images too, so that its accuracy says too much", shared, name)


def _require_one_teacher(loaded: Mapping[str, LabelledImages]) -> None:
    """Labels of a better teacher lift any set."""
    teachers = {name: images.taught.teacher for name, images in loaded.items() if images.taught is not None}
    digests = {teacher.digest for teacher in teachers.values() if teacher.digest}
    if len(digests) > 1:
        said = ", ".join(f"{name} by {teacher.name} {teacher.digest[:8]}" for name, teacher in teachers.items())
        raise ValueError(
            f"soft labels are of different teachers ({said[:90]}), so sets do not compare; label all by one"
        )


def _even_size(name: str, images: LabelledImages) -> int:
    counts = np.unique(np.asarray(images.labels), return_counts=True)[1]
    if len(counts) < len(images.class_names) or counts.min() != counts.max():
        raise ValueError(
            f"{name} has {counts.min()} to {counts.max()} images a class, so that no random draw has its IPC; "
            f"draw from it as {RANDOM}FOLDER, or leave the random sets out"
        )
    return int(counts[0])


def _settings(
    sets: ComparedSets, test: LabelledImages, config: EvaluationConfig, test_name: str, full: Mapping
) -> dict[str, Any]:
    return {
        "test": {"name": test_name, "size": list(test.images.shape), "digest": digest(test)},
        "protocol": asdict(config.protocols[0]),
        "sets": {**sets.digests, **{name: digest(images) for name, images in full.items()}},
        "soft_labels": sets.soft_digests,
        "teachers": {name: source.record() for name, source in sets.teachers.items()},
    }


class _Job(NamedTuple):
    """Trainings under one protocol with one kind of labels."""

    sources: Mapping[str, Source]
    protocol: Protocol
    labels: Labels


def _jobs(sets: ComparedSets, config: EvaluationConfig, full: Mapping[str, LabelledImages]) -> list[_Job]:
    jobs = [_Job(sets.sources, protocol, config.labels) for protocol in config.protocols]
    return [*jobs, _Job(full, config.protocols[0], "hard")] if full else jobs


class _Keeper:
    """Keeps each training on disk at once, in the record or in the file of this process."""

    def __init__(self, output: Path | None, record: EvaluationRecord | None) -> None:
        self.record, self.own = record, None if output is None else part_of(output, rank())
        self.known: list[Result] = gather([] if record is None else record.results)[0]

    def add(self, result: Result) -> None:
        """Keep a training that this process has just done."""
        if self.record is not None:
            self.record.add(result)
        elif self.own is not None:
            append_result(self.own, result)

    def add_others(self, results: Sequence[Result]) -> None:
        """Take those into the record that other processes did."""
        if self.record is not None:
            there = {result.identity for result in self.record.results}
            self.record.add(*(result for result in results if result.identity not in there))


def _train(
    jobs: Sequence[_Job],
    test: LabelledImages,
    config: EvaluationConfig,
    test_name: str,
    keep: _Keeper,
    finished: Stage,
) -> list[Result]:
    """Results of the jobs, new and recorded ones, and those of the same sets with the other kind of labels."""
    results: list[Result] = []
    for sources, protocol, labels in jobs:
        found = evaluate(
            sources,
            test,
            network=config.networks,
            protocol=protocol,
            seeds=config.seeds,
            labels=labels,
            track_best=config.track_best,
            normalisation=usual_normalisation(test.images.shape[-1]),
            device=config.device,
            at_once=config.at_once,
            test_name=test_name,
            known=keep.known,
            on_result=keep.add,
            progress=finished.after(len(results)),
        )
        keep.add_others(found)
        results += found
    names, seen = {name for sources, _, _ in jobs for name in sources}, {result.identity for result in results}
    return results + [
        result
        for result in keep.known
        if result.identity not in seen and result.set in names and result.network in config.networks
    ]


def _complete(results: Sequence[Result], seeds: Sequence[int]) -> list[Result]:
    """Results of these seeds, without series that an earlier evaluation left unfinished or began with fewer seeds."""
    series: dict[tuple, list[Result]] = {}
    for result in results:
        if result.seed in set(seeds):
            series.setdefault((result.set, setting_of(result)), []).append(result)
    return [result for own in series.values() if len(own) == len(set(seeds)) for result in own]
