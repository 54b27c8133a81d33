#!/usr/bin/env bash
# Library: diffusers 0.42.1, torch 2.14.1
# Task: Leave blocks of Stable Diffusion 3 out of the guided prediction, as SkipLayerGuidance and AutoGuidance do by
#   apply_layer_skip.
# One would guess: A block that is skipped hands on what it was given, as the model's own argument skip_layers does.
# What happens: The hook hands out (image, text), and these blocks hand out (text, image), so that after a skipped block
#   the streams have changed places, until the next skipped one changes them back. Blocks between two skipped ones take
#   words for pixels, and nothing is said; neighbours in pairs come out right; an odd number of blocks, such as the usual
#   7, 8, 9, fails at the end by its shape.
# Instead: model(..., skip_layers=[...]) for Stable Diffusion 3; or skip attention and feed-forward, one by one.
# Output seen:
#   (largest difference from the model's own skip_layers, and what skipping changes at all)
#   blocks [0, 1] 0.0 of 0.24
#   blocks [0, 2] 0.22 of 0.17
#   blocks [0, 3] 0.3 of 0.39
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.14.1 numpy==2.4.6 transformers==5.24.0
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import torch
from diffusers import LayerSkipConfig, SD3Transformer2DModel
from diffusers.hooks import apply_layer_skip

SIZES = {"attention_head_dim": 8, "num_attention_heads": 4, "caption_projection_dim": 32, "joint_attention_dim": 16}
LATENTS = {"sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4}


def model():
    torch.manual_seed(0)
    made = SD3Transformer2DModel(num_layers=5, pooled_projection_dim=16, **SIZES, **LATENTS).eval()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return made


torch.manual_seed(1)
inputs = {
    "hidden_states": torch.randn(1, 4, 8, 8),
    "encoder_hidden_states": torch.randn(1, 7, 16),
    "pooled_projections": torch.randn(1, 16),
    "timestep": torch.tensor([500.0]),
}
wrong = {}
for blocks in ([0, 1], [0, 2], [0, 3]):
    hooked = model()
    apply_layer_skip(hooked, LayerSkipConfig(indices=blocks, fqn="transformer_blocks"))
    with torch.no_grad():
        whole, own = model()(**inputs).sample, model()(**inputs, skip_layers=blocks).sample
        found = hooked(**inputs).sample
    difference, changed = (float((one - own).abs().max()) for one in (found, whole))
    wrong[tuple(blocks)] = difference / changed
    print("blocks", blocks, round(difference, 2), "of", round(changed, 2))
if wrong[0, 1] > 0.01 or wrong[0, 2] < 0.5 or wrong[0, 3] < 0.5:
    sys.exit("the behaviour has changed")
PYTHON
