"""Classifiers of any make: preprocessing found and differentiable, errors with a way out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_classifier
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, ViTConfig, ViTForImageClassification

from dag_diffusion.classifiers import Preprocessing, image_logits, load_classifier, preprocessing_of


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
