"""Images in memory: labels by class name, honest random draws, and a digest that notices every change."""

import numpy as np
import pytest
import torch
from edged_images import NAMES, draw, write_folder
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from dag_diffusion.data.images import UnreadableImageError
from dag_diffusion.data.pools import Pool, read_pool
from dag_diffusion.evaluation.augmentations import Normalisation
from dag_diffusion.evaluation.labelled_images import (
    LabelledImages,
    RandomDraw,
    digest,
    fingerprints,
    load_labelled_images,
    normalise,
    random_subset,
    relabelled,
    subset,
)
from dag_diffusion.evaluation.soft_labels import write_soft_labels


def with_soft_labels(seed=0):
    """Each image's probabilities lean to its own class, differently for each image."""
    given = draw(seed)
    logits = torch.nn.functional.one_hot(torch.as_tensor(given.labels), 3) * 2 + torch.rand(18, 3)
    return LabelledImages(given.images, given.labels, NAMES, probabilities=logits.softmax(1))


class TestImages:
    @given(pixels=arrays(np.uint8, (2, 3, 4, 3)))
    def test_pixels_are_mapped_to_minus_one_to_one_unless_told_otherwise(self, pixels):
        images = normalise(pixels)
        assert images.shape == (2, 3, 3, 4)
        np.testing.assert_allclose(images.permute(0, 2, 3, 1), pixels / 127.5 - 1, atol=1e-6)

    def test_each_channel_may_have_its_own_mean_and_deviation(self):
        pixels = np.full((1, 2, 2, 3), 255, np.uint8)
        images = normalise(pixels, Normalisation(mean=(0, 0.5, 1), std=(1, 0.5, 2)))
        assert images[0, :, 0, 0].tolist() == [1, 1, 0]

    def test_torch_and_numpy_pixels_are_alike(self):
        given = draw(0)
        assert torch.equal(normalise(given.images), normalise(torch.from_numpy(given.images)))

    def test_images_without_a_channel_axis_are_refused(self):
        with pytest.raises(ValueError, match="grey ones have a last axis of 1"):
            LabelledImages(np.zeros((3, 8, 8), np.uint8), np.arange(3), NAMES)

    def test_float_images_are_refused(self):
        with pytest.raises(ValueError, match="uint8"):
            LabelledImages(np.zeros((3, 8, 8, 1)), np.arange(3), NAMES)

    def test_a_label_without_a_name_is_named(self):
        with pytest.raises(ValueError, match=r"\[7\] no name"):
            LabelledImages(np.zeros((3, 8, 8, 1), np.uint8), np.array([0, 1, 7]), NAMES)


class TestLoading:
    def test_a_pool_comes_back_as_it_was(self, tmp_path):
        given = draw(0)
        loaded = load_labelled_images(
            write_folder(tmp_path, given, ("a", "b", "c"), rows=True), size=(8, 8), channels=1, class_names=NAMES
        )
        np.testing.assert_array_equal(loaded.images, given.images)
        np.testing.assert_array_equal(loaded.labels, given.labels)

    def test_threads_keep_the_order_name_what_is_broken_and_have_one_large_image_at_a_time(self, tmp_path, monkeypatch):
        given, inside, most = draw(0), [], []
        pool, plain = write_folder(tmp_path, given, ("a", "b", "c")), Pool.open

        def counted(pool, index, before_decoding=None):
            image = plain(pool, index, before_decoding)
            inside.append(index)
            most.append(len(inside))
            image.load()
            inside.remove(index)
            return image

        monkeypatch.setattr("dag_diffusion.evaluation.labelled_images.THREADS", 5)
        monkeypatch.setattr("dag_diffusion.data.images.LARGE", 0)
        monkeypatch.setattr(Pool, "open", counted)
        loaded = load_labelled_images(pool, size=(8, 8), channels=1)
        np.testing.assert_array_equal(loaded.images, given.images)
        assert max(most) == 1
        (tmp_path / "b" / "07.png").write_bytes(b"no picture")
        with pytest.raises(UnreadableImageError, match=r"07\.png is not a readable image"):
            load_labelled_images(pool, size=(8, 8), channels=1)

    def test_names_decide_and_not_the_order_of_folders(self, tmp_path):
        given = draw(0)
        pool = write_folder(tmp_path, given, ("left", "right", "top_bottom"))
        test_names = {0: "right", 1: "top/bottom", 2: "left"}
        loaded = load_labelled_images(pool, size=(8, 8), channels=1, class_names=test_names)
        assert [test_names[label] for label in loaded.labels] == [NAMES[label] for label in given.labels]
        np.testing.assert_array_equal(loaded.images, given.images)

    def test_other_classes_are_listed(self, tmp_path):
        pool = write_folder(tmp_path, draw(0), ("left", "right", "middle"))
        with pytest.raises(ValueError, match=r"lacks 'top/bottom' and has 'middle' besides"):
            load_labelled_images(pool, size=(8, 8), channels=1, class_names=NAMES)

    def test_many_other_classes_are_counted_before_an_image_is_read(self, tmp_path):
        names = {label: f"class {label}" for label in range(1000)}
        pool = write_folder(tmp_path, draw(0), ("left", "right", "middle"))
        for file in tmp_path.rglob("*.png"):
            file.write_bytes(b"torn")
        with pytest.raises(ValueError, match=r"lacks 'class 0', 'class 1', 'class 10' and 997 more and has 'left'"):
            load_labelled_images(pool, size=(8, 8), channels=1, class_names=names)

    def test_images_of_another_size_and_mode_are_converted(self, tmp_path):
        (tmp_path / "a").mkdir()
        Image.new("RGB", (20, 10), (255, 0, 0)).save(tmp_path / "a" / "0.png")
        loaded = load_labelled_images(read_pool(tmp_path), size=(8, 6), channels=3)
        assert loaded.images.shape == (1, 8, 6, 3)
        assert (loaded.images == [255, 0, 0]).all()
        assert loaded.class_names == {0: "a"}

    def test_a_wide_image_is_cropped_and_not_squeezed(self, tmp_path):
        (tmp_path / "a").mkdir()
        wide = np.zeros((8, 24), np.uint8)
        wide[:, 8:16] = 200
        Image.fromarray(wide).save(tmp_path / "a" / "0.png")
        assert (load_labelled_images(read_pool(tmp_path), size=(8, 8), channels=1).images == 200).all()

    def test_reading_is_followed_from_nothing_to_the_last_image(self, tmp_path):
        pool, told = write_folder(tmp_path, draw(0), ("left", "right", "middle")), []
        load_labelled_images(pool, size=(8, 8), channels=1, progress=lambda *seen: told.append(seen))
        assert [told[0], told[-1]] == [("images read", 0, 18), ("images read", 18, 18)]

    @pytest.mark.parametrize("damage", [lambda data: b"no image", lambda data: data[: len(data) // 2]])
    def test_an_unreadable_image_is_named(self, tmp_path, damage):
        pool = write_folder(tmp_path, draw(0), ("left", "right", "top_bottom"))
        broken = tmp_path / pool.rows[4]["file_name"]
        broken.write_bytes(damage(broken.read_bytes()))
        with pytest.raises(ValueError, match=f"{broken} is not a readable image"):
            load_labelled_images(pool, size=(8, 8), channels=1)

    @given(order=st.permutations(range(3)), numbers=st.permutations(range(3)))
    def test_relabelling_keeps_the_name_of_every_image(self, order, numbers):
        given = draw(0)
        renamed = {new: NAMES[old] for old, new in zip(order, numbers, strict=True)}
        result = relabelled(given, renamed)
        assert [renamed[label] for label in result.labels] == [NAMES[label] for label in given.labels]

    def test_soft_labels_come_along_in_the_order_of_the_test_set_s_classes(self, tmp_path):
        given = with_soft_labels()
        pool = write_folder(tmp_path, given, ("left", "right", "top_bottom"))
        write_soft_labels(
            tmp_path, given.probabilities.log(), [row["file_name"] for row in pool.rows], "a teacher",
            dtype=torch.float32,
        )  # fmt: skip
        names = {2: "left", 5: "right", 1: "top/bottom"}
        loaded = load_labelled_images(read_pool(tmp_path), size=(8, 8), channels=1, class_names=names, labels="soft")
        torch.testing.assert_close(loaded.probabilities, given.probabilities[:, [2, 0, 1]])
        likeliest = loaded.probabilities.argmax(1).tolist()
        assert [sorted(names)[column] for column in likeliest] == loaded.labels.tolist()

    def test_soft_labels_of_other_images_are_refused(self):
        with pytest.raises(ValueError, match=r"must have shape \(18, 3\)"):
            LabelledImages(draw(0).images, draw(0).labels, NAMES, probabilities=torch.full((17, 3), 1 / 3))


class TestDraws:
    def test_each_seed_draws_other_images_and_the_same_seed_the_same(self):
        draws = [RandomDraw(draw(0), 2)(seed) for seed in (0, 0, 1)]
        assert digest(draws[0]) == digest(draws[1]) != digest(draws[2])

    def test_every_class_has_as_many_images_as_asked_none_twice(self):
        drawn = random_subset(draw(0), 4, seed=3)
        assert np.bincount(drawn.labels).tolist() == [4, 4, 4]
        assert len(np.unique(drawn.images, axis=0)) == 12

    def test_every_image_is_drawn_as_often_as_any_other_and_not_only_the_first_by_name(self):
        given = draw(0, per_class=4)
        drawn = [random_subset(given, 1, seed).images[0].tobytes() for seed in range(200)]
        counts = [drawn.count(image.tobytes()) for image in given.images[:4]]
        assert sum(counts) == 200
        assert min(counts) > 25

    def test_soft_labels_stay_with_their_images(self):
        given = with_soft_labels()
        chosen = subset(given, np.array([7, 2]))
        assert torch.equal(chosen.probabilities, given.probabilities[[7, 2]])

    def test_too_many_images_are_refused_with_the_class(self):
        with pytest.raises(ValueError, match="class 'left' has 6 images, but 7 are to be drawn"):
            random_subset(draw(0), 7, seed=0)


class TestDigest:
    def test_notices_a_pixel_a_label_the_order_and_a_class_name(self):
        given = draw(0)
        pixels, labels = given.images.copy(), given.labels.copy()
        pixels[5, 0, 0, 0] ^= 1
        labels[0] = 1
        others = [
            LabelledImages(pixels, given.labels, NAMES),
            LabelledImages(given.images, labels, NAMES),
            LabelledImages(given.images[::-1], given.labels[::-1], NAMES),
            LabelledImages(given.images, given.labels, {**NAMES, 2: "both"}),
        ]
        assert len({digest(one) for one in [given, *others]}) == 5
        assert digest(given) == digest(draw(0))

    def test_heeds_soft_labels_only_when_they_are_used(self):
        given = with_soft_labels()
        other = LabelledImages(given.images, given.labels, NAMES, probabilities=given.probabilities.flip(0))
        assert digest(given) == digest(other)
        assert digest(given, soft_labels=True) != digest(other, soft_labels=True)


def test_images_that_are_in_the_test_set_too_are_counted():
    assert not fingerprints(draw(0)) & fingerprints(draw(1))
    assert len(fingerprints(subset(draw(0), np.arange(5))) & fingerprints(draw(0))) == 5
