"""What a person sees in a terminal: one-line errors, progress bars, tables.

Bars and errors go to standard error, so that a pipe gets results alone.
"""

import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dag_diffusion.processes import (
    FailedElsewhereError,
    KilledError,
    StoppedError,
    is_first_to_say,
    is_main_process,
    work_alone,
)

from .errors import FAILURE, leave_to_nobody, line_of, printable, show_traceback
from .options.wording import Words

if TYPE_CHECKING:
    from dag_diffusion.evaluation.tables import Table
    from dag_diffusion.generation.pool_state import PoolStatus
    from dag_diffusion.progress import Progress


HOME = re.compile(r"(random:|)(~[^/]*(?:/.*)?)", re.DOTALL)
SEEN_SECONDS = 1.0  # until a launcher, which looks ten times a second, has seen which process ended first
QUIET_SECONDS = 600.0  # a batch of large images may take minutes; after ten, a run has most likely ended
NOTHING = "\N{EN DASH}"  # in a cell of a table


def report_user_errors(
    command: Callable[..., None], words: Words = Words(), *, shared: bool = False
) -> Callable[..., None]:
    """The command, whose errors become one line and exit code 2.

    Args:
        words: those of this command for what the library says.
        shared: several processes may work on it, as a launcher says in the environment; others see nothing of it.
    """

    @wraps(command)
    def reported(**values: Any) -> None:
        with user_errors(words):
            if not shared:
                work_alone()
            command(**{name: at_home(value) for name, value in values.items()})

    return reported


def at_home(value: Any) -> Any:
    """A path, or several, whose ``~`` no shell has expanded: in a file of options, in ``--output=~/set``."""
    if isinstance(value, list | tuple):
        return type(value)(map(at_home, value))
    if isinstance(value, str | Path) and (found := HOME.fullmatch(str(value))):
        return type(value)(found[1] + os.path.expanduser(found[2]))
    return value


@contextmanager
def user_errors(words: Words = Words()) -> Iterator[None]:
    """Turn whatever is raised into one line and exit code 2; what stops a command from outside keeps its own code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: is_first_to_say(record.getMessage()))
    handler.setFormatter(_OptionsFormatter("%(levelname)s: %(message)s", words))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(True)
    for noisy in ("py.warnings", "diffusers", "transformers", "httpx", "huggingface_hub", "torchao"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    for library in ("DIFFUSERS", "HF_HUB", "TRANSFORMERS"):  # set their levels anew when they are imported, later
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    going_on = f"; {words.going_on}" if words.going_on else ""
    try:
        yield
        sys.stdout.flush()
    except (typer.Exit, typer.Abort, typer.TyperException):
        raise  # see commands.main
    except BrokenPipeError:
        raise typer.Exit(leave_to_nobody()) from None
    except FailedElsewhereError:
        time.sleep(SEEN_SECONDS)  # or it would be told of this process, and not of one that was killed
        raise typer.Exit(2) from None  # the process that failed has said why
    except KilledError as error:
        typer.echo(f"error: {words(str(error))}{going_on}", err=True)
        raise typer.Exit(128 + error.signal) from None  # as shells say it
    except StoppedError as error:
        if is_main_process():
            typer.echo(words(str(error)), err=True)
        raise typer.Exit(128 + signal.SIGTERM) from None
    except KeyboardInterrupt:
        if is_main_process():
            typer.echo(f"stopped{going_on}", err=True)
        raise typer.Exit(130) from None
    except Exception as error:
        if is_first_to_say(FAILURE):
            typer.echo(show_traceback(error), err=True, nl=False)
            for line in getattr(error, "problems", None) or [
                line_of(error, words.options.values())
            ]:  # a dry run finds several
                typer.echo(f"error: {words(printable(line))}", err=True)
        raise typer.Exit(2) from None


class _OptionsFormatter(logging.Formatter):
    """Warnings in the words of the command line."""

    def __init__(self, pattern: str, words: Words) -> None:
        super().__init__(pattern)
        self.words = words

    def format(self, record: logging.LogRecord) -> str:
        return self.words(super().format(record))


@contextmanager
def loading(what: str, quiet: bool) -> Iterator[None]:
    """A bar in a terminal while something is loaded, which takes seconds that cannot be counted; then it is gone."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns, console = (TextColumn("{task.description:<22}"), BarColumn(), TimeElapsedColumn()), _console()
    with Bars(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bars:
        bars.add_task(f"loading {what}", total=None)
        yield


@contextmanager
def importing(quiet: bool) -> Iterator[None]:
    """``loading`` for a command's imports."""
    from dag_diffusion.memory import libraries_kept

    with loading("libraries", quiet), libraries_kept():
        yield


@contextmanager
def stages(quiet: bool) -> Iterator["Progress"]:
    """A progress bar for each stage, created when the stage begins."""
    from rich.progress import Progress as Bars

    bars: dict[str, Any] = {}
    progress = Bars(*_columns(), console=_console(), disable=quiet)

    def update(stage: str, done: int, total: int) -> None:
        if stage not in bars:  # what an earlier run has done does not count as this one's speed
            bars[stage] = progress.add_task(stage, total=total, completed=done, before=done)
            progress.start()  # not before, since an empty line would stand above an error
        progress.update(bars[stage], completed=done)

    try:
        yield update
    finally:
        if bars:
            progress.stop()


def _columns() -> list[Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class SpeedColumn(ProgressColumn):
        """Over the whole run, since rich's own looks back half a minute, which a batch may take."""

        def render(self, task: Task) -> Text:
            added = task.completed - task.fields["before"]
            seconds = (task.finished_time if task.finished else task.elapsed) or 0
            if not (added and seconds):
                return Text("")
            missing = (task.total or 0) - task.completed
            left = "" if task.finished else f", {_duration(missing * seconds / added)} left"
            return Text(f"{added / seconds:.1f}/s{left}")

    return [TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), SpeedColumn()]


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)  # so that a pipe gets results alone


def show_table(shown: "Table") -> None:
    """Print a table and its note to standard output."""
    from rich.console import Console
    from rich.table import Table as TextTable
    from rich.text import Text

    console = Console()
    cells = [[NOTHING if cell is None or cell != cell else str(cell) for cell in row] for row in shown.rows]
    columns = list(zip(shown.columns, *cells, strict=True))
    widths = _widths(columns, console.width - 3 * len(columns) - 1)  # beside lines and spaces
    table = TextTable(title=Text(shown.title), title_justify="left", caption=Text(shown.note), caption_justify="left")
    for column, width in zip(shown.columns, widths, strict=True):
        table.add_column(Text(column), overflow="fold", width=width)  # a name is never cut short
    for row in cells:
        table.add_row(*map(Text, row))  # no name is taken for markup
    console.print(table)


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int | None]:
    """Widths of columns that break between words alone, as long as all fit; None, as it comes, where they need not."""
    whole = [max(map(len, column)) for column in columns]
    widths = [max(len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    if sum(whole) <= room or sum(widths) > room:
        return [None] * len(columns)
    while sum(widths) < room:
        widths[max(range(len(columns)), key=lambda i: whole[i] - widths[i])] += 1
    return list(widths)


def counted(number: int, one: str, many: str = "") -> str:
    """A number of things, such as ``1 image`` and ``1,000 images``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def status_lines(status: "PoolStatus") -> list[str]:
    """What a person wants to know of a pool that grows, or no longer does."""
    of_all = f"{status.done:,} of {counted(status.total, 'image')} ({status.done / status.total:.1%})"
    lines = [f"{of_all}, {counted(status.classes, 'class', 'classes')}"]
    quiet, rate = status.seconds_since_last, status.images_per_second
    if status.finished:
        lines.append("finished")
    elif quiet is None:
        lines.append("no batch of a run yet; if none is at work, give its command again with --resume")
    elif quiet > QUIET_SECONDS:
        lines.append(f"no image for {_duration(quiet)}: if no run is at work, give its command again with --resume")
    else:
        left = "" if status.seconds_left is None else f", about {_duration(status.seconds_left)} left"
        speed = "" if rate is None else f", {rate:.1f} images/s in this run"
        lines.append(f"last batch {_duration(quiet)} ago{speed}{left}")
    if status.damaged is not None:
        lines.append(f"{counted(len(status.damaged), 'image')} damaged")
    return [*lines, *(status.faults.sentences() if status.faults is not None else [])]


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
