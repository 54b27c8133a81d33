"""Trainings at once as one stacked network: each comes to what it comes to alone."""

import copy
import dataclasses
import logging

import pytest
import torch
import torch.nn.functional as F
from edged_images import NAMES, draw
from torch import nn

from dag_diffusion.evaluation import stacks
from dag_diffusion.evaluation.labelled_images import LabelledImages
from dag_diffusion.evaluation.networks import seeded_network
from dag_diffusion.evaluation.protocols import PROTOCOLS, Protocol
from dag_diffusion.evaluation.runs import EvaluationConfig
from dag_diffusion.evaluation.stacks import Stack, bytes_of_training, most_at_once, reason_against, train_stack
from dag_diffusion.evaluation.training import train
from dag_diffusion.evaluation.trials import evaluate

SHORT = Protocol("short", epochs=3, batch_size=5, learning_rate=0.02, precision="float32")
PROTOCOLS_TRIED = {
    **{name: dataclasses.replace(protocol, precision="float32") for name, protocol in PROTOCOLS.items()},
    "shifts": dataclasses.replace(SHORT, max_shift=2, flip=True),
    "everything": dataclasses.replace(
        SHORT, max_shift=1, crop_scale=0.5, flip=True, color_jitter=0.4, lighting=0.1, cutmix=1.0
    ),
}
SEEDS = [3, 3, 11]  # two sets with one seed, and another


class BatchNormed(nn.Sequential):
    """A network whose norm counts batches and keeps running statistics."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
        self.eval()(torch.zeros(1, 3, 16, 16))


def networks(name):
    if name != "batch norm":
        return [seeded_network(name, seed=seed, channels=3, size=(16, 16), num_classes=3) for seed in SEEDS]
    found = []
    for seed in SEEDS:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            found.append(BatchNormed())
    return found


@pytest.fixture(scope="module")
def lessons():
    """Images and labels of three sets, ``(3, 12, 3, 16, 16)`` and ``(3, 12)``; the third lot is soft labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 12, 3, 16, 16, generator=generator)
    labels = torch.arange(12).expand(3, 12) % 3
    images[torch.arange(3)[:, None], torch.arange(12), labels] += 1  # each class has a colour
    return images, labels.contiguous(), (3 * torch.rand(3, 12, 3, generator=generator)).softmax(2)


def assert_alike(stacked, alone):
    for one, other in zip(stacked, alone, strict=True):
        assert not one.training
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=2e-3, atol=2e-5)


def assert_answers_alike(stacked, alone, images):
    """Adam makes steps of full length out of rounding, as in biases before a norm, which no answer depends on."""
    with torch.no_grad():
        for one, other, own in zip(stacked, alone, images, strict=True):
            torch.testing.assert_close(one(own), other(own), rtol=0.02, atol=0.02)


def both_ways(name, lessons, protocol, epochs=3, soft=False, count=12):
    images, labels = (part[:, :count] for part in (lessons[0], lessons[2 if soft else 1]))
    options = {"protocol": protocol, "epochs": epochs}
    alone = [
        train(network, own, target, seed=seed, **options)
        for network, own, target, seed in zip(networks(name), images, labels, SEEDS, strict=True)
    ]
    return train_stack(networks(name), images, labels, seeds=SEEDS, **options), alone


@pytest.mark.parametrize("soft", [False, True], ids=["hard labels", "soft labels"])
@pytest.mark.parametrize("name", PROTOCOLS_TRIED)
def test_networks_in_a_stack_learn_what_each_learns_alone(lessons, name, soft):
    stacked, alone = both_ways("convnet-3-w4", lessons, PROTOCOLS_TRIED[name], soft=soft)
    if PROTOCOLS_TRIED[name].optimizer == "adamw":
        assert_answers_alike(stacked, alone, lessons[0])
    else:
        assert_alike(stacked, alone)
    assert not torch.equal(stacked[0][-1].weight, stacked[1][-1].weight)  # equal seeds, other images


def test_a_residual_network_in_a_stack_learns_what_it_learns_alone(lessons):
    assert_alike(*both_ways("resnet-ap-10", lessons, PROTOCOLS_TRIED["everything"], epochs=1, count=4))


def test_running_statistics_of_a_stack_are_those_of_each_network(lessons):
    stacked, alone = both_ways("batch norm", lessons, PROTOCOLS_TRIED["shifts"])
    assert_alike(stacked, alone)  # among them means, variances and numbers of batches
    assert stacked[0][1].num_batches_tracked == 9


def test_bfloat16_does_not_stack_on_a_processor_where_it_would_be_float32(caplog):
    assert most_at_once(networks("convnet-3-w4")[0], torch.zeros(2, 3, 16, 16), 5, "bfloat16") == 1
    assert "on a CPU they stack in float32 alone, and these are in bfloat16" in caplog.text


def test_looks_at_a_stack_see_each_network_and_change_nothing(lessons):
    images, labels, _ = lessons
    looked = []
    seen = train_stack(
        networks("batch norm"),
        images,
        labels,
        SHORT,
        seeds=SEEDS,
        epochs=2,
        track_best=lambda epoch, place, network: looked.append((epoch, place, network(images[0]).detach())),
    )
    assert [(epoch, place) for epoch, place, _ in looked] == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert torch.equal(looked[-1][2], seen[2](images[0]))
    assert_alike(seen, train_stack(networks("batch norm"), images, labels, SHORT, seeds=SEEDS, epochs=2))


def test_networks_that_draw_at_random_do_not_stack(caplog):
    images = torch.zeros(2, 3, 16, 16)
    network = BatchNormed()
    before = copy.deepcopy(network.state_dict())
    assert reason_against(network, images, "float32") is None
    torch.testing.assert_close(network.state_dict(), before)
    network.insert(3, nn.Dropout(0.5))
    assert most_at_once(network, images, 5, "float32") == 1
    assert "trainings are done one by one, since they do not stack" in caplog.text


def test_a_processor_trains_one_by_one_unless_it_is_asked():
    network, images = BatchNormed(), torch.zeros(2, 3, 16, 16)
    assert [most_at_once(network, images, asked, "float32") for asked in (None, 1, 7)] == [1, 1, 7]


def test_memory_of_a_training_grows_with_its_batch_and_holds_its_weights():
    network = networks("convnet-3-w4")[0]
    few, many = (bytes_of_training(network, torch.zeros(batch, 3, 16, 16)) for batch in (2, 20))
    weights = sum(4 * weight.numel() for weight in network.parameters())
    assert 4 * weights < few < many < 10 * few
    # of 16x16 pixels and 4 channels, what convolution, norm and ReLU leave, at least
    assert many - few > 18 * 3 * 4 * 16 * 16 * 4


def test_logits_of_a_stack_are_those_of_its_networks():
    own, images = networks("convnet-3-w4"), torch.rand(3, 2, 3, 16, 16)
    expected = torch.stack([network(image) for network, image in zip(own, images, strict=True)])
    torch.testing.assert_close(Stack(own)(images), expected)


class TestEvaluate:
    """Of sets, from their pixels to results."""

    def run(self, sets=None, **options):
        given = {"network": "convnet-1-w4", "protocol": SHORT, "seeds": (0, 1, 2), "at_once": 4, "device": "cpu"}
        return evaluate(sets or {"a": draw(0), "b": draw(1)}, draw(99), **{**given, **options})

    def found(self, results):
        return [dataclasses.replace(result, seconds=0) for result in results]

    @pytest.fixture
    def stacked(self, monkeypatch):
        """Sizes of the stacks that were trained."""
        sizes = []

        def counted(networks, *arguments, **options):
            sizes.append(len(networks))
            return train_stack(networks, *arguments, **options)

        monkeypatch.setattr("dag_diffusion.evaluation.trials.train_stack", counted)
        return sizes

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"track_best": True},
            {"network": ["convnet-1-w4", "convnet-2-w4"]},
            {"protocol": PROTOCOLS_TRIED["everything"]},
        ],
        ids=["plain", "best", "networks", "augmented"],
    )
    def test_results_are_those_of_one_by_one(self, stacked, options):
        assert self.found(self.run(**options)) == self.found(self.run(**options, at_once=1))
        assert stacked == [4, 2] * (2 if "network" in options else 1)

    def test_soft_labels_are_learnt_at_once_too(self, stacked):
        soft = F.one_hot(torch.as_tensor(draw(0).labels), 3).float()
        given = {"a": LabelledImages(draw(0).images, draw(0).labels, NAMES, probabilities=soft)}
        assert self.found(self.run(given, labels="soft")) == self.found(self.run(given, labels="soft", at_once=1))
        assert stacked == [3]

    def test_sets_drawn_anew_and_of_other_sizes_are_stacked_with_their_like(self, stacked):
        sets = {"random": lambda seed: draw(seed), "fixed": draw(0), "small": draw(1, per_class=4)}
        results = self.run(sets, at_once=9)
        assert sorted(stacked) == [3, 6]
        assert [(result.set, result.draw) for result in results[:2]] == [("random", 0), ("fixed", None)]
        assert self.found(results) == self.found(self.run(sets, at_once=1))

    def test_what_was_finished_is_not_trained_again(self, stacked):
        everything = self.run(at_once=1)
        assert self.found(self.run(known=everything[:4])) == self.found(everything)
        assert stacked == [2]

    def test_a_stack_is_handed_over_when_it_is_done(self):
        handed = []

        def stop(result):
            handed.append(result.seed)
            if len(handed) == 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.run(on_result=stop)
        assert len(handed) == 4  # of the first stack; those of the second are lost

    def test_stacks_that_memory_does_not_take_are_halved(self, stacked, monkeypatch, caplog):
        def short(networks, *arguments, **options):
            stacked.append(len(networks))
            if len(networks) > 2:
                raise torch.OutOfMemoryError("no more")
            return train_stack(networks, *arguments, **options)

        monkeypatch.setattr("dag_diffusion.evaluation.trials.train_stack", short)
        caplog.set_level(logging.INFO, "dag_diffusion")
        assert self.found(self.run(at_once=6)) == self.found(self.run(at_once=1))
        assert stacked == [6, 3, 2, 3, 2]  # and two alone
        assert "6 trainings at once failed (no more); halves of them follow" in caplog.text

    def test_a_training_that_diverges_fails_alone(self, monkeypatch):
        def diverging(networks, images, *arguments, seeds, **options):
            if 1 in seeds:
                raise FloatingPointError("the loss is nan")
            return train_stack(networks, images, *arguments, seeds=seeds, **options)

        def alone(network, *arguments, seed, **options):
            if seed == 1:
                raise FloatingPointError("the loss is nan")
            return train(network, *arguments, seed=seed, **options)

        monkeypatch.setattr("dag_diffusion.evaluation.trials.train_stack", diverging)
        monkeypatch.setattr("dag_diffusion.evaluation.trials.train", alone)
        kept = []
        with pytest.raises(FloatingPointError, match="the loss is nan"):
            self.run(on_result=lambda result: kept.append((result.set, result.seed)))
        assert kept == [("a", 0), ("b", 0)]

    def test_less_than_one_at_once_is_refused(self):
        with pytest.raises(ValueError, match="at_once is 0, but at least 1 training is done at once; leave it out"):
            self.run(at_once=0)
        with pytest.raises(ValueError, match="at_once is -1"):
            EvaluationConfig(at_once=-1)


def test_as_many_as_memory_takes_on_a_gpu(monkeypatch):
    monkeypatch.setattr(stacks, "bytes_of_training", lambda *arguments: 1 << 30)
    monkeypatch.setattr(stacks, "reason_against", lambda *arguments: None)
    images = torch.zeros(2, 1).to("meta").as_subclass(OnGpu)
    for free, expected in ((1 << 29, 1), (10 << 30, 8), (80 << 30, 20)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 0))
        assert most_at_once(nn.Identity(), images, None, "float32") == expected


class OnGpu(torch.Tensor):
    """Says that it lies on a GPU where there is none."""

    device = torch.device("cuda")
