"""What a call of the pipeline is given, as flat lists and tensors; refused where images would be wrong."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from copy import deepcopy
from functools import cache
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from dag_diffusion.data.class_names import classes_named
from dag_diffusion.guidance.difficulty_guidance import target_values, targets_for, window
from dag_diffusion.guidance.guided_step import Generators
from dag_diffusion.guidance.schedulers import require_supported, require_trained_timesteps
from dag_diffusion.pipelines.pipeline_output import OUTPUT_TYPES

if TYPE_CHECKING:
    from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline

logger = logging.getLogger(__name__)
MOST_LEFT = 0.02  # of the trained steps, that DDIM may leave undone: of 1,000 10 were not seen and 40 were
ALL_STEPS = (0.0, 1.0)  # an interval of classifier-free guidance
PARTS = ("transformer", "vae", "classifier", "probe", "guidance_vae", "weak_transformer")  # that have weights


def check_inputs(
    pipeline: "DifficultyGuidedPipeline",
    class_labels: Sequence[int],
    targets: Tensor | None,
    output_type: str,
    num_inference_steps: int,
    latents: Tensor | None = None,
    generator: Generators = None,
    callback_tensors: Sequence[str] = (),
) -> None:
    """Refuse what would give wrong images or an error without a way out; see the messages."""
    _require_kinds(output_type, num_inference_steps, latents, generator)
    wrong = [label for label in class_labels if not 0 <= label < pipeline.null_class]
    if wrong or not class_labels:
        raise ValueError(
            f"class labels must be one or more of 0..{pipeline.null_class - 1}, or names, but got {wrong or 'none'}"
        )
    trained = pipeline.scheduler.config.num_train_timesteps
    if not 1 <= num_inference_steps <= trained:
        raise ValueError(f"num_inference_steps is {num_inference_steps}; it must lie in 1..{trained}, as trained")
    if isinstance(generator, list) and len(generator) != len(class_labels):
        raise ValueError(
            f"got {len(generator)} generators for {len(class_labels)} images; give one for each, or one in all"
        )
    if latents is not None and latents.shape != pipeline.latent_shape(len(class_labels)):
        raise ValueError(
            f"latents have shape {tuple(latents.shape)}; the images need {pipeline.latent_shape(len(class_labels))}"
        )
    if latents is not None and not bool(latents.isfinite().all()):
        raise ValueError("latents hold NaN or infinity, of which no image comes; give finite noise, or leave them out")
    if unknown := set(callback_tensors) - set(pipeline._callback_tensor_inputs):
        raise ValueError(
            f"the step callback cannot have {sorted(unknown)}; it can have {pipeline._callback_tensor_inputs}"
        )
    if targets is not None and pipeline.classifier is None:
        raise ValueError(
            "a target difficulty needs a classifier to steer by, and this pipeline has none; "
            "load it with from_pretrained(..., classifier=load_classifier('...'))"
        )
    for name in PARTS:
        if getattr(getattr(pipeline, name), "training", False):
            raise ValueError(
                f"the {name} is in training mode, where it drops labels or units; call {name}.eval() first"
            )
    if targets is not None and torch.is_inference_mode_enabled():
        raise ValueError("guidance needs gradients, which torch.inference_mode() forbids; use torch.no_grad() instead")
    require_supported(pipeline.scheduler, pipeline.transformer.config)
    scheduler = deepcopy(pipeline.scheduler)
    scheduler.set_timesteps(num_inference_steps)
    require_trained_timesteps(scheduler, num_inference_steps)
    if isinstance(pipeline.scheduler, DDIMScheduler) and pipeline.scheduler.config.timestep_spacing == "trailing":
        _warn_of_steps_left(num_inference_steps, trained)


@cache  # once, and not with every batch
def _warn_of_steps_left(steps: int, trained: int) -> None:
    """DDIM goes down by ``trained // steps`` at a time, also where the next timestep is further away."""
    if trained % steps > MOST_LEFT * trained:
        fewer, more = (
            next((n for n in numbers if trained % n == 0), trained)
            for numbers in (range(steps, 0, -1), range(steps, trained))
        )
        logger.warning(
            "num_inference_steps=%d leaves %d of %d steps of noise in the images, since DDIM's own steps stop short of "
            "its trailing timesteps; use a number that divides %d, such as %d or %d",
            steps, trained % steps, trained, trained, fewer, more,
        )  # fmt: skip


def _require_kinds(output_type: Any, num_inference_steps: Any, latents: Any, generator: Any) -> None:
    """Refuse values of another kind, which torch would name by a line of its own."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type is {output_type!r}; choose one of {', '.join(OUTPUT_TYPES)}")
    if not is_whole(num_inference_steps):
        raise ValueError(f"num_inference_steps is {num_inference_steps!r}; give a whole number, such as 50")
    if not isinstance(latents, Tensor | None):
        raise ValueError(f"latents are a {type(latents).__name__}; give a tensor, one latent for each image")
    each = generator if isinstance(generator, list) else [generator]
    if wrong := [type(one).__name__ for one in each if not isinstance(one, torch.Generator | None)]:
        raise ValueError(
            f"generator is a {wrong[0]}; give a torch.Generator, such as torch.Generator().manual_seed(0), or a list "
            "with one for each image"
        )


def require_number(name: str, value: Any) -> float:
    """A setting as a float, ``value`` being any finite number, also in a tensor; else ValueError."""
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if isinstance(number, bool) or not isinstance(number, Real) or not math.isfinite(number):  # NaN would pass for off
        raise ValueError(f"{name} is {value!r}; give a finite number, 1 or less to switch it off")
    return float(number)


def require_config(name: str, given: Any, kind: type) -> None:
    """Refuse options that are no configuration of their kind, such as a dictionary; ValueError."""
    if not isinstance(given, kind):
        raise ValueError(f"{name} is a {type(given).__name__}; give a {kind.__name__}, or leave it out")


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of Python or numpy."""
    return hasattr(value, "__index__") and not isinstance(value, bool | Tensor)


def label_ids(pipeline: "DifficultyGuidedPipeline", class_labels: Any, num_images_per_label: int = 1) -> list[int]:
    """Labels of the images, one each, of ids or names in any nesting."""
    if not is_whole(num_images_per_label) or num_images_per_label < 1:
        raise ValueError(f"num_images_per_label is {num_images_per_label!r}; it must be a whole number of at least 1")
    labels = flat_labels(class_labels, f"classes 0..{pipeline.null_class - 1}")
    ids = [pipeline.get_label_ids(label)[0] if isinstance(label, str) else label for label in labels]
    return [label for label in ids for _ in range(num_images_per_label)]


def flat_labels(given: Any, classes: str) -> list[int | str]:
    """One label, or any nesting of lists, tuples, tensors and arrays of them, as a flat list of names and numbers.

    Args:
        classes: those that there are, for the message.

    Raises:
        ValueError: something is neither a name nor a whole number, or has no order.
    """
    if isinstance(given, Tensor | np.ndarray):
        given = given.reshape(-1).tolist()
    if isinstance(given, str) or is_whole(given):
        return [given if isinstance(given, str) else int(given)]
    if not isinstance(given, Iterable) or isinstance(given, Set | Mapping | bytes):
        raise ValueError(
            f"class label {given!r} is neither a name nor a whole number; there are {classes}, by name or number: give "
            "one label for all images, or a list of them"
        )
    return [label for part in given for label in flat_labels(part, classes)]


def labels_named(given: Any, names: Mapping[int, str], owner: str) -> list[int]:
    """Labels of classes that are given by name or number, in any form that ``flat_labels`` reads.

    Args:
        names: label to class name, of the classes that there are.
        owner: whose they are, for the message.

    Raises:
        ValueError: one is no class of these, or several.
    """
    flat = flat_labels(given, f"{len(names)} classes of {owner} from 0 on")
    found = iter(classes_named([one for one in flat if isinstance(one, str)], names, owner))
    labels = list[int]()
    for one in flat:
        own = next(found) if isinstance(one, str) else [one]
        if len(own) != 1 or own[0] not in names:
            raise ValueError(f"class label {one!r} is no single class of {owner}, which has {len(names)} from 0 on")
        labels += own
    return labels


def as_targets(target: Any, count: int, num_images_per_label: int) -> Tensor | None:
    """Target difficulties as ``(count,)`` float32, or None."""
    if target is None:
        return None
    values = target_values(target)
    if len(values) * num_images_per_label == count:
        values = values.repeat_interleave(num_images_per_label)
    return targets_for(values, count)


def own_interval(interval: tuple[float, float], num_steps: int) -> tuple[float, float]:
    """A pipeline's own interval of classifier-free guidance; all steps, where it holds none of so few."""
    start, stop = interval
    return ALL_STEPS if 0 <= start < stop <= 1 and not window(start, stop, num_steps) else interval


def interval_steps(interval: tuple[float, float], num_steps: int) -> range:
    """Steps of classifier-free guidance, ``[start, stop)`` in fractions of all."""
    try:
        start, stop = interval
        steps = window(start, stop, num_steps) if 0 <= start < stop <= 1 else range(0)
    except (TypeError, ValueError):
        steps = range(0)
    if not steps:
        raise ValueError(
            f"guidance_interval {interval} holds none of {num_steps} steps; give (start, stop) as fractions of them, "
            "0 <= start < stop <= 1, or guidance_scale=1 for no classifier-free guidance"
        )
    return steps
