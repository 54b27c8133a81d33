"""The images of one look in the app: drawn from the noise of a pool, measured, and laid out in a row of HTML.

seed, class, i -> noise -> image i -> d by the guide, d by an evaluator -> a bar of that length below it
"""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import torch
from PIL import Image
from torch import nn

from .difficulty import mean_margin
from .figures import PALETTE
from .plans import image_seed
from .pools import as_eight_bit
from .report_images import data_uri

MOST = 8  # images at a time: two rows of them on a laptop's screen, and a few seconds of its processor
SMALL = 100  # pixels; browsers would blur smaller images when they enlarge them
STYLE = """
.looks > div { display: flex; flex-wrap: wrap; gap: 14px }
.looks p { margin: 0 0 8px } .looks figure { margin: 0; width: clamp(120px, 22%, 180px) }
.looks img { width: 100%; border-radius: 6px; margin-bottom: 4px } .looks img.small { image-rendering: pixelated }
.looks figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; font-size: 12px }
.looks figcaption div { position: relative; flex: 100%; height: 5px; border-radius: 3px;
    background: var(--border-color-primary) }
.looks figcaption div b { display: block; height: 5px; border-radius: 3px }
.looks figcaption div i { position: absolute; top: -2px; width: 2px; height: 9px; background: var(--body-text-color) }
"""


@dataclass(frozen=True)
class Drawn:
    """Images of one class, and how hard each is: ``by_evaluator`` is None where there is none."""

    images: list[Image.Image]
    by_guide: list[float]
    by_evaluator: list[float] | None


def draw(
    pipeline: Any,
    label: int,
    target: float | None,
    *,
    evaluator: nn.Module | None = None,
    guidance_scale: float = 1.5,
    num_inference_steps: int = 20,
    seed: int = 0,
    count: int = 4,
    on_step: Callable[[int, int], None] | None = None,
) -> Drawn:
    """``count`` images of one class, the first ones of a pool with this seed.

    Args:
        pipeline: with a classifier; its images have 8 bits when they are measured.
        target: difficulty in [0, 1]; None draws without difficulty guidance.
        evaluator: another classifier that knows the class by name.
        guidance_scale, num_inference_steps: as of the pipeline.
        on_step: called with the number of steps done and of all.

    Raises:
        ValueError: as the pipeline does, or a count outside 1..``MOST``.
    """
    if not 1 <= count <= MOST:
        raise ValueError(f"{count} images were asked for; the app draws 1 to {MOST} at a time, so choose one of these")

    def told(pipe: Any, step: int, timestep: Any, given: dict) -> dict:
        if on_step is not None:
            on_step(step + 1, num_inference_steps)
        return {}

    output = pipeline(
        [label] * count,
        target_difficulty=target,
        guidance_scale=guidance_scale,
        num_inference_steps=num_inference_steps,
        generator=[torch.Generator().manual_seed(image_seed(seed, label, index)) for index in range(count)],
        callback_on_step_end=told,
    )
    measured = None if evaluator is None else difficulties_by(evaluator, pipeline, output.images, label)
    return Drawn(output.images, output.difficulties.tolist(), measured)


def difficulties_by(evaluator: nn.Module, pipeline: Any, images: list[Image.Image], label: int) -> list[float]:
    """What another classifier finds of 8-bit images of one of the pipeline's classes, each in [0, 1]."""
    channels = 1 if images[0].mode == "L" else 3
    pixels = torch.stack([torch.from_numpy(as_eight_bit(image, channels).copy()) for image in images])
    judge = pipeline.guide(evaluator, [label] * len(images))
    with torch.inference_mode():
        margins = mean_margin([judge], pixels.permute(0, 3, 1, 2).float().to(judge.labels.device) / 255)
    return torch.sigmoid(-margins).tolist()


def row_of_images(drawn: Drawn, title: str, alt: str, target: float | None = None) -> str:
    """HTML of one row: the mean difficulties, and under each image a bar for every classifier that measured it.

    The images themselves are in it, so that a page holds no file that another user could ask for.

    Args:
        title, alt: plain text.
        target: marked on the guide's bars.
    """
    judged = {"guide": drawn.by_guide} | ({} if drawn.by_evaluator is None else {"evaluator": drawn.by_evaluator})
    means = ", ".join(f"{sum(values) / len(values):.2f} by the {name}" for name, values in judged.items())
    figures = []
    for i, image in enumerate(drawn.images):
        bars = "".join(
            _bar(name, values[i], target if name == "guide" else None, PALETTE[number][0])
            for number, (name, values) in enumerate(judged.items())
        )
        small = " class='small'" if max(image.size) < SMALL else ""
        described = escape(f"{alt}, image {i + 1}", quote=True)
        figures.append(f'<figure><img{small} src="{data_uri(image, lossless=True)}" alt="{described}">{bars}</figure>')
    heading = f"<p><b>{escape(title)}</b> &nbsp; mean d = {means}</p>"
    return f"<div class='looks'>{heading}<div>{''.join(figures)}</div></div>"


def _bar(name: str, value: float, target: float | None, color: str) -> str:
    mark = "" if target is None else f"<i style='left: {100 * target:.1f}%'></i>"
    bar = f"<div><b style='width: {100 * value:.1f}%; background: {color}'></b>{mark}</div>"
    return f"<figcaption><span>{name}</span><span>{value:.2f}</span>{bar}</figcaption>"
