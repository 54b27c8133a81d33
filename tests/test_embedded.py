"""The embedded default: small, safe, complete, and good enough for what the README says of it."""

import numpy as np
import pytest
import torch

from dag_diffusion import DifficultyGuidedPipeline, embedded, load_classifier, read_pool
from dag_diffusion.classifiers import class_names_of
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.difficulty import difficulty
from dag_diffusion.evaluation.labelled_images import load_labelled_images, normalise
from dag_diffusion.generation.modes import Modes, space_of
from dag_diffusion.generation.preparing.mode_merging import merge_modes
from dag_diffusion.loading import load_embedded_pipeline

NAMES = dict(enumerate(embedded.CLASS_NAMES))


@pytest.fixture(scope="module")
def default():
    pipeline = DifficultyGuidedPipeline.from_pretrained(embedded.PIPELINE)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def evaluator():
    return load_classifier(embedded.EVALUATOR)


@pytest.fixture(scope="module")
def real_test_images():
    return load_labelled_images(read_pool(embedded.TEST), size=(32, 32), channels=1)


def test_all_of_it_is_under_thirty_megabytes_and_holds_no_pickle():
    files = [path for path in embedded.ASSETS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 30e6
    allowed = {".json", ".jsonl", ".safetensors", ".png", ".parquet", ".npz", ".md"}
    assert {path.suffix for path in files} <= allowed
    with np.load(embedded.TRAIN_DIFFICULTIES, allow_pickle=False) as arrays:
        assert set(arrays) == {"label", "in_sample", "cross_fitted"}


def test_everything_names_the_same_ten_classes(default, evaluator, real_test_images):
    assert default.class_names == NAMES == class_names_of(evaluator) == dict(real_test_images.class_names)
    assert match_classes(read_pool(embedded.REFERENCE).class_names, NAMES) == {i: i for i in range(10)}


def test_real_images_are_all_there(real_test_images):
    assert np.bincount(real_test_images.labels).tolist() == [1000] * 10
    assert np.bincount(read_pool(embedded.REFERENCE).labels).tolist() == [100] * 10


def test_training_images_are_easier_for_the_guide_that_learned_from_them():
    in_sample, held_out = (embedded.training_difficulties(NAMES, out_of_sample=flag) for flag in (False, True))
    assert all(len(values) == 6000 for values in held_out.values())
    assert np.mean([v.mean() for v in in_sample.values()]) < np.mean([v.mean() for v in held_out.values()])


def test_recorded_difficulties_go_by_name_and_other_names_are_refused():
    shuffled = embedded.training_difficulties({0: "Bag", 5: "T-shirt"})
    assert all((shuffled[name] == embedded.training_difficulties(NAMES)[name]).all() for name in ("Bag", "T-shirt"))
    with pytest.raises(ValueError, match="'tench' is no class of Fashion-MNIST"):
        embedded.training_difficulties({0: "tench"})


def test_embedded_modes_are_fifty_of_each_class_and_merge_to_fewer():
    modes = Modes.load(embedded.MODES)
    assert np.bincount(modes.labels).tolist() == [50] * 10
    assert int(modes.sizes.sum()) == 50_000
    assert modes.space == space_of(load_embedded_pipeline())
    assert np.bincount(merge_modes(modes, 10).labels).tolist() == [10] * 10


def test_default_is_guided_to_its_classes_in_the_middle_half_of_the_steps(default):
    passes = []
    counted = default.transformer.register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))
    default([0], generator=torch.manual_seed(0), output_type="latent")
    counted.remove()
    assert passes == [1] * 3 + [2] * 6 + [1] * 3
    assert default.default_guidance_scale == 2


def test_guide_and_evaluator_know_real_clothes_and_err_on_different_ones(default, evaluator, real_test_images):
    images, labels = normalise(real_test_images.images[::10]), torch.as_tensor(real_test_images.labels[::10])
    with torch.no_grad():
        wrong = [(model(images).logits.argmax(1) != labels) for model in (default.classifier, evaluator)]
    assert all(errors.float().mean() < 0.12 for errors in wrong)
    assert not torch.equal(*wrong)


CLASSES = torch.arange(10).repeat(2)


def draw(pipeline, target=None):
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(CLASSES))]
    return pipeline(
        CLASSES,
        target_difficulty=target,
        guidance_scale=1.5,
        num_inference_steps=10,
        generator=generators,
        output_type="pt",
    )


def by(classifier, images):
    with torch.no_grad():
        return difficulty(classifier(images * 2 - 1).logits, CLASSES)


def test_unguided_samples_are_what_they_are_asked_to_be(default, evaluator):
    images = draw(default).images
    with torch.no_grad():
        agrees = evaluator(images * 2 - 1).logits.argmax(1) == CLASSES
    assert agrees.float().mean() >= 0.85


def test_steered_samples_are_as_hard_as_asked_and_the_evaluator_notices(default, evaluator):
    easy, hard = draw(default, 0.1), draw(default, 0.9)
    assert (easy.difficulties - 0.1).abs().mean() < 0.1
    assert (hard.difficulties - 0.9).abs().mean() < 0.15
    assert by(evaluator, hard.images).mean() - by(evaluator, easy.images).mean() > 0.25
