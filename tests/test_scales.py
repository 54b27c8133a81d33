"""The paper's scale, its threshold search against a plain double loop, and the raw one."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dag_diffusion.sampling.rules.paper_rule import divergence as stated_divergence
from dag_diffusion.sampling.rules.paper_rule import plain_search
from dag_diffusion.sampling.scales import BINS, LogScale, RawScale, log_scale
from dag_diffusion.sampling.threshold_search import search_thresholds as search

difficulties = arrays(float, st.integers(1, 60), elements=st.floats(0, 1))


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        return float(sum(a * np.log2(a / b) if b else np.inf for a, b in zip(p, q, strict=True) if a))


def placements(values: np.ndarray, low: float, high: float) -> Iterator[np.ndarray]:
    """Bins of the images, each way that rounding may have it: images of one value on an edge fall to one side of it.

    0.08 lies in the middle between 0.01 and 0.64 on the scale of logarithms: none of the three is a float, and where
    theirs fall is up to the last bits of the logarithms.
    """
    places = np.log(np.clip(values, low, high) / low) / np.log(high / low) * BINS
    nearest = np.round(places)
    on_edge = (np.abs(places - nearest) < 1e-9) & (nearest > 0) & (nearest < BINS)
    for falling in product([0, 1], repeat=len(np.unique(nearest[on_edge]))):
        bins = np.where(np.abs(places - nearest) < 1e-9, nearest, np.floor(places)).astype(int)
        for edge, down in zip(np.unique(nearest[on_edge]), falling, strict=True):
            bins[on_edge & (nearest == edge)] -= down
        yield np.minimum(bins, BINS - 1)


def search_by_double_loop(values: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The rule as the paper words it, one pair at a time: the least and the most that rounding may make of each."""
    ordered, uniform = np.sort(values), np.full(BINS, 1 / BINS)
    raw = np.histogram(values, BINS, (0, 1))[0] / len(values)
    least, most = np.full((2, limit, limit), np.inf)
    for bottom in range(limit):
        for top in range(limit):
            low, high = ordered[bottom] or 1e-4, ordered[len(values) - 1 - top]
            if high > low:
                shares = [np.bincount(bins, minlength=BINS) / len(values) for bins in placements(values, low, high)]
                found = [0.5 * divergence(raw, own) + 0.5 * divergence(uniform, own) for own in shares]
                least[bottom, top], most[bottom, top] = min(found), max(found)
    return least, most


@settings(max_examples=25)
@given(st.integers(20, 80), st.floats(-9, 0), st.floats(0.3, 4), st.integers(0, 1000), st.booleans())
@example(52, -4.393158784274709, 3.916746327850383, 132, True)  # 0.08 on an edge between 0.01 and 0.64
def test_search_equals_a_double_loop(count, mean, spread, seed, rounded):
    logits = np.random.default_rng(seed).normal(mean, spread, count)
    values = 1 / (1 + np.exp(-logits))
    values = np.round(values, 2) if rounded else values  # ties and exact zeros
    least, most = search_by_double_loop(values, count // 2)
    found = search(values, count // 2)
    # rounding may only decide between pairs that are equally good, and those with an image on an edge
    assert least[found] <= most.min() + 1e-12
    assert np.isfinite(least[found]) or found == (0, 0)


def test_search_equals_a_double_loop_in_a_pool_that_takes_several_rounds_of_quartering():
    values = 1 / (1 + np.exp(-np.random.default_rng(0).normal(-4, 2, 160)))
    least, most = search_by_double_loop(values, 80)
    assert (least == most).all()
    assert search(values, 80) == np.unravel_index(np.argmin(least), least.shape)


@pytest.mark.parametrize("ipc", [1, 2, 3])
def test_half_of_the_smallest_sets_is_a_range_too(ipc):
    assert search(np.geomspace(1e-3, 1, 30), ipc // 2) == (0, 0)


@given(difficulties)
def test_search_survives_any_pool_and_keeps_at_least_one_image(values):
    bottom, top = search(values, len(values))
    assert bottom + top < len(values)


@pytest.mark.parametrize("values", [np.zeros(50), np.full(50, 0.3), np.ones(50), np.r_[np.zeros(45), np.full(5, 1e-5)]])
def test_saturated_pool_clips_nothing(values):
    """Zeros make the lower threshold 1e-4, above every difficulty of the last: its logarithm would turn round."""
    assert search(values, 25) == (0, 0)


@given(difficulties)
def test_every_value_falls_into_exactly_one_bin_that_rises_with_it(values):
    for scale in (log_scale(values), RawScale()):
        bins = scale.bins(values)
        assert ((bins >= 0) & (bins < BINS)).all()
        assert (np.diff(bins[np.argsort(values, kind="stable")]) >= 0).all()


def test_edges_belong_to_the_harder_bin_and_the_last_bin_is_closed():
    assert LogScale(1e-10, 1.0).bins(np.array([1e-10, 1e-9, 1e-8, 1e-1, 1.0])).tolist() == [0, 1, 2, 9, 9]
    assert RawScale().bins(np.array([0, 0.2, 0.6, 0.95, 1.0])).tolist() == [0, 2, 6, 9, 9]


def test_tiny_differences_survive_where_four_decimals_would_tie_them():
    values = np.geomspace(1e-9, 1e-5, 40)
    assert len(np.unique(log_scale(values).bins(values))) == BINS


@given(st.floats(1e-6, 0.4), st.floats(0.5, 1))
def test_inverse_leads_from_the_low_to_the_high_end_and_into_the_bins_between(low, high):
    for scale, ends in ((LogScale(low, high), (low, high)), (RawScale(), (0, 1))):
        assert scale.inverse(np.array([0, 1])) == pytest.approx(ends, abs=1e-9)
        assert scale.bins(scale.inverse((np.arange(BINS) + 0.5) / BINS)).tolist() == list(range(BINS))


def test_clipping_everything_is_refused():
    with pytest.raises(ValueError, match="cannot clip"):
        log_scale([0.1, 0.2], 1, 1)


@settings(max_examples=20)
@given(st.integers(20, 40), st.floats(-4, 0), st.floats(1, 4), st.integers(0, 1000))
def test_search_is_the_one_that_the_rule_states(count, mean, spread, seed):
    values = 1 / (1 + np.exp(-np.random.default_rng(seed).normal(mean, spread, count)))
    stated, found = plain_search(values, count // 2), search(values, count // 2)
    assert found == stated or stated_divergence(values, *found) == pytest.approx(stated_divergence(values, *stated))
