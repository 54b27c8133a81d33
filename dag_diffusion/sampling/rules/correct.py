"""Rules that ask whether the classifier is right about an image: CaO2's selection, and a filter before any rule.

    right, sorted by d  ->  the first (small sets) or the last (large sets)  ->  the wrong, easiest first, if too few

CaO2 (ICCV 2025, arXiv 2506.22637) keeps the images that a classifier gets right, of a pool of four times IPC: the most
confident at 10 images a class, the least confident at 50.  It is silent between; ``hard_from`` is where this rule
changes ends.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from .rule import Choice, ClassImages, GoalOf, Rule, TargetRule, in_turns

SURE = 0.5  # a class of more than half of the probability has no rival; the difficulty alone tells


class CaO2(Rule):
    """Choose among the images that the classifier gets right; if they are too few, fill up in order of confidence.

    Args:
        hard_from: images per class from which on the least confident are taken.

    See Also:
        ``CorrectOnly``, the same filter before another rule.
    """

    options = ("hard_from",)
    by_difficulty = True
    by_correct = True

    def __init__(self, hard_from: int = 50) -> None:
        self.hard_from = hard_from

    def sets(
        self, images: ClassImages, sizes: Sequence[int], goal_of: GoalOf, generator: np.random.Generator
    ) -> Iterator[Choice]:
        among = np.arange(len(images.difficulties))
        for size in sizes:
            right, wrong = _easiest_first(images, among)
            right = right[::-1] if size >= self.hard_from else right
            if images.groups is not None:
                right, wrong = (in_turns(rows, images.groups) for rows in (right, wrong))
            among = np.concatenate([right, wrong])[:size]
            yield Choice.without_bins(among)


class CorrectOnly(Rule):
    """Another rule, shown only what the classifier gets right.

    A set that is larger than all of these holds them all and the easiest of the wrong ones, whatever the rule.
    """

    by_correct = True

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def sets(
        self, images: ClassImages, sizes: Sequence[int], goal_of: GoalOf, generator: np.random.Generator
    ) -> Iterator[Choice]:
        right, wrong = _easiest_first(images, np.arange(len(images.difficulties)))
        for size in (size for size in sizes if size > len(right)):
            yield self._filled(images, np.concatenate([right, wrong])[:size], goal_of)
        if small := [size for size in sizes if size <= len(right)]:
            kept = np.sort(right)
            for choice in self.rule.sets(images.of(kept), small, goal_of, generator):
                yield choice._replace(chosen=kept[choice.chosen])

    def _filled(self, images: ClassImages, chosen: np.ndarray, goal_of: GoalOf) -> Choice:
        if not isinstance(self.rule, TargetRule) or (goal := goal_of(len(chosen))) is None:
            return Choice.without_bins(chosen)
        return Choice(chosen, goal.scale.bins(images.difficulties[chosen]), self.rule.quotas(goal))


def _easiest_first(images: ClassImages, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the images that the classifier gets right, and of the others, each from easy to hard."""
    assert images.correct is not None  # select has asked for it
    order = among[np.argsort(images.difficulties[among], kind="stable")]
    return order[images.correct[order]], order[~images.correct[order]]


def surely_correct(difficulties: np.ndarray) -> np.ndarray:
    """Which images a classifier must be right about, since its error probability or rival margin is below 1/2.

    Of several classes it may be right about harder ones, which only a column ``correct`` can tell.
    """
    return np.asarray(difficulties) < SURE
