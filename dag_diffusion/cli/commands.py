"""``dag-diffusion COMMAND``: a thin, typed skin over the library.  A user's error is one line and exit code 2.

    function -> an option for each field of a config that it names -> user errors in one line -> --config, --save-config

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.  Each command is a function in one
of the other modules of this room.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from typer import Option

from .console import report_user_errors
from .errors import FAILURE, leave_to_nobody, line_of, show_traceback
from .evaluate import evaluate, label, redundancy
from .generate import generate, status
from .options.config_files import add_config_options
from .options.fields import expand_fields
from .options.wording import Words, options_of
from .prepare import find_modes, train_classifier, train_probe
from .run import distill, run
from .sample import score, show_target, subsample
from .share import pull, push, report, serve
from .train import train

app = typer.Typer(
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    add_completion=False,
    help="Difficulty-aware dataset distillation: steer a diffusion model, then choose its best images (DGS).\n\n"
    "Start with: dag-diffusion run\n\n"
    "Images of your own: dag-diffusion distill FOLDER --output SET",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from dag_diffusion import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, Option("--version", callback=_show_version, is_eager=True, help="show the version and stop")
    ] = False,
) -> None:
    """What holds for every command; the help of the application stands above."""
    if context.invoked_subcommand is None:
        print(context.get_help())


COMMANDS: tuple[Callable[..., None], ...] = (
    run, distill, train, generate, status, train_classifier, train_probe, find_modes, score, subsample, show_target,
    label, evaluate, redundancy, report, serve, push, pull,
)  # fmt: skip
# commands that several processes may work on
SHARED = (
    "distill", "evaluate", "find_modes", "generate", "label", "redundancy", "run", "score", "train", "train_classifier",
    "train_probe",
)  # fmt: skip
GOING_ON = {  # after Ctrl+C, or when a process was killed
    **dict.fromkeys(
        ("distill", "find_modes", "label", "run", "score", "train", "train_classifier", "train_probe"),
        "the same command goes on where it was",
    ),
    **dict.fromkeys(("evaluate", "redundancy"), "with --output the same command goes on where it was"),
    "generate": "give the command again with --resume to go on",
}


def name_of(command: Callable[..., None]) -> str:
    """What a command is called on the command line."""
    return {"serve": "app"}.get(command.__name__, command.__name__.replace("_", "-"))


def help_of(command: Callable[..., None]) -> str:
    """The docstring, each paragraph one line, which a terminal of any width breaks where it ends."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.__doc__ or "").split("\n\n"))


EXPANDED = {name_of(command): expand_fields(command) for command in COMMANDS}
OPTIONS = {name: options_of(command) for name, command in EXPANDED.items()}
for name, command in EXPANDED.items():
    words = Words(name, OPTIONS, GOING_ON.get(command.__name__, ""))
    app.command(name, help=help_of(command))(report_user_errors(command, words, shared=command.__name__ in SHARED))
add_config_options(app)


def main() -> None:
    """Run what the command line asks for.  A wrong option too is one line and exit code 2."""
    from dag_diffusion.memory import keep_freed_memory
    from dag_diffusion.processes import is_first_to_say, leave_process_group

    keep_freed_memory()
    for name in ("stdout", "stderr"):  # closed, as some daemons and schedulers start programs
        setattr(sys, name, getattr(sys, name) or open(os.devnull, "w"))  # noqa: SIM115 - as long as the program lasts
    try:
        code = app(standalone_mode=False) or 0
        sys.stdout.flush()
    except typer.TyperException as error:
        message = " ".join(error.format_message().split()).rstrip(".")
        if is_first_to_say(FAILURE):
            typer.echo(f"error: {message}; --help shows what there is", err=True)
        code = 2
    except (KeyboardInterrupt, typer.Abort):  # before a command runs
        code = 128 + signal.SIGINT
    except BrokenPipeError:
        code = leave_to_nobody()
    except Exception as error:  # while options are read
        if is_first_to_say(FAILURE):
            typer.echo(f"{show_traceback(error)}error: {line_of(error)}", err=True)
        code = 2
    finally:
        leave_process_group()
    raise SystemExit(code)
