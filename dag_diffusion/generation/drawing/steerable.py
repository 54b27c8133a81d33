"""Any pipeline of diffusers' that draws single images, as ``fill_pool`` draws with it: from prompts, or by labels.

    SteerablePipeline(pipe, guide, ["tench", "church"])  +  PoolConfig(prompts=Prompts("a photo of a {class}"))

A target or modes go through ``steer``; without them the pipeline draws as it always does.  An image of one colour,
which a safety checker or an overflow leaves and a classifier would learn, is drawn again in a round of its own.
"""

import inspect
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from itertools import chain
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from torch import Tensor, nn

from dag_diffusion.classifiers.image_classifiers import class_names_of
from dag_diffusion.data.class_names import listed, match_classes
from dag_diffusion.generation.modes import require_modes_of
from dag_diffusion.generation.plan import ImageJob, PoolConfig
from dag_diffusion.generation.repairing.repair import Fault
from dag_diffusion.identity import digest_of_values
from dag_diffusion.pipelines.call_inputs import ALL_STEPS
from dag_diffusion.pipelines.latents import decoder_of
from dag_diffusion.pipelines.steered_pipelines import require_steerable
from dag_diffusion.pipelines.steering import Steered, steer

from .drawer import Drawn

logger = logging.getLogger(__name__)
REVISION = re.compile(r"[\\/]snapshots[\\/]([0-9a-f]{40})(?:[\\/]|$)")
RESERVED = {  # argument of the call to what says it of a pool
    "prompt": "prompts",
    "negative_prompt": "a negative prompt beside the prompts",
    "class_labels": "labels",
    "generator": "a seed",
    "num_inference_steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
}
SHAPING = (
    "num_images_per_prompt",
    "batch_size",
    "output_type",
    "return_dict",
    "latents",
    "callback_on_step_end",
)  # what comes out

PLAIN = (str, int, float, Enum, PurePath, set, frozenset, torch.dtype, torch.device, np.generic, np.ndarray, Tensor)


@dataclass(frozen=True, eq=False)
class SteerablePipeline:
    """A text-to-image or class-conditional pipeline as ``fill_pool`` draws with it.

    Attributes:
        pipeline: already built, on its device.  Its ``__call__`` takes ``prompt`` or ``class_labels``, and lists of
            generators for batches of more than one image.
        guide: the classifier that measures, and with a target steers; None for a pool without difficulties.
        classes: names of the classes, their labels being their places, or label to name.  Default: those that the
            pipeline has (``id2label``), or else the guide's.
        call: more arguments of the pipeline's call, such as ``{"height": 512, "width": 512}``: JSON values, images,
            arrays and tensors, which the record knows again.
        extra_guides: more classifiers that steer.

    Raises:
        ValueError: the pipeline takes neither, or no generator; nobody names the classes; ``call`` sets what a pool
            sets itself.
    """

    pipeline: Any
    guide: nn.Module | None = None
    classes: Mapping[int, str] | Sequence[str] | None = None
    call: Mapping[str, Any] = field(default_factory=dict)
    extra_guides: Sequence[nn.Module] = ()

    def __post_init__(self) -> None:
        if not self._takes("prompt") and not self._takes("class_labels"):
            raise ValueError(
                f"{type(self.pipeline).__name__} takes neither prompt nor class_labels, so that it draws no classes; "
                "use a text-to-image or a class-conditional pipeline"
            )
        if not self._takes("generator") and not any(one.kind is one.VAR_KEYWORD for one in self._parameters.values()):
            raise ValueError(
                f"the call of {type(self.pipeline).__name__} takes no generator, by which a pool makes each image from "
                "its seed; add one"
            )
        kind = type(self.pipeline).__name__
        free = [name for name in self._parameters if name not in (*RESERVED, *SHAPING)]
        if wrong := [name for name in self.call if name in RESERVED and self._takes(name)]:
            raise ValueError(
                f"{wrong[0]!r} cannot be handed on to {kind}, since a pool sets it itself; give {RESERVED[wrong[0]]} "
                "of the pool instead"
            )
        if wrong := [name for name in self.call if name not in free]:
            raise ValueError(f"{wrong[0]!r} cannot be handed on to {kind}; its call takes {listed(free) or 'no more'}")
        for name, value in self.call.items():
            _recorded(name, value)
        if kind in _of_images():
            raise ValueError(
                f"{kind} draws from images, which a pool does not give it; take its parts to draw from prompts, by "
                "diffusers.AutoPipelineForText2Image.from_pipe(pipeline)"
            )
        if getattr(self.pipeline, "controlnet", None) is not None and not {"image", "control_image"} & self.call.keys():
            raise ValueError(
                f"{kind} draws from an image as well, which its call lacks; give its 'image', or take the parts "
                "to draw from prompts, by diffusers.AutoPipelineForText2Image.from_pipe(pipeline, controlnet=None)"
            )
        if not self.class_names:
            raise ValueError(
                f"the classes to draw with {type(self.pipeline).__name__} have no names; name them, or give a guide, "
                "whose classes they then are"
            )

    @cached_property
    def class_names(self) -> dict[int, str]:
        """Label to class name."""
        known: Any = self.classes
        if known is None:
            known = self.pipeline.config.get("id2label") or vars(self.pipeline).get("id2label")
        if known is None:
            known = {} if self.guide is None else class_names_of(self.guide)
        pairs = known.items() if isinstance(known, Mapping) else enumerate(known)
        return {int(label): str(name) for label, name in pairs}

    @property
    def always_repaired(self) -> Sequence[Fault]:
        """Images of one colour, as a safety checker or an overflow leaves them."""
        return ("empty",)

    @property
    def image_size(self) -> None:
        """Only an image tells: pipelines such as Flux round what the call asks for."""
        return None

    @cached_property
    def details(self) -> dict[str, Any]:
        """Class and revision of the pipeline, what it was called with, and what may leave a pattern in its images."""
        return {
            "class": type(self.pipeline).__name__,
            "revision": revision_of(self.pipeline),
            "call": {name: _recorded(name, value) for name, value in self.call.items()},
            "safety_checker": getattr(self.pipeline, "safety_checker", None) is not None,
            "watermark": getattr(self.pipeline, "watermark", None) is not None,
        }

    def checked(self, config: PoolConfig, jobs: Sequence[ImageJob]) -> PoolConfig:
        """See ``Drawer``.

        Raises:
            ValueError: prompts for a pipeline without, or none for one with them; a negative prompt that it would
                ignore; images made in groups; an interval of classifier-free guidance, or autoguidance; a target
                without a guide; a scheduler that draws noise by a generator of its own; and as of ``steer``.
        """
        self._check_prompts(config)
        if config.is_grouped:
            raise ValueError(
                f"{type(self.pipeline).__name__} makes images one by one; only DifficultyGuidedPipeline chooses their "
                "noise as a set or pushes them apart, so leave both out"
            )
        if config.guidance_interval is not None and tuple(config.guidance_interval) != ALL_STEPS:
            raise ValueError(
                "guidance_interval is of DifficultyGuidedPipeline alone; leave it out, other pipelines mix all steps"
            )
        if config.autoguidance_scale is not None:
            raise ValueError(
                "autoguidance_scale is of DifficultyGuidedPipeline alone, whose weak_transformer it needs; leave it out"
            )
        if config.target is not None and self.guide is None:
            raise ValueError("a target difficulty needs a guide to steer by; give one, such as load_classifier('...')")
        if self.extra_guides and config.target is None:
            raise ValueError("extra guides steer only with a target difficulty; give one, or leave them out")
        if hasattr(scheduler := getattr(self.pipeline, "scheduler", None), "noise_sampler"):
            raise ValueError(
                f"{type(scheduler).__name__} draws noise by a generator of its own, so that images do not follow from "
                "their seeds; use another, such as DPMSolverMultistepScheduler with algorithm_type='sde-dpmsolver++'"
            )
        labels = sorted({job.label for job in jobs})
        if config.target is not None or config.modes is not None:
            try:
                require_steerable(self.pipeline)
            except ValueError as error:
                raise ValueError(f"{error}; leave target and modes out to draw without them") from error
        if config.modes is not None:
            require_modes_of(config.modes, self.pipeline)
        vae, target = getattr(self.pipeline, "vae", None), None if config.target is None else 0.5
        # refuses guides and decoders that would stop the first batch
        own, in_set = self.guide_labels(labels), self._set_classes(config)
        Steered(vae, self._guides, own, target, config.difficulty_guidance, set_classes=in_set)
        if self.details["watermark"]:
            logger.warning(
                "%s marks its images, always alike, which a classifier may learn; set pipeline.watermark = None",
                type(self.pipeline).__name__,
            )
        numbers = {
            name: self._number(name, getattr(config, name)) for name in ("num_inference_steps", "guidance_scale")
        }
        return replace(config, guidance_interval=ALL_STEPS, **numbers)

    def _check_prompts(self, config: PoolConfig) -> None:
        name = type(self.pipeline).__name__
        if self._takes("prompt") and config.prompts is None:
            raise ValueError(f'{name} draws from prompts; give some, such as Prompts("a photo of a {{class}}")')
        if config.prompts is None:
            return
        if not self._takes("prompt"):
            raise ValueError(f"{name} draws by labels and reads no prompts; leave them out")
        if config.prompts.negative is None:
            return
        if not self._takes("negative_prompt"):
            raise ValueError(f"{name} takes no negative prompt; leave it out")
        true_scale = self.call.get("true_cfg_scale", self._default("true_cfg_scale"))
        if true_scale is not None and true_scale <= 1:
            raise ValueError(
                f"{name} ignores a negative prompt at a true_cfg_scale of {true_scale}; call it with one above 1, such "
                "as 4.0, or leave the prompt out"
            )

    def noise(self, seed: int) -> Tensor:
        """Not known before the pipeline draws; ``checked`` refuses a choice among it."""
        raise NotImplementedError(f"the initial noise of {type(self.pipeline).__name__} is not known from a seed")

    def draw(self, config: PoolConfig, jobs: Sequence[ImageJob]) -> Drawn:
        """See ``Drawer``.

        Raises:
            ValueError: the pipeline returns something else than one image for each prompt or label.
            TypeError: it does not take what it is called with.
        """
        generators: list[torch.Generator] = [torch.Generator().manual_seed(job.seed) for job in jobs]
        generator = generators[0] if len(jobs) == 1 else generators  # some pipelines know single ones alone
        with self._steered(config, jobs, generator) as steered:
            with torch.no_grad():
                output = self._output(self._arguments(config, jobs), generator)
            images = _pictures(output.images, len(jobs), type(self.pipeline).__name__)
            measured = steered.measure(images).tolist() if self._guides else [None] * len(jobs)
        return list(zip(jobs, images, measured, strict=True))

    def _output(self, arguments: Mapping[str, Any], generator: Any) -> Any:
        """What the pipeline returns for it."""
        name = type(self.pipeline).__name__
        try:
            output = self.pipeline(**arguments, generator=generator)
        except TypeError as error:
            if not isinstance(generator, list):
                raise
            raise TypeError(
                f"{name}, called with a list of generators: {error}; if it takes one alone, give batch_size=1"
            ) from error
        if not hasattr(output, "images"):
            raise ValueError(
                f"{name} returned a {type(output).__name__}; return an object with .images, such as "
                "diffusers.ImagePipelineOutput"
            )
        return output

    def _steered(self, config: PoolConfig, jobs: Sequence[ImageJob], generator: Any) -> AbstractContextManager[Steered]:
        return steer(
            self.pipeline,
            self._guides,
            self.guide_labels([job.label for job in jobs]),
            None if config.target is None else [job.target_difficulty or 0.0 for job in jobs],
            config=config.difficulty_guidance,
            guidance_vae=None if config.target is None else self._decoder,
            modes=None if config.modes is None else config.modes.centres[[job.mode for job in jobs]],
            mode_guidance=config.mode_guidance,
            generator=generator,
            set_classes=self._set_classes(config),
        )

    def _set_classes(self, config: PoolConfig) -> list[int] | None:
        """The guide's labels of the pool's classes, where difficulty is measured among these alone."""
        if config.difficulty_guidance.among == "all" or self.guide is None:
            return None
        return self.guide_labels(config.labels_of(self.class_names))

    @cached_property
    def _decoder(self) -> Any:
        return decoder_of(self.pipeline.vae)

    @property
    def _guides(self) -> list[nn.Module]:
        return [guide for guide in (self.guide, *self.extra_guides) if guide is not None]

    def _arguments(self, config: PoolConfig, jobs: Sequence[ImageJob]) -> dict[str, Any]:
        given: dict[str, Any] = {"class_labels": [job.label for job in jobs]}
        if self._takes("batch_size"):
            given["batch_size"] = len(jobs)
        if config.prompts is not None:
            given = {"prompt": [job.prompt for job in jobs]}
            if config.prompts.negative is not None:
                given["negative_prompt"] = [config.prompts.negative] * len(jobs)
        for name in ("num_inference_steps", "guidance_scale"):
            if getattr(config, name) is not None:
                given[name] = getattr(config, name)
        return given | dict(self.call)

    def guide_labels(self, labels: Sequence[int]) -> list[int]:
        """See ``Drawer``; empty without a guide."""
        if self.guide is None:
            return []
        names = self.class_names
        numbered = all(name == f"LABEL_{label}" for label, name in names.items())  # can be matched only as a whole
        wanted = names if numbered else {label: names[label] for label in labels}
        table = match_classes(wanted, class_names_of(self.guide), trainable=True)
        return [table[label] for label in labels]

    def _number(self, name: str, wanted: Any) -> Any:
        if wanted is not None and not self._takes(name):
            raise ValueError(f"{type(self.pipeline).__name__} takes no {name}; leave it out")
        return self._default(name) if wanted is None else wanted

    def _default(self, name: str) -> Any:
        """What the pipeline takes for an argument that is not given; None if there is no such, or no such value."""
        found = self._parameters.get(name)
        return None if found is None or found.default is inspect.Parameter.empty else found.default

    def _takes(self, name: str) -> bool:
        return name in self._parameters

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.pipeline.__call__).parameters


def _recorded(name: str, value: Any) -> Any:
    """An argument of a call for the record: images, and arrays of more than a row, by digests of what they hold."""
    if isinstance(value, Mapping):
        return {key: _recorded(name, one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_recorded(name, one) for one in value]
    if isinstance(value, Image.Image):
        kind = (value.mode, value.size, value.getpalette())
        return digest_of_values([("image", kind), ("pixels", torch.from_numpy(np.array(value)))])
    if isinstance(value, Tensor | np.ndarray) and value.ndim > 1:
        return digest_of_values([("numbers", torch.as_tensor(value))])
    if value is None or isinstance(value, PLAIN):
        return value
    raise ValueError(
        f"{name!r} of the call is of the kind {type(value).__name__}, which a resumed pool could not compare; give "
        "JSON values, images, arrays or tensors"
    )


def revision_of(pipeline: Any) -> str | None:
    """The commit of the Hub repository that a pipeline's files were downloaded from; None for other folders."""
    configs = [getattr(part, "config", None) for part in pipeline.components.values()]
    places = chain.from_iterable(
        (getattr(config, name, None) for name in ("_name_or_path", "name_or_path")) for config in configs
    )
    found = (REVISION.search(str(place)) for place in (pipeline.config.get("_name_or_path"), *places) if place)
    return next((match[1] for match in found if match), None)


def _of_images() -> set[str]:
    """Names of diffusers' pipelines that draw from an image and a prompt."""
    from diffusers.pipelines import auto_pipeline

    tasks = (auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING, auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING)
    texts = {kind.__name__ for kind in auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()}
    return {kind.__name__ for task in tasks for kind in task.values()} - texts


def _pictures(images: Any, count: int, name: str) -> list[Image.Image]:
    """What a pipeline returned, as pictures."""
    if isinstance(images, Tensor):
        images = images.detach().cpu().float().permute(0, 2, 3, 1).numpy()
    if isinstance(images, np.ndarray):
        images = VaeImageProcessor.numpy_to_pil(images)
    if len(images) != count or not all(isinstance(image, Image.Image) for image in images):
        raise ValueError(f"{name} returned something else than an image for each of {count} prompts or labels")
    return list(images)
