"""Where a pool is meant, whatever ``read_pool`` reads will do; what is something else is refused in a line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_dataset
from edged_images import draw
from tiny import tiny_classifier, write_images
from tiny_classifiers import CONFIG as CLASSIFIER

from dag_diffusion import (
    GeneratorConfig,
    Pool,
    read_pool,
    score_and_record,
    score_pool,
    train_classifier,
    train_generator,
    write_distilled_set,
)
from dag_diffusion.evaluation import evaluate, load_labelled_images
from dag_diffusion.reporting import report_folders

GENERATOR = GeneratorConfig(
    steps=1, vae_steps=1, width=64, depth=1, batch_size=4, sample_grids=0, size=16, precision="float32"
)


def difficulties(pool: Any, folder: Path) -> Any:
    return score_pool(pool, tiny_classifier()).difficulties.tolist()


def recorded_difficulties(pool: Any, folder: Path) -> Any:
    score_and_record(pool, {"tiny": tiny_classifier()}, str(folder / "scores.jsonl"))
    place = pool.path if isinstance(pool, Pool) else pool
    return read_pool(place, scores=folder / "scores.jsonl").difficulties.tolist()


def pixels(pool: Any, folder: Path) -> Any:
    return load_labelled_images(pool, size=16, channels=1).images.tolist()


def written(pool: Any, folder: Path) -> Any:
    return [row["label"] for row in write_distilled_set(pool, [0, 5], folder / "set").rows]


def classifier_classes(pool: Any, folder: Path) -> Any:
    return train_classifier(pool, folder / "guide", CLASSIFIER, holdout=pool, test=pool).record["classes"]


def generator_classes(pool: Any, folder: Path) -> Any:
    return train_generator(pool, folder / "generator", GENERATOR).class_names


CALLS = [difficulties, recorded_difficulties, pixels, written, classifier_classes, generator_classes]


@pytest.mark.parametrize("call", CALLS)
def test_pool_may_be_a_path(call, tmp_path):
    write_images(tmp_path / "pool", {"T-shirt": 4, "Bag": 4})
    found = [call(given, tmp_path / name) for name, given in _forms(tmp_path / "pool", tmp_path)]
    assert found == found[:1] * 3


def _forms(pool: Path, place: Path) -> list[tuple[str, Any]]:
    for name in ("read", "text", "path"):
        (place / name).mkdir()
    return [("read", read_pool(pool)), ("text", str(pool)), ("path", pool)]


def test_pool_may_be_a_dataset(tmp_path, datasets_cache):
    write_images(tmp_path / "pool", {"T-shirt": 4, "Bag": 4})
    dataset = load_dataset("imagefolder", data_dir=str(tmp_path / "pool"), split="train")
    assert sorted(score_pool(dataset, tiny_classifier()).difficulties) == pytest.approx(
        sorted(difficulties(tmp_path / "pool", tmp_path))
    )


def test_side_of_squares_is_a_size(tmp_path):
    write_images(tmp_path, {"Bag": 2})
    images = load_labelled_images(tmp_path, size=8, channels=3).images
    assert np.array_equal(images, load_labelled_images(tmp_path, size=(8, 8), channels=3).images)


def test_report_takes_paths_as_text(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 4}, difficulty=lambda name, index: index / 4)
    assert report_folders([str(tmp_path / "pool")], str(tmp_path / "report.html")).exists()


@pytest.mark.parametrize("classifiers", [tiny_classifier(), [tiny_classifier()]], ids=["one", "list"])
def test_classifiers_to_record_need_names(tmp_path, classifiers):
    write_images(tmp_path, {"Bag": 2})
    with pytest.raises(ValueError, match=r"give \{name: classifier\}"):
        score_and_record(tmp_path, classifiers)


@pytest.mark.parametrize("place", ["sets", "test", "all"])
def test_evaluate_tells_how_images_are_loaded(tmp_path, place):
    write_images(tmp_path, {"Bag": 2})
    pool, images = read_pool(tmp_path), draw(0)
    sets: Any = {"sets": {"a": pool}, "test": {"a": images}, "all": images}[place]
    with pytest.raises(ValueError, match="load_labelled_images"):
        evaluate(sets, pool if place == "test" else images)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda pool: score_pool(pool, tiny_classifier(), batch_size=-1), "batch_size is -1; give at least 1"),
        (
            lambda pool: score_and_record(pool, {"tiny": tiny_classifier()}, batch_size=-1),
            "batch_size is -1; give at least 1",
        ),
        (
            lambda pool: score_and_record(pool, {"tiny": tiny_classifier()}, batch_size=0),
            "batch_size is 0; give at least 1",
        ),
        (lambda pool: load_labelled_images(pool, size=8, channels=2), "channels is 2; give 1"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path, call, message):
    write_images(tmp_path, {"Bag": 2})
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
