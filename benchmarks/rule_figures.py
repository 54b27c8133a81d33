"""One picture a selection rule: which ten of a class each keeps.

    python benchmarks/rule_figures.py    # docs/images/rule-NAME.png

The pool is the 100 real shirts of the embedded reference, whose difficulties the guide knows.  Left every image by its
difficulty and by the first principal component of the guide's features; right the chosen images.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from sklearn.decomposition import PCA

from dag_diffusion import SelectionRule, embedded, load_classifier, read_pool, score_pool, subsample
from dag_diffusion.reporting.figures import GREY, PALETTE, difficulty_ticks, log_odds

IMAGES = Path(__file__).parent.parent / "docs" / "images"
CLASS, IPC = "Shirt", 10
RULES = {
    "matching": SelectionRule("matching"),
    "matching-diverse": SelectionRule("matching", diversity="k-center", tolerance=0.05),
    "histogram": SelectionRule("histogram"),
    "random": SelectionRule("random"),
    "easiest": SelectionRule("easiest"),
    "hardest": SelectionRule("hardest"),
    "k-center": SelectionRule("k-center"),
    "herding": SelectionRule("herding"),
}


def main() -> None:
    pool = read_pool(embedded.REFERENCE)
    guide = load_classifier(embedded.PIPELINE / "classifier")
    features = score_pool(pool, guide, features=True).features
    label = next(label for label, name in pool.class_names.items() if name == CLASS)
    mine = np.flatnonzero(pool.labels == label)
    d, height = pool.difficulties[mine], PCA(1).fit_transform(features[mine])[:, 0]
    target = {CLASS: embedded.training_difficulties(pool.class_names)[CLASS]}
    for name, rule in RULES.items():
        given = target if rule.method in ("matching", "histogram") else None
        selection = subsample(
            d,
            IPC,
            target=given,
            method=rule,
            labels=[label] * len(d),
            class_names={label: CLASS},
            features=features[mine],
        )
        chosen = sorted(selection.indices, key=lambda index: d[index])
        figure = Figure(figsize=(9, 2.0), dpi=110, facecolor="white")
        grid = GridSpec(2, 10, figure, left=0.02, right=0.99, top=0.98, bottom=0.24, wspace=0.02, hspace=0.3)
        axis = figure.add_subplot(grid[:, :5])
        axis.plot(log_odds(d), height, "o", color=GREY, alpha=0.45, markersize=4, markeredgewidth=0)
        axis.plot(log_odds(d[chosen]), height[chosen], "o", color=PALETTE[0][0], markersize=6)
        axis.set(yticks=[], xlabel="difficulty d", xlim=log_odds(np.array([1e-5, 0.999])))
        difficulty_ticks(axis.xaxis, short=True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        for place, index in enumerate(chosen):
            image = figure.add_subplot(grid[place // 5, 5 + place % 5])
            image.imshow(np.asarray(pool.open(int(mine[index]))), cmap="gray", vmin=0, vmax=255)
            image.set(xticks=[], yticks=[])
            image.set_xlabel(f"{d[index]:.2g}", fontsize=8, labelpad=2)
        figure.savefig(IMAGES / f"rule-{name}.png")


if __name__ == "__main__":
    main()
