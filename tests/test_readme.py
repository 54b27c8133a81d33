"""The code of the README and of the pages runs as printed; only sizes are small, and the Hub has tiny stand-ins."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from text_pipelines import made, save_lora, stable_diffusion_xl
from tiny import tiny_classifier, tiny_pipeline, tiny_transformer, write_images
from tiny_backbones import clip_with_texts
from typer.testing import CliRunner

from dag_diffusion.cli.commands import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCS = {str(page.relative_to(ROOT)): page.read_text("utf-8") for page in sorted((ROOT / "docs").rglob("*.md"))}
OWN_TEST = (  # of the last two in test_hub.py and in test_other_generators.py
    "docs/how-to/choose.md", "docs/how-to/load.md", "docs/how-to/steer.md", "docs/how-to/share.md",
    "docs/how-to/other-generators.md",
)  # fmt: skip
PAGES = {"README.md": README, **DOCS}
ALL = "\n".join(PAGES.values())
SMALLER = {
    "images_per_class=50": "images_per_class=3, num_inference_steps=2",
    "ipc=10,": "ipc=1,",
    "num_inference_steps=12": "num_inference_steps=8",
    "num_inference_steps=50": "num_inference_steps=2",
    "GeneratorConfig(size=32, steps=6000)": "GeneratorConfig(size=16, steps=2, width=64, depth=1, batch_size=4)",
    "GeneratorConfig(steps=2000)": "GeneratorConfig(steps=2, batch_size=4, sample_grids=0)",
    "facebook/DiT-XL-2-256": "tiny-dit",
    "stabilityai/stable-diffusion-xl-base-1.0": "tiny-xl",
    "timm/resnet50.tv_in1k": "tiny-classifier",
    "openai/clip-vit-base-patch32": "tiny-clip",
    "you/your-lora": "tiny-lora",
    '"cat", "dog", "red fox"': '"Bag", "Coat", "boot"',
    '"tench", "church"': '"Bag", "boot"',
    'class_labels="church"': 'class_labels="boot"',
    "torch.bfloat16": "torch.float32",
    '"cuda"': '"cpu"',
}
SMALLER_COMMANDS = {  # options that are added
    "train-classifier": "--steps 2 --batch-size 4",
    "train": "--steps 2 --vae-steps 2 --width 64 --depth 1 --batch-size 4 --sample-grids 0",
    "generate": "--images-per-class 3 --num-inference-steps 2",
    "subsample": "--ipc 1",
    "evaluate": "--network convnet-2-w4 --seeds 1 --num-processes 1",
}


def run(text: str) -> dict:
    """What the code of a page defines, block after block in one namespace."""
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        for old, new in SMALLER.items():
            block = block.replace(old, new)
        exec(block, names)  # noqa: S102 - our own page
    return names


def test_code_of_the_readme_runs_from_a_pipeline_to_a_distilled_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_pipeline().save_pretrained("tiny-dit")
    tiny_classifier().save_pretrained("tiny-classifier")
    run(README)
    assert len((tmp_path / "distilled" / "metadata.jsonl").read_text().splitlines()) == 10
    assert (tmp_path / "dit-with-guide" / "classifier").is_dir()


@pytest.mark.slow
def test_commands_of_the_readme_lead_from_a_folder_of_any_classes_to_a_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, count in (("my_images", 12), ("my_test_images", 4)):
        write_images(tmp_path / name, {"ant": count, "bee": count}, metadata=False)
    commands = next(b for b in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL) if "my_generator" in b)
    for line in commands.replace("--ipc 10 ", "").splitlines():
        name, *words = shlex.split(line, comments=True)[1:]
        done = CliRunner().invoke(app, [name, *words, *SMALLER_COMMANDS.get(name, "").split()])
        assert done.exit_code == 0, f"{line}\n{done.output}"
    assert "my_test_images" in (tmp_path / "results.json").read_text()
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_code_of_the_page_on_choosing_runs_on_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(run(DOCS["docs/how-to/choose.md"])["nested"]) == {10, 50}


def test_code_of_the_page_on_loading_makes_a_dataset_of_the_classes(tmp_path, monkeypatch, datasets_cache):
    monkeypatch.chdir(tmp_path)
    names = run(DOCS["docs/how-to/load.md"])
    assert len(names["data"]) == 20
    assert names["data"].features["label"].names[5] == "Sandal"


def test_code_of_the_page_on_steering_runs_also_for_a_pipeline_of_prompts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made(stable_diffusion_xl).save_pretrained("tiny-xl")
    tiny_classifier().save_pretrained("tiny-classifier")
    names = run(DOCS["docs/how-to/steer.md"])
    assert names["steered"].measure(names["images"]).shape == (2,)


@pytest.mark.parametrize("page", [name for name, text in DOCS.items() if "```python" in text and name not in OWN_TEST])
def test_code_of_the_other_pages_runs(page, tmp_path, monkeypatch, datasets_cache):
    monkeypatch.chdir(tmp_path)
    for folder in ("pool", "distilled", "test_images", "my_images"):
        write_images(tmp_path / folder, {"Bag": 3, "Coat": 3}, difficulty=lambda name, index: index / 3)
    if "facebook/DiT-XL-2-256" in DOCS[page]:
        tiny_pipeline().save_pretrained("tiny-dit")
    if "stabilityai/" in DOCS[page]:
        made(stable_diffusion_xl).save_pretrained("tiny-xl")
        save_lora(made(stable_diffusion_xl), "tiny-lora")
    if "openai/clip" in DOCS[page]:
        clip_with_texts(Path("tiny-clip"))
    if 'weak="weak"' in DOCS[page]:
        tiny_pipeline().save_pretrained("my_generator")
        tiny_pipeline(transformer=tiny_transformer(num_layers=2)).save_pretrained("weak")
    run(DOCS[page])


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)
def test_no_placeholder_is_left(text):
    assert not re.findall(r"@[A-Z_]+@|TODO", text)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^dag-diffusion ([\w-]+)", ALL, flags=re.MULTILINE))))
def test_commands_exist(command):
    from dag_diffusion.cli.commands import app

    assert command in {c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands}


def test_files_that_are_named_exist():
    for path in re.findall(r"`((?:dag_diffusion|benchmarks|examples|tests|docs|notebooks)/[\w./-]+)`", ALL):
        assert (ROOT / path.replace("NAME", "dit-xl").replace("downstream-dit-xl", "downstream-10-quick")).exists(), (
            path
        )
    for name, text in PAGES.items():
        for path in re.findall(r"\]\((?!https?:)([\w./-]+)", text):
            assert (ROOT / name).parent.joinpath(path).exists(), f"{name}: {path}"


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_first_pages_lead_to_every_page_on_how_and_why(page):
    linked = set(re.findall(r"(?:how-to|concepts)/[\w-]+\.md", PAGES[page]))
    assert linked == {name.removeprefix("docs/") for name in DOCS if "/how-to/" in name or "/concepts/" in name}


def test_readme_fits_on_two_screens():
    assert len(README.splitlines()) <= 130


def test_readme_names_the_test_command():
    assert "`make test`" in README
    assert re.search(r"^test:", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)


def tables():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("tables")


def test_figures_of_the_readme_are_those_of_the_records():
    made = tables()
    trained = made.trained_sets
    known, steered = trained.accuracies("solver-10-quick"), made.guided_images.by_method("fast")
    real = steered["real, chosen by the guide"]
    default = steered["default, scale 2 from 0.25 to 0.75"]
    pools = made.guided_images.load("generation-loop")["ratios"]
    rounds = trained.accuracies("learnable-test-10")["learnable, in 5 rounds"]
    half = trained.accuracies("half-10-quick")  # of images as the default draws
    chosen = half["easiest of 5 | drawn to modes, merged, half CFG 2, auto 1.5"]  # as ``run`` does it
    drawn = half["random | unguided, half CFG 2"]
    gpu = made.guided_images.load("dit-xl")["bfloat16, forms of guidance"]["probe, last 2 decoded (default)"]

    def mean(rows, key):
        return np.mean([row[key] for row in rows])

    rows = dict(re.findall(r"^\| (control|accuracy|cost)[^|]*\| ([^|]*) \|", README, flags=re.MULTILINE))
    found = {name: re.findall(r"\d+\.\d+", text) for name, text in rows.items()}
    assert found == {
        "control": [f"{mean(default, 'evaluator_error'):.3f}", f"{mean(real, 'evaluator_error'):.3f}"],
        "accuracy": [f"{one.mean():.1f}" for one in (chosen, rounds, drawn, known["random | real"])],
        "cost": [f"{pools['unguided pool'] / pools['guided pool']:.1f}", f"{gpu['cost']:.2f}"],
    }
