"""The README's code runs as printed; only sizes are made small, and what needs the Hub is given tiny stand-ins."""

import re
from pathlib import Path

import pytest
from tiny import tiny_classifier, tiny_pipeline, write_images

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCS = {page.stem: page.read_text("utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}
GUIDANCE, SAMPLING = DOCS["guidance"], DOCS["sampling"]
OWN_TEST = ("guidance", "sampling", "hub")  # that of hub stands in test_hub.py
PAGES = {"README": README, **DOCS}
ALL = "\n".join(PAGES.values())
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


def python_blocks(text: str) -> list[str]:
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    for old, new in SMALLER.items():
        blocks = [block.replace(old, new) for block in blocks]
    return blocks


def test_python_road_runs_from_pipeline_to_dataset(tmp_path, monkeypatch, datasets_cache):
    monkeypatch.chdir(tmp_path)
    tiny_pipeline().save_pretrained("tiny-dit")
    tiny_classifier().save_pretrained("tiny-classifier")
    names: dict = {}
    for block in python_blocks(README):
        exec(block, names)  # noqa: S102 - our own README
    assert len(names["data"]) == 10
    assert names["data"].features["label"].names[5] == "Sandal"
    assert (tmp_path / "dit-with-guide" / "classifier").is_dir()


def test_code_of_the_guidance_page_runs():
    names: dict = {}
    for block in python_blocks(GUIDANCE):
        exec(block.replace("num_inference_steps=2,", "num_inference_steps=8,"), names)  # noqa: S102 - our own page


def test_code_of_the_sampling_page_runs():
    names: dict = {}
    for block in python_blocks(SAMPLING):
        exec(block, names)  # noqa: S102 - our own page
    assert set(names["nested"]) == {10, 50}


@pytest.mark.parametrize("page", [name for name, text in DOCS.items() if "```python" in text and name not in OWN_TEST])
def test_code_of_the_other_pages_runs(page, tmp_path, monkeypatch, datasets_cache):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "pool", {"Bag": 3, "Coat": 3}, difficulty=lambda name, index: index / 3)
    names: dict = {}
    for block in python_blocks(DOCS[page]):
        exec(block, names)  # noqa: S102 - our own page


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)
def test_no_placeholder_is_left(text):
    assert not re.findall(r"@[A-Z_]+@|TODO", text)


@pytest.mark.parametrize("command", re.findall(r"^dag-diffusion ([\w-]+)", ALL, flags=re.MULTILINE))
def test_commands_exist(command):
    from dag_diffusion.cli.commands import app

    assert command in {c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands}


def test_files_that_are_named_exist():
    for path in re.findall(r"`((?:dag_diffusion|benchmarks|examples|tests|docs)/[\w./-]+)`", ALL):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\((docs/[\w./-]+)\)", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\((images/[\w./-]+)\)", "\n".join(DOCS.values())):
        assert (ROOT / "docs" / path).exists(), path
