"""Parts of the reference that are made while the site is built, so that they are never out of date.

    <!-- commands -->       ->  for each command: its help, its usage, a table of its arguments and options
    <!-- other modules -->  ->  ``::: module`` for each module of the library that no page of the reference names

mkdocs.yml names this file as a hook.
"""

import re
from pathlib import Path
from typing import Any

COMMANDS, MODULES = "<!-- commands -->", "<!-- other modules -->"
EXAMPLE = r"(dag-diffusion|accelerate launch) "  # how one begins
ROOT = Path(__file__).parent.parent
OF_COMMANDS = ("__init__", "__main__", "cli", "cli_options", "configs", "console", "inputs")  # another page


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What mkdocs calls for each page; all but those with a mark stay as they are."""
    for mark, made in ((COMMANDS, commands_in_markdown), (MODULES, other_modules)):
        markdown = markdown.replace(mark, made()) if mark in markdown else markdown
    return markdown


def other_modules() -> str:
    """``::: module`` lines, by name."""
    pages = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    named = set(re.findall(r"^::: dag_diffusion\.(\w+)", pages, flags=re.MULTILINE))
    modules = sorted(path.stem for path in (ROOT / "dag_diffusion").glob("*.py"))
    return "\n\n".join(f"::: dag_diffusion.{name}" for name in modules if name not in (*named, *OF_COMMANDS))


def commands_in_markdown() -> str:
    """Every command with its help, usage and options, in the order of ``dag-diffusion --help``."""
    from typer.main import get_command

    from dag_diffusion.cli.commands import app

    return "\n\n".join(_section(name, command) for name, command in get_command(app).commands.items())


def _section(name: str, command: Any) -> str:
    import typer

    context = typer.Context(command, info_name=f"dag-diffusion {name}")
    usage = " ".join([context.info_name, *command.collect_usage_pieces(context)])
    rows = [record for one in command.params if (record := one.get_help_record(context)) is not None]
    table = [f"| `{_cell(what)}` | {_cell(said)} |" for what, said in rows]
    head = [f"## {name}", "", f"`{usage}`", "", _paragraphs(command.help), "", "| option | |", "| --- | --- |"]
    return "\n".join([*head, *table])


def _paragraphs(text: str) -> str:
    """The help, with each example as code."""
    parts = [" ".join(part.split()) for part in re.sub(r"Examples?: +", "\n\n", text).split("\n\n")]
    return "\n\n".join(f"    {part}" if re.match(EXAMPLE, part) else part for part in parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
