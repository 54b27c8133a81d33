"""What one call of the pipeline works with: its classes, its guides matched, and what its images are guided by.

labels, targets, modes, windows -> checked -> PreparedCall: predict a step, steer it, pull it, push it
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import PreTrainedModel

from dag_diffusion.classifiers.guide_checks import require_evaluation_mode, require_same_measure
from dag_diffusion.classifiers.image_classifiers import Guide, mean_margin
from dag_diffusion.difficulty import classes_among
from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig, MarginOf
from dag_diffusion.guidance.diversity_guidance import DiversityGuidance, DiversityPush, groups_of
from dag_diffusion.guidance.guided_step import Generators, GuidedStep, ModePull, Steering, guided_step
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.guidance.probes import probe_margin, require_probe_of
from dag_diffusion.pipelines.call_inputs import (
    as_targets,
    check_inputs,
    interval_steps,
    label_ids,
    own_interval,
    require_config,
    require_number,
)
from dag_diffusion.pipelines.guide_labels import as_guides

if TYPE_CHECKING:
    from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline


@dataclass(frozen=True, kw_only=True)
class PreparedCall:
    """What one call works with, checked.

    Attributes:
        labels: ``(n,)`` ids of the classes, on the device.
        num_steps, guidance_scale, autoguidance_scale: denoising steps, and scales of classifier-free guidance and
            autoguidance.
        guidance_interval: ``(start, stop)`` of classifier-free guidance as fractions of the steps.
        predict: the denoiser's prediction at a step, of latents and timestep, and its change by the class.
        own: the pipeline's guide, which measures the images; empty without one.
        difficulty, modes, diversity: what the images are guided by, if they are.
    """

    labels: Tensor
    num_steps: int
    guidance_scale: float
    autoguidance_scale: float
    guidance_interval: tuple[float, float]
    predict: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor | None]]
    own: Sequence[Guide]
    difficulty: Steering | None
    modes: ModePull | None
    diversity: DiversityPush | None

    def step(
        self, latents: Tensor, timestep: Tensor, step: int, scheduler: Any, generator: Generators = None
    ) -> GuidedStep:
        """One denoising step, guided where the windows say so; the generator is of the scheduler's own noise."""
        return guided_step(
            latents,
            timestep,
            step,
            predict=partial(self.predict, step),
            scheduler=scheduler,
            difficulty=self.difficulty,
            modes=self.modes,
            diversity=self.diversity,
            generator=generator,
        )


def prepare_call(
    pipeline: "DifficultyGuidedPipeline",
    class_labels: Any,
    target_difficulty: Any = None,
    *,
    difficulty_guidance_scale: float | None = None,
    guidance_scale: float | None = None,
    num_inference_steps: int | None = None,
    generator: Generators = None,
    latents: Tensor | None = None,
    num_images_per_label: int = 1,
    output_type: str = "pil",
    callback_tensors: Sequence[str] = (),
    difficulty_guidance: GuidanceConfig = GuidanceConfig(),  # noqa: B008 - frozen
    extra_guides: Sequence[PreTrainedModel] = (),
    modes: Tensor | None = None,
    mode_guidance: ModeGuidance = ModeGuidance(),  # noqa: B008 - frozen
    diversity: DiversityGuidance = DiversityGuidance(),  # noqa: B008 - frozen
    groups: Sequence[int] | Tensor | None = None,
    guidance_interval: tuple[float, float] | None = None,
    network_dtype: torch.dtype | None = None,
    set_classes: Any = None,
    autoguidance_scale: float | None = None,
) -> PreparedCall:
    """Check what a call is given and make of it what its steps need; arguments and errors are those of a call.

    Pool generation calls it before the first batch, so that a mistake stops it before a file is written.
    """
    ids = label_ids(pipeline, class_labels, num_images_per_label)
    targets = as_targets(target_difficulty, len(ids), num_images_per_label)
    num_steps = pipeline.default_num_inference_steps if num_inference_steps is None else num_inference_steps
    guidance_scale = pipeline.default_guidance_scale if guidance_scale is None else guidance_scale
    guidance_scale = require_number("guidance_scale", guidance_scale)
    autoguidance_scale = _autoguidance(pipeline, autoguidance_scale)
    require_config("difficulty_guidance", difficulty_guidance, GuidanceConfig)
    require_config("mode_guidance", mode_guidance, ModeGuidance)
    require_config("diversity", diversity, DiversityGuidance)
    check_inputs(pipeline, ids, targets, output_type, num_steps, latents, generator, callback_tensors)
    if difficulty_guidance_scale is not None:
        difficulty_guidance = replace(difficulty_guidance, scale=difficulty_guidance_scale)
    classes = _classes_among(pipeline, difficulty_guidance.among, ids, set_classes)
    if targets is not None:
        _check_guidance_parts(pipeline, ids, classes)
    others = _other_guides(pipeline, extra_guides, ids, targets is not None, classes)
    own = [] if pipeline.classifier is None else [pipeline.guide(pipeline.classifier, ids, classes)]
    labels = torch.tensor(ids, device=pipeline._execution_device)
    if guidance_interval is None:
        guidance_interval = own_interval(pipeline.default_guidance_interval, num_steps)
    classifier_free_steps = interval_steps(guidance_interval, num_steps)

    def predict(step: int, latents: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor | None]:
        with pipeline.computing_in(network_dtype, labels.device):
            return pipeline.predict(latents, timestep, labels, classifier_free=step in classifier_free_steps)

    steering = None
    if targets is not None:
        margins = _margins(pipeline, [*own, *others], labels, classes, network_dtype)
        steering = Steering(
            config=difficulty_guidance,
            targets=targets.to(labels.device),
            num_steps=num_steps,
            decoded=margins[0],
            probed=margins[1],
            draw=lambda shape: randn_tensor(shape, generator=generator, device=labels.device, dtype=torch.float32),
        )
    return PreparedCall(
        labels=labels,
        num_steps=num_steps,
        guidance_scale=guidance_scale,
        autoguidance_scale=autoguidance_scale,
        guidance_interval=guidance_interval,
        predict=predict,
        own=own,
        difficulty=steering,
        modes=None if modes is None else _mode_pull(pipeline, modes, mode_guidance, len(ids), num_steps),
        diversity=_push(diversity, ids, groups, num_steps),
    )


def _margins(
    pipeline: "DifficultyGuidedPipeline",
    guides: Sequence[Guide],
    labels: Tensor,
    classes: Sequence[int] | None,
    network_dtype: torch.dtype | None,
) -> tuple[MarginOf, Callable[[Tensor], MarginOf] | None]:
    """The guides' mean margin of clean latents by the decoder; and by the probe, if there is one, at a signal rate."""
    for guide in guides:
        require_same_measure(guide.classifier, pipeline.image_size[0], guide.preprocessing)
    among = None if classes is None else torch.tensor(classes, device=labels.device)

    def decoded(clean: Tensor) -> Tensor:
        with pipeline.computing_in(network_dtype, labels.device):
            images = pipeline.decode_for_guidance(clean)
        return mean_margin(guides, images)  # the guides themselves, which measure, in full

    def probed(alpha: Tensor, clean: Tensor) -> Tensor:
        with pipeline.computing_in(network_dtype, labels.device):
            return probe_margin(pipeline.probe, labels, alpha, among)(clean)

    return decoded, None if pipeline.probe is None else lambda alpha: partial(probed, alpha)


def _other_guides(
    pipeline: "DifficultyGuidedPipeline",
    classifiers: Sequence[PreTrainedModel],
    class_labels: Sequence[int],
    steered: bool,
    classes: Sequence[int] | None,
) -> list[Guide]:
    """Extra guides, refused without a target, in training mode, or if they lack a class."""
    guides = as_guides(classifiers)
    if guides and not steered:
        raise ValueError("extra guides steer only with a target difficulty; give one, or leave them out")
    require_evaluation_mode(guides)
    return [pipeline.guide(guide, class_labels, classes) for guide in guides]


def _check_guidance_parts(
    pipeline: "DifficultyGuidedPipeline", class_labels: Sequence[int], classes: Sequence[int] | None
) -> None:
    if pipeline.probe is not None:
        require_probe_of(pipeline.probe, pipeline, class_labels, classes)
    channels = pipeline.transformer.config.in_channels
    if pipeline.guidance_vae is not None and pipeline.guidance_vae.config.latent_channels != channels:
        raise ValueError(
            f"guidance_vae decodes {pipeline.guidance_vae.config.latent_channels} latent channels and the transformer "
            f"makes {channels}; use a tiny decoder that was distilled from this pipeline's VAE"
        )


def _autoguidance(pipeline: "DifficultyGuidedPipeline", scale: float | None) -> float:
    """Scale of autoguidance, with a weaker denoiser that fits if it is on."""
    scale = require_number("autoguidance_scale", pipeline.default_autoguidance_scale if scale is None else scale)
    if scale <= 1:
        return scale
    if pipeline.weak_transformer is None:
        raise ValueError(
            f"autoguidance_scale is {scale:g}, and this pipeline has no weak_transformer to guide away from; train one "
            "on the same images, smaller or shorter, and name its folder by weak='FOLDER' where this one is loaded"
        )
    own, weak = pipeline.transformer.config, pipeline.weak_transformer.config
    for name in ("in_channels", "sample_size", "num_embeds_ada_norm"):
        if own[name] != weak[name]:
            raise ValueError(
                f"weak_transformer has {name} {weak[name]} and the transformer {own[name]}; it has to be trained on "
                "latents of the same VAE and on the same classes"
            )
    return scale


def _classes_among(
    pipeline: "DifficultyGuidedPipeline", among: str, ids: Sequence[int], set_classes: Any
) -> tuple[int, ...] | None:
    """Labels that difficulty is measured among, rising; None for all of the guide's."""
    in_set = ids if set_classes is None else [*label_ids(pipeline, set_classes), *ids]
    if wrong := [label for label in in_set if not 0 <= label < pipeline.null_class]:
        raise ValueError(
            f"set_classes names the labels {wrong[:5]}, but the pipeline has 0..{pipeline.null_class - 1}; name those"
        )
    return classes_among(among, in_set)


def _mode_pull(
    pipeline: "DifficultyGuidedPipeline", modes: Tensor, config: ModeGuidance, count: int, num_steps: int
) -> ModePull:
    if not isinstance(modes, Tensor):
        raise ValueError(f"modes are a {type(modes).__name__}; give a tensor of latents, one mode for each image")
    if modes.shape != pipeline.latent_shape(count):
        raise ValueError(
            f"modes have shape {tuple(modes.shape)}; the images need one each, {pipeline.latent_shape(count)}"
        )
    centres = modes.to(pipeline._execution_device)
    return ModePull(centres=centres, scale=config.scale_at(num_steps), steps=config.steps(num_steps))


def _push(
    config: DiversityGuidance, labels: Sequence[int], groups: Sequence[int] | Tensor | None, num_steps: int
) -> DiversityPush | None:
    """What pushes the images of each class and group apart; None at strength 0."""
    numbers = [0] * len(labels) if groups is None else torch.as_tensor(groups).reshape(-1).tolist()
    if len(numbers) != len(labels):
        raise ValueError(f"got {len(numbers)} numbers of groups for {len(labels)} images; give one for each image")
    places = groups_of(list(zip(labels, numbers, strict=True)))
    return DiversityPush(config=config, groups=places, steps=config.steps(num_steps)) if config.scale else None
