"""A report of folders on disk: what lies there is found, and the page says how to make it again."""

import json
import re
import shlex
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tiny import write_images

from dag_diffusion import PoolConfig, SelectionRule, TargetDistribution, read_pool, subsample, write_distilled_set
from dag_diffusion.data.files import json_lines
from dag_diffusion.evaluation.results import Result
from dag_diffusion.reporting.report import report_folders
from dag_diffusion.reporting.reproduction import commands_for, program_of
from dag_diffusion.sampling.target_parser import as_target

SETTINGS = PoolConfig(images_per_class=4, seed=3, target=TargetDistribution.preset("hill")).settings()
RECORD = {"format": "dag-diffusion pool 1", "pipeline": "embedded default", "guide": "classifier of embedded default"}


@pytest.fixture
def pool(tmp_path):
    write_images(tmp_path / "a pool", {"A": 4, "B": 4}, difficulty=lambda name, index: index / 8)
    (tmp_path / "a pool" / "pool.json").write_text(json.dumps({**RECORD, "settings": SETTINGS}))
    return tmp_path / "a pool"


@pytest.fixture
def distilled(pool, tmp_path):
    images = read_pool(pool)
    chosen = subsample(images, 2, target="cliff", method="histogram", seed=5)
    options = {"columns": chosen.columns, "provenance": {"selection": chosen.record}}
    write_distilled_set(images, chosen.indices.tolist(), tmp_path / "distilled", **options)
    return tmp_path / "distilled"


def options_of(command):
    return dict(pairwise(shlex.split(command)))


def test_commands_name_the_places_and_what_differs_from_the_defaults(pool, distilled):
    commands = commands_for([(pool, read_pool(pool)), (distilled, read_pool(distilled))])
    generate, choose = commands  # the pool of the set is not made twice
    assert shlex.split(generate)[:3] == ["dag-diffusion", "generate", str(pool)]
    assert options_of(generate)["--images-per-class"] == "4"
    assert options_of(generate)["--target"] == "hill"
    assert options_of(generate)["--seed"] == "3"
    assert shlex.split(choose)[:4] == ["dag-diffusion", "subsample", str(pool), str(distilled)]
    assert options_of(choose)["--ipc"] == "2"
    assert options_of(choose)["--method"] == "histogram"
    assert options_of(choose)["--target"] == "cliff"
    assert options_of(choose)["--seed"] == "5"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "Drawn to no modes, steered to the target d*, hill."),
        ({"target": None, "guidance_scale": 4.0}, "not steered to a difficulty; classifier-free guidance 4."),
        ({"target": {"name": "r", "text": "x", "reference": {}}}, "target d*, the difficulties of real images."),
        ({"modes": {"modes": 8, "classes": ["A", "B"]}}, "Drawn to 8 modes of real images, steered to"),
        ({"noise_candidates": 4, "group_size": 2}, "made in groups of 2, noise chosen among 4 candidates."),
    ],
)
def test_report_says_how_a_pool_was_drawn(pool, tmp_path, changed, said):
    (pool / "pool.json").write_text(json.dumps({**RECORD, "settings": SETTINGS | changed}))
    assert said in report_folders([pool], tmp_path / "report.html", reference=pool).read_text()


def test_report_says_how_a_set_was_chosen_and_by_which_measure(pool, distilled, tmp_path):
    page = report_folders([distilled], tmp_path / "report.html", reference=pool).read_text()
    assert "as many at random from each of ten bins of difficulty as the target asks, target: cliff." in page
    assert "Difficulty d = 1 - p(class | image) by the classifier" in page
    rows = [row | {"difficulty_by": "rival_margin by timm/resnet50"} for row in read_pool(pool).rows]
    (pool / "metadata.jsonl").write_bytes(json_lines(rows))
    page = report_folders([pool], tmp_path / "report.html", reference=pool).read_text()
    assert "Difficulty d = rival_margin by the classifier" in page
    rows = [row | {"difficulty_by": "three of us"} for row in read_pool(pool).rows]
    (pool / "metadata.jsonl").write_bytes(json_lines(rows))
    page = report_folders([pool], tmp_path / "report.html", reference=pool).read_text()
    assert "Difficulty d, as it is recorded, from 0 (easy) to 1 (hard)." in page


def test_target_that_no_text_names_is_told_in_a_comment(pool):
    target = TargetDistribution.from_reference({"": [0.5]}, name="my\nphotographs")
    settings = PoolConfig(target=target).settings()
    (pool / "pool.json").write_text(json.dumps({**RECORD, "settings": settings}))
    comment, command = commands_for([(pool, read_pool(pool))])
    assert comment == "# TARGET: my photographs"
    assert "--target TARGET" in command


def test_scores_of_a_classifier_are_made_again_too(pool):
    images = read_pool(pool)
    for row in images.rows:
        row["difficulty_by"] = "rival_margin by timm/resnet50"
    assert commands_for([(pool, images)])[1:] == [
        shlex.join(["dag-diffusion", "score", str(pool), "--measure", "rival_margin", "--classifier", "timm/resnet50"])
    ]


@pytest.mark.parametrize(
    "record", [{}, {"settings": {"images_per_class": 1, "labels": 3}}, {"selection": {"method": []}}]
)
def test_record_that_somebody_else_wrote_breaks_no_report(pool, record, tmp_path):
    (pool / "pool.json").write_text(json.dumps(record))
    assert "<h1>" in report_folders([pool], tmp_path / "report.html", reference=pool).read_text()


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        ("/venv/bin/dag-diffusion evaluate a", "dag-diffusion evaluate a"),
        ("/src/dag_diffusion/__main__.py report", "dag-diffusion report"),
        ("'/My Projects/bin/dag-diffusion' score 'my pool'", "dag-diffusion score 'my pool'"),
        ("'/My Projects/study.py' a", "'/My Projects/study.py' a"),
        ("a 'torn command", "a 'torn command"),
        ("dag-diffusion evaluate a", "dag-diffusion evaluate a"),
        ("benchmarks/downstream.py study", "benchmarks/downstream.py study"),
    ],
)
def test_recorded_commands_begin_with_the_name_of_their_program(recorded, shown):
    assert program_of(recorded) == shown


def test_pools_sets_and_results_are_found(pool, distilled, tmp_path):
    results = tmp_path / "results.json"
    trained = Result(
        set="distilled",
        network="convnet-3",
        protocol="quick",
        seed=0,
        images_per_class=2.0,
        accuracy=0.625,
        seconds=1.0,
    )
    results.write_text(json.dumps({"results": [asdict(trained)], "command": "dag-diffusion evaluate distilled"}))
    page = report_folders([pool, distilled], tmp_path / "report.html", reference=pool, results=[results]).read_text()
    assert "1 pool with 8 images, 1 distilled set with 4 images" in page
    assert "62.5" in page
    assert "dag-diffusion evaluate distilled" in page
    assert "Quotas, distilled" in page
    assert "the line repeats the target of distilled" in page


def test_target_may_be_named(pool, tmp_path):
    page = report_folders([pool], tmp_path / "report.html", reference=pool, target="0.25").read_text()
    assert "<title>target: median 0.25</title>" in page
    assert ">median 0.25<" in page  # of all classes
    assert "a pool: n = 4, median " in page


@pytest.fixture
def real(tmp_path, monkeypatch):
    """Scored images of two classes that the embedded reference has too, harder than its own."""
    monkeypatch.chdir(tmp_path)
    for folder, easiest in (("real", 0.58), ("others", 0.3)):
        write_images(tmp_path / folder, {"Bag": 5, "Coat": 5}, difficulty=lambda name, i, d=easiest: d + i / 100)
    write_images(tmp_path / "pool", {"Bag": 9, "Coat": 9}, difficulty=lambda name, index: index / 10)
    return tmp_path / "real"


def report_of_set(target, **options):
    """A report of a set that was chosen from ``pool`` by a target."""
    subsample("pool", 3, target=target).save("set", overwrite=True)
    return report_folders([Path("set")], Path("report.html"), **options).read_text()


@pytest.mark.parametrize("target", ["real", "auto:real", "0.5*real + 0.5*hill", "targets.json"])
def test_the_real_images_that_a_set_followed_are_shown(target, real):
    Path("targets.json").write_text(json.dumps({"Bag": "real", "Coat": "0.7*real + 0.3*0.5"}))
    page = report_of_set(target)
    assert shown_medians(page, "reference") == [0.6, 0.6]


def test_the_embedded_images_are_shown_where_a_set_followed_them_or_none(real):
    pages = [report_of_set("reference"), report_of_set("hill")]
    assert all("n = 60,000" not in page and max(shown_medians(page, "reference")) < 0.1 for page in pages)


@pytest.mark.parametrize("there", ["others", None])
def test_no_other_real_images_stand_for_those_that_a_set_followed(there, real, caplog):
    subsample("pool", 3, target="real").save("set")
    real.rename("moved")
    if there:
        Path(there).rename("real")
    page = report_folders([Path("set")], Path("report.html")).read_text()
    assert "No reference of real images was given." in page
    assert "set followed real images, real, which are not found as it recorded them" in caplog.text


def test_pool_is_shown_with_the_real_images_that_steered_it(real):
    settings = PoolConfig(images_per_class=9, target=as_target("real", {0: "Bag", 1: "Coat"})).settings()
    Path("pool/pool.json").write_text(json.dumps({**RECORD, "settings": settings}))
    page = report_folders([Path("pool")], Path("report.html")).read_text()
    assert shown_medians(page, "reference") == [0.6, 0.6]


@pytest.mark.parametrize("options", [{"reference": Path("real")}, {"target": "real"}, {}])
def test_difficulties_by_several_classifiers_are_warned_of(options, real, caplog):
    for folder, by in (("real", "A"), ("pool", "B")):
        rows = [row | {"difficulty_by": f"error_probability by {by}"} for row in read_pool(folder).rows]
        Path(folder, "metadata.jsonl").write_bytes(json_lines(rows))
    subsample("pool", 3, target="hill" if options else "real").save("set")
    caplog.clear()
    report_folders([Path("set")], Path("report.html"), **options)
    assert "those of the reference real are error_probability by A: other scales" in caplog.text


def shown_medians(page, series="target"):
    """In each class."""
    return [float(median) for median in re.findall(rf"{series}: [^<]*median ([\d.e-]+)", page)]


@pytest.mark.parametrize(
    ("rule", "recorded", "named"),
    [
        ({"method": "random"}, "hill", None),
        ({"method": "random"}, "1,2,3,4,5,4,3,2,1,0", None),
        ({"method": "easiest"}, None, "hill"),
        ({"method": "easiest"}, "uniform", "hill"),
        ({"method": "random", "scale": "raw"}, "hill", None),
        ({"method": "matching", "scale": "raw"}, "hill", None),
        ({"method": "hardest", "scale": "raw"}, None, "hill"),
    ],
)
def test_shape_is_drawn_on_the_scale_of_the_pool_whatever_the_rule(rule, recorded, named, tmp_path):
    write_images(tmp_path / "pool", {"A": 40, "B": 40}, difficulty=lambda name, index: 10 ** (-index / 10))
    rule = SelectionRule(**rule)
    matched = subsample(tmp_path / "pool", 5, target=named or recorded, method=replace(rule, method="matching"))
    expected = matched.classes[0].scale
    subsample(tmp_path / "pool", 5, target=recorded, method=rule).save(tmp_path / "set")
    page = report_folders([tmp_path / "pool", tmp_path / "set"], tmp_path / "report.html", target=named).read_text()
    wanted = np.median(as_target(named or recorded).values("A", expected, 5))
    assert shown_medians(page) == pytest.approx([wanted] * 2, rel=0.05)


def test_classes_without_an_embedded_reference_need_none(pool, tmp_path):
    assert "No reference of real images was given." in report_folders([pool], tmp_path / "report.html").read_text()


def test_reference_that_was_given_must_fit(pool, tmp_path):
    write_images(tmp_path / "other", {"C": 1}, difficulty=lambda name, index: 0.5)
    with pytest.raises(ValueError, match="reference"):
        report_folders([pool], tmp_path / "report.html", reference=tmp_path / "other")


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path):
    for parent in "ab":
        write_images(tmp_path / parent / "pool", {"A": 1}, difficulty=lambda name, index: 0.5)
    paths = [tmp_path / parent / "pool" for parent in "ab"]
    assert str(paths[1]) in report_folders(paths, tmp_path / "report.html").read_text()


def test_folder_given_twice_is_refused(pool, tmp_path):
    with pytest.raises(ValueError, match="given twice"):
        report_folders([pool, Path(pool)], tmp_path / "report.html")
