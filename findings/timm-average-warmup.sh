#!/usr/bin/env bash
# Library: timm 1.0.31, torch 2.14.1
# Task: Keep an average of a classifier's weights over a short training: ModelEmaV3(model, use_warmup=True), and
#   average.update(model) after each step, as with ModelEmaV2 and torch's AveragedModel.
# One would guess: The average warms up: it forgets the random weights of the start.
# What happens: The warm-up needs the number of the step. Without it update() takes the full decay, 0.9999, from the
#   first step on, use_warmup and update_after_step do nothing, and after 300 steps 97 % of the average are the
#   random weights of the start. Nothing is raised or logged.
# Instead: Call average.update(model, step=number), with numbers that go on where a training is resumed.
# Output seen:
#   accuracy after 300 steps, 10 classes: classifier 1.00
#   average without a step, no warm-up:   0.35
#   average without a step, warm-up:      0.35, equal to that without: True
#   average with the step, warm-up:       1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet timm==1.0.31 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import torch
from timm.utils import ModelEmaV3

torch.manual_seed(0)
labels = torch.arange(100) % 10
images = torch.randn(10, 64)[labels] + 0.3 * torch.randn(100, 64)
model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
plain, warm = ModelEmaV3(model), ModelEmaV3(model, use_warmup=True, update_after_step=50)
told = ModelEmaV3(model, use_warmup=True, update_after_step=50)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(300):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
    plain.update(model)
    warm.update(model)
    told.update(model, step=step)

@torch.no_grad()
def accuracy(classifier):
    return (classifier(images).argmax(1) == labels).double().mean().item()

same = all(torch.equal(a, b) for a, b in zip(plain.module.parameters(), warm.module.parameters()))
print(f"accuracy after 300 steps, 10 classes: classifier {accuracy(model):.2f}")
print(f"average without a step, no warm-up:   {accuracy(plain.module):.2f}")
print(f"average without a step, warm-up:      {accuracy(warm.module):.2f}, equal to that without: {same}")
print(f"average with the step, warm-up:       {accuracy(told.module):.2f}")
if not same or accuracy(warm.module) > 0.5 or min(accuracy(model), accuracy(told.module)) < 0.95:
    sys.exit("the behaviour has changed")
PYTHON
