#!/usr/bin/env bash
# Library: diffusers 0.42.1, torch 2.14.1
# Task: Train an AutoencoderTiny on images of one's own, or guide through it, by vae(images).sample.
# One would guess: vae(images) is vae.decode(vae.encode(images)), as in AutoencoderKL and AutoencoderDC, and the loss
#   reaches every weight.
# What happens: forward() clips the latents to -3 to 3, rounds them to 256 levels and decodes these, as if they had been
#   stored in a PNG; only a comment in the code says so. Rounded bytes have no gradient: the encoder gets none at all,
#   not even zeros, its weights stay as they were drawn or loaded, and the loss still falls, since the decoder adapts to
#   it. Gradients to the images are refused with an error. Not found among its issues.
# Instead: vae.decode(vae.encode(images).latents).sample.
# Output seen:
#   weights that get a gradient                  encoder     decoder
#   AutoencoderKL    vae(images)                 30 of 30    38 of 38
#   AutoencoderTiny  vae(images)                 0 of 17     17 of 17
#   AutoencoderTiny  vae.decode(vae.encode())    17 of 17    17 of 17
#   AutoencoderTiny, 100 steps of vae(images): loss 1.15 to 0.33, the encoder has changed: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import torch
from diffusers import AutoencoderKL, AutoencoderTiny

torch.manual_seed(0)
images = torch.rand(8, 3, 32, 32) * 2 - 1

def tiny():
    torch.manual_seed(0)
    return AutoencoderTiny(
        encoder_block_out_channels=(16, 16), decoder_block_out_channels=(16, 16),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
    )

def kullback_leibler():
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",), block_out_channels=(16,),
        norm_num_groups=4, mid_block_add_attention=False,
    )

def whole(vae):
    return vae(images).sample

def in_parts(vae):
    return vae.decode(vae.encode(images).latents).sample

def reached(vae, decoded):
    (decoded(vae) - images).square().mean().backward()
    parts = ([one.grad is not None for one in part.parameters()] for part in (vae.encoder, vae.decoder))
    return [(sum(part), len(part)) for part in parts]

print(f"{'weights that get a gradient':45}encoder     decoder")
seen = {
    "AutoencoderKL    vae(images)": reached(kullback_leibler(), whole),
    "AutoencoderTiny  vae(images)": reached(tiny(), whole),
    "AutoencoderTiny  vae.decode(vae.encode())": reached(tiny(), in_parts),
}
for name, parts in seen.items():
    print(f"{name:45}" + "".join(f"{f'{some} of {every}':12}" for some, every in parts).rstrip())

vae, losses = tiny(), []
before = [one.detach().clone() for one in vae.encoder.parameters()]
optimizer = torch.optim.Adam(vae.parameters(), lr=3e-3)
for _ in range(100):
    loss = (whole(vae) - images).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
changed = not all(torch.equal(was, now) for was, now in zip(before, vae.encoder.parameters(), strict=True))
print(f"AutoencoderTiny, 100 steps of vae(images): loss {losses[0]:.2f} to {losses[-1]:.2f},"
      f" the encoder has changed: {changed}")
counts = [[some == every for some, every in parts] for parts in seen.values()]
none = seen["AutoencoderTiny  vae(images)"][0][0]
if counts != [[True, True], [False, True], [True, True]] or none or changed or losses[-1] > losses[0]:
    sys.exit("the behaviour has changed")
PYTHON
