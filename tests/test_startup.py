"""Looking around costs nothing: help and the package itself bring in none of the libraries that take seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.main import get_command

from dag_diffusion import __all__
from dag_diffusion.cli import commands as cli

HEAVY = {
    "PIL", "accelerate", "datasets", "diffusers", "gradio", "huggingface_hub", "jinja2", "matplotlib", "numpy",
    "pandas", "pyarrow", "safetensors", "scipy", "sklearn", "timm", "torch", "torchvision", "transformers", "yaml",
}  # fmt: skip
QUESTIONS = ["--version", "--help", *(f"{name} --help" for name in get_command(cli.app).commands)]

# several commands in one process: a library that one of them imports is held against those after it too
ASKED = """
import sys
from contextlib import redirect_stdout
from io import StringIO
from dag_diffusion import cli

for option in sys.argv[1:]:
    with redirect_stdout(StringIO()) as shown:
        sys.argv = ["dag-diffusion", *option.split()]
        try:
            cli.main()
        except SystemExit as stopped:
            assert not stopped.code
    assert shown.getvalue()
    print(option, *(name for name in HEAVY if name in sys.modules), sep=",")
"""


@pytest.fixture(scope="module")
def imported():
    """The heavy libraries that are there after each question, by the question."""
    code = ASKED.replace("HEAVY", repr(sorted(HEAVY)))
    shown = subprocess.run([sys.executable, "-c", code, *QUESTIONS], capture_output=True, text=True, check=True)
    return {question: heavy for question, *heavy in (line.split(",") for line in shown.stdout.splitlines())}


@pytest.mark.parametrize("question", QUESTIONS)
def test_help_imports_nothing_heavy(imported, question):
    assert imported[question] == []


TABLES_ALONE = ["status pool", "subsample pool set --ipc 1 --quiet", "show-target hill --pool pool"]


@pytest.mark.parametrize("command", TABLES_ALONE)
def test_command_that_reads_a_pool_and_asks_no_network_loads_no_torch(pool, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pool").symlink_to(pool)
    code = ASKED.replace("HEAVY", "{'torch', 'torchvision', 'diffusers', 'transformers', 'accelerate'}")
    shown = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == command


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A finished pool of two images, as ``generate`` leaves one."""
    folder = tmp_path_factory.mktemp("pools") / "pool"
    rows = [
        {"file_name": f"{label}_{name}/0.png", "label": label, "class_name": name, "difficulty": 0.3}
        for label, name in enumerate(("Bag", "Coat"))
    ]
    for row in rows:
        (folder / row["file_name"]).parent.mkdir(parents=True)
        Image.new("L", (8, 8), 100).save(folder / row["file_name"])
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = {"settings": {"images_per_class": 1, "labels": None}, "classes": {"0": "Bag", "1": "Coat"}}
    (folder / "pool.json").write_text(json.dumps(record))
    return folder


LAUNCHED = """
import sys
from dag_diffusion import cli, processes

def launch(count, arguments, warming):
    print(count, *(name for name in HEAVY if name in sys.modules))
    return 0

processes.launch, processes.start_server = launch, lambda count: None
cli.main()
"""


@pytest.mark.parametrize("command", ["run", "distill images --output set", "evaluate set", "redundancy set"])
def test_process_that_waits_for_others_loads_nothing_for_itself(command):
    code = LAUNCHED.replace("HEAVY", repr(sorted(HEAVY)))
    started = [sys.executable, "-c", code, *command.split(), "--num-processes", "2", "--quiet"]
    shown = subprocess.run(started, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["2"]


def test_importing_the_package_imports_nothing_but_itself():
    code = "import sys; before = set(sys.modules); import dag_diffusion; print(*set(sys.modules) - before)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = {name.split(".")[0] for name in shown.stdout.split()} - {"dag_diffusion"} - sys.stdlib_module_names
    assert foreign <= {"lazy_loader", "__editable___dag_diffusion_0_1_0_finder"}


@pytest.mark.parametrize("name", __all__)
def test_every_public_name_is_there_when_asked_for(name):
    import dag_diffusion

    assert getattr(dag_diffusion, name) is getattr(dag_diffusion, name)
    assert name in dir(dag_diffusion)


def test_name_that_is_not_there_is_an_attribute_error_that_lists_those_that_are():
    import dag_diffusion

    with pytest.raises(AttributeError, match="fill_pool"):
        dag_diffusion.no_such_name  # noqa: B018 - the look-up is what is tested
