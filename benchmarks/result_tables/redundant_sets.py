"""Redundancy: what sets say twice and leave out, and how near to each other images and changed copies of them are."""

from statistics import mean

from .records import load, table

NAMES = {
    "unguided pool": "random, unguided",
    "easiest of 5": "easiest of five, unguided",
    "random:reference": "random, real",
}


def sets() -> str:
    rows = []
    for one in load("redundancy-sets")["sets"]:
        covered = (f"{one['coverage'][kind]:.2f}" for kind in ("precision", "recall", "density", "coverage"))
        copies = str(one["faults"]["near"])
        name = NAMES.get(one["set"], one["set"])
        rows.append([name, f"{100 * mean(one['accuracies']):.1f}", *covered, copies, str(one["faults"]["wrong"])])
    heads = ["50 a class", "accuracy of one ten on the others, %", "precision", "recall", "density", "coverage"]
    return table([*heads, "near copies", "wrong by the guide"], rows, "redundancy-sets")


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
