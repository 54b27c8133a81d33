"""Grids of the report: of each class an even sample from its easiest image to its hardest, as thumbnails in the page.

    shown images of a class = min(12, 4000 / (classes * sets)), at least 2: the easiest and the hardest

So a page of a thousand classes still opens: a thumbnail is at most 96 pixels wide and high, about two kilobytes.
"""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image, features

from dag_diffusion.data.images import UnreadableImageError, as_eight_bit
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.rows import Row

from .figures import even_sample
from .sets import ReportedSet, target_of

MOST_PER_CLASS, LEAST_PER_CLASS = 12, 2
BUDGET = 4000  # thumbnails of a page, ten megabytes of photographs
FILE_SIDE, PAGE_SIDE = 96, 64  # pixels of a thumbnail; sharp screens show the file's
LOSSLESS = 64  # up to this size pixels are shown as they are


def images_per_class(classes: int, sets: int) -> int:
    """How many images of each class and set fit into the page's budget."""
    return min(MOST_PER_CLASS, max(LEAST_PER_CLASS, BUDGET // max(classes * sets, 1)))


def grid_rows(one: ReportedSet, per_class: int) -> list[dict[str, Any]]:
    """For each class its name, how many images it has, and the shown ones from easy to hard."""
    return [
        {"name": name, "images": [shown_image(one.pool, i) for i in even_sample(rows, per_class)], "total": len(rows)}
        for name, rows in one.easy_to_hard.items()
    ]


def shown_image(pool: Pool, index: int) -> dict[str, Any]:
    """One image as the page needs it: source, size, difficulties under it, text on hover.

    A file that cannot be read leaves its place empty and says so; the rest of the page is worth having.
    """
    row, target = pool.rows[index], target_of(pool.rows[index])
    shown = {"difficulty": short(pool.known_difficulties[index]), "target": None if target is None else short(target)}
    try:
        image = small(pool, index, FILE_SIDE)
    except UnreadableImageError:
        return {
            **shown,
            "source": None,
            "width": PAGE_SIDE,
            "height": PAGE_SIDE,
            "hover": _hover(row, target, "not readable"),
        }
    pixelated = max(image.size) <= LOSSLESS
    scale = whole_factor(image, PAGE_SIDE) if pixelated else PAGE_SIDE / max(image.size)
    return {
        **shown,
        "source": data_uri(image, lossless=pixelated),
        "width": max(1, round(image.width * scale)),
        "height": max(1, round(image.height * scale)),
        "pixelated": pixelated,
        "hover": _hover(row, target),
    }


def _hover(row: Row, target: float | None, problem: str = "") -> str:
    seed, source = row.get("seed"), row.get("source")
    lines = [
        f"d = {row['difficulty']:.4g}" + ("" if target is None else f", d* = {target:.4g}"),
        f"{row['class_name']}, {row['file_name']}",
        *([] if source is None else [f"from {source}"]),
        *([] if seed is None else [f"seed {seed}"]),
        *([problem] if problem else []),
    ]
    return "\n".join(lines)


def short(difficulty: float) -> str:
    """Three digits of a difficulty, such as ``.042``, and bounds at either end."""
    if difficulty < 0.0005:
        return "<.001"
    return ">.999" if difficulty >= 0.9995 else f"{difficulty:.3f}".removeprefix("0")


def small(pool: Pool, index: int, side: int) -> Image.Image:
    """The image, eight bits a channel, at most ``side`` pixels wide and high.

    Raises:
        UnreadableImageError: the file is no image.
    """
    image = pool.open(index, lambda opened: opened.draft(None, (2 * side, 2 * side)))  # a JPEG is decoded small
    pixels = as_eight_bit(image, 1 if image.mode in {"1", "L", "I", "I;16"} else 3)
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def whole_factor(image: Image.Image, side: int) -> int:
    """By how many whole times the image fits ``side``: pixels stay square and equal."""
    return max(1, side // max(image.size))


def enlarged(image: Image.Image, side: int) -> np.ndarray:
    """The image as ``(height, width, 3)`` uint8, as many whole times larger as fit ``side``."""
    factor = whole_factor(image, side)
    size = (image.width * factor, image.height * factor)
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.NEAREST))


def data_uri(image: Image.Image, *, lossless: bool) -> str:
    """PNG where every pixel counts, else WebP, or JPEG where Pillow was built without it."""
    kind, options = ("PNG", {"optimize": True}) if lossless else ("WEBP", {"quality": 80})
    if kind == "WEBP" and not features.check("webp"):
        kind, options = "JPEG", {"quality": 85}
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()
