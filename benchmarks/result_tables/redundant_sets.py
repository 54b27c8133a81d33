"""Redundancy: what sets say twice and leave out, what a repair changes, and how near images and changed copies are."""

from statistics import mean

from .records import load, table

NAMES = {
    "unguided pool": "random, unguided",
    "easiest of 5": "easiest of five, unguided",
    "random:reference": "random, real",
}
FAULTS = ("empty", "duplicate", "near", "wrong")


def sets() -> str:
    rows = []
    for one in load("redundancy-sets")["sets"]:
        covered = (f"{one['coverage'][kind]:.2f}" for kind in ("precision", "recall", "density", "coverage"))
        copies = str(one["faults"]["near"])
        name = NAMES.get(one["set"], one["set"])
        rows.append([name, f"{100 * mean(one['accuracies']):.1f}", *covered, copies, str(one["faults"]["wrong"])])
    heads = ["50 a class", "accuracy of one ten on the others, %", "precision", "recall", "density", "coverage"]
    return table([*heads, "near copies", "wrong by the guide"], rows, "redundancy-sets")


def repair() -> str:
    rows = []
    for name, one in load("redundancy-repair")["rows"].items():
        faults = (f"{sum(one[by][kind] for kind in FAULTS)}" for by in ("guide", "evaluator"))
        rows.append([name, f"{one['images']}", *faults, f"{one['redrawn']}", f"{one['most_redraws']}"])
    heads = ["unguided pool", "images", "faults by the guide", "by the evaluator", "drawn again", "at most so often"]
    return table(heads, rows, "redundancy-repair")


def near_copies() -> str:
    found = load("redundancy-near")["distances"]
    rows = []
    for name in found["guide"]:
        cells = []
        for one in (found["guide"][name], found["evaluator"][name]):
            least, _, half, most, _ = one["quantiles"]
            cells += [f"{least:.3f}", f"{half:.3f}", f"{most:.3f}", f"{100 * one['near']:.0f}"]
        rows.append([name, *cells])
    each = ["least", "half", "95 %", "found, %"]
    heads = ["distance to", *(f"{head}, {by}" for by in ("guide", "evaluator") for head in each)]
    return table(heads, rows, "redundancy-near")
