"""Every image processor of transformers and every configuration of timm: run as it is, differentiable, or refused."""

import json
from functools import cache

import numpy as np
import pytest
import timm
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import tiny_classifier
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from dag_diffusion.classifiers.guide_checks import TOLERANCE, difference, pictures_of
from dag_diffusion.classifiers.model_transforms import ModelTransform, model_transform, settings_of, timm_settings
from dag_diffusion.classifiers.preprocessing import eight_bit_tensor

# they give patches, numbers of clusters, several crops, or images of many sizes, which no batch holds
REFUSED = {"Gemma3ImageProcessor", "ImageGPTImageProcessor", "Siglip2ImageProcessor", "TextNetImageProcessor"}
SMALL = {"DonutImageProcessor": {"size": {"height": 64, "width": 48}}}


def processor_classes() -> list[str]:
    known = [IMAGE_PROCESSOR_MAPPING_NAMES.get(kind) or {} for kind in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES]
    names = {name for backends in known for name in backends.values() if name}
    return sorted(names - {"TimmWrapperImageProcessor"})  # which is timm's own transform


@cache
def guide():
    config = {"height": 16, "width": 16, "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "crop": 1.0}
    classifier = tiny_classifier(num_channels=3, preprocessing=config)
    with torch.no_grad():
        classifier.classifier[-1].weight.div_(10)  # in doubt, as a trained guide is
    return classifier


def largest_difference(transform: ModelTransform, size: int, shapes=("square", "grey", "wide", "tall")) -> float:
    pictures = (picture for name, picture in pictures_of(size) if name in shapes)
    return max(difference(guide(), transform, picture) for picture in pictures)


@pytest.mark.parametrize("name", processor_classes())
def test_every_image_processor_is_run_as_it_is_or_refused(name):
    kind = getattr(transformers, name)
    if name.removesuffix("Pil") in REFUSED:
        with pytest.raises(ValueError, match=r"config\.preprocessing"):
            model_transform("image_processor", settings_of(kind()), 3)
        return
    processor = kind(**SMALL.get(name.removesuffix("Pil"), {}))
    transform = model_transform("image_processor", settings_of(processor), 3)
    for _, picture in list(pictures_of(64))[::2]:
        exact = torch.as_tensor(
            np.asarray(processor(images=picture.convert("RGB"), return_tensors="pt")["pixel_values"])
        )
        assert torch.equal(transform.read(picture), exact)
    assert largest_difference(transform, 64) <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ViTImageProcessor", {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}),
        ("ViTImageProcessor", {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}),
        ("ViTImageProcessor", {"resample": 1}),
        ("ViTImageProcessor", {"resample": 0}),
        ("ViTImageProcessor", {"do_resize": True, "do_normalize": False, "size": {"height": 48, "width": 32}}),
        ("EfficientNetImageProcessor", {"resample": 0, "include_top": True}),
        ("EfficientNetImageProcessor", {"rescale_offset": True, "rescale_factor": 1 / 127.5}),
        ("MobileViTImageProcessor", {"do_flip_channel_order": True}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}, "crop_pct": 0.9}),
        ("CLIPImageProcessor", {"size": {"shortest_edge": 64}, "crop_size": {"height": 80, "width": 80}}),
    ],
)
def test_settings_off_the_beaten_track_are_honoured(name, changes):
    processor = getattr(transformers, name)(**changes)
    transform = model_transform("image_processor", settings_of(processor), 3)
    picture = next(iter(pictures_of(72)))[1]
    assert torch.equal(transform.read(picture), processor(images=picture, return_tensors="pt")["pixel_values"])
    assert largest_difference(transform, 72) <= TOLERANCE


def timm_configurations(*telling: str) -> list[dict]:
    """One configuration for each combination of what tells, with the smallest input."""
    found: dict[str, dict] = {}
    for name in timm.list_pretrained():
        pretrained = timm.get_pretrained_cfg(name).to_dict()
        if pretrained.get("num_classes"):
            wanted = timm_settings(pretrained, {})
            key = json.dumps([wanted[word] for word in telling])
            if key not in found or wanted["input_size"] < found[key]["input_size"]:
                found[key] = wanted
    return list(found.values())


def require_timms_own(wanted: dict, size: int) -> None:
    from timm.data import create_transform

    transform = model_transform("timm", wanted, wanted["input_size"][0])
    own = create_transform(**wanted, is_training=False)
    picture = next(iter(pictures_of(size)))[1]
    assert torch.equal(transform.read(picture)[0], own(picture))
    assert largest_difference(transform, size, ("square", "wide")) < 1e-5


def test_every_crop_and_interpolation_of_timm_is_run_as_it_is():
    for wanted in timm_configurations("crop_mode", "interpolation", "crop_pct"):
        require_timms_own({**wanted, "input_size": (3, 80, 80)}, 64)


@pytest.mark.parametrize("telling", [["input_size"], ["mean", "std"]])
def test_every_size_and_normalisation_of_timm_is_run_as_it_is(telling):
    for wanted in timm_configurations(*telling):
        require_timms_own(wanted, 256)


@pytest.mark.parametrize(("crop_mode", "size"), [("center", (3, 40, 24)), ("squash", (3, 24, 40))])
def test_rectangles_of_timm_are_run_as_they_are(crop_mode, size):
    said = {"input_size": size, "crop_mode": crop_mode, "crop_pct": 0.9, "interpolation": "bicubic"}
    require_timms_own(timm_settings(said, {}), 64)


def vit(side: int = 32) -> ModelTransform:
    processor = transformers.ViTImageProcessor(size={"height": side, "width": side}, resample=3)
    return model_transform("image_processor", settings_of(processor), 3)


def test_gradient_reaches_every_pixel_of_a_squashed_image():
    images = torch.rand(2, 3, 40, 60, requires_grad=True)
    vit()(images).square().sum().backward()
    assert (images.grad.abs().sum(1) > 0).all()


@settings(max_examples=20)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["L", "RGB", "RGBA", "P", "1"]))
def test_any_picture_gives_one_image_of_the_models_size(width, height, mode):
    made = vit().read(Image.new("RGB", (width, height), "red").convert(mode))
    assert made.shape == (1, 3, 32, 32)
    assert made.dtype == torch.float32


@given(st.integers(8, 60), st.integers(8, 60))
@settings(max_examples=20)
def test_tensors_of_pictures_are_read_as_the_pictures(width, height):
    picture = Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))
    assert torch.equal(vit()(eight_bit_tensor(picture, 3)), vit().read(picture))
    assert torch.allclose(vit()(eight_bit_tensor(picture, 3) / 255), vit().read(picture), atol=1e-5)


def test_grey_timm_model_with_the_statistics_of_colours_gets_their_mean():
    wanted = timm_settings({"input_size": [3, 16, 16], "mean": [0.2, 0.4, 0.6], "std": [1, 1, 1]}, {"in_chans": 1})
    assert (wanted["input_size"], wanted["mean"]) == ((1, 16, 16), (pytest.approx(0.4),))


def test_processor_that_transformers_lacks_is_named():
    with pytest.raises(ValueError, match="no image processor TokenizerOfNothing"):
        model_transform("image_processor", {"image_processor_type": "TokenizerOfNothing"}, 3)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"img_size": [96, 64]}, (96, 64)),
        ({"img_size": 96}, (96, 96)),
        ({"img_size": [96, 96], "dynamic_img_size": True}, (16, 16)),
    ],
)
def test_size_of_a_timm_model_as_timm_itself_writes_it(arguments, wanted):
    assert timm_settings({"input_size": [3, 16, 16]}, arguments)["input_size"] == (3, *wanted)


@pytest.mark.parametrize("channels", [1, 4])
def test_processor_of_other_channels_than_the_network_s_is_told(channels):
    said = settings_of(transformers.ViTImageProcessor(size={"height": 32, "width": 32}, do_convert_rgb=True))
    with pytest.raises(ValueError, match=f"gives images of 3 channels, and the network takes {channels}; mend its"):
        model_transform("image_processor", said, channels)
