#!/usr/bin/env bash
# Library: datacull 1.0.2, torch 2.14.1
# Task: Leave out a fifth of the training images by importance, pruning_rate=0.2.
# One would guess: Four fifths are kept, as the README says ("fraction of samples to remove"), and the docstring of the
#   loader that all others are made of ("0.2 -> keep 80%").
# What happens: A fifth is kept: the number of images to keep is computed as pruning_rate times all. At 0.9, where the
#   smallest sets are compared, nine times as many images are trained with as one believes. The docstrings of the
#   loaders for TDDS and CCS call the rate the fraction to keep. Not found among its issues.
# Instead: Pass one minus the rate, and look at len(loader.sampler).
# Output seen:
#   pruning_rate=0.1 of 1000 images  TDDS keeps 100  RS2 keeps 100
#   pruning_rate=0.2 of 1000 images  TDDS keeps 200  RS2 keeps 200
#   pruning_rate=0.9 of 1000 images  TDDS keeps 900  RS2 keeps 900
#   in its description: "pruning_rate=0.2,  # Remove 20% of samples"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datacull==1.0.2 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import metadata

import numpy as np
import torch
from datacull import DCDataset
from datacull.methods.RS2 import RS2DataLoader
from datacull.methods.TDDS import TDDSDataLoader
from torch.utils.data import TensorDataset

images = TensorDataset(torch.zeros(1000, 3), torch.arange(1000) % 10)
images.targets = images.tensors[1].tolist()
importance = np.random.default_rng(0).random(1000)

def kept(loader, rate):
    loader = loader(DCDataset(images), pruning_rate=rate, batch_size=100)
    loader.resample(importance)
    return sum(len(batch[-1]) for batch in loader)

rates = (0.1, 0.2, 0.9)
seen = {rate: (kept(TDDSDataLoader, rate), kept(RS2DataLoader, rate)) for rate in rates}
for rate, (ordered, drawn) in seen.items():
    print(f"pruning_rate={rate} of 1000 images  TDDS keeps {ordered}  RS2 keeps {drawn}")
said = [line.strip() for line in str(metadata("datacull")).splitlines() if "Remove 20%" in line]
print(f'in its description: "{"".join(said)}"')
if any(counts != (round(1000 * rate),) * 2 for rate, counts in seen.items()) or not said:
    sys.exit("the behaviour has changed")
PYTHON
