"""Autoencoder, denoiser and scheduler of a size that suits images of 16 to some 100 pixels.

32 px, 3 channels -> latents 4 x 8 x 8 -> 16 tokens        64 px -> 4 x 16 x 16 -> 64 tokens        128 px -> the same
"""

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, DPMSolverMultistepScheduler

from dag_diffusion.seeding import seeded
from dag_diffusion.training.label_tables import label_embedders

from .sizes import own_factor, patch_of, require_suitable

LATENT_CHANNELS, HEAD = 4, 64
WIDTH = 16  # of the autoencoder; twice as wide takes 2.3 times as long, and in the same time is behind, in colours too
NULL_ROW = 0.1  # any share above 0 gives diffusers' DiT the row of the null class


def build_vae(size: int, channels: int, seed: int) -> AutoencoderKL:
    """An untrained autoencoder: latents a quarter as wide as the images, an eighth from 128 pixels on.

    Raises:
        ValueError: the size is not suitable.
    """
    require_suitable(size)
    levels = own_factor(size).bit_length()
    with seeded(seed):
        return AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(WIDTH * 2 ** min(level, 2) for level in range(levels)),
            layers_per_block=1,
            latent_channels=LATENT_CHANNELS,
            norm_num_groups=8,
            sample_size=size,
            mid_block_add_attention=False,
        )


def build_transformer(
    side: int, latent_channels: int, classes: int, *, width: int, depth: int, seed: int
) -> DiTTransformer2DModel:
    """An untrained denoiser; the null class is the last row of its label tables.

    Args:
        side: of the latents, see ``sizes``.
    """
    with seeded(seed):
        transformer = DiTTransformer2DModel(
            num_attention_heads=width // HEAD,
            attention_head_dim=HEAD,
            in_channels=latent_channels,
            out_channels=latent_channels,
            num_layers=depth,
            sample_size=side,
            patch_size=patch_of(side),
            num_embeds_ada_norm=classes,
        )
        # as in DiT: each block begins as identity, which trains faster and more safely
        for block in transformer.transformer_blocks:
            torch.nn.init.zeros_(block.norm1.linear.weight)
            torch.nn.init.zeros_(block.norm1.linear.bias)
        torch.nn.init.zeros_(transformer.proj_out_2.weight)
        torch.nn.init.zeros_(transformer.proj_out_2.bias)
    return transformer


def build_scheduler(prediction: str) -> DPMSolverMultistepScheduler:
    """The schedule that a denoiser is trained with, cosine for v and DiT's own for noise, and DPM-Solver++ to sample.

    Twelve of its steps are as good as twenty of DDIM's (docs/results/training).  The limit of the noise is what
    diffusers advises for a cosine schedule, and none for the other; by default it is infinite, which JSON cannot say.
    """
    options = {"prediction_type": prediction, "lambda_min_clipped": -5.1}
    if prediction == "v_prediction":
        options |= {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"}
    else:
        options |= {"beta_start": 1e-4, "beta_end": 0.02}
    return DPMSolverMultistepScheduler(**options)


def set_own_dropping(transformer: DiTTransformer2DModel, share: float) -> None:
    """Let each block drop so many labels for itself, in training mode; 0 while labels are dropped once for all."""
    for embedder in label_embedders(transformer):
        embedder.dropout_prob = share
