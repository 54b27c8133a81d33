"""Labels per view: the same views wherever they are drawn, short on disk, whole or not at all, refused where wrong."""

import dataclasses
import json
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import tiny_classifier, write_images
from typer.testing import CliRunner
from warm import Command

from dag_diffusion.cli.commands import app
from dag_diffusion.data.pools import read_pool
from dag_diffusion.evaluation.augmentations import Normalisation
from dag_diffusion.evaluation.labelled_images import load_labelled_images
from dag_diffusion.evaluation.networks import seeded_network
from dag_diffusion.evaluation.protocols import PROTOCOLS
from dag_diffusion.evaluation.runs import EvaluationConfig, run_evaluation
from dag_diffusion.evaluation.sets import load_compared_sets
from dag_diffusion.evaluation.soft_labels import (
    Teacher,
    ViewPlan,
    label_images,
    label_views,
    read_view_labels,
    write_soft_labels,
)
from dag_diffusion.evaluation.soft_labels.compression import compress
from dag_diffusion.evaluation.soft_labels.per_image import image_source
from dag_diffusion.evaluation.soft_labels.view_files import is_shard, view_source
from dag_diffusion.evaluation.soft_labels.views import PIXELS, generator_of, mixed_batches
from dag_diffusion.evaluation.stacks import train_stack
from dag_diffusion.evaluation.training import train
from dag_diffusion.reporting.results import read_results

UNIFIED = dataclasses.replace(PROTOCOLS["unified"], precision="float32")
SMALL = dataclasses.replace(UNIFIED, batch_size=4)
PLAN = ViewPlan(views=3, protocol=SMALL)
TEACHER = Teacher("tiny", "0123", 0.5, "6 of nothing")


@pytest.fixture
def pool(tmp_path):
    write_images(tmp_path / "set", {"Bag": 4, "T-shirt": 3})
    return read_pool(tmp_path / "set")


def pixels_of(pool):
    return load_labelled_images(pool, size=(16, 16), channels=1).images


def write(pool, plan=PLAN, teacher=TEACHER, **options):
    return label_views(pool, pixels_of(pool), tiny_classifier(), teacher, plan, **options)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and "view_labels" in path.name}


# -- compression

logits = st.integers(2, 9).flatmap(
    lambda classes: st.lists(st.lists(st.floats(-40, 40, width=32), min_size=classes, max_size=classes), min_size=1)
)


@given(rows=logits, data=st.data())
def test_kept_logits_are_right_to_half_a_step_and_the_others_keep_their_sum(rows, data):
    rows = torch.tensor(rows)
    top_k = data.draw(st.integers(1, rows.shape[1]))
    kept = compress(rows, top_k)
    near, exact = kept.decoded(), rows - rows.amax(1, keepdim=True)
    largest = torch.arange(top_k).expand(len(rows), -1) if kept.columns is None else kept.columns.long()
    width = (exact.gather(1, largest).amin(1) / 255).abs()
    off = (near - exact).gather(1, largest).abs()
    assert (off <= 0.5 * width[:, None] * 1.01 + 0.002 * exact.gather(1, largest).abs() + 1e-5).all()
    torch.testing.assert_close(kept.probabilities().sum(1), torch.ones(len(rows)))
    if top_k < rows.shape[1]:
        left = torch.ones_like(rows).scatter(1, kept.columns.long(), 0).bool()
        ours, theirs = (x.masked_fill(~left, -torch.inf).logsumexp(1) for x in (near, exact))
        torch.testing.assert_close(ours, theirs, atol=0.01, rtol=2e-3)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_columns_move_with_the_classes(top_k):
    rows, order = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 0, 3, 1])
    kept = compress(rows, top_k)
    assert torch.equal(kept.in_order(order).decoded(), kept.decoded()[:, order])


def test_a_row_takes_a_byte_a_logit_and_a_few_more():
    rows = torch.randn(1000, 100)
    whole, short = (sum(t.nbytes for t in compress(rows, k).tensors.values()) for k in (100, 10))
    assert (whole, short) == (1000 * 102, 1000 * 24)


@pytest.mark.parametrize("top_k", [0, 11])
def test_more_logits_than_classes_are_refused(top_k):
    with pytest.raises(ValueError, match=f"top_k={top_k} does not fit a set of 10 classes"):
        compress(torch.zeros(1, 10), top_k)


# -- views


def test_a_view_is_the_same_wherever_it_is_drawn_and_others_differ():
    images = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    colours = Normalisation((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (colours.mean, colours.std))

    def drawn(view, given, by):
        return [torch.cat(part) for part in zip(*mixed_batches(given, SMALL, generator_of(7, view), by), strict=True)]

    (order, plain), (again, normalised), (other, _) = (
        drawn(0, images, PIXELS),
        drawn(0, (images - mean) / std, colours),
        drawn(1, images, PIXELS),
    )
    assert torch.equal(order, again)
    assert not torch.equal(order, other)
    torch.testing.assert_close((plain - mean) / std, normalised, atol=1e-5, rtol=1e-4)


def test_views_are_drawn_as_they_always_were():
    """Labels that were written before are of these views; changing them needs another number of the format."""
    ramp = torch.arange(6 * 64.0).view(6, 1, 8, 8) / 384
    found = [round(float(batch[1].sum()), 3) for batch in mixed_batches(ramp, SMALL, generator_of(0, 5), PIXELS)]
    assert found == pytest.approx(EXPECTED, abs=0.01)


EXPECTED = [104.611, 87.217]


# -- on disk


def test_the_teacher_is_asked_of_what_the_network_will_see(pool):
    write(pool)
    labels, images = (
        read_view_labels(pool, pixels_of(pool)),
        torch.from_numpy(pixels_of(pool)).permute(0, 3, 1, 2) / 255,
    )
    generator, said = labels.of_epoch(1, seed=5)
    for batch, inputs in mixed_batches(images, SMALL, generator, PIXELS):
        with torch.no_grad():
            expected = tiny_classifier()((inputs - 0.5) / 0.5).logits[:, [2, 0]].softmax(1)
        torch.testing.assert_close(said[batch], expected, atol=0.01, rtol=0)


def test_each_view_comes_once_before_any_comes_again(pool):
    write(pool)
    labels = read_view_labels(pool)
    first, second, other = (
        [labels.of_epoch(epoch, seed)[0].initial_seed() for epoch in range(start, start + 3)]
        for start, seed in ((1, 0), (4, 0), (1, 3))
    )
    assert sorted(first) == sorted(second) == sorted(other)
    assert len(set(first)) == 3


def test_index_tells_the_teacher_and_the_sizes(pool):
    source = write(pool)
    assert source == view_source(pool)
    assert (source.teacher, source.views, source.top_k) == (TEACHER, 3, 2)
    assert source.label_bytes == sum(map(len, files_of(pool.path).values()))
    assert source.image_bytes == sum((pool.path / row["file_name"]).stat().st_size for row in pool.rows)


def test_labels_start_no_class_folder_and_change_no_row(pool):
    rows = pool.rows
    write(pool)
    assert read_pool(pool.path).rows == rows
    assert {path.name for path in pool.path.iterdir() if path.is_dir()} == {"Bag", "T-shirt"}


def test_what_killed_writers_left_goes_with_the_next_labels(pool):
    for name in ("view_labels-0a1b2c3d4e5f-00001-of-00001.safetensors", "view_labels.json", "soft_labels.safetensors"):
        (pool.path / f".{name}.123.partial").write_bytes(b"half")
    write(pool)
    label_images(pool, tiny_classifier(), TEACHER)
    assert not list(pool.path.glob(".*"))


def test_a_run_that_was_stopped_leaves_earlier_labels_in_force_and_goes_on(pool, monkeypatch):
    monkeypatch.setattr("dag_diffusion.evaluation.soft_labels.labelling.LABELS_A_SHARD", 7)  # a shard a view
    write(pool)
    earlier, teacher = files_of(pool.path), tiny_classifier()
    later = dataclasses.replace(PLAN, seed=1)
    calls = []

    def stop(*_):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt

    hook = teacher.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        label_views(pool, pixels_of(pool), teacher, TEACHER, later, overwrite=True)
    assert earlier.items() <= files_of(pool.path).items()
    assert read_view_labels(pool).seed == 0
    calls.clear()
    hook.remove()
    teacher.register_forward_pre_hook(lambda *_: calls.append(1))
    label_views(pool, pixels_of(pool), teacher, TEACHER, later, overwrite=True)
    resumed = files_of(pool.path)
    assert len(calls) == 4  # two of three views, of two batches each
    assert read_view_labels(pool).seed == 1
    assert len(resumed) == 4  # those of the earlier labels are gone
    for name in resumed:
        (pool.path / name).unlink()
    write(pool, later)
    assert files_of(pool.path) == resumed


def test_the_same_labels_again_are_no_work_and_others_are_not_replaced_unasked(pool):
    write(pool)
    before = {path: path.stat().st_mtime_ns for path in pool.path.glob("view_labels*")}
    write(pool)
    assert {path: path.stat().st_mtime_ns for path in pool.path.glob("view_labels*")} == before
    with pytest.raises(FileExistsError, match=r"other labels: views was 3 and is now 2; add overwrite=True"):
        write(pool, dataclasses.replace(PLAN, views=2))
    with pytest.raises(FileExistsError, match="teacher_digest was '0123'"):
        write(pool, teacher=Teacher("other", "4567"))
    write(pool, dataclasses.replace(PLAN, views=2), overwrite=True)
    assert read_view_labels(pool).views == 2


@pytest.mark.parametrize("overwrite", [False, True])
def test_damaged_shard_is_made_anew_and_never_declared_good(pool, monkeypatch, overwrite):
    monkeypatch.setattr("dag_diffusion.evaluation.soft_labels.labelling.LABELS_A_SHARD", 7)  # a shard a view
    write(pool)
    before = files_of(pool.path)
    shard = next(path for path in pool.path.iterdir() if is_shard(path.name))
    shard.write_bytes(shard.read_bytes()[:-1] + bytes([shard.read_bytes()[-1] ^ 1]))
    unmeasured = dataclasses.replace(TEACHER, accuracy=None, test="")  # whose accuracy the index keeps
    write(pool, teacher=TEACHER if overwrite else unmeasured, overwrite=overwrite)
    assert files_of(pool.path) == before


# -- what does not fit


def changed_index(pool, **changes):
    path = pool.path / "view_labels.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_labels_of_another_set_are_refused(pool, tmp_path):
    write(pool)
    write_images(tmp_path / "other", {"Bag": 4, "T-shirt": 3})
    pixels = pixels_of(pool)
    with pytest.raises(ValueError, match="is of other images than those that lie beside it now; label the set again"):
        read_view_labels(pool, 255 - pixels)
    with pytest.raises(ValueError, match=r"of 16 x 16 pixels in 1 channels, but they are brought to 8 x 8 in 1"):
        read_view_labels(pool, pixels[:, ::2, ::2])
    with pytest.raises(ValueError, match=r"is of 7 images, but the set has 5"):
        read_view_labels(pool.select(range(5)))
    changed_index(pool, class_names=["Bag", "Sandal"])
    with pytest.raises(ValueError, match="of the classes Bag, Sandal, but the set has Bag, T-shirt"):
        read_view_labels(pool)


def test_torn_and_missing_files_are_named(pool):
    with pytest.raises(FileNotFoundError, match=r"write them with soft_labels\.label_views"):
        read_view_labels(pool)
    write(pool)
    (shard,) = (path for path in pool.path.iterdir() if is_shard(path.name))
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    with pytest.raises(ValueError, match=r"is not what view_labels\.json says"):
        read_view_labels(pool)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=r"is missing, which view_labels\.json names"):
        read_view_labels(pool)
    changed_index(pool, shards=None)
    with pytest.raises(ValueError, match="is incomplete"):
        read_view_labels(pool)


def test_libraries_that_draw_other_views_are_refused(pool):
    write(pool)
    changed_index(pool, draws="0")
    with pytest.raises(ValueError, match="torch or numpy draw other views here"):
        read_view_labels(pool)


def test_a_teacher_that_lacks_a_class_is_told_before_any_work(tmp_path):
    write_images(tmp_path, {"Bag": 1, "Sandal": 1})
    with pytest.raises(ValueError, match="Sandal"):
        write(read_pool(tmp_path))
    assert not list(tmp_path.glob("view_labels*"))


def test_a_protocol_with_other_changes_is_refused(pool):
    write(pool)
    labels, images = read_view_labels(pool), torch.zeros(7, 1, 16, 16)
    network = seeded_network("convnet-1-w4", seed=0, channels=1, size=(16, 16), num_classes=2)
    with pytest.raises(ValueError, match=r"made with batch size 4, not as protocol 'unified' changes images"):
        train(network, images, labels, UNIFIED, seed=0, epochs=1)
    with pytest.raises(ValueError, match="are of 7 images, but there are 6"):
        train(network, images[:6], labels, SMALL, seed=0, epochs=1)


# -- training


def lesson(pool):
    pixels = pixels_of(pool)
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5, read_view_labels(pool, pixels)


def networks(count):
    return [seeded_network("convnet-2-w4", seed=i, channels=1, size=(16, 16), num_classes=2) for i in range(count)]


def test_a_network_learns_what_the_teacher_says_of_views(pool):
    write(pool)
    images, labels = lesson(pool)
    losses = []
    train(networks(1)[0], images, labels, SMALL, seed=0, epochs=30, progress=lambda _, loss: losses.append(loss))
    assert losses[-1] < losses[0]


def test_a_stack_learns_from_views_what_each_network_learns_alone(pool):
    write(pool)
    images, labels = lesson(pool)
    protocol = dataclasses.replace(SMALL, optimizer="sgd", learning_rate=0.05)
    alone = [
        train(network, images, labels, protocol, seed=seed, epochs=3)
        for network, seed in zip(networks(2), (4, 9), strict=True)
    ]
    together = train_stack(
        networks(2), images.expand(2, *images.shape), [labels, labels], protocol, seeds=[4, 9], epochs=3
    )
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=2e-3, atol=2e-5)


def test_an_evaluation_tells_the_teacher_and_what_its_labels_weigh(pool, tmp_path):
    plan = ViewPlan(views=2, protocol="unified")
    write(pool, plan)
    write_images(tmp_path / "test", {"T-shirt": 2, "Bag": 3})
    test = load_labelled_images(read_pool(tmp_path / "test"), size=(16, 16), channels=1)
    sets = load_compared_sets([str(pool.path)], test, labels="views")
    short = dataclasses.replace(UNIFIED, epochs=2)
    config = EvaluationConfig(short, networks=("convnet-1-w4",), seeds=(0,), labels="views")
    results, tables = run_evaluation(sets, test, config, output=tmp_path / "results.json")
    assert [result.labels for result in results] == ["views"]
    assert "soft labels per view" in tables[0].note
    assert tables[-1].title == "Soft labels"
    assert tables[-1].rows[0][1:5] == ["tiny", "0123", "50.0", "2 views, 2 logits each"]
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["settings"]["teachers"]["set, per view"]["teacher"] == dataclasses.asdict(TEACHER)
    assert read_results([tmp_path / "results.json"]).tables[-1].rows == tables[-1].rows


def test_an_evaluation_goes_on_where_its_teacher_was_measured_since(pool, tmp_path):
    test = load_labelled_images(pool, size=(16, 16), channels=1)
    short = dataclasses.replace(SMALL, epochs=1)
    config = EvaluationConfig(short, networks=("convnet-1-w4",), seeds=(0,), labels="views")
    for teacher in (dataclasses.replace(TEACHER, accuracy=None, test=""), TEACHER):
        write(pool, teacher=teacher)
        sets = load_compared_sets([str(pool.path)], test, labels="views")
        run_evaluation(sets, test, config, output=tmp_path / "results.json")
    record = json.loads((tmp_path / "results.json").read_text())
    assert len(record["results"]) == 1
    assert record["settings"]["teachers"]["set, per view"]["teacher"] == dataclasses.asdict(TEACHER)


def test_labels_of_all_kinds_of_one_set_go_into_one_record(pool, tmp_path):
    write(pool, ViewPlan(views=2, protocol="unified"))
    names = [row["file_name"] for row in pool.rows]
    write_soft_labels(pool.path, torch.zeros(7, 2), names, TEACHER)
    write_images(tmp_path / "test", {"T-shirt": 2, "Bag": 3})
    test = load_labelled_images(read_pool(tmp_path / "test"), size=(16, 16), channels=1)
    for labels in ("hard", "soft", "views"):
        sets = load_compared_sets([str(pool.path)], test, labels=labels)
        config = EvaluationConfig(
            dataclasses.replace(UNIFIED, epochs=1), networks=("convnet-1-w4",), seeds=(0,), labels=labels
        )
        results, tables = run_evaluation(sets, test, config, output=tmp_path / "results.json")
    assert {result.labels for result in results} == {"hard", "soft", "views"}
    for shown in (tables[-1], read_results([tmp_path / "results.json"]).tables[-1]):
        assert [(row[0], row[4]) for row in shown.rows] == [
            ("set", "one an image, 2 logits each"),
            ("set", "2 views, 2 logits each"),
        ]


def test_random_draws_have_no_labels_per_view(pool, tmp_path):
    write(pool)
    test = load_labelled_images(pool, size=(16, 16), channels=1)
    with pytest.raises(ValueError, match="labels per view are of a whole set, and random:FOLDER draws from one"):
        load_compared_sets([f"random:{pool.path}"], test, labels="views", ipc=[1])


@pytest.mark.parametrize("one", [TEACHER, Teacher("labels of DATM")])
@pytest.mark.parametrize("other", [Teacher("better", "4567"), Teacher("labels of SRe2L")])
def test_labels_of_different_teachers_do_not_compare(pool, tmp_path, one, other):
    write_images(tmp_path / "second", {"Bag": 4, "T-shirt": 3})
    second = read_pool(tmp_path / "second")
    write(pool, teacher=one)
    write(second, teacher=other)
    test = load_labelled_images(pool, size=(16, 16), channels=1)
    told = rf"different teachers \(set by {one.name} ?{one.digest}, second by {other.name} ?{other.digest}\)"
    with pytest.raises(ValueError, match=told):
        load_compared_sets([str(pool.path), str(second.path)], test, labels="views")
    config = EvaluationConfig(SMALL, networks=("convnet-1-w4",), seeds=(0,), labels="views")
    sets = [load_compared_sets([str(own.path)], test, labels="views") for own in (pool, second)]
    run_evaluation(sets[0], test, config, output=tmp_path / "results.json")
    with pytest.raises(ValueError, match=told):
        run_evaluation(sets[1], test, config, output=tmp_path / "results.json")


def test_labels_of_one_teacher_compare_where_only_some_tell_its_digest(pool, tmp_path):
    write_images(tmp_path / "second", {"Bag": 4, "T-shirt": 3})
    second = read_pool(tmp_path / "second")
    write(pool, teacher=TEACHER)
    write(second, teacher=Teacher(TEACHER.name))
    test = load_labelled_images(pool, size=(16, 16), channels=1)
    config = EvaluationConfig(SMALL, networks=("convnet-1-w4",), seeds=(0,), labels="views")
    for folders in ([pool.path], [pool.path, second.path]):
        sets = load_compared_sets([str(folder) for folder in folders], test, labels="views")
        results, _ = run_evaluation(sets, test, config, output=tmp_path / "results.json")
    assert [result.set for result in results] == ["set", "second"]


# -- command line


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def teacher(tmp_path):
    tiny_classifier().save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


def test_label_writes_labels_of_images_and_of_views(pool, teacher, tmp_path):
    write_images(tmp_path / "real", {"Bag": 3, "T-shirt": 3})
    common = ("label", pool.path, "--classifier", teacher, "--test", tmp_path / "real", "--quiet")
    done = call(*common)
    assert done.exit_code == 0, done.output
    assert "one an image, 2 logits each" in done.stdout
    assert "% right on 6 of real" in done.stdout
    with safe_open(pool.path / "soft_labels.safetensors", "pt") as stored:
        assert {"teacher", "teacher_digest", "teacher_accuracy", "teacher_test"} <= stored.metadata().keys()
    done = call(*common, "--views", 2, "--top-k", 1)
    assert done.exit_code == 0, done.output
    assert "2 views, 1 logits each" in done.stdout
    assert read_view_labels(pool, pixels_of(pool)).views == 2
    again = call(*common)
    assert again.exit_code == 0, again.output


def mended_preprocessing(config):
    config["preprocessing"]["std"] = [0.02]


def mended_names(config):
    names = config["id2label"]
    names["0"], names["1"] = names["1"], names["0"]


@pytest.mark.parametrize("mend", [mended_preprocessing, mended_names])
def test_labels_of_a_teacher_that_was_mended_are_made_anew(tmp_path, mend):
    for folder in ("set", "real"):
        write_images(tmp_path / folder, {"cat": 3, "red fox": 3})
    pool, teacher = read_pool(tmp_path / "set"), tmp_path / "teacher"
    tiny_classifier({0: "cat", 1: "red fox", 2: "dog"}).save_pretrained(teacher)
    common = ("label", pool.path, "--classifier", teacher, "--quiet")
    for views in ((), ("--views", 2)):
        assert call(*common, "--test", tmp_path / "real", *views).exit_code == 0
    earlier, path = read_view_labels(pool).logits, teacher / "config.json"
    config = json.loads(path.read_text())
    mend(config)
    path.write_text(json.dumps(config))
    refused = call(*common, "--views", 2)
    assert refused.exit_code == 2
    assert "teacher_key was" in refused.stderr
    assert call(*common, "--views", 2, "--overwrite").exit_code == 0
    later = read_view_labels(pool).logits
    assert (later.probabilities() - earlier.probabilities()).abs().max() > 0.01
    done = call(*common)  # without test images, so that how good it is now is not known
    assert done.exit_code == 0, done.output
    assert "% right" not in done.stdout
    assert image_source(pool).teacher.accuracy is None


def labels_of(folder):
    return load_file(folder / "soft_labels.safetensors")["logits"]


def test_class_map_finds_the_teacher_s_classes_by_the_set_s_names(pool, teacher, tmp_path):
    common = ("--classifier", teacher, "--quiet")
    assert call("label", pool.path, *common).exit_code == 0
    renamed = tmp_path / "renamed"
    for old, new in {"Bag": "Zaino", "T-shirt": "Hemd"}.items():  # sorted the other way round
        shutil.copytree(pool.path / old, renamed / new)
    refused = call("label", renamed, *common)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "no class called 'Hemd'" in refused.stderr
    (tmp_path / "map.json").write_text('{"Zaino": "Bag", "Hemd": "T-shirt"}')
    write_images(tmp_path / "real", {"Bag": 3, "T-shirt": 3})  # called as the teacher calls them
    mapped = (*common, "--class-map", tmp_path / "map.json")
    done = call("label", renamed, *mapped, "--test", tmp_path / "real")
    assert done.exit_code == 0, done.output
    assert "% right on 6 of real" in done.stdout
    in_order = labels_of(renamed)
    torch.testing.assert_close(in_order.flip(1), torch.cat([labels_of(pool.path)[4:], labels_of(pool.path)[:4]]))
    done = call("label", renamed, *mapped, "--views", 2)
    assert done.exit_code == 0, done.output
    (tmp_path / "map.json").write_text('{"Zaino": "Bag", "Hut": "T-shirt"}')
    assert "the class map speaks of 'Hut'" in call("label", renamed, *mapped).stderr


@pytest.mark.parametrize("mapped", [False, True])
def test_teacher_is_tested_on_the_set_s_classes_alone(pool, teacher, tmp_path, caplog, mapped):
    folder = pool.path
    options = ["--classifier", teacher, "--test", tmp_path / "real", "--quiet"]
    if mapped:
        folder = tmp_path / "renamed"
        for old, new in {"Bag": "Zaino", "T-shirt": "Hemd"}.items():
            shutil.copytree(pool.path / old, folder / new)
        (tmp_path / "map.json").write_text('{"Zaino": "Bag", "Hemd": "T-shirt"}')
        options += ["--class-map", tmp_path / "map.json"]
    write_images(tmp_path / "real", {"Bag": 3, "T-shirt": 3, "cat": 4})  # which the teacher does not know
    done = call("label", folder, *options)
    assert done.exit_code == 0, done.output
    assert "% right on 6 of real" in done.stdout
    assert "2 of the 3 classes in" in caplog.text


@pytest.mark.slow
def test_any_number_of_processes_writes_the_same_labels(teacher, tmp_path):
    def written(folder, *more):
        write_images(folder, {"Bag": 7, "T-shirt": 6})
        for views in ((), ("--views", 400)):  # of which two shards are made
            words = ("label", folder, "--classifier", teacher, "--test", folder, "--quiet", *views, *more)
            said = Command(*words).communicate()[0] if more else call(*words).stdout
            assert "soft labels in" in said
        return {path.name: path.read_bytes() for path in folder.glob("*labels*")}

    one, two = written(tmp_path / "one" / "set"), written(tmp_path / "two" / "set", "--num-processes", 2)
    assert one == two
    assert sum(map(is_shard, one)) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--views", 2, "--top-k", 3], "--top-k 3 does not fit a set of 2 classes"),
        (["--top-k", 1], "--top-k 1 is of labels per view, since those of images are kept whole; add --views N"),
        (["--views", 2, "--protocol", "slow"], "no protocol 'slow'"),
        (["--classifier", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_are_one_line(pool, teacher, options, words):
    named = [] if "nowhere" in options else ["--classifier", teacher]
    done = call("label", pool.path, "--quiet", *named, *options)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert words in done.stderr
    assert not list(pool.path.glob("*labels*.s*"))
