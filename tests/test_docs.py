"""The site builds without the internet, says all once, and names no command, option or file that is not there."""

import ast
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
import zlib
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import dag_diffusion
from dag_diffusion.cli import commands as cli

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples/README.md"]
}
COMMANDS = get_command(cli.app).commands


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` does; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    # without --quiet, which would keep warnings from counting
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


def documented(site: Path) -> list[str]:
    """Names with a place on the site, each as often as it has one."""
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return [line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()]


def home_of(name: str) -> str:
    """Where a public name is defined, as the reference calls the place."""
    value = getattr(dag_diffusion, name)
    place = value.__name__ if inspect.ismodule(value) else f"{value.__module__}.{value.__qualname__}"
    return place.removeprefix("dag_diffusion.") if place.startswith("dag_diffusion.pipelines") else place


def test_every_public_name_is_in_the_reference_once(site):
    found = Counter(documented(site))
    assert {name: found[home_of(name)] for name in dag_diffusion.__all__} == dict.fromkeys(dag_diffusion.__all__, 1)


def test_every_module_of_the_library_is_in_the_reference_once(site):
    found = Counter(documented(site))
    modules = {f"dag_diffusion.{path.stem}" for path in (ROOT / "dag_diffusion").glob("*.py")}
    names = ("__init__", "__main__", "configs", "console", "inputs")  # with cli and cli_*: the command line's own
    modules = {name for name in modules if not re.match(r"dag_diffusion\.cli(_|$)", name)}
    asked = {*modules, "pipelines.difficulty_guided"} - {f"dag_diffusion.{name}" for name in names}
    assert {name: found[name] for name in asked} == dict.fromkeys(asked, 1)


class Loaded(HTMLParser):
    """What a browser would fetch by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag in ("script", "img", "iframe", "source"):
            self.places.append(found.get("src") or "")
        if tag == "link" and found.get("rel") in ("stylesheet", "preconnect", "icon", "preload"):
            self.places.append(found.get("href") or "")


def test_pages_fetch_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text("utf-8"))
        assert not [place for place in loaded.places if re.match(r"(https?:)?//", place)], page


@pytest.mark.parametrize("name", COMMANDS)
def test_page_of_commands_has_every_option_that_help_has(site, name, capsys):
    page = (site / "reference/commands.html").read_text("utf-8")
    section = page.split(f'<h2 id="{name}">')[1].split("<h2 ")[0]
    with pytest.raises(SystemExit):
        cli.app([name, "--help"])
    shown = re.sub(r"-\n\s+", "-", capsys.readouterr().out)  # an option that is broken at the end of a line
    options = set(re.findall(r"(?<=\s)--[a-z][\w-]*", shown)) - {"--help"}
    assert options >= {"--config", "--save-config"}
    assert options <= set(re.findall(r"--[a-z][\w-]*", section))


# -- what the code blocks say


def blocks(language: str) -> list:
    found = []
    for page, text in PAGES.items():
        for number, block in enumerate(re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)):
            found.append(pytest.param(block, id=f"{page}-{number}"))
    return found


def commands_in(block: str) -> list[list[str]]:
    """The words of each line of a shell, continued lines joined and comments left out."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def ours(words: list[str]) -> list[str] | None:
    """The arguments of `dag-diffusion`, however it is started; None for another program."""
    if words[0] == "dag-diffusion":
        return words[1:]
    return words[words.index("dag_diffusion") + 1 :] if "dag_diffusion" in words else None


@pytest.mark.parametrize("block", blocks("(?:bash|sh|console)"))
def test_commands_and_options_are_accepted(block, monkeypatch):
    monkeypatch.chdir(ROOT)  # configurations and scripts are named from there
    for words in commands_in(block):
        arguments = ours(words)
        if arguments is not None and arguments[0] != "--version":
            command = COMMANDS[arguments[0]]
            command.make_context(arguments[0], arguments[1:])  # parses, converts and checks; runs nothing
        elif words[0] in ("python", "sbatch"):
            script = next((word for word in words[1:] if word.endswith((".py", ".slurm"))), None)
            assert script is None or Path(script).is_file(), words
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", Path("Makefile").read_text("utf-8"), flags=re.MULTILINE)
        elif words[0] == "pytest":
            assert all(Path(word.split("::")[0]).exists() for word in words[1:] if word.endswith(".py"))


@pytest.mark.parametrize("block", blocks("ya?ml"))
def test_yaml_is_yaml(block):
    assert yaml.safe_load(block) is not None


@pytest.mark.parametrize("block", blocks("(?:python|py)"))
def test_python_names_only_what_is_there(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dag_diffusion"):
            module = importlib.import_module(node.module)
            assert not [name.name for name in node.names if not _is_in(module, name.name)]


def _is_in(module, name: str) -> bool:
    try:
        getattr(module, name)
    except AttributeError:
        return importlib.util.find_spec(f"{module.__name__}.{name}") is not None
    return True


def parameters_in(docstring: str) -> set[str]:
    """Names that the Args section of a docstring speaks of; one entry may speak of several."""
    section = re.search(r"^ *Args:\n((?: {4,}.*\n|\n)+)", inspect.cleandoc(docstring) + "\n", flags=re.MULTILINE)
    entries = re.findall(r"^ {4}(\w[\w, `*]*?)(?: \(.*\))?:", section[1], flags=re.MULTILINE) if section else []
    return {name.strip(" `*") for entry in entries for name in entry.split(",")}


@pytest.mark.parametrize("path", sorted((ROOT / "dag_diffusion").glob("*.py")), ids=lambda path: path.stem)
def test_docstrings_speak_of_parameters_that_exist(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            assert parameters_in(text) <= {one.arg for one in given if one is not None}, f"{path.name}: {node.name}"


# -- what belongs to a project


def test_citation_is_one_that_tools_read():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(cited)  # what the format demands
    assert (cited["cff-version"], cited["version"]) == ("1.2.0", dag_diffusion.__version__)
    papers = [number["value"] for paper in cited["references"] for number in paper["identifiers"]]
    assert papers == ["arXiv:2601.10090", "arXiv:2507.03331"]
    assert all({"type", "title", "authors"} <= set(paper) for paper in cited["references"])


def test_licence_is_the_one_that_is_declared():
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8").split("\n\n")[0]
    assert "license = Apache-2.0" in (ROOT / "setup.cfg").read_text("utf-8")


def test_changelog_speaks_of_this_version():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## \[{re.escape(dag_diffusion.__version__)}\]|will be {dag_diffusion.__version__}", text, re.M)
