"""Filling a pool: the same images from any process, nothing lost or doubled by a kill, nothing overwritten."""

import json
import math
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st
from pools_on_disk import content
from tiny import NAMES, tiny_classifier, tiny_pipeline, write_images

from dag_diffusion import PoolConfig, TargetDistribution, fill_pool, score_and_record, score_pool
from dag_diffusion.data.class_names import folder_names
from dag_diffusion.data.pools import COLUMNS
from dag_diffusion.generation.batches import drawn_pieces
from dag_diffusion.generation.modes import Modes
from dag_diffusion.generation.plan import image_seed, plan
from dag_diffusion.generation.work_queue import ROWS, append_rows, claim, finish, require_current, runs_of, take_stock
from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.reporting.reproduction import commands_of

SMALL = PoolConfig(images_per_class=3, num_inference_steps=2, guidance_scale=1.0)
STEERED = replace(SMALL, target=TargetDistribution.preset("ground"))


@given(st.integers(0, 2**31), st.integers(0, 999), st.integers(0, 10**6))
def test_seed_of_an_image_survives_every_json_reader(pool_seed, label, index):
    seed = image_seed(pool_seed, label, index)
    assert 0 <= seed < 2**53
    assert int(float(seed)) == seed


def test_seeds_of_a_large_pool_differ():
    assert len({image_seed(0, label, index) for label in range(100) for index in range(200)}) == 20000


def test_noise_of_images_is_shared_as_rarely_as_32_bits_allow():
    def noise(index):
        return torch.randn(4, generator=torch.Generator().manual_seed(image_seed(0, 0, index)))

    low = np.array([image_seed(0, 0, index) % 2**32 for index in range(25_000)])
    assert len(low) - len(np.unique(low)) <= 1  # 25,000^2 / 2^33 = 0.07 are expected
    assert low[21771] == low[22192]
    assert torch.equal(noise(21771), noise(22192))
    assert not torch.equal(noise(21771), noise(21772))


def test_pool_has_every_image_with_its_row(tmp_path, pipeline):
    pool = fill_pool(pipeline, tmp_path / "pool", STEERED)
    assert len(pool) == 9
    assert all(set(COLUMNS) == set(row) for row in pool.rows)
    assert [p.name for p in sorted((tmp_path / "pool").iterdir())] == [
        "0_T-shirt",
        "1_Ankle-boot",
        "2_Bag",
        "README.md",
        "generation.log",
        "labels.json",
        "metadata.jsonl",
        "pool.json",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["pool"]
    measured = score_pool(pool, pipeline.classifier).difficulties
    assert np.allclose(measured, pool.difficulties, atol=1e-6)


def test_pool_does_not_depend_on_the_batch_size(tmp_path, pipeline):
    # a shift in the last step of a denoiser of random weights would make much of what batches round differently
    config = replace(STEERED, difficulty_guidance=GuidanceConfig(stop=0.9))
    pools = [fill_pool(pipeline, tmp_path / str(size), config, batch_size=size) for size in (1, 4)]
    for i in range(len(pools[0])):
        first, second = (np.asarray(pool.open(i)).astype(int) for pool in pools)
        assert np.abs(first - second).max() <= 1
        assert pools[0].rows[i]["seed"] == pools[1].rows[i]["seed"]


def test_one_image_can_be_drawn_again_from_its_row(tmp_path, pipeline):
    pool = fill_pool(pipeline, tmp_path / "pool", STEERED)
    row = pool.rows[4]
    again = pipeline(
        row["label"],
        target_difficulty=row["target_difficulty"],
        num_inference_steps=2,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(row["seed"]),
    ).images[0]
    assert np.abs(np.asarray(again).astype(int) - np.asarray(pool.open(4)).astype(int)).max() <= 1


def test_targets_of_each_class_follow_the_distribution(pipeline):
    wanted = {}
    for job in plan(replace(STEERED, images_per_class=20), pipeline.class_names):
        wanted.setdefault(job.label, []).append(job.target_difficulty)
    expected = TargetDistribution.preset("ground").difficulties("any", 20)
    assert all(np.allclose(sorted(values), expected) for values in wanted.values())
    assert wanted[0] != wanted[1]


def test_any_stretch_of_the_plan_holds_every_class(pipeline):
    labels = [job.label for job in plan(SMALL, pipeline.class_names)]
    assert set(labels[:3]) == set(NAMES)


class Killed(BaseException):
    """As sudden as a kill: nothing may catch it."""


def kill_at(images: int):
    """A progress callback that lets so many images come and then kills the run."""

    def tell(stage, done, total):
        if done >= images:
            raise Killed

    return tell


def test_interrupted_pool_resumes_to_the_same_files(tmp_path, pipeline):
    whole = fill_pool(pipeline, tmp_path / "whole", STEERED, batch_size=2)
    with pytest.raises(Killed):
        fill_pool(pipeline, tmp_path / "killed", STEERED, batch_size=2, progress=kill_at(4))
    assert 4 <= len(list((tmp_path / "killed").glob("*/*.png"))) < 9
    gather = []
    fill_pool(
        pipeline,
        tmp_path / "killed",
        STEERED,
        batch_size=2,
        resume=True,
        progress=lambda stage, done, total: gather.append((done, total)),
    )
    assert gather[0][0] >= 4
    assert gather[-1] == (9, 9)
    assert content(whole.path) == content(tmp_path / "killed")


def test_torn_row_and_image_without_row_are_drawn_again(tmp_path, pipeline):
    fill_pool(pipeline, tmp_path / "pool", SMALL)
    folder = tmp_path / "pool"
    rows = (folder / "metadata.jsonl").read_bytes()
    (folder / ROWS / "run").mkdir(parents=True)
    (folder / ROWS / "run" / "00000.jsonl").write_bytes(rows[: len(rows) // 2])  # cut in the middle of a row
    (folder / "metadata.jsonl").unlink()
    assert len(fill_pool(pipeline, folder, SMALL, resume=True)) == 9
    assert (folder / "metadata.jsonl").read_bytes() == rows


def test_set_half_saved_in_a_pool_does_not_stop_its_resume(tmp_path, pipeline):
    fill_pool(pipeline, tmp_path / "pool", SMALL)
    (tmp_path / "pool" / ".set.partial").mkdir()
    assert len(fill_pool(pipeline, tmp_path / "pool", SMALL, resume=True)) == 9


def test_missing_image_is_drawn_again_on_resume(tmp_path, pipeline):
    pool = fill_pool(pipeline, tmp_path / "pool", SMALL)
    lost = tmp_path / "pool" / pool.rows[0]["file_name"]
    bytes_before = lost.read_bytes()
    lost.unlink()
    fill_pool(pipeline, tmp_path / "pool", SMALL, resume=True)
    assert lost.read_bytes() == bytes_before


def test_resume_with_other_settings_says_which_differ(tmp_path, pipeline):
    fill_pool(pipeline, tmp_path / "pool", SMALL)
    with pytest.raises(ValueError, match=r": seed was 0 and is now 1"):
        fill_pool(pipeline, tmp_path / "pool", replace(SMALL, seed=1), resume=True)


def test_strength_of_a_guidance_that_is_not_used_may_change_between(tmp_path, pipeline):
    fill_pool(pipeline, tmp_path / "pool", replace(SMALL, difficulty_guidance=GuidanceConfig(stop=0.9)))
    weaker = replace(SMALL, difficulty_guidance=GuidanceConfig(stop=0.8), mode_guidance=ModeGuidance(scale=0.1))
    assert len(fill_pool(pipeline, tmp_path / "pool", weaker, resume=True)) == 9


@pytest.mark.parametrize("recorded", [True, False])
def test_pool_goes_on_with_the_guidance_that_it_was_begun_with(tmp_path, pipeline, recorded):
    config = replace(SMALL, guidance_scale=None, num_inference_steps=4)
    pipeline.register_to_config(default_guidance_scale=1.5)
    pool = fill_pool(pipeline, tmp_path / "pool", config)
    assert pool.provenance["settings"]["guidance_interval"] == [0.0, 1.0]
    if not recorded:  # by a version that knew no interval
        record = dict(pool.provenance)
        record["settings"] = {k: v for k, v in record["settings"].items() if k != "guidance_interval"}
        (tmp_path / "pool" / "pool.json").write_text(json.dumps(record))
    pixels = [np.asarray(pool.open(index)) for index in range(len(pool))]
    (pool.path / pool.rows[0]["file_name"]).unlink()
    pipeline.register_to_config(default_guidance_scale=2.0, default_guidance_start=0.25, default_guidance_stop=0.75)
    again = fill_pool(pipeline, tmp_path / "pool", config, resume=True)
    assert np.array_equal(again.open(0), pixels[0])
    with pytest.raises(ValueError, match="guidance_interval"):
        fill_pool(pipeline, tmp_path / "pool", replace(config, guidance_interval=(0.5, 1.0)), resume=True)
    third = fill_pool(pipeline, tmp_path / "third", replace(config, guidance_interval=(1 / 3, 1.0)))
    assert f"--guidance-interval {1 / 3},1 " in commands_of(third.provenance)[0]
    with pytest.raises(ValueError, match=r"guidance_scale was 1\.5 and is now 2\.0"):
        fill_pool(pipeline, tmp_path / "pool", replace(config, guidance_scale=2.0), resume=True)
    own = fill_pool(pipeline, tmp_path / "own", config)
    assert own.provenance["settings"]["guidance_interval"] == [0.25, 0.75]
    assert not np.array_equal(own.open(0), pixels[0])
    assert "--guidance-interval 0.25,0.75 " in commands_of(own.provenance)[0]
    assert "--guidance-interval 0,1 " in commands_of(pool.provenance)[0]
    with pytest.raises(ValueError, match="num_inference_steps was 4 and is now 1"):
        fill_pool(pipeline, own.path, replace(config, num_inference_steps=1), resume=True)


def test_another_scheduler_is_told_by_its_name_alone(tmp_path, pipeline):
    fill_pool(pipeline, tmp_path / "pool", SMALL)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    told = r": scheduler was '\w+Scheduler' and is now 'UniPCMultistepScheduler'; give"
    with pytest.raises(ValueError, match=told):
        fill_pool(pipeline, tmp_path / "pool", SMALL, resume=True)


def test_solver_whose_settings_json_has_no_number_for_fills_and_resumes_a_pool(tmp_path, pipeline):
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    assert pipeline.scheduler.config.lambda_min_clipped == -math.inf
    pool = fill_pool(pipeline, tmp_path / "pool", SMALL)
    assert pool.provenance["scheduler"]["lambda_min_clipped"] == "-Infinity"
    assert len(fill_pool(pipeline, tmp_path / "pool", SMALL, resume=True)) == 9
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, lambda_min_clipped=-5.1)
    with pytest.raises(ValueError, match=r"scheduler\.lambda_min_clipped was '-Infinity' and is now -5\.1"):
        fill_pool(pipeline, tmp_path / "pool", SMALL, resume=True)


def test_second_run_on_one_folder_is_refused(tmp_path, pipeline):
    def start_another(stage, done, total):
        with pytest.raises(FileExistsError, match="another run"):
            fill_pool(pipeline, tmp_path / "pool", SMALL, resume=True)

    fill_pool(pipeline, tmp_path / "pool", SMALL, progress=start_another)


def test_earlier_pool_is_kept_unless_overwriting_is_asked_for(tmp_path, pipeline):
    first = content(fill_pool(pipeline, tmp_path / "pool", SMALL).path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        fill_pool(pipeline, tmp_path / "pool", replace(SMALL, seed=1))
    assert content(tmp_path / "pool") == first
    fill_pool(pipeline, tmp_path / "pool", replace(SMALL, seed=1), overwrite=True)
    assert content(tmp_path / "pool") != first


def test_remembered_scores_are_no_obstacle_and_go_with_their_pool(tmp_path, pipeline):
    pool = fill_pool(pipeline, tmp_path / "pool", SMALL)
    score_and_record(pool, {"guide": pipeline.classifier})
    cache = tmp_path / "pool" / ".metadata.jsonl.scores"
    assert len(fill_pool(pipeline, tmp_path / "pool", SMALL, resume=True)) == len(pool)
    assert cache.exists()
    fill_pool(pipeline, tmp_path / "pool", replace(SMALL, seed=1), overwrite=True)
    assert not cache.exists()


def test_failed_overwrite_gives_the_earlier_pool_back(tmp_path, pipeline, monkeypatch):
    first = content(fill_pool(pipeline, tmp_path / "pool", SMALL).path)
    impossible = replace(SMALL, num_inference_steps=2000)
    with pytest.raises(ValueError, match=r"1\.\.1000"):
        fill_pool(pipeline, tmp_path / "pool", impossible, overwrite=True)
    assert content(tmp_path / "pool") == first
    monkeypatch.setattr(pipeline.vae, "decode", None)  # what only the first batch finds out
    with pytest.raises(TypeError):
        fill_pool(pipeline, tmp_path / "pool", replace(SMALL, seed=1), overwrite=True)
    assert content(tmp_path / "pool") == first


def test_killed_overwrite_keeps_the_earlier_pool_until_the_new_one_is_finished(tmp_path, pipeline):
    first = content(fill_pool(pipeline, tmp_path / "pool", SMALL).path)

    other = replace(SMALL, seed=1)
    with pytest.raises(Killed):
        fill_pool(pipeline, tmp_path / "pool", other, overwrite=True, batch_size=2, progress=kill_at(2))
    kept = {
        name.removeprefix(".earlier/"): data for name, data in content(tmp_path / "pool").items() if ".earlier/" in name
    }
    assert kept == first
    assert len(fill_pool(pipeline, tmp_path / "pool", other, resume=True)) == 9
    assert not (tmp_path / "pool" / ".earlier").exists()


def test_failed_first_batch_leaves_no_stub(tmp_path, pipeline, monkeypatch):
    monkeypatch.setattr(pipeline.vae, "decode", None)
    with pytest.raises(TypeError):
        fill_pool(pipeline, tmp_path / "pool", SMALL)
    assert not list(tmp_path.iterdir())


def test_link_to_another_disk_is_filled(tmp_path, pipeline):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "pool").symlink_to(tmp_path / "scratch")
    assert len(fill_pool(pipeline, tmp_path / "pool", SMALL)) == 9
    assert len(fill_pool(pipeline, tmp_path / "pool", SMALL, overwrite=True)) == 9
    assert (tmp_path / "pool").is_symlink()


def test_folder_of_something_else_is_never_touched(tmp_path, pipeline):
    write_images(tmp_path / "photos", {"Bag": 1})
    before = content(tmp_path / "photos")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(FileExistsError, match="no pool"):
            fill_pool(pipeline, tmp_path / "photos", SMALL, **options)
    assert content(tmp_path / "photos") == before


def test_pool_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="num_inference_steps is 0, and images take at least 1"):
        PoolConfig(num_inference_steps=0)


def test_target_without_classifier_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="needs a classifier"):
        fill_pool(tiny_pipeline(classifier=None), tmp_path / "pool", STEERED)
    assert not list(tmp_path.iterdir())


def test_pool_records_what_made_it(tmp_path, pipeline):
    pool = fill_pool(pipeline, tmp_path / "pool", STEERED, source="tiny")
    record = json.loads((pool.path / "pool.json").read_text())
    assert record["pipeline"] == "tiny"
    assert record["guide"] == "classifier of tiny"
    assert record["settings"]["target"]["name"] == "ground"
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]


def modes_of(labels, difficulties=None):
    labels = torch.tensor(labels)
    centres = torch.linspace(-1, 1, len(labels)).view(-1, 1, 1, 1).expand(-1, 4, 8, 8).contiguous()
    known = None if difficulties is None else torch.tensor(difficulties)
    return Modes(centres, labels, torch.ones(len(labels), dtype=torch.long), NAMES, difficulties=known)


def test_images_of_a_class_are_drawn_to_its_modes_in_turn():
    jobs = plan(PoolConfig(images_per_class=4, modes=modes_of([0, 0, 1, 1, 2, 2])), NAMES)
    drawn = {label: sorted(job.mode for job in jobs if job.label == label) for label in NAMES}
    assert drawn == {0: [0, 0, 1, 1], 1: [2, 2, 3, 3], 2: [4, 4, 5, 5]}


def test_hardest_targets_meet_the_hardest_modes():
    modes = modes_of([0, 0, 1, 1, 2, 2], [0.1, 0.9, 0.8, 0.2, 0.3, 0.4])
    target = TargetDistribution.histogram([1] * 10, name="even")
    jobs = plan(PoolConfig(images_per_class=10, target=target, modes=modes), NAMES)
    for label in NAMES:
        mine = sorted((job for job in jobs if job.label == label), key=lambda job: job.target_difficulty)
        assert [float(modes.difficulties[job.mode]) for job in mine] == sorted(
            float(modes.difficulties[job.mode]) for job in mine
        )


def test_pool_records_its_modes_and_refuses_to_resume_with_others(tmp_path, pipeline):
    config = replace(SMALL, modes=modes_of([0, 1, 2]))
    pool = fill_pool(pipeline, tmp_path / "pool", config)
    assert [row["mode"] for row in pool.rows] == [row["label"] for row in pool.rows]
    with pytest.raises(ValueError, match=r"other settings: modes"):
        fill_pool(pipeline, tmp_path / "pool", replace(SMALL, modes=modes_of([0, 1, 2, 2])), resume=True)


def test_pool_without_modes_has_no_such_column(tmp_path, pipeline):
    assert "mode" not in fill_pool(pipeline, tmp_path / "pool", SMALL).rows[0]


def test_modes_of_another_pipeline_are_refused_before_anything_is_written(tmp_path, pipeline):
    modes = replace(modes_of([0, 1, 2]), centres=torch.zeros(3, 4, 16, 16))
    with pytest.raises(ValueError, match="modes have shape"):
        fill_pool(pipeline, tmp_path / "pool", replace(SMALL, modes=modes))
    assert not (tmp_path / "pool").exists()


def test_resuming_with_another_extra_guide_is_refused(tmp_path, pipeline):
    steered = replace(SMALL, target=TargetDistribution.constant(0.5))
    fill_pool(pipeline, tmp_path / "pool", steered, extra_guides=[tiny_classifier()])
    with pytest.raises(ValueError, match="extra_guides"):
        fill_pool(pipeline, tmp_path / "pool", steered, resume=True)


def test_rows_that_a_network_disk_shows_late_are_waited_for(tmp_path, pipeline, monkeypatch):
    pool = fill_pool(pipeline, tmp_path / "pool", SMALL)
    jobs, kept = plan(SMALL, pipeline.class_names), (tmp_path / "pool" / "metadata.jsonl").read_bytes()
    (tmp_path / "pool" / "metadata.jsonl").unlink()
    run = tmp_path / "pool" / ROWS / "run"
    run.mkdir(parents=True)
    monkeypatch.setattr("time.sleep", lambda seconds: append_rows(run, 1, pool.rows))
    finish(tmp_path / "pool", jobs, patience=60)
    assert (tmp_path / "pool" / "metadata.jsonl").read_bytes() == kept


def test_rows_that_never_come_are_told_with_the_way_out(tmp_path, pipeline):
    fill_pool(pipeline, tmp_path / "pool", SMALL)
    (tmp_path / "pool" / "metadata.jsonl").unlink()
    with pytest.raises(OSError, match="go on with resume=True"):
        finish(tmp_path / "pool", plan(SMALL, pipeline.class_names))


def interrupted(pipeline, folder):
    """Fill a pool but for its last images."""

    class StoppedHere(BaseException):
        pass

    def stop(stage, done, total):
        if done >= 4:
            raise StoppedHere

    with pytest.raises(StoppedHere):
        fill_pool(pipeline, folder, SMALL, batch_size=2, progress=stop)


def test_process_left_over_from_an_earlier_run_can_no_longer_write(tmp_path, pipeline):
    interrupted(pipeline, tmp_path / "pool")
    (old,) = runs_of(tmp_path / "pool")
    jobs = plan(SMALL, pipeline.class_names)
    _, new = take_stock(tmp_path / "pool", jobs, pipeline.image_size)
    assert runs_of(tmp_path / "pool") == [new]
    for attempt in (lambda: claim(old, 3), lambda: append_rows(old, 1, []), lambda: require_current(old)):
        with pytest.raises(FileNotFoundError):
            attempt()


def test_process_left_over_from_an_earlier_run_is_told_what_became_of_it(tmp_path, pipeline):
    interrupted(pipeline, tmp_path / "pool")
    (old,) = runs_of(tmp_path / "pool")
    jobs = plan(SMALL, pipeline.class_names)
    take_stock(tmp_path / "pool", jobs, pipeline.image_size)
    with pytest.raises(FileNotFoundError, match=r"a later run has taken over .*; this one ends"):
        next(drawn_pieces(pytest.fail, old, jobs, set(), 2, threading.Event()))


def test_row_of_another_plan_never_gets_into_a_pool(tmp_path, pipeline):
    pool = fill_pool(pipeline, tmp_path / "pool", SMALL)
    run = tmp_path / "pool" / ROWS / "run"
    run.mkdir(parents=True)
    append_rows(run, 1, [{**pool.rows[0], "seed": 1}])
    with pytest.raises(OSError, match="go on with resume=True"):
        finish(tmp_path / "pool", plan(SMALL, pipeline.class_names))


def test_resuming_never_removes_what_is_not_its_own(tmp_path, pipeline, monkeypatch):
    interrupted(pipeline, tmp_path / "pool")
    shutil.rmtree(tmp_path / "pool" / ROWS)  # as a copy without hidden files has it
    (tmp_path / "pool" / "notes.txt").write_text("mine")
    monkeypatch.setattr(type(pipeline), "__call__", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fill_pool(pipeline, tmp_path / "pool", SMALL, resume=True)
    assert (tmp_path / "pool" / "notes.txt").read_text() == "mine"
    assert len(list((tmp_path / "pool").glob("*/*.png"))) >= 4


def test_row_cut_off_within_a_letter_is_drawn_again(tmp_path):
    pipeline = tiny_pipeline()
    pipeline.register_modules(classifier=None)
    pipeline.register_to_config(id2label={0: "Bag", 1: "Müll", 2: "Coat"})
    expected = content(fill_pool(pipeline, tmp_path / "whole", SMALL, batch_size=2).path)
    interrupted(pipeline, tmp_path / "pool")
    (run,) = runs_of(tmp_path / "pool")
    rows = (run / "00000.jsonl").read_bytes()
    (run / "00000.jsonl").write_bytes(rows[: rows.rindex("ü".encode()) + 1])
    fill_pool(pipeline, tmp_path / "pool", SMALL, batch_size=2, resume=True)
    assert content(tmp_path / "pool") == expected


def test_processes_of_other_settings_do_not_fill_one_pool(tmp_path, pipeline, monkeypatch):
    def gather(value):
        return [value, value | {"settings": {"seed": 8}, "batch_size": 50} if isinstance(value, dict) else value]

    monkeypatch.setattr("dag_diffusion.generation.filling.gather", gather)
    with pytest.raises(ValueError, match="process 1 was started with other settings"):
        fill_pool(pipeline, tmp_path / "pool", SMALL)
    assert not (tmp_path / "pool").exists()


def test_pool_that_an_earlier_version_began_goes_on_in_its_folders(tmp_path, pipeline, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr("dag_diffusion.generation.plan.class_folders", folder_names)
        interrupted(pipeline, tmp_path / "pool")
    again = fill_pool(pipeline, tmp_path / "pool", SMALL, batch_size=2, resume=True)
    assert {row["file_name"].split("/")[0] for row in again.rows} == {"T-shirt", "Ankle boot", "Bag"}
    whole = fill_pool(pipeline, tmp_path / "whole", SMALL, batch_size=2)
    assert {path.name for path in whole.path.iterdir() if path.is_dir()} == {"0_T-shirt", "1_Ankle-boot", "2_Bag"}
    pixels = [[pool.open(index).tobytes() for index in range(len(pool))] for pool in (again, whole)]
    assert pixels[0] == pixels[1]


@pytest.mark.parametrize(
    "labels", [["Bag", "T-shirt"], "Bag", 2, torch.tensor([2, 0]), np.array([2]), [2, "T-shirt"], {2}, range(2, 3)]
)
def test_classes_are_asked_for_by_name_or_number(tmp_path, pipeline, labels):
    config = PoolConfig(images_per_class=1, num_inference_steps=2, labels=labels)
    pool = fill_pool(pipeline, tmp_path / "pool", config)
    assert set(pool.class_names.values()) in ({"Bag"}, {"Bag", "T-shirt"})
    assert pool.provenance["settings"]["labels"] in ([2], [2, 0])
    assert len(fill_pool(pipeline, tmp_path / "pool", config, resume=True)) == len(pool)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": [7]}, "7 is no single class of the pipeline, which has 3"),
        ({"labels": ["cat"]}, "cat"),
        ({"labels": 1.5}, "neither a name nor a whole number"),
        ({"images_per_class": 2.0}, "images_per_class is 2.0; give a whole number"),
        ({"modes": "modes.safetensors"}, "read a file of them by Modes.load"),
        ({"seed": 0.5}, "seed is 0.5; give a whole number"),
    ],
)
def test_what_names_no_class_or_number_is_refused_in_a_line(tmp_path, pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        fill_pool(pipeline, tmp_path / "pool", PoolConfig(**options))
    assert not (tmp_path / "pool").exists()


@pytest.mark.parametrize("labels", [None, (0, 2), (2,), (2, 0)])
def test_second_class_of_a_name_follows_its_own_reference_not_the_firsts(tmp_path, labels):
    rows = [
        {"file_name": f"{label}.png", "label": label, "class_name": name, "difficulty": difficulty}
        for label, name, difficulty in ((0, "crane", 0.1), (1, "dog", 0.5), (2, "crane", 0.9))
    ]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PoolConfig(images_per_class=1, target=str(tmp_path / "scores.jsonl"), labels=labels)
    asked = {job.label: job.target_difficulty for job in plan(config, {0: "crane", 1: "dog", 2: "crane"})}
    assert asked == {label: {0: 0.1, 1: 0.5, 2: 0.9}[label] for label in labels or (0, 1, 2)}
