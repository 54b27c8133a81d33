"""What the report shows of evaluations: what compares stands together, and everything says how it came about."""

import json
from dataclasses import asdict, replace

import pytest

from dag_diffusion.evaluation.comparisons import default_baselines, summarise
from dag_diffusion.evaluation.results import Result
from dag_diffusion.reporting.accuracy_figures import families
from dag_diffusion.reporting.results import how, read_results, shown_results

ONE = Result(
    set="distilled",
    network="convnet-3",
    protocol="quick",
    seed=0,
    images_per_class=10.0,
    accuracy=0.7,
    seconds=1.0,
    test="1,000 real images",
    epochs=20,
)


def trainings(name, accuracies, *, ipc=10.0, drawn=False, **changes):
    return [
        replace(ONE, set=name, seed=seed, accuracy=a, images_per_class=ipc, draw=seed if drawn else None, **changes)
        for seed, a in enumerate(accuracies)
    ]


RANDOM = trainings("random:pool", [0.70, 0.72], drawn=True)
OURS = trainings("distilled", [0.75, 0.77])


@pytest.fixture
def written(tmp_path):
    def write(results, name="results.json", **more):
        path = tmp_path / name
        path.write_text(
            json.dumps({"format": "dag-diffusion evaluation 1", "results": [asdict(r) for r in results], **more})
        )
        return path

    return write


def test_every_table_and_figure_says_how_its_accuracies_came_about():
    tables, drawings = shown_results([*RANDOM, *OURS], "random:pool")
    for text in (tables[0].note, drawings[0].caption, *tables[0].details):
        for part in (
            "protocol quick",
            "last epoch (20)",
            "hard labels",
            "sets x runs" if text == tables[0].note else " x ",
        ):
            assert part in text
    assert tables[0].details[1].startswith("distilled: convnet-3, ")


def test_random_draw_is_what_others_are_compared_with(written):
    shown = read_results([written([*OURS, *RANDOM])])
    assert shown.tables[0].columns[4] == "against random:pool"
    assert [row[4] for row in shown.tables[0].rows] == ["+5.0", ""]


def test_another_baseline_may_be_named(written):
    shown = read_results([written([*RANDOM, *OURS])], "distilled")
    assert shown.tables[0].columns[4] == "against distilled"


def test_baseline_that_is_no_set_is_refused_with_their_names(written):
    with pytest.raises(ValueError, match=r"'best'; choose the baseline among random:pool, distilled"):
        read_results([written([*RANDOM, *OURS])], "best")


def test_first_set_is_the_baseline_where_nothing_is_drawn():
    assert default_baselines(OURS) == "distilled"


def test_each_ipc_has_its_own_random_draw():
    results = [r for n in (10, 50) for r in trainings(f"random:pool, IPC {n}", [0.5, 0.6], ipc=n, drawn=True)]
    results += [r for n in (10, 50) for r in trainings(f"set-{n}", [0.7, 0.8], ipc=n)]
    baselines = default_baselines(results)
    assert baselines["set-50"] == "random:pool, IPC 50"
    tables, drawings = shown_results(results, baselines)
    assert [row[4] for row in tables[0].rows] == ["", "", "+20.0", "+20.0"]
    assert [name for name, _, _ in drawings[0].legend] == ["random:pool", "set"]
    assert "bands of ± one standard deviation" in drawings[0].caption


def test_set_of_an_ipc_that_nothing_was_drawn_at_is_compared_with_nothing():
    results = [*RANDOM, *OURS, *trainings("large", [0.9, 0.9], ipc=50.0)]
    tables, drawings = shown_results(results, default_baselines(results))
    assert [row[4] for row in tables[0].rows] == ["", "+5.0", ""]
    assert "the dashed line at the mean of random:pool;" in drawings[0].caption


def test_no_line_stands_for_the_baselines_of_several_ipc():
    results = [*RANDOM, *OURS, *trainings("random:all", [0.8, 0.8], ipc=50, drawn=True)]
    results += trainings("large", [0.9, 0.9], ipc=50)
    _, drawings = shown_results(results, default_baselines(results))
    assert "dashed line" not in drawings[0].caption


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("random:pool, IPC 10", "random:pool"),
        ("ipc-10", "distilled"),
        ("set-10", "set"),
        ("dgs_ipc10", "dgs"),
        ("set-110", "set-110"),
        ("10", "distilled"),
        ("modes 10, DAG", "modes 10, DAG"),
    ],
)
def test_sets_of_several_ipc_are_one_family_by_their_names(name, family):
    assert list(families(summarise(trainings(name, [0.5]), name))) == [family]


def test_one_ipc_is_drawn_as_dots():
    _, drawings = shown_results([*RANDOM, *OURS], "random:pool")
    assert not drawings[0].legend
    assert "Each training a dot" in drawings[0].caption
    assert "distilled" in drawings[0].figure


def test_networks_and_kinds_of_labels_are_never_mixed():
    soft, other = (
        trainings("distilled", [0.9, 0.9], labels="soft"),
        trainings("distilled", [0.6, 0.6], network="resnet-18"),
    )
    tables, drawings = shown_results([*RANDOM, *OURS, *soft, *other], "random:pool")
    assert len(drawings) == 3
    titles = [table.title for table in tables]
    assert titles == [
        "Test accuracy by network, %",
        "Test accuracy, convnet-3",
        "Test accuracy, resnet-18",
        "Test accuracy, convnet-3",
    ]
    assert "soft labels" in tables[3].note
    assert [row[0] for row in tables[3].rows] == ["distilled"]


def test_unfinished_series_are_left_out_and_said_to_be():
    short = trainings("begun", [0.5])
    tables, _ = shown_results([*RANDOM, *OURS, *short], "random:pool")
    assert [row[0] for row in tables[0].rows] == ["random:pool", "distilled"]
    assert "left out, without the seeds of the others: begun" in tables[0].note


def of_seeds(name, seeds, **changes):
    return [replace(ONE, set=name, seed=seed, **changes) for seed in seeds]


@pytest.mark.parametrize(
    ("random", "ours", "theirs", "shown", "note"),
    [
        (range(5), range(1, 6), (), {"random": "4 x 1", "ours": "1 x 4"}, "only those 4 with"),
        (range(5), range(1, 6), range(2, 7), {"random": "3 x 1", "ours": "1 x 3", "theirs": "1 x 3"}, "those 3 with"),
        (range(3), range(3, 6), range(3, 6), {"ours": "1 x 3", "theirs": "1 x 3"}, "of the others: random"),
        (range(3), range(3, 6), (), {"random": "3 x 1"}, "of the others: ours"),
        (range(3), range(3), range(2), {"random": "2 x 1", "ours": "1 x 2", "theirs": "1 x 2"}, "only those 2 with"),
        (range(3), range(2, 6), range(3, 6), {"random": "1 x 1", "ours": "1 x 1"}, "of the others: theirs"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_sets_are_compared_by_the_seeds_that_they_share(first, random, ours, theirs, shown, note):
    drawn = [replace(one, draw=one.seed) for one in of_seeds("random", random)]
    others = [*of_seeds("ours", ours), *of_seeds("theirs", theirs)]
    (table,), _ = shown_results([*drawn, *others] if first else [*others, *drawn])
    assert {row[0]: row[3] for row in table.rows} == shown
    assert note in table.note


def test_table_by_network_says_what_is_left_out_and_how_often_each_was_trained():
    both = [*of_seeds("random", range(3)), *of_seeds("ours", range(3))]
    few = [*of_seeds("random", range(2), network="resnet-18"), *of_seeds("ours", range(2), network="resnet-18")]
    tables, _ = shown_results([*both, *few, *of_seeds("begun", [0])])
    assert [row[2] for row in tables[0].rows] == ["1 x 3 or 1 x 2"] * 2
    assert tables[0].note.endswith("; convnet-3: left out, without the seeds of the others: begun")


def test_as_many_trainings_as_possible_are_shown():
    others = [one for i in range(9) for one in trainings(f"set {i}", [0.5])]
    tables, _ = shown_results([*RANDOM, *OURS, *others], "random:pool")
    assert len(tables[0].rows) == 11
    assert "of random:pool, distilled only those 1 with the seeds that all sets have" in tables[0].note


def test_one_name_at_two_ipc_is_told_apart(written):
    small, large = written(trainings("distilled", [0.5])), written(trainings("distilled", [0.6], ipc=50.0), "more.json")
    shown = read_results([small, large])
    assert [row[0] for row in shown.tables[0].rows] == ["distilled, IPC 10", "distilled, IPC 50"]


def settings(sets="1", test="1", soft=(), teacher="1", protocol=None):
    """What `evaluate` records; the digests of sets and test images, and of the teacher of those with soft labels."""
    taught = {"teacher": {"name": "tiny", "digest": teacher}, "top_k": 2, "label_bytes": 10, "image_bytes": 10}
    views = {name: 400 if name.endswith(", per view") else None for name in soft}
    return {
        "test": {"digest": test},
        "sets": dict.fromkeys(("random:pool", "distilled", "other"), sets),
        "teachers": {name: {**taught, "views": views[name]} for name in soft},
        **({} if protocol is None else {"protocol": protocol}),
    }


def shown_of_two(written, first, second):
    """Columns and rows of the tables of two files, ``a.json`` and ``b.json``."""
    both = {"a": first, "b": second}.items()
    return read_results([written(own, f"{name}.json", settings=of) for name, (own, of) in both]).tables


def test_sets_of_one_name_and_other_images_are_told_apart_by_their_files(written):
    again = [replace(result, accuracy=0.5) for result in OURS]
    (table,) = shown_of_two(written, ([*RANDOM, *OURS], settings()), (again, settings(sets="2")))
    assert [row[0] for row in table.rows] == ["random:pool", "distilled (a)", "distilled (b)"]
    assert [row[2] for row in table.rows] == ["71.0 ± 1.4", "76.0 ± 1.4", "50.0 ± 0.0"]


def test_runs_are_told_apart_by_their_folders_and_their_images_by_hashes(written, tmp_path):
    paths = []
    for name, digest in (("first", "1"), ("second", "2")):
        (tmp_path / name).mkdir()
        sets = {"random:pool": "1", "distilled": digest}
        paths.append(written([*RANDOM, *OURS], f"{name}/results.json", settings={"sets": sets}))
    (table,) = read_results(paths).tables
    assert [row[0] for row in table.rows] == ["random:pool", "distilled (first)", "distilled (second)"]


def test_same_set_in_two_files_is_one_row_of_all_its_seeds(written):
    later = [replace(result, seed=result.seed + 2) for result in [*RANDOM, *OURS]]
    (table,) = shown_of_two(written, ([*RANDOM, *OURS], settings()), (later, settings()))
    assert [(row[0], row[3]) for row in table.rows] == [("random:pool", "2 x 2"), ("distilled", "1 x 4")]


@pytest.mark.parametrize("name", ["distilled", "other"])
@pytest.mark.parametrize(
    ("labels", "changes", "said", "notes"),
    [
        ("hard", {}, {"test": "2"}, ["test images: 1,000 real images (a)", "test images: 1,000 real images (b)"]),
        ("hard", {"precision": "bfloat16"}, {}, ["protocol quick in float32", "protocol quick in bfloat16"]),
        ("hard", {}, {"protocol": {"name": "quick", "epochs": 9}}, ["protocol quick (a)", "protocol quick (b)"]),
        ("soft", {}, {"teacher": "2"}, ["soft labels by tiny 1", "soft labels by tiny 2"]),
        ("soft", {}, {"teacher": ""}, ["soft labels by tiny 1", "soft labels by tiny;"]),
    ],
    ids=["test images", "precision", "protocol", "teacher", "teacher of a name alone"],
)
def test_what_does_not_compare_stands_in_tables_of_its_own(written, labels, changes, said, notes, name):
    own = {"protocol": {"name": "quick", "epochs": 3}}
    first = trainings("distilled", [0.7, 0.8], labels=labels), settings(soft=["distilled"], **own)
    second = trainings(name, [0.5, 0.6], labels=labels, **changes), settings(soft=[name], **{**own, **said})
    tables = shown_of_two(written, first, second)[:2]
    assert [row[0] for table in tables for row in table.rows] == ["distilled", name]
    for table, note in zip(tables, notes, strict=True):
        assert note in table.note


def test_labels_of_two_kinds_of_one_set_are_two_rows_of_the_teachers_table(written):
    soft, views = (trainings("distilled", [0.7, 0.8], labels=labels) for labels in ("soft", "views"))
    first, second = settings(soft=["distilled"]), settings(soft=["distilled, per view"])
    tables = shown_of_two(written, (soft, first), (views, second))
    assert [row[4] for row in tables[-1].rows] == ["one an image, 2 logits each", "400 views, 2 logits each"]


def test_results_keep_the_command_that_made_them(written):
    paths = [
        written(OURS, "a.json", command="evaluate a"),
        written(OURS, "b.json", commands=["evaluate b", "evaluate c"]),
    ]
    assert read_results(paths).commands == ["evaluate a", "evaluate b", "evaluate c"]


def test_how_names_all_that_an_accuracy_depends_on():
    assert how(summarise(OURS, "distilled")) == (
        "convnet-3, protocol quick, last epoch (20), 1 x 2 trainings (sets x runs), hard labels, "
        "test images: 1,000 real images"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is no JSON object"),
        ("{}", "holds no results of an evaluation"),
        ('{"results": [3]}', "holds no results of an evaluation"),
        ('{"results": [{"set": "a"}]}', "a row that is no training"),
        ('{"results": []}', "holds no training yet"),
        (json.dumps({"results": [{**asdict(ONE), "accuracy": 73.2}]}), "a fraction from 0 to 1"),
        (json.dumps({"results": [{**asdict(ONE), "accuracy": "good"}]}), "a fraction from 0 to 1"),
        (json.dumps({"results": [{**asdict(ONE), "accuracy": float("nan")}]}), "a fraction from 0 to 1"),
    ],
)
def test_file_of_something_else_is_refused_in_words(tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_results([path])
