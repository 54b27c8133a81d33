#!/usr/bin/env bash
# Library: ema-pytorch 0.8.3, torch 2.14.1
# Task: Evaluate the averaged weights while training goes on, by EMA.forward_eval(images).
# One would guess: It runs the average in eval mode, and puts the mode back, as its name and its comment say.
# What happens: It never calls eval(), it only puts back the mode that it found, and the average is a copy of a
#   model in train mode: dropout stays on, BatchNorm takes the statistics of the batch, and *writes* them into the
#   average, so that evaluating on other images changes the average that is saved. ema(images) does the same.
# Instead: Call ema.eval() once before; it switches the average alone, and training the model leaves it so.
# Output seen:
#   forward_eval:             same images, same logits: False; alone as in a batch: False; average changed: True
#   forward_eval, ema.eval(): same images, same logits: True; alone as in a batch: True; average changed: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ema-pytorch==0.8.3 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import torch
from ema_pytorch import EMA
from torch import nn

def behaviour(switched):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Dropout(0.1), nn.Linear(288, 10))
    ema = EMA(model)
    if switched:
        ema.eval()
    model.train()(torch.randn(16, 3, 8, 8))
    ema.update()
    before = ema.ema_model[1].running_mean.clone()
    images = torch.randn(16, 3, 8, 8) + 2
    first, second = ema.forward_eval(images), ema.forward_eval(images)
    alone = torch.cat([ema.forward_eval(image[None]) for image in images])
    changed = not torch.equal(before, ema.ema_model[1].running_mean)
    return torch.equal(first, second), torch.allclose(first, alone, atol=1e-5), changed

seen = {"forward_eval": behaviour(False), "forward_eval, ema.eval()": behaviour(True)}
for name, (same, single, changed) in seen.items():
    told = f"same images, same logits: {same}; alone as in a batch: {single}; average changed: {changed}"
    print(f"{name + ':':25} {told}")
if list(seen.values()) != [(False, False, True), (True, True, False)]:
    sys.exit("the behaviour has changed")
PYTHON
