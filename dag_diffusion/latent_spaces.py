"""What modes are found with: of a pipeline that may be too large to be loaded for them, the VAE and the image size.

folder or Hub id -> its VAE, the side that it draws -> generation.preparing.mode_search.find_pool_modes
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from .classifiers.weights import load_whole, only_variant
from .loading import hide_loading_bars, load_guide, load_pipeline, loaded_as
from .pipelines.difficulty_guided import DifficultyGuidedPipeline
from .pipelines.latents import decoder_of, pixels_of_a_latent
from .processes import resolve_device


@dataclass(frozen=True, eq=False)
class LatentSpace:
    """What modes are found with, of a pipeline that need not be loaded as a whole; see ``find_pool_modes``.

    Attributes:
        vae: in evaluation mode, on its device.
        image_size: (width, height) in pixels of what the pipeline will draw.
        classifier: the guide that scores images; None without one.
        config: ``_name_or_path``, the name of the pipeline.
    """

    vae: Any
    image_size: tuple[int, int]
    classifier: nn.Module | None
    config: Mapping[str, Any]


def load_latent_space(
    name: str | Path | None = None,
    *,
    size: int | None = None,
    classifier: str | Path | None = None,
    device: str | None = None,
    trust_bin: bool = False,
) -> DifficultyGuidedPipeline | LatentSpace:
    """What modes are found with: a DiT pipeline, or of any other pipeline its VAE, and nothing else is read.

    Args:
        size: side in pixels that will be drawn; None: what the pipeline draws if it is not told.
        name, classifier, device, trust_bin: as of ``load_pipeline``.

    Raises:
        ValueError: it cannot be loaded; nobody says the size, or it is none of the pipeline's.
    """
    import diffusers

    config: Mapping[str, Any] = {}
    if name is not None:
        with loaded_as(name, "pipeline"):
            config = diffusers.DiffusionPipeline.load_config(name)
    if name is None or "DiTTransformer2DModel" in (config.get("transformer") or ()):
        pipeline = load_pipeline(name, classifier=classifier, device=device, trust_bin=trust_bin)
        if size not in (None, pipeline.image_size[0]):
            raise ValueError(
                f"{name or 'the embedded default'} draws {pipeline.image_size[0]} px and not {size}; leave size out"
            )
        return pipeline
    hide_loading_bars()
    with loaded_as(name, "pipeline with a VAE"):
        options: dict[str, Any] = {"use_safetensors": None if trust_bin else True}
        options["variant"] = only_variant(Path(str(name), "vae"))
        kind = getattr(diffusers, str(config["vae"][1]))
        vae = load_whole(kind.from_pretrained, name, subfolder="vae", **options).to(resolve_device(device)).eval()
        decoder_of(vae)  # refuses one whose latents are not known
        side, step = size or _side_drawn(name, config, vae), pixels_of_a_latent(vae)
    if side is None or side % step:
        raise ValueError(
            f"{name} does not say how large its images are; give the size in pixels at which you will draw, such as 512"
            if side is None
            else f"images of {side} px cannot be encoded by the VAE of {name}; give a size that {step} divides"
        )
    guide = None if classifier is None else load_guide(classifier, device=device)
    return LatentSpace(vae, (side, side), guide, {"_name_or_path": str(name)})


def _side_drawn(name: str | Path, config: Mapping[str, Any], vae: Any) -> int | None:
    """What a pipeline of diffusers' draws if it is not told, in pixels; None where its denoiser does not know."""
    import diffusers

    for part in ("unet", "transformer"):
        if part in config:
            known = getattr(diffusers, str(config[part][1])).load_config(name, subfolder=part).get("sample_size")
            return known * pixels_of_a_latent(vae) if isinstance(known, int) else None
    return None
