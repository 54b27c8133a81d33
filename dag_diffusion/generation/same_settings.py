"""Whether a pool is gone on with as it was begun: its record against that of the run that would go on.

Reads records alone, so that a look at a growing pool needs neither torch nor diffusers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dag_diffusion.data.files import differences, read_json_object, recorded
from dag_diffusion.data.pools import PROVENANCE

DETAILS, CONFIGS = "drawn_by", "configs"
PARTS = ("pipeline", "guide", "weights", CONFIGS, "extra_guides", "dtype", "scheduler", "settings", "classes", DETAILS)
NAMES = ("pipeline was", "guide was")  # as differences begin
OF_MODELS = ("weights", CONFIGS, "extra_guides")
SHOWN = 5
ALL_STEPS = (0.0, 1.0)  # an interval of classifier-free guidance
UNUSED = (None, 1.0)  # scales of autoguidance without which the weak denoiser draws nothing


def require_same_settings(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Check that a pool was begun with the settings that would go on with it.

    Models compare by their digests, where both records have them, so that they may be given by another path.

    Raises:
        ValueError: it was not; up to five settings that differ are named.
    """
    before, after = ({k: json.loads(json.dumps(recorded(p.get(k)))) for k in PARTS} for p in (old, new))
    if isinstance(before["settings"], dict) and isinstance(after["settings"], dict):
        before["settings"] = _once(old, after["settings"]) | before["settings"]
        for record in (before, after):
            record["settings"] = _drawn_by(record["settings"])
        if before["settings"]["autoguidance_scale"] in UNUSED and after["settings"].get("autoguidance_scale") in UNUSED:
            for record in (before, after):
                for part in ("weights", CONFIGS):
                    (record[part] or {}).pop("weak_transformer", None)
    for part in (CONFIGS, DETAILS):  # what records did not tell once
        if isinstance(before[part], dict) and isinstance(after[part], dict):
            after[part] = {name: value for name, value in after[part].items() if name in before[part]}
    if CONFIGS not in old:  # from before configurations, and lists among those of schedulers, were recorded
        after[CONFIGS], told = None, before["scheduler"] or {}
        after["scheduler"] = {k: v for k, v in (after["scheduler"] or {}).items() if k in told}
    names = [(record["scheduler"] or {}).get("name") for record in (before, after)]
    if names[0] != names[1]:  # which says more than the options that only one of them has
        for record, name in zip((before, after), names, strict=True):
            record["scheduler"] = name
    differing = list(differences(_by_content(before), _by_content(after)))
    if any(one.startswith(OF_MODELS) for one in differing):  # then the names help
        differing = sorted(differences(before, after), key=lambda one: not one.startswith(NAMES))
    if differing := [one.removeprefix("settings.") for one in differing]:
        raise ValueError(
            f"{folder} was begun with other settings: {'; '.join(differing[:SHOWN])}; give the same ones, or another "
            "folder"
        )


def _by_content(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the names of models, if weights and configurations are told by their digests."""
    if not record[CONFIGS] or not any((record["weights"] or {}).values()):
        return record
    guides = [digest for _, digest in record["extra_guides"] or []]
    return {**record, "pipeline": None, "guide": None, "extra_guides": guides}


def _drawn_by(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without what draws nothing: guidances that a pool does not use, whose defaults may have changed, and order."""
    labels = settings.get("labels")
    ordered = {"labels": sorted(labels, key=str)} if isinstance(labels, list) else {}
    steering = settings.get("difficulty_guidance") or {}
    unsteered = {name: value for name, value in steering.items() if name == "among"}  # which measures in any case
    unused = {} if settings.get("target") else {"difficulty_guidance": unsteered}
    return {**settings, **ordered, **unused} | ({} if settings.get("modes") else {"mode_guidance": None})


def _once(old: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What settings were before they were recorded; a pipeline that knows no autoguidance has none for it."""
    off = None if settings.get("autoguidance_scale") is None else 1.0
    return {"precision": precision_of(old), "guidance_interval": list(ALL_STEPS), "autoguidance_scale": off}


def guidance_begun(folder: Path) -> dict[str, Any]:
    """Scale and interval of classifier-free guidance that a pool was begun with; empty where none was begun."""
    if not (folder / PROVENANCE).exists():
        return {}
    settings = read_json_object(folder / PROVENANCE).get("settings")
    known = settings if isinstance(settings, dict) else {}
    interval = tuple(known.get("guidance_interval") or ALL_STEPS)  # it was once always on in all steps
    return {"guidance_scale": known.get("guidance_scale"), "guidance_interval": interval}


def precision_of(record: Mapping[str, Any]) -> str:
    """What the networks of a pool compute in, by its record; once that was always what their weights were in."""
    settings = record.get("settings")
    own = settings.get("precision") if isinstance(settings, dict) else None
    return str(own or record.get("dtype") or "float32")
