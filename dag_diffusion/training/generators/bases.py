"""The pipeline that a generator is fine-tuned from: what it prescribes, and its way to other classes.

    base -> rows for new classes -> adapted -> trained -> folded: an ordinary transformer, and beside it what was learnt

Size, schedule and prediction are the base's, since its denoiser knows no other.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel

from dag_diffusion.identity import digest_of
from dag_diffusion.loading import load_pipeline
from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline
from dag_diffusion.pipelines.latents import pixels_of_a_latent
from dag_diffusion.processes import fail_together, gather, is_main_process
from dag_diffusion.processor import fast_precision
from dag_diffusion.training.checkpoints import read_record
from dag_diffusion.training.fine_tuning import Adaptation, FineTuningConfig, adapt
from dag_diffusion.training.label_tables import known_classes, set_classes
from dag_diffusion.training.objectives import Objective

from .settings import GeneratorConfig
from .sizes import require_same_latents

FINE_RATE = 1e-4  # of all weights, which know something already; what lora and difffit add is trained as from scratch


def load_base(config: FineTuningConfig | None, names: Mapping[int, str], seed: int) -> "Base | None":
    """The pipeline that a configuration names, see ``Base``; None if it names none.

    Raises:
        ValueError: it cannot be loaded, or none is named and only a part of it is to be trained.
    """
    if config is None or config.base is None:
        if config is not None and config.tune != "all":
            raise ValueError(
                f"tune={config.tune!r} changes a pretrained denoiser, and none is named; give its pipeline, such as "
                "base='facebook/DiT-XL-2-256'"
            )
        return None
    return Base(config, names, seed)


class Base:
    """A pipeline to start from.

    Args:
        config: which one, and what of it is trained.
        names: label to class name of the images.
        seed: of what is drawn: rows of new classes, and LoRA's weights.

    Attributes:
        kept: new label to old one of classes that the pipeline has under the same name, which keep their rows.
        kept_names: what these classes are called.
        digest: of the transformer as it was.

    Raises:
        ValueError: it cannot be loaded.
    """

    def __init__(self, config: FineTuningConfig, names: Mapping[int, str], seed: int) -> None:
        self.config, self.seed, self.count = config, seed, len(names)
        self.pipeline = self._load()
        self.kept = known_classes(names, self.pipeline.config.id2label)
        self.kept_names = [names[label] for label in sorted(self.kept)]
        self.digest = digest_of(self.pipeline.transformer)

    def _load(self) -> DifficultyGuidedPipeline:
        pipeline = load_pipeline(self.config.base, probe="none", device="cpu")
        pipeline.register_modules(classifier=None)  # which knows other classes
        pipeline.transformer.float()
        pipeline.vae.float().requires_grad_(False)
        return pipeline

    @property
    def scheduler(self) -> Any:
        """The schedule that its denoiser was trained with."""
        return self.pipeline.scheduler

    @property
    def prediction(self) -> str:
        """What its denoiser predicts."""
        return str(self.scheduler.config.prediction_type)

    def size(self, wanted: int | None) -> int:
        """Side of the images in pixels.

        Raises:
            ValueError: another one is wanted.
        """
        own = self.pipeline.image_size[0]
        if wanted not in (None, own):
            raise ValueError(f"{self.config.base} makes images of {own} pixels, and size={wanted}; leave size out")
        return own

    def vae(self, given: AutoencoderKL | None) -> AutoencoderKL:
        """The pipeline's own VAE, or another whose latents its denoiser can take.

        Raises:
            ValueError: that makes latents of other channels or another size.
        """
        own = self.pipeline.vae
        if given is None:
            return own
        kinds = [(vae.config.latent_channels, pixels_of_a_latent(vae)) for vae in (own, given)]
        require_same_latents(self.config.base or "", *kinds)
        return given

    def require_own(self, config: GeneratorConfig, objective: Objective) -> None:
        """Refuse settings of a denoiser that tuning keeps as it is.

        Raises:
            ValueError: width, depth or prediction are neither the pipeline's nor those that are meant unasked.
        """
        shape = self.pipeline.transformer.config
        width = shape.num_attention_heads * shape.attention_head_dim
        for name, wanted, usual, own in (
            ("width", config.width, GeneratorConfig.width, width),
            ("depth", config.depth, GeneratorConfig.depth, shape.num_layers),
            ("prediction", objective.prediction, Objective.prediction, self.prediction),
        ):
            if wanted not in (usual, own):
                raise ValueError(
                    f"{name} is {wanted}, and that of {self.config.base} is {own}, which stays as it is; leave {name} "
                    "out"
                )

    def adapted(self, device: torch.device, precision: str) -> Adaptation:
        """The transformer with the images' classes, prepared for training on a device.

        Args:
            precision: that the training computes in; weights that rest are kept in it.
        """
        transformer = self._renewed(self.pipeline.transformer)
        adaptation = adapt(transformer.to(device), self.config, seed=self.seed)
        if precision == "bfloat16" and self.config.tune != "all":
            adaptation.rest_in(torch.bfloat16)
        return adaptation

    def fold(self, adaptation: Adaptation, folder: Path) -> None:
        """Put what was learnt into the transformer; the first process writes it too, if it is less than the whole."""
        if is_main_process():
            shutil.rmtree(folder, ignore_errors=True)
            adaptation.save(folder)
        adaptation.fold(self._renewed(self._load().transformer).state_dict() if adaptation.rested else None)

    def _renewed(self, transformer: DiTTransformer2DModel) -> DiTTransformer2DModel:
        set_classes(transformer, self.count, self.kept, seed=self.seed)
        return transformer


def resolved(precision: str, device: torch.device, checkpoint: Path) -> str:
    """What to compute in: for ``auto`` that of a checkpoint which is there, else what a device does fast.

    Every process has to call it; ``auto`` is what the first finds.
    """
    if precision != "auto":
        return precision
    with fail_together():
        begun = read_record(checkpoint)["settings"]["precision"] if checkpoint.exists() else fast_precision(device)
    return str(gather(begun)[0])  # another process may have another processor
