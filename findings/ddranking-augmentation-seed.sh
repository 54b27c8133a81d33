#!/usr/bin/env bash
# Library: ddranking 0.2.0, torch 2.14.1
# Task: Give the benchmark's DSA augmentation a seed, so that a run can be repeated.
# One would guess: The seed starts a sequence of augmentations: batches differ, and a second run has the same
#   ones.
# What happens: With any seed but -1 every call starts at the seed again: all batches get one and the same
#   augmentation, the same for all images of a batch. Each call also resets torch's global generator, so that
#   dropout and shuffling repeat too.
# Instead: Leave the seed at -1 and call torch.manual_seed once.
# Output seen:
#   eight calls on one batch
#   seed 3:  1 different results, 1 different number(s) of torch.rand after a call
#   seed -1: 8 different results, 8 different numbers of torch.rand after a call
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ddranking==0.2.0 torch==2.14.1 torchvision==0.29.1 \
    kornia==0.9.0 timm==1.0.31 pandas==2.3.3 numpy==1.26.4
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import warnings

import torch

warnings.simplefilter("ignore")
from ddranking.aug import DSA

strengths = {"flip": 0.5, "crop": 0.125, "cutout": 0.5, "scale": 1.2, "rotate": 15.0}
strengths |= {"brightness": 1.0, "saturation": 2.0, "contrast": 0.5}
images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))

def outcome(seed):
    torch.manual_seed(1)
    augment, batches, numbers = DSA(dict(strengths), seed=seed), [], []
    for _ in range(8):
        batches.append(augment(images.clone()))
        numbers.append(round(torch.rand(1).item(), 4))
    return len({batch.numpy().tobytes() for batch in batches}), len(set(numbers))

seeded, free = outcome(3), outcome(-1)
print("eight calls on one batch")
print(f"seed 3:  {seeded[0]} different results, {seeded[1]} different number(s) of torch.rand after a call")
print(f"seed -1: {free[0]} different results, {free[1]} different numbers of torch.rand after a call")
if seeded != (1, 1) or free[0] < 4 or free[1] != 8:
    sys.exit("the behaviour has changed")
PYTHON
