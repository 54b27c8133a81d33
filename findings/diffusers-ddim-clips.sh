#!/usr/bin/env bash
# Library: diffusers 0.42.1, torch 2.14.1
# Task: Give a latent pipeline that was saved with DPM-Solver, as PixArt's are, DDIM instead, in the documented way:
#   DDIMScheduler.from_config(pipeline.scheduler.config).
# One would guess: Both step through the same schedule, so that exact predictions lead to the same sample.
# What happens: DPM-Solver's configuration says nothing of clip_sample, and DDIM's default is True, which is meant for
#   pixels: every predicted clean sample is cut to [-1, 1], so that a latent of 3 comes out as 1. Nothing is said. The
#   same holds for DDPMScheduler, and not for a configuration that once came from a DDIM that had False.
# Instead: DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False).
# Output seen:
#   clean latent 3.0, predicted exactly in 20 steps
#   DPMSolverMultistepScheduler               3.0
#   DDIMScheduler.from_config                 1.0
#   DDPMScheduler.from_config                 1.0
#   DDIMScheduler.from_config, not clipped    3.0
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
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

CLEAN = torch.full((1, 1), 3.0)

def drawn(scheduler):
    """Where a sample ends whose noise is always predicted rightly."""
    scheduler.set_timesteps(20)
    alphas = DPMSolverMultistepScheduler().alphas_cumprod
    noise = torch.randn(1, 1, generator=torch.Generator().manual_seed(0))
    first = alphas[scheduler.timesteps[0]]
    sample = first.sqrt() * CLEAN + (1 - first).sqrt() * noise
    for timestep in scheduler.timesteps:
        signal = alphas[timestep]
        answer = (sample - signal.sqrt() * CLEAN) / (1 - signal).sqrt()
        sample = scheduler.step(answer, timestep, sample, generator=torch.Generator().manual_seed(1)).prev_sample
    return round(sample.item(), 2)

saved = DPMSolverMultistepScheduler().config
print("clean latent 3.0, predicted exactly in 20 steps")
found = {
    "DPMSolverMultistepScheduler": drawn(DPMSolverMultistepScheduler.from_config(saved)),
    "DDIMScheduler.from_config": drawn(DDIMScheduler.from_config(saved)),
    "DDPMScheduler.from_config": drawn(DDPMScheduler.from_config(saved)),
    "DDIMScheduler.from_config, not clipped": drawn(DDIMScheduler.from_config(saved, clip_sample=False)),
}
for name, value in found.items():
    print(f"{name:41} {value}")
if list(found.values()) != [3.0, 1.0, 1.0, 3.0]:
    sys.exit("the behaviour has changed")
PYTHON
