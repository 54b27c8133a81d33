import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dag_diffusion.evaluation import list_networks
from dag_diffusion.evaluation.networks import AveragePool, build_network, seeded_network


def parameter_count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def expected_count(depth, width, channels, size, num_classes):
    inputs = [channels] + [width] * (depth - 1)
    blocks = sum(9 * c * width + width + 2 * width for c in inputs)  # convolution, bias, affine norm
    height, breadth = size
    for _ in range(depth):
        height, breadth = height // 2, breadth // 2
    return blocks + width * height * breadth * num_classes + num_classes


def test_the_field_s_network_for_imagenet_subsets_has_its_known_size():
    assert parameter_count(build_network("convnet-6", channels=3, size=(224, 224), num_classes=10)) == 754_570


@pytest.mark.parametrize(("channels", "size"), [(1, (32, 32)), (3, (32, 32)), (3, (40, 64))])
def test_convnet_3_is_128_wide_and_has_the_parameters_of_its_layers(channels, size):
    network = build_network("convnet-3", channels=channels, size=size, num_classes=10)
    assert parameter_count(network) == expected_count(3, 128, channels, size, 10)


@settings(max_examples=20)
@given(
    depth=st.integers(1, 6),
    width=st.integers(1, 6),
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(64, 80), st.integers(64, 80)),
    num_classes=st.integers(1, 7),
)
def test_any_allowed_name_gives_one_logit_a_class(depth, width, channels, size, num_classes):
    network = build_network(f"convnet-{depth}-w{width}", channels=channels, size=size, num_classes=num_classes)
    assert network(torch.zeros(2, channels, *size)).shape == (2, num_classes)
    assert parameter_count(network) == expected_count(depth, width, channels, size, num_classes)


@pytest.mark.parametrize("name", list_networks())
def test_every_listed_network_can_be_built(name):
    network = build_network(name, channels=3, size=(64, 64), num_classes=3)
    assert sum(parameter.numel() for parameter in network.parameters()) > 0


@given(
    side=st.sampled_from([2, 4]),
    height=st.integers(4, 12),
    width=st.integers(4, 12),
    seed=st.integers(0, 2**16),
)
def test_average_pooling_is_torchs_own_in_values_and_gradients(side, height, width, seed):
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    mine, torchs = AveragePool(side)(images), F.avg_pool2d(images, side)
    torch.testing.assert_close(mine, torchs)
    weights = torch.rand(torchs.shape)
    torch.testing.assert_close(*(torch.autograd.grad((one * weights).sum(), images)[0] for one in (mine, torchs)))


def test_average_pooling_of_wide_images_is_torchs_own():
    images = torch.rand(1, 2, 4, 66, generator=torch.Generator().manual_seed(0))
    assert torch.equal(AveragePool(2)(images), F.avg_pool2d(images, 2))


def test_average_pooling_in_bfloat16_rounds_as_torchs_own_does():
    images = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(AveragePool(2)(images), F.avg_pool2d(images, 2))


def test_each_image_is_normalised_on_its_own():
    network = seeded_network("convnet-2-w4", seed=0, channels=1, size=(8, 8), num_classes=3)
    images = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(network(images)[2:3], network(images[2:3]))


def test_instance_norm_does_not_see_the_brightness_of_an_image():
    block = seeded_network("convnet-1-w4", seed=0, channels=1, size=(8, 8), num_classes=3)[0]
    image = torch.rand(1, 1, 8, 8)
    normalised = block[1](block[0](image))
    torch.testing.assert_close(normalised.mean((2, 3)), torch.zeros(1, 4), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name",
    [
        "convnet",
        "convnet-0",
        "convnet-7",
        "convnet-3-w0",
        "convnet-3-64",
        "resnet-11",
        "resnet-18-w64",
        "resnet-ap-34",
        "",
    ],
)
def test_unknown_name_is_answered_with_the_allowed_ones(name):
    allowed = r"convnet-1 to convnet-6 .*, resnet-10/18/34/50, resnet-ap-10/18, or timm/NAME"
    with pytest.raises(ValueError, match=allowed):
        build_network(name, channels=1, size=(64, 64), num_classes=2)


def test_image_too_small_for_the_depth_is_answered_with_the_size_it_needs():
    with pytest.raises(ValueError, match="needs images of 64 pixels a side, but got 64x63"):
        build_network("convnet-6", channels=1, size=(64, 63), num_classes=2)


def test_initial_weights_follow_from_the_seed_alone():
    def weights(seed):
        network = seeded_network("convnet-2-w4", seed=seed, channels=1, size=(8, 8), num_classes=3)
        return torch.nn.utils.parameters_to_vector(network.parameters())

    torch.manual_seed(1)
    first = weights(5)
    torch.manual_seed(2)
    assert torch.equal(first, weights(5))
    assert not torch.equal(first, weights(6))


def test_global_randomness_is_left_as_it_was():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    seeded_network("convnet-1-w4", seed=5, channels=1, size=(8, 8), num_classes=3)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit", "timm/resnet10t.c3_in1k"])
@pytest.mark.parametrize(("channels", "size"), [(1, (32, 32)), (3, (64, 64))])
def test_any_network_of_timm_takes_the_images_at_their_size(name, channels, size):
    network = build_network(name, channels=channels, size=size, num_classes=4)
    assert network.training
    assert network(torch.zeros(2, channels, *size)).shape == (2, 4)


def test_a_network_of_timm_starts_from_the_seed_and_not_from_trained_weights():
    first, same, other = (
        seeded_network("timm/test_vit", seed=seed, channels=1, size=(32, 32), num_classes=3) for seed in (5, 5, 6)
    )
    weights = [torch.nn.utils.parameters_to_vector(network.parameters()) for network in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_unknown_network_of_timm_is_answered_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"no network 'resnet81'; the nearest names are .*resnet18"):
        build_network("timm/resnet81", channels=1, size=(64, 64), num_classes=2)


def test_nothing_is_fetched_for_a_name_that_points_to_a_hub():
    with pytest.raises(ValueError, match="timm has no network"):
        build_network("timm/hf-hub:someone/something", channels=1, size=(64, 64), num_classes=2)


def test_images_too_small_for_a_network_of_timm_are_refused_before_training():
    with pytest.raises(ValueError, match="inception_v3 of timm cannot see 1x16x16 images"):
        build_network("timm/inception_v3", channels=1, size=(16, 16), num_classes=2)
