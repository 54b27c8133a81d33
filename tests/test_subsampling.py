"""What every selection method must do, and what the paper's rule does besides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny import write_images

from dag_diffusion import TargetDistribution, read_pool, select, subsample, write_distilled_set
from dag_diffusion.subsampling import FILLED, METHODS
from dag_diffusion.targets import BINS, log_transform

pools = arrays(float, st.integers(1, 60), elements=st.floats(0, 1))
TARGETS = st.sampled_from(
    [TargetDistribution.preset("hill"), TargetDistribution.from_reference({"": np.linspace(0, 1, 99)})]
)


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None)
@given(values=pools, target=TARGETS, data=st.data())
def test_selects_exactly_ipc_distinct_images(method, values, target, data):
    ipc = data.draw(st.integers(1, len(values)))
    chosen = select(values, ipc, method=method, target=target)
    assert len(set(chosen.indices.tolist())) == len(chosen.bins) == ipc


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=25)
@given(values=pools, seed=st.integers(0, 99))
def test_same_seed_selects_the_same(method, values, seed):
    target = TargetDistribution.preset("slope")
    first, second = (select(values, len(values) // 2 + 1, method=method, target=target, seed=seed) for _ in range(2))
    assert np.array_equal(first.indices, second.indices)


@settings(deadline=None, max_examples=50)
@given(values=pools, target=TARGETS, data=st.data())
def test_histogram_draws_each_bin_up_to_its_quota_and_fills_the_rest(values, target, data):
    ipc = data.draw(st.integers(1, len(values)))
    chosen = select(values, ipc, target=target)
    bins = log_transform(values, *chosen.thresholds).bins(values)
    available = np.bincount(bins, minlength=BINS)
    assert sum(chosen.quotas) == ipc
    assert chosen.found == tuple(np.minimum(chosen.quotas, available))
    drawn = chosen.bins != FILLED
    assert np.array_equal(bins[chosen.indices[drawn]], chosen.bins[drawn])
    assert (chosen.bins == FILLED).sum() == ipc - sum(chosen.found)


def test_rich_pool_follows_the_target_exactly():
    values = np.geomspace(1e-4, 1, 400)
    chosen = select(values, 50, target=TargetDistribution.preset("cliff"))
    assert chosen.found == chosen.quotas == (20, 15, 3, 3, 2, 2, 2, 1, 1, 1)


def test_easiest_and_hardest_are_what_they_say():
    values = np.random.default_rng(0).random(30)
    easiest, hardest = (select(values, 5, method=m).indices for m in ("easiest", "hardest"))
    assert sorted(values)[:5] == sorted(values[easiest])
    assert sorted(values)[-5:] == sorted(values[hardest])


def test_search_ranges_differ_as_in_paper_and_released_code():
    values = 1 / (1 + np.exp(-np.random.default_rng(0).normal(-4, 2, 250)))
    wide, narrow = (select(values, 10, target=TargetDistribution.preset("hill"), search=s) for s in ("pool", "ipc"))
    assert max(narrow.thresholds) < 5 <= max(wide.thresholds)


@pytest.mark.parametrize("ipc", [1, 2, 3])
@pytest.mark.parametrize("search", ["pool", "ipc"])
def test_smallest_sets_and_saturated_pools_work(ipc, search):
    for values in (np.zeros(20), np.ones(20), np.r_[np.zeros(18), 0.5, 1]):
        assert len(select(values, ipc, target=TargetDistribution.preset("hill"), search=search).indices) == ipc


def scored_pool(folder, counts=None):
    generator = np.random.default_rng(0)
    write_images(folder, counts or {"Bag": 20, "Coat": 20}, difficulty=lambda name, index: float(generator.random()))
    return read_pool(folder)


def test_one_class_does_not_change_the_draw_of_another(tmp_path):
    both = scored_pool(tmp_path / "both")
    alone = [row for row in both.rows if row["class_name"] == "Coat"]
    (tmp_path / "both" / "metadata.jsonl").write_text("".join(__import__("json").dumps(r) + "\n" for r in alone))
    target = TargetDistribution.preset("ground")
    names = [
        [p.rows[i]["file_name"] for i in subsample(p, 5, target=target).indices] for p in (both, read_pool(both.path))
    ]
    assert [n for n in names[0] if n.startswith("Coat")] == names[1]


def test_distilled_set_holds_the_chosen_images_with_their_bins(tmp_path):
    pool = scored_pool(tmp_path / "pool")
    chosen = subsample(pool, 5, target=TargetDistribution.preset("ground"))
    written = write_distilled_set(
        pool,
        chosen.indices.tolist(),
        tmp_path / "set",
        columns={"bin": chosen.bins.tolist()},
        provenance={"selection": {}},
    )
    assert sorted(r["file_name"] for r in written.rows) == sorted(pool.rows[i]["file_name"] for i in chosen.indices)
    assert {row["bin"] for row in written.rows} <= set(range(-1, BINS))
    for row in written.rows:
        assert (tmp_path / "set" / row["file_name"]).read_bytes() == (tmp_path / "pool" / row["file_name"]).read_bytes()


def test_quota_table_names_every_class_and_bin(tmp_path):
    pool = scored_pool(tmp_path)
    rows = subsample(pool, 5, target=TargetDistribution.preset("hill")).quota_rows(pool.class_names)
    assert {(row["class"], row["bin"]) for row in rows} == {(c, b) for c in ("Bag", "Coat") for b in range(BINS)}
    assert sum(row["wanted"] for row in rows) == 10


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([0.1, 0.2], {"ipc": 3}, "generate more or lower ipc"),
        ([], {"ipc": 1}, "has 0 images"),
        ([0.1], {"ipc": 0}, "at least 1"),
        ([0.1, float("nan")], {"ipc": 1}, "number 1 is nan"),
        ([0.1, 1.5], {"ipc": 1}, r"number 1 is 1\.5"),
        ([0.1], {"ipc": 1, "method": "best"}, "choose one of histogram"),
        ([0.1], {"ipc": 1, "target": None}, "needs a target"),
        ([0.1], {"ipc": 1, "search": "all"}, "'pool'"),
    ],
)
def test_bad_input_is_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        select(values, **({"target": TargetDistribution.preset("hill")} | options))


def test_class_with_too_few_images_is_named(tmp_path):
    pool = scored_pool(tmp_path, {"Bag": 20, "Coat": 2})
    with pytest.raises(ValueError, match="class 'Coat'"):
        subsample(pool, 5, target=TargetDistribution.preset("hill"))


def test_unscored_pool_says_how_to_score_it(tmp_path):
    write_images(tmp_path, {"Bag": 3})
    with pytest.raises(ValueError, match="dag-diffusion score"):
        subsample(read_pool(tmp_path), 1, target=TargetDistribution.preset("hill"))
