"""Tiny real components, as diffusers' own tests use: the real classes, only small and randomly initialised."""

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTTransformer2DModel
from PIL import Image
from transformers import ResNetConfig, ResNetForImageClassification

from dag_diffusion import DifficultyGuidedPipeline
from dag_diffusion.data.files import json_lines

NAMES = {0: "T-shirt", 1: "Ankle boot, boot", 2: "Bag"}
PREPROCESSING = {"height": 16, "width": 16, "channels": 1, "mean": [0.5], "std": [0.5], "crop": 1.0}


def tiny_transformer(classes: int = 3, **changes) -> DiTTransformer2DModel:
    torch.manual_seed(0)
    options = {
        "sample_size": 8,
        "patch_size": 4,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 1,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "num_embeds_ada_norm": classes,
        "norm_elementwise_affine": False,
    }
    model = DiTTransformer2DModel(**(options | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # zero-initialised parts would make the denoiser blind to its input
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def tiny_vae(**changes) -> AutoencoderKL:
    torch.manual_seed(1)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(
        in_channels=1, out_channels=1, block_out_channels=(4, 4), norm_num_groups=2, sample_size=16, **blocks, **changes
    ).eval()


def tiny_classifier(names: dict[int, str] | None = None, **changes) -> ResNetForImageClassification:
    names = NAMES if names is None else names
    torch.manual_seed(2)
    options = {
        "num_channels": 1,
        "embedding_size": 4,
        "hidden_sizes": [4],
        "depths": [1],
        "layer_type": "basic",
        "id2label": names,
        "label2id": {name: label for label, name in names.items()},
        "preprocessing": PREPROCESSING,
    }
    config = ResNetConfig(**(options | changes))
    model = ResNetForImageClassification(config).eval()
    with torch.no_grad():
        model.classifier[-1].weight.mul_(20)  # a flat classifier gives no direction to steer in
    return model


def tiny_scheduler(kind: type = DDIMScheduler, **changes):
    return kind(**({"clip_sample": False, "num_train_timesteps": 1000} | changes))


def tiny_components(**changes) -> dict:
    components = {
        "transformer": tiny_transformer(),
        "vae": tiny_vae(),
        "scheduler": tiny_scheduler(),
        "classifier": tiny_classifier(),
        "id2label": NAMES,
    }
    return components | changes


def tiny_pipeline(**changes) -> DifficultyGuidedPipeline:
    pipeline = DifficultyGuidedPipeline(**tiny_components(**changes))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def write_images(
    folder, counts: dict[str, int], *, metadata: bool = True, size: int = 16, difficulty=None
) -> list[dict]:
    """Class folders of grey noise with a row for each image; ``difficulty(class_name, index)`` scores them."""
    rows = []
    generator = np.random.default_rng(0)
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = generator.integers(0, 256, (size, size), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:05d}.png")
            row = {"file_name": f"{name}/{index:05d}.png", "label": label, "class_name": name, "seed": index}
            rows.append(row | ({} if difficulty is None else {"difficulty": difficulty(name, index)}))
    if metadata:
        (folder / "metadata.jsonl").write_bytes(json_lines(rows))
    return rows
