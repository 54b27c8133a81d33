"""CaO2's selection and ``correct_only``: images that the classifier gets right, and a word where they are too few."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny import tiny_classifier, write_images

from dag_diffusion import SelectionRule, read_pool, score_and_record, select, subsample
from dag_diffusion.data.files import json_lines
from dag_diffusion.reporting.reproduction import commands_for
from dag_diffusion.sampling.rules.paper_rule import Histogram
from dag_diffusion.sampling.rules.rule import Goal
from dag_diffusion.sampling.selection import RULES
from dag_diffusion.sampling.targets import TargetDistribution

DIFFICULTIES = np.array([0.7, 0.1, 0.9, 0.3, 0.45, 0.2])
RIGHT = np.array([True, True, False, True, False, True])  # the first with less than half of the probability
pools = arrays(float, st.integers(1, 40), elements=st.floats(0, 1))


def chosen(ipc, method="cao2", difficulties=DIFFICULTIES, correct=RIGHT, **options):
    rule = SelectionRule(method, **options)
    return select(difficulties, ipc, target="uniform", method=rule, correct=correct)


def test_most_confident_are_taken_for_small_sets_and_least_confident_for_large_ones():
    assert chosen(2).indices.tolist() == [1, 5]
    assert chosen(2, hard_from=2).indices.tolist() == [0, 3]
    many = np.linspace(0, 0.4, 100)
    assert sorted(chosen(49, difficulties=many, correct=None).indices) == list(range(49))
    assert sorted(chosen(50, difficulties=many, correct=None).indices) == list(range(50, 100))


def test_missing_ones_are_filled_by_the_wrong_in_order_of_confidence():
    found = chosen(5)
    assert found.indices.tolist() == [1, 5, 3, 0, 4]
    assert found.wrong == 1
    assert chosen(5, hard_from=1).indices.tolist() == [0, 3, 5, 1, 4]
    nothing_right = chosen(2, correct=np.zeros(6, bool))
    assert nothing_right.indices.tolist() == [1, 5]
    assert nothing_right.wrong == 2


def test_smaller_set_lies_within_the_larger_one():
    for end in (1, 5):
        nested = chosen([2, 4], hard_from=end)
        assert set(nested[2].indices) < set(nested[4].indices)
        assert set(nested[2].indices) == set(chosen(2, hard_from=end).indices)


def test_sets_of_both_ends_are_refused_as_nested_sets():
    """The smaller one was chosen within the larger: of the hardest images instead of the easiest."""
    for call in (select, subsample):
        with pytest.raises(ValueError, match=r"^cao2 takes .* of 10 and 50 cannot be nested; choose each alone"):
            call(np.linspace(0, 0.4, 100), [50, 10], method="cao2")


@pytest.mark.parametrize("method", RULES)
@given(values=pools, data=st.data())
def test_every_rule_takes_wrong_images_only_where_the_right_ones_end(method, values, data):
    right = data.draw(arrays(bool, len(values)))
    ipc = data.draw(st.integers(1, len(values)))
    options = {"target": "uniform", "features": np.stack([values, values**2], 1), "correct": right}
    found = select(values, ipc, method=SelectionRule(method, correct_only=True), **options)
    missing = max(0, ipc - right.sum())
    assert len(set(found.indices.tolist())) == ipc
    assert found.wrong == (~right[found.indices]).sum() == missing
    wrong = np.sort(values[~right])
    assert np.sort(values[found.indices][~right[found.indices]]).tolist() == wrong[:missing].tolist()


@pytest.mark.parametrize("method", RULES)
@given(values=pools, data=st.data())
def test_filter_chooses_as_the_rule_alone_would_among_the_right_images(method, values, data):
    right = data.draw(arrays(bool, len(values)).filter(np.any))
    ipc, kept = data.draw(st.integers(1, int(right.sum()))), np.flatnonzero(right)
    features = np.stack([np.sin(9 * values), np.cos(7 * values)], 1)
    filtered = SelectionRule(method, correct_only=True)
    found = select(values, ipc, target="hill", method=filtered, features=features, correct=right)
    alone = {"features": features[kept], "correct": right[kept], "method": method}
    assert found.indices.tolist() == kept[select(values[kept], ipc, target="hill", **alone).indices].tolist()


@given(values=pools, data=st.data())
def test_filtered_sets_are_nested(values, data):
    sizes = sorted(data.draw(st.sets(st.integers(1, len(values)), min_size=1, max_size=3)))
    nested = select(values, sizes, target="slope", method=SelectionRule(correct_only=True))
    for small, large in pairwise(sizes):
        assert set(nested[small].indices) <= set(nested[large].indices)


def test_evenly_over_the_modes_among_what_is_right():
    difficulties, modes = np.array([0.1, 0.9, 0.2, 0.3, 0.4, 0.45]), ["a", "a", "b", "b", "c", "c"]
    for rule in (SelectionRule("cao2", evenly="mode"), SelectionRule("easiest", evenly="mode", correct_only=True)):
        assert sorted(select(difficulties, 3, method=rule, groups=modes).indices) == [0, 2, 4]


def test_difficulty_tells_only_where_the_class_has_more_than_half():
    assert select([0.49, 0.51], 1, method=SelectionRule("hardest", correct_only=True)).indices.tolist() == [0]


def test_rows_tell_what_difficulty_cannot(tmp_path, caplog):
    rows = write_images(tmp_path, {"Bag": 4, "Coat": 4}, difficulty=lambda name, index: 0.3 + index / 10)
    told = [row | {"correct": row["file_name"] not in ("Bag/00000.png", "Coat/00003.png")} for row in rows]
    (tmp_path / "metadata.jsonl").write_bytes(json_lines(told))
    found = subsample(tmp_path, 3, method="cao2")
    names = {found.pool.rows[i]["file_name"] for i in found.indices}
    assert names == {f"Bag/0000{i}.png" for i in (1, 2, 3)} | {f"Coat/0000{i}.png" for i in (0, 1, 2)}
    assert not caplog.records
    assert [row["wrong"] for row in found.report] == [0, 0]
    (tmp_path / "metadata.jsonl").write_bytes(json_lines(rows))  # of an earlier version: two of each below 1/2
    found = subsample(tmp_path, 3, method=SelectionRule("random", correct_only=True))
    assert [row["wrong"] for row in found.report] == [1, 1]
    assert "2 of 2 classes have too few images that the classifier gets right, such as 'Bag'" in caplog.text


@pytest.mark.parametrize(("yes", "no"), [("True", "False"), ("true", "FALSE"), (1, 0), (1.0, 0.0), ("1", "0")])
@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_rows_tell_it_in_every_way_that_tables_write_it(tmp_path, name, yes, no):
    rows = write_images(tmp_path, {"Bag": 4, "Coat": 4}, difficulty=lambda name, index: index / 10)
    told = [row | {"correct": yes if row["difficulty"] >= 0.2 else no} for row in rows]
    (tmp_path / "metadata.jsonl").unlink()
    lines = [",".join(told[0]), *(",".join(map(str, row.values())) for row in told)]
    (tmp_path / name).write_bytes("\n".join(lines).encode() if name.endswith("csv") else json_lines(told))
    found = subsample(tmp_path, 2, method="cao2")
    assert found.pool.known_difficulties[found.indices].tolist() == [0.2, 0.3] * 2


def test_what_is_neither_right_nor_wrong_is_refused(tmp_path):
    rows = write_images(tmp_path, {"Bag": 2}, difficulty=lambda name, index: index / 10)
    (tmp_path / "metadata.jsonl").write_bytes(json_lines([rows[0], rows[1] | {"correct": "perhaps"}]))
    with pytest.raises(ValueError, match=r"Bag/00001\.png has 'perhaps' in its column correct; it must be true or"):
        subsample(tmp_path, 1, method="cao2")


def test_measure_that_does_not_tell_is_refused_until_rows_do(tmp_path):
    write_images(tmp_path, {"Bag": 3, "T-shirt": 3})
    guide = {"guide": tiny_classifier()}
    score_and_record(read_pool(tmp_path), guide, measure="entropy")
    with pytest.raises(ValueError, match=r"do not say whether the classifier gets them right, and entropy does not"):
        subsample(tmp_path, 2, method="cao2")
    score_and_record(read_pool(tmp_path), guide, measure="el2n")
    subsample(tmp_path, 2, method="cao2")
    score_and_record(read_pool(tmp_path), guide, measure="entropy")
    assert {row["correct"] for row in read_pool(tmp_path).rows} == {None}  # of the measure before


def test_other_numbers_and_shapes_are_refused():
    for wrong in ([True], np.ones(6), ["yes"] * 6):
        with pytest.raises(ValueError, match="give True or False for each of them"):
            chosen(2, correct=wrong)
    with pytest.raises(ValueError, match="give at least 1"):
        SelectionRule("cao2", hard_from=0)
    with pytest.raises(ValueError, match="hard_from belongs to cao2, not to matching"):
        SelectionRule(hard_from=20)


def test_report_repeats_the_options(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 3, "Coat": 3}, difficulty=lambda name, index: index / 10)
    rule = SelectionRule("easiest", correct_only=True)
    made = subsample(tmp_path / "pool", 2, method=rule, target="hill").save(tmp_path / "set")
    assert commands_for([(tmp_path / "set", made)])[-1].endswith("--method easiest --correct-only --seed 0")


def test_too_few_right_images_are_counted_against_what_the_rule_itself_wants():
    generator = np.random.default_rng(0)
    pool, reference = (1 / (1 + np.exp(-generator.normal(-4, 2, n))) for n in (250, 1300))
    target, correct = TargetDistribution.from_reference(reference), np.arange(250) < 20
    for clipping in ("counts", "values"):
        rule = SelectionRule("histogram", clipping=clipping, correct_only=True)
        few = select(pool, 50, target=target, method=rule, correct=correct)
        own = Histogram(clipping).quotas(
            Goal(target=target, class_name="", ipc=50, scale=few.scale, thresholds=few.thresholds)
        )
        assert few.quotas == tuple(own.tolist())
