"""Several processes that score, find modes or train a probe: the files of one process, failures told once."""

import os
import signal

import pytest
from tiny import tiny_classifier, write_images
from warm import Command

from dag_diffusion import read_pool, score_and_record, score_pool
from dag_diffusion.data.files import json_lines
from dag_diffusion.data.pools import Pool
from dag_diffusion.processes import StoppedError
from dag_diffusion.sampling import score_cache


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path / "images", {"Bag": 9, "T-shirt": 8})
    return tmp_path / "images"


@pytest.fixture
def guide(tmp_path):
    tiny_classifier().save_pretrained(tmp_path / "guide")
    return tmp_path / "guide"


def told(run: Command) -> tuple[str, str]:
    shown = run.communicate()
    assert run.returncode == 0, shown[1]
    return shown


@pytest.mark.slow
def test_any_number_of_processes_scores_alike_and_goes_on(tmp_path, folder, guide):
    (folder / "Bag/00003.png").write_bytes(b"no image")
    common = ["score", folder, "--classifier", guide, "--on-error", "skip", "--batch-size", 2, "--quiet"]
    shown = told(Command(*common, "--output", tmp_path / "one.jsonl"))[0]
    again = told(Command(*common, "--output", tmp_path / "two.jsonl", "--num-processes", 2))[0]
    assert shown.replace("one.jsonl", "two.jsonl") == again
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert [path.name for path in tmp_path.glob(".two.jsonl.*")] == [".two.jsonl.scores"]
    (tmp_path / "two.jsonl").unlink()
    assert ": 0 scored, 16 from" in told(Command(*common, "--output", tmp_path / "two.jsonl", "--num-processes", 2))[0]


@pytest.mark.slow
def test_image_that_cannot_be_read_is_told_once_by_all_processes(folder, guide):
    (folder / "Bag/00003.png").write_bytes(b"no image")
    run = Command("score", folder, "--classifier", guide, "--num-processes", 2, "--batch-size", 2, "--quiet")
    lines = [line for line in run.communicate()[1].splitlines() if line.strip()]
    assert run.returncode == 2
    assert len(lines) == 1, lines
    assert "00003.png" in lines[0]


@pytest.mark.slow
def test_any_number_of_processes_finds_the_same_modes_and_trains_the_same_probe(tmp_path, folder, saved_pipeline):
    modes = ["--pipeline", saved_pipeline, "--per-class", 2, "--batch-size", 3, "--quiet"]
    small = ["--trajectories", 40, "--training-steps", 3, "--num-inference-steps", 2, "--batch-size", 8, "--quiet"]
    for name, more in (("one", []), ("two", ["--num-processes", 2])):
        told(Command("find-modes", folder, tmp_path / f"{name}.safetensors", *modes, *more))
        told(Command("train-probe", tmp_path / name, "--pipeline", saved_pipeline, *small, *more))
    for file in (".safetensors", "/model.safetensors", "/config.json"):
        assert (tmp_path / f"one{file}").read_bytes() == (tmp_path / f"two{file}").read_bytes(), file
    assert not list(tmp_path.glob("*.work"))  # what is kept until all is done


def test_run_that_is_told_to_stop_keeps_what_it_has_scored(folder):
    def stop(stage, done, total):
        if done == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    def record(**options):
        return score_and_record(read_pool(folder), {"guide": tiny_classifier()}, batch_size=1, **options)

    before = (folder / "metadata.jsonl").read_bytes()
    with pytest.raises(StoppedError, match="the same command goes on"):
        record(progress=stop)
    assert (folder / "metadata.jsonl").read_bytes() == before
    done = record()
    assert done.cached >= 4
    assert done.scored == 17 - done.cached > 0
    assert read_pool(folder).difficulties == pytest.approx(
        score_pool(read_pool(folder), tiny_classifier()).difficulties
    )


def test_what_killed_processes_have_scored_is_taken_over(folder):
    guides = {"guide": tiny_classifier()}
    score_and_record(read_pool(folder), guides)
    cache = folder / ".metadata.jsonl.scores"
    lines = cache.read_bytes().strip().splitlines(keepends=True)
    cache.write_bytes(b"".join(lines[:5]))
    cache.with_name(f"{cache.name}.1").write_bytes(b"\n" + b"".join(lines[5:12]) + lines[12][:-9])
    rows = [{k: v for k, v in row.items() if k != "score_key"} for row in read_pool(folder).rows]
    (folder / "metadata.jsonl").write_bytes(json_lines(rows))
    assert score_and_record(read_pool(folder), guides).cached == 12
    assert sorted(path.name for path in folder.glob(".*")) == [cache.name]


def test_file_that_is_read_at_the_second_attempt_keeps_its_score(folder, monkeypatch):
    digest, refused = Pool.file_digest, []

    def now_and_then(pool, index):
        if index == 3 and not refused:
            refused.append(index)
            raise OSError("the network disk is away")
        return digest(pool, index)

    monkeypatch.setattr(Pool, "file_digest", now_and_then)
    guides = {"guide": tiny_classifier()}
    done = score_and_record(read_pool(folder), guides)
    assert (done.scored, done.skipped) == (17, [])
    pool = read_pool(folder)
    assert pool.difficulties == pytest.approx(score_pool(pool, tiny_classifier()).difficulties)
    assert score_and_record(pool, guides).cached == 17


def test_processes_of_other_settings_are_refused(folder, monkeypatch):
    monkeypatch.setattr(score_cache, "gather", lambda value: [value, [*value[:-1], 3]])
    with pytest.raises(ValueError, match="process 1 was started with another pool, measure"):
        score_and_record(read_pool(folder), {"guide": tiny_classifier()})
