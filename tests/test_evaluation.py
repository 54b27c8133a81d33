"""Training on sets and testing on real images: from pixels to the command's tables, whatever is killed in between."""

import csv
import dataclasses
import json
import logging
import os
import shutil
import sys
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from edged_images import NAMES, draw, write_folder
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner
from warm import Command

from dag_diffusion.cli.commands import app
from dag_diffusion.data.pools import read_pool
from dag_diffusion.evaluation import training
from dag_diffusion.evaluation.labelled_images import (
    LabelledImages,
    RandomDraw,
    load_labelled_images,
    normalise,
    usual_normalisation,
)
from dag_diffusion.evaluation.protocols import PROTOCOLS, Protocol
from dag_diffusion.evaluation.records import append_result, evaluation_record, finished_trainings
from dag_diffusion.evaluation.results import Result
from dag_diffusion.evaluation.runs import EvaluationConfig, run_evaluation
from dag_diffusion.evaluation.sets import load_compared_sets
from dag_diffusion.evaluation.soft_labels import write_soft_labels
from dag_diffusion.evaluation.training import CPU_BATCH, accuracy, share_of_this_process, train
from dag_diffusion.evaluation.trials import evaluate

SHORT = Protocol("short", epochs=8, batch_size=6, learning_rate=0.05, precision="float32")


def run(sets, **options):
    defaults = {"network": "convnet-1-w4", "protocol": SHORT, "seeds": (0, 1), "device": "cpu"}  # exact, one by one
    return evaluate(sets, draw(99), **{**defaults, **options})


def same_but_for_time(results):
    return [dataclasses.replace(result, seconds=0) for result in results]


def with_soft_labels(given, strength):
    """A teacher that is sure of the right class for a positive strength, and of the next one for a negative."""
    shift = 0 if strength > 0 else 1
    hot = torch.nn.functional.one_hot((torch.as_tensor(given.labels) + shift) % 3, 3)
    return LabelledImages(given.images, given.labels, NAMES, probabilities=(hot * abs(strength)).float().softmax(1))


class TestAccuracy:
    @pytest.mark.parametrize("batch_size", [1, 3, 500])
    def test_is_the_fraction_of_right_guesses_whatever_the_batch(self, batch_size):
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 3, bias=False))
        network[1].weight.data = torch.eye(3)
        images = torch.eye(3)[[0, 1, 2, 0]].view(4, 3, 1, 1)
        assert accuracy(network, images, torch.tensor([0, 1, 2, 1]), batch_size) == 0.75

    @pytest.mark.parametrize("normalisation", [None, usual_normalisation(3)])
    def test_of_pixels_is_that_of_the_same_normalised(self, normalisation):
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 5, 3))
        pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3), np.uint8)
        ready = normalise(pixels, normalisation)
        guesses = network(ready).argmax(1)
        assert len(guesses.unique()) > 1
        assert accuracy(network, ready, guesses) == 1
        for stored in (pixels, torch.tensor(pixels)):
            assert accuracy(network, stored, guesses, 7, normalisation=normalisation) == 1

    def test_is_taken_in_evaluation_mode(self):
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 3), torch.nn.Dropout(0.9))
        images, labels = torch.rand(50, 3, 1, 1), torch.zeros(50, dtype=torch.int64)
        assert len({accuracy(network, images, labels) for _ in range(5)}) == 1

    @given(images=st.integers(1, 500), processes=st.integers(1, 9))
    def test_processes_share_all_images_once_in_the_batches_of_one_alone(self, images, processes):
        alone = [range(start, min(start + CPU_BATCH, images)) for start in range(0, images, CPU_BATCH)]
        shared = []
        for number in range(processes):
            of_process = SimpleNamespace(process_index=number, num_processes=processes)
            with mock.patch.object(training, "this_process", lambda of_process=of_process: of_process):
                own = range(images)[share_of_this_process(images)]
            shared += [own[start : start + CPU_BATCH] for start in range(0, len(own), CPU_BATCH)]
        assert shared == alone


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

    def test_seeds_may_be_numbers_of_numpy(self):
        results = run({"good": draw(0)}, seeds=np.arange(2))
        assert same_but_for_time(results) == same_but_for_time(run({"good": draw(0)}, seeds=[0, 1]))
        assert [type(result.seed) for result in results] == [int, int]

    @pytest.mark.parametrize("seeds", [3, [None], [0.5]])
    def test_what_is_no_seed_is_refused(self, seeds):
        with pytest.raises(ValueError, match=r"seeds? is .*; give"):
            run({"good": draw(0)}, seeds=seeds)

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
        assert [result.accuracy for result in drawn] == [result.accuracy for result in fixed]
        assert [(result.draw, other.draw) for result, other in zip(drawn, fixed, strict=True)] == [(5, None), (7, None)]

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

    @pytest.mark.parametrize("numbers", [[3, 497, 999], [-7, -1, 0], [0, 5, 10**12]])
    @pytest.mark.parametrize("labels", ["hard", "soft"])
    def test_accuracy_does_not_depend_on_what_numbers_classes_have(self, numbers, labels):
        def renumbered(given):
            soft = torch.eye(3)[given.labels]
            names = {numbers[label]: name for label, name in NAMES.items()}
            return [
                LabelledImages(given.images, given.labels, NAMES, probabilities=soft),
                LabelledImages(given.images, np.array(numbers)[given.labels], names, probabilities=soft),
            ]

        results = [
            evaluate(
                {"fixed": own, "drawn": RandomDraw(own, 2)},
                test,
                network="convnet-1-w4",
                protocol=SHORT,
                labels=labels,
                seeds=[0, 1],
            )
            for own, test in zip(renumbered(draw(0)), renumbered(draw(1)), strict=True)
        ]
        assert same_but_for_time(results[0]) == same_but_for_time(results[1])

    def test_a_set_of_other_classes_is_refused_before_any_training(self):
        foreign = LabelledImages(draw(0).images, draw(0).labels, {**NAMES, 2: "middle"})
        results = []
        with pytest.raises(ValueError, match=r"foreign has other .* lacks 'top/bottom' and has 'middle' besides"):
            run({"good": draw(0), "foreign": foreign}, on_result=results.append)
        assert results == []

    def test_a_set_of_another_size_is_refused(self):
        small = LabelledImages(draw(0).images[:, :4], draw(0).labels, NAMES)
        with pytest.raises(ValueError, match=r"small are \(4, 8, 1\), but those of the test set \(8, 8, 1\)"):
            run({"small": small})

    def test_a_protocol_may_be_given_by_its_name(self):
        named, own = (run({"a": draw(0)}, protocol=protocol, seeds=[0]) for protocol in ("quick", PROTOCOLS["quick"]))
        assert same_but_for_time(named) == same_but_for_time(own)

    def test_too_few_logits_are_refused(self):
        with pytest.raises(ValueError, match="give at least 3"):
            run({"good": draw(0)}, num_classes=2)

    def test_several_networks_learn_from_the_same_draw(self):
        drawn = []

        def source(seed):
            drawn.append(seed)
            return draw(seed)

        results = run({"random": source}, network=["convnet-1-w4", "convnet-2-w4"])
        assert [(r.seed, r.network) for r in results] == [
            (seed, network) for seed in (0, 1) for network in ("convnet-1-w4", "convnet-2-w4")
        ]
        assert drawn == [0, 1]
        alone = run({"random": source}, network="convnet-2-w4")
        assert [r.accuracy for r in alone] == [r.accuracy for r in results if r.network == "convnet-2-w4"]

    def test_soft_labels_teach_what_the_teacher_says_and_not_what_the_folder_says(self):
        sets = {"right": with_soft_labels(draw(0), 9), "wrong": with_soft_labels(draw(0), -9)}
        right, wrong = run(sets, labels="soft", seeds=[0])
        assert right.accuracy > 0.9
        assert wrong.accuracy < 0.1
        assert right.labels == "soft"
        assert all(result.accuracy > 0.9 for result in run(sets, seeds=[0]))

    def test_soft_labels_that_are_not_there_are_refused(self):
        with pytest.raises(ValueError, match="plain has no soft labels"):
            run({"plain": draw(0)}, labels="soft")

    def test_other_kinds_of_labels_are_refused(self):
        with pytest.raises(ValueError, match="must be hard"):
            run({"plain": draw(0)}, labels="firm")

    def test_looking_changes_no_training(self):
        slow = Protocol("hard", epochs=4, batch_size=6, max_shift=1, learning_rate=0.003)
        blind, looked = (
            run({"good": draw(0)}, protocol=slow, track_best=track_best, seeds=range(3)) for track_best in (0, 1)
        )
        assert [r.accuracy for r in blind] == [r.accuracy for r in looked]
        assert all(r.best is None for r in blind)
        assert all(r.best >= r.accuracy for r in looked)

    def test_headline_is_the_last_epoch_and_the_best_look_stands_beside_it(self, monkeypatch):
        seen = iter([0.25, 0.75, 0.5])
        monkeypatch.setattr(
            "dag_diffusion.evaluation.trials.correct",
            lambda network, images, *others, **options: next(seen) * len(images),
        )
        result = run({"good": draw(0)}, protocol=Protocol("short", epochs=3, batch_size=6), track_best=True, seeds=[0])[
            0
        ]
        assert (result.accuracy, result.best) == (0.5, 0.75)

    @pytest.mark.parametrize("source", [draw(3, 7), RandomDraw(draw(3, 8), 7)], ids=["set", "drawn"])
    def test_network_that_cannot_learn_from_the_one_image_left_is_refused_before_any_training(self, source):
        results, protocol = [], dataclasses.replace(SHORT, batch_size=10)
        networks = ["convnet-1-w4", "timm/resnet18"]
        with pytest.raises(ValueError, match=r"timm/resnet18 .* one image, which 21 images leave of batches of 10; "):
            run({"set": source}, network=networks, protocol=protocol, on_result=results.append)
        assert results == []
        assert run({"set": source}, protocol=protocol, seeds=[0])  # ConvNets' norms see each image by itself

    def test_length_of_the_training_follows_images_per_class(self):
        longer_for_few = Protocol("by size", epochs=((2, 9), (None, 3)), batch_size=6)
        results = run({"few": draw(0, 2), "many": draw(0, 6)}, protocol=longer_for_few, seeds=[0])
        assert [result.epochs for result in results] == [9, 3]

    def test_known_trainings_are_not_repeated_unless_they_lack_the_looks_asked_for(self):
        known = run({"good": draw(0)})
        new = []
        assert run({"good": draw(0)}, known=known, on_result=new.append) == known
        assert new == []
        run({"good": draw(0)}, known=known, on_result=new.append, track_best=True)
        assert len(new) == 2

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_trainings_that_compare_are_in_one_precision(self, precision):
        auto = dataclasses.replace(SHORT, precision="auto")
        known = run({"good": draw(0)}, protocol=dataclasses.replace(SHORT, precision=precision), seeds=[0])
        both = run({"good": draw(0)}, protocol=auto, known=known, seeds=[0, 1])
        assert [result.precision for result in both] == [precision] * 2
        assert both[0] == known[0]

    def test_records_of_earlier_versions_are_known_again(self):
        old = {"set": "good", "network": "convnet-1-w4", "protocol": "short", "seed": 0}
        known = Result(**old, images_per_class=6.0, accuracy=0.123, seconds=1.0)
        assert run({"good": draw(0)}, known=[known], seeds=[0])[0].accuracy == 0.123


@pytest.fixture
def folders(tmp_path):
    """Test images, a pool to draw from, a set with soft labels and one of mislabelled images."""
    names = ("left", "right", "top_bottom")
    write_folder(tmp_path / "test", draw(99), names)
    write_folder(tmp_path / "pool", draw(1, per_class=8), names)
    good = draw(2, per_class=2)
    pool = write_folder(tmp_path / "good", good, names)
    write_soft_labels(
        tmp_path / "good", torch.eye(3)[good.labels] * 5, [row["file_name"] for row in pool.rows], "a teacher"
    )
    write_folder(tmp_path / "wrong", LabelledImages(good.images, (good.labels + 1) % 3, NAMES), names)
    return tmp_path


def command(folders, *sets, options=(), protocol="quick"):
    paths = [text.replace("@", f"{folders}/") for text in sets]
    fixed = ["--test", folders / "test", "--protocol", protocol, "--network", "convnet-1-w4", "--seeds", 2, "--quiet"]
    return CliRunner().invoke(app, ["evaluate", *paths, *map(str, [*fixed, *options])], env={"COLUMNS": "200"})


def results_in(folders):
    return json.loads((folders / "out" / "results.json").read_text())


def into(folders):
    return ["--output", folders / "out" / "results.json"]


class TestCommand:
    def test_prints_each_set_against_a_random_draw_of_its_own_ipc(self, folders):
        result = command(folders, "random:@pool", "@good", "@wrong", options=into(folders))
        assert result.exit_code == 0, result.output
        shown = " ".join(result.stdout.split())  # a note may be broken anywhere
        assert "difference to random:pool, IPC 2" in shown
        assert "hard labels" in shown
        assert "18 of test" in shown
        rows = results_in(folders)["results"]
        assert [(row["set"], row["draw"] is None) for row in rows[:3]] == [
            ("random:pool, IPC 2", False),
            ("good", True),
            ("wrong", True),
        ]
        assert len({row["seed"] for row in rows}) == 2

    def test_writes_one_csv_row_a_training_and_one_a_set(self, folders):
        command(folders, "random:@pool", "@good", options=into(folders))
        with (folders / "out" / "results.csv").open() as file:
            trainings = list(csv.DictReader(file))
        assert [float(row["accuracy"]) for row in trainings] == [r["accuracy"] for r in results_in(folders)["results"]]
        with (folders / "out" / "results-summary.csv").open() as file:
            rows = {row["set"]: row for row in csv.DictReader(file)}
        own = [float(row["accuracy"]) for row in trainings if row["set"] == "good"]
        assert float(rows["good"]["mean"]) == pytest.approx(np.mean(own))
        assert rows["good"]["image_sets"] == "1"
        assert rows["random:pool, IPC 2"]["image_sets"] == "2"

    def test_summary_has_the_sets_of_earlier_evaluations_compared_by_seeds_that_are_there(self, folders):
        command(folders, "random:@pool", "@good", options=[*into(folders), "--seeds", 3])
        assert command(folders, "@wrong", options=into(folders)).exit_code == 0
        with (folders / "out" / "results-summary.csv").open() as file:
            rows = {row["set"]: row for row in csv.DictReader(file)}
        seeds = {"random:pool, IPC 2": "3", "good": "3", "wrong": "2"}
        assert {name: row["seeds"] for name, row in rows.items()} == seeds
        accuracies = {}
        for one in results_in(folders)["results"]:
            accuracies.setdefault(one["set"], {})[one["seed"]] = one["accuracy"]
        random = accuracies["random:pool, IPC 2"]
        for name in ("good", "wrong"):
            expected = np.mean([own - random[seed] for seed, own in accuracies[name].items()])
            assert float(rows[name]["difference"]) == pytest.approx(expected)
            assert rows[name]["baseline"] == "random:pool, IPC 2"

    def test_summary_of_the_sets_in_the_table_is_that_of_the_table_whatever_was_evaluated_before(self, folders):
        shutil.copytree(folders / "good", folders / "third")
        command(folders, "random:@pool", "@good", "@wrong", options=[*into(folders), "--seeds", 3])
        assert command(folders, "@third", "@good", options=into(folders)).exit_code == 0
        assert command(folders, "@third", "@good", options=["--output", folders / "alone.json"]).exit_code == 0
        with (folders / "out" / "results-summary.csv").open() as both, (folders / "alone-summary.csv").open() as alone:
            rows, expected = list(csv.DictReader(both)), list(csv.DictReader(alone))
        assert rows[:2] == expected
        assert [(row["set"], row["seeds"], row["baseline"]) for row in rows[2:]] == [
            ("random:pool, IPC 2", "3", ""),
            ("wrong", "3", "random:pool, IPC 2"),
        ]
        assert rows[3]["corrected"] == rows[3]["p_value"]

    def test_several_networks_give_a_table_of_all_and_one_for_each(self, folders):
        result = command(folders, "@good", "@wrong", options=["--network", "convnet-2-w4"])
        assert result.exit_code == 0, result.output
        titles = ["Test accuracy by network, %", "Test accuracy, convnet-1-w4", "Test accuracy, convnet-2-w4"]
        assert [line.strip() for line in result.stdout.splitlines() if line.startswith("Test accuracy")] == titles

    def test_random_images_are_drawn_at_every_ipc_asked_for(self, folders):
        result = command(folders, "random:@pool", "@good", options=["--ipc", 1, "--ipc", 2, *into(folders)])
        assert result.exit_code == 0, result.output
        sizes = {row["set"]: row["images_per_class"] for row in results_in(folders)["results"]}
        assert sizes == {"random:pool, IPC 1": 1, "random:pool, IPC 2": 2, "good": 2}

    def test_goes_on_after_a_kill_without_repeating_a_training(self, folders):
        command(folders, "random:@pool", "@good", options=into(folders))
        first = results_in(folders)
        cut = {**first, "results": first["results"][:3]}
        (folders / "out" / "results.json").write_text(json.dumps(cut))
        assert command(folders, "random:@pool", "@good", options=into(folders)).exit_code == 0
        again = results_in(folders)
        assert [r["seconds"] for r in again["results"][:3]] == [r["seconds"] for r in first["results"][:3]]
        assert [r["accuracy"] for r in again["results"]] == [r["accuracy"] for r in first["results"]]

    def test_a_further_set_joins_the_results_that_are_there(self, folders):
        command(folders, "@good", options=into(folders))
        result = command(folders, "@good", "@wrong", options=into(folders))
        assert result.exit_code == 0, result.output
        assert [row["set"] for row in results_in(folders)["results"]] == ["good", "good", "wrong", "wrong"]

    def test_record_tells_how_pixels_were_normalised_and_what_each_set_was_laid_on(self, folders):
        command(folders, "@good", options=into(folders))
        old = results_in(folders)
        told = {name: old["settings"].pop(name) for name in ("normalisation", "canvas")}  # as of an earlier version
        (folders / "out" / "results.json").write_text(json.dumps(old))
        grey = {"background": "white", "fit": "crop"}
        assert told == {"normalisation": {"mean": 0.5, "std": 0.5}, "canvas": {"good": grey}}
        for name in ("wrong", "good"):  # nothing is transparent, so that all images are as they were
            result = command(folders, f"@{name}", options=[*into(folders), "--background", "black"])
            assert result.exit_code == 0, result.output
        black = {**grey, "background": "black"}
        assert results_in(folders)["settings"]["canvas"] == {"good": black, "wrong": black}

    def test_all_commands_that_made_the_results_are_kept_each_once(self, folders, monkeypatch):
        for name in ("good", "wrong", "good"):
            monkeypatch.setattr("sys.argv", ["dag-diffusion", "evaluate", name])
            command(folders, f"@{name}", options=into(folders))
        assert results_in(folders)["commands"] == ["dag-diffusion evaluate good", "dag-diffusion evaluate wrong"]

    def test_changed_images_protocol_or_test_set_are_refused_by_name(self, folders):
        command(folders, "@good", options=into(folders))
        before = results_in(folders)
        other_protocol = command(folders, "@good", options=into(folders), protocol="classic")
        assert other_protocol.exit_code == 2
        assert "protocol.name was 'quick' and is now 'classic'" in other_protocol.stderr
        write_folder(folders / "good", draw(5, per_class=2), ("left", "right", "top_bottom"))
        other_set = command(folders, "@good", options=into(folders))
        assert other_set.exit_code == 2
        assert "sets.good was" in other_set.stderr
        write_folder(folders / "test", draw(98), ("left", "right", "top_bottom"))
        assert "test.digest was" in command(folders, "@wrong", options=into(folders)).stderr
        assert results_in(folders) == before

    def test_hard_and_soft_labels_share_a_file_and_never_a_table(self, folders):
        command(folders, "@good", options=into(folders))
        result = command(folders, "@good", options=[*into(folders), "--labels", "soft"])
        assert result.exit_code == 0, result.output
        assert {row["labels"] for row in results_in(folders)["results"]} == {"hard", "soft"}
        tables = result.stdout.split("Test accuracy, convnet-1-w4")[1:]
        assert [("soft labels" in table, "hard labels" in table) for table in tables] == [(True, False), (False, True)]
        again = command(folders, "@good", options=into(folders))
        assert "Soft labels" in again.stdout  # whose they are, of the rows that an earlier evaluation has kept

    def test_all_real_images_give_dd_ranking_s_scores(self, folders):
        result = command(folders, "random:@pool", "@good", options=["--full", folders / "pool", *into(folders)])
        assert result.exit_code == 0, result.output
        assert "DD-Ranking" in result.stdout
        values = {}
        for row in results_in(folders)["results"]:
            values.setdefault(row["set"], []).append(row["accuracy"])
        lost = np.mean(values["all of pool"]) - np.mean(values["good"])
        line = next(line for line in result.stdout.split("DD-Ranking")[1].splitlines() if " good " in line)
        assert f"{100 * lost + 0.0:+.1f}" in line

    def test_random_draw_alone_has_no_scores_of_dd_ranking(self, folders):
        result = command(folders, "random:@pool", options=["--ipc", 2, "--full", folders / "pool"])
        assert result.exit_code == 0, result.output
        assert "all of pool" in result.stdout
        assert "DD-Ranking" not in result.stdout

    def test_augmentation_may_be_left_out_a_second_time(self, folders):
        plain = ["--without-augmentation"]
        result = command(folders, "@good", options=plain, protocol="classic")
        assert result.exit_code == 2
        assert "augments nothing" in result.stderr

    @pytest.mark.parametrize("labels", ["hard", "soft"])
    def test_class_map_finds_classes_that_are_called_otherwise_with_their_soft_labels(self, folders, labels):
        images, called = draw(2, per_class=2), ("zebra", "apple", "mango")  # sorted otherwise than those of the test
        other = write_folder(folders / "other", images, called)
        files = [row["file_name"] for row in other.rows]
        taught = torch.eye(3)[torch.as_tensor(other.labels)] * 5
        write_soft_labels(folders / "other", taught, files, "a teacher")
        (folders / "map.json").write_text('{"zebra": "left", "apple": "right", "mango": "top_bottom"}')
        options = ["--labels", labels, *into(folders)]
        refused = command(folders, "@good", "@other", options=options)
        assert "rename them until both agree, or give a class map (--class-map FILE)" in refused.stderr
        result = command(folders, "@good", "@other", options=[*options, "--class-map", folders / "map.json"])
        assert result.exit_code == 0, result.output
        found = {}
        for row in results_in(folders)["results"]:
            found.setdefault(row["set"], []).append(row["accuracy"])
        assert found["good"] == found["other"]
        (folders / "map.json").write_text('{"zebbra": "left"}')
        unknown = command(folders, "@good", "@other", options=[*options, "--class-map", folders / "map.json"])
        assert "the class map speaks of 'zebbra'" in unknown.stderr

    @pytest.mark.parametrize("called", ["as the set", "as the test images"])
    @pytest.mark.parametrize("labels", ["hard", "soft"])
    def test_pool_of_more_classes_is_drawn_from_however_its_classes_are_called(self, folders, caplog, labels, called):
        names, renamed = ("left", "right", "top_bottom"), ("zebra", "apple", "mango")
        write_folder(folders / "other", draw(2, per_class=2), renamed)
        write_folder(folders / "more", draw(1, per_class=8), renamed if called == "as the set" else names)
        shutil.copytree(folders / "test" / "left", folders / "more" / "banana")
        for name in ("other", "more"):
            listed = read_pool(folders / name)
            taught = torch.eye(len(listed.class_names))[torch.as_tensor(listed.labels)] * 5
            write_soft_labels(folders / name, taught, [row["file_name"] for row in listed.rows], "a teacher")
        (folders / "map.json").write_text(json.dumps(dict(zip(renamed, names, strict=True))))
        options = ["--labels", labels, "--class-map", folders / "map.json", *into(folders)]
        options += ["--full", folders / "more"] if labels == "hard" else []
        result = command(folders, "random:@more", "@other", options=options)
        assert result.exit_code == 0, result.output
        assert "left out: 'banana'" in caplog.text
        sizes = {row["set"]: row["images_per_class"] for row in results_in(folders)["results"]}
        assert sizes == {"random:more, IPC 2": 2, "other": 2} | ({"all of more": 8} if labels == "hard" else {})

    @pytest.mark.parametrize(
        ("classes", "way"),
        [
            (("left",), "lacks 'right', 'top_bottom' and has none besides; give sets of the same classes"),
            (("left", "cat"), "lacks 'right', 'top_bottom' and has 'cat' besides; rename them"),
            (("left", "right", "top_bottom", "cat"), "lacks none and has 'cat' besides; leave those out"),
        ],
    )
    def test_set_of_one_or_of_other_classes_is_refused_with_what_to_do(self, folders, classes, way):
        for name in classes:
            shutil.copytree(folders / "good" / "left", folders / "few" / name)
        result = command(folders, "@few")
        assert result.exit_code == 2
        assert way in result.stderr

    def test_sets_of_some_classes_are_tested_on_these_alone(self, folders, caplog):
        for kind in ("good", "test", "pool"):
            for name in ("left", "top_bottom"):
                shutil.copytree(folders / kind / name, folders / "few" / kind / name)
        few = ["--test", folders / "few" / "test", "--full", folders / "few" / "pool"]
        alone = command(
            folders, "@few/good", "random:@few/pool", options=[*few, "--output", folders / "few" / "r.json"]
        )
        assert alone.exit_code == 0, alone.output
        options = ["--full", folders / "pool", *into(folders)]
        result = command(folders, "@few/good", "random:@pool", options=options)
        assert result.exit_code == 0, result.output
        assert "2 of the 3 classes in" in caplog.text
        assert "are used, those of the sets; left out: 'right'" in caplog.text
        assert "12 of test, 2 of 3 classes" in result.stdout
        found = [
            json.loads(file.read_text()) for file in (folders / "few" / "r.json", folders / "out" / "results.json")
        ]
        accuracies = [[(row["set"], row["accuracy"]) for row in one["results"]] for one in found]
        assert accuracies[0] == accuracies[1]
        unequal = command(folders, "@few/good", "@good")
        assert "good has other classes than the test set: it lacks 'right'" in unequal.stderr

    def test_images_of_the_test_set_in_a_set_are_told(self, folders, caplog):
        with caplog.at_level(logging.WARNING):
            result = command(folders, "@test", "@good")
        assert result.exit_code == 0
        assert "18 images of" in caplog.text

    @pytest.mark.parametrize(
        ("sets", "options", "expected"),
        [
            (["@good", "@good"], [], "given twice"),
            (["@good"], ["--ipc", 2], "random:FOLDER"),
            (["random:@pool"], [], "add --ipc 10"),
            (["random:@pool", "@good"], ["--ipc", 1], "add --ipc 2"),
            (["random:@pool"], ["--ipc", 9], "lower ipc"),
            (["@wrong"], ["--labels", "soft"], "no soft labels"),
            (["@good"], ["--labels", "firm"], "must be hard"),
            (["@good"], ["--network", "convnet-9"], "there is no network"),
            (["@good"], ["--network", "convnet-9", "--output", "NEW/results.json"], "there is no network"),
            (["@good"], ["--output", "results.csv"], ".json"),
            (["@missing"], [], "there is no pool"),
        ],
    )
    def test_a_mistake_is_one_line_and_exit_code_two(self, folders, sets, options, expected):
        before, options = sorted(folders.rglob("*")), [str(o).replace("NEW", f"{folders}/new") for o in options]
        result = command(folders, *sets, options=options)
        assert result.exit_code == 2, result.output
        assert len(result.stderr.strip().splitlines()) == 1
        assert expected in result.stderr
        assert sorted(folders.rglob("*")) == before


class TestRuns:
    AUGMENTING = Protocol("shifts", epochs=2, batch_size=6, max_shift=1)

    def run(self, folders, output=None, **options):
        test = load_labelled_images(read_pool(folders / "test"), size=(8, 8), channels=1)
        sets = load_compared_sets([f"random:{folders}/pool", f"{folders}/good"], test)
        options = {"seeds": [0, 1], "device": "cpu"} | options  # where trainings are one by one
        config = EvaluationConfig(self.AUGMENTING, networks=["convnet-1-w4"], **options)
        return run_evaluation(sets, test, config, output=output)

    def test_training_without_augmentation_gives_the_augmentation_robust_score(self, folders):
        results, tables = self.run(folders, without_augmentation=True)
        protocols = {result.protocol for result in results}
        assert protocols == {"shifts", "shifts, no augmentation"}
        assert [table.title for table in tables] == ["Test accuracy, convnet-1-w4"] * 2 + ["DD-Ranking"]
        mean = {
            (name, protocol): np.mean([r.accuracy for r in results if (r.set, r.protocol) == (name, protocol)])
            for protocol in protocols
            for name in ("good", "random:pool, IPC 2")
        }
        gains = [mean["good", p] - mean["random:pool, IPC 2", p] for p in ("shifts", "shifts, no augmentation")]
        score = (np.exp(np.mean(gains)) - np.exp(-1)) / (np.e - np.exp(-1))
        assert tables[-1].rows[0][7] == f"{100 * score:.1f}"

    def test_fewer_seeds_than_the_record_has_show_only_their_own(self, folders, tmp_path):
        self.run(folders, tmp_path / "r.json")
        test = load_labelled_images(read_pool(folders / "test"), size=(8, 8), channels=1)
        sets = load_compared_sets([f"random:{folders}/pool", f"{folders}/good"], test)
        config = EvaluationConfig(self.AUGMENTING, networks=["convnet-1-w4"], seeds=[1])
        shown, _ = run_evaluation(sets, test, config, output=tmp_path / "r.json")
        assert {result.seed for result in shown} == {1}
        assert len(json.loads((tmp_path / "r.json").read_text())["results"]) == 4

    def test_each_training_is_on_disk_before_the_next_begins(self, folders, tmp_path, monkeypatch):
        seen = []

        def counted(*arguments, **options):
            path = tmp_path / "r.json"
            seen.append(len(json.loads(path.read_text())["results"]) if path.exists() else 0)
            return train(*arguments, **options)

        monkeypatch.setattr("dag_diffusion.evaluation.trials.train", counted)
        self.run(folders, tmp_path / "r.json")
        assert seen == [0, 1, 2, 3]

    @pytest.mark.parametrize("content", ["{", "[]", '{"results": []}', '{"format": 1}'])
    def test_a_file_that_is_no_record_is_left_alone(self, folders, tmp_path, content):
        (tmp_path / "r.json").write_text(content)
        with pytest.raises(ValueError, match=r"r\.json"):
            self.run(folders, tmp_path / "r.json")
        assert (tmp_path / "r.json").read_text() == content

    def test_a_second_evaluation_into_the_same_file_waits_for_nobody(self, folders, tmp_path):
        with evaluation_record(tmp_path / "r.json", {}), pytest.raises(FileExistsError, match="another run works on"):
            self.run(folders, tmp_path / "r.json")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": "views", "without_augmentation": True}, "labels per view are of augmented images, and without_aug"),
        ({"seeds": (0, 1, 0)}, r"seeds are \[0, 1, 0\], of which one is there twice"),
        ({"networks": ["convnet-3", "convnet-3"]}, r"networks are .*of which one is there twice"),
        ({"networks": "convnet-3"}, r"give a list, such as \['convnet-3'\]"),
    ],
)
def test_options_that_cannot_be_evaluated_are_refused_before_any_training(options, words):
    with pytest.raises(ValueError, match=words):
        EvaluationConfig("unified", **options)


def test_random_draws_need_no_set_to_be_compared_with():
    results = run({"random": RandomDraw(draw(0), 2)}, seeds=[3])
    assert (results[0].draw, results[0].images_per_class) == (3, 2)


@pytest.mark.parametrize("text", ['{"format": "dag-diffusion evaluation 1"}', '{"settings": {}, "results": 3}', "[]"])
def test_file_of_results_that_is_not_whole_is_refused_by_name(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=r"r\.json"), evaluation_record(tmp_path / "r.json", {}):
        pass


@pytest.mark.parametrize("torn", [b'{"set": "go', '{"set": "ä'.encode()[:-1]])
def test_only_line_that_a_kill_tore_does_not_spoil_those_after_it(tmp_path, torn):
    kept, result = tmp_path / "trainings.jsonl", run({"a\u2028b": draw(0)}, seeds=[0])[0]  # a line to Python alone
    kept.write_bytes(torn)
    assert finished_trainings(kept) == []
    append_result(kept, result)
    append_result(kept, result)
    assert finished_trainings(kept) == [result, result]


@pytest.mark.slow
def test_three_processes_come_to_the_results_of_one_and_take_in_what_a_kill_left(folders, tmp_path):
    write_folder(folders / "many", draw(98, per_class=40), ("left", "right", "top_bottom"))

    def evaluated(name, processes):
        done = Command(
            "evaluate", folders / "good", folders / "wrong", "--test", folders / "many", "--network", "convnet-1-w4",
            "--protocol", "quick", "--seeds", "2", "--output", tmp_path / name, "--num-processes", processes, "--quiet",
        )  # fmt: skip
        shown = done.communicate()
        assert done.returncode == 0, shown[1]
        return shown[0], {row["set"] + str(row["seed"]): row["accuracy"] for row in results(tmp_path / name)}

    def results(path):
        return json.loads(path.read_text())["results"]

    alone = evaluated("one.json", 1)
    assert evaluated("three.json", 3) == alone  # all have one of the four trainings, and then test the last together
    # the second process was killed while it wrote its second training, the first before it took in any
    record = json.loads((tmp_path / "three.json").read_text())
    first, second, *_ = record["results"]
    (tmp_path / "three.json").write_text(json.dumps(record | {"results": []}))
    first["accuracy"] = 0.123
    (tmp_path / ".three.json.1").write_text(f"{json.dumps(first)}\n{json.dumps(second)[:50]}")
    again = evaluated("three.json", 1)[1]
    assert again == alone[1] | {first["set"] + str(first["seed"]): 0.123}
    assert not list(tmp_path.glob(".three.json.1"))


def test_results_beside_an_earlier_table_are_refused_for_their_suffix(folders, tmp_path):
    (tmp_path / "results.csv").write_text("set,network\n")
    result = command(folders, "@good", options=["--output", tmp_path / "results.csv"])
    assert (result.exit_code, "go to a .json file" in result.output) == (2, True)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file systems hold text alone")
def test_folder_whose_name_is_no_text_is_refused_before_any_training_where_a_record_would_name_it(folders):
    named = os.fsdecode(os.fsencode(folders) + b"/caf\xe9")
    (folders / "good").rename(named)
    result = command(folders, named, options=into(folders))
    assert (result.exit_code, "'utf-8'" in result.stderr) == (2, False)
    assert "is not in UTF-8, which a record has to be in; rename the folder" in " ".join(result.stderr.split())
    assert not (folders / "out").exists()
