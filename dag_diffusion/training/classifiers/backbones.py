"""Classifiers to be trained: small ones for small images, any of timm, or a trained one that learns other classes.

    small-resnet, small-regnet     0.3 to 1.2 million weights, two families, for images of up to 96 pixels
    small-resnet-wide, -deep       guides of other shapes, for several that steer or teach a probe together
    resnet18.a1_in1k, ...          timm's, with the weights that it has for them where the Hub can be reached
    FOLDER or Hub id               its weights, but for a new last layer; also of a network that never had classes

All are models of transformers (timm's through its wrapper), so that ``load_classifier`` reads them and a pipeline keeps
them.
"""

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from dag_diffusion.classifiers.image_classifiers import (
    ONE_LABEL,
    class_names_of,
    load_for_new_classes,
    logits_of,
    preprocessing_of,
)
from dag_diffusion.classifiers.model_transforms import ModelTransform
from dag_diffusion.classifiers.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from dag_diffusion.classifiers.reach import hub_answers, is_cached
from dag_diffusion.seeding import seeded

from .calibration import heads_of

logger = logging.getLogger(__name__)
Role = Literal["guide", "evaluator"]
SMALL = {"guide": "small-resnet", "evaluator": "small-regnet"}
LARGE = {"guide": "resnet18.a1_in1k", "evaluator": "regnety_004.tv2_in1k"}
LARGE_FROM = 97  # pixels of the shorter side
DEEPER_FROM = 49  # pixels from which the small ones have one more halving
WEIGHTS = ("auto", "pretrained", "none")
RANDOM = "random"  # where weights are from that are not pretrained
SHAPES: dict[str, dict[str, Any]] = {
    "small-resnet": {"hidden_sizes": [32, 64, 128], "depths": [2, 2, 2], "layer_type": "basic"},
    "small-resnet-wide": {
        "embedding_size": 64,
        "hidden_sizes": [64, 128, 256],
        "depths": [1, 1, 1],
        "layer_type": "basic",
        "hidden_act": "gelu",
    },
    "small-resnet-deep": {"hidden_sizes": [64, 128, 256], "depths": [2, 3, 2], "hidden_act": "silu"},
    "small-regnet": {"hidden_sizes": [48, 96, 192], "depths": [1, 2, 2], "layer_type": "y", "groups_width": 16},
}
DEEPER: dict[str, dict[str, Any]] = {
    "small-resnet": {"hidden_sizes": [32, 64, 128, 192], "depths": [1, 2, 2, 1]},
    "small-resnet-wide": {"hidden_sizes": [64, 128, 256, 256], "depths": [1, 1, 1, 1]},
    "small-resnet-deep": {"hidden_sizes": [64, 128, 192, 256], "depths": [1, 2, 3, 1]},
    "small-regnet": {"hidden_sizes": [32, 64, 128, 256], "depths": [1, 1, 2, 1]},
}


@dataclass(frozen=True)
class Backbone:
    """A network before its training.

    Attributes:
        model: of transformers, with its class names and preprocessing in its configuration.
        name: what was built.
        weights: where its weights are from, such as ``timm/resnet18.a1_in1k`` or ``random``.
        preprocessing: that it is trained and asked with.
        keeps_head: whether its last layer is kept too, since it was trained for exactly these classes, and perhaps on
            these images.
    """

    model: nn.Module
    name: str
    weights: str
    preprocessing: Preprocessing
    keeps_head: bool = False


def default_backbone(role: Role, size: tuple[int, int]) -> str:
    """The model for a role and images of ``(height, width)``: guide and evaluator are of different families."""
    return (LARGE if min(size) >= LARGE_FROM else SMALL)[role]


def build_backbone(
    name: str,
    class_names: Mapping[int, str],
    *,
    size: tuple[int, int],
    channels: int,
    own_size: bool = True,
    weights: str = "auto",
    seed: int = 0,
) -> Backbone:
    """A network with a logit for each class; what is random in it follows from ``seed``.

    Args:
        name: one of ``SHAPES``, a model of timm such as ``resnet18`` or ``resnet18.a1_in1k``, or the folder or Hub id
            of a trained classifier, or of a network that was trained without classes, such as DINOv2.
        class_names: 0 to n - 1, to name.
        size: (height, width) of the images.
        channels: 1 (grey) or 3; pretrained networks see 3.
        own_size: a pretrained network may see images at its own size instead.
        weights: ``auto``: pretrained where there are such and they can be reached, ``pretrained``: these or an error,
            ``none``: random.

    Raises:
        ValueError: there is no such model, its weights cannot be had, or it cannot see images of that size.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {weights!r}; use 'auto', 'pretrained' or 'none' (trained from scratch)")
    with seeded(seed):
        if name in SHAPES:
            if weights == "pretrained":
                raise ValueError(f"{name} has no pretrained weights; use weights='auto', or a model of timm")
            return _small(name, class_names, size, channels)
        if "/" in name or Path(name).is_dir():
            if weights == "none":
                raise ValueError(f"{name} is a trained classifier; use weights='auto', or a name of timm to begin anew")
            return _with_new_head(
                name, load_for_new_classes(name, _head_keys), class_names, size if not own_size else None
            )
        return _of_timm(name, class_names, size=size, channels=channels, own_size=own_size, weights=weights)


def _small(name: str, class_names: Mapping[int, str], size: tuple[int, int], channels: int) -> Backbone:
    from transformers import RegNetConfig, RegNetForImageClassification, ResNetConfig, ResNetForImageClassification

    shape = {"embedding_size": 32, **SHAPES[name], **(DEEPER[name] if min(size) >= DEEPER_FROM else {})}
    common: dict[str, Any] = {"num_channels": channels, **shape, **_names(class_names)}
    model: nn.Module
    if name == SMALL["evaluator"]:
        model = RegNetForImageClassification(RegNetConfig(**common))
    else:
        model = ResNetForImageClassification(ResNetConfig(**common))
    return _prepared(model, name, RANDOM, Preprocessing(*size, channels, **_scaled(channels)))


def _of_timm(
    name: str,
    class_names: Mapping[int, str],
    *,
    size: tuple[int, int],
    channels: int,
    own_size: bool,
    weights: str,
) -> Backbone:
    import timm  # a second that the small ones need not wait for

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        nearest = difflib.get_close_matches(name, [*SHAPES, *timm.list_models()], n=3, cutoff=0.4)
        like = f"; the nearest are {', '.join(nearest)}" if nearest else ""
        raise ValueError(
            f"there is no model {name!r}{like}; give one of "
            "timm.list_models(), small-resnet, small-regnet, or the folder of a classifier"
        )
    if "." in name and name not in timm.list_pretrained(f"{architecture}*"):
        raise ValueError(f"timm has no weights {name!r}; timm.list_pretrained('{architecture}*') gives those it has")
    known = timm.get_pretrained_cfg(name)
    if weights != "none" and known is not None and known.hf_hub_id:
        hub_id = known.hf_hub_id + (f"{known.architecture}.{known.tag}" if known.hf_hub_id.endswith("/") else "")
        if (found := _pretrained(hub_id, required=weights == "pretrained")) is not None:
            return _with_new_head(hub_id, found, class_names, size if not own_size else None)
        logger.warning("%s cannot be reached, so that %s is trained from scratch", hub_id, architecture)
    elif weights == "pretrained":
        raise ValueError(f"timm has no pretrained weights of {name}; use weights='none' to train it from scratch")
    arguments = {"img_size": list(size)} if known is not None and known.fixed_input_size else {}
    model = _wrapped(architecture, class_names, {"in_chans": channels, **arguments})
    return _prepared(model, architecture, RANDOM, Preprocessing(*size, channels, **_scaled(channels)))


def _wrapped(architecture: str, class_names: Mapping[int, str], arguments: dict[str, Any]) -> nn.Module:
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    config = TimmWrapperConfig(architecture=architecture, model_args=arguments, **_names(class_names))
    try:
        return TimmWrapperForImageClassification(config)
    except Exception as error:  # whatever a network of timm raises at arguments that do not suit it
        raise ValueError(
            f"{architecture} of timm cannot be built for these images ({_first_line(error)}); take another model"
        ) from error


def _pretrained(hub_id: str, *, required: bool) -> nn.Module | None:
    if not required and not is_cached(hub_id) and not hub_answers():
        return None
    return load_for_new_classes(hub_id, _head_keys)


def _with_new_head(
    name: str, trained: nn.Module, class_names: Mapping[int, str], size: tuple[int, int] | None
) -> Backbone:
    """A network like a trained one with its weights, but for the last layer, which is new where the classes are."""
    own: Any = preprocessing_of(trained)
    config: Any = type(trained.config).from_dict(trained.config.to_dict())  # type: ignore[operator, union-attr]
    config.num_labels = len(class_names)  # names alone leave Pvt its old number, which is a field of its own there
    for key, value in _names(class_names).items():
        setattr(config, key, value)
    if hasattr(config, "architecture"):
        config.label_names = list(class_names.values())
    if keeps_head := class_names_of(trained) == dict(class_names):
        model = trained
    else:
        model = type(trained)(config)
        kept, new = trained.state_dict(), model.state_dict()
        fitting = {key: tensor for key, tensor in kept.items() if key in new and new[key].shape == tensor.shape}
        if class_names_of(trained).keys() == class_names.keys():  # of the same number, but of other classes
            fitting = {key: tensor for key, tensor in fitting.items() if key not in _head_keys(model)}
        model.load_state_dict(fitting, strict=False)
        if lost := sorted(new.keys() - fitting.keys() - _head_keys(model)):
            raise ValueError(f"{name} cannot learn other classes: {len(lost)} weights such as {lost[0]} do not fit")
    if isinstance(own, ModelTransform) and not own.red_first:
        logger.warning("%s was trained on images with blue first; it learns anew that red comes first", name)
    height, width = size or (own.height, own.width)
    wanted = Preprocessing(height, width, own.channels, tuple(own.mean), tuple(own.std), 1.0)
    return replace(_prepared(model, name, name, wanted), keeps_head=keeps_head)


def _head_keys(model: nn.Module) -> set[str]:
    heads = {id(parameter) for head in heads_of(model) for parameter in head.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in heads}


def _prepared(model: nn.Module, name: str, weights: str, preprocessing: Preprocessing) -> Backbone:
    """Keep the preprocessing with the model, and see whether it takes such images; many find out when they run."""
    config: Any = model.config
    config.preprocessing = preprocessing.as_fields()
    if getattr(config, "problem_type", None) is not None:
        config.problem_type = ONE_LABEL  # whatever it was trained for before
    vars(config).pop("temperature_in_weights", None)  # of that training
    shape = (2, preprocessing.channels, preprocessing.height, preprocessing.width)
    try:
        with torch.no_grad():
            logits = logits_of(model.eval()(torch.zeros(shape)))
        if logits.shape != (2, config.num_labels):
            raise ValueError(f"its output is {tuple(logits.shape)}")
    except Exception as error:  # whatever a network raises at images that it cannot see
        raise ValueError(
            f"{name} cannot see {shape[1]} x {shape[2]} x {shape[3]} images ({_first_line(error)}); give another "
            "size, or another model"
        ) from error
    return Backbone(model, name, weights, preprocessing)


def _names(class_names: Mapping[int, str]) -> dict[str, Any]:
    return {"id2label": dict(class_names), "label2id": {name: label for label, name in class_names.items()}}


def _scaled(channels: int) -> dict[str, Any]:
    """To [-1, 1] for grey images, and for colours by ImageNet's statistics."""
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,), (0.5,))
    return {"mean": mean, "std": std, "crop": 1.0}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:60] or type(error).__name__
