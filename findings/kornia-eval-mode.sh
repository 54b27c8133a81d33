#!/usr/bin/env bash
# Library: kornia 0.9.0, torch 2.14.1
# Task: Put an augmentation in front of a network in one nn.Sequential, and evaluate it after model.eval().
# One would guess: eval() switches the augmentation off, as it does dropout: it is a module with random
#   behaviour.
# What happens: kornia's augmentations do not look at the mode: the network is tested on mirrored and shifted
#   images, and the same image scores otherwise at each call.
# Instead: Keep augmentations outside the model, or call them only where model.training is true.
# Output seen:
#   different scores of one image in 20 calls after eval(): 10
#   of the model without the augmentation (dropout is off): 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet kornia==0.9.0 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import torch
from kornia.augmentation import RandomAffine, RandomHorizontalFlip

torch.manual_seed(0)
augment = torch.nn.Sequential(RandomHorizontalFlip(p=0.5), RandomAffine(15.0, p=0.5))
model = torch.nn.Sequential(augment, torch.nn.Dropout(0.5), torch.nn.Flatten(), torch.nn.Linear(192, 2)).eval()
images = torch.rand(1, 3, 8, 8)
with torch.inference_mode():
    scores = {round(model(images)[0, 0].item(), 4) for _ in range(20)}
    without = {round(model[1:](images)[0, 0].item(), 4) for _ in range(20)}
print(f"different scores of one image in 20 calls after eval(): {len(scores)}")
print(f"of the model without the augmentation (dropout is off): {len(without)}")
if len(scores) < 2 or len(without) != 1:
    sys.exit("the behaviour has changed")
PYTHON
