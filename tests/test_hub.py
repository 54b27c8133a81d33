"""Sharing: what is pushed comes back whole, by pull, by ``load_dataset`` and by ``from_pretrained``."""

import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import datasets
import hub_server
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from diffusers import DPMSolverMultistepScheduler
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
from PIL import Image
from tiny import NAMES, tiny_classifier, tiny_pipeline, write_images
from typer.testing import CliRunner

from dag_diffusion import PoolConfig, embedded, fill_pool, pull, push, read_pool, subsample, write_distilled_set
from dag_diffusion.cli.commands import app
from dag_diffusion.data.dataset_cards import is_as_written, renew_card
from dag_diffusion.data.files import json_lines
from dag_diffusion.evaluation.labelled_images import load_labelled_images
from dag_diffusion.evaluation.soft_labels import (
    Teacher,
    ViewPlan,
    label_views,
    read_soft_labels,
    read_view_labels,
    write_soft_labels,
)
from dag_diffusion.hub.staging import FIGURES, without_local_paths
from dag_diffusion.training.generators.vae import load_vae

COUNTS = {"bullet train": 3, "test tube": 3, "Übung [1] 100%": 3}  # names that a split or a pattern might swallow


@pytest.fixture(scope="module")
def server():
    with hub_server.serving() as hub:
        yield hub


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    """An empty Hub, and a client that has logged in there."""
    server.repositories.clear()
    server.requests.clear()
    server.fail = None
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    disable_progress_bars()
    yield server
    enable_progress_bars()


@pytest.fixture
def pool(tmp_path):
    folder = tmp_path / "a pool"
    write_images(folder, COUNTS)
    (folder / "pool.json").write_text(
        json.dumps({"pipeline": "/home/somebody/secret place/dit", "classes": {"0": "/m/01"}})
    )
    return folder


@pytest.fixture
def chosen(tmp_path, pool):
    """A distilled set with soft labels."""
    made = write_distilled_set(
        read_pool(pool),
        [0, 1, 3, 4, 6, 7],
        tmp_path / "my set",
        columns={"rank": [0, 1] * 3},
        provenance={"selection": {"method": "random", "ipc": 2, "seed": 0}},
    )
    write_soft_labels(made.path, torch.randn(6, 3), [row["file_name"] for row in made.rows], "/home/somebody/teacher")
    return made.path


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(result, *words):
    """A user's mistake: one line, exit code 2, and what to do."""
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert all(word in result.stderr for word in words), result.stderr


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_set_comes_back_as_it_was(hub, chosen, tmp_path):
    pushed = call("push", chosen, "me/small", "--license", "cc-by-4.0")
    assert pushed.exit_code == 0, pushed.output
    pulled = call("pull", "me/small", tmp_path / "back")
    assert pulled.exit_code == 0, pulled.output
    before, after = read_pool(chosen), read_pool(tmp_path / "back")
    assert after.rows == before.rows
    assert [after.open(i).tobytes() for i in range(6)] == [before.open(i).tobytes() for i in range(6)]
    assert torch.equal(read_soft_labels(after), read_soft_labels(before))
    assert after.provenance["selection"] == before.provenance["selection"]
    assert after.provenance["hub"] == {
        "repo": "me/small",
        "revision": hub.repositories["datasets", "me/small"].refs["main"],
    }
    assert len(subsample(after, ipc=1, method="random").indices) == 3


def test_labels_per_view_go_along_and_the_card_tells_whose_they_are(hub, chosen, tmp_path):
    before = read_pool(chosen)
    pixels = load_labelled_images(before, size=(8, 8), channels=1).images
    teacher = Teacher("/home/somebody/teacher", "0123", 0.913, "100 of test")
    label_views(before, pixels, tiny_classifier(dict(enumerate(COUNTS))), teacher, ViewPlan(views=2))
    push(chosen, "me/small")
    after = read_pool(pull("me/small", tmp_path / "back").place)
    said, again = (read_view_labels(pool, pixels).of_epoch(1, seed=0)[1] for pool in (before, after))
    assert torch.equal(said, again)
    card = (after.path / "README.md").read_text()
    assert "| `view_labels.json` | 2 views, 3 logits each | `teacher` | `0123` | 91.3 % right on 100 of test |" in card
    assert "/home/somebody" not in (after.path / "view_labels.json").read_text()
    for path in chosen.glob("view_labels*"):
        path.unlink()
    push(chosen, "me/small")
    assert not any(name.startswith("view_labels") for name in hub.files("me/small"))


def test_generated_pool_comes_back_as_it_was(hub, tmp_path):
    pool = fill_pool(tiny_pipeline(), tmp_path / "drawn", PoolConfig(images_per_class=2, num_inference_steps=2))
    result = call("push", pool.path, "me/drawn")
    assert result.exit_code == 0, result.output
    assert call("pull", "me/drawn", tmp_path / "back").exit_code == 0
    assert read_pool(tmp_path / "back").rows == pool.rows
    assert "steered to | `nothing: unguided`" in (tmp_path / "back" / "README.md").read_text()


def test_nothing_of_this_machine_is_told(hub, chosen):
    rows = [json.loads(line) for line in (chosen / "metadata.jsonl").read_text().splitlines()]
    (chosen / "metadata.jsonl").write_bytes(json_lines(row | {"note": "as in /home/somebody/x"} for row in rows))
    push(chosen, "me/small")
    everything = b"".join(hub.files("me/small").values())
    assert b"/home/somebody" not in everything
    assert str(chosen.parent).encode() not in everything
    assert json.loads(hub.files("me/small")["metadata.jsonl"].splitlines()[0])["note"] == "as in x"
    record = json.loads(hub.files("me/small")["pool.json"])
    assert record["pool"]["pipeline"] == "dit"
    assert record["pool"]["classes"] == {"0": "/m/01"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0.7*/home/me/ref.jsonl + 0.3*hill", "0.7*ref.jsonl + 0.3*hill"),
        ("/data/first set/real.parquet", "real.parquet"),
        ("a/b relative stays, and/or https://x.org/a too", "a/b relative stays, and/or https://x.org/a too"),
        ("data:image/jpeg;base64,/9j/4AAQ", "data:image/jpeg;base64,/9j/4AAQ"),
        (r"C:\Users\me\pool", "pool"),
        ("D:/me/pool", "pool"),
        (r"\\server\me\pool", "pool"),
        ("from file:///home/me/pool", "from pool"),
        ("../../home/me/pool", "pool"),
        ("~/me/pool", "pool"),
        ("[/home/me/a, /home/me/b,/home/me/c]", "[a, b,c]"),
        ("a;/home/me/b", "a;b"),
        ("a|/home/me/b", "a|b"),
        ("/home/me/a\n/home/me/b", "a\nb"),
    ],
)
def test_paths_are_cut_down_wherever_a_record_has_them(text, told):
    record = {"classes": {"Bag": {"name": text}}, "list": [text], text: 1}
    assert without_local_paths(record) == {"classes": {"Bag": {"name": told}}, "list": [told], told: 1}
    assert without_local_paths({"classes": {"/m/01": {"name": text}}}) == {"classes": {"/m/01": {"name": told}}}
    assert without_local_paths({"classes": ["/m/01"]}) == {"classes": ["/m/01"]}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("/data/first set/a.png", "a.png"),
        (r"C:\Users\me\a.png", "a.png"),
        ("file:///srv/me/a.png", "a.png"),
        ("../../me/pool", "pool"),
        ("as in /home/me/pool, mostly", "as in pool, mostly"),
        ({"a": ["/data/me/a.png"]}, {"a": ["a.png"]}),
        *((same, same) for same in ("/m/01g317", "/r/aww post: cute/fluffy cat", "/9j/4AAQSkZJRg", "12/31/2025")),
        ("a photo (/imagine) of a cat and/or dog", "a photo (/imagine) of a cat and/or dog"),
        ("https://x.org/home/a.png", "https://x.org/home/a.png"),
    ],
)
def test_rows_lose_paths_of_this_machine_and_nothing_else(hub, tmp_path, value, told):
    write_images(tmp_path / "images", {"Bag": 1, "Dress": 1})
    rows = [
        {"file_name": f"{name}/000.png", "label": label, "class_name": name, "note": value}
        for label, name in enumerate(("Bag", "Dress"))
    ]
    names = sorted(path.relative_to(tmp_path / "images").as_posix() for path in (tmp_path / "images").rglob("*.png"))
    rows = [row | {"file_name": name} for row, name in zip(rows, names, strict=True)]
    (tmp_path / "images" / "metadata.jsonl").write_bytes(json_lines(rows))
    push(tmp_path / "images", "me/small")
    assert [json.loads(line)["note"] for line in hub.files("me/small")["metadata.jsonl"].splitlines()] == [told, told]


def test_paths_that_end_alike_stay_apart_as_keys():
    record = {"/data/a/train": 1, "/data/b/train": 2, "/data/test": 3}
    assert without_local_paths(record) == {"/data/a/train": 1, "/data/b/train": 2, "test": 3}


def test_card_tells_what_it_is_and_how_to_make_it_again(hub, tmp_path):
    from dag_diffusion import PoolConfig, TargetDistribution, fill_pool

    config = PoolConfig(
        images_per_class=2, num_inference_steps=2, guidance_scale=1.0, target=TargetDistribution.preset("hill"), seed=7
    )
    fill_pool(tiny_pipeline(), tmp_path / "pool", config, source="me/tiny")
    made = call("subsample", tmp_path / "pool", tmp_path / "set", "--ipc", 1, "--target", "hill")
    assert made.exit_code == 0, made.output
    push(tmp_path / "set", "me/small", license="mit", title="Clothes <b>`x`</b> of mine")
    card = hub.files("me/small")["README.md"].decode()
    head = card.split("---")[1]
    for entry in ("license: mit", "image-classification", "n<1K", "dataset-distillation", "synthetic", "class_label"):
        assert entry in head
    generate = (
        "dag-diffusion generate pool --images-per-class 2 --pipeline me/tiny --target hill --num-inference-steps 2"
    )
    assert generate + " --guidance-scale 1.0 --seed 7" in card
    assert "dag-diffusion subsample pool distilled --ipc 1 --target hill --seed 0" in card
    assert 'load_dataset("me/small", split="train")' in card
    assert "# Clothes bx/b of mine" in card
    assert {"difficulty.webp", "examples.webp"} <= set(hub.files("me/small"))


def test_pipeline_comes_back_and_its_card_shows_our_class(hub, tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "vae" / "old.bin").write_bytes(b"a pickle")
    config = tmp_path / "saved" / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_name_or_path": "/home/somebody/vae"}))
    pushed = call("push", tmp_path / "saved", "me/dit")
    assert pushed.exit_code == 0, pushed.output
    files = hub.files("me/dit", "models")
    card = files["README.md"].decode()
    assert 'DifficultyGuidedPipeline.from_pretrained("me/dit")' in card
    assert "Not by `DiTPipeline" in card
    assert "library_name: diffusers" in card
    assert {"pipeline.py", "model_index.json"} <= set(files)
    assert not any(name.endswith(".bin") or b"/home/somebody" in data for name, data in files.items())
    assert pull("me/dit", tmp_path / "back").kind == "model"
    from dag_diffusion import DifficultyGuidedPipeline

    again = DifficultyGuidedPipeline.from_pretrained(tmp_path / "back")
    assert again.class_names == NAMES
    assert again.classifier is not None
    assert not list((tmp_path / "back").rglob("*.py"))


def test_infinite_settings_of_a_scheduler_are_strict_json_and_come_back(tmp_path):
    pipeline = tiny_pipeline()
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    push(pipeline, "me/dit", dry_run=tmp_path / "sent")
    for file in (tmp_path / "sent").rglob("*.json"):
        json.loads(file.read_text(), parse_constant=pytest.fail)
    again = DPMSolverMultistepScheduler.from_pretrained(tmp_path / "sent", subfolder="scheduler")
    assert again.config.lambda_min_clipped == -math.inf


def test_pipelines_own_method_ships_guide_code_and_card_and_takes_no_token(hub):
    pipeline = tiny_pipeline()
    pipeline.push_to_hub("me/by-method", private=True)
    assert {"pipeline.py", "classifier/config.json", "README.md"} <= set(hub.files("me/by-method", "models"))
    with pytest.raises(ValueError, match="knows no token here"):
        pipeline.push_to_hub("me/by-method", token="hf_secret")  # noqa: S106 - none


READ_BACK = """
import json, sys
from datasets import load_dataset
from diffusers import DiffusionPipeline
from dag_diffusion import DifficultyGuidedPipeline

data = load_dataset("me/small", split="train")
local = load_dataset(sys.argv[1], split="train")
ours = DifficultyGuidedPipeline.from_pretrained("me/dit")
custom = DiffusionPipeline.from_pretrained("me/dit", custom_pipeline="me/dit", trust_remote_code=True)
print(json.dumps({
    "names": data.features["label"].names,
    "labels": list(data["label"]),
    "classes": list(data["class_name"]),
    "size": data[0]["image"].size,
    "local": local.features["label"].names,
    "guides": [type(p.classifier).__name__ for p in (ours, custom)],
    "same class": type(custom) is DifficultyGuidedPipeline,
}))
"""


@pytest.mark.slow
def test_datasets_and_diffusers_read_what_was_pushed(hub, chosen, tmp_path):
    push(chosen, "me/small")
    push(tiny_pipeline(), "me/dit")
    pull("me/small", tmp_path / "back")
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_DATASETS_CACHE": str(tmp_path / "home" / "datasets")}
    environment |= {"HF_HUB_CACHE": str(tmp_path / "home" / "hub"), "HF_MODULES_CACHE": str(tmp_path / "home" / "code")}
    command = [sys.executable, "-c", READ_BACK, str(tmp_path / "back")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["names"] == found["local"] == list(COUNTS)
    assert [found["names"][label] for label in found["labels"]] == found["classes"]
    assert sorted(found["labels"]) == [0, 0, 1, 1, 2, 2]
    assert found["size"] == [16, 16]
    assert found["guides"] == ["ResNetForImageClassification"] * 2
    assert found["same class"]


def test_dry_run_writes_everything_and_asks_nobody(hub, chosen, tmp_path, monkeypatch):
    push(chosen, "me/small")
    hub.requests.clear()
    monkeypatch.delenv("HF_TOKEN")
    done = call("push", chosen, "me/small", "--dry-run", tmp_path / "look first")
    assert done.exit_code == 0, done.output
    assert not hub.requests
    sent = {name: data for name, data in hub.files("me/small").items() if name != ".gitattributes"}
    assert content(tmp_path / "look first") == sent
    refused(call("push", chosen, "me/small", "--dry-run", tmp_path / "look first"), "new or empty folder")


@pytest.mark.parametrize("options", [[], ["--dry-run", "look"]])
def test_repository_without_an_owner_is_refused_since_its_card_names_it(hub, chosen, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    refused(call("push", chosen, "small", *options), "give OWNER/NAME, such as me/small")
    assert not hub.repositories


def test_dry_run_into_the_folder_of_the_images_is_refused(chosen):
    refused(call("push", chosen, "me/small", "--dry-run", chosen / "look"), "lies in it")
    assert not (chosen / "look").exists()


def test_second_push_of_the_same_changes_nothing(hub, chosen):
    push(chosen, "me/small")
    before = len(hub.repositories["datasets", "me/small"].commits)
    push(chosen, "me/small")
    assert len(hub.repositories["datasets", "me/small"].commits) == before


def test_push_of_another_set_leaves_no_image_of_the_first(hub, chosen, pool, tmp_path):
    push(chosen, "me/small")
    hub.put("me/small", {"docs/sketch.png": b"mine", "LICENSE": b"mine too"})
    write_images(tmp_path / "other", {"bullet train": 1, "door": 2})
    push(tmp_path / "other", "me/small")
    files = set(hub.files("me/small"))
    assert {name for name in files if name.endswith(".png")} == {
        "0_bullet~train/00000.png", "1_door/00000.png", "1_door/00001.png", "docs/sketch.png",
    }  # fmt: skip
    assert "LICENSE" in files
    assert "soft_labels.safetensors" not in files
    assert len(read_pool(pull("me/small", tmp_path / "back").place)) == 3


def test_push_that_was_cut_off_is_seen_and_goes_on(hub, chosen, tmp_path):
    commits = []

    def second_commit(method, path):
        if "/commit/" in path:
            commits.append(path)
            return 400 if len(commits) == 2 else None
        return None

    hub.fail = second_commit
    refused(call("push", chosen, "me/small"), "400")
    hub.fail = None
    refused(call("pull", "me/small", tmp_path / "back"), "cut off")
    assert not (tmp_path / "back").exists()
    hub.requests.clear()
    assert call("push", chosen, "me/small").exit_code == 0
    assert not any(method == "PUT" for method, _ in hub.requests)  # images are not sent again
    assert len(read_pool(pull("me/small", tmp_path / "back").place)) == 6


def test_other_images_of_the_same_names_are_never_seen_beside_the_old_rows(hub, pool, tmp_path):
    push(pool, "me/small")
    Image.new("L", (16, 16)).save(pool / "test tube" / "00001.png")
    commits = len(hub.repositories["datasets", "me/small"].commits)

    def after_the_images(method, path):
        return 403 if "/commit/" in path and len(hub.repositories["datasets", "me/small"].commits) > commits else None

    hub.fail = after_the_images
    refused(call("push", pool, "me/small"), "may not write")
    hub.fail = None
    refused(call("pull", "me/small", tmp_path / "back"), "cut off")
    push(pool, "me/small")
    back = read_pool(pull("me/small", tmp_path / "back").place)
    assert sum(back.open(i).getextrema() == (0, 0) for i in range(9)) == 1


def test_pull_that_was_cut_off_goes_on(hub, chosen, tmp_path):
    push(chosen, "me/small")
    hub.fail = lambda method, path: 404 if method == "GET" and "test-tube" in path else None
    assert call("pull", "me/small", tmp_path / "back").exit_code == 2
    assert not (tmp_path / "back").exists()
    hub.fail = None
    hub.requests.clear()
    assert call("pull", "me/small", tmp_path / "back").exit_code == 0
    fetched = [path for method, path in hub.requests if method == "GET" and "resolve" in path and ".png" in path]
    assert 0 < len(fetched) < 6
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".back")} == set()


def test_card_that_was_edited_on_the_hub_is_kept(hub, chosen, tmp_path, caplog):
    push(chosen, "me/small")
    card = hub.files("me/small")["README.md"].decode()
    hub.put("me/small", {"README.md": card.replace("## Limits", "## What I think of it").encode()})
    write_images(tmp_path / "other", {"door": 2, "tree": 1})
    assert call("push", tmp_path / "other", "me/small").exit_code == 0
    assert "replace_card=True" in caplog.text
    kept = hub.files("me/small")["README.md"].decode()
    assert "## What I think of it" in kept
    assert "tree" in kept.split("---")[1]  # the names of the classes are those of the images
    assert call("push", tmp_path / "other", "me/small", "--replace-card").exit_code == 0
    assert is_as_written(hub.files("me/small")["README.md"].decode())


def test_card_or_rows_that_somebody_broke_on_the_hub_refuse_a_push_that_has_changed_nothing_there(hub, pool):
    push(pool, "me/small")
    whole = hub.files("me/small")
    Image.new("L", (8, 8), 200).save(pool / "bullet train" / "00000.png")
    edited = whole["README.md"].decode().replace("license:", "licence:")
    broken = {
        "UTF-8": {"README.md": b"---\n{}\n---\nM\xfcll"},
        "YAML": {"README.md": b"---\nconfigs: [\n---\nmine"},
        "must be one of": {"README.md": f"---\nlicense: unheard-of\n{edited.removeprefix('---')}".encode()},
        "line 1 of metadata.jsonl": {"metadata.jsonl": b"not a row\n"},
    }
    for words, files in broken.items():
        hub.put("me/small", {**whole, **files})
        refused(call("push", pool, "me/small"), words)
        assert hub.files("me/small") == {**whole, **files}
    hub.put("me/small", whole)
    push(pool, "me/small")
    changed = [name for name, data in hub.files("me/small").items() if data != whole[name]]
    assert sorted(PurePosixPath(name).suffix for name in changed if name not in FIGURES) == [".md", ".png"]


def test_image_that_is_lost_while_it_is_sent_is_no_trouble_of_the_network(hub, chosen):
    def lose(method, path):
        if path.endswith("/info/lfs/objects/batch"):
            for image in chosen.rglob("*.png"):
                image.unlink(missing_ok=True)

    hub.uploads.clear()  # of earlier tests, which would not be sent again
    hub.fail = lose
    with pytest.raises(FileNotFoundError, match=r"\.png"):
        push(chosen, "me/small")


def test_pattern_is_pushed_and_what_is_no_place_is_refused_in_a_sentence(hub, tmp_path):
    features = Features(image=ImageFeature(), label=ClassLabel(names=["cat", "dog"]))
    for number in range(2):
        images = [Image.new("L", (8, 8), 100 * number + 20 * i) for i in range(2)]
        table = Dataset.from_dict({"image": images, "label": [0, 1]}, features)
        table.to_parquet(tmp_path / f"train-{number}.parquet")
    push(str(tmp_path / "train-*.parquet"), "me/tables")
    assert len(read_pool(pull("me/tables", tmp_path / "back").place)) == 4
    for source in (table, read_pool(tmp_path / "back")):
        with pytest.raises(ValueError, match=f"a {type(source).__name__} is no folder or file .* save it first"):
            push(source, "me/tables")


def test_revision_of_the_model_is_found_beside_a_dataset_of_the_same_name(hub, pool, tmp_path):
    push(pool, "me/cats")
    tiny_pipeline().save_pretrained(tmp_path / "dit")
    push(tmp_path / "dit", "me/cats")
    models = hub.repositories["models", "me/cats"]
    models.refs["v1"] = models.refs["main"]
    assert pull("me/cats", tmp_path / "back", revision="v1").kind == "model"
    refused(call("pull", "me/cats", tmp_path / "other", "--revision", "v2"), "no revision 'v2'")
    refused(call("pull", "me/cats", tmp_path / "other"), "both a dataset and a model")


def test_licence_that_the_hub_does_not_know_is_refused_before_anything_is_sent(hub, pool):
    refused(call("push", pool, "me/small", "--license", "unheard-of"), "must be one of", "licence")
    assert not hub.repositories


def test_card_that_somebody_wrote_beside_the_images_is_used(hub, pool, caplog):
    (pool / "README.md").write_text("# My images\n\nLook at them.\n")
    push(pool, "me/small", license="mit", title="Rare birds")
    assert "keeps its heading" in caplog.text
    head = hub.files("me/small")["README.md"].decode().split("---")[1]
    assert "license: mit" in head
    assert "pretty_name: Rare birds" in head
    card = hub.files("me/small")["README.md"].decode()
    assert "Look at them." in card
    assert "class_label" in card


def test_change_by_somebody_else_meanwhile_is_not_overwritten(hub, chosen):
    push(chosen, "me/small")
    row = chosen / "metadata.jsonl"
    row.write_bytes(row.read_bytes().replace(b'"rank": 0', b'"rank": 9'))

    asked = []

    def edit(method, path):
        asked.append(path)
        if sum("/preupload/" in one for one in asked) == 2:  # when the rows are about to be committed
            hub.fail = None
            hub.put("me/small", {"README.md": b"# edited this very moment\n"})

    hub.fail = edit
    refused(call("push", chosen, "me/small"), "meanwhile", "again")
    assert hub.files("me/small")["README.md"] == b"# edited this very moment\n"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("stranger", ["have no row", "stray.png"]),
        ("missing", ["does not exist"]),
        ("torn", ["cannot be read", "00001.png"]),
        ("unfinished", ["not finished", "--resume"]),
        ("empty", ["no images"]),
        ("outside", ["leads out"]),
        ("mixed", ["mixes kinds"]),
    ],
)
def test_incomplete_pool_is_refused_before_anything_is_sent(hub, pool, damage, words):
    rows = [json.loads(line) for line in (pool / "metadata.jsonl").read_text().splitlines()]
    image = pool / "test tube" / "00001.png"
    if damage == "stranger":
        Image.new("L", (8, 8)).save(pool / "test tube" / "stray.png")
    elif damage == "missing":
        image.unlink()
    elif damage == "torn":
        image.write_bytes(image.read_bytes()[:100])
    elif damage == "unfinished":
        (pool / "metadata.jsonl").unlink()
    elif damage == "empty":
        rows = []
    elif damage == "outside":
        rows[0]["file_name"] = "../../x.png"
    else:
        rows[0]["seed"] = "seven"
    if damage in ("empty", "outside", "mixed"):
        (pool / "metadata.jsonl").write_bytes(json_lines(rows))
    refused(call("push", pool, "me/small"), *words)
    assert not hub.requests


@pytest.mark.parametrize("name", ["no such folder", "probe"])
def test_what_is_no_pool_is_refused(hub, tmp_path, name):
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "config.json").write_text("{}")
    refused(call("push", tmp_path / name, "me/small"), "pipeline")


@pytest.mark.parametrize("repo", ["a b/c", "me/x/y", "../up", "me/", "x--y"])
def test_name_that_can_be_none_is_refused(hub, pool, tmp_path, repo):
    refused(call("push", pool, repo), "OWNER/NAME")
    refused(call("pull", repo, tmp_path / "back"), "OWNER/NAME")
    assert not hub.requests


def test_repository_of_something_else_is_left_alone(hub, pool):
    hub.put("me/novels", {"data/train.parquet": b"years of work"})
    refused(call("push", pool, "me/novels"), "something else", "train.parquet")
    assert hub.files("me/novels") == {"data/train.parquet": b"years of work"}


@pytest.mark.parametrize("code", [None, b"from somewhere import CommunityPipeline"])
def test_pipeline_of_somebody_else_is_left_alone(hub, tmp_path, code):
    tiny_pipeline().save_pretrained(tmp_path / "dit")
    theirs = {"model_index.json": b"{}", "unet/model.safetensors": b"months"} | (
        {} if code is None else {"pipeline.py": code}
    )
    hub.put("me/unet", theirs, "models")
    refused(call("push", tmp_path / "dit", "me/unet"), "something else", "unet/model.safetensors")
    assert hub.files("me/unet", "models") == theirs


def test_pull_over_a_pipeline_deletes_nothing_else(hub, tmp_path, monkeypatch):
    tiny_pipeline().save_pretrained(tmp_path / "dit")
    push(tmp_path / "dit", "me/dit")
    pull("me/dit", tmp_path / "dit", overwrite=True)
    (tmp_path / "dit" / "thesis.tex").write_text("years")
    refused(call("pull", "me/dit", tmp_path / "dit", "--overwrite"), "thesis.tex", "would be deleted")
    assert (tmp_path / "dit" / "thesis.tex").read_text() == "years"
    (tmp_path / "dit" / "thesis.tex").unlink()
    monkeypatch.chdir(tmp_path / "dit" / "vae")
    refused(call("pull", "me/dit", tmp_path / "dit", "--overwrite"), "current folder")


def test_private_is_private_and_never_public_by_mistake(hub, pool, tmp_path, monkeypatch):
    assert call("push", pool, "me/small", "--private").exit_code == 0
    assert hub.repositories["datasets", "me/small"].private
    hub.put("me/open", {".gitattributes": b""})
    refused(call("push", pool, "me/open", "--private"), "public already")
    monkeypatch.delenv("HF_TOKEN")
    refused(call("pull", "me/small", tmp_path / "back"), "no me/small", "hf auth login")


@pytest.mark.parametrize(
    ("token", "words"), [("", ["hf auth login"]), (hub_server.READ_ONLY, ["may not write", "token"])]
)
def test_without_the_right_token_the_way_is_told(hub, pool, monkeypatch, token, words):
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
    monkeypatch.setenv("HF_TOKEN", token)
    result = call("push", pool, "me/small")
    refused(result, *words)
    assert not token or token not in result.output


def test_without_network_the_way_is_told(hub, pool, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(call("push", pool, "me/small"), "HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused(call("pull", "me/small", tmp_path / "back"), "cannot be reached", "again")


def test_pull_asks_for_what_there_is(hub, pool, tmp_path):
    refused(call("pull", "me/nothing", tmp_path / "back"), "no me/nothing")
    push(pool, "me/small")
    refused(call("pull", "me/small", tmp_path / "back", "--revision", "v9"), "no revision 'v9'")
    hub.put("me/small", {"model_index.json": b"{}"}, "models")
    refused(call("pull", "me/small", tmp_path / "back"), "both", "--repo-type")
    refused(call("pull", "me/small", tmp_path / "back", "--repo-type", "space"), "dataset or model")
    assert pull("me/small", tmp_path / "back", repo_type="dataset").files == len(hub.files("me/small")) - 1


def test_earlier_revision_comes_back(hub, chosen, pool, tmp_path):
    push(chosen, "me/small")
    first = hub.repositories["datasets", "me/small"].refs["main"]
    push(pool, "me/small")
    assert len(read_pool(pull("me/small", tmp_path / "new").place)) == 9
    assert len(read_pool(pull("me/small", tmp_path / "old", revision=first).place)) == 6


def test_folder_that_holds_something_is_replaced_only_if_asked(hub, chosen, pool, tmp_path):
    push(chosen, "me/small")
    refused(call("pull", "me/small", pool), "--overwrite")
    assert len(read_pool(pool)) == 9
    assert call("pull", "me/small", pool, "--overwrite").exit_code == 0
    assert len(read_pool(pool)) == 6
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to her.txt").write_text("...")
    refused(call("pull", "me/small", tmp_path / "letters", "--overwrite"), "no pool")
    assert (tmp_path / "letters" / "to her.txt").exists()


EVIL = {
    "row that leads out": (
        {"metadata.jsonl": b'{"file_name": "../../x.png", "label": 0, "class_name": "a"}\n'},
        "leads out",
    ),
    "row without a file": (
        {"metadata.jsonl": b'{"file_name": "a/9.png", "label": 0, "class_name": "a"}\n'},
        "not exist",
    ),
    "file that leads out": ({"../../evil.png": b"x"}, "leads out"),
    "rows that are none": ({"metadata.jsonl": b"[" * 100_000}, "line 1"),
}


@pytest.mark.parametrize(("planted", "word"), EVIL.values(), ids=EVIL)
def test_evil_repository_is_refused_and_leaves_nothing(hub, pool, tmp_path, planted, word):
    push(pool, "me/evil")
    hub.put("me/evil", planted)
    before = content(tmp_path)
    refused(call("pull", "me/evil", tmp_path / "inner" / "back"), word)
    after = {name: data for name, data in content(tmp_path).items() if not name.startswith("cache/")}
    assert after == {name: data for name, data in before.items() if not name.startswith("cache/")}


def test_pickles_and_code_are_not_downloaded_and_a_word_says_why(hub, pool, tmp_path, caplog):
    push(tiny_pipeline(), "me/dit")
    hub.put(
        "me/dit", {"vae/diffusion_pytorch_model.bin": b"evil", "unet.ckpt": b"evil", "vae/x.pkl": b"evil"}, "models"
    )
    hub.requests.clear()
    result = call("pull", "me/dit", tmp_path / "back")
    assert result.exit_code == 0, result.output
    assert "vae/diffusion_pytorch_model.bin, unet.ckpt, vae/x.pkl (pickles" in caplog.text
    assert not [
        name for name in content(tmp_path / "back") if not name.endswith((".json", ".safetensors", "README.md"))
    ]
    assert not [path for _, path in hub.requests if path.endswith((".bin", ".ckpt", ".pkl", ".py"))]
    push(pool, "me/small")
    hub.put("me/small", {"bullet train/model.pt": b"evil", "loader.py": b"evil", "images.zip": b"evil"})
    pull("me/small", tmp_path / "set")
    assert not [name for name in content(tmp_path / "set") if name.endswith((".pt", ".py", ".zip"))]


def test_text_to_image_pipeline_comes_with_its_tokenizers_and_what_is_left_out_is_told(hub, tmp_path, caplog):
    names = ["unet", "tokenizer", "tokenizer_2", "tokenizer_3", "text_encoder"]
    parts = {
        "model_index.json": json.dumps({name: ["diffusers", "Model"] for name in names}).encode(),
        "README.md": b"# Cats", "unet/model.safetensors": b"w",
        "tokenizer/vocab.json": b"{}", "tokenizer/merges.txt": b"c a", "tokenizer_2/spiece.model": b"cat",
        "tokenizer_3/chat_template.jinja": b"{{ }}", "text_encoder/bert-vocab.txt": b"cat",
    }  # fmt: skip
    page = {"cats.jpg": b"a picture", "LICENSE.txt": b"MIT", ".gitattributes": b""}
    left = {
        "v1-5-pruned.safetensors": b"all parts", "unet/model.onnx": b"weights", "merges.txt": b"of no part",
        "vae_1_0/model.safetensors": b"of no pipeline", "vae_1_0/config.json": b"{}", "config.json": b"{}",
    }  # fmt: skip
    hub.put("me/cats", parts | page | left, "models")
    pull("me/cats", tmp_path / "back")
    assert content(tmp_path / "back") == parts
    assert "v1-5-pruned.safetensors, vae_1_0/model.safetensors (weights outside of the parts" in caplog.text
    assert "config.json, merges.txt, unet/model.onnx, vae_1_0/config.json (neither" in caplog.text
    assert not any(name in caplog.text for name in page)
    assert not [path for method, path in hub.requests if method == "GET" and "resolve" in path and "vae_1_0" in path]
    pull("me/cats", tmp_path / "back", overwrite=True)
    assert content(tmp_path / "back") == parts


@pytest.mark.parametrize("whole", [True, False])
def test_autoencoder_is_loaded_by_the_id_of_its_pipeline_too(hub, tmp_path, whole):
    pipeline = tiny_pipeline()
    (pipeline if whole else pipeline.vae).save_pretrained(tmp_path / "saved")
    hub.put("me/some", content(tmp_path / "saved"), "models")
    weights = load_vae("me/some").state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in pipeline.vae.state_dict().items())


def test_weights_that_are_only_pickles_are_refused(hub, tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "saved")
    weights = next((tmp_path / "saved" / "vae").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    refused(call("push", tmp_path / "saved", "me/dit"), "pickle", "vae")
    files = {name: data for name, data in content(tmp_path / "saved").items()}
    hub.put("me/dit", files, "models")
    refused(call("pull", "me/dit", tmp_path / "back"), "pickle", "vae")


def test_plain_diffusers_pipeline_is_refused_with_the_way(hub, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "model_index.json").write_text('{"_class_name": "DiTPipeline"}')
    refused(call("push", tmp_path / "saved", "me/dit"), "DifficultyGuidedPipeline.from_pretrained")


def test_images_of_others_come_as_a_pool(hub, tmp_path):
    write_images(tmp_path / "theirs", {"cat": 2, "dog": 1}, metadata=False)
    hub.put("they/pets", content(tmp_path / "theirs"))
    place = pull("they/pets", tmp_path / "pets").place
    assert read_pool(place).class_names == {0: "cat", 1: "dog"}
    assert call("pull", "they/pets", tmp_path / "pets", "--overwrite").exit_code == 0
    hub.put("they/table", {"data/train.parquet": b"..."})
    refused(call("pull", "they/table", tmp_path / "table"), "train.parquet", "save_to_disk")


def test_parquet_and_listed_sets_are_shared_with_their_images(hub, pool, tmp_path):
    images = [{"bytes": (pool / row["file_name"]).read_bytes()} for row in read_pool(pool).rows]
    names = ClassLabel(names=list(COUNTS))
    data = Dataset.from_dict(
        {"image": images, "label": [0] * 3 + [1] * 3 + [2] * 3}, Features(image=ImageFeature(), label=names)
    )
    data.to_parquet(tmp_path / "images.parquet")
    push(tmp_path / "images.parquet", "me/table")
    assert len(read_pool(pull("me/table", tmp_path / "table").place)) == 9
    write_distilled_set(read_pool(pool), [0, 4, 8], tmp_path / "list", columns={}, provenance={}, files="list")
    push(tmp_path / "list", "me/list")
    back = read_pool(pull("me/list", tmp_path / "back").place)
    assert [row["label"] for row in back.rows] == [0, 1, 2]
    assert back.listing is None


def test_code_of_the_page_runs(tmp_path, monkeypatch, datasets_cache):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "share.md").read_text("utf-8")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(block, names)  # noqa: S102 - our own page
    assert names["data"].features["label"].names == list(embedded.CLASS_NAMES)
    assert names["again"].probe is not None
    assert (tmp_path / "look-first" / "difficulty.webp").exists()


@pytest.mark.parametrize("change", ["rows", "images"])
def test_datasets_shows_no_image_of_an_earlier_set_of_that_name(tmp_path, monkeypatch, datasets_cache, change):
    for grey in (10, 200):
        folder = tmp_path / f"at {grey}"
        name = f"{grey}.png" if change == "rows" else "0.png"
        (folder / "set" / "Bag").mkdir(parents=True)
        Image.new("L", (8, 8), grey).save(folder / "set" / "Bag" / name)
        push(folder / "set", "me/set", dry_run=folder / "shared")
        monkeypatch.chdir(folder)
        assert datasets.load_dataset("shared", split="train")[0]["image"].getpixel((0, 0)) == grey


def test_two_classes_of_one_name_and_missing_labels_are_told_apart(hub, tmp_path):
    rows = []
    for label, folder in ((1, "a"), (4, "b")):
        (tmp_path / "birds" / folder).mkdir(parents=True)
        Image.new("L", (8, 8), label).save(tmp_path / "birds" / folder / "0.png")
        rows.append({"file_name": f"{folder}/0.png", "label": label, "class_name": "crane"})
    (tmp_path / "birds" / "metadata.jsonl").write_bytes(json_lines(rows))
    push(tmp_path / "birds", "me/birds")
    head = hub.files("me/birds")["README.md"].decode().split("---")[1]
    assert "'1': crane" in head
    assert "'4': crane_4" in head
    assert "'2': LABEL_2" in head
    assert Path(pull("me/birds", tmp_path / "back").place).is_dir()


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, format="PNG")
    return buffer.getvalue()


SPLITS = {"train/cat/0.png": b"", "train/dog/0.png": b"", "test/cat/0.png": b""}


@pytest.mark.parametrize(
    ("files", "outer"),
    [
        (SPLITS, "test, train"),
        ({f"data/{name}": data for name, data in SPLITS.items()}, "data"),
        ({"Training/cat/0.png": b"", "val_set/cat/0.png": b""}, "Training, val_set"),
        ({"images/cat/0.png": b"", "images/dog/0.png": b""}, "images"),
    ],
)
def test_folders_around_the_classes_are_taken_for_no_classes(hub, tmp_path, files, outer):
    hub.put("me/splits", dict.fromkeys(files, png()))
    with pytest.raises(ValueError, match=rf"classes in {outer}, which are no classes.*load_dataset\('me/splits'"):
        pull("me/splits", tmp_path / "back")
    for name in files:
        (tmp_path / "local" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "local" / name).write_bytes(png())
    with pytest.raises(ValueError, match=r"give .*local"):
        push(tmp_path / "local", "me/x", dry_run=tmp_path / "dry")
    assert {path.name for path in tmp_path.iterdir()} <= {"local"}


def test_class_called_like_a_split_stays_a_class_and_a_word_says_who_misreads_it(hub, tmp_path, caplog):
    hub.put("me/vehicles", dict.fromkeys(["train/0.png", "bicycle/0.png", "bicycle/1.png"], png()))
    back = read_pool(pull("me/vehicles", tmp_path / "back").place)
    assert set(back.class_names.values()) == {"bicycle", "train"}
    assert "`datasets` takes train/0.png for a split" in caplog.text


def test_pictures_of_the_page_are_no_class(hub, tmp_path, caplog):
    hub.put(
        "me/pets", dict.fromkeys(["cat/0.png", "dog/0.png", "assets/banner.png", "docs/more/1.png", "logo.png"], png())
    )
    back = read_pool(pull("me/pets", tmp_path / "back").place)
    assert set(back.class_names.values()) == {"cat", "dog"}
    assert "assets, docs, logo.png" in caplog.text
    assert not (tmp_path / "back/logo.png").exists()
    assert not (tmp_path / "back/assets").exists()
    write_images(tmp_path / "local", {"cat": 1, "dog": 1, "assets": 1}, metadata=False)
    (tmp_path / "local/README.md").write_text("a page")
    sent = read_pool(push(tmp_path / "local", "me/x", dry_run=tmp_path / "dry").place)
    assert set(sent.class_names.values()) == {"cat", "dog"}


def test_the_only_split_is_the_set(hub, tmp_path):
    hub.put("me/half", dict.fromkeys(["train/cat/0.png", "train/dog/0.png"], png()))
    back = read_pool(pull("me/half", tmp_path / "back").place)
    assert set(back.class_names.values()) == {"cat", "dog"}


def test_rows_of_a_split_are_not_passed_over(hub, tmp_path):
    hub.put("me/rows", {"train/0.png": png(), "train/metadata.jsonl": b"{}"})
    with pytest.raises(ValueError, match=r"such as train/metadata\.jsonl"):
        pull("me/rows", tmp_path / "back")


def test_card_of_a_set_that_was_pulled_follows_new_scores(hub, chosen, tmp_path):
    push(chosen, "me/small")
    back = read_pool(pull("me/small", tmp_path / "back").place)
    rows = [row | {"difficulty": 0.125} for row in back.rows]
    (back.path / "metadata.jsonl").write_bytes(json_lines(rows))
    renew_card(back.path, rows, back.provenance)
    assert is_as_written((back.path / "README.md").read_text("utf-8"))
    data = datasets.load_dataset(str(back.path), split="train", cache_dir=str(tmp_path / "cache"))
    assert set(data["difficulty"]) == {0.125}


def test_figures_that_an_earlier_version_sent_as_png_stay_on_the_hub(hub, chosen, tmp_path, caplog):
    push(chosen, "me/small")
    hub.put("me/small", {"difficulty.png": png(), "examples.png": png()})
    back = pull("me/small", tmp_path / "back").place
    assert not set(os.listdir(back)) & {"difficulty.png", "examples.png"}
    assert "not read alike" not in caplog.text
    push(chosen, "me/small")
    assert not set(hub.files("me/small")) & {"difficulty.png", "examples.png"}
