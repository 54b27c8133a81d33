"""Difficulty-guided sampling of one class: keep the IPC images whose difficulties follow a target.

    histogram   thresholds -> scale -> quota of each bin -> draw each quota at random -> fill up at random
    matching    the images whose difficulties are nearest to the target in Wasserstein-1 distance

``histogram`` is the rule of arXiv 2601.10090 (predecessor 2507.03331).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from scipy.stats import wasserstein_distance

from .coresets import SPREADS, herding, k_center
from .matching import diversify, match, match_evenly
from .scales import BINS, RawScale, Scale, log_scale
from .targets import TargetDistribution, as_target, even_levels
from .threshold_search import search_thresholds

METHODS = ("histogram", "matching", "random", "easiest", "hardest", "k-center", "herding")
BY_TARGET, BY_FEATURES = ("histogram", "matching"), ("k-center", "herding")
FILLED = -1  # bin of an image that was drawn to fill up a bin that had too few, or by a method without bins
Target = TargetDistribution | Mapping[str, Sequence[float]] | str | float


@dataclass(frozen=True)
class SelectionRule:
    """How images are chosen; the method's name alone stands for one with the defaults.

    Attributes:
        method: matching (nearest in Wasserstein-1) or histogram (the paper's rule), which follow the target; to compare
            with: random, easiest, hardest, k-center, herding.  ``matching`` trained better than the paper's rule
            (docs/sampling.md).
        search: range of the threshold search by histogram: pool or ipc.  ``pool`` is 0..n/2-1, which the authors'
            recorded thresholds need, ``ipc`` is 0..ipc/2-1, as in their released code.
        clipping: how histogram clips the reference: counts, as many images as of the pool, as the paper does; or
            values, by those of the pool.  Then both sides share the bins.
        scale: scale of histogram's ten bins: log, as the paper's, or raw, the difficulty itself.
        diversity: how matching exchanges nearly equal images: k-center, determinantal or random; default: not at all.
        tolerance: difficulty by which nearly equal images may differ.  It bounds the loss of Wasserstein-1 distance.
        evenly: column of the metadata, such as mode, of whose values equally many images are chosen.
    """

    method: str = "matching"
    search: str = "pool"
    clipping: str = "counts"
    scale: str = "log"
    diversity: str = ""
    tolerance: float = 0.01
    evenly: str = ""

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
        if self.diversity and self.method != "matching":
            raise ValueError(f"diversity belongs to matching, not to {self.method}; leave it empty, or match")
        if self.evenly and self.method == "histogram":
            raise ValueError(
                f"the histogram rule draws by bins alone, so evenly={self.evenly!r} does not go with it; match"
            )
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
        thresholds: the paper's (bottom, top), numbers of clipped images; empty on the raw scale, or without bins.
        scale: that the bins lie on: of the pool's images of this class; None without bins.
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
def select(  # type: ignore[misc] # the overloads leave the options to this one
    difficulties: Sequence[float] | np.ndarray,
    ipc: int | Sequence[int],
    *,
    target: Target | None = None,
    method: str | SelectionRule = "matching",
    seed: int | Sequence[int] = 0,
    class_name: str = "",
    names: Sequence[str] | None = None,
    features: np.ndarray | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
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
        groups: ``(n,)``, such as the mode of each, needed by a rule with ``evenly``.

    Returns:
        A ``Selection``, or one for each IPC if ``ipc`` is a sequence.

    Raises:
        ValueError: fewer images than ``ipc``, a difficulty outside [0, 1] or NaN, no target or features where needed.
    """
    rule = method if isinstance(method, SelectionRule) else SelectionRule(method)
    sizes, wanted = sizes_of(ipc), None if target is None else as_target(target)
    values = _checked(difficulties, sizes)
    _require(rule, wanted, features, groups, len(values))
    if names is not None and len(names) != len(values):
        raise ValueError(f"there are {len(values)} difficulties but {len(names)} names; give one name an image")
    order = np.arange(len(values)) if names is None else np.argsort(np.asarray(names, str), kind="stable")
    features = None if features is None else np.asarray(features)[order]
    images = _Images(values[order], features, np.asarray(groups)[order] if rule.evenly else None, order)
    found = dict(_nested(images, sizes[::-1], rule, wanted, class_name, np.random.default_rng(seed)))
    return {size: found[size] for size in sizes} if isinstance(ipc, Iterable) else found[sizes[0]]


def sizes_of(ipc: int | Sequence[int]) -> list[int]:
    """The wanted numbers of images per class, each once, rising; ValueError unless all are whole and at least 1."""
    sizes = list(ipc) if isinstance(ipc, Iterable) else [ipc]
    if not sizes or any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1 for n in sizes):
        raise ValueError(f"ipc (images per class) is {ipc}; it must be a whole number of at least 1, or several")
    return sorted({int(size) for size in sizes})


def _checked(difficulties: Sequence[float] | np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    values = np.asarray(difficulties, np.float64)
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


def _require(
    rule: SelectionRule,
    target: TargetDistribution | None,
    features: np.ndarray | None,
    groups: Sequence[Any] | np.ndarray | None,
    count: int,
) -> None:
    if rule.method in BY_TARGET and target is None:
        raise ValueError(
            f"the {rule.method} rule needs a target: 'hill', TargetDistribution.from_reference(...), .beta(...), ..."
        )
    if features is not None or rule.needs_features:
        require_features(features, count, rule)
    if rule.evenly and (groups is None or len(groups) != count):
        raise ValueError(f"evenly={rule.evenly!r} needs the groups of all {count} images; give one value an image")


def require_features(features: np.ndarray | None, count: int, rule: SelectionRule) -> None:
    """Refuse features that do not fit ``count`` images."""
    shape = () if features is None else np.shape(features)
    if features is None or len(shape) != 2 or shape[0] != count or not np.isfinite(features).all():
        given = "none are given" if features is None else f"those given are {shape}, or not finite"
        raise ValueError(
            f"{rule.diversity or rule.method} needs finite features of all images, ({count}, dim), but {given}; "
            "take those of score_pool(..., features=True)"
        )


@dataclass(frozen=True)
class _Images:
    """Of one class, in the order of their names; ``positions`` say where the caller has them."""

    difficulties: np.ndarray
    features: np.ndarray | None
    groups: np.ndarray | None
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
    values, binned = images.difficulties, rule.method in BY_TARGET
    kept = np.arange(len(values)) if binned else _order(images, max(sizes), rule.method, generator)
    thresholds: tuple[int, ...] = ()
    scale: Any = None  # there is one where there is a target
    found = []
    for ipc in sizes:
        if target is not None and (scale is None or rule.search == "ipc"):
            thresholds, scale = _scale_of(values, ipc, rule, binned or target.relative)
        wanted: Any = None if target is None else target.values(class_name, scale, ipc)
        bins, quotas = np.full(ipc, FILLED), np.zeros(0, np.int64)
        if target is not None and rule.method == "histogram":
            counts: Any = thresholds if rule.clipping == "counts" and thresholds else None
            quotas = target.quotas(class_name, ipc, scale, counts)
            chosen, bins = _draw(scale.bins(values[kept]), quotas, generator)
            kept = kept[chosen]
        elif target is not None and rule.method == "matching":
            kept = kept[_match(images, kept, ipc, rule, wanted, generator)]
            quotas, bins = target.quotas(class_name, ipc, scale), scale.bins(values[kept])
        else:
            kept = kept[:ipc]
        distances: tuple[float | None, ...] = (None, None)
        if wanted is not None:
            nearest = (values[kept], np.quantile(wanted, even_levels(ipc), method="inverted_cdf"))
            distances = tuple(float(wasserstein_distance(those, wanted)) for those in nearest)
        described = (thresholds, scale) if binned else ((), None)
        found.append((ipc, kept, bins, tuple(int(quota) for quota in quotas), *described, *distances))
    yield from _ranked(images, found)


def _scale_of(values: np.ndarray, ipc: int, rule: SelectionRule, needed: bool) -> tuple[tuple[int, ...], Scale]:
    """Thresholds, if they have to be searched, and the scale of the bins."""
    if rule.scale == "raw" or not needed:
        return (), RawScale()
    thresholds = search_thresholds(values, (len(values) if rule.search == "pool" else ipc) // 2)
    return thresholds, log_scale(values, *thresholds)


def _order(images: _Images, count: int, method: str, generator: np.random.Generator) -> np.ndarray:
    """The first ``count`` images of a method that needs no target; fewer are its beginning."""
    values, groups = images.difficulties, images.groups
    length = count if groups is None else len(values)
    if method == "random":
        order = generator.permutation(len(values))[:length]
    elif method in ("easiest", "hardest"):
        order = np.argsort(values if method == "easiest" else -values, kind="stable")[:length]
    else:
        order = (k_center if method == "k-center" else herding)(np.asarray(images.features), length)
    if groups is None:
        return order
    # the first of every group, then the second of every group, and so on
    return order[np.argsort(_turns(groups[order]), kind="stable")][:count]


def _turns(groups: np.ndarray) -> np.ndarray:
    """How many of the same group stand before each, ``(n,)``."""
    turns = np.empty(len(groups), np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        turns[members] = np.arange(len(members))
    return turns


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
    difficulties, groups = images.difficulties[kept], None if images.groups is None else images.groups[kept]
    if groups is None:
        chosen = match(difficulties, values, ipc)
    else:
        chosen = match_evenly(difficulties, values, ipc, groups, generator)
    if not rule.diversity:
        return chosen
    features = difficulties[:, None] if images.features is None else images.features[kept]
    options: dict[str, Any] = {"spread": rule.diversity, "tolerance": rule.tolerance, "groups": groups}
    return diversify(difficulties, chosen, features, **options, generator=generator)


def _ranked(images: _Images, found: Sequence[tuple]) -> Iterator[tuple[int, Selection]]:
    """Each set in the order of ranks: whoever is in a smaller one comes first."""
    smallest = {index: ipc for ipc, kept, *_ in found for index in kept.tolist()}  # the last, smallest one stays
    for ipc, kept, bins, quotas, *described in found:
        order = np.argsort([smallest[index] for index in kept.tolist()], kind="stable")
        drawn = np.bincount(bins[bins != FILLED], minlength=BINS).tolist() if quotas else ()
        yield ipc, Selection(images.positions[kept[order]], bins[order], quotas, tuple(drawn), *described)
