#!/usr/bin/env bash
# Library: diffusers 0.42.1, torch 2.14.1
# Task: Sample in 61 steps with timestep_spacing "trailing", as v-prediction models are told to.
# One would guess: set_timesteps(61) makes 61 timesteps of the 1,000 that the model was trained on.
# What happens: It makes 62, the last of which is -1, with DDIM, DDPM, Euler, DPM-Solver and UniPC alike, and for 62 of
#   the numbers from 1 to 1,000. numpy.arange(1000, 0, -1000 / 61) has an element too many by rounding, a hair above 0,
#   which rounds to 0 and becomes -1. Nothing is said; a sampler asks its network at timestep -1, for which nothing was
#   ever trained.
# Instead: Look at len(scheduler.timesteps), or take a number that divides 1000, such as 20, 25, 50 or 100.
# Output seen:
#   scheduler                     asked  timesteps  last  numbers of 1 to 1,000
#   DDIMScheduler                 61     62         -1    62
#   DDPMScheduler                 61     62         -1    62
#   EulerDiscreteScheduler        61     62         -1    62
#   DPMSolverMultistepScheduler   61     62         -1    62
#   UniPCMultistepScheduler       61     62         -1    62
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.14.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import diffusers

print(f"{'scheduler':<29} asked  timesteps  last  numbers of 1 to 1,000")
for name in ("DDIM", "DDPM", "EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep"):
    scheduler = getattr(diffusers, f"{name}Scheduler")(timestep_spacing="trailing")
    others = 0
    for steps in range(1, 1001):
        scheduler.set_timesteps(steps)
        others += len(scheduler.timesteps) != steps
    scheduler.set_timesteps(61)
    found = len(scheduler.timesteps), int(scheduler.timesteps[-1])
    print(f"{name + 'Scheduler':<29} 61     {found[0]:<10} {found[1]:<5} {others}")
    if (found, others) != ((62, -1), 62):
        sys.exit("the behaviour has changed")
PYTHON
