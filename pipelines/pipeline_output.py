"""What a call of the pipeline hands out: images of the kind asked for, and how hard the guide finds them.

x = clamp(decoder(z / scale) / 2 + 1/2, 0, 1),      d = sigmoid(-margin(x))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import torch
from diffusers.utils import BaseOutput
from torch import Tensor

from dag_diffusion.classifiers.image_classifiers import Guide
from dag_diffusion.pipelines.measured_images import difficulties_of

if TYPE_CHECKING:
    from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline

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


def finished_images(
    pipeline: "DifficultyGuidedPipeline",
    latents: Tensor,
    guides: Sequence[Guide],
    output_type: str,
    network_dtype: torch.dtype | None,
) -> tuple[Any, Tensor | None]:
    """Latents as images of a kind, and their difficulties by the guides, None without one and for latents.

    Raises:
        FloatingPointError: an image is not finite.
    """
    if output_type == "latent":
        return latents, None
    vae = pipeline.vae
    # DiTPipeline's own order of operations, since (1 / s) * z and z / s differ in the last bit
    with pipeline.computing_in(network_dtype, latents.device):
        decoded = vae.decode(1 / vae.config.scaling_factor * latents.to(vae.dtype)).sample
    decoded = decoded if network_dtype is None else decoded.float()  # 8 bits of a pixel want more than bfloat16
    if broken := int((~torch.isfinite(decoded)).flatten(1).any(1).sum()):  # infinity would become white
        raise FloatingPointError(
            f"{broken} of {len(decoded)} images are not finite, guided or not; "
            "keep the transformer and the VAE in float32 or bfloat16"
        )
    images = (decoded / 2 + 0.5).clamp(0, 1).float()
    array = images.cpu().permute(0, 2, 3, 1).numpy()
    pictures = pipeline.numpy_to_pil(array) if output_type == "pil" else None
    # measured on what is handed out: PIL images have 8 bits and are read as their files will be
    measured = images if pictures is None else pictures
    difficulties = difficulties_of(measured, guides, images.device) if guides else None
    return {"pil": pictures, "np": array, "pt": images}[output_type], difficulties
