"""What a person names on the command line, made into pipelines, classifiers, targets and devices."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .guidance import GuidanceConfig
    from .modes import ModeGuidance, Modes
    from .pools import Pool
    from .targets import TargetDistribution


def hide_loading_bars() -> None:
    """Loading from disk takes a second and needs no bars; downloads keep theirs."""
    import diffusers
    import huggingface_hub.utils as hub
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    hub.enable_progress_bars()


def load_pipeline(
    name: str,
    classifier: str,
    device: str,
    *,
    probe: str = "",
    use_safetensors: bool | None = True,
    dtype: "torch.dtype | None" = None,
) -> Any:
    """A pipeline with its guide on its device; the embedded one if no name is given.

    Args:
        probe: folder or Hub id, ``none``, or empty for the pipeline's own, which another classifier makes useless.
        use_safetensors: True refuses .bin files, None falls back to them.
        dtype: of all parts; None keeps each as it was saved.
    """
    from pickle import UnpicklingError  # of a .bin that holds more than weights

    from safetensors import SafetensorError

    from . import embedded
    from .pipelines.difficulty_guided import DifficultyGuidedPipeline
    from .probes import load_probe

    hide_loading_bars()
    device = device_named(device)
    options = {"classifier": load_guide(classifier, device)} if classifier else {}
    if probe not in ("", "none"):
        options["probe"] = load_probe(probe)
    elif classifier or probe == "none":
        options["probe"] = None
    try:
        pipeline = DifficultyGuidedPipeline.from_pretrained(
            name or embedded.PIPELINE, use_safetensors=use_safetensors, **options
        )
    except UnpicklingError as error:
        raise ValueError(f"{name} has a .bin file that holds more than weights, so that it is not read") from error
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{name} cannot be loaded as a DiT pipeline ({error}); give its folder or Hub id") from error
    pipeline.set_progress_bar_config(disable=True)
    return in_precision(pipeline, dtype).to(device)


def in_precision(pipeline: Any, dtype: "torch.dtype | None") -> Any:
    """The pipeline in one precision; a VAE that asks for it stays in float32, since it overflows in float16."""
    import torch

    if dtype is not None:
        pipeline.to(dtype)
        if dtype == torch.float16 and pipeline.vae.config.get("force_upcast"):
            pipeline.vae.to(torch.float32)
    return pipeline


def device_named(name: str) -> str:
    """The device of that name, or the one that accelerate finds, tried out with one number."""
    import torch

    from .processes import this_process

    device = name or str(this_process().device)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"the device {device!r} is not to be had ({reason}); use --device cpu") from error
    return device


def load_guide(name: str, device: str, dtype: "torch.dtype | None" = None) -> Any:
    """A classifier on its device, in its own precision or another; the embedded guide if no name is given."""
    from . import embedded
    from .classifiers import load_classifier

    hide_loading_bars()
    return load_classifier(name or embedded.PIPELINE / "classifier").to(device_named(device), dtype)


def guidance_named(settings: Sequence[str], scale: float) -> "GuidanceConfig":
    """A configuration from texts such as ``recurrence=2``, each a field of ``GuidanceConfig``."""
    from dataclasses import fields

    from .guidance import GuidanceConfig

    defaults: dict[str, Any] = {field.name: field.default for field in fields(GuidanceConfig)}
    given: dict[str, Any] = {"scale": scale}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in defaults:
            raise ValueError(
                f"--guidance {setting!r} names no option; write NAME=VALUE with one of {', '.join(defaults)}"
            )
        try:
            given[name] = type(defaults[name])(text)
        except ValueError as error:
            kind = type(defaults[name]).__name__
            raise ValueError(f"--guidance {name} needs a value of type {kind}, but got {text!r}") from error
    return GuidanceConfig(**given)


def mode_guidance_named(scale: float, window: str, by_size: bool) -> "ModeGuidance":
    """Mode guidance with a published window, or its own if the name is empty."""
    from .modes import WINDOWS, ModeGuidance

    if window and window not in WINDOWS:
        raise ValueError(f"there is no --mode-window {window!r}; choose one of {', '.join(WINDOWS)}, or leave it out")
    start, stop = WINDOWS[window] if window else (ModeGuidance.start, ModeGuidance.stop)
    return ModeGuidance(scale, start, stop, by_size)


def load_guides(names: Sequence[str], device: str, dtype: "torch.dtype | None" = None) -> list[Any]:
    """Several classifiers on their device."""
    return [load_guide(name, device, dtype) for name in names]


def precision_named(name: str) -> Any:
    """The torch dtype of that name; None for an empty one."""
    import torch

    if name not in ("", "float32", "float16", "bfloat16"):
        raise ValueError(f"--precision {name!r} is none; choose float32, float16 or bfloat16, or leave it out")
    return getattr(torch, name) if name else None


def modes_named(path: Path, class_names: dict[int, str]) -> "Modes":
    """Modes from a file, with the labels of a pipeline's classes, matched by name."""
    from dataclasses import replace

    import torch

    from .class_names import match_classes
    from .modes import Modes

    modes = Modes.load(path)
    table = match_classes(modes.class_names, class_names, "the pipeline")
    labels = torch.tensor([table[label] for label in modes.labels.tolist()])
    return replace(modes, labels=labels, class_names={table[k]: name for k, name in modes.class_names.items()})


def modes_found(
    pipeline: Any,
    real: "Pool",
    per_class: int,
    target: "TargetDistribution | None",
    *,
    average: int,
    seed: int,
    batch_size: int,
    progress: Callable[[int], None],
) -> "Modes":
    """Modes of a folder of real images, by difficulty if a target is given; images without a score are scored."""
    from dataclasses import replace

    import numpy as np

    from .modes import encode_pool, find_difficulty_modes, find_modes
    from .scoring import score_pool

    scored = not np.isnan(real.known_difficulties).any()
    if target is not None and not scored and pipeline.classifier is None:
        raise ValueError(
            "modes by difficulty need scores, and this pipeline has no guide; give --classifier to score by"
        )
    latents = encode_pool(pipeline.vae, real, size=pipeline.image_size[0], batch_size=batch_size, progress=progress)
    options: dict[str, Any] = {"class_names": real.class_names, "average": average, "seed": seed}
    if target is None:
        modes = find_modes(latents, real.labels, per_class, **options)
    else:
        values = real.difficulties if scored else score_pool(real, pipeline.classifier).difficulties
        modes = find_difficulty_modes(latents, real.labels, values, per_class, target, **options)
    return replace(modes, vae=str(pipeline.config.get("_name_or_path") or "embedded default"))


def labels_named(pipeline: Any, classes: str) -> list[int] | None:
    """Labels of "name; name; 3", or None for an empty text, which means all."""
    if not classes:
        return None
    names = [name.strip() for name in classes.split(";") if name.strip()]
    return [int(name) if name.isdecimal() else pipeline.get_label_ids(name)[0] for name in names]


def target_of(text: str | None, images: "Pool", class_map: Any, *, needed: bool) -> "TargetDistribution | None":
    """The target that was asked for; else the reference, which a baseline does without where it does not fit."""
    from .target_texts import target_named

    if text is None and not needed and any(row.get("difficulty") is None for row in images.rows):
        return None
    try:
        scored_by = str(images.rows[0].get("difficulty_by") or "")
        return target_named(text or "reference", images.class_names, class_map=class_map, scored_by=scored_by)
    except ValueError:
        if needed or text is not None:
            raise
        return None


def features_of(images: "Pool", classifier: str, device: str, *, skip: bool, progress: Callable[[int], None]) -> Any:
    """What a classifier's last layer sees of each image, ``(images, dim)``."""
    from .scoring import score_pool

    # entropy asks for no class, so that a classifier of other classes can tell images apart too
    options: dict[str, Any] = {"measure": "entropy", "on_error": "skip" if skip else "raise", "features": True}
    return score_pool(images, load_guide(classifier, device), **options, progress=progress).features
