"""Several processes that act as one: a failure is told once, and nobody waits for those who are gone."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from accelerate import PartialState
from pools_on_disk import content
from warm import Command, Module, interpreter, process_of_rank

from dag_diffusion import processes
from dag_diffusion.cli.console import report_user_errors
from dag_diffusion.cli.launching import SMALL as SMALL_WEIGHTS
from dag_diffusion.cli.launching import processes_to_draw
from dag_diffusion.processes import (
    MEETING,
    fail_together,
    is_main_process,
    is_started,
    launch,
    stop_signal,
    this_process,
)

SIGNALLED = """
import os
from multiprocessing import forkserver
from dag_diffusion import processes

processes.PRELOADED.clear()
processes.start_server(2)
server = forkserver._forkserver._forkserver_pid
for number in processes.STOP_SIGNALS:
    os.kill(server, number)
processes._await_server()
print(forkserver._forkserver._forkserver_pid == server)
"""
SMALL = ["--images-per-class", "7", "--num-inference-steps", "2", "--batch-size", "2", "--quiet"]


@pytest.mark.slow
def test_any_way_to_start_any_number_of_processes_fills_the_same_pool(tmp_path, saved_pipeline):
    options = ["--pipeline", saved_pipeline, *SMALL]
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    ports = ["--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"]
    generate = ["-m", "dag_diffusion", "generate", tmp_path / "accelerate"]
    with interpreter(tmp_path) as python:
        environment = os.environ | {"PYTHON_EXEC": str(python)}  # what torch's launcher starts
        runs = [
            Command("generate", tmp_path / "one", *options),
            Command("generate", tmp_path / "three", *options, "--num-processes", "3"),
            Module(*launch, *ports, *generate, *options, env=environment),
        ]
        for run in runs:
            shown, told = run.communicate()
            assert run.returncode == 0, told
            assert shown.count("21 images in") == 1
    assert "3 process(es)" in (tmp_path / "three" / "generation.log").read_text()
    assert "2 process(es)" in (tmp_path / "accelerate" / "generation.log").read_text()
    assert content(tmp_path / "one") == content(tmp_path / "three") == content(tmp_path / "accelerate")


@pytest.mark.slow
def test_processes_choose_noise_and_push_images_apart_as_one(tmp_path, saved_pipeline):
    grouped = ["--group-size", "3", "--noise-candidates", "5", "--diversity", "0.3"]
    options = ["--pipeline", saved_pipeline, *SMALL, *grouped]
    runs = [
        Command("generate", tmp_path / "one", *options),
        Command("generate", tmp_path / "two", *options, "--num-processes", "2"),
    ]
    for run in runs:
        told = run.communicate()[1]
        assert run.returncode == 0, told
    assert "2 process(es)" in (tmp_path / "two" / "generation.log").read_text()
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("mistake", [["--classes", "Hat"], ["--log-with", "tensorbord"], ["--target", "1.5"]])
def test_mistake_is_told_once_however_many_processes_make_it(tmp_path, saved_pipeline, mistake):
    options = ["--pipeline", saved_pipeline, *SMALL, "--num-processes", "2", *mistake]
    run = Command("generate", tmp_path / "pool", *options)
    told = run.communicate()[1]
    assert run.returncode == 2
    lines = [line for line in told.splitlines() if line.strip()]
    assert len(lines) == 1, told
    assert lines[0].startswith("error: ")
    assert not (tmp_path / "pool").exists()


@pytest.mark.slow
def test_several_processes_read_no_module_beside_them_and_leave_nothing_behind(tmp_path, saved_pipeline):
    here, temporary = tmp_path / "here", tmp_path / ("a place whose name leaves no room for a socket " * 2).strip()
    for folder in (here, temporary):
        folder.mkdir()
    (here / "random.py").write_text("raise SystemExit('of the user')")
    words = [Path(sys.executable).with_name("dag-diffusion"), "generate", "pool", "--pipeline", saved_pipeline, *SMALL]
    environment = os.environ | {"TMPDIR": str(temporary), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    done = subprocess.run([*words, "--num-processes", "2"], cwd=here, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 process(es)" in (here / "pool" / "generation.log").read_text()
    assert not done.stderr
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_workers_finish_their_batch_and_stop_when_their_launcher_is_killed(tmp_path, saved_pipeline):
    pool, many = tmp_path / "pool", ["--images-per-class", "1000", *SMALL[2:], "--num-processes", "2"]
    run = Command("generate", pool, "--pipeline", saved_pipeline, *many)
    while run.poll(timeout=0.01) is None and not list(pool.rglob("*.png")):
        pass
    workers = [process_of_rank(run, rank) for rank in range(2)]
    run.send_signal(signal.SIGKILL)
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert 0 < len(list(pool.rglob("*.png"))) < 3000
    assert "stopped as asked" in (pool / "generation.log").read_text()


@pytest.mark.parametrize(
    ("images", "model", "expected"),
    [(1000, None, 2), (200, None, 2), (199, None, 1), (1000, "small", 2), (1000, "large", 1), (1000, "some/hub", 1)],
)
def test_pool_is_drawn_by_a_process_a_core_unasked_if_it_is_long_and_its_models_small(
    tmp_path, monkeypatch, images, model, expected
):
    monkeypatch.setattr("dag_diffusion.processor.cores", lambda: 2)
    monkeypatch.chdir(tmp_path)
    for name, size in {"small": SMALL_WEIGHTS, "large": SMALL_WEIGHTS + 1}.items():
        (tmp_path / name / "unet").mkdir(parents=True)
        with (tmp_path / name / "unet" / "model.safetensors").open("wb") as file:
            file.truncate(size)
    assert processes_to_draw(images, 50, [model, "none", None], None, "cpu", True) == expected
    assert processes_to_draw(images, 50, [model], 1, "cpu", True) == 1
    assert processes_to_draw(images, 50, [model], None, "cuda", True) == 1


LABELS_OF_IMAGES = "--top-k 2 is of labels per view, since those of images are kept whole; add --views N"
LABELS_OF_NO_KIND = "labels are 'firm', but must be hard (classes), soft (a teacher's, one an image) or views"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["label", "pool", "--top-k", "2"], LABELS_OF_IMAGES),
        (["evaluate", "set", "--labels", "firm", "--quiet"], f"--{LABELS_OF_NO_KIND}"),
    ],
    ids=["label", "evaluate"],
)
def test_so_is_one_that_each_finds_by_itself(arguments, said):
    run = Command(*arguments, "--num-processes", "2")
    told = run.communicate()[1]
    assert run.returncode == 2
    assert told.startswith(f"error: {said}")
    assert told.count("\n") == 1


def test_signal_to_the_whole_group_does_not_take_the_server_from_under_its_workers():
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("multiprocessing.forkserver.ensure_running", lambda: None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ValueError, match="this machine has 2"):
        launch(3, ["generate", "pool"])


def test_process_alone_speaks_and_fails_by_its_own_error():
    assert this_process().num_processes == 1
    assert is_main_process()
    assert not is_started()
    with pytest.raises(KeyError, match="lost"), fail_together():
        raise KeyError("lost")


@pytest.fixture
def launched(monkeypatch):
    """The environment of the second process that torchrun starts."""
    for name in MEETING:
        monkeypatch.setenv(name, {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "WORLD_SIZE": "2"}.get(name, "1"))


def test_only_the_first_of_several_speaks(launched):
    assert is_started()
    assert not is_main_process()


LEFT_BEHIND = [
    {"PMI_SIZE": "4", "PMI_RANK": "1"},
    {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
    {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
    {"LOCAL_RANK": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "1"},
]


@pytest.mark.parametrize("left", LEFT_BEHIND, ids=lambda left: next(iter(left)))
def test_process_waits_for_nobody_whom_no_launcher_has_started(monkeypatch, left):
    PartialState._reset_state()
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    try:
        assert this_process().num_processes == 1
        assert is_main_process()
        assert all(os.environ[name] == value for name, value in left.items())  # others may need it
    finally:
        PartialState._reset_state()


def test_command_that_shares_no_work_sees_nothing_of_a_launcher(launched):
    seen = []
    report_user_errors(lambda: seen.append(is_started()), shared=True)()
    report_user_errors(lambda: seen.append(is_started()))()
    assert seen == [True, False]


def test_process_that_waits_says_for_whom(launched, monkeypatch):
    monkeypatch.setattr("dag_diffusion.processes.MEETING_SECONDS", 0.0)
    told = threading.Event()
    monkeypatch.setattr("dag_diffusion.processes.logger.warning", lambda *text: told.set())
    monkeypatch.setattr("accelerate.PartialState", lambda **options: told.wait(10))
    assert this_process() is True


def test_worker_that_is_stopped_after_its_last_batch_ends_at_once(monkeypatch):
    def command(*_, **__):
        with stop_signal():
            os.kill(os.getpid(), signal.SIGTERM)
        raise SystemExit(0)

    monkeypatch.setattr(processes.runpy, "run_module", command)
    monkeypatch.setattr(processes.os, "setsid", lambda: None)
    monkeypatch.setattr(processes.sys, "argv", ["dag-diffusion"])
    monkeypatch.setattr(processes, "_STOPS", [])
    with pytest.raises(SystemExit) as ended:
        processes._run_command("generate", "pool")
    assert ended.value.code == 128 + signal.SIGTERM


def test_stop_signal_is_noted_and_the_former_handler_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with stop_signal() as asked:
        assert not asked.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.is_set()
    assert signal.getsignal(signal.SIGTERM) == before
