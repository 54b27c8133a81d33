"""The guidance room knows tensors only: it imports torch, and nothing of ours that reads files."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOM = Path(__file__).parent.parent / "dag_diffusion" / "guidance"
ALLOWED = {"dag_diffusion", "dag_diffusion.difficulty", "dag_diffusion.identity", "dag_diffusion.progress"}
HEAVY = {"PIL", "accelerate", "datasets", "diffusers", "safetensors", "scipy", "sklearn", "torchvision", "transformers"}


ROOMS = """
import importlib, sys
for names in sys.argv[1:]:
    for name in names.split():
        importlib.import_module(name)
    print(*sys.modules)
"""


@pytest.fixture(scope="module")
def guidance() -> list[str]:
    return [f"dag_diffusion.guidance.{path.stem}" for path in ROOM.glob("*.py") if path.stem != "__init__"]


@pytest.fixture(scope="module")
def loaded(guidance) -> list[set[str]]:
    """Modules that are there after the guidance room is imported, and after evaluations are too."""
    command = [sys.executable, "-c", ROOMS, " ".join(guidance), "dag_diffusion.evaluation.runs dag_diffusion.processes"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_guidance_imports_torch_and_nothing_that_reads_files(guidance, loaded):
    ours = {name for name in loaded[0] if name.startswith("dag_diffusion")}
    assert ours - ALLOWED == {"dag_diffusion.guidance", *guidance}
    assert not {name.split(".")[0] for name in loaded[0]} & HEAVY


def test_evaluation_needs_no_generator_and_none_of_its_libraries(loaded):
    assert "dag_diffusion.evaluation.runs" in loaded[1]
    heavy = {"datasets", "diffusers", "scipy", "sklearn", "transformers"}
    assert not {name.split(".")[0] for name in loaded[1]} & heavy
