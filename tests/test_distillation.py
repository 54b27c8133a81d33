"""A distillation at its smallest: every file that it promises, and the same figures when it is run again."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pools_on_disk import content
from timm.data import ImageNetInfo
from tiny import tiny_classifier, tiny_pipeline, tiny_transformer
from typer.testing import CliRunner

from dag_diffusion import embedded, read_pool, score_pool
from dag_diffusion.cli.commands import app
from dag_diffusion.data.imagenet import FASTAI_TEST_IMAGES, SUBSETS
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.rows import read_rows
from dag_diffusion.distillation.choosing import with_rounds
from dag_diffusion.distillation.compared_sets import DGS, GUIDED_DGS, HERDING, PAPER, REAL, UNGUIDED
from dag_diffusion.distillation.config import DistillationConfig, DistillationInputs
from dag_diffusion.distillation.learnable import subsample_in_rounds
from dag_diffusion.distillation.pools import autoguidance_of
from dag_diffusion.distillation.run import Origin, distill
from dag_diffusion.distillation.setup import load_setup
from dag_diffusion.distillation.targets_and_modes import modes_for, number_of_modes, reference_for, target_for
from dag_diffusion.evaluation.labelled_images import random_rows
from dag_diffusion.evaluation.records import finished_trainings
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.generation.repairing.faults import find_faults
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.hub.cards import dataset_card
from dag_diffusion.loading import load_pipeline
from dag_diffusion.own_images.config import FolderConfig
from dag_diffusion.reporting.reproduction import commands_of

EXAMPLES = Path(__file__).parents[1] / "examples"
WHOLE_TEST = embedded.TEST
NAMES = ("unguided", "guided")  # of the pools
TINY = DistillationConfig(ipc=1, pool_factor=2, network="convnet-2-w4", seeds=2, num_inference_steps=2)


@pytest.fixture(scope="module", autouse=True)
def few_test_images(tmp_path_factory):
    """20 real test images of each embedded class, since no test here asks how good an accuracy is."""
    folder, images = tmp_path_factory.mktemp("test images"), Dataset.from_parquet(str(embedded.TEST))
    labels = np.array(images["label"])
    kept = np.concatenate([np.flatnonzero(labels == label)[:20] for label in range(10)])
    images.select(kept).to_parquet(folder / "test.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "TEST", folder / "test.parquet")
        yield


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    stages = []
    output = tmp_path_factory.mktemp("run") / "first run"
    result = distill(output, TINY, progress=lambda stage, done, total: stages.append((stage, done, total)))
    return output, result, stages


def test_distillation_leaves_pools_sets_results_and_a_report(setup):
    output, result, _ = setup
    assert {len(read_pool(output / f"pool-{name}")) for name in ("unguided", "guided")} == {20}
    assert {len(read_pool(output / f"set-{name}")) for name in ("paper", "dgs", "guided")} == {10}
    assert result.report.read_text().startswith("<!")
    assert {r["set"] for r in json.loads((output / "results.json").read_text())["results"]} == {
        REAL,
        UNGUIDED,
        PAPER,
        DGS,
        GUIDED_DGS,
    }


def test_report_says_how_each_pool_and_set_was_made_and_what_difficulty_is(setup):
    text = setup[1].report.read_text()
    scales = "classifier-free guidance 2 from 25% to 75% of the steps, autoguidance 1.5"
    drawn = f"drawn to 10 modes of real images, not steered to a difficulty; {scales}."
    chosen = f"Chosen from pool-guided: the easiest images, equally many of each mode. The pool: {drawn}"
    assert f'<p class="note">D{drawn[1:]} Difficulties by the guide.</p>' in text
    assert f'<p class="note">{chosen} Difficulties by the guide.</p>' in text
    assert f"DGS: difficulty-guided sampling. {GUIDED_DGS}: {chosen}</p>" in text  # below the accuracies
    assert "Drawn to no modes, not steered to a difficulty; " in text
    assert "Chosen from pool-unguided: by the paper" in text
    assert text.index("Difficulty d = 1 - p(class | image)") < text.index("Test accuracy")


def test_every_stage_reports_progress_to_its_end(setup):
    ends = {stage: (done, total) for stage, done, total in setup[2]}
    around = {"models and real images": (1, 1), "pools and sets looked through": (5, 5)}
    assert ends == around | {"pool, unguided": (20, 20), "pool, guided": (20, 20), "training and testing": (10, 10)}


def test_easiest_image_of_each_mode_is_kept(setup):
    pool, chosen = (read_pool(setup[0] / name) for name in ("pool-guided", "set-guided"))
    easiest = {
        label: min(row["difficulty"] for row in pool.rows if row["label"] == label) for label in pool.class_names
    }
    assert {row["label"]: row["difficulty"] for row in chosen.rows} == easiest  # one mode a class, one image kept
    assert {r.draw for r in setup[1].results if r.set == GUIDED_DGS} == {None}  # of which no seed makes another set


@pytest.fixture(scope="module")
def in_rounds(tmp_path_factory):
    told = set()
    config = replace(TINY, ipc=2, rounds=2, seeds=1, inputs=DistillationInputs(classes=("Bag", "Coat")))
    output = tmp_path_factory.mktemp("rounds") / "run"
    return output, distill(output, config, progress=lambda stage, done, total: told.add((stage, done, total))), told


def test_set_of_the_guided_pool_is_chosen_in_rounds_when_asked(in_rounds):
    output, result, told = in_rounds
    pool, chosen = (read_pool(output / name) for name in ("pool-guided", "set-guided"))
    rows = subsample_in_rounds(pool, 2, rounds=2, device="cpu").indices
    assert {row["source"] for row in chosen.rows} == {pool.rows[row]["file_name"] for row in rows.tolist()}
    assert chosen.provenance["selection"]["rounds"] == 2
    assert ("choosing in rounds, students", 2, 2) in told
    assert {one.draw for one in result.results if one.set == GUIDED_DGS} == {None}
    assert "in 2 rounds: of later modes what networks" in result.report.read_text()
    assert result.config.settings()["rounds"] == 2
    assert "--rounds 2" in result.report.read_text()


def test_run_that_goes_on_keeps_its_set_and_other_rounds_choose_another_of_the_same_pools(in_rounds, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(in_rounds[0], output)
    before, drawn = (images_in(output / name) for name in ("set-guided", "pool-guided"))
    assert students_in(output, replace(in_rounds[1].config, rounds=None)) == 0  # whatever the default is by then
    assert images_in(output / "set-guided") == before
    assert students_in(output, replace(in_rounds[1].config, rounds=1)) == 0
    easiest = {row["source"] for row in read_pool(output / "set-guided").rows}
    pool, modes = read_pool(output / "pool-guided"), {}
    for row in sorted(pool.rows, key=lambda row: -row["difficulty"]):
        modes[row["label"], row["mode"]] = row["file_name"]
    assert easiest == set(modes.values())
    assert images_in(output / "pool-guided") == drawn


def images_in(folder):
    return {name: image for name, image in content(folder).items() if name.endswith(".png")}


def students_in(output, config) -> int:
    """How many learn when a run goes on."""
    told = []
    distill(output, config, progress=lambda stage, done, total: told.append(stage))
    return len([stage for stage in told if "students" in stage])


def test_run_of_a_version_without_rounds_keeps_the_easiest(tmp_path):
    few = replace(TINY, ipc=2, seeds=1, inputs=DistillationInputs(classes=("Bag", "Coat")))
    distill(tmp_path / "run", replace(few, rounds=1))
    assert "rounds" not in json.loads((tmp_path / "run" / "run.json").read_text())
    before, report = content(tmp_path / "run" / "set-guided"), tmp_path / "run" / "report.html"
    assert "--rounds 1" in report.read_text()
    assert students_in(tmp_path / "run", few) == 0
    assert "--rounds 1" in report.read_text()  # which the same command without it would not make in a new folder
    assert content(tmp_path / "run" / "set-guided") == before


def test_more_images_than_there_are_modes_are_chosen_without_rounds_and_refused_with(tmp_path):
    config = DistillationConfig(ipc=60)  # of the embedded default there are 50
    assert number_of_modes(config.inputs, config.ipc) == 50
    assert with_rounds(config, side=32, modes=50).rounds == 1
    assert with_rounds(replace(config, ipc=50), side=32, modes=50).rounds == 5
    assert with_rounds(replace(config, ipc=10), side=32, modes=50).rounds == 1  # they are merged
    assert with_rounds(replace(config, ipc=10, rounds=3), side=32, modes=50).rounds == 3
    with pytest.raises(ValueError, match=r"rounds is 5, but there are 50 modes of each class for ipc=60, .*; leave"):
        distill(tmp_path / "run", replace(config, rounds=5))
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("settings", "side", "rounds"),
    [
        ({}, 32, 5),
        ({}, 64, 5),
        ({}, 65, 1),  # not measured
        ({"network": "resnet-ap-10"}, 32, 1),  # whom it harms
        ({"network": "convnet-4-w64"}, 32, 5),
        ({"rounds": 3, "network": "resnet-18"}, 224, 3),
        ({"rounds": 1}, 32, 1),
        ({"ipc": 3}, 32, 3),
        ({"pool_factor": 1}, 32, 1),  # one image of each mode leaves no choice
        ({"target": "hill"}, 32, 1),
        ({"target": "hill", "rounds": 1}, 32, 1),
    ],
)
def test_rounds_unasked(settings, side, rounds):
    own = {name: value for name, value in settings.items() if name != "target"}
    inputs = DistillationInputs(target=settings.get("target"))
    assert DistillationConfig(**own, inputs=inputs).rounds_at(side) == rounds
    assert FolderConfig(**settings).rounds_at(side) == rounds


@pytest.mark.parametrize(
    ("there", "told"),  # bytes; 40 images of 32 x 32 take 40,960
    [
        (50_000, "40 images of 32 pixels .* by rounds=1, or draw fewer images"),
        (100_000, "200 images of 32 pixels .*; choose a smaller size, or fewer test images"),
    ],
)
def test_images_that_do_not_fit_into_memory_are_refused_before_a_pool_is_drawn(tmp_path, monkeypatch, there, told):
    monkeypatch.setattr("dag_diffusion.memory.memory", lambda: there)
    with pytest.raises(ValueError, match=told):
        distill(tmp_path / "run", replace(TINY, ipc=2, rounds=2))
    assert not (tmp_path / "run" / "pool-guided").exists()


def test_rounds_beside_a_target_are_refused():
    with pytest.raises(ValueError, match=r"rounds is 5 and target 'hill', .*; leave one of the two out"):
        DistillationConfig(rounds=5, inputs=DistillationInputs(target="hill"))
    with pytest.raises(ValueError, match=r"rounds is 5 and target '0\.5'"):
        FolderConfig(rounds=5, target="0.5")
    with pytest.raises(ValueError, match="rounds is 0; it must be at least 1, or be left out"):
        DistillationConfig(rounds=0)


@pytest.mark.parametrize("folder", ["pool-unguided", "pool-guided", "set-paper", "set-dgs", "set-guided"])
def test_wrong_images_and_near_copies_are_counted_in_pools_and_sets_and_told_on_their_cards(setup, folder):
    pool = read_pool(setup[0] / folder)
    guide = load_pipeline().classifier
    found = find_faults(pool, guide)
    assert pool.provenance["faults"] == found.record() | {"classifier": "classifier of embedded default"}
    mistaken = score_pool(pool, guide, measure="rival_margin").difficulties > 0.5  # another class is likelier
    assert len(found.of("wrong")) == mistaken.sum()
    assert mistaken.any() or folder != "pool-guided"  # two steps draw badly to modes, and the better ones are chosen
    assert f"{mistaken.sum()} of another class" in dataset_card(pool, "me/images", title="Images")
    assert setup[1].report.read_text().count("looked at by classifier of embedded default") == 1


def test_without_a_target_nothing_is_steered_and_no_control_is_claimed(setup):
    output, result, _ = setup
    assert read_pool(output / "pool-guided").provenance["settings"]["target"] is None
    assert result.control == []
    assert "that steered" not in result.report.read_text()


def test_card_of_a_pool_tells_that_it_is_drawn_to_modes_and_not_steered(setup):
    card = dataset_card(read_pool(setup[0] / "pool-guided"), "me/pool", title="Pool")
    assert "no difficulty" in card
    steps = read_pool(setup[0] / "pool-guided").provenance["settings"]["num_inference_steps"]
    assert f"10 modes of real images, scale {ModeGuidance().scale_at(steps):.2g}" in card


def test_card_of_a_pool_tells_that_it_is_drawn_away_from_a_weak_denoiser(setup):
    card = dataset_card(read_pool(setup[0] / "pool-unguided"), "me/pool", title="Pool")
    assert "drawn away from | `its weak denoiser, scale 1.5`" in card


@pytest.mark.parametrize("run", ["setup", "in_rounds"])
def test_commands_of_a_set_make_it_again(run, tmp_path, request):
    output = request.getfixturevalue(run)[0]
    for name in ("dgs", "guided"):
        made = read_pool(output / f"set-{name}")
        command = shlex.split(commands_of(made.provenance)[-1])
        source = output / ("pool-unguided" if name == "dgs" else "pool-guided")
        assert call(*command[1:2], source, tmp_path / name, *command[4:]).exit_code == 0
        again = read_pool(tmp_path / name)
        assert [row["seed"] for row in again.rows] == [row["seed"] for row in made.rows]


def test_one_difficulty_for_every_image_has_no_rank_correlation(tmp_path):
    config = replace(TINY, pool_factor=1, seeds=1, inputs=DistillationInputs(target="0.5"))
    result = distill(tmp_path / "same", config)
    assert [c.spearman for c in result.control] == [None] * 4
    pairs = [("unguided", "guide"), ("unguided", "evaluator"), ("guided", "guide"), ("guided", "evaluator")]
    assert [(c.pool, c.classifier) for c in result.control] == pairs
    assert "Control of the difficulty" in result.report.read_text()
    assert json.loads((tmp_path / "same" / "results.json").read_text())["control"][0]["spearman"] is None


def test_running_it_again_gives_the_same_accuracies_without_drawing_anew(setup):
    output, first, _ = setup
    before = {path: path.stat().st_mtime_ns for path in output.glob("pool-*/*/*.png")}
    again = distill(output, TINY)
    assert [r.accuracy for r in again.results] == [r.accuracy for r in first.results]
    assert {path: path.stat().st_mtime_ns for path in output.glob("pool-*/*/*.png")} == before


def test_other_settings_in_the_same_folder_are_refused_in_one_line(setup):
    options = ["--output", str(setup[0]), "--ipc", "1", "--pool-factor", "3", "--num-inference-steps", "2", "--quiet"]
    result = CliRunner().invoke(app, ["run", *options])
    assert result.exit_code == 2
    assert "--pool-factor was 2 and is now 3" in result.stderr


def scales(output):
    """Of autoguidance, by pool."""
    return [read_pool(output / f"pool-{name}").provenance["settings"]["autoguidance_scale"] for name in NAMES]


def test_pools_are_drawn_away_from_the_weak_denoiser_that_is_embedded(setup):
    assert scales(setup[0]) == [1.5, 1.5]


def test_herding_of_real_images_is_there_and_autoguidance_is_off_where_that_is_asked_for(tmp_path):
    config = replace(TINY, pool_factor=1, seeds=1, herding=True, autoguidance_scale=1.0)
    origin = Origin(
        title="My images",
        command="dag-diffusion distill my_images",
        record={"folder": "my images"},
        tables=lambda: [Table("What was left out", ["why"], [["two broken files"]])],
    )
    result = distill(tmp_path / "herded", config, origin=origin)
    assert [r.set for r in result.results] == [REAL, HERDING, UNGUIDED, PAPER, DGS, GUIDED_DGS]
    assert [r.draw is None for r in result.results][:3] == [False, True, False]  # no seed makes another coreset
    report = result.report.read_text()
    for shown in ("Distilled My images, 1 image", "two broken files", "dag-diffusion distill my_images"):
        assert shown in report
    assert json.loads((tmp_path / "herded" / "results.json").read_text())["folder"] == "my images"
    assert scales(tmp_path / "herded") == [1.0, 1.0]


@pytest.mark.parametrize(("own", "asked", "scale"), [(None, None, 1.5), (2.0, None, 2.0), (2.0, 0.5, 0.5)])
def test_scale_of_autoguidance_is_that_asked_for_or_the_pipelines_own(own, asked, scale):
    pipeline = tiny_pipeline(weak_transformer=tiny_transformer(), default_autoguidance_scale=own)
    assert autoguidance_of(pipeline, asked) == scale
    assert autoguidance_of(tiny_pipeline(default_autoguidance_scale=own), None) == 1.0


def test_autoguidance_without_a_weak_denoiser_is_refused_before_anything_is_drawn(imagenet, tmp_path):
    command = ["run", *models(imagenet), "--output", tmp_path / "run", *SMALL, "--classes", "beagle;dingo"]
    result = call(*command, "--autoguidance-scale", 2)
    assert result.exit_code == 2
    assert "give --weak FOLDER" in result.stderr
    assert not list(tmp_path.rglob("pool.json"))
    useless = call(*command, "--autoguidance-scale", 1, "--weak", imagenet / "weak")
    assert useless.exit_code == 2
    assert "which draws nothing at --autoguidance-scale 1; leave one of the two out" in useless.stderr
    none = call("run", "--output", tmp_path / "run", *SMALL, "--autoguidance-scale", "nan")
    assert none.exit_code == 2
    assert none.stderr.startswith("error: --autoguidance-scale is nan; give a finite number")


def test_weak_denoiser_that_is_named_draws_both_pools(imagenet, tmp_path):
    names = dict(enumerate(ImageNetInfo("imagenet-1k").label_descriptions()))
    weak = tiny_transformer(1000, num_layers=2)
    tiny_pipeline(transformer=weak, classifier=None, id2label=names).save_pretrained(tmp_path / "weak")
    command = ["run", *models(imagenet), *SMALL, "--classes", "beagle;dingo", "--weak", tmp_path / "weak"]
    result = call(*command, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert scales(tmp_path / "run") == [1.5, 1.5]
    assert read_pool(tmp_path / "run/pool-guided").provenance["weak"] == str(tmp_path / "weak")
    assert f"--weak {tmp_path / 'weak'}" in (tmp_path / "run/report.html").read_text()


def test_killed_training_is_not_repeated(setup):
    output, first, _ = setup
    lines = (output / "trainings.jsonl").read_text().splitlines(keepends=True)
    (output / "trainings.jsonl").write_text("".join(lines[:5]))
    again = distill(output, TINY)
    assert [r.seconds for r in again.results[:5]] == [r.seconds for r in first.results[:5]]
    assert [r.accuracy for r in again.results] == [r.accuracy for r in first.results]


@pytest.mark.parametrize(
    ("changed", "again", "told"),
    [
        ("test images", {REAL, UNGUIDED, PAPER, DGS, GUIDED_DGS}, "test images are others than before, so 10"),
        ("a pool", {UNGUIDED, PAPER, DGS}, "images of DGS, matching, DGS, the paper's rule, random, unguided pool are"),
        ("nothing, begun by an earlier version", set(), ""),
    ],
)
def test_trainings_on_images_that_have_changed_since_are_done_again(
    setup, tmp_path, monkeypatch, caplog, changed, again, told
):
    output = shutil.copytree(setup[0], tmp_path / "run")
    if changed == "test images":
        Dataset.from_parquet(str(WHOLE_TEST)).select(range(500, 700)).to_parquet(tmp_path / "other.parquet")
        monkeypatch.setattr(embedded, "TEST", tmp_path / "other.parquet")
    elif changed == "a pool":
        first = next((output / "pool-unguided").glob("*/*.png"))
        Image.open(first).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(first)
    else:
        (output / "trainings.json").unlink()
    for expected in (again, set()):  # once and for all
        before = finished_trainings(output / "trainings.jsonl")
        found = distill(output, TINY).results
        assert {one.set for one in found if one not in before} == expected
    assert told in caplog.text
    assert bool(told) == ("done again" in caplog.text)


def test_another_seed_shares_no_draw_and_no_training(setup):
    from dag_diffusion.evaluation.training import derived_seeds

    assert not set(derived_seeds(0, 50)) & set(derived_seeds(1, 50))
    assert {r.seed for r in setup[1].results} == set(derived_seeds(0, 2))


SMALL = ["--ipc", 1, "--pool-factor", 2, "--num-inference-steps", 2, "--network", "convnet-2-w4", "--protocol", "quick"]
SMALL += ["--seeds", 1, "--size", 16, "--precision", "float32", "--quiet"]
WOOF = SUBSETS["ImageWoof"]


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_photographs(folder: Path, synsets, count: int) -> Path:
    """Colour JPEGs of several sizes, as ImageNet's folders hold them."""
    generator = np.random.default_rng([len(synsets), count])  # no test image is a training image
    for synset in synsets:
        (folder / synset).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 256, (20 + index, 24, 3), np.uint8)
            Image.fromarray(pixels).save(folder / synset / f"{synset}_{index}.JPEG")
    return folder


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A tiny pipeline and tiny classifiers of all 1000 classes, and folders of a few."""
    folder = tmp_path_factory.mktemp("imagenet")
    names = dict(enumerate(ImageNetInfo("imagenet-1k").label_descriptions()))
    tiny_pipeline(transformer=tiny_transformer(1000), classifier=None, id2label=names).save_pretrained(folder / "dit")
    for name in ("guide", "evaluator"):
        tiny_classifier(names).save_pretrained(folder / name)
    write_photographs(folder / "train", [*sorted(WOOF), "n01440764"], 3)
    write_photographs(folder / "val", [*sorted(WOOF), "n01440764"], 2)
    return folder


def models(folder: Path, *, train="train", test="val"):
    named = {"--pipeline": "dit", "--classifier": "guide", "--evaluator": "evaluator", "--train": train, "--test": test}
    return [part for option, name in named.items() for part in (option, folder / name)]


def small_setup(folder: Path, **changes):
    inputs = {name: str(folder / place) for name, place in PLACES.items()}
    return load_setup(DistillationInputs(**(inputs | {"classes": WOOF, "size": 16} | changes)), "cpu")


PLACES = {"pipeline": "dit", "classifier": "guide", "evaluator": "evaluator", "train": "train", "test": "val"}


@pytest.mark.parametrize("role", ["classifier", "evaluator"])
def test_classifier_that_cannot_look_at_an_image_is_refused_before_anything_is_drawn(imagenet, tmp_path, role):
    guide = tiny_classifier(dict(enumerate(ImageNetInfo("imagenet-1k").label_descriptions())), preprocessing=None)
    guide.save_pretrained(tmp_path / "unknown")
    with pytest.raises(ValueError, match=f"^{tmp_path / 'unknown'} cannot look at an image; .*no image processor"):
        small_setup(imagenet, **{role: str(tmp_path / "unknown")})


@pytest.fixture(scope="module")
def woof(imagenet):
    """A whole distillation in one command, by the example's file."""
    command = ["run", "--config", EXAMPLES / "imagewoof.yaml", *models(imagenet), *SMALL, "--output", imagenet / "woof"]
    result = call(*command)
    assert result.exit_code == 0, result.output
    return imagenet / "woof", command, result


def test_example_runs_a_whole_distillation_on_folders_of_synsets(woof):
    output, _, result = woof
    pools = [read_pool(output / f"pool-{name}") for name in ("unguided", "guided")]
    assert [len(pool) for pool in pools] == [20, 20]
    assert set(pools[0].class_names) == {193, 182, 258, 162, 155, 167, 159, 273, 207, 229}
    assert pools[1].provenance["settings"]["guidance_scale"] == 4.0
    assert "Distilled ImageWoof, 1 image per class" in (output / "report.html").read_text()
    assert "20 real test images" in " ".join(result.stdout.split())


def test_results_say_which_real_images_they_are_of(woof):
    record = json.loads((woof[0] / "results.json").read_text())
    images = record["images"]
    assert (images["subset"], images["training_images"], images["test_images"]) == ("ImageWoof", 30, 20)
    assert images["split"] == {"stated": "ilsvrc", "found": None}
    assert [name.split(",")[0] for name in images["classes"]][:3] == ["Australian terrier", "Border terrier", "Samoyed"]
    assert record["config"]["inputs"]["classes"] == list(WOOF)


def test_reference_is_the_guides_word_on_the_training_images_and_says_so(woof, imagenet):
    rows = read_rows(woof[0] / "reference.jsonl")
    assert len(rows) == 30
    assert {row["difficulty_by"] for row in rows} == {
        f"error_probability among the set's classes by {imagenet / 'guide'}"
    }
    target = read_pool(woof[0] / "set-dgs").provenance["selection"]["target"]
    assert "in sample" in target["name"]
    assert {count for count, _ in target["reference"].values()} == {3}


def test_difficulties_of_other_images_may_be_the_reference(imagenet, woof, tmp_path):
    scores = woof[0] / "reference.jsonl"
    setup = small_setup(imagenet, reference=str(scores))
    reference = reference_for(setup, tmp_path)
    assert sorted(len(values) for values in reference.values()) == [3] * 10
    assert target_for(setup, reference, tmp_path).name == f"real images, as scored in {scores}"
    assert not (tmp_path / "reference.jsonl").exists()  # nothing was measured again


def test_images_that_were_removed_since_are_no_longer_in_the_target(imagenet, tmp_path):
    train = shutil.copytree(imagenet / "train", tmp_path / "train")
    (output := tmp_path / "run").mkdir()
    assert sorted(map(len, reference_for(small_setup(imagenet, train=str(train)), output).values())) == [3] * 10
    removed = sorted((train / sorted(WOOF)[0]).iterdir())[0]
    removed.unlink()
    reference = reference_for(small_setup(imagenet, train=str(train)), output)
    assert sorted(map(len, reference.values())) == [2] + [3] * 9
    assert removed.name not in (output / "reference.jsonl").read_text()
    lines = (output / "reference.jsonl").read_text().splitlines()
    others = [json.dumps(json.loads(line) | {"file_name": f"other/{place}.png"}) for place, line in enumerate(lines)]
    (output / "reference.jsonl").write_text("\n".join(others))
    with pytest.raises(ValueError, match="holds rows of another pool"):
        reference_for(small_setup(imagenet, train=str(train)), output)


def test_dag_draws_to_modes_of_the_training_images(woof):
    settings = read_pool(woof[0] / "pool-guided").provenance["settings"]
    assert settings["modes"]["modes"] == 10
    assert (woof[0] / "modes.safetensors").exists()
    assert read_pool(woof[0] / "pool-unguided").provenance["settings"]["modes"] is None


def test_modes_are_found_anew_where_training_images_have_changed(imagenet, tmp_path):
    train = shutil.copytree(imagenet / "train", tmp_path / "train")

    def centres():
        return modes_for(small_setup(imagenet, train=str(train)), tmp_path, 1, 4, lambda *told: None).centres

    before = centres()
    kept = (tmp_path / "modes.safetensors").stat().st_mtime_ns
    assert torch.equal(centres(), before)
    assert (tmp_path / "modes.safetensors").stat().st_mtime_ns == kept
    changed = next((train / sorted(WOOF)[0]).iterdir())
    Image.new("RGB", (40, 40), "red").save(changed)
    after = centres()
    assert [not torch.equal(one, other) for one, other in zip(before, after, strict=True)].count(True) == 1
    assert torch.equal(centres(), after)
    (tmp_path / "pool-guided").mkdir()
    (tmp_path / "pool-guided" / "pool.json").write_text("{}")
    Image.new("RGB", (40, 40), "blue").save(changed)
    kept = (tmp_path / "modes.safetensors").read_bytes()
    with pytest.raises(ValueError, match="training images have changed since the guided pool"):
        centres()
    assert (tmp_path / "modes.safetensors").read_bytes() == kept


def test_given_target_rules_every_set(setup, tmp_path):
    output = tmp_path / "hill"
    distill(output, replace(TINY, seeds=1, inputs=DistillationInputs(target="hill")))
    assert read_pool(output / "pool-guided").provenance["settings"]["target"]["name"] == "hill"
    targets = [read_pool(output / f"set-{name}").provenance["selection"]["target"] for name in ("dgs", "guided")]
    assert targets[0] == targets[1]


def test_same_command_goes_on_without_drawing_or_scoring_anew(woof):
    output, command, _ = woof
    before = {path: path.stat().st_mtime_ns for path in output.glob("pool-*/*/*.png")}
    accuracies = [r["accuracy"] for r in json.loads((output / "results.json").read_text())["results"]]
    assert call(*command).exit_code == 0
    assert [r["accuracy"] for r in json.loads((output / "results.json").read_text())["results"]] == accuracies
    assert {path: path.stat().st_mtime_ns for path in output.glob("pool-*/*/*.png")} == before
    other = call(*command, "--target", "hill")
    assert (other.exit_code, other.stderr.count("\n")) == (2, 1)
    assert "inputs.target was None and is now 'hill'" in other.stderr


def test_split_of_fastai_is_warned_of_in_one_line_and_recorded(imagenet, monkeypatch, caplog):
    monkeypatch.setitem(FASTAI_TEST_IMAGES, "ImageWoof", 20)  # as many as the folder has
    setup = small_setup(imagenet, split="ilsvrc")
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("dag_diffusion")]
    assert len(warnings) == 1
    assert "20 test images are fastai's split of ImageWoof" in warnings[0]
    assert setup.record()["split"] == {"stated": "ilsvrc", "found": "fastai"}


def test_training_images_as_test_images_are_warned_of_in_one_line(imagenet, caplog):
    small_setup(imagenet, test=str(imagenet / "train"))
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("dag_diffusion")]
    assert len(warnings) == 1
    assert warnings[0].startswith("30 of 30 test images are training images too")


def test_labels_of_trained_networks_follow_the_order_of_the_classes(imagenet):
    setup = small_setup(imagenet, classes=("n02088364; 193", "tench"))
    test = setup.decode(setup.test)
    assert [name.split(",")[0] for name in test.class_names.values()] == ["beagle", "Australian terrier", "tench"]
    assert (test.images.shape, sorted(test.labels.tolist())) == ((6, 16, 16, 3), [0, 0, 1, 1, 2, 2])
    folders = [PurePath(row["file_name"]).parts[0] for row in setup.test.rows]
    table = {"n02088364": 0, "n02096294": 1, "n01440764": 2}
    assert [table[folder] for folder in folders] == test.labels.tolist()


def test_without_classes_all_of_the_test_images_count(imagenet):
    setup = small_setup(imagenet, classes=())
    assert list(setup.class_names) == sorted([0, 193, 182, 258, 162, 155, 167, 159, 273, 207, 229])
    assert (len(setup.train), setup.channels) == (33, 3)


def test_only_what_is_trained_on_is_decoded(imagenet, tmp_path, monkeypatch):
    setup, opened = small_setup(imagenet), []
    monkeypatch.setattr(Pool, "open", lambda self, i, *a, was=Pool.open: opened.append(i) or was(self, i, *a))
    assert len(setup.decode(setup.train, random_rows(setup.train.labels, 1, 0, setup.class_names))) == 10
    assert len(opened) == 10


@given(counts=st.lists(st.integers(3, 30), min_size=1, max_size=5), seed=st.integers(0, 100))
def test_random_baseline_is_drawn_from_the_whole_of_each_class(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    names = dict(enumerate("abcde"[: len(counts)]))
    rows = random_rows(labels, 3, seed, names)
    assert len(set(rows.tolist())) == 3 * len(counts)
    assert np.array_equal(np.bincount(labels[rows]), [3] * len(counts))
    assert np.array_equal(rows, random_rows(labels, 3, seed, names))


def test_random_baseline_is_not_the_first_files_and_changes_with_the_seed():
    labels = np.zeros(1300, np.int64)
    draws = [random_rows(labels, 10, seed, {0: "a"}) for seed in range(20)]
    assert len({tuple(draw) for draw in draws}) == 20
    assert np.mean(draws) == pytest.approx(650, abs=80)  # 2.9 standard errors of 200 draws


def test_reference_in_a_sum_of_targets_means_the_real_images(imagenet, tmp_path):
    setup = small_setup(imagenet, classes=WOOF[:2], target="0.5*reference + 0.5*hill")
    reference = reference_for(setup, tmp_path)
    target = target_for(setup, reference, tmp_path)
    assert [round(weight, 2) for weight in target.weights] == [0.5, 0.5]
    name = next(iter(reference))
    assert target.targets[0].values(name).tolist() == pytest.approx(sorted(reference[name]))


def test_classes_of_the_embedded_default_may_be_chosen(monkeypatch):
    monkeypatch.setattr(embedded, "TEST", WHOLE_TEST)
    setup = load_setup(DistillationInputs(classes=("Bag", "Sandal")), "cpu")
    assert list(setup.class_names.values()) == ["Bag", "Sandal"]
    assert (len(setup.train), len(setup.test), setup.size, setup.channels) == (200, 2000, (32, 32), 1)
    assert {name: len(values) for name, values in reference_for(setup, Path()).items()} == {
        "Bag": 6000,
        "Sandal": 6000,
    }


def test_settings_of_the_embedded_default_are_what_they_were():
    assert "inputs" not in DistillationConfig().settings()


def run_mistakes(folder: Path) -> dict[str, tuple[list, str]]:
    classes = [part for synset in WOOF[:2] for part in ("--classes", synset)]
    return {
        "training images alone": (["--train", folder / "train"], "give --train FOLDER and --test FOLDER"),
        "evaluator that steers": ([*models(folder), "--evaluator", folder / "guide"], "judge its own steering"),
        "no such folder": (models(folder, test="value"), "no real images at"),
        "images without class folders": (models(folder, test="val/n01440764"), "sort its images into folders"),
        "class without a folder": ([*models(folder), "--classes", "n02085620"], "Chihuahua"),
        "class that is none": ([*models(folder), "--classes", "griffin"], "no class called 'griffin'"),
        "label beyond the last": ([*models(folder), "--classes", "1000"], "0..999"),
        "class twice": ([*models(folder), "--classes", "tench; 0"], "named twice"),
        "more than the real images": ([*models(folder), *classes, "--ipc", 4], "fewer than 4 images"),
        "network too deep": ([*models(folder), *classes, "--network", "convnet-6"], "depth"),
        "two channels": ([*models(folder), "--channels", 2], "channels are 2"),
        "no guide": (models(folder)[:2] + models(folder)[4:], "give a classifier of the same classes"),
        "evaluator of other classes": (models(folder)[:4] + models(folder)[6:], "--evaluator FOLDER names another"),
    }


def test_mistakes_in_the_inputs_are_one_line_before_anything_is_drawn(imagenet, tmp_path):
    for name, (arguments, expected) in run_mistakes(imagenet).items():
        result = call("run", *SMALL, *arguments, "--output", tmp_path / "out")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), (name, result.output)
        assert expected in result.stderr, (name, result.stderr)
        assert not (tmp_path / "out").exists(), name
