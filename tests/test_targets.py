"""Targets: shapes for any IPC, curves, references, mixtures, and another one for each class."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from dag_diffusion.sampling.auto_target import AutoTarget
from dag_diffusion.sampling.scales import BINS, LogScale, RawScale
from dag_diffusion.sampling.target_parser import as_target
from dag_diffusion.sampling.targets import PRESETS, TargetDistribution, even_levels, largest_remainder

difficulties = arrays(float, st.integers(1, 60), elements=st.floats(0, 1))
SCALE = LogScale(1e-3, 1.0)
TARGETS = [
    TargetDistribution.preset("hill"),
    TargetDistribution.from_reference({"Bag": np.linspace(0, 1, 37) ** 3}),
    TargetDistribution.from_reference([0.1, 0.2, 0.7]),
    TargetDistribution.histogram([1, 2, 0], [0, 0.1, 0.5, 1]),
    TargetDistribution.quantiles([0, 0.01, 0.3]),
    TargetDistribution.uniform(0.2, 0.4),
    TargetDistribution.beta(0.3, 3),
    TargetDistribution.constant(0.5),
    TargetDistribution.mixture([TargetDistribution.preset("cliff"), TargetDistribution.uniform()], [3, 1]),
    TargetDistribution.per_class({"Bag": TargetDistribution.preset("slope")}),
]
each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@each_target
def test_values_rise_within_the_unit_interval_and_quotas_sum(target):
    values = target.values("Bag", SCALE)
    assert ((values >= 0) & (values <= 1)).all()
    assert (np.diff(values) >= 0).all()
    for scale in (SCALE, RawScale()):
        assert [target.quotas("Bag", ipc, scale).sum() for ipc in (1, 7, 50)] == [1, 7, 50]


@each_target
def test_target_is_recorded_in_json_and_only_a_shape_depends_on_the_scale(target):
    assert json.loads(json.dumps(target.summary()))["name"] == target.name
    moved = not np.array_equal(target.values("Bag", SCALE), target.values("Bag", LogScale(0.1, 0.5)))
    assert moved == target.relative


@pytest.mark.parametrize("target", [t for t in TARGETS if t.name != "reference"], ids=lambda target: target.name)
def test_recorded_target_is_the_same(target):
    again = TargetDistribution.from_summary(json.loads(json.dumps(target.summary())))
    assert again.values("Bag", SCALE).tolist() == target.values("Bag", SCALE).tolist()
    assert again.quotas("Bag", 20, SCALE).tolist() == target.quotas("Bag", 20, SCALE).tolist()
    assert again.summary() == target.summary()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (TargetDistribution.from_reference([0.5], text="real").summary(), r"as_target\('real'\)"),
        (None, "is damaged"),
        ({}, "is damaged"),
        ({"text": 5}, "is damaged"),
        ({"text": "/etc"}, "no folder, number or preset"),
        ({"name": "a", "levels": [0, 1], "difficulties": [0.5]}, "no difficulties in"),
        ({"name": "a", "levels": [0, 1], "difficulties": [0.5, 7]}, "no difficulties in"),
        ({"parts": [{"text": "hill"}], "weights": ["a"]}, "could not convert"),
        ({"classes": ["hill"]}, "is damaged"),
    ],
)
def test_record_of_real_images_or_of_no_target_is_refused(record, message):
    with pytest.raises(ValueError, match=message):
        TargetDistribution.from_summary(record)


@given(arrays(float, 10, elements=st.floats(0, 1)).filter(lambda a: a.sum() > 0), st.integers(0, 200))
def test_quotas_sum_and_are_nearest_whole_numbers(shares, total):
    counts = largest_remainder(shares, total)
    assert counts.sum() == total
    assert (np.abs(counts - shares / shares.sum() * total) < 1 + 1e-9).all()


@given(arrays(int, 10, elements=st.integers(0, 600)).filter(np.any), st.integers(0, 200))
@example(np.array([4, 10, 12, 2, 16, 13, 11, 16, 11, 5]), 20)
def test_ties_of_quotas_go_to_the_easier_bin(images, total):
    exact = [Fraction(int(count) * total, int(images.sum())) for count in images]
    wanted = [int(quota) for quota in exact]
    by_remainder = sorted(range(10), key=lambda bin: (wanted[bin] - exact[bin], bin))
    for easiest in by_remainder[: total - sum(wanted)]:
        wanted[easiest] += 1
    assert largest_remainder(images, total).tolist() == wanted


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("hill", "1 0 1 0 3 3 1 0 0 1"),
        ("hill", "1 1 1 2 5 5 2 1 1 1"),
        ("hill", "1 3 5 6 10 10 6 5 3 1"),
        ("ground", "1 1 1 1 1 1 1 1 1 1"),
        ("ground", "2 2 2 2 2 2 2 2 2 2"),
        ("ground", "5 5 5 5 5 5 5 5 5 5"),
        ("slope", "3 3 1 1 0 0 1 1 0 0"),
        ("slope", "5 5 2 2 1 1 1 1 1 1"),
        ("slope", "10 10 6 6 5 5 3 3 1 1"),
        ("cliff", "6 3 0 1 0 0 0 0 0 0"),
        ("cliff", "9 6 1 1 1 1 1 0 0 0"),
        ("cliff", "20 15 3 3 2 2 2 1 1 1"),
    ],
)
def test_preset_has_the_papers_counts(name, counts):
    wanted = [int(count) for count in counts.split()]
    assert TargetDistribution.preset(name).quotas("any", sum(wanted), SCALE).tolist() == wanted


@given(st.sampled_from(sorted(PRESETS)), st.integers(1, 300))
def test_preset_works_for_any_ipc(name, ipc):
    assert TargetDistribution.preset(name).quotas("any", ipc, SCALE).sum() == ipc


@given(difficulties, st.integers(1, 60), st.integers(0, 100), st.integers(0, 100))
def test_reference_gives_quotas_whatever_the_pools_thresholds(values, ipc, bottom, top):
    target = TargetDistribution.from_reference({"Bag": values})
    assert target.quotas("Bag", ipc, SCALE, (bottom, top)).sum() == ipc


def test_reference_is_clipped_by_its_own_images_or_binned_by_the_pools_scale():
    """The same thresholds mean other difficulties on a longer list: the paper's quotas drift to the hard side."""
    values = np.geomspace(1e-6, 1, 1300)
    target = TargetDistribution.from_reference(values)
    as_pool = target.quotas("any", 100, LogScale(1e-2, 1))
    as_paper = target.quotas("any", 100, LogScale(1e-2, 1), (20, 0))
    assert as_pool[0] == 70  # seven tenths of the reference are easier than the pool's second bin
    assert as_paper.tolist() == [11, 10, 10, 10, 10, 10, 10, 10, 10, 9]


def test_counts_are_reduced_only_where_a_reference_has_too_few_images():
    target = TargetDistribution.from_reference(np.geomspace(1e-6, 1, 30))
    assert target.quotas("any", 50, SCALE, (20, 2)).tolist()[0] == 35  # as the paper counts: 21 of 30 in the first bin
    assert target.quotas("any", 50, SCALE, (40, 2)).sum() == 50


@given(difficulties)
def test_steering_targets_of_a_reference_are_its_quantiles(values):
    wanted = TargetDistribution.from_reference({"Bag": values}).difficulties("Bag", len(values))
    assert (np.diff(wanted) >= 0).all()
    assert values.min() <= wanted[0]
    assert wanted[-1] <= values.max()


def test_steering_targets_of_a_shape_fill_its_bins():
    wanted = TargetDistribution.preset("cliff").difficulties("any", 50, SCALE)
    assert tuple(np.bincount(SCALE.bins(wanted), minlength=BINS)) == PRESETS["cliff"][50]


@pytest.mark.parametrize("target", ["mixture", "per class", "auto"])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7])
def test_no_image_is_steered_to_a_difficulty_between_the_parts_of_a_mixture(target, count):
    mixture = as_target("0.5*0.05 + 0.5*0.95")
    made = {
        "mixture": mixture,
        "per class": TargetDistribution.per_class({"Bag": mixture, "Coat": as_target("uniform")}),
        "auto": AutoTarget(mixture, ipc=64),  # which moves nothing
    }
    wanted = made[target].difficulties("Bag", count).tolist()
    assert wanted == [0.05] * (count - count // 2) + [0.95] * (count // 2)


def test_curves_have_the_distribution_that_they_are_named_after():
    values = TargetDistribution.beta(2, 5).values("any", SCALE)
    assert stats.kstest(values, stats.beta(2, 5).cdf).statistic < 0.002
    values = TargetDistribution.histogram([1, 3], [0, 0.5, 1]).values("any", SCALE)
    assert np.mean(values < 0.5) == pytest.approx(0.25)
    assert np.mean(values < 0.75) == pytest.approx(0.625, abs=1e-3)
    assert TargetDistribution.quantiles([0.1, 0.2, 0.9]).difficulties("any", 3)[1] == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize("text", ["0.5*hill + 0.5*slope", "0.3*hill + 0.7*beta:0.3,3"])
def test_targets_of_a_smooth_mixture_lie_straight_between_its_values(text):
    target = as_target(text)
    expected = np.quantile(target.values("any", SCALE), even_levels(50))  # as of pools of earlier versions
    assert target.difficulties("any", 50, SCALE).tolist() == expected.tolist()


@given(st.floats(0.05, 0.95))
def test_mixture_has_its_parts_in_their_shares(share):
    parts = [TargetDistribution.uniform(0, 0.1), TargetDistribution.from_reference([0.5, 0.9])]
    values = TargetDistribution.mixture(parts, [share, 1 - share]).values("any", SCALE)
    assert np.mean(values <= 0.1) == pytest.approx(share, abs=2e-3)
    assert np.mean(values == 0.9) == pytest.approx((1 - share) / 2, abs=2e-3)


def test_target_is_made_from_the_shortest_way_to_say_it():
    assert as_target("hill").name == "hill"
    assert as_target(0.25).values("any", SCALE).tolist() == [0.25]
    assert as_target({"Bag": [0.3, 0.1]}).values("Bag", SCALE).tolist() == [0.1, 0.3]
    target = TargetDistribution.uniform()
    assert as_target(target) is target
    assert as_target(np.float32(0.5)).values("any", SCALE).tolist() == [0.5]
    for nothing in (None, True):
        with pytest.raises(TypeError, match="name of a preset"):
            as_target(nothing)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TargetDistribution.preset("valley"), "choose hill"),
        (lambda: TargetDistribution.histogram([1, 2]), "needs 10"),
        (lambda: TargetDistribution.histogram([0.0] * 10), "needs 10"),
        (lambda: TargetDistribution.histogram([float("nan")] * 10), "needs 10"),
        (lambda: TargetDistribution.histogram([1, 2], [0, 0.5]), "needs 1"),
        (lambda: TargetDistribution.histogram([1, 2], [0, 0.5, 0.2]), "rise"),
        (lambda: TargetDistribution.quantiles([0.5]), "at least two"),
        (lambda: TargetDistribution.uniform(0.5, 1.5), "lie in"),
        (lambda: TargetDistribution.beta(0, 1), "two positive numbers"),
        (lambda: as_target("beta:1e308,1e308"), "^no quantiles of a beta target with 1e.308 and 1e.308"),
        (lambda: as_target("beta:1e-320,1e-320"), "^no quantiles of a beta target .* give others, nearer to 1"),
        (lambda: TargetDistribution.mixture([]), "needs targets"),
        (lambda: TargetDistribution.mixture([TargetDistribution.uniform()], [0]), "positive weight"),
        (lambda: TargetDistribution.per_class({}), "at least one class"),
        (lambda: TARGETS[-1].quotas("Hat", 1, SCALE), "no target for class 'Hat'"),
        (lambda: TargetDistribution.from_reference({"Bag": []}), "'Bag'"),
        (lambda: TargetDistribution.from_reference({"Bag": [0.5, float("nan")]}), "'Bag'"),
        (lambda: TargetDistribution.from_reference({"Bag": [0.5]}).quotas("Hat", 1, SCALE), "no class 'Hat'"),
        (lambda: TargetDistribution.constant(1.5), "0 easy and 1 hard"),
    ],
)
def test_bad_target_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
