"""``steer``: difficulty guidance inside any diffusers pipeline with a latent VAE, whose own loop stays as it is.

    with steer(pipeline, guide, class_labels=["tench", "church"], target_difficulty=[0.2, 0.7]) as steered:
        images = pipeline(["a photo of a tench", "a photo of a church"]).images
    steered.measure(images)

Every such pipeline hands its answers, after classifier-free guidance, to ``scheduler.step``.  That call is guided: the
maths is in ``dag_diffusion.guidance``, and what differs between schedulers in ``dag_diffusion.guidance.rates``.
"""

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial, wraps
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dag_diffusion.classifiers.guide_checks import require_evaluation_mode, require_same_measure
from dag_diffusion.classifiers.image_classifiers import (
    Guide,
    class_names_of,
    mean_margin,
    picture_margin,
    preprocessing_of,
)
from dag_diffusion.data.class_names import classes_named, match_classes
from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig, MarginOf, target_values, targets_for
from dag_diffusion.guidance.guided_call import guided_call
from dag_diffusion.guidance.guided_step import Steering
from dag_diffusion.guidance.probes import classes_of, probe_margin, require_probe_for
from dag_diffusion.guidance.rates import Rates, begins_step, count_steps, require_family

logger = logging.getLogger(__name__)
DECODERS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "AutoencoderKLQwenImage")  # whose latents are known
Labels = int | str | Sequence[int | str]
Targets = float | Sequence[float] | Tensor | None
_TAKING = Lock()  # a scheduler is steered once, whichever threads ask


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
) -> "Iterator[Steered]":
    r"""Steer what a pipeline draws inside the block toward target difficulties; afterwards it is as it was.

    The pipeline's scheduler is steered, and with it every pipeline that shares the object.  Schedulers that draw fresh
    noise to the end miss the target by what the noise adds after the guided steps.

    Args:
        pipeline: any text-to-image, image-to-image or class-conditional pipeline with a `vae` and a `scheduler`.
        guide: the classifier that steers and measures, or several; the first measures, their mean margin steers.
        class_labels: labels or names of the guide's classes, one for all images or one for each, in the order of the
            images: with `num_images_per_prompt`, those of the first prompt come first.
        target_difficulty: in [0, 1], one for all or one for each image; None steers nothing and changes no bit.
        config: window and trust region; `class_direction` has no meaning here.
        guidance_vae: a cheaper decoder of the same latents for gradients only, such as an `AutoencoderTiny`.
        probe: predicts the guide's margin from latents, so that only `config.decoded_steps` need the decoder; of the
            same VAE and guide, from `train_probe`.

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
    _require_known(pipeline)
    guides = [guide] if isinstance(guide, nn.Module) else list(guide)
    steered = Steered(pipeline.vae, guides, class_labels, target_difficulty, config, guidance_vae, probe)
    with _guided_calls(pipeline, steered), _seen_size(pipeline, steered):
        yield steered
        steered.finish()
        if steered.targets is not None and not steered.guided_steps:
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
    ) -> None:
        self.vae, self.guides, self.config, self.probe = vae, guides, config, probe
        self.decoder = _decoder(vae if guidance_vae is None else guidance_vae)
        self.unpack: Callable[[Tensor], Tensor] | None = None  # of packed latents, which do not tell their size
        with torch.inference_mode(False):  # autograd cannot keep tensors that were made in inference mode
            self.labels, self.targets = _labels_of(guides, class_labels), _targets_of(target_difficulty)
        self.guided_steps = self._step = 0
        self._run: Steering | None = None

    def measure(self, images: Any) -> Tensor:
        """Difficulties of images by the first guide, as ``dag-diffusion score`` finds them.

        Args:
            images: what the pipeline has returned as such: PIL images, an array ``(n, height, width, channels)`` or a
                tensor ``(n, channels, height, width)`` in [0, 1].

        Returns:
            ``(n,)`` float32 in [0, 1].
        """
        with torch.no_grad():
            if not isinstance(images, Tensor | np.ndarray):
                device = next(self.guides[0].parameters()).device
                return torch.sigmoid(-picture_margin(self._guides(len(images), device)[:1], images)).cpu()
            pixels = torch.as_tensor(images).float()
            pixels = pixels.permute(0, 3, 1, 2) if isinstance(images, np.ndarray) else pixels
            return torch.sigmoid(-mean_margin(self._guides(len(pixels), pixels.device)[:1], pixels)).cpu()

    def finish(self) -> None:
        """A run has ended, or one begins: say what was wrong with the guide in the last."""
        if self._run is not None:
            self._run.warn()
        self._run, self._step = None, 0

    def guided(
        self, scheduler: Any, answer: Tensor, timestep: Any, sample: Tensor, calls: int
    ) -> tuple[Tensor, Tensor]:
        """Answer and sample of one call of the scheduler's step, of so many in the run, moved if the window says so."""
        if self.targets is None or not begins_step(scheduler):
            return answer, sample
        if self._run is None:
            self._run = self._prepare(sample, count_steps(scheduler, calls))
        run, step = self._run, self._step
        self._step += 1
        if step not in run.steps:
            return answer, sample
        self.guided_steps += 1

        def shift_of(clean: Tensor, rates: Rates) -> Tensor:
            signal, noise = rates.signal**2, rates.noise**2
            with torch.inference_mode(False), torch.no_grad():
                return run.shift(clean.clone(), torch.tensor(signal / (signal + noise)), step, None)

        return guided_call(scheduler, answer, timestep, sample, shift_of)

    def decode(self, clean: Tensor) -> Tensor:
        """Latents as the loop has them to images in about [0, 1], not clipped, differentiable."""
        images = self.decoder.decode(
            unscaled(self._unpacked(clean), self.decoder.config).to(self.decoder.dtype), return_dict=False
        )[0]
        return (images[:, :, 0] if images.ndim == 5 else images) / 2 + 0.5

    def _unpacked(self, latents: Tensor) -> Tensor:
        return self.unpack(latents) if latents.ndim == 3 and self.unpack is not None else latents

    def _prepare(self, sample: Tensor, steps: int) -> Steering:
        """What a run is steered by, once its first call tells how many images there are."""
        if sample.ndim not in (3, 4) or (sample.ndim == 3 and self.unpack is None):
            raise ValueError(
                f"latents have shape {tuple(sample.shape)}, which is not known here; "
                "steer a pipeline that draws single images, such as StableDiffusionPipeline"
            )
        assert self.targets is not None
        targets = targets_for(self.targets, len(sample))
        guides = self._guides(len(sample), sample.device)
        draw = torch.Generator().manual_seed(0)

        def decoded(clean: Tensor) -> Tensor:
            images = self.decode(clean)
            for guide in guides:
                require_same_measure(guide.classifier, min(images.shape[2:]))
            return mean_margin(guides, images)

        with torch.inference_mode(False):
            return Steering(
                config=self.config,
                targets=targets.to(sample.device),
                num_steps=steps,
                decoded=decoded,
                probed=None if self.probe is None else self._probed(sample),
                draw=lambda shape: torch.randn(shape, generator=draw),
            )

    def _probed(self, sample: Tensor) -> Callable[[Tensor], MarginOf]:
        """The margin that the probe predicts at a signal rate, by its own labels of the classes."""
        names = class_names_of(self.guides[0])
        table = match_classes({i: names[i] for i in self.labels[0].tolist()}, classes_of(self.probe), "the probe")
        labels = [table[label] for label in self.labels[0].tolist()]
        require_probe_for(self.probe, self._unpacked(sample).shape[1:], self.vae, self.guides[0], labels)
        each = torch.tensor(labels, device=sample.device).expand(len(sample))

        def of(alpha: Tensor) -> MarginOf:
            margin_of = probe_margin(self.probe, each, alpha)
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
        pairs = zip(self.guides, each, strict=True)
        return [Guide(classifier, labels, preprocessing_of(classifier)) for classifier, labels in pairs]


def unscaled(latents: Tensor, config: Any) -> Tensor:
    """Latents of a pipeline's loop as its VAE decodes them: by scale and shift, or by statistics of the channels."""
    scale, shift = config.get("scaling_factor") or 1.0, config.get("shift_factor") or 0.0
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    if mean is None or deviation is None:
        return latents / scale + shift
    mean, deviation = (latents.new_tensor(v).view(1, -1, *[1] * (latents.ndim - 2)) for v in (mean, deviation))
    return latents * deviation / scale + mean


def _require_known(pipeline: Any) -> None:
    name = type(pipeline).__name__
    for part in ("vae", "scheduler"):
        if getattr(pipeline, part, None) is None:
            raise ValueError(
                f"{name} has no {part}; steer needs a pipeline that draws latents by a scheduler and decodes them"
            )
    if any(kind.__name__ == "DiTPipeline" for kind in type(pipeline).__mro__):
        raise ValueError(
            f"{name} doubles its latents, which steer would guide twice; use DifficultyGuidedPipeline of the same parts"
        )
    require_family(pipeline.scheduler)


def _decoder(vae: Any) -> Any:
    """The decoder for gradients: the VAE itself, or a copy in full precision where half precision overflows."""
    if type(vae).__name__ not in DECODERS:
        raise ValueError(
            f"the latents of {type(vae).__name__} are not known here, only those of {', '.join(DECODERS)}; "
            "video and pixel pipelines cannot be steered"
        )
    if vae.training:
        raise ValueError(f"the {type(vae).__name__} is in training mode; call its eval() first")
    overflows = vae.dtype == torch.float16 and vae.config.get("force_upcast", False)
    return deepcopy(vae).float() if overflows else vae


def _labels_of(guides: Sequence[nn.Module], class_labels: Labels) -> list[Tensor]:
    """For each guide its own labels, ``(n,)``, of classes that are named as the first guide has them."""
    require_evaluation_mode(guides)
    if not guides:
        raise ValueError("steer needs a guide; give a classifier, such as load_classifier('microsoft/resnet-50')")
    given = [class_labels] if isinstance(class_labels, int | str) else list(class_labels)
    names, labels = class_names_of(guides[0]), []
    for one in given:
        found = classes_named([one], names, "the guide")[0] if isinstance(one, str) else [int(one)]
        if len(found) != 1 or found[0] not in names:
            raise ValueError(f"class label {one!r} is no single class of the guide, which has {len(names)} from 0 on")
        labels += found
    if not labels:
        raise ValueError("steer needs class labels; give one for all images, or one for each")
    asked = {label: names[label] for label in labels}
    tables = [match_classes(asked, class_names_of(guide), "the classifier") for guide in guides[1:]]
    return [torch.tensor([table[label] for label in labels]) for table in ({i: i for i in asked}, *tables)]


def _targets_of(target: Targets) -> Tensor | None:
    if target is None:
        return None
    values = target_values(target)
    if not len(values):
        raise ValueError("target difficulties must lie in [0, 1], 0 easy and 1 hard, but got none; give at least one")
    return values


@contextmanager
def _guided_calls(pipeline: Any, steered: Steered) -> Iterator[None]:
    """Let a scheduler's calls go through ``steered``.

    Its class changes for the time, and not an attribute: pipelines ask for the signature of the step, and a deep copy
    or a pickle of the scheduler is a plain one.
    """
    scheduler = pipeline.scheduler
    plain: Any = type(scheduler)

    @wraps(plain.step)
    def step(self: Any, model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self is scheduler:
            calls = getattr(pipeline, "num_timesteps", None) or len(scheduler.timesteps)
            model_output, sample = steered.guided(scheduler, model_output, timestep, sample, calls)
        return plain.step(self, model_output, timestep, sample, *args, **kwargs)

    @wraps(plain.set_timesteps)
    def set_timesteps(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self is scheduler:
            steered.finish()
        return plain.set_timesteps(self, *args, **kwargs)

    def reduce(self: Any, protocol: Any) -> Any:
        return object.__new__, (plain,), *plain.__reduce_ex__(self, protocol)[2:]

    names = {name: getattr(plain, name) for name in ("__module__", "__qualname__", "__doc__")}
    body = names | {"step": step, "set_timesteps": set_timesteps, "__reduce_ex__": reduce, "is_steered": True}
    with _TAKING:
        if getattr(scheduler, "is_steered", False):
            raise ValueError(
                f"this {plain.__name__} is steered already; leave the other block first, or give the pipeline a "
                "scheduler of its own by from_config(pipeline.scheduler.config)"
            )
        scheduler.__class__ = type(plain.__name__, (plain,), body)
    try:
        yield
    finally:
        scheduler.__class__ = plain


@contextmanager
def _seen_size(pipeline: Any, steered: Steered) -> Iterator[None]:
    """Note the height and width of the images where latents are packed and do not tell them."""
    known = ("latents", "height", "width", "vae_scale_factor")
    unpack = getattr(pipeline, "_unpack_latents", None)
    if unpack is None or tuple(inspect.signature(unpack).parameters) != known:
        yield
        return
    prepare = pipeline.prepare_latents

    @wraps(prepare)
    def prepare_latents(*args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(prepare).bind(*args, **kwargs).arguments
        size = {name: given[name] for name in ("height", "width")}
        steered.unpack = partial(unpack, **size, vae_scale_factor=pipeline.vae_scale_factor)
        return prepare(*args, **kwargs)

    pipeline.prepare_latents = prepare_latents
    try:
        yield
    finally:
        del pipeline.prepare_latents
