"""The paper's selection rule (arXiv 2601.10090, predecessor 2507.03331): the method ``histogram``.

    1. thresholds   (b, t) = argmin  1/2 KL(h || h_bt) + 1/2 KL(u || h_bt)
    2. scale        y = ln(d / low) / ln(high / low),   low = o[b],  high = o[n - 1 - t],   o = sorted d
    3. quotas       of IPC images for the ten bins of y, by largest remainder, after the target's histogram
    4. draw         each bin's quota at random; what a bin lacks is filled up at random

h is the histogram of the difficulties, h_bt that of y, u the uniform one, each of ten bins.  ``plain_search`` states
the first step; ``threshold_search`` finds the same pair some hundred times sooner.  ``scales.log_scale`` is the second.
"""

from typing import Literal

import numpy as np

from dag_diffusion.sampling.scales import BINS, log_scale

from .rule import FILLED, Choice, ClassImages, Goal, TargetRule


def plain_search(difficulties: np.ndarray, limit: int) -> tuple[int, int]:
    """The first pair of thresholds (b, t), each below ``limit``, with the least divergence; (0, 0) if all are infinite.

    Args:
        difficulties: ``(n,)`` of one class of the pool.
        limit: half of the pool, as the authors' recorded thresholds need, or half of IPC, as in their released code.

    See Also:
        ``threshold_search.search_thresholds``, which finds the same pair by branch and bound.

    Examples:
        >>> plain_search(np.geomspace(1e-4, 1, 40), limit=20)
        (14, 0)
    """
    pairs = [(b, t) for b in range(limit) for t in range(limit) if b + t < len(difficulties)]
    least = min(pairs, key=lambda pair: divergence(difficulties, *pair))  # the first of equals
    return least if np.isfinite(divergence(difficulties, *least)) else (0, 0)


def divergence(difficulties: np.ndarray, bottom: int, top: int) -> float:
    """``1/2 KL(h || h_bt) + 1/2 KL(u || h_bt)`` in bits; infinite as soon as a bin of the scale is empty."""
    raw = np.histogram(difficulties, BINS, (0, 1))[0] / len(difficulties)
    scale = log_scale(difficulties, bottom, top)
    shares = np.bincount(scale.bins(difficulties), minlength=BINS) / len(difficulties)
    if not shares.all():
        return np.inf
    return sum(
        0.5 * float(np.sum(p[p > 0] * np.log2(p[p > 0] / shares[p > 0]))) for p in (raw, np.full(BINS, 1 / BINS))
    )


class Histogram(TargetRule):
    """Draw as many images of each bin as the target wants.

    Args:
        clipping: ``counts`` clips as many of a reference's images as of the pool's, as the paper does; ``values`` bins
            both by the pool's scale.

    See Also:
        ``matching.Matching``, which comes nearer to the target.
    """

    options = ("clipping",)

    def __init__(self, clipping: Literal["counts", "values"] = "counts") -> None:
        self.clipping = clipping

    def quotas(self, goal: Goal) -> np.ndarray:
        return goal.quotas(clip_reference=self.clipping == "counts")

    def choose(self, images: ClassImages, among: np.ndarray, goal: Goal, generator: np.random.Generator) -> Choice:
        """Quotas, drawn at random bin by bin."""
        quotas = self.quotas(goal)
        drawn, bins = draw(goal.scale.bins(images.difficulties[among]), quotas, generator)
        return Choice(among[drawn], bins, quotas)


def draw(bins: np.ndarray, quotas: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw each bin's quota at random, and fill up at random what bins lack.

    Args:
        bins: ``(n,)`` bin of each image.
        quotas: ``(10,)``.

    Returns:
        Positions, ``(sum of the quotas,)``, and the bin that each was drawn for, ``FILLED`` for those that fill up.

    Examples:
        >>> chosen, drawn_for = draw(np.array([0, 0, 2]), np.array([1, 1] + [0] * 8), np.random.default_rng(0))
        >>> drawn_for.tolist()  # no image is in bin 1
        [0, -1]
    """
    drawn = [
        generator.permutation(np.flatnonzero(bins == number))[:quota]  # a bin with too few gives all it has
        for number, quota in enumerate(quotas)
    ]
    chosen = np.concatenate(drawn)
    rest = generator.permutation(np.setdiff1d(np.arange(len(bins)), chosen))[: quotas.sum() - len(chosen)]
    labels = np.concatenate([np.repeat(np.arange(BINS), [len(d) for d in drawn]), np.full(len(rest), FILLED)])
    return np.concatenate([chosen, rest]), labels
