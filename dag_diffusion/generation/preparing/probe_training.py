"""Training of a probe: sample with the pipeline, measure each predicted clean sample by the guides, learn from that.

    collect trajectories -> fit the margin of the drawn class and the guides' probabilities -> measure on unseen runs

``trajectories`` samples and measures; ``guidance.probes`` says what a probe is, and how it steers.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dag_diffusion.data.files import recorded
from dag_diffusion.difficulty import Among, as_among, classes_among, margin
from dag_diffusion.guidance.probes import REST, describe, with_signal_rate
from dag_diffusion.pipelines.call_inputs import labels_named
from dag_diffusion.processes import fail_together, gather, is_main_process
from dag_diffusion.processor import usual_torch
from dag_diffusion.progress import Progress
from dag_diffusion.seeding import as_seed, seeded

from .kept_parts import KeptParts
from .trajectories import Trajectories, collect, record_of_runs

if TYPE_CHECKING:
    from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline

TRAINING, FIDELITY = "training", "fidelity"  # in the description of a probe


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """How a probe is trained.

    Attributes:
        trajectories: sampling runs to learn from.  The last tenth of them is kept to measure on.
        num_inference_steps: denoising steps of those runs, best as in later use; default: the pipeline's own.
        guidance_scale: strength of classifier-free guidance in those runs, on above 1; default: the pipeline's own.
        training_steps: training steps of the probe.
        batch_size, learning_rate: of the training by AdamW, with one cycle of the rate.
        hidden_sizes, depths: of the ConvNeXt; its patches are at least 2 wide and leave at most about
            8 x 8 positions, since it should cost little beside the denoiser.
        seed: random seed of the runs, the weights and the batches.
        among: all: difficulty among all classes of the guides; set: among those that are drawn alone.
    """

    trajectories: int = 3000
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    training_steps: int = 6000
    batch_size: int = 128
    learning_rate: float = 3e-3
    hidden_sizes: tuple[int, ...] = (64, 128)
    depths: tuple[int, ...] = (2, 2)
    seed: int = 0
    among: Among = "all"

    def __post_init__(self) -> None:
        least = {"trajectories": 10, "num_inference_steps": 2, "training_steps": 1, "batch_size": 1}
        for name, allowed in least.items():
            if (value := getattr(self, name)) is not None and value < allowed:
                raise ValueError(
                    f"a probe cannot learn with {name}={value}; take {allowed} or more, 3000 trajectories are usual"
                )

        as_among(self.among)
        if len(self.hidden_sizes) != len(self.depths) or not self.depths:
            raise ValueError(f"hidden_sizes {self.hidden_sizes} and depths {self.depths} differ in length; pair them")


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How well a probe predicts its guides on trajectories that it has not seen, in the last third of the steps.

    Attributes:
        difficulty_error: mean absolute difference of the difficulties.
        correlation: Spearman's, of the margins.
    """

    difficulty_error: float
    correlation: float


def build_probe(pipeline: "DifficultyGuidedPipeline", config: ProbeConfig) -> Any:
    """An untrained probe for the latents and classes of a pipeline."""
    from transformers import ConvNextConfig, ConvNextForImageClassification

    side, names = pipeline.transformer.config.sample_size, pipeline.class_names
    names = dict(enumerate([*names.values(), REST]))
    with seeded(config.seed):
        return ConvNextForImageClassification(
            ConvNextConfig(
                num_channels=pipeline.transformer.config.in_channels + 1,
                image_size=side,
                patch_size=max(2, side // 8),
                num_stages=len(config.depths),
                hidden_sizes=list(config.hidden_sizes),
                depths=list(config.depths),
                layer_scale_init_value=1.0,  # the usual 1e-6 is for deep networks and long training
                id2label=names,
                label2id={name: label for label, name in names.items()},
            )
        )


def fit(probe: nn.Module, seen: Trajectories, config: ProbeConfig, progress: Progress | None = None) -> None:
    """Train a probe in place: the margin of the drawn class is what steers, the other classes help to learn it."""
    optimizer = torch.optim.AdamW(probe.parameters(), lr=config.learning_rate, weight_decay=0.02)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.training_steps)
    generator = torch.Generator().manual_seed(as_seed(config.seed))
    probe.train()
    for step in range(config.training_steps):
        batch = seen[torch.randint(len(seen), (config.batch_size,), generator=generator)]
        loss = distillation_loss(logits_of(probe, batch), batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimizer.step()
        cycle.step()
        if progress is not None:
            progress("training", step + 1, config.training_steps)
    probe.eval().requires_grad_(False)


def logits_of(probe: nn.Module, batch: Trajectories) -> Tensor:
    """The probe's logits for trajectories, ``(n, classes + 1)``."""
    device = next(probe.parameters()).device
    return probe(with_signal_rate(batch.clean.float(), batch.signal).to(device)).logits


def distillation_loss(logits: Tensor, seen: Trajectories) -> Tensor:
    """Huber loss of the margin plus half of the divergence from the guides' probabilities."""
    labels, margins, wanted = (x.to(logits.device) for x in (seen.labels, seen.margins, seen.log_probabilities))
    of_margin = F.smooth_l1_loss(margin(logits, labels), margins)
    wanted = wanted.log_softmax(1)  # a mean of log-probabilities sums to less than 1
    return of_margin + 0.5 * F.kl_div(logits.log_softmax(1), wanted, reduction="batchmean", log_target=True)


@torch.no_grad()
def fidelity(probe: nn.Module, unseen: Trajectories) -> Fidelity:
    """Compare a probe with its guides; see ``Fidelity``."""
    from scipy.stats import spearmanr

    late = unseen[unseen.signal >= unseen.signal.quantile(2 / 3)]
    predicted = torch.cat([logits_of(probe, late[rows]).cpu() for rows in torch.arange(len(late)).split(500)])
    first, second = margin(predicted, late.labels), late.margins
    error = (torch.sigmoid(-first) - torch.sigmoid(-second)).abs().mean()
    correlation = float(np.nan_to_num(spearmanr(first, second).statistic))
    return Fidelity(difficulty_error=float(error), correlation=correlation)


@usual_torch()
def train_probe(
    pipeline: "DifficultyGuidedPipeline",
    guides: Sequence[nn.Module],
    config: ProbeConfig | None = None,
    *,
    labels: Sequence[int | str] | int | str | None = None,
    batch_size: int = 50,
    kept: KeptParts | None = None,
    progress: Progress | None = None,
) -> tuple[nn.Module, Fidelity]:
    """A probe of one or several guides for a pipeline: collect trajectories, train, measure on a tenth of them.

    Under ``accelerate launch`` every process has to call it.  They share the sampling, the first trains, and each
    returns the same probe.

    Args:
        pipeline: whose latents it reads.
        guides: the first is the pipeline's guide; more of them make the gradient point at what classifiers share.
        config: how many runs, of what kind, and how the probe learns.
        labels: classes to train for, by name or by the pipeline's labels; all by default.
        batch_size: images at a time while sampling.
        kept: from ``kept_parts``, where runs are kept batch by batch, so that the same call goes on after a kill.
        progress: called with stage, done and total.

    Raises:
        StoppedError: SIGTERM came; the runs that are drawn are kept.
        ValueError: no guide, or one that lacks a class to be drawn; one class to measure among.
        FloatingPointError: nothing of what was sampled is finite.

    Examples:
        >>> probe, fidelity = train_probe(pipeline, [pipeline.classifier])
        >>> pipeline.register_modules(probe=probe)
    """
    config = config or ProbeConfig()
    with fail_together():
        if not guides:
            raise ValueError(
                "a probe needs at least one classifier to learn from, such as pipeline.classifier; got none"
            )
        asked = None if labels is None else labels_named(labels, pipeline.class_names, "the pipeline")
    found = collect(pipeline, guides, config, labels=asked, batch_size=batch_size, kept=kept, progress=progress)
    probe, measured = build_probe(pipeline, config).to(pipeline.device), None
    drawn = list(pipeline.class_names) if asked is None else asked
    probe.config.probe = describe(pipeline, guides, asked, classes_among(config.among, drawn))
    with fail_together():
        if is_main_process():
            measured = _fit_and_measure(probe, found, config, progress)
            record = record_of_probe(pipeline, guides, config, labels=asked, batch_size=batch_size)
            probe.config.probe |= {TRAINING: record, FIDELITY: asdict(measured)}
    trained = (probe.cpu().state_dict(), probe.config.probe, measured) if is_main_process() else None
    state, probe.config.probe, measured = gather(trained)[0]
    probe.load_state_dict(state)
    return probe.to(pipeline.device).eval().requires_grad_(False), measured


def record_of_probe(
    pipeline: "DifficultyGuidedPipeline",
    guides: Sequence[nn.Module],
    config: ProbeConfig,
    *,
    labels: Sequence[int] | None,
    batch_size: int,
) -> dict[str, Any]:
    """What a probe follows from, of which its configuration keeps a record; JSON values.  Arguments as of training."""
    return recorded(record_of_runs(pipeline, guides, config, labels, batch_size) | {"settings": asdict(config)})


def _fit_and_measure(probe: nn.Module, found: Trajectories, config: ProbeConfig, progress: Progress | None) -> Fidelity:
    unseen = found.run >= config.trajectories - config.trajectories // 10
    if not (unseen.any() and (~unseen).any()):
        raise FloatingPointError(
            "a probe cannot learn, since no sample of the runs has finite logits by the guides; "
            "keep the transformer, the VAE and the classifiers in float32 or bfloat16"
        )
    fit(probe, found[~unseen], config, progress)
    return fidelity(probe, found[unseen])
