#!/usr/bin/env bash
# Library: scikit-image 0.26.0, numpy 2.4.6
# Task: Resize pixels 0..255 that have become numpy's default integers (from a list, JSON, a sum or a table).
# One would guess: Integers of 0..255 become floats of 0..1 whatever the width of the integer, or an error is
#   raised.
# What happens: The range is that of the *type*: uint8 200 becomes 0.78, int32 200 becomes 9.3e-08 and int64
#   200 becomes 2.2e-17. The image is black, with no warning.
# Instead: Cast to uint8 first.
# Output seen:
#   200 as uint8: 0.784
#   200 as int32: 9.31e-08
#   200 as int64: 2.17e-17
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-image==0.26.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import warnings

import numpy as np
from skimage.transform import resize

warnings.simplefilter("error")
bright = {}
for dtype in ("uint8", "int32", "int64"):
    bright[dtype] = float(resize(np.full((8, 8), 200, dtype=dtype), (4, 4)).max())
    print(f"200 as {dtype}: {bright[dtype]:.3g}")
if not (0.7 < bright["uint8"] < 0.8 and bright["int32"] < 1e-6 and bright["int64"] < 1e-15):
    sys.exit("the behaviour has changed")
PYTHON
