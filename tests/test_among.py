"""Difficulty among the set's classes: as if the classifier had no others, in scores, guidance, probes and records."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import NAMES, tiny_classifier, tiny_pipeline, write_images

from dag_diffusion import GuidanceConfig, PoolConfig, fill_pool, read_pool, score_and_record, score_pool
from dag_diffusion.difficulty import MEASURES, among, measure_named
from dag_diffusion.distillation.config import DistillationInputs
from dag_diffusion.generation.preparing.probe_training import ProbeConfig, train_probe
from dag_diffusion.pipelines.steering import steer
from dag_diffusion.reporting.reproduction import commands_for
from dag_diffusion.sampling.references import measured_by

MORE = {0: "Coat", 1: "T-shirt", 2: "Dress", 3: "Ankle boot, boot", 4: "Bag"}
SET = GuidanceConfig(among="set", decoded_steps=9)
SHORT = {"num_inference_steps": 4, "guidance_scale": 1.0}


def cut_to(classifier, names: dict[int, str]):
    """The classifier as it would be without its other classes."""
    own = {name: label for label, name in classifier.config.id2label.items()}
    kept, rows = tiny_classifier(names), [own[name] for name in names.values()]
    with torch.no_grad():
        for parameter, other in zip(kept.parameters(), classifier.parameters(), strict=True):
            parameter.copy_(other if parameter.shape == other.shape else other[rows])
    return kept


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, {"Bag": 3, "T-shirt": 4})
    return folder


@pytest.mark.parametrize("name", MEASURES)
@given(logits=st.lists(st.floats(-20, 20), min_size=3, max_size=7), data=st.data())
def test_measure_is_that_of_the_chosen_logits_alone(name, logits, data):
    places = st.integers(0, len(logits) - 1)
    classes = sorted(data.draw(st.sets(places, min_size=2, max_size=len(logits))))
    label = data.draw(st.sampled_from(classes))
    whole, alone = torch.tensor([logits]), torch.tensor([[logits[i] for i in classes]])
    found = measure_named(name)(*among(whole, torch.tensor([label]), torch.tensor(classes)))
    assert torch.equal(found, measure_named(name)(alone, torch.tensor([classes.index(label)])))
    if len(classes) == len(logits):
        assert torch.equal(found, measure_named(name)(whole, torch.tensor([label])))


@pytest.mark.parametrize("measure", MEASURES)
def test_pool_is_scored_as_if_the_classifier_knew_no_other_class(folder, measure):
    pool, classifier = read_pool(folder), tiny_classifier(MORE)
    found = score_pool(pool, classifier, measure=measure, among="set")
    alone = score_pool(pool, cut_to(classifier, {0: "T-shirt", 1: "Bag"}), measure=measure)
    assert found.difficulties == pytest.approx(alone.difficulties, abs=1e-6)
    everywhere = score_pool(pool, classifier, measure=measure)
    assert not np.allclose(found.difficulties, everywhere.difficulties, atol=1e-3)
    if measure == "error_probability":
        assert (found.difficulties <= everywhere.difficulties + 1e-6).all()  # rivals can only fall away


def test_images_are_called_right_where_no_other_class_of_those_is_as_probable(folder):
    pool, classifier = read_pool(folder), tiny_classifier(MORE)
    for scope in ("all", "set"):
        rivals = score_pool(pool, classifier, measure="rival_margin", among=scope)
        assert score_pool(pool, classifier, among=scope).correct.tolist() == (rivals.difficulties < 0.5).tolist()
    assert score_pool(pool, classifier, measure="entropy").correct is None


def test_cache_never_mixes_the_two_and_keeps_both(tmp_path):
    write_images(tmp_path, {"Bag": 3, "T-shirt": 4})
    guide = {"first": tiny_classifier(MORE)}
    found = {}
    for number, scope in enumerate(["all", "set", "all", "set"]):
        done = score_and_record(read_pool(tmp_path), guide, among=scope)
        assert (done.scored, done.cached) == ((7, 0) if number < 2 else (0, 7))
        pool = read_pool(tmp_path)
        assert found.setdefault(scope, pool.difficulties.tolist()) == pool.difficulties.tolist()
        assert all(isinstance(row["correct"], bool) for row in pool.rows)
    assert pool.rows[0]["difficulty_by"] == "error_probability among the set's classes by first"
    assert found["all"] != found["set"]
    (command,) = commands_for([(tmp_path, pool)])
    assert command.endswith("--among set --classifier first")


def test_pool_that_lacks_a_class_of_the_earlier_set_is_scored_anew(tmp_path):
    write_images(tmp_path, {"Bag": 2, "T-shirt": 2, "Coat": 2})
    guide = {"first": tiny_classifier(MORE)}
    assert score_and_record(read_pool(tmp_path), guide, among="set").scored == 6
    two = read_pool(tmp_path).select(range(4))
    assert score_and_record(two, guide, tmp_path / "two.jsonl", among="set").scored == 4


def test_one_class_is_refused_wherever_it_is_asked_for(tmp_path):
    write_images(tmp_path, {"Bag": 2})
    pipeline, one = tiny_pipeline(classifier=tiny_classifier(MORE)), r"the set has one; use among='all'"
    with pytest.raises(ValueError, match=one):
        score_pool(read_pool(tmp_path), pipeline.classifier, among="set")
    with pytest.raises(ValueError, match=one):
        pipeline([0], 0.5, difficulty_guidance=SET, **SHORT)
    with pytest.raises(ValueError, match=one):
        fill_pool(pipeline, tmp_path / "pool", PoolConfig(labels=[1], difficulty_guidance=SET, **SHORT))
    with pytest.raises(ValueError, match=one), steer(pipeline, pipeline.classifier, "Bag", config=SET):
        pass
    with pytest.raises(ValueError, match=one):
        train_probe(pipeline, [pipeline.classifier], ProbeConfig(trajectories=10, among="set"), labels=[1])
    for wrong in (lambda: GuidanceConfig(among="some"), lambda: DistillationInputs(among="some")):
        with pytest.raises(ValueError, match=r"'all' .* or 'set'"):
            wrong()


def test_steered_as_by_a_guide_without_other_classes():
    more = tiny_classifier(MORE)
    options = {"generator": [torch.Generator().manual_seed(i) for i in range(2)], "output_type": "np", **SHORT}

    def drawn(classifier, config, **given):
        options["generator"] = [torch.Generator().manual_seed(i) for i in range(2)]
        return tiny_pipeline(classifier=classifier)([0, 2], 0.7, difficulty_guidance=config, **options, **given)

    alone = drawn(
        cut_to(more, dict(enumerate(["T-shirt", "Ankle boot, boot", "Bag"]))), GuidanceConfig(decoded_steps=9)
    )
    within = drawn(more, SET, set_classes=["T-shirt", 1, "Bag"])
    assert np.allclose(within.images, alone.images, atol=1e-5)
    assert torch.allclose(within.difficulties, alone.difficulties, atol=1e-5)
    of_call = drawn(more, SET)  # among the two classes of the call
    assert not np.allclose(of_call.images, alone.images, atol=1e-3)
    with pytest.raises(ValueError, match=r"set_classes names the labels \[7\]"):
        drawn(more, SET, set_classes=[0, 7])


def test_pool_measures_and_records_it_and_resumes_only_with_the_same(tmp_path):
    pipeline = tiny_pipeline(classifier=tiny_classifier(MORE))
    config = PoolConfig(images_per_class=2, labels=[0, 2], difficulty_guidance=replace(SET, scale=1.0), **SHORT)
    pool = fill_pool(pipeline, tmp_path / "set", config, batch_size=1)  # a batch holds one of the two classes
    assert pool.difficulties == pytest.approx(score_pool(pool, pipeline.classifier, among="set").difficulties, abs=1e-5)
    assert measured_by(pool).startswith("error_probability among the set's classes by ")
    assert "--among set" in commands_for([(tmp_path, pool)])[0]
    with pytest.raises(ValueError, match=r"begun with other settings: .*among"):
        fill_pool(
            pipeline,
            tmp_path / "set",
            replace(config, difficulty_guidance=GuidanceConfig(decoded_steps=9)),
            resume=True,
        )
    plain = fill_pool(pipeline, tmp_path / "all", replace(config, difficulty_guidance=GuidanceConfig()))
    assert "among" not in json.loads((tmp_path / "all" / "pool.json").read_text())["settings"]["difficulty_guidance"]
    assert measured_by(plain) is None


def test_block_of_steer_measures_among_the_classes_that_it_is_given():
    pipeline, classifier = tiny_pipeline(), tiny_classifier(MORE)
    images = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    with steer(pipeline, [classifier], ["T-shirt", "Bag"], config=GuidanceConfig(among="set")) as steered:
        found = steered.measure(images)
    with steer(pipeline, [cut_to(classifier, {0: "T-shirt", 1: "Bag"})], ["T-shirt", "Bag"]) as steered:
        assert torch.allclose(found, steered.measure(images), atol=1e-5)
    three = {"config": GuidanceConfig(among="set"), "set_classes": ["Bag", "Dress", "T-shirt"]}
    with steer(pipeline, [classifier, tiny_classifier(NAMES | {3: "Dress"})], ["T-shirt", "Bag"], **three) as steered:
        assert (steered.measure(images) >= found - 1e-6).all()


def test_probe_steers_only_by_the_difficulty_that_it_was_trained_for():
    pipeline = tiny_pipeline(classifier=tiny_classifier(MORE))
    config = ProbeConfig(
        trajectories=20, training_steps=5, batch_size=8, hidden_sizes=(8,), depths=(1,), among="set", **SHORT
    )
    probe, _ = train_probe(pipeline, [pipeline.classifier], config, labels=[0, 2], batch_size=10)
    steerable = tiny_pipeline(classifier=pipeline.classifier, probe=probe)
    steerable([0, 2], 0.5, difficulty_guidance=GuidanceConfig(among="set"), **SHORT)
    for other in ({}, {"difficulty_guidance": GuidanceConfig(among="set"), "set_classes": [0, 1, 2]}):
        with pytest.raises(ValueError, match=r"among the labels \[0, 2\], and guidance asks for it among"):
            steerable([0, 2], 0.5, **other, **SHORT)
    plain, _ = train_probe(pipeline, [pipeline.classifier], replace(config, among="all"), batch_size=10)
    with pytest.raises(ValueError, match=r"among all classes, and guidance asks for it among the labels \[0, 2\]"):
        tiny_pipeline(classifier=pipeline.classifier, probe=plain)([0, 2], 0.5, difficulty_guidance=SET, **SHORT)


def test_run_tells_it_only_where_it_is_not_the_default():
    assert DistillationInputs().given() == {}
    assert DistillationInputs(among="set").given() == {"among": "set"}
