"""How near each rule of selection comes to its target, what is trained on it, and how fast it is.

    python benchmarks/subsampling.py pools FOLDER        # makes an unguided and a guided pool, 250 images a class
    python benchmarks/subsampling.py match FOLDER        # Wasserstein-1 distance of each rule on them
    python benchmarks/subsampling.py downstream FOLDER   # accuracy of a ConvNet-3 trained on what each rule chose
    python benchmarks/subsampling.py speed               # thresholds, and 1,000,000 rows of 1,000 classes

The target is the difficulty of the real training images, scored out of sample.  Each writes
benchmarks/results/subsampling-WHAT.json with versions, processor and command.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from embedded import RESULTS, record
from PIL import Image

from dag_diffusion import (
    PoolConfig,
    SelectionRule,
    TargetDistribution,
    embedded,
    fill_pool,
    load_classifier,
    read_pool,
    score_pool,
    subsample,
)
from dag_diffusion.data.files import json_lines
from dag_diffusion.data.pools import Pool
from dag_diffusion.evaluation.comparisons import summarise
from dag_diffusion.evaluation.labelled_images import load_labelled_images, subset
from dag_diffusion.evaluation.protocols import PROTOCOLS
from dag_diffusion.evaluation.trials import evaluate
from dag_diffusion.loading import load_embedded_pipeline
from dag_diffusion.sampling.scales import BINS
from dag_diffusion.sampling.target_parser import as_target
from dag_diffusion.sampling.targets import even_levels
from dag_diffusion.sampling.threshold_search import search_thresholds

POOL = 250  # images a class: 5 x IPC 50, and its first 50 are 5 x IPC 10
RULES = {
    "histogram": SelectionRule("histogram"),
    "histogram, search over IPC / 2": SelectionRule("histogram", search="ipc"),
    "histogram, shared thresholds": SelectionRule("histogram", clipping="values"),
    "matching": SelectionRule("matching"),
    "matching, random near equals": SelectionRule("matching", diversity="random"),
    "matching, k-center": SelectionRule("matching", diversity="k-center"),
    "matching, determinantal": SelectionRule("matching", diversity="determinantal"),
    "random": SelectionRule("random"),
    "easiest": SelectionRule("easiest"),
    "hardest": SelectionRule("hardest"),
    "k-center": SelectionRule("k-center"),
    "herding": SelectionRule("herding"),
}
MILLION = {  # rules that need no features
    "histogram": SelectionRule("histogram"),
    "matching": SelectionRule("matching"),
    "matching, evenly over 10 groups": SelectionRule("matching", evenly="mode"),
    "matching, correct only": SelectionRule("matching", correct_only=True),
    "matching, target auto": SelectionRule("matching"),
    "cao2": SelectionRule("cao2"),
    "random": SelectionRule("random"),
}


def reference_target() -> TargetDistribution:
    names = dict(enumerate(embedded.CLASS_NAMES))
    return TargetDistribution.from_reference(embedded.training_difficulties(names), "training images, out of sample")


def make_pools(folder: Path) -> None:
    pipeline = load_embedded_pipeline()
    for name, target in (("unguided", None), ("guided", reference_target())):
        start = perf_counter()
        config = PoolConfig(images_per_class=POOL, target=target)
        pool = fill_pool(pipeline, folder / name, config, resume=True, source="embedded default")
        print(f"{name}: {len(pool)} images in {perf_counter() - start:.0f} s", flush=True)


def first_of(pool: Pool, count: int) -> tuple[Pool, np.ndarray]:
    """The first images of each class, which are a pool of their own, and their rows."""
    rows = np.concatenate([np.flatnonzero(pool.labels == label)[:count] for label in pool.class_names])
    return Pool(pool.path, [pool.rows[row] for row in rows], pool.provenance), rows


def match(folder: Path, seeds: int) -> None:
    guide, target, rows = load_classifier(embedded.PIPELINE / "classifier"), reference_target(), []
    for name in ("unguided", "guided"):
        whole = read_pool(folder / name)
        features = score_pool(whole, guide, features=True).features
        for ipc in (10, 50):
            pool, kept = first_of(whole, 5 * ipc)
            for rule_name, rule in RULES.items():
                options = {"method": rule, "features": features[kept]}
                found = [measured(pool, target, ipc, seed=seed, **options) for seed in range(seeds)]
                means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
                rows.append({"pool": name, "ipc": ipc, "rule": rule_name, **means})
                print(name, ipc, rule_name, {k: round(v, 4) for k, v in means.items()}, flush=True)
    record("subsampling-match", {"seeds": seeds, "pool_factor": 5, "rows": rows})


def measured(pool: Pool, target: TargetDistribution, ipc: int, **options) -> dict[str, float]:
    """Mean over the classes of the distance to the target, of the least there can be, and to its IPC quantiles."""
    chosen, distances = subsample(pool, ipc, target=target, **options), []
    for label, one in chosen.classes.items():
        rows = np.flatnonzero(pool.labels == label)
        reference = target.values(pool.class_names[label])
        quantiles = np.quantile(reference, even_levels(ipc), method="inverted_cdf")
        distances.append(np.abs(np.sort(pool.difficulties[rows[one.indices]]) - quantiles).mean())
    return {
        "distance": chosen.distance,
        "floor": float(np.mean([one.floor for one in chosen.classes.values()])),
        "to_quantiles": float(np.mean(distances)),
        "mean_difficulty": float(pool.difficulties[chosen.indices].mean()),
    }


def downstream(folder: Path, ipc: int, seeds: int, protocol: str, rules: list[str]) -> None:
    """Accuracy on the 10,000 real test images; the baseline is a random draw from the unguided pool."""
    guide, target = load_classifier(embedded.PIPELINE / "classifier"), reference_target()
    test = load_labelled_images(read_pool(embedded.TEST), size=(32, 32), channels=1)
    sets = {}
    for name in ("unguided", "guided"):
        pool, rows = first_of(read_pool(folder / name), 5 * ipc)
        images = load_labelled_images(pool, size=(32, 32), channels=1, class_names=test.class_names)
        features = score_pool(pool, guide, features=True).features

        def drawn(seed: int, rule: SelectionRule, pool=pool, images=images, features=features):
            chosen = subsample(pool, ipc, target=target, method=rule, features=features, seed=seed)
            return subset(images, chosen.indices)

        for rule in rules:
            sets[f"{name}, {rule}"] = lambda seed, rule=rule, drawn=drawn: drawn(seed, RULES[rule])
    results = evaluate(sets, test, protocol=PROTOCOLS[protocol], seeds=range(seeds), on_result=print)
    rows = [asdict(row) for row in summarise(results, "unguided, random")]
    for row in rows:
        print(row)
    record(f"subsampling-downstream-{ipc}", {"protocol": protocol, "ipc": ipc, "seeds": seeds, "rows": rows})


def double_loop(values: np.ndarray, limit: int) -> tuple[int, int]:
    """The paper's search as it is worded: every pair of thresholds, one after the other."""
    ordered, best, found = np.sort(values), np.inf, (0, 0)
    raw = np.histogram(values, BINS, (0, 1))[0] / len(values)
    for bottom in range(limit):
        for top in range(limit):
            low, high = ordered[bottom] or 1e-4, ordered[len(values) - 1 - top]
            if high <= low:
                continue
            transformed = np.log(np.clip(ordered, low, high) / low) / np.log(high / low)
            shares = np.histogram(transformed, BINS, (0, 1))[0] / len(values)
            if (shares > 0).all():
                filled = raw > 0
                divergence = np.sum(raw[filled] * np.log2(raw[filled] / shares[filled]))
                divergence += np.sum(np.log2(1 / BINS / shares)) / BINS
                if divergence < best:
                    best, found = divergence, (bottom, top)
    return found


def speed(rules: list[str] | None) -> None:
    """All of it, or some rules on a million rows anew, in the record that is there."""
    if rules is None:
        thresholds = [threshold_speed(count) for count in (50, 250, 1000)]
        values = {"thresholds": thresholds, "million": million(list(MILLION)), "folder": folder_speed()}
    else:
        known = json.loads((RESULTS / "subsampling-speed.json").read_text("utf-8"))
        rows = [row for row in known["million"] if row["rule"] not in rules] + million(rules)
        rows.sort(key=lambda row: list(MILLION).index(row["rule"]))
        values = {name: known[name] for name in ("command", "thresholds", "folder")} | {"million": rows}
    record("subsampling-speed", values)


def folder_speed(classes: int = 1000, per_class: int = 100) -> dict[str, float]:
    """A pool on disk, of hard links to one pixel: reading its metadata, and matching on it."""
    generator, rows = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(classes * per_class):
            name, index = f"class {number // per_class:03d}", number % per_class
            if number % 50_000 == 0:  # a file may have about so many names
                pixel = Path(folder) / f".{number}.png"
                Image.new("L", (1, 1)).save(pixel)
            if index == 0:
                (Path(folder) / name).mkdir()
            os.link(pixel, Path(folder) / name / f"{index}.png")
            difficulty = float(1 / (1 + np.exp(-generator.normal(-4, 2))))
            row = {"file_name": f"{name}/{index}.png", "label": number // per_class, "class_name": name}
            rows.append(row | {"difficulty": difficulty})
        (Path(folder) / "metadata.jsonl").write_bytes(json_lines(rows))
        start = perf_counter()
        pool = read_pool(folder)
        between = perf_counter()
        subsample(pool, 10, target="hill", method="matching")
        found = {"images": len(pool), "read_s": between - start, "select_s": perf_counter() - between}
    print(found, flush=True)
    return found


def threshold_speed(count: int) -> dict:
    """Both searches in turn on the same pools; the double loop once each for the largest, which takes it long."""
    rounds = 5 if count < 1000 else 2
    generator, ours, theirs, equal = np.random.default_rng(0), [], [], 0
    for _ in range(rounds):
        values = 1 / (1 + np.exp(-generator.normal(-4, 2, count)))
        start = perf_counter()
        expected = double_loop(values, count // 2)
        between = perf_counter()
        found = search_thresholds(values, count // 2)
        ours.append(perf_counter() - between)
        theirs.append(between - start)
        equal += found == expected
    row = {"images": count, "pairs": (count // 2) ** 2, "pools": rounds, "equal": equal}
    row |= {"double_loop_s": median(theirs), "search_s": median(ours), "ratio": median(theirs) / median(ours)}
    print(row, flush=True)
    return row


def million(rules: list[str], rows: int = 1_000_000, classes: int = 1000) -> list[dict]:
    """Time and peak memory of a fresh process for each rule; that before holds the libraries and the arrays."""
    found = []
    for rule in rules:
        for ipc in (10, 50):
            with multiprocessing.get_context("spawn").Pool(1) as process:
                found.append({"rule": rule, "ipc": ipc, **process.apply(_select_many, (rows, classes, rule, ipc))})
            print(found[-1], flush=True)
    return found


def _select_many(rows: int, classes: int, rule: str, ipc: int) -> dict[str, float]:
    generator = np.random.default_rng(0)
    values = 1 / (1 + np.exp(-generator.normal(-4, 2, rows)))
    labels = generator.permutation(np.arange(rows) % classes)
    reference = {str(label): 1 / (1 + np.exp(-generator.normal(-3.5, 2, 1300))) for label in range(classes)}
    target = TargetDistribution.from_reference(reference)
    if rule.endswith("target auto"):
        target = as_target("auto", dict(enumerate(reference)), reference=target)
    groups = generator.integers(0, 10, rows) if MILLION[rule].evenly else None
    before, start = peak_memory(), perf_counter()
    chosen = subsample(values, ipc, labels=labels, target=target, method=MILLION[rule], groups=groups)
    seconds = perf_counter() - start
    assert len(chosen.indices) == classes * ipc
    return {"seconds": seconds, "mib": peak_memory(), "mib_before": before, "distance": chosen.distance}


def peak_memory() -> float:
    """Most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pools", "match", "downstream", "speed"])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/subsampling"))
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--protocol", default="quick", choices=sorted(PROTOCOLS))
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    parser.add_argument(
        "--million", nargs="+", choices=list(MILLION), help="of speed, these rules on a million rows alone"
    )
    options = parser.parse_args()
    if options.what == "pools":
        make_pools(options.folder)
    elif options.what == "match":
        match(options.folder, options.seeds)
    elif options.what == "downstream":
        downstream(options.folder, options.ipc, options.seeds, options.protocol, options.rules)
    else:
        speed(options.million)


if __name__ == "__main__":
    main()
