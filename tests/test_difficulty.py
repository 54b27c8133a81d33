"""Difficulty and margin: exact also where softmax saturates, whatever the image file looks like."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import NAMES, tiny_classifier, write_images

from dag_diffusion import read_pool, score_pool
from dag_diffusion.difficulty import difficulty, difficulty_to_margin, margin

logit_lists = st.lists(st.floats(-30, 30), min_size=2, max_size=6)


@given(logit_lists, st.data())
def test_difficulty_is_one_minus_the_probability_of_the_class(logits, data):
    label = data.draw(st.integers(0, len(logits) - 1))
    exact = torch.tensor([logits], dtype=torch.float64).softmax(1)
    expected = (exact.sum() - exact[0, label]).item()
    assert difficulty(torch.tensor([logits]), torch.tensor([label])).item() == pytest.approx(expected, abs=1e-6)


def test_difficulty_keeps_order_where_softmax_rounds_to_one():
    logits = torch.tensor([[20.0, 0.0], [30.0, 0.0], [60.0, 0.0]])
    values = difficulty(logits, torch.zeros(3, dtype=torch.long))
    assert values[0] > values[1] > values[2] > 0


@given(st.floats(0, 1))
def test_target_margin_is_finite_and_gives_the_target_back(value):
    target = difficulty_to_margin(torch.tensor([value]))
    assert torch.isfinite(target).all()
    assert torch.sigmoid(-target).item() == pytest.approx(value, abs=2e-4)


def test_half_precision_logits_are_computed_in_full():
    logits = torch.tensor([[12.0, 0.0, -3.0]], dtype=torch.bfloat16)
    assert margin(logits, torch.tensor([0])).dtype == torch.float32


def test_scores_follow_rows_whatever_the_batch_size(tmp_path):
    write_images(tmp_path, {"Bag": 3, "T-shirt": 4})
    pool, guide = read_pool(tmp_path), tiny_classifier()
    one, many = (score_pool(pool, guide, batch_size=size).difficulties for size in (1, 5))
    assert np.allclose(one, many, atol=1e-6)
    assert len(one) == 7


def test_classes_are_scored_by_name_not_by_folder_order(tmp_path):
    write_images(tmp_path / "a", {"Bag": 1}, metadata=False)  # alphabetically first, the classifier's last
    pixels = torch.from_numpy(np.asarray(Image.open(tmp_path / "a/Bag/00000.png")).copy())[None, None] / 255
    guide = tiny_classifier()
    with torch.no_grad():
        expected = difficulty(guide((pixels - 0.5) / 0.5).logits, torch.tensor([2])).item()
    assert score_pool(read_pool(tmp_path / "a"), guide).difficulties[0] == pytest.approx(expected, abs=1e-6)


def every_kind_of_image() -> dict[str, Image.Image]:
    grey = Image.fromarray(np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16))
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    kinds = {mode.lower(): grey.convert(mode) for mode in ("L", "RGB", "RGBA", "P", "CMYK", "LA", "1")}
    return {k: v for k, v in kinds.items() if k != "1"} | {"sixteen-bit": deep}


@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_image_scores_like_its_grey_self(tmp_path, channels):
    (tmp_path / "Bag").mkdir()
    for name, image in every_kind_of_image().items():
        image.save(tmp_path / "Bag" / f"{name}.{'tif' if image.mode == 'CMYK' else 'png'}")
    guide = tiny_classifier()
    scores = score_pool(read_pool(tmp_path), guide).difficulties
    assert len(scores) == 7
    assert np.ptp(scores) < 0.02


def test_odd_sizes_and_one_pixel_are_scored(tmp_path):
    (tmp_path / "Bag").mkdir()
    for width, height in ((1, 1), (3, 500), (33, 17)):
        Image.new("L", (width, height), 128).save(tmp_path / "Bag" / f"{width}x{height}.png")
    assert np.isfinite(score_pool(read_pool(tmp_path), tiny_classifier()).difficulties).all()


def test_corrupt_image_is_named_and_fatal_or_skipped_as_asked(tmp_path, caplog):
    write_images(tmp_path, {"Bag": 2}, metadata=False)
    (tmp_path / "Bag" / "broken.png").write_bytes(b"not an image")
    (tmp_path / "Bag" / "cut.png").write_bytes((tmp_path / "Bag" / "00000.png").read_bytes()[:60])
    pool, guide = read_pool(tmp_path), tiny_classifier()
    with pytest.raises(ValueError, match=r"broken\.png is not a readable image"):
        score_pool(pool, guide)
    with caplog.at_level(logging.WARNING):
        scores = score_pool(pool, guide, on_error="skip")
    assert scores.skipped == ["Bag/broken.png", "Bag/cut.png"]
    assert np.isnan(scores.difficulties).tolist() == [False, False, True, True]


def test_class_that_the_classifier_lacks_is_named(tmp_path):
    write_images(tmp_path, {"Hat": 1}, metadata=False)
    with pytest.raises(ValueError, match="no class called 'Hat'"):
        score_pool(read_pool(tmp_path), tiny_classifier(NAMES))
