#!/usr/bin/env bash
# Library: torchmetrics 1.9.0, torch 2.14.1
# Task: Take the accuracy of an ImageNet classifier with 1,000 classes on a subset of ten, by
#   MulticlassAccuracy(num_classes=1000).
# One would guess: It is the share of right predictions; Accuracy(task="multiclass", num_classes=1000) is the
#   same metric by another name.
# What happens: MulticlassAccuracy averages over classes, Accuracy over images. A class that has no image but is
#   predicted once counts as a class with accuracy 0: of 500 images 90 % are right, and 0.15 is returned.
# Instead: Pass average="micro"; for the mean over the ten classes, average the recalls of these ten.
# Output seen:
#   share of right predictions: 0.9
#   MulticlassAccuracy:         0.15
#   Accuracy:                   0.9
#   average="micro":            0.9
#   mean over the ten classes:  0.9
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import torch
from torchmetrics.classification import Accuracy, MulticlassAccuracy

labels = torch.arange(0, 1000, 100).repeat_interleave(50)  # ten classes of 50 images
predicted = labels.clone()
wrong = torch.arange(0, 500, 10)  # a tenth of the images, of each class alike
predicted[wrong] = wrong + 1  # 50 other classes, none of them among the ten
ten = [(predicted[labels == label] == label).double().mean().item() for label in labels.unique()]
seen = {
    "share of right predictions": (predicted == labels).double().mean().item(),
    "MulticlassAccuracy": MulticlassAccuracy(num_classes=1000)(predicted, labels).item(),
    "Accuracy": Accuracy(task="multiclass", num_classes=1000)(predicted, labels).item(),
    'average="micro"': MulticlassAccuracy(num_classes=1000, average="micro")(predicted, labels).item(),
    "mean over the ten classes": sum(ten) / len(ten),
}
for name, value in seen.items():
    print(f"{name + ':':27} {value:.3g}")
right, averaged, *others = (round(value, 3) for value in seen.values())
if averaged > 0.2 or {right, *others} != {0.9}:
    sys.exit("the behaviour has changed")
PYTHON
