"""Images in two folders are found by their bytes, whatever they are called."""

import shutil

from tiny import write_images

from dag_diffusion.data.pools import read_pool
from dag_diffusion.data.preparing.shared_images import shared_rows


def test_images_are_known_again_under_another_name_and_others_of_equal_length_are_not(tmp_path):
    write_images(tmp_path / "train", {"a": 3, "b": 3}, metadata=False)
    (tmp_path / "test" / "a").mkdir(parents=True)
    shutil.copy(tmp_path / "train" / "b" / "00001.png", tmp_path / "test" / "a" / "other.png")
    changed = bytearray((tmp_path / "train" / "a" / "00000.png").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "test" / "a" / "changed.png").write_bytes(changed)
    train, test = read_pool(tmp_path / "train"), read_pool(tmp_path / "test")
    assert len(shared_rows(test, train)) == len(shared_rows(train, test)) == 1
    assert len(shared_rows(train, train)) == 6


def test_file_that_is_gone_is_shared_by_none(tmp_path):
    write_images(tmp_path, {"a": 2})
    pool = read_pool(tmp_path)
    (tmp_path / "a" / "00000.png").unlink()
    assert len(shared_rows(pool, pool)) == 1
