"""DD-Ranking's scores: the published equations, on fractions, in pairs of equal seed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dag_diffusion.evaluation.dd_ranking import scores, without_augmentation
from dag_diffusion.evaluation.protocols import PROTOCOLS
from dag_diffusion.evaluation.results import Result
from dag_diffusion.evaluation.tables import accuracy_table, evaluation_tables, networks_table, ranking_table

FRACTIONS = st.floats(0, 1)


def series(name, accuracies, *, network="convnet-3", protocol="hard-label", labels="hard", **options):
    return [
        Result(
            set=name,
            network=network,
            protocol=protocol,
            seed=seed,
            images_per_class=10.0,
            accuracy=value,
            seconds=1.0,
            labels=labels,
            **options,
        )
        for seed, value in enumerate(accuracies)
    ]


def robust(exponent):
    """``(e^a - e^-1) / (e - e^-1)``."""
    return (math.exp(exponent) - math.exp(-1)) / (math.e - math.exp(-1))


def label_robust(ours, random, real, **options):
    results = [*series("dgs", [ours]), *series("random", [random]), *series("all", [real])]
    return scores(results, {"dgs": "random"}, "all", **options)[0].label_robust


class TestEquations:
    def test_label_robust_score_of_the_paper_s_ends(self):
        assert label_robust(ours=1, random=0, real=0) == pytest.approx(1)
        assert label_robust(ours=0, random=1, real=1) == pytest.approx(0)
        assert label_robust(ours=0.5, random=0.5, real=0.5) == pytest.approx(robust(0))

    @pytest.mark.parametrize("wrong", [{"ours": 70, "random": 60, "real": 90}, {"weight": 50}])
    def test_percents_are_refused_since_they_saturate_the_exponent(self, wrong):
        with pytest.raises(ValueError, match=r"percents"):
            label_robust(**{"ours": 0.7, "random": 0.6, "real": 0.9} | wrong)

    @given(FRACTIONS, FRACTIONS, FRACTIONS, FRACTIONS)
    def test_scores_are_fractions_that_rise_with_improvement_and_fall_with_loss(self, ours, random, real, weight):
        score = label_robust(ours, random, real, weight=weight)
        assert -1e-12 <= score <= 1 + 1e-12
        assert label_robust(ours, random / 2, real, weight=weight) >= score
        assert label_robust(ours, random, (1 + real) / 2, weight=weight) <= score


class TestScores:
    def test_are_those_of_the_mean_accuracies(self):
        results = [
            *series("dgs", [0.70, 0.74]),
            *series("random", [0.60, 0.62]),
            *series("all", [0.90, 0.92]),
            *series("dgs", [0.50, 0.52], protocol="hard-label, no augmentation"),
            *series("random", [0.45, 0.45], protocol="hard-label, no augmentation"),
        ]
        (found,) = scores(results, {"dgs": "random", "random": "random"}, "all")
        assert (found.set, found.seeds) == ("dgs", 2)
        assert found.recovery == pytest.approx(0.91 - 0.72)
        assert found.improvement == pytest.approx(0.72 - 0.61)
        assert found.label_robust == pytest.approx(robust((0.11 - 0.19) / 2))
        assert found.augmentation_robust == pytest.approx(robust((0.11 + 0.06) / 2))
        assert found.label_interval[0] < found.label_robust < found.label_interval[1]

    def test_soft_labels_improve_with_soft_and_recover_with_hard(self):
        results = [
            *series("dgs", [0.8, 0.8], labels="soft"),
            *series("random", [0.7, 0.7], labels="soft"),
            *series("dgs", [0.5, 0.5]),
            *series("random", [0.5, 0.5]),
            *series("all", [0.9, 0.9]),
        ]
        soft = next(score for score in scores(results, {"dgs": "random"}, "all") if score.labels == "soft")
        assert (soft.improvement, soft.recovery) == (pytest.approx(0.1), pytest.approx(0.4))

    def test_what_was_not_trained_is_left_open(self):
        (found,) = scores([*series("dgs", [0.7]), *series("random", [0.6])], {"dgs": "random"})
        assert (found.recovery, found.label_robust, found.augmentation_robust) == (None, None, None)
        assert found.improvement == pytest.approx(0.1)
        assert ranking_table([found]).rows[0][:5] == ["dgs", "convnet-3", "hard", "", "+10.0"]

    def test_other_seeds_are_refused(self):
        with pytest.raises(ValueError, match="cannot be paired"):
            scores([*series("dgs", [0.7]), *series("random", [0.6, 0.5])], {"dgs": "random"})


def test_protocol_without_augmentation_differs_in_nothing_else():
    plain = without_augmentation(PROTOCOLS["hard-label"])
    assert (plain.flip, plain.crop_scale, plain.cutmix, plain.color_jitter, plain.lighting) == (False, None, 0, 0, 0)
    assert (plain.epochs, plain.batch_size) == (PROTOCOLS["hard-label"].epochs, PROTOCOLS["hard-label"].batch_size)
    assert plain.name != "hard-label"


def test_a_protocol_that_augments_nothing_has_no_such_twin():
    with pytest.raises(ValueError, match="augments nothing"):
        without_augmentation(PROTOCOLS["classic"])


class TestTables:
    RESULTS = (
        *series("random", [0.60, 0.62], draw=0, epochs=9, test="10 of real"),
        *series("dgs", [0.70, 0.74], epochs=9, test="10 of real"),
    )

    def test_rows_are_sets_and_columns_networks(self):
        other = series("dgs", [0.5, 0.5], network="resnet-18", epochs=9, test="10 of real")
        table = networks_table([*self.RESULTS, *other])
        assert table.columns == ["trained on", "IPC", "sets x runs", "convnet-3", "resnet-18"]
        assert table.rows[0] == ["random", "10", "1 x 2", "61.0 ± 1.4", ""]
        assert table.rows[1] == ["dgs", "10", "1 x 2", "72.0 ± 2.8", "50.0 ± 0.0"]

    def test_notes_say_test_images_labels_epoch_and_protocol(self):
        note = accuracy_table(self.RESULTS, baseline="random").note
        for said in ("10 of real", "hard labels", "hard-label", "last epoch (9)", "difference to random", "paired by"):
            assert said in note

    def test_hard_and_soft_results_are_refused_in_one_table(self):
        mixed = [*self.RESULTS, *series("dgs", [0.9, 0.9], labels="soft", test="10 of real")]
        for table in (lambda: networks_table(mixed), lambda: accuracy_table(mixed, baseline="dgs")):
            with pytest.raises(ValueError, match="one table cannot hold"):
                table()
        assert len(evaluation_tables(mixed, "dgs")) == 2

    def test_best_looks_have_a_column_of_their_own_with_a_warning(self):
        looked = series("dgs", [0.7, 0.7], best=0.75)
        table = accuracy_table(looked, baseline="dgs")
        assert table.rows[0][table.columns.index("best look, %")] == "75.0"
        assert "chosen on the test set itself" in table.note
        assert "best look, %" not in accuracy_table(self.RESULTS, baseline="random").columns

    def test_differences_and_corrected_p_values_are_those_of_the_comparison(self):
        table = accuracy_table(
            [*self.RESULTS, *series("all", [0.9, 0.9], test="10 of real")], baseline={"dgs": "random"}
        )
        cells = dict(zip(table.columns, table.rows[1], strict=True))
        assert (cells["difference"], cells["95 % interval"]) == ("+11.0", "-1.7 to +23.7")
        assert cells["p, Holm"] == "0.058"
        assert table.rows[2][-3:] == ["", "", ""]
