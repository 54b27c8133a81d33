"""The README's figure: images from easy to hard, beside what sets of each size teach.

    python benchmarks/readme_figure.py    # docs/images/overview.png, 960 x 330 at twice the density

Left the embedded default, the same noise along each row; right the records of benchmarks/downstream.py.
"""

from pathlib import Path

import numpy as np
import torch
from downstream_figures import LINES, draw_sizes
from embedded import evaluated
from matplotlib.figure import Figure

from dag_diffusion import embedded, load_classifier
from dag_diffusion.loading import load_embedded_pipeline

PATH = Path(__file__).parent.parent / "docs" / "images" / "overview.png"
SHOWN = ("T-shirt", "Dress", "Sneaker")  # classes that change most; benchmarks/embedded.py shows all ten
TARGETS = (None, 0.1, 0.3, 0.5, 0.7, 0.9)
SHORT = {"random | real": "random real", "random | unguided": "random generated", "drawn to modes": "mode guidance"}
SHORT["easiest of 5 | drawn to modes"] = "mode guidance + easiest"


def images(figure: Figure) -> None:
    """A row a class, a column a target; above each column what an evaluator that never steers finds for all ten."""
    pipeline, evaluator = load_embedded_pipeline(), load_classifier(embedded.EVALUATOR)
    names = list(pipeline.class_names.values())
    axes = figure.subplots(len(SHOWN), len(TARGETS), gridspec_kw={"wspace": 0.06, "hspace": 0.06})
    for column, target in enumerate(TARGETS):
        generators = [torch.Generator().manual_seed(11 + label) for label in pipeline.class_names]
        drawn = pipeline(names, target, generator=generators).images
        head = "unguided" if target is None else f"d* = {target}"
        axes[0, column].set_title(f"{head}\nevaluator {evaluated(evaluator, drawn).mean():.2f}", fontsize=8)
        for axis, name in zip(axes[:, column], SHOWN, strict=True):
            axis.imshow(np.asarray(drawn[names.index(name)]), cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
    for axis, name in zip(axes[:, 0], SHOWN, strict=True):
        axis.set_ylabel(name, fontsize=10)
    figure.subplots_adjust(left=0.05, right=0.995, top=0.86, bottom=0.02)


def accuracy(figure: Figure) -> None:
    axes = figure.subplots()
    draw_sizes(axes, {name: (label, LINES[name][1]) for name, label in SHORT.items()})
    axes.set_xlabel("images per class", fontsize=10)
    axes.set_title("test accuracy of a ConvNet-3, %", fontsize=10)
    axes.tick_params(labelsize=9)
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    figure.subplots_adjust(left=0.09, right=0.98, top=0.9, bottom=0.15)


def main() -> None:
    whole = Figure(figsize=(9.6, 3.3), dpi=200, facecolor="white")
    left, right = whole.subfigures(1, 2, width_ratios=(5.9, 3.7))
    images(left)
    accuracy(right)
    whole.savefig(PATH)


if __name__ == "__main__":
    main()
