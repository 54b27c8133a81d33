"""Classifiers of any make: preprocessing found and differentiable, classes matched by name, errors with a way out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import NAMES, tiny_classifier
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, ViTConfig, ViTForImageClassification

from dag_diffusion.classifiers import Preprocessing, image_logits, load_classifier, match_classes, preprocessing_of


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


def test_classes_match_by_any_synonym_whatever_the_order_and_case():
    assert match_classes({0: "BAG", 1: "boot"}, NAMES) == {0: 2, 1: 1}


def test_name_that_stands_twice_goes_to_the_equal_label():
    cranes = {134: "crane", 517: "crane"}
    assert match_classes({517: "crane"}, cranes) == {517: 517}
    assert match_classes({3: "crane_517"}, cranes) == {3: 517}
    with pytest.raises(ValueError, match="call the class or its folder crane_134, crane_517"):
        match_classes({3: "crane"}, cranes)


def test_main_name_goes_before_another_classes_synonym():
    names = {82: "ruffed grouse, partridge", 86: "partridge", 264: "Cardigan, Cardigan Welsh corgi", 474: "cardigan"}
    assert match_classes({0: "partridge", 1: "cardigan"}, names) == {0: 86, 1: 474}
    assert match_classes({0: "boot"}, {0: "Ankle boot, boot", 1: "boot"}) == {0: 1}


def test_every_folder_of_an_imagenet_pool_is_found_again():
    from transformers import TimmWrapperConfig

    from dag_diffusion.pools import folder_names

    settings = {"architecture": "resnet50", "num_classes": 1000, "pretrained_cfg": {"input_size": [3, 224, 224]}}
    names = {int(k): v for k, v in TimmWrapperConfig.from_dict(settings).id2label.items()}
    folders = folder_names(names)
    assert match_classes(folders, names) == {label: label for label in names}
    shifted = {label + 5000: folder for label, folder in folders.items() if names[label] not in ("crane", "maillot")}
    doubtful = {"Cardigan"}  # a dog and a jacket whose folder is cardigan_474
    assert all(match_classes({k: v}, names)[k] == k - 5000 for k, v in shifted.items() if v not in doubtful)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="the nearest are bag"):
        match_classes({0: "bags"}, NAMES)


def test_classes_without_names_match_by_number_if_there_are_as_many():
    unnamed = {i: f"LABEL_{i}" for i in range(3)}
    assert match_classes(unnamed, NAMES) == {0: 0, 1: 1, 2: 2}
    with pytest.raises(ValueError, match="without names"):
        match_classes({i: f"LABEL_{i}" for i in range(4)}, NAMES)
