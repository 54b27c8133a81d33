"""How hard sets of each size want their images, on four data sets, and what the others would have chosen for each.

chosen(left out) = argmax over moves of the mean, over the other data sets, of (accuracy - that of the reference)
"""

from collections.abc import Iterable
from statistics import mean, stdev

from dag_diffusion.evaluation.comparisons import paired

from .records import grid, interval, load, source, table

DATA_SETS = {"fashion": "Fashion-MNIST", "digits": "digits", "emoji": "emoji", "clipart": "clip art"}
SIZES = ("1", "10")  # images a class
REFERENCE = "log2 g = 0"
Accuracies = dict[str, list[float]]  # of each set, by seed


def record_name(data_set: str, size: str) -> str:
    return f"auto-target-{size}" if data_set == "fashion" else f"auto-target-{data_set}-{size}"


def accuracies(name: str) -> Accuracies:
    found: Accuracies = {}
    for one in sorted(load(name)["results"], key=lambda one: one["seed"]):
        found.setdefault(one["set"], []).append(100 * one["accuracy"])
    return found


def moves_of(found: Accuracies) -> list[str]:
    return [name for name in found if name.startswith("log2 g")]


def gain(found: Accuracies, name: str) -> float:
    return mean(found[name]) - mean(found[REFERENCE])


def best(found: Iterable[Accuracies]) -> str:
    """The move with the highest mean gain over the reference."""
    several = list(found)
    return max(moves_of(several[0]), key=lambda move: mean(gain(one, move) for one in several))


def by_size() -> str:
    """Accuracy by how far a target lies from real images, one column a data set and size."""
    names = {f"{DATA_SETS[name]}, {size}": record_name(name, size) for size in SIZES for name in DATA_SETS}
    return _columns(names | {f"Fashion-MNIST, {size}": f"auto-target-{size}" for size in ("20", "50")})


def conditions() -> str:
    """The same at ten images a class of Fashion-MNIST, trained longer, and on generated images."""
    return _columns({"four times the epochs": "auto-target-10-longer", "generated images": "auto-target-generated"})


def left_out() -> str:
    """Gains over the reference of what the other data sets chose, beside ``auto`` and each one's own best."""
    rows = []
    for size in SIZES:
        found = {name: accuracies(record_name(name, size)) for name in DATA_SETS}
        compared = [  # the set of each data set, one entry a column
            dict.fromkeys(found, "random"),
            dict.fromkeys(found, "matching, auto"),
            {name: best(one for other, one in found.items() if other != name) for name in found},
            {name: best([one]) for name, one in found.items()},
        ]
        for name, one in found.items():
            cells = [_gained(one, kinds[name]) for kinds in compared]
            rows.append([f"{DATA_SETS[name]}, {size}", f"{mean(one[REFERENCE]):.1f}", *cells])
        means = [_over_sets([gain(found[name], kinds[name]) for name in found]) for kinds in compared]
        known = mean(mean(one[REFERENCE]) for one in found.values())
        rows.append([f"**their mean, {size}**", f"{known:.1f}", *means])
    heads = ["images a class", "reference, %", "random", "`auto`", "chosen by the others", "its own best"]
    records = (record_name(name, size) for size in SIZES for name in DATA_SETS)
    return f"{grid(heads, rows)}\n\n{source(*records)}"


def _columns(names: dict[str, str]) -> str:
    columns = {head: accuracies(name) for head, name in names.items()}
    kinds = list(dict.fromkeys(kind for found in columns.values() for kind in found))
    rows = [[kind, *(_spread(found.get(kind, [])) for found in columns.values())] for kind in kinds]
    return table(["target", *columns], rows, *names.values())


def _spread(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.1f}, one seed" if values else ""
    return f"{mean(values):.1f} ± {stdev(values):.1f}"


def _against(ours: list[float], theirs: list[float]) -> str:
    found = paired(ours, theirs)
    return "" if ours is theirs else interval(found.difference, found.interval)


def _gained(found: Accuracies, name: str) -> str:
    """Over the reference, with the exponent before it."""
    exponent = f"{name.removeprefix('log2 g = ')}: " if name in moves_of(found) else ""
    return exponent + (_against(found[name], found[REFERENCE]) or "the reference")


def _over_sets(gains: list[float]) -> str:
    found = paired(gains, [0.0] * len(gains))
    return interval(found.difference, found.interval)
