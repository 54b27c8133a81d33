"""A small web app: choose a class and a target difficulty, and see what guidance changes.

    seed, class, i -> noise -> image i without guidance  |  image i at d*, each with d by the guide and by an evaluator

The noise is that of a pool with the same seed.  One request at a time has the pipeline, whose scheduler keeps the state
of a run; the others wait in a queue.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

import torch
from PIL import Image
from torch import nn

from dag_diffusion.classifiers.image_classifiers import picture_margin
from dag_diffusion.data.class_names import distinct_names
from dag_diffusion.generation.plan import image_seed
from dag_diffusion.generation.precision import agreed_precision, network_dtype
from dag_diffusion.progress import Progress, Stage
from dag_diffusion.reporting.figures import PALETTE
from dag_diffusion.reporting.thumbnails import data_uri

from .errors import WRITTEN_FOR_PEOPLE, is_out_of_memory

WAITING = 20  # requests in the queue; later ones are refused at once
INTRODUCTION = """
## How hard should it be?
Difficulty is `d = 1 - p(class | image)` under a classifier: 0 is an image that it is sure of, 1 one that it is sure is
something else. Both rows start from the same noise. In the second, the *guide* steers every image to the difficulty you
ask for{evaluator}
"""
MEASURED_TOO = "; the *evaluator*, an independent classifier, never steers and only measures."


@contextmanager
def in_words() -> Iterator[None]:
    """Errors that are written for people are shown in the page, without a traceback in the terminal."""
    gradio = require_gradio()
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise gradio.Error("The device ran out of memory; ask for fewer images.", print_exception=False) from error
        if isinstance(error, WRITTEN_FOR_PEOPLE):
            raise gradio.Error(str(error), print_exception=False) from error
        raise


def require_gradio() -> Any:
    """The module ``gradio``, without its telemetry.

    Raises:
        ValueError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported and when a page is built
    try:
        import gradio
    except ImportError as error:
        raise ValueError(
            'the app needs gradio, which is not installed; get it with pip install "dag-diffusion[app]"'
        ) from error
    return gradio


def build_app(
    pipeline: Any,
    *,
    evaluator: nn.Module | None = None,
    guidance_scale: float | None = None,
    num_inference_steps: int | None = None,
    precision: str = "auto",
) -> Any:
    """The page as ``gradio.Blocks``; ``launch`` starts it.

    Args:
        pipeline: a ``DifficultyGuidedPipeline`` with a classifier, on its device.
        evaluator: measures beside the guide.
        guidance_scale: of classifier-free guidance, where its slider stands at first; None: the pipeline's own.
        num_inference_steps: of every image; None: the pipeline's own.
        precision: as of ``PoolConfig``.

    Raises:
        ValueError: gradio is missing, the pipeline has no classifier, or the evaluator lacks a class.
    """
    gradio = require_gradio()
    if pipeline.classifier is None:
        raise ValueError("this pipeline has no guide to steer and to measure by; give it a classifier")
    names = distinct_names(pipeline.class_names)
    for scorer in [pipeline.classifier] + ([] if evaluator is None else [evaluator]):
        pipeline.guide(scorer, list(names))  # refuses now what would fail at the first look
    if guidance_scale is None:
        guidance_scale = pipeline.default_guidance_scale
    if num_inference_steps is None:
        num_inference_steps = pipeline.default_num_inference_steps
    respond = _responder(pipeline, evaluator, num_inference_steps, precision)
    with gradio.Blocks(title="dag-diffusion", fill_width=True) as page:
        gradio.Markdown(INTRODUCTION.format(evaluator="." if evaluator is None else MEASURED_TOO))
        with gradio.Row():
            with gradio.Column(scale=1, min_width=260):
                controls = _controls(gradio, names, guidance_scale)
                again = gradio.Button("Draw", variant="primary")
            with gradio.Column(scale=3, min_width=320):
                unguided, steered = gradio.HTML(min_height=200), gradio.HTML(min_height=200)
        gradio.on(
            [page.load, again.click, *(_settled(control) for control in controls)],
            respond,
            controls,
            [unguided, steered],
            api_name="draw",
            trigger_mode="always_last",  # while images are drawn, only the latest wish of a user is kept
            concurrency_limit=1,
            show_progress_on=steered,
        )
    return page.queue(max_size=WAITING)


def _controls(gradio: Any, names: dict[int, str], guidance_scale: float) -> list[Any]:
    """Class, difficulty, guidance scale, number of images and seed, in the order of ``respond``'s arguments."""
    choices = [(name, label) for label, name in names.items()]
    return [
        gradio.Dropdown(choices, value=choices[0][1], label="Class", filterable=True),
        gradio.Slider(0, 1, 0.7, step=0.01, label="Target difficulty d*", info="0 easy, 1 hard, for the guide"),
        gradio.Slider(1, 10, guidance_scale, step=0.1, label="Guidance scale", info="classifier-free; 1 is off"),
        gradio.Slider(1, MOST, 4, step=1, precision=0, label="Images"),
        gradio.Number(0, precision=0, minimum=0, label="Seed", info="of the noise"),
    ]


def _settled(control: Any) -> Any:
    """When a person has let go of a control; a slider that is dragged would else ask at every pixel."""
    return control.release if hasattr(control, "release") else control.change


def _responder(
    pipeline: Any, evaluator: nn.Module | None, steps: int, precision: str
) -> Callable[..., Iterator[tuple]]:
    """What answers a look: first the unguided images, drawn once for all difficulties, then the steered ones."""
    gradio, names = require_gradio(), distinct_names(pipeline.class_names)
    options: dict[str, Any] = {"evaluator": evaluator, "num_inference_steps": steps, "precision": precision}

    @lru_cache(maxsize=64)
    def unguided(label: int, guidance_scale: float, count: int, seed: int) -> str:
        drawn = draw(pipeline, label, None, guidance_scale=guidance_scale, count=count, seed=seed, **options)
        return row_of_images(drawn, "Without difficulty guidance", names[label])

    def respond(
        label: int,
        target: float,
        guidance_scale: float,
        count: int,
        seed: int,
        progress: Any = gradio.Progress(),
    ) -> Iterator[tuple]:
        with in_words():
            if seed is None:
                raise ValueError("the seed is empty; give a whole number of at least 0, such as 0")
            progress((0, steps), desc="without guidance")
            before = unguided(label, guidance_scale, count, seed)
            yield before, gradio.skip()

            def advance(stage: str, done: int, total: int) -> None:
                progress((done, total), desc="steered")

            drawn = draw(
                pipeline,
                label,
                target,
                guidance_scale=guidance_scale,
                count=count,
                seed=seed,
                progress=advance,
                **options,
            )
            yield before, row_of_images(drawn, f"Steered to d* = {target:.2f}", names[label], target)

    return respond


def launch(page: Any, *, host: str | None = None, port: int | None = None, share: bool = False) -> str:
    """Start the page in the background and return its address; ``page.block_thread()`` then waits for Ctrl+C.

    Args:
        host: None: what the environment says, as a Hugging Face Space does, else 127.0.0.1.
        port: None: the first free one from 7860 on.
        share: also a public address, by a tunnel of gradio's makers; the only thing here that leaves this machine.

    Raises:
        OSError: the port is in use, or the host is no address of this machine.
    """
    gradio = require_gradio()
    # fonts of the machine, since gradio's own themes name some that browsers fetch elsewhere
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    started = {"prevent_thread_lock": True, "quiet": True, "ssr_mode": False, "footer_links": []}
    try:
        _, local, public = page.launch(
            server_name=host, server_port=port, share=share, theme=theme, css=STYLE, **started
        )
    except (OSError, ValueError) as error:
        raise OSError(
            f"the app cannot be served at {host or 'this machine'}, port {port or 'any'} ({str(error).split('.')[0]}); "
            "give another port or host"
        ) from error
    return public or local


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
    guidance_scale: float | None = None,
    num_inference_steps: int | None = None,
    seed: int = 0,
    count: int = 4,
    precision: str = "auto",
    progress: Progress | None = None,
) -> Drawn:
    """``count`` images of one class, the first ones of a pool with this seed.

    Args:
        pipeline: with a classifier; its images have 8 bits when they are measured.
        target: difficulty in [0, 1]; None draws without difficulty guidance.
        evaluator: another classifier that knows the class by name.
        guidance_scale, num_inference_steps: as of the pipeline.
        precision: as of ``PoolConfig``.
        progress: called with stage, done and total.

    Raises:
        ValueError: as the pipeline does, or a count outside 1..``MOST``.
    """
    if not 1 <= count <= MOST:
        raise ValueError(f"{count} images were asked for; the app draws 1 to {MOST} at a time, so choose one of these")

    steps = Stage("steps", num_inference_steps or pipeline.default_num_inference_steps, progress)

    def count_step(pipe: Any, step: int, timestep: Any, given: dict) -> dict:
        steps()
        return {}

    output = pipeline(
        [label] * count,
        target_difficulty=target,
        guidance_scale=guidance_scale,
        num_inference_steps=num_inference_steps,
        generator=[torch.Generator().manual_seed(image_seed(seed, label, index)) for index in range(count)],
        callback_on_step_end=count_step,
        network_dtype=network_dtype(agreed_precision(precision, pipeline), pipeline),
    )
    measured = None if evaluator is None else difficulties_by(evaluator, pipeline, output.images, label)
    return Drawn(output.images, output.difficulties.tolist(), measured)


def difficulties_by(evaluator: nn.Module, pipeline: Any, images: list[Image.Image], label: int) -> list[float]:
    """What another classifier finds of 8-bit images of one of the pipeline's classes, each in [0, 1]."""
    scorer = pipeline.guide(evaluator, [label] * len(images))
    with torch.inference_mode():
        margins = picture_margin([scorer], images)
    return torch.sigmoid(-margins).tolist()


def row_of_images(drawn: Drawn, title: str, alt: str, target: float | None = None) -> str:
    """HTML of one row: the mean difficulties, and under each image a bar for every classifier that measured it.

    The images themselves are in it, so that a page holds no file that another user could ask for.

    Args:
        title, alt: plain text.
        target: marked on the guide's bars.
    """
    measured = {"guide": drawn.by_guide} | ({} if drawn.by_evaluator is None else {"evaluator": drawn.by_evaluator})
    means = ", ".join(f"{sum(values) / len(values):.2f} by the {name}" for name, values in measured.items())
    figures = []
    for i, image in enumerate(drawn.images):
        bars = "".join(
            _bar(name, values[i], target if name == "guide" else None, PALETTE[number][0])
            for number, (name, values) in enumerate(measured.items())
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
