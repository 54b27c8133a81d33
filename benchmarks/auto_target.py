"""Fit and test the target ``auto``, and compare difficulty among all classes with that among the set's.

    python benchmarks/auto_target.py fit FOLDER       # exponents at IPC 1, 10 and 50, and at 10 for longer training
    python benchmarks/auto_target.py fit FOLDER --on digits --only 1 10    # or emoji, clipart: see held_out.py
    python benchmarks/auto_target.py test FOLDER      # the rule at IPC 20, which it was not fitted at
    python benchmarks/auto_target.py generated FOLDER --pool POOL    # the same exponents on generated images, IPC 10
    python benchmarks/auto_target.py among FOLDER --pool POOL        # a guide of ten classes, asked about three

Sets are matched to their targets among 5 x IPC real training images of a class, others for every seed; POOL holds 50
unguided images a class of the embedded pipeline, such as pool-unguided of ``run``.  All are judged on training images
that no set is chosen from, 200 of each class of Fashion-MNIST; no test image has a say.  Results go to
benchmarks/results after every training, and the same command goes on after a kill.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from downstream import SIZE, with_difficulties
from embedded import RESULTS, record
from held_out import CHANNELS, Divided, divided
from result_tables.auto_targets import record_name
from scipy.stats import spearmanr

from dag_diffusion import SelectionRule, TargetDistribution, embedded, load_classifier, read_pool, score_pool, subsample
from dag_diffusion.classifiers.image_classifiers import image_logits
from dag_diffusion.data.pools import Pool
from dag_diffusion.difficulty import among, difficulty
from dag_diffusion.evaluation.comparisons import summarise
from dag_diffusion.evaluation.labelled_images import LabelledImages, load_labelled_images
from dag_diffusion.evaluation.protocols import PROTOCOLS, Protocol
from dag_diffusion.evaluation.records import evaluation_record
from dag_diffusion.evaluation.trials import evaluate
from dag_diffusion.sampling.auto_target import AutoTarget

MOVES = (-1.5, 0.0, 1.5, 3.0)  # log2 of the exponent, from hard to easy
TESTED_AT = 20  # IPC
QUICK = PROTOCOLS["quick"]
LONGER = replace(QUICK, name="quick, 4 x the epochs", epochs=80)
FITTED = {"1": (1, QUICK, 3), "10": (10, QUICK, 3), "50": (50, QUICK, 2), "10-longer": (10, LONGER, 2)}
Draw = Callable[[int], LabelledImages]


def rows_of(pool: Pool) -> list[np.ndarray]:
    return [np.flatnonzero(pool.labels == label) for label in pool.class_names]


def drawn(real: Divided, ipc: int, method: str, target: TargetDistribution | None, seed: int) -> LabelledImages:
    """Chosen among 5 x IPC images of each class, others for every seed; among all of a class that has no more."""
    generator = np.random.default_rng([seed, ipc])
    offered = np.sort(np.concatenate([generator.permutation(rows)[: 5 * ipc] for rows in rows_of(real.offered)]))
    part = real.offered.select(offered)
    chosen = subsample(part, ipc, target=target, method=SelectionRule(method), seed=seed)
    return real.load(part.select(chosen.indices))


def grid(real: Divided, ipc: int) -> dict[str, Draw]:
    return {f"log2 g = {move:g}": partial(drawn, real, ipc, "matching", real.moved(move)) for move in MOVES}


def compared(real: Divided, ipc: int) -> dict[str, Draw]:
    """What every size is tested beside."""
    auto = AutoTarget(TargetDistribution.from_reference(real.known))
    return {
        "random": partial(drawn, real, ipc, "random", None),
        "matching, auto": partial(drawn, real, ipc, "matching", auto),
    }


def trained(sets: dict[str, Draw], judges: LabelledImages, name: str, protocol: Protocol, seeds: int) -> None:
    """Train what the record lacks, and tell each set's mean."""
    with evaluation_record(RESULTS / f"{name}.json", {"judged_by": "held-out training images"}) as kept:
        results = evaluate(
            sets,
            judges,
            network="convnet-3",
            protocol=protocol,
            seeds=range(seeds),
            test_name=f"{len(judges)} held-out training images",
            known=kept.results,
            on_result=kept.add,
        )
    print(name)
    for row in summarise(results, next(iter(sets))):
        print(f"{row.set:44} {row.mean:.4f} {row.std:.4f} {row.difference:+.4f} {row.interval}", flush=True)


def fit(name: str, real: Divided, which: list[str]) -> None:
    for size in which:
        ipc, protocol, seeds = FITTED[size]
        sets = grid(real, ipc) | ({} if protocol is LONGER else compared(real, ipc))
        trained(sets, real.judges, record_name(name, size), protocol, seeds)


def test(name: str, real: Divided) -> None:
    reference = TargetDistribution.from_reference(real.known)
    sets = compared(real, TESTED_AT) | {"matching, reference": partial(drawn, real, TESTED_AT, "matching", reference)}
    trained(sets, real.judges, record_name(name, str(TESTED_AT)), QUICK, 3)


def generated(real: Divided, pool: Path) -> None:
    guide, images = load_classifier(embedded.PIPELINE / "classifier"), read_pool(pool)
    scored = with_difficulties(images, score_pool(images, guide).difficulties)
    trained(grid(replace(real, offered=scored), 10), real.judges, "auto-target-generated", QUICK, 2)


def compare_among(pool: Path) -> None:
    """How well the guide's difficulties among three classes agree with the evaluator's, by either softmax."""
    images, rows = load_labelled_images(read_pool(pool), **SIZE), []
    pixels = torch.from_numpy(np.asarray(images.images)).permute(0, 3, 1, 2) / 255
    labels = torch.from_numpy(np.asarray(images.labels))
    networks = [load_classifier(embedded.PIPELINE / "classifier"), load_classifier(embedded.EVALUATOR)]
    with torch.no_grad():
        guide, evaluator = (image_logits(network, pixels) for network in networks)
    for classes in map(torch.tensor, combinations(range(10), 3)):
        own, row = torch.isin(labels, classes), {"classes": [embedded.CLASS_NAMES[i] for i in classes.tolist()]}
        judged = difficulty(*among(evaluator[own], labels[own], classes)).numpy()
        for scope, kept in (("all", None), ("set", classes)):
            found = difficulty(*among(guide[own], labels[own], kept)).numpy()
            by_class = [(labels[own] == label).numpy() for label in classes]
            ranks = [spearmanr(found[one], judged[one]).statistic for one in by_class]
            row[scope] = {"error": float(np.abs(found - judged).mean()), "spearman": float(np.mean(ranks))}
        rows.append(row)
    means = {
        scope: {what: float(np.mean([row[scope][what] for row in rows])) for what in ("error", "spearman")}
        for scope in ("all", "set")
    }
    better = float(np.mean([row["set"]["spearman"] > row["all"]["spearman"] for row in rows]))
    print(means, better, flush=True)
    record("among", {"triples": len(rows), "means": means, "set_ranks_better": better, "rows": rows})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fit", "test", "generated", "among"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="idx files")
    parser.add_argument("--pool", type=Path, default=Path("runs/first/pool-unguided"))
    parser.add_argument("--only", nargs="+", default=list(FITTED), choices=list(FITTED), help="of fit")
    parser.add_argument("--on", default="fashion", choices=list(CHANNELS), help="of fit and test")
    options = parser.parse_args()
    if options.what == "among":
        compare_among(options.pool)
        return
    name = "fashion" if options.what == "generated" else options.on  # which the pool is of
    real = divided(name, options.folder, options.data)
    if options.what == "fit":
        fit(name, real, options.only)
    elif options.what == "test":
        test(name, real)
    else:
        generated(real, options.pool)


if __name__ == "__main__":
    main()
