"""The record of a pool, ``pool.json``: pipeline, guides, scheduler, settings and versions.

A pool that is resumed must agree with it in all but the versions, see ``same_settings``.
"""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from dag_diffusion.data.files import recorded
from dag_diffusion.identity import digest_of

from .drawing.drawer import Drawer
from .plan import PoolConfig
from .precision import weights_of
from .same_settings import DETAILS

FORMAT = "dag-diffusion pool 1"
LIBRARIES = ("dag-diffusion", "accelerate", "diffusers", "torch", "torchvision", "transformers")


def provenance_of(
    drawer: Drawer,
    config: PoolConfig,
    *,
    source: str | None = None,
) -> dict[str, Any]:
    """The record of a pool, JSON values only.

    Args:
        source: name of the pipeline; by default its own ``_name_or_path``.
    """
    pipeline = drawer.pipeline
    source = source or _path_of(pipeline) or type(pipeline).__name__
    record: dict[str, Any] = {
        "format": FORMAT,
        "pipeline": source,
        "guide": _guide_name(drawer, source),
        "weights": {name: None if part is None else digest_of(part) for name, part in _models_of(drawer).items()},
        "dtype": weights_of(pipeline),
        "scheduler": scheduler_record(pipeline.scheduler),
        "settings": config.settings(),
        "classes": {str(k): v for k, v in drawer.class_names.items()},
        "versions": versions(),
        "extra_guides": [_name_and_digest(guide) for guide in drawer.extra_guides],
    }
    if (weak := _weak_name(pipeline)) is not None:
        record["weak"] = weak
    if drawer.details:
        record[DETAILS] = drawer.details
    return recorded(record)


def scheduler_record(scheduler: Any) -> dict[str, Any]:
    """Name and settings of a scheduler."""
    return {"name": type(scheduler).__name__, **_json_values(scheduler.config)}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that images depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def _models_of(drawer: Drawer) -> dict[str, nn.Module | None]:
    parts = {**drawer.pipeline.components, "classifier": drawer.guide}
    return {name: part for name, part in parts.items() if part is None or isinstance(part, nn.Module)}


def _name_of(model: Any) -> str:
    return str(getattr(model.config, "_name_or_path", ""))  # which a network of one's own may lack


def _name_and_digest(model: Any) -> list[str]:
    return [_name_of(model), digest_of(model)]


def _guide_name(drawer: Drawer, source: str) -> str | None:
    if drawer.guide is None:
        return None
    guide: Any = drawer.guide
    name, path = _name_of(guide), _path_of(drawer.pipeline)
    own = guide is getattr(drawer.pipeline, "classifier", None)
    return f"classifier of {source}" if own and (not name or (path and name.startswith(path))) else name


def _weak_name(pipeline: Any) -> str | None:
    """The pipeline whose denoiser is the weak one of autoguidance; None for a weak one of the pipeline's own."""
    weak = getattr(pipeline, "weak_transformer", None)
    name = "" if weak is None else str(weak.config.get("_name_or_path") or "")
    return str(Path(name).parent) if Path(name).name == "transformer" else None


def _path_of(pipeline: Any) -> str | None:
    path = pipeline.config.get("_name_or_path")
    return str(path) if path else None


def _json_values(config: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: recorded(value) for name, value in config.items() if not name.startswith("_")}
    return {name: value for name, value in plain.items() if not isinstance(value, list | dict)}
