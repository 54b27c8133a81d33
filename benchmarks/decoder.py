"""The embedded default's decoder alone trained on: does it give real images back better?

    python benchmarks/decoder.py FOLDER                  # by pixels, and by pixels and what the guide sees in them
    python benchmarks/generators.py training FOLDER --ipc 50 --real FOLDER/real.parquet \\
        --other sharper=FOLDER/decoder-0 guided=FOLDER/decoder-1 --record decoder    # and do they teach more?

Encoder, latents and DiT stay as they are, so that the same latents are decoded by each.  FOLDER/decoder-WEIGHT is the
default with the decoder trained with so much weight on the guide's features.  The last images of each class are held
out and measured: mean absolute difference in levels, and of the evaluator's probabilities of the class.  Results go to
benchmarks/results/decoder.json.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from downstream import make_real
from embedded import record
from generators import SHAPE
from torch import Tensor, nn

from dag_diffusion import embedded, load_classifier, read_pool
from dag_diffusion.evaluation.labelled_images import load_labelled_images
from dag_diffusion.loading import load_embedded_pipeline
from dag_diffusion.training.batches import Batch
from dag_diffusion.training.generators.vae import ABSOLUTE, as_input, reconstruction_error
from dag_diffusion.training.loop import LoopConfig, fit

CPU, HELD_OUT = torch.device("cpu"), 500  # images of a class


@torch.no_grad()
def posteriors(vae: AutoencoderKL, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Means and deviations of the latents, ``(n, channels, height, width)`` each."""
    found = [vae.encode(as_input(part, CPU)).latent_dist for part in pixels.split(500)]
    return torch.cat([one.mean for one in found]), torch.cat([one.std for one in found])


def seen_by(guide: nn.Module, images: Tensor) -> list[Tensor]:
    """What the guide's stages give, scaled to a mean square of 1 an image; it reads images in [-1, 1] as they are."""
    stages = guide.resnet(images, output_hidden_states=True).hidden_states
    return [stage / stage.square().mean((1, 2, 3), keepdim=True).sqrt().detach().clamp(min=1e-3) for stage in stages]


def train_decoder(
    vae: AutoencoderKL, guide: nn.Module, pixels: Tensor, folder: Path, config: LoopConfig, weight: float
) -> AutoencoderKL:
    """Of these images; encoder and latents stay."""
    means, deviations = posteriors(vae, pixels)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)

    def loss(model: AutoencoderKL, batch: Batch) -> Tensor:
        images = as_input(pixels[batch.indices], CPU)
        noise = batch.normal("latents", *means.shape[1:])
        decoded = model.decode(means[batch.indices] + deviations[batch.indices] * noise).sample.float()
        difference = decoded - images
        value = difference.square().mean() + ABSOLUTE * difference.abs().mean()
        if weight:
            with torch.no_grad():
                wanted = seen_by(guide, images)
            value = value + weight * sum(
                (one - other).square().mean() for one, other in zip(seen_by(guide, decoded), wanted, strict=True)
            ) / len(wanted)
        return value

    def told(stage: str, done: int, total: int) -> None:
        if done % 500 == 0:
            print(f"{weight:g}: {done} of {total}", flush=True)

    fit(vae, loss, len(pixels), folder, config, identity={"features": weight}, progress=told)
    return vae.requires_grad_(False).eval()


@torch.no_grad()
def missed(vae: AutoencoderKL, evaluator: nn.Module, pixels: Tensor, labels: Tensor) -> dict[str, float]:
    """How far images given back are from the images, in levels and in the evaluator's probabilities of the class."""
    probabilities = []
    for part, of in zip(pixels.split(250), labels.split(250), strict=True):
        images = as_input(part, CPU)
        back = vae.decode(vae.encode(images).latent_dist.mean).sample.clamp(-1, 1)
        both = evaluator(torch.cat([images, back])).logits.softmax(1).gather(1, of.repeat(2)[:, None])[:, 0]
        probabilities.append((both[: len(of)] - both[len(of) :]).abs())
    return {
        "levels": reconstruction_error(vae, pixels, CPU),
        "probability": float(torch.cat(probabilities).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--features", type=float, nargs="+", default=[0.0, 1.0], help="weights of the guide's features")
    parser.add_argument("--steps", type=int, default=4000)
    options = parser.parse_args()
    make_real(options.folder, options.data)
    real = load_labelled_images(read_pool(options.folder / "real.parquet"), **SHAPE)
    labels, pixels = torch.as_tensor(real.labels), torch.as_tensor(real.images)
    last = np.concatenate([np.flatnonzero(real.labels == label)[-HELD_OUT:] for label in real.class_names])
    learnt = np.setdiff1d(np.arange(len(labels)), last)
    evaluator = load_classifier(embedded.EVALUATOR)
    rows = {"embedded": missed(load_embedded_pipeline().vae, evaluator, pixels[last], labels[last])}
    print("embedded", rows["embedded"], flush=True)
    for weight in options.features:
        pipeline = load_embedded_pipeline()
        config = LoopConfig(steps=options.steps, batch_size=64, learning_rate=5e-4)
        work = options.folder / f"decoder-{weight:g}.work"
        vae = train_decoder(pipeline.vae, pipeline.classifier, pixels[learnt], work, config, weight)
        rows[f"{weight:g}"] = missed(vae, evaluator, pixels[last], labels[last])
        print(weight, rows[f"{weight:g}"], flush=True)
        pipeline.save_pretrained(options.folder / f"decoder-{weight:g}")
        record("decoder", {"steps": options.steps, "held_out_per_class": HELD_OUT, "rows": rows})


if __name__ == "__main__":
    main()
