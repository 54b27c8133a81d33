#!/usr/bin/env bash
# Library: torchvision 0.29.1, torch 2.14.1
# Task: Augment a row of a table, {"label": ..., "image": ...} with tensors in it, by torchvision.transforms.v2.
# One would guess: The image is transformed, since a transform for images is asked for, and labels stay.
# What happens: Without a PIL image or a tv_tensor in it the first tensor of the row is taken for the image, whatever
#   its name, shape and dtype, and all others stay. A flip then mirrors the soft label, so that the probabilities
#   belong to other classes, and leaves the image alone; ToDtype(scale=True) divides the class number by 2^63. With
#   the keys in the other order all is as guessed. A note in the documentation says so; issue 9264 asks for a change.
# Instead: Keep images as tv_tensors.Image(tensor), or put v2.ToImage() on them before the row is made.
# Output seen:
#   image, soft label:  image flipped True, soft label [0.7, 0.2, 0.1]
#   soft label, image:  image flipped False, soft label [0.1, 0.2, 0.7]
#   as tv_tensor:       image flipped True, soft label [0.7, 0.2, 0.1]
#   ToDtype, scaled:    label 3 becomes 3.25e-19, the image stays torch.uint8
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torchvision==0.29.1 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import warnings

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

warnings.simplefilter("error")
image = torch.arange(48, dtype=torch.uint8).reshape(3, 4, 4)
soft = torch.tensor([0.7, 0.2, 0.1])

def flipped(row):
    after = v2.RandomHorizontalFlip(p=1)(row)
    return torch.equal(after["image"], image.flip(-1)), [round(p, 1) for p in after["soft_label"].tolist()]

seen = {
    "image, soft label:": flipped({"image": image, "soft_label": soft}),
    "soft label, image:": flipped({"soft_label": soft, "image": image}),
    "as tv_tensor:": flipped({"soft_label": soft, "image": tv_tensors.Image(image)}),
}
for name, (turned, probabilities) in seen.items():
    print(f"{name:19} image flipped {turned}, soft label {probabilities}")
scaled = v2.ToDtype(torch.float32, scale=True)({"label": torch.tensor(3), "image": image})
print(f"{'ToDtype, scaled:':19} label 3 becomes {scaled['label'].item():.2e}, the image stays {scaled['image'].dtype}")
right, wrong = (True, [0.7, 0.2, 0.1]), (False, [0.1, 0.2, 0.7])
if list(seen.values()) != [right, wrong, right] or scaled["label"] > 1e-18 or scaled["image"].dtype != torch.uint8:
    sys.exit("the behaviour has changed")
PYTHON
