"""A classifier from a folder of images: calibrated, recorded, cross-fitted, resumed to the step, refused by name."""

import errno
import json
import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from disks import unprivileged_mounts
from PIL import Image
from tiny import tiny_classifier, write_images
from tiny_classifiers import CONFIG, train_on_full_disk, train_until_killed, train_with_others
from warm import context, run_together

from dag_diffusion import load_classifier, read_pool, score_pool
from dag_diffusion.classifiers import Preprocessing, class_names_of, preprocessing_of
from dag_diffusion.cli.prepare import _lines
from dag_diffusion.data.canvas import Canvas
from dag_diffusion.sampling.references import reference_named
from dag_diffusion.training.classifiers import calibration, decoded_images, train_classifier
from dag_diffusion.training.classifiers.calibration import Calibration
from dag_diffusion.training.classifiers.plan import batch_size_for, image_weights, unequal_text

COUNTS = {"cat": 9, "dog": 6, "owl": 4}


class StoppedHereError(Exception):
    pass


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, COUNTS)
    return read_pool(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, images):
    return train_classifier(images, tmp_path_factory.mktemp("trained") / "guide", replace(CONFIG, folds=2), test=images)


def weights(folder) -> dict[str, torch.Tensor]:
    return load_classifier(folder).state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_classifier_is_read_and_scores_the_images_that_it_was_trained_on(images, trained):
    classifier = load_classifier(trained.folder)
    assert class_names_of(classifier) == {0: "cat", 1: "dog", 2: "owl"}
    found = score_pool(images, classifier).difficulties
    assert ((found >= 0) & (found <= 1)).all()
    assert np.allclose(found, score_pool(images, trained.model.cpu()).difficulties, atol=1e-6)


def test_folder_holds_what_is_finished_and_nothing_lies_beside_it(trained):
    names = {path.name for path in trained.folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "training.json", "difficulties.jsonl", "fold-1", "fold-2"}
    assert [path.name for path in trained.folder.parent.iterdir()] == ["guide"]


def test_record_tells_how_good_it_is_and_how_it_was_made(trained):
    record = json.loads((trained.folder / "training.json").read_text())
    assert record == trained.record
    assert record["held_out"]["images"] == 3  # one of each class
    assert record["test"]["images"] == 19
    assert record["test"]["accuracy_by_class"].keys() == COUNTS.keys()
    assert record["training"]["images of each class"] == {"cat": 8, "dog": 5, "owl": 3}
    assert {"steps", "batch_size", "seed"} <= record["training"].keys()
    assert {"torch", "timm", "transformers"} <= record["versions"].keys()
    before, after = record["calibration"]["expected_calibration_error"]
    assert 0 <= before <= 1
    assert 0 <= after <= 1


def test_difficulties_out_of_sample_serve_as_scores_and_as_a_reference(images, trained):
    scored = read_pool(images.path, scores=trained.folder / "difficulties.jsonl")
    assert len(scored.difficulties) == len(images)
    by_class = reference_named(trained.folder / "difficulties.jsonl", images.class_names)
    assert {name: len(found) for name, found in by_class.items()} == COUNTS


def test_fold_is_judged_by_a_classifier_that_has_not_seen_it(images, trained):
    scored = read_pool(images.path, scores=trained.folder / "difficulties.jsonl").difficulties
    by_fold = [score_pool(images, load_classifier(trained.folder / f"fold-{n}")).difficulties for n in (1, 2)]
    by_first, by_second = (np.isclose(scored, found, atol=1e-5) for found in by_fold)
    assert (by_first | by_second).all()
    assert 0 < by_first.sum() < len(images)


def test_two_classes_of_one_name_are_both_counted(tmp_path):
    write_images(tmp_path / "cranes", {"bird": 4, "machine": 12})
    pool = read_pool(tmp_path / "cranes")
    pool = replace(pool, rows=[row | {"class_name": "crane"} for row in pool.rows])
    record = train_classifier(pool, tmp_path / "guide", CONFIG, test=pool).record
    assert record["training"]["images of each class"] == {"crane": 3, "crane_1": 11}
    assert record["test"]["accuracy_by_class"].keys() == {"crane", "crane_1"}


@pytest.mark.parametrize("argument", ["test", "holdout"])
def test_two_classes_of_one_name_are_told_apart_by_labels_of_any_number(tmp_path, argument):
    write_images(tmp_path / "cranes", {"bird": 4, "machine": 12})
    pool = read_pool(tmp_path / "cranes")
    cranes = {"bird": 134, "machine": 517}
    pool = replace(pool, rows=[row | {"label": cranes[row["class_name"]], "class_name": "crane"} for row in pool.rows])
    record = train_classifier(pool, tmp_path / "guide", CONFIG, **{argument: pool}).record
    counts = {"crane": 3, "crane_1": 11} if argument == "test" else {"crane": 4, "crane_1": 12}
    assert record["training"]["images of each class"] == counts
    assert record["test" if argument == "test" else "held_out"]["accuracy_by_class"].keys() == {"crane", "crane_1"}


def too_sure(monkeypatch) -> None:
    """Every classifier is found to be three times too sure."""
    found = Calibration(3.0, True, 40, (1.0, 0.5), (0.4, 0.1))
    place = "dag_diffusion.training.classifiers.trainings.calibrate"
    monkeypatch.setattr(place, lambda logits, *rest: (found, torch.full((len(logits),), 3.0)))


def test_temperature_is_left_out_of_every_fold_where_one_cannot_have_it(tmp_path, images, monkeypatch):
    too_sure(monkeypatch)
    scaled, asked = calibration.scale_logits, []

    def scaled_but_the_last(*given):
        asked.append(given)  # of the classifier, and of each fold
        return len(asked) < 3 and scaled(*given)

    monkeypatch.setattr(calibration, "scale_logits", scaled_but_the_last)
    made = train_classifier(images, tmp_path / "guide", replace(CONFIG, folds=2))
    assert made.record["calibration"]["kept"]
    assert not made.record["folds"]["calibration"]["kept"]
    scored = read_pool(images.path, scores=made.folder / "difficulties.jsonl").difficulties
    folds = [load_classifier(made.folder / f"fold-{n}") for n in (1, 2)]
    assert np.isclose([score_pool(images, one).difficulties for one in folds], scored, atol=1e-5).any(0).all()
    assert not any(hasattr(one.config, "temperature_in_weights") for one in folds)


@pytest.mark.parametrize(("uncalibrated", "told"), [(True, "left out as asked"), (False, "no last layer can be")])
def test_temperature_that_is_not_in_the_weights_is_told_and_divides_nothing(
    tmp_path, images, monkeypatch, uncalibrated, told
):
    too_sure(monkeypatch)
    monkeypatch.setattr(calibration, "scale_logits", lambda *rest: False)
    made = train_classifier(images, tmp_path / "guide", replace(CONFIG, folds=2, uncalibrated=uncalibrated))
    assert not made.record["calibration"]["kept"]
    assert not made.record["folds"]["calibration"]["kept"]
    assert sum(told in line for line in _lines(made)) == 2
    scored = read_pool(images.path, scores=made.folder / "difficulties.jsonl").difficulties
    by_fold = [score_pool(images, load_classifier(made.folder / f"fold-{n}")).difficulties for n in (1, 2)]
    assert np.isclose(by_fold, scored, atol=1e-5).any(0).all()


def test_stopped_at_any_step_it_goes_on_to_the_same_weights(tmp_path, images, trained):
    stops = [("training", 2), ("fold 1 of 2", 1), ("fold 2 of 2", 3)]

    def stop(stage, done, total):
        if (stage, done) in stops:
            stops.remove((stage, done))
            raise StoppedHereError

    config, output = replace(CONFIG, folds=2), tmp_path / "guide"
    for _ in range(3):
        with pytest.raises(StoppedHereError):
            train_classifier(images, output, config, progress=stop)
        assert not output.exists()
    assert train_classifier(images, output, config, progress=stop).record["resumed"]
    assert not trained.record["resumed"]
    for name in (".", "fold-1", "fold-2"):
        assert same(weights(output / name), weights(trained.folder / name))
    written = [(folder / "difficulties.jsonl").read_bytes() for folder in (output, trained.folder)]
    assert written[0] == written[1]


def ended(target, *arguments) -> int | None:
    process = context().Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [5, 20, 30])
def test_killed_it_goes_on_to_the_same_classifier(tmp_path, images, trained, kill_at):
    (tmp_path / "run").mkdir()
    assert ended(train_until_killed, images.path, tmp_path / "run" / "guide", kill_at) == -signal.SIGKILL
    train_classifier(images, tmp_path / "run" / "guide", CONFIG)
    assert same(weights(tmp_path / "run" / "guide"), weights(trained.folder))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["guide"]


def test_output_behind_a_link_is_written_there_and_the_link_stays(tmp_path, images):
    (tmp_path / "scratch" / "guide").mkdir(parents=True)
    (tmp_path / "guide").symlink_to(tmp_path / "scratch" / "guide")
    for overwrite in (False, True):
        train_classifier(images, tmp_path / "guide", replace(CONFIG, seed=int(overwrite)), overwrite=overwrite)
    assert (tmp_path / "guide").is_symlink()
    assert (tmp_path / "scratch" / "guide" / "config.json").is_file()
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["guide"]


def test_too_little_disk_for_decoded_images_is_told_before_they_are_decoded(tmp_path, images, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1_000))
    with pytest.raises(ValueError, match=r"GB free, but 19 decoded images need about"):
        train_classifier(images, tmp_path / "guide", CONFIG, progress=refuse_to_train)
    assert not list(tmp_path.rglob("pixels.*"))


def test_images_that_are_decoded_need_no_more_disk(tmp_path, images, monkeypatch):
    unfinished(images, tmp_path / "guide")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1_000))
    assert train_classifier(images, tmp_path / "guide", CONFIG).record["resumed"]


@pytest.mark.slow
@unprivileged_mounts
def test_full_disk_is_told_and_leaves_nothing_that_looks_finished(tmp_path, images, trained):
    assert ended(train_on_full_disk, images.path, tmp_path) == 0
    assert (tmp_path / "told").read_text() == f"{errno.ENOSPC} ['guide.training']"
    assert same(weights(tmp_path / "guide"), weights(trained.folder))


@pytest.mark.slow
def test_two_processes_train_the_classifier_that_one_trains(tmp_path, images, trained):
    output = tmp_path / "guide"
    run_together(train_with_others, output, images.path)
    found, expected = (score_pool(images, load_classifier(folder)).difficulties for folder in (output, trained.folder))
    assert found == pytest.approx(expected, abs=2e-3)


def test_images_are_mapped_before_the_first_of_several_processes_may_remove_them(
    tmp_path, images, trained, monkeypatch
):
    met = []

    @contextmanager
    def meeting(last=1):
        yield
        met.append(meeting)
        if len(met) == last:  # the first process goes on from here alone, to the end, where it tidies
            shutil.rmtree(tmp_path / "images")

    def decoded(last):
        met.clear()
        monkeypatch.setattr(decoded_images, "fail_together", partial(meeting, last=last))
        return decoded_images.decode(images, preprocessing_of(trained.model), tmp_path / "images")

    found = decoded(last=None).pixels.copy()
    assert np.array_equal(decoded(last=len(met)).pixels, found)
    assert not (tmp_path / "images").exists()


def unfinished(images, output):
    def stop(stage, done, total):
        if stage == "training" and done == 1:
            raise StoppedHereError

    with pytest.raises(StoppedHereError):
        train_classifier(images, output, CONFIG, progress=stop)


def test_other_settings_or_images_are_refused_and_begun_anew_when_asked(tmp_path, images):
    unfinished(images, tmp_path / "guide")
    with pytest.raises(ValueError, match=r"config.seed was 0 and is now 1; .*; give the same ones, or overwrite=True"):
        train_classifier(images, tmp_path / "guide", replace(CONFIG, seed=1))
    with pytest.raises(ValueError, match=r"other settings or images: .*images was"):
        train_classifier(images.select(range(len(images) - 1)), tmp_path / "guide", CONFIG)
    train_classifier(images, tmp_path / "guide", replace(CONFIG, seed=1), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["guide"]


CANVASES = [
    Canvas(fit="pad"),
    Canvas(),
    Canvas(fit="stretch"),
    Canvas(fit="pad", trim=True),
    Canvas(fit="pad", background="black"),
]


@pytest.fixture(scope="module")
def stickers(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("stickers"), np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for index in range(3):
            pixels = generator.integers(0, 256, (16, 24, 4), np.uint8)
            pixels[..., 3], pixels[:4, :, 3] = 255, 0  # a transparent margin
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.mark.parametrize("canvas", CANVASES[1:], ids=str)
def test_images_are_decoded_anew_on_another_canvas(tmp_path, stickers, canvas):
    preprocessing = Preprocessing(16, 16, 3, (0.5,) * 3, (0.5,) * 3, crop=1.0)
    decoded_images.decode(read_pool(stickers, canvas=CANVASES[0]), preprocessing, tmp_path / "work")
    found, expected = (
        decoded_images.decode(read_pool(stickers, canvas=canvas), preprocessing, tmp_path / place).pixels
        for place in ("work", "alone")
    )
    assert np.array_equal(found, expected)


def test_training_that_was_begun_on_another_canvas_is_refused_and_begun_anew_when_asked(tmp_path, stickers):
    padded, cropped = (read_pool(stickers, canvas=canvas) for canvas in CANVASES[:2])
    unfinished(padded, tmp_path / "guide")
    with pytest.raises(ValueError, match=r"other settings or images: canvas.fit was 'pad' and is now 'crop'; .*images"):
        train_classifier(cropped, tmp_path / "guide", CONFIG)
    train_classifier(cropped, tmp_path / "guide", CONFIG, overwrite=True)
    train_classifier(cropped, tmp_path / "alone", CONFIG)
    assert same(weights(tmp_path / "guide"), weights(tmp_path / "alone"))


def test_training_goes_on_where_an_earlier_version_noted_no_canvas(tmp_path, images):
    unfinished(images, tmp_path / "guide")
    place = tmp_path / "guide.training" / "settings.json"
    noted = json.loads(place.read_text())
    assert noted.pop("canvas") == {"background": "white", "fit": "crop"}
    place.write_text(json.dumps(noted))
    assert train_classifier(images, tmp_path / "guide", CONFIG).record["resumed"]


def test_finished_classifier_is_replaced_only_when_asked_and_other_files_never(tmp_path, images):
    train_classifier(images, tmp_path / "guide", CONFIG)
    with pytest.raises(ValueError, match=r"another training: config.seed was 0 and is now 1; give overwrite=True"):
        train_classifier(images, tmp_path / "guide", replace(CONFIG, seed=1))
    before = weights(tmp_path / "guide")
    train_classifier(images, tmp_path / "guide", replace(CONFIG, seed=1), overwrite=True)
    assert not same(before, weights(tmp_path / "guide"))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("...")
    with pytest.raises(FileExistsError, match="something that is no trained classifier"):
        train_classifier(images, tmp_path / "work", CONFIG, overwrite=True)


def test_finished_classifier_is_loaded_by_the_same_call_and_other_images_are_refused(tmp_path, images, trained):
    config = replace(CONFIG, folds=2)
    again = train_classifier(images, trained.folder, config, test=images, progress=refuse_to_train)
    assert same(trained.model.state_dict(), again.model.state_dict())
    assert again.record == json.loads((trained.folder / "training.json").read_text())
    with pytest.raises(ValueError, match=r"another training: files.images was '\w+' and is now '\w+'; give"):
        train_classifier(images.select(range(1, len(images))), trained.folder, config, test=images)
    with pytest.raises(ValueError, match=r"another training: files.test was '\w+' and is now None; give"):
        train_classifier(images, trained.folder, config)
    assert [path.name for path in trained.folder.parent.iterdir()] == ["guide"]


def test_killed_while_it_tidies_up_it_loads_what_is_finished_and_tidies_up(tmp_path, images, monkeypatch):
    output, work, usual = tmp_path / "guide", tmp_path / "guide.training", shutil.rmtree

    def stop(path, **options):
        if path == work / "trainings":
            raise StoppedHereError
        usual(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", stop)
        with pytest.raises(StoppedHereError):
            train_classifier(images, output, CONFIG)
    assert {"settings.json", "trainings"} <= {path.name for path in work.iterdir()}
    train_classifier(images, output, CONFIG, progress=refuse_to_train)
    assert [path.name for path in tmp_path.iterdir()] == ["guide"]


def refuse_to_train(stage: str, done: int, total: int) -> None:
    raise AssertionError(f"{stage} is done anew")


def test_folder_of_somebody_else_beside_the_output_is_left_alone(tmp_path, images, capsys, monkeypatch):
    (letter := tmp_path / "guide.training" / "letter.txt").parent.mkdir()
    letter.write_text("mine")
    with pytest.raises(FileExistsError, match=r"guide.training, where .* holds something else; move it, or choose"):
        train_classifier(images, tmp_path / "guide", CONFIG, overwrite=True)
    code, _, errors = command(monkeypatch, capsys, images.path, "--output", tmp_path / "guide", "--quiet")
    assert (code, errors.count("\n")) == (2, 1)
    assert list(tmp_path.rglob("*")) == [letter.parent, letter]


def test_refused_command_leaves_nothing_beside_the_output(tmp_path, capsys, monkeypatch):
    write_images(tmp_path / "images", {"cat": 4})
    before = sorted(tmp_path.rglob("*"))
    code, _, errors = command(monkeypatch, capsys, tmp_path / "images", "--output", tmp_path / "guide", "--quiet")
    assert (code, errors.count("has one class, 'cat'")) == (2, 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_mixed_sizes_modes_and_labels_with_gaps_are_trained_on(tmp_path):
    for number, mode in enumerate(["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"]):
        for label in ("3", "70"):
            (tmp_path / "images" / label).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 65535, (20 + number, 30 - number), np.uint16)
            image = Image.fromarray(pixels)
            image = image if mode == "I;16" else Image.fromarray((pixels // 256).astype(np.uint8)).convert(mode)
            image.resize((9 + number, 11 + int(label) % 7)).save(
                tmp_path / "images" / label / f"{number}.{'tif' if mode == 'CMYK' else 'png'}"
            )
    trained = train_classifier(read_pool(tmp_path / "images"), tmp_path / "guide", replace(CONFIG, size=16))
    assert trained.record["classes"] == {"0": "3", "1": "70"}
    assert trained.record["preprocessing"]["height"] == 16
    assert score_pool(read_pool(tmp_path / "images"), load_classifier(tmp_path / "guide")).difficulties.shape == (16,)


def test_own_holdout_may_be_of_other_order_and_all_images_are_trained_on(tmp_path, images):
    write_images(tmp_path / "held", {"owl": 2, "cat": 3})
    trained = train_classifier(images, tmp_path / "guide", CONFIG, holdout=read_pool(tmp_path / "held"))
    assert trained.record["training"]["images of each class"] == COUNTS
    assert trained.record["held_out"]["accuracy_by_class"].keys() == {"cat", "owl"}


def test_classes_that_differ_only_in_how_they_are_written_stay_apart(tmp_path):
    write_images(tmp_path / "images", {"polo_shirt": 3, "Polo shirt": 3})
    trained = train_classifier(read_pool(tmp_path / "images"), tmp_path / "guide", CONFIG)
    assert trained.record["held_out"]["accuracy_by_class"].keys() == {"polo_shirt", "Polo shirt"}
    assert len(score_pool(read_pool(tmp_path / "images"), load_classifier(tmp_path / "guide")).difficulties) == 6


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"cat": 4}, "has one class, 'cat'.*such as the one above it, or .*/images/cat if a list tells the classes"),
        ({"cat": 4, "dog": 1}, "class 'dog' has only one image"),
    ],
)
def test_folder_that_no_classifier_can_be_trained_on_is_refused_with_the_reason(tmp_path, counts, words):
    write_images(tmp_path / "images", counts)
    with pytest.raises(ValueError, match=words):
        train_classifier(read_pool(tmp_path / "images"), tmp_path / "guide", CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_unreadable_images_are_counted_and_the_first_named(tmp_path):
    write_images(tmp_path / "images", {"cat": 8, "dog": 8})
    for number in range(5):
        file = tmp_path / "images" / "cat" / f"{number:05d}.png"
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"5 of 16 images cannot be read: .*00000\.png, .* and 2 more"):
        train_classifier(read_pool(tmp_path / "images"), tmp_path / "guide", CONFIG)


def test_test_images_of_an_unknown_class_are_refused_before_the_training(tmp_path, images):
    write_images(tmp_path / "test", {"cat": 2, "fox": 2})
    with pytest.raises(ValueError, match="fox"):
        train_classifier(images, tmp_path / "guide", CONFIG, test=read_pool(tmp_path / "test"))


@pytest.mark.parametrize("argument", ["test", "holdout"])
def test_images_to_test_with_are_of_the_trained_classes_alone(tmp_path, images, caplog, argument):
    names = sorted(images.class_names.values())
    write_images(tmp_path / "more", {name: 4 for name in [*names, "fox"]})
    trained = train_classifier(images, tmp_path / "guide", CONFIG, **{argument: read_pool(tmp_path / "more")})
    result = trained.record["test" if argument == "test" else "held_out"]
    assert (result["images"], sorted(result["accuracy_by_class"])) == (4 * len(names), names)
    assert "are used, those of the training images; left out: 'fox'" in caplog.text


def test_more_folds_than_images_are_refused_before_the_training(tmp_path, images):
    with pytest.raises(ValueError, match=r"folds=500 are too many for .* images: .* would have none; lower folds"):
        train_classifier(images, tmp_path / "guide", replace(CONFIG, folds=500))
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"role": "judge"}, "role is 'judge'; choose one of guide, evaluator"),
        ({"folds": 1}, "folds is 1; give 2 or more"),
        ({"held_out": 1.0}, "held_out is 1.0"),
        ({"balance": 2.0}, "balance is 2.0"),
        ({"augmentation": "wild"}, "augmentation is 'wild'; choose one of auto, none"),
        ({"size": 0}, "size is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": None, "batch_size": 0}, "batch_size is 0"),
    ],
)
def test_wrong_setting_is_refused_with_what_there_is(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(CONFIG, **changes)


def test_batches_grow_with_the_images_and_weights_balance_the_classes():
    assert [batch_size_for(images) for images in (2, 500, 1000, 60000)] == [32, 32, 64, 128]
    labels = np.array([0] * 6 + [1] * 2)
    assert image_weights(labels, 0).tolist() == [1] * 8
    assert image_weights(labels, 1)[:6].sum() == pytest.approx(image_weights(labels, 1)[6:].sum())
    assert unequal_text({"cat": 10, "dog": 40}, 0) is not None
    assert unequal_text({"cat": 10, "dog": 40}, 1) is None


def test_command_trains_and_says_how_good_the_classifier_is(tmp_path, images, capsys, monkeypatch, caplog):
    write_images(tests := tmp_path / "test", dict.fromkeys(COUNTS, 4), size=17, metadata=False)
    Image.open(images.path / "cat" / "00000.png").save(tests / "cat" / "twin.bmp")
    options = ["--steps", "2", "--folds", "2", "--test", tests, "--quiet"]
    code, said, _ = command(monkeypatch, capsys, images.path, "--output", tmp_path / "guide", *options)
    assert code == 0
    assert "small-resnet, 696,419 weights trained from scratch" in said
    assert "accuracy on 13 test images" in said
    assert "a temperature is fitted to 20 held-out images or more, and there are 3\n" in said
    assert "expected calibration error" in said
    record = json.loads((tmp_path / "guide" / "training.json").read_text())
    assert record["about"]["images"]["kept"] == 18
    assert record["about"]["images"]["left_out"]["also_tested_on"] == ["cat/00000.png"]
    assert "1 of 19 images are tested on and are left out of training" in caplog.text
    assert "train-classifier" in record["command"]
    assert command(monkeypatch, capsys, images.path, "--output", tmp_path / "guide", *options)[:2] == (0, said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["guide", "test"]


@pytest.mark.parametrize("option", ["--test", "--holdout"])
def test_training_images_are_refused_as_test_images(tmp_path, images, capsys, monkeypatch, option):
    options = ["--output", tmp_path / "guide", option, images.path, "--quiet"]
    code, _, errors = command(monkeypatch, capsys, images.path, *options)
    assert (code, errors.count("\n")) == (2, 1)
    assert "are among those that are tested on; give test images that nothing is trained on" in errors
    assert not (tmp_path / "guide").exists()


def test_images_are_not_mixed_with_the_classifier_that_is_trained_on_them(tmp_path, images, capsys, monkeypatch):
    before = sorted(images.path.rglob("*"))
    code, _, errors = command(monkeypatch, capsys, images.path, "--output", images.path / "guide", "--quiet")
    assert (code, errors.count("\n")) == (2, 1)
    assert "lies in it; choose another place for the output" in errors
    assert sorted(images.path.rglob("*")) == before
    with pytest.raises(FileExistsError, match="lies in it"):
        train_classifier(images, images.path / "guide", CONFIG)


def command(monkeypatch, capsys, *words):
    """What ``train-classifier`` says: exit code, standard output and standard error."""
    from dag_diffusion.cli.commands import main

    monkeypatch.setattr("sys.argv", ["dag-diffusion", "train-classifier", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize("knows", [True, False])
def test_difficulties_of_a_start_that_may_have_seen_the_images_are_not_told_as_out_of_sample(
    tmp_path, images, caplog, knows
):
    names = images.class_names if knows else {0: "cat", 1: "dog", 2: "mouse"}
    tiny_classifier(names).save_pretrained(tmp_path / "start")
    config = replace(CONFIG, model=str(tmp_path / "start"), folds=2)
    made = train_classifier(images, tmp_path / "guide", config)
    row = json.loads((made.folder / "difficulties.jsonl").read_text().splitlines()[0])
    assert row["difficulty_by"].endswith("from one that may have seen it" if knows else "trained without the image")
    assert ("out of sample" in "\n".join(_lines(made))) != knows
    assert ("if it has seen these images" in caplog.text) == knows
