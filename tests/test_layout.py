"""The house: every room reaches the user, and each level has few enough doors to choose from."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dag_diffusion"
MOST = 14  # entries to choose from on each level
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> set[str]:
    """Names of the files in the wheel."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in ("dag_diffusion", "pipelines"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    done = subprocess.run([sys.executable, "-c", BUILD, built], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = built.glob("*.whl")
    return set(zipfile.ZipFile(file).namelist())


def files_below(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in paths}


def test_wheel_holds_every_file_of_every_room(wheel):
    asked = {f"dag_diffusion/{name}" for name in files_below(PACKAGE)}
    asked |= {f"dag_diffusion/pipelines/{name}" for name in files_below(ROOT / "pipelines")}
    assert asked == {name for name in wheel if ".dist-info/" not in name}


def rooms() -> list[Path]:
    found = [path.parent for path in sorted(PACKAGE.glob("*/__init__.py"))]
    return [PACKAGE, *(room for room in found if not room.is_symlink())]


def test_pipelines_lie_at_the_top_and_are_found_in_the_package():
    link = PACKAGE / "pipelines"
    assert link.readlink() == Path("../pipelines")
    assert link.resolve() == ROOT / "pipelines"


def test_there_are_twelve_rooms():
    names = {path.name for path in rooms()[1:]}
    assert names == {
        "classifiers",
        "cli",
        "data",
        "distillation",
        "evaluation",
        "generation",
        "guidance",
        "hub",
        "own_images",
        "reporting",
        "sampling",
        "training",
    }


@pytest.mark.parametrize("room", rooms(), ids=lambda path: path.name)
def test_each_level_has_few_entries_to_choose_from(room):
    modules = [path for path in room.glob("*.py") if not path.name.startswith("__")]
    assert 1 < len(modules) <= MOST


@pytest.mark.parametrize("room", rooms(), ids=lambda path: path.name)
def test_each_room_says_what_it_is_for_and_lists_its_names_for_editors(room):
    assert (room / "__init__.py").read_text("utf-8").startswith('"""')
    assert (room / "__init__.pyi").exists() == (room.name != "cli")


def test_map_for_contributors_leads_to_modules_that_are_there():
    table = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("| looking for |")[2].partition("\n\n")[0]
    named = {name for line in table.splitlines()[2:] for name in re.findall("`([^`]+)`", line.split("|")[2])}
    assert len(named) > 30
    assert [name for name in sorted(named) if not (PACKAGE / f"{name}.py").is_file()] == []
