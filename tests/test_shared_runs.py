"""Whole distillations in two processes: the pools, sets and accuracies of one, told once, and nothing left behind."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pools_on_disk import content
from safetensors.torch import load_file
from tiny import NAMES, tiny_classifier, tiny_pipeline, write_images
from warm import Command, process_of_rank

from dag_diffusion import read_pool
from dag_diffusion.distillation.compared_sets import DGS, GUIDED_DGS, HERDING, PAPER, REAL, UNGUIDED
from dag_diffusion.processor import has_bfloat16
from dag_diffusion.training import FineTuningConfig, GeneratorConfig, train_generator

QUICK = ["--ipc", 1, "--pool-factor", 2, "--num-inference-steps", 2, "--network", "convnet-2-w4", "--seeds", 1]
EVERY_SET = {REAL, HERDING, UNGUIDED, PAPER, DGS, GUIDED_DGS}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Options that name a pipeline with a guide of its own, and an evaluator."""
    folder = tmp_path_factory.mktemp("models")
    tiny_pipeline().save_pretrained(folder / "pipeline")
    tiny_classifier(hidden_sizes=[8]).save_pretrained(folder / "evaluator")
    return ["--pipeline", folder / "pipeline", "--evaluator", folder / "evaluator"]


def told(run: Command) -> str:
    """What a command that succeeds has shown."""
    shown, errors = run.communicate()
    assert run.returncode == 0, errors
    return shown


def written(output: Path) -> list[dict]:
    """The accuracies of a run, without what they took."""
    results = json.loads((output / "results.json").read_text())["results"]
    return [{name: value for name, value in one.items() if name != "seconds"} for one in results]


@pytest.mark.slow
def test_run_in_two_processes_comes_to_what_one_comes_to(tmp_path, models):
    write_images(tmp_path / "train", dict.fromkeys(NAMES.values(), 3))
    write_images(tmp_path / "test", dict.fromkeys(NAMES.values(), 2), size=18)
    common = [*models, "--train", tmp_path / "train", "--test", tmp_path / "test", "--target", "0.5", *QUICK]
    one, two = (
        Command("run", "--output", tmp_path / name, *common, "--herding", "--quiet", "--num-processes", count)
        for name, count in (("one", 1), ("two", 2))
    )
    told(one)
    shown = told(two)
    assert shown.count("report: ") == shown.count("Control of the difficulty") == 1
    for name in ("pool-unguided", "pool-guided", "set-paper", "set-dgs", "set-guided"):
        ones, twos = (content(tmp_path / run / name) for run in ("one", "two"))
        differing = {path for path in ones if ones[path] != twos.get(path)}
        assert differing <= {"pool.json", "README.md"}, name  # which say where the pool lies, and its hash
        assert ones.keys() == twos.keys()
    assert written(tmp_path / "one") == written(tmp_path / "two")
    assert {result["set"] for result in written(tmp_path / "two")} == EVERY_SET
    assert {path.name for path in (tmp_path / "one").iterdir()} == {path.name for path in (tmp_path / "two").iterdir()}


@pytest.mark.slow
def test_distill_in_two_processes_goes_on_after_a_kill_in_its_training_and_leaves_a_whole_set(tmp_path, models):
    generator = np.random.default_rng(0)
    for name in NAMES.values():
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(8):
            pixels = generator.integers(0, 256, (16, 16), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    steps, base = ["--classifier-steps", 2, "--generator-steps", 20], models[1]
    small = ["--from", base, *models[2:], *QUICK, *steps, "--quiet", "--num-processes", 2]
    work, command = tmp_path / "set-work", ["distill", tmp_path / "images", "--output", tmp_path / "set", *small]
    run = Command(*command)
    while run.poll(timeout=0.01) is None and not (work / "generator.training" / "denoiser" / "losses.jsonl").exists():
        pass
    process_of_rank(run, 1).kill()
    assert "process 1 was killed by SIGKILL" in run.communicate()[1]
    shown = told(Command(*command))
    assert shown.count("report: ") == shown.count("set: ") == 1
    assert ", in the table 'DGS, guided pool'" in shown
    chosen = read_pool(tmp_path / "set")
    assert sorted(chosen.labels.tolist()) == [*NAMES]
    assert {result["set"] for result in written(work / "run")} == EVERY_SET
    assert (work / "guide" / "training.json").exists()
    assert "2 process(es)" in (work / "run" / "pool-guided" / "generation.log").read_text()
    assert not [path for path in work.rglob(".*") if "rehearsal" in path.name or path.suffix == ".1"]
    settings = json.loads((work / "generator" / "training.json").read_text())["settings"]
    train_generator(
        read_pool(work / "images" / "train"),
        tmp_path / "one",
        GeneratorConfig(**settings),
        fine_tuning=FineTuningConfig(base=str(base)),
    )
    least = 1e-3 if has_bfloat16("cpu") else 1e-4  # in bfloat16 two processes add up otherwise than one
    weights = "transformer/diffusion_pytorch_model.safetensors"
    two = load_file(work / "generator" / weights)
    for name, value in load_file(tmp_path / "one" / weights).items():
        torch.testing.assert_close(two[name], value, atol=least, rtol=1e-3)
