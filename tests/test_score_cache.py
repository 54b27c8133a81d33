"""Scores in the metadata: nothing is scored twice, nothing is lost by a kill, nothing else in the rows changes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, load_dataset
from datasets import Image as ImageFeature
from PIL import Image
from tiny import NAMES, PREPROCESSING, tiny_classifier, write_images
from torch import nn

from dag_diffusion import load_classifier, read_pool, score_and_record, score_pool, write_distilled_set
from dag_diffusion.data.canvas import Canvas
from dag_diffusion.data.files import held, json_lines
from dag_diffusion.data.rows import read_rows
from dag_diffusion.sampling import score_cache, scoring


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path / "images", {"Bag": 3, "T-shirt": 4})
    return tmp_path / "images"


@pytest.fixture
def journal(folder):
    return folder / ".metadata.jsonl.scores"


class KilledError(Exception):
    pass


def kill_after(batches: int):
    seen = {0}

    def progress(stage, done, total):
        seen.add(done)
        if len(seen) > batches:
            raise KilledError

    return progress


def record(folder, destination=None, guide=None, **options):
    done = score_and_record(read_pool(folder), {"guide": guide or tiny_classifier()}, destination, **options)
    return done.scored, done.cached, len(done.skipped)


def test_rows_get_the_scores_and_keep_their_other_columns(folder):
    before = read_pool(folder)
    expected = score_pool(before, tiny_classifier()).difficulties
    done = score_and_record(before, {"first": tiny_classifier()})
    after = read_pool(folder)
    assert (done.path, done.scored, done.cached, done.skipped) == (folder / "metadata.jsonl", 7, 0, [])
    assert after.difficulties == pytest.approx(expected)
    assert {row["difficulty_by"] for row in after.rows} == {"error_probability by first"}
    new = {"difficulty", "difficulty_by", "score_key", "correct"}
    assert [{k: v for k, v in row.items() if k not in new} for row in after.rows] == before.rows


def test_several_classifiers_are_all_named(folder):
    score_and_record(read_pool(folder), {"a": tiny_classifier(), "b": tiny_classifier()}, measure="el2n")
    assert read_pool(folder).rows[0]["difficulty_by"] == "el2n by a, b"


def test_second_run_scores_nothing_and_changes_nothing(folder, monkeypatch):
    record(folder)
    before = (folder / "metadata.jsonl").read_bytes()
    seen = []
    monkeypatch.setattr("dag_diffusion.data.pools.Pool.open", lambda pool, index: pytest.fail("an image was decoded"))
    assert record(folder, progress=lambda *told: seen.append(told)) == (0, 7, 0)
    assert seen[-1] == ("images", 7, 7)
    assert (folder / "metadata.jsonl").read_bytes() == before


def test_changed_new_and_moved_files(folder):
    record(folder)
    changed, moved = folder / "Bag/00000.png", folder / "Bag/00001.png"
    changed.write_bytes((folder / "T-shirt/00000.png").read_bytes())
    moved.rename(folder / "Bag/moved.png")
    rows = read_rows(folder / "metadata.jsonl")
    rows = [row | {"file_name": row["file_name"].replace("Bag/00001", "Bag/moved")} for row in rows]
    (folder / "metadata.jsonl").write_bytes(json_lines(rows))
    assert record(folder) == (1, 6, 0)


def sharper():
    guide = tiny_classifier()
    with torch.no_grad():
        guide.classifier[-1].bias[0] += 0.5  # no matrix changes, nor its first number
    return guide


def shifted_statistics():
    guide = tiny_classifier()
    next(b for name, b in guide.named_buffers() if name.endswith("running_mean")).add_(0.1)
    return guide


class Tempered(nn.Module):
    """A network of one's own that computes by something it does not save."""

    def __init__(self, temperature, kind):
        super().__init__()
        self.guide = tiny_classifier()
        self.config = self.guide.config
        if kind == "buffer":
            self.register_buffer("temperature", torch.tensor(temperature), persistent=False)
        else:
            self.temperature = {"number": temperature, "tensor": torch.tensor(temperature), "list": [temperature]}[kind]

    def forward(self, images):
        temperature = self.temperature[0] if isinstance(self.temperature, list) else self.temperature
        return self.guide(images).logits / temperature


CHANGES = {
    "a bias": {"guide": sharper},
    "statistics": {"guide": shifted_statistics},
    "class names": {"guide": lambda: tiny_classifier({0: "T-shirt", 1: "boot", 2: "Bag"})},
    "preprocessing": {"guide": lambda: with_preprocessing(mean=[0.4])},
    "measure": {"measure": "rival_margin"},
    "precision": {"dtype": torch.bfloat16},
}


def with_preprocessing(**changes):
    guide = tiny_classifier()
    guide.config.preprocessing = PREPROCESSING | changes
    return guide


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_scores_is_scored_anew(folder, change):
    record(folder)
    options = dict(CHANGES[change])
    guide = options.pop("guide", tiny_classifier)()
    assert record(folder, guide=guide, **options) == (7, 0, 0)


@pytest.mark.parametrize("kind", ["buffer", "number", "tensor", "list"])
def test_what_a_network_does_not_save_counts_too(folder, kind):
    assert record(folder, guide=Tempered(1.0, kind).eval()) == (7, 0, 0)
    assert record(folder, guide=Tempered(1.0, kind).eval()) == (0, 7, 0)
    assert record(folder, guide=Tempered(5.0, kind).eval()) == (7, 0, 0)


class Caching(Tempered):
    """A network that keeps what it computed, as LeViT keeps the biases of its attention."""

    def __init__(self):
        super().__init__(1.0, "number")
        self.kept = {}

    def forward(self, images):
        self.kept[0] = super().forward(images)
        return self.kept[0]


def test_network_that_fills_a_cache_is_the_same(folder):
    guide = Caching().eval()
    assert record(folder, guide=guide) == (7, 0, 0)
    assert record(folder, guide=guide) == (0, 7, 0)
    assert record(folder, guide=Caching().eval()) == (0, 7, 0)


def test_classifier_that_was_moved_is_the_same(folder, tmp_path):
    guide = tiny_classifier()
    guide.save_pretrained(tmp_path / "guide")
    record(folder, guide=guide)
    assert record(folder, guide=load_classifier(tmp_path / "guide")) == (0, 7, 0)


def test_changed_class_map_is_scored_anew(tmp_path):
    write_images(tmp_path, {"Tasche": 2})
    assert record(tmp_path, class_map={"Tasche": "Bag"}) == (2, 0, 0)
    assert record(tmp_path, class_map={"Tasche": 2}) == (0, 2, 0)
    assert record(tmp_path, class_map={"Tasche": "T-shirt"}) == (2, 0, 0)


def test_order_of_classifiers_does_not_count(folder):
    models = {"a": tiny_classifier(), "b": sharper()}
    score_and_record(read_pool(folder), models)
    assert score_and_record(read_pool(folder), dict(reversed(models.items()))).cached == 7


def test_scorers_in_turn_are_all_remembered(folder, journal, tmp_path):
    assert [record(folder, guide=guide()) for guide in (tiny_classifier, sharper)] == [(7, 0, 0)] * 2
    for guide in (tiny_classifier, sharper, shifted_statistics):
        record(folder, guide=guide())
    assert record(folder, guide=sharper()) == (0, 7, 0)
    assert read_pool(folder).difficulties == pytest.approx(score_pool(read_pool(folder), sharper()).difficulties)
    assert record(folder, tmp_path / "other.jsonl") == (0, 7, 0)  # what the pool's own file remembers counts too
    lines = [json.loads(line) for line in journal.read_text().split("\n") if line]
    assert len(lines) == len({line["score_key"] for line in lines}) == 21


def test_scores_that_only_the_rows_hold_are_remembered_before_others_take_their_place(folder, journal):
    record(folder)
    journal.unlink()
    record(folder, guide=sharper())
    assert record(folder) == (0, 7, 0)


BROKEN = [b"", b"[1]", b"null", b"\xff", b'{"score_key": 1, "difficulty": 0.5}', b"[" * 100_000, b"\x00"]


@pytest.mark.parametrize("value", ["NaN", '"0.5"', "2", "true", "null", "[0.5]"])
def test_broken_lines_of_the_cache_are_ignored(folder, journal, value):
    record(folder)
    lines = journal.read_bytes().split(b"\n")
    key = json.loads(lines[1])["score_key"]
    journal.write_bytes(
        b"\n".join([*BROKEN, *lines, b'{"score_key": "%s", "difficulty": %s}' % (key.encode(), value.encode())])
    )
    assert record(folder) == (0, 7, 0)
    (folder / "metadata.jsonl").unlink()
    journal.write_bytes(b"\n".join(BROKEN))
    assert record(folder) == (7, 0, 0)


def as_folder(journal):
    journal.mkdir()


def as_link_elsewhere(journal):
    (journal.parent.parent / "elsewhere").write_text("precious")
    journal.symlink_to(journal.parent.parent / "elsewhere")


@pytest.mark.parametrize("spoil", [as_folder, as_link_elsewhere])
def test_cache_that_cannot_be_written_costs_no_result(folder, journal, caplog, spoil):
    spoil(journal)
    assert record(folder, batch_size=2) == (7, 0, 0)
    assert caplog.text.count("cannot be written") == 1
    assert record(folder) == (0, 7, 0)
    assert len(read_pool(folder).difficulties) == 7
    assert not (folder.parent / "elsewhere").exists() or (folder.parent / "elsewhere").read_text() == "precious"


def test_cache_is_in_nobodys_way(folder, tmp_path):
    record(folder)
    assert len(read_pool(folder)) == 7
    copied = write_distilled_set(read_pool(folder), [0, 5], tmp_path / "set", columns={}, provenance={})
    assert record(copied.path) == (0, 2, 0)
    write_distilled_set(read_pool(folder), [1], tmp_path / "set", columns={}, provenance={}, overwrite=True)
    assert [path.name for path in (tmp_path / "set").glob(".*")] == []
    loaded = load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 7


def test_interrupted_run_goes_on_where_it_stopped(folder, journal):
    before = (folder / "metadata.jsonl").read_bytes()
    with pytest.raises(KilledError):
        record(folder, batch_size=2, progress=kill_after(2))
    assert (folder / "metadata.jsonl").read_bytes() == before
    assert journal.exists()
    assert record(folder) == (3, 4, 0)
    assert read_pool(folder).difficulties == pytest.approx(
        score_pool(read_pool(folder), tiny_classifier()).difficulties
    )


def test_run_that_goes_on_computes_as_one_that_was_not_killed(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "FROZEN_FROM", 6 * 16 * 16)  # more than is left after the kill
    monkeypatch.setattr(scoring, "frozen", lambda network, shape: lambda images: [network(images)[0] / 2])
    record(folder, tmp_path / "whole.jsonl", batch_size=1)
    with pytest.raises(KilledError):
        record(folder, batch_size=1, progress=kill_after(3))
    record(folder, batch_size=1)
    whole = [row["difficulty"] for row in read_rows(tmp_path / "whole.jsonl")]
    assert read_pool(folder).difficulties.tolist() == whole


def test_torn_line_of_the_journal_costs_one_score(folder, journal):
    with pytest.raises(KilledError):
        record(folder, batch_size=2, progress=kill_after(2))
    journal.write_bytes(journal.read_bytes()[:-9])
    with pytest.raises(KilledError):
        record(folder, batch_size=2, progress=kill_after(2))  # one call counts what is cached, one is a batch
    assert record(folder) == (2, 5, 0)


def test_killed_before_anything_is_done_leaves_nothing_wrong(folder, journal):
    with pytest.raises(KilledError):
        record(folder, batch_size=2, progress=kill_after(1))
    journal.write_bytes(b"\x7b\n" + journal.read_bytes())
    assert record(folder) == (5, 2, 0)


def test_second_run_at_once_is_refused(folder, tmp_path):
    with held(folder / ".metadata.jsonl.lock", folder), pytest.raises(FileExistsError, match="another run works on"):
        record(folder)
    with held(folder / ".metadata.jsonl.lock", folder):
        assert record(folder, tmp_path / "other.jsonl") == (7, 0, 0)  # another destination is another matter
    assert record(folder) == (7, 0, 0)
    assert not list(folder.glob("*.lock"))


def test_destination_is_its_own_cache(folder, tmp_path):
    output = tmp_path / "new folder" / "scores.jsonl"
    before = (folder / "metadata.jsonl").read_bytes()
    assert record(folder, output) == (7, 0, 0)
    assert record(folder, output) == (0, 7, 0)
    assert (folder / "metadata.jsonl").read_bytes() == before
    assert [row["file_name"] for row in read_rows(output)] == [row["file_name"] for row in read_pool(folder).rows]


def test_destination_that_holds_something_else_is_kept(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"line 1 of .*notes\.txt"):
        record(folder, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "precious"


def never_scored(monkeypatch):
    monkeypatch.setattr(score_cache, "scored_batches", lambda *args, **kwargs: pytest.fail("it has begun"))


@pytest.mark.parametrize("names", [("Coat",), ("T-shirt", "Bag")])
def test_destination_with_scores_of_another_pool_is_refused_before_scoring(folder, tmp_path, monkeypatch, names):
    write_images(tmp_path / "other", dict.fromkeys(names, 2), difficulty=lambda name, index: 0.5)
    output = tmp_path / "both.jsonl"
    rows = [row | {"class_name": "T-shirt"} for row in read_pool(tmp_path / "other").rows]
    output.write_bytes(json_lines(rows))
    never_scored(monkeypatch)
    with pytest.raises(ValueError, match=r"both\.jsonl holds rows of another pool than .*images"):
        record(folder, output)
    assert read_rows(output) == rows


def test_destination_of_a_pool_that_has_grown_keeps_its_rows_and_gets_the_new_ones(folder, tmp_path):
    output = tmp_path / "scores.jsonl"
    record(folder, output)
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    (folder / "metadata.jsonl").write_text("\n".join(lines[1:]))
    write_images(folder, {"Bag": 3, "T-shirt": 5})
    assert record(folder, output) == (1, 7, 0)
    assert len(read_pool(folder, scores=output).difficulties) == 8


def test_what_comes_into_the_metadata_during_the_run_stays(folder):
    path = folder / "metadata.jsonl"
    before = read_rows(path)

    def edit(stage, done, total):
        rows = [row | {"note": "added", "seed": 99} for row in before[1:]]
        path.write_bytes(json_lines([*rows, before[0] | {"file_name": "Bag/new.png", "difficulty": 0.5}]))

    record(folder, progress=edit)
    *rows, new = read_rows(path)
    assert [row["file_name"] for row in rows] == [row["file_name"] for row in before[1:]]  # one was removed
    assert {(row["note"], row["seed"]) for row in rows} == {("added", 99)}
    assert all(row["score_key"] for row in rows)
    assert new == before[0] | {"file_name": "Bag/new.png", "difficulty": 0.5}


def test_metadata_that_vanishes_during_the_run_is_written_whole(folder):
    record(folder, progress=lambda *told: (folder / "metadata.jsonl").unlink(missing_ok=True))
    assert len(read_pool(folder).difficulties) == 7


def test_part_of_a_pool_may_be_scored_first(folder):
    (folder / "metadata.jsonl").unlink()
    pool = read_pool(folder)
    score_and_record(replace(pool, rows=pool.rows[:2]), {"guide": tiny_classifier()})
    assert score_and_record(pool, {"guide": tiny_classifier()}).cached == 2
    assert len(read_pool(folder).difficulties) == 7


def test_number_that_json_lacks_in_another_column_does_not_spoil_the_run(folder):
    path = folder / "metadata.jsonl"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": NaN, "box": [Infinity]'))
    assert record(folder) == (7, 0, 0)
    assert [row["box"] for row in read_rows(path) if "box" in row] == [[None], [None]]


def test_scores_of_a_dataset_go_to_a_file_and_come_back(folder, tmp_path):
    images = [{"bytes": path.read_bytes(), "path": None} for path in sorted(folder.glob("*/*.png"))]
    kinds = Features(image=ImageFeature(), label=ClassLabel(names=["Bag", "T-shirt"]))
    Dataset.from_dict({"image": images, "label": [0] * 3 + [1] * 4}, kinds).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(
        ValueError, match=r"destination='scores\.jsonl' and read the dataset with scores='scores\.jsonl'"
    ):
        record(tmp_path / "x.parquet")
    record(tmp_path / "x.parquet", tmp_path / "s.jsonl")
    read = read_pool(tmp_path / "x.parquet", scores=tmp_path / "s.jsonl")
    assert read.difficulties == pytest.approx(score_pool(read, tiny_classifier()).difficulties)


def test_scores_of_a_list_go_into_the_list(folder, tmp_path):
    write_distilled_set(read_pool(folder), [0, 5], tmp_path / "set", columns={}, provenance={}, files="list")
    before = (folder / "metadata.jsonl").read_bytes()
    record(folder, tmp_path / "scores.jsonl")
    assert record(tmp_path / "set") == (2, 0, 0)
    assert len(read_pool(tmp_path / "set").difficulties) == 2
    assert (folder / "metadata.jsonl").read_bytes() == before


def test_folder_that_cannot_be_written_is_known_before_scoring(folder, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # what a read-only folder says to anybody but root
    never_scored(monkeypatch)
    with pytest.raises(PermissionError, match=r"destination='scores\.jsonl' .*scores='scores\.jsonl'"):
        record(folder)


def test_unreadable_and_missing_files_are_skipped_and_listed(folder):
    pool = read_pool(folder)
    (folder / "Bag/00001.png").write_bytes(b"no image")
    (folder / "Bag/00002.png").unlink()
    done = score_and_record(pool, {"guide": tiny_classifier()}, on_error="skip")
    assert done.skipped == ["Bag/00001.png", "Bag/00002.png"]
    rows = {row["file_name"]: row for row in map(json.loads, (folder / "metadata.jsonl").read_text().splitlines())}
    assert rows["Bag/00001.png"]["difficulty"] is rows["Bag/00001.png"]["score_key"] is None


def test_skipped_files_are_tried_again(folder):
    whole = (folder / "Bag/00001.png").read_bytes()
    (folder / "Bag/00001.png").write_bytes(b"no image")
    assert record(folder, on_error="skip") == (6, 0, 1)
    assert record(folder, on_error="skip") == (0, 6, 1)
    (folder / "Bag/00001.png").write_bytes(whole)
    assert record(folder) == (1, 6, 0)


def test_copy_of_an_image_in_its_class_shares_its_score(folder):
    record(folder)
    (folder / "Bag/00001.png").write_bytes((folder / "Bag/00000.png").read_bytes())
    assert record(folder) == (0, 7, 0)


def test_error_keeps_what_was_finished(folder):
    (folder / "T-shirt/00003.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"00003\.png is not a readable image"):
        record(folder, batch_size=2)
    write_images(folder, {"Bag": 3, "T-shirt": 4}, metadata=False)
    assert record(folder) == (1, 6, 0)


def test_rows_of_another_program_get_scores_class_names_and_keep_their_columns(tmp_path):
    rows = write_images(tmp_path, {"T-shirt": 1, "Bag": 1}, metadata=False)
    theirs = [{"file_name": row["file_name"], "label": row["class_name"], "caption": "x"} for row in rows]
    (tmp_path / "metadata.jsonl").write_bytes(json_lines(theirs))
    score_and_record(read_pool(tmp_path), {"tiny": tiny_classifier(NAMES)})
    again = read_pool(tmp_path)
    assert {(row["class_name"], row["caption"]) for row in again.rows} == {("T-shirt", "x"), ("Bag", "x")}
    assert len(again.difficulties) == 2


def test_another_canvas_is_another_picture(folder):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 2), np.uint8)
    Image.fromarray(noise, "LA").save(folder / "T-shirt" / "00000.png")
    on = [read_pool(folder, canvas=Canvas(colour)) for colour in ("white", "black")]
    found = [score_and_record(pool, {"guide": tiny_classifier()}).scored for pool in on * 2]
    assert found == [7, 7, 0, 0]
    white, black = (score_pool(pool, tiny_classifier()).difficulties for pool in on)
    assert (white != black).tolist() == 3 * [False] + [True] + 3 * [False]
