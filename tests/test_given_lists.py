"""Lists that are given themselves: the official splits of published data sets, tables of competitions, own ones."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from dag_diffusion import read_pool
from dag_diffusion.cli.commands import app
from dag_diffusion.data.rows import read_rows
from dag_diffusion.own_images import FolderConfig
from dag_diffusion.own_images.plain_images import plain_images


def written(root: Path, images: str, name: str, text: str) -> Path:
    """A list, and images, given by their names with spaces between them, in a folder."""
    for place, image in enumerate(images.split()):
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (place, 40, 90)).save(root / image)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return root / name


ANIMALS = "cat/0.png cat/1.png cat/2.png dog/0.png dog/3.png dog/4.png"


@pytest.mark.parametrize(
    ("images", "name", "text", "expected"),
    [
        pytest.param(
            "clipart/tiger/0.jpg clipart/tiger/1.jpg clipart/zebra/2.jpg clipart/zebra/3.jpg",
            "clipart_train.txt",
            "clipart/tiger/0.jpg 7\nclipart/zebra/3.jpg 9\n",
            {"clipart/tiger/0.jpg": (7, "tiger"), "clipart/zebra/3.jpg": (9, "zebra")},
            id="DomainNet: a number whose folder has the name",
        ),
        pytest.param(
            "images/apple_pie/100.jpg images/apple_pie/101.jpg images/steak/100.jpg",
            "meta/train.txt",
            "apple_pie/101\nsteak/100\n",
            {"images/apple_pie/101.jpg": (0, "apple_pie"), "images/steak/100.jpg": (1, "steak")},
            id="Food-101: names alone, without a suffix, beside the folder of images",
        ),
        pytest.param(
            "images/Abyssinian_1.jpg images/beagle_1.jpg annotations/trimaps/Abyssinian_1.png "
            "annotations/trimaps/beagle_1.png",
            "annotations/trainval.txt",
            "Abyssinian_1 1 1 1\nbeagle_1 5 2 3\n",
            {"images/Abyssinian_1.jpg": (1, "1"), "images/beagle_1.jpg": (5, "5")},
            id="Oxford-IIIT Pet: no trimaps, which are called as the images are",
        ),
        pytest.param(
            "images/1025794.jpg images/1340192.jpg",
            "images_variant_train.txt",
            "1025794 707-320\n1340192 Boeing 717\n",
            {"images/1025794.jpg": (0, "707-320"), "images/1340192.jpg": (1, "Boeing 717")},
            id="FGVC-Aircraft: names with spaces",
        ),
        pytest.param(
            "HAM10000_images_part_1/ISIC_0.jpg HAM10000_images_part_2/ISIC_1.jpg",
            "train.csv",
            "lesion_id,image_id,label,age\nHAM_9,ISIC_0,bkl,80\nHAM_9,ISIC_1,nv,70\n",
            {"HAM10000_images_part_1/ISIC_0.jpg": (0, "bkl"), "HAM10000_images_part_2/ISIC_1.jpg": (1, "nv")},
            id="HAM10000: images in two folders",
        ),
        pytest.param(
            "Forest/Forest_1.jpg Forest/Forest_2.jpg River/River_1.jpg",
            "train.csv",
            ",Filename,Label,ClassName\n0,River/River_1.jpg,1,River\n1,Forest/Forest_2.jpg,0,Forest\n",
            {"Forest/Forest_2.jpg": (0, "Forest"), "River/River_1.jpg": (1, "River")},
            id="EuroSAT: numbers of rows before the names",
        ),
        pytest.param(
            "images/001.Albatross/a_1.jpg images/001.Albatross/a_2.jpg images/002.Crow/c_1.jpg",
            "images.txt",
            "1 001.Albatross/a_1.jpg\n2 001.Albatross/a_2.jpg\n3 002.Crow/c_1.jpg\n",
            {
                "images/001.Albatross/a_1.jpg": (0, "001.Albatross"),
                "images/001.Albatross/a_2.jpg": (0, "001.Albatross"),
                "images/002.Crow/c_1.jpg": (1, "002.Crow"),
            },
            id="CUB-200-2011: numbers of images are no classes",
        ),
        pytest.param(
            "train_images/0a.png train_images/1a.png test_images/2b.png",
            "train.csv",
            "id_code,diagnosis\n0a,4\n1a,0\n",
            {"train_images/0a.png": (4, "4"), "train_images/1a.png": (0, "0")},
            id="APTOS: one other column",
        ),
        pytest.param(
            ANIMALS,
            "lists/train.csv",
            "image;label\n../cat/0.png;tabby\n../dog/0.png;pug\n",
            {"cat/0.png": (1, "tabby"), "dog/0.png": (0, "pug")},
            id="paths from the folder of the list on",
        ),
        pytest.param(
            ANIMALS,
            "train.csv",
            "path,label\n/home/me/pets/cat/0.png,cat\n/home/me/pets/dog/3.png,dog\n",
            {"cat/0.png": (0, "cat"), "dog/3.png": (1, "dog")},
            id="paths of another machine",
        ),
        pytest.param(
            ANIMALS,
            "train.csv",
            "path,label\nD:\\pets\\cat\\0.png,cat\nD:\\pets\\dog\\3.png,dog\n",
            {"cat/0.png": (0, "cat"), "dog/3.png": (1, "dog")},
            id="paths of Windows",
        ),
        pytest.param(
            ANIMALS,
            "train.jsonl",
            '{"file_name": "cat/0.png", "label": "tabby"}\n{"file_name": "dog/3.png", "label": "pug"}\n',
            {"cat/0.png": (1, "tabby"), "dog/3.png": (0, "pug")},
            id="JSON lines",
        ),
        pytest.param(
            "images/0.png images/1.png val/0.png val/1.png",
            "val.csv",
            "file,label\n0.png,cat\n1.png,dog\n",
            {"val/0.png": (0, "cat"), "val/1.png": (1, "dog")},
            id="the folder that the list is called after, not images",
        ),
        pytest.param(
            "images/0.png images/1.png more/2.png",
            "all.csv",
            "file,label\n0.png,cat\n1.png,dog\n2.png,dog\n",
            {"images/0.png": (0, "cat"), "images/1.png": (1, "dog"), "more/2.png": (1, "dog")},
            id="anywhere, where no folder has all",
        ),
        pytest.param(
            ANIMALS,
            "train.csv",
            "path,split\ncat/0.png,train\ndog/3.png,train\n",
            {"cat/0.png": (0, "cat"), "dog/3.png": (1, "dog")},
            id="a split is no class",
        ),
        pytest.param(
            ANIMALS,
            "meta/train.jsonl",
            '{"file_name": "cat/0.png", "label": "a"}\n{"file_name": "dog/3.png", "label": "b"}\n',
            {"cat/0.png": (0, "a"), "dog/3.png": (1, "b")},
            id="JSON lines beside the folder of images",
        ),
        pytest.param("cat/0.png", "one.csv", "file,label\ncat/0.png,cat\n", {"cat/0.png": (0, "cat")}, id="one image"),
    ],
)
def test_lists_are_read_with_the_images_that_they_name(tmp_path, images, name, text, expected):
    found = read_pool(written(tmp_path, images, name, text))
    assert {row["file_name"]: (row["label"], row["class_name"]) for row in found.rows} == expected
    assert found.path == tmp_path
    assert found.open(0).size == (8, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,label\ncat/0.png,a\ncat/9.png,a\ndog/0.png,b\n",
            "names 1 images such as 'cat/9.png', of which there is none",
        ),
        ("cat/9.png,a\ncat/0.png,a\ndog/0.png,b\n", "names 1 images such as 'cat/9.png', of which there is none"),
        ("file,label\n0,a\n1,a\n3,b\n", "names 1 images such as '0', of which there is none, or several"),
        ("path,label\n/x/cat/0.png,a\n/x/bird/4.png,b\n", "such as '/x/bird/4.png', of which there is none"),
        (
            "file,label\n../other/0.png,a\ncat/1.png,a\ndog/0.png,b\n",
            "other/0.png, which lies outside .*; put the list into a folder above",
        ),
        ("path,label\nbird/3.png,a\nbird/4.png,b\n", "names no images below"),
        ("file,label\ncat/0.png,a\ncat/0.png,b\n", "calls cat/0.png both 'a' and 'b'"),
        ("file,label\ncat/0.png,a\ndog/0.png,\n", "names no class of dog/0.png; give every row one, or remove"),
        ("file,label,split\ncat/0.png,a,train\ndog/0.png,b,test\n", "images of test and train together"),
        ("file,label\n", "names no images below"),
        ("", "names no images below"),
        (
            "dear reader,\nthese are pictures of mine\n",
            "names no images below .*; put it into the folder of the images",
        ),
    ],
)
def test_a_list_that_fits_no_images_is_refused(tmp_path, text, message):
    file = written(tmp_path / "data", ANIMALS, "train.csv", text)
    written(tmp_path, "other/0.png", "unused.csv", "")
    with pytest.raises(ValueError, match=re.escape(str(file))) as told:
        read_pool(file)
    assert re.search(message, str(told.value))


def test_list_of_a_split_whose_images_lie_in_another_splits_folder_is_told_how_to_name_them(tmp_path):
    (tmp_path / "train_images").mkdir()
    for name in ("0.png", "1.png", "2.png", "3.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "train_images" / name)
    written(tmp_path, "", "train.csv", "file,label\n0.png,a\n1.png,b\n")
    file = written(tmp_path, "", "test.csv", "file,label\n2.png,a\n3.png,b\n")
    with pytest.raises(ValueError, match=r"another split alone, such as train_images/[23]\.png; if .* folder images$"):
        read_pool(file)
    with pytest.raises(ValueError, match=r"train\.csv names no class of 2.png and 1 other .*; add them, give the list"):
        read_pool(tmp_path / "train_images")
    file.write_text("file,label\ntrain_images/2.png,a\ntrain_images/3.png,b\n")
    assert len(read_pool(file)) == 2


def test_names_alone_have_spaces_where_the_folders_have(tmp_path):
    for name in ("sea lion/0.png", "lion/0.png", "polar bear/1.png", "bear/1.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    file = written(tmp_path, "", "train.txt", "sea lion/0.png\npolar bear/1.png\n")
    assert [row["file_name"] for row in read_pool(file).rows] == ["polar bear/1.png", "sea lion/0.png"]
    assert read_pool(file).class_names == {0: "polar bear", 1: "sea lion"}


NAMES = ["train/cat/0.png train/dog/1.png", "cat/0.png dog/1.png", "/x/train/cat/0.png /x/train/dog/1.png"]


@pytest.mark.parametrize("names", NAMES)
def test_images_of_another_split_stand_in_for_none(tmp_path, names):
    file = written(tmp_path, "val/cat/0.png val/dog/1.png", "train.txt", "".join(f"{one}\n" for one in names.split()))
    with pytest.raises(ValueError, match=r"names no images below|of another split alone"):
        read_pool(file)
    (tmp_path / "val").rename(tmp_path / "train")
    assert len(read_pool(file)) == 2


def test_names_alone_of_images_without_class_folders_are_refused(tmp_path):
    file = written(tmp_path, "images/0.png images/1.png", "train.txt", "0.png\n1.png\n")
    with pytest.raises(ValueError, match=r"tells no class of images/0\.png, nor does its folder"):
        read_pool(file)


def test_other_columns_of_rows_are_kept(tmp_path):
    text = "file_name,label,difficulty\ncat/0.png,cat,0.25\ndog/3.png,dog,0.75\n"
    assert read_pool(written(tmp_path, ANIMALS, "mine.csv", text)).difficulties.tolist() == [0.25, 0.75]


def test_a_list_is_scored_to_a_file_of_its_own_and_sets_are_chosen_from_it(tmp_path, saved_pipeline):
    file = written(
        tmp_path / "data", ANIMALS, "train.csv", "file,label\ncat/0.png,T-shirt\ncat/1.png,T-shirt\ndog/3.png,Bag\n"
    )
    guide = str(saved_pipeline / "classifier")
    before = sorted(tmp_path.rglob("*"))
    told = CliRunner().invoke(app, ["score", str(file), "--classifier", guide])
    assert told.exit_code == 2
    assert "is a list, in which no scores are written" in " ".join(told.output.split())
    assert sorted(tmp_path.rglob("*")) == before
    scores = tmp_path / "scores.jsonl"
    command = ["score", str(file), "--classifier", guide, "--output", str(scores)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert sorted(row["file_name"] for row in read_rows(scores)) == ["cat/0.png", "cat/1.png", "dog/3.png"]
    command = ["subsample", str(file), str(tmp_path / "set"), "--scores", str(scores), "--ipc", "1"]
    assert CliRunner().invoke(app, [*command, "--method", "random"]).exit_code == 0
    chosen = read_pool(tmp_path / "set")
    assert {row["source"] for row in chosen.rows} <= {"cat/0.png", "cat/1.png", "dog/3.png"}
    assert len(chosen) == 2


def test_lists_of_two_splits_are_prepared_with_their_images_and_new_classes_are_refused(tmp_path):
    train = written(tmp_path, ANIMALS, "train.csv", "file,label\ncat/0.png,c\ncat/1.png,c\ndog/0.png,d\ndog/3.png,d\n")
    test = written(tmp_path, ANIMALS, "test.csv", "file,label\ncat/2.png,c\ndog/4.png,d\n")
    config = FolderConfig(test=test, ipc=1)
    found = plain_images(train, tmp_path / "work", config, 32)
    assert sorted(row["source"] for row in found.train.rows) == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/3.png"]
    assert sorted(row["source"] for row in found.test.rows) == ["cat/2.png", "dog/4.png"]
    assert json.loads((tmp_path / "work/images.json").read_text())["source"] == str(train)
    assert len(plain_images(train, tmp_path / "work", config, 32).train) == 4
    train.write_text(train.read_text().replace("dog/0.png,d", "dog/0.png,c"))
    with pytest.raises(ValueError, match=r"train\.csv has other classes of its images than when"):
        plain_images(train, tmp_path / "work", config, 32)
