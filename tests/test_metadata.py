"""Rows: whatever their writer left in them, numbers are finite, difficulties in [0, 1], scores those of this pool."""

import json

import numpy as np
import pytest
from tiny import write_images

from dag_diffusion import read_pool
from dag_diffusion.data import rows as metadata
from dag_diffusion.data.files import json_lines
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.rows import difficulties_of, read_rows

ROW = '"file_name": "Bag/0.png", "label": 0, "class_name": "Bag"'


def rows_with(difficulties: list) -> list[dict]:
    return [{"file_name": f"Bag/{i}.png", "difficulty": value} for i, value in enumerate(difficulties)]


def test_numbers_that_json_lacks_are_null_wherever_they_stand(tmp_path):
    (tmp_path / "x.jsonl").write_text(f'{{{ROW}, "a": NaN, "b": [1.5, {{"c": -Infinity}}], "d": 1e999}}\n')
    (row,) = read_rows(tmp_path / "x.jsonl")
    assert (row["a"], row["b"], row["d"]) == (None, [1.5, {"c": None}], None)
    json_lines([row])


def test_rows_share_the_words_that_they_have_in_common(tmp_path):
    line = f'{{{ROW}, "difficulty_by": "error_probability by guide", "mine": 1}}\n'
    (tmp_path / "x.jsonl").write_text(line * 2)
    first, second = read_rows(tmp_path / "x.jsonl")
    assert all(one is other for one, other in zip(first, second, strict=True))
    assert all(first[name] is second[name] for name in ("class_name", "difficulty_by"))


@pytest.mark.parametrize(
    "line",
    [
        '{"file_name": "0.png", "label": NaN, "class_name": "Bag"}',
        f'{{"file_name": "0.png", "label": {10**20}, "class_name": "Bag"}}',
        "[" * 1_000_000,
    ],
)
def test_line_that_is_no_row_is_named(tmp_path, line):
    (tmp_path / "x.jsonl").write_text(f"{{{ROW}}}\n{line}\n")
    with pytest.raises(ValueError, match=r"line 2 of .*x\.jsonl"):
        read_rows(tmp_path / "x.jsonl")


def test_missing_difficulties_are_nan_and_any_kind_of_number_counts(tmp_path):
    values = difficulties_of(rows_with([0.5, None, float("nan"), 1, np.float32(0.25), np.int64(0)]), tmp_path)
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, [0.5, np.nan, np.nan, 1, 0.25, 0])


@pytest.mark.parametrize("value", ["0.5", [0.5], True, 1.5, -0.1, 2, 10**400, {"d": 1}, float("inf")])
@pytest.mark.parametrize("others", [[0.5, None], [0.5, 1]])
def test_difficulty_that_is_none_is_refused_with_file_and_value(tmp_path, value, others):
    pool = Pool(tmp_path, rows_with([*others, value]))
    with pytest.raises(
        ValueError, match=r"Bag/2\.png has the difficulty .{1,45}; it must be a number from 0 to 1"
    ) as e:
        _ = pool.known_difficulties
    assert repr(value)[:39] in str(e.value)
    with pytest.raises(ValueError, match="from 0 to 1"):
        _ = pool.difficulties


def test_rows_are_looked_at_one_by_one_only_when_something_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "_is_difficulty", lambda value: pytest.fail("a million rows would be slow"))
    assert difficulties_of(rows_with([0.5, None, 0.0, 1.0]), tmp_path)[2] == 0


def test_nan_counts_as_unscored(tmp_path):
    pool = Pool(tmp_path, rows_with([0.5, float("nan")]))
    with pytest.raises(
        ValueError, match=r"1 of 2 images .*first: Bag/1\.png\); run score_and_record\(\) .*scores=FILE"
    ):
        _ = pool.difficulties


def scored(folder, **changes):
    """A pool and a file of other scores of its images."""
    write_images(folder / "pool", {"Bag": 2, "Coat": 1}, difficulty=lambda name, index: 0.1)
    rows = [
        row | {"difficulty": 0.9, "difficulty_by": "b", "score_key": "k", "note": 1}
        for row in read_pool(folder / "pool").rows
    ]
    rows[1] |= changes
    (folder / "scores.jsonl").write_bytes(json_lines(reversed(rows)))
    return folder / "pool", folder / "scores.jsonl"


def test_scores_of_a_file_replace_those_of_the_pool(tmp_path):
    pool, scores = scored(tmp_path, difficulty=0.7)
    read = read_pool(pool, scores=str(scores))
    assert read.difficulties.tolist() == [0.9, 0.7, 0.9]
    assert read.rows == [
        row | {"difficulty": d, "difficulty_by": "b", "score_key": "k"}
        for row, d in zip(read_pool(pool).rows, [0.9, 0.7, 0.9], strict=True)
    ]


def test_scores_of_ones_own_need_file_names_and_difficulties_alone(tmp_path):
    pool, scores = scored(tmp_path)
    own = [{"file_name": row["file_name"], "difficulty": i / 10} for i, row in enumerate(read_pool(pool).rows)]
    scores.write_bytes(json_lines(own))
    assert read_pool(pool, scores=scores).difficulties.tolist() == [0, 0.1, 0.2]
    scores.write_bytes(json_lines([*own, {"name": "Bag/00000.png"}]))
    with pytest.raises(ValueError, match=r"line 4 of .*scores\.jsonl has no file_name \('file_name'\)"):
        read_pool(pool, scores=scores)


def test_nothing_of_the_earlier_scores_stays(tmp_path):
    pool, scores = scored(tmp_path)
    lines = [json.loads(line) for line in (pool / "metadata.jsonl").read_text().splitlines()]
    (pool / "metadata.jsonl").write_bytes(json_lines(row | {"difficulty_by": "a"} for row in lines))
    scores.write_bytes(json_lines(lines))
    assert {row["difficulty_by"] for row in read_pool(pool, scores=scores).rows} == {None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_name": "Bag/9.png"}, r"scores\.jsonl lacks Bag/00001\.png of .*pool"),
        ({"class_name": "Hat"}, r"belongs to another pool: Bag/00001\.png is of the class Hat there and of Bag in"),
    ],
)
def test_scores_of_another_pool_are_refused(tmp_path, changes, message):
    pool, scores = scored(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        read_pool(pool, scores=scores)


def test_absent_scores_are_told_with_the_command_that_makes_them(tmp_path):
    pool, _ = scored(tmp_path)
    with pytest.raises(
        FileNotFoundError,
        match=r"no file of scores at .*none\.jsonl; .*score_and_record\(\) .*destination=.*none\.jsonl",
    ):
        read_pool(pool, scores=tmp_path / "none.jsonl")
