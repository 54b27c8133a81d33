"""Distilled sets: whole or not at all, traceable to their pool, an ordinary imagefolder for everybody else."""

import errno
import io
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value, load_dataset
from datasets import Image as ImageFeature
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow.parquet import ParquetFile
from tiny import tiny_pipeline, write_images

from dag_diffusion import PoolConfig, fill_pool, read_pool, write_distilled_set
from dag_diffusion.data.distilled_sets import require_apart
from dag_diffusion.data.files import json_lines, locked
from dag_diffusion.data.images import UnreadableImageError
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.rows import read_rows


@pytest.fixture
def pool(tmp_path) -> Pool:
    write_images(tmp_path / "pool", {"Ankle boot": 2, "Bag": 3}, difficulty=lambda name, index: 0.25)
    return read_pool(tmp_path / "pool")


def write(pool: Pool, indices: list[int], folder, **options) -> Pool:
    return write_distilled_set(pool, indices, folder, **({"columns": {}, "provenance": {}} | options))


def names(pool: Pool) -> list[str]:
    return [row["file_name"] for row in pool.rows]


def table_pool(*images: bytes) -> Pool:
    return read_pool(table(*images))


def table(*images: bytes) -> Dataset:
    features = Features(image=ImageFeature(), label=ClassLabel(names=["Bag"]), note=Value("string"))
    rows = {"image": [{"bytes": i, "path": "../../escape.png"} for i in images], "label": [0] * len(images)}
    return Dataset.from_dict(rows | {"note": [str(i) for i in range(len(images))]}, features)


def encoded(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, format=name)
    return buffer.getvalue()


def test_loads_as_a_hugging_face_imagefolder(tmp_path, pool):
    from datasets import load_dataset

    write(pool, [0, 1, 2], tmp_path / "set", columns={"bin": [0, 1, 2]})
    loaded = load_dataset(
        "imagefolder", data_dir=str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(loaded) == 3
    assert sorted(loaded["label"]) == [0, 0, 1]
    assert set(loaded.column_names) >= {"image", "label", "class_name", "difficulty", "seed", "bin", "source"}
    assert loaded[0]["image"].size == (16, 16)


@pytest.mark.parametrize("files", ["copy", "link", "list"])
@given(indices=st.lists(st.integers(0, 4), unique=True, min_size=1))
def test_set_holds_the_chosen_images_with_their_columns(tmp_path_factory, files, indices):
    tmp_path = tmp_path_factory.mktemp("any")
    write_images(tmp_path / "pool", {"Ankle boot": 2, "Bag": 3})
    pool = read_pool(tmp_path / "pool")
    written = write(pool, indices, tmp_path / "set", columns={"bin": indices}, files=files)
    assert sorted(row["bin"] for row in written.rows) == sorted(indices)
    for place, row in enumerate(written.rows):
        index = row.pop("bin")
        assert row == pool.rows[index] | {"source": pool.rows[index]["file_name"]}
        assert written.open(place).tobytes() == pool.open(index).tobytes()


def test_pool_inside_the_provenance_tells_where_the_sources_are(tmp_path, pool):
    first = write(pool, [0, 3], tmp_path / "first", provenance={"step": 1})
    second = write(first, [1], tmp_path / "second", provenance={"step": 2})
    assert second.provenance == {"step": 2, "pool": {"path": str(first.path), **first.provenance}}
    assert second.rows[0]["source"] == "Bag/00001.png"


def test_path_in_the_provenance_is_absolute_whatever_the_pool_says_of_itself(tmp_path, pool, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (pool.path / "pool.json").write_text('{"path": "elsewhere", "seed": 1}')
    assert write(read_pool("pool"), [0], "set").provenance == {"pool": {"path": str(pool.path), "seed": 1}}


def test_linked_images_take_no_space(tmp_path, pool):
    written = write(pool, [0, 3], tmp_path / "set", files="link")
    assert all((written.path / name).samefile(pool.path / name) for name in names(written))


def test_link_in_the_pool_becomes_a_file_of_the_set(tmp_path, pool):
    (pool.path / "Bag" / "00000.png").unlink()
    (pool.path / "Bag" / "00000.png").symlink_to("00001.png")
    written = write(pool, [2], tmp_path / "set", files="link")
    assert not (written.path / "Bag" / "00000.png").is_symlink()
    assert written.open(0).size == (16, 16)


def test_disk_that_refuses_links_leaves_nothing_and_says_what_to_do(tmp_path, pool, monkeypatch):
    def refuse(*paths):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match=r"Bag/00000\.png cannot have a hard link.*files='copy'"):
        write(pool, [2], tmp_path / "set", files="link")
    assert [path.name for path in tmp_path.iterdir()] == ["pool"]


def test_images_of_a_dataset_cannot_be_linked(tmp_path):
    with pytest.raises(ValueError, match="no files that can be linked"):
        write(table_pool(encoded("PNG")), [0], tmp_path / "set", files="link")
    assert not list(tmp_path.iterdir())


def test_list_holds_rows_alone_and_is_read_with_the_images_of_its_pool(tmp_path, pool):
    listed = write(pool, [3, 0], tmp_path / "set", columns={"bin": [7, 8]}, files="list")
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["pool.json", "selected.jsonl"]
    assert read_rows(tmp_path / "set" / "selected.jsonl") == listed.rows
    again = read_pool(tmp_path / "set")
    assert (again.path, again.listing, again.provenance) == (pool.path, tmp_path / "set", listed.provenance)
    assert [(row["file_name"], row["bin"]) for row in again.rows] == [("Ankle boot/00000.png", 8), ("Bag/00001.png", 7)]
    assert [again.open(i).tobytes() for i in (0, 1)] == [pool.open(i).tobytes() for i in (0, 3)]
    assert names(write(pool, [1], tmp_path / "set", overwrite=True)) == ["Ankle boot/00001.png"]


def test_set_chosen_from_a_list_has_the_images(tmp_path, pool):
    write(pool, [3, 0], tmp_path / "list", files="list")
    listed = read_pool(tmp_path / "list")
    written = write(listed, [1], tmp_path / "set")
    assert written.open(0).tobytes() == pool.open(3).tobytes()
    assert names(write(listed, [1], tmp_path / "list", files="list", overwrite=True)) == ["Bag/00001.png"]
    assert len(read_pool(tmp_path / "list")) == 1


@pytest.mark.parametrize(("changes", "count"), [({"seed": 1}, 2), ({"num_inference_steps": 3}, 2), (None, 1)], ids=str)
def test_list_of_images_that_were_drawn_anew_since_is_refused(changes, count, tmp_path, pipeline):
    config = PoolConfig(images_per_class=2, num_inference_steps=2)
    generated = fill_pool(pipeline, tmp_path / "generated", config)
    write(generated, [0, 5], tmp_path / "list", files="list")
    assert len(read_pool(tmp_path / "list")) == 2
    if changes is None:  # an image that was repaired
        rows = [row | ({"seed": 7, "redrawn": 1} if i == 5 else {}) for i, row in enumerate(generated.rows)]
        (generated.path / "metadata.jsonl").write_bytes(json_lines(rows))
    else:
        fill_pool(pipeline, generated.path, replace(config, **changes), overwrite=True)
    with pytest.raises(ValueError, match=f"{count} images that .*list lists were drawn anew in .*generated since"):
        read_pool(tmp_path / "list")


def test_pool_of_a_list_is_found_from_any_folder(tmp_path, pool, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(read_pool("pool"), [0], "set", files="list")
    monkeypatch.chdir("pool")
    assert read_pool("../set").open(0).size == (16, 16)


@pytest.mark.parametrize("form", ["parquet", "folder"])
def test_list_of_a_dataset_with_a_path_is_read(tmp_path, form):
    place, images = tmp_path / f"pool.{form}", [encoded("PNG"), encoded("JPEG"), encoded("WEBP")]
    dataset = table(*images)
    dataset.to_parquet(place) if form == "parquet" else dataset.save_to_disk(place)
    write(read_pool(place), [2, 1], tmp_path / "set", columns={"bin": [5, 6]}, files="list")
    again = read_pool(tmp_path / "set")
    assert [(row["note"], row["bin"]) for row in again.rows] == [("1", 6), ("2", 5)]
    assert list(again.encoded) == images[1:]


def test_list_of_a_dataset_in_memory_says_that_it_has_no_path(tmp_path):
    write(table_pool(encoded("PNG")), [0], tmp_path / "set", files="list")
    with pytest.raises(ValueError, match=r"images of Dataset-\w+, which is no absolute path.*files='copy'"):
        read_pool(tmp_path / "set")


def test_list_whose_pool_is_gone_or_unknown_is_told(tmp_path, pool):
    write(pool, [0], tmp_path / "set", files="list")
    pool.path.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=rf"only lists images of {pool.path}, which is gone"):
        read_pool(tmp_path / "set")
    (tmp_path / "set" / "pool.json").write_text('{"pool": ["x"]}')
    with pytest.raises(ValueError, match="only lists images of another pool"):
        read_pool(tmp_path / "set")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["../secret.png"], "leads out of"),
        (["/etc/passwd"], "leads out of"),
        (["Bag/none.png"], "does not exist in"),
        (["Bag/00000.png", "Bag/./00000.png"], "twice"),
        ([], "lists no images"),
    ],
)
def test_rows_of_a_list_name_files_of_its_pool(tmp_path, pool, names, message):
    Image.new("L", (2, 2)).save(tmp_path / "secret.png")
    write(pool, [0], tmp_path / "set", files="list")
    rows = [{"file_name": name, "label": 1, "class_name": "Bag"} for name in names]
    (tmp_path / "set" / "selected.jsonl").write_bytes(json_lines(rows))
    with pytest.raises(ValueError, match=message):
        read_pool(tmp_path / "set")


@pytest.mark.parametrize("names", [["Bag/000000"] * 2, ["Bag/000001"], ["../Bag/000000"]])
def test_rows_of_a_list_name_images_of_its_dataset(tmp_path, names):
    table(encoded("PNG")).to_parquet(tmp_path / "pool.parquet")
    write(read_pool(tmp_path / "pool.parquet"), [0], tmp_path / "set", files="list")
    rows = [{"file_name": name, "label": 0, "class_name": "Bag"} for name in names]
    (tmp_path / "set" / "selected.jsonl").write_bytes(json_lines(rows))
    with pytest.raises(ValueError, match="names images twice, or such as"):
        read_pool(tmp_path / "set")


def test_row_groups_of_a_parquet_file_are_read_once_and_rows_stay_as_given(tmp_path, monkeypatch):
    table(*[encoded("PNG")] * 40).to_parquet(tmp_path / "pool.parquet", batch_size=10)
    pool, read, original = read_pool(tmp_path / "pool.parquet"), [], ParquetFile.read_row_group
    monkeypatch.setattr(
        ParquetFile, "read_row_group", lambda f, g, **options: read.append(g) or original(f, g, **options)
    )
    order = [(7 * i) % 40 for i in range(40)]
    write(pool, order, tmp_path / "set")
    assert read == [0, 1, 2, 3]
    assert [int(row["note"]) for row in read_rows(tmp_path / "set" / "metadata.jsonl")] == order


def test_list_of_a_dataset_opens_its_images(tmp_path):
    pool = table_pool(encoded("PNG"), encoded("JPEG"))
    listed = write(pool, [1], tmp_path / "set", files="list")
    assert (len(listed.encoded), listed.open(0).size, listed.rows[0]["note"]) == (1, (4, 4), "1")


def test_images_of_a_dataset_get_the_suffix_of_their_bytes(tmp_path):
    written = write(table_pool(encoded("JPEG"), encoded("PNG"), encoded("WEBP")), [2, 0, 1], tmp_path / "a" / "set")
    assert names(written) == ["Bag/000000.jpeg", "Bag/000001.png", "Bag/000002.webp"]
    assert [row["source"] for row in written.rows] == ["Bag/000000", "Bag/000001", "Bag/000002"]
    assert [row["note"] for row in written.rows] == ["0", "1", "2"]
    assert not list(tmp_path.rglob("escape.png"))


def test_bytes_that_are_no_image_are_named_and_leave_nothing(tmp_path):
    with pytest.raises(UnreadableImageError, match="Bag/000001 is not an image"):
        write(table_pool(encoded("PNG"), b"root:x:0:0"), [0, 1], tmp_path / "set")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([1, 2, 1], "index 1 is chosen twice"),
        ([5], "index 5 is outside"),
        ([-1], "index -1 is outside"),
        ([], "no image"),
    ],
)
def test_wrong_indices_are_refused_before_anything_is_written(tmp_path, pool, indices, message):
    write(pool, [0], tmp_path / "set")
    with pytest.raises(ValueError, match=message):
        write(pool, indices, tmp_path / "set", overwrite=True)
    assert names(read_pool(tmp_path / "set")) == ["Ankle boot/00000.png"]


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_columns_may_be_arrays_and_are_written_as_numbers(tmp_path, pool, form, caplog):
    chosen = write(pool, [0, 1], tmp_path / "set", columns={"score": form([1.5, 2.5]), "bin": form([1, 2])})
    assert [(row["score"], row["bin"]) for row in chosen.rows] == [(1.5, 1), (2.5, 2)]
    assert (tmp_path / "set" / "README.md").exists()
    assert not caplog.records


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"bin": [1]}}, "'bin' has 1 values, but 2 images"),
        ({"columns": {"label": [1, 2]}}, "may not be called label"),
        ({"files": "move"}, "'copy', 'link'"),
    ],
)
def test_wrong_options_are_refused(tmp_path, pool, options, message):
    with pytest.raises(ValueError, match=message):
        write(pool, [0, 1], tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()


def test_failed_selection_leaves_the_earlier_set(tmp_path, pool):
    write(pool, [2], tmp_path / "set")
    (pool.path / "Bag" / "00002.png").unlink()
    for files in ("copy", "link"):
        with pytest.raises(FileNotFoundError):
            write(pool, [3, 4], tmp_path / "set", overwrite=True, files=files)
    assert names(read_pool(tmp_path / "set")) == ["Bag/00000.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pool", "set"]


def test_full_disk_leaves_the_earlier_set(tmp_path, pool, monkeypatch):
    write(pool, [2], tmp_path / "set")

    def fill(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", fill)
    with pytest.raises(OSError, match="No space"):
        write(pool, [3], tmp_path / "set", overwrite=True)
    assert names(read_pool(tmp_path / "set")) == ["Bag/00000.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pool", "set"]


def test_rename_that_fails_brings_the_earlier_set_back(tmp_path, pool, monkeypatch):
    write(pool, [2], tmp_path / "set")
    replace = os.replace

    def fail_once(source, target):
        if str(source).endswith(".partial") and str(target).endswith("set"):
            raise PermissionError("held by another program")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(PermissionError):
        write(pool, [3], tmp_path / "set", overwrite=True)
    assert names(read_pool(tmp_path / "set")) == ["Bag/00000.png"]


def test_earlier_set_is_not_deleted_when_its_place_is_taken_in_between(tmp_path, pool, monkeypatch):
    write(pool, [2], tmp_path / "set")
    replace = os.replace

    def take_place(source, target):
        if str(source).endswith(".partial") and str(target).endswith("set"):
            (tmp_path / "set" / "foreign").mkdir(parents=True)
        replace(source, target)

    monkeypatch.setattr(os, "replace", take_place)
    with pytest.raises(OSError, match="not empty"):
        write(pool, [3], tmp_path / "set", overwrite=True)
    assert (tmp_path / "set" / "foreign").exists()
    assert names(read_pool(tmp_path / ".set.earlier")) == ["Bag/00000.png"]


def test_kill_in_the_middle_leaves_the_earlier_set(tmp_path, pool):
    write(pool, [2], tmp_path / "set")
    code = f"""
import os, shutil
from dag_diffusion import read_pool, write_distilled_set
copy, done = shutil.copyfile, []
def copy_one_and_die(source, target):
    if done:
        os.kill(os.getpid(), 9)
    done.append(copy(source, target))
shutil.copyfile = copy_one_and_die
write_distilled_set(
    read_pool({str(pool.path)!r}), [3, 4], {str(tmp_path / "set")!r}, columns={{}}, provenance={{}}, overwrite=True
)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert names(read_pool(tmp_path / "set")) == ["Bag/00000.png"]
    write(pool, [3], tmp_path / "set", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pool", "set"]


@pytest.mark.parametrize("at", [1, 2])
def test_kill_between_renames_costs_no_set(at, tmp_path, pool):
    write(pool, [2], tmp_path / "set")
    replace, renamed = os.replace, []

    def stop(source, target):
        if source.parent == tmp_path:
            renamed.append(source)
        if len(renamed) > at:
            os._exit(9)
        replace(source, target)

    if (child := os.fork()) == 0:
        os.replace = stop
        with suppress(BaseException):
            write(pool, [3, 4], tmp_path / "set", overwrite=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with pytest.raises(FileExistsError, match="already holds a pool"):
        write(pool, [3], tmp_path / "set")
    assert names(read_pool(tmp_path / "set")) == [["Bag/00000.png"], ["Bag/00001.png", "Bag/00002.png"]][at - 1]
    write(pool, [3], tmp_path / "set", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pool", "set"]


def test_pool_is_never_replaced_by_its_own_selection(tmp_path, pool):
    (pool.path / "pool.json").write_text("{}")
    with pytest.raises(FileExistsError, match="is the folder of the images"):
        write(pool, [0], pool.path, overwrite=True)
    (tmp_path / "pool.json").write_text("{}")
    with pytest.raises(FileExistsError, match="or holds it"):
        write(pool, [0], tmp_path, overwrite=True)
    assert len(read_pool(pool.path)) == 5


@pytest.mark.parametrize("inside", ["pool/set", "pool/Bag/set", "link/set"])
def test_set_inside_its_pool_is_refused_since_it_would_be_one_more_class(tmp_path, inside):
    write_images(tmp_path / "pool", {"Ankle boot": 2, "Bag": 3}, metadata=False)
    (tmp_path / "link").symlink_to(tmp_path / "pool")
    pool = read_pool(tmp_path / "pool")
    with pytest.raises(FileExistsError, match="lies in it"):
        require_apart(pool.path, tmp_path / inside)
    with pytest.raises(FileExistsError, match="lies in it"):
        write(pool, [0], tmp_path / inside)
    assert len(read_pool(pool.path)) == 5


def test_dataset_in_memory_is_in_nobodys_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(write(table_pool(encoded("PNG")), [0], ".")) == 1


def while_copying(monkeypatch, act):
    """Do something after the first image is copied."""
    copy, done = shutil.copyfile, []

    def copy_and_act(source, target):
        copy(source, target)
        if not done:
            done.append(True)
            act()

    monkeypatch.setattr(shutil, "copyfile", copy_and_act)


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_files_that_come_during_the_run_stay(tmp_path, pool, monkeypatch, overwrite):
    def come():
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "thesis.txt").write_text("years of work")

    while_copying(monkeypatch, come)
    with pytest.raises(FileExistsError, match="no pool"):
        write(pool, [0, 1], tmp_path / "set", overwrite=overwrite)
    assert (tmp_path / "set" / "thesis.txt").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pool", "set"]


@pytest.mark.parametrize("stranger", ["report.html", "Bag/notes.txt", "figures/made_by.py"])
def test_what_others_have_put_beside_a_set_is_not_deleted_with_it(tmp_path, pool, stranger):
    write(pool, [4], tmp_path / "set")
    (tmp_path / "set" / stranger).parent.mkdir(exist_ok=True)
    (tmp_path / "set" / stranger).write_text("years of work")
    for make in (
        lambda: write(pool, [0], tmp_path / "set", overwrite=True),
        lambda: fill_pool(tiny_pipeline(), tmp_path / "set", PoolConfig(images_per_class=1), overwrite=True),
    ):
        with pytest.raises(FileExistsError, match=f"a pool and more, such as {stranger}, which would be deleted; move"):
            make()
    assert (tmp_path / "set" / stranger).read_text() == "years of work"
    assert len(read_pool(tmp_path / "set")) == 1


@pytest.mark.parametrize("suffixes", [("", ".png"), (".png", "")])
def test_image_without_suffix_does_not_replace_its_namesake(tmp_path, suffixes):
    (tmp_path / "pool" / "cat").mkdir(parents=True)
    rows = []
    for place, suffix in enumerate(suffixes):
        Image.new("L", (4, 4), 100 * place).save(tmp_path / "pool" / "cat" / f"a{suffix}", format="PNG")
        rows.append({"file_name": f"cat/a{suffix}", "label": 0, "class_name": "cat"})
    (tmp_path / "pool" / "metadata.jsonl").write_bytes(json_lines(rows))
    made = write(read_pool(tmp_path / "pool"), [0, 1], tmp_path / "set")
    shades = {row["source"]: made.open(index).getpixel((0, 0)) for index, row in enumerate(made.rows)}
    assert shades == {f"cat/a{suffix}": 100 * place for place, suffix in enumerate(suffixes)}


def test_column_that_is_called_image_as_the_image_itself_gets_another_name(tmp_path, pool):
    noted = replace(pool, rows=[row | {"image": f"no. {i}"} for i, row in enumerate(pool.rows)])
    made = write(noted, [0, 3], tmp_path / "set")
    assert [row["image_column"] for row in made.rows] == ["no. 0", "no. 3"]
    loaded = load_dataset(str(made.path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[0]["image"].size == (16, 16)
    assert sorted(loaded["image_column"]) == ["no. 0", "no. 3"]
    with pytest.raises(ValueError, match="may not be called image"):
        write(pool, [0], tmp_path / "other", columns={"image": ["mine"]})


def test_row_of_a_table_without_an_image_is_named_with_its_file(tmp_path):
    for number, image in enumerate((encoded("PNG"), None)):
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        images = pa.array([{"bytes": image, "path": None}], kind)
        pq.write_table(pa.table({"image": images, "label": [0]}), tmp_path / f"train-{number}-of-2.parquet")
    with pytest.raises(UnreadableImageError, match=r"row 0 of .*train-1-of-2\.parquet has no image"):
        write(read_pool(tmp_path), [0, 1], tmp_path.parent / f"{tmp_path.name}-set")


def test_set_that_comes_during_the_run_stays(tmp_path, pool, monkeypatch):
    write(pool, [4], tmp_path / "finished")
    while_copying(monkeypatch, lambda: (tmp_path / "finished").rename(tmp_path / "set"))
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write(pool, [0, 1], tmp_path / "set")
    assert names(read_pool(tmp_path / "set")) == ["Bag/00002.png"]


def test_second_run_at_once_is_refused(tmp_path, pool, monkeypatch):
    refused = []

    def run_too():
        with pytest.raises(FileExistsError, match="another run works on") as error:
            write(pool, [4], tmp_path / "set")
        refused.append(error)

    while_copying(monkeypatch, run_too)
    assert len(write(pool, [0, 1], tmp_path / "set")) == 2
    assert len(refused) == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_that_another_run_fills_is_not_taken_away(tmp_path, pool, overwrite):
    with locked(tmp_path / "set"), pytest.raises(FileExistsError, match="another run works on"):
        write(pool, [0], tmp_path / "set", overwrite=overwrite)


def test_lock_that_a_kill_has_left_is_no_obstacle(tmp_path, pool):
    (tmp_path / "set").mkdir()
    for lock in (tmp_path / "set" / ".lock", tmp_path / ".set.lock"):
        lock.touch()
    assert len(write(pool, [0], tmp_path / "set")) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pool", "set"]


def test_empty_current_folder_is_filled_and_stays_the_same(tmp_path, pool, monkeypatch):
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path / "set")
    write(pool, [0, 2], ".")
    expected = ["Ankle boot", "Bag", "README.md", "labels.json", "metadata.jsonl", "pool.json"]
    assert sorted(os.listdir(".")) == expected
    with pytest.raises(FileExistsError, match="the current folder, which would be deleted"):
        write(pool, [1], ".", overwrite=True)
    monkeypatch.chdir("Bag")
    with pytest.raises(FileExistsError, match="the current folder, which would be deleted"):
        write(pool, [1], tmp_path / "set", overwrite=True)
    assert len(read_pool(tmp_path / "set")) == 2


def test_earlier_set_is_replaced_only_when_asked(tmp_path, pool):
    write(pool, [2], tmp_path / "set")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write(pool, [3], tmp_path / "set")
    again = write(pool, [3], tmp_path / "set", overwrite=True)
    assert names(again) == ["Bag/00001.png"]
