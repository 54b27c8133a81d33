"""Networks that were trained without classes, as their libraries save them, at tiny size."""

from pathlib import Path

import text_pipelines
import timm
import torch
from timm.models import save_for_hf
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

WIDTHS = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
SEES = {"image_size": 32, "patch_size": 16}
SQUARE = {"size": {"height": 32, "width": 32}}


def vit(folder: Path) -> torch.nn.Module:
    ViTImageProcessor(**SQUARE).save_pretrained(folder)
    return _saved(ViTModel(ViTConfig(**WIDTHS, **SEES)), folder)


def dinov2(folder: Path) -> torch.nn.Module:
    ViTImageProcessor(**SQUARE).save_pretrained(folder)
    sizes = {name: size for name, size in WIDTHS.items() if name != "intermediate_size"}
    return _saved(Dinov2Model(Dinov2Config(**sizes, **SEES)), folder)


def clip(folder: Path) -> torch.nn.Module:
    CLIPImageProcessor(**SQUARE, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    words = WIDTHS | {"vocab_size": 9, "bos_token_id": 7, "eos_token_id": 8, "max_position_embeddings": 16}
    config = CLIPConfig(vision_config=WIDTHS | SEES, text_config=words, projection_dim=8)
    return _saved(CLIPModel(config), folder)


def clip_with_texts(folder: Path) -> torch.nn.Module:
    """A whole CLIP with its processor, which also reads texts."""
    torch.manual_seed(0)
    tokenizer, encoder = text_pipelines.clip()
    texts = encoder.config.to_dict() | WIDTHS
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return _saved(CLIPModel(CLIPConfig(vision_config=WIDTHS | SEES, text_config=texts, projection_dim=8)), folder)


def of_timm(folder: Path) -> torch.nn.Module:
    model = timm.create_model("test_vit", num_classes=0)
    save_for_hf(model, folder, model_config={"num_classes": 0}, safe_serialization=True)
    return model


def _saved(model: torch.nn.Module, folder: Path) -> torch.nn.Module:
    model.save_pretrained(folder)
    return model


WITHOUT_CLASSES = [vit, dinov2, clip, of_timm]
