#!/usr/bin/env bash
# Library: torch 2.14.1 (CPU)
# Task: Give each image of a large pool a seed of its own, such as 53 bits of a hash of its name, and draw its noise.
# One would guess: Generator.manual_seed takes 64 bits, so that two seeds of so many bits never give the same noise.
# What happens: The Mersenne Twister of the CPU is seeded by the low 32 bits alone. Seeds that differ above them give
#   the same noise, though initial_seed() tells them apart. Of 150,000 hashed seeds 2.6 pairs are expected to share
#   their noise, and from 77,000 on one pair is likelier than none. numpy's PCG64 takes all bits.
# Instead: Keep seeds of one pool apart in their low 32 bits, or draw by numpy.random.Generator(PCG64(seed)).
# Output seen:
#   seed         initial_seed  torch's noise  numpy's noise
#   5            5             1.8423         -0.8019
#   5 + 2 ** 32  4294967301    1.8423         0.4260
#   6            6             -1.2113        1.0531
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import numpy as np
import torch

seen = []
print("seed         initial_seed  torch's noise  numpy's noise")
for text in ("5", "5 + 2 ** 32", "6"):
    seed = eval(text)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1000, generator=generator)
    other = np.random.Generator(np.random.PCG64(seed)).standard_normal(1000)
    print(f"{text:<12} {generator.initial_seed():<13} {noise[0].item():<14.4f} {other[0]:.4f}")
    seen.append((noise.tolist(), other.tolist()))
(same, first), (again, second), (third, _) = seen
if same != again or same == third or first == second:
    sys.exit("the behaviour has changed")
PYTHON
