"""Work in turns: every item once, in stretches, until a process stops."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dag_diffusion.turns import Turns


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
