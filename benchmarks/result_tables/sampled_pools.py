"""Selection rules and scores."""

from .records import duration, interval, load, table


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
            duration(one["double_loop_s"]),
            duration(one["search_s"]),
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


def among() -> str:
    """How well difficulties by either softmax agree with the evaluator's among the classes of a set of three."""
    means = load("among")["means"]
    names = {"all": "all ten classes", "set": "the three classes of the set"}
    rows = [[names[scope], f"{one['error']:.3f}", f"{one['spearman']:.2f}"] for scope, one in means.items()]
    return table(["the guide's softmax over", "mean distance to the evaluator's d", "rank correlation"], rows, "among")
