"""Images of a pool drawn by labels and ``DifficultyGuidedPipeline``, each by its own seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from dag_diffusion.generation.modes import require_modes_of
from dag_diffusion.generation.plan import ImageJob, PoolConfig
from dag_diffusion.generation.precision import network_dtype
from dag_diffusion.generation.repairing.repair import Fault
from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline
from dag_diffusion.pipelines.prepared_calls import prepare_call

from .drawer import Drawn


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
        if config.modes is not None:
            require_modes_of(config.modes, self.pipeline)
        labels = sorted({job.label for job in jobs})
        call = prepare_call(
            self.pipeline,
            labels,
            None if config.target is None else 0.5,
            modes=None if config.modes is None else config.modes.centres[:1].expand(len(labels), -1, -1, -1),
            **self._options(config),
        )
        return replace(
            config,
            num_inference_steps=call.num_steps,
            guidance_scale=call.guidance_scale,
            guidance_interval=call.guidance_interval,
            autoguidance_scale=call.autoguidance_scale,
            mode_guidance=replace(config.mode_guidance, scale=config.mode_guidance.scale_at(call.num_steps)),
        )

    def guide_labels(self, labels: Sequence[int]) -> list[int]:
        """See ``Drawer``; empty without a guide."""
        return [] if self.guide is None else self.pipeline.guide(self.guide, labels).labels.tolist()

    def noise(self, seed: int) -> Tensor:
        """See ``Drawer``; ``(channels, height, width)``."""
        shape, dtype = self._latent
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)

    @cached_property
    def _latent(self) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and dtype of one, kept since diffusers walks through the whole network for the dtype."""
        return self.pipeline.latent_shape(1)[1:], self.pipeline.transformer.dtype

    def draw(self, config: PoolConfig, jobs: Sequence[ImageJob]) -> Drawn:
        """See ``Drawer``."""
        targets: Any = None if config.target is None else [job.target_difficulty for job in jobs]
        output = self.pipeline(
            [job.label for job in jobs],
            target_difficulty=targets,
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
            "autoguidance_scale": config.autoguidance_scale,
            "set_classes": config.labels_of(self.pipeline.class_names),
        }
