"""What ``steer`` does to a pipeline for a time: its scheduler's calls are guided, and sizes of packed latents are seen.

Nothing else of a pipeline is touched, and afterwards it is as it was, on an error too.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from threading import Lock
from typing import Any

from torch import Tensor

from dag_diffusion.guidance.rates import require_family
from dag_diffusion.guidance.schedulers import SCHEDULERS, require_trained_timesteps
from dag_diffusion.pipelines.latents import Unpack, unpacking

Guided = Callable[[Any, Tensor, Any, Tensor, int], tuple[Tensor, Tensor]]
_TAKING = Lock()  # a scheduler is steered once, whichever threads ask


def require_steerable(pipeline: Any) -> None:
    """Refuse a pipeline that ``steer`` cannot guide; ValueError says why."""
    name = type(pipeline).__name__
    for part in ("vae", "scheduler"):
        if getattr(pipeline, part, None) is None:
            raise ValueError(
                f"{name} has no {part}; steer needs a pipeline that draws latents by a scheduler and decodes them"
            )
    if any(kind.__name__ == "DiTPipeline" for kind in type(pipeline).__mro__):
        raise ValueError(
            f"{name} doubles its latents, which steer would guide twice; call DifficultyGuidedPipeline of the same "
            f"parts with target_difficulty=, under one of {', '.join(SCHEDULERS)}"
        )
    require_family(pipeline.scheduler)


@contextmanager
def guided_calls(pipeline: Any, guided: Guided, begin: Callable[[], None], generator: Any) -> Iterator[None]:
    """Let each call of the scheduler's step go through ``guided``, and tell when a run begins.

    Its class changes for the time, and not an attribute: pipelines ask for the signature of the step, and a deep copy
    or a pickle of the scheduler is a plain one.

    Args:
        pipeline: whose scheduler it is; its own number of calls counts where it starts in the middle.
        guided: scheduler, answer, timestep, sample and number of calls -> answer and sample.
        begin: called before each run.
        generator: handed to a step that takes one where the pipeline does not.

    Raises:
        ValueError: the scheduler is steered already, or there is none.
    """
    if (scheduler := getattr(pipeline, "scheduler", None)) is None:
        require_steerable(pipeline)
    plain: Any = type(scheduler)
    draws = "generator" in inspect.signature(plain.step).parameters

    @wraps(plain.step)
    def step(self: Any, model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self is scheduler:
            calls = getattr(pipeline, "num_timesteps", None) or len(scheduler.timesteps)
            model_output, sample = guided(scheduler, model_output, timestep, sample, calls)
            if draws and generator is not None and kwargs.get("generator") is None:
                # one for each image; DiTPipeline steps twice as many rows, and drops the second half
                rows = len(sample) // len(generator) if isinstance(generator, list) else 1
                kwargs["generator"] = generator * rows if rows > 1 else generator
        return plain.step(self, model_output, timestep, sample, *args, **kwargs)

    @wraps(plain.set_timesteps)
    def set_timesteps(self: Any, *args: Any, **kwargs: Any) -> None:
        plain.set_timesteps(self, *args, **kwargs)
        if self is scheduler:
            if (asked := kwargs.get("num_inference_steps", args[0] if args else None)) is not None:
                require_trained_timesteps(self, asked)
            begin()

    def reduce(self: Any, protocol: Any) -> Any:
        return object.__new__, (plain,), *plain.__reduce_ex__(self, protocol)[2:]

    names = {name: getattr(plain, name) for name in ("__module__", "__qualname__", "__doc__")}
    body = names | {"step": step, "set_timesteps": set_timesteps, "__reduce_ex__": reduce, "is_steered": True}
    with _TAKING:
        if getattr(scheduler, "is_steered", False):
            raise ValueError(
                f"this {plain.__name__} is steered already; leave the other block first, or give the pipeline a "
                "scheduler of its own by from_config(pipeline.scheduler.config)"
            )
        scheduler.__class__ = type(plain.__name__, (plain,), body)
    try:
        yield
    finally:
        scheduler.__class__ = plain


@contextmanager
def seen_size(pipeline: Any, tell: Callable[[Unpack], None]) -> Iterator[None]:
    """Tell how to unpack latents of a pipeline that packs them, which do not say their size, whenever it makes some."""
    known = ("latents", "height", "width", "vae_scale_factor")
    unpack = getattr(pipeline, "_unpack_latents", None)
    if unpack is None or tuple(inspect.signature(unpack).parameters) != known:
        yield
        return
    prepare = pipeline.prepare_latents

    @wraps(prepare)
    def prepare_latents(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(prepare).bind(*args, **kwargs).arguments
        tell(unpacking(unpack, given["height"], given["width"], pipeline.vae_scale_factor))
        return prepare(*args, **kwargs)

    pipeline.prepare_latents = prepare_latents
    try:
        yield
    finally:
        del pipeline.prepare_latents
