"""The site builds without the internet, says all once, and names nothing that is not there."""

import ast
import dataclasses
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
from dag_diffusion.difficulty import MEASURES

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


ROOMS = ("", *sorted(path.parent.name for path in (ROOT / "dag_diffusion").glob("*/__init__.pyi")))


def home_of(room: str, name: str) -> str:
    """Where a public name is defined, as the reference calls the place."""
    package = importlib.import_module(f"dag_diffusion.{room}".rstrip("."))
    value = getattr(package, name)
    if inspect.ismodule(value):
        return value.__name__
    if not hasattr(value, "__qualname__"):  # a constant does not know its module
        stub = Path(package.__file__).with_suffix(".pyi").read_text("utf-8")
        return f"{package.__name__}.{re.search(rf'from .([a-z_.]+) import {name} as', stub)[1]}.{name}"
    return f"{value.__module__}.{value.__qualname__}".replace("dag_diffusion.pipelines.", "pipelines.")


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference_once(site, room):
    found, names = Counter(documented(site)), importlib.import_module(f"dag_diffusion.{room}".rstrip(".")).__all__
    assert {name: found[home_of(room, name)] for name in names} == dict.fromkeys(names, 1)


@pytest.mark.parametrize("room", ROOMS)
def test_device_is_what_accelerate_finds_unless_one_is_given(room):
    package = importlib.import_module(f"dag_diffusion.{room}".rstrip("."))
    public = [getattr(package, name) for name in package.__all__]
    configs = [one for one in public if inspect.isclass(one) and dataclasses.is_dataclass(one)]
    taking = [*filter(inspect.isfunction, public), *configs]
    devices = {one.__name__: inspect.signature(one).parameters.get("device") for one in taking}
    assert {name: one.default for name, one in devices.items() if one and one.default not in (None, one.empty)} == {}


def test_reference_has_a_page_for_every_room():
    rooms = set(ROOMS) - {""} | {"package"}
    marks = {re.search(r"<!-- public: (\w+) -->", text) for name, text in PAGES.items() if "docs/reference/" in name}
    assert {mark[1] for mark in marks if mark} == rooms


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


MODULES = [*sorted((ROOT / "dag_diffusion").rglob("*.py")), *sorted((ROOT / "pipelines").glob("[!_]*.py"))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_docstrings_speak_of_parameters_that_exist(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            assert parameters_in(text) <= {one.arg for one in given if one is not None}, f"{path.name}: {node.name}"


def test_page_on_clusters_names_the_commands_that_share_work():
    [told] = re.findall(r"only\n(.*?) join\n", PAGES["docs/how-to/cluster.md"], re.DOTALL)
    assert sorted(re.findall(r"`(.+?)`", told)) == sorted(name.replace("_", "-") for name in cli.SHARED)


def test_page_on_difficulty_names_every_measure():
    rows = re.findall(r"^\| `(\w+)` \|", PAGES["docs/concepts/difficulty.md"], flags=re.MULTILINE)
    assert rows == list(MEASURES)


def test_page_on_steering_has_every_option_of_guidance_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\S+)` \|", PAGES["docs/how-to/steer.md"], flags=re.MULTILINE))
    assert rows == {field.name: str(field.default) for field in dataclasses.fields(dag_diffusion.GuidanceConfig)}


# -- what the records say


def tables():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("tables")


RESULTS = {name: text for name, text in PAGES.items() if name.startswith("docs/results/")}
SPREAD = r"\d ± \d|[+-]\d+\.\d \([+-]"  # mean ± deviation, or a difference with its interval
NOT_IN_A_TABLE = {  # goals, settings, differences of two cells, and what a record holds outside its rows
    "0.06", "0.8", "0.9", "1.05", "1.15", "8.0", "91.5", "92.1", "98.6", "65.6", "6.2", "4.9", "11.2",
    "0.01", "0.02", "0.03", "0.12", "0.13", "0.19", "0.001", "3.4", "3.5", "5.6", "7.5", "0.97", "1.6", "3.3", "1.8",
}  # fmt: skip


@pytest.fixture(scope="module")
def rendered():
    made = tables()
    return {name: made.rendered(name) for name in made.TABLES}


def test_every_table_stands_on_the_site_and_every_record_in_a_table(rendered):
    pages = [text for name, text in PAGES.items() if name.startswith("docs/")]
    marked = Counter(mark for text in pages for mark in re.findall(r"<!-- results: (.+?) -->", text))
    assert marked == Counter(list(rendered))
    shown = "\n".join([*rendered.values(), *RESULTS.values()])
    records = {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    assert not {name for name in records if name not in shown}


def test_tables_for_readers_on_github_are_those_of_the_records():
    kept = (ROOT / "benchmarks" / "results" / "README.md").read_text("utf-8")
    assert kept == tables().page() + "\n", "run python benchmarks/tables.py > benchmarks/results/README.md"


def test_no_table_shows_a_value_that_is_not_there(rendered):
    assert not [name for name, text in rendered.items() if re.search(r"\b(None|nan)\b", text)]


def test_every_rendered_table_names_its_command(rendered):
    by_record = {"training, pairs of sets"}  # its rows name their records, whose tables name the commands
    assert not [
        name for name, text in rendered.items() if "*Measured by `python " not in text and name not in by_record
    ]


@pytest.mark.parametrize("page", [name for name in PAGES if name.startswith("docs/")])
def test_no_measured_number_is_written_by_hand_in_a_table(page):
    rows = [line for line in PAGES[page].splitlines() if line.startswith("|")]
    assert not [row for row in rows if re.search(SPREAD, row)]
    assert not ([row for row in rows if re.search(r"\d\.\d", row)] if page in RESULTS else [])


@pytest.mark.parametrize("page", RESULTS)
def test_numbers_of_the_text_are_those_of_the_tables(page, rendered):
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|\b\d{4}\.\d{5}\b", "", RESULTS[page])
    known = set(re.findall(r"\d+\.\d+", "\n".join(rendered.values()))) | NOT_IN_A_TABLE
    assert not set(re.findall(r"(?<![\d.])\d+\.\d+(?![\d.])", text)) - known


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
