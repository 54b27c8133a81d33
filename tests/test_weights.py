"""Weights are read whole or refused; class names come back as they were saved."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import NAMES, tiny_classifier, tiny_pipeline
from tiny_backbones import WITHOUT_CLASSES
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

from dag_diffusion.classifiers import class_names_of, image_logits, load_classifier
from dag_diffusion.classifiers.weights import only_variant
from dag_diffusion.identity import digest_of
from dag_diffusion.loading import embedded_named, load_guide, load_pipeline

TIMM = {"input_size": [1, 16, 16], "mean": [0.5], "std": [0.5], "crop_pct": 1.0, "interpolation": "bilinear"}


def edited(path, edit) -> None:
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


EDITS = {
    "lacks the weights classifier.1.bias": lambda weights: weights.pop("classifier.1.bias"),
    r"another shape \(\(2, 4\) where": lambda weights: weights.update({"classifier.1.weight": torch.zeros(2, 4)}),
    "hold NaN": lambda weights: weights["classifier.1.weight"].fill_(float("nan")),
}


@pytest.mark.parametrize("message", EDITS)
def test_classifier_that_is_not_whole_is_refused(tmp_path, message):
    tiny_classifier().save_pretrained(tmp_path)
    edited(tmp_path / "model.safetensors", EDITS[message])
    with pytest.raises(ValueError, match=message):
        load_classifier(tmp_path)


@pytest.mark.parametrize("message", [message for message in EDITS if "shape" not in message])
def test_pipeline_whose_guide_is_not_whole_is_refused(tmp_path, message):
    tiny_pipeline().save_pretrained(tmp_path)
    edited(tmp_path / "classifier/model.safetensors", EDITS[message])
    with pytest.raises(ValueError, match=message):
        load_pipeline(tmp_path, device="cpu")


@pytest.mark.parametrize("part", ["transformer", "vae"])
@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
def test_pipeline_that_lacks_weights_is_refused_however_it_is_loaded(tmp_path, part, low_cpu_mem_usage):
    from dag_diffusion import DifficultyGuidedPipeline

    tiny_pipeline().save_pretrained(tmp_path)
    path = tmp_path / part / "diffusion_pytorch_model.safetensors"
    edited(path, lambda weights: weights.pop(max(weights)))
    with pytest.raises(ValueError, match="lacks the weights"):
        DifficultyGuidedPipeline.from_pretrained(tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)


def test_counters_of_batches_that_older_files_lack_change_nothing(tmp_path):
    guide = tiny_classifier()
    guide.save_pretrained(tmp_path)
    counters = [name for name in guide.state_dict() if name.endswith("num_batches_tracked")]
    edited(tmp_path / "model.safetensors", lambda weights: [weights.pop(name) for name in counters])
    loaded = load_classifier(tmp_path)
    assert counters
    assert digest_of(loaded) == digest_of(guide)  # they are zeros, as in networks that were not trained


def test_weights_without_a_place_are_told_and_do_no_harm(tmp_path, caplog):
    tiny_classifier().save_pretrained(tmp_path)
    edited(tmp_path / "model.safetensors", lambda weights: weights.update({"head.of.another.task": torch.ones(3)}))
    load_classifier(tmp_path)
    assert "head.of.another.task" in caplog.text


def test_single_logit_is_refused(tmp_path):
    tiny_classifier({0: "cat"}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="single logit"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_difficulty_of_weights_kept_in_half_is_that_of_full_precision(tmp_path, dtype):
    classifier = tiny_classifier().to(dtype)
    classifier.save_pretrained(tmp_path)
    loaded, images = load_classifier(tmp_path), torch.rand(4, 1, 16, 16)
    assert torch.equal(image_logits(loaded, images), image_logits(classifier.float(), images))


@pytest.mark.parametrize("task", ["multi_label_classification", "regression"])
def test_outputs_that_are_no_softmax_over_classes_are_refused(tmp_path, task):
    tiny_classifier(problem_type=task).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"one for {task}.*config.json"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("save", WITHOUT_CLASSES, ids=lambda save: save.__name__)
def test_network_that_was_trained_without_classes_is_told_to_be_given_some(tmp_path, save):
    save(tmp_path)
    with pytest.raises(ValueError, match=rf"without classes.*train_classifier\(model='{tmp_path}'\)"):
        load_classifier(tmp_path)


def test_adapter_of_peft_is_told_from_a_model(tmp_path):
    tiny_classifier().config.save_pretrained(tmp_path)  # of its base, which may lie there
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"adapter of peft.*merge_and_unload"):
        load_classifier(tmp_path)


def timm_classifier(names: dict[int, str], **changes):
    config = TimmWrapperConfig(architecture="test_resnet", num_labels=len(names), pretrained_cfg=dict(TIMM), **changes)
    config.model_args = {"in_chans": 1}
    config.id2label, config.label2id = names, {name: label for label, name in names.items()}
    return TimmWrapperForImageClassification(config).eval()


UNSORTED = {2: NAMES[2], 0: NAMES[0], 1: NAMES[1]}


def test_unsorted_class_names_of_a_timm_guide_survive_a_pipeline(tmp_path):
    tiny_pipeline(classifier=timm_classifier(UNSORTED)).save_pretrained(tmp_path)
    assert class_names_of(load_pipeline(tmp_path, device="cpu").classifier) == NAMES
    assert class_names_of(load_classifier(tmp_path / "classifier")) == NAMES


def test_new_class_names_replace_those_of_timms_own_file(tmp_path):
    classifier = timm_classifier(UNSORTED)
    classifier.config.label_names = ["old", "older", "oldest"]
    tiny_pipeline(classifier=classifier).save_pretrained(tmp_path)
    assert class_names_of(load_classifier(tmp_path / "classifier")) == NAMES


def test_folder_that_timm_itself_writes_is_a_classifier(tmp_path):
    import timm
    from timm.models import save_for_hf

    model = timm.create_model("test_resnet", num_classes=2, in_chans=1).eval()
    save_for_hf(
        model, tmp_path, model_config={"num_classes": 2, "label_names": ["cat", "dog"]}, safe_serialization=True
    )
    loaded, images = load_classifier(tmp_path), torch.rand(1, 1, 32, 32)
    assert class_names_of(loaded) == {0: "cat", 1: "dog"}
    with torch.no_grad():
        assert torch.allclose(loaded(images).logits, model(images), atol=1e-6)


def test_class_names_that_are_numbers_are_names(tmp_path):
    tiny_classifier({0: "cat", 1: "dog"}).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id2label": {"0": 0, "1": 1}}))
    assert class_names_of(load_classifier(tmp_path)) == {0: "0", 1: "1"}


def test_weights_that_come_in_one_variant_alone_are_read(tmp_path):
    whole = tiny_pipeline()
    whole.save_pretrained(tmp_path, variant="fp16")
    assert not list(tmp_path.rglob("*model.safetensors"))
    again = load_pipeline(tmp_path, device="cpu")
    for part in ("transformer", "vae", "classifier"):
        ours, theirs = (getattr(one, part).state_dict() for one in (whole, again))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert load_classifier(tmp_path / "classifier") is not None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.fp16.safetensors"], "fp16"),
        (["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"], "fp16"),
        (["model-00001-of-00002.fp16.safetensors"], "fp16"),
        (["model.fp16.safetensors", "model.safetensors"], None),
        (["model-00001-of-00002.safetensors"], None),
        (["model.fp16.safetensors", "model.bf16.safetensors"], None),
        ([], None),
    ],
)
def test_variant_is_taken_where_there_is_no_other(tmp_path, names, expected):
    for name in names:
        (tmp_path / name).touch()
    assert only_variant(tmp_path) == expected


def test_names_of_labels_that_have_no_logit_are_refused(tmp_path):
    tiny_classifier({0: "cat", 1: "dog"}).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id2label": {"0": "cat", "2": "dog"}}))
    with pytest.raises(ValueError, match="names a class 2"):
        load_classifier(tmp_path)


def test_embedded_guide_is_had_by_its_name():
    assert load_guide("embedded", device="cpu").config._name_or_path == load_guide(device="cpu").config._name_or_path
    assert embedded_named("embedded") == embedded_named(None) != embedded_named("guide")
