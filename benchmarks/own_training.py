"""The training loop that the benchmarks on digits and emoji were measured with, before the library had its own.

Each step draws its batch and noise from (seed, step) alone, so that a killed run goes on from its last checkpoint.
"""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetForImageClassification

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
