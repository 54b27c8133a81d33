"""The record of a pool, ``pool.json``: pipeline, guides, scheduler, settings and versions.

A pool that is resumed must agree with it in all but the versions; the message says what differs.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from dag_diffusion.data.files import differences, recorded
from dag_diffusion.identity import digest_of
from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline

from .plan import PoolConfig

FORMAT = "dag-diffusion pool 1"
PARTS = ("weights", "extra_guides")
LIBRARIES = ("dag-diffusion", "accelerate", "diffusers", "torch", "torchvision", "transformers")


def provenance_of(
    pipeline: DifficultyGuidedPipeline,
    config: PoolConfig,
    *,
    source: str | None = None,
    extra_guides: Sequence[nn.Module] = (),
) -> dict[str, Any]:
    """The record of a pool, JSON values only.

    Args:
        source: name of the pipeline; by default its own ``_name_or_path``.
        extra_guides: as the pipeline takes them.
    """
    source = source or _path_of(pipeline) or type(pipeline).__name__
    record = {
        "format": FORMAT,
        "pipeline": source,
        "guide": _guide_name(pipeline, source),
        "weights": {name: None if part is None else digest_of(part) for name, part in _models_of(pipeline).items()},
        "dtype": str(pipeline.transformer.dtype).removeprefix("torch."),
        "scheduler": {"name": type(pipeline.scheduler).__name__, **_json_values(pipeline.scheduler.config)},
        "settings": config.settings(),
        "classes": {str(k): v for k, v in pipeline.class_names.items()},
        "versions": versions(),
        "extra_guides": [_name_and_digest(guide) for guide in extra_guides],
    }
    return recorded(record)


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that images depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def require_same_settings(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Check that a pool was begun with the settings that would go on with it.

    Raises:
        ValueError: it was not; up to five settings that differ are named.
    """
    keys = ("pipeline", "guide", *PARTS, "dtype", "scheduler", "settings", "classes")
    before, after = ({k: json.loads(json.dumps(recorded(p.get(k)))) for k in keys} for p in (old, new))
    if isinstance(before["settings"], dict):  # of a pool from before these were recorded
        before["settings"] = {"precision": precision_of(old), "guidance_interval": [0.0, 1.0]} | before["settings"]
    differing = list(differences(before, after))
    if differing:
        raise ValueError(
            f"{folder} was begun with other settings: {'; '.join(differing[:5])}; give the same ones, or another folder"
        )


def precision_of(record: Mapping[str, Any]) -> str:
    """What the networks of a pool compute in, by its record; once that was always what their weights were in."""
    settings = record.get("settings")
    own = settings.get("precision") if isinstance(settings, dict) else None
    return str(own or record.get("dtype") or "float32")


def _models_of(pipeline: DifficultyGuidedPipeline) -> dict[str, nn.Module | None]:
    return {name: part for name, part in pipeline.components.items() if part is None or isinstance(part, nn.Module)}


def _name_and_digest(model: Any) -> list[str]:
    return [str(model.config._name_or_path), digest_of(model)]


def _guide_name(pipeline: DifficultyGuidedPipeline, source: str) -> str | None:
    if pipeline.classifier is None:
        return None
    name = str(pipeline.classifier.config._name_or_path)
    path = _path_of(pipeline)
    own = not name or (path is not None and name.startswith(path))
    return f"classifier of {source}" if own else name


def _path_of(pipeline: DifficultyGuidedPipeline) -> str | None:
    path = pipeline.config.get("_name_or_path")
    return str(path) if path else None


def _json_values(config: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: recorded(value) for name, value in config.items() if not name.startswith("_")}
    return {name: value for name, value in plain.items() if not isinstance(value, list | dict)}
