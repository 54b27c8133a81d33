"""Generators and classifiers of one's own images."""

import numpy as np

from .records import load, table
from .trained_sets import words


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


def autoencoders() -> str:
    rows = [
        [one["data"], f"{one['images']:,}", str(one["batch_size"]), f"{one['difference']:.1f}", f"{one['seconds']}"]
        for one in sorted(load("autoencoders")["rows"], key=lambda one: (one["data"], -one["batch_size"]))
    ]
    heads = [
        "data",
        "images seen",
        "in batches of",
        "levels of 255 that a held-out pixel changes by",
        "seconds, one thread",
    ]
    return table(heads, rows, "autoencoders")


def training_memory() -> str:
    record = load("training-memory")
    modes = record["modes"]
    rows = []
    for name, one in modes.items():
        tune, precision = name.split(", ")
        whole = modes[f"all, {precision}"]
        state, peak = one["gradients and optimiser, MiB"], one["peak, MiB"]
        share, half = state / whole["gradients and optimiser, MiB"], peak / whole["peak, MiB"]
        trained = [f"{one['trained weights']:,}", f"{state:,.1f}", f"{float(f'{100 * share:.2g}'):g} %"]
        rows.append([f"`--tune {tune}`, {precision}", *trained, f"{peak:,}", f"{half:.2f}"])
    heads = [record["model"], "trained weights", "gradients and optimiser, MiB", "share", "peak, MiB", "to all weights"]
    return table(heads, rows, "training-memory")


def training_peaks() -> str:
    record = load("training-peaks")
    peaks = record["peak, MiB"]
    first = next(iter(peaks.values()))
    rows = [[name, f"{value:,}", f"{value / first:.2f}"] for name, value in peaks.items()]
    return table([f"batches of {record['batch_size']}", "peak, MiB", "to the plain loop"], rows, "training-peaks")


def training_kills() -> str:
    record = load("training-kills")
    killed = ", ".join(map(str, record["killed at steps"]))
    row = [str(record["steps"]), f"{record['steps of an epoch']:g}", killed, "the same" if record["same"] else "others"]
    heads = [
        "steps of autoencoder and denoiser",
        "steps of an epoch",
        "killed with -9 at",
        "weights as if never killed",
    ]
    return table(heads, [row], "training-kills")


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


def decoders() -> str:
    """The embedded default's decoder, and trained on, by held-out images of the training set."""
    names = {"embedded": "as it is", "0": "trained on by pixels", "1": "by pixels and the guide's features"}
    rows = [
        [names[one], f"{row['levels']:.2f}", f"{row['probability']:.3f}"]
        for one, row in load("decoder")["rows"].items()
    ]
    return table(["decoder", "a pixel changes by, levels", "the evaluator's probability by"], rows, "decoder")


def generators(name: str) -> str:
    """Unguided images of the embedded default, and of another generator, by how classifier-free guidance is used."""
    record = load(name)["rows"]
    heads = ["generator", "evaluator gives the class more than 1/2", "Fréchet distance", "diversity, real = 1"]
    rows = [
        [words(one), f"{100 * row['agreement']:.1f} %", f"{row['frechet']:.2f}", f"{row['diversity']:.2f}"]
        for one, row in record.items()
    ]
    if all("changed" in row for row in record.values()):
        heads.append("the VAE changes a pixel by, levels")
        rows = [[*cells, f"{row['changed']:.1f}"] for cells, row in zip(rows, record.values(), strict=True)]
    return table(heads, rows, name)
