"""Scores in the metadata: nothing is scored twice, nothing is lost by a kill, nothing else in the rows changes."""

import json

import pytest
import torch
from tiny import PREPROCESSING, tiny_classifier, write_images

from dag_diffusion import read_pool, score_and_record, score_cache, score_pool
from dag_diffusion.files import held, json_lines
from dag_diffusion.pools import read_rows


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
    seen = []

    def progress(count):
        seen.extend([count] if count else [])
        if len(seen) == batches:
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
    assert {row["difficulty_by"] for row in after.rows} == {"confidence by first"}
    new = {"difficulty", "difficulty_by", "score_key"}
    assert [{k: v for k, v in row.items() if k not in new} for row in after.rows] == before.rows


def test_several_classifiers_are_all_named(folder):
    score_and_record(read_pool(folder), {"a": tiny_classifier(), "b": tiny_classifier()}, measure="el2n")
    assert read_pool(folder).rows[0]["difficulty_by"] == "el2n by a, b"


def test_second_run_scores_nothing_and_changes_nothing(folder, monkeypatch):
    record(folder)
    before = (folder / "metadata.jsonl").read_bytes()
    seen = []
    monkeypatch.setattr("dag_diffusion.pools.Pool.open", lambda pool, index: pytest.fail("an image was decoded"))
    assert record(folder, progress=seen.append) == (0, 7, 0)
    assert sum(seen) == 7
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


CHANGES = {
    "a bias": {"guide": sharper},
    "statistics": {"guide": shifted_statistics},
    "class names": {"guide": lambda: tiny_classifier({0: "T-shirt", 1: "boot", 2: "Bag"})},
    "preprocessing": {"guide": lambda: with_preprocessing(mean=[0.4])},
    "measure": {"measure": "margin"},
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


def test_changed_class_map_is_scored_anew(tmp_path):
    write_images(tmp_path, {"Tasche": 2})
    assert record(tmp_path, class_map={"Tasche": "Bag"}) == (2, 0, 0)
    assert record(tmp_path, class_map={"Tasche": 2}) == (0, 2, 0)
    assert record(tmp_path, class_map={"Tasche": "T-shirt"}) == (2, 0, 0)


def test_order_of_classifiers_does_not_count(folder):
    models = {"a": tiny_classifier(), "b": sharper()}
    score_and_record(read_pool(folder), models)
    assert score_and_record(read_pool(folder), dict(reversed(models.items()))).cached == 7


def test_interrupted_run_goes_on_where_it_stopped(folder, journal):
    before = (folder / "metadata.jsonl").read_bytes()
    with pytest.raises(KilledError):
        record(folder, batch_size=2, progress=kill_after(2))
    assert (folder / "metadata.jsonl").read_bytes() == before
    assert journal.exists()
    assert record(folder) == (3, 4, 0)
    assert not journal.exists()
    assert read_pool(folder).difficulties == pytest.approx(
        score_pool(read_pool(folder), tiny_classifier()).difficulties
    )


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
    assert not list(folder.glob(".*"))


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


def test_folder_that_cannot_be_written_is_known_before_scoring(folder, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # what a read-only folder says to anybody but root
    monkeypatch.setattr(score_cache, "scored_batches", lambda *args, **kwargs: pytest.fail("it has begun"))
    with pytest.raises(PermissionError, match=r"--output scores\.jsonl"):
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
