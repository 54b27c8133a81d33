"""Augmentations: what each may do to an image, whatever the draw, and that no draw depends on pixels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as transforms

from dag_diffusion.evaluation.augmentations import (
    Normalisation,
    crop_windows,
    cropped,
    cutmixed,
    flipped,
    recoloured,
    shifted,
)

SIZES = st.tuples(st.integers(4, 40), st.integers(4, 40))
HALF = Normalisation(0.5, 0.5)
AUGMENTATIONS = {
    "shift": lambda images, generator: shifted(images, 2, generator),
    "crop": lambda images, generator: cropped(images, 0.5, generator),
    "flip": flipped,
    "colour": lambda images, generator: recoloured(images, 0.4, 0.1, generator, normalisation=HALF),
    "cutmix": lambda images, generator: cutmixed(images, 1.0, generator)[0],
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_draws_follow_from_the_generator_and_not_from_pixels(name):
    change, generators = AUGMENTATIONS[name], [seeded(3), seeded(3), seeded(3)]
    images, others = torch.rand(2, 5, 3, 9, 11)
    first, same, _ = (
        change(given, generator) for given, generator in zip((images, images, others), generators, strict=True)
    )
    assert torch.equal(first, same)
    assert len({tuple(torch.rand(2, generator=generator).tolist()) for generator in generators}) == 1
    assert not torch.equal(change(images, generators[0]), first)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_shape_and_order_in_memory_are_kept_and_the_input_too(name):
    images = torch.rand(5, 3, 9, 11)
    before = images.clone()
    changed = AUGMENTATIONS[name](images, seeded())
    assert changed.shape == images.shape
    assert changed.is_contiguous()
    assert torch.equal(images, before)


@given(
    max_shift=st.integers(0, 3),
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(4, 7), st.integers(4, 7)),
)
def test_a_shifted_image_is_a_window_of_itself_with_its_border_repeated(max_shift, seed, size):
    images = torch.rand(size)
    moved = shifted(images, max_shift, torch.Generator().manual_seed(seed))
    height, width = size[2:]

    def window(image, down, right):
        rows = (torch.arange(height) + down).clamp(0, height - 1)
        columns = (torch.arange(width) + right).clamp(0, width - 1)
        return image[:, rows][:, :, columns]

    steps = range(-max_shift, max_shift + 1)
    for image, result in zip(images, moved, strict=True):
        assert any(torch.equal(result, window(image, down, right)) for down in steps for right in steps)


def test_images_of_one_batch_move_apart():
    images = torch.arange(64.0).view(1, 1, 8, 8).expand(50, 1, 8, 8)
    corners = shifted(images, 1, torch.Generator().manual_seed(0))[:, 0, 4, 4]
    assert sorted(set(corners.tolist())) == [27, 28, 29, 35, 36, 37, 43, 44, 45]


@given(size=SIZES, smallest=st.floats(0.05, 1), seed=st.integers(0, 1000))
def test_a_crop_lies_in_the_image_and_has_about_the_area_and_aspect_asked_for(size, smallest, seed):
    windows = crop_windows(20, size, smallest, seeded(seed))
    top, left, height, width = windows.unbind(1)
    assert torch.equal(windows, windows.round())
    assert bool((top >= 0).all() and (left >= 0).all() and (height >= 1).all() and (width >= 1).all())
    assert bool((top + height <= size[0]).all() and (left + width <= size[1]).all())
    # each side is rounded by half a pixel
    assert bool(((height + 0.5) * (width + 0.5) >= smallest * size[0] * size[1] - 1e-3).all())
    whole = (height == size[0]) & (width == size[1])
    assert bool((((height + 0.5) / (width - 0.5) >= 3 / 4) | whole).all())
    assert bool((((height - 0.5) / (width + 0.5) <= 4 / 3) | whole).all())


def test_areas_of_crops_spread_evenly_above_the_smallest():
    height, width = crop_windows(4000, (1000, 1000), 0.2, seeded())[:, 2:].unbind(1)
    areas = height * width / 1e6
    # wide and tall crops of nearly the whole do not fit and are drawn again, so the largest are a little rarer
    assert pytest.approx(areas.min().item(), abs=0.01) == 0.2
    assert torch.histc(areas, 4, 0.2, 1.0)[:2] / 4000 == pytest.approx([0.28, 0.28], abs=0.05)


def test_a_crop_is_resized_as_torchvision_does_it():
    images = torch.rand(6, 3, 24, 32)
    windows = crop_windows(6, (24, 32), 0.5, seeded(1)).int().tolist()
    expected = [
        transforms.resized_crop(image, *window, [24, 32]) for image, window in zip(images, windows, strict=True)
    ]
    result = cropped(images, 0.5, seeded(1))
    inside = (
        ...,
        slice(1, -1),
        slice(1, -1),
    )  # at its edge a crop sees the pixel outside, torchvision repeats the last
    torch.testing.assert_close(result[inside], torch.stack(expected)[inside], atol=1e-4, rtol=0)


def test_crops_of_the_whole_area_leave_square_images_alone():
    images = torch.rand(20, 1, 16, 16)
    torch.testing.assert_close(cropped(images, 1.0, seeded()), images)


def test_about_half_of_the_images_are_mirrored_and_the_others_stay():
    images = torch.rand(1, 3, 4, 5).expand(400, 3, 4, 5)
    results = flipped(images, seeded())
    mirrored = (results == images.flip(3)).all((1, 2, 3))
    assert torch.equal(results[~mirrored], images[~mirrored])
    assert 160 < mirrored.sum() < 240


def colour_steps(image, weights):
    """Brightness, contrast, saturation as one image at a time in every order: ``blend(image, other, weight)``."""
    grey = torch.tensor([0.299, 0.587, 0.114])[:, None, None]

    def changed(image, kind):
        luminance = (image * grey).sum(0, keepdim=True).expand(3, -1, -1)
        other = (torch.zeros_like(image), luminance.mean().expand_as(image), luminance)[kind]
        return image.lerp(other, weights[kind])

    return changed


def test_colours_change_as_three_blends_in_a_random_order():
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = torch.rand(8, 3, 5, 6)
    normalised = (pixels - mean[:, None, None]) / std[:, None, None]
    found = recoloured(normalised, 0.4, 0.0, seeded(2), normalisation=Normalisation(mean.tolist(), std.tolist()))
    results = found * std[:, None, None] + mean[:, None, None]
    generator = seeded(2)
    weights = 0.4 * (2 * torch.rand(8, 3, generator=generator) - 1)
    orders = torch.rand(8, 3, generator=generator).argsort(1).tolist()
    assert len({tuple(order) for order in orders}) > 1
    for image, result, weight, order in zip(pixels, results, weights, orders, strict=True):
        change = colour_steps(image, weight)
        for kind in order:
            image = change(image, kind)
        torch.testing.assert_close(result, image, atol=1e-5, rtol=0)


@given(seed=st.integers(0, 1000))
def test_jitter_keeps_a_grey_image_grey(seed):
    grey = torch.rand(4, 1, 5, 5).expand(4, 3, 5, 5)
    result = recoloured(grey, 0.4, 0.0, seeded(seed), normalisation=HALF)
    torch.testing.assert_close(result, result[:, :1].expand_as(result))


def test_lighting_adds_one_colour_an_image_mostly_alike_in_all_channels():
    images = torch.rand(3000, 3, 2, 2)
    added = recoloured(images, 0.0, 0.1, seeded(), normalisation=Normalisation(0.0, 1.0)) - images
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(added), atol=1e-5, rtol=0)
    correlation = torch.corrcoef(added[:, :, 0, 0].T)
    assert bool((correlation > 0.9).all())
    assert added.std().item() == pytest.approx(0.1 * 0.2175 / 3**0.5, rel=0.1)


@pytest.mark.parametrize("channels", [1, 4])
def test_colours_are_left_alone_where_there_are_not_three(channels):
    images = torch.rand(2, channels, 4, 4)
    assert recoloured(images, 0.4, 0.1, seeded(), normalisation=HALF) is images


@given(size=SIZES, batch=st.integers(1, 6), concentration=st.sampled_from([0.2, 1.0, 5.0]), seed=st.integers(0, 1000))
def test_cutmix_exchanges_one_box_and_tells_the_area_that_is_kept(size, batch, concentration, seed):
    numbered = torch.arange(float(batch)).view(-1, 1, 1, 1).expand(batch, 2, *size)
    mixed, partners, kept = cutmixed(numbered, concentration, seeded(seed))
    assert sorted(partners.tolist()) == list(range(batch))
    assert 0 <= kept <= 1
    moved = partners != torch.arange(batch)
    for index in moved.nonzero()[:, 0].tolist():
        box = mixed[index, 0] == partners[index]
        assert bool((box | (mixed[index, 0] == index)).all())
        assert 1 - box.double().mean().item() == pytest.approx(kept)
        assert torch.equal(box, box.any(1, keepdim=True) & box.any(0, keepdim=True))  # a rectangle


def test_cutmix_keeps_half_or_a_little_more_on_average():
    images = torch.zeros(2, 1, 32, 32)
    generator = seeded()
    kept = torch.tensor([cutmixed(images, 1.0, generator)[2] for _ in range(500)])
    assert 0.5 < kept.mean() < 0.75  # boxes at the border are cut
    assert kept.min() < 0.2
    assert kept.max() > 0.95
