"""The guidance room knows tensors only: it imports torch, and nothing of ours that reads files."""

import subprocess
import sys
from pathlib import Path

ROOM = Path(__file__).parent.parent / "dag_diffusion" / "guidance"
ALLOWED = {"dag_diffusion", "dag_diffusion.difficulty", "dag_diffusion.identity", "dag_diffusion.progress"}
HEAVY = {"PIL", "accelerate", "datasets", "diffusers", "safetensors", "scipy", "sklearn", "torchvision", "transformers"}


def test_guidance_imports_torch_and_nothing_that_reads_files():
    names = [f"dag_diffusion.guidance.{path.stem}" for path in ROOM.glob("*.py") if path.stem != "__init__"]
    code = f"import sys, importlib; [importlib.import_module(n) for n in {names}]; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    ours = {name for name in loaded if name.startswith("dag_diffusion")}
    assert ours - ALLOWED == {"dag_diffusion.guidance", *names}
    assert not {name.split(".")[0] for name in loaded} & HEAVY


def test_evaluation_needs_no_generator_and_none_of_its_libraries():
    code = "import sys, dag_diffusion.evaluation.runs, dag_diffusion.processes; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name.split(".")[0] for name in loaded} & {"datasets", "diffusers", "scipy", "sklearn", "transformers"}
