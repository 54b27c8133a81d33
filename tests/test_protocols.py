"""Protocols: published numbers, and refusal of what makes no sense."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dag_diffusion.distillation.config import DistillationConfig
from dag_diffusion.evaluation import EvaluationConfig, list_protocols
from dag_diffusion.evaluation.protocols import PROTOCOLS, Protocol, as_protocol
from dag_diffusion.own_images import FolderConfig

SHORT = Protocol("short", epochs=8, batch_size=4, learning_rate=0.05)


def test_classic_is_the_published_protocol():
    classic = PROTOCOLS["classic"]
    assert (classic.epochs, classic.batch_size, classic.learning_rate) == (300, 256, 0.01)
    assert (classic.momentum, classic.weight_decay, classic.max_shift) == (0.9, 5e-4, 0)
    assert [classic.rate_factor(p) for p in (0, 0.49, 0.5, 1)] == pytest.approx([1, 1, 0.1, 0.1])


@pytest.mark.parametrize("name", ["classic", "quick"])
def test_protocols_without_augmentation_stay_so(name):
    protocol = PROTOCOLS[name]
    assert (protocol.max_shift, protocol.crop_scale, protocol.flip) == (0, None, False)
    assert (protocol.color_jitter, protocol.lighting, protocol.cutmix) == (0, 0, 0)


def test_quick_needs_at_most_4000_passes_for_100_images():
    assert PROTOCOLS["quick"].epochs_for(10) * 100 <= 4000


@pytest.mark.parametrize(
    ("ipc", "epochs"),
    [(1, 3000), (2, 2000), (10, 2000), (20, 1500), (50, 1500), (100, 1000), (200, 1000), (500, 500), (1300, 300)],
)
def test_hard_label_trains_as_long_as_the_field_does(ipc, epochs):
    assert PROTOCOLS["hard-label"].epochs_for(ipc) == epochs


def test_hard_label_has_the_field_s_rates():
    protocol = PROTOCOLS["hard-label"]
    assert (protocol.batch_size, protocol.learning_rate, protocol.momentum) == (64, 0.01, 0.9)
    factors = [protocol.rate_factor(epoch / 3000) for epoch in (0, 1999, 2000, 2499, 2500)]
    assert factors == pytest.approx([1, 1, 0.2, 0.2, 0.04])


def test_protocols_are_filed_under_their_names():
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())


def test_a_protocol_for_soft_labels_is_refused_where_there_are_none():
    for config in (DistillationConfig, FolderConfig):
        with pytest.raises(
            ValueError, match=r"'unified' is one for soft labels.*use one of classic, quick, hard-label"
        ):
            config(protocol="unified")


def test_a_protocol_is_known_by_its_name():
    assert [as_protocol(name) for name in list_protocols()] == list(PROTOCOLS.values())
    own = Protocol("own", epochs=1, batch_size=1)
    assert as_protocol(own) is own
    assert EvaluationConfig("quick").protocols == [PROTOCOLS["quick"]]


def test_an_unknown_protocol_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match="no protocol 'slow'; choose one of classic, quick, hard-label"):
        EvaluationConfig("slow")


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
@given(numbers=st.lists(st.floats(0.1, 2000), min_size=2).map(sorted))
def test_larger_sets_are_never_seen_more_often(name, numbers):
    epochs = [PROTOCOLS[name].epochs_for(ipc) for ipc in numbers]
    assert epochs == sorted(epochs, reverse=True)


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
        ("epochs", ()),
        ("epochs", ((10, 2000),)),
        ("epochs", ((10, 2000), (5, 1000), (None, 300))),
        ("epochs", ((None, 300), (10, 2000))),
        ("epochs", ((10, 0), (None, 300))),
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
        ("crop_scale", 0.0),
        ("crop_scale", 1.5),
        ("color_jitter", 2),
        ("lighting", -0.1),
        ("cutmix", -1),
        ("precision", "float16"),
    ],
)
def test_a_protocol_refuses_what_makes_no_sense_and_names_the_field(field, value):
    with pytest.raises(ValueError, match=f"protocol 'short' has {field}=.*; {field} must be "):
        dataclasses.replace(SHORT, **{field: value})


@pytest.mark.parametrize("ipc", [0, float("nan")])
def test_no_images_need_no_epochs(ipc):
    with pytest.raises(ValueError, match="images per class; epochs follow from a number above 0"):
        SHORT.epochs_for(ipc)


@pytest.mark.parametrize(("has", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_what_the_processor_computes_fast(monkeypatch, has, expected):
    monkeypatch.setattr("dag_diffusion.evaluation.protocols.has_bfloat16", lambda device: has)
    assert PROTOCOLS["quick"].on("cpu").precision == expected
    assert PROTOCOLS["quick"].on("cuda").precision == "float32"
    assert dataclasses.replace(PROTOCOLS["quick"], precision="float32").on("cpu").precision == "float32"
