"""Options that are fields of dataclasses: read from the source, they are what the classes say when imported."""

import ast
import inspect
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

import dag_diffusion
from dag_diffusion.cli import commands as cli
from dag_diffusion.cli.console import as_options
from dag_diffusion.cli.options.fields import Fields, read_fields

MARKS = [
    mark
    for command in cli.COMMANDS
    for parameter in inspect.signature(command).parameters.values()
    for mark in getattr(parameter.annotation, "__metadata__", ())
    if isinstance(mark, Fields)
]
SOURCES = sorted({mark.source for mark in MARKS})


@pytest.mark.parametrize("source", SOURCES)
def test_fields_read_from_the_source_are_those_of_the_class(source):
    module, name = source.split(":")
    declared = {field.name: field.default for field in fields(getattr(import_module(f"dag_diffusion.{module}"), name))}
    for field, read in read_fields(module, name).items():
        assert read.default == declared[field]
        assert read.many == isinstance(declared[field], tuple)
        assert read.default is None or read.many or isinstance(read.default, read.type)
    left_out = declared.keys() - read_fields(module, name).keys()
    assert all(declared[field] is MISSING for field in left_out)


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: f"{mark.source} {len(mark.names)}")
def test_every_offered_field_is_explained_in_its_dataclass(mark):
    known = read_fields(*mark.source.split(":"))
    for field in mark.options:
        assert known[field].help
        assert not known[field].help.startswith("of ")  # of what?


def test_summaries_of_commands_fit_into_the_list_of_commands():
    for command in get_command(cli.app).commands.values():
        assert len(command.help.split("\n\n")[0].splitlines()) == 1
        assert len(command.help.splitlines()[0]) <= 50


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("add overwrite=True to replace it", "add --overwrite to replace it"),
        ("say which by repo_type='dataset'", "say which by --repo-type dataset"),
        ("use device='cpu'", "use --device cpu"),
        ("add ipc=10, or a set", "add --ipc 10, or a set"),
        ("compute in float32 (dtype=torch.float32), or", "compute in float32 (--precision float32), or"),
        ("write destination='s.jsonl'; read scores=FILE", "write --output s.jsonl; read --scores FILE"),
        ("run score_and_record() first", "run dag-diffusion score first"),
        ("leave it out with probe=None", "leave it out with --probe none"),
        ("use_safetensors=None if you trust it", "--trust-bin if you trust it"),
        ("but start=0.3 and stop=0.2; use start=0.0", "but start=0.3 and stop=0.2; use start=0.0"),
    ],
)
def test_errors_of_the_library_are_shown_in_words_of_the_command_line(message, shown):
    assert as_options(message, cli.OPTION_NAMES) == shown


def test_errors_of_the_library_name_no_options():
    root = Path(dag_diffusion.__file__).parent
    modules = [path for path in root.rglob("*.py") if "cli" not in path.relative_to(root).parts]
    for path in [*modules, *(root.parent / "pipelines").glob("*.py")]:
        for raised in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Raise)):
            texts = [node.value for node in ast.walk(raised) if isinstance(node, ast.Constant)]
            assert not [text for text in texts if isinstance(text, str) and "--" in text], path
