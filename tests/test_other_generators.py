"""What published code leaves: read with the classes that it means, or refused with a way out that works."""

import json
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dag_diffusion import read_pool
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.imagenet import SUBSETS, imagenet_names, imagenet_synsets
from dag_diffusion.evaluation.soft_labels import read_soft_labels

NETTE = SUBSETS["ImageNette"]
PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "other-generators.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)


def draw(root: Path, *names: str) -> Path:
    for place, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), place, np.uint8)).save(root / name)
    return root


def found(root: Path) -> dict[str, str]:
    """File name to the ImageNet synset that it is scored as."""
    pool, synsets = read_pool(root), imagenet_synsets()
    labels = match_classes(pool.class_names, imagenet_names())
    return {row["file_name"]: synsets[labels[row["label"]]] for row in pool.rows}


def run(*blocks: str) -> None:
    exec("\n".join(blocks), {})  # noqa: S102 - our own page


READ = {
    "Minimax": {f"{synset}/{i}.png": synset for synset in NETTE for i in range(2)},
    "VLCP": {"tench/tench-image00.png": NETTE[0], "cassette player/cassette player-image00.png": NETTE[2]},
    "Stanford Dogs": {"n02085620-Chihuahua/n02085620_7.jpg": "n02085620", "n02086240-Shih-Tzu/0.jpg": "n02086240"},
}


@pytest.mark.parametrize("code", READ)
def test_folders_are_read_as_the_classes_that_are_meant(tmp_path, code):
    assert found(draw(tmp_path, *READ[code])) == READ[code]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            [f"dataset_{i}/{synset}/0.png" for i in range(2) for synset in NETTE],
            "give one of them, such as .*dataset_0",
        ),
        (["n01440764/0.png", "n01440764_ss/0.png"], "has n01440764 twice, as 'n01440764' and 'n01440764_ss'; move"),
        ([f"{i}/{i}-image00.png" for i in range(10)], "numbers '0', '1' and 8 more name none of them"),
        ([f"{i:05d}/class{i:05d}_id00000.jpg" for i in range(10)], "numbers '00000', '00001' and 8 more name none"),
        ([f"new{i:03d}/class{i:03d}_id000.jpg" for i in range(10)], "numbers 'new000', 'new001' and 8 more name none"),
        (["000000.png", "000001.png"], "2 images but no class folders"),
        (["000000/000000.png", "001000/001000.png"], "are parts of one list of images"),
        (["00000/000000000.jpg", "00000/000000001.jpg"], "are parts of one list of images"),
    ],
)
def test_folders_that_tell_no_class_are_refused(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        found(draw(tmp_path, *names))


def test_tars_of_img2dataset_are_named_rather_than_its_tables_of_addresses(tmp_path):
    for name in ("00000.tar", "00000.parquet", "00000_stats.json"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        ValueError, match=rf"tables beside tars; give those that hold the images, such as '{tmp_path}/\*\.tar'"
    ):
        read_pool(tmp_path)


def test_zip_of_edm_is_read_by_its_labels_once_it_is_unpacked(tmp_path):
    names = [f"{i:05d}/img{i:05d}000.png" for i in range(3)]
    draw(tmp_path / "made", *names)
    with zipfile.ZipFile(tmp_path / "edm.zip", "w") as packed:
        for name in names:
            packed.write(tmp_path / "made" / name, name)
        packed.writestr("dataset.json", json.dumps({"labels": [[name, 9 - i] for i, name in enumerate(names)]}))
    with pytest.raises(ValueError, match="unpack it, into a folder"):
        read_pool(tmp_path / "edm.zip")
    zipfile.ZipFile(tmp_path / "edm.zip").extractall(tmp_path / "edm")
    rows = read_pool(tmp_path / "edm").rows
    assert {row["file_name"]: row["label"] for row in rows} == {names[0]: 9, names[1]: 8, names[2]: 7}


@pytest.mark.parametrize(
    "name", ["{0:05d}/class{0:05d}_id00000.jpg", "new{0:03d}/class{0:03d}_id000.jpg", "{0}/{0}-image00.png"]
)
@pytest.mark.parametrize("numbers", [range(10), (3, 7, 9)])
def test_numbers_are_named_as_the_page_says(tmp_path, monkeypatch, name, numbers):
    monkeypatch.chdir(tmp_path)
    draw(Path("imagenette/train"), *(f"{synset}/0.JPEG" for synset in NETTE))
    draw(Path("rded"), *(name.format(number) for number in numbers))
    run(BLOCKS[0])
    assert found(Path("rded")) == {name.format(number): sorted(NETTE)[number] for number in numbers}


def test_numbers_of_dataset_json_are_named_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(Path("imagenette/train"), *(f"{synset}/0.JPEG" for synset in NETTE))
    names = ["00000/img00000000.png", "00000/img00000001.png"]
    (draw(Path("rded"), *names) / "dataset.json").write_text(json.dumps({"labels": [[names[0], 9], [names[1], 1]]}))
    run(BLOCKS[0])
    assert found(Path("rded")) == {names[0]: sorted(NETTE)[9], names[1]: sorted(NETTE)[1]}


def test_classes_are_listed_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(Path("mar"), *(f"{i:05d}.png" for i in range(100)))
    run("from pathlib import Path", f"synsets = {list(NETTE)}", BLOCKS[1])
    assert [*found(Path("mar")).values()] == [NETTE[0]] * 50 + [NETTE[1]] * 50
    draw(Path("pets"), "images/great_pyrenees_1.jpg", "images/Bengal_12.jpg", "annotations/trimaps/Bengal_12.png")
    run("from pathlib import Path", BLOCKS[2])
    expected = {"Bengal_12.jpg": "Bengal", "great_pyrenees_1.jpg": "great_pyrenees"}
    assert {row["file_name"]: row["class_name"] for row in read_pool("pets/images").rows} == expected
    draw(Path("places"), "a/airfield/0.jpg", "a/alley/0.jpg", "b/bakery/shop/0.jpg")
    run("import json", "from pathlib import Path", BLOCKS[3])
    assert [row["class_name"] for row in read_pool("places").rows] == ["airfield", "alley", "shop"]


def test_arrays_become_images_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    np.savez("samples_50000x256x256x3.npz", pixels, np.array([217, 0, 217]))
    run("from pathlib import Path", BLOCKS[4])
    assert [*found(Path("adm")).values()] == ["n01440764", "n02102040", "n02102040"]
    assert (np.asarray(Image.open("adm/n01440764/000001.png")) == pixels[1]).all()


PIXELS = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), np.uint8)
IMAGES = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255
LABELS = torch.arange(10).repeat_interleave(2)
MEAN, STD = torch.tensor([[0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]]).view(2, 3, 1, 1)
BEGIN = ("import numpy as np", "from pathlib import Path", "from dag_diffusion import read_pool", BLOCKS[5])


def require_saved(folder: str) -> None:
    """Each image lies in the folder of its class, to the last bit."""
    rows = read_pool(folder).rows
    assert [row["file_name"] for row in rows] == [f"{row['class_name']}/{i:06d}.png" for i, row in enumerate(rows)]
    assert [row["label"] for row in rows] == LABELS.tolist()
    for row, pixels in zip(rows, PIXELS, strict=True):
        assert (np.asarray(Image.open(Path(folder, row["file_name"]))) == pixels).all()


@pytest.mark.parametrize("module", ["numpy._core", "numpy.core"])
def test_file_of_dc_becomes_images_as_the_page_says(tmp_path, monkeypatch, module):
    monkeypatch.chdir(tmp_path)
    name, accuracies = "res_DC_CIFAR10_ConvNet_10ipc.pt", {"ConvNet": [np.float64(0.44)]}
    torch.save({"data": [[(IMAGES - MEAN) / STD, LABELS]], "accs_all_exps": accuracies}, "new.pt")
    with zipfile.ZipFile("new.pt") as new, zipfile.ZipFile(name, "w") as file:  # as each version of NumPy pickles it
        for one in new.namelist():
            file.writestr(one, re.sub(rb"numpy\._?core(?=\.multiarray)", module.encode(), new.read(one)))
    with pytest.raises(pickle.UnpicklingError):
        torch.load(name, weights_only=True)
    run(*BEGIN, BLOCKS[6])
    require_saved("dc")


def test_tensors_of_mtt_become_images_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save((IMAGES - MEAN) / STD, "images_best.pt")
    torch.save(LABELS, "labels_best.pt")
    run(*BEGIN, BLOCKS[7])
    require_saved("mtt")


def test_whitened_images_of_datm_and_their_labels_are_read_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real = np.random.default_rng(1).integers(0, 256, (40, 6, 6, 3), np.uint8)
    for index, pixels in enumerate(real):
        Path(f"cifar10/train/{index % 10}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(f"cifar10/train/{index % 10}/{index}.png")
    flat = (torch.from_numpy(real).permute(0, 3, 1, 2) / 255).flatten(1)
    left, values, _ = torch.linalg.svd((flat - flat.mean(0)).T @ (flat - flat.mean(0)) / (len(flat) - 1))  # as kornia
    whitened = (IMAGES.flatten(1) - flat.mean(0)) @ left @ torch.diag((values + 0.1).rsqrt()) @ left.T
    torch.save(whitened.view_as(IMAGES), "images_best.pt")
    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(0))
    torch.save(logits, "labels_best.pt")
    run(*BEGIN, BLOCKS[8], BLOCKS[9])
    require_saved("datm")
    torch.testing.assert_close(read_soft_labels(read_pool("datm")), logits.softmax(1), atol=1e-3, rtol=1e-2)
