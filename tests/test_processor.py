import gc
import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from dag_diffusion import memory, processor

# how many pages a process takes anew from the system while tensors of 40 MB come and go
FAULTS = """
import resource, torch
from dag_diffusion.memory import keep_freed_memory

def pages():
    for _ in range(8):
        torch.empty(10_000_000).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def fewest():  # of three rounds, since what else lives in the process may take the place of a freed tensor once
    return min(-pages() + pages() for _ in range(3))

print(fewest())
if not keep_freed_memory():
    raise SystemExit("no glibc")
print(fewest())
"""


def test_kept_memory_serves_the_next_tensor():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True)
    if "no glibc" in done.stderr:
        pytest.skip("another allocator than glibc's")
    as_usual, kept = map(int, done.stdout.split())
    assert kept < as_usual / 10


# bytes that stay with eight threads, each of which decoded 60 MB and is still there
THREADS = """
import resource, threading
from dag_diffusion.memory import keep_freed_memory

if not keep_freed_memory():
    raise SystemExit("no glibc")
from PIL import Image

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

done, start = threading.Event(), held()

def decode(turn):
    Image.new("RGBA", (5000, 3000), "red")
    turn.set()
    done.wait()

for _ in range(8):
    turn = threading.Event()
    threading.Thread(target=decode, args=(turn,)).start()
    turn.wait()
print(held() - start)
done.set()
"""


def test_threads_leave_kept_memory_to_one_another():
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True)
    if "no glibc" in done.stderr:
        pytest.skip("another allocator than glibc's")
    assert int(done.stdout) < 3 * 60_000_000


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Folder of the control group of a job, in which this process has one of its own."""
    (tmp_path / "cgroup").write_text("3:cpuset:/other\n0::/job/step\n")
    (tmp_path / "job" / "step").mkdir(parents=True)
    monkeypatch.setattr(processor, "GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(processor, "GROUPS", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr("os.sysconf", lambda name: 1000)
    return tmp_path / "job"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [({}, (8, 10**6)), ({"job": "150000 100000", "step": "max 100000"}, (2, 5000)), ({"step": "99 100"}, (1, 5000))],
    ids=["none", "of the job", "of its own"],
)
def test_cores_and_memory_are_those_that_a_job_may_use(job, limits, expected):
    for name, share in limits.items():
        (job / "step" if name == "step" else job).joinpath("cpu.max").write_text(f"{share}\n")
        (job / "memory.max").write_text("5000\n")
        (job / "step" / "memory.max").write_text("max\n")
    assert (processor.cores(), memory.memory()) == expected


def test_cores_are_those_that_a_process_is_bound_to(job, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {5})
    (job / "cpu.max").write_text("400000 100000\n")
    assert processor.cores() == 1


@pytest.mark.parametrize(
    ("known", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"bf16": True}, True), ({"avx512_f": True}, False)],
)
def test_a_cpu_has_bfloat16_by_its_instructions(monkeypatch, known, expected):
    monkeypatch.setattr(torch, "cpu", SimpleNamespace(get_capabilities=lambda: known))
    assert processor.has_bfloat16() is expected


def test_a_torch_that_does_not_know_the_instructions_is_taken_to_have_none(monkeypatch):
    monkeypatch.setattr(torch, "cpu", SimpleNamespace())
    assert not processor.has_bfloat16()


def test_other_devices_compute_in_float32():
    assert not processor.has_bfloat16("meta")


def test_what_is_imported_is_kept_out_of_later_collections_and_they_go_on(tmp_path, monkeypatch):
    (tmp_path / "some_library.py").write_text("class Thing: pass\nthings = [Thing() for _ in range(1000)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    gc.unfreeze()
    try:
        with memory.libraries_kept():
            assert not gc.isenabled()
        assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)  # nothing came, and the caller's is not kept
        with memory.libraries_kept():
            importlib.import_module("some_library")
        assert gc.isenabled()
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
