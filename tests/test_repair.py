"""Images that are empty, copies or of another class are found, named, and drawn again in their places."""

import json
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pools_on_disk import content
from test_cli import call
from tiny import tiny_classifier, tiny_pipeline, write_images
from warm import Command

from dag_diffusion import PoolConfig, fill_pool, read_pool, score_and_record, score_pool
from dag_diffusion.evaluation.soft_labels import teacher_logits
from dag_diffusion.generation import Repair, find_faults, pool_status, record_faults
from dag_diffusion.generation.drawing.by_labels import LabelDrawer
from dag_diffusion.generation.plan import plan, seed_after
from dag_diffusion.generation.repairing.repair import FAULTS
from dag_diffusion.guidance.diversity_guidance import DiversityGuidance

SMALL = PoolConfig(images_per_class=4, num_inference_steps=2, guidance_scale=1.0)
EMPTY = Repair(faults=["empty"])


@dataclass(frozen=True)
class Blackening(LabelDrawer):
    """Loses one of so many images, by their seeds, as an overflow does."""

    one_of: int = 3

    def draw(self, config, jobs):
        drawn = super().draw(config, jobs)
        return [
            (job, image if job.seed % self.one_of else Image.new(image.mode, image.size), found)
            for job, image, found in drawn
        ]


@pytest.fixture
def drawer(pipeline):
    return Blackening(pipeline)


def filled(drawer, folder, repair=None, **options):
    return fill_pool(drawer, folder, SMALL, batch_size=3, repair=repair, **options)


# -- what is found


@pytest.fixture
def faulty(tmp_path):
    """Six images of two classes, all but the first two of which have a fault."""
    rows = write_images(tmp_path / "pool", {"Bag": 5, "T-shirt": 3}, size=16)
    files = [tmp_path / "pool" / row["file_name"] for row in rows]
    first = np.asarray(Image.open(files[0]))
    Image.new("L", (16, 16)).save(files[1])
    Image.fromarray(np.full((16, 16), 90, np.uint8) + np.eye(16, dtype=np.uint8)).save(files[2])  # rounding
    Image.open(files[0]).convert("P").save(files[3])
    Image.fromarray(np.clip(first.astype(int) + 1, 0, 255).astype(np.uint8)).save(files[4])
    Image.open(files[5]).save(files[6])
    return read_pool(tmp_path / "pool")


def test_empty_images_and_copies_are_named_with_what_they_are_like(faulty):
    found = find_faults(faulty)
    assert found.kinds == {
        "Bag/00001.png": "empty",
        "Bag/00002.png": "empty",
        "Bag/00003.png": "duplicate",
        "T-shirt/00001.png": "duplicate",
    }
    assert found.twins == {"Bag/00003.png": "Bag/00000.png", "T-shirt/00001.png": "T-shirt/00000.png"}
    assert found.looked_for == ("empty", "duplicate")


def test_near_copies_are_found_by_features(faulty):
    guide = tiny_classifier({0: "Bag", 1: "T-shirt"})
    found = find_faults(faulty, guide, kinds=["near"])
    assert found.twins["Bag/00004.png"] in ("Bag/00000.png", "Bag/00003.png")
    assert "Bag/00004.png" not in find_faults(faulty, guide, kinds=["near"], nearness=0).kinds


def test_images_that_the_classifier_takes_for_others_are_wrong_unless_they_were_asked_to_be(faulty):
    guide = tiny_classifier({0: "Bag", 1: "T-shirt"})
    flipped = score_pool(faulty, guide, measure="rival_margin").difficulties > 0.5
    names = [row["file_name"] for row, wrong in zip(faulty.rows, flipped, strict=True) if wrong]
    assert 0 < len(names) < len(faulty)
    assert find_faults(faulty, guide, kinds=["wrong"]).of("wrong") == names
    asked = replace(faulty, rows=[{**row, "target_difficulty": 0.7} for row in faulty.rows])
    assert not find_faults(asked, guide, kinds=["wrong"]).kinds
    easy = replace(faulty, rows=[{**row, "target_difficulty": 0.2} for row in faulty.rows])
    assert find_faults(easy, guide, kinds=["wrong"]).of("wrong") == names


def test_picture_of_two_classes_is_right_in_neither(tmp_path):
    rows = write_images(tmp_path / "pool", {"Bag": 2, "T-shirt": 2})
    Image.open(tmp_path / "pool" / rows[0]["file_name"]).save(tmp_path / "pool" / rows[3]["file_name"])
    assert find_faults(read_pool(tmp_path / "pool")).of("duplicate") == ["Bag/00000.png", "T-shirt/00001.png"]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(1, 3))
def test_what_is_left_without_the_faulty_images_has_no_fault(tmp_path_factory, pictures, classes):
    folder = tmp_path_factory.mktemp("pool")
    rows = write_images(folder, {str(label): -(-len(pictures) // classes) for label in range(classes)}, size=4)
    for row, picture in zip(rows, pictures, strict=False):
        pixels = np.zeros((4, 4), np.uint8) if picture == 0 else np.arange(16, dtype=np.uint8).reshape(4, 4) * picture
        Image.fromarray(pixels).save(folder / row["file_name"])
    pool = read_pool(folder)
    found = find_faults(pool)
    assert set(found.twins) == set(found.of("duplicate"))
    kept = [index for index, row in enumerate(pool.rows) if row["file_name"] not in found.kinds]
    assert not kept or not find_faults(pool.select(kept)).kinds


def test_unknown_faults_and_those_that_take_a_classifier_are_refused(faulty):
    with pytest.raises(ValueError, match="there is no fault 'blurred'"):
        find_faults(faulty, kinds=["blurred"])
    with pytest.raises(ValueError, match="only a classifier finds images that are 'near'"):
        find_faults(faulty, kinds=["near"])
    for wrong in ({"faults": []}, {"faults": ["blurred"]}, {"most_redraws": 0}, {"nearness": 2}):
        with pytest.raises(ValueError, match=r"no fault|most_redraws is 0|nearness is 2"):
            Repair(**wrong)


# -- what is drawn again


def test_empty_images_are_drawn_again_in_their_places(drawer, tmp_path):
    before, after = filled(drawer, tmp_path / "as drawn"), filled(drawer, tmp_path / "repaired", EMPTY)
    empty = find_faults(before).of("empty")
    assert 0 < len(empty) < len(before)
    assert not find_faults(after, kinds=["empty"]).kinds
    first = {job.file_name: job.seed for job in plan(SMALL, drawer.class_names)}
    for i, (old, new) in enumerate(zip(before.rows, after.rows, strict=True)):
        assert (new["file_name"], new["label"]) == (old["file_name"], old["label"])
        assert new["seed"] == seed_after(first[new["file_name"]], new.get("redrawn", 0))
        assert (new["file_name"] in empty) == ("redrawn" in new)
        assert (new["file_name"] in empty) or before.open(i).tobytes() == after.open(i).tobytes()
    assert after.provenance["redrawn"] == len(empty)
    assert after.provenance["faults"] == {"empty": 0, "classifier": None}
    assert after.provenance["repair"]["given_up"] == 0


@pytest.mark.parametrize("fault", ["wrong", "near"])
def test_some_classes_of_a_pipeline_without_names_are_repaired_by_its_guide(fault, tmp_path):
    pipeline, config = tiny_pipeline(id2label=None), replace(SMALL, labels=[0, 2])
    pool = fill_pool(pipeline, tmp_path / "pool", config, repair=Repair(faults=[fault], most_redraws=2))
    assert {row["class_name"] for row in pool.rows} == {"LABEL_0", "LABEL_2"}
    guide_says = score_pool(pool, tiny_classifier(), class_map={"LABEL_0": 0, "LABEL_2": 2}).correct
    given_up = {row["file_name"] for row in pool.rows if "fault" in row}
    wrong = {row["file_name"] for row, right in zip(pool.rows, guide_says, strict=True) if not right}
    assert given_up == wrong or fault == "near"


def test_pool_that_is_finished_is_repaired_as_one_that_is_being_filled(drawer, tmp_path):
    expected = content(filled(drawer, tmp_path / "at once", EMPTY).path)
    filled(drawer, tmp_path / "later")
    assert content(filled(drawer, tmp_path / "later", EMPTY, resume=True).path) == expected
    assert content(filled(drawer, tmp_path / "later", EMPTY, resume=True).path) == expected
    assert content(filled(drawer, tmp_path / "later", resume=True).path) == expected


class StoppedHere(BaseException):
    pass


def test_repair_that_was_stopped_anywhere_goes_on_to_the_same_pool(drawer, tmp_path):
    calls: list[str] = []
    expected = content(filled(drawer, tmp_path / "whole", EMPTY, progress=lambda *a: calls.append(a[0])).path)
    stops = [i for i, stage in enumerate(calls) if stage.startswith("drawn again")]
    for number, again in zip(stops[::2], cycle([EMPTY, None])):
        left = iter(range(number))

        def stop(*_, left=left):
            if next(left, None) is None:
                raise StoppedHere

        folder = tmp_path / str(number)
        with pytest.raises(StoppedHere):
            filled(drawer, folder, EMPTY, progress=stop)
        filled(drawer, folder, again, resume=True)  # a round that was begun is finished in any case
        assert content(filled(drawer, folder, EMPTY, resume=True).path) == expected


def test_image_that_no_seed_mends_is_given_up_and_named(pipeline, tmp_path):
    pool = filled(Blackening(pipeline, one_of=1), tmp_path / "pool", Repair(faults=["empty"], most_redraws=2))
    assert {(row["redrawn"], row["fault"]) for row in pool.rows} == {(2, "empty")}
    assert pool.provenance["repair"]["given_up"] == pool.provenance["faults"]["empty"] == len(pool)
    mended = filled(LabelDrawer(pipeline), tmp_path / "pool", Repair(faults=["empty"], most_redraws=3), resume=True)
    assert {(row["redrawn"], row.get("fault")) for row in mended.rows} == {(3, None)}


def undecided(pipeline, folder):
    """Let the guide of a pipeline find each of its images now this, now that, and not always the same class."""
    pool = filled(pipeline, folder)
    with torch.no_grad():
        pipeline.classifier.classifier[-1].bias -= teacher_logits(pipeline.classifier, pool).mean(0)
    return pool


def test_images_of_another_class_are_drawn_until_the_guide_agrees(pipeline, tmp_path):
    before = undecided(pipeline, tmp_path / "as drawn")
    pool = filled(pipeline, tmp_path / "pool", Repair(faults=["wrong"], most_redraws=3))
    were, are = (
        score_pool(one, pipeline.classifier, measure="rival_margin").difficulties > 0.5 for one in (before, pool)
    )
    assert are.sum() < were.sum()
    assert [bool(row.get("redrawn")) for row in pool.rows] == were.tolist()
    assert [row.get("fault") == "wrong" for row in pool.rows] == are.tolist()
    assert all(row["redrawn"] == 3 for row in pool.rows if "fault" in row)
    pipeline.register_modules(classifier=None)
    with pytest.raises(ValueError, match="only a guide finds images that are 'wrong'"):
        filled(pipeline, tmp_path / "other", Repair(faults=["wrong"]))
    assert not (tmp_path / "other").exists()


def test_images_that_depend_on_their_group_are_not_repaired(pipeline, tmp_path):
    config = replace(SMALL, diversity=DiversityGuidance(scale=1.0))
    with pytest.raises(ValueError, match="each depends on its group"):
        fill_pool(pipeline, tmp_path / "pool", config, repair=EMPTY)


def test_repaired_image_that_is_lost_comes_back_as_it_was(drawer, tmp_path):
    pool = filled(drawer, tmp_path / "pool", EMPTY)
    (index, *_) = (i for i, row in enumerate(pool.rows) if row.get("redrawn"))
    (pool.path / pool.rows[index]["file_name"]).unlink()
    again = filled(drawer, tmp_path / "pool", resume=True)
    assert again.rows[index]["seed"] == pool.rows[index]["seed"]
    assert not find_faults(again, kinds=["empty"]).kinds


def test_difficulties_of_a_scored_pool_are_not_mixed_with_those_of_the_guide(drawer, tmp_path):
    pool = filled(drawer, tmp_path / "pool")
    score_and_record(pool, {"other": tiny_classifier()})
    repaired = filled(drawer, tmp_path / "pool", EMPTY, resume=True)
    for row in repaired.rows:
        assert (row["difficulty"] is None) == bool(row.get("redrawn"))
    score_and_record(repaired, {"other": tiny_classifier()})
    assert {row["difficulty_by"] for row in read_pool(pool.path).rows} == {"error_probability by other"}


@pytest.mark.slow
def test_any_number_of_processes_repairs_to_the_same_pool(tmp_path, saved_pipeline):
    options = ["--pipeline", saved_pipeline, "--images-per-class", "3", "--num-inference-steps", "1"]
    options += ["--batch-size", "2", "--quiet", "--repair", "all", "--most-redraws", "1"]
    runs = [
        Command("generate", tmp_path / "one", *options),
        Command("generate", tmp_path / "two", *options, "--num-processes", "2"),
    ]
    for run in runs:
        shown, told = run.communicate()
        assert run.returncode == 0, told
        assert "were drawn again" in shown
    assert content(tmp_path / "one") == content(tmp_path / "two")


# -- what is told


def test_status_names_empty_images_and_says_how_to_draw_them_again(drawer, tmp_path):
    pool = filled(drawer, tmp_path / "pool")
    empty = pool_status(pool.path, verify=True).faults.of("empty")
    told = call("status", pool.path, "--verify")
    assert told.exit_code == 2
    assert empty[0] in told.stdout
    assert "--resume --repair empty" in told.stderr
    filled(drawer, tmp_path / "pool", EMPTY, resume=True)
    assert call("status", pool.path, "--verify").exit_code == 0


def test_what_is_found_is_kept_for_report_and_card(pipeline, tmp_path):
    pool = filled(pipeline, tmp_path / "pool")
    found = pool_status(pool.path, verify=True, classifier=pipeline.classifier, name="tiny").faults
    record_faults(pool.path, found)
    again = read_pool(pool.path)
    assert again.rows == pool.rows
    assert again.provenance["faults"] == {kind: len(found.of(kind)) for kind in FAULTS} | {"classifier": "tiny"}
    assert filled(pipeline, tmp_path / "pool", resume=True).provenance["faults"] == again.provenance["faults"]


def test_a_set_can_be_verified_too(faulty):
    (faulty.path / "pool.json").write_text(json.dumps({"maker": "another program"}))
    (faulty.path / "Bag" / "00000.png").write_bytes(b"no image")
    found = pool_status(faulty.path, verify=True)
    assert (found.done, found.damaged) == (8, ["Bag/00000.png"])
    assert found.faults.of("empty") == ["Bag/00001.png", "Bag/00002.png"]
    with pytest.raises(ValueError, match=r"not of fill_pool\(\)"):
        pool_status(faulty.path)


def test_options_that_need_each_other_are_said_in_a_line(tmp_path, saved_pipeline):
    for options, said in [(["--record"], "--verify"), (["--classifier", "embedded"], "--verify")]:
        told = call("status", tmp_path, *options)
        assert told.exit_code == 2
        assert said in told.stderr
    told = call("generate", tmp_path / "pool", "--pipeline", saved_pipeline, "--repair", "blurred")
    assert "there is no fault 'blurred'" in told.stderr
    assert not (tmp_path / "pool").exists()
