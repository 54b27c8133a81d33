"""Options that are fields of the library's dataclasses, whose name, type, default and help are declared there alone.

    seed: int = 0  and  "seed: random seed of the pool"   ->   --seed INTEGER  random seed of the pool  [default: 0]

So are keyword arguments of its functions.  A command names those that it offers, and receives them as a mapping from
which to build the dataclass or call the function:

    def generate(*, config: Annotated[Values, Fields("generation.plan:PoolConfig", ["seed"])]): PoolConfig(**config)

The source is read, not imported, since these modules import torch and ``--help`` should not wait for it.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, NamedTuple

from typer import Option

Values = dict[str, Any]
PACKAGE = Path(__file__).parents[2]
TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


class Field(NamedTuple):
    """What an option needs to know of a field; ``many`` is a tuple, given by a repeated option."""

    type: type
    many: bool
    default: Any
    help: str


@dataclass(frozen=True)
class Fields:
    """Marks a parameter of a command that receives fields of a dataclass, or arguments of a function, by name.

    Attributes:
        source: module below ``dag_diffusion`` and its class or function, such as ``generation.plan:PoolConfig``.
        names: the fields, or field to option where they differ.
        group: heading of their options in the help.
    """

    source: str
    names: Sequence[str] | Mapping[str, str]
    group: str | None = None

    @property
    def options(self) -> dict[str, str]:
        """Field to name of its option's parameter."""
        return dict(self.names) if isinstance(self.names, Mapping) else {name: name for name in self.names}

    def parameters(self) -> list[inspect.Parameter]:
        """The options as typer reads them from a signature."""
        known = read_fields(*self.source.split(":"))
        return [_parameter(option, known[field], self.group) for field, option in self.options.items()]


def _parameter(name: str, field: Field, group: str | None) -> inspect.Parameter:
    kind: Any = GenericAlias(list, (field.type,)) if field.many else field.type
    default = (list(field.default) or None) if field.many else field.default
    said = f"{field.help}; may be given several times" if field.many else field.help
    option = Option(f"--{name.replace('_', '-')}", help=said, rich_help_panel=group)
    annotation: Any = Annotated[kind if default is not None else kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def expand_fields(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each field in place of every parameter that is marked by ``Fields``."""
    marked: dict[str, Fields] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        marks = [mark for mark in getattr(parameter.annotation, "__metadata__", ()) if isinstance(mark, Fields)]
        if marks:
            marked[parameter.name] = marks[0]
        parameters += marks[0].parameters() if marks else [parameter]

    @wraps(command)
    def expanded(**given: Any) -> None:
        for name, mark in marked.items():
            values = {field: given.pop(option) for field, option in mark.options.items()}
            known = read_fields(*mark.source.split(":"))
            given[name] = {field: tuple(v or ()) if known[field].many else v for field, v in values.items()}
        command(**given)

    set_signature(expanded, parameters)
    return expanded


def set_signature(function: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> None:
    """Let typer see these parameters instead of those that a function is written with."""
    made: Any = function
    made.__signature__ = inspect.Signature(parameters, return_annotation=None)
    made.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


@cache
def read_fields(module: str, name: str) -> Mapping[str, Field]:
    """Fields of a dataclass, or keyword arguments of a function, whose types are those of options; by name."""
    tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text("utf-8"))
    kinds = ast.ClassDef | ast.FunctionDef
    (found,) = (node for node in tree.body if isinstance(node, kinds) and node.name == name)
    helps, fields = _attribute_docs(ast.get_docstring(found) or ""), {}
    for field, annotation, value in _with_defaults(found):
        default = _default(value, tree, module)
        if default is not ...:
            fields[field] = Field(_type(annotation, default), isinstance(default, tuple), default, helps.get(field, ""))
    return fields


def _with_defaults(found: ast.ClassDef | ast.FunctionDef) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """Name, annotation and default of each field or keyword argument that has all three."""
    if isinstance(found, ast.FunctionDef):
        for argument, value in zip(found.args.kwonlyargs, found.args.kw_defaults, strict=True):
            if argument.annotation is not None and value is not None:
                yield argument.arg, argument.annotation, value
        return
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.annotation, node.value


def _type(annotation: ast.expr, default: Any) -> type:
    """The type in ``str | None``, ``tuple[str, ...]`` and the like; where a name stands for it, that of the default."""
    names = [part.id for part in ast.walk(annotation) if isinstance(part, ast.Name)]
    return next((TYPES[name] for name in names if name in TYPES), type(default) if default is not None else str)


def _default(value: ast.expr, tree: ast.Module, module: str) -> Any:
    """A literal, or the default of another dataclass's field, such as ``PoolConfig.seed``; else ``...``."""
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
        return read_fields(_module_of(value.value.id, tree, module), value.value.id)[value.attr].default
    try:
        return ast.literal_eval(value)
    except ValueError:
        return ...


def _module_of(name: str, tree: ast.Module, module: str) -> str:
    """The module below ``dag_diffusion`` that a name is imported from, or this one."""
    room = module.split(".")[:-1]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and name in (alias.name for alias in node.names):
            own = (node.module or "").removeprefix("dag_diffusion.")
            return own if node.level == 0 else ".".join([*room[: len(room) + 1 - node.level], own])
    return module


def _attribute_docs(doc: str) -> dict[str, str]:
    """First sentence on each attribute or argument of a Google style docstring, without its mark-up."""
    section = re.split("(?:Attributes|Args):\n", doc)[-1].split("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
    return {name: _first_sentence(text) for name, text in entries}


def _first_sentence(text: str) -> str:
    return " ".join(re.split(r"\.(?:\s{2}|\n|$)", text)[0].split()).replace("``", "")
