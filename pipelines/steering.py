"""``steer``: difficulty guidance inside any diffusers pipeline with a latent VAE, whose own loop stays as it is.

    with steer(pipeline, guide, class_labels=["tench", "church"], target_difficulty=[0.2, 0.7]) as steered:
        images = pipeline(["a photo of a tench", "a photo of a church"]).images
    steered.measure(images)

Every such pipeline hands its answers, after classifier-free guidance, to ``scheduler.step``.  That call is guided: the
maths is in ``dag_diffusion.guidance``, and what differs between schedulers in ``dag_diffusion.guidance.rates``.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from dag_diffusion.classifiers.guide_checks import require_same_measure
from dag_diffusion.classifiers.image_classifiers import (
    Guide,
    class_names_of,
    mean_margin,
    preprocessing_of,
)
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig, MarginOf, target_values, targets_for
from dag_diffusion.guidance.guided_call import guided_call
from dag_diffusion.guidance.guided_step import Generators, ModePull, Steering
from dag_diffusion.guidance.mode_guidance import ModeGuidance, mode_delta
from dag_diffusion.guidance.probes import classes_of, probe_margin, require_probe_for
from dag_diffusion.guidance.rates import Rates, begin_anew, begins_step, count_steps, signal_share
from dag_diffusion.pipelines.call_inputs import require_config
from dag_diffusion.pipelines.denoiser_answers import DenoiserAnswers, class_direction
from dag_diffusion.pipelines.guide_labels import Labels, as_guides, classes_among_guides, labels_of_guides
from dag_diffusion.pipelines.latents import decoded, decoder_of
from dag_diffusion.pipelines.measured_images import as_images, difficulties_of
from dag_diffusion.pipelines.steered_pipelines import guided_calls, require_steerable, seen_size

logger = logging.getLogger(__name__)
Targets = float | Sequence[float] | Tensor | None


@contextmanager
def steer(
    pipeline: Any,
    guide: nn.Module | Sequence[nn.Module],
    class_labels: Labels,
    target_difficulty: Targets = None,
    *,
    config: GuidanceConfig = GuidanceConfig(),  # noqa: B008 - frozen
    guidance_vae: Any = None,
    probe: Any = None,
    modes: Tensor | None = None,
    mode_guidance: ModeGuidance = ModeGuidance(),  # noqa: B008 - frozen
    generator: Generators = None,
    set_classes: Labels | None = None,
) -> "Iterator[Steered]":
    r"""Steer what a pipeline draws inside the block toward target difficulties; afterwards it is as it was.

    The pipeline's scheduler is steered, and with it every pipeline that shares the object.  Schedulers that draw fresh
    noise to the end miss the target by what the noise adds after the guided steps.

    Args:
        pipeline: any text-to-image, image-to-image or class-conditional pipeline with a `vae` and a `scheduler`.
        guide: the classifier that steers and measures, or several; the first measures, their mean margin steers.  An
            empty list will do without a target.
        class_labels: labels or names of the guide's classes, one for all images or one for each, in the order of the
            images: with `num_images_per_prompt`, those of the first prompt come first.
        target_difficulty: in [0, 1], one for all or one for each image; None steers nothing and changes no bit.
        config: window and trust region; its `class_direction` needs classifier-free guidance, as in our own pipeline.
        guidance_vae: a cheaper decoder of the same latents for gradients only, such as an `AutoencoderTiny`.
        probe: predicts the guide's margin from latents, so that only `config.decoded_steps` need the decoder; of the
            same VAE and guide, from `train_probe`.
        modes: latents `(n, channels, height, width)` that each image is drawn to; see `find_modes`.  Not packed, where
            the pipeline packs its own.
        mode_guidance: strength and window of that.
        generator: what the pipeline is called with; noise of the scheduler is drawn from it where the pipeline does not
            hand it over, and that of `config.smoothing`.
        set_classes: labels or names of the guide's classes that the set has, for a `config` that measures among these
            alone (`among="set"`); by default those of `class_labels`.

    Yields:
        What is steered; its `measure` tells how hard images are.

    Raises:
        ValueError: a pipeline, scheduler or decoder that is not known; one that is steered already; a guide in training
            mode or without a class; targets outside [0, 1]; in the pipeline's call, another number of images than of
            labels or targets, or no step in the window.

    Examples:
        >>> with steer(pipeline, guide, class_labels="church", target_difficulty=0.7) as steered:  # doctest: +SKIP
        ...     images = pipeline("a photo of a church", num_images_per_prompt=4).images
        >>> steered.measure(images)  # doctest: +SKIP
    """
    if target_difficulty is not None or modes is not None:
        require_steerable(pipeline)
    guides, vae = as_guides(guide), getattr(pipeline, "vae", None)
    steered = Steered(
        vae,
        guides,
        class_labels,
        target_difficulty,
        config,
        guidance_vae,
        probe,
        modes,
        mode_guidance,
        generator,
        set_classes,
    )
    hears = steered.targets is not None and bool(config.class_direction)
    with (
        guided_calls(pipeline, steered.guided, steered.finish, generator),
        seen_size(pipeline, partial(setattr, steered, "unpack")),
        closing(DenoiserAnswers(pipeline if hears else None)) as steered.heard,
    ):
        yield steered
        steered.finish()
        if steered.steers and not steered.guided_steps:
            logger.warning(
                "no step was steered: %s did not draw with the scheduler that it had when steer began",
                type(pipeline).__name__,
            )


class Steered:
    """What images are steered by, in a block of ``steer`` or of a modular pipeline; ``measure`` is what users call."""

    def __init__(
        self,
        vae: Any,
        guides: Sequence[nn.Module],
        class_labels: Labels,
        target_difficulty: Targets,
        config: GuidanceConfig,
        guidance_vae: Any = None,
        probe: Any = None,
        modes: Tensor | None = None,
        mode_guidance: ModeGuidance = ModeGuidance(),  # noqa: B008 - frozen
        generator: Generators = None,
        set_classes: Labels | None = None,
    ) -> None:
        require_config("config", config, GuidanceConfig)
        require_config("mode_guidance", mode_guidance, ModeGuidance)
        if not (modes is None or isinstance(modes, Tensor)):
            raise ValueError(f"modes are a {type(modes).__name__}; give a tensor of latents, one mode for each image")
        self.vae, self.guides, self.config, self.probe = vae, guides, config, probe
        self.modes, self.mode_guidance, self.generator = modes, mode_guidance, generator
        self.unpack: Callable[[Tensor], Tensor] | None = None  # of packed latents, which do not tell their size
        self.heard: DenoiserAnswers | None = None  # the class direction is made of them
        with torch.inference_mode(False):  # autograd cannot keep tensors that were made in inference mode
            self.targets = None if target_difficulty is None else target_values(target_difficulty)
            asked = guides or self.targets is not None
            self.labels = labels_of_guides(guides, class_labels) if asked else []
            self.classes = classes_among_guides(guides, self.labels, set_classes, config.among) if asked else []
        decoder = vae if guidance_vae is None else guidance_vae
        self.decoder = decoder if self.targets is None else decoder_of(decoder)
        self.guided_steps = self._step = 0
        self._run: Steering | None = None
        self._pull: ModePull | None = None

    @property
    def steers(self) -> bool:
        """Whether there is anything that images are guided by."""
        return self.targets is not None or self.modes is not None

    def measure(self, images: Any) -> Tensor:
        """Difficulties of images by the first guide, as ``dag-diffusion score`` finds them.

        Args:
            images: what the pipeline has returned as such: PIL images, an array ``(n, height, width, channels)`` or a
                tensor ``(n, channels, height, width)`` in [0, 1].

        Returns:
            ``(n,)`` float32 in [0, 1].

        Raises:
            ValueError: there is no guide, no image, or another number of labels than of images.
        """
        if not self.guides:
            raise ValueError("nothing measures these images; give steer a guide and the labels of its classes")
        found, device = as_images(images), next(self.guides[0].parameters()).device
        return difficulties_of(found, self._guides(len(found), device)[:1], device)

    def finish(self) -> None:
        """A run has ended, or one begins: say what was wrong with the guide in the last."""
        if self._run is not None:
            self._run.warn()
        self._run, self._pull, self._step = None, None, 0

    def guided(
        self, scheduler: Any, answer: Tensor, timestep: Any, sample: Tensor, calls: int
    ) -> tuple[Tensor, Tensor]:
        """Answer and sample of one call of the scheduler's step, of so many in the run, moved if the window says so."""
        answers = [] if self.heard is None else self.heard.take()
        if not self.steers or not begins_step(scheduler):
            return answer, sample
        if self._step == 0:
            self._prepare(sample, count_steps(scheduler, calls))
        step, self._step = self._step, self._step + 1
        run = self._run if self._run is not None and step in self._run.steps else None
        pull = self._pull if self._pull is not None and step in self._pull.steps else None
        if run is None and self._run is not None and step - 1 in self._run.steps:
            begin_anew(scheduler)
        if run is None and pull is None:
            return answer, sample
        self.guided_steps += 1

        def shift_of(clean: Tensor, rates: Rates) -> Tensor:
            shifts, now = [], signal_share(rates.signal, rates.noise)
            if run is not None:
                by_class = class_direction(answers, sample)
                with torch.inference_mode(False), torch.no_grad():
                    shifts.append(run.shift(clean.clone(), torch.tensor(now), step, by_class))
            if pull is not None:
                after = signal_share(rates.next_signal, rates.next_noise)
                shifts.append(mode_delta(clean, pull.centres, now, after, pull.scale))
            return sum(shifts[1:], shifts[0])

        return guided_call(scheduler, answer, timestep, sample, shift_of)

    def decode(self, clean: Tensor) -> Tensor:
        """Latents as the loop has them to images in about [0, 1], not clipped, differentiable."""
        return decoded(self.decoder, self._unpacked(clean)) / 2 + 0.5

    def _unpacked(self, latents: Tensor) -> Tensor:
        return self.unpack(latents) if latents.ndim == 3 and self.unpack is not None else latents

    def _prepare(self, sample: Tensor, steps: int) -> None:
        """What a run is steered by, once its first call tells how many images there are."""
        if sample.ndim not in (3, 4) or (sample.ndim == 3 and self.unpack is None):
            raise ValueError(
                f"latents have shape {tuple(sample.shape)}, which is not known here; "
                "steer a pipeline that draws single images, such as StableDiffusionPipeline"
            )
        if self.targets is not None:
            self._run = self._steering(targets_for(self.targets, len(sample)), sample, steps)
        if self.modes is not None:
            self._pull = self._mode_pull(self.modes, sample, steps)

    def _steering(self, targets: Tensor, sample: Tensor, steps: int) -> Steering:
        guides = self._guides(len(sample), sample.device)
        own = torch.Generator().manual_seed(0) if self.generator is None else self.generator

        def margin(clean: Tensor) -> Tensor:
            images = self.decode(clean)
            for guide in guides:
                require_same_measure(guide.classifier, min(images.shape[2:]), guide.preprocessing)
            return mean_margin(guides, images)

        with torch.inference_mode(False):
            return Steering(
                config=self.config,
                targets=targets.to(sample.device),
                num_steps=steps,
                decoded=margin,
                probed=None if self.probe is None else self._probed(sample),
                draw=lambda shape: randn_tensor(shape, generator=own, device=sample.device, dtype=torch.float32),
            )

    def _mode_pull(self, modes: Tensor, sample: Tensor, steps: int) -> ModePull:
        size = sample[0].numel()
        places = self._unpacked(torch.arange(size).view(1, *sample.shape[1:]))  # of each value in what is packed
        if modes.shape != (len(sample), *places.shape[1:]):
            raise ValueError(
                f"modes have shape {tuple(modes.shape)}; the images need one each, shaped like the pipeline's latents, "
                f"{(len(sample), *places.shape[1:])}: find modes at the size that is drawn"
            )
        centres = modes.flatten(1)[:, places.flatten().argsort()].view(sample.shape).to(sample.device)
        config = self.mode_guidance
        return ModePull(centres=centres, scale=config.scale_at(steps), steps=config.steps(steps))

    def _probed(self, sample: Tensor) -> Callable[[Tensor], MarginOf]:
        """The margin that the probe predicts at a signal rate, by its own labels of the classes."""
        names = class_names_of(self.guides[0])
        known = [*self.labels[0].tolist(), *([] if self.classes[0] is None else self.classes[0].tolist())]
        table = match_classes({i: names[i] for i in known}, classes_of(self.probe), "the probe")
        labels = [table[label] for label in self.labels[0].tolist()]
        among = None if self.classes[0] is None else sorted({table[label] for label in self.classes[0].tolist()})
        require_probe_for(self.probe, self._unpacked(sample).shape[1:], self.vae, self.guides[0], labels, among)
        each = torch.tensor(labels, device=sample.device).expand(len(sample))
        classes = None if among is None else torch.tensor(among)

        def of(alpha: Tensor) -> MarginOf:
            margin_of = probe_margin(self.probe, each, alpha, classes)
            return lambda clean: margin_of(self._unpacked(clean))

        return of

    def _guides(self, count: int, device: torch.device) -> list[Guide]:
        if len(self.labels[0]) not in (1, count):
            raise ValueError(
                f"got {len(self.labels[0])} class labels for {count} images; give one for all or one for each image, "
                "in the order of the images (with num_images_per_prompt, those of the first prompt come first)"
            )
        with torch.inference_mode(False):
            each = [labels.expand(count).to(device) for labels in self.labels]
        parts = zip(self.guides, each, self.classes, strict=True)
        return [Guide(classifier, labels, preprocessing_of(classifier), among) for classifier, labels, among in parts]
