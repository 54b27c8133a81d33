#!/usr/bin/env bash
# Library: diffusers 0.42.1, peft 0.21.2, torch 2.14.1
# Task: Keep a pipeline with a LoRA as one folder: load_lora_weights(...), save_pretrained(folder), and from_pretrained
#   elsewhere.
# One would guess: The folder holds what was saved, base and LoRA, and gives the same images.
# What happens: The layers that the LoRA changes are written under other names (to_q.base_layer.weight beside
#   to_q.lora_A...), which from_pretrained does not look for. It returns a model all the same: the weights of these
#   layers are on the device "meta", without values, and with low_cpu_mem_usage=False they are whatever the memory
#   held. A warning lists all keys and calls them newly initialized. Pipelines loaded so drew
#   NaN; only where a layer with a bias is among them, as to_out.0, do meta weights raise at the first call. Issues 6602
#   and 9420 tell of it.
# Instead: fuse_lora() and unload_lora_weights() of the pipeline (unload_lora() of a model) before save_pretrained, or
#   save_lora_weights beside an unchanged base. Ask for output_loading_info=True of a model that others saved.
# Output seen:
#   a U-Net with a LoRA on its attention, saved and loaded
#                                   weights not found  of these without values  same output
#   as it is                        40                 40                       -
#   as it is, low_cpu_mem_usage off 40                 0                        False
#   fused and unloaded              0                  0                        True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 peft==0.21.2 torch==2.14.1 numpy==2.4.6 transformers==5.24.0 \
    accelerate==1.15.0
cd "$folder"
export HF_HUB_OFFLINE=1
venv/bin/python - <<'PYTHON'
import sys

import torch
from diffusers import UNet2DConditionModel
from diffusers.utils.logging import set_verbosity_error
from peft import LoraConfig

set_verbosity_error()  # two warnings of a hundred keys
torch.manual_seed(0)
blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "block_out_channels": (8, 16)}
blocks |= {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "layers_per_block": 1, "norm_num_groups": 4}
unet = UNet2DConditionModel(sample_size=8, cross_attention_dim=8, attention_head_dim=4, **blocks).eval()
attention = ["to_q", "to_k", "to_v", "to_out.0"]  # what the training scripts of diffusers give a LoRA to
unet.add_adapter(LoraConfig(r=2, target_modules=attention, init_lora_weights=False))
latents, text = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 8)

@torch.no_grad()
def output(model):
    return model(latents, 500, text).sample

def loaded(folder, **options):
    model, report = UNet2DConditionModel.from_pretrained(folder, output_loading_info=True, **options)
    empty = sum(weight.is_meta for weight in model.parameters())
    same = None if empty else torch.allclose(output(model.eval()), expected, atol=1e-4)
    return len(report["missing_keys"]), empty, same

expected = output(unet)
unet.save_pretrained("worn")
seen = {"as it is": loaded("worn"), "as it is, low_cpu_mem_usage off": loaded("worn", low_cpu_mem_usage=False)}
unet.fuse_lora()
unet.unload_lora()
unet.save_pretrained("fused")
seen["fused and unloaded"] = loaded("fused")
print("a U-Net with a LoRA on its attention, saved and loaded")
print(f"{'':32}weights not found  of these without values  same output")
for way, (missing, empty, same) in seen.items():
    print(f"{way:32}{missing:<19}{empty:<25}{'-' if same is None else same}")
if list(seen.values()) != [(40, 40, None), (40, 0, False), (0, 0, True)]:
    sys.exit("the behaviour has changed")
PYTHON
