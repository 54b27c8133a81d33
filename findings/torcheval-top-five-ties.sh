#!/usr/bin/env bash
# Library: torcheval 0.0.7, torch 2.14.1
# Task: Measure the top-5 accuracy of a classifier by MulticlassAccuracy(k=5).
# One would guess: An image is right where its class is among five: a classifier that knows nothing has 5 of 1,000.
# What happens: The metric counts the classes that score more than the true one, and calls fewer than five a hit. Where
#   scores tie every tied class is a hit, and no number is more than NaN: a training that diverged has a top-5 accuracy
#   of 1.00, and so has a network whose outputs are all equal, as with a last layer of zeros. Coarse scores gain a
#   little. k=1 counts otherwise and tells the truth. Not found among its issues.
# Instead: scores.topk(5).indices.eq(labels[:, None]).any(1).
# Output seen:
#   1,000 images of 1,000 classes      top-1  top-5  among the 5 of torch.topk
#   random logits                      0.000  0.004  0.004
#   logits that are all equal          0.001  1.000  0.005
#   logits that are NaN                0.001  1.000  0.005
#   logits of a classifier             0.125  0.283  0.283
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torcheval==0.0.7 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import torch
from torcheval.metrics import MulticlassAccuracy

torch.manual_seed(0)
labels = torch.randperm(1000)
random = torch.randn(1000, 1000)
outputs = {
    "random logits": random,
    "logits that are all equal": torch.zeros(1000, 1000),
    "logits that are NaN": torch.full((1000, 1000), torch.nan),
    "logits of a classifier": random + 2 * torch.nn.functional.one_hot(labels),
}

def accuracy(scores, k):
    return round(MulticlassAccuracy(k=k).update(scores, labels).compute().item(), 3)

print("1,000 images of 1,000 classes      top-1  top-5  among the 5 of torch.topk")
seen = {}
for name, scores in outputs.items():
    five = scores.topk(5).indices.eq(labels[:, None]).any(1).double().mean().item()
    seen[name] = accuracy(scores, 1), accuracy(scores, 5), five
    print("{:35}{:.3f}  {:.3f}  {:.3f}".format(name, *seen[name]))
useless = seen.pop("logits that are all equal"), seen.pop("logits that are NaN")
if useless != 2 * ((0.001, 1, 0.005),) or any(found != five for _, found, five in seen.values()):
    sys.exit("the behaviour has changed")
PYTHON
