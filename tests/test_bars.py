"""Bars of the command line: a terminal is told at once what it waits for, a pipe gets nothing of it."""

from io import StringIO

import pytest
from rich.console import Console

from dag_diffusion.cli import console


@pytest.fixture
def shown(request, monkeypatch):
    """What standard error gets, as a terminal or not."""
    file = StringIO()
    monkeypatch.setattr(console, "_console", lambda: Console(file=file, force_terminal=request.param, width=80))
    return file


@pytest.mark.parametrize("shown", [True], indirect=True)
def test_terminal_is_told_what_is_loaded_before_it_is_there(shown):
    with console.loading("libraries", quiet=False):
        assert "loading libraries" in shown.getvalue()


@pytest.mark.parametrize(("shown", "quiet"), [(False, False), (True, True)], indirect=["shown"])
def test_pipe_is_told_nothing_of_loading_nor_who_wants_quiet(shown, quiet):
    with console.loading("libraries", quiet=quiet):
        pass
    assert not shown.getvalue()


@pytest.mark.parametrize("shown", [True], indirect=True)
def test_bar_of_a_stage_is_there_before_anything_of_it_is_done(shown):
    with console.stages(quiet=False) as progress:
        progress("images", 0, 7)
        assert "0/7" in shown.getvalue()
