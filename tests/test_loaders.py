"""Every way in which people load a folder of images gives the classes that its rows tell, whatever these are called."""

import json
import os
import unicodedata
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from datasets import disable_progress_bars, load_dataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_dataset
from torchvision.datasets import ImageFolder

from dag_diffusion import push, read_pool, write_distilled_set
from dag_diffusion.data.class_names import folder_names
from dag_diffusion.data.dataset_cards import describe, is_as_written, renew_card
from dag_diffusion.data.files import json_lines
from dag_diffusion.data.layouts import are_read_alike, class_folders, misreading, placements
from dag_diffusion.generation.plan import PoolConfig, plan

disable_progress_bars()
DOCS = Path(__file__).parent.parent / "docs"
FILES = {
    "ImageNette's files": ("n01440764_10026.JPEG", "ILSVRC2012_val_00000293.JPEG"),
    "shards of a class data": ("photo-00000-of-00002.png", "photo-00001-of-00002.png"),
    "nested folders": ("images/0.png", "images/1.png"),  # Tiny-ImageNet's
}
KINDS = {
    "in alphabetical order": ["Ankle boot", "Bag"],
    "in another order": ["T-shirt/top", "Trouser", "Pullover"],
    "words for splits": ["train", "test", "validation", "val", "dev"],
    "such words in a name": ["tench", "bullet train", "test tube", "eval-set", "training"],
    "numbers": [str(number) for number in range(12)],
    "numbers with gaps": ["7", "3", "11"],
    "ImageNette's files": ["n01440764", "n02102040"],
    "shards of a class data": ["data", "door"],
    "nested folders": ["n01443537", "n01629819"],
    "one class": ["Bag"],
    "one class called train": ["train"],
    "differ in case": ["Cat", "cat", "CAT"],
    "differ in accents": ["cafe", "café", unicodedata.normalize("NFD", "café")],
    "the same name twice": ["crane", "tench", "crane"],
    "slashes, commas, dots": ["a/b", "tench, Tinca tinca", "what...", " x ", "a:b?*", "C:\\d"],
    "reserved by Windows": ["CON", "nul", "com1", "aux.x"],
    "other scripts, signs, none": ["猫", "Übung 1/100", "🙂", "", "#%[a]"],
    "long": ["a" * 200, "a" * 199 + "b"],
    "hidden or special": [".git", "__pycache__", "~", "-rf", "data"],
}

EXAMPLES = {"other scripts, signs, none": "`猫`", "long": "200 letters"}


def rows_with_images(folder: Path, files: dict[str, tuple[int, str]]) -> list[dict]:
    """Write images whose grey level is their place in the list, and their rows."""
    rows = []
    for place, (name, (label, class_name)) in enumerate(files.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 2), place, np.uint8)).save(folder / name, format="PNG")
        rows.append({"file_name": name, "label": label, "class_name": class_name, "difficulty": 0.5})
    (folder / "metadata.jsonl").write_bytes(json_lines(rows))
    return rows


def pool_of(folder: Path, kind: str) -> dict[int, tuple[int, str]]:
    """A pool whose folders are called like its classes; label and class name by grey level."""
    names = dict(enumerate(KINDS[kind]))
    files = FILES.get(kind, ("00000.png", "00001.png"))
    folders = folder_names(names)
    found = {f"{folders[label]}/{file}": (label, name) for label, name in names.items() for file in files}
    rows_with_images(folder, found)
    return dict(enumerate(found.values()))


def by_datasets(data) -> dict[int, tuple[int, str]]:
    return {row["image"].getpixel((0, 0)): (row.get("label"), row.get("class_name")) for row in data}


def by_folders(folder: Path, samples: list[tuple[str, int]]) -> dict[int, tuple[int, str]]:
    """What a reader of folders found, with the class names of ``labels.json``."""
    known = json.loads((folder / "labels.json").read_text("utf-8"))
    found = {}
    for path, label in samples:
        class_name = known[Path(path).parent.name]["class_name"]
        found[Image.open(path).getpixel((0, 0))] = (label, class_name)
    return found


def by_name_of_folder(folder: Path, cache: str) -> dict[int, tuple[int, str]]:
    data = load_dataset(str(folder), split="train", cache_dir=cache)
    names = data.features["label"].names
    labels = json.loads((folder / "labels.json").read_text("utf-8")).values()
    assert all(names[one["label"]].startswith(one["class_name"]) for one in labels)
    return by_datasets(data)


def by_timm(folder: Path, cache: str) -> dict[int, tuple[int, str]]:
    samples = create_dataset("", root=str(folder)).reader.samples
    in_training = create_dataset("", root=str(folder), split="train", is_training=True).reader.samples
    return by_folders(folder, samples if samples == in_training else [])


def by_sorted_folders(folder: Path, cache: str) -> dict[int, tuple[int, str]]:
    """As ``keras.utils.image_dataset_from_directory`` documents it."""
    classes = [name for name in sorted(os.listdir(folder)) if (folder / name).is_dir()]
    return by_folders(folder, [(str(p), i) for i, c in enumerate(classes) for p in sorted((folder / c).iterdir())])


WAYS = {
    "`load_dataset(SET)`": by_name_of_folder,
    '`load_dataset("imagefolder", data_dir=SET)`': lambda folder, cache: by_datasets(
        load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=cache)
    ),
    '`data_files=SET + "/**"`': lambda folder, cache: by_datasets(
        load_dataset("imagefolder", data_files=f"{folder}/**", split="train", cache_dir=cache)
    ),
    "torchvision": lambda folder, cache: by_folders(folder, ImageFolder(str(folder)).samples),
    "timm": by_timm,
    "keras": by_sorted_folders,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict[str, bool]]:
    """Whether each way of loading finds the classes of each kind, and all images of them."""
    root, right = tmp_path_factory.mktemp("sets"), {}
    for number, kind in enumerate(KINDS):
        truth = pool_of(root / f"{number}/pool", kind)
        folder = root / f"{number}/train set"  # what the set itself is called must not matter
        pool = read_pool(root / f"{number}/pool")
        write_distilled_set(pool, range(len(pool)), folder)
        right[kind] = {way: load(folder, str(root / "cache")) == truth for way, load in WAYS.items()}
    return right


@pytest.mark.parametrize("kind", KINDS)
def test_set_is_read_alike_by_every_loader(found, kind):
    assert found[kind] == dict.fromkeys(WAYS, True)


def test_the_docs_have_the_table(found):
    head = ["classes", "such as", *WAYS]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for kind, ways in found.items():
        shown = (
            ", ".join(f"`{name}`" for name in KINDS[kind][:2] if name.isascii() and len(name) < 99) or EXAMPLES[kind]
        )
        cells = [kind, shown, *("right" if ok else "wrong" for ok in ways.values())]
        lines.append(f"| {' | '.join(cells)} |")
    assert "\n".join(lines) in (DOCS / "how-to/load.md").read_text("utf-8")


@given(st.dictionaries(st.integers(0, 10**6), st.text(), min_size=1))
def test_folders_of_any_classes_are_read_alike(class_names):
    assert are_read_alike(class_folders(class_names))


@given(
    st.lists(st.tuples(st.integers(0, 12), st.text(), st.text()), min_size=1),
)
def test_images_of_any_names_get_places_of_their_own(found):
    class_names = {label: folder for label, folder, _ in found}
    rows = [{"label": label, "file_name": f"{folder}/{file}"} for label, folder, file in found]
    places = [PurePosixPath(place) for place in placements(rows, class_names)]
    assert len(set(places)) == len(places)
    assert all(len(place.parts) == 2 for place in places)
    assert are_read_alike({label: place.parts[0] for (label, *_), place in zip(found, places, strict=True)})
    assert placements(rows, class_names) == list(map(str, places))


@pytest.mark.parametrize("kind", KINDS)
def test_pool_is_laid_out_so_that_every_loader_reads_it_alike(tmp_path, kind):
    jobs = plan(PoolConfig(images_per_class=2), dict(enumerate(KINDS[kind])))
    rows = rows_with_images(tmp_path, {job.file_name: (job.label, job.class_name) for job in jobs})
    describe(tmp_path, rows, {})
    assert misreading(tmp_path, rows) == ""
    truth = {place: (job.label, job.class_name) for place, job in enumerate(jobs)}
    assert all(WAYS[way](tmp_path, "") == truth for way in ("torchvision", "timm", "keras"))


def test_what_is_sent_to_the_hub_is_read_alike_with_its_figures(tmp_path):
    truth = pool_of(tmp_path / "pool", "such words in a name")
    push(tmp_path / "pool", "me/set", dry_run=tmp_path / "sent")
    assert {"difficulty.webp", "examples.webp"} <= set(os.listdir(tmp_path / "sent"))
    for way, load in WAYS.items():
        assert load(tmp_path / "sent", str(tmp_path / "cache")) == truth, way


@pytest.mark.parametrize("kind", [*list(KINDS)[:4], "numbers", *FILES, "one class", "differ in case"])
def test_warning_comes_where_a_loader_would_be_wrong(tmp_path, kind):
    truth = pool_of(tmp_path / "pool", kind)
    rows = read_pool(tmp_path / "pool").rows
    describe(tmp_path / "pool", rows, {})
    ways = [is_right(load, tmp_path / "pool", str(tmp_path / "cache"), truth) for load in WAYS.values()]
    assert bool(misreading(tmp_path / "pool", rows)) == (not all(ways))


def is_right(load, folder: Path, cache: str, truth: dict[int, tuple[int, str]]) -> bool:
    try:
        return load(folder, cache) == truth
    except (ValueError, KeyError, OSError):  # no split of that name, no class or a folder in that folder
        return False


@pytest.mark.parametrize(
    ("planted", "word"),
    [("drafts/0.png", "folder drafts"), ("Bag/more.png", "take Bag/more.png"), ("figure.png", "take figure.png")],
)
def test_what_else_lies_in_a_set_is_told(tmp_path, planted, word):
    pool_of(tmp_path, "one class")
    (tmp_path / planted).parent.mkdir(exist_ok=True)
    (tmp_path / planted).write_bytes((tmp_path / "Bag/00000.png").read_bytes())
    assert word in misreading(tmp_path, read_pool(tmp_path).rows)


def test_set_that_timm_does_not_read_is_told(tmp_path, caplog):
    rows = rows_with_images(tmp_path / "pool", {"Bag/0.png": (0, "Bag")})
    (tmp_path / "pool/Bag/0.png").rename(tmp_path / "pool/Bag/0.webp")
    (tmp_path / "pool/metadata.jsonl").write_bytes(json_lines([rows[0] | {"file_name": "Bag/0.webp"}]))
    write_distilled_set(read_pool(tmp_path / "pool"), [0], tmp_path / "set")
    assert "timm leaves out Bag/0.webp" in caplog.text


def test_text_of_the_user_stays_and_configs_follow_the_rows(tmp_path):
    pool_of(tmp_path / "pool", "in another order")
    pool = read_pool(tmp_path / "pool")
    write_distilled_set(pool, [0], tmp_path / "set")
    card = tmp_path / "set/README.md"
    assert is_as_written(card.read_text())
    card.write_text("---\nlicense: mit\n---\nmine\n")
    write_distilled_set(pool, range(len(pool)), tmp_path / "set", overwrite=True)
    assert "license: mit" in card.read_text()
    assert "mine" in card.read_text()
    before = load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    assert before.features["label"].names == KINDS["in another order"]
    rows = [row | {"difficulty": 0.25, "note": [1.0]} for row in read_pool(tmp_path / "set").rows]
    (tmp_path / "set/metadata.jsonl").write_bytes(json_lines(rows))
    renew_card(tmp_path / "set", rows, {})
    after = load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    assert set(after["difficulty"]) == {0.25}
    assert next(iter(after["note"])) == [1.0]
    assert "mine" in card.read_text()


def test_card_that_is_a_link_is_not_taken_over(tmp_path):
    pool_of(tmp_path / "pool", "one class")
    write_distilled_set(read_pool(tmp_path / "pool"), [0], tmp_path / "set")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "set/README.md").unlink()
    (tmp_path / "set/README.md").symlink_to(tmp_path / "secret")
    write_distilled_set(read_pool(tmp_path / "pool"), [1], tmp_path / "set", overwrite=True)
    assert "secret" not in (tmp_path / "set/README.md").read_text()


def test_card_that_cannot_be_read_stays_as_it_is(tmp_path, caplog):
    pool_of(tmp_path / "pool", "one class")
    write_distilled_set(read_pool(tmp_path / "pool"), [0], tmp_path / "set")
    (tmp_path / "set/README.md").write_text("---\n: [\n---\n")
    write_distilled_set(read_pool(tmp_path / "pool"), [1], tmp_path / "set", overwrite=True)
    assert "YAML" in caplog.text
    assert (tmp_path / "set/README.md").read_text() == "---\n: [\n---\n"


def test_images_without_suffix_get_that_of_their_contents(tmp_path):
    rows_with_images(tmp_path / "pool", {"Bag/0": (0, "Bag"), "Bag/1": (0, "Bag")})
    write_distilled_set(read_pool(tmp_path / "pool"), [0, 1], tmp_path / "set")
    assert sorted(path.name for path in (tmp_path / "set/Bag").iterdir()) == ["0.png", "1.png"]
    assert all(load(tmp_path / "set", str(tmp_path / "cache")) for load in WAYS.values())
