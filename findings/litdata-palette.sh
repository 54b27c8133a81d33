#!/usr/bin/env bash
# Library: litdata 0.2.76, Pillow 12.3.0
# Task: Pack a folder of PNG or GIF images for streaming, by litdata.optimize with Image.open in the function.
# One would guess: An image comes back with the colours of its file.
# What happens: Of an image with a palette the places are stored and the palette is not: it comes back in mode P
#   with an empty palette, red as black. Images of other modes beside it are right.
# Instead: Return Image.open(path).convert("RGB").
# Output seen:
#   mode P,   in the file (255, 0, 0), read back (0, 0, 0)
#   mode RGB, in the file (255, 0, 0), read back (255, 0, 0)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet litdata==0.2.76 torch==2.14.1 numpy==2.4.6 Pillow==12.3.0
cd "$folder"
cat > pack.py <<'PYTHON'
import sys

import litdata
from PIL import Image

def sample(path):
    return {"image": Image.open(path)}

if __name__ == "__main__":
    red = Image.new("RGB", (8, 8), "red")
    red.quantize(4).save("palette.png")
    red.save("plain.png")
    litdata.optimize(sample, ["palette.png", "plain.png"], output_dir="packed", num_workers=1, chunk_bytes="1MB")
    files = [Image.open(name) for name in ("palette.png", "plain.png")]
    back = [row["image"] for row in litdata.StreamingDataset("packed")]
    colours = []
    for file, image in zip(files, back):
        colours += [file.convert("RGB").getpixel((0, 0)), image.convert("RGB").getpixel((0, 0))]
        print(f"RESULT mode {image.mode + ',':4} in the file {colours[-2]}, read back {colours[-1]}")
    if colours != [(255, 0, 0), (0, 0, 0), (255, 0, 0), (255, 0, 0)]:
        sys.exit("the behaviour has changed")
PYTHON
HOME="$folder" venv/bin/python pack.py 2> log.txt | sed -n "s/^RESULT //p" || { cat log.txt; exit 1; }
