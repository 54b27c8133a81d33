"""Find modes: k-means on the VAE latents of the real images of each class.

    mode = mean of the latents of one cluster

The difficulty-aware form looks for modes inside strata of difficulty and shares them out as a target asks; it is our
reading of DAG (arXiv 2601.10090), whose own formula we have not seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, from_numpy
from torch.nn import functional as F

from dag_diffusion.classifiers.preprocessing import Preprocessing
from dag_diffusion.data.class_names import distinct_names
from dag_diffusion.data.files import recorded
from dag_diffusion.data.pools import Pool, digest_of_images
from dag_diffusion.generation.modes import Modes, space_of
from dag_diffusion.identity import digest_of, digest_of_values
from dag_diffusion.pipelines.latents import encoded, pixels_of_a_latent
from dag_diffusion.processes import fail_together, gather, is_main_process
from dag_diffusion.processor import usual_torch
from dag_diffusion.progress import Progress
from dag_diffusion.sampling.scales import BINS
from dag_diffusion.sampling.scoring import prepared_image, read_ahead, score_pool
from dag_diffusion.sampling.targets import PerClass, Reference, TargetDistribution
from dag_diffusion.sampling.threshold_search import searched_scale
from dag_diffusion.seeding import as_numpy_seed

from .kept_parts import KeptParts

Labels = Sequence[int] | np.ndarray | Tensor
Clusters = list[tuple[int, np.ndarray]]  # label of each and rows of its images


@usual_torch()
@torch.no_grad()
def encode(vae: Any, images: Tensor, batch_size: int = 32, *, scaled_only: bool = False) -> Tensor:
    """Latents as the denoiser sees them: mean of the VAE's posterior, scaled as the VAE asks; float32 on the CPU.

    Args:
        images: ``(n, channels, height, width)``, float in [0, 1], with the channels of the VAE; else ValueError.
        scaled_only: as of a pipeline that knows no shift and no statistics, whatever its VAE has.
    """
    channels = channels_of_vae(vae)
    if images.ndim != 4 or images.shape[1] != channels or not images.is_floating_point():
        raise ValueError(
            f"the VAE needs float images in [0, 1] of shape (n, {channels}, height, width), but got {images.dtype} "
            f"{tuple(images.shape)}; convert them first"
        )
    weight = next(vae.parameters())
    inputs = ((2 * part - 1).to(weight.device, weight.dtype) for part in images.split(batch_size))
    return torch.cat([encoded(vae, part, scaled_only=scaled_only).cpu() for part in inputs])


def encode_pool(
    vae: Any,
    pool: Pool,
    *,
    size: int,
    scaled_only: bool = False,
    batch_size: int = 32,
    kept: KeptParts | None = None,
    progress: Progress | None = None,
    images: str | None = None,
) -> Tensor:
    """Latents of every image of a pool, ``(images, channels, h, w)``, in the order of its rows; see ``encode``.

    Args:
        vae: of diffusers, in evaluation mode, on its device.
        size: side in pixels that the pipeline generates; other images are resized (antialiased) and cropped to it.
        scaled_only: as of ``encode``.
        batch_size: images that are encoded at a time.
        kept: from ``kept_parts``, where latents are kept batch by batch, so that the same call goes on after a kill.
        progress: called with stage, done and total; of several processes in the first.
        images: digest of the pool's, as of ``digest_of_images``, where the first process has it already.

    Under ``accelerate launch`` every process has to call it; they share the images, and each gets all latents.

    Raises:
        UnreadableImageError: a file that is no readable image, named.
        ValueError: other latents are kept.
        StoppedError: SIGTERM came; what is encoded is kept.
    """
    channels, kept = channels_of_vae(vae), kept or KeptParts()
    fit = Preprocessing(size, size, channels, mean=(0.0,) * channels, std=(1.0,) * channels, crop=1.0)
    record = partial(_record_of, vae, pool, size, scaled_only, images)
    with kept.turns("images", len(pool), batch_size, record, progress) as mine:
        for batch in read_ahead(partial(prepared_image, pool, preprocessing=fit), mine, batch_size):
            found = encode(vae, torch.cat([image for _, image in batch]), batch_size, scaled_only=scaled_only)
            kept.add([index for index, _ in batch], {"latents": found})
    latents = torch.empty(0)
    for part in kept.all():  # of another batch size than before they do not follow each other
        if not len(latents):
            latents = part["latents"].new_empty(len(pool), *part["latents"].shape[1:])
        latents[part["items"]] = part["latents"]
    return latents


def _record_of(vae: Any, pool: Pool, size: int, scaled_only: bool, images: str | None) -> dict[str, Any]:
    """What latents follow from."""
    scaling = dict.fromkeys(("scaling_factor", "shift_factor", "latents_mean", "latents_std"))
    scaling |= {name: vae.config.get(name) for name in (["scaling_factor"] if scaled_only else scaling)}
    precision = str(next(vae.parameters()).dtype)
    images = images or digest_of_images(pool)
    return {"images": images, "size": size, "vae": digest_of(vae), "precision": precision, **scaling}


def channels_of_vae(vae: Any) -> int:
    """Of the images that a VAE encodes."""
    return vae.config.get("in_channels") or vae.config.input_channels


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
        clusters += [(label, members) for members in _k_means(features, rows, per_class, (seed, label % 2**64))]
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
        latents, labels, per_class, class_names, average, seed: as of ``find_modes``.
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
    features, clusters, apart = _features(latents, average), [], distinct_names(class_names)
    for label, rows in _rows_by_class(labels, len(latents), per_class, class_names).items():
        strata, counts = _strata(values[rows], per_class, target, apart[label])
        for stratum in np.flatnonzero(counts).tolist():
            found = _k_means(features, rows[strata == stratum], int(counts[stratum]), (seed, label % 2**64, stratum))
            clusters += [(label, members) for members in found]
    return _modes_of(latents, clusters, class_names, values)


def find_pool_modes(
    pipeline: Any,
    real: Pool,
    per_class: int,
    *,
    size: int | None = None,
    target: TargetDistribution | None = None,
    average: int = 1,
    seed: int = 0,
    batch_size: int = 32,
    kept: KeptParts | None = None,
    progress: Progress | None = None,
    images: str | None = None,
) -> Modes:
    """Encode a folder of real images and find its modes, as ``find_modes``, or with a target by difficulty.

    Under ``accelerate launch`` every process has to call it; they share the images, and each returns the same.

    Args:
        pipeline: whose VAE encodes, and whose `classifier`, if it has one, scores images that have no difficulty yet;
            of any kind, or what ``load_latent_space`` reads of one.
        per_class, average, seed: as of ``find_modes``.
        size: side in pixels that the pipeline will draw; None: its own `image_size`.
        target: as for ``find_difficulty_modes``; None: difficulties are not considered.
        batch_size, kept, progress, images: as of ``encode_pool``.

    Raises:
        ValueError: as the two functions; or images would have to be scored and the pipeline has no guide; or other
            latents are kept.
        StoppedError: SIGTERM came; what is encoded is kept.
    """
    with fail_together():
        scored = not np.isnan(real.known_difficulties).any()
        guide: Any = getattr(pipeline, "classifier", None)
        if target is not None and not scored and guide is None:
            raise ValueError(
                "modes by difficulty need scores, and this pipeline has no guide; load it with a classifier to score by"
            )
        size, names = _side(pipeline, size), real.class_names
        # refused before anything is encoded
        _rows_by_class(real.labels, len(real), per_class, names)
        side = size // pixels_of_a_latent(pipeline.vae)
        _require_divisor(average, (len(real), pipeline.vae.config.latent_channels, side, side))
        as_numpy_seed(seed)
        for name in distinct_names(names).values():
            _ = target.of(name) if isinstance(target, PerClass) else None
        plain, settings = getattr(pipeline, "latents_scaled_only", False), dict[str, Any]()
        if is_main_process():  # before the work of hours, in which images may be exchanged
            how: dict[str, Any] = {"size": size, "target": target, "average": average, "seed": seed}
            settings = settings_of_modes(pipeline, real, per_class, **how, images=images)
            images = settings["images"]
    told: dict[str, Any] = {"batch_size": batch_size, "kept": kept, "progress": progress, "images": images}
    latents = encode_pool(pipeline.vae, real, size=size, scaled_only=plain, **told)
    values = None
    if target is not None:
        values = real.difficulties if scored else score_pool(real, guide).difficulties
    options: dict[str, Any] = {"class_names": names, "average": average, "seed": seed}
    modes = None
    with fail_together():
        if is_main_process():  # the others would come to the same, each with threads of its own
            if target is None or values is None:
                modes = find_modes(latents, real.labels, per_class, **options)
            else:
                modes = find_difficulty_modes(latents, real.labels, values, per_class, target, **options)
            modes = replace(modes, images=images or "", settings=settings)
    found: Modes = gather(modes)[0]
    vae = str(pipeline.config.get("_name_or_path") or "embedded default")
    return replace(found, vae=vae, space=space_of(pipeline))


def settings_of_modes(
    pipeline: Any,
    real: Pool,
    per_class: int,
    *,
    size: int | None = None,
    target: TargetDistribution | None = None,
    average: int = 1,
    seed: int = 0,
    images: str | None = None,
) -> dict[str, Any]:
    """What modes follow from, of which ``Modes`` keep a record; JSON values.  Arguments are those of the search."""
    plain = getattr(pipeline, "latents_scaled_only", False)
    settings: dict[str, Any] = {"per_class": per_class, "average": average, "seed": seed}
    settings |= _record_of(pipeline.vae, real, _side(pipeline, size), plain, images)
    if target is not None:
        known, guide = real.known_difficulties, getattr(pipeline, "classifier", None)
        by = digest_of(guide) if np.isnan(known).any() and guide is not None else None
        scored = digest_of_values([("difficulties", from_numpy(known))])
        settings |= {"target": target.summary(), "difficulties": scored, "guide": by}
    return recorded(settings)


def _side(pipeline: Any, size: int | None) -> int:
    """The side in pixels of what a pipeline draws."""
    if size is not None:
        return size
    if (own := getattr(pipeline, "image_size", None)) is None:
        raise ValueError(
            f"{type(pipeline).__name__} does not say how large its images are; give size, the side in pixels at which "
            "you will draw"
        )
    return own[0]


def _features(latents: Tensor, average: int) -> np.ndarray:
    _require_divisor(average, latents.shape)
    latents = latents.float().cpu()
    return (F.avg_pool2d(latents, average) if average > 1 else latents).flatten(1).numpy()


def _require_divisor(average: int, shape: Sequence[int]) -> None:
    if len(shape) != 4 or average < 1 or any(side % average for side in shape[-2:]):
        raise ValueError(
            f"latents of shape {tuple(shape)} cannot be averaged by {average}; "
            "give (n, channels, height, width) and a divisor of both sides, such as 1"
        )


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
    """The cluster of each row, ``(n,)`` in [0, count), by the best of some starts of k-means; some may be empty."""
    from sklearn.cluster import KMeans

    state = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return KMeans(count, n_init=starts, random_state=state).fit_predict(features, sample_weight=weights)


def _strata(
    values: np.ndarray, per_class: int, target: TargetDistribution, class_name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Stratum of each image of a class, ``(n,)``, and number of modes in each stratum, ``(10,)``."""
    own = target.of(class_name) if isinstance(target, PerClass) else target
    ruler = own.values(class_name) if isinstance(own, Reference) else values
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
    difficulties = None if values is None else [values[rows].mean() for rows in members]
    return Modes(
        # means of what the denoiser sees, even where averaged latents were compared
        centres=torch.stack([latents[torch.from_numpy(rows)].float().mean(0).cpu() for rows in members]),
        labels=torch.tensor(labels),
        sizes=torch.tensor([len(rows) for rows in members]),
        class_names={label: class_names[label] for label in labels},
        difficulties=None if difficulties is None else torch.tensor(difficulties, dtype=torch.float32),
    )
