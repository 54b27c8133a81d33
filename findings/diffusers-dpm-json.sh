#!/usr/bin/env bash
# Library: diffusers 0.42.1, torch 2.14.1, orjson 3.11.5
# Task: Save a DPMSolverMultistepScheduler and read its scheduler_config.json by another program than Python's json.
# One would guess: A file of that name holds JSON, as those of all schedulers do.
# What happens: The default of lambda_min_clipped is minus infinity, and is written as the bare word -Infinity, which
#   JSON does not have: orjson refuses the file, as JavaScript's JSON.parse does. Pipelines that were saved with this
#   scheduler, or that it was put into before they were saved again, have such a file.
# Instead: lambda_min_clipped=-5.1, which diffusers' documentation advises for a cosine schedule anyway, or a number far
#   below all of the schedule, such as -1e9.
# Output seen:
#   DDIMScheduler: JSON
#   DPMSolverMultistepScheduler: no JSON ("lambda_min_clipped": -Infinity)
#   DPMSolverMultistepScheduler, -5.1: JSON
#   DPMSolverMultistepScheduler, -1e9: JSON, and the same timesteps and noise levels as before
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.14.1 numpy==2.4.6 orjson==3.11.5
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

import orjson
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

def told(name, scheduler):
    scheduler.save_pretrained("saved")
    text = Path("saved/scheduler_config.json").read_text()
    try:
        orjson.loads(text)
        print(f"{name}: JSON", end="")
        return True
    except orjson.JSONDecodeError:
        print(f"{name}: no JSON ({next(line for line in text.splitlines() if 'Infinity' in line).strip(' ,')})", end="")
        return False

plain, far = DPMSolverMultistepScheduler(), DPMSolverMultistepScheduler(lambda_min_clipped=-1e9)
for one in (plain, far):
    one.set_timesteps(12)
same = plain.timesteps.equal(far.timesteps) and plain.sigmas.equal(far.sigmas)
found = [told("DDIMScheduler", DDIMScheduler())]
print()
found.append(told("DPMSolverMultistepScheduler", plain))
print()
found.append(told("DPMSolverMultistepScheduler, -5.1", DPMSolverMultistepScheduler(lambda_min_clipped=-5.1)))
print()
found.append(told("DPMSolverMultistepScheduler, -1e9", far))
print(", and the same timesteps and noise levels as before" if same else ", and others")
if found != [True, False, True, True] or not same:
    sys.exit("the behaviour has changed")
PYTHON
