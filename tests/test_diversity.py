"""Diversity guidance: the push is the gradient of the volume, parts what is alike, and leaves all else as it was."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_pipeline

from dag_diffusion.guidance.diversity_guidance import (
    RIDGE,
    DiversityGuidance,
    diversity_shift,
    groups_of,
    log_volume,
    volume_gradient,
)

SHAPE = (4, 8, 8)
counts, seeds, scales = st.integers(2, 6), st.integers(0, 10**6), st.floats(0.01, 2)


def samples(count: int, seed: int, *, common: float = 1.0) -> torch.Tensor:
    """Samples that share a part, as predictions for one class do."""
    generator = torch.Generator().manual_seed(seed)
    return common * torch.randn(SHAPE, generator=generator) + torch.randn((count, *SHAPE), generator=generator)


def cosines(clean: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(clean.flatten(1))
    return (unit @ unit.T)[torch.triu(torch.ones(len(unit), len(unit)), 1) == 1]


@given(counts, seeds, st.floats(0, 5))
@settings(max_examples=30)
def test_gradient_is_that_of_autograd_and_of_small_steps(count, seed, common):
    clean = samples(count, seed, common=common)
    leaf = clean.clone().requires_grad_()
    log_volume(leaf).backward()
    found = volume_gradient(clean)
    assert torch.allclose(found, leaf.grad, atol=1e-4 * float(leaf.grad.abs().max()) + 1e-7)
    way = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed + 1))
    step = 1e-3 * clean.norm() / way.norm()
    rise = (log_volume((clean + step * way).double()) - log_volume((clean - step * way).double())) / (2 * step)
    assert float(rise) == pytest.approx(float((found * way).sum()), rel=0.05, abs=1e-3)


@given(counts, seeds)
def test_volume_is_largest_for_samples_at_right_angles_and_ignores_lengths(count, seed):
    clean = samples(count, seed)
    orthogonal = torch.eye(256)[:count].view(count, *SHAPE)
    assert log_volume(clean) < log_volume(orthogonal) + 1e-5
    assert float(log_volume(orthogonal)) == pytest.approx(count * torch.tensor(1 + RIDGE).log().item(), abs=1e-4)
    lengths = torch.rand(count, generator=torch.Generator().manual_seed(seed)).view(-1, 1, 1, 1) + 0.1
    assert torch.allclose(log_volume(lengths * clean), log_volume(clean), atol=1e-3)


@given(counts, seeds, st.floats(0.5, 3))
@settings(max_examples=30)
def test_push_makes_a_group_less_alike(count, seed, common):
    clean = samples(count, seed, common=common)
    pushed = clean + diversity_shift(clean, groups_of([0] * count), 0.01, 0.1)
    assert log_volume(pushed) > log_volume(clean)
    assert cosines(pushed).mean() < cosines(clean).mean()


@given(counts, seeds, scales)
@settings(max_examples=30)
def test_equal_images_are_pushed_apart(count, seed, scale):
    one = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    clean = one.expand(count, *SHAPE)
    pushed = clean + diversity_shift(clean, groups_of([7] * count), scale, 0.2)
    assert (cosines(pushed) < 1 - 1e-5).all()


@given(counts, seeds, scales, st.floats(0.01, 0.5))
@settings(max_examples=30)
def test_push_turns_a_sample_and_stays_within_the_trust_region(count, seed, scale, max_norm):
    clean = samples(count, seed)
    delta = diversity_shift(clean, groups_of([0] * count), scale, max_norm).flatten(1)
    assert (delta.norm(dim=1) <= max_norm * clean.flatten(1).norm(dim=1) * 1.001).all()
    assert torch.allclose((delta * clean.flatten(1)).sum(1), torch.zeros(count), atol=1e-2)


@given(seeds)
@settings(max_examples=20)
def test_images_of_other_groups_change_nothing_and_a_single_one_is_not_pushed(seed):
    clean = samples(6, seed)
    together = diversity_shift(clean, groups_of(["a", "b", "a", "b", "a", "c"]), 0.1, 0.2)
    alone = diversity_shift(clean[[0, 2, 4]], groups_of("aaa"), 0.1, 0.2)
    assert torch.equal(together[[0, 2, 4]], alone)
    assert not together[5].any()


def test_order_within_a_group_does_not_matter_beyond_rounding():
    clean, order = samples(5, 0), [3, 1, 4, 0, 2]
    pushed = diversity_shift(clean, groups_of([0] * 5), 0.1, 0.2)
    assert torch.allclose(diversity_shift(clean[order], groups_of([0] * 5), 0.1, 0.2), pushed[order], atol=1e-5)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 0.0])
def test_image_that_is_broken_or_empty_is_left_alone_and_spoils_no_other(broken):
    clean = samples(3, 0)
    clean[1] = broken
    delta = diversity_shift(clean, groups_of([0] * 3), 0.1, 0.2)
    assert delta.isfinite().all()
    assert not delta[1].any()
    assert torch.allclose(delta[[0, 2]], diversity_shift(clean[[0, 2]], groups_of([0, 0]), 0.1, 0.2), atol=1e-5)


def test_half_precision_is_computed_in_float32():
    clean = samples(4, 0).half()
    delta = diversity_shift(clean, groups_of([0] * 4), 0.1, 0.2)
    assert delta.dtype == torch.float32
    assert torch.equal(delta, diversity_shift(clean.float(), groups_of([0] * 4), 0.1, 0.2))


@pytest.mark.parametrize(
    "options",
    [{"scale": -1}, {"scale": float("nan")}, {"start": 0.5, "stop": 0.5}, {"stop": 1.1}, {"max_norm": 0}],
)
def test_impossible_configuration_is_refused(options):
    with pytest.raises(ValueError, match="diversity guidance needs"):
        DiversityGuidance(**options)


def test_window_without_a_step_is_refused_only_where_something_is_pushed():
    narrow = DiversityGuidance(scale=0.1, stop=0.1)
    with pytest.raises(ValueError, match="none of 2 steps"):
        narrow.steps(2)
    assert not dataclasses.replace(narrow, scale=0).steps(2)
    assert DiversityGuidance(scale=0.1).steps(20) == range(10)


@pytest.fixture(scope="module")
def drawing():
    return tiny_pipeline()


def draw(pipeline, labels, **options):
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(labels))]
    settings = {"num_inference_steps": 4, "guidance_scale": 1.5, "output_type": "latent", "generator": generators}
    return pipeline(labels, **(settings | options)).images


def test_strength_0_changes_no_bit(drawing):
    plain = draw(drawing, [0, 0, 1])
    assert torch.equal(plain, draw(drawing, [0, 0, 1], diversity=DiversityGuidance(scale=0.0), groups=[0, 0, 0]))


def test_images_of_a_class_come_out_less_alike_and_a_class_of_one_as_ever(drawing):
    plain, pushed = (
        draw(drawing, [0, 0, 0, 1], diversity=DiversityGuidance(scale=scale, stop=1.0)) for scale in (0, 0.3)
    )
    assert log_volume(pushed[:3]) > log_volume(plain[:3])
    assert torch.equal(pushed[3], plain[3])


def test_twins_of_one_seed_and_class_come_out_different(drawing):
    twins = [torch.Generator().manual_seed(3) for _ in range(2)]
    pushed = draw(drawing, [2, 2], generator=twins, diversity=DiversityGuidance(scale=0.3))
    assert not torch.allclose(pushed[0], pushed[1], atol=1e-3)


@pytest.mark.parametrize("groups", [[0, 0, 1, 1], [[0], [0], [1], [1]]], ids=["row", "column"])
def test_images_differ_from_those_of_their_own_group_alone(drawing, groups):
    pushed = draw(drawing, [0, 0, 0, 0], diversity=DiversityGuidance(scale=0.3), groups=groups)
    first = draw(drawing, [0, 0], diversity=DiversityGuidance(scale=0.3))
    assert torch.allclose(pushed[:2], first, atol=1e-5)


def test_push_composes_with_difficulty_and_modes(drawing):
    options = {"target_difficulty": 0.9, "modes": torch.zeros(2, 4, 8, 8)}
    plain = draw(drawing, [0, 0], **options)
    pushed = draw(drawing, [0, 0], diversity=DiversityGuidance(scale=0.3), **options)
    assert pushed.isfinite().all()
    assert not torch.equal(plain, pushed)


@pytest.mark.parametrize(("groups", "count"), [([0, 0, 1], 3), (0, 1)])
def test_groups_of_another_number_of_images_are_refused(drawing, groups, count):
    with pytest.raises(ValueError, match=f"{count} numbers of groups for 2 images"):
        draw(drawing, [0, 0], groups=groups)
