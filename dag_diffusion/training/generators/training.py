"""A generator for images of one's own: autoencoder -> latents -> denoiser -> a pipeline's folder.

    OUTPUT/                      the pipeline, written whole or not at all, with training.json
    OUTPUT.training/             vae/ latents/ denoiser/ with losses.jsonl, samples/*.png; a killed run goes on from it

Labels are dropped once a sample, before the call, and the denoiser's own dropping is off: in training mode it would
drop labels anew in every block, so that hardly any sample were conditional in all of them, and none unconditional.
"""

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel
from torch import Tensor

from dag_diffusion.data.common_kind import common_kind
from dag_diffusion.data.distilled_sets import require_apart
from dag_diffusion.data.files import (
    differences,
    is_made_so,
    locked,
    read_json_object,
    recorded,
    require_no_mount,
    require_replaceable,
    write_json,
)
from dag_diffusion.data.pools import Pool, PoolSource, as_pool, digest_of_images
from dag_diffusion.evaluation.labelled_images import load_labelled_images
from dag_diffusion.generation.provenance import versions
from dag_diffusion.generation.tracking import logged, require_trackers
from dag_diffusion.identity import digest_of
from dag_diffusion.loading import hide_loading_bars
from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline
from dag_diffusion.pipelines.latents import pixels_of_a_latent
from dag_diffusion.processes import fail_together, gather, is_main_process, resolve_device, this_process
from dag_diffusion.processor import usual_torch
from dag_diffusion.progress import Progress, renamed
from dag_diffusion.training.batches import Batch, shares
from dag_diffusion.training.checkpoints import require_own_work, work_folder
from dag_diffusion.training.denoising import DenoisingLoss
from dag_diffusion.training.fine_tuning import ADAPTER, FineTuningConfig
from dag_diffusion.training.loop import CHECKPOINT, Loss, fit
from dag_diffusion.training.objectives import Objective

from .attention import suited_attention
from .bases import FINE_RATE, load_base, resolved
from .images import images_to_learn
from .latents import Latents, encode_images
from .networks import NULL_ROW, build_scheduler, build_transformer, build_vae, set_own_dropping
from .room import Room, number_of_weights
from .samples import sampler
from .settings import LARGEST, SIZE, GeneratorConfig
from .sizes import is_suitable, require_suitable
from .vae import SCALE, load_vae, reconstruction_error, train_vae

logger = logging.getLogger(__name__)
RECORD = "training.json"  # in the pipeline's folder, and in that of the work
MADE, BEFORE = "made", "before"  # the pipeline before it is moved to its place, and one that it replaces
PARTS = ("vae", "latents", "denoiser", "samples", ADAPTER)  # of the work
EXECUTION = ("accumulation", "checkpoint_seconds", "gradient_checkpointing", "sample_grids")  # change no weights
SOME = 500  # images that the autoencoder is measured on
STEPS = 12  # of denoising where a caller names none
STEPS_OF_BASE = 20  # of one that names none; twelve are enough for our own scheduler alone


@usual_torch()
def train_generator(
    images: PoolSource,
    output: str | Path,
    config: GeneratorConfig | None = None,
    *,
    objective: Objective | None = None,
    fine_tuning: FineTuningConfig | None = None,
    trackers: Sequence[str] = (),
    device: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> DifficultyGuidedPipeline:
    """Train a class-conditional generator on images, or go on where an earlier call stopped.

    Under ``accelerate launch`` every process has to call it; each returns the same pipeline.

    Args:
        images: of two or more classes, from ``read_pool``, or what that reads.
        output: folder of the pipeline, which ``DifficultyGuidedPipeline.from_pretrained`` loads.  One that an earlier
            call with the same images and settings has finished is loaded.
        config: how to train.
        objective: what the denoiser is asked for; by default v with min-SNR weights.  A pretrained one keeps its
            prediction.
        fine_tuning: the pipeline to start from, and what of it is trained; None: from scratch.
        trackers: of accelerate, such as ``"tensorboard"``, whose curves come into ``work_folder(output)``.
        device: None: the one that accelerate finds.
        overwrite: replace a pipeline of another training.
        progress: called with stage, done and total; of several processes in the first.

    Raises:
        ValueError: images that nothing can be learnt from, see the messages; or an earlier call had other images or
            settings.
        FileExistsError: ``output`` holds something else, or another run works on it.
        FloatingPointError: the training came to no finite weights; the last checkpoint is kept.
        StoppedError: SIGTERM came; the step is finished and kept.
        OSError: the disk is full; the last checkpoint is kept.

    Examples:
        >>> pipeline = train_generator(read_pool("my_images"), "my_generator")
    """
    output, config, objective = Path(output), config or GeneratorConfig(), objective or Objective()
    hide_loading_bars()
    with fail_together():
        require_trackers(trackers)
        run = _Run(as_pool(images), output, config, objective, fine_tuning, resolve_device(device))
        finished = is_main_process() and run.is_finished(overwrite)
    finished, run.digest = gather((finished, run.digest))[0]
    if finished:
        with fail_together():
            return run.finished()
    with ExitStack() as leaving:
        with fail_together():
            run.room.require_memory(on_cpu=run.device.type == "cpu")
            if is_main_process():
                leaving.enter_context(locked(run.work))
                run.begin(overwrite)
        with logged(trackers, run.work, {"output": str(output)}) as log:
            vae = run.vae(log, progress)
            latents = run.latents(vae, progress)
            pipeline = run.denoise(vae, latents, log, progress)
        with fail_together():
            if is_main_process():
                run.save(pipeline)
    return pipeline


class _Run:
    """One call of ``train_generator``: its images, settings and folders."""

    def __init__(
        self,
        images: Pool,
        output: Path,
        config: GeneratorConfig,
        objective: Objective,
        fine_tuning: FineTuningConfig | None,
        device: str,
    ) -> None:
        self.output, self.work, self.config, self.objective = output, work_folder(output), config, objective
        self.device = torch.device(device)
        self.images = images_to_learn(images)
        self.names = {int(label): name for label, name in sorted(self.images.class_names.items())}
        self.given_vae = None if config.vae is None else load_vae(config.vae)
        kind = common_kind(self.images)
        square = kind.size[0] == kind.size[1] <= LARGEST and kind.of_that_size == kind.images
        factor = None if self.given_vae is None else pixels_of_a_latent(self.given_vae)
        self.size = config.size or (kind.size[0] if square and is_suitable(kind.size[0], factor) else SIZE)
        self.channels = config.channels or kind.channels
        self.base = load_base(fine_tuning, self.names, config.seed)
        if self.base is not None:
            self.base.require_own(config, objective)
            self.size, self.given_vae = self.base.size(config.size), self.base.vae(self.given_vae)
            self.objective = replace(objective, prediction=self.base.prediction)
        else:
            require_suitable(self.size, factor)
        self.scale = config.scale(None if self.base is None else self.base.pipeline.config)
        if self.given_vae is not None:
            self.channels = _channels_of(self.given_vae, config.channels)
        _require_shares(config, self.given_vae is None)
        self.room = self._room()
        self.digest = digest_of_images(self.images) if is_main_process() else ""  # which reads all; others are told

    def _room(self) -> Room:
        """What this training takes of memory and disk."""
        with torch.device("meta"):  # as large as they will be, without a weight
            vae = self.given_vae or build_vae(self.size, self.channels, self.config.seed)
            side, channels = self.size // pixels_of_a_latent(vae), vae.config.latent_channels
            denoiser = self._untrained(side, channels) if self.base is None else self.base.pipeline.transformer
        weights = {"vae": number_of_weights(vae), "denoiser": number_of_weights(denoiser)}
        rest = {"vae": self.given_vae is not None, "denoiser": self.base is not None and self.base.config.tune != "all"}
        latent = 2 * (1 + self.config.flip) * channels * side**2  # in half precision
        return Room(
            images=len(self.images),
            size=self.size,
            # images are read a few at a time, and their latents kept, where no autoencoder is trained on them
            image_bytes=self.size**2 * self.channels if self.given_vae is None else latent,
            latent_bytes=latent,
            weights=sum(weights.values()),
            trained=sum(count for network, count in weights.items() if not rest[network]),
        )

    def _untrained(self, side: int, latent_channels: int) -> DiTTransformer2DModel:
        options = {"width": self.config.width, "depth": self.config.depth, "seed": self.config.seed}
        return build_transformer(side, latent_channels, len(self.names), **options)

    @property
    def record(self) -> dict[str, Any]:
        """What a finished pipeline says of its training; JSON values only."""
        settings = asdict(self.config) | {"size": self.size, "channels": self.channels}
        for name in EXECUTION:
            del settings[name]
        kept = {"settings": settings, "objective": asdict(self.objective), "images": len(self.images)}
        if self.base is not None:
            kept["fine_tuning"] = asdict(self.base.config) | {"digest": self.base.digest, "kept": self.base.kept_names}
        return recorded(
            kept
            | {"digest": self.digest, "classes": list(self.names.values()), "canvas": self.images.canvas.as_fields()}
        )

    def is_finished(self, overwrite: bool) -> bool:
        """Whether the pipeline is there.

        Raises:
            FileExistsError: something else is there.
            ValueError: a pipeline of other images or settings is.
        """
        require_target(self.output)
        require_apart(self.images.path, self.output)
        if not _is_generator(self.output):
            return False
        told = f"{self.output} holds a generator of another training"
        return is_made_so(read_json_object(self.output / RECORD), self.record, told, overwrite=overwrite)

    def finished(self) -> DifficultyGuidedPipeline:
        """The pipeline that an earlier call has made, which may have been killed before it had tidied up."""
        place = self.work / RECORD
        begun = read_json_object(place) if place.exists() else {}
        if is_main_process() and not list(differences(begun, self.record)):  # else of another training, which goes on
            with suppress(FileExistsError), locked(self.work):  # or another run works there
                self._tidy()
        pipeline = DifficultyGuidedPipeline.from_pretrained(self.output).to(self.device)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def begin(self, overwrite: bool) -> None:
        """Note what is trained, or see that an earlier call has begun the same.

        Raises:
            ValueError: it has begun something else, or there is too little room on the disk.
        """
        place = self.work / RECORD
        found = list(differences(read_json_object(place), self.record)) if place.exists() else []
        if found and not overwrite:
            raise ValueError(
                f"{self.work} holds a training of other images or settings: {'; '.join(found)}; go on with the same "
                "ones, choose another output, or give overwrite=True"
            )
        self.room.require_disk(self.work)
        for part in PARTS if found else ():
            shutil.rmtree(self.work / part, ignore_errors=True)
        write_json(place, self.record)

    def latents(self, vae: AutoencoderKL, progress: Progress | None) -> Latents:
        """Those of all images."""
        return encode_images(
            vae,
            self.images,
            self.work / "latents",
            size=self.size,
            flip=self.config.flip,
            images=self.digest,
            progress=progress,
        )

    def vae(self, log: Any, progress: Progress | None) -> AutoencoderKL:
        """The autoencoder that was named, or one that is trained."""
        if self.given_vae is not None:
            return self.given_vae.to(self.device)
        side = (self.size, self.size)
        loaded = load_labelled_images(self.images, size=side, channels=self.channels, progress=progress)
        return train_vae(
            torch.as_tensor(loaded.images),
            self.work / "vae",
            self.config.vae_loop,
            flip=self.config.flip,
            device=self.device,
            identity={"digest": self.digest, "size": self.size},
            latents=self.work / "latents",
            log=lambda values, step: log({f"autoencoder/{name}": value for name, value in values.items()}, step),
            progress=progress,
        )

    def denoise(
        self, vae: AutoencoderKL, latents: Latents, log: Any, progress: Progress | None
    ) -> DifficultyGuidedPipeline:
        """Train the denoiser, and put the pipeline together."""
        config, folder = self.config, self.work / "denoiser"
        loop = replace(config.loop, precision=resolved(config.precision, self.device, folder / CHECKPOINT))
        if self.base is not None and self.base.config.tune == "all" and config.learning_rate is None:
            loop = replace(loop, learning_rate=FINE_RATE)
        transformer, finish = self._denoiser(latents, loop.precision)
        if config.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        pipeline = self._pipeline(transformer, vae)
        set_own_dropping(transformer, 0.0)
        asked = DenoisingLoss(self.objective, pipeline.scheduler)
        # behind those of the autoencoder, since some trackers drop what comes at an earlier step than the last
        before = config.vae_loop.steps if self.given_vae is None else 0
        draw = sampler(pipeline, self.work / "samples", config.seed, network_dtype=getattr(torch, loop.precision))
        identity: dict[str, Any] = {"digest": self.digest, "vae": digest_of(vae), "objective": asdict(self.objective)}
        if self.objective.kind == "minimax":  # which compares each part of a batch with those before
            identity["accumulation"] = config.accumulation
        with suited_attention(transformer, loop.precision, self.device):
            fit(
                transformer,
                labelled_loss(asked, latents, self.images.labels, config),
                len(self.images),
                folder,
                loop,
                identity=identity,
                state=asked,
                look=draw,
                looks=config.sample_grids,
                log=lambda values, step: log({f"denoiser/{name}": v for name, v in values.items()}, before + step),
                progress=renamed(progress, "denoiser"),
            )
        finish()
        set_own_dropping(transformer, NULL_ROW)
        transformer.disable_gradient_checkpointing()
        transformer.requires_grad_(False)
        return pipeline

    def _denoiser(self, latents: Latents, precision: str) -> tuple[DiTTransformer2DModel, Callable[[], None]]:
        """An untrained denoiser or an adapted one, on the device, and what makes it an ordinary one in the end."""
        if self.base is not None:
            base, adaptation = self.base, self.base.adapted(self.device, precision)
            return adaptation.transformer, lambda: base.fold(adaptation, self.work / ADAPTER)
        return self._untrained(latents.shape[1], latents.shape[0]).to(self.device), lambda: None

    def _pipeline(self, transformer: DiTTransformer2DModel, vae: AutoencoderKL) -> DifficultyGuidedPipeline:
        own: Mapping[str, Any] = {"default_num_inference_steps": STEPS}
        if self.base is not None:
            own = self.base.pipeline.config
        steps = own.get("default_num_inference_steps")
        return DifficultyGuidedPipeline(
            transformer,
            vae,
            build_scheduler(self.objective.prediction) if self.base is None else self.base.scheduler,
            id2label=self.names,
            default_guidance_scale=self.scale,
            default_num_inference_steps=steps or STEPS_OF_BASE,
            default_guidance_start=own.get("default_guidance_start"),
            default_guidance_stop=own.get("default_guidance_stop"),
        )

    def save(self, pipeline: DifficultyGuidedPipeline) -> None:
        """Write the pipeline beside its place, then move it there, and remove what only an unfinished run needs."""
        made, before = self.work / MADE, self.work / BEFORE
        for folder in (made, before):  # of a run that was killed while it wrote
            shutil.rmtree(folder, ignore_errors=True)
        pipeline.save_pretrained(made)
        if (self.work / ADAPTER).exists():
            shutil.copytree(self.work / ADAPTER, made / ADAPTER)
        blur = reconstruction_error(pipeline.vae, self._some_pixels(), self.device)
        write_json(made / RECORD, self.record | {"reconstruction_error": blur, "versions": versions()})
        output = self.output.resolve()  # behind a link, which stays
        if output.exists():
            os.replace(output, before)
        os.replace(made, output)
        self._tidy()

    def _tidy(self) -> None:
        for folder in ("latents", BEFORE):
            shutil.rmtree(self.work / folder, ignore_errors=True)
        for path in (*self.work.glob(f"*/{CHECKPOINT}"), self.work / "vae" / SCALE):
            path.unlink(missing_ok=True)

    def _some_pixels(self) -> Tensor:
        """Up to some hundred images from all classes, ``(n, height, width, channels)`` uint8."""
        some = self.images.select(np.linspace(0, len(self.images) - 1, min(SOME, len(self.images))).astype(int))
        loaded = load_labelled_images(some, size=(self.size, self.size), channels=self.channels)
        return torch.as_tensor(loaded.images)


def _channels_of(vae: AutoencoderKL, wanted: int | None) -> int:
    """Those of the images that a VAE encodes; ValueError if others are wanted."""
    own = int(vae.config.in_channels)
    if wanted not in (None, own):
        raise ValueError(f"channels={wanted}, but the VAE encodes images of {own}; leave channels out")
    return own


def _require_shares(config: GeneratorConfig, with_vae: bool) -> None:
    """Check that batches can be divided, which else would be told after the VAE has been trained, if at all."""
    process = this_process()
    if with_vae and process.num_processes > config.vae_loop.batch_size:
        raise ValueError(
            f"an autoencoder is trained in batches of {config.vae_loop.batch_size} images, too few for "
            f"{process.num_processes} processes; train it with fewer, or name one by vae"
        )
    shares(config.batch_size, process.num_processes, config.accumulation, process.process_index)


def require_target(output: Path) -> None:
    """Check that the output may become a generator: absent or empty, or an earlier one, of whichever training.

    Raises:
        FileExistsError: it, or its work folder, holds something else, or a disk is mounted there.
        PermissionError: it, or the folder above it, cannot be written.
    """
    require_replaceable(output, "trained generator", _is_generator, overwrite=True)
    require_no_mount(output)
    require_own_work(work_folder(output), RECORD)


def _is_generator(folder: Path) -> bool:
    return (folder / RECORD).is_file() and (folder / DifficultyGuidedPipeline.config_name).is_file()


def labelled_loss(asked: DenoisingLoss, latents: Latents, labels: np.ndarray, config: GeneratorConfig) -> Loss:
    """The loss of a batch, as ``loop.fit`` takes it, with labels dropped once a sample.

    Args:
        labels: ``(images,)`` int64.
    """
    classes = torch.as_tensor(labels)

    def loss(transformer: Any, batch: Batch) -> Tensor:
        rows, device = batch.indices, batch.device
        mirrored = (batch.uniform("mirrored") < 0.5).cpu() if config.flip else None
        clean, true = latents.rows(rows, mirrored).to(device), classes[rows].to(device)
        noise, timesteps = batch.normal("noise", *clean.shape[1:]), batch.integers("timesteps", len(asked.alphas))
        dropped = batch.uniform("dropped labels") < config.label_dropout
        given = torch.where(dropped, transformer.config.num_embeds_ada_norm, true)

        def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
            return transformer(noisy, timestep=timesteps, class_labels=given).sample

        return asked(predict, clean, noise, timesteps, true)

    return loss
