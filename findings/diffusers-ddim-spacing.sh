#!/usr/bin/env bash
# Library: diffusers 0.42.1, torch 2.14.1
# Task: Sample with DDIMScheduler in 60 or 128 steps, with timestep_spacing "trailing" or "linspace".
# One would guess: A step leads to the noise level of the timestep that comes next; with the noise predicted
#   exactly, nothing of it is left at the end.
# What happens: A step always goes down by 1000 // steps, whatever comes next. Where the timesteps are further
#   apart, the sample keeps more noise than the model is told, in every step anew: 16 % of the noise is left
#   after 128 trailing steps, 3 % after 50 with linspace, where a network does not happen to take it away.
#   "leading" steps to the timestep that comes next, whatever their number.
# Instead: "trailing" or "leading" and a number of steps that divides 1000, such as 20, 50 or 100; or
#   DPMSolverMultistepScheduler(solver_order=1), which takes the same step to the next timestep.
# Output seen:
#   share of the noise that is left, by DDIM and by DPM-Solver of first order
#   trailing,  50 steps: 0.0    0.0
#   trailing,  60 steps: 0.068  0.0
#   trailing, 128 steps: 0.159  0.0
#   linspace,  10 steps: 0.165  0.0
#   linspace,  50 steps: 0.03   0.0
#   leading,  128 steps: 0.0    0.0
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
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

def noise_left(kind, spacing, steps, **options):
    """What is left of a noise of 1 around a clean sample of 0, when each step is given that noise."""
    scheduler = kind(timestep_spacing=spacing, **options)
    scheduler.set_timesteps(steps)
    noise = torch.ones(1, 1)
    sample = (1 - scheduler.alphas_cumprod[scheduler.timesteps[0]]).sqrt() * noise
    for timestep in scheduler.timesteps:
        sample = scheduler.step(noise, timestep, sample).prev_sample
    return round(abs(sample.item()), 3)

print("share of the noise that is left, by DDIM and by DPM-Solver of first order")
left, right = {}, {}
for spacing, steps in [("trailing", 50), ("trailing", 60), ("trailing", 128),
                       ("linspace", 10), ("linspace", 50), ("leading", 128)]:
    case = f"{spacing + ',':9} {steps:3} steps"
    left[case] = noise_left(DDIMScheduler, spacing, steps, clip_sample=False)
    right[case] = noise_left(DPMSolverMultistepScheduler, spacing, steps, solver_order=1)
    print(f"{case}: {left[case]:<6} {right[case]}")
if list(left.values()) != [0.0, 0.068, 0.159, 0.165, 0.03, 0.0] or any(right.values()):
    sys.exit("the behaviour has changed")
PYTHON
