"""Folders of images as people have them: layouts that are understood, and those refused with the folder to give."""

import errno
import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dag_diffusion import read_pool
from dag_diffusion.data.class_folders import class_names_in, real_images
from dag_diffusion.data.distilled_sets import write_distilled_set
from dag_diffusion.data.files import json_lines
from dag_diffusion.data.sources.folders import labels_by_name
from dag_diffusion.data.sources.splits import only_split
from dag_diffusion.hub.staging import gather_set


def files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"") if not name.endswith("/") else (root / name).mkdir()
    return root


def classes(root: Path) -> dict[str, str]:
    """File name to class name."""
    return {row["file_name"]: row["class_name"] for row in read_pool(root).rows}


SPLITS = ["train/cat/0.png", "train/dog/0.png", "val/cat/1.png", "val/dog/1.png"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (SPLITS, "has splits, train, val, which hold the classes cat, dog; give one of them: {root}/train"),
        ([f"dataset/{name}" for name in SPLITS], "holds the folders train, val; give {root}/dataset"),
        ([name.replace("train", "Training").replace("val", "TEST") for name in SPLITS], "give one of them: {root}/T"),
        ([name.replace("train", "train2017").replace("val", "val2017") for name in SPLITS], "{root}/train2017"),
        (
            [name.replace("train", "amazon").replace("val", "dslr") for name in SPLITS],
            "hold a folder cat.*{root}/amazon",
        ),
        ([*SPLITS[:2], "bird/0.png"], "has splits, train, which hold the classes cat, dog"),
        (["train/0.png", "test/0.png"], "train, test, which hold images but no class folders"),
        (["train_data/0.png", "test_images/0.png"], "sort them into {root}/train_data/CLASS/, or list their classes"),
        (
            [name.replace("train", "pets_train").replace("val", "pets_val") for name in SPLITS],
            "has splits, pets_train, pets_val, .*; give one of them: {root}/pets_train to train on, {root}/pets_val to",
        ),
        (["FinalTrainingSet/cat/0.png", "FinalTrainingSet/dog/0.png", "FinalTestSet/0.png"], "FinalTrainingSet, which"),
        (["abc_train/cat/0.png", "abc_train/dog/0.png", "abc_test/0.png"], "has splits, abc_train, which hold the cla"),
        (["ISIC_2019_Training_Input/0.png", "ISIC_2019_Test_Input/0.png"], "no class folders; sort .*/ISIC_2019_Trai"),
        (["stage_2_train_images/0.png", "stage_2_test_images/0.png"], "stage_2_train_images, stage_2_test_images, whi"),
        (["trainA/0.png", "trainB/0.png", "testA/0.png", "testB/0.png"], "folders such as {root}/train/a, and"),
        (
            ["dog_train/0.png", "dog_test/0.png", "cat_train/0.png", "cat_test/0.png"],
            "no class folders; sort them into folders such as {root}/train/cat, and give {root}/train",
        ),
        (["Train/Images/a/0.png", "Train/Images/b/0.png", "Test/Images/0.png"], "one of them: {root}/Train/Images"),
        ([name.replace("train", "train_mini") for name in SPLITS], "splits, train_mini, val, .*: {root}/train_mini to"),
        (
            ["test/0.png", "train/0.png", "test/labels.csv", "train/metadata.csv"],
            "lists of classes; give.*{root}/train",
        ),
        (["images/0.png", "annotations/trimaps/0.png"], "images in images beside others in annotations"),
        (["images/cat/0.png", "images/dog/0.png", "annotations/trimaps/0.png"], "no classes; give {root}/images"),
        (["jpg/0.png"], "no list of their classes"),
        (
            [f"{name}/{kind}/0.png" for name in ("ill", "well") for kind in ("images", "masks")],
            "{root}/ill has images in images beside others in masks, which would be taken together; list those of",
        ),
        (["ill/0.png", "well/images/0.png", "well/masks/0.png", "well/lungs/0.png"], "others in lungs, masks"),
        (["cat/train/0.png", "cat/test/1.png", "dog/train/0.png", "dog/test/1.png"], "hold splits, test, train"),
        (["cat/0.png", "cat/a/val/0.png", "cat/a/train/1.png"], "hold splits, train, val, which would be taken"),
        (["cat/img_train/0.png", "cat/img_test/1.png", "dog/img_train/0.png"], "hold splits, img_test, img_train"),
        (["train/a/0.png", "train/b/0.png", "train/metadata.jsonl"], "a list of its own.*counts; give {root}/train"),
        (["samples_6x8x8x3.npz"], "npz holds arrays of numbers, not images; save each as a PNG"),
        (["images/cat/0.png", "images/dog/0.png", "meta/"], "give {root}/images if those are the classes"),
        (["0.png", "1.png"], "holds 2 images but no class folders; sort its images into folders such as"),
        (["cat/0.png", "dog/"], "without images: dog"),
        (["cat/.0.png", "cat/notes.txt"], "holds no images"),
        (["00000/000000000.jpg", "00001/000010007.jpg"], "parts of one list.*no classes; list the classes in {root}/m"),
        (["000000/000007.png", "001000/001003.png"], "000000, 001000 in .* are parts of one list"),
        (["00000/img00000000.png"], "00000 in .* are parts of one list"),
        (["HAM_part_1/a.jpg", "HAM_part_2/b.jpg", "HAM_metadata.csv"], "are parts of one list"),
        (["images_001/images/0.png", "images_002/images/1.png"], "images_001, images_002 in .* are parts of one list"),
        (["PAD_imgs_part_1/0.png", "PAD_imgs_part_2/1.png"], "are parts of one list.* rename the folders if they are"),
        (
            [f"{place}{name}/0.png" for place in ("", "scans/") for name in ("ill", "well")],
            "scans in {root} holds ill, well, as all .*give {root}/scans or remove it if it is a copy, and list",
        ),
        (["images/val_0.JPEG", "images/val_1.JPEG", "val_annotations.txt"], None),
    ],
)
def test_folder_that_is_no_set_of_classes_is_refused_with_the_one_to_give(tmp_path, names, message):
    files(tmp_path, *names)
    if message is None:  # a list that lacks all images is none, and `images` no class
        (tmp_path / "val_annotations.txt").write_text("val_0.JPEG\tn01440764\t0\t0\t9\t9\n")
        message = "names no class of images/val_1.JPEG"
    for read in (read_pool, class_names_in)[: 1 if "hold splits" in message else 2]:
        with pytest.raises(ValueError, match=message.format(root=tmp_path)):
            read(tmp_path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train/0.png", "test/0.png", "bus/0.png"], {"train", "test", "bus"}),
        *[
            ([f"{name}/0.png" for name in names], {*names})
            for names in (
                ["bullet train", "test tube"],
                ["bullet train", "steam train", "train"],
                ["dev board", "test board", "eval board"],
                ["test tube 1", "test tube 2"],
                ["validation", "train", "train station"],
                ["cars_train"],
                ["cars_train", "cars_test", "truck"],
            )
        ],
        (SPLITS[:2], {"cat", "dog"}),
        (["cat/images/0.JPEG", "dog/images/0.JPEG", "cat/cat_boxes.txt"], {"cat", "dog"}),
        (["train/cat/images/0.JPEG", "train/dog/images/0.JPEG"], {"cat", "dog"}),
        (["cat/0.png", "dog/0.png", "assets/banner.png", "README.md"], {"cat", "dog"}),
        (["cat/0.png", "dog/0.png", "assets/banner.png"], {"cat", "dog", "assets"}),
        (["cat/0.png", "dog/0.png", "__MACOSX/cat/._0.png", ".ipynb_checkpoints/0.png"], {"cat", "dog"}),
        (["cat/a/0.png", "cat/b/0.png", "dog/0.png"], {"cat", "dog"}),
        (["cat/jpg/0.png", "cat/png/0.png", "dog/0.png"], {"cat", "dog"}),
        (["cat/originals/0.png", "dog/originals/0.png"], {"cat", "dog"}),
        (["cat/0.png"], {"cat"}),
        (["00000/class00000_id00000.jpg", "00001/class00001_id00000.jpg"], {"00000", "00001"}),
        (["00000/00000.png", "00001/00000.png"], {"00000", "00001"}),
        (["000000/000000.png", "000001/000000.png"], {"000000", "000001"}),
        (["part_1/0.png", "part_2/0.png"], {"part_1", "part_2"}),
        (["cat_images_1/0.png", "dog_images_1/0.png"], {"cat_images_1", "dog_images_1"}),
        (["class_1_images/0.png", "class_2_images/0.png"], {"class_1_images", "class_2_images"}),
        (["cat/0.png", "dog/cat/0.png"], {"cat", "dog"}),
        (["cat/0.png", "dog/0.png", "pets/cat/0.png", "pets/hen/0.png"], {"cat", "dog", "pets"}),
        (["1/0.png", "2/1/0.png", "2/2/0.png", "3/0.png"], {"1", "2", "3"}),
        (["1/0.png", "2/1/0.png", "2/3/0.png", "3/0.png", "4/0.png"], {"1", "2", "3", "4"}),
    ],
)
def test_class_folders_are_told_by_what_they_hold(tmp_path, names, expected):
    assert set(classes(files(tmp_path, *names)).values()) == expected
    assert set(class_names_in(tmp_path).values()) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat/0.HEIC", "dog/1.heic", "README.md"], "holds no images whose suffix is read, but .*/cat/0.HEIC; save"),
        (["cat/0", "dog/1", "dog/1.txt"], "but files such as .*/cat/0; .* give them the suffix"),
        (["a/cat/0.jxl", "b.yaml"], "but files such as .*/a/cat/0.jxl"),
        (["cat/0.dcm", "dog/0.dcm"], "cat/0.dcm holds arrays of numbers, not images; save each as a PNG"),
        (["scans/0.nii.gz", "labels.csv"], "0.nii.gz holds arrays"),
        (["cat/0.npy", "dog/0.npy"], "cat/0.npy holds arrays"),
        (["cifar-10/batches.meta", "cifar-10/data_batch_1", "cifar-10/data_batch_2"], "data_batch_1 holds arrays"),
        (["MNIST/raw/t10k-images-idx3-ubyte.gz"], "idx3-ubyte.gz holds arrays"),
        (
            ["cat/0.png", "fox/0.heic"],
            "without images: fox, but with files such as .*/fox/0.heic; save",
        ),
        (["cat/0.png", "fox/notes.txt"], "without images: fox; fill or remove them"),
    ],
)
def test_files_that_are_not_read_are_named_where_images_are_missing(tmp_path, names, message):
    for read in (read_pool, class_names_in):
        with pytest.raises(ValueError, match=message):
            read(files(tmp_path, *names))


@pytest.mark.parametrize("name", ["images_best.pt", "samples.npz", "data.h5"])
def test_file_of_numbers_is_refused_with_the_way_to_images(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} holds arrays of numbers, not images; save each as a PNG"):
        read_pool(files(tmp_path, name) / name)


def test_folders_within_folders_are_told_to_be_taken_together(tmp_path, caplog):
    files(tmp_path, "a/airfield/0.png", "a/alley/0.png", "b/bar/0.png", "b/bakery/shop/0.png")
    assert set(classes(tmp_path).values()) == {"a", "b"}
    assert "are its folders a, b; those within, such as a/airfield, are not told apart" in caplog.text
    rows = [{"file_name": file, "label": Path(file).parent.name} for file in classes(tmp_path)]
    (tmp_path / "metadata.jsonl").write_bytes(json_lines(rows))  # the way that is told
    assert set(classes(tmp_path).values()) == {"airfield", "alley", "bar", "shop"}


@pytest.mark.parametrize("read", [read_pool, lambda root: real_images(root, {0: "cat"}, {0: "cat"})])
def test_folder_that_may_not_be_entered_is_refused_and_not_left_out(tmp_path, monkeypatch, read):
    def scandir(place):
        if os.fspath(place).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(place))
        return entered(place)

    files(tmp_path, "cat/open/0.png", "cat/closed/1.png", "dog/2.png")
    entered = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)  # whoever runs the tests may enter every folder
    with pytest.raises(PermissionError, match="cat/closed"):
        read(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,label\ndog/2.png,dog\n")
    assert classes(tmp_path) == {"dog/2.png": "dog"}


MASKS = ["ill/a (1).png", "ill/a (1)_mask.png", "ill/a (1)_mask_1.PNG", "ill/B.jpg", "ill/b-Seg.png", "well/0.png"]


def test_masks_beside_their_images_are_left_out_and_told_whoever_lists_the_folder(tmp_path, caplog):
    files(tmp_path, *MASKS, "well/1_gt.png", "well/mask.png", "well/mask_off.png")  # those last are no masks of others
    images = {"ill/a (1).png", "ill/B.jpg", "well/0.png", "well/1_gt.png", "well/mask.png", "well/mask_off.png"}
    assert set(classes(tmp_path)) == images
    assert f"3 images in {tmp_path}, such as ill/" in caplog.text
    assert f"taken for masks and left out; list them with the others in {tmp_path}/metadata.jsonl" in caplog.text
    found = real_images(tmp_path, {0: "ill"}, {0: "ill"})
    assert {row["file_name"] for row in found.rows} == {name for name in images if name.startswith("ill/")}


def test_lone_name_that_ends_as_masks_do_is_no_mask(tmp_path, caplog):
    names = [f"car/{name}.jpg" for name in ("ford", "ford_gt", "golf", "mini")]
    assert set(classes(files(tmp_path, *names, "bus/0.jpg"))) == {*names, "bus/0.jpg"}
    assert caplog.text == ""


@pytest.mark.parametrize("folders", [("with_mask", "without_mask"), ("Face Masks", "Hats")])
def test_images_of_masks_are_no_masks(tmp_path, caplog, folders):
    names = [f"{folders[0]}/0.jpg", f"{folders[0]}/0_Mask.jpg", f"{folders[1]}/0.jpg", f"{folders[1]}/1_mask.jpg"]
    assert set(classes(files(tmp_path, *names))) == {*names}
    assert caplog.text == ""


@pytest.mark.parametrize("masks", [[], MASKS[1:2], MASKS[1:3] + MASKS[4:5]])
def test_masks_that_rows_list_are_taken_and_others_need_no_row(tmp_path, caplog, masks):
    listed = [MASKS[0], MASKS[3], MASKS[5], *masks]
    files(tmp_path, *MASKS)
    (tmp_path / "metadata.jsonl").write_bytes(
        json_lines([{"file_name": name, "label": name.split("/")[0]} for name in listed])
    )
    assert set(classes(tmp_path)) == {*listed}
    assert caplog.text == ""


def test_images_beside_the_class_folders_are_told(tmp_path, caplog):
    assert len(read_pool(files(tmp_path, "cat/0.png", "0.png", "1.png"))) == 1
    assert "2 images in" in caplog.text


@pytest.mark.parametrize("names", [[str(i) for i in range(12)], ["3", "7", "11"], [f"{i:03d}" for i in (10, 9, 2)]])
def test_folders_that_are_numbers_are_these_labels(tmp_path, names):
    pool = read_pool(files(tmp_path, *(f"{name}/0.png" for name in names)))
    assert pool.class_names == {int(name): name for name in names} == class_names_in(tmp_path)


@given(st.sets(st.text("0123 ab", min_size=1, max_size=4), min_size=1, max_size=9))
def test_labels_are_different_and_numbers_only_where_all_names_are(names):
    labels = labels_by_name(names)
    assert len(set(labels.values())) == len(names)
    assert sorted(labels, key=labels.get) == sorted(names) or labels == {name: int(name) for name in names}


LISTS = {
    "val_annotations.txt": "val_1.JPEG\tn01443537\t0\t32\t44\t62\nval_0.JPEG\tn01440764\t5\t5\t9\t9\n",
    "LOC_val_solution.csv": "ImageId,PredictionString\nval_0,n01440764 85 1 499 272\nval_1,n01443537 1 2 3 4",
    "val.txt": "val_0.JPEG n01440764\nval_1.JPEG n01443537\n",
    "imagenet_2012_validation_synset_labels.txt": "n01440764\nn01443537\n",
    "labels.csv": "file,width,label\nval_0.JPEG,64,n01440764\nval_1.JPEG,64,n01443537\n",
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("inside", ["", "images/"])
def test_flat_images_have_the_classes_of_the_list_beside_them(tmp_path, name, inside):
    files(tmp_path, f"{inside}val_0.JPEG", f"{inside}val_1.JPEG")
    (tmp_path / name).write_text(LISTS[name])
    expected = {f"{inside}val_0.JPEG": "n01440764", f"{inside}val_1.JPEG": "n01443537"}
    assert classes(tmp_path) == expected
    tests = real_images(tmp_path, {1: "goldfish"}, {1: "goldfish"})
    assert [(row["file_name"], row["label"]) for row in tests.rows] == [(f"{inside}val_1.JPEG", 1)]


OTHER_LISTS = {
    "pandas' numbers of rows": ",filename,label\n0,1.png,cat\n1,0.png,dog\n",
    "pandas' numbers beside names without suffix": ",image_id,label\n0,1,cat\n1,0,dog\n",
    "labels that are called as images are": "id,label\n1,cat\n0,dog\n",
    "the class first": "label,path\ncat,images/1.png\ndog,images/0.png\n",
    "a column for each class": "filename, cat, dog\n1.png,1,0\n0.png,0,1\n",
    "fractions for each class": "image,cat,dog\n1,1.0,0.0\n0,0.0,1.0\n",
    "semicolons and decimal commas": "id;label;confidence\n1;cat;0,5\n0;dog;0,1\n",
    "semicolons in a list without a header": "0.png;dog\n1.png;cat\n",
    "a column for each class, and blanks": "image,cat,dog\n1,1,\n0,,1\n",
    "columns of other things": "image,cat,dog,patient,split,age,weight\n1,1,0,a,train,3,0.5\n0,0,1,a,train,3,0.5\n",
    "weights of 0 and 1, as of ISIC": "image,cat,dog,UNK,score_weight\n1,1.0,0.0,0.0,1.0\n0,0.0,1.0,0.0,0.0\n",
    "a flag": "image,is_valid,cat,dog\n1,1,1,0\n0,1,0,1\n",
    "a class called as a split": "image,train,cat,dog\n1,0,1,0\n0,0,0,1\n",
    "semicolons for each class": "filename;cat;dog\n1.png;1,0;0,0\n0.png;0,0;1,0\n",
    "the separator that Excel says": "sep=;\nid;label\n1;cat\n0;dog\n",
    "tabs and quotes": 'filename\tlabel\tnote\n1.png\tcat\t"one, two"\n0.png\t"dog"\t;\n',
    "semicolons within fields": "id,tags,label\n1,0;1,cat\n0,1;0,dog\n",
}


@pytest.mark.parametrize("kind", OTHER_LISTS)
def test_list_tells_the_class_whatever_column_names_the_image(tmp_path, kind):
    files(tmp_path, "0.png", "1.png")
    (tmp_path / "labels.csv").write_text(OTHER_LISTS[kind])
    assert classes(tmp_path) == {"0.png": "dog", "1.png": "cat"}


def test_names_with_commas_need_no_quotes_between_semicolons_or_after_spaces(tmp_path):
    files(tmp_path, "0.png", "1.png")
    (tmp_path / "labels.csv").write_text("file;label\n0.png;tench, Tinca tinca\n1.png;dog\n")
    assert classes(tmp_path) == {"0.png": "tench, Tinca tinca", "1.png": "dog"}
    (tmp_path / "labels.csv").rename(tmp_path / "labels.txt")
    (tmp_path / "labels.txt").write_text("0.png tench, Tinca tinca\n1.png dog\n")
    assert classes(tmp_path) == {"0.png": "tench, Tinca tinca", "1.png": "dog"}


def test_list_in_another_encoding_is_read_where_its_mark_tells_it_and_refused_with_the_way_out(tmp_path):
    files(tmp_path, "0.png", "1.png")
    text = "file\tlabel\n0.png\tLöwe\n1.png\tBär\n"
    (tmp_path / "labels.txt").write_text(text, "utf-16")
    assert classes(tmp_path) == {"0.png": "Löwe", "1.png": "Bär"}
    (tmp_path / "labels.txt").write_text(text, "cp1252")
    with pytest.raises(ValueError, match=r"labels\.txt is in another encoding than UTF-8.*save it as UTF-8"):
        read_pool(tmp_path)
    (tmp_path / "labels.txt").unlink()
    (tmp_path / "metadata.csv").write_text("file_name;label\n0.png;Löwe\n1.png;Bär\n", "cp1252")
    with pytest.raises(ValueError, match=r"metadata\.csv is in another encoding than UTF-8"):
        read_pool(tmp_path)


@pytest.mark.parametrize("rows", ["A.JPG,cat\nB.jpg,dog\n", "a.jpg,cat\nb.jpg,dog\n", "A,cat\nb,dog\n"])
def test_list_may_write_names_of_images_in_another_case(tmp_path, rows):
    files(tmp_path, "a.JPG", "b.JPG")
    (tmp_path / "labels.csv").write_text(f"file,label\n{rows}")
    assert classes(tmp_path) == {"a.JPG": "cat", "b.JPG": "dog"}


def test_names_that_case_alone_tells_apart_are_never_guessed(tmp_path):
    files(tmp_path, "a.jpg", "A.jpg", "b.jpg")
    (tmp_path / "labels.csv").write_text("file,label\na.JPG,cat\nB.JPG,dog\n")
    with pytest.raises(ValueError, match=r"labels\.csv names no class of A\.jpg and 1 other images"):
        read_pool(tmp_path)


def test_row_in_another_case_than_its_file_is_refused_with_the_name_to_write(tmp_path):
    files(tmp_path, "cat/img_1.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,label\ncat/IMG_1.JPG,cat\n")
    with pytest.raises(ValueError, match=r"does not exist in .*; write it 'img_1\.jpg', as the file is called"):
        read_pool(tmp_path)


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ("label\n0.png,dog\n1.png,dog\n", r"metadata\.jsonl and metadata\.csv beside it divide the images into other"),
        ("label,Split\n0.png,1,train\n1.png,0,test\n", r"metadata\.csv lists images of test and train together"),
        ("label,split\n0.png,1,train\n1.png,0,test\n", r"metadata\.csv lists images of test and train together"),
        ("label\n0.png,1\n1.png,0\n", None),  # the same classes by their numbers
        ("patient\n0.png,a\n1.png,a\n", None),
        ("label,split\n0.png,cat,train\n1.png,dog,train\n2.png,dog,test\n", None),  # whose row the other lacks
    ],
)
def test_two_files_of_rows_are_refused_where_they_differ_in_classes_or_one_tells_splits(tmp_path, beside, words):
    files(tmp_path, "0.png", "1.png", "2.png")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "0.png", "label": "cat"}\n{"file_name": "1.png", "label": "dog"}\n'
    )
    (tmp_path / "metadata.csv").write_text(f"file_name,{beside}")
    if words is None:
        assert classes(tmp_path) == {"0.png": "cat", "1.png": "dog"}
    else:
        with pytest.raises(ValueError, match=words):
            read_pool(tmp_path)


def test_text_in_another_encoding_that_names_no_images_is_none_of_the_data(tmp_path):
    files(tmp_path, "0.png", "1.png")
    (tmp_path / "notes.txt").write_bytes(b"caf\xe9, cr\xe8me")
    (tmp_path / "large.txt").write_bytes(b"\xe9" * 200_000 + b",")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "labels.csv").write_text("0.png;dog\n1.png;cat\n")
    assert classes(tmp_path) == {"0.png": "dog", "1.png": "cat"}


@pytest.mark.parametrize(("folder", "name"), [("train_images", "train.csv"), ("train", "trainLabels.csv")])
def test_list_above_a_split_is_of_that_split_alone(tmp_path, folder, name):
    files(tmp_path, f"{folder}/0.png", "test/0.png")
    (tmp_path / name).write_text("id,label\n0,cat\n")
    assert classes(tmp_path / folder) == {"0.png": "cat"}
    with pytest.raises(ValueError, match="holds 1 images but no class folders"):
        read_pool(tmp_path / "test")


def test_list_above_that_may_be_of_another_folder_is_named(tmp_path):
    files(tmp_path, "train/0.png", "test/1.png")
    (tmp_path / "labels.csv").write_text("id,breed\n0,pug\n")
    with pytest.raises(ValueError, match=f"copy {tmp_path}/labels.csv into it if that lists them"):
        read_pool(tmp_path / "train")
    (tmp_path / "labels.csv").rename(tmp_path / "train" / "labels.csv")
    assert classes(tmp_path / "train") == {"0.png": "pug"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label,split\n0.png,cat,train\n1.png,dog,test\n", "images of test and train together.*column split"),
        ("path,label,is_valid\n0.png,cat,False\n1.png,dog,True\n", "column is_valid; keep the rows and images of one"),
        ("filename,cat,dog\n0.png,1,1\n1.png,0,1\n", "gives 0.png 2 classes"),
        ("filename,cat,dog\n0.png,1,0\n1.png,0,0\n", "gives 1.png 0 classes among cat, dog"),
        ("filename,cat,dog,old\n0.png,1,0,1\n1.png,0,1,0\n", "gives 0.png 2 classes among cat, dog, old"),
        ("filename,cat,dog\n0.png,1,-1\n1.png,0,1\n", "none of its columns"),
        ("filename,width,height\n0.png,32,32\n1.png,32,32\n", "none of its columns"),
        (
            "file,patient,age,diagnosis\n0.png,ann,30,nevus\n1.png,bob,40,melanoma\n",
            "none of its columns file, patient, age, diagnosis is",
        ),
        ("image,caption\n0.png,a cat\n1.png,a dog\n", "no class folders"),
        ("0.png,cat;0.png\n1.png,dog;1.png\n", "by the separators ',' and ';' alike; put.*or write sep=,"),
        ("0.png -1  1 -1\n1.png  1 -1  1\n", "no class folders"),
    ],
)
def test_list_that_tells_no_class_or_several_splits_is_refused(tmp_path, content, message):
    files(tmp_path, "0.png", "1.png")
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_pool(tmp_path)


def test_column_that_may_be_the_true_classes_is_named(tmp_path):
    files(tmp_path, "0.png", "1.png", "2.png")
    rows = ["0.png,1,0,nevus", "1.png,1,0,melanoma", "2.png,0,1,melanoma"]
    (tmp_path / "labels.csv").write_text("\n".join(["image,male,female,diagnosis", *rows]))
    with pytest.raises(ValueError, match="classes by male, female, where one has a 1, or by diagnosis; remove"):
        read_pool(tmp_path)
    (tmp_path / "labels.csv").write_text("\n".join(["image,male,female,label", *rows]))
    assert set(classes(tmp_path).values()) == {"nevus", "melanoma"}
    rows = ["0.png,1,0,animal", "1.png,1,0,animal", "2.png,0,1,thing"]  # says no more than the columns
    (tmp_path / "labels.csv").write_text("\n".join(["image,cat,car,kind", *rows]))
    assert classes(tmp_path) == {"0.png": "cat", "1.png": "cat", "2.png": "car"}


SPLIT_ROWS = {
    "folders": [("train/0.png", {}), ("validation/0.png", {})],
    "folders of longer names": [("cars_train/0.png", {}), ("cars_test/0.png", {})],
    "a column": [("0.png", {"split": "train"}), ("1.png", {"split": "test"})],
    "a column in capitals": [("0.png", {"Split": "train"}), ("1.png", {"Split": "test"})],
    "a column that the first row lacks": [("0.png", {}), ("1.png", {"set": "train"}), ("2.png", {"set": "test"})],
    "a flag": [("0.png", {"is_test": False}), ("1.png", {"is_test": True})],
}


@pytest.mark.parametrize("kind", SPLIT_ROWS)
@pytest.mark.parametrize("ours", [True, False])
def test_rows_of_images_to_train_and_to_test_on_are_refused_together(tmp_path, kind, ours):
    def write(rows):
        told = {"label": 0, "class_name": "cat"} if ours else {"label": "cat"}
        (tmp_path / "metadata.jsonl").write_bytes(
            json_lines([{"file_name": file, **told, **more} for file, more in rows])
        )
        return tmp_path

    files(tmp_path, *(file for file, _ in SPLIT_ROWS[kind]))
    with pytest.raises(ValueError, match=r"images of \w+ and \w+ together"):
        read_pool(write(SPLIT_ROWS[kind]))
    assert len(read_pool(write(SPLIT_ROWS[kind][:1]))) == 1


def test_classes_that_are_called_as_splits_are_classes(tmp_path):
    files(tmp_path, "train/0.png", "test/0.png")
    lines = [{"file_name": f"{name}/0.png", "label": i, "class_name": name} for i, name in enumerate(("train", "test"))]
    (tmp_path / "metadata.jsonl").write_bytes(json_lines(lines))
    assert len(read_pool(tmp_path)) == 2


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "labels.csv"])
def test_names_of_images_without_a_folder_tell_no_split(tmp_path, name):
    told = {"train_0.png": "cat", "train_1.png": "dog", "test_0.png": "cat"}
    files(tmp_path, *told)
    if name == "metadata.jsonl":
        (tmp_path / name).write_bytes(json_lines([{"file_name": file, "label": one} for file, one in told.items()]))
    else:
        rows = [f"{file},{one}" for file, one in told.items()]
        (tmp_path / name).write_text("\n".join(["file_name,label", *rows]))
    assert classes(tmp_path) == told


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (["train/cat/0.png", "train/dog/0.png"], "train"),
        (["val2017/cat/0.png", "val2017/dog/0.png"], "validation"),
        (["train/train/cat/0.png", "train/train/dog/0.png"], "train"),
        (["train/0.png", "dog/0.png"], None),
        (["cat/0.png", "dog/train/0.png"], None),
    ],
)
def test_only_split_of_a_folder_is_known_by_its_rows(tmp_path, names, split):
    assert only_split(read_pool(files(tmp_path, *names)).rows) == split


def test_classes_of_a_split_in_a_folder_of_its_name_are_found_where_they_lie(tmp_path):
    files(tmp_path, "train/train/cat/0.png", "train/train/dog/0.png")
    found = real_images(tmp_path, {0: "cat"}, {0: "cat"})
    assert [row["file_name"] for row in found.rows] == ["train/train/cat/0.png"]


def test_images_without_a_row_are_told_where_all_lie_at_the_top(tmp_path, caplog):
    files(tmp_path, "0.png", "1.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\n0.png,cat\n")
    assert len(read_pool(tmp_path)) == 1
    assert "1 images in" in caplog.text


def test_images_in_folders_beside_the_listed_ones_are_told(tmp_path, caplog):
    files(tmp_path, "images/0.png", "masks/0.png")
    (tmp_path / "train.csv").write_text("id,label\n0,cat\n")
    assert classes(tmp_path) == {"images/0.png": "cat"}
    assert "the images in masks of" in caplog.text


def test_numbers_in_a_list_are_labels_and_words_may_have_spaces(tmp_path):
    files(tmp_path / "a", "0.png", "1.png")
    (tmp_path / "a/val.txt").write_text("0.png 65\n1.png 970\n")
    assert read_pool(tmp_path / "a").class_names == {65: "65", 970: "970"}
    files(tmp_path / "b", "0.png", "1.png")
    (tmp_path / "b/labels.csv").write_text('id,breed\n0,"garbage truck"\n1,church\n')
    assert set(classes(tmp_path / "b").values()) == {"garbage truck", "church"}


SITES = ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]  # names that only their folders tell apart


@pytest.mark.parametrize("wrap", ["", "train/"])
def test_list_beside_class_folders_is_refused_where_it_tells_other_classes(tmp_path, wrap):
    files(tmp_path, *(wrap + name for name in SITES))
    rows = [f"{wrap}{name},{kind}" for name, kind in zip(SITES, ["cat", "dog"] * 2, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    assert set(class_names_in(tmp_path).values()) == {"a", "b"}  # lists no images
    for read in (read_pool, lambda root: real_images(root, {0: "a"}, {0: "a"})):
        with pytest.raises(ValueError, match=r"labels\.csv and the folders in .* into other classes; remove it if"):
            read(tmp_path)
    (tmp_path / "labels.csv").rename(tmp_path / "metadata.csv")
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))  # the way that is told
    assert set(classes(tmp_path).values()) == {"cat", "dog"}


def test_list_above_class_folders_is_refused_where_it_tells_other_classes(tmp_path):
    files(tmp_path / "train_images", "patient1/x.png", "patient1/y.png", "patient2/z.png")
    (tmp_path / "train.csv").write_text("image_id,label\nx,ill\ny,well\nz,ill\n")
    with pytest.raises(ValueError, match=r"train\.csv and the folders in .* into other classes"):
        read_pool(tmp_path / "train_images")


@pytest.mark.parametrize(
    "content",
    [
        "file,label\na/0.png,Ahorn\na/1.png,Ahorn\nb/0.png,Birke\nb/1.png,Birke\n",
        "id,label\n0,cat\n1,dog\n",  # names of labels
        "file,width,height\na/0.png,8,8\na/1.png,8,9\nb/0.png,9,8\nb/1.png,9,9\n",
        "file,author\na/0.png,x\na/1.png,y\nb/0.png,x\nb/1.png,y\n",
        "file,class\na/0.png,dog\n",  # one of four
    ],
)
def test_list_beside_class_folders_that_tells_no_other_classes_is_passed_by(tmp_path, content):
    files(tmp_path, *SITES)
    (tmp_path / "labels.csv").write_text(content)
    assert set(classes(tmp_path).values()) == {"a", "b"}


@pytest.mark.parametrize(
    ("rows", "warned"),
    [
        (["file,species,breed", "a/0.png,x,a", "a/1.png,x,a", "b/0.png,x,b", "b/1.png,x,b"], False),
        (["file,breed,class", "a/0.png,x,p", "a/1.png,x,p", "b/0.png,x,q", "b/1.png,y,q"], False),
        (["file,category", "a/0.png,x", "a/1.png,x", "b/0.png,x", "b/1.png,x"], True),  # larger classes
        (["file,class,prob", "a/0.png,a,0.9", "a/1.png,b,0.6", "b/0.png,b,0.8", "b/1.png,b,0.7"], True),  # predicted
        (["file,label", "a/0.png,b", "a/1.png,a", "b/0.png,b", "b/1.png,a"], True),  # noisy
    ],
)
@pytest.mark.parametrize("place", ["test/list.csv", "test_predictions.csv"])
def test_list_that_has_the_folders_classes_or_divides_none_leaves_the_folders(tmp_path, caplog, rows, warned, place):
    files(tmp_path / "test", *SITES)
    (tmp_path / place).write_text("\n".join(rows))
    assert classes(tmp_path / "test") == {name: name[0] for name in SITES}
    assert real_images(tmp_path / "test", {0: "a"}, {0: "a"}).labels.tolist() == [0, 0]
    assert ("tells other classes of images than their folders in" in caplog.text) == warned


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_list_whose_letters_are_cut_where_its_first_line_is_read_is_compared(tmp_path, monkeypatch, encoding):
    files(tmp_path, *SITES)
    rows = ["file,label", *(f"{name},{told}" for name, told in zip(SITES, ["ä", "ö"] * 2, strict=True))]
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding)
    data = (tmp_path / "labels.csv").read_bytes()
    monkeypatch.setattr(
        "dag_diffusion.data.sources.image_lists.MOST_OF_HEADER", data.index("ä".encode(encoding)[-2:]) + 1
    )
    with pytest.raises(ValueError, match=r"labels\.csv and the folders in .* into other classes"):
        read_pool(tmp_path)


@pytest.mark.parametrize("header", ["file_name, label", "file_name,Label", " File_Name , label "])
def test_header_of_a_spreadsheet_may_have_spaces_and_capitals(tmp_path, header):
    files(tmp_path, "2021/0.png", "2022/0.png")
    (tmp_path / "metadata.csv").write_text(f"{header}\n2021/0.png, cat\n2022/0.png, dog\n")
    assert classes(tmp_path) == {"2021/0.png": "cat", "2022/0.png": "dog"}


@pytest.mark.parametrize("column", ["category", "Class", "labels", "species"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_class_in_a_column_of_another_name_is_read_unless_folders_tell_others(tmp_path, column, kind):
    def write(*names):
        files(tmp_path, *names)
        rows = [{"file_name": name, column: told} for name, told in zip(names, ["cat", "dog", "cat"], strict=True)]
        lines = [",".join(row) for row in (rows[0], *(row.values() for row in rows))]
        text = "\n".join(lines if kind == "csv" else map(json.dumps, rows))
        (tmp_path / f"metadata.{kind}").write_text(text)
        return tmp_path

    assert [*classes(write("0.png", "1.png", "2.png")).values()] == ["cat", "cat", "dog"]
    assert set(classes(write("c/0.png", "d/0.png", "c/1.png")).values()) == {"cat", "dog"}
    assert set(classes(write("e/0.png", "e/1.png", "e/2.png")).values()) == {"cat", "dog"}  # one folder tells nothing
    with pytest.raises(ValueError, match=f"may tell classes by {column} or by folders; call the column that does lab"):
        read_pool(write("c/0.png", "c/1.png", "d/0.png"))


PETS = {"beagle": "dog", "pug": "dog", "siamese": "cat"}


@pytest.mark.parametrize(
    "columns",
    [
        {"species": PETS.get, "breed": str},  # the folders' own names
        {"category": PETS.get},  # larger classes
        {"category": {"beagle": "dog"}.get},
        {"labels": lambda breed: [breed], "category": PETS.get},  # tags
        {"labels": lambda breed: ["a", "b"]},
    ],
)
def test_columns_that_divide_no_class_folder_leave_the_folders_the_classes(tmp_path, columns):
    files(tmp_path, *(names := [f"{breed}/{number}.png" for breed in PETS for number in range(2)]))
    rows = [{"file_name": n} | {key: told(n.split("/")[0]) for key, told in columns.items()} for n in names]
    (tmp_path / "metadata.jsonl").write_bytes(json_lines(rows))
    assert classes(tmp_path) == {name: name.split("/")[0] for name in names}


def test_several_columns_that_may_tell_classes_and_several_classes_of_an_image_are_refused(tmp_path):
    files(tmp_path, "0.png", "1.png")
    (tmp_path / "metadata.csv").write_text("file_name,species,breed\n0.png,cat,manx\n1.png,dog,pug\n")
    with pytest.raises(ValueError, match="may tell classes by species or by breed; call the column that does label"):
        read_pool(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    rows = [{"file_name": "0.png", "labels": ["cat", "pet"]}, {"file_name": "1.png", "labels": ["dog"]}]
    (tmp_path / "metadata.jsonl").write_bytes(json_lines(rows))
    with pytest.raises(ValueError, match=r"gives 0\.png the label \['cat', 'pet'\]; give every row a name"):
        read_pool(tmp_path)


@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv", "metadata.parquet"])
def test_label_that_pandas_wrote_as_a_fraction_is_a_whole_number(tmp_path, name):
    files(tmp_path, *(names := ["0.png", "1.png", "2.png"]))
    labels = pa.array([1.0, 2.0, 10.0])
    if name.endswith("parquet"):
        pq.write_table(pa.table({"file_name": names, "label": labels}), tmp_path / name)
    else:
        rows = [f"{file},{label}" for file, label in zip(names, labels.to_pylist(), strict=True)]
        (tmp_path / name).write_text("\n".join(["file_name,label", *rows]))
    assert read_pool(tmp_path).class_names == {1: "1", 2: "2", 10: "10"}


def test_row_that_lacks_a_label_is_named_beside_fractions_of_pandas(tmp_path):
    files(tmp_path, *(names := ["0.png", "1.png", "2.png"]))
    pq.write_table(pa.table({"file_name": names, "label": [0.0, None, 1.0]}), tmp_path / "metadata.parquet")
    with pytest.raises(ValueError, match=r"gives 1\.png the label None; give every row"):
        read_pool(tmp_path)


def test_name_in_another_unicode_form_is_found_by_a_list_and_told_of_a_row(tmp_path):
    files(tmp_path, "e\u0301.png", "b.png")  # as macOS writes it
    (tmp_path / "labels.csv").write_text("file,label\n\u00e9.png,cat\nb.png,dog\n", "utf-8")
    assert classes(tmp_path) == {"e\u0301.png": "cat", "b.png": "dog"}
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "metadata.csv").write_text("file_name,label\n\u00e9.png,cat\nb.png,dog\n", "utf-8")
    with pytest.raises(ValueError, match=r"called 'e\\u0301\.png', the same letters .* rename it to '\\xe9\.png'"):
        read_pool(tmp_path)


def test_list_of_windows_names_images_in_folders(tmp_path):
    files(tmp_path, "0.png", "1.png")
    (tmp_path / "labels.csv").write_text("file,label\nimgs\\0.png,cat\nimgs\\1.png,dog\n")
    assert classes(tmp_path) == {"0.png": "cat", "1.png": "dog"}


def test_list_that_names_no_image_is_told_of_images_without_classes(tmp_path):
    files(tmp_path, "0.png", "1.png")
    (tmp_path / "labels.csv").write_text("id,label\n101,cat\n102,dog\n")
    with pytest.raises(ValueError, match=r"list their classes in labels\.csv, which now gives them none"):
        read_pool(tmp_path)


@pytest.mark.parametrize("more", [{"class_name": "cat"}, {}])
def test_mark_that_windows_puts_before_utf_8_is_no_part_of_the_first_row(tmp_path, more):
    files(tmp_path, "0.png")
    data = json_lines([{"file_name": "0.png", "label": 0, **more}])
    (tmp_path / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + data)
    assert read_pool(tmp_path).class_names == {0: more.get("class_name", "0")}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["A1", "42", "7"], ["A1", "42", "7"]),
        (["00123", "7", ""], ["00123", "7", None]),
        (["1_000", "2", "3"], ["1_000", "2", "3"]),
        (["12345678901234567890", "1", "2"], ["12345678901234567890", "1", "2"]),
        (["0.5", "NaN", "-inf"], [0.5, None, None]),
        (["-3", "", "1e999"], [-3, None, None]),
        (["nan", "b", ""], ["nan", "b", None]),
    ],
)
def test_column_of_a_spreadsheet_is_of_numbers_or_as_it_is_written_and_can_be_published(tmp_path, written, read):
    names = ["0.png", "1.png", "2.png"]
    (tmp_path / "pool").mkdir()
    for grey, name in enumerate(names):
        Image.new("L", (4, 4), grey).save(tmp_path / "pool" / name)
    rows = [f"{name},cat,{value}" for name, value in zip(names, written, strict=True)]
    (tmp_path / "pool" / "metadata.csv").write_text("\n".join(["file_name,label,more", *rows]))
    pool = read_pool(tmp_path / "pool")
    assert [row["more"] for row in pool.rows] == read
    write_distilled_set(pool, [0, 1, 2], tmp_path / "set")
    assert (tmp_path / "set" / "README.md").is_file()
    assert [row["more"] for row in read_pool(tmp_path / "set").rows] == read


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_numbers_that_json_lacks_are_null_in_rows_of_other_programs(tmp_path, kind):
    files(tmp_path, "0.png", "1.png")
    rows = [{"file_name": f"{i}.png", "label": "cat", "blur": (0.5, float("nan"))[i]} for i in range(2)]
    if kind == "jsonl":
        (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "metadata.parquet")
    assert [row["blur"] for row in read_pool(tmp_path).rows] == [0.5, None]


def test_metadata_csv_of_other_things_is_no_list_of_an_only_split(tmp_path):
    files(tmp_path, "train/cat/0.png", "train/dog/0.png")
    (tmp_path / "train" / "metadata.csv").write_text("patient,age\n1,40\n2,50\n")
    assert classes(tmp_path) == {"train/cat/0.png": "cat", "train/dog/0.png": "dog"}


def test_two_lists_are_refused_unless_they_tell_the_same_classes(tmp_path):
    files(tmp_path, "val_0.JPEG", "val_1.JPEG")
    for name in ("val.txt", "labels.csv"):
        (tmp_path / name).write_text(LISTS[name])
    assert classes(tmp_path) == {"val_0.JPEG": "n01440764", "val_1.JPEG": "n01443537"}
    (tmp_path / "val.txt").write_text("val_0.JPEG n01443537\nval_1.JPEG n01440764\n")
    with pytest.raises(ValueError, match=r"labels\.csv and .*val\.txt both name the images"):
        read_pool(tmp_path)


def test_lists_of_two_splits_of_one_folder_are_refused_with_a_way_that_leads_on(tmp_path):
    files(tmp_path, "images/0.png", "images/1.png", "images/2.png")
    (tmp_path / "train.csv").write_text("image,label\nimages/0.png,cat\nimages/1.png,dog\n")
    (tmp_path / "test.csv").write_text("image,label\nimages/2.png,dog\n")
    with pytest.raises(ValueError, match=r"name different images .* give one of them, such as .*/test\.csv, instead"):
        read_pool(tmp_path)
    assert classes(tmp_path / "train.csv") == {"images/0.png": "cat", "images/1.png": "dog"}
    (tmp_path / "test.csv").unlink()
    with pytest.raises(
        ValueError, match=r"no class of images/2\.png .* leave them out by a .*metadata\.csv with file_n"
    ):
        read_pool(tmp_path)
    text = (tmp_path / "train.csv").read_text().replace("image,", "file_name,")
    (tmp_path / "metadata.csv").write_text(text)
    assert classes(tmp_path) == {"images/0.png": "cat", "images/1.png": "dog"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "image,age,sex,lesion_id\n0,40,female,x\n1,45,male,y\n"),
        ("a.csv", "0.png,x,female\n1.png,y,male\n"),
    ],
)
def test_list_that_tells_no_classes_is_told_and_passed_by_beside_one_that_does(tmp_path, caplog, name, content):
    files(tmp_path, "0.png", "1.png")
    (tmp_path / name).write_text(content)
    (tmp_path / "truth.csv").write_text("image,cat,dog\n0,1,0\n1,0,1\n")
    assert classes(tmp_path) == {"0.png": "cat", "1.png": "dog"}
    assert f"truth.csv, and not of {tmp_path / name}" in caplog.text


def test_list_of_splits_is_not_passed_by_beside_one_of_classes(tmp_path):
    files(tmp_path, "0.png", "1.png")
    (tmp_path / "labels.csv").write_text("image,label\n0,cat\n1,dog\n")
    (tmp_path / "splits.csv").write_text("image,split\n0,train\n1,test\n")
    with pytest.raises(ValueError, match="images of test and train together"):
        read_pool(tmp_path)


def test_made_up_classes_of_a_sample_submission_are_no_classes(tmp_path):
    files(tmp_path / "test", "0.png", "1.png")
    for folder in (tmp_path, tmp_path / "test"):
        (folder / "sample_submission.csv").write_text("id,label\n0,4\n1,4\n")
        with pytest.raises(ValueError, match=r"no class folders; .* or list their classes in labels\.csv"):
            read_pool(tmp_path / "test")


WITHOUT_HEADER = {
    "a split first, as of Google": "TRAIN,gs://b/0.png,dog\nTRAIN,gs://b/1.png,cat\nTRAIN,gs://b/2.png,cat\n",
    "a box first": "0.png,8,3,9,7,dog\n1.png,8,4,9,7,cat\n2.png,8,4,9,7,cat\n",
    "confidences": "0.png,dog,0.9\n1.png,cat,0.8\n2.png,cat,0.8\n",
    "the number of the class": "0.png,1,dog\n1.png,0,cat\n2.png,0,cat\n",
    "empty columns": "0.png,dog,,\n1.png,cat,,\n2.png,cat,,\n",
}


@pytest.mark.parametrize("kind", WITHOUT_HEADER)
def test_list_without_a_header_is_read_where_one_column_alone_can_be_of_classes(tmp_path, kind):
    files(tmp_path, "0.png", "1.png", "2.png")
    (tmp_path / "list.csv").write_text(WITHOUT_HEADER[kind])
    assert classes(tmp_path) == {"0.png": "dog", "1.png": "cat", "2.png": "cat"}


@pytest.mark.parametrize(
    "content",
    [
        "0.png 1 1 1\n1.png 2 1 2\n2.png 2 1 2\n",  # as Oxford-IIIT Pet
        "#Image CLASS-ID SPECIES ID\n0.png 1 1 1\n1.png 2 1 2\n2.png 2 1 2\n",
        "0.png 1 5 5 30 40\n1.png 2 6 3 31 49\n2.png 2 7 6 32 41\n",
        "0.png\t1\t5\t5\t30\t40\n1.png\t2\t6\t3\t31\t49\n2.png\t2\t7\t6\t32\t41\n",
    ],
)
def test_class_that_numbers_follow_is_read(tmp_path, content):
    files(tmp_path, "0.png", "1.png", "2.png")
    (tmp_path / "list.txt").write_text(content)
    assert classes(tmp_path) == {"0.png": "1", "1.png": "2", "2.png": "2"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("TRAIN,gs://b/0.png,dog\nTEST,gs://b/1.png,cat\nTRAIN,gs://b/2.png,cat\n", "images of test and train togeth"),
        ("0.png,patient3,cat\n1.png,patient3,dog\n2.png,patient4,cat\n", "label in a first line, such as"),
        ("0.png,patient3,1\n1.png,patient3,0\n2.png,patient4,1\n", "label in a first line, such as"),
        ("0.png,patient3,1\n1.png,patient4,0\n2.png,patient5,1\n", "label in a first line, such as"),
        ("0.png,cat,dog\n1.png,dog,fox\n2.png,fox,cat\n", "label in a first line, such as"),  # two of each image
        ("0.png,1,0,0\n1.png,0,1,0\n2.png,0,0,1\n", "label in a first line, such as"),
        ("0.png,1,0,0,0,0\n1.png,0,1,0,1,0\n2.png,0,0,1,0,1\n", "label in a first line, such as"),
        ("0.png,8,3,9,7,1\n1.png,9,4,9,7,2\n2.png,7,4,9,7,2\n", "label in a first line, such as"),
        ("0.png 8 3 9 7 1\n1.png 9 4 9 7 2\n2.png 7 4 9 7 2\n", "label in a first line, such as"),
        ("0.png,train,\n1.png,train,\n2.png,train,\n", "label in a first line, such as"),
    ],
)
def test_list_without_a_header_that_may_tell_several_classes_is_refused(tmp_path, content, message):
    files(tmp_path, "0.png", "1.png", "2.png")
    (tmp_path / "labels.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_pool(tmp_path)


@pytest.mark.parametrize("first", ["", "file{0}vals\n"])
@pytest.mark.parametrize(("separator", "within"), [(" ", " "), (",", ","), (";", ";"), ("\t", "\t"), (",", " ")])
def test_list_is_read_once_its_column_of_classes_is_called_as_the_error_says(tmp_path, first, separator, within):
    files(tmp_path, *(f"{i}.png" for i in range(6)))
    rows = [f"{i}.png{separator}{i % 3}{within}{i % 2}" for i in range(6)]
    file = tmp_path / "labels.txt"
    file.write_text("\n".join([first.format(separator) + rows[0], *rows[1:]]))
    if not first or within == " ":
        with pytest.raises(ValueError, match=re.escape(f"in a first line, such as {f'file{separator}label'!r}")):
            read_pool(tmp_path)
    for header, column in ((f"file{separator}label", 0), (f"file{separator}patient{within}label", 1)):
        file.write_text("\n".join([header, *rows]))
        assert classes(tmp_path) == {f"{i}.png": str((i % 3, i % 2)[column]) for i in range(6)}


def test_class_that_joins_others_is_told(tmp_path, caplog):
    files(tmp_path, "0.png", "1.png", "2.png")
    (tmp_path / "labels.csv").write_text("file,label\n0,ill\n1,ill|old\n2,well\n")
    assert len(read_pool(tmp_path).class_names) == 3
    assert "the class ill|old beside one of its parts" in caplog.text


def test_real_images_are_found_behind_links_and_in_an_only_split(tmp_path):
    files(tmp_path, "store/n01440764/0.JPEG", "store/n01443537/images/0.JPEG")
    (tmp_path / "val/train").mkdir(parents=True)
    for name in ("n01440764", "n01443537"):
        os.symlink(tmp_path / "store" / name, tmp_path / "val/train" / name)
    found = real_images(tmp_path / "val", {0: "tench", 1: "goldfish"}, {0: "tench", 1: "n01443537"})
    assert [row["file_name"] for row in found.rows] == ["train/n01440764/0.JPEG", "train/n01443537/images/0.JPEG"]


def test_real_images_of_a_class_that_holds_splits_are_refused(tmp_path):
    files(tmp_path, "cat/train/0.png", "cat/test/1.png", "dog/0.png")
    with pytest.raises(ValueError, match="hold splits, test, train"):
        real_images(tmp_path, {0: "cat"}, {0: "cat"})
    assert len(real_images(tmp_path, {0: "dog"}, {0: "dog"})) == 1


def test_rows_of_two_pools_that_share_labels_are_refused(tmp_path):
    def write(*rows):
        named = [(f"{folder}/{i}.png", label, name) for i, (folder, label, name) in enumerate(rows)]
        files(tmp_path, *(file for file, _, _ in named))
        lines = [{"file_name": file, "label": label, "class_name": name} for file, label, name in named]
        (tmp_path / "metadata.jsonl").write_bytes(json_lines(lines))
        return tmp_path

    with pytest.raises(ValueError, match=r"calls the label 0 both 'cat' and 'crane'.*a label of its own"):
        read_pool(write(("cat", 0, "cat"), ("dog", 1, "dog"), ("crane", 0, "crane")))
    with pytest.raises(ValueError, match="gives 'cat' in cat the labels 0 and 5"):
        read_pool(write(("cat", 0, "cat"), ("cat", 5, "cat")))
    assert read_pool(write(("crane", 134, "crane"), ("crane_517", 517, "crane"))).class_names == {
        134: "crane",
        517: "crane",
    }


def test_what_programs_leave_in_class_folders_is_no_image_of_the_class(tmp_path):
    left = ["cat/@eaDir/0.png/SYNOPHOTO_THUMB_XL.png", "dog/.thumbnails/0.png", "__MACOSX/cat/0.png", "#recycle/0.png"]
    assert classes(files(tmp_path, "cat/0.png", "dog/0.png", *left)) == {"cat/0.png": "cat", "dog/0.png": "dog"}


def test_image_without_a_suffix_is_told_and_a_text_is_not(tmp_path, caplog):
    files(tmp_path, "cat/0.png", "dog/0.png", "dog/LICENSE")
    assert len(classes(tmp_path)) == 2
    assert caplog.text == ""
    Image.new("L", (2, 2)).save(tmp_path / "cat" / "0001", "PNG")
    assert len(classes(tmp_path)) == 2
    assert "such as cat/0001, are images and are left out" in caplog.text


def test_name_in_another_encoding_is_refused_by_name(tmp_path):
    files(tmp_path, "cat/0.png")
    try:
        (tmp_path / os.fsdecode(b"cat/caf\xe9.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")
    with pytest.raises(ValueError, match=r"cat/caf\\udce9\.png is no UTF-8.*rename"):
        read_pool(tmp_path)


def test_images_that_came_after_the_rows_are_told_with_the_way_out(tmp_path, caplog):
    files(tmp_path, "cat/0.png", "cat/1.png")
    (tmp_path / "metadata.jsonl").write_bytes(json_lines([{"file_name": "cat/0.png", "label": 0, "class_name": "cat"}]))
    assert len(read_pool(tmp_path)) == 1
    assert "1 images in" in caplog.text
    assert "remove that file to read all anew" in caplog.text


RECORDS = {
    "metadata.csv": "file_name,label,difficulty\na/0.png,dog,0.5\nb/1.png,cat,\n",
    "metadata.jsonl": '{"file_name": "a/0.png", "label": "dog", "difficulty": 0.5}\n'
    '{"file_name": "b/1.png", "label": "cat"}\n',
}


@pytest.mark.parametrize("name", [*RECORDS, "metadata.parquet"])
def test_rows_of_other_programs_tell_classes_by_number_word_or_folder(tmp_path, name):
    files(tmp_path, "a/0.png", "b/1.png")
    if name in RECORDS:
        (tmp_path / name).write_text(RECORDS[name])
    else:
        rows = [{"file_name": "a/0.png", "label": "dog", "difficulty": 0.5}, {"file_name": "b/1.png", "label": "cat"}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    pool = read_pool(tmp_path)
    assert [(row["file_name"], row["label"], row["class_name"]) for row in pool.rows] == [
        ("b/1.png", 0, "cat"),
        ("a/0.png", 1, "dog"),
    ]
    assert pool.known_difficulties[1] == 0.5
    assert class_names_in(tmp_path) == {0: "cat", 1: "dog"}


@pytest.mark.parametrize(
    "told",
    [
        [{"class_name": "dog"}, {"class_name": "cat"}],
        [{"class_name": "dog", "label": None}, {"class_name": "cat", "label": None}],
        [{"class_name": "dog", "label": "Hund"}, {"class_name": "cat", "label": "Katze"}],
        [{"label": "dog"}, {"label": "cat"}],
    ],
)
@pytest.mark.parametrize("name_last", [True, False])
def test_rows_with_a_name_and_no_number_are_read_from_json_as_from_csv(tmp_path, told, name_last):
    files(tmp_path, "a/0.png", "b/1.png")
    names = [{"file_name": "a/0.png"}, {"file_name": "b/1.png"}]
    pairs = [(own, name) if name_last else (name, own) for own, name in zip(told, names, strict=True)]
    (tmp_path / "metadata.jsonl").write_bytes(json_lines([{**first, **second} for first, second in pairs]))
    assert classes(tmp_path) == {"a/0.png": "dog", "b/1.png": "cat"}
    assert class_names_in(tmp_path) == {0: "cat", 1: "dog"}


@pytest.mark.parametrize("wrong", [-1, 1.5, None])
def test_row_whose_label_is_no_class_is_named_and_none_besides(tmp_path, wrong):
    files(tmp_path, *(names := [f"a/{number}.png" for number in range(3)]))
    rows = [{"file_name": name, "label": label} for name, label in zip(names, [0, wrong, 1], strict=True)]
    (tmp_path / "metadata.jsonl").write_bytes(json_lines(rows))
    with pytest.raises(ValueError, match=rf"gives a/1.png the label {wrong}; give every row a name, or a whole number"):
        read_pool(tmp_path)


def test_one_row_of_a_pool_that_lost_its_label_is_named(tmp_path):
    files(tmp_path, "a/0.png", "b/1.png")
    lines = [{"file_name": "a/0.png", "label": 0, "class_name": "a"}, {"file_name": "b/1.png", "class_name": "b"}]
    (tmp_path / "metadata.jsonl").write_bytes(json_lines(lines))
    with pytest.raises(ValueError, match=r"line 2 of .*metadata\.jsonl has no file_name, label and class_name"):
        read_pool(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("file_name,label\na/0.png,7\nb/1.png,3\n", {7: "a", 3: "b"}),
        ("file_name,label\na/0.png,7\na/1.png,3\n", {7: "7", 3: "3"}),
        ("file_name,label,class_name\na/0.png,7,owl\nb/1.png,3,cat\n", {7: "owl", 3: "cat"}),
        ("file_name,caption\na/0.png,x\nb/1.png,y\n", {0: "a", 1: "b"}),
    ],
)
def test_numbers_of_other_programs_are_labels(tmp_path, content, expected):
    files(tmp_path, "a/0.png", "a/1.png", "b/1.png")
    (tmp_path / "metadata.csv").write_text(content)
    assert read_pool(tmp_path).class_names == expected


SPREADSHEETS = {
    "semicolons": ("file_name;label;difficulty\n0.png;cat;0,25\n1.png;dog;1,000\n", [0.25, 1.0]),
    "semicolons and points": ("file_name;label;difficulty\n0.png;cat;0.25\n1.png;dog;1\n", [0.25, 1.0]),
    "tabs": ("file_name\tlabel\tdifficulty\n0.png\tcat\t0,25\n1.png\tdog\t1,000\n", [0.25, 1.0]),
    "quotes": ('file_name,label,difficulty\n0.png,cat,"0,25"\n1.png,dog,"1,000"\n', [0.25, 1.0]),
    "Excel's own line": ("sep=;\r\nfile_name;label;difficulty\r\n0.png;cat;0,25\r\n1.png;dog;1\r\n", [0.25, 1.0]),
}


@pytest.mark.parametrize("kind", SPREADSHEETS)
def test_rows_of_spreadsheets_of_all_countries_tell_class_and_difficulty(tmp_path, kind):
    files(tmp_path, "0.png", "1.png")
    text, expected = SPREADSHEETS[kind]
    (tmp_path / "metadata.csv").write_text(text, newline="")
    pool = read_pool(tmp_path)
    assert pool.class_names == {0: "cat", 1: "dog"}
    assert pool.difficulties.tolist() == expected


def test_number_that_may_be_of_thousands_is_no_difficulty(tmp_path):
    files(tmp_path, "0.png", "1.png")
    (tmp_path / "metadata.csv").write_text('file_name,label,difficulty\n0.png,cat,"1,000"\n1.png,dog,1\n')
    with pytest.raises(ValueError, match="difficulty '1,000'; it must be a number from 0 to 1"):
        _ = read_pool(tmp_path).difficulties
    (tmp_path / "metadata.csv").write_text("file_name,label,difficulty\n0.png,cat,0.5\n1.png,dog,hard\n")
    with pytest.raises(ValueError, match=r"1\.png has the difficulty 'hard'"):  # the one that is wrong
        _ = read_pool(tmp_path).difficulties


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file_name,label\n0.png,\n", r"tells no class of 0\.png"),
        ("file_name,label\n../../x.png,1\n", "leads out of"),
        ("file_name,label\n", "lists no images"),
    ],
)
def test_rows_of_other_programs_that_tell_nothing_are_refused(tmp_path, content, message):
    files(tmp_path, "a/0.png", "0.png")
    (tmp_path / "metadata.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_pool(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "filename,label\n0.png,dog\n1.png,cat\n",
        "image;label\n0;dog\n1;cat\n",
        "0.png,dog\n1.png,cat\n",
        f"{','.join('abcdefghijkl')},filename,label\n{'x,' * 12}0.png,dog\n{'x,' * 12}1.png,cat\n",
    ],
)
def test_metadata_of_other_columns_is_a_list_like_any_other(tmp_path, content):
    files(tmp_path, "0.png", "1.png")
    (tmp_path / "metadata.csv").write_text(content)
    assert classes(tmp_path) == {"0.png": "dog", "1.png": "cat"}
    (tmp_path / "metadata.jsonl").write_text('{"image": "0.png", "label": "dog"}\n{"image": "1.png", "label": "cat"}\n')
    with pytest.raises(
        ValueError, match=r"metadata\.jsonl has no rows with a file_name .* call the column of names so"
    ):
        read_pool(tmp_path)


def test_metadata_of_other_things_leaves_the_folders_the_classes(tmp_path):
    files(tmp_path, *SITES)
    (tmp_path / "metadata.csv").write_text("slide,patient,magnification\n1,2,40\n")
    assert set(classes(tmp_path).values()) == {"a", "b"}
    assert set(class_names_in(tmp_path).values()) == {"a", "b"}
    (tmp_path / "metadata.csv").write_text("image,label\na/0.png,x\na/1.png,y\nb/0.png,x\nb/1.png,y\n")
    with pytest.raises(ValueError, match=r"into other classes; .* metadata\.csv with the columns file_name and label"):
        read_pool(tmp_path)


def write_labels(root: Path, labels: object, *names: str) -> Path:
    files(root, *names)
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return root


def test_dataset_json_of_edm_and_stylegan_tells_classes_and_its_folders_do_not(tmp_path):
    names = ["00000/img00000000.png", "00000/img00000001.png", "00001/img00001000.png"]
    write_labels(tmp_path, [[names[0], 6], [names[1], 9], [names[2], 6]], *names)
    assert classes(tmp_path) == {names[0]: "6", names[1]: "9", names[2]: "6"}
    assert class_names_in(tmp_path) == {6: "6", 9: "9"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "has no labels, as of images without classes, and the folders beside it are shards"),
        ([["00000/img00000000.png", [0.5, 1.5]]], "which is no class; expected"),
        ([["00000/img00000000.png", 6], ["00000/img00000001.png", None]], "which is no class; expected"),
        ([["00000/img00000007.png", 6]], "does not exist"),
    ],
)
def test_dataset_json_that_tells_no_class_is_refused(tmp_path, labels, message):
    write_labels(tmp_path, labels, "00000/img00000000.png", "00000/img00000001.png")
    with pytest.raises(ValueError, match=message):
        read_pool(tmp_path)


def test_dataset_json_of_another_program_is_not_read(tmp_path):
    write_labels(tmp_path, {"0": "background"}, "cat/0.png", "dog/0.png")
    assert classes(tmp_path) == {"cat/0.png": "cat", "dog/0.png": "dog"}


def test_images_behind_links_are_scored_elsewhere_and_not_pushed(tmp_path):
    files(tmp_path, "store/cat/0.png", "pool/dog/0.png")
    (tmp_path / "pool/cat").symlink_to(tmp_path / "store/cat")
    with pytest.raises(ValueError, match="leads out of"):
        gather_set(tmp_path / "pool", tmp_path / "new", "me/x", copy=True)


def test_photographs_that_pillow_cannot_read_are_told(tmp_path, caplog):
    (tmp_path / "cat").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / "b.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "cat" / "notes.txt").write_text("cat")
    assert len(read_pool(tmp_path)) == 1
    assert "cat/b.heic" in caplog.text
    assert "notes" not in caplog.text
