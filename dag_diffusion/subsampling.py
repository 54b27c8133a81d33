"""Difficulty-guided sampling (DGS): from a pool, keep the IPC images per class whose difficulties follow a target.

    histogram   thresholds -> scale -> quota of each bin -> draw each quota at random -> fill up at random
    matching    the images whose difficulties are nearest to the target in Wasserstein-1 distance

``histogram`` is the rule of arXiv 2601.10090 (predecessor 2507.03331).  Works on plain arrays of difficulties too: no
images are needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from scipy.stats import wasserstein_distance

from .coresets import SPREADS, herding, k_center
from .matching import diversify, match
from .pools import Pool
from .scales import BINS, LogScale, RawScale, Scale, log_scale, search_thresholds
from .targets import STEERING_SCALE, TargetDistribution, as_target, even_levels

METHODS = ("histogram", "matching", "random", "easiest", "hardest", "k-center", "herding")
BY_TARGET, BY_FEATURES = ("histogram", "matching"), ("k-center", "herding")
FILLED = -1  # bin of an image that was drawn to fill up a bin that had too few, or by a method without bins
Target = TargetDistribution | Mapping[str, Sequence[float]] | str | float


@dataclass(frozen=True)
class SelectionRule:
    """How images are chosen; the method's name alone stands for one with the defaults.

    Attributes:
        method: one of ``METHODS``.  ``random``, ``easiest``, ``hardest``, ``k-center`` and ``herding`` are baselines.
        search: of ``histogram``, range of the threshold search: ``pool``, 0..n/2-1, which the authors' recorded
            thresholds need, or ``ipc``, 0..ipc/2-1, as in their released code.
        clipping: of ``histogram`` with a reference: ``counts`` clips as many of the reference's images as of the
            pool's, as the paper does; ``values`` bins both by the pool's scale, so that both sides share the bins.
        scale: of the bins: ``log``, the paper's with searched thresholds, or ``raw``, the difficulty itself.
        diversity: of ``matching``: what to exchange nearly equal images by, ``k-center``, ``determinantal`` or
            ``random``; empty for none, the exact match.
        tolerance: of that, in difficulty: the greatest loss of Wasserstein-1 distance.
    """

    method: str = "histogram"
    search: str = "pool"
    clipping: str = "counts"
    scale: str = "log"
    diversity: str = ""
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"there is no selection method {self.method!r}; choose one of {', '.join(METHODS)}")
        if self.search not in ("pool", "ipc"):
            raise ValueError(
                f"search is {self.search!r}; use 'pool' (as the paper's figures need) or 'ipc' (as its released code)"
            )
        if self.clipping not in ("counts", "values"):
            raise ValueError(f"clipping is {self.clipping!r}; use 'counts' (as the paper) or 'values' (equal bins)")
        if self.scale not in ("log", "raw"):
            raise ValueError(f"scale is {self.scale!r}; use 'log' (as the paper) or 'raw' (the difficulty itself)")
        if self.diversity not in ("", *SPREADS):
            raise ValueError(f"diversity is {self.diversity!r}; use one of {', '.join(SPREADS)}, or leave it empty")
        if not 0 <= self.tolerance <= 1:
            raise ValueError(f"tolerance is {self.tolerance}, but a difference of difficulties lies in [0, 1]")

    @property
    def needs_features(self) -> bool:
        """Whether it looks at more than difficulties."""
        return self.method in BY_FEATURES or self.diversity in ("k-center", "determinantal")


@dataclass(frozen=True)
class Selection:
    """What was chosen in one class, and how far it met the target.

    Attributes:
        indices: ``(ipc,)`` chosen positions by rank, the members of smaller nested sets first.
        bins: ``(ipc,)`` the bin that each was drawn for, 0 (easy) to 9, or -1 if it only fills up.
        quotas, found: ``(10,)`` images wanted and drawn in each bin; empty for methods without a target.
        thresholds: the paper's (bottom, top), numbers of clipped images; empty unless they were searched.
        scale: that the bins lie on; None without bins.
        distance: Wasserstein-1 between the chosen difficulties and the target's; None without a target.
        floor: the least distance that any so many numbers could have: that of the medians of the target's slots.
    """

    indices: np.ndarray
    bins: np.ndarray
    quotas: tuple[int, ...] = ()
    found: tuple[int, ...] = ()
    thresholds: tuple[int, ...] = ()
    scale: Scale | None = None
    distance: float | None = None
    floor: float | None = None

    @property
    def deficits(self) -> tuple[int, ...]:
        """Images that each bin lacked, ``(10,)``; empty without bins."""
        return tuple(max(0, wanted - found) for wanted, found in zip(self.quotas, self.found, strict=True))


@overload
def select(difficulties: Sequence[float] | np.ndarray, ipc: int, **options: Any) -> Selection: ...
@overload
def select(difficulties: Sequence[float] | np.ndarray, ipc: Sequence[int], **options: Any) -> dict[int, Selection]: ...
def select(
    difficulties: Sequence[float] | np.ndarray,
    ipc: int | Sequence[int],
    *,
    target: Target | None = None,
    method: str | SelectionRule = "histogram",
    seed: int | Sequence[int] = 0,
    class_name: str = "",
    names: Sequence[str] | None = None,
    features: np.ndarray | None = None,
) -> Selection | dict[int, Selection]:
    """Choose ``ipc`` distinct images of one class by their difficulties.

    Args:
        difficulties: ``(n,)`` in [0, 1], n >= ipc.
        ipc: images to keep, at least 1; several numbers give nested sets, each within the next larger one.
        target: needed by ``histogram`` and ``matching``; with others it only adds the distance.
        method: a name of ``METHODS``, or a rule with options.
        seed: of all draws.
        class_name: the class in the target's reference.
        names: of the images, so that the choice does not depend on their order; without them it goes by position.
        features: ``(n, dim)``, needed by ``k-center``, ``herding`` and those kinds of diversity.

    Returns:
        A ``Selection``, or one for each IPC if ``ipc`` is a sequence.

    Raises:
        ValueError: fewer images than ``ipc``, a difficulty outside [0, 1] or NaN, no target or features where needed.
    """
    rule = method if isinstance(method, SelectionRule) else SelectionRule(method)
    sizes = [ipc] if isinstance(ipc, int | np.integer) else sorted(set(ipc), reverse=True)
    values = _checked(difficulties, sizes)
    wanted = None if target is None else as_target(target)
    _require(rule, wanted, features, len(values))
    order = np.arange(len(values)) if names is None else np.argsort(np.asarray(names, str), kind="stable")
    images = _Images(values[order], None if features is None else np.asarray(features)[order], order)
    found = dict(_nested(images, sizes, rule, wanted, class_name, np.random.default_rng(seed)))
    return found[ipc] if isinstance(ipc, int | np.integer) else dict(reversed(found.items()))


def _checked(difficulties: Sequence[float] | np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    values = np.asarray(difficulties, np.float64)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"ipc (images per class) is {min(sizes, default=None)}; it must be at least 1")
    if values.ndim != 1:
        raise ValueError(f"difficulties have the shape {values.shape}; give a plain list, one number an image")
    if len(values) < max(sizes):
        raise ValueError(
            f"the pool has {len(values)} images in this class, but ipc is {max(sizes)}; generate more or lower ipc"
        )
    if not np.all((values >= 0) & (values <= 1)):
        bad = int(np.flatnonzero(~((values >= 0) & (values <= 1)))[0])
        raise ValueError(f"difficulty number {bad} is {values[bad]}; all must lie in [0, 1], so score the pool again")
    return values


def _require(rule: SelectionRule, target: TargetDistribution | None, features: np.ndarray | None, count: int) -> None:
    if rule.method in BY_TARGET and target is None:
        raise ValueError(
            f"the {rule.method} rule needs a target: 'hill', TargetDistribution.from_reference(...), .beta(...), ..."
        )
    if rule.needs_features and (features is None or len(features) != count or not np.isfinite(features).all()):
        given = "none are given" if features is None else f"those given are {np.shape(features)}, or not finite"
        raise ValueError(
            f"{rule.diversity or rule.method} needs finite features of all images, ({count}, dim), but {given}; "
            "take those of score_pool(..., features=True)"
        )


@dataclass(frozen=True)
class _Images:
    """Of one class, in the order of their names; ``positions`` say where the caller has them."""

    difficulties: np.ndarray
    features: np.ndarray | None
    positions: np.ndarray


def _nested(
    images: _Images,
    sizes: Sequence[int],
    rule: SelectionRule,
    target: TargetDistribution | None,
    class_name: str,
    generator: np.random.Generator,
) -> Iterator[tuple[int, Selection]]:
    """Selections from the largest to the smallest; those by a target choose within the next larger one."""
    values = images.difficulties
    thresholds, scale = _scale_of(values, max(sizes), rule, target)
    kept = np.arange(len(values)) if rule.method in BY_TARGET else _order(images, max(sizes), rule.method, generator)
    found = []
    for ipc in sizes:
        bins, quotas = np.full(ipc, FILLED), ()
        if rule.method == "histogram":
            counts = thresholds if rule.clipping == "counts" and thresholds else None
            quotas = target.quotas(class_name, ipc, scale, counts)
            chosen, bins = _draw(scale.bins(values[kept]), quotas, generator)
            kept = kept[chosen]
        elif rule.method == "matching":
            kept = kept[_match(images, kept, ipc, rule, target.values(class_name, scale, ipc), generator)]
            quotas, bins = target.quotas(class_name, ipc, scale), scale.bins(values[kept])
        else:
            kept = kept[:ipc]
        distances = (None, None)
        if target is not None:
            wanted = target.values(class_name, scale, ipc)
            nearest = (values[kept], np.quantile(wanted, even_levels(ipc), method="inverted_cdf"))
            distances = tuple(float(wasserstein_distance(those, wanted)) for those in nearest)
        found.append((ipc, kept, bins, tuple(int(quota) for quota in quotas), distances))
    yield from _ranked(images, found, thresholds, scale if rule.method in BY_TARGET else None)


def _scale_of(
    values: np.ndarray, ipc: int, rule: SelectionRule, target: TargetDistribution | None
) -> tuple[tuple[int, ...], Scale]:
    """Thresholds, if they had to be searched, and the scale of the bins."""
    if rule.scale == "raw":
        return (), RawScale()
    if target is None or not (rule.method == "histogram" or target.relative):
        return (), STEERING_SCALE
    thresholds = search_thresholds(values, (len(values) if rule.search == "pool" else ipc) // 2)
    return thresholds, log_scale(values, *thresholds)


def _order(images: _Images, count: int, method: str, generator: np.random.Generator) -> np.ndarray:
    """The first ``count`` images of a method that needs no target; fewer are its beginning."""
    values = images.difficulties
    if method == "random":
        return generator.permutation(len(values))[:count]
    if method in ("easiest", "hardest"):
        return np.argsort(values if method == "easiest" else -values, kind="stable")[:count]
    return (k_center if method == "k-center" else herding)(images.features, count)


def _draw(bins: np.ndarray, quotas: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions drawn, and the bin that each was drawn for."""
    drawn = [
        generator.permutation(np.flatnonzero(bins == number))[:quota]  # a bin with too few gives all it has
        for number, quota in enumerate(quotas)
    ]
    chosen = np.concatenate(drawn)
    rest = generator.permutation(np.setdiff1d(np.arange(len(bins)), chosen))[: quotas.sum() - len(chosen)]
    labels = np.concatenate([np.repeat(np.arange(BINS), [len(d) for d in drawn]), np.full(len(rest), FILLED)])
    return np.concatenate([chosen, rest]), labels


def _match(
    images: _Images,
    kept: np.ndarray,
    ipc: int,
    rule: SelectionRule,
    values: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    difficulties = images.difficulties[kept]
    chosen = match(difficulties, values, ipc)
    if not rule.diversity:
        return chosen
    features = difficulties[:, None] if images.features is None else images.features[kept]
    options = {"spread": rule.diversity, "tolerance": rule.tolerance, "generator": generator}
    return diversify(difficulties, chosen, features, **options)


def _ranked(
    images: _Images, found: Sequence[tuple], thresholds: tuple[int, ...], scale: Scale | None
) -> Iterator[tuple[int, Selection]]:
    """Each set in the order of ranks: whoever is in a smaller one comes first."""
    smallest = {index: ipc for ipc, kept, *_ in found for index in kept.tolist()}  # the last, smallest one stays
    for ipc, kept, bins, quotas, distances in found:
        order = np.argsort([smallest[index] for index in kept.tolist()], kind="stable")
        drawn = np.bincount(bins[bins != FILLED], minlength=BINS).tolist() if quotas else ()
        chosen = images.positions[kept[order]]
        yield ipc, Selection(chosen, bins[order], quotas, tuple(drawn), thresholds, scale, *distances)


@dataclass(frozen=True)
class PoolSelection:
    """A whole pool subsampled.

    Attributes:
        indices: rows of the pool, class by class.
        bins, ranks: the bin that each was drawn for and its rank in its class, from 0, aligned with ``indices``.
        classes: ``Selection`` of each class, by label; its indices count within the class.
        class_names: by label.
    """

    indices: np.ndarray
    bins: np.ndarray
    ranks: np.ndarray
    classes: dict[int, Selection]
    class_names: dict[int, str]

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
            }
            for label, chosen in self.classes.items()
        ]

    @property
    def distance(self) -> float | None:
        """Wasserstein-1 distance to the target, mean of the classes; None without a target."""
        distances = [chosen.distance for chosen in self.classes.values()]
        return None if None in distances else float(np.mean(distances))

    @property
    def columns(self) -> dict[str, list]:
        """What ``write_distilled_set`` adds to the metadata."""
        return {"bin": self.bins.tolist(), "rank": self.ranks.tolist()}


@overload
def subsample(pool: Any, ipc: int, **options: Any) -> PoolSelection: ...
@overload
def subsample(pool: Any, ipc: Sequence[int], **options: Any) -> dict[int, PoolSelection]: ...
def subsample(
    pool: Pool | Sequence[float] | np.ndarray,
    ipc: int | Sequence[int],
    *,
    target: Target | None = None,
    method: str | SelectionRule = "histogram",
    seed: int = 0,
    labels: Sequence[int] | np.ndarray | None = None,
    class_names: Mapping[int, str] | None = None,
    features: np.ndarray | None = None,
    skip_unscored: bool = False,
) -> PoolSelection | dict[int, PoolSelection]:
    """DGS on a scored pool: ``ipc`` images of every class.  Write them with ``write_distilled_set``.

    Each class draws from its own stream, (seed, label), so that one class does not change another.

    Args:
        pool: from ``read_pool``, or just difficulties ``(n,)`` in [0, 1].
        ipc: images per class; several numbers give nested sets.
        target: a ``TargetDistribution``, a preset's name, one difficulty, or {class name: reference difficulties}.
        method: a name of ``METHODS``, or a ``SelectionRule`` with options.
        seed: of all draws.
        labels, class_names: with plain difficulties: class of each image, and its name; one class without a name else.
        features: ``(n, dim)``, for methods that need them; see ``select``.
        skip_unscored: leave out images without difficulty, such as unreadable ones, instead of refusing the pool.

    Returns:
        A ``PoolSelection``, or one for each IPC if ``ipc`` is a sequence.

    Raises:
        ValueError: as ``select``, with the class named.
    """
    rule = method if isinstance(method, SelectionRule) else SelectionRule(method)
    wanted = None if target is None else as_target(target)
    needs_scores = wanted is not None or rule.method in ("easiest", "hardest")
    values, labels, class_names, names = _of(pool, labels, class_names, needs_scores, skip_unscored)
    sizes = [ipc] if isinstance(ipc, int | np.integer) else list(ipc)
    parts: dict[int, list] = {size: [] for size in sizes}
    for label, rows in _rows_by_label(labels, class_names, skip_unscored, values):
        try:
            chosen = select(
                values[rows],
                sizes,
                target=wanted,
                method=rule,
                seed=(seed, label),
                class_name=class_names[label],
                names=None if names is None else [names[row] for row in rows],
                features=None if features is None else features[rows],
            )
        except ValueError as error:
            where = f" of {pool.path}" if isinstance(pool, Pool) else ""
            raise ValueError(f"class {class_names[label]!r}{where}: {error}") from error
        for size in sizes:
            parts[size].append((label, rows, chosen[size]))
    found = {size: _gathered(part, class_names) for size, part in parts.items()}
    return found[ipc] if isinstance(ipc, int | np.integer) else found


def _of(
    pool: Any, labels: Any, class_names: Any, needs_scores: bool, skip_unscored: bool
) -> tuple[np.ndarray, np.ndarray, dict[int, str], list[str] | None]:
    """Difficulties, labels, names of the classes and of the images."""
    if isinstance(pool, Pool):
        if not needs_scores:  # a random baseline needs none
            values = np.zeros(len(pool))
        elif skip_unscored:
            values = np.array([np.nan if row.get("difficulty") is None else row["difficulty"] for row in pool.rows])
        else:
            values = pool.difficulties
        return values, pool.labels, pool.class_names, [row["file_name"] for row in pool.rows]
    values = np.asarray(pool, np.float64)
    if labels is None:
        return values, np.zeros(len(values), np.int64), {0: ""}, None
    labels = np.asarray(labels, np.int64)
    if labels.shape != values.shape:
        raise ValueError(f"there are {len(values)} difficulties but {len(labels)} labels; give one label an image")
    return values, labels, dict(class_names or {label: str(label) for label in np.unique(labels).tolist()}), None


def _rows_by_label(
    labels: np.ndarray, class_names: Mapping[int, str], skip_unscored: bool, values: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    order = np.argsort(labels, kind="stable")  # once for all classes: a search in each would take a thousand passes
    found, starts = np.unique(labels[order], return_index=True)
    rows = dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True))
    for label in class_names:
        own = rows.get(label, np.empty(0, np.int64))
        yield label, own[~np.isnan(values[own])] if skip_unscored else own


def _gathered(parts: Sequence[tuple[int, np.ndarray, Selection]], class_names: dict[int, str]) -> PoolSelection:
    return PoolSelection(
        np.concatenate([rows[chosen.indices] for _, rows, chosen in parts]),
        np.concatenate([chosen.bins for _, _, chosen in parts]),
        np.concatenate([np.arange(len(chosen.indices)) for _, _, chosen in parts]),
        {label: chosen for label, _, chosen in parts},
        class_names,
    )
