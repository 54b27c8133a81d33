"""Difficulty-guided sampling (DGS): from a pool, keep IPC images of every class whose difficulties follow a target.

Each class is chosen from alone, by a rule of ``selection``.  Works on plain arrays of difficulties too: no images are
needed.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from dag_diffusion import __version__
from dag_diffusion.data.class_names import distinct_names
from dag_diffusion.data.distilled_sets import Files, write_distilled_set
from dag_diffusion.data.files import recorded
from dag_diffusion.data.pools import Pool, read_pool
from dag_diffusion.data.provenance import AMONG_SET
from dag_diffusion.data.rows import correct_in
from dag_diffusion.seeding import as_numpy_seed

from .references import measured_by, warn_of_several_scales
from .rules.correct import surely_correct
from .scales import LogScale
from .selection import Method, Selection, SelectionRule, require_features, select, sizes_of
from .target_parser import as_target
from .targets import Target, TargetDistribution

logger = logging.getLogger(__name__)
TELLING = {"error_probability", "rival_margin"}  # measures that are below 1/2 only where the classifier is right


@dataclass(frozen=True, eq=False, kw_only=True)
class PoolSelection:
    """A whole pool subsampled.

    Attributes:
        indices: rows of the pool, class by class.
        bins, ranks: the bin that each was drawn for and its rank in its class, from 0, aligned with ``indices``.
        classes: ``Selection`` of each class, by label; its indices count within the class.
        class_names: by label.
        settings: rule, target, IPC and seed, for the record; JSON values only.
        pool: that was chosen from; None for plain difficulties.
    """

    indices: np.ndarray
    bins: np.ndarray
    ranks: np.ndarray
    classes: dict[int, Selection]
    class_names: dict[int, str]
    settings: dict[str, Any]
    pool: Pool | None = None

    def __repr__(self) -> str:
        """In a line: what was chosen, by which rule, and how near it came."""
        near = "" if self.distance is None else f", Wasserstein-1 to the target {self.distance:.4f}"
        what = f"{len(self.indices):,} images of {len(self.classes)} classes by {self.settings['method']}{near}"
        return f"{type(self).__name__}({what})"

    def save(self, folder: str | Path, *, files: Files = "copy", overwrite: bool = False) -> Pool:
        """Write the chosen images as a distilled set, with bins, ranks and the record of the selection.

        Args:
            folder: new, or with ``overwrite`` that of an earlier set.
            files: ``copy``, ``link`` (hard links) or ``list`` (rows without images).

        Returns:
            The set, as ``read_pool`` reads it.

        Raises:
            ValueError: plain difficulties were chosen from, which have no images.
            FileExistsError, OSError: as ``write_distilled_set``, which also takes other columns.
        """
        if self.pool is None:
            raise ValueError("plain difficulties have no images to save; subsample a pool, or use the indices yourself")
        record = {"selection": self.record}
        return write_distilled_set(
            self.pool,
            self.indices.tolist(),
            folder,
            columns=self.columns,
            provenance=record,
            overwrite=overwrite,
            files=files,
        )

    @property
    def report(self) -> list[dict[str, Any]]:
        """One row a class: images, quotas, found and deficits by bin, thresholds, distance to the target; for JSON."""
        return [
            {
                "class": self.class_names[label],
                "images": len(chosen.indices),
                "quotas": list(chosen.quotas),
                "found": list(chosen.found),
                "deficits": list(chosen.deficits),
                "thresholds": list(chosen.thresholds),
                "scale": [chosen.scale.low, chosen.scale.high] if isinstance(chosen.scale, LogScale) else [],
                "distance": chosen.distance,
                "floor": chosen.floor,
                **({} if chosen.wrong is None else {"wrong": chosen.wrong}),
            }
            for label, chosen in self.classes.items()
        ]

    @property
    def distance(self) -> float | None:
        """Wasserstein-1 distance to the target, mean of the classes; None without a target."""
        distances = [chosen.distance for chosen in self.classes.values() if chosen.distance is not None]
        return float(np.mean(distances)) if len(distances) == len(self.classes) else None

    @property
    def record(self) -> dict[str, Any]:
        """How the set was chosen; JSON values only."""
        return {**self.settings, "classes": self.report}

    @property
    def columns(self) -> dict[str, list]:
        """What ``save`` adds to the metadata."""
        return {"bin": self.bins.tolist(), "rank": self.ranks.tolist()}


@overload
def subsample(
    pool: Pool | str | Path | Sequence[float] | np.ndarray,
    ipc: int,
    *,
    target: Target | None = ...,
    method: Method | SelectionRule = ...,
    seed: int = ...,
    labels: Sequence[int] | np.ndarray | None = ...,
    class_names: Mapping[int, str] | None = ...,
    features: np.ndarray | None = ...,
    groups: Sequence[Any] | np.ndarray | None = ...,
    correct: Sequence[bool] | np.ndarray | None = ...,
    skip_unscored: bool = ...,
) -> PoolSelection: ...
@overload
def subsample(
    pool: Pool | str | Path | Sequence[float] | np.ndarray,
    ipc: Sequence[int],
    *,
    target: Target | None = ...,
    method: Method | SelectionRule = ...,
    seed: int = ...,
    labels: Sequence[int] | np.ndarray | None = ...,
    class_names: Mapping[int, str] | None = ...,
    features: np.ndarray | None = ...,
    groups: Sequence[Any] | np.ndarray | None = ...,
    correct: Sequence[bool] | np.ndarray | None = ...,
    skip_unscored: bool = ...,
) -> dict[int, PoolSelection]: ...
def subsample(
    pool: Pool | str | Path | Sequence[float] | np.ndarray,
    ipc: int | Sequence[int],
    *,
    target: Target | None = None,
    method: Method | SelectionRule = "matching",
    seed: int = 0,
    labels: Sequence[int] | np.ndarray | None = None,
    class_names: Mapping[int, str] | None = None,
    features: np.ndarray | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    correct: Sequence[bool] | np.ndarray | None = None,
    skip_unscored: bool = False,
) -> PoolSelection | dict[int, PoolSelection]:
    """DGS on a scored pool: ``ipc`` images of every class.  Write them with ``save``.

    Each class draws from its own stream, (seed, label), so that one class does not change another.

    Args:
        pool: from ``read_pool``, the path of one, or just difficulties ``(n,)`` in [0, 1].
        ipc: images per class; several numbers give nested sets.
        target: a ``TargetDistribution``, one difficulty, {class name: reference difficulties}, or a text such as
            ``reference``, ``hill``, ``beta:0.3,3``, ``0.7*reference + 0.3*hill`` or a scored folder of real images.
        method: a name of ``RULES``, or a ``SelectionRule`` with options.
        seed: random seed of all draws.
        labels, class_names: with plain difficulties: class of each image, and its name; one class without a name else.
        features: ``(n, dim)``, for methods that need them; see ``select``.
        groups: with plain difficulties and a rule with ``evenly``: group of each image; a pool's are in its metadata.
        correct: with plain difficulties and a rule that asks: whether the classifier gets each image right; see
            ``select``.  Of a pool, as its metadata say.
        skip_unscored: leave out images without difficulty or features, such as unreadable ones, instead of refusing.

    Returns:
        A ``PoolSelection``, or one for each IPC if ``ipc`` is a sequence.

    Raises:
        ValueError: as ``select``, with the class named.

    See Also:
        ``select``, for one class; ``as_target``, for all that ``target`` may be; ``PoolSelection.save``.

    Examples:
        >>> difficulties, labels = [0.1, 0.2, 0.8, 0.3, 0.4, 0.9], [0, 0, 0, 1, 1, 1]
        >>> chosen = subsample(difficulties, 1, target=0.8, labels=labels, class_names={0: "cat", 1: "dog"})
        >>> chosen.indices.tolist(), round(chosen.distance, 3)
        ([2, 5], 0.05)
        >>> subsample("pool", ipc=10, target="reference").save("distilled")  # doctest: +SKIP
    """
    rule = method if isinstance(method, SelectionRule) else SelectionRule(method)
    pool = read_pool(pool) if isinstance(pool, str | Path) else pool
    sizes = sizes_of(ipc, rule)
    seed = as_numpy_seed(seed)
    if isinstance(pool, Pool):
        # without features only a score tells which images can be read
        told = features is None and len({row.get("difficulty") is None for row in pool.rows}) == 2
        needed = target is not None or rule.needs_difficulties or skip_unscored or told
        images = _of_pool(pool, needed, skip_unscored, labels is None and class_names is None)
    else:
        images = _of_numbers(np.asarray(pool, np.float64), labels, class_names)
    if not len(images.labels):
        raise ValueError("there are no images to choose from; give at least ipc of each class")
    wanted = None if target is None else _target_of(target, pool, class_names)
    features = None if features is None else np.asarray(features)
    kept = _usable(images, features, rule, skip_unscored)
    if rule.evenly and isinstance(pool, Pool):
        groups = _column(pool, rule.evenly, kept)
    grouped = _one_each(groups, "groups", images, str) if rule.evenly else None
    if rule.needs_correct and isinstance(pool, Pool):
        correct = _correct_of(pool, images.difficulties)
    right = _one_each(correct, "correct", images)
    parts: dict[int, list] = {size: [] for size in sizes}
    for label, rows in _rows_by_label(images, kept):
        try:
            chosen = select(
                images.difficulties[rows],
                sizes,
                target=wanted,
                method=rule,
                seed=(seed, label % 2**64),  # also of a label below 0, which numpy takes for no seed
                class_name=images.class_names[label],
                names=None if images.names is None else images.names[rows],
                features=None if features is None else features[rows],
                groups=None if grouped is None else grouped[rows],
                correct=None if right is None else right[rows],
            )
        except ValueError as error:
            where = f" of {pool.path}" if isinstance(pool, Pool) else ""
            raise ValueError(f"class {images.class_names[label]!r}{where}: {error}") from error
        for size in sizes:
            parts[size].append((label, rows, chosen[size]))
    _tell_of_wrong(parts[sizes[-1]], images.class_names)
    settings = {**asdict(rule), "target": None if wanted is None else wanted.summary(), "seed": seed}
    found = {
        size: _gathered(
            part,
            images.class_names,
            recorded({"version": __version__, **settings, "ipc": size}),
            pool if isinstance(pool, Pool) else None,
        )
        for size, part in parts.items()
    }
    return found if isinstance(ipc, Iterable) else found[sizes[0]]


def _target_of(target: Target, pool: Any, class_names: Mapping[int, str] | None) -> TargetDistribution:
    if not isinstance(pool, Pool):
        return as_target(target, class_names)
    return as_target(target, pool.class_names, scored_by=measured_by(pool))


def _correct_of(pool: Pool, difficulties: np.ndarray) -> np.ndarray:
    """Which images the classifier gets right, ``(n,)`` bool: as rows say it, else where the difficulty leaves no doubt.

    Raises:
        ValueError: some rows do not say it, and their measure does not tell; or one says something else.
    """
    told = [correct_in(row, pool.path) for row in pool.rows]
    silent = [row for row, right in zip(pool.rows, told, strict=True) if right is None]
    measures = {str(row["difficulty_by"]).partition(" by ")[0] for row in silent if row.get("difficulty_by")}
    if others := {measure.removesuffix(AMONG_SET) for measure in measures} - TELLING:
        raise ValueError(
            f"the images of {pool.path} do not say whether the classifier gets them right, and {min(others)} does not; "
            "run score_and_record() with error_probability or rival_margin first"
        )
    sure = surely_correct(difficulties).tolist()
    return np.array([own if one is None else one for one, own in zip(told, sure, strict=True)], bool)


def _tell_of_wrong(parts: Sequence[tuple[int, np.ndarray, Selection]], class_names: Mapping[int, str]) -> None:
    lacking = [(class_names[label], one.wrong, len(one.indices)) for label, _, one in parts if one.wrong]
    if lacking:
        name, wrong, size = max(lacking, key=lambda row: row[1])
        logger.warning(
            "%d of %d classes have too few images that the classifier gets right, such as %r; the easiest of the wrong "
            "ones fill up, %d of its %d",
            len(lacking),
            len(parts),
            name,
            wrong,
            size,
        )


def _column(pool: Pool, name: str, kept: np.ndarray) -> list:
    lacking = [row["file_name"] for row, used in zip(pool.rows, kept, strict=True) if used and row.get(name) is None]
    if lacking:
        raise ValueError(
            f"{len(lacking)} of the {len(pool)} images of {pool.path} have no {name!r} in their metadata, such as "
            f"{lacking[0]}; choose evenly over one of {', '.join(pool.rows[0])}"
        )
    return [row.get(name) for row in pool.rows]


def _usable(images: "_Images", features: np.ndarray | None, rule: SelectionRule, skip_unscored: bool) -> np.ndarray:
    """Which images may be chosen, ``(n,)`` bool; features that fit no image are refused."""
    kept = np.ones(len(images.difficulties), bool)
    if features is not None:
        fit = features.ndim == 2 and len(features) == len(kept)
        if skip_unscored and fit:
            kept = np.isfinite(features).all(1)
        require_features(features[kept] if fit else features, kept.sum(), rule)
    return kept & ~np.isnan(images.difficulties) if skip_unscored else kept


def _one_each(values: Any, name: str, images: "_Images", dtype: type | None = None) -> np.ndarray | None:
    found = None if values is None else np.array(values, dtype)
    if found is not None and found.shape != images.labels.shape:
        raise ValueError(
            f"{name} has the shape {found.shape} for {len(images.labels)} images; give one value for each of them"
        )
    return found


@dataclass(frozen=True)
class _Images:
    """Difficulties and labels ``(n,)``, names of the classes, all different, and of the images, if they have any."""

    difficulties: np.ndarray
    labels: np.ndarray
    class_names: dict[int, str]
    names: np.ndarray | None = None


def _of_pool(pool: Pool, needed: bool, skip_unscored: bool, unlabelled: bool) -> _Images:
    if not unlabelled:
        raise ValueError("a pool has labels and class names of its own; give others only with plain difficulties")
    if needed:
        warn_of_several_scales(pool)
        values = pool.known_difficulties if skip_unscored else _all_scored(pool)
    else:  # a random baseline needs no scores
        values = np.zeros(len(pool))
    return _Images(values, pool.labels, distinct_names(pool.class_names), np.array([r["file_name"] for r in pool.rows]))


def _all_scored(pool: Pool) -> np.ndarray:
    """Difficulties of all images, ``(n,)``; an error where some have none names the way to do without these."""
    some = np.isfinite(pool.known_difficulties).any()
    try:
        return pool.difficulties
    except ValueError as error:
        if not some:
            raise
        raise ValueError(f"{error}, or leave them out by skip_unscored=True") from error


def _of_numbers(values: np.ndarray, labels: Any, class_names: Mapping[int, str] | None) -> _Images:
    labels = np.zeros(len(values), np.int64) if labels is None else np.asarray(labels)
    if labels.size and labels.dtype.kind in "OSU":
        found = str(labels.flat[0])
        raise ValueError(f"labels are names such as {found!r}; give numbers, and class_names such as {{0: {found!r}}}")
    if labels.shape != values.shape or not np.issubdtype(labels.dtype, np.integer) or (labels < 0).any():
        raise ValueError(
            f"there are difficulties {values.shape} but labels {labels.shape}; give one whole number from 0 on an image"
        )
    found = np.unique(labels).tolist()
    if class_names is None:
        class_names = {0: ""} if found in ([0], []) else {label: str(label) for label in found}
    if unnamed := [label for label in found if label not in class_names]:
        raise ValueError(f"the labels {unnamed[:10]} have no class name; name them, or leave class_names out")
    return _Images(values, labels, distinct_names(class_names))


def _rows_by_label(images: _Images, kept: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    order = np.argsort(images.labels, kind="stable")  # once: a search for each of a thousand takes a thousand passes
    found, starts = np.unique(images.labels[order], return_index=True)
    rows = dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True))
    for label in images.class_names:
        own = rows.get(label, np.empty(0, np.int64))
        yield label, own[kept[own]]


def _gathered(
    parts: Sequence[tuple[int, np.ndarray, Selection]],
    class_names: dict[int, str],
    settings: dict[str, Any],
    pool: Pool | None,
) -> PoolSelection:
    return PoolSelection(
        indices=np.concatenate([rows[chosen.indices] for _, rows, chosen in parts]),
        bins=np.concatenate([chosen.bins for _, _, chosen in parts]),
        ranks=np.concatenate([np.arange(len(chosen.indices)) for _, _, chosen in parts]),
        classes={label: chosen for label, _, chosen in parts},
        class_names=class_names,
        settings=settings,
        pool=pool,
    )
