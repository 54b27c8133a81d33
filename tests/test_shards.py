"""Data sets in several files: parquet as on the Hub, tars as webdataset writes them."""

import io
import json
import re
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dag_diffusion import read_pool
from dag_diffusion.data.class_folders import class_names_in

SPARK = "part-{:05d}-0d1f2a3b-aaaa-4bbb-8ccc-0123456789ab-c000.snappy.parquet"  # as Spark names its parts


def png(grey: int, suffix: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), grey).save(buffer, suffix)
    return buffer.getvalue()


def shard(path: Path, greys: list[int], labels: list, image: str = "image", label: str = "label") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(grey), "path": None} for grey in greys]
    pq.write_table(pa.table({image: images, label: labels}), path)
    return path


def tar(path: Path, members: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def seen(source) -> list[tuple[int, str, int]]:
    """Label, class name and grey of each image."""
    pool = read_pool(source)
    greys = [pool.open(index).getpixel((0, 0)) for index in range(len(pool))]
    return [(row["label"], row["class_name"], grey) for row, grey in zip(pool.rows, greys, strict=True)]


class TestParquet:
    def test_shards_of_one_split_are_one_set_and_words_are_classes(self, tmp_path):
        shard(tmp_path / "data/train-00000-of-00002.parquet", [10, 20], ["dog", "cat"])
        shard(tmp_path / "data/train-00001-of-00002.parquet", [30], ["owl"])
        (tmp_path / "README.md").write_text("---\n---\n")
        expected = [(1, "dog", 10), (0, "cat", 20), (2, "owl", 30)]
        for source in (tmp_path, tmp_path / "data", str(tmp_path / "data/train-*.parquet")):
            assert seen(source) == expected
        assert class_names_in(tmp_path) == {0: "cat", 1: "dog", 2: "owl"}

    def test_words_that_are_numbers_are_labels_and_other_column_names_are_understood(self, tmp_path):
        shard(tmp_path / "a.parquet", [10, 20], ["10", "9"], image="img", label="class")
        assert seen(tmp_path / "a.parquet") == [(10, "10", 10), (9, "9", 20)]

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (
                ["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"],
                r"names, test, train.*one of them: .*data/test-",
            ),
            (["train/0000.parquet", "test/0000.parquet"], "tables in test, train, as of several splits"),
            (
                ["default/train/0000.parquet", "default/test/0000.parquet"],
                "tables in default/test, default/train, as of several splits; give one of them: .*default/test",
            ),
            (["x-0-of-2-train.parquet", "x-1-of-2-test.parquet"], "such as splits have"),
        ],
    )
    def test_several_splits_are_refused_with_one_to_give(self, tmp_path, names, message):
        for name in names:
            shard(tmp_path / name, [10], [0])
        with pytest.raises(ValueError, match=message):
            read_pool(tmp_path)

    @pytest.mark.parametrize(
        "names",
        [
            ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"],
            ["x-train-0.parquet", "x-val2017-0.parquet"],
            ["train/0000.parquet", "test/0000.parquet"],
        ],
    )
    def test_pattern_that_stands_for_several_splits_is_refused(self, tmp_path, names):
        for name in names:
            shard(tmp_path / "data" / name, [10], [0])
        pattern = tmp_path / "data" / ("*/*.parquet" if "/" in names[0] else "*.parquet")
        with pytest.raises(ValueError, match=r"parquet stands for files of several splits, .*train.*; give a pattern"):
            read_pool(pattern)
        assert len(read_pool(tmp_path / "data" / names[0])) == 1

    def test_pattern_whose_files_are_all_of_one_split_by_folder_or_name_is_one_set(self, tmp_path):
        for name in ("train/test-tube-0", "train/test-tube-1", "train/other-0"):
            shard(tmp_path / f"{name}.parquet", [10], [0])
        assert len(read_pool(tmp_path / "train" / "test*.parquet")) == 2
        assert len(read_pool(tmp_path / "*" / "*.parquet")) == 3

    @pytest.mark.parametrize(
        "names",
        [
            [f"{number:02d}.parquet" for number in range(12)],
            [SPARK.format(number) for number in range(2)],
            ["default/train/0000.parquet", "default/train/0001.parquet"],
            ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
            ["train-0.parquet", "train-1.parquet"],
            ["train-00000-of-00002.clean.parquet", "train-00001-of-00002.clean.parquet"],
            ["shard-000000-of-000002_train_rgb.parquet", "shard-000001-of-000002_train_rgb.parquet"],
        ],
    )
    def test_parts_of_one_set_are_read_together_beside_the_pictures_of_a_page(self, tmp_path, names):
        for name in names:
            shard(tmp_path / name, [10], [0])
        (tmp_path / "assets").mkdir()
        (tmp_path / "assets" / "banner.png").write_bytes(png(0))
        assert len(read_pool(tmp_path)) == len(names)

    def test_tables_of_several_names_are_read_by_either_way_that_is_told(self, tmp_path):
        for name in ("a-0", "a-9", "a-10", "ab-0"):
            shard(tmp_path / f"{name}.parquet", [10], [0])
        with pytest.raises(ValueError, match=r"tables of several names, a, ab; give one of them, .*, or all, ") as told:
            read_pool(tmp_path)
        assert [len(read_pool(way)) for way in re.findall("'(.*?)'", str(told.value))] == [3, 4]

    def test_tables_that_differ_after_their_number_are_of_several_names(self, tmp_path):
        for name in ("0-of-2.clean", "1-of-2.clean", "0-of-2.raw", "1-of-2.raw", "0-of-2"):
            shard(tmp_path / f"train-{name}.parquet", [10], [0])
        with pytest.raises(ValueError, match=r"names, train\.clean, train, train\.raw; give one of") as told:
            read_pool(tmp_path)
        assert [len(read_pool(way)) for way in re.findall("'(.*?)'", str(told.value))] == [2, 5]

    @pytest.mark.parametrize("table", ["features.parquet", "cat/meta/features.parquet", "tables/features.parquet"])
    def test_tables_beside_class_folders_are_none_of_the_data(self, tmp_path, table):
        for name in ("cat", "dog"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "0.png").write_bytes(png(0))
        (tmp_path / "cat.zip").write_bytes(b"")
        shard(tmp_path / table, [10], [0])
        if table.startswith("tables"):
            with pytest.raises(ValueError, match="class folders without images: tables"):
                read_pool(tmp_path)
        else:
            assert set(read_pool(tmp_path).class_names.values()) == {"cat", "dog"}

    def test_columns_beside_image_and_label_may_be_of_other_types_where_one_holds_both(self, tmp_path):
        def shard_with(number, column):
            path = shard(tmp_path / f"train-{number}.parquet", [10 * number], [0])
            pq.write_table(pq.read_table(path).append_column("width", column), path)

        shard_with(0, pa.array([7], pa.int64()))
        shard_with(1, pa.array([7.5], pa.float64()))
        assert [row["width"] for row in read_pool(tmp_path).rows] == [7.0, 7.5]
        shard_with(1, pa.array(["wide"]))
        with pytest.raises(ValueError, match=r"cannot be read as a dataset of images: .*width"):
            read_pool(tmp_path)

    def test_class_that_is_missing_or_of_another_kind_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="lacks the class of some images"):
            read_pool(shard(tmp_path / "a/0.parquet", [10, 20], ["cat", None]))
        shard(tmp_path / "b/x-0.parquet", [10], ["cat"])
        shard(tmp_path / "b/x-1.parquet", [10], [1])
        with pytest.raises(ValueError, match="has other columns or classes than"):
            read_pool(tmp_path / "b")


class TestTars:
    def test_samples_of_every_suffix_and_dotted_name_have_their_own_class(self, tmp_path):
        members = {
            "img.0001.png": png(10),
            "img.0001.cls": "3\n",
            "img.0002.jpg": png(20, "JPEG"),
            "img.0002.cls": "7",
            "deep/er.png": png(30),
            "deep/er.json": json.dumps({"label": 11, "class_name": "owl", "caption": "an owl"}),
            "._img.0001.png": b"junk",
        }
        expected = [(3, "3", 10), (7, "7", 20), (11, "owl", 30)]
        assert seen(tar(tmp_path / "one.tar", members)) == expected

    def test_folder_and_patterns_of_tars_are_one_set(self, tmp_path):
        for number, name in enumerate(["dog", "cat"]):
            tar(
                tmp_path / f"shard-{number:06d}.tar",
                {"0.png": png(10 + number), "0.txt": name, "1.png": png(5), "1.cls": name},
            )
        expected = [(1, "dog", 10), (1, "dog", 5), (0, "cat", 11), (0, "cat", 5)]
        assert seen(tmp_path) == seen(tmp_path / "shard-*.tar") == expected
        pytest.importorskip("webdataset")
        assert seen(tmp_path / "shard-{000000..000001}.tar") == expected
        with pytest.raises(FileNotFoundError, match=r"there is no file .*000002\.tar, which"):
            read_pool(tmp_path / "shard-{000000..000002}.tar")

    def test_what_webdataset_writes_is_read(self, tmp_path):
        webdataset = pytest.importorskip("webdataset")
        with webdataset.TarWriter(str(tmp_path / "a.tar")) as sink:
            for number in range(3):
                sink.write({"__key__": f"sample.{number}", "png": png(number), "cls": number})
        assert seen(tmp_path / "a.tar") == [(0, "0", 0), (1, "1", 1), (2, "2", 2)]

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            (
                {"0.png": b"", "0.cls": "1", "1.png": b""},
                r"1\.png in .*tar has no class; put one beside it as 1\.cls",
            ),
            (
                {"train/0.png": b"", "train/0.cls": "1", "test/0.png": b"", "test/0.cls": "1"},
                "lists images of test and train together, by the folders test, train",
            ),
            ({"cat/0.png": b""}, "where folders tell it, or the tar's own name, unpack the tar into folders"),
            ({"0.png": b"", "0.json": "{}"}, r"0\.png in .* has no class in 0\.json"),
            ({"0.png": b"", "0.cls": "1", "0.json": '{"label": 2}'}, r"0\.cls .* says 1 and 0\.json 2"),
            ({"0.png": b"", "0.jpg": b"", "0.cls": "1"}, r"the sample 0 .* has two images, 0\.png and 0\.jpg"),
            ({"0.png": b"", "0.pyd": b""}, r"holds the pickle 0\.pyd"),
            ({"0.png": b"", "0.cls": "1", "1.pickle": b""}, r"holds the pickle 1\.pickle"),
            ({"0.png": b"", "0.json": "{"}, r"0\.json in .* tells no class"),
            (
                {f"{i}.{s}": f"photograph {i}" for i in range(6) for s in ("png", "txt")},
                "captions and no classes",
            ),
            ({"0.cls": "1"}, "holds no images"),
        ],
    )
    def test_sample_that_is_not_understood_is_named(self, tmp_path, members, message):
        with pytest.raises(ValueError, match=message):
            read_pool(tar(tmp_path / "a.tar", members))

    def test_broken_or_packed_tar_is_refused(self, tmp_path):
        whole = tar(tmp_path / "a.tar", {"0.cls": "1", "0.png": png(3) * 50}).read_bytes()
        (tmp_path / "b.tar").write_bytes(whole[:2000])
        (tmp_path / "c.tar").write_bytes(b"no tar at all" * 100)
        (tmp_path / "d.tar.gz").write_bytes(b"")
        for name, message in (("b.tar", "cut off|no plain tar"), ("c.tar", "no plain tar"), ("d.tar.gz", "is packed")):
            with pytest.raises(ValueError, match=message):
                read_pool(tmp_path / name)
