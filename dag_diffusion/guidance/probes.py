"""Probes: a small network on latents that predicts what the guides say, so that guidance needs no decoder.

    probe(x0, sqrt(a_t)) ~ log p(y | decode(x0))  for all classes at once,   g = d margin(probe) / dx0

It learns from predicted clean samples along sampling trajectories, unguided and steered to all difficulties, which are
decoded once for training and never again.  A probe of several guides gives the gradient that they share at the price of
one small network.  It is a transformers ConvNeXt whose last input channel holds the signal rate, so that a pipeline
keeps it as a component.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dag_diffusion.difficulty import among, margin
from dag_diffusion.identity import is_same_model, sketch_of

from .difficulty_guidance import MarginOf

if TYPE_CHECKING:
    from dag_diffusion.pipelines.difficulty_guided import DifficultyGuidedPipeline

FORMAT = "dag-diffusion probe 2"
AMONG = "among"  # key of the labels that difficulty is measured among; absent where those are all of the guide's
REST = "(any other class)"  # what the guides know and the pipeline lacks, so that margins stay exact


def with_signal_rate(clean: Tensor, signal: Tensor) -> Tensor:
    """The probe's input: ``clean`` with one more channel that holds ``signal``, ``(batch,)``."""
    return torch.cat([clean, signal.to(clean).view(-1, 1, 1, 1).expand(-1, 1, *clean.shape[2:])], dim=1)


def probe_margin(probe: Any, labels: Tensor, alpha: Tensor | float, classes: Tensor | None = None) -> MarginOf:
    """The margin that the probe predicts, as a differentiable function of predicted clean samples.

    Args:
        probe: from ``train_probe``.
        labels: ``(batch,)``, the pipeline's.
        alpha: cumulative signal rate of the step.
        classes: the pipeline's labels that difficulty is measured among, rising; None for all of the guide's.
    """
    signal = torch.as_tensor(alpha).float().sqrt().to(labels.device).expand(len(labels))

    def margin_of(clean: Tensor) -> Tensor:
        logits = probe(with_signal_rate(clean, signal).to(probe.dtype)).logits
        return margin(*among(logits, labels, classes))

    return margin_of


def describe(
    pipeline: "DifficultyGuidedPipeline",
    guides: Sequence[nn.Module],
    labels: Sequence[int] | None = None,
    classes: Sequence[int] | None = None,
) -> dict[str, Any]:
    """For which latents, by which guides and among which classes a probe was trained; kept in its configuration."""
    config = pipeline.transformer.config
    measured = {} if classes is None else {AMONG: list(classes)}
    return measured | {
        "format": FORMAT,
        "latents": [config.in_channels, config.sample_size, config.sample_size],
        "vae": sketch_of(pipeline.vae),
        "guides": [sketch_of(guide) for guide in guides],
        "labels": None if labels is None else sorted(set(labels)),
    }


def require_probe_of(
    probe: Any, pipeline: "DifficultyGuidedPipeline", class_labels: Sequence[int], classes: Sequence[int] | None = None
) -> None:
    """Refuse a probe that would steer by another pipeline's latents, another guide, or classes it has never seen.

    Args:
        classes: the pipeline's labels that difficulty is measured among, rising; None for all of the guide's.

    Raises:
        ValueError: it is no probe; other latents, VAE, classes or guide; another difficulty.
    """
    config = pipeline.transformer.config
    shape = config.in_channels, config.sample_size, config.sample_size
    same_classes = list(classes_of(probe).values()) == list(pipeline.class_names.values())
    require_probe_for(probe, shape, pipeline.vae, pipeline.classifier, class_labels, classes, same_classes=same_classes)


def require_probe_for(
    probe: Any,
    shape: Sequence[int],
    vae: nn.Module,
    guide: nn.Module,
    labels: Sequence[int],
    classes: Sequence[int] | None = None,
    *,
    same_classes: bool = True,
) -> None:
    """Refuse a probe of other latents or another guide.

    Args:
        shape: ``(channels, height, width)`` of the latents.
        labels: of the probe, that it will be asked for.
        classes: of the probe, that difficulty is measured among, rising; None for all of the guide's.
        same_classes: whether its classes are those of the pipeline.

    Raises:
        ValueError: as of ``require_probe_of``.
    """
    own = _own_description(probe)
    differing = [
        what
        for what, same in (
            ("latent shape", own["latents"] == list(shape)),
            ("VAE", is_same_model(own["vae"], sketch_of(vae))),
            ("classes", same_classes),
            ("guide", any(is_same_model(one, sketch_of(guide)) for one in own["guides"])),
        )
        if not same
    ]
    if differing:
        raise ValueError(
            f"the probe was trained for another {' and another '.join(differing)} than this pipeline's; "
            "train one with train_probe(), or leave it out with probe=None"
        )
    wanted = None if classes is None else list(classes)
    if (trained_for := classes_measured(probe)) != wanted:
        trained, asked = ("all classes" if one is None else f"the labels {one[:10]}" for one in (trained_for, wanted))
        raise ValueError(
            f"the probe predicts difficulty among {trained}, and guidance asks for it among {asked}; "
            "train one with ProbeConfig(among=...) and those labels, or leave it out with probe=None"
        )
    if own.get("labels") is not None and (unseen := sorted(set(labels) - set(own["labels"]))):
        raise ValueError(
            f"the probe was trained for labels {own['labels'][:10]} and not for {unseen[:5]}; "
            "draw those alone, or train a probe for all of them"
        )


def classes_measured(probe: Any) -> list[int] | None:
    """Labels among which a probe predicts difficulty, rising; None for all of its guides'."""
    return _own_description(probe).get(AMONG)


def classes_of(probe: Any) -> dict[int, str]:
    """Label to class name of a probe, without the one that stands for all others; ValueError if it is no probe."""
    _own_description(probe)
    names = {int(label): name for label, name in probe.config.id2label.items()}
    return {label: names[label] for label in sorted(names) if names[label] != REST}


def _own_description(probe: Any) -> dict[str, Any]:
    if (own := description_of(getattr(getattr(probe, "config", None), "__dict__", {}))) is None:
        raise ValueError(
            f"the probe is a {type(probe).__name__} that train_probe has not made; train one, or probe=None"
        )
    return own


def description_of(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What ``describe`` left in a model's configuration; None if the model is no probe."""
    found = config.get("probe") or {}
    return found if found.get("format") == FORMAT else None
