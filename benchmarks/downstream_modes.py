"""Which form of mode guidance trains best, and what DGS adds to it; on held-out training images of Fashion-MNIST.

    python benchmarks/downstream.py pools FOLDER     # first
    python benchmarks/downstream_modes.py FOLDER

Ten modes a class, 10 images a class, one to each mode.  Every seed has images of its own, drawn from its own noise, and
its own training.  Pools are kept in FOLDER, results in benchmarks/results/downstream-modes-10.json and .csv.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from downstream import (
    BASELINE,
    EASY,
    PER_MODE,
    SIZE,
    Draw,
    Study,
    drawn_in_turn,
    first_of,
    held_out,
    one_each,
    real_latents,
    run,
    test_images,
)
from subsampling import reference_target as reference

from dag_diffusion import PoolConfig, SelectionRule, embedded, fill_pool, read_pool
from dag_diffusion.data.pools import Pool
from dag_diffusion.evaluation.labelled_images import LabelledImages, load_labelled_images
from dag_diffusion.generation.modes import Modes
from dag_diffusion.generation.preparing.mode_search import find_difficulty_modes, find_modes
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.loading import load_embedded_pipeline


def found_modes(folder: Path, pipeline, real: Pool) -> tuple[dict[str, Modes], np.ndarray]:
    """Kinds of clusters, and the row of the real image nearest to each plain one's centre."""
    rows, (latents, labels) = first_of(real, 5000), real_latents(folder, pipeline.vae)
    names = {"class_names": real.class_names}
    with np.load(embedded.TRAIN_DIFFICULTIES) as recorded:
        difficulties = recorded["cross_fitted"].astype(np.float64)[rows]
    few = first_of(real.select(rows), 100)
    found = {
        "plain": find_modes(latents, labels, 10, **names),
        "pooled": find_modes(latents, labels, 10, average=2, **names),
        "by difficulty": find_difficulty_modes(latents, labels, difficulties, 10, reference(), **names),
        "of 100 images a class": find_modes(latents[few], labels[few], 10, **names),
    }
    return found, rows[nearest_images(latents, labels, found["plain"])]


def nearest_images(latents: torch.Tensor, labels: np.ndarray, modes: Modes) -> np.ndarray:
    """The image nearest to the centre of each mode, among those of its class, ``(modes,)``."""
    nearest = []
    for centre, label in zip(modes.centres, modes.labels.tolist(), strict=True):
        own = np.flatnonzero(labels == label)
        nearest.append(own[int((latents[own] - centre).flatten(1).norm(dim=1).argmin())])
    return np.array(nearest)


def pools(folder: Path, pipeline, found: dict[str, Modes]) -> dict[str, Pool]:
    """Fifty images a class of every form, five to each mode; 25 to each of the form that DGS chooses from."""
    plain, weaker, stronger = found["plain"], ModeGuidance(scale=0.1), ModeGuidance(scale=0.2)
    forms = {
        **{
            f"modes, {name}": {"modes": found[name], "mode_guidance": weaker}
            for name in ("plain", "pooled", "by difficulty")
        },
        **{
            f"modes, plain, scale {scale:g}": {"modes": plain, "mode_guidance": ModeGuidance(scale=scale)}
            for scale in (0.2, 0.4)
        },
        "modes, of 100 images a class, scale 0.2": {
            "modes": found["of 100 images a class"],
            "mode_guidance": stronger,
        },
        "modes, plain, to 0.8": {"modes": plain, "mode_guidance": ModeGuidance(scale=0.1, stop=0.8)},
        **{
            f"modes, plain, scale 0.2, CFG {scale:g}": {
                "modes": plain,
                "mode_guidance": stronger,
                "guidance_scale": scale,
            }
            for scale in (1.0, 2.5)
        },
        "modes, plain, scale 0.2, DAG easy": {"modes": plain, "mode_guidance": stronger, "target": EASY},
        "modes, plain, scale 0.2, DAG reference": {"modes": plain, "mode_guidance": stronger, "target": reference()},
        "modes, plain, scale 0.2, many": {"modes": plain, "mode_guidance": stronger, "images_per_class": 250},
    }
    return {
        name: fill_pool(
            pipeline,
            folder / f"explored {name}",
            PoolConfig(**{"images_per_class": 50, **options}),
            resume=True,
            source="embedded default",
        )
        for name, options in forms.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="of the trainings")
    options = parser.parse_args()
    options.protocol, options.networks = "quick", ["convnet-3"]
    pipeline, test = load_embedded_pipeline(), test_images(10)
    real = read_pool(options.folder / "real.parquet")
    found, nearest = found_modes(options.folder, pipeline, real)
    sets: dict[str, Draw] = {}
    for name, pool in pools(options.folder, pipeline, found).items():
        images = load_labelled_images(pool, **SIZE, class_names=test.class_names)
        if not name.endswith("many"):
            sets[name] = partial(drawn_in_turn, images, pool, 10)
            continue
        for method in ("easiest", "hardest", "matching"):
            rule = SelectionRule(method, evenly="mode")
            sets[f"{method} of {PER_MODE} a mode, scale 0.2"] = partial(one_each, images, pool, 10, rule)
    with torch.no_grad():
        decoded = pipeline.vae.decode(found["plain"].centres / pipeline.vae.config.scaling_factor).sample
    pixels = ((decoded[:, :1] + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    sets["decoded modes, no diffusion"] = LabelledImages(pixels, found["plain"].labels, test.class_names)
    sets["real images nearest to the modes"] = load_labelled_images(
        real.select(nearest), **SIZE, class_names=test.class_names
    )
    baseline = partial(Study(options.folder, 10, test).chosen, "unguided", "random", None, 50)
    run("modes-10", {BASELINE: baseline, **sets}, held_out(options.folder, test.class_names), options)


if __name__ == "__main__":
    main()
