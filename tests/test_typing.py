"""What a type checker tells the users of the package: wrong options are errors, public names have types."""

import re
import subprocess
import sys

import pytest

import dag_diffusion

pytestmark = pytest.mark.slow
# what other packages say is not asked, and reading torch alone takes half a minute
OTHERS = "accelerate.*,datasets.*,diffusers.*,gradio.*,huggingface_hub.*,matplotlib.*,PIL.*,pyarrow.*,safetensors.*,"
OTHERS += "scipy.*,sklearn.*,timm.*,torch.*,torchvision.*,transformers.*"
CONFIG = f"""
[mypy]
follow_imports = silent
ignore_missing_imports = true
[mypy-{OTHERS}]
follow_imports = skip
"""
WRONG = {
    'subsample("pool", 10, methd="matching")': 'argument "methd"',
    'subsample("pool", 10, method="nearest")': 'No overload variant of "subsample"',
    'select([0.1], 1, evenly="mode")': 'argument "evenly"',
    'SelectionRule("matching", diversity="entropy")': 'Argument "diversity"',
    'SelectionRule("matching", "pool")': "positional arguments",
    'score_pool(pool, guide, measure="margin")': 'Argument "measure"',
    'score_and_record(pool, {}, on_error="ignore")': 'Argument "on_error"',
    'write_distilled_set(pool, [0], "set", files="move")': 'Argument "files"',
    'subsample("pool", 10).save("set", files="move")': 'Argument "files"',
    "PoolConfig(target=[0.5])": 'Argument "target"',
    'subsample("pool", 10)[10]': "not indexable",
}
RIGHT = [
    'subsample("pool", 10, target=0.5).save("set", files="link")',
    'subsample("pool", [10, 50], target="0.7*reference + 0.3*hill")[10].indices',
    'subsample("pool", 10, target={"Bag": "hill", "Coat": [0.1, 0.2]}, method="histogram", seed=1)',
    'select([0.1, 0.2], 1, method=SelectionRule("matching", diversity="k-center")).distance',
    'score_pool(pool, guide, measure="rival_margin", on_error="skip")',
    'write_distilled_set(pool, [0], "set")',
    'write_distilled_set(pool, subsample("pool", 10).indices, "set")',
    'PoolConfig(target="hill")',
    'pipeline("Coat", target_difficulty=0.7).images[0]',
    'score_and_record("pool", {"guide": guide}, "scores.jsonl")',
    'PoolConfig(labels=["Coat", 2])',
]


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """What mypy says of each line of a program that lies elsewhere, as that of a user does."""
    folder = tmp_path_factory.mktemp("typing")
    names = sorted(dag_diffusion.__all__)
    head = [
        "from typing import Any",
        f"from dag_diffusion import {', '.join(names)}",
        "pool: Pool = read_pool('pool')",
        "guide: Any = None",
        "pipeline: DifficultyGuidedPipeline = DifficultyGuidedPipeline.from_pretrained(embedded.PIPELINE)",
    ]
    lines = [*head, *RIGHT, *WRONG, *(f"reveal_type({name})" for name in names)]
    (folder / "mypy.ini").write_text(CONFIG)
    (folder / "program.py").write_text("\n".join(lines))
    options = ["--config-file", str(folder / "mypy.ini"), "--cache-dir", str(folder / "cache"), "--show-error-codes"]
    found = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(folder / "program.py")], cwd=folder, capture_output=True, text=True
    )
    said = dict.fromkeys(lines, "")
    for number, text in re.findall(r"program\.py:(\d+): (.*)", found.stdout):
        said[lines[int(number) - 1]] += text
    assert any(said.values()), found.stdout + found.stderr
    return said


@pytest.mark.parametrize("line", RIGHT)
def test_right_call_has_no_error(checked, line):
    assert checked[line] == ""


@pytest.mark.parametrize("line", WRONG)
def test_wrong_option_is_an_error(checked, line):
    assert WRONG[line] in checked[line]


def test_public_names_have_types(checked):
    revealed = {line: text for line, text in checked.items() if line.startswith("reveal_type")}
    assert len(revealed) >= 24
    assert [line for line, text in revealed.items() if '"Any"' in text or not text] == []
