"""Sums and comparisons of trainings: pairs by seed, intervals that cover, and no more false alarms than promised."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from dag_diffusion.evaluation.comparisons import Paired, holm, paired, summarise
from dag_diffusion.evaluation.results import Result

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


class TestPairs:
    @given(
        pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=10),
        seed=st.integers(0, 9),
    )
    def test_interval_and_p_value_are_those_of_scipy_s_paired_t_test(self, pairs, seed):
        ours, theirs = np.array(pairs).T + np.random.default_rng(seed).normal(0, 0.01, (2, len(pairs)))
        found, expected = paired(ours, theirs), stats.ttest_rel(ours, theirs)
        assert found.p_value == pytest.approx(expected.pvalue)
        assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))

    @given(
        pairs=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), min_size=2, max_size=10),
    )
    def test_interval_and_p_value_are_those_of_the_formula(self, pairs):
        ours, theirs = np.array(pairs).T / 10_000  # accuracies on 10,000 test images
        differences, count = ours - theirs, len(pairs)
        error = differences.std(ddof=1) / np.sqrt(count)
        found, half = paired(ours, theirs), stats.t.ppf(0.975, count - 1) * error
        assert found.difference == pytest.approx(differences.mean())
        assume(error > 1e-6)  # equal differences have no interval
        assert found.interval == pytest.approx((differences.mean() - half, differences.mean() + half), abs=1e-12)
        assert found.p_value == pytest.approx(2 * stats.t.sf(abs(differences.mean()) / error, count - 1))

    def test_intervals_cover_the_truth_in_95_of_100_experiments(self):
        generator = np.random.default_rng(0)
        shared = generator.normal(0.7, 0.05, (1000, 5))  # what a seed does to both sets alike
        ours = shared + 0.02 + generator.normal(0, 0.01, (1000, 5))
        intervals = [paired(a, b).interval for a, b in zip(ours, shared, strict=True)]
        covered = np.mean([low <= 0.02 <= high for low, high in intervals])
        assert covered == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 1000))

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize(
        ("ours", "theirs", "difference"),
        [([0.5, 0.75], [0.25, 0.5], 0.25), ([0.7, 0.8, 0.9], [0.6, 0.7, 0.8], 0.1), ([0.6, 0.7], [0.7, 0.8], -0.1)],
    )
    def test_equal_differences_have_neither_interval_nor_p_value(self, ours, theirs, difference):
        found = paired(ours, theirs)
        assert found.difference == pytest.approx(difference)
        assert (found.interval, found.p_value) == (None, None)

    def test_equal_accuracies_do_not_differ(self):
        assert paired([0.5, 0.75], [0.5, 0.75]) == Paired(difference=0, interval=(0, 0), p_value=1)

    def test_one_pair_has_neither_interval_nor_p_value(self):
        found = paired([0.5], [0.25])
        assert (found.difference, found.interval, found.p_value) == (0.25, None, None)


class TestHolm:
    @given(P_VALUES)
    def test_is_the_largest_multiple_of_any_smaller_p_value(self, given_values):
        ordered, count = sorted(given_values), len(given_values)
        for value, corrected in zip(given_values, holm(given_values), strict=True):
            rank = ordered.index(value)  # of equal values the first, and its multiple is the largest
            expected = max(min(1, (count - j) * ordered[j]) for j in range(rank + 1))
            assert corrected == pytest.approx(expected)

    @given(P_VALUES)
    def test_corrected_values_are_no_smaller_and_keep_their_order(self, given_values):
        corrected = holm(given_values)
        assert (corrected >= given_values).all()
        assert (corrected <= 1).all()
        order = np.argsort(given_values, kind="stable")
        assert (np.diff(corrected[order]) >= 0).all()

    def test_known_example(self):
        np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])

    def test_of_many_true_nulls_one_table_in_twenty_raises_a_false_alarm(self):
        p_values = np.random.default_rng(1).uniform(size=(2000, 10))
        alarms = np.mean([holm(table).min() < 0.05 for table in p_values])
        assert alarms == pytest.approx(0.05, abs=0.015)
        assert np.mean(p_values.min(1) < 0.05) > 0.3

    def test_nothing_compared_gives_nothing(self):
        assert holm([]).tolist() == []


class TestSummary:
    @staticmethod
    def results(name, accuracies, network="convnet-3"):
        return [
            Result(
                set=name,
                network=network,
                protocol="short",
                seed=seed,
                images_per_class=10.0,
                accuracy=value,
                seconds=1.0,
            )
            for seed, value in enumerate(accuracies)
        ]

    def test_tells_mean_deviation_and_number_of_seeds(self):
        row = summarise(self.results("random", [0.70, 0.72, 0.74]), "random")[0]
        assert (row.set, row.network, row.protocol, row.seeds) == ("random", "convnet-3", "short", 3)
        assert (row.mean, row.std) == pytest.approx((0.72, 0.02))
        assert (row.difference, row.interval) == (0, (0, 0))

    @given(
        pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=10),
        seed=st.integers(0, 9),
    )
    def test_zero_is_outside_the_interval_exactly_when_a_paired_t_test_says_so(self, pairs, seed):
        ours, theirs = np.array(pairs).T + np.random.default_rng(seed).normal(0, 0.01, (2, len(pairs)))
        row = summarise(self.results("dgs", ours) + self.results("random", theirs), "random")[0]
        low, high = row.interval
        assert low <= row.difference <= high
        assert row.difference == pytest.approx(np.mean(ours - theirs))
        assert (low > 0 or high < 0) == (stats.ttest_rel(ours, theirs).pvalue < 0.05)

    def test_pairs_by_seed_and_not_by_order(self):
        results = self.results("dgs", [0.8, 0.7, 0.6])[::-1] + self.results("random", [0.7, 0.6, 0.4])
        assert summarise(results, "random")[0].interval == paired([0.8, 0.7, 0.6], [0.7, 0.6, 0.4]).interval

    def test_one_seed_has_no_interval(self):
        row = summarise(self.results("dgs", [0.8]) + self.results("random", [0.7]), "random")[0]
        assert (row.std, row.interval) == (None, None)
        assert row.difference == pytest.approx(0.1)

    def test_networks_are_compared_each_with_its_own_baseline(self):
        small = self.results("dgs", [0.5, 0.5], "convnet-1") + self.results("random", [0.4, 0.4], "convnet-1")
        large = self.results("dgs", [0.9, 0.9]) + self.results("random", [0.6, 0.6])
        differences = {(row.set, row.network): row.difference for row in summarise(small + large, "random")}
        assert differences[("dgs", "convnet-1")] == pytest.approx(0.1)
        assert differences[("dgs", "convnet-3")] == pytest.approx(0.3)

    def test_a_missing_baseline_or_seed_is_named(self):
        with pytest.raises(ValueError, match=r"seeds \[0, 1\], but the baseline 'random' has \[\]"):
            summarise(self.results("dgs", [0.8, 0.7]), "random")
        with pytest.raises(ValueError, match=r"seeds \[0, 1\], but the baseline 'random' has \[0\]"):
            summarise(self.results("dgs", [0.8, 0.7]) + self.results("random", [0.7]), "random")

    def test_a_seed_that_is_there_twice_is_refused(self):
        twice = self.results("random", [0.8, 0.7]) * 2
        with pytest.raises(ValueError, match="once each"):
            summarise(twice, "random")

    def test_the_same_name_with_soft_labels_is_another_row(self):
        soft = [replace(one, labels="soft") for one in self.results("dgs", [0.9, 0.9])]
        rows = summarise(self.results("dgs", [0.5, 0.7]) + soft, "dgs")
        assert [(row.labels, row.mean) for row in rows] == [("hard", pytest.approx(0.6)), ("soft", pytest.approx(0.9))]

    def test_each_set_may_have_its_own_baseline_or_none(self):
        results = [
            r
            for name, values in {"a": [0.4, 0.5], "b": [0.6, 0.8], "all": [0.9, 0.9]}.items()
            for r in self.results(name, values)
        ]
        rows = {row.set: row for row in summarise(results, {"a": "a", "b": "a"})}
        assert rows["b"].difference == pytest.approx(0.25)
        assert rows["b"].baseline == "a"
        assert (rows["all"].difference, rows["all"].interval, rows["all"].p_value) == (None, None, None)

    def test_a_baseline_of_its_own_that_was_not_trained_leaves_a_set_uncompared(self):
        row = summarise(self.results("b", [0.6, 0.8]), {"b": "a"})[0]
        assert (row.mean, row.difference) == (pytest.approx(0.7), None)

    def test_all_rows_summed_up_together_share_one_correction(self):
        results = [
            r
            for name, values in {"r": [0.4, 0.5, 0.5], "b": [0.6, 0.8, 0.7], "c": [0.5, 0.5, 0.6]}.items()
            for r in self.results(name, values)
        ]
        rows = [row for row in summarise(results, "r") if row.set != "r"]
        assert [row.corrected for row in rows] == pytest.approx(holm([row.p_value for row in rows]).tolist())
        assert rows[0].corrected == pytest.approx(2 * rows[0].p_value)

    def test_image_sets_are_counted_apart_from_trainings(self):
        fixed = self.results("dgs", [0.8] * 6)
        drawn = [replace(one, draw=one.seed) for one in self.results("random", [0.7] * 6)]
        assert [row.trainings for row in summarise(fixed + drawn, "random")] == ["1 x 6", "6 x 1"]

    def test_best_look_is_told_only_where_every_training_was_looked_at(self):
        looked = [
            Result(
                set="a",
                network="convnet-3",
                protocol="short",
                seed=seed,
                images_per_class=10.0,
                accuracy=0.7,
                seconds=1.0,
                best=0.8,
            )
            for seed in range(2)
        ]
        assert summarise(looked, "a")[0].best == pytest.approx(0.8)
        assert summarise([*looked, *self.results("a", [0, 0, 0.7])[2:]], "a")[0].best is None
