"""``DifficultyGuidedPipeline``: diffusers' DiT pipeline whose every step can be steered toward a target difficulty.

The only place that knows the loop of diffusers; the maths is in ``dag_diffusion.guidance``, and what differs
between schedulers in ``dag_diffusion.guidance.schedulers``.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
)
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import PreTrainedModel

from dag_diffusion.classifiers.guide_checks import require_evaluation_mode, require_same_measure
from dag_diffusion.classifiers.image_classifiers import (
    Guide,
    class_names_of,
    keep_with_weights,
    mean_margin,
    picture_margin,
    preprocessing_of,
    require_names_kept,
)
from dag_diffusion.classifiers.weights import only_variant, require_same_tensors
from dag_diffusion.data.class_names import classes_named, match_classes
from dag_diffusion.difficulty import classes_among
from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig, target_values, targets_for
from dag_diffusion.guidance.diversity_guidance import DiversityGuidance, DiversityPush, groups_of
from dag_diffusion.guidance.guided_step import ModePull, Steering, guided_step
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.guidance.probes import probe_margin, require_probe_of
from dag_diffusion.guidance.schedulers import require_supported

DEFAULT_GUIDANCE_SCALE, DEFAULT_STEPS = 4.0, 50  # those of `DiTPipeline`, for a pipeline that carries none of its own
PARTS = ("transformer", "vae", "classifier", "probe", "guidance_vae")  # that have weights
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass
class DifficultyGuidedPipelineOutput(BaseOutput):
    """Images and how hard the guide finds them.

    Attributes:
        images: list of PIL images; or an array ``(n, height, width, channels)`` or a tensor
            ``(n, channels, height, width)`` in [0, 1]; or latents.
        difficulties: ``(n,)`` float32 in [0, 1], measured on the returned images; None without a classifier and for
            latents.
    """

    images: list[PIL.Image.Image] | np.ndarray | Tensor
    difficulties: Tensor | None


@dataclass(frozen=True, kw_only=True)
class PreparedCall:
    """What one call works with, checked.

    Attributes:
        labels: ``(n,)`` ids of the classes, on the device.
        num_steps, guidance_scale: denoising steps, and scale of classifier-free guidance.
        predict: the denoiser's prediction at a step, of latents and timestep, and its change by the class.
        own: the pipeline's guide, which measures the images; empty without one.
        difficulty, modes, diversity: what the images are guided by, if they are.
    """

    labels: Tensor
    num_steps: int
    guidance_scale: float
    predict: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor | None]]
    own: Sequence[Guide]
    difficulty: Steering | None
    modes: ModePull | None
    diversity: DiversityPush | None


class DifficultyGuidedPipeline(DiTPipeline):
    r"""Class-conditional image generation steered toward a target difficulty ``d(x, y) = 1 - p(y | x)``.

    Without a target and with a scheduler that draws no noise of its own, the images equal those of `DiTPipeline` for
    the same seed, bit by bit.  `DiTPipeline` never hands its generator to the other schedulers; this one does.

    Args:
        transformer ([`DiTTransformer2DModel`]): denoises the latents; its null class is `num_embeds_ada_norm`.
        vae ([`AutoencoderKL`]): decodes them.
        scheduler ([`DDIMScheduler`], [`DDPMScheduler`] or [`DPMSolverMultistepScheduler`]): without `clip_sample` and
            `thresholding`, which are meant for pixels.
        classifier (`PreTrainedModel`, *optional*): the guide, any transformers or timm-wrapped image classifier that
            knows the classes by name.  Saved and loaded with the pipeline.
        probe (`PreTrainedModel`, *optional*): predicts the guide's margin from latents, so that most guided steps need
            no decoder; from `dag_diffusion.generation.probe_training.train_probe`.
        guidance_vae ([`AutoencoderTiny`] or [`AutoencoderKL`], *optional*): a cheaper decoder, for gradients only.
        id2label (`dict`, *optional*): label to class name; commas separate synonyms.  Saved with the pipeline.
        default_guidance_scale (`float`, *optional*): scale of classifier-free guidance that suits the transformer, for
            calls that name none; 4, as in `DiTPipeline`, if not given.  Saved with the pipeline.
        default_num_inference_steps (`int`, *optional*): denoising steps that suit it, likewise; 50 if not given.

    Examples:
        >>> from dag_diffusion import DifficultyGuidedPipeline, embedded
        >>> pipeline = DifficultyGuidedPipeline.from_pretrained(embedded.PIPELINE)
        >>> output = pipeline(["Sandal", "Coat"], target_difficulty=[0.1, 0.5], generator=torch.manual_seed(0))
        >>> output.images[0], output.difficulties
    """

    model_cpu_offload_seq = "transformer"
    _optional_components = ["classifier", "probe", "guidance_vae"]  # noqa: RUF012 - diffusers reads it from the class
    # used at every guided step, forward and backward: moving them each time would cost more than it saves
    _exclude_from_cpu_offload = ["vae", "classifier", "probe", "guidance_vae"]  # noqa: RUF012
    _callback_tensor_inputs = ["latents", "clean", "signal_rate"]  # noqa: RUF012

    def __init__(
        self,
        transformer: DiTTransformer2DModel,
        vae: AutoencoderKL,
        scheduler: DDIMScheduler | DDPMScheduler | DPMSolverMultistepScheduler,
        classifier: PreTrainedModel | None = None,
        id2label: dict | None = None,
        probe: PreTrainedModel | None = None,
        guidance_vae: AutoencoderTiny | AutoencoderKL | None = None,
        default_guidance_scale: float | None = None,
        default_num_inference_steps: int | None = None,
    ) -> None:
        super().__init__(transformer, vae, scheduler, id2label=id2label)
        self.register_modules(classifier=classifier, probe=probe, guidance_vae=guidance_vae)
        self.register_to_config(
            id2label=id2label,
            default_guidance_scale=default_guidance_scale,
            default_num_inference_steps=default_num_inference_steps,
        )
        if classifier is not None:
            preprocessing_of(classifier)  # refuses one whose images nobody can prepare
            keep_with_weights(classifier)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "DifficultyGuidedPipeline":
        """As in diffusers, but from safetensors alone unless `use_safetensors=None` lets it fall back to .bin files.

        Raises:
            ValueError: a part lacks some of its weights, which would be made up at random, or holds NaN.
        """
        kwargs.setdefault("use_safetensors", True)
        if variant := only_variant(Path(str(pretrained_model_name_or_path), "transformer")):
            kwargs.setdefault("variant", variant)  # there are no others
        try:
            pipeline = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except OSError as error:
            if "safetensors" not in str(error) or not kwargs["use_safetensors"]:
                raise
            raise OSError(
                f"{pretrained_model_name_or_path} has no safetensors weights for all of its parts ({error}); "
                "a .bin is a pickle, which may run any program: use_safetensors=None if you trust it"
            ) from error
        if "quantization_config" not in kwargs:  # quantised weights are not those of the files
            pipeline._require_whole({name for name in PARTS if name not in kwargs}, kwargs["use_safetensors"])
        return pipeline

    def _require_whole(self, read: Iterable[str], use_safetensors: bool | None) -> None:
        """Refuse parts, of those that were read from files, that are not as they are there."""
        for name in sorted(read):
            if (part := getattr(self, name)) is not None:
                load = partial(type(part).from_pretrained, use_safetensors=use_safetensors)
                require_same_tensors(part, part.config._name_or_path, load)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As in diffusers, with the guide's preprocessing and class names, which come back as they are.

        Raises:
            ValueError: transformers has written other class names than the guide has.
        """
        if self.classifier is not None:
            keep_with_weights(self.classifier)
        super().save_pretrained(save_directory, *args, **kwargs)
        if self.classifier is not None:
            require_names_kept(self.classifier, Path(save_directory) / "classifier")

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, **options: Any) -> str:
        """Share pipeline, guide, probe, ``pipeline.py`` and card; an edited card is kept.  See ``dag_diffusion.push``.

        Raises:
            ValueError: an option of diffusers' own method that does not apply, such as ``token``.
        """
        from dag_diffusion.hub.upload import push

        if options:
            raise ValueError(
                f"push_to_hub knows no {', '.join(options)} here, only private; log in by `hf auth login` or HF_TOKEN"
            )
        return push(self, repo_id, private=bool(private)).place

    @property
    def class_names(self) -> dict[int, str]:
        """Label to class name; `LABEL_0`, `LABEL_1`, ... if the pipeline came without names."""
        known = self.config.id2label or {}
        names = {int(label): name for label, name in known.items()}
        return {i: names.get(i, f"LABEL_{i}") for i in range(self.null_class)}

    @property
    def guidance_scale(self) -> float:
        """Scale of classifier-free guidance in the current call; a step callback may set `_guidance_scale` anew."""
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether classifier-free guidance is on, as it is above a scale of 1."""
        return self._guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        """Denoising steps of the current call."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether the current call skips its remaining steps; a step callback may set `_interrupt`."""
        return self._interrupt

    @property
    def default_guidance_scale(self) -> float:
        """Scale of classifier-free guidance of calls that name none."""
        own = self.config.get("default_guidance_scale")
        return DEFAULT_GUIDANCE_SCALE if own is None else own

    @property
    def default_num_inference_steps(self) -> int:
        """Denoising steps of calls that name none."""
        own = self.config.get("default_num_inference_steps")
        return DEFAULT_STEPS if own is None else own

    @property
    def null_class(self) -> int:
        """The label that means "no class", for classifier-free guidance."""
        return self.transformer.config.num_embeds_ada_norm

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """Labels of one or several class names.

        Raises:
            ValueError: a name that the pipeline lacks, with the nearest ones.
        """
        if not self.config.id2label:
            raise ValueError("this pipeline has no class names; give numbers, or load it with id2label={0: '...', ...}")
        texts = [label] if isinstance(label, str) else list(label)
        found = classes_named(texts, self.class_names, "the pipeline")
        if several := [text for text, labels in zip(texts, found, strict=True) if len(labels) > 1]:
            raise ValueError(
                f"{several[0]!r} names several classes of the pipeline; give a list of names, {several[0].split(',')}"
            )
        return [labels[0] for labels in found]

    def check_inputs(
        self,
        class_labels: Sequence[int],
        targets: Tensor | None,
        output_type: str,
        num_inference_steps: int,
        latents: Tensor | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        callback_tensors: Sequence[str] = (),
    ) -> None:
        """Refuse what would give wrong images or an error without a way out; see the messages."""
        wrong = [label for label in class_labels if not 0 <= label < self.null_class]
        if wrong or not class_labels:
            raise ValueError(
                f"class labels must be one or more of 0..{self.null_class - 1}, or names, but got {wrong or 'none'}"
            )
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}; choose one of {', '.join(OUTPUT_TYPES)}")
        trained = self.scheduler.config.num_train_timesteps
        if not 1 <= num_inference_steps <= trained:
            raise ValueError(f"num_inference_steps is {num_inference_steps}; it must lie in 1..{trained}, as trained")
        if isinstance(generator, list) and len(generator) != len(class_labels):
            raise ValueError(
                f"got {len(generator)} generators for {len(class_labels)} images; give one for each, or one in all"
            )
        if latents is not None and latents.shape != self._latent_shape(len(class_labels)):
            raise ValueError(
                f"latents have shape {tuple(latents.shape)}; the images need {self._latent_shape(len(class_labels))}"
            )
        if unknown := set(callback_tensors) - set(self._callback_tensor_inputs):
            raise ValueError(
                f"the step callback cannot have {sorted(unknown)}; it can have {self._callback_tensor_inputs}"
            )
        if targets is not None and self.classifier is None:
            raise ValueError(
                "a target difficulty needs a classifier to steer by, and this pipeline has none; "
                "load it with from_pretrained(..., classifier=load_classifier('...'))"
            )
        for name in PARTS:
            if getattr(getattr(self, name), "training", False):
                raise ValueError(
                    f"the {name} is in training mode, where it drops labels or units; call {name}.eval() first"
                )
        if targets is not None and torch.is_inference_mode_enabled():
            raise ValueError(
                "guidance needs gradients, which torch.inference_mode() forbids; use torch.no_grad() instead"
            )
        require_supported(self.scheduler, self.transformer.config)

    def _other_guides(
        self,
        classifiers: Sequence[PreTrainedModel],
        class_labels: Sequence[int],
        steered: bool,
        classes: Sequence[int] | None,
    ) -> list[Guide]:
        """Extra guides, refused without a target, in training mode, or if they lack a class."""
        if classifiers and not steered:
            raise ValueError("extra guides steer only with a target difficulty; give one, or leave them out")
        require_evaluation_mode(classifiers)
        return [self.guide(classifier, class_labels, classes) for classifier in classifiers]

    def _check_guidance_parts(self, class_labels: Sequence[int], classes: Sequence[int] | None) -> None:
        if self.probe is not None:
            require_probe_of(self.probe, self, class_labels, classes)
        channels = self.transformer.config.in_channels
        if self.guidance_vae is not None and self.guidance_vae.config.latent_channels != channels:
            raise ValueError(
                f"guidance_vae decodes {self.guidance_vae.config.latent_channels} latent channels and the transformer "
                f"makes {channels}; use a tiny decoder that was distilled from this pipeline's VAE"
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) of the images, in pixels."""
        side = self.transformer.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)
        return side, side

    def _latent_shape(self, batch: int) -> tuple[int, int, int, int]:
        size = self.transformer.config.sample_size
        return batch, self.transformer.config.in_channels, size, size

    def prepare_latents(
        self, batch: int, generator: torch.Generator | list[torch.Generator] | None, latents: Tensor | None
    ) -> Tensor:
        """Initial noise, ``(batch, channels, height, width)``, or the caller's."""
        device, dtype = self._execution_device, self.transformer.dtype
        if latents is not None:
            return latents.to(device, dtype)
        return randn_tensor(self._latent_shape(batch), generator=generator, device=device, dtype=dtype)

    def predict(
        self, latents: Tensor, timestep: Tensor, class_labels: Tensor, *, classifier_free: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """The denoiser's prediction with classifier-free guidance; learned variance channels stay if it has them.

        Args:
            classifier_free: False leaves classifier-free guidance out, whatever its scale.

        Returns:
            The prediction, and how it changes with the class (conditional minus unconditional), None without
            classifier-free guidance.
        """
        guided = self.do_classifier_free_guidance and classifier_free
        doubled = torch.cat([latents, latents]) if guided else latents
        nulls = torch.full_like(class_labels, self.null_class)
        output = self.transformer(
            self.scheduler.scale_model_input(doubled, timestep),
            timestep=timestep.to(latents.device).expand(len(doubled)),
            class_labels=torch.cat([class_labels, nulls]) if guided else class_labels,
        ).sample.to(latents.dtype)
        if not guided:
            return output, None
        channels = latents.shape[1]
        conditional, unconditional = output[:, :channels].chunk(2)
        mixed = unconditional + self.guidance_scale * (conditional - unconditional)
        return torch.cat([mixed, output[: len(latents), channels:]], dim=1), conditional - unconditional

    def decode_for_guidance(self, latents: Tensor) -> Tensor:
        """Latents to images in about [0, 1], not clipped, differentiable, by `guidance_vae` if there is one."""
        vae = self.vae if self.guidance_vae is None else self.guidance_vae
        return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample / 2 + 0.5

    def _computing_in(self, dtype: torch.dtype | None, *, enabled: bool = True) -> AbstractContextManager:
        """Where networks with float32 weights compute in `dtype`; None leaves it to the caller.

        Not `enabled`, around a whole call, it computes as ever and keeps the weights that are cast within, which else
        would be cast anew at every step.
        """
        if dtype in (None, torch.float32):
            return nullcontext()
        return torch.autocast(self._execution_device.type, dtype, enabled=enabled)

    def prepare_call(
        self,
        class_labels: Any,
        target_difficulty: Any = None,
        *,
        difficulty_guidance_scale: float | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
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
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        network_dtype: torch.dtype | None = None,
        set_classes: Any = None,
    ) -> PreparedCall:
        """Check what a call is given and make of it what the steps need; arguments and errors as of `__call__`.

        Pool generation calls it before the first batch, so that a mistake stops it before a file is written.
        """
        ids = self._as_label_ids(class_labels, num_images_per_label)
        targets = _as_targets(target_difficulty, len(ids), num_images_per_label)
        num_steps = self.default_num_inference_steps if num_inference_steps is None else num_inference_steps
        guidance_scale = self.default_guidance_scale if guidance_scale is None else guidance_scale
        if not math.isfinite(guidance_scale):  # NaN would pass for off
            raise ValueError(f"guidance_scale is {guidance_scale}; give a finite number, 1 or less to switch it off")
        self.check_inputs(ids, targets, output_type, num_steps, latents, generator, callback_tensors)
        if difficulty_guidance_scale is not None:
            difficulty_guidance = replace(difficulty_guidance, scale=difficulty_guidance_scale)
        classes = self._classes_among(difficulty_guidance.among, ids, set_classes)
        if targets is not None:
            self._check_guidance_parts(ids, classes)
        others = self._other_guides(extra_guides, ids, targets is not None, classes)
        own = [] if self.classifier is None else [self.guide(self.classifier, ids, classes)]
        labels = torch.tensor(ids, device=self._execution_device)
        among = None if classes is None else torch.tensor(classes, device=self._execution_device)

        classifier_free_steps = _interval_steps(guidance_interval, num_steps)

        def predict(step: int, latents: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor | None]:
            with self._computing_in(network_dtype):
                return self.predict(latents, timestep, labels, classifier_free=step in classifier_free_steps)

        def decoded_margin(clean: Tensor) -> Tensor:
            with self._computing_in(network_dtype):
                images = self.decode_for_guidance(clean)
            return mean_margin([*own, *others], images)  # the guides themselves, which measure, in full

        def probed_margin(alpha: Tensor, clean: Tensor) -> Tensor:
            with self._computing_in(network_dtype):
                return probe_margin(self.probe, labels, alpha, among)(clean)

        steering = None
        if targets is not None:
            for guide in (*own, *others):
                require_same_measure(guide.classifier, self.image_size[0])
            steering = Steering(
                config=difficulty_guidance,
                targets=targets.to(labels.device),
                num_steps=num_steps,
                decoded=decoded_margin,
                probed=None if self.probe is None else lambda alpha: partial(probed_margin, alpha),
                draw=lambda shape: randn_tensor(shape, generator=generator, device=labels.device, dtype=torch.float32),
            )
        return PreparedCall(
            labels=labels,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            predict=predict,
            own=own,
            difficulty=steering,
            modes=None if modes is None else self._mode_pull(modes, mode_guidance, len(ids), num_steps),
            diversity=_push(diversity, ids, groups, num_steps),
        )

    def _classes_among(self, among: str, ids: Sequence[int], set_classes: Any) -> tuple[int, ...] | None:
        """Labels that difficulty is measured among, rising; None for all of the guide's."""
        in_set = ids if set_classes is None else [*self._as_label_ids(set_classes, 1), *ids]
        if wrong := [label for label in in_set if not 0 <= label < self.null_class]:
            raise ValueError(
                f"set_classes names the labels {wrong[:5]}, but the pipeline has 0..{self.null_class - 1}; name those"
            )
        return classes_among(among, in_set)

    def _mode_pull(self, modes: Tensor, config: ModeGuidance, count: int, num_steps: int) -> ModePull:
        if modes.shape != self._latent_shape(count):
            raise ValueError(
                f"modes have shape {tuple(modes.shape)}; the images need one each, {self._latent_shape(count)}"
            )
        return ModePull(centres=modes.to(self._execution_device), config=config, steps=config.steps(num_steps))

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | Sequence[Any] | Tensor,
        target_difficulty: float | Sequence[float] | Tensor | None = None,
        difficulty_guidance_scale: float | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        num_images_per_label: int = 1,
        output_type: str = "pil",
        callback_on_step_end: Callable[[Any, int, Tensor, dict], dict] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        difficulty_guidance: GuidanceConfig = GuidanceConfig(),  # noqa: B008 - frozen
        extra_guides: Sequence[PreTrainedModel] = (),
        modes: Tensor | None = None,
        mode_guidance: ModeGuidance = ModeGuidance(),  # noqa: B008 - frozen
        diversity: DiversityGuidance = DiversityGuidance(),  # noqa: B008 - frozen
        groups: Sequence[int] | Tensor | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        network_dtype: torch.dtype | None = None,
        set_classes: int | str | Sequence[Any] | Tensor | None = None,
        return_dict: bool = True,
    ) -> DifficultyGuidedPipelineOutput | tuple:
        r"""Generate images of the given classes, each as hard as asked.

        Args:
            class_labels: ids or names, one or several; nested lists are flattened.
            target_difficulty: in [0, 1], one for all or one for each image; None generates without difficulty guidance.
            difficulty_guidance_scale: replaces `difficulty_guidance.scale`; 1, its default, is the linearised hit of
                the target.
            guidance_scale: scale of classifier-free guidance, which is on above 1; by default the pipeline's own,
                `default_guidance_scale`.
            num_inference_steps: denoising steps; by default the pipeline's own, `default_num_inference_steps`.
            generator: one for the batch, or one for each image, which makes images independent of their batch.
            latents: initial noise `(n, channels, height, width)` instead of drawing it.
            num_images_per_label: images for each entry of `class_labels`.
            output_type: `pil`, `np`, `pt` or `latent`.
            callback_on_step_end: `callback(pipeline, step, timestep, {"latents": ...})`, may return other latents, set
                `pipeline._guidance_scale` anew, or end the run by `pipeline._interrupt = True`.
            callback_on_step_end_tensor_inputs: what it is given: `latents` after the step, the `clean` sample that was
                predicted before it, and the cumulative `signal_rate` at which that was.
            difficulty_guidance: window, interval and trust region of difficulty guidance.
            extra_guides: more classifiers, whose mean margin with the pipeline's own steers; with a probe, only in the
                `decoded_steps`.
            modes: latents `(n, channels, height, width)` that each image is drawn to; see `find_modes`.
            mode_guidance: window and strength of mode guidance.
            diversity: strength and window of diversity guidance, which pushes images of a class apart.  Each image then
                depends on the others of its group.
            groups: a number for each image; those of a class that share one are pushed apart.  Default: all of a class.
            guidance_interval: `(start, stop)` of classifier-free guidance as fractions of the steps, after Kynkäänniemi
                et al. (2024); steps outside cost half, and their difficulty guidance has no class direction.
            network_dtype: what transformer, VAE and probe compute in if their weights are float32, such as
                `torch.bfloat16`; latents, scheduler and guidance stay in float32.  None: as their weights.
            set_classes: ids or names of the classes of the set, for a `difficulty_guidance` that measures among these
                alone (`among="set"`); by default those of this call.
            return_dict: False gives the tuple `(images, difficulties)`.

        Raises:
            ValueError: what `check_inputs` refuses; a target outside [0, 1], NaN, or of another length; a classifier
                without one of the classes; an interval without a step.
        """
        # 1. check the inputs and prepare labels, guides and latents
        call = self.prepare_call(
            class_labels,
            target_difficulty,
            difficulty_guidance_scale=difficulty_guidance_scale,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            generator=generator,
            latents=latents,
            num_images_per_label=num_images_per_label,
            output_type=output_type,
            callback_tensors=callback_on_step_end_tensor_inputs,
            difficulty_guidance=difficulty_guidance,
            extra_guides=extra_guides,
            modes=modes,
            mode_guidance=mode_guidance,
            diversity=diversity,
            groups=groups,
            guidance_interval=guidance_interval,
            network_dtype=network_dtype,
            set_classes=set_classes,
        )
        self._guidance_scale, self._num_timesteps, self._interrupt = call.guidance_scale, call.num_steps, False
        z = self.prepare_latents(len(call.labels), generator, latents)

        # 2. denoise, guided where the windows say so
        self.scheduler.set_timesteps(call.num_steps, device=z.device)
        with self._computing_in(network_dtype, enabled=False):
            for step, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
                if self.interrupt:
                    continue
                z, clean, signal_rate = guided_step(
                    z,
                    timestep,
                    step,
                    predict=partial(call.predict, step),
                    scheduler=self.scheduler,
                    difficulty=call.difficulty,
                    modes=call.modes,
                    diversity=call.diversity,
                    generator=generator,
                )
                if callback_on_step_end is not None:
                    known = {"latents": z, "clean": clean, "signal_rate": signal_rate}
                    given = {name: known[name] for name in callback_on_step_end_tensor_inputs}
                    z = callback_on_step_end(self, step, timestep, given).get("latents", z)
        if call.difficulty is not None:
            call.difficulty.warn()

        # 3. decode and measure
        images, difficulties = self._finish(z, call.own, output_type, network_dtype)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, difficulties
        return DifficultyGuidedPipelineOutput(images=images, difficulties=difficulties)

    def _as_label_ids(self, class_labels: Any, num_images_per_label: int) -> list[int]:
        if num_images_per_label < 1:
            raise ValueError(f"num_images_per_label is {num_images_per_label}; it must be at least 1")
        labels = _flattened(class_labels)
        ids = [self.get_label_ids(label)[0] if isinstance(label, str) else int(label) for label in labels]
        return [label for label in ids for _ in range(num_images_per_label)]

    def guide(
        self, classifier: PreTrainedModel, class_labels: Sequence[int], classes: Sequence[int] | None = None
    ) -> Guide:
        """A classifier with its own labels of these classes, matched by name, and its preprocessing.

        Args:
            classes: of this pipeline, among which difficulty is measured; None for all of the classifier's.

        Raises:
            ValueError: the classifier lacks one of them; see `class_names.match_classes`.
        """
        names = self.class_names
        if self.config.id2label:  # names can be matched one by one, numbers only as a whole
            names = {label: names[label] for label in (*class_labels, *(classes or ()))}
        table = match_classes(names, class_names_of(classifier), "the classifier")
        labels = torch.tensor([table[label] for label in class_labels], device=self._execution_device)
        theirs = None if classes is None else torch.tensor(sorted({table[label] for label in classes}))
        return Guide(classifier, labels, preprocessing_of(classifier), theirs)

    def _finish(
        self, latents: Tensor, guide: Sequence[Guide], output_type: str, network_dtype: torch.dtype | None
    ) -> tuple[Any, Tensor | None]:
        if output_type == "latent":
            return latents, None
        # DiTPipeline's own order of operations, since (1 / s) * z and z / s differ in the last bit
        with self._computing_in(network_dtype):
            decoded = self.vae.decode(1 / self.vae.config.scaling_factor * latents.to(self.vae.dtype)).sample
        decoded = decoded if network_dtype is None else decoded.float()  # 8 bits of a pixel want more than bfloat16
        images = (decoded / 2 + 0.5).clamp(0, 1).float()
        if broken := int((~torch.isfinite(images)).flatten(1).any(1).sum()):
            raise FloatingPointError(
                f"{broken} of {len(images)} images are not finite, guided or not; "
                "keep the transformer and the VAE in float32 or bfloat16"
            )
        array = images.cpu().permute(0, 2, 3, 1).numpy()
        pictures = self.numpy_to_pil(array) if output_type == "pil" else None
        difficulties = None
        if guide:
            # measured on what is handed out: PIL images have 8 bits and are read as their files will be
            margins = mean_margin(guide, images) if pictures is None else picture_margin(guide, pictures)
            difficulties = torch.sigmoid(-margins).cpu()
        return {"pil": pictures, "np": array, "pt": images}[output_type], difficulties


def _interval_steps(interval: tuple[float, float], num_steps: int) -> range:
    """Steps of classifier-free guidance, ``[start, stop)`` in fractions of all."""
    try:
        start, stop = interval
        steps = range(int(start * num_steps), int(stop * num_steps)) if 0 <= start < stop <= 1 else range(0)
    except (TypeError, ValueError):
        steps = range(0)
    if not steps:
        raise ValueError(
            f"guidance_interval {interval} holds none of {num_steps} steps; give (start, stop) as fractions of them, "
            "0 <= start < stop <= 1, or guidance_scale=1 for no classifier-free guidance"
        )
    return steps


def _push(
    config: DiversityGuidance, labels: Sequence[int], groups: Sequence[int] | Tensor | None, num_steps: int
) -> DiversityPush | None:
    """What pushes the images of each class and group apart; None at strength 0."""
    numbers = [0] * len(labels) if groups is None else torch.as_tensor(groups).tolist()
    if len(numbers) != len(labels):
        raise ValueError(f"got {len(numbers)} numbers of groups for {len(labels)} images; give one for each image")
    places = groups_of(list(zip(labels, numbers, strict=True)))
    return DiversityPush(config=config, groups=places, steps=config.steps(num_steps)) if config.scale else None


def _flattened(labels: Any) -> list[Any]:
    """One label, or any nesting of lists, tuples, tensors and arrays of them, as a flat list."""
    if isinstance(labels, Tensor | np.ndarray):
        return labels.reshape(-1).tolist()
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        return [labels]
    return [label for part in labels for label in _flattened(part)]


def _as_targets(target: Any, count: int, num_images_per_label: int) -> Tensor | None:
    """Target difficulties as ``(count,)`` float32, or None."""
    if target is None:
        return None
    values = target_values(target)
    if len(values) * num_images_per_label == count:
        values = values.repeat_interleave(num_images_per_label)
    return targets_for(values, count)
