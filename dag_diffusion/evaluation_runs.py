"""An evaluation from folders to tables: train on every set, keep every result at once, compare.

    results.json: begun -> one more training -> ... -> finished

The same evaluation goes on after a kill; another one into the same file is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .compared_sets import ComparedSets
from .comparisons import by_setting, setting_of, summarise
from .dd_ranking import scores, without_augmentation
from .evaluation import Result, Source, evaluate
from .evaluation_records import EvaluationRecord, evaluation_record, write_summary
from .evaluation_tables import evaluation_tables, ranking_table
from .labelled_images import LabelledImages, digest, usual_normalisation
from .reporting import Table
from .training import Protocol

Job = tuple[Mapping[str, Source], Protocol, str]  # sets, protocol, kind of labels


@dataclass(frozen=True)
class EvaluationConfig:
    """How every set is evaluated.

    Attributes:
        protocol: of the trainings.
        networks: names, see ``networks``.
        seeds: of the trainings and draws.
        labels: ``hard`` or ``soft``.
        looks: also test while training, and record the best.
        without_augmentation: train everything a second time without augmentation, for the augmentation-robust score.
        device: of the trainings.
    """

    protocol: Protocol
    networks: Sequence[str] = ("convnet-3",)
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    labels: str = "hard"
    looks: bool = False
    without_augmentation: bool = False
    device: str = "cpu"

    @property
    def protocols(self) -> list[Protocol]:
        """The protocol, and its plain twin if that is asked for."""
        return [self.protocol, *([without_augmentation(self.protocol)] if self.without_augmentation else [])]

    def trainings(self, sets: int, full: bool) -> int:
        """How many trainings so many sets take, with or without all real images."""
        return (sets * len(self.protocols) + full) * len(self.networks) * len(self.seeds)


def run_evaluation(
    sets: ComparedSets,
    test: LabelledImages,
    config: EvaluationConfig,
    *,
    test_name: str = "",
    full: Mapping[str, LabelledImages] = {},
    output: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Result], list[Table]]:
    """Train on all sets, or on what an earlier run into ``output`` left to do, and make the tables.

    Args:
        full: at most one name, and all real images, for hard-label recovery.
        output: JSON file that receives every result at once, with CSV beside it; a second run goes on.
        progress: called with the number of trainings that are finished since the last call.

    Returns:
        the results of these sets, networks and seeds, and the tables.

    Raises:
        ValueError: ``output`` holds an evaluation of other images or another protocol; or see ``evaluate``.
    """
    settings = _settings(sets, test, config, test_name, full)
    with nullcontext(None) if output is None else evaluation_record(output, settings) as record:
        results = _trained(_jobs(sets, config, full), test, config, test_name, record, progress or (lambda more: None))
    shown = _complete(results, config.seeds)
    tables = evaluation_tables(shown, sets.baselines)
    if sets.has_random and (full or config.without_augmentation):
        tables.append(ranking_table(scores(shown, sets.baselines, next(iter(full), None))))
    if output is not None:
        groups = by_setting(shown).values()  # as the tables have them, so that Holm's correction counts the same
        write_summary(output, [row for own in groups for row in summarise(own, sets.baselines)])
    return shown, tables


def _settings(
    sets: ComparedSets, test: LabelledImages, config: EvaluationConfig, test_name: str, full: Mapping
) -> dict[str, Any]:
    return {
        "test": {"name": test_name, "size": list(test.images.shape), "digest": digest(test)},
        "protocol": asdict(config.protocol),
        "sets": {**sets.digests, **{name: digest(images) for name, images in full.items()}},
        "soft_labels": sets.soft_digests,
    }


def _jobs(sets: ComparedSets, config: EvaluationConfig, full: Mapping[str, LabelledImages]) -> list[Job]:
    jobs: list[Job] = [(sets.sources, protocol, config.labels) for protocol in config.protocols]
    return [*jobs, (full, config.protocol, "hard")] if full else jobs


def _trained(
    jobs: Sequence[Job],
    test: LabelledImages,
    config: EvaluationConfig,
    test_name: str,
    record: EvaluationRecord | None,
    progress: Callable[[int], None],
) -> list[Result]:
    """What the jobs find or found, and what the record knows of the same sets with the other kind of labels."""
    known = [] if record is None else list(record.results)
    results: list[Result] = []
    for sources, protocol, labels in jobs:
        new = 0

        def keep(result: Result) -> None:
            nonlocal new
            new += 1
            if record is not None:
                record.add(result)
            progress(1)

        found = evaluate(
            sources,
            test,
            network=config.networks,
            protocol=protocol,
            seeds=config.seeds,
            labels=labels,
            looks=config.looks,
            **usual_normalisation(test.images.shape[-1]),
            device=config.device,
            test_name=test_name,
            known=known,
            on_result=keep,
        )
        results += found
        progress(len(found) - new)
    names, seen = {name for sources, _, _ in jobs for name in sources}, {result.identity for result in results}
    return results + [
        result
        for result in known
        if result.identity not in seen and result.set in names and result.network in config.networks
    ]


def _complete(results: Sequence[Result], seeds: Sequence[int]) -> list[Result]:
    """Results of these seeds, without series that an earlier evaluation left unfinished or began with fewer seeds."""
    series: dict[tuple, list[Result]] = {}
    for result in results:
        if result.seed in set(seeds):
            series.setdefault((result.set, setting_of(result)), []).append(result)
    return [result for own in series.values() if len(own) == len(set(seeds)) for result in own]
