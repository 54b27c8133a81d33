"""Work in turns: every item once, in stretches, until a process stops."""

import os
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dag_diffusion.turns import Turns

TWO = """
from dag_diffusion.processes import is_main_process, leave_process_group
from dag_diffusion.turns import Turns

turns = Turns("images", 10, print)
with turns.together():
    for item in [] if is_main_process() else turns.take(range(10), 5):
        turns.report(1)
leave_process_group()
"""


@given(count=st.integers(0, 40), size=st.integers(1, 9))
def test_one_process_takes_all_in_order(count, size):
    assert list(Turns("images", count).take(range(count), size)) == list(range(count))


def test_items_are_told_with_what_was_done_before():
    told = []
    turns = Turns("images", 5, lambda *what: told.append(what))
    for more in (2, 3):
        turns.report(more)
    assert told == [("images", done, 5) for done in (0, 2, 5)]


def test_no_stretch_is_begun_once_somebody_stops():
    turns, asked = Turns("images", 9), threading.Event()
    taken = []
    for item in turns.take(range(9), 2, asked):
        taken.append(item)
        asked.set()
    assert taken == [0, 1]
    assert list(turns.take(range(9), 2)) == []


def test_failure_lets_nobody_go_on():
    turns = Turns("images", 9)
    with pytest.raises(KeyError), turns.together():
        raise KeyError("lost")
    assert list(turns.take(range(9), 2)) == []


@pytest.mark.slow
def test_what_other_processes_do_last_is_told_too():
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    run = subprocess.run(
        [*start, sys.executable, "-c", TWO], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "images 10 10"  # by the first process, which has done none of them
