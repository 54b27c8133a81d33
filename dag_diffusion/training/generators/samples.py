"""Pictures of what a generator makes in the course of its training: a row a class, always from the same noise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from dag_diffusion.data.files import write_image
from dag_diffusion.seeding import as_seed

CLASSES, EACH, GAP = 10, 8, 2  # rows and columns of a grid, pixels between images


def grid(images: np.ndarray, columns: int) -> Image.Image:
    """Images in rows, white between them.

    Args:
        images: ``(n, height, width, channels)`` in [0, 1], row by row.
    """
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = (place // columns) * (height + GAP), (place % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = (image * 255).round()
    return Image.fromarray(sheet[..., 0] if channels == 1 else sheet)


def sampler(pipeline: Any, folder: Path, seed: int) -> Callable[[int, nn.Module], None]:
    """A function that draws a grid by a pipeline's denoiser, which is in training, and writes ``FOLDER/STEP.png``."""
    labels = list(pipeline.class_names)[:CLASSES]
    pipeline.set_progress_bar_config(disable=True)

    def look(step: int, transformer: nn.Module) -> None:
        generator = torch.Generator().manual_seed(as_seed(seed))
        wanted = [label for label in labels for _ in range(EACH)]
        output = pipeline(wanted, generator=generator, output_type="np")
        write_image(folder / f"{step:07d}.png", grid(output.images, EACH))

    return look
