"""The guided step: hits a linear target, never leaves its trust region, and survives a bad guide."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dag_diffusion.guidance.difficulty_guidance import (
    GuidanceConfig,
    along_class,
    difficulty_shift,
    predicted_clean,
    smoothed,
    warn_of_trouble,
    within_trust_region,
)
from dag_diffusion.guidance.guided_step import Steering
from dag_diffusion.pipelines.call_inputs import interval_steps

difficulties = st.floats(0.001, 0.999)
FREE = GuidanceConfig(max_norm=1e6)  # a trust region that never binds


def linear_guide(seed: int):
    weight = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return lambda clean: (clean * weight).flatten(1).sum(1)


@given(st.integers(0, 1000), difficulties, difficulties)
def test_full_scale_hits_the_target_of_a_linear_guide(seed, first, second):
    clean, guide = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed + 1)), linear_guide(seed)
    targets = torch.tensor([first, second])
    reached = torch.sigmoid(-guide(clean + difficulty_shift(clean, guide, targets, FREE).delta))
    assert torch.allclose(reached, targets, atol=1e-3)


@given(st.integers(0, 1000), st.floats(0.05, 1), difficulties)
def test_scale_is_the_fraction_of_the_way(seed, scale, target):
    clean, guide = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed + 1)), linear_guide(seed)
    config = GuidanceConfig(scale=scale, max_norm=1e6)
    gained = guide(clean + difficulty_shift(clean, guide, torch.full((2,), target), config).delta) - guide(clean)
    wanted = math.log((1 - target) / target) - guide(clean)
    torch.testing.assert_close(gained, scale * wanted, atol=1e-3, rtol=1e-3)


@given(st.integers(0, 1000), difficulties, st.floats(0.001, 1))
def test_shift_is_as_long_as_max_norm_of_the_clean_sample_at_most(seed, target, max_norm):
    clean, guide = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed + 1)), linear_guide(seed)
    targets = torch.full((2,), target)
    free, kept = (
        difficulty_shift(clean, guide, targets, config).delta.flatten(1).norm(dim=1)
        for config in (FREE, GuidanceConfig(max_norm=max_norm))
    )
    torch.testing.assert_close(kept, torch.minimum(free, max_norm * clean.flatten(1).norm(dim=1)))


@given(st.integers(0, 1000), st.floats(0.01, 2), st.floats(1e-6, 1e6))
def test_step_never_leaves_its_trust_region(seed, max_norm, size):
    generator = torch.Generator().manual_seed(seed)
    clean, delta = torch.randn(4, 6, generator=generator), size * torch.randn(4, 6, generator=generator)
    kept = within_trust_region(delta, clean, max_norm)
    assert (kept.norm(dim=1) <= max_norm * clean.norm(dim=1) * 1.0001).all()
    small = delta.norm(dim=1) <= max_norm * clean.norm(dim=1) * 0.999
    assert torch.allclose(kept[small], delta[small])


@pytest.mark.parametrize("slope", [0.0, 1e-20, float("nan"), float("inf")])
def test_flat_or_broken_guide_gives_a_finite_step(slope):
    clean = torch.ones(2, 3)
    shift = difficulty_shift(clean, lambda x: (x * slope).sum(1), torch.tensor([0.1, 0.9]), GuidanceConfig())
    assert torch.isfinite(shift.delta).all()
    assert shift.flat.all() == (slope == 0)
    assert shift.broken.any() == (not math.isfinite(slope))


def test_one_broken_sample_does_not_spoil_its_neighbours_and_is_told(caplog):
    slope = torch.tensor([[1.0], [float("nan")]])
    shift = difficulty_shift(torch.ones(2, 3), lambda x: (x * slope).sum(1), torch.tensor([0.9, 0.9]), GuidanceConfig())
    warn_of_trouble(shift.broken, shift.flat)
    assert shift.delta[0].any()
    assert not shift.delta[1].any()
    assert "not finite for 1 of 2 images" in caplog.text


def test_steering_asks_for_deterministic_convolutions_and_leaves_the_rest_as_it_was(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    seen = []

    def margin_of(clean):
        seen.append(torch.backends.cudnn.deterministic)
        return clean.sum(1)

    targets, config = torch.tensor([0.5, 0.5]), GuidanceConfig()
    steering = Steering(config=config, targets=targets, num_steps=4, decoded=margin_of, draw=torch.randn)
    steering.shift(torch.ones(2, 3), torch.tensor(0.5), 1, None)
    assert seen == [True]
    assert not torch.backends.cudnn.deterministic


@given(st.floats(0.01, 1), st.sampled_from(["epsilon", "v_prediction", "sample"]))
def test_predicted_clean_inverts_the_forward_process(alpha, prediction_type):
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(2, 1, 3, 3, generator=generator) for _ in range(2))
    signal, rest = alpha**0.5, (1 - alpha) ** 0.5
    outputs = {"epsilon": noise, "v_prediction": signal * noise - rest * clean, "sample": clean}
    found = predicted_clean(outputs[prediction_type], signal * clean + rest * noise, alpha, prediction_type)
    assert torch.allclose(found, clean, atol=1e-4)


@given(st.integers(1, 200))
def test_every_step_is_steered_by_default(num_steps):
    assert list(GuidanceConfig().steps(num_steps)) == list(range(num_steps))


def test_window_is_half_open_and_interval_counts_from_its_start():
    config = GuidanceConfig(start=0.2, stop=0.8, every=2)
    assert list(config.steps(10)) == [2, 4, 6]


def test_fractions_that_stand_for_whole_steps_are_these_steps():
    assert GuidanceConfig(start=0.29, stop=0.57).steps(100) == range(29, 57)
    assert interval_steps((0.0, 0.58), 50) == range(29)


def test_window_without_a_step_is_refused_rather_than_ignored():
    with pytest.raises(ValueError, match="none of 1 steps"):
        GuidanceConfig(stop=0.9).steps(1)


@pytest.mark.parametrize(
    "options",
    [
        {"start": 1.0}, {"stop": 1.1}, {"scale": 0}, {"max_norm": float("nan")}, {"every": 0}, {"start": -0.1},
        {"every": 2.5}, {"samples": 1.5}, {"decoded_steps": 1.5}, {"decoded_steps": float("inf")},
    ],
)  # fmt: skip
def test_impossible_configuration_is_refused(options):
    with pytest.raises(ValueError, match="guidance"):
        GuidanceConfig(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"samples": 0},
        {"smoothing": -1.0},
        {"decoded_steps": -1},
        {"class_direction": 1.0},
    ],
)
def test_unknown_option_is_refused_with_what_there_is(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        GuidanceConfig(**options)


def test_squared_error_vanishes_where_the_guide_is_sure_and_the_margin_does_not():
    sure = torch.tensor(12.0, requires_grad=True)
    squared = (torch.sigmoid(-sure) - 0.5).square()
    assert abs(torch.autograd.grad(squared, sure)[0]) < 1e-3
    shift = difficulty_shift(torch.full((1, 1), 12.0), lambda clean: clean[:, 0], torch.tensor([0.5]), FREE)
    assert shift.delta.item() == pytest.approx(-12)


@given(st.integers(0, 1000), difficulties, st.floats(0, 0.99))
def test_class_direction_keeps_the_full_hit_of_a_linear_guide(seed, target, share):
    generator = torch.Generator().manual_seed(seed)
    clean, towards, guide = (*torch.randn(2, 2, 3, 4, 4, generator=generator), linear_guide(seed + 1))
    config = GuidanceConfig(max_norm=1e6, class_direction=share)
    shift = difficulty_shift(clean, guide, torch.full((2,), target), config, class_direction=towards)
    reached = torch.sigmoid(-guide(clean + shift.delta))
    assert torch.allclose(reached, torch.full((2,), target), atol=5e-3)


def test_class_direction_turns_the_step_towards_it():
    gradient, towards = torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0, 0.0]])
    root_n, unit = 2.0, towards / 2
    torch.testing.assert_close(along_class(gradient, towards, 0.25), 0.75 * gradient + 0.25 * root_n * unit)
    assert torch.equal(along_class(gradient, torch.zeros(1, 4), 0.0), gradient)


@given(st.integers(2, 100), st.integers(0, 100))
def test_decoded_steps_are_the_last_guided_ones(num_steps, decoded):
    config = GuidanceConfig(decoded_steps=decoded)
    assert sorted(config.decoded(num_steps)) == list(config.steps(num_steps))[::-1][:decoded][::-1]


def test_smoothing_averages_the_margin_over_noise():
    noise = iter([torch.ones(1, 2), -torch.ones(1, 2)])
    smooth = smoothed(lambda x: x.square().sum(1), 0.5, 2, lambda shape: next(noise))
    assert smooth(torch.zeros(1, 2)).item() == pytest.approx(0.5)


def test_smoothing_draws_noise_of_the_share_that_is_left_of_it():
    seen = []

    def margin_of(clean):
        seen.append(clean.detach())
        return clean.sum(1)

    targets, config = torch.tensor([0.5]), GuidanceConfig(smoothing=0.5)
    steering = Steering(config=config, targets=targets, num_steps=4, decoded=margin_of, draw=torch.ones)
    steering.shift(torch.zeros(1, 2), torch.tensor(0.36), 1, None)
    torch.testing.assert_close(seen, [torch.full((1, 2), 0.5 * 0.8)])  # sqrt(1 - 0.36)


def test_flat_guide_is_told(caplog):
    warn_of_trouble(torch.tensor([False, False]), torch.tensor([True, False]))
    assert "flat" in caplog.text
    assert "1 of 2" in caplog.text
