"""One image of each mode, chosen in rounds by what students of those before have yet to learn."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_students import choose, choose_with_others
from warm import run_together
from without_float64 import WithoutFloat64

from dag_diffusion import read_pool
from dag_diffusion.cli.commands import app
from dag_diffusion.distillation import learnable
from dag_diffusion.distillation.learnable import learnable_rows, subsample_in_rounds
from dag_diffusion.evaluation import LabelledImages
from dag_diffusion.processor import fast_precision
from dag_diffusion.reporting.recipes import recipe_of
from dag_diffusion.reporting.reproduction import commands_for

NAMES = {3: "dark", 7: "light"}


def pool_of(modes_of_class, each, seed=0):
    """``each`` images of each mode of two classes; labels, modes and difficulties."""
    generator = np.random.default_rng(seed)
    labels = np.repeat([*NAMES], modes_of_class * each)
    modes = np.tile(np.repeat(np.arange(modes_of_class), each), 2)
    images = generator.integers(0, 100, (len(labels), 16, 16, 1), np.uint8) + 100 * (labels == 7)[:, None, None, None]
    order = generator.permutation(len(labels))
    found = LabelledImages(images.astype(np.uint8)[order], labels[order], NAMES)
    return found, generator.random(len(labels)), modes[order]


class AskedStudents:
    """Stands for networks: notes what they learn, and finds every image as hard as ``hard`` says."""

    def __init__(self, hard):
        self.hard, self.learnt, self.seeds = hard, [], []

    def __call__(self, images, network, protocol, device):
        return self

    def difficulties(self, learnt, seed, asked):
        self.learnt.append(learnt)
        self.seeds.append(seed)
        return self.hard[asked]


@pytest.fixture
def students(monkeypatch):
    def of(hard):
        asked = AskedStudents(hard)
        monkeypatch.setattr(learnable, "Students", asked)
        return asked

    return of


@given(st.integers(1, 7), st.integers(1, 4), st.integers(1, 9), st.integers(0, 5))
def test_one_image_of_each_mode_is_chosen_and_the_easiest_where_students_know_nothing(modes, each, rounds, seed):
    images, difficulties, mode = pool_of(modes, each, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learnable, "Students", AskedStudents(np.full(len(images), 0.5)))
        chosen = learnable_rows(images, difficulties, mode, rounds=rounds, seed=seed)
    expected = {}
    for row in np.argsort(difficulties, kind="stable")[::-1].tolist():
        expected[images.labels[row], mode[row]] = row
    assert chosen.tolist() == sorted(expected.values())


def test_later_parts_take_what_students_of_earlier_ones_find_hard_and_the_guide_does_not(students):
    images, difficulties, mode = pool_of(4, 3)
    hard = np.random.default_rng(1).random(len(images))
    asked = students(hard)
    chosen = learnable_rows(images, difficulties, mode, rounds=2, students=3, seed=5)
    score = np.where(mode % 2, difficulties - hard, difficulties)
    expected = [
        min(np.flatnonzero((images.labels == label) & (mode == one)), key=lambda row: score[row])
        for label in NAMES
        for one in range(4)
    ]
    assert chosen.tolist() == sorted(expected)
    first = sorted(row for row in expected if mode[row] % 2 == 0)
    assert [sorted(learnt.tolist()) for learnt in asked.learnt] == [first] * 3
    assert len(set(asked.seeds)) == 3


def test_students_are_asked_on_a_device_without_float64():
    images, *_ = pool_of(2, 2)
    students = learnable.Students(images, "convnet-3", learnable.as_protocol("quick"), "cpu")
    rows = np.arange(len(images))
    with WithoutFloat64():
        assert students.difficulties(rows, 0, rows).dtype == np.float64


def test_students_learn_and_the_same_seed_chooses_the_same():
    images, difficulties, mode = pool_of(4, 2)
    told = []
    settings = {"rounds": 2, "students": 1, "device": "cpu"}
    chosen = learnable_rows(
        images, difficulties, mode, progress=lambda stage, done, total: told.append((done, total)), **settings
    )
    assert chosen.tolist() == learnable_rows(images, difficulties, mode, **settings).tolist()
    assert told[-1] == (1, 1)
    rows = np.arange(len(images))
    found = learnable.Students(images, "convnet-3", learnable.as_protocol("quick"), "cpu").difficulties(rows, 0, rows)
    assert found.max() < 0.5  # dark and light are told apart, by labels that are not 0 and 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"difficulties": np.zeros(3)}, "difficulties \\(3,\\)"),
        ({"difficulties": np.full(16, np.nan)}, "score the pool first"),
        ({"rounds": 0}, "rounds is 0"),
        ({"students": 0}, "students 0"),
        ({"network": "convnet-9"}, "convnet-9"),
    ],
)
def test_what_cannot_be_is_refused(change, said):
    images, difficulties, modes = pool_of(4, 2)
    with pytest.raises(ValueError, match=said):
        learnable_rows(**({"images": images, "difficulties": difficulties, "modes": modes} | change))


@pytest.fixture
def drawn_to_modes(tmp_path):
    """A scored pool of two classes, three images to each of four modes."""
    images, difficulties, modes = pool_of(4, 3)
    rows = []
    for index, (image, label) in enumerate(zip(images.images, images.labels.tolist(), strict=True)):
        name = f"{NAMES[label]}/{index:02d}.png"
        (tmp_path / "pool" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(tmp_path / "pool" / name)
        row = {"file_name": name, "label": label, "class_name": NAMES[label]}
        rows.append(row | {"difficulty": float(difficulties[index]), "mode": int(modes[index])})
    (tmp_path / "pool" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "pool"


@pytest.mark.slow
def test_two_processes_share_the_students_and_choose_what_one_chooses(drawn_to_modes, tmp_path):
    run_together(choose_with_others, tmp_path, drawn_to_modes)
    alone = choose(drawn_to_modes)
    first, second = (np.load(tmp_path / f"{rank}.npz") for rank in range(2))
    assert first["rows"].tolist() == second["rows"].tolist() == alone.tolist()
    assert first["told"] == 6  # three students in each of two rounds, of both processes


ROUNDS = ["--method", "easiest", "--evenly", "mode", "--rounds", "2", "--device", "cpu", "--quiet"]


def test_command_chooses_in_rounds_and_its_record_gives_the_command_again(drawn_to_modes, tmp_path, capsys):
    app(["subsample", str(drawn_to_modes), str(tmp_path / "set"), "--ipc", "4", *ROUNDS], standalone_mode=False)
    assert "8 images in" in capsys.readouterr().out
    pool, chosen = read_pool(drawn_to_modes), read_pool(tmp_path / "set")
    assert sorted((row["label"], row["mode"]) for row in chosen.rows) == [(k, mode) for k in NAMES for mode in range(4)]
    expected = subsample_in_rounds(pool, 4, rounds=2, device="cpu")
    contents = {pool.file_bytes(row) for row in expected.indices.tolist()}
    assert {chosen.file_bytes(row) for row in range(8)} == contents
    record = chosen.provenance["selection"]
    assert (record["method"], record["evenly"], record["rounds"], record["students"]) == ("easiest", "mode", 2, 2)
    assert (record["network"], record["protocol"], record["ipc"]) == ("convnet-3", "quick", 4)
    assert record["precision"] == fast_precision("cpu")
    [command] = [line for line in commands_for([(tmp_path / "set", chosen)]) if "subsample" in line]
    assert "--ipc 4 --method easiest --evenly mode --rounds 2 --seed 0" in command
    assert "in 2 rounds: of later modes what networks trained on earlier ones have yet to learn" in recipe_of(chosen)


def test_images_without_difficulty_are_left_out_when_asked_and_refused_when_not(drawn_to_modes, tmp_path, capsys):
    lines = (drawn_to_modes / "metadata.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["difficulty"] = None
    (drawn_to_modes / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["subsample", str(drawn_to_modes), str(tmp_path / "set"), "--ipc", "4", *ROUNDS]
    assert app(command, standalone_mode=False) == 2
    assert "--skip-unscored" in capsys.readouterr().err
    app([*command, "--skip-unscored"], standalone_mode=False)
    chosen = read_pool(tmp_path / "set")
    assert len(chosen) == 8
    assert rows[0]["file_name"] not in {row["source"] for row in chosen.rows}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ipc", "3", *ROUNDS], "the images of 'dark' are of 4 values of 'mode', but one image of each is chosen, 3"),
        (["--ipc", "4", "--ipc", "2", *ROUNDS], "--rounds chooses one set"),
        (["--ipc", "4", "--rounds", "2"], "--rounds goes with --method easiest --evenly mode alone"),
        (["--ipc", "4", *ROUNDS, "--evenly", "draw"], "have no 'draw' in their metadata"),
    ],
)
def test_rounds_without_a_set_of_modes_are_refused(drawn_to_modes, tmp_path, options, said, capsys):
    code = app(["subsample", str(drawn_to_modes), str(tmp_path / "set"), *options], standalone_mode=False)
    assert code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
