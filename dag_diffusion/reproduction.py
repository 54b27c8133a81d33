"""The commands that make a pool or a distilled set again, put together from what its ``pool.json`` records.

    pool.json -> dag-diffusion generate pool ... ; dag-diffusion subsample pool set ...

Options that are at their default are left out.  What a record cannot hold, such as a file of modes, stands in capitals.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

Record = Mapping[str, Any]


def commands_of(provenance: Record) -> list[str]:
    """Commands for a shell, in the order in which they are given; none for images that somebody else made."""
    generated, selection = generation_of(provenance), provenance.get("selection")
    pool = "pool" if generated else "POOL"
    commands = [_line("generate", pool, *_generate(generated))] if generated else []
    if isinstance(selection, dict) and "method" in selection:
        commands.append(_line("subsample", pool, "distilled", *_subsample(selection)))
    return commands


def generation_of(provenance: Any) -> Record:
    """What ``generate`` recorded of the pool, also of one that a set was chosen from; empty if there is nothing."""
    while isinstance(provenance, dict):
        if isinstance(provenance.get("settings"), dict) and "images_per_class" in provenance["settings"]:
            return provenance
        provenance = provenance.get("pool") or provenance.get("source")
    return {}


def _line(*words: Any) -> str:
    return shlex.join(["dag-diffusion", *map(str, words)])


def _generate(record: Record) -> Iterator[Any]:
    settings, source = record["settings"], record.get("pipeline", "")
    yield from ("--images-per-class", settings["images_per_class"])
    if source != "embedded default":
        yield from ("--pipeline", source)
    guide = record.get("guide")
    if guide and guide != f"classifier of {source}":
        yield from ("--classifier", guide)
    if settings.get("target") is not None:
        yield from ("--target", target_text(settings["target"]))
    if settings.get("labels") is not None:
        yield from ("--classes", ";".join(map(str, settings["labels"])))
    yield from ("--num-inference-steps", settings.get("num_inference_steps"))
    yield from ("--guidance-scale", settings.get("guidance_scale"))
    yield from _guidance(settings.get("difficulty_guidance") or {}, steered=settings.get("target") is not None)
    yield from _modes(settings)
    for name in (one[0] for one in record.get("extra_guides") or []):
        yield from ("--extra-guide", name)
    if record.get("reference_classifier"):
        yield from ("--reference-classifier", record["reference_classifier"][0])
    if record.get("dtype") not in (None, "float32"):
        yield from ("--precision", record["dtype"])
    yield from ("--seed", settings.get("seed"))


def _guidance(given: Record, *, steered: bool) -> Iterator[Any]:
    from .guidance import GuidanceConfig

    if not steered:
        return
    for name, value in given.items():
        if name == "scale" and value != GuidanceConfig.scale:
            yield from ("--difficulty-guidance-scale", value)
        elif value != getattr(GuidanceConfig, name, None):
            yield from ("--guidance", f"{name}={value}")


def _modes(settings: Record) -> Iterator[Any]:
    from .modes import WINDOWS

    given = settings.get("mode_guidance")
    if settings.get("modes") is None or not isinstance(given, dict):
        return
    yield from ("--modes", "MODES.safetensors", "--mode-scale", given.get("scale"))
    if windows := [name for name, window in WINDOWS.items() if window == (given.get("start"), given.get("stop"))]:
        yield from ("--mode-window", windows[0])
    if given.get("proportional"):
        yield "--modes-by-size"


def _subsample(selection: Record) -> Iterator[Any]:
    from .selection import SelectionRule

    yield from ("--ipc", selection.get("ipc"))
    if selection.get("target") is not None:
        yield from ("--target", target_text(selection["target"]))
    for option in fields(SelectionRule):
        if option.name in selection and selection[option.name] != option.default:
            yield from (f"--{option.name}", selection[option.name])
    yield from ("--seed", selection.get("seed"))


def target_text(summary: Record) -> str:
    """What ``--target`` takes for a recorded target; ``TARGET`` for one that no text names."""
    from .targets import PRESETS

    name, shares = str(summary.get("name", "")), summary.get("shares")
    knots: Any = summary.get("difficulties")
    if name in PRESETS or name == "reference":
        return name
    if shares:
        return ",".join(f"{share:g}" for share in shares)
    if knots and len(knots) == 1:
        return repr(knots[0])
    if name.startswith("uniform("):
        return f"quantiles:{knots[0]:g},{knots[-1]:g}"
    if name.startswith("beta("):
        return f"beta:{name[5:-1].replace(' ', '')}"
    return "TARGET"
