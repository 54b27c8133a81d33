#!/usr/bin/env bash
# Library: peft 0.21.2, timm 1.0.31, torch 2.14.1
# Task: Adapt a convolutional classifier to other images by LoRA, save the adapter, and load it on the same
#   base elsewhere.
# One would guess: Base and adapter together are the classifier that was trained.
# What happens: In train mode the running statistics of BatchNorm follow the new images, also in a base whose
#   weights are frozen. They are no part of the adapter: loaded again, the classifier has the old statistics
#   and guesses. Nothing is raised or logged, and disable_adapter() does not give the base back either.
# Instead: Name the BatchNorm layers in modules_to_save, keep them in eval mode while training, or merge and
#   save the whole model.
# Output seen:
#   accuracy on the images of the training, 3 classes
#   adapter as it is:                  trained 0.98, loaded 0.33; switched off, it is the base: False
#   with BatchNorm in modules_to_save: trained 1.0, loaded 1.0; switched off, it is the base: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet peft==0.21.2 timm==1.0.31 torch==2.14.1 torchvision==0.29.1
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/cache"
venv/bin/python - <<'PYTHON'
import sys

import timm
import torch
from peft import LoraConfig, PeftModel, get_peft_model

def base():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=3)

torch.manual_seed(1)
labels = torch.arange(96) % 3
images = torch.randn(3, 3, 32, 32)[labels] + torch.randn(96, 3, 32, 32) + 2  # brighter than what the base knows
norms = [name for name, module in base().named_modules() if isinstance(module, torch.nn.BatchNorm2d)]

@torch.no_grad()
def accuracy(model):
    return round((model.eval()(images).argmax(1) == labels).double().mean().item(), 2)

def trained_and_loaded(*kept):
    model = get_peft_model(base(), LoraConfig(target_modules=r"layer.*conv\d", modules_to_save=["fc", *kept]))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=3e-3)
    model.train()
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    model.save_pretrained("adapter")
    loaded = PeftModel.from_pretrained(base(), "adapter")
    with torch.no_grad(), model.eval().disable_adapter():
        is_base = torch.equal(model(images), base().eval()(images))
    return accuracy(model), accuracy(loaded), is_base

lost, kept = trained_and_loaded(), trained_and_loaded(*norms)
print("accuracy on the images of the training, 3 classes")
for name, seen in {"adapter as it is": lost, "with BatchNorm in modules_to_save": kept}.items():
    print(f"{name + ':':34} trained {seen[0]}, loaded {seen[1]}; switched off, it is the base: {seen[2]}")
if lost[0] < 0.9 or lost[1] > 0.6 or kept[0] != kept[1] or (lost[2], kept[2]) != (False, True):
    sys.exit("the behaviour has changed")
PYTHON
