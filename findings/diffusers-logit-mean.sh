#!/usr/bin/env bash
# Library: diffusers 0.42.1, torch 2.14.1
# Task: Train a flow-matching DiT mostly on noisy images, with timesteps drawn as the training scripts of diffusers and
#   many others draw them: u = compute_density_for_timestep_sampling("logit_normal", n, logit_mean, logit_std), then
#   scheduler.timesteps[(u * 1000).long()].
# One would guess: logit_mean is the m of the Stable Diffusion 3 paper (section 3.1), which the function refers to: a
#   positive one leads toward noise, a negative one toward images.
# What happens: The timesteps of FlowMatchEulerDiscreteScheduler go down from 1,000, so that an index near the end is an
#   image with hardly any noise: logit_mean=1 trains at a noise of 0.30 on average, -1 at 0.70. At 0, the default of
#   the scripts, nobody notices. Not found among its issues.
# Instead: Give the mean with the other sign, or index by 1 - u.
# Output seen:
#   logit_mean  share of noise in the paper  by the scheduler's timesteps
#   -1.0        0.30                         0.70
#    0.0        0.50                         0.50
#    1.0        0.70                         0.30
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
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling

torch.manual_seed(0)
scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
print("logit_mean  share of noise in the paper  by the scheduler's timesteps")
seen = []
for mean in (-1.0, 0.0, 1.0):
    paper = torch.sigmoid(mean + torch.randn(100_000)).mean().item()  # t of z = (1 - t) * image + t * noise
    u = compute_density_for_timestep_sampling("logit_normal", 100_000, logit_mean=mean, logit_std=1.0)
    timesteps = scheduler.timesteps[(u * scheduler.config.num_train_timesteps).long()]
    seen.append((round(paper, 2), round(timesteps.mean().item() / 1000, 2)))
    print(f"{mean:4.1f}        {seen[-1][0]:.2f}{seen[-1][1]:29.2f}")
if seen != [(0.3, 0.7), (0.5, 0.5), (0.7, 0.3)]:
    sys.exit("the behaviour has changed")
PYTHON
