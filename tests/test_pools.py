"""Pools on disk: whole or not at all, confined to their folder, and an ordinary imagefolder for everybody else."""

import json

import numpy as np
import pytest
from datasets import Value
from PIL import Image
from tiny import write_images

from dag_diffusion import read_pool, write_distilled_set
from dag_diffusion.pools import folder_names, read_rows, require_writable_target, write_atomically, write_image


def test_loads_as_a_hugging_face_imagefolder(tmp_path):
    from datasets import load_dataset

    rows = write_images(tmp_path / "pool", {"Ankle boot": 2, "Bag": 1}, difficulty=lambda name, index: 0.25)
    pool = read_pool(tmp_path / "pool")
    write_distilled_set(pool, [0, 1, 2], tmp_path / "set", columns={"bin": [0, 1, 2]}, provenance={})
    loaded = load_dataset(
        "imagefolder", data_dir=str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(loaded) == 3
    assert sorted(loaded["label"]) == sorted(row["label"] for row in rows)
    assert set(loaded.column_names) >= {"image", "label", "class_name", "difficulty", "seed", "bin"}
    assert loaded[0]["image"].size == (16, 16)


def test_bare_class_folders_are_a_pool_too(tmp_path):
    write_images(tmp_path, {"b": 2, "a": 1}, metadata=False)
    pool = read_pool(tmp_path)
    assert [(row["class_name"], row["label"]) for row in pool.rows] == [("a", 0), ("b", 1), ("b", 1)]


def test_labels_come_from_the_rows_not_from_the_order_of_folders(tmp_path):
    write_images(tmp_path, {"b": 1, "a": 1})
    assert read_pool(tmp_path).class_names == {0: "b", 1: "a"}


def test_parquet_dataset_is_a_pool_too(tmp_path):
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    images = [Image.new("L", (4, 4), value) for value in (10, 20)]
    features = Features(image=ImageFeature(), label=ClassLabel(names=["Bag", "Coat"]))
    Dataset.from_dict({"image": images, "label": [1, 0]}, features).to_parquet(tmp_path / "test.parquet")
    pool = read_pool(tmp_path / "test.parquet")
    assert pool.class_names == {0: "Bag", 1: "Coat"}
    assert [(label, np.asarray(pool.open(i))[0, 0]) for i, label in enumerate(pool.labels)] == [(1, 10), (0, 20)]


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


def test_names_inside_a_parquet_file_never_leave_the_output_folder(tmp_path):
    import io

    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, format="PNG")
    features = Features(image=ImageFeature(decode=False), label=ClassLabel(names=["Bag"]), note=Value("string"))
    image = {"bytes": buffer.getvalue(), "path": "../../escape.png"}
    table = {"image": [image] * 2, "label": [0, 0], "note": ["first", "second"]}
    Dataset.from_dict(table, features).to_parquet(tmp_path / "x.parquet")
    pool = read_pool(tmp_path / "x.parquet")
    written = write_distilled_set(pool, [0, 1], tmp_path / "a" / "set", columns={}, provenance={})
    assert [row["note"] for row in written.rows] == ["first", "second"]
    assert not list(tmp_path.rglob("escape.png"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file_name": "../outside.png", "label": 0, "class_name": "Bag"}, "leads out"),
        ({"file_name": "Bag/missing.png", "label": 0, "class_name": "Bag"}, "does not exist"),
        ({"file_name": "Bag/00000.png", "label": 0, "class_name": "Bag"}, "twice"),
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


def test_folder_names_are_safe_and_distinct():
    names = folder_names(
        {0: "tench, Tinca tinca", 1: "a/b", 2: "../..", 3: "crane", 4: "Crane, bird", 5: "", 6: "Ärmel kurz"}
    )
    assert names[0] == "tench"
    assert names[6] == "Ärmel kurz"
    assert len({name.casefold() for name in names.values()}) == 7
    assert not any("/" in name or name.startswith(".") or not name for name in names.values())


def test_folder_names_that_look_like_each_other_stay_apart():
    assert len(set(folder_names({0: "a", 1: "a_2", 2: "a"}).values())) == 3


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


def test_failed_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # fails after the temporary file was opened, as a full disk does
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_image_is_written_into_a_new_class_folder(tmp_path):
    write_image(tmp_path / "Ärmel kurz" / "0.png", Image.new("L", (3, 3)))
    assert [p.name for p in (tmp_path / "Ärmel kurz").iterdir()] == ["0.png"]


def test_output_that_holds_something_else_is_never_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="no pool"):
        require_writable_target(tmp_path, overwrite=True)


def test_failed_selection_leaves_the_earlier_set(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 3})
    pool = read_pool(tmp_path / "pool")
    write_distilled_set(pool, [0], tmp_path / "set", columns={}, provenance={})
    (tmp_path / "pool" / "Bag" / "00002.png").unlink()
    with pytest.raises(FileNotFoundError):
        write_distilled_set(pool, [1, 2], tmp_path / "set", columns={}, provenance={}, overwrite=True)
    assert [row["file_name"] for row in read_pool(tmp_path / "set").rows] == ["Bag/00000.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pool", "set"]


def test_pool_is_never_replaced_by_its_own_selection(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 3})
    (tmp_path / "pool" / "pool.json").write_text("{}")
    with pytest.raises(FileExistsError, match="the pool itself"):
        write_distilled_set(
            read_pool(tmp_path / "pool"), [0], tmp_path / "pool", columns={}, provenance={}, overwrite=True
        )
    assert len(read_pool(tmp_path / "pool")) == 3


def test_earlier_set_is_replaced_only_when_asked(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 2})
    pool = read_pool(tmp_path / "pool")
    write_distilled_set(pool, [0], tmp_path / "set", columns={}, provenance={})
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_distilled_set(pool, [1], tmp_path / "set", columns={}, provenance={})
    again = write_distilled_set(pool, [1], tmp_path / "set", columns={}, provenance={}, overwrite=True)
    assert [row["file_name"] for row in again.rows] == ["Bag/00001.png"]
