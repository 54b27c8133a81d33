#!/usr/bin/env bash
# Library: imagehash 4.3.2, Pillow 12.3.0
# Task: Find copies among grey images of 16 bits (X-rays, microscopy, depth) by imagehash.phash, dhash or average_hash.
# One would guess: A hash sees the picture, whatever the depth of its pixels.
# What happens: Hashes begin with image.convert("L"), which cuts 16 bits at 255 and does not scale them: what is
#   brighter than 255 of 65,535 is white. Any two such pictures have one hash and distance 0, so that a search for
#   copies leaves one image of the set. Nothing is raised or logged.
# Instead: Scale to 8 bits before, Image.fromarray((np.asarray(image) >> 8).astype("uint8")), or by the range that
#   the set has.
# Output seen:
#   distance of a picture of rings from one of stripes, of 64
#   phash:        8 bits 28, 16 bits 0
#   dhash:        8 bits 32, 16 bits 0
#   average_hash: 8 bits 35, 16 bits 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet imagehash==4.3.2 Pillow==12.3.0 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import imagehash
import numpy as np
from PIL import Image

rows, columns = np.mgrid[:96, :96]
pictures = {"rings": np.sin(np.hypot(rows - 48, columns - 30) / 6), "stripes": np.sin((rows + 2 * columns) / 25)}
for name, picture in pictures.items():
    deep = (2000 + 30000 * (picture + 1)).astype("uint16")
    Image.fromarray(deep).save(f"{name}16.png")
    Image.fromarray((deep >> 8).astype("uint8")).save(f"{name}8.png")

print("distance of a picture of rings from one of stripes, of 64")
seen = []
for hashed in (imagehash.phash, imagehash.dhash, imagehash.average_hash):
    eight, sixteen = (
        int(hashed(Image.open(f"rings{bits}.png")) - hashed(Image.open(f"stripes{bits}.png"))) for bits in (8, 16)
    )
    print(f"{hashed.__name__ + ':':13} 8 bits {eight}, 16 bits {sixteen}")
    seen.append((eight, sixteen))
if any(eight < 10 or sixteen for eight, sixteen in seen):
    sys.exit("the behaviour has changed")
PYTHON
