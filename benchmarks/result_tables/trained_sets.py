"""What sets teach: accuracies by set, size, network and protocol, and differences in pairs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from dag_diffusion.evaluation.comparisons import holm, paired

from .records import RESULTS, grid, interval, load, table

BASELINE = "random | unguided"


SIZES = ("1-quick", "10-quick", "20-quick", "50-quick")


HELD_OUT = "rules-held-out-"


SIZES_HELD_OUT = tuple(HELD_OUT + size for size in SIZES[:3])


SIZES_TODAY = (
    "autoguidance-1-quick",
    "solver-10-quick",
    "autoguidance-20-quick",
    "solver-50-quick",
)  # as ``run`` draws


ROUNDS = tuple(f"learnable-rounds-{size}" for size in (10, 20, 50))  # held out


NETWORKS = {
    "ResNetAP-10, 10 a class": ("10-quick-resnet-ap-10", "resnet-ap-10"),
    "ResNet-18, 10 a class": ("10-quick-resnet-18", "resnet-18"),
    "ResNetAP-10, 50 a class": ("50-quick-resnet-ap-10", "resnet-ap-10"),
}


BEST, MODES, STEERED = "easiest of 5 | drawn to modes", "drawn to modes", "matching of 5 | drawn to modes and easy"


PAIRS = [  # differences that the text names and that are not to the baseline: record, network, first set, second set
    ("learnable-test-10", "convnet-3", "learnable, in 5 rounds", "easiest"),
    ("learnable-test-50", "convnet-3", "learnable, in 5 rounds", "easiest"),
    ("learnable-merged-test-10", "convnet-3", "learnable, in 5 rounds", "easiest"),
    ("learnable-test-resnet-18-10", "resnet-18", "learnable, in 5 rounds", "easiest"),
    ("learnable-test-resnet-ap-10-10", "resnet-ap-10", "learnable, in 5 rounds", "easiest"),
    ("digits-rounds-10-quick", "convnet-3", "in 5 rounds | drawn to modes, auto 1.5", f"{BEST}, auto 1.5"),
    ("clipart-draws-10-quick", "convnet-3", "in 5 rounds | drawn to modes, auto 1.5", f"{BEST}, auto 1.5"),
    ("10-quick", "convnet-3", BEST, MODES),
    ("10-quick-resnet-18", "resnet-18", BEST, MODES),
    ("10-quick-resnet-ap-10", "resnet-ap-10", BEST, MODES),
    ("50-quick-resnet-ap-10", "resnet-ap-10", BEST, MODES),
    ("10-quick", "convnet-3", STEERED, BEST),
    ("10-quick-resnet-18", "resnet-18", STEERED, BEST),
    ("10-quick-resnet-ap-10", "resnet-ap-10", STEERED, BEST),
    ("10-quick-resnet-18", "resnet-18", STEERED, MODES),
    ("10-quick-resnet-ap-10", "resnet-ap-10", STEERED, MODES),
    ("50-quick-resnet-ap-10", "resnet-ap-10", STEERED, MODES),
    ("1-quick", "convnet-3", STEERED, BEST),
    ("10-classic", "convnet-3", STEERED, BEST),
    ("10-quick-resnet-ap-10-convnet-3", "resnet-ap-10", "easiest of 5 | drawn to modes and easy", BEST),
    ("10-quick-resnet-ap-10-convnet-3", "convnet-3", "easiest of 5 | drawn to modes and easy", BEST),
    ("10-quick", "convnet-3", "random | DAG, reference", BASELINE),
    ("10-quick", "convnet-3", BEST, "matching of 5 | drawn to modes"),
    ("20-quick", "convnet-3", BEST, "matching of 5 | drawn to modes"),
    ("1-quick", "convnet-3", BEST, "matching of 5 | drawn to modes"),
    ("50-quick", "convnet-3", BEST, "matching of 5 | drawn to modes"),
    ("50-quick", "convnet-3", "herding | real", BEST),
    ("modes-10", "convnet-3", "modes, plain, scale 0.2", "modes, plain"),
    ("modes-10", "convnet-3", "modes, plain, scale 0.2", "real images nearest to the modes"),
    ("emoji-10-quick", "convnet-3", f"{BEST}, auto 1.5", BEST),
    ("emoji-10-quick", "convnet-3", f"{BEST}, auto 1.5", "random | real"),
    ("digits-10-quick", "convnet-3", f"{BEST}, auto 1.5", BEST),
    ("autoguidance-10-quick", "convnet-3", f"{BEST}, CFG 1.5, auto 1.5", BASELINE),
    ("autoguidance-50-quick", "convnet-3", f"{BEST}, CFG 1.5, auto 1.5", BASELINE),
    ("solver-held-out-10-quick", "convnet-3", f"{BEST}, CFG 1.5, auto 1.5", f"{BEST}, CFG 1.5, auto 1.5, DDIM"),
    ("solver-10-quick", "convnet-3", f"{BEST}, CFG 1.5, auto 1.5", f"{BEST}, CFG 1.5, auto 1.5, DDIM"),
    ("solver-50-quick", "convnet-3", f"{BEST}, CFG 1.5, auto 1.5", f"{BEST}, CFG 1.5, auto 1.5, DDIM"),
    *(
        (record, "convnet-3", f"{BEST}, merged, half CFG 2, auto 1.5", f"{BEST}, merged, CFG 1.5, auto 1.5")
        for record in ("half-held-out-10-quick", "half-10-quick")
    ),
    ("half-10-quick", "convnet-3", f"{BEST}, merged, half CFG 2, auto 1.5", "random | unguided, half CFG 2"),
    ("half-50-quick", "convnet-3", "random | unguided, half CFG 2", "random | real"),
]


WORDS = {  # parts of the names of sets in records, in the words of the pages
    "easiest of 5 a mode": "easiest of five drawn to each mode",
    "hardest of 5 a mode": "hardest of five drawn to each mode",
    "matching of 5 a mode": "matching, of five drawn to each mode",
    "drawn to modes": "drawn to modes, one image to each",
    "histogram": "the paper's rule",
    "real": "real images",
    "unguided": "unguided pool",
    "unguided, 250 a class": "unguided pool of 250 a class",
    "nearest to modes": "nearest to the modes",
    "noise sets": "noise chosen as a set",
    "diversity 0.02": "pushed apart, 0.02",
    "drawn to modes, diversity 0.02": "drawn to modes, one image to each, and pushed apart, 0.02",
}


OF_FIVE = {
    ("easiest of 5", "drawn to modes"): "easiest of five drawn to each mode",
    ("easiest of 5", "drawn to modes and easy"): "easiest of five drawn to each mode and steered to be easy",
    ("in 5 rounds", "drawn to modes"): "in five rounds, of five drawn to each mode",
    ("matching of 5", "drawn to modes"): "matching, of five drawn to each mode",
    ("matching, auto of 5", "drawn to modes"): "matching to `auto`, of five drawn to each mode",
    ("cao2 of 5", "drawn to modes"): "`cao2`, of five drawn to each mode",
    ("matching, auto", "unguided"): "matching to `auto`, unguided pool",
    ("cao2", "unguided"): "`cao2`, unguided pool",
    ("matching of 5", "drawn to modes and easy"): "matching, of five drawn to each mode and steered to be easy",
}


def results_of(name: str, network: str = "") -> list[dict]:
    """The trainings of one record of ``downstream.py``; empty if nothing was recorded."""
    if not (RESULTS / f"downstream-{name}.json").exists():
        return []
    return [row for row in load(f"downstream-{name}")["results"] if not network or row["network"] == network]


def by_seed(name: str, network: str = "convnet-3") -> dict[str, dict[int, float]]:
    """Accuracy in percent by set and seed, of the seeds that all sets have."""
    return by_seed_in(results_of(name, network))


def by_seed_in(rows: Iterable[dict]) -> dict[str, dict[int, float]]:
    """The same of any trainings."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        found[row["set"]][row["seed"]] = 100 * row["accuracy"]
    shared = sorted(set.intersection(*map(set, found.values()))) if found else []
    return {name: {seed: values[seed] for seed in shared} for name, values in found.items()}


def accuracies(name: str, network: str = "convnet-3") -> dict[str, np.ndarray]:
    """The same as arrays."""
    return {name: np.array(list(values.values())) for name, values in by_seed(name, network).items()}


def spread(values: np.ndarray) -> str:
    return f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def change(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Mean paired difference and its 95 % interval."""
    found = paired(ours, theirs)
    return interval(found.difference, found.interval)


def words(name: str) -> str:
    """A set in the words of the pages: ``histogram | DAG, hill`` is ``the paper's rule, pool steered to hill``."""
    parts = tuple(part.strip() for part in name.split("|"))
    text = OF_FIVE.get(parts) or ", ".join(WORDS.get(part, part) for part in parts)
    for scale in (" 2", " 1.5", ""):
        text = text.replace(f"half CFG{scale}", f"classifier-free guidance{scale or ' 1.5'} in half of the steps")
    for old, new in (("DAG, ", "pool steered to "), ("DAG ", "steered to "), ("CFG ", "classifier-free guidance ")):
        text = text.replace(old, new)
    return text.replace("steered to reference", "steered to the reference")


def study(name: str, network: str = "convnet-3", baseline: str = BASELINE) -> str:
    """All sets of one record, best first, each against the baseline in pairs, with Holm-corrected p-values."""
    known = accuracies(name, network)
    base, seeds = known[baseline], len(known[baseline])
    order = sorted(known, key=lambda one: -known[one].mean())
    tested = {one: paired(known[one], base).p_value for one in order if one != baseline}
    told = {one: p_value for one, p_value in tested.items() if p_value is not None}
    p_values = dict(zip(told, holm(list(told.values())), strict=True))
    rows = []
    for one in order:
        against = "" if one == baseline else change(known[one], base)
        rows.append([words(one), spread(known[one]), against, _p(p_values[one]) if one in told else ""])
    heads = [
        "set",
        f"accuracy, % ({seeds} seed{'s' * (seeds > 1)})",
        f"against {'random, unguided' if baseline == BASELINE else words(baseline)} (95 % interval)",
        "p, Holm",
    ]
    return table(heads, rows, f"downstream-{name}")


def _p(value: float) -> str:
    return (
        "1" if value > 0.995 else f"{value:.2f}" if value > 0.095 else f"{value:.2g}" if value >= 1e-4 else "< 0.0001"
    )


def by_size(records: Sequence[str] = SIZES, baseline: str = BASELINE) -> str:
    """Sets that every size has, against the random draw or another set, in the order of the second size."""
    known, other = {name: accuracies(name) for name in records}, baseline != BASELINE
    shared = [name for name in known[records[1]] if name != baseline and all(name in one for one in known.values())]
    shared.sort(key=lambda name: -known[records[1]][name].mean())
    rows = [[words(name), *(change(one[name], one[baseline]) for one in known.values())] for name in shared]
    of = words(baseline) if other else "random, unguided"
    rows.append([f"accuracy of {of}, %", *(spread(one[baseline]) for one in known.values())])
    rows.append(["seeds", *(str(len(one[baseline])) for one in known.values())])
    sizes = (f"{name.removesuffix('-quick').rpartition('-')[2]} a class" for name in records)
    heads = [f"against {words(baseline)}" if other else "against random images of an unguided pool", *sizes]
    return table(heads, rows, *(f"downstream-{name}" for name in records))


def sizes() -> str:
    """Accuracies at 1, 20 and 50 images a class, of every set that was measured."""
    known = {size: accuracies(size) for size in SIZES if size != "10-quick"}
    names = sorted({name for one in known.values() for name in one}, key=lambda n: (n not in known["20-quick"], n))
    rows = [[words(name), *(spread(one[name]) if name in one else "" for one in known.values())] for name in names]
    heads = ["accuracy, %", *(f"{size.split('-')[0]} a class" for size in known)]
    return table(heads, rows, *(f"downstream-{size}" for size in known))


def networks() -> str:
    known = {head: accuracies(*of) for head, of in NETWORKS.items()}
    names = [name for name in known["ResNetAP-10, 10 a class"] if name != BASELINE]
    names.sort(key=lambda name: -known["ResNetAP-10, 10 a class"][name].mean())
    cells = [[change(one[name], one[BASELINE]) if name in one else "" for one in known.values()] for name in names]
    rows = [[words(name), *row] for name, row in zip(names, cells, strict=True)]
    rows.append(["accuracy of random, unguided, %", *(spread(one[BASELINE]) for one in known.values())])
    rows.append(["seeds", *(str(len(one[BASELINE])) for one in known.values())])
    records = (f"downstream-{name}" for name, _ in NETWORKS.values())
    return table(["against random, unguided (95 % interval)", *known], rows, *records)


def classic() -> str:
    """The protocol of dataset condensation at three sizes; the last two lines are published figures."""
    known = {size: accuracies(f"{size}-classic") for size in ("1", "10", "50")}
    names = [BEST, STEERED, MODES, "random | real"]
    rows = [
        [words(n), *(f"{one[n].mean():.1f}, {change(one[n], one[BASELINE])}" for one in known.values())] for n in names
    ]
    rows.append([words(BASELINE), *(f"{one[BASELINE].mean():.1f}" for one in known.values())])
    rows += [["DC, as published", "70.5", "82.3", "83.6"], ["DSA, as published", "70.6", "84.6", "88.7"]]
    heads = [f"{size} a class ({len(one[BASELINE])} seeds)" for size, one in known.items()]
    records = (f"downstream-{size}-classic" for size in known)
    return table(["accuracy, %, and against random, unguided", *heads], rows, *records)


def pairs() -> str:
    """Differences between two sets, neither of which need be the baseline."""
    rows = []
    for name, network, *sets in PAIRS:
        known = accuracies(name, network)
        rows.append([name, network, *map(words, sets), change(*(known[one] for one in sets))])
    return grid(["record", "network", "set", "against", "points (95 % interval)"], rows)


def quality(protocol: str) -> str:
    """10 random images a class of the embedded pipeline against real ones."""
    record = load(f"embedded-quality-{protocol}")
    rows = []
    for row in record["rows"]:
        scale = row["set"].rpartition(" ")[2]
        sure = f"{record['agreement'][scale]:.1%}".replace("%", " %") if scale in record["agreement"] else ""
        bounds = [100 * bound for bound in row["interval"]]
        against = interval(100 * row["difference"], bounds) if row["set"] != "real" else ""
        rows.append([words(row["set"]), f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}", against, sure])
    heads = [
        "10 random images a class",
        "accuracy, %",
        "against real (95 % interval)",
        "evaluator gives the class more than 1/2",
    ]
    return table(heads, rows, f"embedded-quality-{protocol}")
