"""Residual networks: the field's sizes and layouts, with nothing shared between the images of a batch."""

import pytest
import torch
from torch import nn

from dag_diffusion.evaluation.networks import AveragePool, build_network, resnet, seeded_network


def parameter_count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def map_sides(network, side):
    """Side of the map that each of the four stages gives."""
    sides = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        stage.register_forward_hook(lambda _, inputs, output: sides.append(output.shape[-1]))
    with torch.no_grad():
        network(torch.zeros(1, 3, side, side))
    return sides


@pytest.mark.parametrize(("name", "count"), [("resnet-ap-10", 4_910_922), ("resnet-18", 11_181_642)])
def test_the_field_s_networks_for_imagenet_subsets_have_their_known_sizes(name, count):
    assert parameter_count(build_network(name, channels=3, size=(224, 224), num_classes=10)) == count


@pytest.mark.parametrize("name", ["resnet-10", "resnet-34", "resnet-50", "resnet-ap-18", "resnetap-10"])
def test_every_allowed_name_gives_one_logit_a_class(name):
    network = build_network(name, channels=1, size=(32, 40), num_classes=7)
    with torch.no_grad():
        assert network(torch.rand(2, 1, 32, 40)).shape == (2, 7)


def test_both_spellings_of_the_averaging_network_are_one():
    one, other = (
        seeded_network(name, seed=1, channels=1, size=(16, 16), num_classes=2)
        for name in ("resnet-ap-10", "resnetap-10")
    )
    assert str(one) == str(other)
    assert torch.equal(one.conv1.weight, other.conv1.weight)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(
    ("side", "sides"), [(32, [32, 16, 8, 4]), (64, [64, 32, 16, 8]), (96, [48, 24, 12, 6]), (224, [56, 28, 14, 7])]
)
def test_the_stem_follows_the_size_of_the_images(side, sides, pooled):
    assert map_sides(resnet(10, channels=3, size=(side, side), num_classes=2, pooled=pooled), side) == sides


@pytest.mark.parametrize("depth", [10, 50])
def test_the_averaging_network_never_strides(depth):
    network = resnet(depth, channels=3, size=(224, 224), num_classes=2, pooled=True)
    assert {m.stride for m in network.modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}
    assert sum(isinstance(m, AveragePool) for m in network.modules()) == 7  # the stem, and twice in three stages


@pytest.mark.parametrize("name", ["resnet-10", "resnet-ap-10"])
def test_each_image_is_normalised_on_its_own(name):
    network = seeded_network(name, seed=0, channels=1, size=(32, 32), num_classes=3)
    images = torch.rand(4, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(images)[2:3], network(images[2:3]), atol=1e-4, rtol=1e-4)


def test_logits_tell_images_of_the_smallest_size_apart():
    network = seeded_network("resnet-ap-10", seed=0, channels=1, size=(16, 16), num_classes=3)
    with torch.no_grad():
        logits = network(torch.rand(2, 1, 16, 16))
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_smaller_images_are_refused_with_the_size_it_needs():
    with pytest.raises(ValueError, match="needs images of 16 pixels a side or more, but got 15x32"):
        build_network("resnet-18", channels=1, size=(15, 32), num_classes=2)
