"""Fewer modes from many: means stay means, classes stay apart, and distinct groups are found again."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dag_diffusion.generation.modes import Modes
from dag_diffusion.generation.preparing.mode_merging import merge_modes

NAMES = {0: "Bag", 7: "Coat"}


def modes_at(points: dict[int, list[float]], sizes: list[int]) -> Modes:
    values = [value for group in points.values() for value in group]
    labels = [label for label, group in points.items() for _ in group]
    centres = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 2, 2, 2).clone()
    return Modes(
        centres, torch.tensor(labels), torch.tensor(sizes), {label: NAMES[label] for label in points}, vae="tiny"
    )


def test_groups_of_near_modes_become_their_weighted_means():
    modes = modes_at({0: [0.0, 1.0, 10.0, 10.5], 7: [-5.0, -4.0]}, [3, 1, 1, 1, 2, 2])
    merged = merge_modes(modes, 2)
    assert merged.labels.tolist() == [0, 0, 7, 7]
    bags = sorted(zip(merged.centres[:2, 0, 0, 0].tolist(), merged.sizes[:2].tolist(), strict=True))
    assert bags == [(0.25, 4), (10.25, 2)]
    assert sorted(merged.centres[2:, 0, 0, 0].tolist()) == [-5.0, -4.0]
    assert (merged.vae, merged.class_names) == ("tiny", NAMES)


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=12), st.integers(1, 12), st.data())
def test_images_and_their_mean_are_kept(points, per_class, data):
    sizes = data.draw(st.lists(st.integers(1, 99), min_size=len(points), max_size=len(points)))
    merged = merge_modes(modes_at({0: points}, sizes), per_class)
    assert int(merged.sizes.sum()) == sum(sizes)
    assert 1 <= len(merged.sizes) <= min(per_class, len(points))
    found = np.average(merged.centres[:, 0, 0, 0].numpy(), weights=merged.sizes.numpy())
    assert found == pytest.approx(np.average(points, weights=sizes), abs=1e-4)


def test_difficulties_are_averaged_by_the_number_of_images():
    modes = dataclasses.replace(modes_at({0: [0.0, 1.0]}, [3, 1]), difficulties=torch.tensor([0.0, 0.4]))
    assert merge_modes(modes, 1).difficulties.tolist() == pytest.approx([0.1])


def test_same_seed_merges_the_same_and_none_is_refused():
    modes = modes_at({0: np.random.default_rng(0).random(20).tolist()}, [1] * 20)
    assert merge_modes(modes, 5).summary() == merge_modes(modes, 5).summary()
    with pytest.raises(ValueError, match="at least 1"):
        merge_modes(modes, 0)
