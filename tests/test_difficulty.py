"""Measures of difficulty: what their papers say, exact also where softmax saturates."""

from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dag_diffusion.difficulty import MEASURES, difficulty, difficulty_to_margin, margin, measure_named

logit_lists = st.lists(st.floats(-30, 30), min_size=2, max_size=6)
every_measure = pytest.mark.parametrize("name", MEASURES)


def measured(name: str, logits: list[float], label: int = 0, dtype: torch.dtype = torch.float32) -> float:
    return measure_named(name)(torch.tensor([logits], dtype=dtype), torch.tensor([label])).item()


def plain(name: str, logits: list[float], label: int) -> float:
    """The textbook formula in float64."""
    z = torch.tensor(logits, dtype=torch.float64)
    p, truth = z.softmax(0), torch.zeros(len(logits), dtype=torch.float64)
    truth[label] = 1
    others = torch.cat([z[:label], z[label + 1 :]])
    return {
        "error_probability": lambda: p.sum() - p[label],
        "rival_margin": lambda: torch.sigmoid(-(z[label] - others.max())),
        "entropy": lambda: -(p * z.log_softmax(0)).sum() / log(len(logits)),
        "el2n": lambda: (p - truth).norm() / 2**0.5,
    }[name]().item()


@every_measure
@given(logits=logit_lists, data=st.data())
def test_measure_is_its_plain_formula_within_zero_and_one(name, logits, data):
    label = data.draw(st.integers(0, len(logits) - 1))
    for dtype in (torch.float32, torch.float64):
        value = measured(name, logits, label, dtype)
        assert 0 <= value <= 1
        assert value == pytest.approx(plain(name, logits, label), abs=2e-6 if dtype == torch.float32 else 1e-12)


@every_measure
@given(gap=st.floats(5, 70), rivals=st.lists(st.floats(-2, 2), min_size=1, max_size=5))
def test_float32_keeps_relative_precision_near_zero(name, gap, rivals):
    value = measured(name, [gap, *rivals])
    assert value > 0
    assert value == pytest.approx(measured(name, [gap, *rivals], dtype=torch.float64), rel=1e-4)


@pytest.mark.parametrize("name", ["error_probability", "rival_margin", "el2n"])
@given(logits=logit_lists, data=st.data(), rise=st.floats(0, 10))
def test_a_higher_logit_of_the_true_class_is_never_harder(name, logits, data, rise):
    label = data.draw(st.integers(0, len(logits) - 1))
    higher = [z + rise * (i == label) for i, z in enumerate(logits)]
    assert measured(name, higher, label, torch.float64) <= measured(name, logits, label, torch.float64) + 1e-12


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_of_two_classes_rival_margin_and_el2n_are_error_probability(first, second):
    values = [
        measured(name, [first, second], dtype=torch.float64) for name in ("error_probability", "rival_margin", "el2n")
    ]
    assert values == pytest.approx([values[0]] * 3, rel=1e-9)


@given(logit_lists, st.data())
def test_entropy_needs_no_label(logits, data):
    labels = data.draw(st.tuples(*[st.integers(0, len(logits) - 1)] * 2))
    assert measured("entropy", logits, labels[0]) == measured("entropy", logits, labels[1])


def test_margin_is_a_half_where_the_decision_flips():
    assert measured("rival_margin", [3.0, 3.0, 2.9, 2.9, 2.9]) == 0.5
    assert measured("error_probability", [3.0, 3.0, 2.9, 2.9, 2.9]) > 0.7


def test_extremes_of_each_measure():
    assert measured("entropy", [1.0] * 7) == pytest.approx(1)
    assert measured("el2n", [-40.0, 40.0, 0.0]) == pytest.approx(1)
    assert measured("rival_margin", [-40.0, 40.0, 0.0]) == pytest.approx(1)


@every_measure
def test_half_precision_logits_are_computed_in_full(name):
    value = measure_named(name)(torch.tensor([[12.0, 0.0, -3.0]], dtype=torch.bfloat16), torch.tensor([0]))
    assert value.dtype == torch.float32
    assert 0 < value.item() < 1e-3


def test_unknown_measure_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"no measure 'loss'; choose one of error_probability, rival_margin, entropy, el2n"
    ):
        measure_named("loss")


def test_difficulty_keeps_order_where_softmax_rounds_to_one():
    logits = torch.tensor([[20.0, 0.0], [30.0, 0.0], [60.0, 0.0]])
    values = difficulty(logits, torch.zeros(3, dtype=torch.long))
    assert values[0] > values[1] > values[2] > 0


@given(st.floats(0, 1))
def test_target_margin_is_finite_and_gives_the_target_back(value):
    target = difficulty_to_margin(torch.tensor([value]))
    assert torch.isfinite(target).all()
    assert torch.sigmoid(-target).item() == pytest.approx(value, abs=2e-4)


def test_margin_of_double_logits_stays_double():
    assert margin(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([0])).dtype == torch.float64
