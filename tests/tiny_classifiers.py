"""A training of a classifier, and what may happen to it in a process of its own."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from disks import may_mount
from killed import count_events
from warm import join_others

from dag_diffusion import ClassifierConfig, read_pool, train_classifier
from dag_diffusion.training.classifiers import backbones

CONFIG = ClassifierConfig(steps=3, batch_size=8, precision="float32")


def train_until_killed(images: Path, output: Path, kill_at: int) -> None:
    count_events(output.parent, kill_at)
    train_classifier(read_pool(images), output, CONFIG)


def train_with_others(output: Path, rank: int, processes: int, port: int, images: Path) -> None:
    join_others(rank, processes, port)
    train_classifier(read_pool(images), output, CONFIG)


def train_where_the_hub_answers_the_others(output: Path, rank: int, processes: int, port: int, images: Path) -> None:
    join_others(rank, processes, port)
    backbones.hub_answers = lambda: rank > 0  # type: ignore[assignment]
    train_classifier(read_pool(images), output, replace(CONFIG, model="test_vit"))


def train_on_full_disk(images: Path, result: Path) -> None:
    """Train where nothing fits, and again where there is room; ``result`` gets what was said, what was left and all."""
    may_mount()
    disk = result / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=True)
    try:
        train_classifier(read_pool(images), disk / "guide", CONFIG)
    except OSError as error:
        (result / "told").write_text(f"{error.errno} {sorted(path.name for path in disk.iterdir())}")
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    train_classifier(read_pool(images), disk / "guide", CONFIG)
    shutil.copytree(disk / "guide", result / "guide")
