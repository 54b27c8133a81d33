import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath

from dag_diffusion.evaluation.networks import seeded_network
from dag_diffusion.evaluation.protocols import PROTOCOLS, Protocol
from dag_diffusion.evaluation.training import train

SHORT = Protocol("short", epochs=8, batch_size=4, learning_rate=0.05, precision="float32")
# every augmentation at once
VARIED = dataclasses.replace(SHORT, max_shift=1, crop_scale=0.5, flip=True, color_jitter=0.4, lighting=0.1, cutmix=1.0)


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


@pytest.mark.parametrize("protocol", [SHORT, VARIED], ids=["plain", "varied"])
def test_equal_seeds_give_equal_weights_and_other_seeds_others(network, data, protocol):
    first, same, other = (train(copy.deepcopy(network), *data, protocol, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(weights(first), weights(same))
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("layer", [torch.nn.Identity(), torch.nn.Dropout(0.5), DropPath(0.5)])
def test_global_randomness_neither_matters_nor_changes(network, data, layer):
    network.insert(3, layer)
    torch.manual_seed(1)
    first = train(copy.deepcopy(network), *data, VARIED, seed=0)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    torch.manual_seed(2)
    assert torch.equal(weights(first), weights(train(network, *data, VARIED, seed=0)))


def test_images_are_left_as_they_were(network, data):
    images, labels = data
    before = images.clone()
    train(network, images, labels, VARIED, seed=0)
    assert torch.equal(images, before)


def test_every_image_is_seen_once_an_epoch(network, data):
    images, labels = data
    seen = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    train(network, images, labels, dataclasses.replace(SHORT, epochs=1, batch_size=5), seed=0)
    assert [len(batch) for batch in seen] == [5, 5, 2]
    assert sorted(torch.cat(seen).sum((1, 2, 3)).tolist()) == sorted(images.sum((1, 2, 3)).tolist())


def test_sets_of_equal_size_are_seen_in_the_same_order_and_changed_alike(network, data):
    _, labels = data
    numbered = torch.arange(12.0).view(-1, 1, 1, 1).expand(12, 1, 8, 8) + torch.arange(8) / 10
    seen = []
    for variant in (numbered, numbered + 100):
        fresh = copy.deepcopy(network)
        fresh.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        train(fresh, variant, labels, dataclasses.replace(VARIED, epochs=2), seed=0)
    torch.testing.assert_close(torch.cat(seen[:6]) + 100, torch.cat(seen[6:]), atol=1e-4, rtol=0)


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


@pytest.mark.parametrize(
    "change", [lambda labels: labels[:-1], lambda labels: labels.float(), lambda labels: labels.int()]
)
def test_labels_that_do_not_fit_the_images_are_refused(network, data, change):
    images, labels = data
    with pytest.raises(ValueError, match="12 images need int64 labels"):
        train(network, images, change(labels), SHORT, seed=0)


@pytest.mark.parametrize("labels", [torch.full((12, 2), 0.4), torch.tensor([[2.0, -1.0]]).expand(12, 2)])
def test_logits_in_the_place_of_probabilities_are_refused(network, data, labels):
    with pytest.raises(ValueError, match="rows sum to 1; apply softmax"):
        train(network, data[0], labels, SHORT, seed=0)


@pytest.mark.parametrize("protocol", [SHORT, VARIED], ids=["plain", "varied"])
def test_certain_soft_labels_are_hard_labels(network, data, protocol):
    images, labels = data
    hard = train(copy.deepcopy(network), images, labels, protocol, seed=0)
    soft = train(network, images, F.one_hot(labels, 2).float(), protocol, seed=0)
    torch.testing.assert_close(weights(hard), weights(soft), atol=1e-4, rtol=1e-3)


def test_an_undecided_teacher_teaches_to_be_undecided(network, data):
    images, _ = data
    trained = train(network, images, torch.full((12, 2), 0.5), SHORT, seed=0, epochs=100)
    torch.testing.assert_close(trained(images).softmax(1), torch.full((12, 2), 0.5), atol=0.05, rtol=0)


@pytest.mark.parametrize(("epochs", "expected"), [(None, 5), (3, 3)])
def test_length_follows_the_images_per_class_unless_it_is_given(network, data, epochs, expected):
    calls = []
    protocol = dataclasses.replace(SHORT, epochs=((5, 9), (6, 5), (None, 2)))
    train(network, *data, protocol, seed=0, epochs=epochs, progress=lambda epoch, loss: calls.append(epoch))
    assert calls == list(range(1, expected + 1))


def test_less_than_one_epoch_is_refused(network, data):
    with pytest.raises(ValueError, match="epochs is 0; train for at least 1"):
        train(network, *data, SHORT, seed=0, epochs=0)


@pytest.mark.parametrize(("epochs", "expected"), [(3, [1, 2, 3]), (205, [*range(2, 205, 2), 205])])
def test_a_training_is_looked_at_about_100_times_and_after_its_last_epoch(network, data, epochs, expected):
    images, labels = (part[:4] for part in data)
    looked = []
    train(network, images, labels, SHORT, seed=0, epochs=epochs, track_best=lambda epoch, network: looked.append(epoch))
    assert looked == expected


def test_a_look_sees_evaluation_mode_and_changes_nothing(network, data):
    modes, unseen = [], train(copy.deepcopy(network), *data, VARIED, seed=0)
    network.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    seen = train(network, *data, VARIED, seed=0, track_best=lambda epoch, network: network(data[0]))
    assert modes == [True, True, True, False] * 8
    assert torch.equal(weights(seen), weights(unseen))


def test_the_last_look_sees_what_is_returned(network, data):
    looked = []
    trained = train(
        network, *data, SHORT, seed=0, track_best=lambda epoch, network: looked.append(weights(network).clone())
    )
    assert torch.equal(looked[-1], weights(trained))


def test_quick_comes_to_the_weights_that_it_always_came_to(network, data):
    images, labels = data
    expected, generator = copy.deepcopy(network), torch.Generator().manual_seed(7)
    optimizer = torch.optim.SGD(expected.parameters(), 0.0025, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    for _ in range(20):
        for batch in torch.randperm(12, generator=generator).split(10):
            optimizer.zero_grad()
            F.cross_entropy(expected(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    trained = train(network, images, labels, dataclasses.replace(PROTOCOLS["quick"], precision="float32"), seed=7)
    torch.testing.assert_close(weights(trained), weights(expected), atol=1e-6, rtol=1e-5)


def test_hard_label_trains_on_colour_images(data):
    images, labels = data[0].transpose(2, 3).expand(-1, 3, -1, -1), data[1]  # bright above or below, as flips leave it
    network = seeded_network("convnet-1-w4", seed=0, channels=3, size=(8, 8), num_classes=2)
    trained = train(network, images, labels, PROTOCOLS["hard-label"], seed=0, epochs=200)
    assert torch.equal(trained(images).argmax(1), labels)
