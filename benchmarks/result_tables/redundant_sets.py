"""Redundancy: how near to each other images and changed copies of them are."""

from .records import load, table


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
