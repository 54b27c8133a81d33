"""Classifiers of any make: preprocessing found and differentiable, errors with a way out."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_classifier, write_images
from tiny_backbones import clip_with_texts
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, ViTConfig, ViTForImageClassification

from dag_diffusion import read_pool, score_pool
from dag_diffusion.classifiers import Preprocessing, class_names_of, image_logits, load_classifier, preprocessing_of


@given(
    st.integers(5, 40),
    st.integers(5, 40),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 3]),
    st.sampled_from([0.875, 1.0]),
)
def test_any_image_comes_out_at_the_size_of_the_classifier(height, width, given_channels, channels, crop):
    preprocessing = Preprocessing(12, 10, channels, (0.5,), (0.25,), crop)
    out = preprocessing(torch.rand(2, given_channels, height, width))
    assert out.shape == (2, channels, 12, 10)


def test_centre_of_a_larger_image_is_kept():
    image = torch.zeros(1, 1, 32, 32)
    image[..., 8:24, 8:24] = 1
    out = Preprocessing(16, 16, 1, (0.0,), (1.0,), crop=0.5)(image)
    assert out.mean() > 0.99


def test_gradient_reaches_the_pixels_through_resize_and_crop():
    classifier = tiny_classifier()
    images = torch.rand(2, 3, 29, 31, requires_grad=True)
    image_logits(classifier, images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_timm_model_brings_its_own_preprocessing():
    config = TimmWrapperConfig(architecture="resnet10t", num_labels=3, pretrained_cfg=None)
    config.pretrained_cfg = {
        "input_size": [3, 64, 64],
        "mean": [0.1, 0.2, 0.3],
        "std": [1, 1, 1],
        "crop_pct": 0.9,
        "interpolation": "bicubic",
    }
    found = preprocessing_of(TimmWrapperForImageClassification(config))
    assert (found.height, found.crop, found.resample, found.mean) == (64, 0.9, "bicubic", (0.1, 0.2, 0.3))


def test_class_names_the_wrong_way_round_are_told():
    classifier = tiny_classifier()
    classifier.config.id2label = {"cat": 0, "red fox": 1}
    with pytest.raises(ValueError, match=r"id2label of the classifier has 'cat' for a label; give it as \{label: name"):
        class_names_of(classifier)


def tiny_vit() -> ViTForImageClassification:
    options = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return ViTForImageClassification(ViTConfig(image_size=32, patch_size=16, num_labels=3, **options))


def test_processor_saved_beside_the_weights_is_used(tmp_path):
    from transformers import ViTImageProcessor

    tiny_vit().save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.4] * 3, image_std=[0.2] * 3).save_pretrained(
        tmp_path
    )
    found = preprocessing_of(load_classifier(tmp_path))
    assert (found.height, found.width, found.crop, found.mean) == (32, 32, 1.0, (0.4, 0.4, 0.4))


def test_unknown_preprocessing_says_what_to_set():
    with pytest.raises(ValueError, match=r"classifier\.config\.preprocessing"):
        preprocessing_of(tiny_vit())


def test_saved_classifier_comes_back_in_evaluation_mode(tmp_path):
    tiny_classifier().save_pretrained(tmp_path)
    again = load_classifier(tmp_path)
    assert not again.training
    assert preprocessing_of(again).height == 16


def test_folder_that_is_no_classifier_is_named(tmp_path):
    with pytest.raises(ValueError, match="not a transformers or timm image classifier"):
        load_classifier(tmp_path)


def test_pickled_weights_are_refused(tmp_path):
    tiny_classifier().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match="safetensors"):
        load_classifier(tmp_path)


PAGE = Path(__file__).parents[1] / "docs/how-to/classifiers.md"


def test_network_of_ones_own_steers_as_the_page_shows_and_is_not_saved_for_nobody(tmp_path):
    block = next(code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S) if "Own" in code)
    scope = {"__name__": "own"}
    exec(block, scope)  # noqa: S102 - the page's own code
    pipeline = scope["pipeline"]
    found = pipeline(["Coat", "Bag"], target_difficulty=0.9, num_inference_steps=4).difficulties
    assert ((found > 0) & (found < 1)).all()
    with pytest.raises(ValueError, match=r"cannot read a OwnClassifier again.*register_modules\(classifier=None\)"):
        pipeline.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_classes_by_clips_texts_are_as_hard_as_transformers_own_pipeline_finds_them(tmp_path, monkeypatch):
    folder = tmp_path / "clip"
    clip_with_texts(folder)
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "my_images", {"cat": 2, "dog": 1, "red fox": 1}, metadata=False, size=40)
    block = next(
        code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S) if "ByTexts" in code
    )
    scope = {"__name__": "own"}
    exec(block.replace("openai/clip-vit-base-patch32", str(folder)), scope)  # noqa: S102 - the page's own code
    pool = read_pool("my_images")
    found = score_pool(pool, scope["guide"]).difficulties
    own = transformers.pipeline("zero-shot-image-classification", model=str(folder), device="cpu")
    for row, difficulty in zip(pool.rows, found, strict=True):
        answers = own(
            str(pool.path / row["file_name"]),
            candidate_labels=scope["classes"],
            hypothesis_template="a photo of a {}",
        )
        probability = {answer["label"]: answer["score"] for answer in answers}[row["class_name"]]
        assert difficulty == pytest.approx(1 - probability, abs=1e-5)
    images = torch.rand(1, 3, 20, 20, requires_grad=True)
    image_logits(scope["guide"], images)[0, 0].backward()
    assert images.grad.abs().sum() > 0


FORMS = [
    lambda y: y,
    lambda y: (y, None),
    lambda y: [y],
    lambda y: {"logits": y},
    lambda y: SimpleNamespace(logits=y),
]


@pytest.mark.parametrize("form", FORMS)
def test_logits_are_found_however_a_network_hands_them_out(form):
    classifier = tiny_classifier()
    images, plain = torch.rand(2, 1, 16, 16), classifier.forward
    expected = image_logits(classifier, images)
    classifier.forward = lambda pixels: form(plain(pixels).logits)
    assert torch.equal(image_logits(classifier, images), expected)
