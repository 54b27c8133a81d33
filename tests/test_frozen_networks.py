"""Networks frozen for many batches: the same answers, and those that cannot be frozen as they were."""

import logging

import pytest
import torch
from tiny import NAMES, PREPROCESSING, tiny_classifier, write_images
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils.logging import warning_once

from dag_diffusion import read_pool, score_pool
from dag_diffusion.classifiers.frozen_networks import asked, frozen
from dag_diffusion.sampling import scoring

SHAPE = (2, 1, 16, 16)


@pytest.fixture
def images():
    return torch.rand(SHAPE).contiguous(memory_format=torch.channels_last)


def used(guide):
    """A guide whose batch norms have seen images."""
    guide.train()
    with torch.no_grad():
        for _ in range(3):
            guide(torch.randn(8, 1, 16, 16) * 2 + 1)
    return guide.eval()


@pytest.mark.parametrize("features", [False, True])
def test_frozen_network_gives_the_same_answers(images, features):
    with asked(used(tiny_classifier()), features) as network, torch.inference_mode():
        quick = frozen(network, SHAPE)
        assert quick is not network
        for expected, found in zip(network(images), quick(images), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_network_that_returns_a_tensor_is_frozen_too():
    guide = used(tiny_classifier())
    plain = guide.forward
    guide.forward = lambda pixels: plain(pixels).logits
    with asked(guide) as network, torch.inference_mode():
        assert frozen(network, SHAPE) is not network


class OwnClassifier(PreTrainedModel):
    def __init__(self, network):
        super().__init__(PreTrainedConfig(id2label=NAMES, preprocessing=PREPROCESSING))
        self.network = network

    def forward(self, images):
        return self.network(images)


def test_nothing_is_said_of_the_loss_of_a_model_that_is_frozen(images, monkeypatch):
    warning_once.cache_clear()  # it speaks once in a process
    said, logger = [], logging.getLogger("transformers.modeling_utils")
    monkeypatch.setattr(logger, "handle", said.append)
    network = OwnClassifier(nn.Sequential(nn.Flatten(), nn.Linear(256, 3))).eval()
    with asked(network) as as_asked, torch.inference_mode():
        assert frozen(as_asked, SHAPE) is not as_asked
    assert not said
    assert not logger.disabled


def test_exported_program_is_scored(tmp_path):
    write_images(tmp_path, {"Bag": 3, "T-shirt": 2})
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(plain, (torch.rand(SHAPE),), dynamic_shapes=shapes).module()
    guide, pool = OwnClassifier(program), read_pool(tmp_path)
    guide.training = False  # its eval() is refused by torch
    expected = score_pool(pool, OwnClassifier(plain).eval()).difficulties
    assert score_pool(pool, guide).difficulties == pytest.approx(expected, abs=1e-6)


class HeadByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(256, 3)

    def forward(self, images):
        return self.head(input=images.flatten(1))


def test_features_of_a_head_that_is_called_by_name_are_its_input(images):
    with asked(OwnClassifier(HeadByName()).eval(), features=True) as network, torch.inference_mode():
        assert torch.equal(network(images)[1], images.flatten(1))


class Unseen(nn.Module):
    """What differs from call to call is no constant."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return (images.mean((1, 2, 3)) * self.calls,)


class Untraceable(nn.Module):
    def forward(self, images):
        if torch.jit.is_tracing():
            raise RuntimeError("no trace of this")
        return (images.mean((1, 2, 3)),)


class Normalising(nn.Module):
    """Takes images as they are or normalised, and tells them apart by their values."""

    def __init__(self, unnormalised, levels):
        super().__init__()
        self.unnormalised, self.levels = unnormalised, levels

    def forward(self, images):
        if self.unnormalised(images):
            images = (images / self.levels - 0.5) / 0.5
        return (images.mean((1, 2, 3)),)


def of_unit_interval():
    return Normalising(lambda images: images.min() >= 0, 1)


def of_levels():
    return Normalising(lambda images: images.max() > 10, 255)


@pytest.mark.parametrize("kind", [Unseen, Untraceable, of_unit_interval, of_levels])
def test_network_that_cannot_be_frozen_is_used_as_it_is(kind):
    network = kind().eval()
    assert frozen(network, SHAPE) is network


def test_difficulties_of_a_frozen_guide_are_the_same(tmp_path, monkeypatch):
    write_images(tmp_path, {"Bag": 5, "T-shirt": 4})
    pool, guide = read_pool(tmp_path), used(tiny_classifier())
    frozen_for = []
    monkeypatch.setattr(scoring, "frozen", lambda network, shape: frozen_for.append(shape) or frozen(network, shape))
    before = score_pool(pool, guide, batch_size=2, features=True)
    assert not frozen_for  # so few images do not pay for it
    monkeypatch.setattr(scoring, "FROZEN_FROM", 0)
    after = score_pool(pool, guide, batch_size=2, features=True)
    assert frozen_for == [SHAPE]
    assert after.difficulties == pytest.approx(before.difficulties, abs=1e-5)
    assert after.features == pytest.approx(before.features, abs=1e-4)


def test_features_of_threads_are_not_mixed(tmp_path, monkeypatch):
    write_images(tmp_path, {"Bag": 40})
    pool, guide = read_pool(tmp_path), tiny_classifier()
    one = score_pool(pool, guide, batch_size=1, features=True).features
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    many = score_pool(pool, guide, batch_size=1, features=True).features
    torch.set_num_threads(threads)  # what is said to be there was restored, and rounds otherwise in tests to come
    assert (one == many).all()
