"""Figures of docs/results from benchmarks/results: accuracy against IPC, and against the mean difficulty of a set.

python benchmarks/downstream_figures.py FOLDER    # the folder of downstream.py, to score the sets again
"""

import argparse
from pathlib import Path

import numpy as np
from downstream import BASELINE, Study, candidates, test_images
from matplotlib import pyplot as plt
from result_tables.trained_sets import SIZES, accuracies
from scipy import stats

from dag_diffusion import subsample
from dag_diffusion.reporting.figures import GREY, INK, PALETTE

IMAGES = Path(__file__).parent.parent / "docs" / "images"
LINES = {
    "random | real": ("random real images", GREY),
    BASELINE: ("random, unguided pool", INK),
    "matching | unguided": ("matching, unguided pool", PALETTE[0][0]),
    "histogram | unguided": ("the paper's rule, unguided pool", PALETTE[4][0]),
    "drawn to modes": ("mode guidance, one image to each mode", PALETTE[2][0]),
    "easiest of 5 | drawn to modes": ("mode guidance, easiest of five", PALETTE[3][0]),
}


def half_interval(values: np.ndarray) -> float:
    """Half the 95 % t-interval of the mean."""
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)


def plain_axes(ylabel: str, xlabel: str) -> tuple[plt.Figure, plt.Axes]:
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    return figure, axes


def draw_sizes(axes: plt.Axes, lines: dict[str, tuple[str, str]]) -> None:
    """Accuracy against images per class, with the 95 % interval of each mean as a band."""
    known = {int(size.split("-")[0]): accuracies(size) for size in SIZES}
    for name, (label, color) in lines.items():
        x = [ipc for ipc, sets in known.items() if name in sets]
        mean = np.array([known[ipc][name].mean() for ipc in x])
        band = np.array([half_interval(known[ipc][name]) for ipc in x])
        axes.plot(x, mean, color=color, marker="o", ms=4, label=label)
        axes.fill_between(x, mean - band, mean + band, color=color, alpha=0.15, lw=0)
    axes.set_xscale("log")
    axes.set_xticks(list(known), [str(ipc) for ipc in known])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)


def by_ipc() -> None:
    figure, axes = plain_axes("test accuracy, %", "images per class")
    draw_sizes(axes, LINES)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/downstream"))
    options = parser.parse_args()
    by_ipc()
    by_difficulty(options.folder)


if __name__ == "__main__":
    main()
