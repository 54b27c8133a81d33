"""What a probe learns from: predicted clean samples along sampling runs, and what the guides find of them.

runs, unguided and steered to all difficulties -> each step's clean sample, decoded once -> margins, probabilities
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dag_diffusion.classifiers.image_classifiers import class_names_of, image_logits, preprocessing_of
from dag_diffusion.classifiers.model_transforms import AnyPreprocessing
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.difficulty import classes_among, margin
from dag_diffusion.generation.provenance import OF_THE_PIPELINE, scheduler_record
from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig
from dag_diffusion.identity import digest_of
from dag_diffusion.progress import Progress
from dag_diffusion.sampling.scoring import batches_of
from dag_diffusion.seeding import as_seed

from .kept_parts import KeptParts

if TYPE_CHECKING:
    from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline

    from .probe_training import ProbeConfig

logger = logging.getLogger(__name__)
ENOUGH_RUNS = 20  # sampling runs of each class; with fewer a probe is no more than a guess
UNGUIDED = 3  # one batch in so many is drawn unguided, since the probe must know unguided samples too
LATER = ("default_guidance_start", "default_guidance_stop")  # of which a record tells only where there is one
OF_THE_TRAINING = ("training_steps", "batch_size", "learning_rate", "hidden_sizes", "depths")  # settings of no run
UNKNOWN = -20.0  # log-probability of classes that are not drawn, which a guide need not know


@dataclass(frozen=True, kw_only=True)
class Trajectories:
    """Predicted clean samples along sampling runs, and what the guides find of them.

    Attributes:
        clean: ``(n, channels, height, width)`` float16.
        signal: ``(n,)``, sqrt of the cumulative signal rate at which each was predicted.
        labels: ``(n,)``, of the pipeline.
        margins: ``(n,)``, of the drawn class, mean over the guides, as guidance takes it.
        log_probabilities: ``(n, classes + 1)``, mean over the guides; the last is that of all other classes.
        run: ``(n,)``, which sampling run each belongs to.
    """

    clean: Tensor
    signal: Tensor
    labels: Tensor
    margins: Tensor
    log_probabilities: Tensor
    run: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Any) -> "Trajectories":
        return Trajectories(**{name: values[rows] for name, values in vars(self).items()})

    @classmethod
    def concatenate(cls, parts: Sequence["Trajectories"]) -> "Trajectories":
        """All of them, one after the other."""
        return cls(**{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)})


def collect(
    pipeline: "DifficultyGuidedPipeline",
    guides: Sequence[nn.Module],
    config: "ProbeConfig",
    *,
    labels: Sequence[int] | None = None,
    batch_size: int = 50,
    kept: KeptParts | None = None,
    progress: Progress | None = None,
) -> Trajectories:
    """Sample with the pipeline and measure each predicted clean sample by the guides.

    Several processes share the runs, each with all components, and each gets all trajectories.

    Args:
        pipeline: one that can steer; its own probe, if it has one, is left out.
        guides: classifiers that know the pipeline's classes by name; all of them steer.
        labels: classes to draw; all by default.
        kept: from ``kept_parts``, where runs are kept batch by batch, so that the same call goes on after a kill.
    """
    kept = kept or KeptParts()
    allowed = _allowed(pipeline, labels)
    if not len(allowed):
        raise ValueError("the list of classes is empty; name at least one class, or leave it out for all of them")
    if config.trajectories < ENOUGH_RUNS * len(allowed):
        logger.warning(
            "%d sampling runs for %d classes are few; a probe that steers well has seen about %d runs of each",
            config.trajectories,
            len(allowed),
            ENOUGH_RUNS,
        )
    classes_among(config.among, allowed.tolist())  # refuses a set of one class
    runs = _runs(pipeline, guides, config, allowed, batch_size)
    with kept.turns("trajectories", config.trajectories, batch_size, runs.record, progress) as mine:
        for batch in batches_of(mine, batch_size):
            kept.add(batch, vars(Trajectories.concatenate(runs.draw(batch[0]))))
    parts = list(kept.all())
    return Trajectories(
        **{field.name: torch.cat([part[field.name] for part in parts]) for field in fields(Trajectories)}
    )


def record_of_runs(
    pipeline: "DifficultyGuidedPipeline",
    guides: Sequence[nn.Module],
    config: "ProbeConfig",
    labels: Sequence[int] | None,
    batch_size: int,
) -> dict[str, Any]:
    """What trajectories follow from; arguments as of ``collect``."""
    return _runs(pipeline, guides, config, _allowed(pipeline, labels), batch_size).record()


def _allowed(pipeline: "DifficultyGuidedPipeline", labels: Sequence[int] | None) -> Tensor:
    return torch.tensor(list(pipeline.class_names) if labels is None else list(labels))


def _runs(
    pipeline: "DifficultyGuidedPipeline",
    guides: Sequence[nn.Module],
    config: "ProbeConfig",
    allowed: Tensor,
    batch_size: int,
) -> "_Runs":
    components = pipeline.components | {"classifier": guides[0], "probe": None}
    own = {name: pipeline.config.get(name) for name in OF_THE_PIPELINE}
    steering = type(pipeline)(**components, **own)
    steering.set_progress_bar_config(disable=True)
    columns = [_columns(pipeline, guide, allowed.tolist()) for guide in guides]
    preprocessing = list(map(preprocessing_of, guides))  # once, since a processor may be read from disk or the Hub
    return _Runs(steering, guides, columns, preprocessing, config, allowed, batch_size)


def _columns(pipeline: "DifficultyGuidedPipeline", guide: nn.Module, labels: Sequence[int]) -> dict[int, int]:
    """The pipeline's label of each class to be drawn to the guide's own; the guide need not know the others."""
    known = {label: pipeline.class_names[label] for label in labels}
    return match_classes(known, class_names_of(guide), trainable=True)


@dataclass(frozen=True)
class _Runs:
    """Sampling runs, a batch at a time by the number of its first."""

    pipeline: "DifficultyGuidedPipeline"
    guides: Sequence[nn.Module]
    columns: Sequence[dict[int, int]]  # of each guide, its labels of the classes that are drawn
    preprocessing: Sequence[AnyPreprocessing]  # of each guide
    config: "ProbeConfig"
    allowed: Tensor
    batch_size: int

    def count(self, first: int) -> int:
        """How many runs a batch has."""
        return min(self.batch_size, self.config.trajectories - first)

    def record(self) -> dict[str, Any]:
        """What the runs follow from."""
        pipeline, settings = self.pipeline, asdict(self.config)
        models = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
        return {
            "weights": {name: digest_of(part) for name, part in models.items()},
            "guides": [
                [digest_of(guide), preprocessing.as_fields(), list(columns.items())]
                for guide, preprocessing, columns in zip(self.guides, self.preprocessing, self.columns, strict=True)
            ],
            "own": {
                name: value
                for name in OF_THE_PIPELINE
                if (value := pipeline.config.get(name)) is not None or name not in LATER
            },
            "vae_scale": pipeline.vae.config.scaling_factor,
            "scheduler": scheduler_record(pipeline.scheduler),
            "settings": {name: value for name, value in settings.items() if name not in OF_THE_TRAINING},
            "classes": self.allowed.tolist(),
            "batch_size": self.batch_size,
        }

    def draw(self, first: int) -> list[Trajectories]:
        """What is finite of a batch, step by step."""
        parts: list[Trajectories] = []
        generator = torch.Generator().manual_seed(as_seed(self.config.seed) * 1_000_003 + first)
        chosen = self.allowed[torch.randint(len(self.allowed), (self.count(first),), generator=generator)]
        targets = torch.rand(len(chosen), generator=generator)

        def keep(steered: Any, step: int, timestep: Any, tensors: dict) -> dict:
            margins, log_probabilities = self._measured(tensors["clean"], chosen)
            found = Trajectories(
                clean=tensors["clean"].half().cpu(),
                signal=tensors["signal_rate"].sqrt().cpu().expand(len(chosen)).clone(),
                labels=chosen,
                margins=margins,
                log_probabilities=log_probabilities,
                run=torch.arange(first, first + len(chosen)),
            )
            finite = torch.isfinite(found.clean).flatten(1).all(1) & torch.isfinite(log_probabilities).all(1)
            parts.append(found[finite])  # one sample that is not finite would spoil every weight
            return {}

        unguided = (first // self.batch_size) % UNGUIDED == UNGUIDED - 1
        self.pipeline(
            chosen,
            None if unguided else targets,
            guidance_scale=self.config.guidance_scale,
            num_inference_steps=self.config.num_inference_steps,
            generator=generator,
            output_type="latent",
            callback_on_step_end=keep,
            callback_on_step_end_tensor_inputs=["clean", "signal_rate"],
            extra_guides=() if unguided else self.guides[1:],
            difficulty_guidance=GuidanceConfig(among=self.config.among),
            set_classes=self.allowed,
        )
        return parts

    @torch.no_grad()
    def _measured(self, clean: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean margins and mean log-probabilities of the guides, on the CPU; see ``Trajectories``."""
        images, margins, found = self.pipeline.decode_for_guidance(clean), [], []
        for guide, own, preprocessing in zip(self.guides, self.columns, self.preprocessing, strict=True):
            logits = image_logits(guide, images, preprocessing)
            if self.config.among == "set":  # as if there were no other classes
                others = torch.tensor(sorted(set(range(logits.shape[1])) - set(own.values())), device=logits.device)
                logits = logits.index_fill(1, others.long(), float("-inf"))
            every = logits.log_softmax(1).cpu()
            margins.append(margin(every, torch.tensor([own[label] for label in labels.tolist()])))
            known = every.new_full((len(every), len(self.pipeline.class_names)), UNKNOWN)
            known[:, list(own)] = every[:, list(own.values())]
            rest = torch.log((1 - known.exp().sum(1, keepdim=True)).clamp(min=1e-9))
            found.append(torch.cat([known, rest], dim=1))
        return torch.stack(margins).mean(0), torch.stack(found).mean(0)
