"""How a generator is trained: what of it follows from the images, and what a person may choose."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dag_diffusion.training.loop import LoopConfig

STEPS, SCALE = 1600, 2.0  # of the denoiser, and of classifier-free guidance, where none are given
VAE_STEPS = 4000  # of the VAE at least; fewer lose colours, whatever the denoiser has learnt
VAE_BATCH = 16  # images of such a step: of equally many images the VAE learns more than in batches of 64
WEAK_WIDTH, WEAK_DEPTH, WEAK_STEPS = 64, 3, 3  # channels, blocks, and what part of a generator's steps
SIZE, LARGEST = 32, 64  # sides that are chosen unasked
PLAIN = {field.name for field in fields(LoopConfig)}


def vae_steps_beside(steps: int) -> int:
    """Training steps of a VAE whose denoiser has so many."""
    return max(steps, min(4 * steps, VAE_STEPS))


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """How a generator is trained.

    Attributes:
        size: side of the images in pixels, a multiple of 8; default: that of the images if all share one of at most 64,
            else 32.
        channels: 1 (grey) or 3; default: 3 if any image has colours.
        steps: training steps of the denoiser; default: 1600.
        vae: folder or Hub id of an AutoencoderKL, or of a pipeline that has one; default: one is trained.
        vae_steps: training steps of the VAE that is trained, of 16 images each; default: as many as the denoiser has,
            but at least 4000, or four times as many where these are fewer.
        width: channels of the tokens of a denoiser that is trained from scratch, a multiple of 64.
        depth: blocks of a denoiser that is trained from scratch.
        batch_size: images of a step of the denoiser, of all processes together.
        learning_rate: peak learning rate of the denoiser; default: 0.001, or 0.0001 for all weights of a pretrained
            one.
        weight_decay: decay of matrices.  Biases and norms are not decayed.
        warm_up: share of the steps in which the rate rises.
        average_width: share of the run that the average of the weights looks back, which is what is kept.
        label_dropout: share of the images whose label is dropped, which trains classifier-free guidance.
        flip: learn mirrored images too; right for photographs, wrong for letters and digits.
        guidance_scale: classifier-free guidance that the pipeline uses where none is asked for; default: 2, or that of
            the pipeline that it is tuned from, or 1 (off) of one from scratch without label_dropout.
        precision: float32, bfloat16 (autocast), or auto: bfloat16 where the processor has it.
        accumulation: parts that a batch is computed in, one after the other, to save memory.
        gradient_checkpointing: compute activations twice instead of keeping them, to save memory.
        max_norm: gradients that are longer than this are shortened to it.
        sample_grids: pictures of samples by class that are drawn in the course of the training.
        checkpoint_seconds: between two checkpoints.
        seed: random seed of weights, order and noise.
    """

    size: int | None = None
    channels: int | None = None
    steps: int | None = None
    vae: str | None = None
    vae_steps: int | None = None
    width: int = 256
    depth: int = 6
    batch_size: int = 128
    learning_rate: float | None = None
    weight_decay: float = 0.01
    warm_up: float = 0.05
    average_width: float = 0.1
    label_dropout: float = 0.1
    flip: bool = False
    guidance_scale: float | None = None
    precision: str = "auto"
    accumulation: int = 1
    gradient_checkpointing: bool = False
    max_norm: float = 1.0
    sample_grids: int = 10
    checkpoint_seconds: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        _ = self.loop, self.vae_loop  # which check their own
        if self.size is not None and self.size < 1:
            raise ValueError(
                f"size is {self.size}, the side of the images in pixels; give one such as 32, or leave it out"
            )
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels is {self.channels}; images are read with 1 (grey) or 3, or leave it out")
        if self.width < 64 or self.width % 64 or self.depth < 1:
            raise ValueError(
                f"a denoiser cannot have width={self.width} and depth={self.depth}; give a multiple of 64, and at "
                "least 1 block"
            )
        if not 0 <= self.label_dropout < 1:
            raise ValueError(f"label_dropout is {self.label_dropout}; it must be at least 0 and below 1, usually 0.1")
        if (self.guidance_scale is not None and self.guidance_scale < 1) or self.sample_grids < 0:
            raise ValueError(
                f"guidance_scale={self.guidance_scale} and sample_grids={self.sample_grids} must be at least 1 and 0"
            )

    @property
    def loop(self) -> LoopConfig:
        """How the denoiser is trained."""
        shared = {name: getattr(self, name) for name in PLAIN if getattr(self, name) is not None}
        return LoopConfig(**{"steps": STEPS, **shared})

    def scale(self, base: Mapping[str, Any] | None) -> float:
        """Classifier-free guidance that the pipeline uses where none is asked for.

        Args:
            base: configuration of the pipeline that it is tuned from; None: it is trained from scratch.

        Raises:
            ValueError: it needs a null class, which would not be trained.
        """
        usual = SCALE if base is not None or self.label_dropout else 1.0
        own = (base or {}).get("default_guidance_scale")
        chosen = next(scale for scale in (self.guidance_scale, own, usual) if scale is not None)
        if chosen > 1 and base is None and not self.label_dropout:
            raise ValueError(
                f"guidance_scale={chosen} needs a null class, which label_dropout=0 leaves untrained; give "
                "label_dropout=0.1, or guidance_scale=1"
            )
        return chosen

    def weaker(self, generator: str | Path) -> "GeneratorConfig":
        """How a weak denoiser for autoguidance is trained: smaller, for a third of the steps, on the same latents.

        Args:
            generator: folder of the pipeline that these settings have made, whose VAE is taken.
        """
        return replace(
            self,
            vae=str(generator),
            channels=None,
            width=WEAK_WIDTH,
            depth=WEAK_DEPTH,
            steps=max(self.loop.steps // WEAK_STEPS, 1),
            sample_grids=0,
        )

    @property
    def vae_loop(self) -> LoopConfig:
        """How the VAE is trained."""
        return LoopConfig(
            steps=vae_steps_beside(self.loop.steps) if self.vae_steps is None else self.vae_steps,
            batch_size=VAE_BATCH,
            learning_rate=2e-3,
            weight_decay=0.0,
            precision=self.precision,
            checkpoint_seconds=self.checkpoint_seconds,
            seed=self.seed,
        )
