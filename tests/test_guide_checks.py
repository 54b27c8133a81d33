"""A guide steers only where its gradient sees what its own transform makes of files, which measures difficulty."""

import pytest
import torch
from tiny import NAMES, tiny_classifier, tiny_pipeline
from tiny_backbones import SEES, WIDTHS
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor, ViTImageProcessorPil

from dag_diffusion.classifiers.guide_checks import require_same_measure
from dag_diffusion.classifiers.model_transforms import ModelTransform, model_transform, settings_of, timm_settings
from dag_diffusion.data.pools import read_pool
from dag_diffusion.generation.filling import fill_pool
from dag_diffusion.generation.plan import PoolConfig
from dag_diffusion.loading import load_guide
from dag_diffusion.sampling.scoring import score_pool
from dag_diffusion.sampling.target_parser import as_target

TWO_STEPS = {"num_inference_steps": 2}


def guide_with(processor):
    fields = model_transform("image_processor", settings_of(processor), 3).as_fields()
    classifier = tiny_classifier(num_channels=3)
    with torch.no_grad():
        classifier.classifier[-1].weight.div_(10)  # in doubt, as a trained guide is
    classifier.config.preprocessing = fields
    return classifier


def bicubic(side: int):
    return ViTImageProcessor(size={"height": side, "width": side}, resample=3)


def test_guide_whose_gradient_sees_other_pixels_is_refused_with_the_difference():
    # Pillow's nearest pixel is another than torchvision's
    processor = ViTImageProcessorPil(size={"height": 14, "width": 14}, resample=0)
    pipeline = tiny_pipeline(classifier=guide_with(processor))
    with pytest.raises(ValueError, match=r"cannot steer.* up to 0\.\d+"):
        pipeline([0], 0.5, **TWO_STEPS)
    assert pipeline([0], **TWO_STEPS).difficulties is not None  # scoring needs no gradient


def test_guide_through_whose_transform_no_gradient_goes_can_score_and_not_steer(monkeypatch):
    plain = ModelTransform.__call__
    monkeypatch.setattr(ModelTransform, "__call__", lambda self, images: plain(self, images).detach())
    pipeline = tiny_pipeline(classifier=guide_with(bicubic(24)))
    with pytest.raises(ValueError, match="no gradient"):
        pipeline([0], 0.5, **TWO_STEPS)
    assert pipeline([0], **TWO_STEPS).difficulties is not None


def test_guide_that_differs_on_other_shapes_alone_steers_and_tells(caplog):
    said = {"input_size": (3, 24, 24), "crop_mode": "border", "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3}
    classifier = tiny_classifier(num_channels=3)
    classifier.config.preprocessing = model_transform("timm", timm_settings(said, {}), 3).as_fields()
    tiny_pipeline(classifier=classifier)([0], 0.5, **TWO_STEPS)
    assert "guidance sees none" in caplog.text


def test_guide_is_compared_once_for_each_size(monkeypatch):
    classifier, seen = guide_with(bicubic(12)), []
    monkeypatch.setattr("dag_diffusion.classifiers.guide_checks.difference", lambda *given: seen.append(1) or 0.0)
    for size in (16, 16, 20):
        require_same_measure(classifier, size)
    assert len(seen) == 12


def test_guide_that_gives_probabilities_is_refused():
    guide = tiny_classifier()
    plain = guide.forward
    guide.forward = lambda pixels: plain(pixels).logits.softmax(1)
    with pytest.raises(ValueError, match="gives probabilities"):
        require_same_measure(guide, 16)


def test_classifier_whose_processor_makes_images_of_a_size_that_it_cannot_see_is_named(tmp_path):
    ViTForImageClassification(ViTConfig(**WIDTHS, **SEES, num_labels=3)).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 48, "width": 48}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"^{tmp_path} cannot look at an image; .* size \(48\*48\)"):
        load_guide(tmp_path, device="cpu")


def without_gradients(plain):
    @torch.no_grad()
    def forward(pixels):
        return plain(pixels)

    return forward


CUTS = {
    "no_grad": without_gradients,
    "whole numbers": lambda plain: lambda pixels: plain((255 * pixels).byte() / 255),
    "numpy": lambda plain: lambda pixels: plain(torch.from_numpy(pixels.numpy())),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("side", [16, 24])
def test_guide_whose_network_cuts_the_gradient_can_score_and_not_steer(cut, side):
    guide = guide_with(bicubic(side))
    guide.forward = CUTS[cut](guide.forward)
    pipeline = tiny_pipeline(classifier=guide)
    with pytest.raises(ValueError, match="no gradient goes through the guide's own network, so that it can score"):
        pipeline([0], 0.5, **TWO_STEPS)
    assert pipeline([0], **TWO_STEPS).difficulties is not None


def test_guide_that_was_made_in_inference_mode_is_told():
    with torch.inference_mode():
        guide = tiny_classifier()
    with pytest.raises(ValueError, match=r"own network.*: Inference tensors cannot be saved for backward"):
        tiny_pipeline(classifier=guide)([0], 0.5, **TWO_STEPS)


def test_embedded_kind_of_guide_that_resizes_nothing_needs_no_comparison(monkeypatch):
    monkeypatch.setattr("dag_diffusion.classifiers.guide_checks.difference", lambda *given: pytest.fail("compared"))
    require_same_measure(tiny_classifier(), 16)


@pytest.mark.parametrize("target", [None, 0.5])
@pytest.mark.parametrize("kind", ["own fields", "image processor"])
def test_recorded_difficulty_is_the_one_that_scoring_finds(tmp_path, kind, target):
    classifier = guide_with(bicubic(24))
    if kind == "own fields":
        classifier.config.preprocessing = {
            "height": 24, "width": 24, "channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3, "resample": "bicubic",
        }  # fmt: skip
    config = PoolConfig(images_per_class=2, num_inference_steps=2, target=None if target is None else as_target(target))
    pool = fill_pool(tiny_pipeline(classifier=classifier), tmp_path / "pool", config)
    recorded = [row["difficulty"] for row in pool.rows]
    assert score_pool(read_pool(tmp_path / "pool"), classifier).difficulties == pytest.approx(recorded, abs=1e-6)


def test_saved_pipeline_keeps_the_image_processor_of_its_guide(tmp_path):
    from dag_diffusion.loading import load_pipeline

    pipeline = tiny_pipeline(classifier=guide_with(bicubic(24)))
    pipeline.save_pretrained(tmp_path)
    again = load_pipeline(tmp_path, device="cpu")
    images = [part([0, 1], 0.3, generator=torch.manual_seed(0), **TWO_STEPS) for part in (pipeline, again)]
    assert torch.equal(images[0].difficulties, images[1].difficulties)


def test_guide_put_into_a_pipeline_later_is_saved_with_its_preprocessing(tmp_path):
    from dag_diffusion.classifiers import load_classifier, preprocessing_of

    folder = tmp_path / "guide"
    classifier = tiny_classifier(NAMES, num_channels=3)
    del classifier.config.preprocessing
    classifier.save_pretrained(folder)
    bicubic(24).save_pretrained(folder)
    pipeline = tiny_pipeline(classifier=None)
    pipeline.register_modules(classifier=load_classifier(folder))
    pipeline.save_pretrained(tmp_path / "pipeline")
    assert preprocessing_of(load_classifier(tmp_path / "pipeline/classifier")).height == 24
