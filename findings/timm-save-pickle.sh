#!/usr/bin/env bash
# Library: timm 1.0.31, huggingface_hub 2.4.0, torch 2.14.1
# Task: Save a trained classifier of timm into a folder, in the form that push_to_hf_hub gives it on the Hub,
#   so that it can be loaded from the disk or uploaded later.
# One would guess: save_for_hf writes what push_to_hf_hub uploads, with the weights as safetensors among it.
# What happens: push_to_hf_hub has safe_serialization="both", save_for_hf has False: the folder has
#   pytorch_model.bin, a *pickle*, and no safetensors. Readers that refuse pickles find no weights in it.
# Instead: Say save_for_hf(..., safe_serialization=True), or "both".
# Output seen:
#   push_to_hf_hub: safe_serialization='both'
#   save_for_hf:    safe_serialization=False
#   as it is:       ['config.json', 'pytorch_model.bin']
#   with True:      ['config.json', 'model.safetensors']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet timm==1.0.31 huggingface_hub==2.4.0 torch==2.14.1 torchvision==0.29.1
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/cache"
venv/bin/python - <<'PYTHON'
import inspect
import sys
from pathlib import Path

import timm
from timm.models import push_to_hf_hub, save_for_hf

model = timm.create_model("test_resnet", num_classes=3)
save_for_hf(model, "usual")
save_for_hf(model, "safe", safe_serialization=True)
usual, safe = (sorted(path.name for path in Path(name).iterdir()) for name in ("usual", "safe"))
for function in (push_to_hf_hub, save_for_hf):
    default = inspect.signature(function).parameters["safe_serialization"].default
    print(f"{function.__name__ + ':':15} safe_serialization={default!r}")
print("as it is:      ", usual)
print("with True:     ", safe)
if usual != ["config.json", "pytorch_model.bin"] or "model.safetensors" not in safe:
    sys.exit("the behaviour has changed")
PYTHON
