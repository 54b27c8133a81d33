#!/usr/bin/env bash
# Library: datasets 5.2.0, Pillow 12.3.0
# Task: Load a folder of class folders, CIFAR-100's for one, by load_dataset("imagefolder", data_dir=folder).
# One would guess: Each folder is a class, as for torchvision's ImageFolder and for timm.
# What happens: Folders and *files* whose names hold train, test, val, dev or eval as a word make splits, and once
#   one does, everything else is left out. CIFAR-100 has a class "train": its images are the whole set, and as one
#   class is left there is no label column at all. One file test_1.png among the others is the whole set too.
#   Nothing is raised or logged.
# Instead: Pass data_files=folder + "/**" with data_dir left out, and check the number of images.
# Output seen:
#   tractor, trout:                 4 of 4 images, split train, labels ['tractor', 'trout']
#   tractor, train, trout:          2 of 6 images, split train, labels None
#   tractor, trout, one test_1.png: 1 of 5 images, split test, labels None
#   tractor, train, trout by "/**": 6 of 6 images, split train, labels ['tractor', 'train', 'trout']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 Pillow==12.3.0
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/cache" HF_DATASETS_DISABLE_PROGRESS_BARS=1
venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

from datasets import load_dataset
from PIL import Image

def folder_of(name, files):
    for file in files:
        place = Path(name, file)
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(place)
    return name

def loaded(title, files, **options):
    (split, data), = load_dataset("imagefolder", **options).items()
    label = data.features.get("label")
    names = label and label.names
    print(f"{title + ':':31} {len(data)} of {len(files)} images, split {split}, labels {names}")
    return len(data), split, names

plain = [f"{kind}/{index}.png" for kind in ("tractor", "trout") for index in (1, 2)]
more, odd = [*plain, "train/1.png", "train/2.png"], [*plain, "trout/test_1.png"]
seen = [
    loaded("tractor, trout", plain, data_dir=folder_of("plain", plain)),
    loaded("tractor, train, trout", more, data_dir=folder_of("cifar", more)),
    loaded("tractor, trout, one test_1.png", odd, data_dir=folder_of("odd", odd)),
    loaded('tractor, train, trout by "/**"', more, data_files="cifar/**"),
]
names = ["tractor", "train", "trout"]
expected = [(4, "train", ["tractor", "trout"]), (2, "train", None), (1, "test", None), (6, "train", names)]
if seen != expected:
    sys.exit("the behaviour has changed")
PYTHON
