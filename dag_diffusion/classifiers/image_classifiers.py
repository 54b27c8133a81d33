"""One way to ask any transformers or timm image classifier for its logits, so that gradients reach the pixels.

A *guide* is a classifier whose difficulty steers; an *evaluator* one that never does.  Both are plain transformers
models (timm ones through transformers' wrapper), since a pipeline keeps no other kind when it is saved.

    files: the model's own transform, exactly          gradients: the same on tensors, see ``model_transforms``
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, get_args

import torch
from PIL import Image
from torch import Tensor, nn

from dag_diffusion.difficulty import among, margin

from .model_transforms import (
    WAY_OUT,
    AnyPreprocessing,
    Library,
    ModelTransform,
    model_transform,
    settings_of,
    timm_settings,
)
from .preprocessing import Preprocessing
from .reach import require_within_reach
from .weights import IncompleteWeightsError, load_whole, refuse_pickles

ONE_LABEL = "single_label_classification"  # in the words of transformers
PROBABILITIES = 1e-4  # from 1, within which all rows of a batch sum up by chance once in millions of batches
SHOWN = 80  # characters of another library's reason


def preprocessing_of(classifier: nn.Module, *, revision: str | None = None) -> AnyPreprocessing:
    """How a classifier wants its images: from its own config, timm's ``pretrained_cfg``, or the processor beside it.

    Args:
        revision: of the processor on the Hub.

    Raises:
        ValueError: none of them is known, or what is known does not run or gives images of many sizes.  Set
            ``classifier.config.preprocessing`` then, a dictionary of the fields of ``Preprocessing``; transformers
            saves it with the model.
    """
    config: Any = classifier.config
    if (own := getattr(config, "preprocessing", None)) is not None:
        return _from_fields(own)
    if pretrained := getattr(config, "pretrained_cfg", None):
        settings = timm_settings(pretrained, getattr(config, "model_args", None) or {})
        return model_transform("timm", settings, settings["input_size"][0])
    return _from_image_processor(classifier, revision)


def _from_fields(fields: Mapping[str, Any]) -> AnyPreprocessing:
    if not isinstance(fields, Mapping):
        raise ValueError(f"config.preprocessing of the classifier is {str(fields)[:SHOWN]!r} and no fields; {WAY_OUT}")
    for library in get_args(Library):
        if library in fields:
            return model_transform(library, fields[library], fields.get("channels", 3))
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        return Preprocessing(**given)
    except TypeError as error:
        known = ", ".join(field.name for field in dataclass_fields(Preprocessing))
        raise ValueError(
            f"config.preprocessing of the classifier is wrong ({error}); its fields are {known}"
        ) from error


def _from_image_processor(classifier: nn.Module, revision: str | None) -> ModelTransform:
    from transformers import AutoImageProcessor

    config: Any = classifier.config
    name, reason = getattr(config, "_name_or_path", ""), "made in memory"
    try:
        # whichever class transformers takes here, since that is what other users of the model run
        processor = name and AutoImageProcessor.from_pretrained(name, revision=revision, trust_remote_code=False)
    except Exception as error:  # whatever transformers raises at a file that is missing, broken or of another make
        processor, reason = None, re.split(r"\.\s", str(error).strip())[0][:SHOWN]
    if not processor:
        raise ValueError(
            f"the preprocessing of {type(classifier).__name__} is unknown: no image processor beside {name or 'it'} "
            f"({reason}); put its preprocessor_config.json there, or {WAY_OUT}"
        )
    vision = getattr(config, "vision_config", config)
    return model_transform("image_processor", settings_of(processor), getattr(vision, "num_channels", 3))


def prepared_logits(classifier: nn.Module, prepared: Tensor) -> Tensor:
    """Logits, ``(batch, classes)`` float32, of images that went through the classifier's preprocessing already.

    Args:
        prepared: ``(batch, channels, height, width)``, as ``preprocessing_of`` the classifier makes them.

    Raises:
        ValueError: the classifier has a single logit, or another number of logits than of names, or gives
            probabilities.
    """
    weight = next(classifier.parameters())
    logits = logits_of(classifier(prepared.to(weight.device, weight.dtype))).float().to(prepared.device)
    require_fitting(classifier, logits.shape[1])
    if not logits.requires_grad:  # or else guidance would wait for the device at every step; see ``guide_checks``
        _require_logits(logits)
    return logits


def logits_of(answer: Any) -> Tensor:
    """Logits ``(batch, classes)`` in what a network returns: a tensor, the first of several, or the ``logits`` of it.

    PP-LCNet of transformers calls them ``last_hidden_state``.

    Raises:
        ValueError: it has none.
    """
    if isinstance(answer, Mapping):
        found = answer.get("logits", answer.get("last_hidden_state"))
    else:
        found = getattr(answer, "logits", answer)
    found = found[0] if isinstance(found, tuple | list) and found else found
    if not isinstance(found, Tensor) or found.ndim != 2:
        what = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(answer).__name__}"
        raise ValueError(
            f"the classifier returns {what} without logits (batch, classes); return these, or an output that has them"
        )
    return found


def _require_logits(logits: Tensor) -> None:
    if len(logits) > 1 and ((logits.sum(1) - 1).abs().amax() < PROBABILITIES) & (logits.amin() >= 0):
        raise ValueError(
            "the classifier gives probabilities, whose softmax is another; leave the softmax out at its end, or return "
            "their logarithm"
        )


def require_fitting(classifier: nn.Module, logits: int) -> None:
    """Check that a classifier has a logit for each of several named classes, of which an image has one; or ValueError.

    A model for several labels an image gives each a probability of its own, and one for regression none at all.
    """
    named = class_names_of(classifier)
    require_one_label(getattr(classifier.config, "problem_type", None))
    if len(named) != logits:
        raise ValueError(
            f"the classifier gives {logits} logits and names {len(named)} classes; "
            "set its config.id2label to one name for each logit"
        )
    if beyond := [label for label in named if not 0 <= label < logits]:
        raise ValueError(
            f"the classifier names a class {beyond[0]} and its logits are 0 to {logits - 1}; "
            "set its config.id2label to one name for each logit, from 0 on"
        )
    if logits < 2:
        raise ValueError(
            "the classifier has a single logit, whose softmax is 1 for every image, so that it measures nothing; "
            "use a classifier with one logit for each of two or more classes"
        )


def require_one_label(task: str | None) -> None:
    """Refuse a ``problem_type`` of a configuration other than one label an image; ValueError."""
    if task not in (None, ONE_LABEL):
        raise ValueError(
            f"the classifier is one for {task}, whose outputs are no softmax over classes; use another, or write "
            f'"problem_type": "{ONE_LABEL}" into its config.json, to take their softmax all the same'
        )


def image_logits(classifier: nn.Module, images: Tensor, preprocessing: AnyPreprocessing | None = None) -> Tensor:
    """Logits of images in [0, 1]; differentiable with respect to them.

    Args:
        classifier: a transformers image classifier.
        images: ``(batch, 1 or 3, height, width)``, any size.
        preprocessing: looked up if not given.

    Returns:
        ``(batch, classes)`` float32.
    """
    return prepared_logits(classifier, (preprocessing or preprocessing_of(classifier))(images.float()))


def load_classifier(name: str | Path, *, revision: str | None = None) -> nn.Module:
    """A trained image classifier in evaluation mode, from a local folder or a Hub id, safetensors only.

    Its weights are in float32, whatever they were saved in: a difficulty from halves is up to 0.003 off, and takes many
    times as long on a CPU.

    Args:
        name: such as ``assets/evaluator``, ``microsoft/resnet-50`` or ``timm/resnet50.tv_in1k``.
        revision: branch, tag or commit on the Hub.

    Raises:
        ValueError: it is no image classifier, has no safetensors weights, lacks some of them, has a single logit or
            several labels an image, or needs code of its own to be run.
    """
    model = _loaded(name, revision)
    require_fitting(model, len(class_names_of(model)))
    keep_with_weights(model, revision)
    return model.eval()


def load_for_new_classes(name: str | Path, head: Callable[[nn.Module], set[str]]) -> nn.Module:
    """A network whose last layer is to be made anew: as of ``load_classifier``, but it may have none yet.

    So are those that were trained without classes, such as DINOv2 and CLIP.

    Args:
        head: names of the weights of a model's last layer, which are random here if the files lack them.
    """
    model = _loaded(name, None, head)
    keep_with_weights(model)
    return model.eval()


def _loaded(name: str | Path, revision: str | None, head: Callable[[nn.Module], set[str]] | None = None) -> nn.Module:
    from transformers import AutoConfig, AutoModelForImageClassification

    refuse_pickles(name)
    if Path(name).is_dir():
        refuse_adapter(name, [path.name for path in Path(name).iterdir()])
    # without trust_remote_code=False a terminal would be asked whether to run the repository's own code
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        require_within_reach(name)
        config = _as_transformers_has_it(AutoConfig.from_pretrained(str(name), **options))
        without = _ends_before_classes(config)
        if not config.num_labels:  # of timm, and nothing is built then whose weights could be told to be missing
            config.num_labels = 2
        load = AutoModelForImageClassification.from_pretrained
        options |= {"config": config, "use_safetensors": True, "dtype": torch.float32}
        return load_whole(load, name, may_lack=head, **options)
    except IncompleteWeightsError as error:
        if without:
            raise IncompleteWeightsError(
                f"{name} was trained without classes and has no layer for them; "
                f"train_classifier(model={str(name)!r}) gives it one for classes of yours, or give a classifier"
            ) from error
        raise
    except Exception as error:  # whatever transformers, timm or torch raise at a folder of another make
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{name} is not a transformers or timm image classifier with safetensors weights ({reason}); "
            "give a folder written by save_pretrained, or a Hub id such as timm/resnet50.tv_in1k"
        ) from error


def refuse_adapter(name: str | Path, files: Sequence[str]) -> None:
    """Refuse a folder with these files if an adapter of peft is in it and weights are not; ValueError."""
    weights = [file for file in files if file.endswith(".safetensors") and not file.startswith("adapter_")]
    if "adapter_config.json" in files and not weights:
        raise ValueError(
            f"{name} is an adapter of peft and no whole model; give the folder that "
            "model.merge_and_unload().save_pretrained(...) writes, with the preprocessor_config.json of its base"
        )


def _ends_before_classes(config: Any) -> bool:
    """Whether a model says that it is no classifier, such as a ``CLIPModel``, or one of timm with 0 classes."""
    kinds = getattr(config, "architectures", None) or ()
    return not config.num_labels or (bool(kinds) and not any("ImageClassification" in kind for kind in kinds))


def _as_transformers_has_it(config: Any) -> Any:
    """A configuration that timm wrote: its ``model_args`` name the number of classes, which transformers gives too."""
    if arguments := getattr(config, "model_args", None):
        config.model_args = {key: value for key, value in arguments.items() if key not in {"num_classes", "pretrained"}}
    return config


def keep_with_weights(classifier: nn.Module, revision: str | None = None) -> None:
    """Write into a classifier's configuration what would be lost or permuted when it is saved elsewhere.

    That is its preprocessing, if it is known, since the processor beside the weights stays behind; and the order of its
    class names, which transformers saves for a timm model as they stand and not by label.

    Args:
        revision: that the classifier was loaded from.
    """
    config: Any = classifier.config
    if getattr(config, "id2label", None):
        config.id2label = class_names_of(classifier)
        if hasattr(config, "label_names"):  # of timm's own file, which transformers would write again as they were
            config.label_names = list(config.id2label.values())
    with suppress(ValueError):  # logits need none, and images are refused without it
        config.preprocessing = preprocessing_of(classifier, revision=revision).as_fields()


def require_known_again(classifier: nn.Module) -> None:
    """Check that transformers will know what to make of a classifier that it is told to save; ValueError if not."""
    from transformers import CONFIG_MAPPING

    config: Any = classifier.config
    if config.model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"transformers cannot read a {type(classifier).__name__} again, so that no pipeline is saved with it; call "
            "register_modules(classifier=None) first, and hand it to from_pretrained(..., classifier=...) later"
        )


def require_names_kept(classifier: nn.Module, folder: Path) -> None:
    """Check that a classifier which was saved into a folder has its class names there; ValueError if not."""
    from transformers import AutoConfig

    kept = AutoConfig.from_pretrained(folder, trust_remote_code=False).id2label
    for label, name in class_names_of(classifier).items():
        if str(kept.get(label)) != name:
            raise ValueError(
                f"{folder} has been written with the class {label} as {kept.get(label)!r} where it is {name!r}; "
                "give the classifier's config.id2label one name for each logit, by label from 0 on"
            )


def class_names_of(classifier: nn.Module) -> dict[int, str]:
    """Label to class name as the classifier has it, such as ``{0: "tench, Tinca tinca", ...}``, by label."""
    config: Any = classifier.config
    try:
        return {int(k): str(v) for k, v in sorted((config.id2label or {}).items(), key=lambda item: int(item[0]))}
    except ValueError as error:
        raise ValueError(
            f"config.id2label of the classifier has {next(iter(config.id2label))!r} for a label; give it as "
            "{label: name}, such as {0: 'cat', 1: 'dog'}"
        ) from error


@dataclass(frozen=True)
class Guide:
    """A classifier as it looks at a batch of images.

    Attributes:
        labels: its own, of the images, ``(batch,)``.
        preprocessing: how it wants its images, as of ``preprocessing_of``.
        classes: its own labels of the classes that the margin is taken among, rising, ``(n,)``; None for all.
    """

    classifier: nn.Module
    labels: Tensor
    preprocessing: AnyPreprocessing
    classes: Tensor | None = None

    def margin(self, logits: Tensor) -> Tensor:
        """The margin of the images' classes, ``(batch,)``, among ``classes``."""
        return margin(*among(logits, self.labels, self.classes))


def mean_margin(guides: Sequence[Guide], images: Tensor) -> Tensor:
    """The guides' mean margin of images in [0, 1], ``(batch,)`` float32; differentiable."""
    each = [g.margin(image_logits(g.classifier, images, g.preprocessing)) for g in guides]
    return torch.stack(each).mean(0)


def picture_margin(guides: Sequence[Guide], pictures: Sequence[Image.Image]) -> Tensor:
    """The guides' mean margin of pictures as a pool's files are scored, ``(batch,)`` float32; no gradient."""
    each = []
    for guide in guides:
        batch = torch.cat([guide.preprocessing.read(picture) for picture in pictures]).contiguous()
        prepared = guide.preprocessing.normalised(batch.to(guide.labels.device))
        each.append(guide.margin(prepared_logits(guide.classifier, prepared)))
    return torch.stack(each).mean(0)
