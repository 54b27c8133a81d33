"""Clip art again, with a pool for each seed: what a set teaches differs more from draw to draw than from rule to rule.

    dag-diffusion distill /usr/share/openclipart/png ... --output runs/clipart    # as docs/results/clipart.md has it
    python benchmarks/clipart_draws.py images FOLDER --data runs/clipart-work    # links to its images and models
    dag-diffusion score FOLDER/train --classifier FOLDER/guide --output FOLDER/guide/difficulties.jsonl
    python benchmarks/clipart_draws.py pools FOLDER --seeds 12 --only "unguided, auto 1.5" "drawn to modes, auto 1.5"
    python benchmarks/clipart_draws.py study FOLDER --seeds 12 --sets ...

``distill`` draws one pool and keeps one set of it.  Here every seed has 50 images a class to itself, as many as
``distill`` chooses from, so that an interval is over sets as well as over trainings.
"""

import argparse
import shutil
from pathlib import Path

from downstream_folders import AUTO, Subject, main

from dag_diffusion import ClassifierConfig, GeneratorConfig
from dag_diffusion.own_images.distilling import IMAGES, RUN
from dag_diffusion.own_images.models import GENERATOR, GUIDE, WEAK

CLIPART = Subject(
    name="clipart-draws",
    channels=3,
    guide=ClassifierConfig(),  # they are trained already
    generator=GeneratorConfig(),
    baseline=f"random | unguided, {AUTO}",
)


def images(folder: Path, options: argparse.Namespace) -> None:
    """What ``distill`` has made, called as the other steps expect it."""
    folder.mkdir(parents=True)
    work = options.data.resolve()
    places = {
        "train": work / IMAGES / "train",
        "test": work / IMAGES / "test",
        "pipeline": work / GENERATOR,
        "weak": work / WEAK,
        "modes.safetensors": work / RUN / "modes.safetensors",
    }
    for name, place in places.items():
        (folder / name).symlink_to(place)
    shutil.copytree(work / GUIDE, folder / "guide")  # where its difficulties of all training images will lie


if __name__ == "__main__":
    main(CLIPART, images, __doc__)
