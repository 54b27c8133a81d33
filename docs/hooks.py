"""Parts of the site that are made while it is built, so that they are never out of date.

    <!-- commands -->         ->  for each command: its help, its usage, a table of its arguments and options
    <!-- public: ROOM -->     ->  ``::: name`` for each public name of a room; ``package`` is dag_diffusion itself
    <!-- results: TABLE -->   ->  a table from benchmarks/results, see benchmarks/tables.py
    notebooks/*.ipynb         ->  one page each under tutorials/

Links to CONTRIBUTING.md and to notebooks, which lead there on GitHub, lead to the site's own pages.

mkdocs.yml names this file as a hook.
"""

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
COMMANDS = "<!-- commands -->"
PUBLIC, RESULTS = r"<!-- public: (\w+) -->", r"<!-- results: (.+?) -->"
EXAMPLE = r"(dag-diffusion|accelerate launch) "  # how one begins


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What mkdocs calls for each page; all but those with a mark stay as they are."""
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, commands_in_markdown())
    markdown = re.sub(r"\]\(\.\./((?:\.\./)*)CONTRIBUTING\.md", r"](\1contributing.md", markdown)
    markdown = re.sub(r"\]\(\.\./((?:\.\./)*)notebooks/(\w+)\.ipynb", r"](\1tutorials/\2.md", markdown)
    markdown = re.sub(PUBLIC, lambda found: public_names(found[1]), markdown)
    return re.sub(RESULTS, lambda found: result_table(found[1]), markdown)


def on_files(files: Any, config: Any) -> Any:
    """Add the notebooks, with the outputs that they were saved with."""
    from mkdocs.structure.files import File

    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text, pictures = notebook_in_markdown(path)
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=text))
        for name, picture in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=picture))
    return files


# -- results


def result_table(name: str) -> str:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from tables import rendered
    finally:
        sys.path.pop(0)
    return rendered(name)


# -- reference


def public_names(room: str) -> str:
    """``::: module.name`` lines: what the room's stub exports, and what the package exports from that room."""
    own = {} if room == "package" else exported(ROOT / "dag_diffusion" / room / "__init__.pyi", f"dag_diffusion.{room}")
    for name, place in exported(ROOT / "dag_diffusion" / "__init__.pyi", "dag_diffusion").items():
        if room_of(place) == room:
            own[name] = place
    return "\n\n".join(f"::: {place}" for place in own.values())


def exported(stub: Path, package: str) -> dict[str, str]:
    """Name to full name, of the lines ``from .module import name as name`` of a stub."""
    found = re.findall(r"^from \.([\w.]*) import (\w+) as \w+$", stub.read_text("utf-8"), flags=re.MULTILINE)
    places = {name: ".".join(part for part in (package, module, name) if part) for module, name in found}
    return {name: place.replace("dag_diffusion.pipelines.", "pipelines.") for name, place in places.items()}


def room_of(place: str) -> str:
    first, second = place.split(".")[:2]
    if first == "pipelines":
        return "guidance"
    return second if (ROOT / "dag_diffusion" / second).is_dir() else "package"


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


# -- tutorials


def notebook_in_markdown(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page, and its pictures by file name."""
    parts, pictures = [], {}
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(_links(source))
            continue
        if source.startswith("%matplotlib"):
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(pictures)}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![What the cell above draws]({name})")
            elif text := "".join(output.get("text", data.get("text/plain", ""))):
                parts.append(f"```text\n{text.rstrip()}\n```")
    source_line = f"*This page is `notebooks/{path.name}`, with the outputs it was saved with.*"
    title, rest = parts[0].split("\n", 1)
    return "\n\n".join([title, source_line, rest.lstrip(), *parts[1:]]), pictures


def _links(text: str) -> str:
    """Links of a notebook, which lies beside docs/, as links of a page under docs/tutorials/."""
    text = re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", text)
    return re.sub(r"\]\(\.\./docs/", "](../", text)
