"""The record of a pool, ``pool.json``: pipeline, guides, scheduler, settings and versions.

A pool that is resumed must agree with it in all but the versions, see ``same_settings``.
"""

import hashlib
import inspect
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from dag_diffusion.classifiers.image_classifiers import class_names_of, preprocessing_of
from dag_diffusion.data.files import recorded
from dag_diffusion.identity import digest_of, is_plain

from .drawing.drawer import Drawer
from .plan import PoolConfig
from .precision import weights_of
from .same_settings import CONFIGS, DETAILS

FORMAT = "dag-diffusion pool 1"
UNCOUNTED = ("transformers_version", "architectures", "dtype", "torch_dtype", "preprocessing")  # of a configuration
OF_THE_PIPELINE = (  # what our own pipeline's configuration says beside its parts
    "id2label",
    "default_guidance_scale",
    "default_num_inference_steps",
    "default_autoguidance_scale",
    "default_guidance_start",
    "default_guidance_stop",
)
ELSEWHERE = (*OF_THE_PIPELINE, "requires_safety_checker")  # in the record as classes, settings or details
FREEU = ("s1", "s2", "b1", "b2")  # as diffusers' enable_freeu sets them on the blocks of a U-Net
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
        CONFIGS: _configs_of(drawer),
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
    """Name and settings of a scheduler; lists, such as ``trained_betas``, by their digests."""
    return {"name": type(scheduler).__name__, **_json_values(scheduler.config)}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that images depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def _models_of(drawer: Drawer) -> dict[str, nn.Module | None]:
    parts = {**drawer.pipeline.components, "classifier": drawer.guide}
    return {name: part for name, part in parts.items() if part is None or isinstance(part, nn.Module)}


def _name_of(model: Any) -> str:
    return str(getattr(model.config, "_name_or_path", ""))  # which a network of one's own may lack


def _configs_of(drawer: Drawer) -> dict[str, Any]:
    """What the answers of each part follow from besides its weights, and those of the pipeline as a whole."""
    pipeline, models = drawer.pipeline, _models_of(drawer)
    networks = {name: part for name, part in models.items() if part is not None and part is not drawer.guide}
    found: dict[str, Any] = {
        name: _digest({"config": _config_of(part), "adapters": _adapters_of(part)}) for name, part in networks.items()
    }
    guides = [] if drawer.guide is None else [drawer.guide, *drawer.extra_guides]
    digests = [
        _digest({"preprocessing": preprocessing_of(guide).as_fields(), "classes": class_names_of(guide)})
        for guide in guides
    ]
    found["pipeline"] = _config_of_pipeline(pipeline)
    found["options"] = {name: own for name, part in networks.items() if (own := _options_of(part))}
    for name, part in pipeline.components.items():
        if name != "scheduler" and hasattr(part, "set_timesteps"):
            found[name] = {"name": type(part).__name__, **_json_values(_config_of(part))}
        elif hasattr(part, "model_max_length"):  # a tokenizer
            template = getattr(part, "chat_template", None)
            found[name] = {"model_max_length": part.model_max_length, "chat_template": template and _digest(template)}
    return found | ({"guides": digests} if digests else {})


def _config_of_pipeline(pipeline: Any) -> dict[str, Any]:
    apart = {*pipeline.components, *ELSEWHERE}
    own = {name: value for name, value in _config_of(pipeline).items() if name not in apart}
    return _json_values(own | {"pag_applied_layers": getattr(pipeline, "pag_applied_layers", [])})


def _options_of(part: nn.Module) -> dict[str, Any]:
    """What was switched on in a network and changes its answers, beside its weights and configuration.

    That is FreeU, scales of IP adapters, tiles of a VAE and caches of a denoiser's answers.  Slices, kinds of attention
    and offloading change answers by rounding only, so that they are left out.
    """
    found: dict[str, Any] = {}
    for place, module in part.named_modules():
        found |= {f"{place}.{name}": getattr(module, name, None) for name in FREEU}
        found[f"{place}.processor.scale"] = getattr(getattr(module, "processor", None), "scale", None)
    if getattr(part, "use_tiling", False):
        found |= {name: value for name, value in vars(part).items() if name.startswith(("use_tiling", "tile_"))}
    if cache := getattr(part, "_cache_config", None):
        found |= {"cache": type(cache).__name__, **{f"cache.{name}": value for name, value in vars(cache).items()}}
    return {name: value for name, value in found.items() if is_plain(value)}


def _config_of(part: Any) -> dict[str, Any]:
    """What differs from the defaults of a class, so that options which later versions add change nothing."""
    config: Any = getattr(part, "config", None)
    if hasattr(config, "to_diff_dict"):  # of transformers
        return _counted(config.to_diff_dict())
    taken = inspect.signature(type(part).__init__).parameters
    own = dict(config) if isinstance(config, Mapping) else {}
    return _counted({k: v for k, v in own.items() if k not in taken or recorded(v) != recorded(taken[k].default)})


def _counted(config: Any) -> Any:
    if not isinstance(config, Mapping):
        return config
    return {k: _counted(v) for k, v in config.items() if not str(k).startswith("_") and k not in UNCOUNTED}


def _adapters_of(part: nn.Module) -> dict[str, Any]:
    """Layer to the adapters that change its answers, such as LoRAs, with their scales."""
    # not the models of peft around the layers, which have a method of that name, or what they wrap has
    switched = {
        name: one for name, one in part.named_modules() if isinstance(getattr(one, "disable_adapters", 0), bool)
    }
    layers = {name: one for name, one in switched.items() if isinstance(getattr(one, "active_adapters", 0), list)}
    scales: dict[str, Any] = {name: getattr(one, "scaling", {}) for name, one in layers.items()}
    return {
        name: {} if one.disable_adapters else {adapter: scales[name].get(adapter) for adapter in one.active_adapters}
        for name, one in layers.items()
    }


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(recorded(value), sort_keys=True).encode(), digest_size=16).hexdigest()


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
    return {
        name: _digest(value) if isinstance(value, list | dict) else value
        for name, value in plain.items()
        if value not in ([], {})  # as in records from before lists were told
    }
