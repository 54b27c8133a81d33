"""How far a pool is, as seen from its folder alone."""

import os
from dataclasses import replace

import pytest
from PIL import Image
from test_cli import call

from dag_diffusion import PoolConfig, fill_pool, subsample, write_distilled_set
from dag_diffusion.generation.pool_state import PoolStatus, pool_status

SMALL = PoolConfig(images_per_class=3, num_inference_steps=2, guidance_scale=1.0)


class StoppedHere(BaseException):
    pass


def half_filled(pipeline, folder):
    def stop(stage, done, total):
        if done >= 4:
            raise StoppedHere

    with pytest.raises(StoppedHere):
        fill_pool(pipeline, folder, SMALL, batch_size=2, progress=stop)
    return sum(len(file.read_text().splitlines()) for file in folder.glob(".rows/*/*.jsonl"))


def test_unfinished_pool_tells_what_is_there_and_how_fast_it_grew(tmp_path, pipeline):
    there = half_filled(pipeline, tmp_path / "pool")
    rows = tmp_path / "pool" / ".rows"
    os.utime(rows / "earlier.jsonl", (1000, 1000))
    os.utime(next(rows.glob("*/00000.jsonl")), (1002, 1002))
    found = pool_status(tmp_path / "pool")
    assert (found.done, found.total, found.classes, found.finished) == (there, 9, 3, False)
    assert found.images_per_second == there / 2
    assert found.seconds_left == pytest.approx((9 - there) / (there / 2))


def test_finished_pool_is_told_from_one_that_is_only_complete(tmp_path, pipeline):
    fill_pool(pipeline, tmp_path / "pool", SMALL)
    assert pool_status(tmp_path / "pool") == PoolStatus(done=9, total=9, classes=3, finished=True)
    fill_pool(pipeline, tmp_path / "some", replace(SMALL, labels=[0, 2]))
    assert pool_status(tmp_path / "some") == PoolStatus(done=6, total=6, classes=2, finished=True)


def test_images_are_checked_when_asked_for(tmp_path, pipeline):
    pool = fill_pool(pipeline, tmp_path / "pool", SMALL)
    name = pool.rows[0]["file_name"]
    (pool.path / name).write_bytes((pool.path / name).read_bytes()[:-20])
    assert pool_status(pool.path).damaged is None
    assert pool_status(pool.path, verify=True).damaged == [name]
    result = call("status", pool.path, "--verify")
    assert result.exit_code == 2
    assert name in result.stderr


def test_missing_image_and_one_of_another_size_are_found(tmp_path, pipeline):
    pool = fill_pool(pipeline, tmp_path / "pool", SMALL)
    missing, small = (pool.path / pool.rows[index]["file_name"] for index in (1, 5))
    missing.unlink()
    Image.new("L", (4, 4)).save(small)
    assert pool_status(pool.path, verify=True).damaged == [pool.rows[1]["file_name"], pool.rows[5]["file_name"]]


def test_folder_that_generate_has_not_begun_is_refused(tmp_path, pipeline):
    with pytest.raises(FileNotFoundError, match=r"no pool that fill_pool\(\) has begun"):
        pool_status(tmp_path)
    pool = fill_pool(pipeline, tmp_path / "pool", replace(SMALL))
    chosen = subsample(pool, 1, method="random")
    write_distilled_set(
        pool, chosen.indices, tmp_path / "set", columns=chosen.columns, provenance={"selection": chosen.record}
    )
    with pytest.raises(ValueError, match=r"not of fill_pool\(\)"):
        pool_status(tmp_path / "set")


def test_command_says_what_to_do_about_a_pool_that_no_longer_grows(tmp_path, pipeline):
    half_filled(pipeline, tmp_path / "pool")
    assert "in this run" in call("status", tmp_path / "pool").stdout
    for file in (tmp_path / "pool" / ".rows").rglob("*.jsonl"):
        os.utime(file, (1000, 1000))
    assert "--resume" in call("status", tmp_path / "pool").stdout
