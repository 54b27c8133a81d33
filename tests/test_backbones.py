"""Networks to be trained: of two small families, of timm, or with the weights of a trained one."""

import json
import shutil

import hub_server
import pytest
import timm
import torch
from huggingface_hub import constants
from timm.models import save_for_hf
from tiny import PREPROCESSING, tiny_classifier, write_images
from tiny_backbones import SEES, WIDTHS, WITHOUT_CLASSES, vit
from tiny_classifiers import train_where_the_hub_answers_the_others
from transformers import (
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    MobileViTImageProcessor,
    PPLCNetConfig,
    PPLCNetForImageClassification,
    PPLCNetImageProcessor,
    PvtConfig,
    PvtForImageClassification,
    PvtImageProcessor,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    ViTImageProcessor,
)
from warm import run_together

from dag_diffusion import ClassifierConfig, read_pool, train_classifier
from dag_diffusion.classifiers import class_names_of, image_logits, load_classifier
from dag_diffusion.training.classifiers.backbones import DEEPER_FROM, SHAPES, build_backbone, default_backbone
from dag_diffusion.training.classifiers.calibration import scale_logits

NAMES = {0: "cat", 1: "dog"}


@pytest.mark.parametrize("name", [*SHAPES, "test_vit", "test_convnext"])
@pytest.mark.parametrize("channels", [1, 3])
def test_network_survives_being_saved(tmp_path, name, channels):
    built = build_backbone(name, NAMES, size=(32, 32), channels=channels, weights="none")
    assert built.weights == "random"
    built.model.save_pretrained(tmp_path)
    loaded, images = load_classifier(tmp_path), torch.rand(2, channels, 32, 32)
    assert class_names_of(loaded) == NAMES
    assert torch.allclose(image_logits(loaded, images), image_logits(built.model.eval(), images), atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_larger_images_get_one_more_halving(name):
    widths = [
        build_backbone(name, NAMES, size=(side, side), channels=1).model.config.hidden_sizes
        for side in (32, DEEPER_FROM)
    ]
    assert [len(found) for found in widths] == [3, 4]


def test_weights_follow_from_the_seed_alone():
    first, again, other = (build_backbone("small-resnet", NAMES, size=(16, 16), channels=1, seed=n) for n in (0, 0, 1))
    values = [next(built.model.parameters()) for built in (first, again, other)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


@pytest.mark.parametrize("names", [{0: "cat", 1: "dog"}, {0: "cat", 1: "dog", 2: "owl"}])
def test_trained_classifier_keeps_its_weights_but_for_the_last_layer(tmp_path, names):
    trained = tiny_classifier(preprocessing=PREPROCESSING | {"mean": [0.3]})
    trained.config.temperature_in_weights = 2.0
    trained.save_pretrained(tmp_path)
    built = build_backbone(str(tmp_path), names, size=(24, 24), channels=3)
    assert not hasattr(built.model.config, "temperature_in_weights")  # which was of the last layer
    assert class_names_of(built.model) == names
    assert built.preprocessing.mean == (0.3,)
    assert built.preprocessing.height == 16
    kept, head = trained.state_dict(), "classifier.1"
    for key, tensor in built.model.state_dict().items():
        assert torch.equal(tensor, kept[key]) == (not key.startswith(head)), key


@pytest.mark.parametrize(
    ("changes", "mean", "std"),
    [
        ({}, 0.4, 0.2),
        ({"do_rescale": False, "image_mean": [102.0] * 3, "image_std": [51.0] * 3}, 0.4, 0.2),
        ({"rescale_factor": 2 / 255, "image_mean": [0.8] * 3, "image_std": [0.4] * 3}, 0.4, 0.2),
        ({"do_normalize": False}, 0.0, 1.0),
    ],
)
def test_trained_classifier_sees_the_levels_that_its_own_processor_gave_it(tmp_path, changes, mean, std):
    tiny_classifier(num_channels=3, preprocessing=None).save_pretrained(tmp_path)
    usual = {"size": {"height": 16, "width": 16}, "image_mean": [0.4] * 3, "image_std": [0.2] * 3}
    ViTImageProcessor(**usual | changes).save_pretrained(tmp_path)
    built = build_backbone(str(tmp_path), NAMES, size=(16, 16), channels=3)
    assert built.preprocessing.mean == pytest.approx((mean,) * 3, abs=1e-5)
    assert built.preprocessing.std == pytest.approx((std,) * 3, abs=1e-5)


@pytest.mark.parametrize("flipped", [True, False])
def test_other_order_of_colours_is_told(tmp_path, caplog, flipped):
    tiny_classifier(num_channels=3, preprocessing=None).save_pretrained(tmp_path)
    sizes = {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}}
    MobileViTImageProcessor(**sizes, do_flip_channel_order=flipped).save_pretrained(tmp_path)
    build_backbone(str(tmp_path), NAMES, size=(16, 16), channels=3)
    assert ("it learns anew that red comes first" in caplog.text) == flipped


@pytest.mark.parametrize("save", WITHOUT_CLASSES, ids=lambda save: save.__name__)
@pytest.mark.parametrize("names", [NAMES, {0: "a", 1: "b", 2: "c"}])
def test_network_that_was_trained_without_classes_learns_some(tmp_path, save, names):
    kept = list(save(tmp_path).state_dict().values())
    built = build_backbone(str(tmp_path), names, size=(32, 32), channels=3)
    seen = (built.preprocessing.channels, built.preprocessing.height, built.preprocessing.width)
    assert built.model(torch.zeros(1, *seen)).logits.shape == (1, len(names))
    for name, tensor in built.model.state_dict().items():
        assert any(torch.equal(tensor, own) for own in kept) == (not name.startswith(("classifier", "timm_model.head")))


def test_head_of_a_network_without_classes_follows_from_the_seed(tmp_path):
    vit(tmp_path)
    first, again, other = (
        build_backbone(str(tmp_path), NAMES, size=(32, 32), channels=3, seed=n).model.classifier.weight
        for n in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_classifier_for_several_labels_an_image_learns_one(tmp_path):
    tiny_classifier(problem_type="multi_label_classification").save_pretrained(tmp_path / "base")
    built = build_backbone(str(tmp_path / "base"), NAMES, size=(16, 16), channels=1)
    built.model.save_pretrained(tmp_path / "guide")
    assert class_names_of(load_classifier(tmp_path / "guide")) == NAMES


def test_both_heads_of_a_network_with_a_teacher_learn_other_classes_and_are_scaled(tmp_path):
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    config = DeiTConfig(**WIDTHS, **SEES, id2label=dict(enumerate("abcde")), label2id={})
    DeiTForImageClassificationWithTeacher(config).save_pretrained(tmp_path)
    model = build_backbone(str(tmp_path), NAMES, size=(32, 32), channels=3).model
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(images).logits
        assert before.shape == (2, 2)
        assert scale_logits(model, 2.5, images)
        assert torch.allclose(model(images).logits, before / 2.5, atol=1e-6)


def test_timm_network_from_a_folder_learns_other_classes(tmp_path):
    built = build_backbone("test_convnext", NAMES, size=(32, 32), channels=3, weights="none")
    built.model.save_pretrained(tmp_path)
    other = build_backbone(str(tmp_path), {0: "a", 1: "b", 2: "c"}, size=(32, 32), channels=3)
    assert other.model(torch.zeros(1, 3, 32, 32)).logits.shape == (1, 3)
    stem = "timm_model.stem.0.weight"
    assert torch.equal(other.model.state_dict()[stem], built.model.state_dict()[stem])


@pytest.mark.parametrize(
    ("name", "arguments", "names", "heads"),
    [
        ("volo_d1_224", {"img_size": 32}, {0: "a", 1: "b", 2: "c"}, ("head.", "aux_head.")),
        ("caformer_s18", {}, NAMES, ("head.fc.fc2.",)),  # of as many classes
    ],
)
def test_last_layers_of_timm_s_networks_alone_are_made_anew_and_scaled(tmp_path, name, arguments, names, heads):
    sees = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    said = {"architecture": name, "model_args": arguments, "pretrained_cfg": sees}
    old = TimmWrapperForImageClassification(TimmWrapperConfig(**said, id2label={0: "x", 1: "y"}, label2id={}))
    old.save_pretrained(tmp_path)
    model, images = build_backbone(str(tmp_path), names, size=(32, 32), channels=3).model, torch.randn(2, 3, 32, 32)
    kept, now = old.state_dict(), model.state_dict()
    new = {key for key in now if key not in kept or not torch.equal(now[key], kept[key])}
    assert new
    assert all(key.removeprefix("timm_model.").startswith(heads) for key in new)
    with torch.no_grad():
        before = model(images).logits
        assert scale_logits(model, 2.5, images)
        assert torch.allclose(model(images).logits, before / 2.5, atol=1e-6)


def test_network_whose_logits_are_its_last_hidden_state_learns_other_classes(tmp_path):
    write_images(tmp_path / "images", {"cat": 4, "dog": 4}, size=32)
    PPLCNetForImageClassification(PPLCNetConfig(scale=0.25, class_expand=8)).save_pretrained(tmp_path / "base")
    PPLCNetImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "base")
    config = ClassifierConfig(model=str(tmp_path / "base"), steps=1, precision="float32")
    images = read_pool(tmp_path / "images")
    train_classifier(images, tmp_path / "guide", config)
    guide = load_classifier(tmp_path / "guide")
    assert image_logits(guide, torch.rand(2, 3, 32, 32)).shape == (2, 2)
    assert scale_logits(guide, 2.0, torch.rand(2, 3, 32, 32))


def test_network_that_counts_its_labels_apart_from_their_names_gets_a_logit_for_each_class(tmp_path):
    sizes = {"hidden_sizes": [8] * 4, "depths": [1] * 4, "num_attention_heads": [1] * 4, "mlp_ratios": [1] * 4}
    PvtForImageClassification(PvtConfig(image_size=32, **sizes)).save_pretrained(tmp_path / "base")  # 1,000 labels
    PvtImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "base")
    build_backbone(str(tmp_path / "base"), NAMES, size=(32, 32), channels=3).model.save_pretrained(tmp_path / "guide")
    guide = load_classifier(tmp_path / "guide")
    assert class_names_of(guide) == NAMES
    assert image_logits(guide, torch.rand(2, 3, 32, 32)).shape == (2, 2)


def test_guide_and_evaluator_are_of_different_families():
    for size in ((32, 32), (64, 64), (224, 224)):
        assert default_backbone("guide", size) != default_backbone("evaluator", size)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnett18", {}, "there is no model 'resnett18'; the nearest are .*resnet"),
        ("resnet18.nothing", {}, "timm has no weights 'resnet18.nothing'"),
        ("small-resnet", {"weights": "pretrained"}, "small-resnet has no pretrained weights"),
        ("test_vit", {"weights": "some"}, "weights is 'some'"),
        ("inception_v3", {"weights": "none"}, "inception_v3 cannot see 3 x 32 x 32 images"),
        ("nowhere/at-all", {}, "nowhere/at-all is not a transformers or timm image classifier"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_way_out(name, options, words):
    with pytest.raises(ValueError, match=words):
        build_backbone(name, NAMES, size=(32, 32), channels=3, **options)


def test_without_the_hub_a_network_of_timm_is_trained_from_scratch_and_said_so(caplog):
    built = build_backbone("test_vit", NAMES, size=(32, 32), channels=3)
    assert built.weights == "random"
    assert "cannot be reached, so that test_vit is trained from scratch" in caplog.text


def test_hub_that_cannot_be_reached_is_told_once_in_a_training(tmp_path, caplog):
    write_images(tmp_path / "images", {"cat": 4, "dog": 4})
    config = ClassifierConfig(model="test_vit", steps=1, folds=2, precision="float32")
    trained = train_classifier(read_pool(tmp_path / "images"), tmp_path / "guide", config)
    assert trained.record["weights"] == "random"
    assert caplog.text.count("cannot be reached") == 1


TIMM = ClassifierConfig(model="test_vit", steps=2, batch_size=4, precision="float32")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that has timm's weights, and does not answer until ``HF_HUB_OFFLINE`` is off."""
    torch.manual_seed(0)  # the client remembers a commit of a repository, which is of its files
    save_for_hf(timm.create_model("test_vit", pretrained=False), tmp_path / "weights", safe_serialization=True)
    with hub_server.serving() as hub:
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        files = {path.name: path.read_bytes() for path in (tmp_path / "weights").iterdir()}
        hub.put("timm/test_vit.r160_in1k", files, "models")
        yield hub


def stopped(images, output):
    def stop(stage, done, total):
        if stage == "training" and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_classifier(images, output, TIMM, progress=stop)


@pytest.mark.parametrize(
    ("reached", "weights"), [((False, True), "random"), ((True, False), "timm/test_vit.r160_in1k")], ids=str
)
def test_training_goes_on_with_the_weights_that_it_was_begun_with(tmp_path, monkeypatch, caplog, hub, reached, weights):
    write_images(tmp_path / "images", {"cat": 4, "dog": 4})
    images = read_pool(tmp_path / "images")
    for call, online in enumerate(reached):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not online)
        if call == 0:
            stopped(images, tmp_path / "guide")
    record = train_classifier(images, tmp_path / "guide", TIMM).record
    assert record["resumed"]
    assert record["weights"] == weights
    assert ("is trained from scratch, as it was begun in" in caplog.text) == (weights == "random")


@pytest.mark.slow
def test_processes_have_the_weights_that_the_first_can_have(tmp_path):
    write_images(tmp_path / "images", {"cat": 8, "dog": 8})
    run_together(train_where_the_hub_answers_the_others, tmp_path / "guide", tmp_path / "images")
    assert json.loads((tmp_path / "guide" / "training.json").read_text())["weights"] == "random"


def test_weights_that_a_training_was_begun_with_and_that_are_gone_are_told(tmp_path, monkeypatch, hub):
    write_images(tmp_path / "images", {"cat": 4, "dog": 4})
    images = read_pool(tmp_path / "images")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    stopped(images, tmp_path / "guide")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(ValueError, match=r"timm/test_vit.r160_in1k .*nothing of that name is cached"):
        train_classifier(images, tmp_path / "guide", TIMM)
