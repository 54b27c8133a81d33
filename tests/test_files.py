"""Files exist whole or not at all; JSON that others can read; one run at a time in a folder."""

import errno
import json
import math
import os
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dag_diffusion.data.files import (
    differences,
    held,
    json_line,
    json_lines,
    locked,
    read_json_object,
    recorded,
    require_writable,
    write_atomically,
    write_config,
    write_image,
    write_json,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda v: st.lists(v, max_size=5) | st.dictionaries(st.text(), v, max_size=5),
    max_leaves=8,
)


def test_failed_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # fails after the temporary file was opened, as a full disk does
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_file_of_parts_fails_as_a_whole_at_the_last_of_them(tmp_path):
    path, rows = tmp_path / "file", [{"difficulty": 0.5}, {"difficulty": math.nan}]
    write_atomically(path, map(json_line, rows[:1]))
    with pytest.raises(ValueError, match="JSON"):
        write_atomically(path, map(json_line, rows))
    assert path.read_bytes() == json_lines(rows[:1])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_image_is_written_into_a_new_class_folder(tmp_path):
    write_image(tmp_path / "Ärmel kurz" / "0.png", Image.new("L", (3, 3)))
    assert [p.name for p in (tmp_path / "Ärmel kurz").iterdir()] == ["0.png"]


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=5), max_size=5))
def test_rows_come_back_from_their_lines(rows):
    lines = json_lines(rows).decode().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == rows
    assert lines[-1] == ""


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_rows_with_numbers_that_json_lacks_are_refused(number):
    with pytest.raises(ValueError, match="JSON"):
        json_lines([{"difficulty": number}])


class Spacing(Enum):
    LEADING = "leading"


ODD = st.recursive(
    JSON | st.floats() | st.sampled_from([np.int64(3), np.float32("-inf"), np.array([1.0, np.nan]), np.True_])
    | st.sampled_from([Spacing.LEADING, Path("a/b"), torch.float32, {1, 2}, torch.tensor([1])]),
    lambda v: st.lists(v, max_size=3) | st.tuples(v) | st.dictionaries(st.text() | st.integers(), v, max_size=3),
    max_leaves=8,
)  # fmt: skip


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@given(ODD)
def test_any_record_is_json_for_every_reader_and_compares_equal_when_read(value):
    text = json.dumps(recorded(value))
    assert recorded(strict(text)) == strict(text) == json.loads(json.dumps(recorded(value)))


def test_record_keeps_what_json_lacks_in_words(tmp_path):
    value = {"clipped": -math.inf, "loss": math.nan, "spacing": Spacing.LEADING, "seed": np.int64(3), "at": Path("a/b")}
    write_json(tmp_path / "x.json", value)
    assert strict((tmp_path / "x.json").read_text()) == {
        "clipped": "-Infinity", "loss": "NaN", "spacing": "leading", "seed": 3, "at": "a/b",
    }  # fmt: skip


def test_configuration_keeps_its_infinities_as_numbers(tmp_path):
    value = {"clipped": -math.inf, "most": [math.inf, 1.5], "name": 'to "Infinity" -Infinity\\', "none": math.nan}
    write_config(tmp_path / "x.json", value)
    assert strict((tmp_path / "x.json").read_text()) == value | {"none": None}


def test_json_object_comes_back(tmp_path):
    write_json(tmp_path / "x.json", {"Ärmel": [1, None]})
    assert read_json_object(tmp_path / "x.json") == {"Ärmel": [1, None]}


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 1_000_000])
def test_file_that_is_no_json_object_is_named(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.json is no JSON object"):
        read_json_object(tmp_path / "x.json")


def test_folder_has_one_run_at_a_time_and_vanishes_if_nothing_came_into_it(tmp_path):
    folder = tmp_path / "pool"
    with locked(folder), pytest.raises(FileExistsError, match="another run"), locked(folder):
        pass
    assert not folder.exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_so_it_is_on_a_disk_without_locks_and_the_way_out_is_told(tmp_path, monkeypatch, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    folder = tmp_path / "pool"
    way_out = rf"remove .*pool/\.lock of process {os.getpid()} on .* if that has ended"
    with locked(folder), pytest.raises(FileExistsError, match=way_out), locked(folder):
        pass
    assert not folder.exists()


def write_work_and_fail(folder):
    write_atomically(folder / "work", b"done")
    raise TypeError


def test_lock_goes_and_the_work_stays_after_an_error(tmp_path):
    folder = tmp_path / "pool"
    with pytest.raises(TypeError), locked(folder):
        write_work_and_fail(folder)
    assert [path.name for path in folder.iterdir()] == ["work"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_below_one_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="shut cannot be written"):
        require_writable(tmp_path / "shut" / "new" / "newer")


def test_what_differs_is_told_in_a_line_that_can_be_read():
    reference = {"text": "reference", "reference": {f"class {i}": [6000, 0.2066] for i in range(10)}}
    old = {"images_per_class": 4, "target": reference, "labels": list(range(100)), "seed": 0}
    new = {"images_per_class": 50, "target": None, "labels": None, "seed": 0}
    told = list(differences(old, new))
    assert told[0] == "images_per_class was 4 and is now 50"
    assert told[1].startswith("labels was [0, 1, 2,")
    assert told[1].endswith("... and is now None")
    assert told[2] == "target was 'reference' and is now None"
    assert list(differences(reference, {"text": "hill"})) == [" was 'reference' and is now 'hill'"]
    assert max(map(len, told)) < 120


def test_targets_of_one_text_differ_in_what_they_were_measured_by():
    old, new = ({"text": "reference", "reference": {"Coat": [6000, mean]}} for mean in (0.2, 0.3))
    assert list(differences(old, new, "target")) == ["target.reference.Coat was [6000, 0.2] and is now [6000, 0.3]"]


LEFT = (".a[1].12.partial", ".a[1].json.12.partial", ".a1.12.partial", ".mine.partial", "a[1]")


@pytest.mark.parametrize(
    ("alone", "stays"),
    [
        (lambda folder: held(folder / ".a[1].lock", folder / "a[1]"), LEFT[1:]),
        (locked, LEFT[3:]),
    ],
    ids=["a file", "a folder"],
)
def test_what_killed_writers_left_goes_once_no_other_run_is_at_work(tmp_path, alone, stays):
    for name in LEFT:
        (tmp_path / name).write_bytes(b"half")
    with alone(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == set(stays)


@pytest.mark.parametrize(
    "alone",
    [lambda folder: held(folder / ".v1.lock", folder / "v1"), locked],
    ids=["a file", "a folder"],
)
def test_folder_of_a_dotted_name_that_a_kill_left_stops_no_other_run(tmp_path, alone):
    (tmp_path / ".v1.2.partial").mkdir()  # as of a set v1.2
    with alone(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".v1.2.partial"]
