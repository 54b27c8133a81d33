"""Exact matching: as good as the best assignment, and what an exchange of near equals may cost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from dag_diffusion.sampling.rules.coresets import SPREADS
from dag_diffusion.sampling.rules.matching import diversify
from dag_diffusion.sampling.rules.nearest import match

unit = st.floats(0, 1)
pools = arrays(float, st.integers(1, 40), elements=unit)
targets = arrays(float, st.integers(1, 40), elements=unit).map(np.sort)


def best_distance(difficulties: np.ndarray, values: np.ndarray, ipc: int) -> float:
    """By assigning images to slots, each cut so finely that no target value lies across a cut."""
    fine = np.repeat(values, ipc).reshape(ipc, len(values))
    cost = np.abs(difficulties[None, :, None] - fine[:, None, :]).mean(2)
    slots, images = linear_sum_assignment(cost)
    return float(cost[slots, images].mean())


@given(pools, targets, st.data())
def test_no_other_choice_is_nearer_to_the_target(difficulties, values, data):
    ipc = data.draw(st.integers(1, len(difficulties)))
    chosen = match(difficulties, values, ipc)
    assert len(set(chosen.tolist())) == ipc
    found = wasserstein_distance(difficulties[chosen], values)
    assert found == pytest.approx(best_distance(difficulties, values, ipc), abs=1e-9)


@settings(max_examples=40)
@given(st.integers(0, 9999), st.integers(1, 12), st.floats(0.1, 2), st.sampled_from([1, 2, 9]))
def test_large_pool_where_most_images_are_out_of_reach_is_matched_exactly(seed, ipc, shape, decimals):
    generator = np.random.default_rng(seed)
    difficulties = np.round(generator.beta(shape, 4, 300), decimals)  # ties, or hardly any
    values = np.sort(generator.beta(1, 2, 50))
    found = wasserstein_distance(difficulties[match(difficulties, values, ipc)], values)
    assert found == pytest.approx(best_distance(difficulties, values, ipc), abs=1e-9)


def test_pool_that_holds_the_target_is_matched_to_the_image():
    values = np.sort(np.random.default_rng(0).random(12))
    pool = np.concatenate([values[::-1], values + 0.001])
    assert sorted(pool[match(pool, values, 12)]) == values.tolist()


@pytest.mark.parametrize("spread", SPREADS)
@settings(max_examples=40)
@given(pools, targets, st.floats(0, 0.3), st.data())
def test_exchange_costs_at_most_the_tolerance_and_doubles_no_image(spread, difficulties, values, tolerance, data):
    ipc = data.draw(st.integers(1, len(difficulties)))
    chosen = match(difficulties, values, ipc)
    features = np.random.default_rng(0).normal(size=(len(difficulties), 3))
    generator = np.random.default_rng(1)
    changed = diversify(difficulties, chosen, features, spread=spread, tolerance=tolerance, generator=generator)
    assert len(set(changed.tolist())) == ipc
    assert (np.abs(difficulties[changed] - difficulties[chosen]) <= tolerance).all()
    before, after = (wasserstein_distance(difficulties[c], values) for c in (chosen, changed))
    assert after <= before + tolerance + 1e-9


@pytest.mark.parametrize("spread", ["k-center", "determinantal"])
def test_near_equals_are_exchanged_for_ones_that_look_different(spread):
    generator = np.random.default_rng(0)
    difficulties, kind = generator.random(200) / 100, np.repeat(np.arange(10), 20)
    features = 10 * np.eye(10)[kind] + generator.normal(size=(200, 10)) / 10
    chosen = match(difficulties, np.array([0.001]), 10)  # the ten that happen to lie nearest
    changed = diversify(difficulties, chosen, features, spread=spread, tolerance=0.01, generator=generator)
    assert len(set(kind[chosen])) < 10
    assert len(set(kind[changed])) == 10
