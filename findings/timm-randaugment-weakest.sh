#!/usr/bin/env bash
# Library: timm 1.0.31, torch 2.14.1
# Task: Find the strength of augmentation that a small set bears, from RandAugment's magnitude 0 upward.
# One would guess: Magnitude 0 hardly changes an image and 10 most, as with torchvision's RandAugment.
# What happens: "rand-m0" is one of the strongest. Posterize keeps no bit, so that some images are black, Solarize
#   inverts everything, and colour, contrast, brightness and sharpness are a tenth of what they were. All these are
#   mildest further up, while rotation and shift grow: an image changes as much at 0 as at 10, least at about 5.
# Instead: Add "inc1", as in "rand-m0-inc1", where every operation grows with the magnitude.
# Output seen:
#   mean change of a pixel, of 255, at magnitude N = 0, 2, 4, 6, 8, 10, and images that are all black at 0
#   timm "rand-mN":         31, 32, 25, 24, 28, 31; 6%
#   timm "rand-mN-inc1":    11, 18, 24, 27, 35, 41; 0%
#   torchvision, 3 N of 30: 14, 28, 39, 46, 58, 63; 0%
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet timm==1.0.31 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 Pillow==12.3.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import random
import sys

import numpy as np
import torch
from PIL import Image
from timm.data import rand_augment_transform
from torchvision.transforms import v2

rows, columns = np.mgrid[:64, :64]
picture = np.stack([60 + 2 * rows, 60 + 2 * columns, 80 + (rows // 8 + columns // 8) % 2 * 80], -1).astype(np.uint8)
image = Image.fromarray(picture)

def results(transform):
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    return np.stack([np.asarray(transform(image), dtype=float) for _ in range(500)])

kinds = {
    'timm "rand-mN"': lambda magnitude: rand_augment_transform(f"rand-m{magnitude}", {}),
    'timm "rand-mN-inc1"': lambda magnitude: rand_augment_transform(f"rand-m{magnitude}-inc1", {}),
    "torchvision, 3 N of 30": lambda magnitude: v2.RandAugment(magnitude=3 * magnitude),
}
print("mean change of a pixel, of 255, at magnitude N = 0, 2, 4, 6, 8, 10, and images that are all black at 0")
seen = {}
for name, make in kinds.items():
    changes = [float(abs(results(make(magnitude)) - picture).mean()) for magnitude in (0, 2, 4, 6, 8, 10)]
    black = float((results(make(0)).max((1, 2, 3)) == 0).mean())
    print(f"{name + ':':23}", ", ".join(f"{change:2.0f}" for change in changes) + f"; {black:.0%}")
    seen[name] = changes[0] / changes[-1], black
plain, increasing, torchvision = seen.values()
if plain[0] < 0.8 or plain[1] == 0 or max(increasing[0], torchvision[0]) > 0.5 or increasing[1] + torchvision[1]:
    sys.exit("the behaviour has changed")
PYTHON
