"""What draws the images of a pool, a batch at a time: ``filling`` knows this, and no pipeline.

jobs (label, seed, target, mode, prompt) -> images, and how hard the guide finds them
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline
from dag_diffusion.pipelines.prepared_calls import prepare_call

from .plan import ImageJob, PoolConfig
from .precision import network_dtype
from .repairing.repair import Fault

Drawn = list[tuple[ImageJob, Image.Image, float | None]]


class Drawer(Protocol):
    """A pipeline of some kind, as a pool is drawn by it.

    Attributes:
        pipeline: of diffusers, on the device of its process; its parts and its scheduler are recorded.
        guide: the classifier that measures, and with a target steers; None without one.
        extra_guides: more classifiers that steer.
        class_names: label to class name.
        image_size: (width, height) of every image, in pixels; None if only an image tells.
        details: what else the record says, and a resumed pool must agree in; JSON values only.
        always_repaired: faults of images that are drawn again in every pool, whether or not a repair is asked for.
    """

    @property
    def pipeline(self) -> Any: ...
    @property
    def guide(self) -> nn.Module | None: ...
    @property
    def extra_guides(self) -> Sequence[nn.Module]: ...
    @property
    def class_names(self) -> Mapping[int, str]: ...
    @property
    def image_size(self) -> tuple[int, int] | None: ...
    @property
    def details(self) -> Mapping[str, Any]: ...
    @property
    def always_repaired(self) -> Sequence[Fault]: ...

    def checked(self, config: PoolConfig, jobs: Sequence[ImageJob]) -> PoolConfig:
        """The configuration with its numbers; ValueError for what would stop the first batch."""

    def noise(self, seed: int) -> Tensor:
        """The initial noise that an image of this seed is drawn from, which a pool may choose among."""

    def draw(self, config: PoolConfig, jobs: Sequence[ImageJob]) -> Drawn:
        """The images of a batch, each by its own seed, and their difficulties by the guide."""


@dataclass(frozen=True)
class LabelDrawer:
    """Draws by labels and our own pipeline."""

    pipeline: DifficultyGuidedPipeline
    extra_guides: Sequence[nn.Module] = ()

    @property
    def guide(self) -> nn.Module | None:
        """The pipeline's own."""
        return self.pipeline.classifier

    @property
    def class_names(self) -> Mapping[int, str]:
        """The pipeline's own."""
        return self.pipeline.class_names

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pipeline.image_size

    @property
    def details(self) -> Mapping[str, Any]:
        """Nothing but what every record has."""
        return {}

    @property
    def always_repaired(self) -> Sequence[Fault]:
        """None: our own pipeline refuses images that are not finite, and has no safety checker."""
        return ()

    def checked(self, config: PoolConfig, jobs: Sequence[ImageJob]) -> PoolConfig:
        """See ``Drawer``; and ValueError for prompts."""
        if config.prompts is not None:
            raise ValueError(
                f"{type(self.pipeline).__name__} draws by labels and reads no prompts; leave them out, or give a "
                "text-to-image pipeline as a SteerablePipeline"
            )
        labels = sorted({job.label for job in jobs})
        call = prepare_call(
            self.pipeline,
            labels,
            None if config.target is None else 0.5,
            modes=None if config.modes is None else config.modes.centres[:1].expand(len(labels), -1, -1, -1),
            **self._options(config),
        )
        return replace(config, num_inference_steps=call.num_steps, guidance_scale=call.guidance_scale)

    def noise(self, seed: int) -> Tensor:
        """See ``Drawer``; ``(channels, height, width)``."""
        parts = self.pipeline.transformer.config
        shape = 1, parts.in_channels, parts.sample_size, parts.sample_size
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=self.pipeline.transformer.dtype)[
            0
        ]

    def draw(self, config: PoolConfig, jobs: Sequence[ImageJob]) -> Drawn:
        """See ``Drawer``."""
        output = self.pipeline(
            [job.label for job in jobs],
            target_difficulty=None if config.target is None else [job.target_difficulty for job in jobs],
            generator=[torch.Generator().manual_seed(job.seed) for job in jobs],
            modes=None if config.modes is None else config.modes.centres[[job.mode for job in jobs]],
            groups=[0 if job.group is None else job.group for job in jobs],
            network_dtype=network_dtype(config.precision, self.pipeline),
            **self._options(config),
        )
        measured = [None] * len(jobs) if output.difficulties is None else output.difficulties.tolist()
        return list(zip(jobs, output.images, measured, strict=True))

    def _options(self, config: PoolConfig) -> dict[str, Any]:
        return {
            "guidance_scale": config.guidance_scale,
            "num_inference_steps": config.num_inference_steps,
            "difficulty_guidance": config.difficulty_guidance,
            "extra_guides": tuple(self.extra_guides),
            "mode_guidance": config.mode_guidance,
            "diversity": config.diversity,
            "guidance_interval": config.guidance_interval,
            "set_classes": list(self.pipeline.class_names) if config.labels is None else list(config.labels),
        }
