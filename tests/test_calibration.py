"""Temperatures: found where there is one, left out where it does not help, and kept in a network's last layer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_classifier
from torch import nn

from dag_diffusion.difficulty import difficulty
from dag_diffusion.training.classifiers.backbones import build_backbone
from dag_diffusion.training.classifiers.calibration import (
    calibrate,
    expected_calibration_error,
    negative_log_likelihood,
    scale_all,
    scale_logits,
)


def sampled(sharpness: float, images: int = 2000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are too sharp by a factor, and labels that follow the true probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, 4, generator=generator) * 1.5
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return sharpness * logits, labels


@pytest.mark.parametrize("sharpness", [0.5, 2.0, 4.0])
def test_temperature_undoes_what_made_a_classifier_too_sure_or_too_unsure(sharpness):
    logits, labels = sampled(sharpness)
    found, temperatures = calibrate(logits, labels)
    assert found.kept
    assert found.temperature == pytest.approx(sharpness, rel=0.15)
    assert temperatures == pytest.approx(sharpness, rel=0.2)
    assert found.expected_calibration_error[1] < 0.04 < found.expected_calibration_error[0]


@given(
    sharpness=st.floats(0.2, 5), images=st.integers(1, 200), seed=st.integers(0, 100), folds=st.sampled_from([None, 2])
)
def test_kept_temperature_improves_both_likelihood_and_calibration_out_of_sample(sharpness, images, seed, folds):
    logits, labels = sampled(sharpness, images, seed)
    by = None if folds is None else torch.arange(images).numpy() % folds
    found, temperatures = calibrate(logits, labels, by)
    after = logits / temperatures[:, None]
    if found.kept:
        assert negative_log_likelihood(after.double(), labels) < negative_log_likelihood(logits.double(), labels)
        assert expected_calibration_error(after, labels) < expected_calibration_error(logits, labels)
    else:
        assert (temperatures == 1).all()


@pytest.mark.parametrize("images", [20, 200, 2000])
def test_classifier_without_an_error_is_no_surer_than_so_many_images_can_show(images):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (images,), generator=generator)
    logits = (1 + torch.rand(images, generator=generator))[:, None] * nn.functional.one_hot(labels, 3)
    found, temperatures = calibrate(logits, labels)
    assert found.kept
    values = difficulty(logits / temperatures[:, None], labels)
    assert 0.2 / images < values.mean() < 5 / images
    assert values.unique().numel() > 0.9 * images


def test_few_images_give_no_temperature():
    found, _ = calibrate(*sampled(4.0, images=12))
    assert not found.kept
    assert found.temperature == 1


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    sure = torch.tensor([[50.0, 0.0]] * 4)
    assert expected_calibration_error(sure, torch.tensor([0, 0, 0, 0])) == pytest.approx(0)
    assert expected_calibration_error(sure, torch.tensor([1, 1, 1, 1])) == pytest.approx(1)
    assert expected_calibration_error(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])) == pytest.approx(0)


@pytest.mark.parametrize("name", ["small-resnet", "small-regnet", "test_vit", "test_convnext", "test_byobnet"])
def test_scaled_network_gives_scaled_logits(name):
    backbone = build_backbone(name, {0: "cat", 1: "dog", 2: "bird"}, size=(32, 32), channels=3, weights="none")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = backbone.model.eval()(images).logits
        assert scale_logits(backbone.model, 2.5, images)
        assert torch.allclose(backbone.model(images).logits, before / 2.5, atol=1e-5)


class Bounded(nn.Module):
    """A last layer that no division of its weights can scale."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 5 * torch.tanh(self.linear(features))


def test_network_whose_last_layer_cannot_be_scaled_stays_as_it_was():
    classifier, images = tiny_classifier(), torch.randn(2, 1, 16, 16)
    classifier.classifier[-1] = Bounded(classifier.classifier[-1])
    before = classifier(images).logits
    assert not scale_logits(classifier, 2.0, images)
    assert torch.equal(classifier(images).logits, before)


def test_classifiers_are_scaled_all_by_a_temperature_of_their_own_or_none():
    classifiers, images = [tiny_classifier(), other := tiny_classifier()], torch.randn(2, 1, 16, 16)
    before = classifiers[0](images).logits
    assert scale_all(classifiers, [2.0, 4.0], images)
    assert torch.allclose(classifiers[0](images).logits, before / 2)
    assert torch.allclose(other(images).logits, before / 4)
    other.classifier[-1] = Bounded(other.classifier[-1])
    left = [classifier(images).logits for classifier in classifiers]
    assert not scale_all(classifiers, [3.0, 3.0], images)
    assert all(torch.equal(one(images).logits, old) for one, old in zip(classifiers, left, strict=True))
