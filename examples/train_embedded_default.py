"""Make the embedded default from Fashion-MNIST: every part by a call of the library, into a folder like its assets.

    python examples/train_embedded_default.py --data /usr/share/datasets/fashion-mnist --work runs/embedded

Parts, in order: ``classifiers`` (guide, with two that each saw one half, for difficulties out of sample; evaluator; two
guides of other shapes, for the probe to learn from) -> ``generator`` (VAE and DiT, and a weak DiT) -> ``pipeline`` (the
generator, its guide and a probe) -> ``modes``.  A killed run goes on with the same command, and what WORK holds is not
trained again.  ``--output dag_diffusion/assets`` replaces the embedded default itself.
"""

import argparse
import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets import FashionMNIST

from dag_diffusion import (
    ClassifierConfig,
    GeneratorConfig,
    load_classifier,
    read_pool,
    score_pool,
    subsample,
    train_classifier,
    train_generator,
    train_probe,
    write_distilled_set,
)
from dag_diffusion.cli.console import stages
from dag_diffusion.data.pools import Pool, write_provenance
from dag_diffusion.embedded import CLASS_NAMES
from dag_diffusion.generation.preparing.mode_search import find_pool_modes
from dag_diffusion.generation.preparing.probe_training import ProbeConfig
from dag_diffusion.progress import Progress

DATA = Path("/usr/share/datasets/fashion-mnist")
WHOLE = {"held_out": 0.0, "uncalibrated": True, "learning_rate": 3e-3}  # no training image is spared to calibrate with
CLASSIFIERS = {  # share of the steps of the DiT, so that few of them try everything, and configuration
    "guide": (0.3, ClassifierConfig(**WHOLE, model="small-resnet", folds=2, seed=1)),
    "evaluator": (0.3, ClassifierConfig(**WHOLE, model="small-regnet", role="evaluator", seed=4)),
    "wide": (0.2, ClassifierConfig(**WHOLE, model="small-resnet-wide", seed=5)),
    "deep": (0.2, ClassifierConfig(**WHOLE, model="small-resnet-deep", seed=6)),
}
TEACHERS = ("guide", "guide/fold-1", "guide/fold-2", "wide", "deep")  # of the probe; the evaluator is none of them
INTERVAL = (0.25, 0.75)  # of the steps, in which classifier-free guidance is on
REFERENCE, FIRST, MODES = 100, 5000, 50  # images of a class to show, to find modes in, and modes


def read_idx(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images ``(n, 1, 32, 32)`` in [-1, 1], padded from 28 px, and labels of ``train`` or ``t10k``, gzipped or not."""

    def values(kind: str, header: int) -> np.ndarray:
        plain = folder / f"{split}-{kind}-ubyte"
        data = plain.read_bytes() if plain.exists() else gzip.decompress(Path(f"{plain}.gz").read_bytes())
        return np.frombuffer(data, np.uint8, offset=header)

    images = torch.from_numpy(values("images-idx3", 16).reshape(-1, 1, 28, 28).copy())
    labels = torch.from_numpy(values("labels-idx1", 8).astype(np.int64))
    return F.pad(images, (2, 2, 2, 2)).float() / 127.5 - 1, labels


def write_parquet(data: tuple[Tensor, Tensor], path: Path, class_names: Sequence[str] = CLASS_NAMES) -> None:
    """Images ``(n, channels, height, width)`` in [-1, 1] and labels, for ``read_pool`` and ``load_dataset``."""
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature
    from PIL import Image

    pixels = ((data[0] + 1) * 127.5).round().byte().permute(0, 2, 3, 1).squeeze(3).numpy()
    features = Features(image=ImageFeature(), label=ClassLabel(names=list(class_names)))
    rows = {"image": [Image.fromarray(array) for array in pixels], "label": data[1].tolist()}
    Dataset.from_dict(rows, features).to_parquet(path)
    # datasets leaves images as they are, and the headers of small PNGs, all alike, are a tenth of them
    pq.write_table(pq.read_table(path), path, compression="zstd", use_dictionary=False)


def read_fashion_mnist(data: Path, path: Path, split: str) -> Pool:
    """One split as a pool, by a parquet file; torchvision downloads what ``data`` lacks."""
    if not list(data.glob(f"{split}-images-idx3-ubyte*")):
        FashionMNIST(data, download=True)
        data = data / "FashionMNIST" / "raw"
    if not path.exists():
        write_parquet(read_idx(data, split), path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)
    return read_pool(path)


def make_classifiers(train: Pool, options: argparse.Namespace, progress: Progress) -> None:
    """All of them; the evaluator, the guide's difficulties of the training images and a reference into the output."""
    told = {"test": read_fashion_mnist(options.data, options.output / "test.parquet", "t10k"), "progress": progress}
    for name, (share, config) in CLASSIFIERS.items():
        if not (options.work / name).exists():
            config = replace(config, steps=max(1, round(share * options.steps)))
            trained = train_classifier(train, options.work / name, config, device=options.device, **told)
            print(f"{name}: test accuracy {trained.record['test']['accuracy']:.4f}", flush=True)
    load_classifier(options.work / "evaluator").save_pretrained(options.output / "evaluator")
    scored = read_pool(train.path, scores=options.work / "guide" / "difficulties.jsonl")
    in_sample = score_pool(train, load_classifier(options.work / "guide"), progress=progress).difficulties
    found = {"in_sample": in_sample.astype(np.float32), "cross_fitted": scored.difficulties.astype(np.float32)}
    np.savez_compressed(options.output / "train_difficulties.npz", label=train.labels.astype(np.uint8), **found)
    chosen, folder = subsample(train, REFERENCE, method="random").indices, options.output / "reference"
    write_distilled_set(scored, chosen, folder, columns={"training_index": chosen.tolist()}, overwrite=True)
    source = f"Fashion-MNIST training set, {REFERENCE} images a class drawn at random with seed 0, padded to 32 px"
    write_provenance(folder, {"source": source, "difficulty": "by a guide trained on the half without the image"})


def make_generator(train: Pool, options: argparse.Namespace, progress: Progress):
    """VAE, DiT and weak DiT, or those that an earlier call has finished."""
    told, place = {"device": options.device, "progress": progress}, options.work / "generator"
    config = GeneratorConfig(steps=options.steps, vae=options.vae, vae_steps=options.vae_steps, guidance_scale=2.0)
    pipeline = train_generator(train, place, config, **told)
    weak = train_generator(train, options.work / "weak", config.weaker(place), **told)
    pipeline.register_modules(weak_transformer=weak.transformer)
    pipeline.register_to_config(default_guidance_start=INTERVAL[0], default_guidance_stop=INTERVAL[1])
    return pipeline


def make_pipeline(train: Pool, options: argparse.Namespace, progress: Progress) -> None:
    """The generator with its guide and a probe of all teachers."""
    pipeline, teachers = make_generator(train, options, progress), [options.work / name for name in TEACHERS]
    guides = [load_classifier(folder).to(pipeline.device).requires_grad_(False) for folder in teachers]
    pipeline.register_modules(classifier=guides[0])
    config = ProbeConfig(trajectories=max(10, options.steps // 4), training_steps=max(1, options.steps // 2))
    probe, fidelity = train_probe(pipeline, guides, config, progress=progress)
    print(fidelity, flush=True)
    pipeline.register_modules(probe=probe)
    for part in (pipeline.transformer, pipeline.weak_transformer, pipeline.vae):
        part.half()  # stored in half precision, loaded in single
    pipeline.save_pretrained(options.output / "pipeline")


def make_modes(train: Pool, options: argparse.Namespace, progress: Progress) -> None:
    """Of the first images of each class; the others stay out, so that choices can be judged by them."""
    pipeline = make_generator(train, options, progress)
    first = np.concatenate([np.flatnonzero(train.labels == label)[:FIRST] for label in train.class_names])
    modes = find_pool_modes(pipeline, train.select(first), MODES, batch_size=500, progress=progress)
    stored = replace(modes, centres=modes.centres.half(), vae="embedded default")
    stored.save(options.output / "modes.safetensors")


PARTS = dict(classifiers=make_classifiers, generator=make_generator, pipeline=make_pipeline, modes=make_modes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what the options name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the four idx files")
    parser.add_argument("--work", type=Path, default=Path("runs/embedded"), help="what is trained, and goes on from")
    parser.add_argument("--output", type=Path, help="where the finished parts go; default: WORK/assets")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--device", help="cpu, cuda, ...; default: the one that is there")
    parser.add_argument("--steps", type=int, default=12_000, help="of the DiT; the others have a share of them")
    parser.add_argument("--vae-steps", type=int, help="default: as many, but at least 4,000")
    parser.add_argument("--vae", help="folder of a VAE, or of a pipeline that has one, to keep; default: train one")
    options = parser.parse_args(arguments)
    options.output = options.output or options.work / "assets"
    for folder in (options.work, options.output):
        folder.mkdir(parents=True, exist_ok=True)
    train = read_fashion_mnist(options.data, options.work / "train.parquet", "train")
    with stages(quiet=False) as progress:
        for part in options.parts:
            PARTS[part](train, options, progress)


if __name__ == "__main__":
    main()
