"""The README's code runs as printed; only sizes are made small, and what needs the Hub is given tiny stand-ins."""

import re
from pathlib import Path

import pytest
from tiny import tiny_classifier, tiny_pipeline

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
SMALLER = {
    "images_per_class=50": "images_per_class=3, num_inference_steps=2",
    "ipc=10": "ipc=1",
    "num_inference_steps=20": "num_inference_steps=2",
    "num_inference_steps=50": "num_inference_steps=2",
    "facebook/DiT-XL-2-256": "tiny-dit",
    "timm/resnet50.tv_in1k": "tiny-classifier",
    '"tench", "church"': '"Bag", "boot"',
    "torch.bfloat16": "torch.float32",
    '"cuda"': '"cpu"',
}


def python_blocks() -> list[str]:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    for old, new in SMALLER.items():
        blocks = [block.replace(old, new) for block in blocks]
    return blocks


def test_python_road_runs_from_pipeline_to_dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_pipeline().save_pretrained("tiny-dit")
    tiny_classifier().save_pretrained("tiny-classifier")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    names: dict = {}
    for block in python_blocks():
        exec(block, names)  # noqa: S102 - our own README
    assert len(names["data"]) == 10
    assert names["data"].features["label"].names[5] == "Sandal"
    assert (tmp_path / "dit-with-guide" / "classifier").is_dir()


def test_no_placeholder_is_left():
    assert not re.findall(r"@[A-Z_]+@|TODO", README)


@pytest.mark.parametrize("command", re.findall(r"^dag-diffusion (\w+)", README, flags=re.MULTILINE))
def test_commands_exist(command):
    from dag_diffusion.cli import app

    assert command in {c.name or c.callback.__name__ for c in app.registered_commands}


def test_files_that_it_names_exist():
    for path in re.findall(
        r"`((?:dag_diffusion|benchmarks|examples|tests|docs)/[\w./-]+)`|\]\((docs/[\w./-]+)\)", README
    ):
        assert (Path(__file__).parent.parent / (path[0] or path[1])).exists(), path
