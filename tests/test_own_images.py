"""From a folder to a distilled set: one call, stages that are not repeated, and one line before the hours start."""

import json
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile
from pools_on_disk import content
from tiny import tiny_classifier, tiny_pipeline, tiny_transformer
from typer.testing import CliRunner

from dag_diffusion import read_pool
from dag_diffusion.cli.commands import app
from dag_diffusion.data.preparing.prepared import prepare
from dag_diffusion.distillation.compared_sets import DGS, GUIDED_DGS, HERDING, PAPER, REAL, UNGUIDED
from dag_diffusion.own_images import FolderConfig, distill_folder, plan_folder
from dag_diffusion.own_images.distilling import work_folder
from dag_diffusion.own_images.durations import Clock, Expected, Pace, within_minutes
from dag_diffusion.own_images.models import classifier_config, generator_config, weak_config
from dag_diffusion.own_images.plain_images import plain_images
from dag_diffusion.own_images.planning import rates
from dag_diffusion.own_images.planning.problems import ProblemsError
from dag_diffusion.own_images.requirements import bytes_needed
from dag_diffusion.training.generators import GeneratorConfig

COLOURS = {"ant": (200, 30, 30), "bee": (30, 160, 60), "café au lait": (40, 60, 200)}
TINY = FolderConfig(
    ipc=2, size=16, classifier_steps=2, generator_steps=2, pool_factor=1, network="convnet-2-w4", seeds=1, balance=1.0
)


def write_drawings(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Blots on a transparent ground, no two alike, of several sizes."""
    generator = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            height, width = generator.integers(12, 30, 2)
            pixels = np.zeros((height, width, 4), np.uint8)
            pixels[2:-2, 2:-2] = (*COLOURS.get(name, (90, 90, 90)), 255)
            pixels[2:-2, 2:-2, :3] += generator.integers(0, 50, (height - 4, width - 4, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def small_generators():
    """No test here asks how good an image is."""
    with pytest.MonkeyPatch.context() as patch:
        small = partial(GeneratorConfig, width=64, depth=1, batch_size=8, sample_grids=0)
        patch.setattr("dag_diffusion.own_images.models.GeneratorConfig", small)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_drawings(tmp_path_factory.mktemp("own") / "drawings", {name: 14 for name in COLOURS})


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A whole distillation, its result, what was told before, and the stages that were reported."""
    output, plans, stages = tmp_path_factory.mktemp("whole") / "set", [], []
    result = distill_folder(folder, output, TINY, on_plan=plans.append, progress=lambda *told: stages.append(told))
    return output, result, plans, stages


def test_folder_becomes_a_set_of_its_classes_with_a_card_and_nothing_else(whole):
    output, result, _, _ = whole
    chosen = read_pool(output)
    assert {name: int((chosen.labels == label).sum()) for label, name in chosen.class_names.items()} == dict.fromkeys(
        COLOURS, 2
    )
    assert [row["file_name"] for row in result.chosen.rows] == [row["file_name"] for row in chosen.rows]
    card = (output / "README.md").read_text()
    assert "42 images of drawings: " in card
    assert "to train on; weighed by balance=1.0, " in card
    assert "among the set" not in card  # which is not the default
    assert not list(output.rglob("*.safetensors"))  # a set is shared without its models


def test_table_compares_real_random_herded_and_generated_images(whole):
    results = whole[1].distillation.results
    assert [r.set for r in results] == [REAL, HERDING, UNGUIDED, PAPER, DGS, GUIDED_DGS]


def test_no_test_image_was_trained_on(whole):
    work = work_folder(whole[0])
    train, test = (read_pool(work / "images" / part) for part in ("train", "test"))
    files = [{(pool.path / row["file_name"]).read_bytes() for row in pool.rows} for pool in (train, test)]
    assert len(train) + len(test) == 42
    assert not files[0] & files[1]
    assert set(train.class_names.values()) == set(test.class_names.values()) == set(COLOURS)
    assert {train.open(index).size for index in range(len(train))} == {(16, 16)}


def test_reference_is_of_images_that_the_guide_has_not_seen(whole):
    work = work_folder(whole[0])
    scored = [json.loads(line)["file_name"] for line in (work / "difficulties.jsonl").read_text().splitlines()]
    assert 0 < len(scored) < len(read_pool(work / "images" / "train"))
    assert "difficulties.jsonl" in read_pool(work / "run" / "set-dgs").provenance["selection"]["target"]["name"]


def test_report_speaks_of_the_folder_and_of_what_was_needed(whole, folder):
    report = whole[1].distillation.report.read_text()
    for told in ("Distilled drawings (3 classes)", str(folder), "café au lait", "small-resnet", "Minutes", "distill"):
        assert told in report


def test_minutes_are_told_before_and_after_stage_by_stage(whole):
    _, result, plans, _ = whole
    (before,) = plans
    assert [row[0] for row in before.rows][:6] == ["guide", "evaluator", "generator", "weak", "pools", "comparison"]
    assert all(float(row[2]) >= 0 for row in before.rows[:6] if row[2])
    needed = [row[0] for row in result.minutes.rows]
    trained = ["guide", "evaluator", "generator", "weak"]
    assert needed == [*trained, "pools", "comparison", "images", "rehearsal", "reference", "modes", "in all"]


def test_same_call_again_repeats_nothing(whole, folder):
    output, first, _, _ = whole
    work = work_folder(output)
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")}
    again = distill_folder(folder, output, TINY)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")} == before
    assert [r.accuracy for r in again.distillation.results] == [r.accuracy for r in first.distillation.results]
    assert [row["seed"] for row in again.chosen.rows] == [row["seed"] for row in first.chosen.rows]


def test_same_call_from_elsewhere_repeats_nothing_either(whole, folder, monkeypatch):
    output, first, _, _ = whole
    before = {path: path.stat().st_mtime_ns for path in work_folder(output).rglob("*.safetensors")}
    monkeypatch.chdir(folder.parent)
    again = distill_folder(folder.name, output, TINY)
    assert {path: path.stat().st_mtime_ns for path in work_folder(output).rglob("*.safetensors")} == before
    assert again.chosen.rows == first.chosen.rows


def test_only_a_set_of_its_own_is_replaced(whole, folder, tmp_path):
    other, work = tmp_path / "other set", tmp_path / "work"
    shutil.copytree(whole[0], other)
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    shutil.copytree(work_folder(whole[0]), work)
    told = f"{other} holds a pool or a set that {work} does not know as its output; choose another output"
    with pytest.raises(FileExistsError, match=re.escape(told)):
        distill_folder(folder, other, TINY, work=work)  # which has made another output
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before


def test_command_names_a_work_folder_of_its_own_and_another_batch_size(folder, tmp_path):
    output, work = tmp_path / "set", tmp_path / "work"
    usual = plan_folder(folder, output, TINY, work=work_folder(output)).commands[1]
    asked = plan_folder(folder, output, TINY, work=work, batch_size=3).commands[1]
    assert asked == f"{usual} --work {work} --batch-size 3"


def test_estimate_times_trainings_in_the_precision_that_they_will_have(folder, tmp_path, monkeypatch):
    timed = []
    monkeypatch.setattr(
        "dag_diffusion.own_images.rehearsal.evaluate", lambda *_, **given: timed.append(given["protocol"].precision)
    )
    distill_folder(folder, tmp_path / "set", replace(TINY, precision="float32"), only_estimate=True)
    assert timed == ["float32"]


def test_what_a_killed_rehearsal_left_is_removed(folder, tmp_path):
    left = work_folder(tmp_path / "set") / ".rehearsal.killed"
    distill_folder(folder, tmp_path / "set", TINY, only_estimate=True)
    (left / "guide").mkdir(parents=True)
    (left.parent / "plan.json").unlink()  # as if it was killed in the rehearsal
    distill_folder(folder, tmp_path / "set", TINY, only_estimate=True)
    assert not list(left.parent.glob(".rehearsal.*"))


def test_no_model_sees_a_mirrored_image_where_none_may():
    images = SimpleNamespace(size=(16, 16), channels=3)
    for config, mirrored in ((TINY, True), (replace(TINY, never_mirror=True), False)):
        assert generator_config(images, config, 1).flip is mirrored
        assert classifier_config("guide", config, 1).changes(10)[1].mirror is mirrored


def test_guide_and_evaluator_weigh_images_as_asked():
    for config, weight in ((TINY, 1.0), (replace(TINY, balance=0.0), 0.0)):
        assert [classifier_config(role, config, 1).balance for role in ("guide", "evaluator")] == [weight, weight]


def test_images_are_drawn_away_from_a_weak_denoiser_that_is_trained_along(whole):
    work = work_folder(whole[0])
    assert read_pool(work / "run" / "pool-guided").provenance["settings"]["autoguidance_scale"] == 1.5
    weak, generator = (json.loads((work / name / "training.json").read_text()) for name in ("weak", "generator"))
    assert weak["digest"] == generator["digest"]  # of the images
    assert weak["settings"]["vae"] == str(work / "generator")


def test_weak_denoiser_is_smaller_and_trained_for_a_third_of_the_steps(folder, tmp_path):
    images = plain_images(folder, tmp_path / "images", TINY, 16)
    large, small = (
        generator_config(images, TINY, 900),
        weak_config(images, replace(TINY, generator_steps=900), None, tmp_path),
    )
    assert small.loop.steps == 300
    assert small.depth == 3
    assert (small.size, small.seed, small.flip) == (large.size, large.seed, large.flip)
    assert weak_config(images, TINY, 70, tmp_path).loop.steps == 70  # as planned for a number of minutes


def test_no_weak_denoiser_is_trained_where_none_is_used(known_models):
    assert TINY.trains_weak
    pipeline = str(known_models / "pipeline")
    for changes in ({"autoguidance_scale": 1.0}, {"pipeline": pipeline}, {"base": pipeline}):
        assert not replace(TINY, **changes).trains_weak


def test_distillation_from_before_there_were_weak_denoisers_goes_on_without(whole, folder, tmp_path):
    output, *_ = whole
    work = shutil.copytree(work_folder(output), tmp_path / "work")
    undo(work, "weak")
    plan = json.loads((work / "plan.json").read_text())
    del plan["weak"]
    (work / "plan.json").write_text(json.dumps(plan))
    report = distill_folder(folder, tmp_path / "set", TINY, work=work).distillation.report.read_text()
    assert f"--output {tmp_path / 'set'} " in report
    assert f" --work {work}" in report  # so that the command goes on with it
    assert not (work / "weak").exists()
    assert read_pool(work / "run" / "pool-guided").provenance["settings"]["autoguidance_scale"] == 1.0


class StoppedHereError(Exception):
    """What stops a call in the middle of a stage."""


@pytest.mark.parametrize("stage", ["images", "guide", "generator", "weak", "pools", "comparison"])
def test_stopped_at_any_stage_the_same_call_comes_to_the_same_set(whole, folder, tmp_path, stage):
    output, first, _, _ = whole
    reached = [told for told in whole[3] if told[0].startswith(f"{stage}: ")]
    at = reached[len(reached) // 2]

    def stop(*told):
        if told == at:
            raise StoppedHereError

    shutil.copytree(work_folder(output), work_folder(tmp_path / "set"))
    undo(work_folder(tmp_path / "set"), stage)
    with pytest.raises(StoppedHereError):
        distill_folder(folder, tmp_path / "set", TINY, progress=stop)
    assert not (tmp_path / "set").exists()
    again = distill_folder(folder, tmp_path / "set", TINY)
    assert [row["seed"] for row in again.chosen.rows] == [row["seed"] for row in first.chosen.rows]
    assert [r.accuracy for r in again.distillation.results] == [r.accuracy for r in first.distillation.results]


def test_guide_and_its_folds_are_trained_for_the_steps_of_one_training_each(folder, tmp_path):
    config, plans = replace(TINY, folds=2, seed=5), []

    def stop(stage, *_):
        if stage.startswith("evaluator: "):
            raise StoppedHereError

    planned = {row[0]: row[1] for row in plan_folder(folder, tmp_path / "set", config).tables[1].rows}
    with pytest.raises(StoppedHereError):
        distill_folder(folder, tmp_path / "set", config, on_plan=plans.append, progress=stop)
    assert plans[0].rows[0][:2] == ["guide", "2 steps, 3 classifiers"] == ["guide", planned["guide"]]
    made = json.loads((work_folder(tmp_path / "set") / "guide" / "training.json").read_text())
    assert (made["training"]["steps"], made["folds"]["classifiers"]) == (2, 2)


@pytest.fixture(scope="module")
def known_models(tmp_path_factory):
    """Models that know the classes of the folder, the guide one more, each in a folder of its own."""
    place, names = tmp_path_factory.mktemp("given"), dict(enumerate(COLOURS))
    tiny_pipeline(transformer=tiny_transformer(3), id2label=names, classifier=None).save_pretrained(place / "pipeline")
    tiny_classifier({0: "wasp", 1: "bee", 2: "ant", 3: "café au lait"}).save_pretrained(place / "guide")
    tiny_classifier(names, hidden_sizes=[8]).save_pretrained(place / "evaluator")
    return place


def test_generator_may_be_tuned_from_another_and_images_steered_to_a_target(
    folder, known_models, tmp_path, monkeypatch
):
    kept = partial(GeneratorConfig, batch_size=8, sample_grids=0)  # a width and depth of its own would be refused
    monkeypatch.setattr("dag_diffusion.own_images.models.GeneratorConfig", kept)
    models = {"classifier": str(known_models / "guide"), "evaluator": str(known_models / "evaluator")}
    config = replace(
        TINY,
        **models,
        base=str(known_models / "pipeline"),
        tune="difffit",
        target="0.5",
        num_inference_steps=3,
        among="set",
        balance=0.0,
    )
    result = distill_folder(folder, tmp_path / "set", config)
    made = json.loads((work_folder(tmp_path / "set") / "generator" / "training.json").read_text())
    assert made["fine_tuning"]["tune"] == "difffit"
    assert made["canvas"]["fit"] == "pad"  # as the drawings were, before they were squares
    assert {row["target_difficulty"] for row in result.chosen.rows} == {0.5}
    assert result.chosen.provenance["selection"]["method"] == "matching"
    assert len(result.chosen) == 6
    stages = [row[0] for row in result.minutes.rows]
    assert [name for name in stages if name in ("reference", "real images scored")] == ["reference"]
    assert "Difficulty is measured among the set's classes alone." in (tmp_path / "set" / "README.md").read_text()
    assert "among the set&#39;s classes" in result.distillation.report.read_text()
    scored = (work_folder(tmp_path / "set") / "run" / "reference.jsonl").read_text().splitlines()
    assert {json.loads(line)["difficulty_by"] for line in scored} == {
        f"error_probability among the set's classes by {models['classifier']}"
    }


@pytest.mark.parametrize("role", ["pipeline", "base", "vae"])
def test_plan_and_work_warn_of_generated_images_that_are_grey_beside_coloured_ones(
    folder, known_models, tmp_path, monkeypatch, caplog, role
):
    monkeypatch.setattr("dag_diffusion.own_images.distilling.rehearse", lambda *_: {})
    config = replace(TINY, **{role: str(known_models / "pipeline")})
    told = f"{known_models / 'pipeline'} draws grey images, and yours have colours"
    assert [told in one for one in plan_folder(folder, tmp_path / "set", config).warnings] == [True]
    distill_folder(folder, tmp_path / "set", config, only_estimate=True)
    assert caplog.text.count(told) == 1
    grey = replace(config, channels=1)  # as the warning advises
    assert plan_folder(folder, tmp_path / "other", grey).warnings == []
    distill_folder(folder, tmp_path / "other", grey, only_estimate=True)
    assert caplog.text.count(told) == 1


def test_distillation_goes_on_without_the_vae_that_only_its_start_needs(folder, known_models, tmp_path, monkeypatch):
    monkeypatch.setattr("dag_diffusion.own_images.distilling.rehearse", lambda *_: {})
    vae = shutil.copytree(known_models / "pipeline", tmp_path / "vae")
    distill_folder(folder, tmp_path / "set", config := replace(TINY, vae=str(vae)), only_estimate=True)
    vae.rename(tmp_path / "elsewhere")
    distill_folder(folder, tmp_path / "set", config, only_estimate=True)


def test_images_are_fitted_as_those_of_a_given_model_were(folder, known_models, tmp_path):
    model = shutil.copytree(known_models / "guide", tmp_path / "guide")
    (model / "training.json").write_text(json.dumps({"canvas": {"background": "white", "fit": "stretch"}}))
    config = replace(TINY, classifier=str(model))
    assert plain_images(folder, tmp_path / "images", config, 16).record["prepared"]["fit"] == "stretch"
    with pytest.raises(ValueError, match="was trained on images by fit='stretch', and fit='pad' is asked for"):
        plain_images(folder, tmp_path / "others", replace(config, fit="pad"), 16)


def test_drawings_fill_their_images_once_their_margins_are_trimmed(folder, tmp_path):
    small = plain_images(folder, tmp_path / "images", TINY, 16)
    full = plain_images(folder, tmp_path / "trimmed", replace(TINY, trim=True), 16)
    corners = [
        sum(pool.open(i).getpixel((8, 0)) == (255, 255, 255) for i in range(9)) for pool in (small.train, full.train)
    ]
    assert corners[0] > corners[1]
    assert full.train.canvas.trim
    assert full.summary()["trim"] is True
    assert "trim" not in small.summary()
    assert "of what is not transparent" in full.tables()[0].note


def test_each_image_is_decoded_twice_and_a_large_one_alone(folder, tmp_path, monkeypatch):
    decoded, inside, alone = Counter(), [], []
    plain = ImageFile.ImageFile.load

    def counted(image):
        if image.mode != "RGBA" or not image.tile:  # what is written, or in memory already
            return plain(image)
        decoded[image.filename] += 1
        inside.append(image)
        alone.append(len(inside) == 1)
        pixels = plain(image)
        inside.remove(image)
        return pixels

    monkeypatch.setattr("dag_diffusion.data.images.LARGE", 0)
    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    plain_images(folder, tmp_path / "images", replace(TINY, trim=True), 16)
    assert set(decoded.values()) == {2}  # once to look at it, once to write it
    assert len(decoded) == sum(1 for _ in folder.glob("*/*.png"))
    assert all(alone)


def test_generator_is_trained_with_the_vae_that_is_named(folder, tmp_path):
    images = plain_images(folder, tmp_path / "images", TINY, 16)
    assert (
        generator_config(images, replace(TINY, vae="stabilityai/sd-vae-ft-ema"), 7).vae == "stabilityai/sd-vae-ft-ema"
    )


def undo(work: Path, stage: str) -> None:
    """Take a finished work folder back to where a stage begins."""
    weak = ["weak", "weak.training"]  # whose settings name the place of the generator, which was copied
    gone = {
        "images": ["images", "guide", "evaluator", "generator", *weak, "run", "difficulties.jsonl"],
        "guide": ["guide", "run", "difficulties.jsonl"],
        "generator": ["generator", *weak, "run"],
        "weak": [*weak, "run"],
        "pools": ["run"],
        "comparison": ["run"],
    }
    for name in gone[stage]:
        path = work / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_estimate_tells_the_minutes_and_trains_nothing(folder, tmp_path):
    options = ["--size", 16, "--ipc", 2, "--network", "convnet-2-w4", "--classifier-steps", 2, "--generator-steps", 2]
    result = call("distill", folder, "--output", tmp_path / "set", *options, "--seeds", 1, "--estimate", "--quiet")
    assert result.exit_code == 0, result.output
    assert "generator" in result.stdout
    assert "WARNING" not in result.stderr  # of few images, which a rehearsal takes of many
    assert not (tmp_path / "set").exists()
    assert not (work_folder(tmp_path / "set") / "guide").exists()


def test_test_images_of_other_classes_are_left_out(folder, tmp_path, caplog):
    write_drawings(tmp_path / "two", {"ant": 12, "bee": 12}, seed=1)
    result = call("distill", tmp_path / "two", "--test", folder, "--output", tmp_path / "set", "--ipc", 2, "--estimate")
    assert result.exit_code == 0, result.output
    assert "2 of the 3 classes in" in caplog.text
    assert "are used, those of the training images; left out: 'café au lait'" in caplog.text
    tests = read_pool(work_folder(tmp_path / "set") / "images" / "test")
    assert sorted(tests.class_names.values()) == ["ant", "bee"]


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def mistakes(place: Path, folder: Path) -> dict[str, tuple[list, str]]:
    """What a person may get wrong, and a part of the line that is told."""
    one, two, few, lone, alike, empty = (
        place / name for name in ("one class", "two classes", "few images", "lone image", "alike", "empty")
    )
    empty.mkdir()
    write_drawings(one, {"ant": 6})
    write_drawings(two, {"ant": 6, "bee": 6}, seed=1)
    write_drawings(few, {"ant": 14, "bee": 3, "wasp": 8}, seed=2)
    write_drawings(alike, {"Ant": 6, "ant": 6}, seed=4)
    write_drawings(lone, {"ant": 6, "bee": 1, "wasp": 2}, seed=3)
    (place / "taken").mkdir()
    (place / "taken" / "letter.txt").write_text("keep me")
    tiny_classifier({0: "ant", 1: "wasp", 2: "bee"}).save_pretrained(place / "guide")
    return {
        "no such folder": ([place / "nowhere"], "there is no folder"),
        "no images": ([empty], "no images"),
        "one class": ([one], "has one class, 'ant'"),
        "classes of one name": ([alike, "--ipc", 1], f"the classes 'Ant' and 'ant' in {alike} have one name"),
        "too few for ipc": (
            [few, "--ipc", 5],
            f"{few} has fewer than 5 images to train on, which --ipc 5 needs, of bee (2); lower it to 2, add images, "
            "or leave such classes out by --least 6",
        ),
        "too few of all": ([few, "--ipc", 50], "bee (2), wasp (6); lower it to 2 or add images"),
        "lone image": ([lone, "--ipc", 1], "'bee' of"),
        "way out of a lone image": ([lone, "--ipc", 1], "or leave out those with fewer by --least 3"),
        "lone image to train on": ([lone, "--ipc", 1, "--least", 2], "'wasp' of"),
        "no test images of a class": ([folder, "--test", two, "--ipc", 2], "café au lait"),
        "output that is something else": ([folder, "--output", place / "taken"], "holds something"),
        "output within the images": ([folder, "--output", folder / "set"], "lies in it"),
        "guide that lacks a class": ([folder, "--ipc", 2, "--classifier", place / "guide"], "café au lait"),
        "network too deep": ([folder, "--ipc", 2, "--network", "convnet-9"], "no network 'convnet-9'"),
        "size between": ([folder, "--size", 30], "a multiple of 8, such as 24 or 32"),
        "size too small": ([folder, "--size", 8], "such as 16"),
        "size too large": ([folder, "--size", 256], "at 128 pixels at most"),
        "one fold": ([folder, "--folds", 1], "at least 2"),
        "pipeline and base": ([folder, "--pipeline", "a/b", "--from", "c/d"], "so that nothing is trained from c/d"),
        "tuning of nothing": ([folder, "--ipc", 2, "--tune", "lorra"], "cannot be tuned by 'lorra'"),
        "unknown target": ([folder, "--ipc", 2, "--target", "steep"], "the target 'steep' is no folder"),
        "difficulty among some": ([folder, "--among", "some"], "use 'all'"),
        "balance beyond 1": ([folder, "--balance", 2], "classes count alike"),
        "balance of nothing": (
            [folder, "--balance", 1, "--classifier", place / "guide", "--evaluator", place / "other"],
            "no training weighs images by it",
        ),
        "background that is none": ([folder, "--background", "nocolour"], "is no colour"),
        "weak denoiser of nothing": ([folder, "--weak", place / "weak"], "or give a pipeline"),
        "weak denoiser unused": ([folder, "--weak", "a/b", "--autoguidance-scale", 1], "leave one of the two out"),
        "scale that is no number": ([folder, "--autoguidance-scale", "nan"], "--autoguidance-scale is nan; give"),
        "endless scale": ([folder, "--guidance-scale", "inf"], "--guidance-scale is inf; give"),
        "pull to nowhere": ([folder, "--mode-scale", -1], "mode guidance needs"),
        "no weak denoiser of a base": ([folder, "--from", "a/b", "--autoguidance-scale", 2], "no weak denoiser is"),
        "trimmed and cropped": ([folder, "--trim", "--fit", "crop"], "--fit crop would cut off the ends"),
        "unknown links": ([folder, "--links", "file"], "use 'real'"),
        "too little time": ([folder, "--minutes", -1], "above 0"),
    }


def test_mistakes_are_one_line_before_the_hours_start(folder, tmp_path):
    for name, (arguments, expected) in mistakes(tmp_path, folder).items():
        output = tmp_path / "out" / name.replace(" ", "-")
        result = call("distill", *arguments, *([] if "--output" in arguments else ["--output", output]), "--quiet")
        last = result.stderr.splitlines()[-1] if result.stderr else ""
        assert (result.exit_code, last.startswith("error: ")) == (2, True), (name, result.output)
        assert expected in last, (name, last)
        assert not list(tmp_path.rglob("guide/training.json")), name
        if arguments[0] != folder:  # refused before the images are written, which the next call may take
            assert not work_folder(output).exists(), name
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["letter.txt"]


def test_too_little_disk_is_told_before_the_hours_start(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=100_000_000))
    with pytest.raises(ValueError, match=r"has 0\.1 GB free, but models and pools need about 0\.6 GB"):
        distill_folder(folder, tmp_path / "set", TINY)


@pytest.mark.parametrize("called", [distill_folder, plan_folder])
def test_other_settings_or_images_are_refused_by_what_differs(whole, folder, tmp_path, called):
    output = whole[0]
    with pytest.raises(ValueError, match="seeds was 1 and is now 2"):
        called(folder, output, replace(TINY, seeds=2))
    more = shutil.copytree(folder, tmp_path / "drawings")
    shutil.copy(more / "ant" / "0.png", more / "ant" / "1.png")
    with pytest.raises(ValueError, match=r"has other images than when this distillation was begun: digest was"):
        called(more, output, TINY)
    shutil.copy(more / "ant" / "0.png", more / "ant" / "another.png")
    with pytest.raises(ValueError, match=r"this distillation was begun: images was \d+ and is now \d+;"):
        called(more, output, TINY)


def test_folder_that_is_gone_since_is_told_once_by_the_plan(folder, tmp_path):
    config = replace(TINY, test=str(tmp_path / "tests"))
    write_drawings(tmp_path / "tests", {"ant": 6, "bee": 6, "café au lait": 6}, seed=4)
    images = shutil.copytree(folder, tmp_path / "drawings")
    distill_folder(images, tmp_path / "set", config, only_estimate=True)
    for gone in (images, tmp_path / "tests"):
        gone.rename(f"{gone}-moved")
        with pytest.raises(ProblemsError) as refused:
            plan_folder(images, tmp_path / "set", config)
        told = f"there is no folder {gone}; give one with a folder of images for each class"
        assert refused.value.problems == [told]
        Path(f"{gone}-moved").rename(gone)


def test_images_that_were_copied_anew_and_elsewhere_are_the_same(folder, tmp_path):
    tests = write_drawings(tmp_path / "tests", {"ant": 6, "bee": 6, "café au lait": 6}, seed=4)
    distill_folder(folder, tmp_path / "set", replace(TINY, test=str(tests)), only_estimate=True)
    before = content(work_folder(tmp_path / "set") / "images")
    staged, moved = (shutil.copytree(one, tmp_path / f"job-{one.name}") for one in (folder, tests))
    for image in [*staged.rglob("*.png"), *moved.rglob("*.png")]:
        os.utime(image, (1, 1))
    distill_folder(staged, tmp_path / "set", replace(TINY, test=str(moved)), only_estimate=True)
    assert content(work_folder(tmp_path / "set") / "images") == before


@pytest.mark.parametrize(
    ("images", "changes"),
    [(6, {"ipc": 5}), (12, {"ipc": 10}), (14, {"most": 8}), (9, {"held_out": 0.5}), (2, {"ipc": 2, "test": "tests"})],
)
def test_plan_counts_the_images_that_are_trained_on(tmp_path, monkeypatch, images, changes):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("drawings", 1), ("tests", 2)):
        write_drawings(tmp_path / name, {"ant": images, "bee": images}, seed)
    config = replace(TINY, classifier_steps=None, **changes)
    rows = {row[0]: row[1] for table in plan_folder("drawings", "set", config).tables for row in table.rows}
    trained = len(plain_images(Path("drawings"), tmp_path / "images", config, 16).train)
    assert ("trained on" in rows["training images"]) == (trained < 2 * images)
    assert rows["training images"].endswith(f"; {trained} are trained on" if trained < 2 * images else "a class")
    assert rows["modes"] == f"{trained} real images scored and encoded"
    seen = round(0.9 * trained)  # the others calibrate
    assert rows["guide"] == f"{classifier_config('guide', config, None).loop(seen, 'small').steps:,} steps"


@pytest.mark.parametrize(
    ("copied", "told"),
    [
        (["ant/?.png", "bee/?.png"], "has no images left to train on of 'ant', 'bee', since all of them are among the"),
        (["ant/?.png", "bee/[1-6].png"], "has no images left to train on of 'ant', since all of them are among the"),
        (["bee/[1-5].png"], r"has fewer than 3 images.* ipc=3 needs, of bee \(2\)"),
    ],
)
def test_training_images_that_test_are_missed_by_plan_and_work(tmp_path, copied, told):
    drawings = write_drawings(tmp_path / "drawings", {"ant": 7, "bee": 7})
    tests = write_drawings(tmp_path / "tests", {"ant": 2, "bee": 2}, seed=1)
    for place in (place for pattern in copied for place in drawings.glob(pattern)):
        shutil.copy(place, tests / place.parent.name / f"copy of {place.name}")
    config = replace(TINY, ipc=3, test=str(tests))
    for refused in (
        lambda: plan_folder(drawings, tmp_path / "set", config),
        lambda: distill_folder(drawings, tmp_path / "set", config),
    ):
        with pytest.raises(ValueError, match=f"{re.escape(str(drawings))} {told}"):
            refused()


def test_plan_tells_the_training_images_that_are_left_out_since_they_test(folder, tmp_path):
    tests = write_drawings(tmp_path / "tests", dict.fromkeys(COLOURS, 3), seed=1)
    shutil.copy(folder / "ant" / "0.png", tests / "ant" / "copy.png")
    plan = plan_folder(folder, tmp_path / "set", replace(TINY, test=str(tests)))
    assert plan.warnings == ["1 of 42 training images are test images too, and are left out"]
    assert {row[0]: row[1] for row in plan.tables[1].rows}["modes"].startswith("41 real images")


def test_times_that_were_never_measured_are_told_as_such(folder, known_models, tmp_path):
    given = {role: str(known_models / role) for role in ("pipeline", "evaluator")}
    config = replace(TINY, **given, classifier=str(known_models / "guide"), balance=0.0)
    times = plan_folder(folder, tmp_path / "set", config).tables[1]
    assert times.columns == ["stage", "work", "2 cores"]
    assert {row[2] for row in times.rows} == {"?"}


def test_plan_and_work_refuse_the_same_ipc_by_the_same_advice(tmp_path):
    drawings, config = write_drawings(tmp_path / "drawings", {"ant": 6, "bee": 9}), replace(TINY, ipc=6)
    for refused in (
        lambda: plan_folder(drawings, tmp_path / "set", config),
        lambda: distill_folder(drawings, tmp_path / "set", config),
    ):
        with pytest.raises(ValueError, match=r"of ant \(\d\); lower it to 5 or add images"):
            refused()


def test_links_that_lead_nowhere_are_skipped_where_unreadable_images_are(folder, tmp_path):
    messy = shutil.copytree(folder, tmp_path / "drawings")
    (messy / "ant" / "0.png").unlink()
    (messy / "ant" / "0.png").symlink_to(tmp_path / "moved.png")
    given = replace(TINY, skip_unreadable=True)
    plan_folder(messy, tmp_path / "set", given)  # which names no problem
    distill_folder(messy, tmp_path / "set", given, only_estimate=True)
    record = json.loads((work_folder(tmp_path / "set") / "images" / "images.json").read_text())
    assert list(record["prepared"]["left_out"]["unreadable"]) == ["ant/0.png"]


@pytest.mark.parametrize("classes", [["0", "2"], [0, 2], ["ant", "café au lait"], "0;2", "ant, 2"])
def test_classes_are_chosen_by_name_or_by_label(folder, classes):
    assert list(prepare(folder, classes=classes).pool.class_names) == [0, 2]


def test_folders_that_are_called_by_numbers_are_chosen_by_these(tmp_path):
    numbered = write_drawings(tmp_path / "numbered", {"1": 2, "2": 2, "3": 2})
    assert set(prepare(numbered, classes=["1", "3"]).pool.class_names.values()) == {"1", "3"}
    with pytest.raises(ValueError, match="no label 7"):
        prepare(numbered, classes=[7])


def test_everything_that_was_left_out_is_counted_on_the_card(folder, tmp_path):
    drawings = write_drawings(tmp_path / "drawings", {"ant": 12, "bee": 12}, seed=3)
    tests = write_drawings(tmp_path / "tests", {"ant": 6, "bee": 6}, seed=4)
    (tests / "ant" / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (16, 16), "red").save(drawings / "ant" / "small.png")
    Image.new("RGB", (32, 32), "red").save(tests / "ant" / "large.png")  # which looks like it once it is as small
    config = replace(TINY, test=str(tests), skip_unreadable=True)
    found = plain_images(drawings, tmp_path / "images", config, 16)
    summary = found.summary()
    assert summary["left_out"] == {"twins_of_test_images": 1, "unreadable of the test images": 1}
    assert (summary["found"], summary["training"], summary["test"]) == (25, 24, 13)
    assert "Of the test images: 1 of 14 images cannot be read" in found.tables()[0].note


def test_what_a_refusal_advises_can_be_given_in_the_next_call(folder, tmp_path):
    messy, output = shutil.copytree(folder, tmp_path / "drawings"), tmp_path / "set"
    (messy / "ant" / "0.png").write_bytes(b"no picture")
    mistaken = replace(TINY, network="convnet-9")
    with pytest.raises(ValueError, match="skip"):
        distill_folder(messy, output, mistaken)
    with pytest.raises(ValueError, match="no network 'convnet-9'"):
        distill_folder(messy, output, replace(mistaken, skip_unreadable=True))  # whose images are prepared by then
    mended = replace(TINY, skip_unreadable=True, size=24)
    distill_folder(messy, output, mended, only_estimate=True)
    assert json.loads((work_folder(output) / "images" / "images.json").read_text())["size"] == 24
    with_minutes = replace(mended, size=16, minutes=60.0)  # of which a plan of how long it takes makes one think
    distill_folder(messy, output, with_minutes, only_estimate=True)
    assert json.loads((work_folder(output) / "images" / "images.json").read_text())["size"] == 16
    (work_folder(output) / "guide.training").mkdir()
    with pytest.raises(
        ValueError, match=r"holds a distillation with other settings: minutes was 60\.0 and is now None"
    ):
        distill_folder(messy, output, replace(mended, size=16))


def test_disk_that_the_work_itself_has_filled_is_no_reason_to_refuse(folder, tmp_path, monkeypatch):
    output, needed = tmp_path / "set", bytes_needed(TINY, classes=3, size=16)
    distill_folder(folder, output, TINY, only_estimate=True)
    monkeypatch.setattr("dag_diffusion.data.files.free_at", lambda place: needed - 100_000)
    with pytest.raises(ValueError, match="but models and pools need"):
        distill_folder(folder, output, TINY, only_estimate=True)
    (work_folder(output) / "run").mkdir()
    (work_folder(output) / "run" / "pool").write_bytes(b"." * 200_000)
    distill_folder(folder, output, TINY, only_estimate=True)


def test_given_classifiers_need_no_images_to_calibrate_with(tmp_path):
    drawings = write_drawings(tmp_path / "drawings", {"ant": 1, "bee": 4})
    tests = write_drawings(tmp_path / "tests", {"ant": 2, "bee": 2}, seed=1)
    config = replace(TINY, ipc=1, test=str(tests))
    with pytest.raises(
        ValueError, match=r"'ant' .* has too few images: some are to train on and to calibrate the guide"
    ):
        plain_images(drawings, tmp_path / "refused", config, 16)
    having = replace(config, classifier="guide", evaluator="evaluator", balance=0.0)
    assert len(plain_images(drawings, tmp_path / "images", having, 16).train) == 5


def test_only_what_grows_with_the_images_is_expected_to_take_longer_for_more(monkeypatch):
    # begun; loaded, images read; three steps; written
    clock = iter([0.0, 30.0, 32.0, 33.0, 34.0, 36.0, 40.0])
    monkeypatch.setattr("dag_diffusion.own_images.durations.time.monotonic", lambda: next(clock))
    pace = Pace()
    for stage, done in (("images read", 0), ("images read", 50), ("training", 1), ("training", 2), ("training", 3)):
        pace(stage, done, 100)
    assert pace.spent("images read", "latents") == 2.0
    assert pace.seconds_each("training") == 1.5
    assert pace.beside("training") == 37.0


@given(seconds=st.floats(0, 100), each=st.floats(0.01, 10), steps=st.integers(100, 5000), minutes=st.floats(1, 1000))
def test_steps_keep_to_the_minutes_or_are_refused(seconds, each, steps, minutes):
    usual = {"pools": Expected("images", seconds), "generator": Expected("", 0.0, steps, each)}
    if seconds + round(0.1 * steps) * each > 60 * minutes:
        with pytest.raises(ValueError, match="give more minutes"):
            within_minutes(usual, minutes)
        return
    planned = within_minutes(usual, minutes)
    total = sum(one.total for one in planned.values())
    assert total <= 60 * minutes
    assert planned["generator"].steps <= 5 * steps
    assert total > 0.99 * 60 * minutes - each or planned["generator"].steps == 5 * steps


@pytest.mark.parametrize("minutes", [8, 15, 60, 100])
def test_autoencoder_is_part_of_the_minutes_by_the_steps_that_it_will_have(minutes):
    usual = Expected("", 30.0, 1600, 128 / rates.LEARNT_BY_SMALL, 16 / rates.LEARNT_BY_VAE)
    steps = within_minutes({"generator": usual}, minutes)["generator"].steps
    training = GeneratorConfig(steps=steps)
    seconds = {"denoiser": steps * usual.seconds_each, "vae": training.vae_loop.steps * usual.vae_seconds_each}
    assert 30 + sum(seconds.values()) == pytest.approx(60 * minutes, rel=0.01)


def test_only_the_process_that_hears_of_every_stage_writes_how_long_they_took(tmp_path):
    first, second = Clock(tmp_path / "times.json"), Clock(None)
    first("generator: training", 1, 1)
    for clock in (first, second):
        clock("modes", 1, 1)  # the first report of the second process, whose generator took as long
        clock.keep()
    assert set(json.loads((tmp_path / "times.json").read_text())) == {"generator", "modes"}
    assert sorted(tmp_path.iterdir()) == [tmp_path / "times.json"]
