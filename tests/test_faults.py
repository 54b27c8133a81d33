"""What may happen to a long run: kills at any moment, a full disk, a dead process, damaged files, polite stops."""

import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from disks import generate_on_disk, unprivileged_mounts
from killed import fill_and_count, fill_until_killed
from PIL import Image
from pools_on_disk import content
from tiny import tiny_pipeline
from warm import Command, context, process_of_rank

from dag_diffusion import PoolConfig, TargetDistribution, fill_pool

CONFIG = PoolConfig(
    images_per_class=3, num_inference_steps=2, guidance_scale=1.0, target=TargetDistribution.preset("ground")
)
LONG = ["--images-per-class", "75", "--num-inference-steps", "2", "--batch-size", "2", "--quiet"]  # 113 batches
KILLS = 24


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """What a run leaves that nothing happens to."""
    folder = tmp_path_factory.mktemp("whole") / "pool"
    fill_pool(tiny_pipeline(), folder, CONFIG, batch_size=2)
    return content(folder)


@pytest.fixture(scope="module")
def long_pool(tmp_path_factory, saved_pipeline) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("long") / "pool"
    assert generate(saved_pipeline, folder).wait() == 0
    return content(folder)


def generate(pipeline: Path, pool: Path, *options: str, nohup: bool = False) -> Command:
    return Command("generate", pool, "--pipeline", pipeline, *LONG, *options, nohup=nohup)


def wait_for_images(run: Command, pool: Path) -> None:
    while run.poll(timeout=0.005) is None and not list(pool.glob(".rows/*/*.jsonl")):
        pass
    assert run.poll() is None


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> int:
    """How many times an uninterrupted run opens, renames, makes or removes something in its pool."""
    folder = tmp_path_factory.mktemp("counted")
    process = context().Process(target=fill_and_count, args=(folder / "pool", CONFIG, folder / "count"))
    process.start()
    process.join()
    return int((folder / "count").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("share", np.random.default_rng(0).random(KILLS))
def test_pool_killed_at_a_random_file_operation_resumes_to_the_same_files(tmp_path, events, whole, share):
    pool = tmp_path / "pool"
    process = context().Process(target=fill_until_killed, args=(pool, CONFIG, int(share * events)))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(fill_pool(tiny_pipeline(), pool, CONFIG, batch_size=2, resume=True)) == 9
    assert content(pool) == whole


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "number"), [("1", signal.SIGTERM), ("2", signal.SIGTERM), ("2", signal.SIGHUP)])
def test_stop_signal_lets_the_batch_be_finished_and_the_pool_resumes(
    tmp_path, saved_pipeline, long_pool, processes, number
):
    run = generate(saved_pipeline, tmp_path / "pool", "--num-processes", processes)
    wait_for_images(run, tmp_path / "pool")
    run.send_signal(number)
    said = run.communicate()[1]
    assert run.returncode == 128 + number
    assert "stopped as asked" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "pool").rglob("*.partial"))
    assert generate(saved_pipeline, tmp_path / "pool", "--resume").wait() == 0
    assert content(tmp_path / "pool") == long_pool


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_pool_under_nohup_goes_on_when_the_terminal_is_closed(tmp_path, saved_pipeline, long_pool, processes):
    run = generate(saved_pipeline, tmp_path / "pool", "--num-processes", processes, nohup=True)
    wait_for_images(run, tmp_path / "pool")
    run.send_signal(signal.SIGHUP)
    assert run.wait() == 0
    assert content(tmp_path / "pool") == long_pool


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_process_that_is_killed_is_named_stops_the_others_and_the_pool_resumes(
    tmp_path, saved_pipeline, long_pool, rank
):
    run = generate(saved_pipeline, tmp_path / "pool", "--num-processes", "2")
    wait_for_images(run, tmp_path / "pool")
    process_of_rank(run, rank).kill()
    said = [line for line in run.communicate()[1].splitlines() if line.strip()]
    assert run.returncode == 128 + signal.SIGKILL
    assert len(said) == 1, said
    assert f"process {rank} was killed by SIGKILL (out of memory? take a smaller --num-processes)" in said[0]
    assert said[0].endswith("; give the command again with --resume to go on")
    assert generate(saved_pipeline, tmp_path / "pool", "--resume").wait() == 0
    assert content(tmp_path / "pool") == long_pool


@pytest.mark.slow
def test_one_process_that_is_told_to_stop_stops_all(tmp_path, saved_pipeline):
    run = generate(saved_pipeline, tmp_path / "pool", "--num-processes", "2")
    wait_for_images(run, tmp_path / "pool")
    process_of_rank(run, 1).terminate()
    said = run.communicate()[1]
    assert run.returncode == 128 + signal.SIGTERM
    assert said.count("stopped as asked") == 1
    assert "Traceback" not in said


def generate_on(folder: Path, options: str, arguments: list[object], more_room: str | None = None) -> None:
    words = [str(argument) for argument in arguments]
    process = context().Process(target=generate_on_disk, args=(folder, options, words, more_room))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.slow
@unprivileged_mounts
def test_full_disk_stops_in_a_line_and_the_pool_resumes_when_there_is_room(tmp_path, saved_pipeline, long_pool):
    generate_on(tmp_path, "size=300k", ["--pipeline", saved_pipeline, *LONG], more_room="size=20m")
    told = (tmp_path / "stderr").read_text()
    assert "error: the disk is full" in told
    assert (tmp_path / "code").read_text() == "2"
    assert "Traceback" not in told
    assert content(tmp_path / "copy") == long_pool


@pytest.mark.slow
@unprivileged_mounts
def test_read_only_disk_is_refused_in_a_line(tmp_path, saved_pipeline):
    generate_on(tmp_path, "ro", ["--pipeline", saved_pipeline])
    told = (tmp_path / "stderr").read_text()
    assert (tmp_path / "code").read_text() == "2"
    assert "cannot be written" in told
    assert len(told.splitlines()) == 1


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def altered(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def of_another_size(path: Path) -> None:
    Image.new("L", (8, 8)).save(path)


def no_image(path: Path) -> None:
    path.write_text("no image")


@pytest.mark.parametrize("damage", [cut_off, altered, of_another_size, no_image, partial(Path.write_bytes, data=b"")])
def test_damaged_image_is_drawn_again(tmp_path, pipeline, whole, damage, caplog):
    pool = fill_pool(pipeline, tmp_path / "pool", CONFIG, batch_size=2)
    damage(pool.path / pool.rows[4]["file_name"])
    fill_pool(pipeline, tmp_path / "pool", CONFIG, batch_size=2, resume=True)
    assert content(pool.path) == whole
    assert "1 images" in caplog.text


def test_image_whose_row_is_not_as_planned_is_drawn_again(tmp_path, pipeline, whole):
    pool = fill_pool(pipeline, tmp_path / "pool", CONFIG, batch_size=2)
    metadata = pool.path / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace(f'"seed": {pool.rows[0]["seed"]}', '"seed": 1'))
    fill_pool(pipeline, tmp_path / "pool", CONFIG, batch_size=2, resume=True)
    assert content(pool.path) == whole


def fail_above(pipeline, most: int):
    """The pipeline on a device that has memory for so many images at a time."""
    drawn = []

    class Small(type(pipeline)):
        def __call__(self, class_labels, **options):
            if len(class_labels) > most:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            drawn.append(len(class_labels))
            return super().__call__(class_labels, **options)

    pipeline.__class__ = Small
    return drawn


def test_batch_that_does_not_fit_into_memory_is_halved_for_good(tmp_path, pipeline, caplog):
    roomy = fill_pool(tiny_pipeline(), tmp_path / "roomy", CONFIG, batch_size=8)
    drawn = fail_above(pipeline, 3)
    pool = fill_pool(pipeline, tmp_path / "pool", CONFIG, batch_size=8)
    assert drawn == [2, 2, 2, 2, 1]
    assert caplog.text.count("out of memory") == 2
    for index in range(9):
        first, second = (np.asarray(p.open(index)).astype(int) for p in (roomy, pool))
        assert np.abs(first - second).max() <= 1


def test_image_that_does_not_fit_into_memory_alone_stops_the_run(tmp_path, pipeline):
    fail_above(pipeline, 0)
    with pytest.raises(RuntimeError, match="out of memory"):
        fill_pool(pipeline, tmp_path / "pool", replace(CONFIG), batch_size=8)
    assert not list(tmp_path.iterdir())
