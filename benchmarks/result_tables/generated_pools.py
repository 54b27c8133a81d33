"""Pools at scale: images a second, on how many processes, with which options, and what they take on disk."""

import numpy as np

from .records import hours_in_words, load, share_of_pixels, table


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


def rates_in_turn(name: str, what: str) -> str:
    record = load(name)
    rows = [
        [form, f"{np.median(speeds):.1f}", f"{record['ratios'][form]:.2f}", ", ".join(f"{one:.1f}" for one in speeds)]
        for form, speeds in record["images_per_second"].items()
    ]
    return table([what, "images a second, median", "ratio", "each turn"], rows, name)


def generation_options() -> str:
    record = load("generation-options")
    rows = []
    for name, ratio in record["ratios"].items():
        differ, first = record["pixels_that_differ"][name], record["seconds_of_first_batch"][name]
        off = f"{share_of_pixels(differ)}" + (f", by {differ['most']}" if differ["share"] else "")
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
        [what, share_of_pixels(one), str(one["most"])]
        for what, one in found.items()
        if isinstance(one, dict) and "share" in one
    ]
    heads = ["circumstance", "share of pixels that differ", "by at most, of 255"]
    return table(heads, rows, "generation-same", "generation-processes")


def overhead() -> str:
    record = load("generation-overhead")
    shares = ", ".join(f"{100 * share:.2f} %" for share in record["share_besides_drawing"])
    rows = [
        ["time besides the pipeline's own work, each turn", shares],
        ["images checked a second when a pool is resumed", f"{record['images_checked_per_second']:,.0f}"],
    ]
    return table(["", ""], rows, "generation-overhead")


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
        rows.append([form, cost, *(hours_in_words(hours[count]) for count in ("1", "8", "64"))])
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


# -- images made as a set


def made_as_a_set() -> str:
    """What the images of each form are like, without training on them."""
    record, rows = load("noise-sets"), []
    for one in record["rows"]:
        keys = ("frechet", "distance", "vendi", "guide", "evaluator")
        cells = [f"{one[key]:.{3 if key in ('guide', 'evaluator') else 2}f}" if key in one else "" for key in keys]
        rows.append([one["form"].replace("random | unguided", "independent draws"), *cells])
    count = record["images_per_set"] * record["seeds"]
    heads = [f"{count} images a class", "Fréchet distance", "distance within a class", "Vendi score"]
    return table([*heads, "mean d, guide", "evaluator"], rows, "noise-sets")


def noise_candidates() -> str:
    """The three terms of the error of the chosen set."""
    rows = []
    for one in load("noise-candidates")["rows"]:
        shape = " x ".join(map(str, one["shape"]))
        rows.append([shape, f"{one['candidates']:,}", *(f"{one[key]:.2f}" for key in ("mean", "deviation", "skew"))])
    heads = ["latents", "candidates", "error of the mean", "of the deviation", "of the skewness, x 10"]
    return table(heads, rows, "noise-candidates")
