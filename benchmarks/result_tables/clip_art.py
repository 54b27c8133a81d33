"""A folder of clip art distilled: its images, the minutes, and what a network learns from each set."""

import numpy as np

from dag_diffusion.distillation.compared_sets import UNGUIDED
from dag_diffusion.own_images.durations import Expected, duration_table

from .records import load, table
from .trained_sets import accuracies as accuracies_of
from .trained_sets import by_seed_in, change, spread, words

DRAWN_BY = {"clipart-ddim": "20 steps of DDIM", "clipart": "12 of DPM-Solver++"}  # two distillations
DRAWS = {"clipart-draws-ddim-10-quick": "20 steps of DDIM", "clipart-draws-10-quick": "12 of DPM-Solver++"}
RANDOM = "random | unguided, auto 1.5"


def accuracies(name: str, key: str) -> str:
    """Each set against the random draw from the generator, in pairs, best first.

    Args:
        name: of the record.
        key: of its trainings, ``results`` or ``repeated``.
    """
    known = trained(name, key)
    base, order = known[UNGUIDED], sorted(known, key=lambda one: -known[one].mean())
    rows = [[one, spread(known[one]), "" if one == UNGUIDED else change(known[one], base)] for one in order]
    heads = ["trained on", f"accuracy, % ({len(base)} seeds)", f"against {UNGUIDED} (95 % interval)"]
    return table(heads, rows, name)


def more_seeds() -> str:
    """Each set against the random draw of the generator, in two distillations."""
    known = {text: trained(name, "repeated") for name, text in DRAWN_BY.items()}
    rows = [
        [one, *(cell for found in known.values() for cell in _against(found, one, UNGUIDED))]
        for one in next(reversed(known.values()))
    ]
    heads = [head for text in known for head in (f"accuracy, %, {text}", f"against {UNGUIDED}")]
    return table(["trained on", *heads], rows, *DRAWN_BY)


def draws() -> str:
    """Sets of pools of their own, against random images, in two distillations and in both together."""
    known = {text: accuracies_of(name) for name, text in DRAWS.items()}
    *_, last = known.values()
    both = {
        one: np.concatenate([found[one] for found in known.values()])
        for one in last
        if all(one in found for found in known.values())
    }
    rows = []
    for one in sorted(last, key=lambda one: -both.get(one, last[one]).mean()):
        cells = [cell for found in known.values() for cell in _against(found, one, RANDOM)]
        rows.append([words(one), *cells, _against(both, one, RANDOM)[1]])
    heads = [head for text in known for head in (f"accuracy, %, {text}", "against random images")]
    return table(["set", *heads, "both distillations"], rows, *(f"downstream-{name}" for name in DRAWS))


def _against(found: dict[str, np.ndarray], one: str, baseline: str) -> tuple[str, str]:
    if one not in found:  # a set of the second distillation alone
        return "", ""
    return spread(found[one]), "" if one == baseline else change(found[one], found[baseline])


def by_autoencoder() -> str:
    """Accuracies where the autoencoder learnt in batches of 64 and of 16, by what it changes in a pixel."""
    names = ("clipart-blurred", "clipart-without")
    changed = [f"{load(name)['models']['generator']['reconstruction_error']:.1f} levels" for name in names]
    columns = [{**trained(name, "results"), **trained(name, "repeated")} for name in names]
    rows = [[one, str(len(columns[1][one])), *(spread(found[one]) for found in columns)] for one in columns[1]]
    return table(["trained on", "seeds", *(f"changed by {text}" for text in changed)], rows, *names)


def trained(name: str, key: str) -> dict[str, np.ndarray]:
    """Accuracies of each set in %, in the order of their seeds."""
    return {one: np.array(list(values.values())) for one, values in by_seed_in(load(name)[key]).items()}


def minutes() -> str:
    record = load("clipart")
    made = duration_table({name: Expected(**one) for name, one in record["expected"].items()}, record["seconds"])
    return table(made.columns, made.rows, "clipart")


def images() -> str:
    counts = load("clipart")["counts"]
    rows = [[name, f"{count:,}", str(counts["test"][name])] for name, count in counts["train"].items()]
    totals = [f"{sum(counts[part].values()):,}" for part in ("train", "test")]
    return table(["class", "training", "test"], [*rows, ["in all", *totals]], "clipart")
