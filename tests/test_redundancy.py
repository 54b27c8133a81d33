"""What a set says twice, and what of the real images it leaves out."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_cli import call
from tiny import NAMES, tiny_classifier, write_images

from dag_diffusion import read_pool
from dag_diffusion.data.preparing import inspection
from dag_diffusion.evaluation import RedundancyConfig, measure_redundancy
from dag_diffusion.evaluation.redundancy.coverage import coverage_of
from dag_diffusion.evaluation.redundancy.measuring import read_redundancy
from dag_diffusion.evaluation.redundancy.parts import disjoint_rows
from dag_diffusion.evaluation.redundancy.tables import NONE, class_table, fault_counts, redundancy_table
from dag_diffusion.reporting import ReportedSet, report_folders
from dag_diffusion.reporting.redundancy import fault_table

CLASSES = {name: 6 for name in NAMES.values()}
QUICK = RedundancyConfig(parts=3, network="convnet-1-w8", neighbours=2, device="cpu")  # where none is stacked


def points(least=4):
    numbers = st.integers(-50, 50).map(float)  # whole, so that no rounding decides whether a point lies in a ball
    return st.integers(least, 12).flatmap(lambda n: arrays(float, (n, 2), elements=numbers))


# -- coverage


@given(points(), st.integers(1, 3))
def test_set_of_the_real_images_themselves_covers_all_and_invents_nothing(real, k):
    found = coverage_of(real, real, k)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density >= 1


@given(points(), points(), st.integers(1, 3))
def test_measures_are_those_of_their_definitions(real, images, k):
    def ball(of, among):
        return sorted(np.linalg.norm(among - of, axis=1))[k]  # the first of these distances is that to itself

    def inside(y, of, among):
        return np.linalg.norm(y - of) <= ball(of, among)

    found = coverage_of(real, images, k)
    assert found.precision == pytest.approx(np.mean([any(inside(y, x, real) for x in real) for y in images]))
    assert found.recall == pytest.approx(np.mean([any(inside(x, y, images) for y in images) for x in real]))
    assert found.density == pytest.approx(np.mean([sum(inside(y, x, real) for x in real) for y in images]) / k)
    assert found.coverage == pytest.approx(np.mean([any(inside(y, x, real) for y in images) for x in real]))


@given(points(), points(), st.integers(1, 3), st.floats(0.1, 10), st.integers(-9, 9))
def test_measures_do_not_depend_on_scale_or_origin(real, images, k, scale, shift):
    assert coverage_of(2 * real + shift, 2 * images + shift, k) == coverage_of(real, images, k)


@given(points(), points(), points(least=1), st.integers(1, 3))
def test_more_images_never_cover_less(real, images, more, k):
    before, after = coverage_of(real, images, k), coverage_of(real, np.concatenate([images, more]), k)
    assert after.coverage >= before.coverage


def test_images_far_from_all_real_ones_share_nothing_with_them():
    real = np.random.default_rng(0).normal(size=(20, 3))
    found = coverage_of(real, real + 1000, 5)
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)


def test_collapsed_set_is_precise_and_covers_little():
    real = np.random.default_rng(0).normal(size=(40, 3))
    found = coverage_of(real, np.repeat(real[:1], 10, axis=0), 3)
    assert found.precision == 1
    assert found.recall < 0.1
    assert found.coverage < 0.3


def test_too_few_images_have_no_measure_and_bad_features_are_refused():
    real = np.random.default_rng(0).normal(size=(8, 3))
    few = coverage_of(real, real[:3], 5)
    assert few.recall is None
    assert few.precision == 1
    assert coverage_of(real[:3], real, 5).coverage is None
    with pytest.raises(ValueError, match="by the same network"):
        coverage_of(real, real[:, :2], 5)
    with pytest.raises(ValueError, match="neighbours is 0"):
        coverage_of(real, real, 0)


# -- parts


@given(st.lists(st.integers(0, 3), min_size=8, max_size=60), st.integers(2, 5), st.integers(0, 9))
def test_parts_are_disjoint_and_have_equally_many_of_each_class(labels, parts, seed):
    labels = np.array(labels)
    counts = np.unique(labels, return_counts=True)[1]
    if counts.min() < parts:
        with pytest.raises(ValueError, match=f"too few for {parts} disjoint parts"):
            disjoint_rows(labels, parts, seed)
        return
    found = disjoint_rows(labels, parts, seed)
    assert len(np.unique(np.concatenate(found))) == sum(map(len, found))
    for part in found:
        assert np.unique(labels[part], return_counts=True)[1].tolist() == (counts // parts).tolist()


# -- the command and its record


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A set of distinct images, one of three pictures a class repeated, and real images."""
    root = tmp_path_factory.mktemp("redundancy")
    write_images(root / "distinct", CLASSES)
    rows = write_images(root / "repeated", CLASSES)
    for index, row in enumerate(rows):
        first = rows[index - index % 6]["file_name"]
        (root / "repeated" / row["file_name"]).write_bytes((root / "repeated" / first).read_bytes())
    write_images(root / "real", {name: 9 for name in NAMES.values()})
    return root


@pytest.fixture(scope="module")
def measured(folders):
    sets = [str(folders / "distinct"), str(folders / "repeated"), f"random:{folders / 'real'}"]
    output = folders / "out" / "redundancy.json"
    return measure_redundancy(sets, tiny_classifier(), QUICK, real=folders / "real", output=output), output


def test_repeated_pictures_are_told_by_cross_accuracy_coverage_and_copies(measured):
    distinct, repeated, real = measured[0]
    assert repeated.cross_accuracy > distinct.cross_accuracy
    assert repeated.faults["duplicate"] == 15
    assert distinct.faults["duplicate"] == 0
    assert repeated.coverage["coverage"] < distinct.coverage["coverage"] <= real.coverage["coverage"]
    assert [len(one.accuracies) for one in measured[0]] == [3, 3, 3]
    assert real.images_per_class == 6
    assert list(distinct.classes) == list(NAMES.values())


def test_record_is_read_as_it_was_measured_and_the_same_call_trains_nothing_again(measured, folders, monkeypatch):
    found, output = measured
    assert read_redundancy(output)[0] == found
    monkeypatch.setattr("dag_diffusion.evaluation.trials.train", None)
    sets = [str(folders / "distinct"), str(folders / "repeated"), f"random:{folders / 'real'}"]
    assert measure_redundancy(sets, tiny_classifier(), QUICK, real=folders / "real", output=output) == found
    with pytest.raises(TypeError):  # other parts are other trainings
        measure_redundancy(sets, tiny_classifier(), replace(QUICK, seed=1), real=folders / "real", output=output)


def test_report_shows_record_and_faults(measured, folders, tmp_path):
    pool = folders / "scored"
    write_images(pool, CLASSES, difficulty=lambda name, index: 0.1 * index)
    page = report_folders([pool], tmp_path / "report.html", redundancy=[measured[1]]).read_text()
    assert "cross accuracy" in page
    assert "Coverage by class" in page
    assert 'href="#faults"' not in page
    (tmp_path / "other.json").write_text('{"format": "dag-diffusion evaluation 1"}')
    with pytest.raises(ValueError, match="no record of redundancy"):
        report_folders([pool], tmp_path / "report.html", redundancy=[tmp_path / "other.json"])
    (pool / "Bag" / "00000.png").write_bytes((pool / "Bag" / "00001.png").read_bytes())
    (table,) = fault_table([ReportedSet("scored", read_pool(pool))])
    assert table.rows == [["scored", 18, 0, 1, None, None, 0, 0]]
    assert "Bag/00001.png = Bag/00000.png" in table.note
    assert 'href="#faults"' in report_folders([pool], tmp_path / "report.html").read_text()


def test_missing_measures_are_told_before_and_explained_in_tables_and_figure(tmp_path, saved_pipeline, caplog):
    few, real = tmp_path / "few", tmp_path / "real"
    counts = {name: 2 + index for index, name in enumerate(NAMES.values())}  # 2, 3 and 4 a class
    write_images(few, counts, difficulty=lambda name, index: 0.1 * index)
    write_images(real, {name: 9 for name in NAMES.values()}, size=20)
    options = ["--classifier", saved_pipeline / "classifier", "--parts", "2", "--network", "convnet-1-w8", "--quiet"]
    shown = call("redundancy", few, "--real", real, *options, "--neighbours", 3, "--output", tmp_path / "r.json")
    assert shown.exit_code == 0, shown.stderr
    said = "no recall of few in 2 of 3 classes (T-shirt, Ankle boot, boot): its images are 3 or fewer, too few for 3"
    assert said in " ".join(shown.stdout.split())
    assert caplog.messages == [
        "class 'T-shirt' of few has 2 images, too few for 3 neighbours, so that its recall is not measured there; "
        "use neighbours=1"
    ]
    page = report_folders([few], tmp_path / "report.html", redundancy=[tmp_path / "r.json"]).read_text()
    assert page.count(said) == 2  # below the figure and below the table


def test_set_that_is_compared_with_its_own_images_is_told(folders, caplog):
    sets = [str(folders / "distinct"), f"random:{folders / 'real'}"]
    measure_redundancy(sets, tiny_classifier(), replace(QUICK, parts=2), real=folders / "distinct")
    assert "18 of the 18 images of distinct are among the real images" in caplog.text
    found = measure_redundancy(sets[:1], tiny_classifier(), replace(QUICK, neighbours=6), real=folders / "distinct")
    assert "too few for 6 neighbours, so that precision, density and coverage are not measured" in caplog.text
    assert redundancy_table(found, {"neighbours": 6}).rows[0][3:] == [NONE] * 4
    assert "no precision, density or coverage in any class" in redundancy_table(found, {"neighbours": 6}).note
    assert NONE in class_table(found).note


def test_classes_that_are_called_otherwise_are_found_by_a_class_map(folders, tmp_path, saved_pipeline):
    renamed = {"T-shirt": "Hemd", "Ankle boot, boot": "Stiefel", "Bag": "Tasche"}
    for folder in (folders / "distinct").iterdir():
        if folder.is_dir():
            shutil.copytree(folder, tmp_path / "set" / next(new for old, new in renamed.items() if folder.name in old))
    (tmp_path / "map.json").write_text(json.dumps({new: old for old, new in renamed.items()}))
    options = ["--real", folders / "real", "--classifier", saved_pipeline / "classifier", "--parts", "2", "--quiet"]
    options += ["--network", "convnet-1-w8", "--neighbours", "2"]
    assert "no class called 'Hemd'" in call("redundancy", tmp_path / "set", *options).stderr
    mapped = [*options, "--class-map", tmp_path / "map.json", "--output", tmp_path / "r.json"]
    shown = call("redundancy", tmp_path / "set", *mapped)
    assert shown.exit_code == 0, shown.stderr
    called = call("redundancy", folders / "distinct", *options, "--output", tmp_path / "s.json")
    assert called.exit_code == 0, called.stderr
    coverages = [json.loads((tmp_path / name).read_text())["sets"][0]["classes"] for name in ("r.json", "s.json")]
    assert coverages[0] == coverages[1]


def test_images_to_draw_from_may_be_called_as_the_real_ones_and_have_more_classes(folders, tmp_path):
    called = {"Hemd": "T-shirt", "Tasche": "Bag"}
    for new, old in called.items():
        shutil.copytree(folders / "distinct" / old, tmp_path / "few" / new)
    config, sets = replace(QUICK, parts=2), [str(tmp_path / "few"), f"random:{folders / 'real'}"]
    found = measure_redundancy(sets, tiny_classifier(), config, real=folders / "real", class_map=called)
    assert [set(one.classes) for one in found] == [{"T-shirt", "Bag"}] * 2


def test_means_over_fewer_classes_than_other_sets_have_are_told(folders, tmp_path):
    shutil.copytree(folders / "distinct" / "Bag", tmp_path / "bags" / "Bag")
    shutil.copytree(folders / "distinct" / "T-shirt", tmp_path / "bags" / "T-shirt")
    sets = [str(folders / "distinct"), str(tmp_path / "bags")]
    found = measure_redundancy(sets, tiny_classifier(), replace(QUICK, parts=2), real=folders / "real")
    assert "means of bags are of 2 classes, where others have more" in redundancy_table(found, {"neighbours": 2}).note


def test_sets_of_some_classes_are_compared_with_these_alone(folders, tmp_path, caplog):
    for name in ("Bag", "T-shirt"):
        for kind in ("distinct", "real"):
            shutil.copytree(folders / kind / name, tmp_path / kind / name)
    few, config = str(tmp_path / "distinct"), replace(QUICK, parts=2)
    found = measure_redundancy([few, f"random:{folders / 'real'}"], tiny_classifier(), config, real=folders / "real")
    assert caplog.text.count("2 of the 3 classes in") == 2
    (alone,) = measure_redundancy([few], tiny_classifier(), config, real=tmp_path / "real")
    assert [one.classes.keys() for one in found] == [{"Bag", "T-shirt"}] * 2
    assert (found[0].cross_accuracy, found[0].classes) == (alone.cross_accuracy, alone.classes)


def test_classifier_of_other_classes_is_told_with_how_to_train_one(folders, tmp_path, caplog):
    other = tiny_classifier({0: "cat", 1: "dog"})
    sets = [str(folders / "distinct")]
    found = measure_redundancy(sets, other, replace(QUICK, parts=2), classifier_name="x/y", real=folders / "real")
    (told,) = (message for message in caplog.messages if "has other classes" in message)
    assert "the classifier, x/y, has other classes than distinct" in told
    assert "train one of these classes by train_classifier()" in told
    assert "where the classifier has other classes" in fault_counts(found).note


def test_command_shows_both_tables(folders, tmp_path, saved_pipeline):
    options = ["--real", folders / "real", "--classifier", saved_pipeline / "classifier", "--parts", "2"]
    options += ["--network", "convnet-1-w8", "--neighbours", "2", "--quiet"]
    shown = call("redundancy", folders / "distinct", *options, "--output", tmp_path / "r.json")
    assert shown.exit_code == 0, shown.stderr
    assert "Redundancy and coverage" in shown.stdout
    assert "Coverage by class" in shown.stdout
    assert json.loads((tmp_path / "r.json").read_text())["sets"][0]["parts"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--parts", "7"], "too few for 7 disjoint parts; use --parts 6"),
        (["--parts", "7"], "class 'T-shirt' of distinct has 6 images"),
        (["--parts", "1"], "parts is 1"),
        (["--ipc", "5"], "there are none"),
        (["--output", "table.csv"], ".json file"),
        (["--output", "folder.json"], "folder.json is a folder"),
        (["--output", "file/r.json"], "file is a file and no folder"),
        (["--network", "convnet-999x"], "convnet-999x"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_looked_at(
    folders, tmp_path, saved_pipeline, monkeypatch, arguments, said
):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dag_diffusion.evaluation.redundancy.measuring.score_pool", None)
    options = ["--real", folders / "real", "--classifier", saved_pipeline / "classifier", "--quiet"]
    told = call("redundancy", folders / "distinct", *options, *arguments)
    assert told.exit_code == 2
    assert said in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1


def test_unreadable_images_are_left_out_of_real_ones_if_asked(folders, tmp_path, saved_pipeline, caplog):
    real = shutil.copytree(folders / "real", tmp_path / "real")
    (real / "Bag" / "00004.png").write_bytes(b"cut off")
    options = ["--classifier", saved_pipeline / "classifier", "--parts", "2", "--neighbours", "2", "--quiet"]
    options += ["--network", "convnet-1-w8", "--real", real, "--output", tmp_path / "r.json"]
    told = call("redundancy", folders / "distinct", *options)
    assert told.exit_code == 2
    assert "00004.png is not a readable image" in told.stderr
    assert told.stderr.endswith("or leave it out by --skip-unreadable\n")
    measured = call("redundancy", folders / "distinct", f"random:{real}", *options, "--skip-unreadable", "--ipc", 6)
    assert measured.exit_code == 0, measured.stderr
    assert "00004.png" in caplog.text
    assert [one["images_per_class"] for one in json.loads((tmp_path / "r.json").read_text())["sets"]] == [6, 6]


def test_report_that_one_of_several_processes_writes_asks_nothing_of_the_others(folders, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("the others do not write the report, and would never answer")

    monkeypatch.setattr("dag_diffusion.data.preparing.inspection.gather", refuse)
    monkeypatch.setattr("dag_diffusion.generation.repairing.faults.gather", refuse)
    monkeypatch.setattr("dag_diffusion.generation.repairing.faults.fail_together", refuse)
    (table,) = fault_table([ReportedSet("repeated", read_pool(folders / "repeated"))])
    assert table.rows[0][3] == 15


def test_images_of_pool_and_sets_are_decoded_once_for_a_report(folders, tmp_path, monkeypatch):
    chosen = shutil.copytree(folders / "distinct", tmp_path / "chosen")
    looked, look = [], inspection._look
    monkeypatch.setattr(
        inspection, "_look", lambda pool, index, *data: looked.append(index) or look(pool, index, *data)
    )
    sets = [ReportedSet("pool", read_pool(folders / "distinct")), ReportedSet("set", read_pool(chosen))]
    assert fault_table(sets) == []
    assert sorted(looked) == list(range(len(sets[0].pool)))
    (chosen / sets[1].pool.rows[0]["file_name"]).write_bytes(b"cut off")
    assert fault_table(sets) == []  # what cannot be read has no pixels to be wrong
