"""Messages of the library in the words of one command: what the library calls an argument is shown as its option.

    overwrite=True -> --overwrite       size=64 -> --size 64       generator_steps is 0 -> --generator-steps is 0
    fill_pool() with resume=True -> dag-diffusion generate with --resume

An option that the command lacks is shown with the commands that have it, and left alone where those are many.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from typer.models import OptionInfo

from .fields import Fields

Options = Mapping[str, str]  # what the library says, to the option that says it
FUNCTIONS = {  # of the library, to the commands that call them
    "evaluate": "evaluate",
    "fill_pool": "generate",
    "find_modes": "find-modes",
    "label_folder": "label",
    "measure_redundancy": "redundancy",
    "score_and_record": "score",
    "subsample": "subsample",
    "train_classifier": "train-classifier",
    "train_generator": "train",
    "train_probe": "train-probe",
}
ALIASES = {"dtype": "precision", "destination": "output", "use_safetensors": "trust_bin"}
FEW = 3  # commands that are named; an option of more of them is no advice

VALUE = r"'[^']*'|\"[^\"]*\"|[\w./-]*\w"
SETTING = rf"\b(?P<name>[a-z]\w*)=(?P<value>{VALUE})"
CALL = rf"\b(?P<function>{'|'.join(FUNCTIONS)})\((?P<arguments>[^()]*)\)"
# a name with an underscore is no English word; one without stands for a setting where its value is told first of all
BARE = r"(?<![\w./'\"=-])(?P<bare>[a-z]+(?:_[a-z]+)+)(?![\w./'\"=(-])"
LEADING = r"^(?P<told>(?:(?:error|WARNING): )?)(?P<leading>[a-z]+)(?= (?:is|are) (?:'|-?\d|-?inf\b|nan\b|None\b))"
SAID = re.compile("|".join((LEADING, CALL, SETTING, BARE)))


def options_of(expanded: Callable[..., None]) -> dict[str, str]:
    """The options of a command by what the library calls them: parameters, and fields of its dataclasses.

    A name that may be one of several options, as ``scale`` of several guidances, has none.

    Args:
        expanded: the command, as of ``expand_fields``.
    """
    options: dict[str, str] = {}
    for name, parameter in inspect.signature(expanded).parameters.items():
        for mark in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(mark, OptionInfo):
                options[name] = _declared(mark) or f"--{name.replace('_', '-')}"
    known = {**ALIASES, **_renamed(inspect.unwrap(expanded))}
    return {name: options.get(option, "") for name, option in known.items() if option in ("", *options)} | options


def _declared(mark: OptionInfo) -> str | None:
    """The first name of an option, where it is not that of the parameter; typer takes it for a default, at first."""
    names = (mark.default, *(mark.param_decls or ()))
    return next((name for name in names if isinstance(name, str) and name.startswith("--")), None)


def _renamed(command: Callable[..., None]) -> dict[str, str]:
    """Field to parameter where they differ, and to nothing where several dataclasses have a field of that name."""
    found: dict[str, set[str]] = {}
    for parameter in inspect.signature(command).parameters.values():
        for mark in getattr(parameter.annotation, "__metadata__", ()):
            for name, option in mark.options.items() if isinstance(mark, Fields) else ():
                found.setdefault(name, set()).add(option)
    return {name: "" if others else option for name, (option, *others) in found.items()}


@dataclass(frozen=True)
class Words:
    """How one command says what the library says.

    Attributes:
        command: its name among ``commands``.
        commands: options of every command, as ``options_of`` gives them.
        going_on: what to do after Ctrl+C, or when a process was killed.
    """

    command: str = ""
    commands: Mapping[str, Options] = field(default_factory=dict)
    going_on: str = ""

    @property
    def options(self) -> Options:
        """Those of this command."""
        return self.commands.get(self.command, {})

    def __call__(self, message: str) -> str:
        """A message of the library in the words of this command."""
        spoken_of = self.command

        def shown(match: re.Match) -> str:
            nonlocal spoken_of
            if match["function"]:
                spoken_of = FUNCTIONS[match["function"]]
                arguments = re.sub(SETTING, setting, match["arguments"])
                return f"dag-diffusion {spoken_of} {arguments}".rstrip()
            if match["name"]:
                return setting(match)
            name = match["bare"] or match["leading"]
            return (match["told"] or "") + (self.options.get(name) or name)

        def setting(match: re.Match) -> str:
            name, value = match["name"], match["value"].removeprefix("torch.").strip("'\"")
            option, whose = self._option(name, spoken_of)
            if option is None:
                return match[0]
            if value == "True" or name == "use_safetensors":
                return f"{option}{whose}"
            return f"{option} {'none' if value == 'None' else value}{whose}"

        return SAID.sub(shown, message)

    def _option(self, name: str, spoken_of: str) -> tuple[str | None, str]:
        """The option that a name stands for, and whose it is where a reader would not know."""
        for one in (spoken_of, self.command):
            if name in self.commands.get(one, {}):
                return self.commands[one][name] or None, ""
        having = [one for one, options in self.commands.items() if name in options]
        if 1 <= len(having) <= FEW:
            return self.commands[having[0]][name], f" (of {' and '.join(having)})"
        return None, ""
