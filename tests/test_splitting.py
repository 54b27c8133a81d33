"""A pool is divided by names and seed alone, and no picture is on both sides."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dag_diffusion.data.pools import Pool
from dag_diffusion.data.preparing.splitting import capped, split_pool


@st.composite
def pools(draw):
    """A pool, and groups of twins of which each class has two or more."""
    rows, groups = [], []
    for label in range(draw(st.integers(1, 4))):
        for picture in range(draw(st.integers(2, 12))):
            copies = draw(st.sampled_from([1, 1, 1, 2, 4]))
            groups.append(range(len(rows), len(rows) + copies))
            for copy in range(copies):
                rows.append({"file_name": f"{label}/{picture}-{copy}.png", "label": label, "class_name": f"c{label}"})
    return Pool(Path("pool"), rows), [list(group) for group in groups if len(group) > 1]


def names(pool):
    return [row["file_name"] for row in pool.rows]


@given(pools(), st.floats(0.01, 0.99), st.integers(0, 3))
def test_parts_are_whole_disjoint_and_hold_every_class(given_pool, share, seed):
    pool, twins = given_pool
    train, held_out = split_pool(pool, share, seed=seed, twins=twins)
    assert sorted(names(train) + names(held_out)) == sorted(names(pool))
    assert train.class_names == held_out.class_names == pool.class_names
    away = set(names(held_out))
    assert all(len({names(pool)[row] in away for row in group}) == 1 for group in twins)


@given(pools(), st.floats(0.01, 0.99))
def test_no_class_gives_more_than_its_share_unless_a_group_has_to_stay_together(given_pool, share):
    pool, twins = given_pool
    held_out = Counter(split_pool(pool, share, twins=twins).held_out.labels.tolist())
    for label, count in Counter(pool.labels.tolist()).items():
        least = min([len(g) for g in twins if pool.labels[g[0]] == label], default=1)
        assert 1 <= held_out[label] <= max(round(share * count), 1, least, 4)
    plain = Counter(split_pool(pool, share, twins=[]).held_out.labels.tolist())
    for label, count in Counter(pool.labels.tolist()).items():
        assert plain[label] == min(max(round(share * count), 1), count - 1)


@given(pools(), st.randoms())
def test_order_of_reading_changes_nothing(given_pool, random):
    pool, twins = given_pool
    order = list(range(len(pool)))
    random.shuffle(order)
    places = {row: place for place, row in enumerate(order)}
    shuffled = replace(pool, rows=[pool.rows[row] for row in order])
    moved = [[places[row] for row in group] for group in twins]
    expected = split_pool(pool, 0.3, twins=twins).held_out
    assert sorted(names(split_pool(shuffled, 0.3, twins=moved).held_out)) == sorted(names(expected))
    assert sorted(names(shuffled.select(capped(shuffled, 3)))) == sorted(names(pool.select(capped(pool, 3))))


def pool_of(**counts):
    return Pool(
        Path("pool"),
        [
            {"file_name": f"{name}/{index:03d}.png", "label": label, "class_name": name}
            for label, (name, count) in enumerate(counts.items())
            for index in range(count)
        ],
    )


def test_image_that_comes_later_moves_few_others():
    before, after = (set(names(split_pool(pool_of(a=count), 0.2, twins=[]).held_out)) for count in (100, 101))
    assert len(before - after) <= 1
    assert before != set(names(split_pool(pool_of(a=100), 0.2, seed=1, twins=[]).held_out))


def test_class_that_cannot_be_divided_is_refused_by_name_or_trained_on():
    pool = pool_of(alone=1, twins=2, fine=5)
    with pytest.raises(ValueError, match=r"'alone', 'twins' of pool have one different image"):
        split_pool(pool, twins=[[1, 2]])
    train, held_out = split_pool(pool, twins=[[1, 2]], lone="train")
    assert held_out.class_names == {2: "fine"}
    assert train.class_names == pool.class_names


def test_picture_of_two_classes_is_trained_on_and_never_tested():
    pool = pool_of(a=3, b=2)
    for seed in range(9):
        held_out = names(split_pool(pool, 0.9, seed=seed, twins=[[2, 3]]).held_out)
        assert held_out == ["a/000.png", "a/001.png", "b/001.png"]


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1, float("nan")])
def test_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="use a number between 0 and 1"):
        split_pool(pool_of(a=3), share)
