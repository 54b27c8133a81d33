"""Each script in `findings/` stands alone, says what it shows, and is told on the page about libraries."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "findings").glob("*.sh"))
PAGE = (ROOT / "docs/how-to/libraries.md").read_text("utf-8")


def test_page_and_folder_hold_the_same_findings():
    told = re.findall(r"Script: `findings/([\w-]+\.sh)`", PAGE.replace("\n", " "))
    assert sorted(told) == [script.name for script in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_finding_says_what_it_shows_and_installs_the_version_that_the_page_names(script):
    text = script.read_text("utf-8")
    for part in ("Library", "Task", "One would guess", "What happens", "Instead", "Output seen"):
        assert f"\n# {part}:" in text, part
    library, version = re.search(r"# Library: (\S+) ([\d.]+)", text).groups()
    assert re.search(rf"install --quiet .*{library}=={version}\b", text)
    entry = next(entry for entry in PAGE.split("\n\n") if f"`findings/{script.name}`" in entry)
    assert f"{library} {version}" in entry.replace("\n", " ")
    assert "dag_diffusion" not in text


def test_findings_are_programs_that_bash_can_read():
    for script in SCRIPTS:
        assert script.stat().st_mode & 0o111, f"{script.name} cannot be started"
        assert not subprocess.run(["bash", "-n", script], check=False).returncode, script.name
