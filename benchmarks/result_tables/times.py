"""Speed, start and memory of commands, before and now, and where the time goes."""

from statistics import median

from .records import RESULTS, duration, load, table


def speed() -> str:
    """Ratios of this build to that of dd3a76c; the rows that are recorded."""
    if not (RESULTS / "speed.json").exists():
        return "*Measured by `python benchmarks/speed.py`, which was not yet run in full.*"
    rows = []
    for one in load("speed")["rows"].values():
        times = ", ".join(
            f"{way} {duration(seconds)}" for way, seconds in one["medians"].items() if "difference" not in way
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


MEMORY_KEYS = (("mib", 0), ("mib_of_a_tenth", 0), ("kib_an_image", 1))


def memory() -> str:
    rows = []
    for what, one in load("memory")["rows"].items():
        cells = [f"{one[key]['before']:,.{places}f}, {one[key]['now']:,.{places}f}" for key, places in MEMORY_KEYS]
        rows.append([f"`{what}`, {one['images']:,} images", *cells])
        if alone := one.get("mib_in_one_process"):
            rows.append([f"`{what} --num-processes 1`", f"-, {alone:,.0f}", "", ""])
    heads = ["before, now", "MiB at the peak", "with a tenth of the images", "KiB for each further image"]
    return table(heads, rows, "memory")


def memory_preparing() -> str:
    record = load("memory-preparing")
    small, *_ = record["rows"]
    rows = [
        [
            f"{one['side'] ** 2 / 1e6:.1f}",
            f"{one['mib_of_one']:,.0f}",
            f"{one['mib']:,.0f}",
            f"{(one['mib'] - small['mib']) / one['mib_of_one']:.1f}" if one is not small else "",
        ]
        for one in record["rows"]
    ]
    heads = [
        f"megapixels of each of {record['drawings']} drawings",
        "MiB of one as RGBA",
        "MiB at the peak",
        "more than the first row, as a multiple of one",
    ]
    return table(heads, rows, "memory-preparing")


# -- profiles


def _by_kind(first: str, columns: dict[str, tuple[float, dict[str, float]]], record: str) -> str:
    """Time in all and of each kind of operation, by column."""
    kinds = dict.fromkeys(kind for _, shares in columns.values() for kind in shares)
    rows = [["in all", *(f"{whole:.2f}" for whole, _ in columns.values())]]
    for kind in kinds:
        parts = [whole * shares.get(kind, 0.0) for whole, shares in columns.values()]
        if max(parts) >= 0.01 * columns[next(iter(columns))][0]:
            rows.append([kind, *(f"{part:.2f}" for part in parts)])
    return table([first, *columns], rows, record)


def profile_pool() -> str:
    record = load("profile-pool")
    columns = {name: (median(record["seconds"][name]), shares) for name, shares in record["shares"].items()}
    first = f"seconds of one processor for {record['images']} guided images, {record['steps']} steps"
    return _by_kind(first, columns, "profile-pool")


def profile_training(what: str) -> str:
    """Of ``training`` or ``testing``."""
    record = load("profile-training")[what]
    columns = {name: (median(record["milliseconds_an_image"][name]), one) for name, one in record["shares"].items()}
    return _by_kind(f"{what} a ConvNet-3, milliseconds of one processor an image", columns, "profile-training")


def profile_run() -> str:
    seconds = load("profile-run")["seconds"]
    whole = sum(seconds.values())
    rows = [[stage, f"{one:.0f}", f"{100 * one / whole:.0f} %"] for stage, one in seconds.items()]
    heads = ["`run` with one training of each set, without imports", "seconds of one processor", "share"]
    return table(heads, [*rows, ["in all", f"{whole:.0f}", ""]], "profile-run")


def profile_probe() -> str:
    record, rows = load("profile-probe"), []
    for name, one in record["precisions"].items():
        times = [f"{one['milliseconds'][way]:.1f} ms" for way in ("as it is", "one compiled call")]
        compiling = f"{one['seconds_of_first_call']['one compiled call']:.1f} s"
        difference = f"{one['relative_difference']['gradient']:.1g}"
        rows.append([name, *times, compiling, difference, f"{one['transformer']:.0f} ms"])
    heads = ["value and gradient of the probe", "as it is", "one compiled call", "its first call"]
    return table([*heads, "relative difference", "the transformer's part of the step"], rows, "profile-probe")
