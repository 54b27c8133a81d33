"""Datasets in memory, on disk and in parquet files are pools: lazily read, whatever their columns are called."""

import copy
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image
from tiny import write_images

from dag_diffusion import embedded, read_pool, write_distilled_set
from dag_diffusion.data.images import UnreadableImageError
from dag_diffusion.data.pools import Pool

BAGS = ClassLabel(names=["Bag", "Coat"])


def encoded(value: int, name: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, format=name)
    return buffer.getvalue()


def made(columns: dict, *, entry: str = "image", labels: str = "label", label: object = BAGS, **features) -> Dataset:
    """Three images of the values 10, 20 and 30, of the classes 1, 0 and 1, and other columns."""
    images = [{"bytes": encoded(value), "path": None} for value in (10, 20, 30)]
    content = {entry: images, labels: [1, 0, 1]} | columns
    return Dataset.from_dict(content, Features({entry: ImageFeature(), labels: label, **features}))


def as_object(dataset: Dataset, folder: Path) -> Pool:
    return read_pool(dataset)


def as_parquet(dataset: Dataset, folder: Path) -> Pool:
    dataset.to_parquet(folder / "set.parquet", batch_size=2)  # two row groups
    return read_pool(folder / "set.parquet")


def as_folder(dataset: Dataset, folder: Path) -> Pool:
    dataset.save_to_disk(folder / "set")
    return read_pool(folder / "set")


def values(pool: Pool) -> list[int]:
    return [int(np.asarray(pool.open(i))[0, 0]) for i in range(len(pool))]


every_form = pytest.mark.parametrize("read", [as_object, as_parquet, as_folder])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pool: pickle.loads(pickle.dumps(pool))])  # noqa: S301
def test_pool_of_a_parquet_file_goes_to_other_processes(copied):
    pool = read_pool(embedded.TEST).select([3, 7])
    assert [copied(pool).file_bytes(row) for row in range(2)] == [pool.file_bytes(row) for row in range(2)]


@every_form
def test_images_labels_and_plain_columns_are_read(tmp_path, read):
    columns = {"difficulty": [0.5, float("nan"), None], "note": ["a", None, "c"], "box": [[1], [2], [3]]}
    kinds = {"difficulty": Value("float64"), "note": Value("string"), "box": List(Value("int64"))}
    pool = read(made(columns, **kinds), tmp_path)
    assert pool.class_names == {0: "Bag", 1: "Coat"}
    assert pool.labels.tolist() == [1, 0, 1]
    assert values(pool) == [10, 20, 30]
    assert [row["difficulty"] for row in pool.rows] == [0.5, None, None]  # JSON has no NaN
    assert [row["note"] for row in pool.rows] == ["a", None, "c"]
    assert not any("box" in row or "image" in row for row in pool.rows)


@every_form
def test_columns_are_found_by_their_types(tmp_path, read):
    pool = read(made({}, entry="img", labels="fine"), tmp_path)
    assert pool.labels.tolist() == [1, 0, 1]
    assert "fine" not in pool.rows[0]


@every_form
def test_whole_numbers_called_label_are_labels_and_class_name_names_them(tmp_path, read):
    assert read(made({}, label=Value("int32")), tmp_path).class_names == {0: "0", 1: "1"}
    named = made({"class_name": ["Hat", "Bag", "Hat"]}, label=Value("int64"), class_name=Value("string"))
    assert read_pool(named).class_names == {0: "Bag", 1: "Hat"}


def test_order_and_choice_of_a_dataset_are_kept():
    pool = read_pool(made({}).select([2, 0]).with_format("numpy"))
    assert (values(pool), pool.labels.tolist()) == ([30, 10], [1, 1])


def test_bytes_are_read_only_when_asked_for(tmp_path):
    images = [str(tmp_path / "later.png"), str(tmp_path / "never.png")]
    dataset = Dataset.from_dict({"image": images, "label": [0, 1]}, Features(image=ImageFeature(), label=BAGS))
    pool = read_pool(dataset)
    (tmp_path / "later.png").write_bytes(encoded(7))
    assert np.asarray(pool.open(0))[0, 0] == 7
    with pytest.raises(UnreadableImageError, match=r"never\.png"):
        pool.open(1)


def test_threads_on_both_sides_of_a_boundary_read_each_row_group_once(tmp_path, monkeypatch):
    import pyarrow.parquet

    read, original = [], pyarrow.parquet.ParquetFile.read_row_group
    pool = as_parquet(made({"label": [0, 0, 0]}), tmp_path)
    monkeypatch.setattr(
        pyarrow.parquet.ParquetFile,
        "read_row_group",
        lambda file, group, **o: read.append(group) or original(file, group, **o),
    )
    for index in (0, 2, 1, 2, 0):
        assert pool.encoded[index] == encoded(10 * (index + 1))
    assert read == [0, 1]


@every_form
def test_infinities_in_other_columns_are_null_as_json_has_none(tmp_path, read):
    pool = read(made({"size": [float("inf"), -float("inf"), 2.0]}, size=Value("float32")), tmp_path)
    assert [row["size"] for row in pool.rows] == [None, None, 2.0]


def test_paths_in_a_parquet_file_are_not_followed(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "private.png")
    kinds = Features(image=ImageFeature(decode=False), label=BAGS)
    images = [{"bytes": None, "path": str(tmp_path / "private.png")}]
    Dataset.from_dict({"image": images, "label": [0]}, kinds).to_parquet(tmp_path / "x.parquet")
    pool = read_pool(tmp_path / "x.parquet")
    with pytest.raises(UnreadableImageError, match=r"not followed.*datasets\.Dataset"):
        pool.open(0)
    with pytest.raises(UnreadableImageError, match="not followed"):
        write_distilled_set(pool, [0], tmp_path / "set", columns={}, provenance={})
    assert not list(tmp_path.rglob("set"))


@every_form
def test_missing_image_is_told_by_its_row_and_the_others_are_read(tmp_path, read):
    images = [{"bytes": encoded(1), "path": None}, None]
    pool = read(
        Dataset.from_dict({"image": images, "label": [0, 1]}, Features(image=ImageFeature(), label=BAGS)), tmp_path
    )
    assert pool.open(0).size == (4, 4)
    told = r"row 1 of .*set\.parquet has no image" if read is as_parquet else "row 1 has no image"
    with pytest.raises(UnreadableImageError, match=told):
        pool.open(1)


def test_parquet_file_that_others_wrote_needs_no_features(tmp_path):
    import pyarrow
    import pyarrow.parquet

    plain = {"image": [encoded(10), encoded(20)], "label": [0, 1]}
    nested = {"image": [{"bytes": encoded(10)}, {"bytes": encoded(20)}], "label": [0, 1]}
    for name, content in (("plain", plain), ("nested", nested)):
        pyarrow.parquet.write_table(pyarrow.table(content), tmp_path / f"{name}.parquet")
        assert values(read_pool(tmp_path / f"{name}.parquet")) == [10, 20]


@every_form
def test_of_several_columns_of_a_kind_those_called_image_and_label_count(tmp_path, read):
    more = {"mask": [{"bytes": encoded(0), "path": None}] * 3, "domain": [0, 0, 0]}
    pool = read(made(more, mask=ImageFeature(), domain=ClassLabel(names=["Art"])), tmp_path)
    assert (values(pool), pool.class_names) == ([10, 20, 30], {0: "Bag", 1: "Coat"})


def test_several_columns_of_a_kind_of_other_names_are_refused():
    two = made({"coarse": [0, 0, 0]}, labels="fine", coarse=ClassLabel(names=["Thing"]))
    with pytest.raises(
        ValueError, match=r"several ClassLabel columns, fine, coarse; .*remove_columns.* or call it label"
    ):
        read_pool(two)
    masked = made({"mask": [None] * 3}, entry="photo", mask=ImageFeature())
    with pytest.raises(ValueError, match="several Image columns, photo, mask"):
        read_pool(masked)


def test_several_classes_of_each_image_are_refused_with_a_way_that_leads_on():
    many = made({"labels": [[1], [0], [1]]}, labels="labels", label=List(BAGS))
    with pytest.raises(ValueError, match=r"labels of the dataset has several classes for each image, .* not supported"):
        read_pool(many)


def test_missing_column_is_told_with_what_there_is():
    with pytest.raises(ValueError, match=r"no Image column, but label \(int64\); .*cast_column"):
        read_pool(made({}).remove_columns("image"))
    shares = Dataset.from_dict(
        {"image": [None], "label": [0.5]}, Features(image=ImageFeature(), label=Value("float32"))
    )
    with pytest.raises(
        ValueError, match=r"no ClassLabel column.*label \(float32\).*cast_column\('label', datasets.ClassLabel"
    ):
        read_pool(shares)
    fine = made({}).cast_column("label", Value("int64")).rename_column("label", "fine_label")
    with pytest.raises(ValueError, match=r"fine_label \(int64\).*rename_column\(\.\.\., 'label'\)"):
        read_pool(fine)
    assert len(read_pool(fine.rename_column("fine_label", "label"))) == len(fine)


def test_way_out_of_a_column_of_no_class_keeps_the_numbers():
    numbers = made({"label": [11, 2, 10]}, label=Value("float32"))
    with pytest.raises(ValueError, match=r"cast_column\('label', datasets\.ClassLabel\(names=\[\.\.\.\]\)\)"):
        read_pool(numbers)
    twelve = ClassLabel(names=[f"class {number}" for number in range(12)])
    assert read_pool(numbers.cast_column("label", twelve)).labels.tolist() == [11, 2, 10]


@pytest.mark.parametrize("labels", [[0, -1, 1], [0, None, 1]])
def test_row_without_a_class_is_refused(labels):
    with pytest.raises(ValueError, match="class labels from 0 on"):
        read_pool(made({"label": labels}))


def test_dataset_without_rows_holds_no_images():
    with pytest.raises(ValueError, match="no images"):
        read_pool(made({}).select([]))


def test_several_splits_are_named(tmp_path):
    splits = DatasetDict(train=made({}), test=made({}))
    splits.save_to_disk(tmp_path / "both")
    with pytest.raises(ValueError, match=r"splits train, test; give one of them, such as dataset\['train'\]"):
        read_pool(splits)
    with pytest.raises(ValueError, match=r"splits test, train; give one of them, such as .*both/test"):
        read_pool(tmp_path / "both")
    assert len(read_pool(tmp_path / "both" / "test")) == 3


def test_what_is_neither_path_nor_dataset_is_refused():
    with pytest.raises(ValueError, match="IterableDataset"):
        read_pool(made({}).to_iterable_dataset())
    with pytest.raises(ValueError, match="from a list"):
        read_pool([])


def test_broken_file_and_folder_are_named(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"x\.parquet cannot be read as a dataset"):
        read_pool(tmp_path / "x.parquet")
    made({}).save_to_disk(tmp_path / "set")
    next((tmp_path / "set").glob("*.arrow")).unlink()
    with pytest.raises(ValueError, match="set cannot be read as a dataset"):
        read_pool(tmp_path / "set")


def test_distilled_set_survives_the_way_through_datasets(tmp_path):
    from datasets import load_dataset

    write_images(tmp_path / "pool", {"Ankle boot": 2, "Bag": 1}, difficulty=lambda name, index: 0.25)
    pool = read_pool(tmp_path / "pool")
    loaded = load_dataset(
        "imagefolder", data_dir=str(tmp_path / "pool"), split="train", cache_dir=str(tmp_path / "cache")
    )
    again = read_pool(loaded)
    assert again.class_names == pool.class_names
    assert again.difficulties.tolist() == pool.difficulties.tolist()
    assert sorted(values(again)) == sorted(values(pool))
