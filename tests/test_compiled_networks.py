"""Compiled networks give the logits of the plain ones, and only long work is compiled."""

import pytest
import torch

from dag_diffusion.classifiers import compiled_networks
from dag_diffusion.classifiers.compiled_networks import flop_of, forward_for, plain
from dag_diffusion.evaluation.networks import seeded_network

IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    return seeded_network("convnet-1-w4", seed=0, channels=1, size=(8, 8), num_classes=2)


def test_flop_are_those_of_convolution_and_linear_layer(network):
    assert flop_of(network, IMAGES[:1]) == 2 * (4 * 9 * 8 * 8 + 4 * 4 * 4 * 2)


def test_short_work_is_not_compiled(network):
    assert forward_for(network, IMAGES, "float32", trained=100, tested=100) is plain


def test_work_for_another_device_is_not_compiled(network):
    assert forward_for(network.to("meta"), IMAGES.to("meta"), "float32", trained=10**12, tested=0) is plain


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_compiled_logits_are_the_networks_own(monkeypatch, network, batch):
    monkeypatch.setattr(
        compiled_networks.torch, "compile", lambda forward: torch._dynamo.optimize("aot_eager")(forward)
    )
    forward = forward_for(network, IMAGES, "float32", trained=10**12, tested=0)
    assert forward is not plain
    other = seeded_network("convnet-1-w4", seed=1, channels=1, size=(8, 8), num_classes=2)
    for one in (network, other):
        torch.testing.assert_close(forward(one, IMAGES[:batch]), one(IMAGES[:batch]))


def test_without_a_compiler_the_network_is_used_as_it_is(monkeypatch, network):
    def broken(forward):
        def call(*_):
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr(compiled_networks.torch, "compile", broken)
    assert forward_for(network, IMAGES, "float32", trained=10**12, tested=0) is plain
