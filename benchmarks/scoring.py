"""How many images a second are scored, against a plain loop over files: open, preprocess, one forward pass, 1 - p(y).

    python benchmarks/scoring.py                # about two minutes on two cores
    python benchmarks/scoring.py --images 400 --rounds 5

Two pools: 500 x 375 JPEGs, crops of scikit-image's photographs, with EfficientNet-Lite0, and the embedded reference
images with the embedded guide.  Both ways take turns in one run, so that a busy machine disturbs both; what is written
to benchmarks/results/scoring.json are all times, the images a second of the median time, and the largest difference of
a difficulty.  A second run on an unchanged pool, which only hashes its files, is timed too.
"""

import argparse
import importlib.util
import shutil
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from embedded import record
from PIL import Image
from skimage.data import data_dir
from torch import nn
from torchvision import transforms

from dag_diffusion import embedded, load_classifier, read_pool, score_and_record, score_pool
from dag_diffusion.classifiers import class_names_of, preprocessing_of
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.pools import Pool

PHOTOGRAPHS = {
    "espresso": "coffee.png",
    "tripod": "camera.png",
    "moped": "motorcycle_left.png",
    "missile": "rocket.jpg",
}
SIZE = (500, 375)  # what most files of ImageNet have


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="of the first pool")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs, classifier = photograph_pool(folder / "photographs", options.images), lite0(folder / "lite0")
        shutil.copytree(embedded.REFERENCE, folder / "reference")  # a score is written beside the images
        reference, guide = read_pool(folder / "reference"), load_classifier(embedded.PIPELINE / "classifier")
        results = {
            "efficientnet-lite0, 500 x 375 JPEG": compared(photographs, classifier, options.rounds),
            "embedded guide, 28 x 28 PNG": compared(reference, guide, options.rounds),
        }
    for pool, found in results.items():
        print(f"{pool}: {', '.join(f'{key} {value:.4g}' for key, value in found.items() if key != 'seconds')}")
    record("scoring", {"results": results})


def compared(pool: Pool, classifier: nn.Module, rounds: int) -> dict:
    """Times of both ways in turn, and of a first and a second recorded run."""
    seconds: dict[str, list[float]] = {"plain loop": [], "score_pool": [], "first record": [], "second record": []}
    one_by_one(Pool(pool.path, pool.rows[:5]), classifier)  # the first passes choose their kernels
    score_pool(Pool(pool.path, pool.rows[:50]), classifier)
    for _ in range(rounds):
        plain = timed(seconds["plain loop"], lambda: one_by_one(pool, classifier))
        ours = timed(seconds["score_pool"], lambda: score_pool(pool, classifier).difficulties)
    for run in ("first record", "second record"):
        timed(seconds[run], lambda: score_and_record(read_pool(pool.path), {"classifier": classifier}))
    speed = {f"{run}, images/s": len(pool) / median(times) for run, times in seconds.items()}
    gain = median(seconds["plain loop"]) / median(seconds["score_pool"])
    difference = float(np.abs(plain - ours).max())
    return {"images": len(pool), **speed, "gain": gain, "largest difference": difference, "seconds": seconds}


def timed(seconds: list[float], run):
    start = perf_counter()
    result = run()
    seconds.append(perf_counter() - start)
    return result


def one_by_one(pool: Pool, classifier: nn.Module) -> np.ndarray:
    """What a script does that was written for one folder and one classifier; ``(images,)`` difficulties."""
    wanted, labels = preprocessing_of(classifier), match_classes(pool.class_names, class_names_of(classifier))
    prepare = transforms.Compose(
        [
            transforms.Resize(
                round(wanted.height / wanted.crop), interpolation=transforms.InterpolationMode(wanted.resample)
            ),
            transforms.CenterCrop((wanted.height, wanted.width)),
            transforms.ToTensor(),
            transforms.Normalize(wanted.mean, wanted.std),
        ]
    )
    values, device = [], next(classifier.parameters()).device
    with torch.no_grad():
        for row in pool.rows:
            image = Image.open(pool.path / row["file_name"]).convert("L" if wanted.channels == 1 else "RGB")
            probabilities = classifier(prepare(image)[None].to(device)).logits.softmax(1)
            values.append(1 - probabilities[0, labels[row["label"]]].item())
    return np.array(values)


def photograph_pool(folder: Path, images: int) -> Pool:
    generator = np.random.default_rng(0)
    for name, photograph in PHOTOGRAPHS.items():
        whole = Image.open(Path(data_dir) / photograph).convert("RGB")
        (folder / name).mkdir(parents=True)
        for index in range(images // len(PHOTOGRAPHS)):
            height = generator.uniform(0.6, 1) * min(whole.height, whole.width * SIZE[1] / SIZE[0])
            width = height * SIZE[0] / SIZE[1]
            left, top = generator.uniform(0, whole.width - width), generator.uniform(0, whole.height - height)
            crop = whole.resize(SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
            crop.save(folder / name / f"{index:05d}.jpg", quality=90)
    return read_pool(folder)


def lite0(folder: Path) -> nn.Module:
    path = Path(__file__).parents[1] / "examples" / "imagenet_classifier.py"
    spec = importlib.util.spec_from_file_location("imagenet_classifier", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.convert(folder)
    return load_classifier(folder)


if __name__ == "__main__":
    main()
