"""A distillation on a GPU: what is drawn, scored and trained there is what a processor makes, but for rounding."""

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from dag_diffusion import PoolConfig, TargetDistribution, embedded, fill_pool, load_classifier, read_pool, score_pool
from dag_diffusion.cli.commands import app
from dag_diffusion.evaluation.labelled_images import RandomDraw, load_labelled_images, random_subset
from dag_diffusion.evaluation.protocols import PROTOCOLS
from dag_diffusion.evaluation.trials import evaluate
from dag_diffusion.generation.modes import Modes
from dag_diffusion.generation.preparing.mode_search import encode_pool
from dag_diffusion.generation.preparing.probe_training import ProbeConfig, train_probe
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.loading import in_precision, load_embedded_pipeline
from dag_diffusion.training.loop import LoopConfig, fit

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
STEERED = PoolConfig(images_per_class=4, labels=[0, 5, 9], target=TargetDistribution.uniform(0, 1))
TO_MODES = PoolConfig(
    images_per_class=4, labels=[0, 5, 9], modes=Modes.load(embedded.MODES), mode_guidance=ModeGuidance(scale=0.2)
)


def pixels(pool) -> np.ndarray:
    return np.stack([np.asarray(pool.open(index)) for index in range(len(pool))]).astype(int)


@pytest.mark.parametrize("config", [STEERED, TO_MODES], ids=["steered", "to modes"])
def test_gpu_draws_the_images_of_the_processor(tmp_path, config):
    pipeline = load_embedded_pipeline()
    exact = pixels(fill_pool(pipeline, tmp_path / "processor", config))
    drawn = pixels(fill_pool(pipeline.to(DEVICE), tmp_path / "gpu", config))
    assert np.abs(exact - drawn).mean() < 2  # of 255; steering to 0.9 and more enlarges differences of rounding
    assert np.median(np.abs(exact - drawn)) <= 1


def test_gpu_draws_the_same_image_again_after_a_loss_but_for_rounding(tmp_path):
    pipeline = load_embedded_pipeline().to(DEVICE)
    pool = fill_pool(pipeline, tmp_path / "pool", STEERED, batch_size=4)
    before = pixels(pool)
    (pool.path / pool.rows[5]["file_name"]).unlink()
    again = pixels(fill_pool(pipeline, tmp_path / "pool", STEERED, batch_size=4, resume=True))
    changed = np.abs(again - before).reshape(len(before), -1).mean(1)
    assert changed[5] < 2
    assert not np.delete(changed, 5).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_reaches_the_targets(tmp_path, dtype):
    pipeline = in_precision(load_embedded_pipeline(), dtype).to(DEVICE)
    pool = fill_pool(pipeline, tmp_path / "pool", STEERED)
    found = score_pool(pool, load_classifier(embedded.PIPELINE / "classifier").to(DEVICE)).difficulties
    assert np.abs(found - [row["target_difficulty"] for row in pool.rows]).mean() < 0.1


@pytest.mark.parametrize("device", ["cpu", DEVICE])
def test_random_draws_on_the_gpu_are_left_as_they_were_by_a_training(tmp_path, device):
    torch.cuda.manual_seed(5)
    expected = torch.rand(3, device=DEVICE)
    torch.cuda.manual_seed(5)
    model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(), nn.Linear(4, 1)).to(device)
    fit(model, lambda model, batch: model(batch.normal("inputs", 2)).square().mean(), 8, tmp_path, LoopConfig(steps=2))
    assert torch.equal(torch.rand(3, device=DEVICE), expected)


def test_gpu_encodes_like_the_processor():
    pipeline, real = load_embedded_pipeline(), read_pool(embedded.REFERENCE)
    exact = encode_pool(pipeline.vae, real, size=32, batch_size=250)
    assert torch.allclose(encode_pool(pipeline.vae.to(DEVICE), real, size=32, batch_size=250), exact, atol=0.05)


def test_gpu_trains_as_well_as_the_processor():
    options = {"size": (32, 32), "channels": 1}
    test = load_labelled_images(read_pool(embedded.TEST), **options)
    real = load_labelled_images(read_pool(embedded.REFERENCE), **options, class_names=test.class_names)
    test, sets = random_subset(test, 100, 0), {"real": random_subset(real, 10, 0)}
    accuracies = [
        evaluate(sets, test, protocol=PROTOCOLS["quick"], seeds=[0], device=device)[0].accuracy
        for device in ("cpu", DEVICE)
    ]
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.03)


def test_trainings_at_once_on_a_gpu_are_those_of_one_by_one():
    options = {"size": (32, 32), "channels": 1}
    test = random_subset(load_labelled_images(read_pool(embedded.TEST), **options), 100, 0)
    sets = {"real": RandomDraw(load_labelled_images(read_pool(embedded.REFERENCE), **options), 10)}
    found = [
        evaluate(sets, test, protocol="quick", seeds=range(4), device=DEVICE, at_once=at_once) for at_once in (None, 1)
    ]
    for together, alone in zip(*found, strict=True):
        assert together.accuracy == pytest.approx(alone.accuracy, abs=0.03)


def test_probe_learns_on_a_gpu():
    pipeline = load_embedded_pipeline().to(DEVICE)
    config = ProbeConfig(trajectories=20, training_steps=50)
    probe, fidelity = train_probe(pipeline, [pipeline.classifier], config)
    assert next(probe.parameters()).device.type == DEVICE
    assert np.isfinite(fidelity.difficulty_error)


@pytest.mark.parametrize("options", [["--channels-last"], ["--precision", "bfloat16"], ["--vae-slicing"]])
def test_command_line_draws_on_the_gpu_of_its_own_accord(tmp_path, options):
    given = ["generate", str(tmp_path / "pool"), "--images-per-class", "2", "--target", "ground", *options]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    assert f"on {DEVICE} (" in (tmp_path / "pool" / "generation.log").read_text()
