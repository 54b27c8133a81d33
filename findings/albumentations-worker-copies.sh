#!/usr/bin/env bash
# Library: albumentations 2.0.8, torch 2.14.1
# Task: Train for many epochs with augmentations by albumentations.Compose in a DataLoader with workers.
# One would guess: Without a seed every image is augmented anew in every epoch, with workers as without.
# What happens: Compose draws from a generator of its own. Workers are copies of the process at the start of an epoch,
#   in which that generator was never used: all workers draw the same numbers, and draw them again in every epoch.
#   Without shuffling each image has one crop, flip or erasing for the whole training, and with it each place in the
#   batches has. Reported as issue 266 of AlbumentationsX, its successor of another license, and mended there; 2.0.8 is
#   the last release of albumentations.
# Instead: worker_init_fn=reseed, as below, with get_worker_info().dataset.augment.set_random_seed(...).
#   persistent_workers=True alone leaves the workers alike.
# Output seen:
#   64 images, of 1,600 possible crops            as in the epoch before, as the other worker's
#   no workers                                    0.0
#   2 workers                                     1.0                     1.0
#   2 workers, persistent_workers=True            0.0                     1.0
#   2 workers, set_random_seed in worker_init_fn  0.0                     0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet albumentations==2.0.8 torch==2.14.1 numpy==2.4.6 opencv-python-headless==5.0.0.93
cd "$folder"
cat > crops.py <<'PYTHON'
import sys

import albumentations
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

class Images(Dataset):
    def __init__(self):
        self.augment = albumentations.Compose([albumentations.RandomCrop(25, 25)])
        self.image = np.arange(64 * 64, dtype=np.float32).reshape(64, 64, 1)  # its first pixel says which crop

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return self.augment(image=self.image)["image"][0, 0, 0]

def reseed(worker):
    get_worker_info().dataset.augment.set_random_seed(torch.initial_seed() % 2**32)

def behaviour(**options):
    loader = DataLoader(Images(), batch_size=8, **options)
    first, second = (torch.stack(list(loader)) for _ in range(2))  # (batches, images); workers take turns by batch
    return (first == second).double().mean().item(), (first[0::2] == first[1::2]).double().mean().item()

if __name__ == "__main__":
    alone = behaviour()
    seen = {
        "2 workers": behaviour(num_workers=2),
        "2 workers, persistent_workers=True": behaviour(num_workers=2, persistent_workers=True),
        "2 workers, set_random_seed in worker_init_fn": behaviour(num_workers=2, worker_init_fn=reseed),
    }
    print(f"{'64 images, of 1,600 possible crops':46}as in the epoch before, as the other worker's")
    print(f"{'no workers':46}{alone[0]:.1f}")
    for name, (epochs, workers) in seen.items():
        print(f"{name:46}{epochs:.1f}{workers:24.1f}")
    told = [round(share) for both in seen.values() for share in both]
    if told != [1, 1, 0, 1, 0, 0] or alone[0] > 0.1:
        sys.exit("the behaviour has changed")
PYTHON
NO_ALBUMENTATIONS_UPDATE=1 venv/bin/python -W ignore crops.py
