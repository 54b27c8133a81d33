"""What a person names on the command line, made into pipelines, classifiers, targets and devices."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dag_diffusion.loading import load_guide

if TYPE_CHECKING:
    from dag_diffusion.data.pools import Pool
    from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig
    from dag_diffusion.guidance.mode_guidance import ModeGuidance
    from dag_diffusion.sampling.targets import TargetDistribution


def guidance_named(settings: Sequence[str], scale: float) -> "GuidanceConfig":
    """A configuration from texts such as ``every=2``, each a field of ``GuidanceConfig``."""
    from dataclasses import fields

    from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig

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
    from dag_diffusion.guidance.mode_guidance import WINDOWS, ModeGuidance

    if window and window not in WINDOWS:
        raise ValueError(f"there is no --mode-window {window!r}; choose one of {', '.join(WINDOWS)}, or leave it out")
    start, stop = WINDOWS[window] if window else (ModeGuidance.start, ModeGuidance.stop)
    return ModeGuidance(scale=scale, start=start, stop=stop, proportional=by_size)


def target_of(text: str | None, images: "Pool", class_map: Any, *, needed: bool) -> "TargetDistribution | None":
    """The target that was asked for; else the reference, which a baseline does without where it does not fit."""
    from dag_diffusion.sampling.target_parser import target_named

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
    from dag_diffusion.sampling.scoring import score_pool

    # entropy asks for no class, so that a classifier of other classes can tell images apart too
    options: dict[str, Any] = {"measure": "entropy", "on_error": "skip" if skip else "raise", "features": True}
    return score_pool(images, load_guide(classifier, device), **options, progress=progress).features
