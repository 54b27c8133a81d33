"""The command line: quick help with examples, one line and exit code 2 for a user's mistake, files as promised."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from pools_on_disk import content
from tiny import tiny_classifier, tiny_pipeline, write_images
from typer.main import get_command
from typer.testing import CliRunner

from dag_diffusion import read_pool
from dag_diffusion.cli.commands import app
from dag_diffusion.cli.console import show_table
from dag_diffusion.data.files import json_lines
from dag_diffusion.data.rows import read_rows
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.guidance.mode_guidance import ModeGuidance

COMMANDS = sorted(get_command(app).commands)


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def saved_pipeline(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def generate(pipeline, output, *options):
    small = ["--images-per-class", 4, "--num-inference-steps", 2, "--guidance-scale", 1, "--quiet"]
    return call("generate", output, "--pipeline", pipeline, *small, *options)


def test_importing_the_command_line_imports_nothing_heavy():
    code = (
        "import sys, dag_diffusion, dag_diffusion.cli; print({'torch', 'diffusers', 'matplotlib'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command):
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout


def test_generate_score_subsample_report_follow_one_another(tmp_path, saved_pipeline):
    pool, chosen = tmp_path / "pool", tmp_path / "distilled set"
    assert "by the guide that steered" in generate(saved_pipeline, pool, "--target", "hill").stdout
    scored = call("score", pool, "--classifier", saved_pipeline / "classifier", "--quiet")
    assert scored.exit_code == 0, scored.output
    result = call("subsample", pool, chosen, "--ipc", 2, "--target", "hill")
    assert result.exit_code == 0, result.output
    assert len(read_pool(chosen)) == 6
    assert json.loads((chosen / "pool.json").read_text())["selection"]["target"]["name"] == "hill"
    shown = call("report", pool, chosen, "--reference", pool, "--output", tmp_path / "report.html")
    assert shown.exit_code == 0, shown.output
    assert "distilled set" in (tmp_path / "report.html").read_text()


def test_trained_probe_steers_a_pool(tmp_path, saved_pipeline):
    small = ["--trajectories", 20, "--training-steps", 3, "--num-inference-steps", 2, "--guidance-scale", 1, "--quiet"]
    made = call("train-probe", tmp_path / "my probe", "--pipeline", saved_pipeline, *small)
    assert made.exit_code == 0, made.output
    assert "rank correlation" in made.stdout
    with_probe = ["--target", 0.5, "--probe", tmp_path / "my probe"]
    assert generate(saved_pipeline, tmp_path / "pool", *with_probe).exit_code == 0
    assert json.loads((tmp_path / "pool" / "pool.json").read_text())["weights"]["probe"] is not None
    again = call("train-probe", tmp_path / "my probe", "--pipeline", saved_pipeline, *small)
    assert (again.exit_code, again.stdout) == (0, made.stdout)
    other = call("train-probe", tmp_path / "my probe", "--pipeline", saved_pipeline, *small, "--seed", 1)
    assert (other.exit_code, other.stderr.count("\n")) == (2, 1)
    assert "a probe of another training: settings.seed was 0 and is now 1; give --overwrite" in other.stderr


def test_options_of_the_guidance_reach_the_pool(tmp_path, saved_pipeline):
    steered = ["--target", 0.5, "--guidance", "every=2", "--guidance", "max_norm=0.3"]
    assert generate(saved_pipeline, tmp_path / "pool", *steered).exit_code == 0
    settings = json.loads((tmp_path / "pool" / "pool.json").read_text())["settings"]["difficulty_guidance"]
    assert (settings["every"], settings["max_norm"], settings["scale"]) == (2, 0.3, 1.0)


@pytest.mark.parametrize("wrong", ["speed=3", "every=twice", "every", "stop=2"])
def test_wrong_option_of_the_guidance_is_one_line(tmp_path, saved_pipeline, wrong):
    result = generate(saved_pipeline, tmp_path / "pool", "--target", 0.5, "--guidance", wrong)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "pool").exists()


def test_found_modes_draw_a_pool(tmp_path, saved_pipeline):
    write_images(tmp_path / "real", {"T-shirt": 6, "Ankle boot": 6, "Bag": 6}, metadata=False)
    find = ["find-modes", tmp_path / "real", tmp_path / "modes.safetensors", "--pipeline", saved_pipeline, "--quiet"]
    by_cliff = [*find, "--by-difficulty", "cliff", "--per-class", 3]
    found, again = call(*by_cliff), call(*by_cliff)
    assert found.exit_code == 0, found.output
    assert "9 modes of 3 classes" in found.stdout
    assert (again.exit_code, again.stdout) == (0, found.stdout)
    made = generate(saved_pipeline, tmp_path / "pool", "--modes", tmp_path / "modes.safetensors")
    assert made.exit_code == 0, made.output
    published = ["--modes", tmp_path / "modes.safetensors", "--mode-window", "lgd", "--modes-by-size"]
    assert generate(saved_pipeline, tmp_path / "by size", *published).exit_code == 0
    settings = json.loads((tmp_path / "by size" / "pool.json").read_text())["settings"]
    scale = ModeGuidance().scale_at(settings["num_inference_steps"])
    assert settings["mode_guidance"] == {"scale": scale, "start": 0.08, "stop": 0.8, "proportional": True}
    wrong = generate(saved_pipeline, tmp_path / "none", *published[:2], "--mode-window", "dgs")
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)
    call("score", tmp_path / "real", "--classifier", saved_pipeline / "classifier", "--quiet")
    scored = call(*by_cliff)
    assert (scored.exit_code, scored.stderr.count("\n")) == (2, 1)
    assert "modes of other images or settings: difficulties was" in scored.stderr
    again = call(*find, "--by-difficulty", tmp_path / "real", "--per-class", 2, "--overwrite")
    assert again.exit_code == 0, again.output
    rows = read_pool(tmp_path / "pool").rows
    assert {row["class_name"]: row["mode"] // 3 for row in rows} == {"Ankle boot, boot": 0, "Bag": 1, "T-shirt": 2}


def test_scored_folder_is_a_target(tmp_path, saved_pipeline):
    generate(saved_pipeline, tmp_path / "pool")
    result = call("subsample", tmp_path / "pool", tmp_path / "set", "--ipc", 2, "--target", tmp_path / "pool")
    assert result.exit_code == 0, result.output


def test_generate_takes_class_names_and_a_number_as_target(tmp_path, saved_pipeline):
    result = generate(saved_pipeline, tmp_path / "pool", "--classes", "boot; 2", "--target", "0.4")
    assert result.exit_code == 0, result.output
    pool = read_pool(tmp_path / "pool")
    assert set(pool.class_names) == {1, 2}
    assert {row["target_difficulty"] for row in pool.rows} == {0.4}


def test_score_writes_into_the_folders_metadata_and_keeps_other_columns(tmp_path, saved_pipeline):
    write_images(tmp_path / "pool", {"T-shirt": 2, "Bag": 2})
    assert call("score", tmp_path / "pool", "--classifier", saved_pipeline / "classifier", "--quiet").exit_code == 0
    rows = read_pool(tmp_path / "pool").rows
    assert all(0 <= row["difficulty"] <= 1 and row["seed"] in (0, 1) for row in rows)


def test_score_skips_unreadable_files_if_asked(tmp_path, saved_pipeline):
    write_images(tmp_path / "pool", {"Bag": 2}, metadata=False)
    (tmp_path / "pool" / "Bag" / "x.png").write_bytes(b"")
    options = ["score", tmp_path / "pool", "--classifier", saved_pipeline / "classifier", "--quiet"]
    refused = call(*options)
    assert refused.exit_code == 2
    assert refused.stderr.endswith("or leave it out by --on-error skip\n")
    assert "1 files skipped" in call(*options, "--on-error", "skip").stdout
    rows = read_pool(tmp_path / "pool").rows
    assert [row["difficulty"] is None for row in rows] == [False, False, True]
    assert {row["difficulty_by"] for row in rows} == {f"error_probability by {saved_pipeline / 'classifier'}"}
    chosen = ["subsample", tmp_path / "pool", tmp_path / "set", "--ipc", 1, "--target", "hill", "--method", "matching"]
    assert call(*chosen).stderr.endswith("or leave them out by --skip-unscored\n")
    by_features = [*chosen[:-1], "k-center", "--classifier", saved_pipeline / "classifier", "--quiet"]
    assert call(*by_features).stderr.endswith("or leave it out by --skip-unscored\n")
    assert call(*chosen, "--skip-unscored").exit_code == 0


def test_images_lie_on_the_background_that_is_asked_for(tmp_path, saved_pipeline):
    write_images(tmp_path / "pool", {"Bag": 2})
    Image.new("LA", (20, 10)).save(tmp_path / "pool" / "Bag" / "00000.png")
    options = ["score", tmp_path / "pool", "--classifier", saved_pipeline / "classifier", "--quiet"]
    assert "2 scored" in call(*options).stdout
    assert "2 scored, 0 from the cache" in call(*options, "--background", "black").stdout
    assert "the background 'blak' is no colour" in call(*options, "--background", "blak").stderr
    assert "fit is 'fill'; use 'pad'" in call(*options, "--fit", "fill").stderr


def test_score_takes_several_classifiers_a_measure_and_a_class_map_and_reuses_its_scores(tmp_path, saved_pipeline):
    write_images(tmp_path / "pool", {"Tasche": 2, "T-shirt": 1})
    tiny_classifier().save_pretrained(tmp_path / "second")
    (tmp_path / "names.json").write_text('{"Tasche": "Bag"}')
    options = [
        "--classifier",
        saved_pipeline / "classifier",
        "--classifier",
        tmp_path / "second",
        "--measure",
        "rival_margin",
    ]
    options += ["--class-map", tmp_path / "names.json", "--output", tmp_path / "scores.jsonl", "--quiet"]
    first, second = (call("score", tmp_path / "pool", *options).stdout.split(":")[-1] for _ in range(2))
    assert first == " 3 scored, 0 from the cache, 0 files skipped\n"
    assert second == " 0 scored, 3 from the cache, 0 files skipped\n"
    by = {row["difficulty_by"] for row in read_rows(tmp_path / "scores.jsonl")}
    assert by == {f"rival_margin by {saved_pipeline / 'classifier'}, {tmp_path / 'second'}"}


def test_score_in_a_precision_of_ones_own(tmp_path, saved_pipeline):
    write_images(tmp_path / "pool", {"T-shirt": 2})
    options = ["score", tmp_path / "pool", "--classifier", saved_pipeline / "classifier", "--quiet"]
    full, half = (read_pool_after(call(*options, "--precision", p), tmp_path) for p in ("float32", "bfloat16"))
    assert full != half
    assert full == pytest.approx(half, abs=0.1)


def read_pool_after(result, folder):
    assert result.exit_code == 0, result.output
    return read_pool(folder / "pool").difficulties.tolist()


def test_evaluate_compares_sets_on_given_test_images(tmp_path):
    for name in ("first", "second", "test"):
        write_images(tmp_path / name, {"Bag": 3, "Coat": 3})
    options = [
        "--test",
        tmp_path / "test",
        "--network",
        "convnet-1-w4",
        "--protocol",
        "quick",
        "--seeds",
        2,
        "--size",
        16,
    ]
    result = call(
        "evaluate", tmp_path / "first", tmp_path / "second", *options, "--output", tmp_path / "r.json", "--quiet"
    )
    assert result.exit_code == 0, result.output
    assert len(json.loads((tmp_path / "r.json").read_text())["results"]) == 4
    assert "second" in result.stdout


def test_nested_sets_are_linked_and_say_how_they_were_chosen(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 9, "Coat": 9}, difficulty=lambda name, index: index / 10)
    options = ["--ipc", 4, "--ipc", 2, "--target", "uniform:0,0.8", "--method", "matching", "--files", "link"]
    result = call("subsample", tmp_path / "pool", tmp_path / "sets", *options)
    assert result.exit_code == 0, result.output
    assert "Wasserstein-1 to the target" in result.stdout
    small, large = (read_pool(tmp_path / "sets" / f"ipc-{ipc}") for ipc in (2, 4))
    assert {row["file_name"] for row in small.rows} < {row["file_name"] for row in large.rows}
    assert (large.path / "Bag/00001.png").stat().st_nlink >= 2
    selection = small.provenance["selection"]
    assert (selection["method"], selection["ipc"], selection["target"]["name"]) == ("matching", 2, "uniform(0, 0.8)")
    assert [row["class"] for row in selection["classes"]] == ["Bag", "Coat"]


def test_baselines_by_features_need_neither_scores_nor_a_target(tmp_path, saved_pipeline):
    write_images(tmp_path / "pool", {"Bag": 6, "Coat": 6})  # which the classifier does not know
    for method in ("k-center", "herding"):
        options = ["--ipc", 3, "--method", method, "--classifier", saved_pipeline / "classifier", "--quiet"]
        result = call("subsample", tmp_path / "pool", tmp_path / method, *options)
        assert result.exit_code == 0, result.output
        assert len(read_pool(tmp_path / method)) == 6


@pytest.mark.parametrize(
    ("scorer", "named"),
    [
        ("embedded guide", None),
        ("another, embedded guide", None),
        ("another", None),
        ("another", "classifier"),
        ("", None),
    ],
)
def test_features_of_the_embedded_guide_are_told_where_another_scored_the_pool(
    tmp_path, caplog, saved_pipeline, scorer, named
):
    rows = write_images(tmp_path / "pool", {"Bag": 6, "Coat": 6}, difficulty=lambda name, index: index / 6)
    by = {"difficulty_by": f"error_probability by {scorer}"} if scorer else {}
    (tmp_path / "pool/metadata.jsonl").write_bytes(json_lines([row | by for row in rows]))
    options = ["--ipc", 3, "--method", "k-center", "--quiet"] + (
        [] if named is None else ["--classifier", saved_pipeline / named]
    )
    assert call("subsample", tmp_path / "pool", tmp_path / "set", *options).exit_code == 0
    told = "was scored by another, but features are those of the embedded guide" in caplog.text
    assert told == (scorer == "another" and named is None)


@pytest.mark.parametrize("is_embedded", [True, False])
def test_features_of_the_embedded_guide_are_told_where_a_pool_records_another(
    tmp_path, caplog, saved_pipeline, is_embedded
):
    options = ["--images-per-class", 2, "--num-inference-steps", 2, "--quiet"]
    source = [] if is_embedded else ["--pipeline", saved_pipeline]
    assert call("generate", tmp_path / "pool", *source, *options).exit_code == 0
    chosen = call("subsample", tmp_path / "pool", tmp_path / "set", "--ipc", 1, "--method", "herding", "--quiet")
    assert chosen.exit_code == 0, chosen.output
    assert ("give --classifier, the one that scored" in caplog.text) == (not is_embedded)


def test_target_is_drawn_before_it_is_used_without_images_that_have_no_score(tmp_path, caplog):
    write_images(tmp_path / "pool", {"Bag": 9, "Coat": 9}, difficulty=lambda name, index: index / 10 if index else None)
    drawn = call("show-target", "hill", "--pool", tmp_path / "pool", "--output", tmp_path / "new/target.png")
    assert drawn.exit_code == 0, drawn.output
    assert "2 of 18 images" in caplog.text
    with Image.open(tmp_path / "new/target.png") as image:
        assert min(image.size) > 400


def test_page_and_figure_replace_earlier_ones_of_their_kind_and_nothing_else(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 9, "Coat": 9}, difficulty=lambda name, index: index / 10)
    Image.new("RGB", (8, 8)).save(tmp_path / "holiday.png")
    (tmp_path / "thesis.html").write_text("<html>ten pages</html>")
    before = [file.read_bytes() for file in sorted(tmp_path.glob("*.*"))]
    drawing, reporting = ["show-target", "hill", "--pool", tmp_path / "pool"], ["report", tmp_path / "pool"]
    for command, name, foreign in [(drawing, "t.png", "holiday.png"), (reporting, "r.html", "thesis.html")]:
        for _ in range(2):
            done = call(*command, "--output", tmp_path / "new" / name)
            assert done.exit_code == 0, done.output
        assert "remove it, or choose another output" in call(*command, "--output", tmp_path / foreign).stderr
    assert [file.read_bytes() for file in sorted(tmp_path.glob("*.*"))] == before


def run_main(monkeypatch, capsys, *arguments):
    from dag_diffusion.cli.commands import main

    monkeypatch.setattr(sys, "argv", ["dag-diffusion", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr()


@pytest.mark.parametrize(
    "arguments",
    [["run", "--ipc", "0"], ["run", "--ipc", "ten"], ["run", "--bogus"], ["subsample"], ["distil"]],
)
def test_wrong_option_is_one_line_too(monkeypatch, capsys, arguments):
    code, printed = run_main(monkeypatch, capsys, *arguments)
    assert code == 2
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.err.startswith("error: ")


def test_without_a_command_the_help_is_shown(monkeypatch, capsys):
    code, printed = run_main(monkeypatch, capsys)
    assert code == 0
    assert len(printed.out.splitlines()) > 10
    assert "generate" in printed.out


def test_version_is_told(monkeypatch, capsys):
    from dag_diffusion import __version__

    assert run_main(monkeypatch, capsys, "--version")[1].out.strip() == __version__


def mistakes(tmp_path, pipeline):
    write_images(tmp_path / "scored", {"Bag": 3}, difficulty=lambda name, index: 0.5)
    write_images(tmp_path / "hats", {"Hat": 1})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dog.jpg").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "sets/ipc-2").mkdir(parents=True)
    (tmp_path / "sets/ipc-2.json").mkdir()
    (tmp_path / "sets/ipc-2/pool.json").write_text("{}")
    (tmp_path / "names.txt").write_text("Bag")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/pool.json").write_text("{}")
    write_images(tmp_path / "photos of", {"Bag": 1})
    (tmp_path / "photos of/Bag/00000.png").write_bytes(b"")
    guide = ["--classifier", pipeline / "classifier"]
    return {
        "generate over photos": (["generate", tmp_path / "photos", "--pipeline", pipeline, "--overwrite"], "no pool"),
        "generate into a file": (
            ["generate", tmp_path / "names.txt" / "p", "--pipeline", pipeline],
            "is a file and no",
        ),
        "generate over an unfinished pool": (["generate", tmp_path / "begun", "--pipeline", pipeline], "by --resume"),
        "unknown class": (["generate", tmp_path / "p", "--pipeline", pipeline, "--classes", "Bags"], "nearest"),
        "target of 2": (["generate", tmp_path / "p", "--pipeline", pipeline, "--target", "2"], "[0, 1]"),
        "target of a word": (["generate", tmp_path / "p", "--pipeline", pipeline, "--target", "valley"], "hill"),
        "interval of a word": (["generate", tmp_path / "p", "--guidance-interval", "late"], "such as 0.2,0.8"),
        "no such pipeline": (["generate", tmp_path / "p", "--pipeline", tmp_path / "no"], "cannot be loaded"),
        "score nothing": (["score", tmp_path / "absent", *guide], "no pool at"),
        "score empty": (["score", tmp_path / "empty", *guide], "no images"),
        "score other classes": (
            ["score", tmp_path / "hats", *guide],
            "train-classifier, or rename them, or give a class map (--class-map FILE)",
        ),
        "score with no classifier": (["score", tmp_path / "scored", "--classifier", tmp_path / "empty"], "classifier"),
        "unknown measure": (
            ["score", tmp_path / "scored", *guide, "--measure", "loss"],
            "choose one of error_probability",
        ),
        "unknown precision": (["score", tmp_path / "scored", *guide, "--precision", "int8"], "bfloat16"),
        "no such class map": (
            ["score", tmp_path / "scored", *guide, "--class-map", tmp_path / "no.json"],
            "no class map",
        ),
        "scores over photos": (
            ["score", tmp_path / "scored", *guide, "--output", tmp_path / "names.txt"],
            "no file_name",
        ),
        "scores into a folder": (
            ["score", tmp_path / "scored", *guide, "--output", tmp_path / "empty"],
            "such as " + str(tmp_path / "empty/scores.jsonl"),
        ),
        "modes into a folder": (
            ["find-modes", tmp_path / "scored", tmp_path / "empty", "--overwrite"],
            "the output is one file",
        ),
        "modes over a text": (
            ["find-modes", tmp_path / "scored", tmp_path / "names.txt", "--overwrite"],
            "no file of modes",
        ),
        "modes that are not there": (
            ["generate", tmp_path / "p", "--pipeline", pipeline, "--modes", tmp_path / "no"],
            "dag-diffusion find-modes",
        ),
        "report into a folder": (["report", tmp_path / "scored", "--output", tmp_path / "empty"], "empty/report.html"),
        "report into a file": (
            ["report", tmp_path / "scored", "--output", tmp_path / "names.txt" / "r.html"],
            "names.txt is a file and no folder",
        ),
        "no such results": (
            ["report", tmp_path / "scored", "--results", tmp_path / "no.json"],
            f"there is no {tmp_path / 'no.json'}; check",
        ),
        "results in a folder": (
            ["report", tmp_path / "scored", "--redundancy", tmp_path / "empty"],
            "empty is a folder, but a file is expected",
        ),
        "figure into a folder": (
            ["show-target", "hill", "--pool", tmp_path / "scored", "--output", tmp_path / "empty"],
            "empty/figure.png",
        ),
        "figure of another format": (
            ["show-target", "hill", "--pool", tmp_path / "scored", "--output", tmp_path / "target.pdf"],
            f"give a name such as {tmp_path / 'target.png'}",
        ),
        "evaluation into a folder": (
            ["evaluate", tmp_path / "scored", "--test", tmp_path / "scored", "--output", tmp_path / "sets/ipc-2.json"],
            "the output is one file",
        ),
        "set without soft labels": (
            ["evaluate", tmp_path / "scored", "--test", tmp_path / "scored", "--labels", "soft"],
            "write them by dag-diffusion label",
        ),
        "no pool to show": (["status", tmp_path / "empty"], "give the folder of one"),
        "generator of no size": (
            ["train", tmp_path / "scored", "--output", tmp_path / "g", "--size", 0],
            "--size is 0",
        ),
        "broken image": (["score", tmp_path / "photos of", *guide], "not a readable image"),
        "ipc too large": (
            ["subsample", tmp_path / "scored", tmp_path / "s", "--ipc", 4, "--target", "hill"],
            "lower ipc",
        ),
        "unscored": (
            ["subsample", tmp_path / "hats", tmp_path / "s", "--ipc", 1, "--target", "hill"],
            "dag-diffusion score",
        ),
        "select by a word": (
            ["subsample", tmp_path / "scored", tmp_path / "s", "--ipc", 1, "--target", "valley"],
            "choose reference, hill",
        ),
        "one of two sets is there": (
            ["subsample", tmp_path / "scored", tmp_path / "sets", "--ipc", 1, "--ipc", 2, "--target", "hill"],
            "already holds a pool",
        ),
        "unknown diversity": (
            ["subsample", tmp_path / "scored", tmp_path / "s", "--diversity", "much"],
            "determinantal",
        ),
        "target that is not to be shown": (
            ["show-target", "valley", "--pool", tmp_path / "scored"],
            "choose reference",
        ),
        "unknown method": (
            ["subsample", tmp_path / "scored", tmp_path / "s", "--ipc", 1, "--method", "best"],
            "choose one of",
        ),
        "no such device": (["score", tmp_path / "scored", *guide, "--device", "quantum"], "--device cpu"),
        "same set twice": (["evaluate", tmp_path / "scored", tmp_path / "scored"], "given twice"),
        "more than the real images": (["run", "--ipc", 101, "--output", tmp_path / "r"], "lower it"),
        "network too deep": (["run", "--network", "convnet-6", "--output", tmp_path / "r"], "32x32"),
        "run over photos": (["run", "--output", tmp_path / "photos"], "no run"),
        "generator over photos": (
            ["train", tmp_path / "scored", "--output", tmp_path / "photos", "--quiet"],
            "no trained generator",
        ),
        "unknown protocol": (["evaluate", tmp_path / "scored", "--protocol", "slow"], "choose one of"),
    }


def test_every_mistake_is_one_line_exit_code_two_and_writes_nothing(tmp_path, saved_pipeline):
    cases = mistakes(tmp_path, saved_pipeline)
    before = sorted(tmp_path.rglob("*"))
    for name, (arguments, expected) in cases.items():
        result = call(*arguments, *(["--quiet"] if arguments[0] in ("run", "generate", "score", "evaluate") else []))
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        assert result.exit_code == 2, (name, result.output)
        assert len(lines) == 1, (name, lines)
        assert expected in lines[0], name
        assert lines[0].startswith("error: "), name
    assert sorted(tmp_path.rglob("*")) == before


def test_full_disk_is_told_in_plain_words(tmp_path, saved_pipeline, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dag_diffusion.generation.batches.write_image", full)
    result = generate(saved_pipeline, tmp_path / "pool")
    assert result.exit_code == 2
    assert "the disk is full; free some space" in result.stderr
    assert not (tmp_path / "pool").exists()


def test_folder_that_cannot_be_written_is_named(tmp_path, saved_pipeline, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # what a read-only folder says to anybody but root
    result = generate(saved_pipeline, tmp_path / "locked" / "pool")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    assert not (tmp_path / "locked").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command):
    options = get_command(app).commands[command].params
    assert not [option.name for option in options if option.name != "help" and not option.help]


ROWS = [
    ["random:pool, IPC 2", 2, "56.1 ± 2.5", "2 x 1", "", ""],
    ["distilled", 2, "53.4 ± 2.0", "1 x 2", "-2.7", "-43.6 to +38.3"],
]


@pytest.mark.parametrize("width", [66, 80, 200])
def test_table_breaks_between_words_and_fills_no_more_than_the_terminal(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    columns = ["trained on", "IPC", "accuracy, %", "sets x runs", "difference", "95 % interval"]
    show_table(Table("Test accuracy", columns, ROWS, note="a note"))
    shown = capsys.readouterr().out
    words = " ".join(str(cell) for row in [columns, *ROWS] for cell in row).split()
    assert set(words) <= set(shown.replace("│", " ").replace("┃", " ").split())
    assert max(map(len, shown.splitlines())) <= width


def test_table_of_a_long_name_shows_all_of_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    show_table(Table("Test accuracy", ["trained on", "IPC"], [["a" * 60, 1]]))
    assert capsys.readouterr().out.count("a") > 60


def test_cells_without_a_value_are_a_dash(capsys):
    show_table(Table("Test accuracy", ["trained on", "IPC", "accuracy"], [["distilled", None, float("nan")]]))
    shown = capsys.readouterr().out
    assert shown.count("\N{EN DASH}") == 2
    assert not {"None", "nan"} & set(shown.split())


def test_mounted_folder_is_filled_with_a_pool_and_else_refused_before_any_work(tmp_path, saved_pipeline, monkeypatch):
    images, out = tmp_path / "images", tmp_path / "out"
    write_images(images, {"cat": 8, "dog": 8})
    out.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == out)
    before = content(tmp_path)
    for words in (
        ["subsample", images, out, "--ipc", 2, "--method", "random"],
        ["distill", images, "--output", out],
        ["train", images, "--output", out],
        ["train-classifier", images, "--output", out],
        ["train-probe", out, "--pipeline", saved_pipeline],
        ["push", images, "me/set", "--dry-run", out],
    ):
        told = call(*words)
        assert (told.exit_code, told.stderr.count("\n")) == (2, 1)
        assert told.stderr.startswith(f"error: {out} is where a disk is mounted"), told.stderr
        assert f"such as {out / 'output'}" in told.stderr
    assert content(tmp_path) == before
    assert generate(saved_pipeline, out).exit_code == 0
