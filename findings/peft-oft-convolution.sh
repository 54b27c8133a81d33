#!/usr/bin/env bash
# Library: peft 0.21.2, torch 2.14.1
# Task: Adapt the convolutions of a classifier or of an autoencoder by OFT, which turns their weights and changes
#   nothing before the first step: get_peft_model(model, OFTConfig(target_modules=[...])).
# One would guess: A new adapter leaves every output as it is, as a new LoRA or LoKr does, and merging it changes
#   nothing either.
# What happens: For kernels larger than 1 x 1 the input is cut into patches, turned, and put together again, where
#   pixels that lie in several patches are summed and channels, places and positions in the kernel have been
#   exchanged. The network sees a scrambled image from the start, without a warning, and training has to repair it.
#   The merged weights are right: merge_and_unload() gives another network than the one that was trained. Kernels of 1
#   x 1 and linear layers are right. Not found among its issues.
# Instead: LoraConfig or LoKrConfig for these layers, or OFT on linear layers and 1 x 1 convolutions alone; compare
#   outputs once before training.
# Output seen:
#   correlation with the output of the base model, before any training
#   kernel  adapter  with the adapter  once merged
#   1 x 1   OFT      1.00              1.00
#   1 x 1   LoKr     1.00              1.00
#   1 x 1   LoRA     1.00              1.00
#   3 x 3   OFT      0.00              1.00
#   3 x 3   LoKr     1.00              1.00
#   3 x 3   LoRA     1.00              1.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet peft==0.21.2 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import copy
import sys

import torch
from peft import LoKrConfig, LoraConfig, OFTConfig, get_peft_model

torch.manual_seed(0)
images = torch.randn(8, 16, 32, 32)
CONFIGS = {
    "OFT": OFTConfig(target_modules=["0"]),
    "LoKr": LoKrConfig(target_modules=["0"]),
    "LoRA": LoraConfig(target_modules=["0"]),
}

@torch.no_grad()
def alike(kernel, config):
    """Correlation with the base model of the adapted model and of the merged one."""
    base = torch.nn.Sequential(torch.nn.Conv2d(16, 32, kernel, padding=kernel // 2, bias=False))
    adapted = get_peft_model(copy.deepcopy(base), config).eval()
    outputs = [base(images), adapted(images), adapted.merge_and_unload()(images)]
    return torch.corrcoef(torch.stack([output.flatten() for output in outputs]))[0, 1:].tolist()

print("correlation with the output of the base model, before any training")
print("kernel  adapter  with the adapter  once merged")
seen = {}
for kernel in (1, 3):
    for name, config in CONFIGS.items():
        seen[kernel, name] = adapted, merged = alike(kernel, config)
        print(f"{kernel} x {kernel}   {name:9}{abs(adapted):<18.2f}{merged:.2f}")
wrong = {key for key, (adapted, _) in seen.items() if adapted < 0.9999}
if wrong != {(3, "OFT")} or seen[3, "OFT"][0] > 0.5 or min(merged for _, merged in seen.values()) < 0.9999:
    sys.exit("the behaviour has changed")
PYTHON
