"""Pools on disk: any images of known class, confined to their folder, and one error for each way to be broken."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import write_images

from dag_diffusion import read_pool, score_and_record, write_distilled_set
from dag_diffusion.data.files import json_lines
from dag_diffusion.data.images import UnreadableImageError
from dag_diffusion.data.pools import require_writable_target
from dag_diffusion.data.rows import read_rows


def test_bare_class_folders_are_a_pool_too(tmp_path):
    write_images(tmp_path, {"b": 2, "a": 1}, metadata=False)
    pool = read_pool(tmp_path)
    assert [(row["class_name"], row["label"]) for row in pool.rows] == [("a", 0), ("b", 1), ("b", 1)]


def test_labels_come_from_the_rows_not_from_the_order_of_folders(tmp_path):
    write_images(tmp_path, {"b": 1, "a": 1})
    assert read_pool(tmp_path).class_names == {0: "b", 1: "a"}


def test_last_row_counts_without_a_newline_at_the_end(tmp_path):
    write_images(tmp_path, {"Bag": 2})
    path = tmp_path / "metadata.jsonl"
    path.write_bytes(path.read_bytes().rstrip())
    assert len(read_pool(tmp_path)) == 2


def test_row_cut_off_by_a_kill_is_left_out_of_a_growing_file(tmp_path):
    write_images(tmp_path, {"Bag": 2})
    path = tmp_path / "metadata.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    assert len(read_rows(path, growing=True)) == 1
    with pytest.raises(ValueError, match="line 2"):
        read_rows(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file_name": "../outside.png", "label": 0, "class_name": "Bag"}, "leads out"),
        ({"file_name": "Bag/missing.png", "label": 0, "class_name": "Bag"}, "does not exist"),
        ({"file_name": "Bag/00000.png", "label": 0, "class_name": "Bag"}, "twice"),
        ({"file_name": "Bag/./00000.png", "label": 0, "class_name": "Bag"}, "twice"),
        ({"file_name": "Bag//00000.png", "label": 0, "class_name": "Bag"}, "twice"),
        ({"file_name": "./Bag/00000.png", "label": 0, "class_name": "Bag"}, "twice"),
        ({"file_name": "../pool/Bag/00000.png", "label": 0, "class_name": "Bag"}, "leads out"),
        ({"file_name": "Bag/../Bag/00000.png", "label": 0, "class_name": "Bag"}, "leads out"),
        ({"file_name": "/etc/passwd", "label": 0, "class_name": "Bag"}, "leads out"),
        ({"file_name": "Bag/0\x00.png", "label": 0, "class_name": "Bag"}, "does not exist"),
        ({"file_name": "B\x00g/0.png", "label": 0, "class_name": "Bag"}, "does not exist"),
        ({"file_name": "Bag\\00000.png", "label": 0, "class_name": "Bag"}, "does not exist"),
        ({"file_name": "Bag", "label": 0, "class_name": "Bag"}, "does not exist"),
        ({"file_name": "", "label": 0, "class_name": "Bag"}, "does not exist"),
        ({"file_name": ["Bag"], "label": 0, "class_name": "Bag"}, "line 2"),
        ({"file_name": "Bag/00000.png", "class_name": "Bag"}, "line 2"),
        ({"file_name": 5, "label": 0, "class_name": "Bag"}, "line 2"),
        ({"file_name": "Bag/00000.png", "label": 0, "class_name": None}, "line 2"),
    ],
)
def test_bad_row_is_refused_with_its_file_named(tmp_path, row, message):
    write_images(tmp_path / "pool", {"Bag": 1})
    Image.new("L", (2, 2)).save(tmp_path / "outside.png")
    with (tmp_path / "pool" / "metadata.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=message):
        read_pool(tmp_path / "pool")


def test_link_that_leaves_the_folder_is_refused(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 1})
    Image.new("L", (2, 2)).save(tmp_path / "secret.png")
    (tmp_path / "pool" / "Bag" / "00000.png").unlink()
    (tmp_path / "pool" / "Bag" / "00000.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match="leads out"):
        read_pool(tmp_path / "pool")


def test_empty_folder_and_no_folder_are_told_apart(tmp_path):
    with pytest.raises(ValueError, match="no images"):
        read_pool(tmp_path)
    with pytest.raises(FileNotFoundError, match="no pool at"):
        read_pool(tmp_path / "absent")


def test_empty_class_folder_is_named(tmp_path):
    write_images(tmp_path, {"Bag": 1}, metadata=False)
    (tmp_path / "Coat").mkdir()
    with pytest.raises(ValueError, match="without images: Coat"):
        read_pool(tmp_path)


def test_unfinished_pool_is_not_taken_for_a_whole_one(tmp_path):
    write_images(tmp_path, {"Bag": 2}, metadata=False)
    (tmp_path / "pool.json").write_text("{}")
    with pytest.raises(ValueError, match="not finished"):
        read_pool(tmp_path)


def test_images_without_a_row_are_told(tmp_path, caplog):
    write_images(tmp_path, {"Bag": 2})
    Image.new("L", (2, 2)).save(tmp_path / "Bag" / "new.png")
    assert len(read_pool(tmp_path)) == 2
    assert "1 images" in caplog.text


def test_output_that_holds_something_else_is_never_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="no pool"):
        require_writable_target(tmp_path, overwrite=True)


def test_link_within_the_pool_is_followed(tmp_path):
    write_images(tmp_path, {"Bag": 2})
    (tmp_path / "Bag" / "00001.png").unlink()
    (tmp_path / "Bag" / "00001.png").symlink_to("00000.png")
    assert read_pool(tmp_path).open(1).size == (16, 16)


def test_class_folder_that_is_a_link_is_followed_once_unless_rows_name_it(tmp_path):
    write_images(tmp_path / "elsewhere", {"Bag": 1}, metadata=False)
    write_images(tmp_path / "pool", {"Coat": 1}, metadata=False)
    (tmp_path / "pool" / "Bag").symlink_to(tmp_path / "elsewhere" / "Bag")
    (tmp_path / "elsewhere" / "Bag" / "back").symlink_to(tmp_path / "elsewhere" / "Bag")
    (tmp_path / "pool" / "Coat" / "up").symlink_to(tmp_path / "pool")
    pool = read_pool(tmp_path / "pool")
    assert [row["file_name"] for row in pool.rows] == ["Bag/00000.png", "Coat/00000.png"]
    with pytest.raises(ValueError, match=r"leads out.*write scores to destination='scores\.jsonl'"):
        score_and_record(pool, {})
    (tmp_path / "pool" / "metadata.jsonl").write_bytes(json_lines(pool.rows))
    with pytest.raises(ValueError, match="leads out"):
        read_pool(tmp_path / "pool")


def test_chain_of_links_that_ends_outside_is_refused(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 2})
    Image.new("L", (2, 2)).save(tmp_path / "secret.png")
    (tmp_path / "door.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "pool" / "Bag" / "00001.png").unlink()
    (tmp_path / "pool" / "Bag" / "00001.png").symlink_to("../inner.png")
    (tmp_path / "pool" / "inner.png").symlink_to("../door.png")
    with pytest.raises(ValueError, match="leads out"):
        read_pool(tmp_path / "pool")


def test_link_to_itself_is_no_file(tmp_path):
    write_images(tmp_path, {"Bag": 1})
    (tmp_path / "Bag" / "00000.png").unlink()
    (tmp_path / "Bag" / "00000.png").symlink_to("00000.png")
    with pytest.raises(ValueError, match="does not exist"):
        read_pool(tmp_path)


def test_pool_behind_a_link_is_read(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 1})
    (tmp_path / "link").symlink_to("pool")
    assert len(read_pool(tmp_path / "link")) == 1


def test_backslash_is_a_letter_of_a_name(tmp_path):
    write_images(tmp_path, {"Bag": 1})
    name = "Bag\\0.png"  # one that leads out on another system is refused: tests/test_security.py
    (tmp_path / "Bag" / "00000.png").rename(tmp_path / name)
    (tmp_path / "metadata.jsonl").write_bytes(json_lines([{"file_name": name, "label": 0, "class_name": "Bag"}]))
    assert read_pool(tmp_path).open(0).size == (16, 16)


@given(st.text() | st.lists(st.sampled_from(["..", ".", "", "Bag", "0.png", "outside.png", "pool"])).map("/".join))
def test_no_name_whatever_opens_a_file_outside(name):
    with tempfile.TemporaryDirectory() as place:
        pool = Path(place) / "pool"
        (pool / "Bag").mkdir(parents=True)
        Image.new("L", (1, 1)).save(pool / "Bag" / "0.png")
        Image.new("L", (1, 1)).save(Path(place) / "outside.png")
        (pool / "metadata.jsonl").write_bytes(json_lines([{"file_name": name, "label": 0, "class_name": "Bag"}]))
        try:
            row = read_pool(pool).rows[0]
        except ValueError:
            return
        assert (pool / row["file_name"]).samefile(pool / "Bag" / "0.png")
        assert ".." not in row["file_name"]


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".Jpeg", ".tga", ".ppm", ".pcx", ".ico", ".webp", ".TIFF", ".sgi"])
def test_every_format_and_case_of_suffix_counts(tmp_path, suffix):
    (tmp_path / "Bag" / "deep" / "er").mkdir(parents=True)
    Image.new("RGB", (16, 16), "red").save(tmp_path / "Bag" / "deep" / "er" / f"x{suffix}")
    pool = read_pool(tmp_path)
    assert [row["file_name"] for row in pool.rows] == [f"Bag/deep/er/x{suffix}"]
    assert pool.open(0).size == (16, 16)


def test_what_is_no_image_or_hidden_is_left_out(tmp_path):
    write_images(tmp_path, {"Bag": 1}, metadata=False)
    for name in ("notes.txt", "film.mpg", "data.h5", ".hidden.png", "paper.pdf", "Thumbs.db"):
        (tmp_path / "Bag" / name).write_bytes(b"x")
    (tmp_path / "Bag" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "Bag" / ".ipynb_checkpoints" / "copy.png").write_bytes(b"x")
    assert [row["file_name"] for row in read_pool(tmp_path).rows] == ["Bag/00000.png"]


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_broken_provenance_is_one_clear_error(tmp_path, text):
    write_images(tmp_path, {"Bag": 1})
    (tmp_path / "pool.json").write_text(text)
    with pytest.raises(ValueError, match=r"pool\.json is no JSON object"):
        read_pool(tmp_path)


def test_what_rows_say_is_computed_once(tmp_path):
    write_images(tmp_path, {"Bag": 2, "Coat": 1}, difficulty=lambda name, index: 0.5)
    pool = read_pool(tmp_path)
    assert pool.labels is pool.labels
    assert pool.class_names is pool.class_names
    assert pool.difficulties is pool.difficulties


@pytest.mark.parametrize("form", [np.array, list, torch.tensor])
def test_mask_chooses_the_images_where_it_is_true(tmp_path, form):
    write_images(tmp_path / "pool", {"Bag": 2, "Coat": 3})
    pool = read_pool(tmp_path / "pool")
    mask = form((pool.labels == 1).tolist())
    assert pool.select(mask).rows == pool.rows[2:]
    chosen = write_distilled_set(pool, mask, tmp_path / "set")
    assert [row["source"] for row in chosen.rows] == [row["file_name"] for row in pool.rows[2:]]


@pytest.mark.parametrize("indices", [[True, False], [1.9, 2.2], [[0, 1]], ["0"]])
def test_rows_are_whole_numbers_or_a_mask_of_all(tmp_path, indices):
    write_images(tmp_path, {"Bag": 5})
    with pytest.raises(ValueError, match="whole numbers, or a mask of 5"):
        read_pool(tmp_path).select(np.array(indices))


@pytest.mark.parametrize("indices", [[2, 0], (2, 0), range(2, -1, -2), np.array([2, 0]), torch.tensor([2, 0]), [-1, 0]])
def test_rows_are_chosen_in_the_order_given(tmp_path, indices):
    write_images(tmp_path, {"Bag": 3})
    pool = read_pool(tmp_path)
    assert pool.select(indices).rows == [pool.rows[2], pool.rows[0]]


def test_image_of_one_pixel_is_an_image(tmp_path):
    write_images(tmp_path, {"Bag": 1}, size=1)
    assert read_pool(tmp_path).open(0).size == (1, 1)


def test_image_with_too_many_pixels_says_how_many_are_allowed(tmp_path, monkeypatch):
    write_images(tmp_path, {"Bag": 1})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImageError, match=r"00000\.png is too large: more than 200 pixels.*MAX_IMAGE_PIXELS"):
        read_pool(tmp_path).open(0)


def test_no_warning_of_an_image_that_is_merely_large(tmp_path):
    write_images(tmp_path, {"Bag": 1})
    code = f"""
from PIL import Image
from dag_diffusion import read_pool
Image.MAX_IMAGE_PIXELS = 200
print(read_pool({str(tmp_path)!r}).open(0).size)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("(16, 16)", "")
