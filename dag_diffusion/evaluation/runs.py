"""An evaluation from folders to tables: read the sets, train on each, keep every result at once, compare.

    results.json: begun -> one more training -> ... -> finished

Several processes, as accelerate starts them, divide the trainings; the first writes the record and makes the tables.
The same evaluation goes on after a kill; another one into the same file is refused.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from dag_diffusion import embedded
from dag_diffusion.data.canvas import Canvas
from dag_diffusion.data.class_folders import limited_to
from dag_diffusion.data.class_names import require_mapped
from dag_diffusion.data.common_kind import common_kind
from dag_diffusion.data.pools import Pool, read_pool
from dag_diffusion.data.sources.splits import only_split
from dag_diffusion.processes import fail_together, gather, is_main_process, rank, resolve_device, warn_once
from dag_diffusion.progress import Progress, Stage, renamed

from .comparisons import Row, by_setting, default_baselines, setting_of, summarise
from .dd_ranking import scores, without_augmentation
from .labelled_images import (
    LabelledImages,
    Labels,
    as_labels,
    digest,
    labels_in_test,
    load_labelled_images,
    usual_normalisation,
)
from .protocols import Protocol, as_protocol
from .records import (
    PER_VIEW,
    EvaluationRecord,
    append_result,
    begun_precision,
    evaluation_record,
    part_of,
    require_record_place,
    teachers_in,
    write_summary,
)
from .results import Result
from .sets import RANDOM, ComparedSets, drawn_from, listed_sets, load_compared_sets, load_images, require_drawable
from .tables import Table, evaluation_tables, labels_table, ranking_table
from .trials import Source, evaluate, require_at_once, settled

logger = logging.getLogger(__name__)
UNNAMED = "without test images of your own it is Fashion-MNIST's, so name some by test=FOLDER"


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
        device: of the trainings; default: what accelerate finds.
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
    device: str | None = None
    at_once: int | None = None

    def __post_init__(self) -> None:
        as_labels(self.labels)
        require_at_once(self.at_once)
        if self.labels == "views" and self.without_augmentation:
            raise ValueError(
                "labels per view are of augmented images, and without_augmentation trains on others; leave it out, or "
                "evaluate with labels soft or hard"
            )
        if isinstance(self.networks, str):
            raise ValueError(f"networks is {self.networks!r}; give a list, such as [{self.networks!r}]")
        for name, given in (("seeds", self.seeds), ("networks", self.networks)):
            if len(set(given)) < len(given):
                raise ValueError(f"{name} are {list(given)}, of which one is there twice; give each once")
        _ = self.protocols  # refuses a protocol or precision that there is not

    def settled(self, begun: Collection[str]) -> "EvaluationConfig":
        """The same on this device, in the precision in which an evaluation was ``begun`` or that suits the device."""
        with fail_together():
            device = resolve_device(self.device)
        protocol = settled(self.protocols[0], begun, device)
        return replace(self, device=device, precision=protocol.precision)

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


def evaluate_folders(
    sets: Sequence[str],
    config: EvaluationConfig,
    *,
    test: Path | None = None,
    full: Path | None = None,
    ipc: Sequence[int] = (),
    size: int | None = None,
    class_map: Mapping[str, str | int] | None = None,
    canvas: Canvas | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
) -> tuple[list[Result], list[Table]]:
    """Read sets and real images, then ``run_evaluation``.

    Args:
        sets: as of ``load_compared_sets``.  Where they have some of the test images' classes, only these are tested
            on, drawn from and trained on.
        test: real test images; None: those of Fashion-MNIST.
        full: all real training images, for hard-label recovery.
        ipc: images per class that random sets are drawn with; by default those of the other sets.
        size: pixels per side to resize to; None: as most test images, see ``data.common_kind``.
        class_map: class names of sets to those of the test images, where no rule finds them.
        canvas: what all images are laid on, as of ``read_pool``.
        output, progress: as of ``run_evaluation``.

    Returns:
        the results of these sets, networks and seeds, and the tables.

    Raises:
        ValueError: as ``load_compared_sets`` and ``run_evaluation``.
    """
    with fail_together():
        if output is not None:
            named = [*sets, *(str(place) for place in (test, full) if place is not None)]
            require_record_place(output, named)  # before all images are read
        require_drawable(sets, ipc, config.labels)
        tests, pools = read_pool(test or embedded.TEST, canvas=canvas), listed_sets(sets, canvas)
        whole = {} if full is None else {f"all of {full.name}": read_pool(full, canvas=canvas)}
        require_mapped(class_map, [pool.class_names for pool in (*pools.values(), *whole.values())])
        fixed = [pool.class_names for text, pool in pools.items() if not text.startswith(RANDOM)]
        owners = fixed or [pool.class_names for pool in pools.values()]  # else these may have more classes
        all_classes, tests = len(tests.class_names), limited_to(tests, owners, "the sets", class_map)
        pools = {
            text: drawn_from(pool, fixed, tests) if text.startswith(RANDOM) else pool for text, pool in pools.items()
        }
        whole = {name: drawn_from(pool, owners, tests) for name, pool in whole.items()}
        for pool in (*pools.values(), *whole.values()):
            way = UNNAMED if test is None else None
            labels_in_test(pool.class_names, tests.class_names, str(pool.path), class_map, way=way)
        real = _real_test_images(tests, size, progress)
        compared = load_compared_sets(
            sets, real, ipc=ipc, labels=config.labels, class_map=class_map, canvas=canvas, pools=pools
        )
        everything = {name: load_images(pool, real, class_map=class_map) for name, pool in whole.items()}
    name = f"{len(real):,} of {test.name if test else 'Fashion-MNIST'}"
    if len(real.class_names) < all_classes:
        name += f", {len(real.class_names)} of {all_classes} classes"
    return run_evaluation(
        compared,
        real,
        config,
        test_name=name,
        full=everything,
        canvas=canvas or Canvas(),
        output=output,
        progress=progress,
    )


def _real_test_images(tests: Pool, size: int | None, progress: Progress | None) -> LabelledImages:
    Stage("test images read", len(tests), progress)  # their headers first
    kind = common_kind(tests)
    if only_split(tests.rows) == "train":
        warn_once(logger, "test images: %s has no other split than train, whose images are not to test on", tests.path)
    for mixture in (kind.mixed_colours, kind.mixed_sizes if size is None else ""):
        if mixture:
            warn_once(logger, "test images: %s", mixture)
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
    canvas: Canvas | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
) -> tuple[list[Result], list[Table]]:
    """Train on all sets, or on what an earlier run into ``output`` left to do, and make the tables.

    Args:
        sets: as of ``load_compared_sets``.
        test: images that no set, guide or generator has seen.
        config: how every set is evaluated.
        test_name: what results and tables call the test images.
        full: at most one name, and all real images, for hard-label recovery.
        canvas: what the images were laid on, for the record; None: it is not known.
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
                if canvas is not None:
                    settings["canvas"] = dict.fromkeys(settings["sets"], canvas.as_fields())
                record = leaving.enter_context(evaluation_record(output, settings))
        finished = Stage("trainings", config.trainings(len(sets.sources), full=bool(full)), progress)
        jobs, keep = _jobs(sets, config, full), _Keeper(output, record)
        results = _train(jobs, test, config, test_name, keep, finished)
    shown = _complete(results, config.seeds)
    tables = evaluation_tables(shown, sets.baselines)
    settings = (
        {"teachers": _teachers(sets, config)} if record is None else record.settings
    )  # also of earlier sets' rows
    if teachers := teachers_in(settings):
        tables.append(labels_table([(name, source) for (name, _), source in teachers.items()]))
    if sets.has_random and (full or config.without_augmentation):
        ranked = scores(shown, sets.baselines, full=next(iter(full), None))
        tables += [ranking_table(ranked)] if ranked else []  # a random draw alone has none
    if output is not None and record is not None:
        write_summary(output, _summary(record.results, shown, sets, full))
    return shown, tables


def _summary(
    results: Sequence[Result], shown: Sequence[Result], sets: ComparedSets, full: Collection[str]
) -> list[Row]:
    """Rows of the results that the tables show, as there, then of a record's others, each with its default baseline."""
    rows: list[Row] = []
    drawn = any(result.draw is not None for result in results)
    in_tables = by_setting(shown) if len(sets.sources) > 1 else {}  # a set alone is compared with earlier ones
    for setting, own in by_setting(results).items():  # as tables are made, so that Holm's correction counts the same
        printed = summarise(in_tables.get(setting, []), sets.baselines)
        usual = default_baselines(own, drawn=drawn)
        usual = {result.set: usual for result in own} if isinstance(usual, str) else usual
        others = {result.set for result in own} - {row.set for row in printed}
        compared = {name: against for name, against in usual.items() if name in others and name not in full}
        rows += printed + [row for row in summarise(own, compared, shared_seeds=True) if row.set in others]
    return rows


def _settings(
    sets: ComparedSets, test: LabelledImages, config: EvaluationConfig, test_name: str, full: Mapping
) -> dict[str, Any]:
    return {
        "test": {"name": test_name, "size": list(test.images.shape), "digest": digest(test)},
        "protocol": asdict(config.protocols[0]),
        "normalisation": asdict(usual_normalisation(test.images.shape[-1])),
        "sets": {**sets.digests, **{name: digest(images) for name, images in full.items()}},
        "soft_labels": {_of_kind(name, config): own for name, own in sets.soft_digests.items()},
        "teachers": _teachers(sets, config),
    }


def _teachers(sets: ComparedSets, config: EvaluationConfig) -> dict[str, Any]:
    return {_of_kind(name, config): source.record() for name, source in sets.teachers.items()}


def _of_kind(name: str, config: EvaluationConfig) -> str:
    return name + PER_VIEW if config.labels == "views" else name


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
