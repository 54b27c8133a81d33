"""Train every part of the embedded default from scratch on Fashion-MNIST, and write ``dag_diffusion/assets``.

    python examples/train_embedded_default.py --data /usr/share/datasets/fashion-mnist --work runs/embedded

Parts, in order: ``vae`` -> ``guide`` -> ``fold0``, ``fold1`` (guides that each saw one half, for out-of-sample
difficulties) -> ``wide``, ``deep`` (guides of other shapes, for the probe to learn from) -> ``evaluator`` -> ``dit`` ->
``assets``, which trains the probe.  Each step draws its batch and noise from (seed, step) alone, so that a killed run
goes on from its last checkpoint as if nothing had happened: give the same command again.
"""

import argparse
import gzip
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import RegNetConfig, RegNetForImageClassification, ResNetConfig, ResNetForImageClassification

from dag_diffusion.embedded import CLASS_NAMES

PREPROCESSING = {
    "height": 32,
    "width": 32,
    "channels": 1,
    "mean": [0.5],
    "std": [0.5],
    "crop": 1.0,
    "resample": "bilinear",
}
PARTS = ["vae", "guide", "fold0", "fold1", "wide", "deep", "evaluator", "dit", "assets"]
TEACHERS = ["guide", "fold0", "fold1", "wide", "deep"]  # of the probe; the evaluator is none of them


def read_idx(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images ``(n, 1, 32, 32)`` in [-1, 1], padded from 28 px, and labels of ``train`` or ``t10k``, gzipped or not."""

    def values(kind: str, header: int) -> np.ndarray:
        plain = folder / f"{split}-{kind}-ubyte"
        data = (
            plain.read_bytes() if plain.exists() else gzip.decompress(plain.with_name(plain.name + ".gz").read_bytes())
        )
        return np.frombuffer(data, np.uint8, offset=header)

    images = torch.from_numpy(values("images-idx3", 16).reshape(-1, 1, 28, 28).copy())
    labels = torch.from_numpy(values("labels-idx1", 8).astype(np.int64))
    return F.pad(images, (2, 2, 2, 2)).float() / 127.5 - 1, labels


def read_fashion_mnist(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Both splits from a folder of the four idx files, downloaded there by torchvision if they are missing."""
    if not list(folder.glob("train-images-idx3-ubyte*")):
        from torchvision.datasets import FashionMNIST

        FashionMNIST(folder, download=True)
        folder = folder / "FashionMNIST" / "raw"
    return {"train": read_idx(folder, "train"), "test": read_idx(folder, "t10k")}


@lru_cache(maxsize=2)
def epoch_order(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def batch_indices(count: int, batch: int, step: int, seed: int) -> Tensor:
    """Indices of one step's batch: every epoch is a new permutation, known from (seed, step) alone."""
    epoch, position = divmod(step, count // batch)
    return epoch_order(count, seed * 1000 + epoch)[position * batch : (position + 1) * batch]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first twentieth, then a cosine to zero."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def write_checkpoint(
    path: Path, step: int, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{k}": v for k, v in state.items()}
    partial = path.with_suffix(".partial")
    save_file({k: v.contiguous().clone().cpu() for k, v in tensors.items()}, partial, metadata={"step": str(step)})
    os.replace(partial, path)


def read_checkpoint(path: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore all three in place and return the number of steps done."""
    tensors = load_file(path)
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    average.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("average.")})
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, i, name = key.split(".")
            state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(state[0]["step"])


def fit(
    name: str,
    build: Callable[[], nn.Module],
    loss: Callable[[nn.Module, Tensor], Tensor],
    count: int,
    work: Path,
    *,
    steps: int,
    batch: int = 128,
    peak: float = 1e-3,
    weight_decay: float = 0.0,
    decay: float = 0.999,
    seed: int = 0,
    device: torch.device | None = None,
) -> nn.Module:
    """Train ``build()`` on ``device`` and return its exponential moving average.

    ``loss(model, indices)`` sees a batch's indices into the ``count`` training images; any noise that it draws comes
    from the global generator, which is seeded anew at every step.
    """
    torch.manual_seed(seed)
    model, average = build().train().to(device), build().eval().requires_grad_(False).to(device)
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=weight_decay, fused=True)
    path, log = work / f"{name}.safetensors", work / f"{name}.jsonl"
    done = read_checkpoint(path, model, average, optimizer) if path.exists() else 0
    started, saved, losses = time.time(), time.time(), []
    for step in range(done, steps):
        torch.manual_seed(seed * 10_000_019 + step)
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps, peak)
        value = loss(model, batch_indices(count, batch, step, seed))
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            weight = min(decay, (1 + step) / (10 + step))
            for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                kept.lerp_(new, 1 - weight) if kept.is_floating_point() else kept.copy_(new)
        losses.append(value.item())
        last = step + 1 == steps
        if len(losses) == 50 or last:
            seconds = (time.time() - started) / (step + 1 - done)
            row = {"step": step + 1, "loss": sum(losses) / len(losses), "ms_per_image": 1000 * seconds / batch}
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{name} {step + 1}/{steps} loss {row['loss']:.4f} {seconds * (steps - step - 1) / 60:.1f} min left",
                flush=True,
            )
            losses = []
        if time.time() - saved > 60 or last:
            write_checkpoint(path, step + 1, model, average, optimizer)
            saved = time.time()
    return average


def build_vae(channels: int = 1) -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
    )


def build_resnet(
    channels: int = 1, class_names: Sequence[str] = CLASS_NAMES, **shape: Any
) -> ResNetForImageClassification:
    return ResNetForImageClassification(
        ResNetConfig(
            num_channels=channels,
            id2label=dict(enumerate(class_names)),
            label2id={name: i for i, name in enumerate(class_names)},
            preprocessing=PREPROCESSING | {"channels": channels, "mean": [0.5] * channels, "std": [0.5] * channels},
            **shape,
        )
    )


build_guide = partial(build_resnet, embedding_size=32, hidden_sizes=[32, 64, 128], depths=[2, 2, 2], layer_type="basic")
build_wide = partial(
    build_resnet,
    embedding_size=64,
    hidden_sizes=[64, 128, 256],
    depths=[1, 1, 1],
    layer_type="basic",
    hidden_act="gelu",
)
build_deep = partial(build_resnet, embedding_size=32, hidden_sizes=[64, 128, 256], depths=[2, 3, 2], hidden_act="silu")


def build_evaluator() -> RegNetForImageClassification:
    """Grouped convolutions with squeeze and excitation: another family than the guide's residual blocks."""
    return RegNetForImageClassification(
        RegNetConfig(
            num_channels=1,
            embedding_size=32,
            hidden_sizes=[48, 96, 192],
            depths=[1, 2, 2],
            groups_width=16,
            layer_type="y",
            id2label=dict(enumerate(CLASS_NAMES)),
            label2id={name: i for i, name in enumerate(CLASS_NAMES)},
            preprocessing=PREPROCESSING,
        )
    )


def build_dit(classes: int = len(CLASS_NAMES)) -> DiTTransformer2DModel:
    return DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=64,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=classes,
    )


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def shifted(images: Tensor) -> Tensor:
    """By up to two pixels; the padding is two wide, so nothing wraps round."""
    return images.roll(torch.randint(-2, 3, (2,)).tolist(), dims=(2, 3))


def augment(images: Tensor) -> Tensor:
    """Shift, and mirror half of the batch."""
    images = shifted(images)
    flip = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(flip, images.flip(3), images)


def train_vae(images: Tensor, work: Path, steps: int, build: Callable[[], AutoencoderKL] = build_vae) -> AutoencoderKL:
    def loss(vae: AutoencoderKL, chosen: Tensor) -> Tensor:
        posterior = vae.encode(images[chosen]).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        difference = decoded - images[chosen]
        return difference.square().mean() + 0.1 * difference.abs().mean() + 1e-6 * posterior.kl().mean()

    options = {"steps": steps, "batch": 64, "peak": 2e-3, "decay": 0.995, "device": images.device}
    vae = fit("vae", build, loss, len(images), work, **options)
    with torch.no_grad():
        latents = torch.cat([vae.encode(x).latent_dist.mean for x in images[:5000].split(500)])
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    return vae


def train_classifier(
    name: str,
    build: Callable,
    data: tuple[Tensor, Tensor],
    work: Path,
    *,
    seed: int,
    augment: Callable[[Tensor], Tensor] = augment,
    **options,
) -> nn.Module:
    images, labels = data

    def loss(model: nn.Module, chosen: Tensor) -> Tensor:
        return F.cross_entropy(model(augment(images[chosen])).logits, labels[chosen])

    options |= {"seed": seed, "weight_decay": 0.02, "decay": 0.998, "device": images.device}
    return fit(name, build, loss, len(images), work, **options)


def train_dit(
    images: Tensor,
    labels: Tensor,
    vae: AutoencoderKL,
    work: Path,
    steps: int,
    build: Callable[[], DiTTransformer2DModel] = build_dit,
    bfloat16: bool = True,
) -> DiTTransformer2DModel:
    """v-prediction with min-SNR weights (Hang et al. 2023, gamma 5); some labels become the null class."""
    with torch.no_grad():
        latents = torch.cat([vae.encode(x).latent_dist.mean for x in images.split(500)]) * vae.config.scaling_factor
    alphas = build_scheduler().alphas_cumprod.to(images.device)

    def loss(dit: DiTTransformer2DModel, chosen: Tensor) -> Tensor:
        clean, noise = latents[chosen], torch.randn_like(latents[chosen])
        timesteps = torch.randint(0, len(alphas), (len(chosen),), device=images.device)
        alpha = alphas[timesteps].view(-1, 1, 1, 1)
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
            noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
            predicted = dit(noisy, timestep=timesteps, class_labels=labels[chosen]).sample
        snr = alpha / (1 - alpha)
        weights = snr.clamp(max=5) / (snr + 1)
        return (weights * (predicted.float() - velocity).square()).mean()

    options = {"steps": steps, "peak": 1e-3, "decay": 0.9995, "weight_decay": 0.01, "device": images.device}
    return fit("dit", build, loss, len(images), work, **options)


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(x).logits for x in images.split(500)])


def write_assets(data: dict[str, tuple[Tensor, Tensor]], models: dict[str, nn.Module], output: Path) -> None:
    """The embedded default: pipeline with guide, evaluator, test set, reference subset, training difficulties."""
    from dag_diffusion import DifficultyGuidedPipeline
    from dag_diffusion.generation.probe_training import ProbeConfig, train_probe

    output.mkdir(parents=True, exist_ok=True)
    pipeline = DifficultyGuidedPipeline(
        models["dit"], models["vae"], build_scheduler(), models["guide"], id2label=dict(enumerate(CLASS_NAMES))
    )
    teachers = [models[name] for name in TEACHERS]
    probe, fidelity = train_probe(pipeline, teachers, ProbeConfig(), progress=print_progress)
    print(f"probe: {fidelity}", flush=True)
    pipeline.register_modules(probe=probe)
    pipeline.transformer.half()  # stored in half precision, loaded in single
    pipeline.vae.half()
    pipeline.save_pretrained(output / "pipeline")
    models["evaluator"].save_pretrained(output / "evaluator")
    write_parquet(data["test"], output / "test.parquet")
    scores = training_difficulties(data["train"], models)
    np.savez_compressed(output / "train_difficulties.npz", **scores)
    write_reference(data["train"], scores, output / "reference")
    write_modes(data["train"], models["vae"].float(), output / "modes.safetensors")


def print_progress(stage: str, done: int, of: int) -> None:
    if done % 300 == 0 or done == of:
        print(f"probe: {stage} {done}/{of}", flush=True)


def eight_bit(images: Tensor) -> np.ndarray:
    """Grey ``(n, height, width)`` or colours ``(n, height, width, 3)``, from ``(n, channels, height, width)``."""
    return ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).squeeze(3).numpy()


def write_parquet(data: tuple[Tensor, Tensor], path: Path, class_names: Sequence[str] = CLASS_NAMES) -> None:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature
    from PIL import Image

    images = [Image.fromarray(array) for array in eight_bit(data[0])]
    features = Features(image=ImageFeature(), label=ClassLabel(names=list(class_names)))
    Dataset.from_dict({"image": images, "label": data[1].tolist()}, features).to_parquet(path)


def training_difficulties(data: tuple[Tensor, Tensor], models: dict[str, nn.Module]) -> dict[str, np.ndarray]:
    """In sample by the guide, and each image by the guide that was trained on the other half."""
    from dag_diffusion.difficulty import difficulty

    images, labels = data
    scored = {name: difficulty(logits_of(models[name], images), labels) for name in ("guide", "fold0", "fold1")}
    first_half = torch.arange(len(images)) % 2 == 0
    cross_fitted = torch.where(first_half, scored["fold1"], scored["fold0"])
    return {
        "label": labels.numpy().astype(np.uint8),
        "in_sample": scored["guide"].numpy(),
        "cross_fitted": cross_fitted.numpy(),
    }


def write_modes(data: tuple[Tensor, Tensor], vae: AutoencoderKL, path: Path) -> None:
    """50 clusters a class of its first 5,000 images; the last 1,000 stay out, so that choices can be judged by them."""
    from dag_diffusion.generation.mode_search import encode, find_modes

    first = torch.cat([torch.where(data[1] == label)[0][:5000] for label in range(len(CLASS_NAMES))])
    modes = find_modes(encode(vae, data[0][first], 500), data[1][first], 50, class_names=dict(enumerate(CLASS_NAMES)))
    replace(modes, centres=modes.centres.half(), vae="embedded default").save(path)


def write_reference(data: tuple[Tensor, Tensor], scores: dict[str, np.ndarray], folder: Path) -> None:
    """100 real training images of each class, drawn at random, in the form of a pool."""
    from PIL import Image

    from dag_diffusion.data.files import json_lines, write_atomically, write_image
    from dag_diffusion.data.pools import write_provenance
    from dag_diffusion.data.rows import METADATA

    images, labels = eight_bit(data[0]), data[1].numpy()
    rows = []
    for label, name in enumerate(CLASS_NAMES):
        chosen = np.random.default_rng([0, label]).permutation(np.flatnonzero(labels == label))[:100]
        for index in np.sort(chosen):
            row = {
                "file_name": f"{name}/{index:05d}.png",
                "label": label,
                "class_name": name,
                "target_difficulty": None,
            }
            row |= {"difficulty": float(scores["cross_fitted"][index]), "seed": None, "training_index": int(index)}
            write_image(folder / row["file_name"], Image.fromarray(images[index]))
            rows.append(row)
    write_atomically(folder / METADATA, json_lines(rows))
    source = "Fashion-MNIST training set, 100 images a class drawn at random with seed 0, padded to 32 px"
    write_provenance(folder, {"source": source, "difficulty": "by a guide trained on the half without the image"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="folder of the idx files"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/embedded"), help="checkpoints and losses")
    parser.add_argument("--output", type=Path, default=Path("dag_diffusion/assets"), help="where the finished parts go")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--device", default="cpu", help="where to train: cpu, cuda, ...")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--vae-steps", type=int, default=1800)
    parser.add_argument("--dit-steps", type=int, default=6000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    data = read_fashion_mnist(options.data)
    data = {split: tuple(x.to(options.device) for x in pair) for split, pair in data.items()}
    images, labels = data["train"]
    halves = [torch.arange(len(images)) % 2 == i for i in (0, 1)]
    classifiers = {
        "guide": lambda: train_classifier(
            "guide", build_guide, (images, labels), options.work, seed=1, steps=3700, peak=3e-3
        ),
        "fold0": lambda: train_classifier(
            "fold0", build_guide, (images[halves[0]], labels[halves[0]]), options.work, seed=2, steps=1800, peak=3e-3
        ),
        "fold1": lambda: train_classifier(
            "fold1", build_guide, (images[halves[1]], labels[halves[1]]), options.work, seed=3, steps=1800, peak=3e-3
        ),
        "wide": lambda: train_classifier(
            "wide", build_wide, (images, labels), options.work, seed=5, steps=2400, peak=3e-3
        ),
        "deep": lambda: train_classifier(
            "deep", build_deep, (images, labels), options.work, seed=6, steps=2400, peak=3e-3
        ),
        "evaluator": lambda: train_classifier(
            "evaluator", build_evaluator, (images, labels), options.work, seed=4, steps=3700, peak=3e-3
        ),
    }
    vae = partial(train_vae, images, options.work, options.vae_steps)
    train = {
        "vae": vae,
        **classifiers,
        "dit": lambda: train_dit(images, labels, vae(), options.work, options.dit_steps),
    }
    for part in options.parts:
        if part == "assets":
            data = {split: tuple(x.cpu() for x in pair) for split, pair in data.items()}
            write_assets(data, {name: make().cpu() for name, make in train.items()}, options.output)
            continue
        model = train[part]()
        if part in classifiers:
            right = logits_of(model, data["test"][0]).argmax(1) == data["test"][1]
            print(f"{part}: test accuracy {right.float().mean():.4f}", flush=True)


if __name__ == "__main__":
    main()
