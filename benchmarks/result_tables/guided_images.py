"""How well guidance steers and what it costs, in our pipeline and in any other."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from .records import interval, load, table

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
CONTROLLED = ("guide_error", "evaluator_error", "evaluator_spearman", "frechet_matched", "diversity")


def mean_of(rows: list[dict], key: str, places: int) -> str:
    values = [row[key] for row in rows]
    if not any(values):
        return "-"
    deviation = f" ± {np.std(values, ddof=1):.{places}f}" if len(values) > 1 and "error" in key else ""
    return f"{round(float(np.mean(values)), places) + 0.0:.{places}f}{deviation}"


def methods(name: str) -> str:
    """Errors, rank correlations, naturalness and cost of every method of one record."""
    keys = [key for key in METHOD_KEYS if name == "main" or key != "cost"]
    return means("method", by_method(name), keys, f"guidance-{name}")


def under_autoguidance() -> str:
    """The default method, its images drawn with and without autoguidance."""
    grouped: dict[str, list[dict]] = defaultdict(list)
    for row in load("autoguidance-control")["rows"]:
        grouped[row["setting"].replace("embedded, CFG", "classifier-free guidance")].append(row)
    return means("drawn with", grouped, CONTROLLED, "autoguidance-control")


def means(what: str, groups: Mapping[str, list[dict]], keys: Iterable[str], record: str) -> str:
    """A row for each group, with the mean of each key over it."""
    shown = {key: METHOD_KEYS[key] for key in keys}
    rows = [
        [name, *(mean_of(group, key, places) for key, (_, places) in shown.items())] for name, group in groups.items()
    ]
    return table([what, *(head for head, _ in shown.values())], rows, record)


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


def any_pipeline() -> str:
    rows = [
        [name, *(f"{one[f'{who}_error']:.3f}" for who in ("guide", "evaluator"))]
        for name, one in load("any-pipeline-control")["rows"].items()
    ]
    return table(["", "mean abs(d - d*), guide", "evaluator"], rows, "any-pipeline-control")


def any_pipeline_seeds() -> str:
    rows = [
        [
            name,
            *(f"{one[who]:.3f}" for who in ("guide", "evaluator")),
            interval(one["difference"], one["interval"], 3) if "difference" in one else "",
            str(one["images"]),
        ]
        for name, one in load("any-pipeline-seeds")["rows"].items()
    ]
    heads = ["", "guide", "evaluator", "against the default, evaluator (95 % interval)", "images"]
    return table(heads, rows, "any-pipeline-seeds")


def any_pipeline_overhead() -> str:
    ours, probed = "`DifficultyGuidedPipeline`", "steer with the probe"
    against = [
        ("any-pipeline-overhead", "steer without a target", "the plain pipeline"),
        ("any-pipeline-large", "steer without a target", "the plain pipeline, at the size of DiT-XL/2"),
        ("any-pipeline-overhead", probed, ours),
    ]
    rows = []
    for name, what, other in against:
        found = load(name)[what]
        spread = (f"{found[kind]:.3f}" for kind in ("ratio", "least", "most"))
        rows.append([f"{what} against {other}", *spread, str(found["turns"])])
    heads = ["time of a call", "ratio, median", "least", "most", "pairs"]
    return table(heads, rows, "any-pipeline-overhead", "any-pipeline-large")
