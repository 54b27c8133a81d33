"""Modes: clusters of the real images of each class in the VAE's latent space, toward which images can be drawn.

    mode = mean of the latents of one k-means cluster,   z_{t-1} += scale * sigma_t * (mode - x0)
    sigma_t^2 = (1 - a_{t-1}) / (1 - a_t) * (1 - a_t / a_{t-1})

Drawn to different modes, the few images of a class differ as its real ones do, and no gradient is taken (MGD3, which
DAG, arXiv 2601.10090, builds on).  The difficulty-aware form looks for modes inside strata of difficulty and shares
them out as a target asks; it is our reading of DAG, whose own formula we have not seen.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as as_safetensors
from torch import Tensor
from torch.nn import functional as F

from .classifiers import Preprocessing
from .files import write_atomically
from .guidance import GuidanceConfig, at_most
from .pools import Pool
from .scales import BINS, searched_scale
from .scoring import prepared_image, read_ahead
from .targets import Reference, TargetDistribution, largest_remainder
from .weights import refuse_pickles

FORMAT = "dag-diffusion modes 1"
ALLOTMENT = 0x6D6F6465  # a stream of its own: a pool shuffles its target difficulties by (seed, label) too
TINY = 1e-12  # keeps the clean end of the schedule, 0 / 0, at 0

# Step i of 50, 0 the noisiest, has the index 49 - i in these papers: MGD3's 49..26 are the steps 0..23, [0, 24 / 50).
WINDOWS: dict[str, tuple[float, float]] = {
    "mgd3": (0.0, 0.48),  # 49..26
    "igd": (0.08, 0.4),  # 45..30
    "lgd": (0.08, 0.8),  # 45..10, Learnability-Guided Diffusion
}
Labels = Sequence[int] | np.ndarray | Tensor
Clusters = list[tuple[int, np.ndarray]]  # label of each and rows of its images


@dataclass(frozen=True)
class ModeGuidance:
    """When and how strongly to draw images to modes.  ``start`` and ``stop`` are fractions of the steps.

    Attributes:
        scale: of ``sigma_t * (mode - x0)``; 0.2 trained best of 0.1, 0.2 and 0.4 at 20 steps (docs/results.md).  The
            pull adds up as the square root of the steps, so that MGD3's 0.1 at 50 steps is as strong as 0.16 at 20.
        start: from the first step on, while the layout is open; published windows are in ``WINDOWS``.
        stop: the later half is left to the denoiser; a mode is a mean, and as blurred as one.
        proportional: draw images to modes in proportion to cluster sizes instead of in turn; see ``allot``.
    """

    scale: float = 0.2
    start: float = 0.0
    stop: float = 0.5
    proportional: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.start < self.stop <= 1 and 0 < self.scale < float("inf")):
            raise ValueError(
                f"mode guidance needs 0 <= start < stop <= 1 and scale > 0, but they are {self.start}, {self.stop} and "
                f"{self.scale}; use ModeGuidance(), or no modes for none"
            )

    def steps(self, num_steps: int) -> range:
        """Which of ``num_steps`` steps (0 is the noisiest) are drawn to a mode; ValueError if none is."""
        return GuidanceConfig(start=self.start, stop=self.stop).steps(num_steps)


def mode_shift(clean: Tensor, modes: Tensor, alpha: Tensor | float, alpha_next: Tensor | float, scale: float) -> Tensor:
    """The shift of ``z_{t-1}`` toward the modes, ``scale * sigma_t * (mode - x0)``, after MGD3.

    ``sigma_t`` is the deviation of the DDPM posterior, from signal rates alone, and so for any scheduler: DDIM, which
    draws no noise, has no sigma of its own.

    Args:
        clean: predicted clean samples ``x0``, ``(batch, channels, height, width)``.
        modes: the mode of each, same shape.
        alpha, alpha_next: cumulative signal rates of this step and the next, less noisy one, in [0, 1].
        scale: strength.

    Returns:
        float32, shaped like ``clean``, never longer than the noise that is left; zero on the last step
        (``alpha_next`` 1), and where ``clean`` is not finite.
    """
    clean = clean.float()
    now, after = (torch.as_tensor(a, dtype=torch.float32, device=clean.device) for a in (alpha, alpha_next))
    variance = (1 - after) / (1 - now).clamp(min=TINY) * (after - now) / after.clamp(min=TINY)
    shift = scale * variance.clamp(min=0).sqrt() * (modes.to(clean) - clean)
    shift = torch.where(torch.isfinite(shift), shift, 0.0)
    # a denoiser whose first guesses of x0 are far off would send the latents to infinity
    return at_most(shift, (1 - after).sqrt() * clean[0].numel() ** 0.5)


@torch.no_grad()
def encode(vae: Any, images: Tensor, batch_size: int = 32) -> Tensor:
    """Latents as the denoiser sees them: mean of the VAE's posterior times its scaling factor, float32 on the CPU.

    Args:
        images: ``(n, channels, height, width)``, float in [0, 1], with the channels of the VAE; else ValueError.
    """
    channels = vae.config.in_channels
    if images.ndim != 4 or images.shape[1] != channels or not images.is_floating_point():
        raise ValueError(
            f"the VAE needs float images in [0, 1] of shape (n, {channels}, height, width), but got {images.dtype} "
            f"{tuple(images.shape)}; convert them first"
        )
    weight = next(vae.parameters())
    inputs = ((2 * part - 1).to(weight.device, weight.dtype) for part in images.split(batch_size))
    return torch.cat([vae.encode(part).latent_dist.mean.float().cpu() for part in inputs]) * vae.config.scaling_factor


def encode_pool(
    vae: Any, pool: Pool, *, size: int, batch_size: int = 32, progress: Callable[[int], None] | None = None
) -> Tensor:
    """Latents of every image of a pool, ``(images, channels, h, w)``, in the order of its rows; see ``encode``.

    Args:
        size: side in pixels that the pipeline generates; other images are resized (antialiased) and cropped to it.
        progress: called with the number of images done in each batch.

    Raises:
        UnreadableImageError: a file that is no readable image, named.
    """
    channels = vae.config.in_channels
    fit = Preprocessing(size, size, channels, mean=(0.0,) * channels, std=(1.0,) * channels, crop=1.0)

    latents = []
    for batch in read_ahead(partial(prepared_image, pool, preprocessing=fit), range(len(pool)), batch_size):
        latents.append(encode(vae, torch.cat([image for _, image in batch]), batch_size))
        if progress is not None:
            progress(len(batch))
    return torch.cat(latents)


@dataclass(frozen=True, eq=False)
class Modes:
    """Cluster centres of the real images of some classes, on the CPU.  Make them with ``find_modes``.

    Attributes:
        centres: ``(modes, channels, height, width)`` float32, means of latents.
        labels, sizes: ``(modes,)`` int64, class and number of real images.
        class_names: label to class name, of the classes that have modes.
        difficulties: ``(modes,)`` float32 in [0, 1], means of the images of each; None if they were not considered.
        vae: whose latents these are, in words; set it with ``dataclasses.replace``.
    """

    centres: Tensor
    labels: Tensor
    sizes: Tensor
    class_names: dict[int, str]
    difficulties: Tensor | None = None
    vae: str = ""

    def __post_init__(self) -> None:
        per_mode = [self.labels, self.sizes, *([] if self.difficulties is None else [self.difficulties])]
        fits = self.centres.ndim == 4 and all(values.shape == self.centres.shape[:1] for values in per_mode)
        if not (fits and set(self.labels.tolist()) <= set(self.class_names) and self.centres.isfinite().all()):
            raise ValueError(
                f"modes need finite centres (modes, channels, height, width), but have {tuple(self.centres.shape)}, "
                "and a named label, size and difficulty each"
            )

    def of_class(self, label: int) -> np.ndarray:
        """Positions of the modes of one class in ``centres``, ``(n,)`` int64; ValueError if it has none."""
        positions = np.flatnonzero(self.labels.numpy() == label)
        if not len(positions):
            known = ", ".join(f"{number} ({name})" for number, name in list(self.class_names.items())[:10])
            raise ValueError(f"no mode was found for label {label}, only for {known}; find modes for that class too")
        return positions

    def summary(self) -> dict:
        """What tells one set of modes from another, for the record; JSON values only."""
        parts = [self.centres, self.labels, *([] if self.difficulties is None else [self.difficulties])]
        digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()
        return {
            "modes": len(self.labels),
            "classes": list(self.class_names.values()),
            "sha256": digest,
            "vae": self.vae,
        }

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all."""
        tensors = {name: value.contiguous() for name, value in vars(self).items() if isinstance(value, Tensor)}
        metadata = {"format": FORMAT, "class_names": json.dumps(self.class_names), "vae": self.vae}
        write_atomically(Path(path), as_safetensors(tensors, metadata))

    @classmethod
    def load(cls, path: str | Path) -> "Modes":
        """Read what ``save`` wrote; ValueError if it is missing, damaged or something else."""
        refuse_pickles(path)
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')}")
            names = {int(label): name for label, name in json.loads(metadata["class_names"]).items()}
            tensors["centres"] = tensors["centres"].float()  # a file may hold them in half precision
            return cls(**tensors, class_names=names, vae=metadata["vae"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is no intact file of modes ({error}); write one with find_modes(...).save(path)"
            ) from error


def find_modes(
    latents: Tensor, labels: Labels, per_class: int, *, class_names: Mapping[int, str], average: int = 1, seed: int = 0
) -> Modes:
    """Clusters of each class by k-means, after MGD3.

    Args:
        latents: of real images, ``(n, channels, height, width)``, from ``encode_pool``.
        labels: ``(n,)``; classes without images get no modes.
        per_class: modes of each class; best the number of images to generate, or a divisor of it.
        class_names: label to class name.
        average: pool latents by this factor before they are compared; raw ones (1) tell layouts apart more than
            contents (35.4 % accuracy against 39.0 % with pooled ones, in one run of a third party).
        seed: each class clusters by its own stream, so that one class does not change another.

    Raises:
        ValueError: a class with fewer images than ``per_class``, or one without a name; ``average`` does not divide.
    """
    features, clusters = _features(latents, average), []
    for label, rows in _rows_by_class(labels, len(latents), per_class, class_names).items():
        clusters += [(label, members) for members in _k_means(features, rows, per_class, (seed, label))]
    return _modes_of(latents, clusters, class_names)


def find_difficulty_modes(
    latents: Tensor,
    labels: Labels,
    difficulties: Sequence[float] | np.ndarray,
    per_class: int,
    target: TargetDistribution,
    *,
    class_names: Mapping[int, str],
    average: int = 1,
    seed: int = 0,
) -> Modes:
    """Clusters inside ten strata of difficulty, as many in each as the target asks, easiest first.

    The strata are the bins of ``targets``: ten equal steps of the logarithm between the paper's thresholds, those of
    the target's reference if it has one, else of the class itself, so that quotas and images are binned alike.  A
    target of one difficulty puts all modes into its stratum.  Modes that a stratum has too few images for go to the
    nearest ones with room, the easier first; images of strata without modes belong to none.

    Args:
        difficulties: ``(n,)`` in [0, 1], of the same images, best by a guide that was not trained on them.
        target: which difficulties the modes should have.

    Raises:
        ValueError: as ``find_modes``; a difficulty is NaN or outside [0, 1]; the target lacks a class.
    """
    values = np.asarray(difficulties, np.float64)
    if len(values) != len(latents) or not np.all((values >= 0) & (values <= 1)):
        scored = int(((values >= 0) & (values <= 1)).sum())
        raise ValueError(
            f"{scored} of {len(latents)} images have a difficulty in [0, 1]; score the others or leave them out"
        )
    features, clusters = _features(latents, average), []
    for label, rows in _rows_by_class(labels, len(latents), per_class, class_names).items():
        strata, counts = _strata(values[rows], per_class, target, class_names[label])
        for stratum in np.flatnonzero(counts).tolist():
            found = _k_means(features, rows[strata == stratum], int(counts[stratum]), (seed, label, stratum))
            clusters += [(label, members) for members in found]
    return _modes_of(latents, clusters, class_names, values)


def _features(latents: Tensor, average: int) -> np.ndarray:
    if latents.ndim != 4 or average < 1 or any(side % average for side in latents.shape[-2:]):
        raise ValueError(
            f"latents of shape {tuple(latents.shape)} cannot be averaged by {average}; "
            "give (n, channels, height, width) and a divisor of both sides, such as 1"
        )
    return F.avg_pool2d(latents.float().cpu(), average).flatten(1).numpy()


def _rows_by_class(labels: Labels, count: int, per_class: int, class_names: Mapping[int, str]) -> dict[int, np.ndarray]:
    labels = torch.as_tensor(labels).cpu().numpy()
    if len(labels) != count or not count or per_class < 1:
        raise ValueError(
            f"cannot find {per_class} modes per class in {count} latents with {len(labels)} labels; "
            "give a label for each and ask for at least 1 mode"
        )
    rows = {label: np.flatnonzero(labels == label) for label in np.unique(labels).tolist()}
    for label, found in rows.items():
        if label not in class_names:
            raise ValueError(f"label {label} has no class name; name it, or use one of {list(class_names)[:10]}")
        if len(found) < per_class:
            raise ValueError(
                f"class {class_names[label]!r} has {len(found)} images, too few for {per_class} modes; "
                "ask for fewer modes per class or add real images"
            )
    return rows


def _k_means(features: np.ndarray, rows: np.ndarray, count: int, seed: Sequence[int]) -> list[np.ndarray]:
    """The rows of each of ``count`` clusters, none of them empty."""
    # one start, as in MGD3: k-means++ spreads its centres already, and a second one would double the time
    found = cluster_numbers(features[rows], count, seed, starts=1)
    for cluster in np.setdiff1d(np.arange(count), found):  # images that are equal leave clusters empty
        largest = np.bincount(found).argmax()
        found[np.flatnonzero(found == largest)[-1]] = cluster
    return [rows[found == cluster] for cluster in range(count)]


def cluster_numbers(
    features: np.ndarray, count: int, seed: Sequence[int], *, starts: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Which of ``count`` clusters each is in, ``(n,)``, by the best of some starts of k-means; some may be empty."""
    from sklearn.cluster import KMeans

    state = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return KMeans(count, n_init=starts, random_state=state).fit_predict(features, sample_weight=weights)


def _strata(
    values: np.ndarray, per_class: int, target: TargetDistribution, class_name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Stratum of each image of a class, ``(n,)``, and number of modes in each stratum, ``(10,)``."""
    ruler = target.values(class_name) if isinstance(target, Reference) else values
    scale = searched_scale(ruler)
    strata, wanted = scale.bins(values), target.quotas(class_name, per_class, scale)
    return strata, _within_room(wanted, np.bincount(strata, minlength=BINS))


def _within_room(wanted: np.ndarray, room: np.ndarray) -> np.ndarray:
    counts = np.minimum(wanted, room)
    for stratum in np.repeat(np.arange(BINS), wanted - counts):
        free = np.flatnonzero(counts < room)
        counts[free[np.argmin(np.abs(free - stratum))]] += 1
    return counts


def _modes_of(
    latents: Tensor, clusters: Clusters, class_names: Mapping[int, str], values: np.ndarray | None = None
) -> Modes:
    labels, members = [label for label, _ in clusters], [rows for _, rows in clusters]
    return Modes(
        # means of what the denoiser sees, even where averaged latents were compared
        torch.stack([latents[torch.from_numpy(rows)].float().mean(0).cpu() for rows in members]),
        torch.tensor(labels),
        torch.tensor([len(rows) for rows in members]),
        {label: class_names[label] for label in labels},
        None if values is None else torch.tensor([values[rows].mean() for rows in members], dtype=torch.float32),
    )


def allot(modes: Modes, label: int, count: int, *, proportional: bool = False, seed: int = 0) -> np.ndarray:
    """Which mode each of ``count`` images of a class is drawn to, ``(count,)`` int64 positions in ``modes.centres``.

    Args:
        proportional: by cluster size (largest remainder), so that images lie as dense as real ones; else each mode in
            turn, which keeps the quotas of ``find_difficulty_modes`` and what a smaller ``count`` gave.
        seed: of the order, shuffled so that the first images of a growing pool spread over the modes too.
    """
    positions = modes.of_class(label)
    if count < 1:
        raise ValueError(f"cannot allot {count} images of {modes.class_names[label]!r} to modes; ask for at least 1")
    generator = np.random.default_rng([seed, label, ALLOTMENT])
    if proportional:
        return generator.permutation(np.repeat(positions, largest_remainder(modes.sizes.numpy()[positions], count)))
    rounds = [generator.permutation(positions) for _ in range(-(-count // len(positions)))]
    return np.concatenate(rounds)[:count]


def match_modes(modes: Modes, allotted: np.ndarray, targets: Sequence[float]) -> np.ndarray:
    """Deal the allotted modes anew so that the images with harder targets get the harder modes, ``(count,)``."""
    if modes.difficulties is None:
        raise ValueError("modes without difficulties cannot be matched to targets; find them by difficulty")
    matched = np.empty_like(allotted)
    matched[np.argsort(targets, kind="stable")] = allotted[
        np.argsort(modes.difficulties.numpy()[allotted], kind="stable")
    ]
    return matched
