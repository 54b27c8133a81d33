#!/usr/bin/env bash
# Library: diffusers 0.42.1, torch 2.14.1
# Task: Add noise for a training step, or a probe at a low timestep, with a new DPMSolverMultistepScheduler or
#   UniPCMultistepScheduler.
# One would guess: As with DDPMScheduler, t=10 is nearly clean and t=990 is nearly all noise: the schedule is
#   the same.
# What happens: Before the first set_timesteps the schedule is read from its other end: t=10 has the noise of
#   t=989 and the reverse. t=500 looks right. A network that is trained so is taught the wrong timesteps,
#   without an error.
# Instead: Keep a DDPMScheduler of the same configuration for adding noise.
# Output seen:
#   deviation of the noise at t = [10, 250, 500, 749, 989]
#   DDPMScheduler: [0.047, 0.692, 0.96, 0.998, 1.0]
#   DPMSolverMultistepScheduler: [1.0, 0.998, 0.96, 0.692, 0.047]
#   UniPCMultistepScheduler: [1.0, 0.998, 0.96, 0.692, 0.047]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

timesteps = torch.tensor([10, 250, 500, 749, 989])
ones, seen = torch.ones(len(timesteps), 1), {}
print("deviation of the noise at t =", timesteps.tolist())
for scheduler in (DDPMScheduler(), DPMSolverMultistepScheduler(), UniPCMultistepScheduler()):
    name = type(scheduler).__name__
    seen[name] = [round(value, 3) for value in scheduler.add_noise(0 * ones, ones, timesteps).flatten().tolist()]
    print(f"{name}: {seen[name]}")
right, *others = seen.values()
if right[0] > 0.1 or not all(other[0] == right[-1] and other[-1] == right[0] for other in others):
    sys.exit("the behaviour has changed")
PYTHON
