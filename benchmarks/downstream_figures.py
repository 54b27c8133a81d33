"""Figures of docs/results.md, from benchmarks/results: accuracy against IPC, and against a set's mean difficulty.

python benchmarks/downstream_figures.py figures FOLDER    # the folder of downstream.py, to score the sets again
python benchmarks/downstream_figures.py tables            # every record
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from downstream import BASELINE, Study, candidates, test_images
from embedded import RESULTS
from matplotlib import pyplot as plt
from scipy import stats

from dag_diffusion import subsample
from dag_diffusion.evaluation.comparisons import paired
from dag_diffusion.reporting.figures import GREY, INK, PALETTE

IMAGES = Path(__file__).parent.parent / "docs" / "images"
LINES = {
    "random | real": ("random real images", GREY),
    BASELINE: ("random, unguided pool", INK),
    "matching | unguided": ("DGS, matching", PALETTE[0][0]),
    "histogram | unguided": ("DGS, the paper's rule", PALETTE[4][0]),
    "drawn to modes": ("drawn to modes", PALETTE[2][0]),
    "easiest of 5 | drawn to modes": ("drawn to modes, DGS: easiest of 5", PALETTE[3][0]),
}


def recorded(name: str) -> list[dict]:
    path = RESULTS / f"downstream-{name}.json"
    return json.loads(path.read_text("utf-8"))["results"] if path.exists() else []


def accuracies(name: str, network: str = "convnet-3") -> dict[str, np.ndarray]:
    """By set, in percent and in the order of the seeds that all sets have; empty if nothing was recorded."""
    found = defaultdict(dict)
    for row in recorded(name):
        if row["network"] == network:
            found[row["set"]][row["seed"]] = 100 * row["accuracy"]
    shared = sorted(set.intersection(*map(set, found.values()))) if found else []
    return {name: np.array([values[seed] for seed in shared]) for name, values in found.items()}


def half_interval(values: np.ndarray) -> float:
    """Half the 95 % t-interval of the mean."""
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)


def plain_axes(ylabel: str, xlabel: str) -> tuple[plt.Figure, plt.Axes]:
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    return figure, axes


def by_ipc() -> None:
    figure, axes = plain_axes("test accuracy, %", "images per class")
    sizes = [ipc for ipc in (1, 10, 20, 50) if accuracies(f"{ipc}-quick")]
    for name, (label, color) in LINES.items():
        known = {ipc: accuracies(f"{ipc}-quick").get(name, np.zeros(0)) for ipc in sizes}
        x = [ipc for ipc in sizes if len(known[ipc]) > 2]
        if len(x) < 2:
            continue
        mean = np.array([known[ipc].mean() for ipc in x])
        band = np.array([half_interval(known[ipc]) for ipc in x])
        axes.plot(x, mean, color=color, marker="o", ms=4, label=label)
        axes.fill_between(x, mean - band, mean + band, color=color, alpha=0.15, lw=0)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(ipc) for ipc in sizes])
    axes.minorticks_off()
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(IMAGES / "accuracy_by_ipc.png", dpi=130)


def by_difficulty(folder: Path) -> None:
    """Matching to targets from easy to hard, all from the unguided pool, on held-out training images."""
    pool, _, _ = Study(folder, 10, test_images(10)).pool("unguided", 50)
    known = accuracies("tune-10")
    figure, axes = plain_axes("accuracy on held-out training images, %", "mean difficulty of the 10 images a class")
    points = [("random", pool.difficulties.mean(), known[BASELINE], INK)]
    for name, target in candidates().items():
        chosen = subsample(pool, 10, target=target, method="matching").indices
        points.append((name, pool.difficulties[chosen].mean(), known[f"matching, {name}"], PALETTE[0][0]))
    for name, x, values, color in points:
        half = half_interval(values)
        axes.errorbar(x, values.mean(), half, color=color, marker="o", ms=5, capsize=2)
        axes.annotate(
            name.replace("0.", "."), (x, values.mean() + half), (0, 3), textcoords="offset points",
            fontsize=8, rotation=50, rotation_mode="anchor", color=color,
        )  # fmt: skip
    axes.set(ylim=(70.5, 80.5), xlim=(0, 0.24))
    figure.savefig(IMAGES / "accuracy_by_difficulty.png", dpi=130)


def tables() -> None:
    """Mean and deviation of every set, over the seeds that all have, and its paired difference to the random draw."""
    for path in sorted(RESULTS.glob("downstream-*.json")):
        name = path.stem.removeprefix("downstream-")
        for network in sorted({row["network"] for row in recorded(name)}):
            known = accuracies(name, network)
            print(f"\n**{name}, {network}, {len(known[BASELINE])} seeds**\n")
            print("| set | accuracy, % | against random, unguided (95 % interval) |\n| --- | --- | --- |")
            for row, values in sorted(known.items(), key=lambda item: -item[1].mean()):
                deviation = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
                against = paired(values, known[BASELINE])
                interval = "" if against.interval is None else " ({:+.1f} to {:+.1f})".format(*against.interval)
                difference = "" if row == BASELINE else f"{against.difference:+.1f}{interval}"
                print(f"| {row.replace(' | ', ' of ')} | {values.mean():.1f}{deviation} | {difference} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tables", "figures"])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/downstream"))
    options = parser.parse_args()
    if options.what == "tables":
        return tables()
    by_ipc()
    by_difficulty(options.folder)


if __name__ == "__main__":
    main()
