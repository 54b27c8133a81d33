"""Targets: the paper's transform, its threshold search against a plain double loop, and shapes for any IPC."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dag_diffusion.targets import BINS, PRESETS, LogTransform, TargetDistribution, largest_remainder, log_transform
from dag_diffusion.targets import search_thresholds as search

difficulties = arrays(float, st.integers(1, 60), elements=st.floats(0, 1))


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        return float(sum(a * np.log2(a / b) if b else np.inf for a, b in zip(p, q, strict=True) if a))


def search_by_double_loop(values: np.ndarray, limit: int) -> tuple[tuple[int, int], np.ndarray]:
    """The rule as the paper words it, one pair at a time."""
    ordered, uniform = np.sort(values), np.full(BINS, 1 / BINS)
    raw = np.histogram(values, BINS, (0, 1))[0] / len(values)
    table = np.full((limit, limit), np.inf)
    for bottom in range(limit):
        for top in range(limit):
            low, high = ordered[bottom] or 1e-4, ordered[len(values) - 1 - top]
            if high > low:
                y = np.log(np.clip(values, low, high) / low) / np.log(high / low)
                near_edge = np.round(y * BINS, 9)  # an image on an edge must not fall either side by rounding
                shares = np.bincount(np.minimum(near_edge.astype(int), BINS - 1), minlength=BINS) / len(values)
                table[bottom, top] = 0.5 * divergence(raw, shares) + 0.5 * divergence(uniform, shares)
    if not np.isfinite(table).any():
        return (0, 0), table
    return tuple(int(i) for i in np.unravel_index(np.argmin(table), table.shape)), table


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 80), st.floats(-6, 0), st.floats(0.3, 4), st.integers(0, 1000), st.booleans())
def test_search_equals_a_double_loop(count, mean, spread, seed, rounded):
    logits = np.random.default_rng(seed).normal(mean, spread, count)
    values = 1 / (1 + np.exp(-logits))
    values = np.round(values, 2) if rounded else values  # ties and exact zeros
    limit = count // 2
    expected, table = search_by_double_loop(values, limit)
    found = search(values, limit)
    assert table[found] == pytest.approx(table[expected], abs=1e-9) or found == expected == (0, 0)


def test_search_in_blocks_equals_the_search_in_one(monkeypatch):
    values = 1 / (1 + np.exp(-np.random.default_rng(0).normal(-3, 2, 90)))
    whole = search(values, 45)
    monkeypatch.setattr("dag_diffusion.targets.BLOCK", 100)
    assert search(values, 45) == whole


@given(difficulties)
def test_search_survives_any_pool_and_keeps_at_least_one_image(values):
    bottom, top = search(values, len(values))
    assert bottom + top < len(values)


def test_saturated_pool_clips_nothing():
    assert search(np.zeros(50), 25) == (0, 0)
    assert search(np.full(50, 0.3), 25) == (0, 0)


@given(difficulties)
def test_every_value_falls_into_exactly_one_bin_that_rises_with_it(values):
    bins = log_transform(values).bins(values)
    assert ((bins >= 0) & (bins < BINS)).all()
    assert (np.diff(bins[np.argsort(values, kind="stable")]) >= 0).all()


def test_edges_belong_to_the_harder_bin_and_the_last_bin_is_closed():
    transform = LogTransform(1e-10, 1.0)
    assert transform.bins(np.array([1e-10, 1e-9, 1e-8, 1e-1, 1.0])).tolist() == [0, 1, 2, 9, 9]


@given(st.floats(1e-6, 0.4), st.floats(0.5, 1), st.floats(0, 1))
def test_transform_and_inverse_undo_each_other(low, high, at):
    transform = LogTransform(low, high)
    assert transform(transform.inverse(np.array([at])))[0] == pytest.approx(at, abs=1e-9)


@given(arrays(float, 10, elements=st.floats(0, 1)).filter(lambda a: a.sum() > 0), st.integers(0, 200))
def test_quotas_sum_and_are_nearest_whole_numbers(shares, total):
    counts = largest_remainder(shares, total)
    assert counts.sum() == total
    assert (np.abs(counts - shares / shares.sum() * total) < 1 + 1e-9).all()


@pytest.mark.parametrize(("name", "ipc"), [(name, ipc) for name, counts in PRESETS.items() for ipc in counts])
def test_preset_has_the_papers_counts(name, ipc):
    quotas = TargetDistribution.preset(name).quotas("any", ipc, 0, 0)
    assert tuple(quotas) == PRESETS[name][ipc]
    assert quotas.sum() == ipc


@given(st.sampled_from(sorted(PRESETS)), st.integers(1, 300))
def test_preset_works_for_any_ipc(name, ipc):
    assert TargetDistribution.preset(name).quotas("any", ipc, 0, 0).sum() == ipc


@given(difficulties, st.integers(1, 60), st.integers(0, 100), st.integers(0, 100))
def test_reference_gives_quotas_whatever_the_pools_thresholds(values, ipc, bottom, top):
    target = TargetDistribution.from_reference({"Bag": values})
    assert target.quotas("Bag", ipc, bottom, top).sum() == ipc


@given(difficulties)
def test_steering_targets_of_a_reference_are_its_quantiles(values):
    wanted = TargetDistribution.from_reference({"Bag": values}).difficulties("Bag", len(values))
    assert (np.diff(wanted) >= 0).all()
    assert values.min() <= wanted[0]
    assert wanted[-1] <= values.max()


def test_steering_targets_of_a_shape_fill_its_bins():
    scale = LogTransform(1e-3, 1.0)
    wanted = TargetDistribution.preset("cliff").difficulties("any", 50, scale)
    assert tuple(np.bincount(scale.bins(wanted), minlength=BINS)) == PRESETS["cliff"][50]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TargetDistribution.preset("valley"), "choose hill"),
        (lambda: TargetDistribution.histogram([1, 2]), "needs 10"),
        (lambda: TargetDistribution.histogram([0.0] * 10), "needs 10"),
        (lambda: TargetDistribution.histogram([float("nan")] * 10), "needs 10"),
        (lambda: TargetDistribution.from_reference({"Bag": []}), "'Bag'"),
        (lambda: TargetDistribution.from_reference({"Bag": [0.5, float("nan")]}), "'Bag'"),
        (lambda: TargetDistribution.from_reference({"Bag": [0.5]}).quotas("Hat", 1, 0, 0), "no class 'Hat'"),
        (lambda: log_transform([0.1, 0.2], 1, 1), "cannot clip"),
        (lambda: TargetDistribution.constant(1.5), "0 easy and 1 hard"),
        (lambda: TargetDistribution.constant(0.5).quotas("Bag", 1, 0, 0), "not select"),
    ],
)
def test_bad_target_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
