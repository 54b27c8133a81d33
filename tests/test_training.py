import copy
import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dag_diffusion.networks import seeded_network
from dag_diffusion.training import PROTOCOLS, Protocol, shifted, train

SHORT = Protocol("short", epochs=8, batch_size=4, learning_rate=0.05)


@pytest.fixture
def data():
    """Twelve images of 8 pixels: bright on the left is class 0, on the right class 1."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(12) % 2
    images = torch.rand(12, 1, 8, 8, generator=generator) * 0.2
    images[labels == 0, :, :, :4] += 1
    images[labels == 1, :, :, 4:] += 1
    return images, labels


@pytest.fixture
def network():
    return seeded_network("convnet-1-w4", seed=0, channels=1, size=(8, 8), num_classes=2)


def weights(network):
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach()


def test_learns_to_tell_two_plain_classes_apart(network, data):
    images, labels = data
    trained = train(network, images, labels, SHORT, seed=0)
    assert torch.equal(trained(images).argmax(1), labels)
    assert not trained.training


@pytest.mark.parametrize("max_shift", [0, 2])
def test_equal_seeds_give_equal_weights_and_other_seeds_others(network, data, max_shift):
    protocol = dataclasses.replace(SHORT, max_shift=max_shift)
    first, same, other = (train(copy.deepcopy(network), *data, protocol, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(weights(first), weights(same))
    assert not torch.equal(weights(first), weights(other))


def test_global_randomness_neither_matters_nor_changes(network, data):
    protocol = dataclasses.replace(SHORT, max_shift=1)
    torch.manual_seed(1)
    first = train(copy.deepcopy(network), *data, protocol, seed=0)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    torch.manual_seed(2)
    assert torch.equal(weights(first), weights(train(network, *data, protocol, seed=0)))


def test_images_are_left_as_they_were(network, data):
    images, labels = data
    before = images.clone()
    train(network, images, labels, dataclasses.replace(SHORT, max_shift=1), seed=0)
    assert torch.equal(images, before)


def test_every_image_is_seen_once_an_epoch(network, data):
    images, labels = data
    seen = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    train(network, images, labels, dataclasses.replace(SHORT, epochs=1, batch_size=5), seed=0)
    assert [len(batch) for batch in seen] == [5, 5, 2]
    assert sorted(torch.cat(seen).sum((1, 2, 3)).tolist()) == sorted(images.sum((1, 2, 3)).tolist())


def test_sets_of_equal_size_are_seen_in_the_same_order_and_shifted_alike(network, data):
    _, labels = data
    numbered = torch.arange(12.0).view(-1, 1, 1, 1).expand(12, 1, 8, 8) + torch.arange(8) / 10
    seen = []
    for variant in (numbered, numbered + 100):
        fresh = copy.deepcopy(network)
        fresh.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        train(fresh, variant, labels, dataclasses.replace(SHORT, epochs=2, max_shift=2), seed=0)
    torch.testing.assert_close(torch.cat(seen[:6]) + 100, torch.cat(seen[6:]))


def test_progress_tells_epochs_and_falling_loss(network, data):
    calls = []
    train(network, *data, SHORT, seed=0, progress=lambda epoch, loss: calls.append((epoch, loss)))
    assert [epoch for epoch, _ in calls] == list(range(1, 9))
    assert calls[-1][1] < calls[0][1]


def test_bfloat16_comes_close_to_float32(network, data):
    images, labels = data
    low = train(copy.deepcopy(network), images, labels, dataclasses.replace(SHORT, precision="bfloat16"), seed=0)
    assert low(images).dtype == torch.float32
    high = train(network, images, labels, SHORT, seed=0)
    torch.testing.assert_close(low(images).softmax(1), high(images).softmax(1), atol=0.05, rtol=0)


def test_diverging_training_says_what_to_lower(network, data):
    with pytest.raises(
        FloatingPointError, match=r"loss is .* after epoch \d+; lower the learning_rate of protocol .wild."
    ):
        train(network, *data, Protocol("wild", epochs=30, batch_size=4, learning_rate=1e30), seed=0)


def test_images_that_are_not_normalised_are_refused(network, data):
    images, labels = data
    with pytest.raises(ValueError, match=r"uint8 \(12, 1, 8, 8\); use evaluation.normalise"):
        train(network, images.byte(), labels, SHORT, seed=0)


@pytest.mark.parametrize("change", [lambda labels: labels[:-1], lambda labels: labels.float()])
def test_labels_that_do_not_fit_the_images_are_refused(network, data, change):
    images, labels = data
    with pytest.raises(ValueError, match="12 images need int64 labels"):
        train(network, images, change(labels), SHORT, seed=0)


@given(
    max_shift=st.integers(0, 3),
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(4, 7), st.integers(4, 7)),
)
def test_a_shifted_image_is_a_window_of_itself_with_its_border_repeated(max_shift, seed, size):
    images = torch.rand(size)
    moved = shifted(images, max_shift, torch.Generator().manual_seed(seed))
    height, width = size[2:]

    def window(image, down, right):
        rows = (torch.arange(height) + down).clamp(0, height - 1)
        columns = (torch.arange(width) + right).clamp(0, width - 1)
        return image[:, rows][:, :, columns]

    steps = range(-max_shift, max_shift + 1)
    for image, result in zip(images, moved, strict=True):
        assert any(torch.equal(result, window(image, down, right)) for down in steps for right in steps)


def test_images_of_one_batch_move_apart():
    images = torch.arange(64.0).view(1, 1, 8, 8).expand(50, 1, 8, 8)
    corners = shifted(images, 1, torch.Generator().manual_seed(0))[:, 0, 4, 4]
    assert sorted(set(corners.tolist())) == [27, 28, 29, 35, 36, 37, 43, 44, 45]


def test_classic_is_the_published_protocol():
    classic = PROTOCOLS["classic"]
    assert (classic.epochs, classic.batch_size, classic.learning_rate) == (300, 256, 0.01)
    assert (classic.momentum, classic.weight_decay, classic.max_shift) == (0.9, 5e-4, 0)
    assert [classic.rate_factor(p) for p in (0, 0.49, 0.5, 1)] == pytest.approx([1, 1, 0.1, 0.1])


def test_quick_needs_at_most_4000_passes_for_100_images():
    assert PROTOCOLS["quick"].epochs * 100 <= 4000


def test_protocols_are_filed_under_their_names():
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())


@given(fractions=st.lists(st.floats(0, 1), min_size=2).map(sorted), schedule=st.sampled_from(["steps", "cosine"]))
def test_the_rate_never_rises(fractions, schedule):
    protocol = Protocol("any", epochs=1, batch_size=1, schedule=schedule, milestones=(0.3, 0.6))
    factors = [protocol.rate_factor(fraction) for fraction in fractions]
    assert factors == sorted(factors, reverse=True)
    assert protocol.rate_factor(0) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("momentum", 1),
        ("weight_decay", -1),
        ("schedule", "linear"),
        ("milestones", (0.6, 0.3)),
        ("milestones", (1.0,)),
        ("gamma", 0),
        ("max_shift", -1),
        ("precision", "float16"),
    ],
)
def test_a_protocol_refuses_what_makes_no_sense_and_names_the_field(field, value):
    with pytest.raises(ValueError, match=f"protocol 'short' has {field}=.*; {field} must be "):
        dataclasses.replace(SHORT, **{field: value})
