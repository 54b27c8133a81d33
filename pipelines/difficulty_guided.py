"""``DifficultyGuidedPipeline``: diffusers' DiT pipeline whose every step can be steered toward a target difficulty.

The one place with diffusers' loop.  ``prepared_calls`` prepares a call, ``dag_diffusion.guidance`` knows the maths.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
)
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import PreTrainedModel

from dag_diffusion.classifiers.guide_checks import require_classifier
from dag_diffusion.classifiers.image_classifiers import (
    Guide,
    class_names_of,
    keep_with_weights,
    preprocessing_of,
    require_known_again,
    require_names_kept,
)
from dag_diffusion.classifiers.weights import require_same_tensors, variant_of_parts
from dag_diffusion.data.class_names import classes_named, match_classes
from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig
from dag_diffusion.guidance.diversity_guidance import DiversityGuidance
from dag_diffusion.guidance.guided_step import Generators
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.pipelines.call_inputs import PARTS
from dag_diffusion.pipelines.latents import pixels_of_a_latent
from dag_diffusion.pipelines.pipeline_output import DifficultyGuidedPipelineOutput, finished_images
from dag_diffusion.pipelines.prepared_calls import prepare_call

DEFAULT_GUIDANCE_SCALE, DEFAULT_STEPS = 4.0, 50  # those of `DiTPipeline`, for a pipeline that carries none of its own


class DifficultyGuidedPipeline(DiTPipeline):
    r"""Class-conditional image generation steered toward a target difficulty ``d(x, y) = 1 - p(y | x)``.

    Without a target and with a scheduler that draws no noise of its own, the images equal those of `DiTPipeline` for
    the same seed, bit by bit.  `DiTPipeline` never hands its generator to the other schedulers; this one does.

    Args:
        transformer ([`DiTTransformer2DModel`]): denoises the latents; its null class is `num_embeds_ada_norm`.
        vae ([`AutoencoderKL`]): decodes them.
        scheduler ([`SchedulerMixin`]): DDIM, DDPM, multistep DPM-Solver or UniPC; without `clip_sample` and
            `thresholding`, which are meant for pixels.
        classifier (`PreTrainedModel`, *optional*): the guide, any transformers or timm-wrapped image classifier that
            knows the classes by name.  Saved and loaded with the pipeline.
        probe (`PreTrainedModel`, *optional*): predicts the guide's margin from latents, so that most guided steps need
            no decoder; from `dag_diffusion.generation.preparing.probe_training.train_probe`.
        guidance_vae ([`AutoencoderTiny`] or [`AutoencoderKL`], *optional*): a cheaper decoder, for gradients only.
        weak_transformer ([`DiTTransformer2DModel`], *optional*): a worse denoiser of the same latents, classes and
            prediction, smaller or less trained, for autoguidance.  Saved and loaded with the pipeline.
        id2label (`dict`, *optional*): label to class name; commas separate synonyms.  Saved with the pipeline.
        default_guidance_scale (`float`, *optional*): scale of classifier-free guidance that suits the transformer, for
            calls that name none; 4, as in `DiTPipeline`, if not given.  Saved with the pipeline.
        default_num_inference_steps (`int`, *optional*): denoising steps that suit it, likewise; 50 if not given.
        default_autoguidance_scale (`float`, *optional*): scale of autoguidance, likewise; 1, off, if not given.
        default_guidance_start, default_guidance_stop (`float`, *optional*): where classifier-free guidance is on, as
            fractions of the steps, likewise; 0 and 1, all steps, if not given.

    Examples:
        >>> from dag_diffusion import DifficultyGuidedPipeline, embedded
        >>> pipeline = DifficultyGuidedPipeline.from_pretrained(embedded.PIPELINE)
        >>> output = pipeline(["Sandal", "Coat"], target_difficulty=[0.1, 0.5], generator=torch.manual_seed(0))
        >>> output.images[0], output.difficulties
    """

    latents_scaled_only = True  # as in DiTPipeline, which adds no shift where a VAE has one
    model_cpu_offload_seq = "transformer"
    # diffusers reads it from the class
    _optional_components = ["classifier", "probe", "guidance_vae", "weak_transformer"]  # noqa: RUF012
    # used at every guided step, forward and backward: moving them each time would cost more than it saves
    _exclude_from_cpu_offload = ["vae", "classifier", "probe", "guidance_vae", "weak_transformer"]  # noqa: RUF012
    _callback_tensor_inputs = ["latents", "clean", "signal_rate"]  # noqa: RUF012

    def __init__(
        self,
        transformer: DiTTransformer2DModel,
        vae: AutoencoderKL,
        scheduler: DDIMScheduler | DDPMScheduler | DPMSolverMultistepScheduler | UniPCMultistepScheduler,
        classifier: PreTrainedModel | None = None,
        id2label: dict | None = None,
        probe: PreTrainedModel | None = None,
        guidance_vae: AutoencoderTiny | AutoencoderKL | None = None,
        default_guidance_scale: float | None = None,
        default_num_inference_steps: int | None = None,
        weak_transformer: DiTTransformer2DModel | None = None,
        default_autoguidance_scale: float | None = None,
        default_guidance_start: float | None = None,
        default_guidance_stop: float | None = None,
    ) -> None:
        if classifier is not None:
            _require_kept(classifier)
        super().__init__(transformer, vae, scheduler, id2label=id2label)
        self.register_modules(
            classifier=classifier, probe=probe, guidance_vae=guidance_vae, weak_transformer=weak_transformer
        )
        self.register_to_config(
            id2label=id2label,
            default_guidance_scale=default_guidance_scale,
            default_num_inference_steps=default_num_inference_steps,
            default_autoguidance_scale=default_autoguidance_scale,
            default_guidance_start=default_guidance_start,  # two numbers: a list would be taken for a component
            default_guidance_stop=default_guidance_stop,
        )
        if classifier is not None:
            preprocessing_of(classifier)  # refuses one whose images nobody can prepare
            keep_with_weights(classifier)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "DifficultyGuidedPipeline":
        """As in diffusers, but from safetensors alone unless `use_safetensors=None` lets it fall back to .bin files.

        Raises:
            ValueError: a part lacks some of its weights, which would be made up at random, or holds NaN; the classifier
                is none that a pipeline keeps.
        """
        kwargs.setdefault("use_safetensors", True)
        if kwargs.get("classifier") is not None:
            _require_kept(kwargs["classifier"])  # which diffusers would refuse by printing it whole
        if variant := variant_of_parts(Path(pretrained_model_name_or_path), sorted({*PARTS} - {*kwargs})):
            kwargs.setdefault("variant", variant)  # there are no others
        if not {"dtype", "torch_dtype"} & kwargs.keys():  # as diffusers reads its own; transformers would keep halves
            kwargs["dtype"] = {"default": None, "classifier": torch.float32, "probe": torch.float32}
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
            for name in sorted({*PARTS} - {*kwargs}):
                if (part := getattr(pipeline, name)) is not None:
                    load = partial(type(part).from_pretrained, use_safetensors=kwargs["use_safetensors"])
                    require_same_tensors(part, part.config._name_or_path, load)
        return pipeline

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> "DifficultyGuidedPipeline":
        """As in diffusers, with the class names of a `DiTPipeline`, which has them in its `labels` alone."""
        labels = getattr(pipeline, "labels", None)
        if labels and not pipeline.config.get("id2label"):
            names: dict[int, list[str]] = {}
            for name, label in labels.items():
                names.setdefault(int(label), []).append(name)
            kwargs.setdefault("id2label", {label: ", ".join(names[label]) for label in sorted(names)})
        return super().from_pipe(pipeline, **kwargs)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As in diffusers, with the guide's preprocessing and class names, which come back as they are.

        Raises:
            ValueError: transformers has written other class names than the guide has, or cannot read it again.
        """
        if self.classifier is not None:
            require_known_again(self.classifier)
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
        names = {int(label): name for label, name in (self.config.id2label or {}).items()}
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
    def autoguidance_scale(self) -> float:
        """Scale of autoguidance in the current call; a step callback may set `_autoguidance_scale` anew."""
        return self._autoguidance_scale

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
    def default_autoguidance_scale(self) -> float:
        """Scale of autoguidance of calls that name none; 1 is off."""
        own = self.config.get("default_autoguidance_scale")
        return 1.0 if own is None or self.weak_transformer is None else own

    @property
    def default_guidance_interval(self) -> tuple[float, float]:
        """`(start, stop)` of classifier-free guidance of calls that name none, as fractions of the steps."""
        start, stop = (self.config.get(f"default_guidance_{end}") for end in ("start", "stop"))
        return 0.0 if start is None else start, 1.0 if stop is None else stop

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

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) of the images, in pixels."""
        side = self.transformer.config.sample_size * pixels_of_a_latent(self.vae)
        return side, side

    def latent_shape(self, batch: int) -> tuple[int, int, int, int]:
        """Shape of the latents of so many images, ``(batch, channels, height, width)``."""
        size = self.transformer.config.sample_size
        return batch, self.transformer.config.in_channels, size, size

    def prepare_latents(self, batch: int, generator: Generators, latents: Tensor | None) -> Tensor:
        """Initial noise, ``(batch, channels, height, width)``, or the caller's."""
        device, dtype = self._execution_device, self.transformer.dtype
        if latents is not None:
            return latents.to(device, dtype)
        return randn_tensor(self.latent_shape(batch), generator=generator, device=device, dtype=dtype)

    def predict(
        self, latents: Tensor, timestep: Tensor, class_labels: Tensor, *, classifier_free: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        r"""The denoiser's prediction, guided; learned variance channels stay if it has them.

            D(z|y) + (w - 1) (D(z|y) - D(z)) + (w_auto - 1) (D(z|y) - D_weak(z|y))

        The first difference is classifier-free guidance, the second autoguidance, Karras et al. (2024, arXiv
        2406.02507): away from what a worse denoiser of the same class would make of the image.

        Args:
            classifier_free: False leaves classifier-free guidance out, whatever its scale.

        Returns:
            The prediction, and how it changes with the class (conditional minus unconditional), None without
            classifier-free guidance.
        """
        count, channels, by_class = len(latents), latents.shape[1], None
        scaled = self.scheduler.scale_model_input(latents, timestep)
        if self.do_classifier_free_guidance and classifier_free:
            labels = torch.cat([class_labels, torch.full_like(class_labels, self.null_class)])
            output = self._denoised_by(self.transformer, torch.cat([scaled, scaled]), timestep, labels)
            conditional, unconditional = output[:, :channels].chunk(2)
            by_class = conditional - unconditional
            mixed = unconditional + self.guidance_scale * by_class
        else:
            output = self._denoised_by(self.transformer, scaled, timestep, class_labels)
            conditional = mixed = output[:, :channels]
        if self.autoguidance_scale > 1:
            weak = self._denoised_by(self.weak_transformer, scaled, timestep, class_labels)[:, :channels]
            mixed = mixed + (self.autoguidance_scale - 1) * (conditional - weak)
        return torch.cat([mixed, output[:count, channels:]], dim=1), by_class

    def _denoised_by(self, transformer: Any, latents: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        timesteps = timestep.to(latents.device).expand(len(latents))
        return transformer(latents, timestep=timesteps, class_labels=labels).sample.to(latents.dtype)

    def decode_for_guidance(self, latents: Tensor) -> Tensor:
        """Latents to images in about [0, 1], not clipped, differentiable, by `guidance_vae` if there is one."""
        vae = self.vae if self.guidance_vae is None else self.guidance_vae
        return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample / 2 + 0.5

    def computing_in(
        self, dtype: torch.dtype | None, device: torch.device, *, enabled: bool = True
    ) -> AbstractContextManager:
        """Where networks with float32 weights compute in `dtype`; None leaves it to the caller.

        The device is given, since the pipeline would look for its own in all of its modules, at every step. Not
        `enabled`, around a whole call, it keeps the weights that are cast within, instead of a cast at every step.
        """
        if dtype in (None, torch.float32):
            return nullcontext()
        return torch.autocast(device.type, dtype, enabled=enabled)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | str | Sequence[Any] | Tensor,
        target_difficulty: float | Sequence[float] | Tensor | None = None,
        difficulty_guidance_scale: float | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        generator: Generators = None,
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
        guidance_interval: tuple[float, float] | None = None,
        network_dtype: torch.dtype | None = None,
        set_classes: int | str | Sequence[Any] | Tensor | None = None,
        autoguidance_scale: float | None = None,
        return_dict: bool = True,
    ) -> DifficultyGuidedPipelineOutput:
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
                `pipeline._guidance_scale` anew, or end the run by `pipeline._interrupt = True`.  A `PipelineCallback`
                names its tensors itself.
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
                et al. (2024); steps outside cost half, and their difficulty guidance has no class direction.  By
                default the pipeline's own, `default_guidance_interval`; all, where that holds none of so few steps.
            network_dtype: what transformer, VAE and probe compute in if their weights are float32, such as
                `torch.bfloat16`; latents, scheduler and guidance stay in float32.  None: as their weights.
            set_classes: ids or names of the classes of the set, for a `difficulty_guidance` that measures among these
                alone (`among="set"`); by default those of this call.
            autoguidance_scale: scale of autoguidance by the pipeline's `weak_transformer`, which is on above 1 and
                works beside classifier-free guidance; by default the pipeline's own, `default_autoguidance_scale`.
            return_dict: False gives the tuple `(images, difficulties)`.

        Raises:
            ValueError: what does not fit the pipeline; a part in training mode; a target outside [0, 1], NaN, or of
                another length; a classifier without one of the classes; an interval without a step.
        """
        # 1. check the inputs and prepare labels, guides and latents
        wanted = getattr(callback_on_step_end, "tensor_inputs", callback_on_step_end_tensor_inputs)  # as in diffusers
        wanted = [wanted] if isinstance(wanted, str) else wanted
        call = prepare_call(
            self,
            class_labels,
            target_difficulty,
            difficulty_guidance_scale=difficulty_guidance_scale,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            generator=generator,
            latents=latents,
            num_images_per_label=num_images_per_label,
            output_type=output_type,
            callback_tensors=wanted,
            difficulty_guidance=difficulty_guidance,
            extra_guides=extra_guides,
            modes=modes,
            mode_guidance=mode_guidance,
            diversity=diversity,
            groups=groups,
            guidance_interval=guidance_interval,
            network_dtype=network_dtype,
            set_classes=set_classes,
            autoguidance_scale=autoguidance_scale,
        )
        self._guidance_scale, self._autoguidance_scale = call.guidance_scale, call.autoguidance_scale
        self._num_timesteps, self._interrupt = call.num_steps, False
        z = self.prepare_latents(len(call.labels), generator, latents)

        # 2. denoise, guided where the windows say so
        self.scheduler.set_timesteps(call.num_steps, device=z.device)
        with self.computing_in(network_dtype, z.device, enabled=False):
            for step, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
                if self.interrupt:
                    continue
                z, clean, signal_rate = call.step(z, timestep, step, self.scheduler, generator)
                if callback_on_step_end is not None:
                    known = {"latents": z, "clean": clean, "signal_rate": signal_rate}
                    given = {name: known[name] for name in wanted}
                    z = (callback_on_step_end(self, step, timestep, given) or {}).get("latents", z)
        if call.difficulty is not None:
            call.difficulty.warn()

        # 3. decode and measure
        images, difficulties = finished_images(self, z, call.own, output_type, network_dtype)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, difficulties  # type: ignore[return-value] # else every other call would need a cast
        return DifficultyGuidedPipelineOutput(images=images, difficulties=difficulties)

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


def _require_kept(classifier: Any) -> None:
    """Refuse a guide that would be lost when the pipeline is saved."""
    require_classifier(classifier)
    if not isinstance(classifier, PreTrainedModel):
        raise ValueError(
            f"a {type(classifier).__name__} is no model of transformers, which alone are kept with a pipeline; wrap it "
            "as docs/how-to/classifiers.md shows"
        )
