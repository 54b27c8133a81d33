#!/usr/bin/env bash
# Library: safetensors 0.8.0 (safetensors.numpy), numpy 2.4.6
# Task: Store images or features as numpy arrays: transposed to channels first, cropped, or mirrored.
# One would guess: An array comes back as it was saved, or the writer refuses what it cannot store.
# What happens: A view that is not contiguous is written with the values in the order of its memory: shape and
#   dtype come back right, the values do not. Nothing is raised or logged.
# Instead: Pass np.ascontiguousarray(array).
# Output seen:
#   whole image: same shape True, same values True
#   channels first: same shape True, same values False
#   left half: same shape True, same values False
#   mirrored: same shape True, same values False
#   channels first, copied: same shape True, same values True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6 safetensors==0.8.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

image = np.arange(24, dtype=np.float32).reshape(2, 4, 3)  # (height, width, channels)
views = {
    "whole image": image,
    "channels first": image.transpose(2, 0, 1),
    "left half": image[:, :2],
    "mirrored": image[:, ::-1],
    "channels first, copied": np.ascontiguousarray(image.transpose(2, 0, 1)),
}
equal = {}
for name, array in views.items():
    save_file({"image": array}, "image.safetensors")
    loaded = load_file("image.safetensors")["image"]
    equal[name] = bool(np.array_equal(loaded, array))
    print(f"{name}: same shape {loaded.shape == array.shape}, same values {equal[name]}")
if list(equal.values()) != [True, False, False, False, True]:
    sys.exit("the behaviour has changed")
PYTHON
