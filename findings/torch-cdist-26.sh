#!/usr/bin/env bash
# Library: torch 2.14.1 (CPU)
# Task: Find copies, or the image nearest to each, by torch.cdist on features of a class.
# One would guess: The distance of a row to itself is 0, whatever the number of rows.
# What happens: Up to 25 rows distances are exact; from 26 rows on cdist multiplies matrices instead, and in
#   float32 a row is up to 0.04 away from itself here. "distance == 0" finds the copies among 25 images and
#   misses them among 26.
# Instead: Pass compute_mode="donot_use_mm_for_euclid_dist", or compare with a tolerance.
# Output seen:
#   largest distance of a row to itself, 25 rows: 0
#   largest distance of a row to itself, 26 rows: 0.044
#   largest distance of a row to itself, 26 rows, exact mode: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import torch

features = torch.randn(26, 512, generator=torch.Generator().manual_seed(0)) + 3
exact = "donot_use_mm_for_euclid_dist"
seen = {
    "25 rows": torch.cdist(features[:25], features[:25]).diagonal().max().item(),
    "26 rows": torch.cdist(features, features).diagonal().max().item(),
    "26 rows, exact mode": torch.cdist(features, features, compute_mode=exact).diagonal().max().item(),
}
for name, distance in seen.items():
    print(f"largest distance of a row to itself, {name}: {distance:.2g}")
if seen["25 rows"] != 0 or seen["26 rows"] < 1e-3 or seen["26 rows, exact mode"] != 0:
    sys.exit("the behaviour has changed")
PYTHON
