#!/usr/bin/env bash
# Library: ddranking 0.2.0, torch 2.14.1
# Task: Train by the benchmark's protocol with its learning rate schedule "cosine".
# One would guess: The learning rate falls along half a period to 0 at the last epoch, as torch's
#   CosineAnnealingLR does.
# What happens: It falls along a quarter of a period and ends at *half* of its start. "cosineannealing", the
#   other name, is torch's. Accuracies of the two schedules are not to be compared.
# Instead: Write down which of the two was used; to repeat the benchmark in another code, halve the angle.
# Output seen:
#   cosine: 0.1000 at epoch 0, 0.0854 at 50, 0.0500 at 100 of 100
#   cosineannealing: 0.1000 at epoch 0, 0.0500 at 50, 0.0000 at 100 of 100
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
from ddranking.utils.train_and_eval import get_lr_scheduler

def rates(name):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, seen = get_lr_scheduler(name, optimizer, num_epochs=100), []
    for _ in range(101):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen[0], seen[50], seen[100]

cosine, annealing = rates("cosine"), rates("cosineannealing")
for name, seen in (("cosine", cosine), ("cosineannealing", annealing)):
    print(f"{name}: {seen[0]:.4f} at epoch 0, {seen[1]:.4f} at 50, {seen[2]:.4f} at 100 of 100")
if abs(cosine[2] - 0.05) > 1e-6 or abs(annealing[2]) > 1e-6:
    sys.exit("the behaviour has changed")
PYTHON
