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


@pytest.mark.parametrize("shown", [True, False], indirect=True)
def test_no_empty_line_stands_above_an_error_that_comes_before_the_first_stage(shown):
    with pytest.raises(ValueError, match="refused"), console.stages(quiet=False):
        raise ValueError("refused")
    assert not shown.getvalue()


def test_speed_of_a_finished_stage_does_not_fall_while_the_next_ones_run(monkeypatch):
    file, now = StringIO(), [0.0]
    monkeypatch.setattr(console, "_console", lambda: Console(file=file, width=80, get_time=lambda: now[0]))
    with console.stages(quiet=False) as progress:
        for stage, seconds in (("images", 2.0), ("training", 50.0)):
            progress(stage, 0, 100)
            now[0] += seconds
            progress(stage, 100, 100)
    assert [line.split()[-1] for line in file.getvalue().splitlines() if line.strip()] == ["50.0/s", "2.0/s"]
