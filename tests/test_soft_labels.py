"""Soft labels beside a set: rows found by file name, columns by class, refused when they do not fit."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import NAMES, tiny_classifier, write_images

from dag_diffusion.data.distilled_sets import write_distilled_set
from dag_diffusion.data.pools import read_pool
from dag_diffusion.evaluation.soft_labels import (
    SOFT_LABELS,
    Teacher,
    read_soft_labels,
    teacher_logits,
    write_soft_labels,
)
from dag_diffusion.evaluation.soft_labels.per_image import image_source


@pytest.fixture
def pool(tmp_path):
    write_images(tmp_path / "set", {"Bag": 3, "T-shirt": 2})
    return read_pool(tmp_path / "set")


def files_of(pool):
    return [row["file_name"] for row in pool.rows]


def write(pool, **options):
    logits = teacher_logits(tiny_classifier(), pool)
    return write_soft_labels(pool.path, logits, files_of(pool), "tiny", **options), logits


def test_the_teacher_sees_the_images_in_the_order_of_the_rows(pool):
    teacher, pixels = tiny_classifier(), [np.asarray(Image.open(pool.path / name)) for name in files_of(pool)]
    images = torch.from_numpy(np.stack(pixels))[:, None]
    with torch.no_grad():
        expected = teacher((images / 255 - 0.5) / 0.5).logits
    torch.testing.assert_close(teacher_logits(teacher, images), expected)
    torch.testing.assert_close(teacher_logits(teacher, images / 255, batch_size=2), expected)
    # the pool's labels: Bag 0 and T-shirt 1; the teacher's: T-shirt 0 and Bag 2
    torch.testing.assert_close(teacher_logits(teacher, pool), expected[:, [2, 0]])


def test_columns_follow_the_classes_asked_for(pool):
    names = {7: "Ankle boot, boot", 3: "Bag", 5: "T-shirt"}
    two, three = teacher_logits(tiny_classifier(), pool), teacher_logits(tiny_classifier(), pool, class_names=names)
    torch.testing.assert_close(three[:, :2], two)
    assert three.shape == (5, 3)


def test_a_class_that_the_teacher_lacks_is_named(tmp_path):
    write_images(tmp_path, {"Bag": 1, "Sandal": 1})
    with pytest.raises(ValueError, match="Sandal"):
        teacher_logits(tiny_classifier(), read_pool(tmp_path))


def test_a_teacher_in_training_mode_is_refused(pool):
    with pytest.raises(ValueError, match="training mode"):
        teacher_logits(tiny_classifier().train(), pool)


def test_what_was_written_is_read_as_probabilities(pool):
    _, logits = write(pool)
    labels = read_soft_labels(pool)
    assert labels.dtype == torch.float32
    torch.testing.assert_close(labels.sum(1), torch.ones(5))
    torch.testing.assert_close(labels, logits.softmax(1), atol=0.01, rtol=0)


@pytest.mark.parametrize(("scale", "constant"), [(3, 0), (3, 25), (3, 1000), (20, 0), (3, 1e5)])
def test_half_precision_moves_no_probability_that_matters_by_one_percent(scale, constant, tmp_path):
    write_images(tmp_path, {"Bag": 40, "Coat": 40, "Sandal": 40})
    images = read_pool(tmp_path)
    logits = torch.randn(120, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale + constant
    write_soft_labels(tmp_path, logits, files_of(images), "tiny")
    expected = logits.softmax(1)
    matters = expected > 0.001
    torch.testing.assert_close(read_soft_labels(images).double()[matters], expected[matters], rtol=0.01, atol=0)


def test_labels_of_some_of_the_classes_are_what_the_teacher_says_among_these(tmp_path):
    write_images(tmp_path, {"Bag": 3, "Ankle boot, boot": 1, "T-shirt": 2})
    whole = read_pool(tmp_path)
    _, logits = write(whole, dtype=torch.float32)
    some = whole.select([0, 1, 2, 4, 5])
    assert torch.equal(read_soft_labels(some), logits[[0, 1, 2, 4, 5]][:, [0, 2]].softmax(1))


def test_float32_is_kept_exactly(pool):
    _, logits = write(pool, dtype=torch.float32)
    assert torch.equal(read_soft_labels(pool), logits.softmax(1))


def test_rows_are_found_by_file_name_in_whatever_order_they_were_written(pool):
    logits = torch.arange(10.0).view(5, 2).sin()
    write_soft_labels(pool.path, logits.flip(0), files_of(pool)[::-1], "tiny", dtype=torch.float32)
    assert torch.equal(read_soft_labels(pool), logits.softmax(1))


def test_the_file_says_who_taught_and_which_classes_and_files(pool):
    path, _ = write(pool)
    assert path == pool.path / SOFT_LABELS
    with safe_open(path, "pt") as stored:
        header = stored.metadata()
    assert header["teacher"] == "tiny"
    assert header["class_names"] == '["Bag", "T-shirt"]'
    assert header["file_names"].startswith('["Bag/00000.png", ')


@pytest.mark.parametrize("accuracy", [0.0, None])
def test_teacher_that_is_never_right_is_told_from_one_that_was_not_measured(pool, accuracy):
    teacher = Teacher("tiny", "0123", accuracy)
    write_soft_labels(pool.path, teacher_logits(tiny_classifier(), pool), files_of(pool), teacher)
    assert image_source(pool).teacher == teacher


def test_a_set_that_only_lists_images_keeps_its_labels_in_its_own_folder(pool, tmp_path):
    listed = write_distilled_set(pool, [0, 4], tmp_path / "list", columns={}, provenance={}, files="list")
    logits = teacher_logits(tiny_classifier(), listed)
    path = write_soft_labels(tmp_path / "list", logits, files_of(listed), "tiny", dtype=torch.float32)
    assert path == tmp_path / "list" / SOFT_LABELS
    assert torch.equal(read_soft_labels(read_pool(tmp_path / "list")), logits.softmax(1))


def test_the_set_is_read_as_before(pool):
    rows = pool.rows
    write(pool)
    assert read_pool(pool.path).rows == rows


def test_the_set_is_still_an_imagefolder(pool, tmp_path):
    from datasets import load_dataset

    write(pool)
    loaded = load_dataset("imagefolder", data_dir=str(pool.path), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(loaded["class_name"]) == ["Bag"] * 3 + ["T-shirt"] * 2


def test_an_image_without_a_row_is_named(pool):
    write(pool)
    write_images(pool.path, {"Bag": 3, "T-shirt": 3})
    with pytest.raises(ValueError, match=r"lacks 1 of 6 images \(first: T-shirt/00002.png\)"):
        read_soft_labels(read_pool(pool.path))


def test_labels_of_other_classes_are_refused(pool):
    write(pool)
    metadata = pool.path / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace('"class_name": "Bag"', '"class_name": "Purse"'))
    with pytest.raises(ValueError, match="of the classes Bag, T-shirt, but the set has Purse, T-shirt"):
        read_soft_labels(read_pool(pool.path))


def test_logits_that_do_not_fit_the_set_are_not_written(pool):
    with pytest.raises(ValueError, match=r"5 files and 2 classes need logits of that shape, but got \(5, 3\)"):
        write_soft_labels(pool.path, torch.zeros(5, len(NAMES)), files_of(pool), "tiny")
    with pytest.raises(ValueError, match="name a file twice"):
        write_soft_labels(pool.path, torch.zeros(5, 2), files_of(pool)[:4] + files_of(pool)[:1], "tiny")
    with pytest.raises(ValueError, match=r"lacks 1 of 5 images"):
        write_soft_labels(pool.path, torch.zeros(4, 2), files_of(pool)[:4], "tiny")
    with pytest.raises(ValueError, match=r"not finite as float16; use dtype=torch\.float32"):
        write_soft_labels(pool.path, torch.tensor([[0, 1e6]]).expand(5, 2), files_of(pool), "tiny")
    assert not (pool.path / SOFT_LABELS).exists()


def test_a_set_without_soft_labels_says_how_to_get_them(pool):
    with pytest.raises(FileNotFoundError, match=r"write them by label_folder\(\)"):
        read_soft_labels(pool)


def test_a_broken_file_is_named(pool):
    (pool.path / SOFT_LABELS).write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=f"{SOFT_LABELS} holds no soft labels"):
        read_soft_labels(pool)


def test_labels_of_other_images_of_the_same_names_are_refused(pool, tmp_path):
    path, logits = write(pool, dtype=torch.float32)
    file = pool.path / pool.rows[1]["file_name"]
    Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    with pytest.raises(
        ValueError, match=rf"other images than 1 of 5 .*{pool.rows[1]['file_name']}.*label the set again"
    ):
        read_soft_labels(read_pool(pool.path))
    with safe_open(path, "pt") as kept:
        header = {name: value for name, value in kept.metadata().items() if name != "file_digests"}
    save_file({"logits": logits}, path, header)  # as earlier versions wrote it
    assert torch.equal(read_soft_labels(read_pool(pool.path)), logits.softmax(1))
