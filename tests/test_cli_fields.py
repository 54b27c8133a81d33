"""Options that are fields of dataclasses or arguments of functions: read from the source, they are as declared."""

import ast
import inspect
import re
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

import dag_diffusion
from dag_diffusion.cli import commands as cli
from dag_diffusion.cli.options.fields import Fields, read_fields
from dag_diffusion.cli.options.wording import Words

MARKS = [
    mark
    for command in cli.COMMANDS
    for parameter in inspect.signature(command).parameters.values()
    for mark in getattr(parameter.annotation, "__metadata__", ())
    if isinstance(mark, Fields)
]
SOURCES = sorted({mark.source for mark in MARKS})


def defaults_of(module: str, name: str) -> dict[str, object]:
    """What fields of a dataclass, or keyword arguments of a function, are by default."""
    source = getattr(import_module(f"dag_diffusion.{module}"), name)
    if is_dataclass(source):
        return {field.name: field.default for field in fields(source)}
    arguments = inspect.signature(source).parameters.values()
    return {one.name: one.default for one in arguments if one.kind is one.KEYWORD_ONLY}


@pytest.mark.parametrize("source", SOURCES)
def test_fields_read_from_the_source_are_those_of_the_class_or_function(source):
    module, name = source.split(":")
    declared = defaults_of(module, name)
    for field, read in read_fields(module, name).items():
        assert read.default == declared[field]
        assert read.many == isinstance(declared[field], tuple)
        assert read.default is None or read.many or isinstance(read.default, read.type)
    left_out = declared.keys() - read_fields(module, name).keys()
    assert all(declared[field] is MISSING for field in left_out)


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: f"{mark.source} {len(mark.names)}")
def test_every_offered_field_is_explained_where_it_is_declared(mark):
    known = read_fields(*mark.source.split(":"))
    for field in mark.options:
        assert known[field].help
        assert not known[field].help.startswith("of ")  # of what?


def test_summaries_of_commands_fit_into_the_list_of_commands():
    for command in get_command(cli.app).commands.values():
        assert len(command.help.split("\n\n")[0].splitlines()) == 1
        assert len(command.help.splitlines()[0]) <= 50


def test_help_breaks_its_lines_where_the_terminal_ends():
    for command in get_command(cli.app).commands.values():
        assert command.help
        assert all(len(paragraph.splitlines()) == 1 for paragraph in command.help.split("\n\n"))


@pytest.mark.parametrize(
    ("command", "message", "shown"),
    [
        ("generate", "add overwrite=True to replace it", "add --overwrite to replace it"),
        ("pull", "say which by repo_type='dataset'", "say which by --repo-type dataset"),
        ("label", "use device='cpu'", "use --device cpu"),
        ("evaluate", "add ipc=10, or a set", "add --ipc 10, or a set"),
        ("score", "compute in float32 (dtype=torch.float32), or", "compute in float32 (--precision float32), or"),
        ("score", "write destination='s.jsonl'", "write --output s.jsonl"),
        ("generate", "leave it out with probe=None", "leave it out with --probe none"),
        ("generate", "use_safetensors=None if you trust it", "--trust-bin if you trust it"),
        ("generate", "but start=0.3 and stop=0.2; use start=0.0", "but start=0.3 and stop=0.2; use start=0.0"),
        ("generate", "use compiled=True", "use --compile"),
        ("generate", "scale=2 of one of three guidances", "scale=2 of one of three guidances"),
        ("train", "name it by base='facebook/DiT'", "name it by --from facebook/DiT"),
        ("train", "memory is 0; compare with more", "--minimax-memory is 0; compare with more"),
        ("distill", "generator_steps is 0", "--generator-steps is 0"),
        ("distill", "the most_redraws of a/held_out.png", "the most_redraws of a/held_out.png"),
        ("evaluate", "test is a folder", "test is a folder"),
    ],
)  # fmt: skip
def test_errors_of_the_library_are_shown_in_words_of_the_command_line(command, message, shown):
    assert Words(command, cli.OPTIONS)(message) == shown


@pytest.mark.parametrize(
    ("command", "message", "shown"),
    [
        ("score", "run score_and_record() first", "run dag-diffusion score first"),
        ("report", "read it with scores=FILE", "read it with --scores FILE (of subsample and show-target)"),
        ("subsample", "read its output with scores=FILE", "read its output with --scores FILE"),
        ("report", "go on by fill_pool() with resume=True", "go on by dag-diffusion generate with --resume"),
        ("evaluate", "by subsample(method='random')", "by dag-diffusion subsample --method random"),
        ("push", "load it with use_safetensors=None", "load it with use_safetensors=None"),  # eight others have it
    ],
)  # fmt: skip
def test_advice_names_an_option_of_another_command_only_with_that_command(command, message, shown):
    assert Words(command, cli.OPTIONS)(message) == shown


REFUSED = {int: [-1, 0, 10**9], float: [-1.0, 0.0, float("nan"), 1e9], str: ["no such thing"], bool: []}


def refusals(mark):
    """What the dataclass says of values that it refuses, by field."""
    module, name = mark.source.split(":")
    made = getattr(import_module(f"dag_diffusion.{module}"), name)
    for field in mark.options:
        read = read_fields(module, name)[field]
        for value in REFUSED[read.type]:
            try:
                made(**{field: (value,) if read.many else value})
            except (ValueError, FileNotFoundError) as error:
                yield field, str(error)


@pytest.mark.parametrize("command", cli.COMMANDS, ids=cli.name_of)
def test_what_a_config_says_of_its_fields_is_said_of_the_options(command):
    name = cli.name_of(command)
    marks = [
        mark
        for parameter in inspect.signature(command).parameters.values()
        for mark in getattr(parameter.annotation, "__metadata__", ())
        if isinstance(mark, Fields)
    ]
    for mark in marks:
        for field, message in refusals(mark):
            said = Words(name, cli.OPTIONS)(message)
            assert not re.search(rf"(?<![-\w]){field}(=| is -?\d)", said), said
            assert "_" not in field or not re.search(rf"(?<![-\w]){field}\b", said), said


def test_errors_of_the_library_name_no_options():
    root = Path(dag_diffusion.__file__).parent
    modules = [path for path in root.rglob("*.py") if "cli" not in path.relative_to(root).parts]
    for path in [*modules, *(root.parent / "pipelines").glob("*.py")]:
        for raised in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Raise)):
            texts = [node.value for node in ast.walk(raised) if isinstance(node, ast.Constant)]
            assert not [text for text in texts if isinstance(text, str) and "--" in text], path
