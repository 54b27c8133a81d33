"""What every selection method must do, what the paper's rule does besides, and what nested sets are."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import wasserstein_distance
from tiny import write_images

from dag_diffusion import (
    Modes,
    SelectionRule,
    TargetDistribution,
    embedded,
    read_pool,
    select,
    subsample,
    write_distilled_set,
)
from dag_diffusion.difficulty import MEASURES, MeasureName
from dag_diffusion.sampling.rules.coresets import SPREADS, Diversity
from dag_diffusion.sampling.rules.rule import FILLED
from dag_diffusion.sampling.scales import BINS, LogScale, RawScale, log_scale
from dag_diffusion.sampling.selection import RULES as METHODS
from dag_diffusion.sampling.selection import Method
from dag_diffusion.sampling.target_parser import as_target

pools = arrays(float, st.integers(1, 60), elements=st.floats(0, 1))
TARGETS = st.sampled_from(
    [
        TargetDistribution.preset("hill"),
        TargetDistribution.from_reference(np.linspace(0, 1, 99)),
        TargetDistribution.beta(0.5, 3),
        TargetDistribution.constant(0.5),
    ]
)
RULES = [
    *METHODS,
    SelectionRule("histogram", search="ipc", clipping="values"),
    SelectionRule("histogram", scale="raw"),
    SelectionRule("matching", diversity="random"),
    SelectionRule("matching", diversity="k-center"),
    SelectionRule("matching", diversity="determinantal", tolerance=0.2),
]
each_rule = pytest.mark.parametrize("rule", RULES, ids=str)


def features_of(values: np.ndarray) -> np.ndarray:
    return np.stack([np.sin(9 * values), np.cos(7 * values)], 1)


@pytest.mark.parametrize(("listed", "known"), [(Method, METHODS), (Diversity, SPREADS), (MeasureName, MEASURES)])
def test_type_of_a_choice_lists_every_one_of_them(listed, known):
    assert set(get_args(listed)) == set(known)


def test_help_and_docs_name_every_rule_and_diversity():
    told = SelectionRule.__doc__
    rules, diversities = told[told.index("method:") : told.index("search:")], told[told.index("diversity:") :]
    page = (Path(__file__).parents[1] / "docs" / "concepts" / "selection-rules.md").read_text("utf-8")
    assert set(METHODS) <= set(re.findall(r"[\w-]+", rules))
    assert set(SPREADS) <= set(re.findall(r"[\w-]+", diversities[: diversities.index("tolerance:")]))
    assert set(METHODS) <= set(re.findall("^## (.+)$", page, re.M))
    assert f"--diversity {'|'.join(SPREADS)}" in page


@each_rule
@settings(max_examples=50)
@given(values=pools, target=TARGETS, data=st.data())
def test_selects_exactly_ipc_distinct_images(rule, values, target, data):
    ipc = data.draw(st.integers(1, len(values)))
    chosen = select(values, ipc, method=rule, target=target, features=features_of(values))
    assert len(set(chosen.indices.tolist())) == len(chosen.bins) == ipc
    assert chosen.floor - 1e-9 <= chosen.distance <= 1


@each_rule
@settings(max_examples=15)
@given(values=pools, seed=st.integers(0, 99))
def test_same_seed_selects_the_same(rule, values, seed):
    options = {"method": rule, "target": "slope", "features": features_of(values), "seed": seed}
    first, second = (select(values, len(values) // 2 + 1, **options) for _ in range(2))
    assert np.array_equal(first.indices, second.indices)


@each_rule
@settings(max_examples=30)
@given(values=pools, target=TARGETS, seed=st.integers(0, 99), data=st.data())
def test_order_of_the_images_does_not_matter_when_they_have_names(rule, values, target, seed, data):
    values = np.round(values, 1)  # ties
    ipc = data.draw(st.integers(1, len(values)))
    shuffled = np.random.default_rng(seed).permutation(len(values))
    sets = []
    for order in (np.arange(len(values)), shuffled):
        images = {"names": [f"{i:03d}" for i in order], "features": features_of(values[order])}
        sets.append(order[select(values[order], ipc, method=rule, target=target, **images).indices].tolist())
    assert sets[0] == sets[1]


@each_rule
@settings(max_examples=30)
@given(values=pools, target=TARGETS, data=st.data())
def test_nested_sets_nest_and_begin_with_the_smaller_one(rule, values, target, data):
    most = min(len(values), SelectionRule.hard_from - 1) if rule == "cao2" else len(values)  # its sets of one end
    sizes = data.draw(st.sets(st.integers(1, most), min_size=1, max_size=4))
    found = select(values, sorted(sizes), method=rule, target=target, features=features_of(values))
    assert list(found) == sorted(sizes)
    largest = found[max(sizes)].indices.tolist()
    for ipc in sizes:
        assert sorted(found[ipc].indices) == sorted(largest[:ipc])
    alone = select(values, max(sizes), method=rule, target=target, features=features_of(values))
    assert sorted(alone.indices) == sorted(largest)


@settings(max_examples=50)
@given(values=pools, target=TARGETS, data=st.data())
def test_histogram_draws_each_bin_up_to_its_quota_and_fills_the_rest(values, target, data):
    ipc = data.draw(st.integers(1, len(values)))
    chosen = select(values, ipc, target=target, method="histogram")
    bins = log_scale(values, *chosen.thresholds).bins(values)
    available = np.bincount(bins, minlength=BINS)
    assert sum(chosen.quotas) == ipc
    assert chosen.found == tuple(np.minimum(chosen.quotas, available))
    drawn = chosen.bins != FILLED
    assert np.array_equal(bins[chosen.indices[drawn]], chosen.bins[drawn])
    assert (chosen.bins == FILLED).sum() == sum(chosen.deficits) == ipc - sum(chosen.found)


@given(values=pools, target=TARGETS, data=st.data())
def test_matching_is_never_farther_from_the_target_than_any_other_method(values, target, data):
    ipc = data.draw(st.integers(1, len(values)))
    options = {"target": target, "features": features_of(values)}
    matched = select(values, ipc, method="matching", **options)
    for method in METHODS:
        assert matched.distance <= select(values, ipc, method=method, **options).distance + 1e-9


def test_every_step_of_the_papers_rule_can_be_followed():
    values, reference = np.geomspace(1e-5, 1, 50), np.geomspace(1e-4, 1, 1300)
    target = TargetDistribution.from_reference(reference)
    chosen = select(values, 10, target=target, method="histogram")
    assert chosen.scale == log_scale(values, *chosen.thresholds)
    own = log_scale(reference, *chosen.thresholds)  # of the reference itself, as the paper clips by counts
    assert np.abs(np.array(chosen.quotas) - 10 * np.bincount(own.bins(reference), minlength=BINS) / 1300).max() < 1
    assert chosen.distance == pytest.approx(wasserstein_distance(values[chosen.indices], reference))


def test_shared_thresholds_keep_the_bins_of_pool_and_reference_the_same():
    """Pool and reference of one law: counts clip four tenths of the pool but hardly any of the reference."""
    generator = np.random.default_rng(0)
    pool, reference = (1 / (1 + np.exp(-generator.normal(-4, 2, n))) for n in (250, 1300))
    target = TargetDistribution.from_reference(reference)
    counts, shared = (
        select(pool, 50, target=target, method=SelectionRule("histogram", clipping=c)) for c in ("counts", "values")
    )
    easiest = np.mean(chosen_bins(shared, reference) == 0)
    assert shared.quotas[0] == pytest.approx(50 * easiest, abs=1)
    assert counts.quotas[0] < shared.quotas[0]
    assert shared.distance < counts.distance


def chosen_bins(chosen, values):
    return chosen.scale.bins(values)


def test_raw_scale_counts_tenths_of_the_difficulty():
    chosen = select(np.linspace(0, 1, 200), 10, target="ground", method=SelectionRule("histogram", scale="raw"))
    assert isinstance(chosen.scale, RawScale)
    assert sorted(np.floor(10 * np.linspace(0, 1, 200)[chosen.indices])) == list(range(10))


def test_shapes_are_laid_over_the_pools_own_scale_by_every_method():
    values = np.geomspace(1e-4, 1, 400)
    for method in (name for name, rule in METHODS.items() if rule.by_target):
        chosen = select(values, 50, method=method, target="cliff")
        assert chosen.found == chosen.quotas == (20, 15, 3, 3, 2, 2, 2, 1, 1, 1)
        assert isinstance(chosen.scale, LogScale)


def test_easiest_and_hardest_are_what_they_say():
    values = np.random.default_rng(0).random(30)
    easiest, hardest = (select(values, 5, method=m).indices for m in ("easiest", "hardest"))
    assert sorted(values)[:5] == sorted(values[easiest])
    assert sorted(values)[-5:] == sorted(values[hardest])


def test_search_ranges_differ_as_in_paper_and_released_code():
    values = 1 / (1 + np.exp(-np.random.default_rng(0).normal(-4, 2, 250)))
    wide, narrow = (
        select(values, 10, target="hill", method=SelectionRule("histogram", search=s)) for s in ("pool", "ipc")
    )
    assert max(narrow.thresholds) < 5 <= max(wide.thresholds)


@pytest.mark.parametrize("ipc", [1, 2, 3])
@pytest.mark.parametrize("search", ["pool", "ipc"])
@pytest.mark.parametrize(
    "values",
    [np.zeros(20), np.ones(20), np.r_[np.zeros(18), 0.5, 1], np.r_[np.zeros(18), 1e-5, 2e-5], np.full(3, 0.2)],
)
def test_smallest_sets_and_saturated_pools_work(ipc, search, values):
    target = TargetDistribution.from_reference(np.geomspace(1e-6, 1, 50))
    chosen = select(values, ipc, target=target, method=SelectionRule("histogram", search=search))
    assert len(set(chosen.indices.tolist())) == ipc
    assert np.isfinite(chosen.distance)


def test_global_random_state_is_neither_read_nor_changed():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first = select(np.linspace(0, 1, 50), 10, target="hill").indices
    assert np.array_equal(before, np.random.get_state()[1])
    np.random.seed(1)
    assert np.array_equal(first, select(np.linspace(0, 1, 50), 10, target="hill").indices)


def test_plain_difficulties_of_several_classes_are_subsampled_with_a_report():
    generator = np.random.default_rng(0)
    labels = np.repeat([7, 3], 40)
    options = {"labels": labels, "class_names": {3: "Bag", 7: "Coat"}, "target": "hill"}
    chosen = subsample(generator.random(80), 5, method="histogram", **options)
    assert np.bincount(labels[chosen.indices])[[3, 7]].tolist() == [5, 5]
    assert [row["class"] for row in chosen.report] == ["Bag", "Coat"]
    for row in json.loads(json.dumps(chosen.report)):
        assert sum(row["quotas"]) == sum(row["found"]) + sum(row["deficits"]) == 5
        assert row["floor"] <= row["distance"]
    assert chosen.ranks.tolist() == [0, 1, 2, 3, 4] * 2
    assert subsample([0.1, 0.5, 0.9], 2, method="hardest").indices.tolist() == [2, 1]


def scored_pool(folder, counts=None):
    generator = np.random.default_rng(0)
    write_images(folder, counts or {"Bag": 20, "Coat": 20}, difficulty=lambda name, index: float(generator.random()))
    return read_pool(folder)


@pytest.mark.parametrize("method", ["histogram", "random", SelectionRule("matching", diversity="random")], ids=str)
def test_one_class_does_not_change_the_draw_of_another(tmp_path, method):
    both = scored_pool(tmp_path / "both")
    alone = [row for row in both.rows if row["class_name"] == "Coat"]
    (tmp_path / "both" / "metadata.jsonl").write_text("".join(json.dumps(r) + "\n" for r in alone))
    names = [
        [p.rows[i]["file_name"] for i in subsample(p, 5, target="ground", method=method).indices]
        for p in (both, read_pool(both.path))
    ]
    assert [n for n in names[0] if n.startswith("Coat")] == names[1]


@pytest.mark.parametrize("method", ["histogram", "random", "matching"])
def test_labels_may_be_any_whole_numbers(tmp_path, method):
    pool = scored_pool(tmp_path)
    numbers = {0: -3, 1: 2**62}
    other = replace(pool, rows=[{**row, "label": numbers[row["label"]]} for row in pool.rows])
    assert len(subsample(other, 5, target="ground", method=method, seed=1).indices) == 10


def test_distilled_set_holds_the_chosen_images_with_bin_and_rank(tmp_path):
    pool = scored_pool(tmp_path / "pool")
    chosen = subsample(pool, 5, target="ground")
    options = {"columns": chosen.columns, "provenance": {"selection": {}}}
    written = write_distilled_set(pool, chosen.indices.tolist(), tmp_path / "set", **options)
    assert sorted(r["file_name"] for r in written.rows) == sorted(pool.rows[i]["file_name"] for i in chosen.indices)
    assert {row["bin"] for row in written.rows} <= set(range(-1, BINS))
    assert sorted(row["rank"] for row in written.rows) == sorted([*range(5), *range(5)])
    for row in written.rows:
        assert (tmp_path / "set" / row["file_name"]).read_bytes() == (tmp_path / "pool" / row["file_name"]).read_bytes()


@pytest.mark.parametrize(
    "target", [0.5, "beta:0.3,3", "0.7*reference + 0.3*hill", {"bag": 0.2, "Coat": [0.1]}], ids=str
)
def test_target_is_said_in_a_word_as_on_the_command_line(tmp_path, target):
    pool = scored_pool(tmp_path)
    chosen = subsample(pool, 5, target=target)
    read = subsample(pool, 5, target=as_target(target, pool.class_names))
    assert chosen.indices.tolist() == read.indices.tolist()
    assert chosen.record == read.record


def test_reference_of_another_measure_is_warned_of(tmp_path, caplog):
    pool = scored_pool(tmp_path)
    subsample(replace(pool, rows=[row | {"difficulty_by": "entropy by A"} for row in pool.rows]), 5, target="reference")
    assert "other scales" in caplog.text


def test_images_that_were_not_scored_hide_no_other_measure(tmp_path, caplog):
    pool = scored_pool(tmp_path)
    scored = [row | {"difficulty_by": "entropy by A"} for row in pool.rows[1:]]
    subsample(replace(pool, rows=[pool.rows[0], *scored]), 5, target="reference")
    assert "other scales" in caplog.text


def test_one_class_follows_the_reference_of_its_name():
    values = np.random.default_rng(0).random(50)
    reference = embedded.training_difficulties({0: "Coat"})
    chosen = select(values, 5, target="reference", class_name="Coat")
    assert chosen.indices.tolist() == select(values, 5, target=reference, class_name="Coat").indices.tolist()
    with pytest.raises(ValueError, match="no class ''"):
        select(values, 5, target="reference")


@pytest.mark.parametrize("number", [np.int64, np.uint8, torch.tensor])
def test_numbers_of_numpy_and_torch_are_recorded_as_json(tmp_path, number):
    write_images(tmp_path / "pool", {"Bag": 4}, difficulty=lambda name, index: index / 4)
    rule = SelectionRule("matching", diversity="random", tolerance=np.float32(0.25))
    chosen = subsample(tmp_path / "pool", 2, target="hill", method=rule, seed=number(3))
    plain = subsample(tmp_path / "pool", 2, target="hill", method=replace(rule, tolerance=0.25), seed=3)
    assert json.dumps(chosen.record) == json.dumps(plain.record)
    assert chosen.save(tmp_path / "set").provenance["selection"]["seed"] == 3


@pytest.mark.parametrize("seed", [None, 1.5, "1", -1])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ValueError, match=f"seed is {seed!r}; give a whole number of at least 0"):
        subsample([0.1, 0.2], 1, target="hill", seed=seed)
    for several in (seed, (0, seed)):
        with pytest.raises(ValueError, match=f"seed is {seed!r}; give a whole number of at least 0"):
            select([0.1, 0.2], 1, method="random", seed=several)


def test_names_are_told_from_labels():
    with pytest.raises(ValueError, match="labels are names such as 'cat'"):
        subsample([0.1, 0.2], 1, target="hill", labels=["cat", "dog"])


def test_selections_can_be_compared():
    first, second = (subsample([0.1, 0.2, 0.3], 2, target="hill") for _ in range(2))
    assert first == first
    assert first != second
    assert first.classes[0] != second.classes[0]


def test_saved_sets_say_how_they_were_chosen_and_from_where(tmp_path):
    pool = scored_pool(tmp_path / "pool")
    chosen = subsample(pool, [2, 4], target="ground")
    for size, one in chosen.items():
        written = one.save(tmp_path / str(size), files="link")
        assert written.provenance["selection"] == one.record
        assert written.provenance["pool"]["path"] == str(pool.path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        chosen[2].save(tmp_path / "2")
    assert len(chosen[4].save(tmp_path / "2", overwrite=True, files="list")) == 8


def test_several_ipc_give_one_selection_each(tmp_path):
    pool = scored_pool(tmp_path)
    found = subsample(pool, [2, 6], target="ground", method="matching")
    small, large = ({pool.rows[i]["file_name"] for i in found[ipc].indices} for ipc in (2, 6))
    assert (len(small), len(large)) == (4, 12)
    assert small < large


def test_images_without_difficulty_are_refused_or_left_out_as_asked(tmp_path):
    difficulties = {"Bag": [0.1, None, 0.3, 0.4], "Coat": [0.2, 0.3, 0.4, 0.5]}
    write_images(tmp_path, {"Bag": 4, "Coat": 4}, difficulty=lambda name, index: difficulties[name][index])
    pool = read_pool(tmp_path)
    with pytest.raises(ValueError, match=r"score_and_record\(\)"):
        subsample(pool, 2, target="hill")
    chosen = subsample(pool, 3, target="hill", skip_unscored=True)
    assert {pool.rows[i]["difficulty"] for i in chosen.indices[:3]} == {0.1, 0.3, 0.4}
    with pytest.raises(ValueError, match=r"class 'Bag'.*has 3 images"):
        subsample(pool, 4, target="hill", skip_unscored=True)


def test_baseline_takes_no_image_that_scoring_could_not_read(tmp_path):
    write_images(tmp_path, {"Bag": 4}, difficulty=lambda name, index: [0.1, None, 0.3, 0.4][index])
    with pytest.raises(ValueError, match=r"1 of 4 images .* no difficulty .*00001\.png.*skip_unscored=True"):
        subsample(read_pool(tmp_path), 4, method="random")
    every = subsample(read_pool(tmp_path), 4, method="herding", features=np.eye(4))  # which all have been read
    assert sorted(every.indices) == [0, 1, 2, 3]


def test_difficulties_of_several_scorers_are_warned_of(tmp_path, caplog):
    pool = scored_pool(tmp_path)
    scorers = ["error_probability by A", "entropy by B"] * 20
    mixed = replace(pool, rows=[row | {"difficulty_by": by} for row, by in zip(pool.rows, scorers, strict=True)])
    subsample(mixed, 5, method="random")
    assert not caplog.text
    subsample(mixed, 5, method="hardest")
    assert all(name in caplog.text for name in ("error_probability by A", "entropy by B"))


@pytest.mark.parametrize("method", ["random", "k-center", "herding"])
def test_baselines_leave_out_the_same_images(tmp_path, method):
    write_images(tmp_path, {"Bag": 4}, difficulty=lambda name, index: [0.1, None, 0.3, 0.4][index])
    features = np.array([[1.0, 0], [np.nan, np.nan], [0, 1], [1, 1]])  # of an unreadable image there are none
    chosen = subsample(read_pool(tmp_path), 3, method=method, features=features, skip_unscored=True)
    assert sorted(chosen.indices) == [0, 2, 3]
    if method != "random":
        with pytest.raises(ValueError, match=r"those of 1 are not finite.*skip_unscored=True"):
            select([0.1, 0.2, 0.3, 0.4], 3, method=method, features=features)


def test_nested_sets_search_their_own_thresholds_as_released():
    values = 1 / (1 + np.exp(-np.random.default_rng(0).normal(-4, 2, 250)))
    rule = SelectionRule("histogram", search="ipc")
    found = select(values, [10, 50], method=rule, target="hill")
    assert found[10].thresholds == select(values, 10, method=rule, target="hill").thresholds


HILL, EVENLY = TargetDistribution.preset("hill"), SelectionRule("random", evenly="mode")


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([0.1, 0.2], {"ipc": 3}, "generate more or lower ipc"),
        ([], {"ipc": 1}, "has 0 images"),
        ([0.1], {"ipc": 0}, "at least 1"),
        ([0.1], {"ipc": []}, "at least 1"),
        ([0.1], {"ipc": True}, "at least 1"),
        ([0.1], {"ipc": 1.0}, "at least 1"),
        ([0.1, 0.2], {"ipc": 1, "names": ["a"]}, "2 difficulties but 1 names"),
        ([0.1, 0.2], {"ipc": 1, "method": "random", "features": np.zeros((1, 2))}, r"\(2, dim\)"),
        ([0.1, 0.2], {"ipc": 1, "method": "herding", "features": np.zeros(2)}, r"\(2, dim\)"),
        ([[0.1], [0.2]], {"ipc": 1}, "one number an image"),
        ([0.1, float("nan")], {"ipc": 1}, "number 1 is nan"),
        ([0.1, 1.5], {"ipc": 1}, r"number 1 is 1\.5"),
        ([0.1], {"ipc": 1, "target": None}, "needs a target"),
        ([0.1], {"ipc": 1, "target": None, "method": "matching"}, "needs a target"),
        ([0.1], {"ipc": 1, "method": "herding"}, "needs finite features"),
        ([0.1], {"ipc": 1, "method": "herding", "features": np.full((1, 2), np.nan)}, "needs finite features"),
        ([0.1], {"ipc": 1, "method": "k-center", "features": np.zeros((2, 2))}, r"\(2, 2\)"),
        (
            [0.1],
            {"ipc": 1, "method": SelectionRule("matching", diversity="k-center")},
            "k-center needs finite features",
        ),
    ],
)
def test_bad_input_is_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        select(values, **({"target": HILL} | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "best"}, "choose one of histogram"),
        ({"search": "all"}, "'pool'"),
        ({"clipping": "none"}, "'counts'"),
        ({"scale": "sqrt"}, "'raw'"),
        ({"diversity": "yes"}, "k-center"),
        ({"tolerance": -1, "method": "matching"}, "lies in"),
        ({"diversity": "k-center", "method": "histogram"}, "belongs to matching"),
    ],
)
def test_bad_rule_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SelectionRule(**options)


def test_class_with_too_few_images_is_named(tmp_path):
    pool = scored_pool(tmp_path, {"Bag": 20, "Coat": 2})
    with pytest.raises(ValueError, match="class 'Coat'"):
        subsample(pool, 5, target="hill")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": [0]}, r"difficulties \(2,\) but labels \(1,\)"),
        ({"labels": [0, -1]}, "from 0 on"),
        ({"labels": [0.5, 1]}, "from 0 on"),
        ({"labels": [0, 3], "class_names": {0: "Bag"}}, r"labels \[3\] have no class name"),
        ({"seed": -1}, "at least 0"),
        ({"features": np.zeros((3, 2))}, r"\(2, dim\)"),
        ({"features": np.zeros((1, 2))}, r"\(2, dim\)"),
        ({"method": EVENLY, "groups": ["a", "b", "c"]}, r"groups has the shape \(3,\) for 2 images"),
        ({"method": EVENLY, "groups": ["a"]}, r"groups has the shape \(1,\) for 2 images"),
        ({"method": EVENLY}, "needs the groups of all 2 images"),
        ({"method": "cao2", "correct": [True] * 3}, r"correct has the shape \(3,\) for 2 images"),
        ({"method": "cao2", "correct": [True]}, r"correct has the shape \(1,\) for 2 images"),
    ],
)
def test_what_does_not_fit_plain_difficulties_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        subsample([0.1, 0.2], 1, target="hill", **options)


@pytest.mark.parametrize("options", [{"target": 0.5}, {"method": "random"}])
def test_no_images_at_all_are_refused(tmp_path, options):
    for none in ([], scored_pool(tmp_path).select([])):
        with pytest.raises(ValueError, match="no images to choose from"):
            subsample(none, 2, **options)


def test_labels_of_a_pool_are_its_own(tmp_path):
    with pytest.raises(ValueError, match="of its own"):
        subsample(scored_pool(tmp_path), 1, target="hill", labels=[0] * 40)


def test_path_of_a_pool_will_do(tmp_path):
    pool = scored_pool(tmp_path)
    assert np.array_equal(subsample(tmp_path, 3, target="hill").indices, subsample(pool, 3, target="hill").indices)


def test_same_ipc_twice_is_one_set():
    found = subsample([0.1, 0.2, 0.3], [2, 2], target="hill")
    assert list(found) == [2]
    assert len(set(found[2].indices.tolist())) == 2


def test_two_classes_of_one_name_keep_their_own_targets():
    """ImageNet has two cranes: the bird and the machine."""
    labels, difficulties = np.repeat([134, 517], 20), np.r_[np.linspace(0, 0.1, 20), np.linspace(0.8, 0.9, 20)]
    target = TargetDistribution.per_class(
        {"crane": TargetDistribution.constant(0.05), "crane_517": TargetDistribution.constant(0.85)}
    )
    names = {134: "crane", 517: "crane"}
    chosen = subsample(difficulties, 2, labels=labels, class_names=names, target=target, method="matching")
    assert chosen.distance < 0.01
    assert [row["class"] for row in chosen.report] == ["crane", "crane_517"]


def test_unscored_pool_says_how_to_score_it_but_random_needs_no_scores(tmp_path):
    write_images(tmp_path, {"Bag": 3})
    with pytest.raises(ValueError, match=r"score_and_record\(\)"):
        subsample(read_pool(tmp_path), 1, target="hill")
    assert len(subsample(read_pool(tmp_path), 2, method="random").indices) == 2


def test_nothing_is_remembered_of_an_earlier_pool_in_the_same_folder(tmp_path):
    """A peer keys its thresholds by the folder's name alone, so that a new pool is cut by those of the old one."""
    counts, generator = {"20": 40}, np.random.default_rng(0)  # nor does a name of digits go astray
    laws = (lambda: float(generator.beta(0.3, 6)), lambda: float(generator.beta(6, 0.3)))
    found = []
    for law in laws:
        write_images(tmp_path, counts, difficulty=lambda name, index, law=law: law())
        found.append(subsample(read_pool(tmp_path), 10, target="hill").classes[0])
    again = select(read_pool(tmp_path).difficulties, 10, target="hill")
    assert found[1].thresholds == again.thresholds
    assert found[0].scale != found[1].scale


def test_what_a_notebook_shows_is_a_line_however_many_images_there_are():
    pool, modes, target = read_pool(embedded.REFERENCE), Modes.load(embedded.MODES), as_target("reference", {0: "Bag"})
    chosen = subsample(pool, 2, target="hill")
    assert re.search(r"'.*reference.*', [\d,]+ images of 10 classes\)$", repr(pool))
    assert re.fullmatch(r"PoolSelection\(20 images of 10 classes by matching, Wasserstein-1 .* 0\.\d+\)", repr(chosen))
    assert repr(modes) == "Modes(500 modes of 10 classes, latents 4 x 8 x 8)"
    assert (repr(target), repr(as_target("beta:0.3,3"))) == ("Reference('reference')", "Curve('beta:0.3,3')")
    assert len(repr([pool, chosen, modes, target])) < 1000
