"""How a pool was drawn and how a set was chosen, in a sentence each, from what ``pool.json`` records.

    "Drawn to 100 modes of real images, not steered to a difficulty; classifier-free guidance 2 from 25% to 75% of the
    steps, autoguidance 1.5."
    "Chosen from pool-guided: the easiest images, equally many of each mode.  The pool: ..."

Other programs may have written a record; what it does not say is left out.
"""

from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from pathlib import PurePath
from typing import Any

from dag_diffusion.data.pools import Pool
from dag_diffusion.data.provenance import SelectionRecord, generation_of, origin_of, selection_of
from dag_diffusion.difficulty import MEASURES
from dag_diffusion.sampling.references import measured_by

METHODS = {
    "histogram": "by the paper's rule, as many at random from each of ten bins of difficulty as the target asks",
    "matching": "those whose difficulties are together nearest to the target's",
    "random": "at random",
    "easiest": "the easiest images",
    "hardest": "the hardest images",
}
SCALES = {"guidance_scale": "classifier-free guidance", "autoguidance_scale": "autoguidance"}


def recipe_of(pool: Pool) -> str:
    """How a pool was drawn, or how a set was chosen and its pool drawn; empty where no record says."""
    selection, settings = selection_of(pool.provenance), generation_of(pool.provenance).get("settings")
    drawn = "" if settings is None else f"{'; '.join(_drawn(settings))}."
    if "method" not in selection:
        return drawn[:1].upper() + drawn[1:]
    origin = PurePath(origin_of(pool.provenance) or "a pool").name
    chosen = f"Chosen from {origin}: {', '.join(_chosen(selection))}."
    return f"{chosen} The pool: {drawn}" if drawn else chosen


def definition_of(pools: Iterable[Pool]) -> str:
    """What the difficulties of pools and sets are, and their targets; by other code they may be anything."""
    guided = ((pool, generation_of(pool.provenance).get("guide")) for pool in pools)
    told = [measured_by(pool) or ("error_probability" if guide else "") for pool, guide in guided]
    measures = {str(by).partition(" ")[0] for by in told}
    said = "1 - p(class | image)" if measures == {"error_probability"} else " or ".join(sorted(measures))
    by = f" = {said} by the classifier that scored the images" if measures <= MEASURES.keys() else ", as it is recorded"
    return (
        f"Difficulty d{by}, from 0 (easy) to 1 (hard). "
        "Target d*: the difficulty that an image was steered to, where it was."
    )


def groups_text(settings: Mapping[str, Any]) -> str:
    """How the images of a class were made as a set; empty if each was made by itself."""
    candidates, diversity = settings.get("noise_candidates", 1), settings.get("diversity")
    parts = [] if candidates == 1 else [f"noise chosen among {candidates} candidates"]
    if isinstance(diversity, Mapping) and diversity.get("scale"):
        parts.append(f"pushed apart at scale {diversity['scale']}")
    return f"of {settings['group_size']}, {', '.join(parts)}" if parts and "group_size" in settings else ""


def _drawn(settings: Mapping[str, Any]) -> Iterator[str]:
    modes, target = settings.get("modes"), settings.get("target")
    to = f"drawn to {modes.get('modes')} modes of real images" if isinstance(modes, Mapping) else "drawn to no modes"
    steered = "not steered to a difficulty" if target is None else f"steered to the target d*, {_name_of(target)}"
    yield f"{to}, {steered}"
    scales = {name: settings.get(name) for name in SCALES}
    on = {name: scale for name, scale in scales.items() if isinstance(scale, Real) and float(scale) > 1}
    if on:
        yield ", ".join(f"{SCALES[name]} {scale:g}{_where(name, settings)}" for name, scale in on.items())
    if groups := groups_text(settings):
        yield f"made in groups {groups}"


def _where(name: str, settings: Mapping[str, Any]) -> str:
    """In which part of the steps a scale holds, if not in all."""
    interval = settings.get("guidance_interval")
    if name != "guidance_scale" or not isinstance(interval, list) or interval == [0, 1]:
        return ""
    return f" from {' to '.join(f'{share:.0%}' for share in interval if isinstance(share, Real))} of the steps"


def _chosen(selection: SelectionRecord) -> Iterator[str]:
    method, target = str(selection["method"]), selection.get("target")
    yield METHODS.get(method, f"by {method}")
    if selection.get("evenly"):
        yield f"equally many of each {selection['evenly']}"
    if "rounds" in selection:
        yield f"in {selection['rounds']} rounds: of later modes what networks trained on earlier ones have yet to learn"
    if selection.get("correct_only"):
        yield "of those that the classifier gets right"
    if selection.get("diversity"):
        yield f"near equals exchanged by {selection['diversity']}"
    if target is not None:
        yield f"target: {_name_of(target)}"


def _name_of(target: Any) -> str:
    if isinstance(target, Mapping) and "reference" in target:
        return "the difficulties of real images"
    return str((target.get("text") or target.get("name")) if isinstance(target, Mapping) else target)
