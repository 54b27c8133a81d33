"""``DifficultyGuidanceBlock``: difficulty guidance as a block of diffusers' modular pipelines.

    blocks = with_guidance(StableDiffusionXLAutoBlocks().get_workflow("text2image"))
    pipeline = blocks.init_pipeline("stabilityai/stable-diffusion-xl-base-1.0")
    pipeline.load_components()
    pipeline.update_components(classifier=load_classifier("timm/resnet50.tv_in1k"))
    wanted = ["images", "difficulties"]
    pipeline(prompt="a photo of a church", class_labels="church", target_difficulty=0.7, output=wanted)

It stands between the denoiser and what follows it in the loop, and moves ``noise_pred`` and ``latents`` before the
scheduler is asked.  The maths is that of ``steer``.  Another block, first in the loop, hears what the denoiser answers,
and one behind the decoder measures the images.
"""

import inspect
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage, FluxPipeline, QwenImagePipeline
from diffusers.modular_pipelines import ModularPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec, InputParam, OutputParam
from transformers import AutoModelForImageClassification

from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig
from dag_diffusion.guidance.rates import require_family
from dag_diffusion.pipelines.denoiser_answers import DenoiserAnswers
from dag_diffusion.pipelines.latents import unpacking
from dag_diffusion.pipelines.steering import Steered

NAME, HEARING, AFTER = "difficulty_guidance", "denoiser_answers", "after_denoiser"
MEASURING, IMAGES, DIFFICULTIES = "measure", "images", "difficulties"
GUIDE = ComponentSpec("classifier", AutoModelForImageClassification)
LABELS = InputParam("class_labels", description="Labels or names of the guide's classes: one, or one an image")
CONFIG = InputParam("difficulty_guidance", default=GuidanceConfig(), description="Window and trust region")


def with_guidance(blocks: ModularPipelineBlocks, block: ModularPipelineBlocks | None = None) -> ModularPipelineBlocks:
    """A copy of blocks with difficulty guidance in every denoising loop, between the denoiser and what follows it.

    Where the blocks end in images, a last one measures their ``difficulties``, which a call may ask for as an output.

    Args:
        blocks: of one workflow.
        block: another guidance block than ``DifficultyGuidanceBlock()``, such as one that was shared.

    Raises:
        ValueError: no loop is among them, or one has it already.
    """
    blocks = deepcopy(blocks)  # some of diffusers' blocks are shared by all that are made of their class
    loops = _loops(blocks)
    if not loops or any(NAME in loop.sub_blocks for loop in loops):
        raise ValueError(
            f"{type(blocks).__name__} has {'guidance already' if loops else f'no loop with a block {AFTER!r}'}; "
            "give plain blocks that draw images, such as StableDiffusionXLAutoBlocks().get_workflow('text2image')"
        )
    for loop in loops:
        loop.sub_blocks.insert(NAME, block or DifficultyGuidanceBlock(), list(loop.sub_blocks).index(AFTER))
        loop.sub_blocks.insert(HEARING, DenoiserAnswersBlock(), 0)
    if IMAGES in blocks.output_names:
        blocks.sub_blocks.insert(MEASURING, DifficultyMeasureBlock(), len(blocks.sub_blocks))
    return blocks


def _loops(blocks: Any) -> list[Any]:
    if AFTER in blocks.sub_blocks:
        return [blocks]
    return [loop for block in blocks.sub_blocks.values() for loop in _loops(block)]


class DenoiserAnswersBlock(ModularPipelineBlocks):
    """Stands first in the loop and hears the denoiser, whose answers the guidance makes its class direction of."""

    @property
    def description(self) -> str:
        """What the block is for, as diffusers shows it."""
        return f"step within the denoising loop that notes what the denoiser answers, for `{NAME}`"

    @property
    def inputs(self) -> list[InputParam]:
        """Without a target it does nothing."""
        return [InputParam("target_difficulty")]

    @torch.no_grad()
    def __call__(self, components: Any, block_state: Any, i: int, t: torch.Tensor) -> tuple[Any, Any]:
        """One step of the loop."""
        if i == 0 and block_state.target_difficulty is not None:
            block_state.heard = DenoiserAnswers(components)
        return components, block_state


class DifficultyGuidanceBlock(ModularPipelineBlocks):
    """Moves the answer and the latents of each step of the window toward the target difficulties.

    Its component `classifier` is the guide; `vae` and `scheduler` are those of the pipeline.  Without a target nothing
    changes.  State is kept with the run, so that one block may serve many.
    """

    _requirements = {"dag-diffusion": ">=0.1.0"}  # noqa: RUF012 - diffusers reads it from the class

    @property
    def description(self) -> str:
        """What the block is for, as diffusers shows it."""
        return (
            "step within the denoising loop that makes images as hard for a classifier as asked. "
            "It stands between `denoiser` and `after_denoiser`"
        )

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """The guide, and the decoder that its gradient goes through."""
        return [GUIDE, ComponentSpec("vae", AutoencoderKL)]

    @property
    def inputs(self) -> list[InputParam]:
        """What a call may be given, besides what the loop hands over."""
        return [
            LABELS,
            InputParam("target_difficulty", description="In [0, 1], one or one an image; None steers nothing"),
            CONFIG,
            InputParam("probe", description="Predicts the margin from latents, so that most steps need no decoder"),
            InputParam("guidance_vae", description="A cheaper decoder of the same latents, for gradients only"),
            InputParam("timesteps", required=True),
            InputParam("height"),
            InputParam("width"),
        ]

    @torch.no_grad()
    def __call__(self, components: Any, block_state: Any, i: int, t: torch.Tensor) -> tuple[Any, Any]:
        """One step of the loop.

        Raises:
            ValueError: a target without labels or classifier, and whatever ``steer`` refuses.
        """
        if block_state.target_difficulty is None:
            return components, block_state
        if i == 0:
            block_state.steered = self._begin(components, block_state)
        steered, calls = block_state.steered, len(block_state.timesteps)
        block_state.noise_pred, block_state.latents = steered.guided(
            components.scheduler, block_state.noise_pred, t, block_state.latents, calls
        )
        if i == calls - 1:
            steered.finish()
            block_state.heard = steered.heard = None
        return components, block_state

    def _begin(self, components: Any, state: Any) -> Steered:
        for what, given in (("class_labels", state.class_labels), ("classifier", components.classifier)):
            if given is None:
                raise ValueError(
                    f"a target difficulty needs {what}, and got none; pass class_labels='...' to the call and "
                    "load a guide by pipeline.update_components(classifier=load_classifier('...'))"
                )
        require_family(components.scheduler)
        steered = Steered(
            components.vae,
            [components.classifier],
            state.class_labels,
            state.target_difficulty,
            state.difficulty_guidance,
            state.guidance_vae,
            state.probe,
        )
        steered.heard = getattr(state, "heard", None)
        if state.latents.ndim == 3:  # packed
            packs = QwenImagePipeline if isinstance(components.vae, AutoencoderKLQwenImage) else FluxPipeline
            size = state.height, state.width, components.vae_scale_factor
            steered.unpack = unpacking(packs._unpack_latents, *size)
        return steered

    def save_config(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As in diffusers, with this file beside the configuration, so that `save_pretrained` makes a folder to share.

        `save_pretrained` itself must stay diffusers' own, which writes the name of the class that has it.
        """
        source = Path(inspect.getfile(type(self)))
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        Path(save_directory, source.name).write_bytes(source.read_bytes())
        super().save_config(save_directory, *args, **kwargs)


class DifficultyMeasureBlock(ModularPipelineBlocks):
    """Measures the images that a pipeline hands out, as ``steer``'s ``measure`` does, with a target or without."""

    @property
    def description(self) -> str:
        """What the block is for, as diffusers shows it."""
        return "step behind the decoder that tells how hard the images are for the classifier"

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """The guide."""
        return [GUIDE]

    @property
    def inputs(self) -> list[InputParam]:
        """The images, in the form that was asked for, and what they are to be measured by."""
        return [InputParam(IMAGES, required=True), InputParam("output_type", default="pil"), LABELS, CONFIG]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """One number for each image."""
        told = "`(n,)` float32 in [0, 1] by the classifier; None without class labels or classifier, and for latents"
        return [OutputParam(DIFFICULTIES, type_hint=torch.Tensor, description=told)]

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """The last step of a call.

        Raises:
            ValueError: a class that the guide lacks, or another number of labels than of images.
        """
        own = self.get_block_state(state)
        own.difficulties = None
        if own.class_labels is not None and components.classifier is not None and own.output_type != "latent":
            by = Steered(None, [components.classifier], own.class_labels, None, own.difficulty_guidance)
            own.difficulties = by.measure(own.images)
        self.set_block_state(state, own)
        return components, state
