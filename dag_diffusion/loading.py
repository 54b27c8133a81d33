"""Pipelines, classifiers and probes by folder or Hub id, on a device, in a precision.

    name -> files (safetensors only) -> parts in evaluation mode -> precision -> device

Precision is chosen at loading, since it is recorded with a pool; ``acceleration`` has what else makes them faster.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from . import embedded
from .classifiers.guide_checks import require_seeing
from .classifiers.image_classifiers import load_classifier
from .classifiers.reach import require_within_reach
from .classifiers.weights import (
    IncompleteWeightsError,
    load_whole,
    refuse_pickles,
    require_same_tensors,
    variant_of_parts,
)
from .data.class_names import labels_typed
from .guidance.probes import description_of
from .identity import digest_of, is_same_model, sketch_of
from .pipelines.difficulty_guided import DifficultyGuidedPipeline
from .processes import resolve_device

EMBEDDED = "embedded"  # the name of the embedded guide where one is asked for
LORA = "pytorch_lora_weights.safetensors"  # as diffusers' save_lora_weights calls it
T5_OF_SD3 = ("text_encoder_3", "tokenizer_3")  # which its pipeline draws without, but does not call optional
PRECISIONS = ("float32", "float16", "bfloat16")


def load_pipeline(
    name: str | Path | None = None,
    *,
    classifier: str | Path | None = None,
    probe: str | Path | None = None,
    weak: str | Path | None = None,
    device: str | None = None,
    dtype: torch.dtype | str | None = None,
    trust_bin: bool = False,
) -> DifficultyGuidedPipeline:
    """A pipeline with its guide, on its device and without progress bars.

    Args:
        name: folder or Hub id of a DiT pipeline; None: the embedded one.
        classifier: folder or Hub id of the guide; None: the pipeline's own.
        probe: folder or Hub id, or ``"none"``; None: the pipeline's own, which another classifier makes useless.
        weak: folder or Hub id of a pipeline with the same VAE and classes, whose denoiser is smaller or less trained,
            for autoguidance; None: the pipeline's own weak denoiser, if it has one.
        device: None: the one that accelerate finds.
        dtype: of all parts, as torch or by name; None keeps each as it was saved.
        trust_bin: read .bin weights where there are no safetensors.

    Raises:
        ValueError: a part cannot be loaded or does not fit, or there is no such device or precision.
    """
    hide_loading_bars()
    device, precision = resolve_device(device), as_dtype(dtype)
    options: dict[str, Any] = {}
    if classifier is not None:
        options["classifier"] = load_guide(classifier, device=device)
    if probe not in (None, "none"):
        options["probe"] = load_probe(probe)
    elif classifier is not None or probe == "none":
        options["probe"] = None
    with loaded_as(name, "DiT pipeline"):
        if name is not None:
            _require_folder(name)
            _require_labels(name)
        pipeline = DifficultyGuidedPipeline.from_pretrained(
            embedded.PIPELINE if name is None else name, use_safetensors=None if trust_bin else True, **options
        )
    pipeline.set_progress_bar_config(disable=True)
    if weak is not None:
        other = load_pipeline(weak, probe="none", device="cpu", trust_bin=trust_bin)
        _require_comparable(pipeline, other, weak)
        other.transformer.register_to_config(_name_or_path=f"{weak}/transformer")  # by which pools record it
        pipeline.register_modules(weak_transformer=other.transformer)
    return in_precision(pipeline, precision).to(device)


def _require_comparable(pipeline: DifficultyGuidedPipeline, weak: DifficultyGuidedPipeline, name: str | Path) -> None:
    """Refuse a weak pipeline from whose predictions the difference would be no guidance, or none at all."""
    means = "its predictions cannot be compared; train it with the pipeline's own VAE, on the same images"
    if not is_same_model(sketch_of(pipeline.vae), sketch_of(weak.vae)):
        raise ValueError(f"{name} has another VAE than the pipeline, so that {means}")
    if pipeline.image_size != weak.image_size:
        raise ValueError(f"{name} draws images of another size than the pipeline, so that {means}")
    if pipeline.class_names != weak.class_names:
        raise ValueError(f"{name} has other classes than the pipeline, or in another order, so that {means}")
    kinds = [one.scheduler.config.get("prediction_type", "epsilon") for one in (pipeline, weak)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{name} predicts {kinds[1]} and the pipeline {kinds[0]}, so that {means}")
    own, other = (getattr(one.scheduler, "alphas_cumprod", None) for one in (pipeline, weak))
    if own is not None and other is not None and not (own.shape == other.shape and own.allclose(other)):
        raise ValueError(f"{name} was trained on other amounts of noise at the same timesteps, so that {means}")
    if digest_of(pipeline.transformer) == digest_of(weak.transformer):
        raise ValueError(
            f"{name} has the pipeline's own denoiser, which guides nowhere; give one that is smaller or less trained"
        )


def _require_labels(name: str | Path) -> None:
    """Refuse a pipeline of diffusers' of another kind than DiT; a ValueError says how it is used."""
    import diffusers

    kind = getattr(diffusers, str(DifficultyGuidedPipeline.load_config(name).get("_class_name")), diffusers.DiTPipeline)
    takes = signature(kind.__call__).parameters
    if "prompt" in takes:
        raise ValueError(f"it is a {kind.__name__}, which draws from prompts: give some, see docs/how-to/prompts.md")
    if "class_labels" not in takes:
        raise ValueError(f"it is a {kind.__name__}, which draws no classes: train one by train_generator()")
    if not issubclass(kind, diffusers.DiTPipeline):
        raise ValueError(f"it is a {kind.__name__}: draw in Python by a SteerablePipeline, see docs/how-to/prompts.md")


def _require_folder(name: str | Path) -> None:
    """Refuse a pipeline in one file, or a LoRA, of which diffusers makes the folder of a pipeline; ValueError."""
    place = Path(name)
    if place.is_file():
        raise ValueError("it is one file: save it as a folder by diffusers, see docs/how-to/prompts.md")
    if (place / LORA).is_file() and not (place / "model_index.json").exists():
        raise ValueError("it is a LoRA: save it with its base as a folder by diffusers, see docs/how-to/prompts.md")


def load_text_pipeline(
    name: str | Path, *, device: str | None = None, dtype: torch.dtype | str | None = None, trust_bin: bool = False
) -> Any:
    """A text-to-image pipeline of diffusers', without safety checker, watermark and progress bars.

    A black square or a pattern that is always alike would be a shortcut for a classifier that is trained on the images.

    Args:
        name: folder or Hub id; one whose pipeline is code of its own is refused.
        device, dtype, trust_bin: as of ``load_pipeline``.

    Raises:
        ValueError: it cannot be loaded, or there is no such device or precision.
    """
    import diffusers
    from diffusers.pipelines import auto_pipeline as auto

    tasks = (
        auto.AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
        auto.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
        auto.AUTO_INPAINT_PIPELINES_MAPPING,
    )
    hide_loading_bars()
    device, precision = resolve_device(device), as_dtype(dtype)
    options: dict[str, Any] = {"use_safetensors": None if trust_bin else True}
    with loaded_as(name, "text-to-image pipeline"):
        _require_folder(name)
        config = diffusers.DiffusionPipeline.load_config(name)
        options |= _without_patterns(config)
        options |= {part: None for part in T5_OF_SD3 if config.get(part) == [None, None]}
        options["dtype"] = _in_full(name, config) if precision is None else precision
        if variant := variant_of_parts(Path(name), sorted(config.keys() - options.keys())):
            options["variant"] = variant
        # saved to draw from images, it has the parts to draw from prompts
        known = any(config["_class_name"] == kind.__name__ for task in tasks for kind in task.values())
        load: Any = diffusers.AutoPipelineForText2Image if known else diffusers.DiffusionPipeline
        pipeline = load.from_pretrained(name, **options)
        for part in ("unet", "transformer", "vae"):
            if (model := getattr(pipeline, part, None)) is not None:
                read = partial(type(model).from_pretrained, use_safetensors=options["use_safetensors"])
                require_same_tensors(model, model.config._name_or_path, read)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _in_full(name: str | Path, config: Mapping[str, Any]) -> dict[str, torch.dtype | None]:
    """Part to the dtype in which it is read where none was chosen: float32, in which diffusers reads its own parts.

    It leaves the others to transformers, which reads them in the dtype that their configuration names, rounding what is
    saved in full.  Quantised ones know best.
    """
    from transformers import PretrainedConfig

    def is_quantised(part: str) -> bool:
        try:
            return "quantization_config" in PretrainedConfig.get_config_dict(str(name), subfolder=part)[0]
        except OSError:  # it is no network
            return False

    others = [part for part, kind in config.items() if isinstance(kind, list | tuple) and kind[0] == "transformers"]
    return {"default": None} | {part: torch.float32 for part in others if not is_quantised(part)}


@contextmanager
def loaded_as(name: str | Path | None, kind: str) -> Iterator[None]:
    """Whatever libraries raise while they load a pipeline, as one ValueError that says what it was taken for."""
    try:
        if name is not None:
            require_within_reach(name)
        yield
    except IncompleteWeightsError:
        raise
    except UnpicklingError as error:
        raise ValueError(f"{name} has a .bin file that holds more than weights, so that it is not read") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{name} cannot be loaded as a {kind} ({error}); give its folder or Hub id") from error


def _without_patterns(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a pipeline is loaded with so that it has neither safety checker nor watermark."""
    import diffusers

    options: dict[str, Any] = {"safety_checker": None} if "safety_checker" in config else {}
    options |= {"requires_safety_checker": False} if "requires_safety_checker" in config else {}
    kind = getattr(diffusers, str(config["_class_name"]), None)
    marks = kind is not None and "add_watermarker" in signature(kind.__init__).parameters
    return options | ({"add_watermarker": False} if marks else {})


def load_embedded_pipeline() -> DifficultyGuidedPipeline:
    """The embedded default on the CPU, in float32, without progress bars."""
    return load_pipeline(device="cpu")


def load_guide(
    name: str | Path | None = None, *, device: str | None = None, dtype: torch.dtype | str | None = None
) -> nn.Module:
    """A classifier on its device.

    Args:
        name: folder or Hub id; None or ``"embedded"``: the embedded guide.
        device: None: the one that accelerate finds.
        dtype: as torch or by name; None: float32, whatever it was saved in.

    Raises:
        ValueError: it cannot be loaded or cannot look at an image, or there is no such device or precision.
    """
    hide_loading_bars()
    device, precision = resolve_device(device), as_dtype(dtype)
    path = embedded.PIPELINE / "classifier" if name is None or str(name) == EMBEDDED else name
    guide = load_classifier(path)
    require_seeing(guide, path)
    return guide.to(device, precision)


def embedded_named(name: str | Path | None) -> str:
    """What a classifier is called in records; the embedded guide, asked for by name or by none, always alike."""
    return "embedded guide" if name is None or str(name) == EMBEDDED else str(name)


def hide_loading_bars() -> None:
    """Loading from disk takes a second and needs no bars; downloads keep theirs."""
    import diffusers
    import huggingface_hub.utils as hub
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    hub.enable_progress_bars()


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A precision by its name; one of torch, or None, stays.

    Raises:
        ValueError: there is no such precision.
    """
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in PRECISIONS:
        raise ValueError(f"there is no precision {dtype!r}; choose one of {', '.join(PRECISIONS)}, or leave it out")
    return getattr(torch, dtype)


def in_precision(pipeline: DifficultyGuidedPipeline, dtype: torch.dtype | None) -> DifficultyGuidedPipeline:
    """The pipeline in one precision; a VAE that asks for it stays in float32, since it overflows in float16."""
    if dtype is not None:
        pipeline.to(dtype)
        if dtype == torch.float16 and pipeline.vae.config.get("force_upcast"):
            pipeline.vae.to(torch.float32)
    return pipeline


def labels_of(pipeline: DifficultyGuidedPipeline, classes: str | None) -> list[int] | None:
    """Labels of ``"name; name; 3"``, or with commas where no class is called so; None, which means all, for None.

    Raises:
        ValueError: there is no part, or one names no class of the pipeline, or two, where classes are called numbers.
    """
    if classes is None:
        return None
    if not pipeline.config.id2label and classes.strip(" ;,"):
        words = [part.strip() for part in re.split("[;,]", classes) if part.strip()]
        return [int(part) if part.isdecimal() else pipeline.get_label_ids(part)[0] for part in words]
    return labels_typed(classes, pipeline.class_names, "the pipeline")


def load_probe(folder: str | Path) -> nn.Module:
    """Read a probe that ``probe.save_pretrained`` wrote, or one from the Hub, safetensors only.

    Raises:
        ValueError: there is none, or it is another model.
    """
    from transformers import AutoConfig, ConvNextForImageClassification

    refuse_pickles(folder)
    try:
        require_within_reach(folder)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if description_of(vars(config)) is None:
            raise ValueError("but another model")
        load = ConvNextForImageClassification.from_pretrained
        probe = load_whole(load, folder, config=config, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{folder} holds no probe ({reason}); make one with train_probe()") from error
    return probe.eval().requires_grad_(False)
