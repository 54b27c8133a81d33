"""What ``pool.json`` records, read with types: how a pool was generated, and how a set was chosen from it.

    pool:  pipeline, guide, settings, classes, versions, ...        set:  selection, and the record of its pool

Other programs may have written a record, so a part that is something else than expected counts as absent.
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, TypedDict, cast

AMONG_SET = " among the set's classes"  # after the measure, where records say what was measured


class GenerationRecord(TypedDict, total=False):
    """What ``fill_pool`` records; see ``generation.provenance``."""

    pipeline: str
    guide: str | None
    weak: str
    weights: dict[str, str | None]
    dtype: str
    settings: dict[str, Any]
    classes: dict[str, str]
    versions: dict[str, str]
    extra_guides: list[list[str]]
    drawn_by: dict[str, Any]
    redrawn: int


class SelectionRecord(TypedDict, total=False):
    """What ``subsample`` records: the fields of its ``SelectionRule`` and these; ``rounds`` where there were some."""

    method: str
    scale: str
    evenly: str
    diversity: str | None
    rounds: int
    ipc: int
    seed: int
    target: dict[str, Any] | None
    classes: list[dict[str, Any]]


# how the images of one class were chosen; a class statement cannot have a field called class
ClassSelection = TypedDict(
    "ClassSelection",
    {
        "class": str,
        "quotas": list[int],
        "found": list[int],
        "deficits": list[int],
        "scale": list[float],
        "distance": float | None,
        "floor": float | None,
    },
    total=False,
)


def generation_of(provenance: Any) -> GenerationRecord:
    """How a pool was generated, also the pool that a set was chosen from; empty if no record says."""
    while isinstance(provenance, dict):
        if isinstance(provenance.get("settings"), dict) and "images_per_class" in provenance["settings"]:
            return cast(GenerationRecord, provenance)
        provenance = provenance.get("pool") or provenance.get("source")
    return {}


def selection_of(provenance: Mapping[str, Any]) -> SelectionRecord:
    """How a set was chosen; empty for a pool, and for a set that other programs made."""
    record = provenance.get("selection")
    return cast(SelectionRecord, record) if isinstance(record, dict) else {}


def class_selections(selection: SelectionRecord) -> list[ClassSelection]:
    """How the images of each class were chosen; classes whose record is not complete are left out."""
    classes, needed = selection.get("classes"), {"class", "quotas", "found", "deficits", "distance", "floor"}
    if not isinstance(classes, list):
        return []
    return [cast(ClassSelection, one) for one in classes if isinstance(one, dict) and needed <= one.keys()]


def origin_of(provenance: Mapping[str, Any]) -> str | None:
    """Where the pool of a set was; None for a pool, and where no record says."""
    pool = provenance.get("pool")
    return str(pool["path"]) if selection_of(provenance) and isinstance(pool, dict) and "path" in pool else None


def measure_text(measure: str, among: str) -> str:
    """The measure as ``difficulty_by`` says it, such as ``error_probability among the set's classes``."""
    return measure if among == "all" else f"{measure}{AMONG_SET}"


def measured_among(provenance: Any) -> str:
    """The classes that difficulties were measured among as a pool was drawn; empty for all of the guide's."""
    generated = generation_of(provenance)
    guidance = generated["settings"].get("difficulty_guidance") if generated else None
    return "the set's classes" if isinstance(guidance, dict) and guidance.get("among", "all") == "set" else ""


def real_images_of(provenance: Mapping[str, Any]) -> str:
    """A sentence on the real images behind a set that was distilled from a folder; empty where no record says."""
    found = provenance.get("images")
    if not isinstance(found, dict) or not {"source", "found", "training", "test"} <= found.keys():
        return ""
    left_out = found.get("left_out") or {}
    names = ", ".join(f"{count} {str(name).replace('_', ' ')}" for name, count in left_out.items())
    weighed = f"; weighed by balance={found['balance']}" if found.get("balance") else ""
    return (
        f"{found['found']} images of {PurePath(str(found['source'])).name}: {found['training']} to train on{weighed}, "
        f"{found['test']} to test on" + (f"; left out: {names}" if names else "")
    )
