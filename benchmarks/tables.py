"""Every record in benchmarks/results as a Markdown table, so that text and record cannot disagree.

    python benchmarks/tables.py                  # all tables
    python benchmarks/tables.py guidance-main    # one of them
    python benchmarks/tables.py > benchmarks/results/README.md    # after a record has changed

docs/hooks.py puts a table where a page says ``<!-- results: NAME -->``.  Below each table stands its command.
The README of the records is for readers on GitHub, where no hook runs.
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from dag_diffusion.evaluation.comparisons import holm, paired

RESULTS = Path(__file__).parent / "results"
BASELINE = "random | unguided"
SIZES = ("1-quick", "10-quick", "20-quick", "50-quick")
NETWORKS = {
    "ResNetAP-10, 10 a class": ("10-quick-resnet-ap-10", "resnet-ap-10"),
    "ResNet-18, 10 a class": ("10-quick-resnet-18", "resnet-18"),
    "ResNetAP-10, 50 a class": ("50-quick-resnet-ap-10", "resnet-ap-10"),
}
BEST, MODES, STEERED = "easiest of 5 | drawn to modes", "drawn to modes", "matching of 5 | drawn to modes and easy"
PAIRS = [  # differences that the text names and that are not to the baseline: record, network, first set, second set
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
    ("emoji-10-quick", "convnet-3", BEST, "random | real"),
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
}
OF_FIVE = {
    ("easiest of 5", "drawn to modes"): "easiest of five drawn to each mode",
    ("easiest of 5", "drawn to modes and easy"): "easiest of five drawn to each mode and steered to be easy",
    ("matching of 5", "drawn to modes"): "matching, of five drawn to each mode",
    ("matching of 5", "drawn to modes and easy"): "matching, of five drawn to each mode and steered to be easy",
}


# -- records


@cache
def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def results_of(name: str, network: str = "") -> list[dict]:
    """The trainings of one record of ``downstream.py``; empty if nothing was recorded."""
    if not (RESULTS / f"downstream-{name}.json").exists():
        return []
    return [row for row in load(f"downstream-{name}")["results"] if not network or row["network"] == network]


def by_seed(name: str, network: str = "convnet-3") -> dict[str, dict[int, float]]:
    """Accuracy in percent by set and seed, of the seeds that all sets have."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for row in results_of(name, network):
        found[row["set"]][row["seed"]] = 100 * row["accuracy"]
    shared = sorted(set.intersection(*map(set, found.values()))) if found else []
    return {name: {seed: values[seed] for seed in shared} for name, values in found.items()}


def accuracies(name: str, network: str = "convnet-3") -> dict[str, np.ndarray]:
    """The same as arrays."""
    return {name: np.array(list(values.values())) for name, values in by_seed(name, network).items()}


# -- cells


def grid(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *map(list, rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def source(*names: str) -> str:
    """The line under a table: by which command, on what, in which record."""
    parts = []
    for name in names:
        record = load(name)
        settings, machine = record.get("settings", {}), record.get("machine", {})
        device = record.get("device") or settings.get("device") or machine.get("processor") or "CPU"  # the GPU, if any
        command = record["command"] if record["command"].startswith("python") else f"python {record['command']}"
        if len(names) > 1:
            command = re.sub(r" --sets .*", " --sets ...", command)  # the record has all of it
        of = f"{device}, torch {record['versions']['torch']}"
        parts.append(f"`{command}` ({of}; `benchmarks/results/{name}.json`)")
    return "*Measured by " + ",\n".join(parts) + ".*"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], *records: str) -> str:
    return f"{grid(heads, rows)}\n\n{source(*records)}"


def spread(values: np.ndarray) -> str:
    return f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")


def change(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Mean paired difference and its 95 % interval."""
    found = paired(ours, theirs)
    return interval(found.difference, found.interval)


def interval(difference: float, bounds: Iterable[float] | None) -> str:
    text = f"{_signed(difference)}"
    return text if bounds is None else text + " ({} to {})".format(*map(_signed, bounds))


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"  # rounding leaves a minus before zero


def words(name: str) -> str:
    """A set in the words of the pages: ``histogram | DAG, hill`` is ``the paper's rule, pool steered to hill``."""
    parts = tuple(part.strip() for part in name.split("|"))
    text = OF_FIVE.get(parts) or ", ".join(WORDS.get(part, part) for part in parts)
    for old, new in (("DAG, ", "pool steered to "), ("DAG ", "steered to "), ("CFG ", "classifier-free guidance ")):
        text = text.replace(old, new)
    return text.replace("steered to reference", "steered to the reference")


def mean_of(rows: list[dict], key: str, places: int) -> str:
    values = [row[key] for row in rows]
    if not any(values):
        return "-"
    deviation = f" ± {np.std(values, ddof=1):.{places}f}" if len(values) > 1 and "error" in key else ""
    return f"{round(float(np.mean(values)), places) + 0.0:.{places}f}{deviation}"


# -- what sets teach


def study(name: str, network: str = "convnet-3") -> str:
    """All sets of one record, best first, each against the random draw in pairs, with Holm-corrected p-values."""
    known = accuracies(name, network)
    base, seeds = known[BASELINE], len(known[BASELINE])
    order = sorted(known, key=lambda one: -known[one].mean())
    tested = [paired(known[one], base).p_value for one in order if one != BASELINE]
    p_values = iter(holm(tested) if seeds > 1 else [None] * len(tested))
    rows = []
    for one in order:
        against = "" if one == BASELINE else change(known[one], base)
        p_value = None if one == BASELINE else next(p_values)
        rows.append([words(one), spread(known[one]), against, "" if p_value is None else _p(p_value)])
    heads = [
        "set",
        f"accuracy, % ({seeds} seed{'s' * (seeds > 1)})",
        "against random, unguided (95 % interval)",
        "p, Holm",
    ]
    return table(heads, rows, f"downstream-{name}")


def _p(value: float) -> str:
    return (
        "1" if value > 0.995 else f"{value:.2f}" if value > 0.095 else f"{value:.2g}" if value >= 1e-4 else "< 0.0001"
    )


def by_size() -> str:
    """Sets that every size has, against the random draw."""
    known = {size: accuracies(size) for size in SIZES}
    names = [name for name in known["20-quick"] if name != BASELINE and all(name in one for one in known.values())]
    names.sort(key=lambda name: -known["10-quick"][name].mean())
    rows = [[words(name), *(change(one[name], one[BASELINE]) for one in known.values())] for name in names]
    rows.append(["accuracy of random, unguided, %", *(spread(one[BASELINE]) for one in known.values())])
    rows.append(["seeds", *(str(len(one[BASELINE])) for one in known.values())])
    heads = ["against random images of an unguided pool", *(f"{size.split('-')[0]} a class" for size in SIZES)]
    return table(heads, rows, *(f"downstream-{size}" for size in SIZES))


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


# -- guidance

METHOD_KEYS = {
    "guide_error": ("guide", 3),
    "guide_spearman": ("rho", 2),
    "evaluator_error": ("evaluator", 3),
    "evaluator_spearman": ("rho", 2),
    "frechet_matched": ("Fréchet, matched", 2),
    "frechet_all": ("all", 2),
    "diversity": ("diversity", 2),
    "cost": ("cost", 2),
}


def methods(name: str) -> str:
    """Errors, rank correlations, naturalness and cost of every method of one record."""
    keys = {key: head for key, head in METHOD_KEYS.items() if name == "main" or key != "cost"}
    rows = [
        [method, *(mean_of(group, key, places) for key, (_, places) in keys.items())]
        for method, group in by_method(name).items()
    ]
    return table(["method", *(head for head, _ in keys.values())], rows, f"guidance-{name}")


def by_method(name: str) -> dict[str, list[dict]]:
    grouped: dict[str, list[dict]] = defaultdict(list)
    for row in load(f"guidance-{name}")["rows"]:
        grouped[row["method"]].append(row)
    return dict(grouped)


def by_target() -> str:
    """Errors at each target difficulty, by who measured them."""
    rows, known = [], by_method("main")
    default, real = known["default: probe, last 2 decoded"], known["real, chosen by the guide"]
    shown = [
        ("mean |d - d*|, by the guide that steered", default, "guide"),
        ("the same, by the evaluator", default, "evaluator"),
        ("real images chosen by the guide, by the evaluator", real, "evaluator"),
        ("attack on finished images, by the evaluator", known["post-hoc attack"], "evaluator"),
    ]
    for head, group, who in shown:
        errors = np.mean([row[f"{who}_errors"] for row in group], axis=0)
        rank = np.mean([row[f"{who}_spearman"] for row in group])
        rows.append([head, *(f"{error:.3f}" for error in errors), f"{errors.mean():.3f}", f"{rank:.2f}"])
    means = np.mean([row["evaluator_means"] for row in default], axis=0)
    rows.append(["mean d, by the evaluator", *(f"{mean:.2f}" for mean in means), "", ""])
    targets = [f"{target}" for target in default[0]["targets"]]
    return table(["d*", *targets, "mean", "Spearman"], rows, "guidance-main")


def flop() -> str:
    gflop = load("guidance-cost")["gflop"]
    rows = [[part, f"{value:.2f}" if value < 1 else f"{value:.1f}"] for part, value in gflop.items()]
    return table(["part, one image", "GFLOP"], rows, "guidance-cost")


def counted_cost() -> str:
    rows = [[form, f"{value:.3f}"] for form, value in load("guidance-cost")["ratios"].items()]
    return table(["form of guidance", "guided / unguided"], rows, "guidance-cost")


def timed_cost() -> str:
    record = load("dit-xl")
    forms = record["bfloat16, forms of guidance"]
    every = record["bfloat16, every step"]["decoder at every guided step"]
    order = ["unguided", "probe alone", "probe, last 2 decoded by the tiny decoder", "probe, last 2 decoded (default)"]
    shown = {**{form: forms[form] for form in order}, "decoder at every guided step (one turn)": every}
    rows = [
        [form, f"{one['images_per_second']:.1f}", f"{one['cost']:.2f}", f"{one['peak_gib']:.1f}"]
        for form, one in shown.items()
    ]
    return table(["form of guidance", "images a second", "guided / unguided", "GiB at the peak"], rows, "dit-xl")


# -- sampling


def distances() -> str:
    rows = load("subsampling-match")["rows"]
    columns = [(pool, ipc) for ipc in (10, 50) for pool in ("unguided", "guided")]
    known = {(row["rule"], (row["pool"], row["ipc"])): row for row in rows}
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    least = [f"{known[rules[0], column]['floor']:.4f} (0)" for column in columns]
    lines = [["*the least there can be*", *least]]
    for rule in rules:
        cells = [known[rule, column] for column in columns]
        lines.append([rule, *(f"{one['distance']:.4f} ({one['to_quantiles']:.4f})" for one in cells)])
    heads = ["distance (to quantiles)", *(f"{pool}, IPC {ipc}" for pool, ipc in columns)]
    return table(heads, lines, "subsampling-match")


def rules_in_training(ipc: int) -> str:
    rows = {row["set"]: row for row in load(f"subsampling-downstream-{ipc}")["rows"]}
    lines = []
    for rule in [name.removeprefix("unguided, ") for name in rows if name.startswith("unguided, ")]:
        cells = []
        for pool in ("unguided", "guided"):
            row = rows[f"{pool}, {rule}"]
            baseline = (pool, rule) == ("unguided", "random")
            bounds = [100 * bound for bound in row["interval"]]
            cells.append(f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}")
            cells.append("" if baseline else interval(100 * row["difference"], bounds))
        lines.append([rule, *cells])
    pools = [
        head for pool in ("unguided", "guided") for head in (f"{pool} pool, accuracy, %", "against random, unguided")
    ]
    return table([f"{ipc} images a class by", *pools], lines, f"subsampling-downstream-{ipc}")


def searches() -> str:
    rows = [
        [
            f"{one['images']:,}",
            f"{one['pairs']:,}",
            _time(one["double_loop_s"]),
            _time(one["search_s"]),
            f"{one['ratio']:.0f}",
        ]
        for one in load("subsampling-speed")["thresholds"]
    ]
    return table(["pool of one class", "pairs", "double loop", "search", "ratio"], rows, "subsampling-speed")


def million() -> str:
    record = load("subsampling-speed")
    rows = [
        [one["rule"], str(one["ipc"]), f"{one['seconds']:.1f}", f"{one['mib']:.0f}", f"{one['mib_before']:.0f}"]
        for one in record["million"]
    ]
    heads = ["a million images of 1,000 classes", "IPC", "seconds", "MiB at the peak", "of which before"]
    return table(heads, rows, "subsampling-speed")


def scoring() -> str:
    rows = []
    for what, one in load("scoring")["results"].items():
        if "ratio" in one:
            continue  # of processes, which have a table of their own
        speeds = [one[f"{kind}, images/s"] for kind in ("plain loop", "first record", "second record")]
        large = one.get("gain at 3000 images")
        gains = [f"{one['gain']:.2f}", "" if large is None else f"{large:.2f}"]
        rows.append([what, *(f"{speed:,.0f}" for speed in speeds), *gains, f"{one['largest difference']:.2g}"])
    heads = [
        "images a second",
        "plain loop",
        "`score`, first time",
        "second run, nothing changed",
        "gain",
        "computed for 3,000 images",
        "largest difference of d",
    ]
    return table(heads, rows, "scoring")


def scoring_processes() -> str:
    one = next(one for one in load("scoring")["results"].values() if "ratio" in one)
    kinds = ("ratio", "ratio with starting and loading")
    row = [f"{one['images']}", *(f"{one[kind]:.2f}" for kind in kinds), f"{len(one['rounds'])}"]
    heads = ["photographs", "two processes against one", "with starting and loading", "pairs"]
    return table(heads, [row], "scoring")


def _time(seconds: float) -> str:
    milliseconds = 1000 * seconds
    return (
        f"{seconds:.1f} s"
        if seconds >= 1
        else f"{milliseconds:.0f} ms"
        if milliseconds >= 10
        else f"{milliseconds:.1f} ms"
    )


# -- pools at scale


def loop() -> str:
    record = load("generation-loop")
    rows = [
        [name, f"{np.median(speeds):.1f}", f"{record['ratios'][name]:.1f}"]
        for name, speeds in record["images_per_second"].items()
    ]
    return table(["", "images a second", "ratio"], rows, "generation-loop")


def processes() -> str:
    record = load("generation-processes")
    rows = [
        [
            f"{count} process{'es' * (count != '1')}, one thread each",
            f"{np.median(speeds):.1f}",
            ", ".join(map(str, speeds)),
        ]
        for count, speeds in record["images_per_second"].items()
    ]
    rows.append(["two processes against twice one", f"{record['efficiency']:.2f}", ""])
    return table(["guided pool", "images a second, median", "each turn"], rows, "generation-processes")


def generation_networks() -> str:
    record = load("generation-networks")
    rows = [
        [name, f"{np.median(speeds):.1f}", f"{record['ratios'][name]:.2f}", ", ".join(f"{one:.1f}" for one in speeds)]
        for name, speeds in record["images_per_second"].items()
    ]
    heads = ["networks, classifier-free guidance", "images a second, median", "ratio", "each turn"]
    return table(heads, rows, "generation-networks")


def generation_options() -> str:
    record = load("generation-options")
    rows = []
    for name, ratio in record["ratios"].items():
        differ, first = record["pixels_that_differ"][name], record["seconds_of_first_batch"][name]
        off = f"{_share(differ)}" + (f", by {differ['most']}" if differ["share"] else "")
        rows.append([name, f"{ratio:.2f}", off, f"{first:.0f} s", f"{record['difficulty_error'][name]:.3f}"])
    heads = [
        "option",
        "images a second, ratio",
        "share of pixels that differ, by at most",
        "first batch",
        "mean abs(d - d*)",
    ]
    return table(heads, rows, "generation-options")


def same_pixels() -> str:
    two = load("generation-processes")["pixels_that_differ"]
    found = {"two processes, one thread each": two, **load("generation-same")}
    rows = [
        [what, _share(one), str(one["most"])] for what, one in found.items() if isinstance(one, dict) and "share" in one
    ]
    heads = ["circumstance", "share of pixels that differ", "by at most, of 255"]
    return table(heads, rows, "generation-same", "generation-processes")


def _share(pixels: dict) -> str:
    return f"{pixels['share']:.2g}" if pixels["share"] else "none"


def overhead() -> str:
    record = load("generation-overhead")
    shares = ", ".join(f"{100 * share:.2f} %" for share in record["share_besides_drawing"])
    rows = [
        ["time besides the pipeline's own work, each turn", shares],
        ["images checked a second when a pool is resumed", f"{record['images_checked_per_second']:,.0f}"],
    ]
    return table(["", ""], rows, "generation-overhead")


# -- training of generators


def training_speed() -> str:
    record, rows = load("training-speed"), []
    for side, one in record["results"].items():
        plain, cached = one["ratios"].values()
        for name, turns in one["images_per_second"].items():
            ratios = [f"{plain[name]:.2f}", f"{cached[name]:.2f}"]
            rows.append(
                [f"{side} x {side}", name, f"{np.median(turns):.0f}", *ratios, ", ".join(f"{n:.0f}" for n in turns)]
            )
    heads = [
        "latents",
        f"batches of {record['batch_size']}",
        "images a second, median",
        "to the plain loop",
        "to cached",
    ]
    return table([*heads, "each turn"], rows, "training-speed")


def training_loss() -> str:
    record = load("training-loss")
    rows = [[name, f"{value:.4f}"] for name, value in record["loss"].items()]
    heads = [f"after {record['steps']} steps of {record['batch_size']}", "squared error of v on held-out images"]
    return table(heads, rows, "training-loss")


def training_memory() -> str:
    record = load("training-memory")
    modes = record["modes"]
    rows = []
    for name, one in modes.items():
        tune, precision = name.split(", ")
        whole = modes[f"all, {precision}"]
        state, peak = one["gradients and optimiser, MiB"], one["peak, MiB"]
        share, half = state / whole["gradients and optimiser, MiB"], peak / whole["peak, MiB"]
        trained = [f"{one['trained weights']:,}", f"{state:,.1f}", f"{100 * share:.2g} %"]
        rows.append([f"`--tune {tune}`, {precision}", *trained, f"{peak:,}", f"{half:.2f}"])
    heads = [record["model"], "trained weights", "gradients and optimiser, MiB", "share", "peak, MiB", "to all weights"]
    return table(heads, rows, "training-memory")


def on_gpu() -> str:
    record = load("dit-xl")
    forms = record["bfloat16, forms of guidance"]
    shown = {
        "one at a time over `DiTPipeline`, bfloat16": record["bfloat16, one image at a time over DiTPipeline"],
        **{f"batches of {n}, bfloat16": record[f"bfloat16, batch of {n}"]["unguided"] for n in (1, 8)},
        "batches of 32, bfloat16": forms["unguided"],
        "batches of 64, bfloat16": record["bfloat16, batch of 64"]["unguided"],
        "32, bfloat16, VAE in channels-last": record["bfloat16, channels last"]["unguided"],
        "32, float16": record["float16"]["unguided"],
        "32, float32": record["float32"]["unguided"],
        "`fill_pool`, batches of 32, with writing and reading back": record["bfloat16, fill_pool"],
    }
    rows = []
    for name, one in shown.items():
        speed, peak = (one, "") if isinstance(one, float) else (one["images_per_second"], one.get("peak_gib", ""))
        rows.append([name, f"{speed:.2f}" if speed < 1 else f"{speed:.1f}", f"{peak:.1f}" if peak else ""])
    return table(["DiT-XL/2, unguided", "images a second", "GiB at the peak"], rows, "dit-xl")


def imagenet() -> str:
    record = load("scaling")
    rows = []
    for form, hours in record["hours"].items():
        cost = f"{record['tflop_an_image'][form]:.1f}"
        rows.append([form, cost, *(_hours(hours[count]) for count in ("1", "8", "64"))])
    heads = [f"{record['options']['images']:,} images", "TFLOP an image", "1 GPU", "8 GPUs", "64 GPUs"]
    return table(heads, rows, "scaling")


def storage() -> str:
    record = load("scaling")["storage"]
    png = record["png_bytes"]
    rows = [
        [
            "one photograph at 256 px as PNG",
            f"{png['mean'] / 1000:.0f} kB ({png['least'] / 1000:.0f} to {png['most'] / 1000:.0f})",
        ],
        ["one row of metadata", f"{record['row_bytes']:.0f} bytes"],
        ["the pool", f"{record['pool_gigabytes']:.0f} GB in {record['files']:,} files"],
    ]
    return table(["250,000 images", ""], rows, "scaling")


# -- speed and memory


def speed() -> str:
    """Ratios of this build to that of dd3a76c; the rows that are recorded."""
    if not (RESULTS / "speed.json").exists():
        return "*Measured by `python benchmarks/speed.py`, which was not yet run in full.*"
    rows = []
    for one in load("speed")["rows"].values():
        times = ", ".join(
            f"{way} {_time(seconds)}" for way, seconds in one["medians"].items() if "difference" not in way
        )
        low, high = one["range"]
        ratio = f"{one['ratio']:.2f} ({low:.2f} to {high:.2f}, {len(one['pairs'])} pair{'s' * (len(one['pairs']) > 1)})"
        same = "; ".join(f"{what} {by['before']:.3f}, {by['now']:.3f}" for what, by in one["means"].items())
        rows.append([one["what"], ratio, f"{one['goal']:.1f}", times, same])
    heads = ["what", "ratio, median and range", "goal", "medians", "before, now"]
    return table(heads, rows, "speed")


def startup() -> str:
    record = load("startup")
    rows = [
        [f"`{name}`", f"{one['first_bar']:+.1f}", f"{one['first_of_work']:+.1f}"]
        for name, one in record["seconds_more"].items()
    ]
    bare = f"seconds more than `import torch, diffusers` ({record['libraries_s']:.1f} s)"
    return table([bare, "first bar", "first that counts work"], rows, "startup")


def memory() -> str:
    rows = []
    for what, one in load("memory")["rows"].items():
        cells = [f"{one[key]['before']:,.{places}f}, {one[key]['now']:,.{places}f}" for key, places in MEMORY_KEYS]
        rows.append([f"`{what}`, {one['images']:,} images", *cells])
    heads = ["before, now", "MiB at the peak", "with a tenth of the images", "KiB for each further image"]
    return table(heads, rows, "memory")


MEMORY_KEYS = (("mib", 0), ("mib_of_a_tenth", 0), ("kib_an_image", 1))


def _hours(hours: float) -> str:
    minutes = 60 * hours
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.0f} min" if minutes >= 9.5 else f"{minutes:.1f} min"


# -- models of one's own images


def classifiers() -> str:
    rows = []
    for name, found in load("classifiers")["results"].items():
        data, _, role = name.partition("-")
        judged, fitted, folds = found["test"] or found["held_out"], found["calibration"], found["folds"]
        trained = sum(found["training"]["images of each class"].values())
        if folds is not None:  # what they say of all images
            judged, fitted, trained = (
                folds,
                folds["calibration"],
                folds["images"] - folds["images"] // folds["classifiers"],
            )
        before, after = fitted["expected_calibration_error"]
        rows.append(
            [
                {"fashion": "Fashion-MNIST", "clipart": "clip art"}[data],
                "two guides, each of the other half" if role == "folds" else role,
                f"{trained:,}",
                f"{100 * judged['accuracy']:.1f} of {judged['images']:,}",
                f"{before:.3f}",
                f"{after:.3f}",
                f"{fitted['temperature']:.2f}" + ("" if fitted["kept"] else ", left out"),
                "" if folds is not None or found["resumed"] else f"{found['seconds']:.0f}",
            ]
        )
    heads = [
        "images",
        "classifier",
        "trained on",
        "accuracy, %",
        "calibration error",
        "after",
        "temperature",
        "seconds",
    ]
    return table(heads, rows, "classifiers")


# -- any pipeline


def any_pipeline() -> str:
    rows = [
        [name, *(f"{one[f'{who}_error']:.3f}" for who in ("guide", "evaluator"))]
        for name, one in load("any-pipeline-control")["rows"].items()
    ]
    return table(["", "mean abs(d - d*), guide", "evaluator"], rows, "any-pipeline-control")


def any_pipeline_overhead() -> str:
    record = load("any-pipeline-overhead")
    against = {"steer without a target": "the plain pipeline", "steer with the probe": "`DifficultyGuidedPipeline`"}
    rows = [
        [f"{name} against {other}", *(f"{record[name][kind]:.3f}" for kind in ("ratio", "least", "most"))]
        for name, other in against.items()
    ]
    return table(["time of a call", "ratio, median", "least", "most"], rows, "any-pipeline-overhead")


TABLES: dict[str, Callable[[], str]] = {
    "training by size": by_size,
    "training, other sizes": sizes,
    "training, other networks": networks,
    "training, classic": classic,
    "training, pairs of sets": pairs,
    **{
        f"downstream-{name}": partial(study, name)
        for name in ("10-quick", "10-hard-label", "modes-10", "tune-10", "digits-10-quick", "emoji-10-quick")
    },
    "embedded-quality-quick": partial(quality, "quick"),
    "embedded-quality-classic": partial(quality, "classic"),
    "guidance-main": partial(methods, "main"),
    "guidance-options": partial(methods, "options"),
    "guidance-fast": partial(methods, "fast"),
    "guidance-main, by target": by_target,
    "guidance-cost, parts": flop,
    "guidance-cost, forms": counted_cost,
    "dit-xl, forms of guidance": timed_cost,
    "dit-xl, batches": on_gpu,
    "any-pipeline-control": any_pipeline,
    "any-pipeline-overhead": any_pipeline_overhead,
    "subsampling-match": distances,
    "subsampling-downstream-10": partial(rules_in_training, 10),
    "subsampling-downstream-50": partial(rules_in_training, 50),
    "subsampling-speed, thresholds": searches,
    "subsampling-speed, million": million,
    "scoring": scoring,
    "scoring, processes": scoring_processes,
    "generation-loop": loop,
    "generation-processes": processes,
    "generation-networks": generation_networks,
    "generation-options": generation_options,
    "generation-same": same_pixels,
    "generation-overhead": overhead,
    "training-speed": training_speed,
    "training-loss": training_loss,
    "training-memory": training_memory,
    "speed": speed,
    "startup": startup,
    "memory": memory,
    "scaling, hours": imagenet,
    "scaling, storage": storage,
    "classifiers": classifiers,
}


def rendered(name: str) -> str:
    """One table with the line that says where it is from."""
    if name not in TABLES:
        raise ValueError(f"no table is called {name!r}; write one of: {', '.join(TABLES)}")
    return TABLES[name]()


def page(names: Iterable[str] = TABLES) -> str:
    """Tables under headings."""
    made = "Made by `python benchmarks/tables.py > benchmarks/results/README.md`; not edited by hand."
    return "\n\n".join(["# Every record as a table", made, *(f"## {name}\n\n{rendered(name)}" for name in names)])


if __name__ == "__main__":
    print(page(sys.argv[1:] or TABLES))
