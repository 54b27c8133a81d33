"""What the library computes does not depend on what its caller has changed in torch, and changes nothing there."""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_classifier, tiny_pipeline, write_images
from tiny_classifiers import CONFIG as CLASSIFIER
from tiny_training import CONFIG as LOOP
from tiny_training import INPUTS, StoppedHereError, loss, network, trained

from dag_diffusion import (
    GeneratorConfig,
    Pool,
    PoolConfig,
    fill_pool,
    read_pool,
    score_pool,
    subsample,
    train_classifier,
    train_generator,
    train_probe,
)
from dag_diffusion.evaluation import Protocol, evaluate, load_labelled_images
from dag_diffusion.evaluation.soft_labels import teacher_logits
from dag_diffusion.generation import ProbeConfig, find_pool_modes
from dag_diffusion.training import fit

Call = Callable[[], Any]

PROTOCOL = Protocol("short", epochs=1, batch_size=4, learning_rate=0.01, cutmix=1.0, precision="float32")
GENERATOR = GeneratorConfig(
    steps=2, vae_steps=2, width=64, depth=1, batch_size=6, sample_grids=1, size=16, precision="float32"
)
PROBE = ProbeConfig(trajectories=10, num_inference_steps=2, training_steps=2, hidden_sizes=(8,), depths=(1,))


def own_images(folder: Path) -> Pool:
    write_images(folder / "images", {"T-shirt": 6, "Bag": 6})
    return read_pool(folder / "images")


# Each makes what a caller has already, and returns the call that is asked about.


def weights_of_fit(folder: Path, precision: str = "float32") -> Call:
    model, config = network(), replace(LOOP, precision=precision)
    return lambda: fit(model, loss, len(INPUTS), folder / "run", config).state_dict()


def weights_of_fit_in_bfloat16(folder: Path) -> Call:
    return weights_of_fit(folder, "bfloat16")


def weights_of_a_classifier(folder: Path) -> Call:
    images = own_images(folder)
    return lambda: train_classifier(images, folder / "classifier", CLASSIFIER).model.state_dict()


def weights_of_a_generator(folder: Path) -> Call:
    images = own_images(folder)

    def call() -> Any:
        pipeline = train_generator(images, folder / "generator", GENERATOR)
        return pipeline.vae.state_dict(), pipeline.transformer.state_dict()

    return call


def weights_of_a_probe(folder: Path) -> Call:
    pipeline = tiny_pipeline()
    return lambda: train_probe(pipeline, [pipeline.classifier], PROBE)[0].state_dict()


def accuracies(folder: Path) -> Call:
    images = load_labelled_images(own_images(folder), size=(16, 16), channels=1)
    options: dict[str, Any] = {"network": "convnet-1-w8", "protocol": PROTOCOL, "seeds": range(3)}
    return lambda: [result.accuracy for result in evaluate({"set": images}, images, **options)]


def modes(folder: Path) -> Call:
    pipeline, images = tiny_pipeline(), own_images(folder)
    return lambda: find_pool_modes(pipeline, images, 2).centres


def drawn_pool(folder: Path) -> Call:
    pipeline, config = tiny_pipeline(), PoolConfig(images_per_class=2, target=0.5, num_inference_steps=3)

    def call() -> Any:
        pool = fill_pool(pipeline, folder / "pool", config)
        return pool.difficulties, [pool.file_bytes(index) for index in range(len(pool))]

    return call


def teachers_logits(folder: Path) -> Call:
    teacher, images = tiny_classifier(), own_images(folder)
    return lambda: teacher_logits(teacher, images)


def chosen(folder: Path) -> Call:
    guide, images = tiny_classifier(), own_images(folder)

    def call() -> Any:
        scored, labels = score_pool(images, guide, features=True), images.labels
        found = [scored.difficulties, scored.features]
        return [*found, subsample(scored.difficulties, 2, target="hill", labels=labels).indices]

    return call


CALLS = [
    weights_of_fit,
    weights_of_fit_in_bfloat16,
    weights_of_a_classifier,
    weights_of_a_generator,
    weights_of_a_probe,
    accuracies,
    modes,
    drawn_pool,
    teachers_logits,
    chosen,
]


def digest(found: Any) -> str:
    """Of all numbers in what a call returned."""
    if isinstance(found, dict | list | tuple):
        parts = [digest(part) for part in (found.values() if isinstance(found, dict) else found)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()
    data = found if isinstance(found, bytes) else np.asarray(found, np.float64).tobytes()
    return hashlib.sha256(data).hexdigest()


def states() -> str:
    """Of the random generators that belong to the caller."""
    kept = random.getstate()
    return digest([torch.get_rng_state(), np.random.get_state()[1], np.random.get_state()[2], kept[1]])


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no autocast": lambda: torch.autocast("cpu", enabled=False),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "float64": float64,
}


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> dict[Callable, str]:
    """What the calls return where nothing is changed, by call."""
    return {call: digest(call(tmp_path_factory.mktemp(call.__name__))()) for call in CALLS}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
@pytest.mark.parametrize("call", CALLS)
def test_results_do_not_depend_on_what_the_caller_set_in_torch(call, surroundings, usual, tmp_path):
    if (call, surroundings) == (drawn_pool, "inference_mode"):
        pytest.skip("guidance needs gradients, and its pipeline says so")
    prepared = call(tmp_path)
    with SURROUNDINGS[surroundings]():
        found = prepared()
        assert torch.is_autocast_enabled("cpu") == (surroundings == "autocast")
        assert torch.is_autocast_cache_enabled()
    assert digest(found) == usual[call]


def test_weights_in_bfloat16_are_cast_anew_at_each_step(tmp_path):
    config = replace(LOOP, precision="bfloat16")
    for step in range(1, LOOP.steps):  # each a run of its own, in which nothing can be left of the one before
        with pytest.raises(StoppedHereError):
            trained(tmp_path / "parts", config, stop_after=step)
    parts, whole = trained(tmp_path / "parts", config), trained(tmp_path / "whole", config)
    assert digest(parts.state_dict()) == digest(whole.state_dict())


@pytest.mark.parametrize("call", CALLS)
def test_random_state_of_the_caller_stays(call, tmp_path):
    prepared, before = call(tmp_path), states()
    prepared()
    assert states() == before
