"""What classifiers learn from each set: one training for each seed, tested on real images."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from dag_diffusion.data.pools import Pool
from dag_diffusion.evaluation.labelled_images import digest, random_rows, usual_normalisation
from dag_diffusion.evaluation.protocols import as_protocol
from dag_diffusion.evaluation.records import append_result, finished_trainings, part_of, trainings_on
from dag_diffusion.evaluation.results import Result
from dag_diffusion.evaluation.training import derived_seeds
from dag_diffusion.evaluation.trials import Source, evaluate
from dag_diffusion.generation.plan import networks_precision
from dag_diffusion.processes import fail_together, gather, is_main_process, rank
from dag_diffusion.progress import Progress, renamed
from dag_diffusion.sampling.scoring import score_pool

from .compared_sets import HERDING, REAL, SELECTIONS, UNGUIDED, Choice, digests_of_sets, herding_of
from .config import DistillationConfig
from .setup import DistillationSetup

TRAININGS = "trainings.jsonl"


def train_and_test(
    choice: Choice,
    setup: DistillationSetup,
    output: Path,
    *,
    config: DistillationConfig,
    device: str,
    progress: Progress,
) -> list[Result]:
    """Train a network on each set and seed, or on what ``trainings.jsonl`` lacks, and test it on real images.

    Trainings of it that were on other images are done again.
    """

    def drawn(pool: Pool, seed: int) -> np.ndarray:
        return random_rows(setup.network_labels(pool), config.ipc, seed, setup.network_class_names)

    def at_random(pool: Pool) -> Source:
        return lambda seed: setup.decode(pool, drawn(pool, seed))

    def chosen(name: str) -> Source:
        pool = choice.pools[SELECTIONS[name][0]]
        if not choice.is_seeded(name):
            return setup.decode(pool, choice.select(name, config.seed).indices)
        return lambda seed: setup.decode(pool, choice.select(name, seed).indices)

    def coreset() -> Pool:
        scored = renamed(progress, "features of real images")
        features = score_pool(setup.train, setup.pipeline.classifier, features=True, progress=scored).features
        return setup.train.select(herding_of(setup.train, config.ipc, features))

    seeds, herding = derived_seeds(config.seed, config.seeds), {HERDING: coreset()} if config.herding else {}
    sets = {
        REAL: at_random(setup.train),
        **{name: setup.decode(pool) for name, pool in herding.items()},
        UNGUIDED: at_random(choice.pools["unguided"]),
        **{name: chosen(name) for name in SELECTIONS},
    }
    test, known = setup.decode(setup.test), list[Result]()
    with fail_together():
        if is_main_process():
            rows = np.unique([drawn(setup.train, seed) for seed in seeds])  # of all real images it would take hours
            digests = digests_of_sets(choice, output, {REAL: setup.train.select(rows), **herding})
            known = trainings_on({"test": {"digest": digest(test)}, "sets": digests}, output / TRAININGS)
    known = gather(known)[0]
    results = evaluate(
        sets,
        test,
        network=config.network,
        protocol=replace(as_protocol(config.protocol), precision=networks_precision(config.inputs.precision)),
        seeds=seeds,
        normalisation=usual_normalisation(setup.channels),
        device=device,
        known=known,
        on_result=partial(append_result, part_of(output / TRAININGS, rank())),
        progress=renamed(progress, "training and testing"),
    )
    with fail_together():
        if is_main_process():
            finished_trainings(output / TRAININGS)  # with those of the other processes, which are all done
    return results


def accuracy_note(config: DistillationConfig, test_images: int, split: str | None = None) -> str:
    """How the accuracies came about, so that their table can be read alone."""
    of_split = f" ({split} split)" if split else ""
    return (
        f"{config.network}, protocol {config.protocol}, last epoch, hard labels, {test_images:,} real test images"
        f"{of_split}; mean and deviation over {config.seeds} seeds; sets x runs: drawn sets, and trainings of each, "
        "from one pool each; the interval is paired by seed"
    )
