"""Choosing by features: coverage, means, and volume."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dag_diffusion.sampling.rules.coresets import SPREADS, Determinantal, herding, k_center

features = arrays(float, st.tuples(st.integers(1, 25), st.integers(1, 4)), elements=st.floats(-5, 5))


@pytest.mark.parametrize("method", [k_center, herding])
@given(features, st.data())
def test_images_are_distinct_and_a_smaller_set_is_the_beginning_of_a_larger_one(method, features, data):
    count = data.draw(st.integers(1, len(features)))
    order = method(features, len(features))
    assert sorted(order.tolist()) == list(range(len(features)))
    assert method(features, count).tolist() == order[:count].tolist()


def test_k_center_visits_every_cluster_before_it_returns_to_one():
    generator = np.random.default_rng(0)
    cluster = np.repeat(np.arange(5), 20)
    features = 100 * np.eye(5)[cluster] + generator.normal(size=(100, 5))
    assert sorted(cluster[k_center(features, 5)]) == list(range(5))


@given(st.integers(0, 50))
def test_k_center_covers_within_twice_the_best_radius(seed):
    features = np.random.default_rng(seed).normal(size=(9, 2))
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    best = min(distances[[i, j]].min(0).max() for i in range(9) for j in range(i))
    assert distances[k_center(features, 2)].min(0).max() <= 2 * best + 1e-9


def test_herding_is_nearer_to_the_mean_than_random_images_are():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 8)) + 2
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)

    def distance(chosen):
        return np.linalg.norm(directions[chosen].mean(0) - directions.mean(0))

    random = [distance(generator.permutation(300)[:10]) for _ in range(20)]
    assert distance(herding(features, 10)) < np.mean(random) / 2


def test_determinantal_gains_are_the_ratios_of_determinants():
    features = np.random.default_rng(0).normal(size=(8, 3))
    state = Determinantal(features)
    similar = np.exp(-np.square(features[:, None] - features[None]).sum(2) / state.width)
    taken = [3, 5]
    for index in taken:
        state.add(index)
    for other in (0, 1, 7):
        both = similar[np.ix_([*taken, other], [*taken, other])]
        ratio = np.linalg.det(both) / np.linalg.det(similar[np.ix_(taken, taken)])
        assert state.gains()[other] == pytest.approx(ratio)


@pytest.mark.parametrize("name", ["k-center", "determinantal"])
def test_a_copy_of_an_image_that_was_taken_adds_nothing(name):
    features = np.array([[0.0, 0], [0, 0], [1, 0], [0, 3]])
    state = SPREADS[name](features, np.random.default_rng(0))
    state.add(0)
    assert state.gains()[1] == pytest.approx(0, abs=1e-6)
    assert np.argmax(state.gains()) == 3
