"""What sets say twice and leave out, what a repair of a pool changes, and how near to each other copies are.

    python benchmarks/redundancy.py sets      # sets of 50 a class: cross accuracy of five tens, coverage, copies
    python benchmarks/redundancy.py repair    # images of a pool that are empty, copies or of another class, and after
    python benchmarks/redundancy.py near      # distances of real images to each other, and to changed copies

Everything is the embedded default; real images are Fashion-MNIST's test images.  Each writes
benchmarks/results/redundancy-WHAT.json with versions, processor and command.
"""

import argparse
import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from embedded import record
from PIL import Image, ImageChops

from dag_diffusion import Modes, PoolConfig, embedded, fill_pool, load_classifier, read_pool, score_pool, subsample
from dag_diffusion.data.pools import Pool
from dag_diffusion.evaluation import RedundancyConfig, measure_redundancy
from dag_diffusion.generation import Repair, find_faults, merge_modes
from dag_diffusion.loading import load_embedded_pipeline, load_guide
from dag_diffusion.sampling.selection import SelectionRule

IPC = 50


def sets(folder: Path, seeds: int) -> None:
    pipeline, modes = load_embedded_pipeline(), Modes.load(embedded.MODES)
    plain = fill_pool(pipeline, folder / "unguided pool", PoolConfig(images_per_class=IPC), resume=True)
    drawn = PoolConfig(images_per_class=IPC, modes=merge_modes(modes, IPC))
    fill_pool(pipeline, folder / "drawn to 50 modes", drawn, resume=True)
    few = PoolConfig(images_per_class=IPC, modes=merge_modes(modes, 5))
    fill_pool(pipeline, folder / "drawn to 5 modes", few, resume=True)
    wide = fill_pool(pipeline, folder / "pool of 5", PoolConfig(images_per_class=5 * IPC, seed=1), resume=True)
    easiest = subsample(wide, IPC, method=SelectionRule("easiest"))
    easiest.save(folder / "easiest of 5", overwrite=True)
    names = ["drawn to 50 modes", "drawn to 5 modes", "easiest of 5"]
    found = measure_redundancy(
        [str(plain.path), *(str(folder / name) for name in names), f"random:{embedded.REFERENCE}"],
        load_guide(),
        RedundancyConfig(seeds=seeds),
        output=folder / "redundancy.json",
    )
    record("redundancy-sets", {"seeds": seeds, "ipc": IPC, "sets": [asdict(one) for one in found]})


def repair(folder: Path, seeds: int) -> None:
    pipeline, evaluator = load_embedded_pipeline(), load_classifier(embedded.EVALUATOR)
    config = PoolConfig(images_per_class=IPC)
    mended = Repair(faults=["all"])
    pools = {
        "as drawn": fill_pool(pipeline, folder / "unguided pool", config, resume=True),
        "repaired": fill_pool(pipeline, folder / "repaired pool", config, repair=mended, resume=True),
    }
    rows = {}
    for name, pool in pools.items():
        rows[name] = {
            "images": len(pool),
            **{by: find_faults(pool, guide, name=by).record() for by, guide in guides(pipeline, evaluator).items()},
            "redrawn": sum(bool(row.get("redrawn")) for row in pool.rows),
            "most_redraws": max(row.get("redrawn", 0) for row in pool.rows),
            "given_up": sum("fault" in row for row in pool.rows),
        }
    record("redundancy-repair", {"rows": rows})


def guides(pipeline: object, evaluator: torch.nn.Module) -> dict[str, torch.nn.Module]:
    return {"guide": pipeline.classifier, "evaluator": evaluator}


def near(folder: Path, seeds: int) -> None:
    images = read_pool(embedded.TEST)
    images = images.select(np.sort(np.random.default_rng(0).permutation(len(images))[:3000]))
    found = {}
    for by, classifier in (("guide", load_guide()), ("evaluator", load_classifier(embedded.EVALUATOR))):
        features = score_pool(images, classifier, measure="entropy", features=True).features.astype(float)
        usual = np.sqrt(2 * features.var(0, ddof=1).sum())
        rows = {"nearest other image of the class": nearest(features, images.labels) / usual}
        for name, change in CHANGES.items():
            copies = changed(images, folder / name, change)
            theirs = score_pool(copies, classifier, measure="entropy", features=True).features
            rows[name] = np.linalg.norm(theirs - features[: len(copies)], axis=1) / usual
        quantiles = (0, 0.01, 0.5, 0.95, 1)
        found[by] = {
            name: {"quantiles": np.quantile(d, quantiles).tolist(), "near": float((d <= Repair.nearness).mean())}
            for name, d in rows.items()
        }
    record("redundancy-near", {"nearness": Repair.nearness, "images": len(images), "distances": found})


def nearest(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    found = np.empty(len(features))
    for label in np.unique(labels):
        own = features[labels == label]
        apart = np.linalg.norm(own[:, None] - own[None], axis=2)
        np.fill_diagonal(apart, np.inf)
        found[labels == label] = apart.min(1)
    return found


def changed(pool: Pool, folder: Path, change: Callable[[Image.Image], Image.Image], count: int = 500) -> Pool:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(count):
        change(pool.open(index)).save(folder / f"{index}.png")
        rows.append({**pool.rows[index], "file_name": f"{index}.png"})
    return Pool(folder, rows)


def noisy(most: int) -> Callable[[Image.Image], Image.Image]:
    noise = np.random.default_rng(0)

    def change(image: Image.Image) -> Image.Image:
        pixels = np.asarray(image).astype(int)
        return Image.fromarray(np.clip(pixels + noise.integers(-most, most + 1, pixels.shape), 0, 255).astype(np.uint8))

    return change


def compressed(quality: int) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        data = io.BytesIO()
        image.save(data, "JPEG", quality=quality)
        return Image.open(data).copy()

    return change


CHANGES = {
    "noise of 1 grey level": noisy(1),
    "noise of 3 grey levels": noisy(3),
    "JPEG, quality 95": compressed(95),
    "JPEG, quality 80": compressed(80),
    "3 % brighter": lambda image: Image.eval(image, lambda value: min(255, round(1.03 * value))),
    "moved by a pixel": lambda image: ImageChops.offset(image, 1, 0),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["sets", "repair", "near"])
    parser.add_argument("--seeds", type=int, default=3, help="trainings on each part")
    parser.add_argument("--folder", type=Path, help="where pools are kept; default: a temporary one")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        work = {"sets": sets, "repair": repair, "near": near}[arguments.what]
        work(arguments.folder or Path(temporary), arguments.seeds)


if __name__ == "__main__":
    main()
