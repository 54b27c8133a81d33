#!/usr/bin/env bash
# Library: datasets 5.2.0, pyarrow 26.0.1, Pillow 12.3.0
# Task: Make the images of a folder smaller in map(), by image.thumbnail((32, 32)), and save the set.
# One would guess: map() stores the image that the function returns, however it was changed.
# What happens: An image that was opened from a file still names that file, and of such an image the path is
#   stored instead of the pixels: thumbnail(), paste() and ImageDraw change the object in place, and what they
#   did is lost. resize() and convert() to another mode return a new image, which is stored.
# Instead: Change a copy: image = image.copy().
# Output seen:
#   in the folder:        (100, 80)
#   thumbnail:            (100, 80)
#   thumbnail, saved:     (100, 80)
#   thumbnail of a copy:  (32, 26)
#   resize:               (32, 32)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1 Pillow==12.3.0
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/cache"
venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
Path("images/coat").mkdir(parents=True)
Image.new("RGB", (100, 80), "red").save("images/coat/0.png")

def thumbnail(row):
    row["image"].thumbnail((32, 32))
    return row

def thumbnail_of_copy(row):
    return thumbnail({"image": row["image"].copy()})

def resize(row):
    return {"image": row["image"].resize((32, 32))}

rows = datasets.load_dataset("imagefolder", data_dir="images", split="train")
rows.map(thumbnail).save_to_disk("saved")
sizes = {
    "in the folder": rows[0]["image"].size,
    "thumbnail": rows.map(thumbnail)[0]["image"].size,
    "thumbnail, saved": datasets.load_from_disk("saved")[0]["image"].size,
    "thumbnail of a copy": rows.map(thumbnail_of_copy)[0]["image"].size,
    "resize": rows.map(resize)[0]["image"].size,
}
for name, size in sizes.items():
    print(f"{name + ':':21}", size)
if list(sizes.values()) != [(100, 80)] * 3 + [(32, 26), (32, 32)]:
    sys.exit("the behaviour has changed")
PYTHON
