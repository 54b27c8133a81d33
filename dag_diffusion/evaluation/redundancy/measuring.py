"""The redundancy of sets: cross accuracy of their parts, coverage of real images, copies; kept as one JSON record.

FOLDER, random:FOLDER -> features, faults, parts -> trainings (kept one by one) -> redundancy.json
"""

import logging
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from dag_diffusion import embedded
from dag_diffusion.classifiers.image_classifiers import class_names_of
from dag_diffusion.data.canvas import Canvas
from dag_diffusion.data.class_folders import limited_to
from dag_diffusion.data.class_names import listed, match_classes, own_part, require_mapped
from dag_diffusion.data.common_kind import CommonKind, common_kind
from dag_diffusion.data.files import held, read_json_object, require_file_place, require_writable, write_json
from dag_diffusion.data.images import offering
from dag_diffusion.data.pools import Pool, read_pool
from dag_diffusion.data.preparing.inspection import looks_of
from dag_diffusion.data.preparing.leaving_out import LeftOut
from dag_diffusion.data.preparing.shared_images import shared_rows
from dag_diffusion.evaluation.labelled_images import load_labelled_images, random_rows
from dag_diffusion.evaluation.networks import build_network
from dag_diffusion.evaluation.protocols import as_protocol
from dag_diffusion.evaluation.records import append_result, finished_trainings, part_of
from dag_diffusion.evaluation.results import Result
from dag_diffusion.evaluation.sets import RANDOM, drawn_from, named_sets, require_drawable
from dag_diffusion.evaluation.training import derived_seeds
from dag_diffusion.generation.repairing.faults import Faults, find_faults
from dag_diffusion.generation.repairing.repair import FAULTS, Repair
from dag_diffusion.processes import fail_together, gather, is_main_process, rank, warn_once
from dag_diffusion.progress import Progress, Stage, renamed
from dag_diffusion.sampling.scoring import score_pool

from .coverage import Coverage, class_coverage, mean_coverage
from .parts import cross_trainings, require_parts

logger = logging.getLogger(__name__)
FORMAT = "dag-diffusion redundancy 1"
SKIPPING = "or leave it out by skip_unreadable=True"


@dataclass(frozen=True, kw_only=True)
class RedundancyConfig:
    """How redundancy and coverage are measured.

    Attributes:
        parts: disjoint parts that each set is cut into, such as 5 tens of 50 images a class.
        network: network to train on each part, such as convnet-3.  See ``list_networks``.
        protocol: how to train it: classic, hard-label or quick.  See ``list_protocols``.
        seeds: trainings on each part.
        seed: random seed of the parts and of random sets.  The seeds of the trainings follow from it.
        neighbours: the ball around an image reaches to its nearest neighbour of this number.
        nearness: distance at which two images of a class are near copies, as a share of the usual one.
        precision: auto, float32 or bfloat16; default: the protocol's own.
        device: of the trainings; default: what accelerate finds.
    """

    parts: int = 5
    network: str = "convnet-3"
    protocol: str = "quick"
    seeds: int = 1
    seed: int = 0
    neighbours: int = 5
    nearness: float = Repair.nearness
    precision: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        for name, least in {"parts": 2, "seeds": 1, "seed": 0, "neighbours": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        as_protocol(self.protocol)

    def settings(self) -> dict[str, Any]:
        """For the record; JSON values only."""
        return {name: value for name, value in asdict(self).items() if name != "device"}


@dataclass(frozen=True, kw_only=True)
class Redundancy:
    """What was measured of one set.

    Attributes:
        set, parts: its name, and how many parts it was cut into.
        accuracies: of each training on a part, tested on the others, in [0, 1].
        images_per_class: of the set; a part has as many divided by their number.
        coverage: the mean over classes of each of ``coverage.MEASURES``; None where there are too few images.
        classes: class name to the same.
        faults: number of images with each of ``repair.FAULTS``, and the classifier that was asked.
    """

    set: str
    images_per_class: float
    parts: int
    accuracies: list[float]
    coverage: Mapping[str, float | None]
    classes: Mapping[str, Mapping[str, float | None]]
    faults: Mapping[str, Any]

    @property
    def cross_accuracy(self) -> float:
        """Mean over parts and trainings."""
        return float(np.mean(self.accuracies))


def measure_redundancy(
    sets: Sequence[str],
    classifier: nn.Module,
    config: RedundancyConfig | None = None,
    *,
    classifier_name: str = "embedded guide",
    real: Path | None = None,
    ipc: int | None = None,
    class_map: Mapping[str, str | int] | None = None,
    canvas: Canvas | None = None,
    skip_unreadable: bool = False,
    output: Path | None = None,
    progress: Progress | None = None,
) -> list[Redundancy]:
    """Measure how much of each set is said twice, and how much of the real images it covers.

    Under ``accelerate launch`` every process has to call it; they share images and trainings, and return the
    same.

    Args:
        sets: folders, parquet files or saved datasets; ``random:`` before one draws ``ipc`` images a class from it.
            Where they have some of the real images' classes, the others are left out.
        classifier: whose features are compared.  If it knows the classes, by name, images that it takes for another are
            counted.
        config: parts, trainings, and what is a near copy.
        classifier_name: what the record calls it.
        real: real images to be covered, best such that no set was made from; None: Fashion-MNIST's test images.
        ipc: images a class of random sets; None: as the first other set.
        class_map: class names of sets to those of the real images, where no rule finds them.
        canvas: what images are laid on, as of ``read_pool``.
        skip_unreadable: leave out real images, and images that sets are drawn from, that cannot be read.
        output: JSON file of the record; trainings are kept beside it, so that the same call goes on with them.
        progress: called in the first process with stage, done and total.

    Raises:
        UnreadableImageError: an image cannot be read; its name.
        ValueError: a set has other classes than the real images, fewer images a class than parts, or is given twice.
    """
    config, settings = config or RedundancyConfig(), {"real": str(real or "Fashion-MNIST's test images")}
    settings = {**config.settings(), **settings, "classifier": classifier_name}
    with ExitStack() as leaving:
        with fail_together():
            require_drawable(sets, () if ipc is None else (ipc,), "hard")
            if output is not None and is_main_process():
                leaving.enter_context(_record_alone(output))
            yardstick, whole = read_pool(real or embedded.TEST, canvas=canvas), _whole_pools(sets, canvas)
        if skip_unreadable:
            yardstick = _readable(yardstick, progress)
            whole = {n: _readable(pool, progress) if _is_drawn(n) else pool for n, pool in whole.items()}
        with fail_together():
            require_mapped(class_map, [pool.class_names for pool in whole.values()])
            yardstick, whole = _of_shared_classes(yardstick, whole, class_map)
            pools, kinds = _pools(whole, ipc, config), dict[str, CommonKind]()
            for name, pool in pools.items():  # what does not fit is found before the first hour
                require_parts(name, pool.labels, pool.class_names, config.parts)
                _labels_of_real(pool, yardstick, class_map)
                with offering(SKIPPING if _is_drawn(name) else ""):
                    kinds[name] = _kind_for(config.network, pool)
            if is_main_process():
                _warn_of_few_or_shared(pools, yardstick, config.neighbours)
                _warn_of_other_classes(pools, classifier, classifier_name)
            kept = None if output is None else output.with_suffix(".trainings.jsonl")
            known = finished_trainings(kept) if kept is not None and is_main_process() else []
        known = gather(known)[0]
        stage = Stage("trainings", len(pools) * config.parts * config.seeds, progress if is_main_process() else None)
        with offering(SKIPPING):
            features = _features(yardstick, classifier, renamed(progress, "real images"))
        found, results = [], list[Result]()
        for name, pool in pools.items():
            results += (own := _trainings(name, pool, kinds[name], config, known, kept, stage))
            covered = class_coverage(
                (features, yardstick.labels),
                (_features(pool, classifier, renamed(progress, name)), _labels_of_real(pool, yardstick, class_map)),
                yardstick.class_names,
                config.neighbours,
            )
            sought = _faults_sought(pool, classifier)
            faults = find_faults(pool, classifier, kinds=sought, nearness=config.nearness, name=classifier_name)
            found.append(_redundancy(name, pool, config, own, covered, faults))
        with fail_together():
            if output is not None and is_main_process():
                _write(output, settings, found, results)
    return found


def _redundancy(
    name: str,
    pool: Pool,
    config: RedundancyConfig,
    results: Sequence[Result],
    covered: Mapping[str, Coverage],
    faults: Faults,
) -> Redundancy:
    return Redundancy(
        set=name,
        images_per_class=len(pool) / len(pool.class_names),
        parts=config.parts,
        accuracies=[result.accuracy for result in results],
        coverage=asdict(mean_coverage(covered.values())),
        classes={one: asdict(measured) for one, measured in covered.items()},
        faults=faults.record(),
    )


def _of_shared_classes(
    real: Pool, whole: Mapping[str, Pool], class_map: Mapping[str, str | int] | None
) -> tuple[Pool, dict[str, Pool]]:
    """Real images, and those that are drawn from, of the classes that the sets have."""
    sets = [pool.class_names for name, pool in whole.items() if not _is_drawn(name)]
    sets = sets or [pool.class_names for pool in whole.values()]
    real = limited_to(real, sets, "the sets", class_map)
    return real, {name: drawn_from(pool, sets, real) if _is_drawn(name) else pool for name, pool in whole.items()}


def _is_drawn(name: str) -> bool:
    return name.startswith(RANDOM)


def _whole_pools(sets: Sequence[str], canvas: Canvas | None) -> dict[str, Pool]:
    """What stands in each folder, by the name of the set, of which a random one is drawn later."""
    texts = named_sets(sets)
    return {name: read_pool(Path(text.removeprefix(RANDOM)), canvas=canvas) for name, text in texts.items()}


def _readable(pool: Pool, progress: Progress | None) -> Pool:
    """The pool without images that cannot be read, of which the first process tells."""
    left = LeftOut(pool, looks_of(pool, None, progress))
    left.unreadable(skip=True)
    for problem in left.out["unreadable"].values():
        warn_once(logger, "left out: %s", problem)
    return pool.select(left.kept)


def _kind_for(network: str, pool: Pool) -> CommonKind:
    """Size and channels of a set's images, which the network has to take."""
    kind = common_kind(pool)
    build_network(network, channels=kind.channels, size=kind.size, num_classes=len(pool.class_names))
    return kind


def _pools(whole: Mapping[str, Pool], ipc: int | None, config: RedundancyConfig) -> dict[str, Pool]:
    pools, fixed = dict(whole), [pool for name, pool in whole.items() if not _is_drawn(name)]
    for name in filter(_is_drawn, whole):
        size = len(fixed[0]) // len(fixed[0].class_names) if ipc is None else ipc  # one is fixed where ipc is open
        pool = whole[name]
        pools[name] = pool.select(np.sort(random_rows(pool.labels, size, config.seed, pool.class_names)))
    return pools


def _labels_of_real(pool: Pool, real: Pool, class_map: Mapping[str, str | int] | None) -> np.ndarray:
    """The label that each image of a set has among the real images, by the name of its class."""
    own = own_part(class_map, pool.class_names.values())
    table = match_classes(pool.class_names, real.class_names, "the folder of real images", own, places=True)
    return np.array([table[label] for label in pool.labels.tolist()])


def _warn_of_few_or_shared(pools: Mapping[str, Pool], real: Pool, neighbours: int) -> None:
    """Tell before the first training which measures will be missing, and which will say nothing."""
    for name, pool in {f"the real images in {real.path.name}": real, **pools}.items():
        label, least = min(Counter(pool.labels.tolist()).items(), key=lambda one: one[1])
        if least <= neighbours:
            way = f"use neighbours={least - 1}" if least > 1 else "give more of it"
            lost = "precision, density and coverage are" if pool is real else "its recall is"
            logger.warning(
                "class %r of %s has %d images, too few for %d neighbours, so that %s not measured there; %s",
                pool.class_names[label], name, least, neighbours, lost, way,
            )  # fmt: skip
    for name, pool in pools.items():
        if shared := len(shared_rows(pool, real)):
            logger.warning(
                "%d of the %d images of %s are among the real images that it is compared with, which makes precision "
                "and coverage high whatever the set; give real images that no set was made from",
                shared, len(pool), name,
            )  # fmt: skip


def _warn_of_other_classes(pools: Mapping[str, Pool], classifier: nn.Module, name: str) -> None:
    if foreign := [one for one, pool in pools.items() if "wrong" not in _faults_sought(pool, classifier)]:
        logger.warning(
            "the classifier, %s, has other classes than %s, so that its features may tell their images badly apart and "
            "images of another class are not looked for; train one of these classes by train_classifier()",
            name, listed(foreign),
        )  # fmt: skip


def _faults_sought(pool: Pool, classifier: nn.Module) -> Sequence[str]:
    """All faults, or those that a classifier of other classes can find."""
    try:
        match_classes(pool.class_names, class_names_of(classifier))
    except ValueError:
        return [kind for kind in FAULTS if kind != "wrong"]
    return FAULTS


def _features(pool: Pool, classifier: nn.Module, progress: Progress | None) -> np.ndarray:
    # entropy asks for no class, so that a classifier of other classes can tell images apart too
    found = score_pool(pool, classifier, measure="entropy", features=True, progress=progress).features
    assert found is not None  # it was asked for
    return found


def _trainings(
    name: str,
    pool: Pool,
    kind: CommonKind,
    config: RedundancyConfig,
    known: Sequence[Result],
    kept: Path | None,
    stage: Stage,
) -> list[Result]:
    with fail_together():
        images = load_labelled_images(pool, size=kind.size, channels=kind.channels)
        protocol = as_protocol(config.protocol)
        if config.precision is not None:
            protocol = replace(protocol, precision=config.precision)
    return cross_trainings(
        name,
        images,
        parts=config.parts,
        network=config.network,
        protocol=protocol,
        seeds=derived_seeds(config.seed, config.seeds),
        seed=config.seed,
        device=config.device,
        known=known,
        on_result=partial(append_result, part_of(kept, rank())) if kept is not None else _forget,
        progress=stage,
    )


def _forget(result: Result) -> None:
    """A training that nobody asked to keep."""


@contextmanager
def _record_alone(output: Path) -> Iterator[None]:
    """Hold the record at ``output``, and refuse before time is spent what cannot become one."""
    if output.suffix.lower() != ".json":
        raise ValueError(f"the record goes to a .json file, but {output} was given; call it such as redundancy.json")
    require_file_place(output, "redundancy.json")
    require_writable(output)
    if output.exists() and read_json_object(output).get("format") != FORMAT:
        raise ValueError(f"{output} holds something else than a record of redundancy; choose another output file")
    output.parent.mkdir(parents=True, exist_ok=True)
    with held(output.with_name(f".{output.name}.lock"), output):
        yield


def _write(path: Path, settings: Mapping[str, Any], found: Sequence[Redundancy], results: Sequence[Result]) -> None:
    value = {
        "format": FORMAT,
        "command": shlex.join(sys.argv),
        "settings": settings,
        "sets": [asdict(one) for one in found],
        "results": [asdict(result) for result in results],
    }
    write_json(path, value)


def read_redundancy(path: Path) -> tuple[list[Redundancy], dict[str, Any]]:
    """The sets of a record, and its settings.

    Raises:
        ValueError: the file holds something else.
    """
    record = read_json_object(path)
    try:
        if record["format"] != FORMAT:
            raise ValueError(f"its format is {record['format']!r:.60}")
        return [Redundancy(**one) for one in record["sets"]], dict(record["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no record of redundancy ({error}); give the JSON file that measure_redundancy() wrote"
        ) from error
