#!/usr/bin/env bash
# Library: diffusers 0.42.1, torch 2.14.1
# Task: Sample with EulerDiscreteScheduler at noise levels that are evenly spaced in their logarithm, by its
#   interpolation_type="log_linear".
# One would guess: The timesteps follow the noise levels, so that the network is asked about the noise that is there,
#   as they do with use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas.
# What happens: The noise levels are changed and the timesteps stay those of "linear". In the middle of the steps the
#   network is told more than three times the noise that its input has, and even one that knows all about the noise of
#   every timestep leaves the sample wrong, in more steps too. Nothing is said. Not found among its issues.
# Instead: EulerDiscreteScheduler(use_exponential_sigmas=True), which has levels of the same kind and their timesteps.
# Output seen:
#   25 steps                             timestep  noise in the input  noise the network is told
#   interpolation_type="linear"          374.6     1.07                1.07
#   interpolation_type="log_linear"      374.6     0.35                1.07
#   use_exponential_sigmas=True          80.8      0.30                0.30
#   deviation of the samples from the one image that the network knows, which is 0.7 everywhere
#   steps                                25        50                  100
#   interpolation_type="linear"          0.00      0.00                0.00
#   interpolation_type="log_linear"      0.25      0.31                0.34
#   use_exponential_sigmas=True          0.00      0.00                0.00
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.14.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/cache"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler

SPACINGS = {
    'interpolation_type="linear"': {"interpolation_type": "linear"},
    'interpolation_type="log_linear"': {"interpolation_type": "log_linear"},
    "use_exponential_sigmas=True": {"use_exponential_sigmas": True},
}

def scheduler_of(options, steps):
    """The scheduler of Stable Diffusion, and the noise level of each of its timesteps by its training schedule."""
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, **options
    )
    scheduler.set_timesteps(steps)
    table = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).double().sqrt().log().numpy()
    return scheduler, np.exp(np.interp(scheduler.timesteps.numpy(), np.arange(1000), table))

def deviation(options, steps):
    """Of samples drawn with a network that knows one image, 0.7 everywhere, and so the noise in any input."""
    scheduler, told = scheduler_of(options, steps)
    noise = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sample = noise * scheduler.init_noise_sigma
    for timestep, level in zip(scheduler.timesteps, told):
        seen = scheduler.scale_model_input(sample, timestep)
        noise = (seen * (level**2 + 1) ** 0.5 - 0.7) / level
        sample = scheduler.step(noise, timestep, sample).prev_sample
    return (sample - 0.7).square().mean().sqrt().item()

print(f"{'25 steps':37}timestep  noise in the input  noise the network is told")
gaps = {}
for name, options in SPACINGS.items():
    scheduler, told = scheduler_of(options, 25)
    gaps[name] = told[15] / scheduler.sigmas[15].item()
    print(f"{name:37}{scheduler.timesteps[15]:<10.1f}{scheduler.sigmas[15]:<20.2f}{told[15]:.2f}")
print("deviation of the samples from the one image that the network knows, which is 0.7 everywhere")
print(f"{'steps':37}25        50                  100")
left = {}
for name, options in SPACINGS.items():
    left[name] = [deviation(options, steps) for steps in (25, 50, 100)]
    print(f"{name:37}{left[name][0]:<10.2f}{left[name][1]:<20.2f}{left[name][2]:.2f}")
linear, log_linear, exponential = SPACINGS
if (
    gaps[log_linear] < 2
    or max(abs(gaps[name] - 1) for name in (linear, exponential)) > 0.02
    or min(left[log_linear]) < 0.05
    or max(left[linear] + left[exponential]) > 0.01
):
    sys.exit("the behaviour has changed")
PYTHON
