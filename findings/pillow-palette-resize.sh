#!/usr/bin/env bash
# Library: Pillow 12.3.0, numpy 2.4.6
# Task: Shrink images of a set that holds GIF or eight-bit PNG files (mode P) with a filter that smooths.
# One would guess: resize(size, LANCZOS) smooths, or refuses an image that has a palette.
# What happens: For modes P and 1 the filter is dropped in silence and NEAREST taken instead: the pixels are
#   exactly those of NEAREST, and as much as 150 grey levels away from the filtered ones, which is another
#   input for a classifier.
# Instead: Convert to RGB before resizing, not after it.
# Output seen:
#   mode P: LANCZOS equals NEAREST True; largest distance to RGB with LANCZOS 188
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet Pillow==12.3.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
from PIL import Image

pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
image = Image.fromarray(pixels).quantize(256)

def array(small):
    return np.asarray(small.convert("RGB")).astype(int)

lanczos = array(image.resize((32, 32), Image.Resampling.LANCZOS))
nearest = array(image.resize((32, 32), Image.Resampling.NEAREST))
filtered = array(image.convert("RGB").resize((32, 32), Image.Resampling.LANCZOS))
same, apart = bool((lanczos == nearest).all()), int(np.abs(lanczos - filtered).max())
print(f"mode {image.mode}: LANCZOS equals NEAREST {same}; largest distance to RGB with LANCZOS {apart}")
if not same or apart < 100:
    sys.exit("the behaviour has changed")
PYTHON
