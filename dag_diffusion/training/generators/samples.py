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

from .vae import at_once

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


def sampler(
    pipeline: Any, folder: Path, seed: int, *, network_dtype: torch.dtype | None = None
) -> Callable[[int, nn.Module], None]:
    """A function that draws a grid by a pipeline's denoiser, which is in training, and writes ``FOLDER/STEP.png``.

    Args:
        network_dtype: as of the pipeline's call.
    """
    wanted = [label for label in list(pipeline.class_names)[:CLASSES] for _ in range(EACH)]
    size = at_once(pipeline.image_size[0])
    parts = [wanted[first : first + size] for first in range(0, len(wanted), size)]
    pipeline.set_progress_bar_config(disable=True)

    def look(step: int, transformer: nn.Module) -> None:
        generator = torch.Generator().manual_seed(as_seed(seed))
        options = {"generator": generator, "output_type": "np", "network_dtype": network_dtype}
        images = np.concatenate([pipeline(part, **options).images for part in parts])
        write_image(folder / f"{step:07d}.png", grid(images, EACH))

    return look
