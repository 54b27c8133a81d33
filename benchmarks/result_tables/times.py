"""Speed, start and memory of commands, before and now."""

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
    heads = ["before, now", "MiB at the peak", "with a tenth of the images", "KiB for each further image"]
    return table(heads, rows, "memory")
