"""Autoencoders: trained on the images at hand, or any ``AutoencoderKL`` by name.

    loss = |x - x'|^2 + 0.1 |x - x'| + 1e-6 KL        scaling factor = 1 / deviation of the latents, as measured

``kl()`` sums over a sample, so that usual weights of 1e-2 would let all latents collapse.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from safetensors import SafetensorError
from torch import Tensor

from dag_diffusion.classifiers.reach import require_within_reach
from dag_diffusion.classifiers.weights import load_whole, refuse_pickles
from dag_diffusion.data.files import read_json_object, write_json
from dag_diffusion.identity import digest_of
from dag_diffusion.processes import fail_together, gather, is_main_process
from dag_diffusion.progress import Progress, renamed
from dag_diffusion.training.batches import Batch
from dag_diffusion.training.checkpoints import read_record
from dag_diffusion.training.loop import LoopConfig, fit

from .networks import build_vae

ABSOLUTE, KL = 0.1, 1e-6  # weights of the loss
MEASURED = 5000  # images at most that the scaling factor is measured on
SCALE = "scale.json"  # the scaling factor, beside the checkpoint, and which weights it was measured of
PIXELS = 128 * 128**2  # that are encoded or decoded at a time without gradients


def load_vae(name: str | Path) -> AutoencoderKL:
    """An autoencoder by folder or Hub id, its own or that of a pipeline, in evaluation mode.

    Raises:
        ValueError: there is none.
    """
    place = Path(name) / "vae" if (Path(name) / "vae").is_dir() else name
    refuse_pickles(place)
    try:
        require_within_reach(place)
        part: dict[str, Any] = {"subfolder": "vae"} if not Path(place).exists() and _is_pipeline(str(name)) else {}
        vae = load_whole(AutoencoderKL.from_pretrained, place, use_safetensors=True, **part)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{name} cannot be loaded as an AutoencoderKL ({error}); give its folder or Hub id") from error
    return vae.float().eval().requires_grad_(False)


def _is_pipeline(hub_id: str) -> bool:
    try:
        return bool(DiffusionPipeline.load_config(hub_id))
    except OSError:  # it has no model_index.json
        return False


def train_vae(
    pixels: Tensor,
    folder: Path,
    config: LoopConfig,
    *,
    flip: bool,
    device: torch.device,
    identity: Mapping[str, Any],
    latents: Path | None = None,
    log: Callable[[dict[str, float], int], None] | None = None,
    progress: Progress | None = None,
) -> AutoencoderKL:
    """Train an autoencoder on images, or go on where an earlier run in ``folder`` stopped.

    Args:
        pixels: ``(n, height, width, channels)`` uint8, square.
        flip: mirror half of the images.
        identity: what else has to be the same to go on, see ``loop.fit``.
        latents: folder of latents of an earlier run, which tell its scale where a version did not keep that.

    Returns:
        the autoencoder, in evaluation mode, with its scaling factor as measured.
    """
    vae = build_vae(pixels.shape[1], pixels.shape[3], config.seed)
    vae = vae.to(device, memory_format=torch.channels_last)

    def loss(model: Any, batch: Batch) -> Tensor:
        images = as_input(pixels[batch.indices], device)
        if flip:
            mirrored = batch.uniform("mirrored", 1, 1, 1) < 0.5
            images = torch.where(mirrored, images.flip(3), images)
        posterior = model.encode(images).latent_dist
        noise = batch.normal("latents", *posterior.mean.shape[1:])
        difference = (model.decode(posterior.mean + posterior.std * noise).sample - images).float()
        return difference.square().mean() + ABSOLUTE * difference.abs().mean() + KL * posterior.kl().mean()

    fit(
        vae,
        loss,
        len(pixels),
        folder,
        config,
        identity={"flip": flip, **identity},
        way_out="another seed, precision float32, or an autoencoder that is there (vae)",
        log=log,
        progress=renamed(progress, "autoencoder"),
    )
    vae.to(memory_format=torch.contiguous_format).requires_grad_(False)  # as it will be loaded, to the last bit
    vae.register_to_config(scaling_factor=_scaling_factor(vae, pixels, folder, latents))
    return vae


def _scaling_factor(vae: AutoencoderKL, pixels: Tensor, folder: Path, latents: Path | None) -> float:
    """The scaling factor of these weights, measured by one process and once, since latents are kept by it.

    Measured anew, on another device or by other threads, its last digit would be another.
    """
    factor = 0.0
    with fail_together():
        if is_main_process():
            known, of = _known_scale(folder, latents), digest_of(vae)
            factor = known["scale"] if known.get("vae") == of else _measured_scale(vae, pixels)
            write_json(folder / SCALE, {"vae": of, "scale": factor})
    return gather(factor)[0]


def _known_scale(folder: Path, latents: Path | None) -> Mapping[str, Any]:
    """What was measured before, and of which weights; empty if nothing was."""
    if (folder / SCALE).exists():
        return read_json_object(folder / SCALE)
    files = [] if latents is None else sorted(latents.glob("latents-*.safetensors"))
    return read_record(files[0]) if files else {}


@torch.no_grad()
def _measured_scale(vae: AutoencoderKL, pixels: Tensor) -> float:
    some = pixels[:: -(-len(pixels) // MEASURED)]  # from all classes, which stand one after the other
    parts = some.split(at_once(pixels.shape[1], 256))
    means = torch.cat([vae.encode(as_input(part, vae.device)).latent_dist.mean for part in parts])
    return float(1 / means.std().clamp(min=1e-3))


@torch.no_grad()
def reconstruction_error(vae: AutoencoderKL, pixels: Tensor, device: torch.device) -> float:
    """Mean absolute difference of images and what the autoencoder makes of them, in levels of 0 to 255.

    Args:
        pixels: ``(n, height, width, channels)`` uint8.
    """
    total = 0.0
    for part in pixels.split(at_once(pixels.shape[1], 100)):
        images = as_input(part, device)
        decoded = vae.decode(vae.encode(images).latent_dist.mean).sample.clamp(-1, 1)
        total += float((decoded - images).abs().flatten(1).mean(1).sum())
    return 127.5 * total / len(pixels)


def at_once(side: int, most: int = 128) -> int:
    """How many images of a side an autoencoder is given at a time, as many as 128 of 128 pixels are at the most."""
    return max(1, min(most, PIXELS // side**2))


def as_input(pixels: Tensor, device: torch.device) -> Tensor:
    """``(n, channels, height, width)`` float32 in [-1, 1], of ``(n, height, width, channels)`` uint8."""
    return pixels.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
