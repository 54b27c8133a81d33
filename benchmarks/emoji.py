"""The downstream comparison on a third data set, in colour: emoji of two vendors, 32 px, by their Unicode category.

    npm install --prefix DATA emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    python benchmarks/emoji.py prepare FOLDER --data DATA/node_modules    # train.parquet and test.parquet
    python benchmarks/emoji.py train FOLDER --device cuda    # a VAE, a guide, two for difficulties, and a DiT
    python benchmarks/emoji.py pools FOLDER --device cuda    # modes, and pools with 50 images a class for each seed
    python benchmarks/emoji.py study FOLDER --ipc 10 --device cuda
    python benchmarks/emoji.py picture FOLDER    # docs/images/emoji.png

After ``prepare``, the two parquet files are all that another machine needs.  Nothing is taken from the embedded default
but the shapes of its models.  Both drawings of an emoji are on the same side of the split, as are its man, woman and
person; an emoji that has a drawing of an earlier one is left out, and so are skin tones.  Results go to
benchmarks/results/downstream-emoji-IPC-PROTOCOL.json and .csv.

The pictures are Google's Noto Emoji 2.048 (Apache License 2.0) and Twemoji 16.0.1 (Creative Commons Attribution 4.0;
the fork of jdecked), as the packages of Cal Henderson's emoji-data ship them (its own licence is MIT).
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from downstream import BASELINE, EASY, PER_MODE, RULES, Draw, Study, one_each, run, setting_of
from downstream_modes import nearest_images
from own_training import (
    build_dit,
    build_guide,
    build_scheduler,
    build_vae,
    logits_of,
    train_classifier,
    train_dit,
    train_vae,
)
from PIL import Image, ImageOps
from torch import Tensor

from dag_diffusion import (
    DifficultyGuidedPipeline,
    PoolConfig,
    SelectionRule,
    TargetDistribution,
    fill_pool,
    read_pool,
    subsample,
)
from dag_diffusion.compared_sets import STEERED_RULE
from dag_diffusion.data.images import decoded, opaque
from dag_diffusion.data.pools import Pool
from dag_diffusion.difficulty import difficulty
from dag_diffusion.evaluation.labelled_images import LabelledImages, load_labelled_images, normalise, subset
from dag_diffusion.evaluation.protocols import PROTOCOLS
from dag_diffusion.generation.mode_search import encode_pool, find_modes
from dag_diffusion.generation.modes import Modes
from dag_diffusion.guidance.mode_guidance import ModeGuidance

sys.path.append(str(Path(__file__).parent.parent / "examples"))
from train_embedded_default import write_parquet

CATEGORIES = [
    "Activities",
    "Animals & Nature",
    "Flags",
    "Food & Drink",
    "Objects",
    "People & Body",
    "Smileys & Emotion",
    "Symbols",
    "Travel & Places",
]
NAMES = dict(enumerate(CATEGORIES))
VENDORS = ("google", "twitter")
VARIANTS = {"1F468", "1F469", "1F9D1", "2640", "2642", "27A1", "200D", "FE0F"}  # man, woman, facing right, joiners, ...
SIZE = {"size": (32, 32), "channels": 3}
MODES = 10  # of each class, so that sets drawn to them are of that IPC


def drawing(path: Path) -> np.ndarray:
    """Over white, ``(32, 32, 3)`` uint8, with a border of two so that no shift wraps anything round."""
    small = opaque(decoded(path)).convert("RGB").resize((28, 28), Image.Resampling.LANCZOS)
    return np.asarray(ImageOps.expand(small, 2, "white"))


def read_emoji(data: Path) -> dict[int, list[list[np.ndarray]]]:
    """Of each class the drawings of its kinds of emoji; a kind is one emoji, or the variants of one."""
    kinds, seen = {label: defaultdict(list) for label in NAMES}, set()
    for emoji in json.loads((data / f"emoji-datasource-{VENDORS[0]}" / "emoji.json").read_text("utf-8")):
        if emoji["category"] not in CATEGORIES:  # parts of others
            continue
        paths = [data / f"emoji-datasource-{vendor}" / "img" / vendor / "64" / emoji["image"] for vendor in VENDORS]
        drawings = [drawing(path) for path in paths]
        known = {pixels.tobytes() for pixels in drawings}
        if seen.isdisjoint(known):
            kind = tuple(code for code in emoji["unified"].split("-") if code not in VARIANTS)
            kinds[CATEGORIES.index(emoji["category"])][kind] += drawings
        seen |= known
    return {label: list(found.values()) for label, found in kinds.items()}


def prepare(folder: Path, data: Path) -> None:
    """One kind of emoji in five tests; rows lie by class, and in it by kind."""
    splits = {"train": ([], []), "test": ([], [])}
    for label, kinds in read_emoji(data).items():
        order = np.random.default_rng([0, label]).permutation(len(kinds))
        for split, own in zip(("test", "train"), np.split(order, [len(order) // 5]), strict=True):
            drawings = [pixels for kind in own for pixels in kinds[kind]]
            splits[split][0].extend(drawings)
            splits[split][1].extend([label] * len(drawings))
            print(f"{NAMES[label]}: {len(drawings)} images to {split}")
    folder.mkdir(parents=True, exist_ok=True)
    for split, (drawings, labels) in splits.items():
        pictures = normalise(np.stack(drawings)), torch.tensor(labels)
        write_parquet(pictures, folder / f"{split}.parquet", CATEGORIES)


def images_of(pool: Pool) -> LabelledImages:
    return load_labelled_images(pool, **SIZE, class_names=NAMES)


def read_split(folder: Path, split: str, device: str) -> tuple[Tensor, Tensor]:
    """Images ``(n, 3, 32, 32)`` in [-1, 1] and labels."""
    read = images_of(read_pool(folder / f"{split}.parquet"))
    return normalise(read.images).to(device), torch.as_tensor(read.labels).to(device)


def first_halves(labels: Tensor) -> Tensor:
    """Whether each image is in the first half of its class, so that what is of one kind stays together."""
    first = torch.zeros_like(labels, dtype=torch.bool)
    for label in NAMES:
        rows = torch.where(labels == label)[0]
        first[rows[: len(rows) // 2]] = True
    return first


@torch.no_grad()
def reconstruction_error(vae: AutoencoderKL, images: Tensor) -> float:
    decoded = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in images.split(500)])
    return (decoded - images).square().mean().item()


def train(folder: Path, options: argparse.Namespace) -> None:
    images, labels = read_split(folder, "train", options.device)
    test, test_labels = read_split(folder, "test", options.device)
    work, first = folder / "training", first_halves(labels)
    work.mkdir(exist_ok=True)
    build = partial(build_guide, channels=3, class_names=CATEGORIES)
    classifier = partial(train_classifier, build=build, work=work, steps=options.guide_steps, peak=3e-3)
    guide = classifier("guide", data=(images, labels), seed=1)
    folds = [
        classifier(f"fold{half}", data=(images[kept], labels[kept]), seed=2 + half)
        for half, kept in enumerate((first, ~first))
    ]
    right = logits_of(guide, test).argmax(1) == test_labels
    print(f"guide: test accuracy {right.float().mean():.4f}", flush=True)
    scored = [difficulty(logits_of(fold, images), labels) for fold in folds]
    out_of_sample = torch.where(first, scored[1], scored[0]).cpu().numpy()
    np.savez_compressed(folder / "train_difficulties.npz", difficulty=out_of_sample, label=labels.cpu().numpy())
    both, both_labels = torch.cat([images, images.flip(3)]), torch.cat([labels, labels])  # few images: mirror them
    vae = train_vae(both, work, options.vae_steps, partial(build_vae, channels=3))
    print(f"VAE: mean squared error of test images {reconstruction_error(vae, test):.4f}", flush=True)
    build = partial(build_dit, classes=len(NAMES))
    dit = train_dit(both, both_labels, vae, work, options.dit_steps, build, bfloat16=images.is_cuda)
    DifficultyGuidedPipeline(dit, vae, build_scheduler(), guide, id2label=NAMES).save_pretrained(folder / "pipeline")


def real_images(folder: Path) -> Pool:
    """The training images, with the difficulties that a guide gave them which was trained on others."""
    real = read_pool(folder / "train.parquet")
    with np.load(folder / "train_difficulties.npz") as recorded:
        found = recorded["difficulty"].tolist()
    return replace(real, rows=[{**row, "difficulty": d} for row, d in zip(real.rows, found, strict=True)])


def reference(real: Pool) -> TargetDistribution:
    by_name = {name: real.difficulties[real.labels == label] for label, name in NAMES.items()}
    return TargetDistribution.from_reference(by_name, "training images, out of sample")


def make_pools(folder: Path, options: argparse.Namespace) -> None:
    pipeline = DifficultyGuidedPipeline.from_pretrained(folder / "pipeline").to(options.device)
    pipeline.set_progress_bar_config(disable=True)
    real = real_images(folder)
    latents = encode_pool(pipeline.vae, real, size=32, batch_size=100)
    modes = find_modes(latents, real.labels, MODES, class_names=real.class_names)
    modes.save(folder / "modes.safetensors")
    drawn = {"modes": modes, "mode_guidance": ModeGuidance(scale=0.2)}
    forms = {
        "unguided": {},
        "DAG, reference": {"target": reference(real)},
        "drawn to modes": drawn,
        "drawn to modes and easy": {**drawn, "target": EASY},
    }
    for name, form in forms.items():
        config = PoolConfig(images_per_class=options.seeds * PER_MODE * MODES, **form)
        fill_pool(pipeline, folder / name, config, batch_size=options.batch_size, resume=True, source="emoji")
        print(name, flush=True)


def chosen(drawn: Study, name: str, rule: SelectionRule, target: TargetDistribution, seed: int) -> LabelledImages:
    """DGS: of five times IPC images of each class, others for every seed as far as there are so many."""
    pool, images, features = drawn.pool(name)
    return one_each(images, pool, drawn.ipc, rule, seed, target, features)


def study(folder: Path, options: argparse.Namespace) -> None:
    test, ipc, real = images_of(read_pool(folder / "test.parquet")), options.ipc, real_images(folder)
    drawn, known = Study(folder, ipc, test, folder / "pipeline", options.device, SIZE), reference(real)
    sets: dict[str, Draw] = {BASELINE: partial(chosen, drawn, "unguided", RULES["random"], known)}
    for rule in ("random", "herding"):
        sets[f"{rule} | real"] = partial(drawn.chosen, "train.parquet", rule, None, None)
    sets["easiest | real"] = subset(images_of(real), subsample(real, ipc, method="easiest").indices)
    for rule in ("easiest", "hardest", "histogram", "matching"):
        sets[f"{rule} | unguided"] = partial(chosen, drawn, "unguided", RULES[rule], known)
    for rule in ("random", "matching"):
        sets[f"{rule} | DAG, reference"] = partial(chosen, drawn, "DAG, reference", RULES[rule], known)
    if ipc == MODES:
        vae = AutoencoderKL.from_pretrained(folder / "pipeline" / "vae").to(options.device)
        latents = encode_pool(vae, real, size=32, batch_size=100)
        nearest = nearest_images(latents, real.labels, Modes.load(folder / "modes.safetensors"))
        sets["nearest to modes | real"] = subset(images_of(real), nearest)
        for method, name in (("random", ""), ("easiest", "easiest of 5 | "), ("matching", "matching of 5 | ")):
            rule = SelectionRule(method, evenly="mode")
            sets[f"{name}drawn to modes"] = partial(chosen, drawn, "drawn to modes", rule, known)
        steered = partial(chosen, drawn, "drawn to modes and easy", STEERED_RULE, EASY)
        sets["matching of 5 | drawn to modes and easy"] = steered
    run(f"emoji-{setting_of(options)}", sets, test, options)


def picture(folder: Path) -> None:
    """Of each class eight training images, eight of the unguided pool, and eight drawn to modes."""
    from matplotlib.figure import Figure

    columns, sources = 8, {"real": "train.parquet", "unguided": "unguided", "drawn to modes": "drawn to modes"}
    figure = Figure(figsize=(11.2, 0.42 * len(NAMES) + 0.4), dpi=100, facecolor="white", layout="constrained")
    axes = figure.subplots(1, len(sources))
    for axis, (title, name) in zip(axes, sources.items(), strict=True):
        shown = images_of(read_pool(folder / name))
        rows = []
        for label in NAMES:
            own = np.flatnonzero(shown.labels == label)
            rows.append(np.hstack(shown.images[own[:: len(own) // columns][:columns]]))
        axis.imshow(np.vstack(rows))
        axis.set(title=title, xticks=[], yticks=32 * np.arange(len(NAMES)) + 16, yticklabels=[])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    axes[0].set_yticklabels(NAMES.values(), fontsize=8)
    figure.savefig(Path(__file__).parent.parent / "docs" / "images" / "emoji.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "train", "pools", "study", "picture"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path("node_modules"), help="folder of the two packages")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--guide-steps", type=int, default=800)
    parser.add_argument("--vae-steps", type=int, default=1500)
    parser.add_argument("--dit-steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=50, help="of the pools; 500 for a GPU")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--protocol", default="quick", choices=sorted(PROTOCOLS))
    parser.add_argument("--networks", nargs="+", default=["convnet-3"])
    parser.add_argument("--seeds", type=int, default=10, help="trainings, and draws that the pools hold images for")
    options = parser.parse_args()
    if options.what == "prepare":
        prepare(options.folder, options.data)
    elif options.what == "picture":
        picture(options.folder)
    else:
        {"train": train, "pools": make_pools, "study": study}[options.what](options.folder, options)


if __name__ == "__main__":
    main()
