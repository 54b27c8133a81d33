"""``dag-diffusion COMMAND``: a thin, typed skin over the library.  A user's error is one line and exit code 2.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.  Each command is a function in one
of the other modules of this room; here they get their order in the help, and ``--config``.
"""

from collections.abc import Callable
from typing import Annotated

import typer
from typer import Option

from dag_diffusion.generation.processes import leave_process_group

from .config_files import add_config_options
from .evaluate import evaluate
from .generate import find_modes, generate, status, train_probe
from .run import run
from .sample import score, show_target, subsample
from .share import pull, push, report, serve

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
    help="Difficulty-aware dataset distillation: steer a diffusion model (DAG), then choose its best images (DGS).\n\n"
    "Start with: dag-diffusion run",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from dag_diffusion import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, Option("--version", callback=_show_version, is_eager=True, help="show the version and stop")
    ] = False,
) -> None:
    """What holds for every command; the help of the application stands above."""


COMMANDS: tuple[Callable[..., None], ...] = (
    run, generate, status, train_probe, find_modes, score, subsample, show_target, evaluate, report, serve, push, pull,
)  # fmt: skip
for command in COMMANDS:
    app.command("app" if command is serve else None)(command)
add_config_options(app)


def main() -> None:
    """Run what the command line asks for.  A wrong option too is one line and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for a wrong option, whichever version
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # no command at all
            typer.echo(error.format_message())
            code = 0
        else:
            told = " ".join(error.format_message().split()).rstrip(".")
            typer.echo(f"error: {told}; --help shows what there is", err=True)
            code = 2
    finally:
        leave_process_group()
    raise SystemExit(code)
