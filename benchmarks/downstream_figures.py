"""Figures of docs/results.md, from benchmarks/results: accuracy against IPC, and against a set's mean difficulty.

python benchmarks/downstream_figures.py FOLDER    # the folder of downstream.py, to score the sets again
"""

import argparse
import json
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
from downstream import BASELINE, Draw, Study, candidates, test_images
from embedded import RESULTS
from matplotlib import pyplot as plt
from scipy import stats

from dag_diffusion import embedded, load_classifier
from dag_diffusion.difficulty import difficulty
from dag_diffusion.figures import GREY, INK, PALETTE
from dag_diffusion.labelled_images import LabelledImages

IMAGES = Path(__file__).parent.parent / "docs" / "images"
LINES = {
    "random | real": ("random real images", GREY),
    BASELINE: ("random, unguided pool", INK),
    "matching | unguided": ("DGS, matching", PALETTE[0][0]),
    "histogram | unguided": ("DGS, the paper's rule", PALETTE[4][0]),
    "drawn to modes": ("drawn to modes (DAG)", PALETTE[2][0]),
}


def accuracies(name: str) -> dict[str, np.ndarray]:
    """By set, in percent and in the order of the seeds; empty if nothing was recorded."""
    path, found = RESULTS / f"downstream-{name}.json", defaultdict(dict)
    for row in json.loads(path.read_text("utf-8"))["results"] if path.exists() else []:
        found[row["set"]][row["seed"]] = 100 * row["accuracy"]
    return {name: np.array([values[seed] for seed in sorted(values)]) for name, values in found.items()}


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
    ends = []
    for name, (label, color) in LINES.items():
        known = {ipc: accuracies(f"{ipc}-quick").get(name, np.zeros(0)) for ipc in sizes}
        x = [ipc for ipc in sizes if len(known[ipc]) > 1]
        mean = np.array([known[ipc].mean() for ipc in x])
        band = np.array([half_interval(known[ipc]) for ipc in x])
        axes.plot(x, mean, color=color, marker="o", ms=4, label=label)
        axes.fill_between(x, mean - band, mean + band, color=color, alpha=0.15, lw=0)
        ends.append(mean[-1])
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(ipc) for ipc in sizes])
    axes.minorticks_off()
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(IMAGES / "accuracy_by_ipc.png", dpi=130)


def mean_difficulty(draw: Draw | LabelledImages, guide, seeds: int) -> float:
    """Of the images of a set by the guide, over as many draws."""
    found = []
    for seed in range(seeds):
        images = draw(seed) if callable(draw) else draw
        pixels = images.images.permute(0, 3, 1, 2).float() / 255
        found.append(float(difficulty(guide.logits(pixels), images.labels).mean()))
    return float(np.mean(found))


def by_difficulty(folder: Path) -> None:
    """Matching to targets from easy to hard, all from the unguided pool, on held-out training images."""
    test = test_images(10)
    drawn, known = Study(folder, 10, test), accuracies("tune-10")
    rows = {BASELINE: partial(drawn.chosen, "unguided", "random", None, 50)}
    for name, target in candidates().items():
        rows[f"matching, {name}"] = partial(drawn.chosen, "unguided", "matching", target, 50)
    guide = load_classifier(embedded.PIPELINE / "classifier")
    figure, axes = plain_axes("accuracy on held-out training images, %", "mean difficulty of the 10 images a class")
    for name, draw in rows.items():
        if name not in known:
            continue
        x, values = mean_difficulty(draw, guide, 3), known[name]
        color = INK if name == BASELINE else PALETTE[0][0]
        axes.errorbar(x, values.mean(), half_interval(values), color=color, marker="o", ms=5, lw=1, capsize=2)
        axes.annotate(
            name.removeprefix("matching, "), (x, values.mean()), (5, 4), textcoords="offset points", fontsize=7
        )
    figure.savefig(IMAGES / "accuracy_by_difficulty.png", dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    by_ipc()
    by_difficulty(options.folder)


if __name__ == "__main__":
    main()
