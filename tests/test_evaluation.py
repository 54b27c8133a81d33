import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import stats

from dag_diffusion.evaluation import (
    LabelledImages,
    Result,
    accuracy,
    evaluate,
    load_labelled_images,
    normalise,
    relabelled,
    summarise,
)
from dag_diffusion.pools import read_pool
from dag_diffusion.training import Protocol

NAMES = {0: "left", 1: "right", 2: "top/bottom"}
SHORT = Protocol("short", epochs=8, batch_size=6, learning_rate=0.05)


def draw(seed, per_class=6):
    """Images of 8 pixels, grey noise with one bright edge (two for class 2)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    images = rng.integers(0, 60, (len(labels), 8, 8, 1), np.uint8)
    images[labels == 0, :, :3] += 180
    images[labels == 1, :, 5:] += 180
    images[labels == 2, :3] += 180
    images[labels == 2, 5:] += 180
    return LabelledImages(images, labels, NAMES)


def write_folder(path, given, names, rows=False):
    """One PNG an image in a folder named after its class; with ``rows``, the labels of ``given`` in the metadata."""
    lines = []
    for index, (image, label) in enumerate(zip(given.images, given.labels.tolist(), strict=True)):
        file = path / names[label] / f"{index:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(file)
        row = {"file_name": f"{names[label]}/{index:02d}.png", "label": label, "class_name": given.class_names[label]}
        lines.append(json.dumps(row) + "\n")
    if rows:
        (path / "metadata.jsonl").write_text("".join(lines))
    return read_pool(path)


def run(sets, **options):
    defaults = {"network": "convnet-1-w4", "protocol": SHORT, "seeds": (0, 1)}
    return evaluate(sets, draw(99), **{**defaults, **options})


def same_but_for_time(results):
    return [dataclasses.replace(result, seconds=0) for result in results]


class TestImages:
    @given(pixels=arrays(np.uint8, (2, 3, 4, 3)))
    def test_pixels_are_mapped_to_minus_one_to_one_unless_told_otherwise(self, pixels):
        images = normalise(pixels)
        assert images.shape == (2, 3, 3, 4)
        np.testing.assert_allclose(images.permute(0, 2, 3, 1), pixels / 127.5 - 1, atol=1e-6)

    def test_each_channel_may_have_its_own_mean_and_deviation(self):
        pixels = np.full((1, 2, 2, 3), 255, np.uint8)
        images = normalise(pixels, mean=(0, 0.5, 1), std=(1, 0.5, 2))
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


class TestAccuracy:
    @pytest.mark.parametrize("batch_size", [1, 3, 500])
    def test_is_the_fraction_of_right_guesses_whatever_the_batch(self, batch_size):
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 3, bias=False))
        network[1].weight.data = torch.eye(3)
        images = torch.eye(3)[[0, 1, 2, 0]].view(4, 3, 1, 1)
        assert accuracy(network, images, torch.tensor([0, 1, 2, 1]), batch_size) == 0.75

    def test_is_taken_in_evaluation_mode(self):
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 3), torch.nn.Dropout(0.9))
        images, labels = torch.rand(50, 3, 1, 1), torch.zeros(50, dtype=torch.int64)
        assert len({accuracy(network, images, labels) for _ in range(5)}) == 1


class TestLoading:
    def test_a_pool_comes_back_as_it_was(self, tmp_path):
        given = draw(0)
        loaded = load_labelled_images(
            write_folder(tmp_path, given, ("a", "b", "c"), rows=True), size=(8, 8), channels=1, class_names=NAMES
        )
        np.testing.assert_array_equal(loaded.images, given.images)
        np.testing.assert_array_equal(loaded.labels, given.labels)

    def test_names_decide_and_not_the_order_of_folders(self, tmp_path):
        given = draw(0)
        pool = write_folder(tmp_path, given, ("left", "right", "top_bottom"))
        test_names = {0: "right", 1: "top/bottom", 2: "left"}
        loaded = load_labelled_images(pool, size=(8, 8), channels=1, class_names=test_names)
        assert [test_names[label] for label in loaded.labels] == [NAMES[label] for label in given.labels]
        np.testing.assert_array_equal(loaded.images, given.images)

    def test_other_classes_are_listed(self, tmp_path):
        pool = write_folder(tmp_path, draw(0), ("left", "right", "middle"))
        with pytest.raises(ValueError, match=r"lacks \['top/bottom'\] and has \['middle'\] besides"):
            load_labelled_images(pool, size=(8, 8), channels=1, class_names=NAMES)

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


class TestEvaluate:
    def test_useful_images_teach_and_mislabelled_ones_do_not(self):
        good = draw(0)
        wrong = LabelledImages(good.images, (good.labels + 1) % 3, NAMES)
        results = run({"good": good, "wrong": wrong})
        assert all(result.accuracy > 0.9 for result in results if result.set == "good")
        assert all(result.accuracy < 0.1 for result in results if result.set == "wrong")

    def test_results_say_what_was_trained(self):
        result = run({"good": draw(0)}, seeds=[4])[0]
        assert (result.set, result.network, result.protocol, result.seed) == ("good", "convnet-1-w4", "short", 4)
        assert result.images_per_class == 6
        assert result.seconds > 0

    def test_running_again_gives_the_same_accuracies(self):
        hard = Protocol("hard", epochs=1, batch_size=6, max_shift=1)
        first, second = (run({"good": draw(0)}, protocol=hard) for _ in range(2))
        assert same_but_for_time(first) == same_but_for_time(second)

    def test_equal_images_under_two_names_score_alike_at_each_seed(self):
        hard = Protocol("hard", epochs=1, batch_size=6, max_shift=1)
        results = run({"a": draw(0), "other": draw(1), "b": draw(0)}, protocol=hard, seeds=range(4))
        scores = {name: [r.accuracy for r in results if r.set == name] for name in ("a", "b")}
        assert scores["a"] == scores["b"]
        assert len(set(scores["a"])) > 1

    def test_a_set_may_be_drawn_anew_for_each_seed(self):
        asked = []

        def random(seed):
            asked.append(seed)
            return draw(seed)

        drawn = run({"random": random}, seeds=(5, 7))
        fixed = [run({"random": draw(seed)}, seeds=[seed])[0] for seed in (5, 7)]
        assert asked == [5, 7]
        assert same_but_for_time(drawn) == same_but_for_time(fixed)

    def test_each_result_is_handed_over_at_once(self):
        seen = []

        def stop_after_two(result):
            seen.append(result)
            if len(seen) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run({"a": draw(0), "b": draw(1)}, on_result=stop_after_two)
        assert [(result.set, result.seed) for result in seen] == [("a", 0), ("b", 0)]

    def test_labels_numbered_otherwise_than_the_test_set_s_are_matched_by_name(self):
        good = draw(0)
        names = {2: "left", 0: "right", 1: "top_bottom"}
        permuted = LabelledImages(good.images, np.array([2, 0, 1])[good.labels], names)
        first, second = run({"good": good, "permuted": permuted}, seeds=[0])
        assert first.accuracy == second.accuracy

    def test_a_set_of_other_classes_is_refused_before_any_training(self):
        foreign = LabelledImages(draw(0).images, draw(0).labels, {**NAMES, 2: "middle"})
        results = []
        with pytest.raises(ValueError, match=r"foreign has other .* lacks \['top/bottom'\] and has \['middle'\]"):
            run({"good": draw(0), "foreign": foreign}, on_result=results.append)
        assert results == []

    def test_a_set_of_another_size_is_refused(self):
        small = LabelledImages(draw(0).images[:, :4], draw(0).labels, NAMES)
        with pytest.raises(ValueError, match=r"small are \(4, 8, 1\), but those of the test set \(8, 8, 1\)"):
            run({"small": small})

    def test_too_few_logits_are_refused(self):
        with pytest.raises(ValueError, match="give at least 3"):
            run({"good": draw(0)}, num_classes=2)


class TestSummary:
    @staticmethod
    def results(name, accuracies, network="convnet-3"):
        return [Result(name, network, "short", seed, 10.0, value, 1.0) for seed, value in enumerate(accuracies)]

    def test_tells_mean_deviation_and_number_of_seeds(self):
        row = summarise(self.results("random", [0.70, 0.72, 0.74]), "random")[0]
        assert (row.set, row.network, row.protocol, row.seeds) == ("random", "convnet-3", "short", 3)
        assert (row.mean, row.std) == pytest.approx((0.72, 0.02))
        assert (row.difference, row.interval) == (0, (0, 0))

    @given(
        pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=10),
        seed=st.integers(0, 9),
    )
    def test_zero_is_outside_the_interval_exactly_when_a_paired_t_test_says_so(self, pairs, seed):
        ours, theirs = np.array(pairs).T + np.random.default_rng(seed).normal(0, 0.01, (2, len(pairs)))
        row = summarise(self.results("dgs", ours) + self.results("random", theirs), "random")[0]
        low, high = row.interval
        assert low <= row.difference <= high
        assert row.difference == pytest.approx(np.mean(ours - theirs))
        assert (low > 0 or high < 0) == (stats.ttest_rel(ours, theirs).pvalue < 0.05)

    def test_pairs_by_seed_and_not_by_order(self):
        results = self.results("dgs", [0.8, 0.7, 0.6])[::-1] + self.results("random", [0.7, 0.6, 0.5])
        low, high = summarise(results, "random")[0].interval
        assert (low, high) == pytest.approx((0.1, 0.1))

    def test_one_seed_has_no_interval(self):
        row = summarise(self.results("dgs", [0.8]) + self.results("random", [0.7]), "random")[0]
        assert (row.std, row.interval) == (None, None)
        assert row.difference == pytest.approx(0.1)

    def test_networks_are_compared_each_with_its_own_baseline(self):
        small = self.results("dgs", [0.5, 0.5], "convnet-1") + self.results("random", [0.4, 0.4], "convnet-1")
        large = self.results("dgs", [0.9, 0.9]) + self.results("random", [0.6, 0.6])
        differences = {(row.set, row.network): row.difference for row in summarise(small + large, "random")}
        assert differences[("dgs", "convnet-1")] == pytest.approx(0.1)
        assert differences[("dgs", "convnet-3")] == pytest.approx(0.3)

    def test_a_missing_baseline_or_seed_is_named(self):
        with pytest.raises(ValueError, match=r"seeds \[0, 1\], but the baseline 'random' has \[\]"):
            summarise(self.results("dgs", [0.8, 0.7]), "random")
        with pytest.raises(ValueError, match=r"seeds \[0, 1\], but the baseline 'random' has \[0\]"):
            summarise(self.results("dgs", [0.8, 0.7]) + self.results("random", [0.7]), "random")

    def test_a_seed_that_is_there_twice_is_refused(self):
        twice = self.results("random", [0.8, 0.7]) * 2
        with pytest.raises(ValueError, match="once each"):
            summarise(twice, "random")
