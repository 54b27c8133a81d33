#!/usr/bin/env bash
# Library: torch 2.14.1 (CPU)
# Task: Train several small networks as one, by torch.vmap and functional_call, in bfloat16 by autocast.
# One would guess: Under autocast a stacked layer computes in what the same layer alone computes in.
# What happens: On a CPU convolutions and linear layers that vmap calls stay in float32, in silence, and a measurement of
#   bfloat16 is one of float32. vmap turns them into operations (convolution, batched products with the bias) that the
#   list of autocast for CPUs does not hold. A product written with @ is cast, so that its bfloat16 meets float32
#   weights in the next convolution, which then fails.
# Instead: Cast parameters and inputs by hand, or train one after the other.
# Output seen:
#   layer    alone           under vmap
#   Conv2d   torch.bfloat16  torch.float32
#   Linear   torch.bfloat16  torch.float32
#   x @ w    torch.bfloat16  torch.bfloat16
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import torch
from torch.func import functional_call, stack_module_state

class Product(torch.nn.Linear):
    def forward(self, rows):
        return rows @ self.weight.T

made = {
    "Conv2d": (lambda: torch.nn.Conv2d(1, 2, 3), (4, 1, 8, 8)),
    "Linear": (lambda: torch.nn.Linear(8, 2), (4, 8)),
    "x @ w": (lambda: Product(8, 2, bias=False), (4, 8)),
}
seen = {}
for name, (make, shape) in made.items():
    layers = [make() for _ in range(3)]
    parameters, _ = stack_module_state(layers)
    one_of_them = lambda own, images: functional_call(layers[0], own, (images,))
    with torch.autocast("cpu", torch.bfloat16):
        alone = layers[0](torch.randn(shape)).dtype
        stacked = torch.vmap(one_of_them)(parameters, torch.randn(3, *shape)).dtype
    seen[name] = alone, stacked
print("layer    alone           under vmap")
for name, (alone, stacked) in seen.items():
    print(f"{name:<8} {alone}  {stacked}")
low, full = torch.bfloat16, torch.float32
if seen != {"Conv2d": (low, full), "Linear": (low, full), "x @ w": (low, low)}:
    sys.exit("the behaviour has changed")
PYTHON
