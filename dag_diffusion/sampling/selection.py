"""Difficulty-guided sampling of one class: keep the IPC images whose difficulties follow a target.

    histogram   thresholds -> scale -> quota of each bin -> draw each quota at random -> fill up at random
    matching    the images whose difficulties are nearest to the target in Wasserstein-1 distance

``histogram`` is the rule of arXiv 2601.10090 (predecessor 2507.03331).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cache
from typing import Any, Literal, overload

import numpy as np

from dag_diffusion.seeding import as_numpy_seed

from .rules.coresets import SPREADS, Diversity
from .rules.correct import CaO2, CorrectOnly, surely_correct
from .rules.matching import Matching
from .rules.orders import AtRandom, Easiest, Hardest, Herding, KCenter
from .rules.paper_rule import Histogram
from .rules.rule import FILLED, Choice, ClassImages, Goal, GoalOf, Rule
from .scales import BINS, RawScale, Scale, log_scale
from .target_parser import as_target
from .targets import Target, TargetDistribution
from .threshold_search import search_thresholds

RULES: dict[str, type[Rule]] = {
    "histogram": Histogram,
    "matching": Matching,
    "random": AtRandom,
    "easiest": Easiest,
    "hardest": Hardest,
    "k-center": KCenter,
    "herding": Herding,
    "cao2": CaO2,
}
Method = Literal["matching", "histogram", "random", "easiest", "hardest", "k-center", "herding", "cao2"]


@dataclass(frozen=True)
class SelectionRule:
    """How images are chosen; the method's name alone stands for a rule with the defaults.

    Attributes:
        method: matching (nearest in Wasserstein-1) or histogram (the paper's rule), which follow the target; to compare
            with: random, easiest, hardest, k-center, herding, cao2.  ``matching`` trained better than the paper's rule
            (docs/results).
        search: range of the threshold search by histogram: pool or ipc.  ``pool`` is 0..n/2-1, which the authors'
            recorded thresholds need, ``ipc`` is 0..ipc/2-1, as in their released code.
        clipping: how histogram clips the reference: counts, as many images as of the pool, as the paper does; or
            values, by those of the pool.  Then both sides share the bins.
        scale: scale of histogram's ten bins: log, as the paper's, or raw, the difficulty itself.
        diversity: how matching exchanges nearly equal images: k-center, determinantal or random; default: not at all.
        tolerance: difficulty by which nearly equal images may differ.  It bounds the loss of Wasserstein-1 distance.
        evenly: column of the metadata, such as mode, of whose values equally many images are chosen.
        correct_only: choose among the images that the classifier gets right.  If a class has too few, all of them are
            chosen, and the easiest of the wrong ones.
        hard_from: images per class from which on cao2 takes the least confident images instead of the most confident.
    """

    method: Method = "matching"
    _: KW_ONLY
    search: Literal["pool", "ipc"] = "pool"
    clipping: Literal["counts", "values"] = "counts"
    scale: Literal["log", "raw"] = "log"
    diversity: Diversity | None = None
    tolerance: float = 0.01
    evenly: str | None = None
    correct_only: bool = False
    hard_from: int = 50

    def __post_init__(self) -> None:
        if self.method not in RULES:
            raise ValueError(f"there is no selection method {self.method!r}; choose one of {', '.join(RULES)}")
        if self.search not in ("pool", "ipc"):
            raise ValueError(
                f"search is {self.search!r}; use 'pool' (as the paper's figures need) or 'ipc' (as its released code)"
            )
        if self.clipping not in ("counts", "values"):
            raise ValueError(f"clipping is {self.clipping!r}; use 'counts' (as the paper) or 'values' (equal bins)")
        if self.scale not in ("log", "raw"):
            raise ValueError(f"scale is {self.scale!r}; use 'log' (as the paper) or 'raw' (the difficulty itself)")
        if self.diversity is not None and self.diversity not in SPREADS:
            raise ValueError(f"diversity is {self.diversity!r}; use one of {', '.join(SPREADS)}, or None")
        if self.diversity and self.method != "matching":
            raise ValueError(f"diversity belongs to matching, not to {self.method}; leave it out, or match")
        if self.evenly and self.method == "histogram":
            raise ValueError(
                f"the histogram rule draws by bins alone, so evenly={self.evenly!r} does not go with it; match"
            )
        if not 0 <= self.tolerance <= 1:
            raise ValueError(f"tolerance is {self.tolerance}, but a difference of difficulties lies in [0, 1]")
        if self.hard_from < 1:
            raise ValueError(f"hard_from is {self.hard_from}, but is a number of images per class; give at least 1")
        if self.hard_from != SelectionRule.hard_from and self.method != "cao2":
            raise ValueError(f"hard_from belongs to cao2, not to {self.method}; leave it out, or use method='cao2'")

    @property
    def needs_difficulties(self) -> bool:
        """Whether it looks at difficulties even without a target."""
        return self.needs_target or self.needs_correct or RULES[self.method].by_difficulty

    @property
    def needs_correct(self) -> bool:
        """Whether it asks which images the classifier gets right."""
        return self.correct_only or RULES[self.method].by_correct

    @property
    def needs_features(self) -> bool:
        """Whether it looks at more than difficulties."""
        return RULES[self.method].by_features or self.diversity in ("k-center", "determinantal")

    @property
    def needs_target(self) -> bool:
        """Whether it follows a target."""
        return RULES[self.method].by_target

    def build(self) -> Rule:
        """The rule itself, with its own options."""
        kind = RULES[self.method]
        rule = kind(**{name: getattr(self, name) for name in kind.options})
        return CorrectOnly(rule) if self.correct_only else rule


@dataclass(frozen=True, eq=False, kw_only=True)
class Selection:
    """What was chosen in one class, and how far it met the target.

    Attributes:
        indices: ``(ipc,)`` chosen positions by rank, the members of smaller nested sets first.
        bins: ``(ipc,)`` the bin that each was drawn for, 0 (easy) to 9, or -1 if it only fills up.
        quotas, found: ``(10,)`` images wanted and drawn in each bin; empty for methods without a target.
        thresholds: the paper's (bottom, top), numbers of clipped images; empty on the raw scale, or without bins.
        scale: that bins, or a target of bins' shares, lie on: of the pool's images of this class; None without either.
        distance: Wasserstein-1 between the chosen difficulties and the target's; None without a target.
        floor: the least distance that any so many numbers could have: that of the medians of the target's slots.
        wrong: chosen images that the classifier gets wrong, since too few are right; None if the rule does not ask.
    """

    indices: np.ndarray
    bins: np.ndarray
    quotas: tuple[int, ...] = ()
    found: tuple[int, ...] = ()
    thresholds: tuple[int, ...] = ()
    scale: Scale | None = None
    distance: float | None = None
    floor: float | None = None
    wrong: int | None = None

    @property
    def deficits(self) -> tuple[int, ...]:
        """Images that each bin lacked, ``(10,)``; empty without bins."""
        return tuple(max(0, wanted - found) for wanted, found in zip(self.quotas, self.found, strict=True))


@overload
def select(
    difficulties: Sequence[float] | np.ndarray,
    ipc: int,
    *,
    target: Target | None = ...,
    method: Method | SelectionRule = ...,
    seed: int | Sequence[int] = ...,
    class_name: str = ...,
    names: Sequence[str] | np.ndarray | None = ...,
    features: np.ndarray | None = ...,
    groups: Sequence[Any] | np.ndarray | None = ...,
    correct: Sequence[bool] | np.ndarray | None = ...,
) -> Selection: ...
@overload
def select(
    difficulties: Sequence[float] | np.ndarray,
    ipc: Sequence[int],
    *,
    target: Target | None = ...,
    method: Method | SelectionRule = ...,
    seed: int | Sequence[int] = ...,
    class_name: str = ...,
    names: Sequence[str] | np.ndarray | None = ...,
    features: np.ndarray | None = ...,
    groups: Sequence[Any] | np.ndarray | None = ...,
    correct: Sequence[bool] | np.ndarray | None = ...,
) -> dict[int, Selection]: ...
def select(
    difficulties: Sequence[float] | np.ndarray,
    ipc: int | Sequence[int],
    *,
    target: Target | None = None,
    method: Method | SelectionRule = "matching",
    seed: int | Sequence[int] = 0,
    class_name: str = "",
    names: Sequence[str] | np.ndarray | None = None,
    features: np.ndarray | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    correct: Sequence[bool] | np.ndarray | None = None,
) -> Selection | dict[int, Selection]:
    """Choose ``ipc`` distinct images of one class by their difficulties.

    Args:
        difficulties: ``(n,)`` in [0, 1], n >= ipc.
        ipc: images to keep, at least 1; several numbers give nested sets, each within the next larger one.
        target: needed by ``histogram`` and ``matching``; with others it only adds the distance.
        method: a name of ``RULES``, or a rule with options.
        seed: random seed of all draws.
        class_name: the class in the target's reference.
        names: of the images, so that the choice does not depend on their order; without them it goes by position.
        features: ``(n, dim)``, needed by ``k-center``, ``herding`` and those kinds of diversity.
        groups: ``(n,)``, such as the mode of each, needed by a rule with ``evenly``.
        correct: ``(n,)`` bool, whether the classifier gets each right, for ``cao2`` and ``correct_only``; without it
            the images of a difficulty below 1/2, which an error probability says no more of.

    Returns:
        A ``Selection``, or one for each IPC if ``ipc`` is a sequence.

    Raises:
        ValueError: fewer images than ``ipc``, sizes that cannot be nested, a difficulty outside [0, 1] or NaN, no
            target or features where needed.

    See Also:
        ``subsample``, which does this for every class of a pool; ``SelectionRule``, the options of each method.

    Examples:
        >>> difficulties = [0.01, 0.02, 0.05, 0.1, 0.3, 0.6, 0.9]
        >>> select(difficulties, 3, target="uniform").indices.tolist()
        [3, 5, 6]
        >>> select(difficulties, 3, target="hill", method="histogram").quotas
        (0, 0, 0, 1, 1, 1, 0, 0, 0, 0)
        >>> nested = select(difficulties, [1, 3], method="hardest")
        >>> {ipc: chosen.indices.tolist() for ipc, chosen in nested.items()}
        {1: [6], 3: [6, 5, 4]}
    """
    rule = method if isinstance(method, SelectionRule) else SelectionRule(method)
    sizes = sizes_of(ipc, rule)
    seeds = [as_numpy_seed(one) for one in (seed if isinstance(seed, Iterable) else [seed])]
    wanted = None if target is None else as_target(target, {0: class_name} if class_name else None)
    values = _checked(difficulties, sizes)
    _require(rule, wanted, features, groups, len(values))
    right = _right(rule, values, correct)
    if names is not None and len(names) != len(values):
        raise ValueError(f"there are {len(values)} difficulties but {len(names)} names; give one name an image")
    order = np.arange(len(values)) if names is None else np.argsort(np.asarray(names, str), kind="stable")
    features = None if features is None else np.asarray(features)[order]
    images = ClassImages(
        difficulties=values[order],
        features=features,
        groups=np.asarray(groups)[order] if rule.evenly else None,
        positions=order,
        correct=None if right is None else right[order],
    )
    offered = images.difficulties[images.correct] if rule.correct_only and right is not None and right.any() else None
    goal_of = _goals(images.difficulties if offered is None else offered, rule, wanted, class_name)
    falling = sizes[::-1]
    choices = rule.build().sets(images, falling, goal_of, np.random.default_rng(seeds))
    chosen = dict(zip(falling, choices, strict=True))
    found = _ranked(images, chosen, goal_of, rule.needs_target)
    return {size: found[size] for size in sizes} if isinstance(ipc, Iterable) else found[sizes[0]]


def sizes_of(ipc: int | Sequence[int], rule: SelectionRule) -> list[int]:
    """The wanted numbers of images per class, each once, rising.

    Raises:
        ValueError: one is not whole or below 1, or the rule chooses no such sets within each other.
    """
    sizes = list(ipc) if isinstance(ipc, Iterable) else [ipc]
    if not sizes or any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1 for n in sizes):
        raise ValueError(f"ipc (images per class) is {ipc}; it must be a whole number of at least 1, or several")
    if rule.method == "cao2" and min(sizes) < rule.hard_from <= max(sizes):
        raise ValueError(
            f"cao2 takes the easy end below {rule.hard_from} images per class and the hard end from there on, so that "
            f"sets of {min(sizes)} and {max(sizes)} cannot be nested; choose each alone"
        )
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
    if rule.needs_target and target is None:
        raise ValueError(
            f"the {rule.method} rule needs a target: 'hill', TargetDistribution.from_reference(...), .beta(...), ..."
        )
    if features is not None or rule.needs_features:
        require_features(features, count, rule)
    if rule.evenly and (groups is None or len(groups) != count):
        raise ValueError(f"evenly={rule.evenly!r} needs the groups of all {count} images; give one value an image")


def _right(rule: SelectionRule, values: np.ndarray, correct: Sequence[bool] | np.ndarray | None) -> np.ndarray | None:
    """Which images the classifier gets right, ``(n,)`` bool; None if the rule does not ask."""
    if not rule.needs_correct:
        return None
    if correct is None:
        return surely_correct(values)
    right = np.asarray(correct)
    if right.dtype != bool or right.shape != values.shape:
        raise ValueError(
            f"correct is {right.shape} of {right.dtype} for {len(values)} images; give True or False for each of them"
        )
    return right


def require_features(features: np.ndarray | None, count: int, rule: SelectionRule) -> None:
    """Refuse features that do not fit ``count`` images."""
    shape = () if features is None else np.shape(features)
    needed = f"{rule.diversity or rule.method} needs finite features of all images, ({count}, dim)"
    if features is None or len(shape) != 2 or shape[0] != count:
        given = "none are given" if features is None else f"those given are {shape}"
        raise ValueError(f"{needed}, but {given}; take those of score_pool(..., features=True)")
    if bad := int((~np.isfinite(features).all(1)).sum()):
        raise ValueError(
            f"{needed}, but those of {bad} are not finite, as of images that could not be read; leave these out, as "
            "subsample(..., skip_unscored=True) does"
        )


def _goals(values: np.ndarray, rule: SelectionRule, target: TargetDistribution | None, class_name: str) -> GoalOf:
    """What the target asks of a set of so many images; its thresholds are searched at most once for the whole pool."""
    if target is None:
        return lambda ipc: None
    needs_bins = rule.needs_target or target.relative

    @cache
    def thresholds(limit: int) -> tuple[int, int]:
        return search_thresholds(values, limit)

    def goal(ipc: int) -> Goal:
        if rule.scale == "raw" or not needs_bins:
            return Goal(target=target, class_name=class_name, ipc=ipc, scale=RawScale(), thresholds=None)
        clipped = thresholds((len(values) if rule.search == "pool" else ipc) // 2)
        scale = log_scale(values, *clipped)
        return Goal(target=target, class_name=class_name, ipc=ipc, scale=scale, thresholds=clipped)

    return goal


def _ranked(
    images: ClassImages, found: Mapping[int, Choice], goal_of: Callable[[int], Goal | None], binned: bool
) -> dict:
    """Each set in the order of ranks: the members of a smaller set come first."""
    smallest = {row: size for size, choice in found.items() for row in choice.chosen.tolist()}  # the last one stays
    ranked = {}
    for size, choice in found.items():
        goal = goal_of(size)
        order = np.argsort([smallest[row] for row in choice.chosen.tolist()], kind="stable")
        distance, floor = (None, None) if goal is None else goal.distances(images.difficulties[choice.chosen])
        drawn = np.bincount(choice.bins[choice.bins != FILLED], minlength=BINS).tolist() if len(choice.quotas) else ()
        ranked[size] = Selection(
            indices=images.positions[choice.chosen[order]],
            bins=choice.bins[order],
            quotas=tuple(choice.quotas.tolist()),
            found=tuple(drawn),
            thresholds=goal.thresholds or () if goal is not None and binned else (),
            scale=goal.scale if goal is not None and (binned or goal.target.relative) else None,
            distance=distance,
            floor=floor,
            wrong=None if images.correct is None else int((~images.correct[choice.chosen]).sum()),
        )
    return ranked
