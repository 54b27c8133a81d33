"""Whether a pool is gone on with as it was begun: its record against that of the run that would go on.

Reads records alone, so that a look at a growing pool needs neither torch nor diffusers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dag_diffusion.data.files import differences, recorded

DETAILS = "drawn_by"
PARTS = ("pipeline", "guide", "weights", "extra_guides", "dtype", "scheduler", "settings", "classes", DETAILS)
SHOWN = 5


def require_same_settings(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Check that a pool was begun with the settings that would go on with it.

    Raises:
        ValueError: it was not; up to five settings that differ are named.
    """
    before, after = ({k: json.loads(json.dumps(recorded(p.get(k)))) for k in PARTS} for p in (old, new))
    if isinstance(before["settings"], dict):  # of a pool from before these were recorded
        once = {"precision": precision_of(old), "guidance_interval": [0.0, 1.0]}
        if (after["settings"] or {}).get("autoguidance_scale") is not None:  # else of a pipeline that knows none
            once["autoguidance_scale"] = 1.0
        before["settings"] = once | before["settings"]
    if differing := [one.removeprefix("settings.") for one in differences(before, after)]:
        raise ValueError(
            f"{folder} was begun with other settings: {'; '.join(differing[:SHOWN])}; give the same ones, or another "
            "folder"
        )


def precision_of(record: Mapping[str, Any]) -> str:
    """What the networks of a pool compute in, by its record; once that was always what their weights were in."""
    settings = record.get("settings")
    own = settings.get("precision") if isinstance(settings, dict) else None
    return str(own or record.get("dtype") or "float32")
