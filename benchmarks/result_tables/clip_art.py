"""A folder of clip art distilled: its images, the minutes, and what a network learns from each set."""

from collections import defaultdict

import numpy as np

from dag_diffusion.compared_sets import UNGUIDED
from dag_diffusion.own_images.durations import Expected, duration_table

from .records import load, table
from .trained_sets import change, spread


def accuracies(name: str, key: str) -> str:
    """Each set against the random draw from the generator, in pairs, best first.

    Args:
        name: of the record.
        key: of its trainings, ``results`` or ``repeated``.
    """
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for row in load(name)[key]:
        found[row["set"]][row["seed"]] = 100 * row["accuracy"]
    known = {one: np.array([values[seed] for seed in sorted(values)]) for one, values in found.items()}
    base, order = known[UNGUIDED], sorted(known, key=lambda one: -known[one].mean())
    rows = [[one, spread(known[one]), "" if one == UNGUIDED else change(known[one], base)] for one in order]
    heads = ["trained on", f"accuracy, % ({len(base)} seeds)", f"against {UNGUIDED} (95 % interval)"]
    return table(heads, rows, name)


def minutes() -> str:
    record = load("clipart")
    made = duration_table({name: Expected(**one) for name, one in record["expected"].items()}, record["seconds"])
    return table(made.columns, made.rows, "clipart")


def images() -> str:
    counts = load("clipart")["counts"]
    rows = [[name, f"{count:,}", str(counts["test"][name])] for name, count in counts["train"].items()]
    totals = [f"{sum(counts[part].values()):,}" for part in ("train", "test")]
    return table(["class", "training", "test"], [*rows, ["in all", *totals]], "clipart")
