"""The subsets are those of the field, in its order, and a test folder of the wrong split is told."""

from pathlib import Path

import pytest
import yaml
from timm.data import ImageNetInfo
from typer.main import get_command

from dag_diffusion.cli.commands import app
from dag_diffusion.cli.options.config_files import read_config
from dag_diffusion.data.imagenet import FASTAI_TEST_IMAGES, SUBSETS, split_of, split_warning, subset_of

EXAMPLES = Path(__file__).parents[1] / "examples"
LABELS = {  # of ImageNet, as Minimax diffusion and IDC list them
    "ImageNette": [0, 217, 482, 491, 497, 566, 569, 571, 574, 701],
    "ImageWoof": [193, 182, 258, 162, 155, 167, 159, 273, 207, 229],
    "ImageIDC": [452, 64, 374, 236, 993, 176, 882, 904, 503, 74],
}


@pytest.mark.parametrize("subset", SUBSETS)
def test_subset_has_the_labels_of_the_field_in_its_order(subset):
    synsets = list(ImageNetInfo("imagenet-1k").label_names())
    assert [synsets.index(synset) for synset in SUBSETS[subset]] == LABELS[subset]


@pytest.mark.parametrize("subset", SUBSETS)
def test_example_names_the_classes_of_its_subset_and_is_a_config_of_run(subset):
    path = EXAMPLES / f"{subset.lower()}.yaml"
    values = read_config(path, get_command(app).commands["run"].params)
    assert tuple(values["classes"]) == SUBSETS[subset]
    assert (values["network"], values["protocol"], values["split"]) == ("resnet-ap-10", "hard-label", "ilsvrc")
    for line, synset in zip(
        [x for x in path.read_text().splitlines() if x.startswith("  - ")], SUBSETS[subset], strict=True
    ):
        named = line.split("# ")[1]
        assert named in ImageNetInfo().label_name_to_description(synset)


def test_examples_differ_in_their_classes_and_places_alone():
    files = [yaml.safe_load((EXAMPLES / f"{name.lower()}.yaml").read_text()) for name in SUBSETS]
    shared = [{k: v for k, v in file.items() if k not in ("classes", "output")} for file in files]
    assert shared[0] == shared[1] == shared[2]


@pytest.mark.parametrize("subset", SUBSETS)
def test_fifty_images_of_each_class_are_the_split_of_ilsvrc_and_need_no_word(subset):
    counts = dict.fromkeys(reversed(SUBSETS[subset]), 50)
    assert (subset_of(counts), split_of(counts)) == (subset, "ilsvrc")
    assert split_warning(counts) == split_warning(counts, "ilsvrc") == ""
    assert "said to be 'fastai'" in split_warning(counts, "fastai")


@pytest.mark.parametrize(("subset", "total"), FASTAI_TEST_IMAGES.items())
@pytest.mark.parametrize("stated", ["", "ilsvrc", "fastai"])
def test_split_of_fastai_is_told_by_its_number_of_images(subset, total, stated):
    first, *others = SUBSETS[subset]
    counts = {**dict.fromkeys(others, 400), first: total - 3600}
    assert split_of(counts) == "fastai"
    warning = split_warning(counts, stated)
    assert "\n" not in warning
    assert f"{total:,} test images are fastai's split of {subset}" in warning
    assert "training images that the guide has seen" in warning


def test_other_images_are_no_split_and_only_a_claim_about_them_is_answered():
    counts = {"n01440764": 3925}
    assert (subset_of(counts), split_of(counts), split_warning(counts)) == (None, "other", "")
    assert "said to be 'ilsvrc', but 3,925 test images of 1 classes are none" in split_warning(counts, "ilsvrc")
