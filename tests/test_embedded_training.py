"""The example that makes the embedded default makes every part of it, on a few images and in a few steps."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dag_diffusion import DifficultyGuidedPipeline, GeneratorConfig, embedded, load_classifier, read_pool
from dag_diffusion.classifiers import class_names_of
from dag_diffusion.generation.modes import Modes
from dag_diffusion.generation.preparing.probe_training import ProbeConfig
from dag_diffusion.training.classifiers.backbones import SHAPES

EACH = {"train": 6, "t10k": 2}  # images of a class
NAMES = dict(enumerate(embedded.CLASS_NAMES))


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "examples")
        import train_embedded_default as module

        small = {"width": 64, "depth": 1, "batch_size": 8, "sample_grids": 0}
        patch.setattr(module, "GeneratorConfig", partial(GeneratorConfig, **small))
        least = {"num_inference_steps": 2, "batch_size": 8, "hidden_sizes": (8,), "depths": (1,)}
        patch.setattr(module, "ProbeConfig", partial(ProbeConfig, **least))
        patch.setattr("dag_diffusion.training.generators.networks.WIDTH", 8)  # of the autoencoder
        for name, shape in SHAPES.items():
            patch.setitem(SHAPES, name, shape | {"hidden_sizes": [16, 16, 32], "depths": [1, 1, 1]})
        for name, value in {"REFERENCE": 2, "FIRST": 4, "MODES": 2}.items():
            patch.setattr(module, name, value)
        yield module


def write_idx(folder):
    """The four files, of clothes without the padding that the embedded ones have."""
    real, folder = read_pool(embedded.TEST), folder / "idx"
    folder.mkdir()
    start = 0
    for split, count in EACH.items():
        rows = np.concatenate([np.flatnonzero(real.labels == label)[start : start + count] for label in NAMES])
        pixels = np.stack([np.asarray(real.open(row))[2:-2, 2:-2] for row in rows])
        (folder / f"{split}-images-idx3-ubyte").write_bytes(bytes(16) + pixels.tobytes())
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(bytes(8) + real.labels[rows].astype(np.uint8).tobytes())
        start += count
    return folder


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    arguments = ["--data", write_idx(folder), "--work", folder / "work", "--steps", "2", "--device", "cpu"]
    return [str(argument) for argument in arguments]


@pytest.fixture(scope="module")
def assets(example, command):
    example.main(command)
    return Path(command[3]) / "assets"


def test_every_part_of_the_embedded_default_is_made(assets):
    assert {path.name for path in assets.iterdir()} == {path.name for path in embedded.ASSETS.iterdir()} - {"README.md"}
    pipeline = DifficultyGuidedPipeline.from_pretrained(assets / "pipeline")
    assert pipeline.class_names == NAMES == class_names_of(load_classifier(assets / "evaluator"))
    assert {name for name, part in pipeline.components.items() if part is not None} == {
        "transformer", "weak_transformer", "vae", "scheduler", "classifier", "probe"
    }  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0)}
    drawn = pipeline([3], 0.5, autoguidance_scale=1.5, **options)
    assert drawn.images[0].size == (32, 32)
    assert 0 <= drawn.difficulties[0] <= 1


def test_images_keep_their_order_labels_and_difficulties(assets):
    test, reference = read_pool(assets / "test.parquet"), read_pool(assets / "reference")
    assert np.bincount(test.labels).tolist() == [EACH["t10k"]] * 10
    with np.load(assets / "train_difficulties.npz", allow_pickle=False) as found:
        assert found["label"].tolist() == sorted([*NAMES] * EACH["train"])
        rows = [row["training_index"] for row in reference.rows]
        assert found["cross_fitted"][rows] == pytest.approx(reference.difficulties)
        assert found["label"][rows].tolist() == reference.labels.tolist() == sorted([*NAMES] * 2)
    modes = Modes.load(assets / "modes.safetensors")
    assert np.bincount(modes.labels).tolist() == [2] * 10
    assert modes.sizes.sum() == 40
    assert modes.space


def test_the_same_command_again_trains_nothing_and_makes_the_same(assets, example, command, monkeypatch):
    def tensors():
        files = sorted(assets.rglob("*.safetensors"))
        return [tensor for path in files for _, tensor in sorted(load_file(path).items())]

    before = tensors()
    monkeypatch.setattr(example, "train_classifier", lambda *_, **__: pytest.fail("a classifier is trained again"))
    example.main([*command, "--parts", "classifiers", "modes"])
    assert all(map(torch.equal, before, tensors()))
