#!/usr/bin/env bash
# Library: timm 1.0.31, Pillow 12.3.0
# Task: Evaluate on the test images of a folder with train/ and test/, by
#   create_dataset("", root=folder, split="validation"), the split that timm's train.py and validate.py ask for.
# One would guess: test/ is taken, as val/ is for "validation", or an error says that the split is missing.
# What happens: A split without a folder is the whole root. train/cat and test/cat are both class "cat", and so the
#   images that the classifier was trained on are evaluated among the others. "validation", "valid", "val", "eval"
#   and "evaluation" stand for each other, "test" for itself alone. Nothing is raised or logged.
# Instead: Name the folder itself, root=folder/"test", or compare len(dataset) with what is expected.
# Output seen:
#   folders train (4 images) and test (2 images)
#   split "train":      4 images, of train
#   split "test":       2 images, of test
#   split "validation": 6 images, of test and train, in 2 classes
#   folders train (4 images) and val (2 images)
#   split "train":      4 images, of train
#   split "test":       6 images, of train and val, in 2 classes
#   split "validation": 2 images, of val
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet timm==1.0.31 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 Pillow==12.3.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

from PIL import Image
from timm.data import create_dataset

def splits(root, held_out):
    for name, count in (("train", 2), (held_out, 1)):
        for place in (Path(root, name, kind) for kind in ("cat", "dog")):
            place.mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (8, 8)).save(place / f"{index}.png")
    print(f"folders train (4 images) and {held_out} (2 images)")
    seen = {}
    for split in ("train", "test", "validation"):
        dataset = create_dataset("", root=root, split=split)
        folders = sorted({Path(file).parts[-3] for file in dataset.filenames(absolute=True)})
        classes = f", in {len(dataset.reader.class_to_idx)} classes" if len(folders) > 1 else ""
        quoted = f'"{split}":'
        print(f"split {quoted:13} {len(dataset)} images, of {' and '.join(folders)}{classes}")
        seen[split] = len(dataset)
    return seen

first, second = splits("first", "test"), splits("second", "val")
expected = [{"train": 4, "test": 2, "validation": 6}, {"train": 4, "test": 6, "validation": 2}]
if [first, second] != expected:
    sys.exit("the behaviour has changed")
PYTHON
