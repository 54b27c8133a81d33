#!/usr/bin/env bash
# Library: timm 1.0.31, torch 2.14.1
# Task: Train on a small distilled set that lies in one tensor, in batches images[start:stop], with timm's Mixup.
# One would guess: Mixup returns mixed images, as torchvision's MixUp and CutMix do, and leaves the set alone.
# What happens: Mixup and CutMix write into the batch that they are given, and a slice of a tensor is the tensor:
#   the set itself is mixed, anew in every epoch and always with the same partner. Soon an image is half of another
#   class, and the targets still count it as its own alone. Nothing is raised or logged. A DataLoader over single
#   images copies them into a batch, so that the same training is right there.
# Instead: Give it a copy, mixup(images[start:stop].clone(), labels); a batch chosen by a list of indices is one.
# Output seen:
#   share of its own class that an image of the set holds
#   timm's Mixup, slices:         1.00 at the start, 0.70 after 1 epoch, 0.50 after 10
#   timm's Mixup, copies:         1.00 at the start, 1.00 after 1 epoch, 1.00 after 10
#   timm's CutMix, slices:        1.00 at the start, 0.82 after 1 epoch, 0.50 after 10
#   timm's CutMix, copies:        1.00 at the start, 1.00 after 1 epoch, 1.00 after 10
#   torchvision's MixUp, slices:  1.00 at the start, 1.00 after 1 epoch, 1.00 after 10
#   torchvision's CutMix, slices: 1.00 at the start, 1.00 after 1 epoch, 1.00 after 10
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet timm==1.0.31 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import torch
from timm.data import Mixup
from torchvision.transforms import v2

labels = torch.arange(20)  # one image a class

def own_share(epochs, mix, copies):
    images = torch.eye(20)[:, :, None, None].repeat(1, 1, 32, 32)  # image i is 1 in channel i, 0 elsewhere
    np.random.seed(0)
    for _ in range(epochs):
        for start in range(0, 20, 4):
            batch = images[start : start + 4]
            mix(batch.clone() if copies else batch, labels[start : start + 4])
    return images.mean((2, 3)).diagonal().mean().item()

mixup, cutmix = Mixup(mixup_alpha=0.8, num_classes=20), Mixup(mixup_alpha=0, cutmix_alpha=1, num_classes=20)
cases = {
    "timm's Mixup, slices": (mixup, False),
    "timm's Mixup, copies": (mixup, True),
    "timm's CutMix, slices": (cutmix, False),
    "timm's CutMix, copies": (cutmix, True),
    "torchvision's MixUp, slices": (v2.MixUp(alpha=0.8, num_classes=20), False),
    "torchvision's CutMix, slices": (v2.CutMix(alpha=1.0, num_classes=20), False),
}
print("share of its own class that an image of the set holds")
kept = {}
for name, case in cases.items():
    start, one, ten = (own_share(epochs, *case) for epochs in (0, 1, 10))
    print(f"{name + ':':29} {start:.2f} at the start, {one:.2f} after 1 epoch, {ten:.2f} after 10")
    kept[name] = ten
if kept.pop("timm's Mixup, slices") > 0.9 or kept.pop("timm's CutMix, slices") > 0.9 or set(kept.values()) != {1}:
    sys.exit("the behaviour has changed")
PYTHON
