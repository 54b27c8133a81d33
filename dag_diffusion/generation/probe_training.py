"""Training of a probe: sample with the pipeline, measure each predicted clean sample by the guides, learn from that.

    collect trajectories -> fit the margin of the drawn class and the guides' probabilities -> measure on unseen runs

A probe learns from predicted clean samples along sampling trajectories, unguided and steered to all difficulties, which
are decoded once for training and never again.  A probe of several guides gives the gradient that they share at the
price of one small network.  ``guidance.probes`` is how it steers.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dag_diffusion.classifiers.image_classifiers import class_names_of, image_logits, preprocessing_of
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.difficulty import Among, as_among, classes_among, margin
from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig
from dag_diffusion.guidance.probes import REST, describe, with_signal_rate
from dag_diffusion.processes import fail_together, gather, is_main_process
from dag_diffusion.progress import Progress
from dag_diffusion.turns import Turns

if TYPE_CHECKING:
    from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline


logger = logging.getLogger(__name__)
ENOUGH_RUNS = 20  # sampling runs of each class; with fewer a probe is no more than a guess
UNGUIDED = 3  # one batch in so many is drawn unguided, since the probe must know unguided samples too
UNKNOWN = -20.0  # log-probability of classes that are not drawn, which a guide need not know


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
        among: classes that difficulty is measured among: all of the guides', or those that are drawn alone (set).
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
                raise ValueError(f"a probe cannot learn with {name}={value}; 3000 trajectories are usual")
        as_among(self.among)
        if len(self.hidden_sizes) != len(self.depths) or not self.depths:
            raise ValueError(f"hidden_sizes {self.hidden_sizes} and depths {self.depths} differ in length; pair them")


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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # transformers draws its weights from the global generator
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


def collect(
    pipeline: "DifficultyGuidedPipeline",
    guides: Sequence[nn.Module],
    config: ProbeConfig,
    *,
    labels: Sequence[int] | None = None,
    batch_size: int = 50,
    progress: Progress | None = None,
) -> Trajectories:
    """Sample with the pipeline and measure each predicted clean sample by the guides.

    Several processes share the runs, each with all components, and each gets all trajectories.

    Args:
        pipeline: one that can steer; its own probe, if it has one, is left out.
        guides: classifiers that know the pipeline's classes by name; all of them steer.
        labels: classes to draw; all by default.
    """
    allowed = torch.tensor(list(pipeline.class_names) if labels is None else list(labels))
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
    drawn: dict[int, list[Trajectories]] = {}
    columns = [_columns(pipeline, guide, allowed.tolist()) for guide in guides]
    components = pipeline.components | {"classifier": guides[0], "probe": None}
    steering = type(pipeline)(**components, id2label=pipeline.config.id2label)
    steering.set_progress_bar_config(disable=True)
    turns = Turns("trajectories", config.trajectories, progress)

    def draw(first: int) -> list[Trajectories]:
        parts: list[Trajectories] = []
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + first)
        count = min(batch_size, config.trajectories - first)
        chosen = allowed[torch.randint(len(allowed), (count,), generator=generator)]
        targets = torch.rand(count, generator=generator)

        def keep(steered: Any, step: int, timestep: Any, tensors: dict) -> dict:
            margins, log_probabilities = _measured(
                steered, guides, columns, tensors["clean"], chosen, drawn_alone=config.among == "set"
            )
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

        unguided = (first // batch_size) % UNGUIDED == UNGUIDED - 1
        steering(
            chosen,
            None if unguided else targets,
            guidance_scale=config.guidance_scale,
            num_inference_steps=config.num_inference_steps,
            generator=generator,
            output_type="latent",
            callback_on_step_end=keep,
            callback_on_step_end_tensor_inputs=["clean", "signal_rate"],
            extra_guides=() if unguided else guides[1:],
            difficulty_guidance=GuidanceConfig(among=config.among),
            set_classes=allowed,
        )
        turns.report(count)
        return parts

    with turns.together():
        for first in turns.take(range(0, config.trajectories, batch_size), 1):
            drawn[first] = draw(first)
    found = {first: parts for share in gather(drawn) for first, parts in share.items()}
    return Trajectories.concatenate([part for first in sorted(found) for part in found[first]])


def _columns(pipeline: "DifficultyGuidedPipeline", guide: nn.Module, labels: Sequence[int]) -> dict[int, int]:
    """The pipeline's label of each class to be drawn to the guide's own; the guide need not know the others."""
    known = {label: pipeline.class_names[label] for label in labels}
    return match_classes(known, class_names_of(guide), "the classifier")


@torch.no_grad()
def _measured(
    pipeline: "DifficultyGuidedPipeline",
    guides: Sequence[nn.Module],
    columns: Sequence[dict[int, int]],
    clean: Tensor,
    labels: Tensor,
    *,
    drawn_alone: bool,
) -> tuple[Tensor, Tensor]:
    """Mean margins and mean log-probabilities of the guides, on the CPU; see ``Trajectories``.

    Args:
        columns: of each guide, its labels of the classes that are drawn.
        drawn_alone: the guides are asked as if there were no other classes.
    """
    images, margins, found = pipeline.decode_for_guidance(clean), [], []
    for guide, own in zip(guides, columns, strict=True):
        logits = image_logits(guide, images, preprocessing_of(guide))
        if drawn_alone:
            others = torch.tensor(sorted(set(range(logits.shape[1])) - set(own.values())), device=logits.device)
            logits = logits.index_fill(1, others.long(), float("-inf"))
        every = logits.log_softmax(1).cpu()
        margins.append(margin(every, torch.tensor([own[label] for label in labels.tolist()])))
        known = every.new_full((len(every), len(pipeline.class_names)), UNKNOWN)
        known[:, list(own)] = every[:, list(own.values())]
        rest = torch.log((1 - known.exp().sum(1, keepdim=True)).clamp(min=1e-9))
        found.append(torch.cat([known, rest], dim=1))
    return torch.stack(margins).mean(0), torch.stack(found).mean(0)


def fit(probe: nn.Module, seen: Trajectories, config: ProbeConfig, progress: Progress | None = None) -> None:
    """Train a probe in place: the margin of the drawn class is what steers, the other classes help to learn it."""
    optimizer = torch.optim.AdamW(probe.parameters(), lr=config.learning_rate, weight_decay=0.02)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.training_steps)
    generator = torch.Generator().manual_seed(config.seed)
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


def train_probe(
    pipeline: "DifficultyGuidedPipeline",
    guides: Sequence[nn.Module],
    config: ProbeConfig | None = None,
    *,
    labels: Sequence[int] | None = None,
    batch_size: int = 50,
    progress: Progress | None = None,
) -> tuple[nn.Module, Fidelity]:
    """A probe of one or several guides for a pipeline: collect trajectories, train, measure on a tenth of them.

    Under ``accelerate launch`` every process has to call it.  They share the sampling, the first trains, and each
    returns the same probe.

    Args:
        pipeline: whose latents it reads.
        guides: the first is the pipeline's guide; more of them make the gradient point at what classifiers share.
        labels: classes to train for; all by default.
        batch_size: images at a time while sampling.
        progress: called with stage, done and total.

    Raises:
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
    found = collect(pipeline, guides, config, labels=labels, batch_size=batch_size, progress=progress)
    probe, measured = build_probe(pipeline, config).to(pipeline.device), None
    drawn = list(pipeline.class_names) if labels is None else labels
    probe.config.probe = describe(pipeline, guides, labels, classes_among(config.among, drawn))
    with fail_together():
        if is_main_process():
            measured = _fit_and_measure(probe, found, config, progress)
    state, measured = gather((probe.cpu().state_dict(), measured) if is_main_process() else None)[0]
    probe.load_state_dict(state)
    return probe.to(pipeline.device).eval().requires_grad_(False), measured


def _fit_and_measure(probe: nn.Module, found: Trajectories, config: ProbeConfig, progress: Progress | None) -> Fidelity:
    unseen = found.run >= config.trajectories - config.trajectories // 10
    if not (unseen.any() and (~unseen).any()):
        raise FloatingPointError(
            "a probe cannot learn, since no sample of the runs has finite logits by the guides; "
            "keep the transformer, the VAE and the classifiers in float32 or bfloat16"
        )
    fit(probe, found[~unseen], config, progress)
    return fidelity(probe, found[unseen])
