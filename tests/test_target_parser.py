"""Targets from the shortest way to say them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_classifier, tiny_pipeline, write_images

from dag_diffusion import PoolConfig, TargetDistribution, embedded, fill_pool, read_pool, subsample
from dag_diffusion.sampling.scales import LogScale
from dag_diffusion.sampling.target_parser import as_target, terms_of

NAMES, SCALE = {0: "Bag", 4: "Coat"}, LogScale(1e-3, 1)


def values_of(text, name="Bag"):
    return as_target(text, NAMES).values(name, SCALE)


def test_words_and_numbers_are_what_they_say():
    assert as_target("cliff", NAMES).quotas("Bag", 50, SCALE)[0] == 20
    assert values_of("0.25").tolist() == [0.25]
    assert values_of("uniform")[[0, -1]] == pytest.approx([0, 1], abs=1e-3)
    assert values_of("uniform:0.2,0.4")[[0, -1]] == pytest.approx([0.2, 0.4], abs=1e-3)
    assert values_of("beta:2,2").mean() == pytest.approx(0.5, abs=1e-3)
    assert values_of("quantiles:0,0.1,1").max() > 0.99
    assert as_target("0,0,0,0,0,0,0,0,0,1", NAMES).quotas("Bag", 7, SCALE)[9] == 7
    reference = embedded.training_difficulties({0: "Bag"})["Bag"]  # by the name of the class, not its number
    assert values_of("reference").mean() == pytest.approx(reference.mean())


def test_sum_mixes_by_its_weights():
    values = values_of("0.75*0.1 + 0.25*uniform:0.5,0.9")
    assert np.mean(values == 0.1) == pytest.approx(0.75, abs=2e-3)
    assert np.mean(values_of("hill + 0.5") == 0.5) == pytest.approx(0.5, abs=2e-3)


def test_scored_folder_is_a_reference_whatever_its_name(tmp_path):
    folder = tmp_path / "0.5*hill + réal"
    write_images(folder, {"Coat": 3, "Bag": 2}, difficulty=lambda name, index: index / 10 + (name == "Coat") / 2)
    assert values_of(str(folder)).tolist() == [0, 0.1]
    assert values_of(str(folder), "Coat").tolist() == [0.5, 0.6, 0.7]


def test_reference_scored_by_something_else_is_warned_of(tmp_path, caplog):
    rows = write_images(tmp_path, {"Bag": 2, "Coat": 2}, difficulty=lambda name, index: 0.5)
    rows = [row | {"difficulty_by": "entropy by A"} for row in rows]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    as_target(str(tmp_path), NAMES, scored_by="entropy by A")
    assert not caplog.records
    as_target(str(tmp_path), NAMES, scored_by="error_probability by B")
    assert "entropy by A" in caplog.text


def test_real_images_that_could_not_be_scored_are_left_out_and_told(tmp_path, caplog):
    known = {"Coat": [0.1, None, 0.3], "Bag": [None, 0.2, 0.2], "T-shirt": [None, None, None]}
    write_images(tmp_path, dict.fromkeys(known, 3), difficulty=lambda name, index: known[name][index])
    target = as_target(tmp_path, {0: "Coat", 1: "Bag"})
    assert target.values("Coat", SCALE).tolist() == [0.1, 0.3]
    assert [record.getMessage() for record in caplog.records] == [
        f"2 of 9 images in {tmp_path} have no difficulty and are left out"
    ]
    with pytest.raises(ValueError, match=r"no image of the class 'T-shirt' in .* run score_and_record\(\) first"):
        as_target(tmp_path)


def test_scores_of_a_folder_that_is_not_there_are_a_reference_too(tmp_path):
    rows = write_images(tmp_path / "real", {"Coat": 2, "Bag": 2}, difficulty=lambda name, index: index / 10)
    scores = tmp_path / "real scores.jsonl"
    scores.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert values_of(str(scores)).tolist() == [0, 0.1]


def test_two_cranes_have_a_reference_each(tmp_path):
    rows = [
        {"file_name": f"{label}.png", "label": label, "class_name": "crane", "difficulty": d}
        for label, d in ((134, 0.1), (517, 0.9))
    ]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = as_target(str(tmp_path / "scores.jsonl"), {134: "crane", 517: "crane"})
    assert target.values("crane", SCALE).tolist() == [0.1]
    assert target.values("crane_517", SCALE).tolist() == [0.9]


def test_embedded_reference_is_of_its_own_guide_and_measure(caplog):
    as_target("reference", NAMES, scored_by="error_probability by embedded guide")
    assert not caplog.records
    as_target("reference", NAMES, scored_by="entropy by embedded guide")
    assert "other scales" in caplog.text


def test_long_texts_and_exponents_are_read():
    many = ",".join(f"{d:.4f}" for d in np.linspace(0, 1, 100))
    assert values_of(f"quantiles:{many}")[-1] > 0.99
    assert values_of("5e-1").tolist() == [0.5]
    assert values_of("beta:1e+0,3").mean() == pytest.approx(0.25, abs=1e-2)
    assert np.mean(values_of("slope+0.5") == 0.5) == pytest.approx(0.5, abs=2e-3)


def test_weight_of_the_only_term_does_not_matter():
    assert as_target("0.3*hill").summary() == as_target("hill").summary()


def test_file_gives_every_class_its_own(tmp_path):
    (tmp_path / "targets.json").write_text('{"coat": "0.9", "Bag": "0.1 + 0.3"}')
    target = as_target(str(tmp_path / "targets.json"), NAMES)
    assert target.values("Coat", SCALE).tolist() == [0.9]
    assert set(target.values("Bag", SCALE)) == {0.1, 0.3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("valley", "is no folder, number or preset"),
        ("uniform:1,2,3", "has 3 numbers"),
        ("beta:x", "is no folder"),
        ("1,2,3", "needs 10"),
        ("1.5", "0 easy and 1 hard"),
        ("0*hill + 1*0.5", "positive weight"),
        ("0*hill", "positive weight"),
        ("-1*hill", "positive weight"),
        ("nan*hill", "positive weight"),
        ("inf*hill", "positive weight"),
        ("hill +", "is no folder"),
    ],
)
def test_text_that_names_nothing_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        as_target(text, NAMES)


def test_file_of_targets_knows_two_cranes_and_a_class_map(tmp_path):
    rows = [
        {"file_name": f"{label}.png", "label": label, "class_name": name, "difficulty": d}
        for label, name, d in ((134, "crane", 0.1), (517, "crane", 0.9), (3, "feline", 0.5))
    ]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = {"crane_134": str(tmp_path / "scores.jsonl"), "crane_517": str(tmp_path / "scores.jsonl")}
    (tmp_path / "targets.json").write_text(json.dumps(texts | {"cat": str(tmp_path / "scores.jsonl")}))
    names = {0: "crane_134", 1: "crane_517", 2: "cat"}
    target = as_target(str(tmp_path / "targets.json"), names, class_map={"cat": "feline"})
    assert [target.values(name, SCALE).tolist() for name in names.values()] == [[0.1], [0.9], [0.5]]
    (tmp_path / "both.json").write_text(json.dumps({"crane": str(tmp_path / "scores.jsonl")}))
    target = as_target(str(tmp_path / "both.json"), {134: "crane", 517: "crane"})
    assert target.values("crane", SCALE).tolist() == [0.1]
    assert target.values("crane_517", SCALE).tolist() == [0.9]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON object"),
        ("[1]", "no JSON object"),
        ("{}", "must say a target"),
        ('{"Bag": "hill"}', "Coat"),
        ('{"Bag": "hill", "Coat": "targets.json"}', "says 'targets.json' of 'Coat'; .* not by another JSON file"),
        ('{"Bag": 0.3, "Coat": null}', "says None of 'Coat'"),
        ('{"Bag": 0.3, "Coat": true}', "says True of 'Coat'"),
        ('{"Bag": 0.3, "Coat": [0.1]}', r"says \[0.1\] of 'Coat'"),
        ('{"Bag": 0.3, "Coat": 1.5}', r"must lie in \[0, 1\]"),
    ],
)
def test_bad_file_of_targets_is_refused(tmp_path, content, message):
    (tmp_path / "targets.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        as_target(str(tmp_path / "targets.json"), NAMES)


@pytest.mark.parametrize("form", [np.float32, np.array, torch.tensor])
def test_number_may_be_of_numpy_or_torch(form):
    assert as_target(form(0.25)).values("Bag", SCALE).tolist() == values_of("0.25").tolist()


def test_file_of_targets_says_difficulties_as_numbers_too_and_may_be_of_windows(tmp_path):
    (tmp_path / "targets.json").write_text('{"Bag": 0.3, "Coat": "hill"}', encoding="utf-8-sig")
    target = as_target(str(tmp_path / "targets.json"), NAMES)
    assert target.values("Bag", SCALE).tolist() == as_target("0.3", NAMES).values("Bag", SCALE).tolist()


def test_file_of_another_kind_is_told_which_are_read(tmp_path):
    (tmp_path / "targets.csv").write_text("class,target\nBag,0.3\n")
    with pytest.raises(ValueError, match=r"a file of another kind; give a \.jsonl file"):
        as_target(str(tmp_path / "targets.csv"), NAMES)


def test_class_without_embedded_reference_is_told_what_else_there_is():
    with pytest.raises(ValueError, match="preset such as hill"):
        as_target("reference", {0: "tench"})


@pytest.mark.parametrize(
    "text",
    [
        "hill",
        "reference",
        "0.25",
        "uniform:0.2,0.4",
        "beta:0.5,20",
        "0,0,0,0,0,0,0,0,0,1",
        "quantiles:0,0.123456789,1",
        "0.7*reference + 0.3*hill",
        "slope+1e-3",
        "beta:1e+0,3",
    ],
)
def test_recorded_text_asks_for_the_same_target_again(text):
    again = as_target(text, NAMES).summary()["text"]
    assert values_of(again).tolist() == values_of(text).tolist()


def test_recorded_text_of_a_file_is_its_path(tmp_path):
    write_images(tmp_path / "real", {"Coat": 3, "Bag": 2}, difficulty=lambda name, index: index / 10)
    (tmp_path / "targets.json").write_text('{"Coat": "hill", "Bag": "0.5"}')
    for path in (tmp_path / "real", tmp_path / "targets.json"):
        assert as_target(str(path), NAMES).text == str(path)
        assert as_target(path, NAMES).values("Bag", SCALE).tolist() == values_of(str(path)).tolist()


def test_sum_with_a_folder_that_is_called_like_a_sum_has_no_text(tmp_path):
    write_images(tmp_path / "a*b", {"Bag": 2}, difficulty=lambda name, index: index / 10)
    parts = [as_target(tmp_path / "a*b"), as_target(0.5)]
    assert TargetDistribution.mixture(parts).text is None


def test_without_class_names_real_images_have_their_own(tmp_path):
    write_images(tmp_path, {"Coat": 3, "Bag": 2}, difficulty=lambda name, index: index / 10)
    assert as_target(Path(tmp_path)).values("Coat", SCALE).tolist() == [0, 0.1, 0.2]
    reference = embedded.training_difficulties({0: "Bag"})["Bag"]
    assert as_target("reference").values("Bag", SCALE).tolist() == sorted(reference)


def test_mapping_gives_every_class_a_target_or_real_difficulties():
    target = as_target({"Bag": [0.3, 0.1], "coat": "0.5 + hill", "Hat": 0.9}, NAMES)
    assert target.values("Bag", SCALE).tolist() == [0.1, 0.3]
    assert target.values("Coat", SCALE).tolist() == values_of("0.5 + hill").tolist()


def test_mapping_of_real_difficulties_goes_by_name():
    target = as_target({"TENCH": [0.3, 0.1], "dog": [0.5], "hat": [0.7]}, {0: "tench, Tinca tinca", 7: "dog"})
    assert target.values("tench, Tinca tinca", SCALE).tolist() == [0.1, 0.3]
    assert as_target({"a": [0.1]}, {0: "cat"}, class_map={"cat": "a"}).values("cat", SCALE).tolist() == [0.1]
    cranes = as_target({"crane": [0.1], "crane_517": [0.2]}, {134: "crane", 517: "crane"})
    assert cranes.values("crane_517", SCALE).tolist() == [0.2]
    with pytest.raises(ValueError, match="cat"):
        as_target({"Bag": [0.1], "Hat": [0.2]}, {0: "cat", 1: "Bag"})


def test_reference_means_the_real_images_that_are_given(tmp_path):
    (tmp_path / "targets.json").write_text('{"Bag": "reference", "Coat": "0.5*reference + 0.5*0.1"}')
    reference = TargetDistribution.from_reference([0.7, 0.8])
    target = as_target(tmp_path / "targets.json", NAMES, reference=reference)
    assert target.values("Bag", SCALE).tolist() == [0.7, 0.8]
    assert set(target.values("Coat", SCALE)) == {0.1, 0.7, 0.8}
    assert as_target("reference", NAMES, reference=reference) is reference


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("hill", [(1, "hill")]),
        (" 0.7 * reference+hill ", [(0.7, "reference"), (1, "hill")]),
        ("1e+0*beta:1e+0,3 + 2.5e-1*0.5", [(1, "beta:1e+0,3"), (0.25, "0.5")]),
        ("0.5*a/b-c.jsonl + e+f", [(0.5, "a/b-c.jsonl"), (1, "e"), (1, "f")]),
        ("a*b", [(1, "a*b")]),
        ("hill +", [(1, "hill"), (1, "")]),
    ],
)
def test_terms_of_a_sum(text, terms):
    assert list(terms_of(text)) == terms


TEXTS = [0.5, "hill", "reference", "beta:0.3,3", "0.7*reference + 0.3*hill", TargetDistribution.uniform(0.2, 0.4)]


@pytest.mark.parametrize("target", TEXTS, ids=str)
def test_pool_and_selection_take_whatever_says_a_target(target, tmp_path):
    pipeline = tiny_pipeline(id2label={0: "T-shirt", 1: "Bag", 2: "Coat"})
    pipeline.register_modules(classifier=tiny_classifier({0: "T-shirt", 1: "Bag", 2: "Coat"}))
    config = PoolConfig(images_per_class=2, target=target, num_inference_steps=2, guidance_scale=1.0)
    pool = fill_pool(pipeline, tmp_path / "pool", config)
    assert len(pool) == 6
    assert all(0 <= row["target_difficulty"] <= 1 for row in pool.rows)
    chosen = subsample(pool, 1, target=target)
    assert chosen.distance is not None
    assert chosen.settings["target"] == pool.provenance["settings"]["target"]


def test_chosen_images_are_saved_with_bins_ranks_and_record(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 4, "Coat": 4}, difficulty=lambda name, index: (index + 0.5) / 4)
    pool = read_pool(tmp_path / "pool")
    chosen = subsample(pool, 2, target="hill")
    saved = chosen.save(tmp_path / "set")
    assert [row["source"] for row in saved.rows] == sorted(pool.rows[i]["file_name"] for i in chosen.indices)
    assert all({"bin", "rank"} <= set(row) for row in saved.rows)
    assert saved.provenance["selection"]["target"]["text"] == "hill"
    with pytest.raises(ValueError, match="plain difficulties"):
        subsample([0.1, 0.5], 1, target="hill").save(tmp_path / "numbers")


def test_selected_part_of_a_pool_is_a_pool(tmp_path):
    write_images(tmp_path / "pool", {"Bag": 4, "Coat": 4}, difficulty=lambda name, index: (index + 0.5) / 4)
    pool = read_pool(tmp_path / "pool")
    part = pool.select(np.array([3, 1]))
    assert [row["file_name"] for row in part.rows] == [pool.rows[3]["file_name"], pool.rows[1]["file_name"]]
    assert part.difficulties.tolist() == pool.difficulties[[3, 1]].tolist()
    assert np.array_equal(np.asarray(part.open(0)), np.asarray(pool.open(3)))


WHOLE = ["hill", "0.25", "uniform:0.2,0.4", "beta:0.5,20", "1,0,0,0,0,0,0,0,0,1"]
MOVED = [f"auto:{text}" for text in WHOLE]


@pytest.mark.parametrize("text", [*WHOLE, *MOVED, "0.5*auto:hill + 0.5*0.2"])
def test_target_comes_back_from_its_summary(text):
    target = as_target(text, NAMES)
    again = TargetDistribution.from_summary(json.loads(json.dumps(target.summary())))
    assert again.text == target.text
    for ipc in (1, 10):
        found, wanted = (np.quantile(one.values("Bag", SCALE, ipc), [0.1, 0.5, 0.9]) for one in (again, target))
        assert found == pytest.approx(wanted, abs=1e-9)


def test_target_is_moved_once():
    with pytest.raises(ValueError, match="auto moves a target once"):
        as_target("auto:auto:hill")


@pytest.mark.parametrize("summary", [{}, {"reference": {"Bag": [3, 0.1]}}, {"levels": [0], "difficulties": [2]}, None])
def test_summary_that_does_not_hold_the_target_is_refused(summary):
    with pytest.raises(ValueError, match="name the target anew"):
        TargetDistribution.from_summary(summary)


def test_known_word_or_number_is_no_folder_whatever_lies_there(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    row = {"file_name": "Bag/0.png", "label": 0, "class_name": "Bag", "difficulty": 0.25}
    for name in ("0.125", "uniform", "0.5*0.125+0.5*0.375", "own+words"):
        (tmp_path / name / "Bag").mkdir(parents=True)
        (tmp_path / name / "Bag" / "0.png").write_bytes(b"")
        (tmp_path / name / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    assert as_target("0.125").values("Bag", SCALE).tolist() == [0.125]
    assert "one of this name, which is meant by ./0.125" in caplog.text
    assert as_target("uniform").name == "uniform(0, 1)"
    assert as_target("0.5*0.125+0.5*0.375").values("Bag", SCALE).max() == 0.375
    folders = (Path("0.125"), "./0.125", "./0.5*0.125+0.5*0.375", "own+words")
    for folder in folders:
        target = as_target(folder)
        assert target.values("Bag", SCALE).tolist() == [0.25]
        assert as_target(target.text).values("Bag", SCALE).tolist() == [0.25]  # what is recorded means it again
