"""Choosing as many images of every group, such as the mode that each was drawn to: even, exact, and told apart."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance
from tiny import write_images

from dag_diffusion import SelectionRule, TargetDistribution, read_pool, select, subsample
from dag_diffusion.data.files import json_lines
from dag_diffusion.sampling.rules.even_matching import even_counts, match_evenly
from dag_diffusion.sampling.rules.nearest import match, quantile_function, slot_cost, slot_edges
from dag_diffusion.sampling.selection import RULES

unit, seeds = st.floats(0, 1), st.integers(0, 2**32)
METHODS = [name for name in RULES if name != "histogram"]  # which draws by bins alone


@settings(max_examples=60)
@given(
    arrays(float, st.integers(4, 9), elements=unit),
    arrays(float, st.integers(1, 9), elements=unit).map(np.sort),
    st.integers(1, 4),
    st.data(),
)
def test_no_other_even_choice_is_nearer_to_the_target(difficulties, values, ipc, data):
    groups = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(difficulties), max_size=len(difficulties))))
    chosen = match_evenly(difficulties, values, ipc, groups, np.random.default_rng(0))
    counts = np.bincount(groups[chosen], minlength=3)
    assert len(set(chosen.tolist())) == ipc
    best = min(
        wasserstein_distance(difficulties[list(other)], values)
        for other in combinations(range(len(difficulties)), ipc)
        if (np.bincount(groups[list(other)], minlength=3) == counts).all()
    )
    assert wasserstein_distance(difficulties[chosen], values) == pytest.approx(best, abs=1e-9)


def of_whole_matrix(difficulties, values, ipc, groups, generator):
    """The assignment in a matrix of images x images, as scipy solves it."""
    names, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    counts = even_counts(sizes, ipc, generator)
    image, (levels, integrals) = quantile_function(difficulties, values), slot_edges(values, ipc)
    slots = [slot_cost(difficulties, *image, levels[i : i + 2], integrals[i : i + 2]) for i in range(ipc)]
    spare = np.repeat(np.arange(len(names)), sizes - counts)
    chosen = linear_sum_assignment(np.vstack([*slots, np.where(inverse == spare[:, None], 0.0, np.inf)]))[1][:ipc]
    return chosen[np.argsort(difficulties[chosen], kind="stable")]


@settings(max_examples=60)
@given(
    st.integers(1, 120), st.integers(1, 40), st.integers(1, 12), st.integers(1, 60), st.sampled_from([1, 2, 16]), seeds
)
def test_choice_is_as_near_as_that_of_the_whole_matrix(count, ipc, groups, known, digits, seed):
    generator, ipc = np.random.default_rng(seed), min(ipc, count)
    difficulties, values = generator.beta(0.5, 2, count).round(digits), np.sort(generator.random(known).round(digits))
    given = difficulties, values, ipc, generator.integers(0, groups, count)
    found, best = (rule(*given, np.random.default_rng(seed)) for rule in (match_evenly, of_whole_matrix))
    assert len(set(found.tolist())) == ipc
    assert np.bincount(given[3][found]).tolist() == np.bincount(given[3][best]).tolist()
    distances = [wasserstein_distance(difficulties[chosen], values) for chosen in (found, best)]
    assert distances[0] == pytest.approx(distances[1], abs=1e-12)  # equally good ones may differ


@pytest.mark.parametrize("digits", [16, 3], ids=["untied", "tied, so that slots compete"])
def test_memory_is_that_of_slots_times_images(digits):
    generator, ipc = np.random.default_rng(0), 50
    difficulties, groups = generator.random(20_000).round(digits), generator.integers(0, 5, 20_000)
    tracemalloc.start()
    try:
        chosen = match_evenly(difficulties, np.linspace(0.2, 0.2005, ipc), ipc, groups, generator)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(set(chosen.tolist())) == ipc
    assert np.bincount(groups[chosen]).tolist() == [10] * 5
    assert most < 20_000 * ipc * 8 * 10  # a matrix of images x images would take 3.2 GB


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_groups_share_as_evenly_as_their_sizes_allow(sizes, data):
    total = data.draw(st.integers(1, sum(sizes)))
    counts = even_counts(np.array(sizes), total, np.random.default_rng(0))
    assert counts.sum() == total
    assert (counts <= sizes).all()
    most = counts.max()
    assert all(count == size or count >= most - 1 for count, size in zip(counts, sizes, strict=True))


@given(arrays(float, st.integers(1, 30), elements=unit), st.data())
def test_one_group_is_matched_as_if_there_were_none(difficulties, data):
    ipc, values = data.draw(st.integers(1, len(difficulties))), np.linspace(0, 1, 11)
    groups = np.zeros(len(difficulties))
    evenly = match_evenly(difficulties, values, ipc, groups, np.random.default_rng(0))
    plain = match(difficulties, values, ipc)
    assert wasserstein_distance(difficulties[evenly], values) == pytest.approx(
        wasserstein_distance(difficulties[plain], values), abs=1e-9
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_one_image_of_each_group(method):
    generator = np.random.default_rng(0)
    chosen = select(
        generator.random(50),
        10,
        target=TargetDistribution.uniform(),
        method=SelectionRule(method, evenly="mode"),
        features=generator.normal(size=(50, 3)),
        groups=np.arange(50) % 10,
        correct=np.ones(50, bool),  # cao2 is even among the right ones
    )
    assert sorted(chosen.indices % 10) == list(range(10))


def test_easiest_of_each_group_is_taken():
    difficulties = np.array([0.9, 0.8, 0.1, 0.2, 0.3, 0.4])
    chosen = select(
        difficulties, 2, method=SelectionRule("easiest", evenly="mode"), groups=["a", "a", "b", "b", "b", "b"]
    )
    assert sorted(chosen.indices) == [1, 2]


def test_exchange_for_diversity_stays_within_the_group():
    features = np.random.default_rng(0).normal(size=(40, 3))
    rule = SelectionRule("matching", diversity="k-center", tolerance=1.0, evenly="mode")
    chosen = select(np.full(40, 0.5), 4, target=0.5, method=rule, features=features, groups=np.arange(40) % 4)
    assert sorted(chosen.indices % 4) == [0, 1, 2, 3]


def test_column_of_a_pool_is_found_and_nested_sets_are_even_too(tmp_path):
    rows = write_images(tmp_path, {"Bag": 12, "Coat": 12}, difficulty=lambda name, index: index / 12)
    (tmp_path / "metadata.jsonl").write_bytes(json_lines([row | {"mode": row["seed"] % 4} for row in rows]))
    pool = read_pool(tmp_path)
    found = subsample(pool, [4, 8], target=0.5, method=SelectionRule("matching", evenly="mode"))
    for ipc, chosen in found.items():
        for label in pool.class_names:
            modes = [pool.rows[i]["mode"] for i in chosen.indices if pool.rows[i]["label"] == label]
            assert np.bincount(modes).tolist() == [ipc // 4] * 4
    assert found[8].record["evenly"] == "mode"


def test_missing_column_is_named_with_those_that_exist(tmp_path):
    write_images(tmp_path, {"Bag": 4}, difficulty=lambda name, index: 0.5)
    with pytest.raises(ValueError, match=r"'mode' in their metadata.*choose evenly over one of file_name, "):
        subsample(tmp_path, 2, target=0.5, method=SelectionRule("matching", evenly="mode"))


def test_groups_are_needed_and_bins_do_without():
    with pytest.raises(ValueError, match="needs the groups of all 3 images"):
        select([0.1, 0.2, 0.3], 2, target=0.5, method=SelectionRule("matching", evenly="mode"))
    with pytest.raises(ValueError, match="does not go with it"):
        SelectionRule("histogram", evenly="mode")
