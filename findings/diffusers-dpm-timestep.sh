#!/usr/bin/env bash
# Library: diffusers 0.42.1, torch 2.14.1
# Task: Bring real latents to timestep 950 with the scheduler of a pipeline that has sampled before
#   (DPMSolverMultistepScheduler).
# One would guess: add_noise knows every training timestep, after a sampling as before it; or an unknown one
#   is an error.
# What happens: After set_timesteps it knows the sampling's timesteps only and takes the *last* one for any
#   other: t=950 gets the noise of t=100, a third of the right deviation, and so does t=10.
# Instead: Keep a DDPMScheduler of the same configuration for adding noise.
# Output seen:
#   timesteps of the sampling: [999, 899, 799, 699, 599, 500, 400, 300, 200, 100]
#   t=950: deviation of the noise 0.324, by DDPMScheduler 1.0
#   t=500: deviation of the noise 0.96, by DDPMScheduler 0.96
#   t=100: deviation of the noise 0.324, by DDPMScheduler 0.324
#   t=10: deviation of the noise 0.324, by DDPMScheduler 0.047
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
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

def deviation(scheduler, timestep):
    noise = torch.ones(1, 1)
    return round(scheduler.add_noise(0 * noise, noise, torch.tensor([timestep])).item(), 3)

training, sampling = DDPMScheduler(), DPMSolverMultistepScheduler()
sampling.set_timesteps(10)
print("timesteps of the sampling:", sampling.timesteps.tolist())
right, seen = {}, {}
for timestep in (950, 500, 100, 10):
    right[timestep], seen[timestep] = deviation(training, timestep), deviation(sampling, timestep)
    print(f"t={timestep}: deviation of the noise {seen[timestep]}, by DDPMScheduler {right[timestep]}")
if (seen[500], seen[100]) != (right[500], right[100]) or not seen[950] == seen[10] == right[100]:
    sys.exit("the behaviour has changed")
PYTHON
