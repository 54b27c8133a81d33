"""Options of a command in a YAML file: ``--config`` reads them, ``--save-config`` writes what ran.

    value = command line, else file, else default          key = long option name, or name of an argument

A value in the file is taken as if it had been typed: the command's own types convert or refuse it.
"""

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from dag_diffusion.cli.console import at_home
from dag_diffusion.data.files import require_file_place, write_atomically
from dag_diffusion.processes import is_main_process

from . import FILES
from .fields import set_signature

MARK = "# written by dag-diffusion"  # first words of a saved file, so that no other file is overwritten by one
TAGS = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
OWN = ("config", "save_config", "help")
ASKED = ("dry_run", "estimate")  # flags that ask what a run would do; they belong to no run


def add_config_options(app: typer.Typer) -> None:
    """Give every command that is registered so far the options ``--config`` and ``--save-config``."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _with_config_options(command.callback)


def _with_config_options(function: Callable[..., None]) -> Callable[..., None]:
    own = inspect.signature(_config_options).parameters

    @wraps(function)
    def command(**values: Any) -> None:
        context, path = values.pop("context"), at_home(values.pop("save_config"))
        values.pop("config")
        if path is not None and is_main_process():  # of several processes one writes
            save_config(path, context)
        function(**values)

    set_signature(command, [*inspect.signature(function).parameters.values(), *own.values()])
    return command


def _load(context: typer.Context, path: Path | None) -> Path | None:
    path = at_home(path)
    if path is not None and not context.resilient_parsing:
        context.default_map = {**(context.default_map or {}), **read_config(path, context.command.params)}
    return path


def _config_options(
    *,
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            callback=_load,
            is_eager=True,
            help="YAML file of options; those of the command line win",
            rich_help_panel=FILES,
        ),
    ] = None,
    save_config: Annotated[
        Path | None,
        typer.Option(
            "--save-config", help="write all options of this run to a file for --config", rich_help_panel=FILES
        ),
    ] = None,
) -> None:
    """The parameters that every command gets; typer reads them from here."""


def read_config(path: Path, parameters: Iterable[Any]) -> dict[str, Any]:
    """Values by parameter name, as click's ``default_map`` wants them; a key without a value counts as absent.

    Args:
        path: a YAML file, one mapping.
        parameters: those of the command.

    Raises:
        typer.BadParameter: there is no such file, it is no mapping, or a key or the form of a value fits no parameter.
    """
    known = _by_key(parameters)
    values: dict[str, Any] = {}
    for written, value in _mapping_in(path).items():
        key = str(written).replace("_", "-")
        if key not in known:
            raise typer.BadParameter(f"{path} has an unknown key {str(written)!r}{_nearest(key, known)}")
        if known[key].name in values:
            raise typer.BadParameter(f"{path} says {key!r} twice, under two of its names; keep one of them")
        if value is not None:
            values[known[key].name] = _as_typed(known[key], value, f"{key!r} in {path}")
    return values


def _by_key(parameters: Iterable[Any]) -> dict[str, Any]:
    """Parameters by what they are called in a file, ``-`` for ``_``."""
    found: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name not in OWN:
            names = [option[2:] for option in parameter.opts if option.startswith("--")] or [parameter.name]
            found |= dict.fromkeys((name.replace("_", "-") for name in names), parameter)
    return found


def _mapping_in(path: Path) -> Mapping[Any, Any]:
    import yaml  # only for those who use it, so that --help stays quick

    class AsTyped(yaml.SafeLoader):
        """Plain values stay the texts that they are: a class called no is no False, and 010 no eight."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise yaml.YAMLError(f"it says {twice[0]!r} twice")
            return super().construct_mapping(node, deep)

    AsTyped.yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag in TAGS]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        found = AsTyped(path.read_text("utf-8")).get_single_data()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read ({error.strerror}); give a YAML file of options") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of the parser, of UTF-8, of endless nesting
        raise typer.BadParameter(f"{path} is no YAML ({' '.join(str(error).split())}); mend it there") from error
    if found is None:  # nothing but comments
        return {}
    if not isinstance(found, dict):
        raise typer.BadParameter(
            f"{path} holds a {type(found).__name__}, but must hold lines such as 'ipc: 10', one an option"
        )
    return found


def _nearest(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; this command knows {', '.join(known)}"


def _as_typed(parameter: Any, value: Any, where: str) -> Any:
    """The text, or list of texts, that would stand on the command line; that of a flag is true or false."""
    if isinstance(value, dict):
        raise typer.BadParameter(f"{where} is a mapping, but an option has one value or a list; write it flat")
    if _repeatable(parameter):
        return [str(item) for item in (value if isinstance(value, list) else [value])]
    if isinstance(value, list):
        raise typer.BadParameter(f"{where} is a list, but this option is given once; write one value")
    return str(value)


def _repeatable(parameter: Any) -> bool:
    return bool(getattr(parameter, "multiple", False)) or parameter.nargs == -1


def save_config(path: Path, context: typer.Context) -> None:
    """Write every option and argument of a command, whole or not at all, so that ``--config`` repeats it.

    All values, not only those that differ from defaults: a later version may have other defaults.  Those that are
    neither given nor have a default are left out, and so are ``ASKED`` ones.

    Raises:
        typer.BadParameter: the file cannot be written, or holds something else than such a record.
    """
    import yaml

    from dag_diffusion import __version__

    try:
        _require_ours(path)
        keys: dict[str, str] = {}
        for key, parameter in _by_key(context.command.params).items():
            keys.setdefault(parameter.name, key)  # an option of several names is saved under its first
        given = {name: context.params.get(name) for name in keys}
        values = {
            keys[name]: _plain(value)
            for name, value in given.items()
            if value is not None and not (name in ASKED and isinstance(value, bool))
        }
        head = f"{MARK} {__version__}: dag-diffusion {context.info_name} --config {path.name}\n"
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
        write_atomically(path, (head + text).encode())
    except OSError as error:
        raise typer.BadParameter(f"--save-config {path} is not possible: {error}") from error


def _require_ours(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError("it is a folder; give a file such as run.yaml")
    require_file_place(path, "run.yaml")
    if path.exists() and not path.read_bytes().startswith(MARK.encode()):
        raise FileExistsError("it holds something that --save-config did not write; give another file")


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    # YAML has inf as .inf, which no option knows
    return str(value) if isinstance(value, Path) or value in (math.inf, -math.inf) else value
