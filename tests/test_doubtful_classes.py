"""Classes that nothing tells for sure are refused, never guessed."""

import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow.parquet import write_table

from dag_diffusion import read_pool


def pictures(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / name)


@pytest.mark.parametrize(
    "labels",
    [["cat", None], [0, None], [0.5, 1.0], ["cat", 1], [True, False], [None, None], [[0, 1], [1, 0]]],
)
def test_a_label_that_some_rows_lack_is_no_reason_to_take_the_folder(tmp_path, labels):
    pictures(tmp_path, "images/1.png", "images/2.png")
    rows = [{"file_name": f"images/{i}.png", "label": label} for i, label in enumerate(labels, 1)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match="images/"):
        read_pool(tmp_path)


@pytest.mark.parametrize("names", [("cat", "Cat"), ("cat", "")])
def test_one_label_with_two_names_in_a_csv(tmp_path, names):
    pictures(tmp_path, "images/1.png", "images/2.png")
    rows = [f"images/{i}.png,0,{name}" for i, name in enumerate(names, 1)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label,class_name", *rows]))
    with pytest.raises(ValueError, match=r"cat|class_name"):
        read_pool(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["image,MEL,NV\n1,1.0,0.0\n2,1.0,1.0\n", "image,MEL,NV\n1,0.7,0.3\n2,0.0,1.0\n",
     "file,width,target\n1.png,8,cat\n2.png,8,dog\n",
     "file,class\n1.png,cat\n1.png,dog\n2.png,dog\n"],
)  # fmt: skip
def test_a_list_without_one_class_for_each_image(tmp_path, text):
    pictures(tmp_path, "1.png", "2.png")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=r"labels\.csv"):
        read_pool(tmp_path)


@pytest.mark.parametrize(
    "names",
    [("seg_train/seg_train/a/1.png", "seg_train/seg_train/b/1.png", "seg_test/seg_test/a/1.png"),
     ("images/1.png",)],
)  # fmt: skip
def test_folders_that_wrap_the_classes(tmp_path, names):
    pictures(tmp_path, *names)
    with pytest.raises(ValueError, match=r"give|sort"):
        read_pool(tmp_path)


def test_categories_of_pandas(tmp_path):
    image = [{"bytes": b"x", "path": None}] * 2
    write_table(
        pa.table({"image": image, "label": pa.array(["dog", "cat"]).dictionary_encode()}), tmp_path / "x.parquet"
    )
    assert [row["class_name"] for row in read_pool(tmp_path / "x.parquet").rows] == ["dog", "cat"]


@pytest.mark.parametrize("label", [0.7, 1.9])
def test_a_row_whose_label_is_a_fraction(tmp_path, label):
    pictures(tmp_path, "1.png")
    row = {"file_name": "1.png", "label": label, "class_name": "cat"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match="whole number"):
        read_pool(tmp_path)
