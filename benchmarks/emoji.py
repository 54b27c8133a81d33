"""The downstream comparison on a third data set, in colour: emoji of two vendors, 32 px, by their Unicode category.

    npm install --prefix DATA emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    python benchmarks/emoji.py images FOLDER --data DATA/node_modules    # FOLDER/train and FOLDER/test
    python benchmarks/emoji.py train FOLDER    # a guide, two for difficulties, a generator and a weak denoiser
    python benchmarks/emoji.py pools FOLDER --seeds 10    # modes, and pools with 50 images a class for each seed
    python benchmarks/emoji.py study FOLDER --ipc 10 --seeds 10
    python benchmarks/emoji.py picture FOLDER    # docs/images/emoji.png

After ``images`` the two folders are all that another machine needs.  Both drawings of an emoji are on the same side of
the split, as are its man, woman and person; drawings that stand for several emoji are left out but for one, or for all
where these are of several categories, and so are skin tones.

The pictures are Google's Noto Emoji 2.048 (Apache License 2.0) and Twemoji 16.0.1 (Creative Commons Attribution 4.0;
the fork of jdecked), as the packages of Cal Henderson's emoji-data ship them (its own licence is MIT).
"""

import argparse
import json
import shutil
from collections import defaultdict
from pathlib import Path

from downstream_folders import Subject, main

from dag_diffusion import ClassifierConfig, GeneratorConfig
from dag_diffusion.data import prepare, split_pool
from dag_diffusion.data.pools import Pool

VENDORS = ("google", "twitter")
PARTS = "Component"  # skin tones and the like, which are no category
VARIANTS = {"1F468", "1F469", "1F9D1", "2640", "2642", "27A1", "200D", "FE0F"}  # man, woman, facing right, joiners, ...
TESTED = 0.2  # of the kinds of each category
EMOJI = Subject(
    name="emoji",
    channels=3,
    guide=ClassifierConfig(size=32, steps=800, folds=2),
    generator=GeneratorConfig(size=32, channels=3, flip=True),
)


def images(folder: Path, options: argparse.Namespace) -> None:
    """Copy the drawings into a folder for each category, named by kind, and divide them by kind."""
    for emoji in json.loads((options.data / f"emoji-datasource-{VENDORS[0]}" / "emoji.json").read_text("utf-8")):
        if emoji["category"] == PARTS:
            continue
        kind = "-".join(code for code in emoji["unified"].split("-") if code not in VARIANTS)
        for vendor in VENDORS:
            drawing = options.data / f"emoji-datasource-{vendor}" / "img" / vendor / "64" / emoji["image"]
            place = folder / "all" / emoji["category"] / f"{kind}.{emoji['unified']}.{vendor}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(drawing, place)
    pool = prepare(folder / "all", cache=folder).pool
    for part, divided in zip(("train", "test"), split_pool(pool, TESTED, twins=same_kind(pool)), strict=True):
        for row in divided.rows:
            place = folder / part / row["file_name"]
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pool.path / row["file_name"], place)
        print(f"{part}: {len(divided)} images", flush=True)


def same_kind(pool: Pool) -> list[list[int]]:
    """Rows of each kind: images of one class whose files are called alike up to the first dot."""
    kinds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, row in enumerate(pool.rows):
        kinds[row["class_name"], Path(row["file_name"]).name.partition(".")[0]].append(index)
    return list(kinds.values())


if __name__ == "__main__":
    main(EMOJI, images, __doc__)
