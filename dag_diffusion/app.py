"""A small web app: choose a class and how hard its images shall be, and see what steering changes.

    noise(seed, i) -> image i without guidance  |  image i at d*, each with d by the guide and by an evaluator

The noise is that of a pool with the same seed.  One request at a time has the pipeline, whose scheduler keeps the state
of a run; the others wait in a queue.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from torch import nn

from .app_images import MOST, STYLE, draw, row_of_images
from .class_names import distinct_names

WAITING = 20  # requests in the queue; whoever comes later is told so at once
INTRODUCTION = """
## How hard shall it be?
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
    except (ValueError, FloatingPointError, OSError) as error:
        raise gradio.Error(str(error), print_exception=False) from error
    except RuntimeError as error:
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        raise gradio.Error("The device ran out of memory; ask for fewer images.", print_exception=False) from error


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
    guidance_scale: float = 1.5,
    num_inference_steps: int = 20,
) -> Any:
    """The page as ``gradio.Blocks``; ``launch`` starts it.

    Args:
        pipeline: a ``DifficultyGuidedPipeline`` with a classifier, on its device.
        evaluator: measures beside the guide.
        guidance_scale: of classifier-free guidance, where its slider stands at first.
        num_inference_steps: of every image.

    Raises:
        ValueError: gradio is missing, the pipeline has no classifier, or the evaluator lacks a class.
    """
    gradio = require_gradio()
    if pipeline.classifier is None:
        raise ValueError("this pipeline has no guide to steer and to measure by; give a classifier (--classifier)")
    names = distinct_names(pipeline.class_names)
    for judge in [pipeline.classifier] + ([] if evaluator is None else [evaluator]):
        pipeline.guide(judge, list(names))  # refuses now what would fail at the first look
    respond = _responder(pipeline, evaluator, num_inference_steps)
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


def _responder(pipeline: Any, evaluator: nn.Module | None, steps: int) -> Callable[..., Iterator[tuple]]:
    """What answers a look: first the unguided images, drawn once for all difficulties, then the steered ones."""
    gradio, names = require_gradio(), distinct_names(pipeline.class_names)
    options: dict[str, Any] = {"evaluator": evaluator, "num_inference_steps": steps}

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
        progress: Any = gradio.Progress(),  # noqa: B008 - gradio finds it by this default
    ) -> Iterator[tuple]:
        with in_words():
            if seed is None:
                raise ValueError("the seed is empty; give a whole number of at least 0, such as 0")
            progress((0, steps), desc="without guidance")
            before = unguided(label, guidance_scale, count, seed)
            yield before, gradio.skip()

            def tell(done: int, total: int) -> None:
                progress((done, total), desc="steered")

            given: dict[str, Any] = {"guidance_scale": guidance_scale, "count": count, "seed": seed, "on_step": tell}
            drawn = draw(pipeline, label, target, **given, **options)
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
            "give another by --port or --host"
        ) from error
    return public or local
