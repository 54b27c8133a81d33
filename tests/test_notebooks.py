"""Every notebook runs from a folder of its own and leaves nothing elsewhere; what is committed is small and clean."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from timm.data import ImageNetInfo
from tiny import tiny_classifier, tiny_pipeline, tiny_transformer
from warm import Module

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IMAGENET = ROOT / "notebooks" / "4_imagenet_with_dit_xl.ipynb"
FEWER = {  # images and steps in each notebook, by the start of its name, so that it runs in seconds
    "1": {"num_inference_steps=12": "num_inference_steps=4", "num_inference_steps=10": "num_inference_steps=2"}
    | {'PROTOCOLS["quick"]': '__import__("dataclasses").replace(PROTOCOLS["quick"], epochs=2)'},
    "2": {"range(2000)": "range(200)", '"num_inference_steps": 12': '"num_inference_steps": 4'},
    "3": {"[:60]": "[:20]"},
    "4": {},
}
SMALLER = {  # of the cells for a GPU, so that they run here
    "num_inference_steps=50": "num_inference_steps=2",
    "images_per_class=50": "images_per_class=2",
    "ipc=10": "ipc=1",
    "guidance_scale=4.0": "guidance_scale=1.0",
    "torch.bfloat16": "torch.float32",
    '"cuda"': '"cpu"',
    "missing = what_is_missing()": 'missing = ""',
    "facebook/DiT-XL-2-256": "dit",
    "timm/resnet50.tv_in1k": "guide",
    "timm/convnext_tiny.fb_in1k": "evaluator",
    "%matplotlib inline": "",
}


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_of(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook) -> list[str]:
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def keys(notebook) -> list[str]:
    """Of the rows and records that are shown, in their order."""
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    shown = [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs]
    return re.findall(r"'(\w+)': ", "\n".join(shown))


def printed(notebook) -> str:
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    return "\n".join(output.get("text", "") for output in outputs)


@pytest.fixture
def warm_kernels(monkeypatch):
    """Kernels are forked where torch is imported already."""
    start = "jupyter_client.provisioning.local_provisioner.launch_kernel"
    monkeypatch.setattr(
        start, lambda words, *, env, cwd, **_: Module(*words[words.index("-m") + 1 :], env=env, cwd=cwd)
    )


def tree() -> set[Path]:
    """Files where a notebook of this repository could leave some by mistake."""
    found = [path for folder in ("notebooks", "dag_diffusion/assets") for path in (ROOT / folder).rglob("*")]
    return set(found)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_an_empty_folder_and_leaves_nothing_elsewhere(path, tmp_path, monkeypatch, warm_kernels):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    notebook, before = read(path), tree()
    for old, new in FEWER[path.name[0]].items():
        cells = [cell for cell in code_of(notebook) if old in cell.source]
        assert cells, f"no cell of {path.name} has {old}"
        for cell in cells:
            cell.source = cell.source.replace(old, new)
    place = tmp_path / "here"
    place.mkdir()
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(place)}}).execute()
    assert tree() == before
    assert len(pictures(notebook)) == len(pictures(read(path)))
    assert keys(notebook) == keys(read(path))
    assert {entry.name for entry in place.iterdir()} <= {"runs"}


def test_there_are_four_notebooks_and_their_outputs_are_small():
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4"]
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 400_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_is_executed_and_clean(path):
    notebook, text = read(path), path.read_text("utf-8")
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert [cell.execution_count for cell in code_of(notebook)] == list(range(1, len(code_of(notebook)) + 1))
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    assert pictures(notebook)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert not re.search(r"Traceback|Warning:|\d+it/s", text)
    assert not re.search(r"(?<![\w.)\]])/(?:home|root|work|tmp|usr|Users|var|opt)/|[A-Z]:\\\\", text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_and_files_that_are_named_exist(path):
    for cell in read(path).cells:
        for link in re.findall(r"\]\(([\w./-]+)\)", cell.source):
            assert (path.parent / link).exists(), link
        for name in re.findall(r"^dag-diffusion run --config (\S+)", cell.source, flags=re.MULTILINE):
            assert (ROOT / name).exists(), name


def test_cells_without_a_gpu_say_so_in_one_line():
    lines = [line for line in printed(read(IMAGENET)).splitlines() if "skipped" in line]
    assert lines == ["cells that draw are skipped: no CUDA GPU here"] + ["skipped: no CUDA GPU here"] * 3


def test_cells_for_a_gpu_run_on_stand_ins(tmp_path, monkeypatch, capsys):
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    names = dict(enumerate(ImageNetInfo("imagenet-1k").label_descriptions()))
    tiny_pipeline(transformer=tiny_transformer(1000), classifier=None, id2label=names).save_pretrained("dit")
    for classifier in ("guide", "evaluator"):
        tiny_classifier(names).save_pretrained(classifier)
    variables: dict = {}
    for cell in code_of(read(IMAGENET)):
        source = cell.source
        for old, new in SMALLER.items():
            source = source.replace(old, new)
        exec(source, variables)  # noqa: S102 - our own notebook
    assert len(variables["output"].images) == 9
    assert len(variables["chosen"].indices) == 10
    assert (tmp_path / "runs" / "imagenet" / "distilled" / "metadata.jsonl").is_file()
    assert "skipped" not in capsys.readouterr().out


def test_network_is_not_asked_where_it_is_switched_off(monkeypatch):
    [source] = [cell.source for cell in code_of(read(IMAGENET)) if "def what_is_missing" in cell.source]
    import torch
    from huggingface_hub import constants, try_to_load_from_cache

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    variables = {
        "torch": torch, "constants": constants, "try_to_load_from_cache": try_to_load_from_cache,
        "DIT": "nobody/dit", "GUIDE": "nobody/guide", "EVALUATOR": "nobody/evaluator",
    }  # fmt: skip
    exec(source, variables)  # noqa: S102 - our own notebook
    assert "not in the cache" in variables["missing"]
