"""``DifficultyGuidedPipeline``: diffusers' DiT pipeline whose every step can be steered toward a target difficulty.

The only place that knows diffusers' loop; the maths is in ``dag_diffusion.guidance``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import (
    AutoencoderKL,
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

from dag_diffusion.classifiers import Preprocessing, class_names_of, image_logits, match_classes, preprocessing_of
from dag_diffusion.difficulty import difficulty, margin
from dag_diffusion.guidance import GuidanceConfig, difficulty_shift, predicted_clean

SCHEDULERS = (DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler)
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
        id2label (`dict`, *optional*): label to class name; commas separate synonyms.  Saved with the pipeline.

    Example:
        >>> from dag_diffusion import DifficultyGuidedPipeline, embedded
        >>> pipeline = DifficultyGuidedPipeline.from_pretrained(embedded.PIPELINE)
        >>> output = pipeline(["Sandal", "Coat"], target_difficulty=[0.1, 0.5], generator=torch.manual_seed(0))
        >>> output.images[0], output.difficulties
    """

    model_cpu_offload_seq = "transformer"
    _optional_components = ["classifier"]  # noqa: RUF012 - diffusers reads it from the class
    # used at every guided step, forward and backward: moving them each time would cost more than it saves
    _exclude_from_cpu_offload = ["vae", "classifier"]  # noqa: RUF012
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012

    def __init__(
        self,
        transformer: DiTTransformer2DModel,
        vae: AutoencoderKL,
        scheduler: DDIMScheduler | DDPMScheduler | DPMSolverMultistepScheduler,
        classifier: PreTrainedModel | None = None,
        id2label: dict | None = None,
    ) -> None:
        super().__init__(transformer, vae, scheduler, id2label=id2label)
        self.register_modules(classifier=classifier)
        self.register_to_config(id2label=id2label)
        if classifier is not None:
            # the processor beside the weights is out of reach once the pipeline is saved elsewhere
            classifier.config.preprocessing = _as_fields(preprocessing_of(classifier))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "DifficultyGuidedPipeline":
        """As in diffusers, but from safetensors alone unless `use_safetensors=None` lets it fall back to .bin files."""
        kwargs.setdefault("use_safetensors", True)
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except OSError as error:
            if "safetensors" not in str(error) or not kwargs["use_safetensors"]:
                raise
            raise OSError(
                f"{pretrained_model_name_or_path} has no safetensors weights for all of its parts ({error}); "
                "if you trust its .bin files, pass use_safetensors=None"
            ) from error

    @property
    def class_names(self) -> dict[int, str]:
        """Label to class name; `LABEL_0`, `LABEL_1`, ... if the pipeline came without names."""
        known = self.config.id2label or {}
        names = {int(label): name for label, name in known.items()}
        return {i: names.get(i, f"LABEL_{i}") for i in range(self.null_class)}

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
        wanted = dict(enumerate([label] if isinstance(label, str) else label))
        # numbers below zero, so that no position is taken for a label when a name has several
        found = match_classes({-1 - i: name for i, name in wanted.items()}, self.class_names, "the pipeline")
        return [found[-1 - i] for i in wanted]

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
        for name in ("transformer", "vae", "classifier"):
            if getattr(getattr(self, name), "training", False):
                raise ValueError(
                    f"the {name} is in training mode, where it drops labels or units; call {name}.eval() first"
                )
        if targets is not None and torch.is_inference_mode_enabled():
            raise ValueError(
                "guidance needs gradients, which torch.inference_mode() forbids; use torch.no_grad() instead"
            )
        _check_scheduler(self.scheduler, self.transformer.config)

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

    def predict(self, latents: Tensor, timestep: Tensor, class_labels: Tensor, guidance_scale: float) -> Tensor:
        """The denoiser's prediction with classifier-free guidance; learned variance channels stay if it has them."""
        doubled = torch.cat([latents, latents]) if guidance_scale > 1 else latents
        nulls = torch.full_like(class_labels, self.null_class)
        output = self.transformer(
            self.scheduler.scale_model_input(doubled, timestep),
            timestep=timestep.to(latents.device).expand(len(doubled)),
            class_labels=torch.cat([class_labels, nulls]) if guidance_scale > 1 else class_labels,
        ).sample
        if guidance_scale <= 1:
            return output
        channels = latents.shape[1]
        conditional, unconditional = output[:, :channels].chunk(2)
        guided = unconditional + guidance_scale * (conditional - unconditional)
        return torch.cat([guided, output[: len(latents), channels:]], dim=1)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images ``(batch, channels, height, width)``, in about [0, 1], not clipped; differentiable."""
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample / 2 + 0.5

    def latent_margin(self, labels: Tensor, preprocessing: Preprocessing) -> Callable[[Tensor], Tensor]:
        """The guide's margin as a differentiable function of clean latents; ``labels`` are the guide's own."""

        def margin_of(clean: Tensor) -> Tensor:
            images = self.decode(clean.to(self.vae.dtype))
            return margin(image_logits(self.classifier, images, preprocessing), labels)

        return margin_of

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | Sequence[int | str] | Tensor,
        target_difficulty: float | Sequence[float] | Tensor | None = None,
        difficulty_guidance_scale: float | None = None,
        guidance_scale: float = 4.0,
        num_inference_steps: int = 50,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        num_images_per_label: int = 1,
        output_type: str = "pil",
        callback_on_step_end: Callable[[Any, int, Tensor, dict], dict] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        difficulty_guidance: GuidanceConfig = GuidanceConfig(),  # noqa: B008 - frozen
        return_dict: bool = True,
    ) -> DifficultyGuidedPipelineOutput | tuple:
        r"""Generate images of the given classes, each as hard as asked.

        Args:
            class_labels: ids or names, one or several.
            target_difficulty: in [0, 1], one for all or one for each image; None generates without difficulty guidance.
            difficulty_guidance_scale: replaces `difficulty_guidance.scale`; 1, its default, is the linearised hit of
                the target.
            guidance_scale: of classifier-free guidance, which is on above 1; 4 is `DiTPipeline`'s default.
            num_inference_steps: denoising steps.
            generator: one for the batch, or one for each image, which makes images independent of their batch.
            latents: initial noise `(n, channels, height, width)` instead of drawing it.
            num_images_per_label: images for each entry of `class_labels`.
            output_type: `pil`, `np`, `pt` or `latent`.
            callback_on_step_end: `callback(pipeline, step, timestep, {"latents": ...})`, may return other latents.
            callback_on_step_end_tensor_inputs: what it is given; `latents` is all there is.
            difficulty_guidance: window, interval and trust region.
            return_dict: False gives the tuple `(images, difficulties)`.

        Raises:
            ValueError: what `check_inputs` refuses; a target outside [0, 1], NaN, or of another length; a classifier
                without one of the classes.
        """
        # 1. check the inputs
        class_labels = self._as_label_ids(class_labels, num_images_per_label)
        targets = _as_targets(target_difficulty, len(class_labels), num_images_per_label)
        self.check_inputs(
            class_labels,
            targets,
            output_type,
            num_inference_steps,
            latents,
            generator,
            callback_on_step_end_tensor_inputs,
        )
        config = difficulty_guidance
        if difficulty_guidance_scale is not None:
            config = replace(config, scale=difficulty_guidance_scale)

        guided = config.steps(num_inference_steps) if targets is not None else ()

        # 2. prepare labels, the guide and latents
        device = self._execution_device
        guide_labels = self.guide_labels(class_labels)
        preprocessing = None if self.classifier is None else preprocessing_of(self.classifier)
        labels = torch.tensor(class_labels, device=device)
        latents = self.prepare_latents(len(class_labels), generator, latents)

        # 3. denoise, shifting the predicted clean sample where the window says so
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        for step, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            output = self.predict(latents, timestep, labels, guidance_scale)
            shift = None
            if step in guided:
                alpha = _signal_rate(self.scheduler, timestep)
                prediction = output[:, : latents.shape[1]]
                clean = predicted_clean(prediction, latents, alpha, self.scheduler.config.prediction_type)
                margin_of = self.latent_margin(guide_labels, preprocessing)
                shift = difficulty_shift(clean, margin_of, targets.to(device), config)
            latents = _denoise(self.scheduler, output, timestep, latents, generator)
            if shift is not None:
                latents = _place(self.scheduler, latents, shift, timestep)
            if callback_on_step_end is not None:
                changed = callback_on_step_end(self, step, timestep, {"latents": latents})
                latents = changed.get("latents", latents)

        # 4. decode and measure
        images, difficulties = self._finish(latents, guide_labels, preprocessing, output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, difficulties
        return DifficultyGuidedPipelineOutput(images=images, difficulties=difficulties)

    def _as_label_ids(self, class_labels: Any, num_images_per_label: int) -> list[int]:
        if num_images_per_label < 1:
            raise ValueError(f"num_images_per_label is {num_images_per_label}; it must be at least 1")
        if isinstance(class_labels, Tensor | np.ndarray):
            class_labels = class_labels.reshape(-1).tolist()
        if isinstance(class_labels, int | str):
            class_labels = [class_labels]
        ids = [self.get_label_ids(label)[0] if isinstance(label, str) else int(label) for label in class_labels]
        return [label for label in ids for _ in range(num_images_per_label)]

    def guide_labels(self, class_labels: Sequence[int]) -> Tensor | None:
        """The classifier's own labels of these classes, matched by name; None without a classifier.

        Raises:
            ValueError: the classifier lacks one of them; see `classifiers.match_classes`.
        """
        if self.classifier is None:
            return None
        names = self.class_names
        if self.config.id2label:  # names can be matched one by one, numbers only as a whole
            names = {label: names[label] for label in class_labels}
        table = match_classes(names, class_names_of(self.classifier), "the classifier")
        return torch.tensor([table[label] for label in class_labels], device=self._execution_device)

    def _finish(
        self, latents: Tensor, guide_labels: Tensor | None, preprocessing: Preprocessing | None, output_type: str
    ) -> tuple[Any, Tensor | None]:
        if output_type == "latent":
            return latents, None
        # DiTPipeline's own order of operations, since (1 / s) * z and z / s differ in the last bit
        decoded = self.vae.decode(1 / self.vae.config.scaling_factor * latents.to(self.vae.dtype)).sample
        images = (decoded / 2 + 0.5).clamp(0, 1).float()
        array = images.cpu().permute(0, 2, 3, 1).numpy()
        pictures = self.numpy_to_pil(array) if output_type == "pil" else None
        difficulties = None
        if guide_labels is not None:
            # measured on what is handed out: PIL images have 8 bits
            seen = (images * 255).round() / 255 if output_type == "pil" else images
            difficulties = difficulty(image_logits(self.classifier, seen, preprocessing), guide_labels).cpu()
        return {"pil": pictures, "np": array, "pt": images}[output_type], difficulties


def _as_fields(preprocessing: Preprocessing) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(preprocessing).items()}


def _as_targets(target: Any, count: int, num_images_per_label: int) -> Tensor | None:
    """Target difficulties as ``(count,)`` float32, or None."""
    if target is None:
        return None
    try:
        values = torch.as_tensor(target, dtype=torch.float32).reshape(-1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"target_difficulty must be numbers in [0, 1], but is {target!r}") from error
    if len(values) * num_images_per_label == count:
        values = values.repeat_interleave(num_images_per_label)
    if len(values) not in (1, count):
        raise ValueError(f"got {len(values)} target difficulties for {count} images; give one for all or one for each")
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise ValueError(f"target difficulties must lie in [0, 1], 0 easy and 1 hard, but got {values.tolist()[:5]}")
    return values.expand(count)


def _check_scheduler(scheduler: Any, transformer: Any) -> None:
    name, config = type(scheduler).__name__, scheduler.config
    if not isinstance(scheduler, SCHEDULERS):
        allowed = ", ".join(kind.__name__ for kind in SCHEDULERS)
        raise ValueError(
            f"{name} is not supported, since its noise or its history would be wrong here; "
            f"use one of {allowed}: DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)"
        )
    for option in (
        ("thresholding",) if isinstance(scheduler, DPMSolverMultistepScheduler) else ("clip_sample", "thresholding")
    ):
        if config.get(option, False):
            raise ValueError(
                f"{name} has {option}=True, which is for pixels and would clip latents; "
                f"use pipeline.scheduler = {name}.from_config(pipeline.scheduler.config, {option}=False)"
            )
    if config.prediction_type not in ("epsilon", "v_prediction", "sample") or config.get("use_flow_sigmas", False):
        raise ValueError(
            f"{name} has prediction_type {config.prediction_type!r} or flow sigmas; use epsilon, v_prediction or sample"
        )
    _check_variance(scheduler, transformer)


def _check_variance(scheduler: Any, transformer: Any) -> None:
    """A scheduler that wants a learned variance must get one, and take it in the form in which it comes."""
    if str(scheduler.config.get("variance_type")) not in ("learned", "learned_range"):
        return
    learns = (transformer.out_channels or transformer.in_channels) == 2 * transformer.in_channels
    if isinstance(scheduler, DPMSolverMultistepScheduler) or (isinstance(scheduler, DDPMScheduler) and not learns):
        name = type(scheduler).__name__
        raise ValueError(
            f"{name} wants a learned variance that this pipeline cannot give it; "
            f"use pipeline.scheduler = {name}.from_config(pipeline.scheduler.config, variance_type='fixed_small')"
        )


def _denoise(scheduler: Any, output: Tensor, timestep: Tensor, latents: Tensor, generator: Any) -> Tensor:
    """One step of the scheduler; the learned variance goes only to the one that can use it."""
    if not (isinstance(scheduler, DDPMScheduler) and scheduler.variance_type in ("learned", "learned_range")):
        output = output[:, : latents.shape[1]]
    return scheduler.step(output, timestep, latents, generator=generator).prev_sample


def _signal_rate(scheduler: Any, timestep: Tensor) -> Tensor:
    """Cumulative signal rate at a timestep, in (0, 1]."""
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        known = scheduler.step_index is not None  # some spacings have a timestep twice
        index = scheduler.step_index if known else scheduler.index_for_timestep(timestep)
        return 1 / (1 + scheduler.sigmas[index].square())
    return scheduler.alphas_cumprod[timestep.long().cpu()]


def _place(scheduler: Any, latents: Tensor, shift: Tensor, timestep: Tensor) -> Tensor:
    """Carry a shift of the clean sample over into the latents after the step, with the predicted noise kept."""
    alpha = _signal_rate_after(scheduler, timestep)
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        # the predictions that it remembers lie on the path before the shift, so it starts anew from here
        scheduler.lower_order_nums = 0
    return (latents.float() + torch.as_tensor(alpha).sqrt().to(shift.device) * shift).to(latents.dtype)


def _signal_rate_after(scheduler: Any, timestep: Tensor) -> Tensor:
    """Cumulative signal rate of the latents that the step at ``timestep`` has just made."""
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        return 1 / (1 + scheduler.sigmas[scheduler.step_index].square())  # the index is already that of the next step
    if isinstance(scheduler, DDPMScheduler):
        previous, last = int(scheduler.previous_timestep(timestep)), scheduler.one
    else:
        previous = int(timestep) - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
        last = scheduler.final_alpha_cumprod
    return scheduler.alphas_cumprod[previous] if previous >= 0 else last
