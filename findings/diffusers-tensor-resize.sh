#!/usr/bin/env bash
# Library: diffusers 0.42.1, torch 2.14.1
# Task: Bring images to the size of a pipeline or an autoencoder by VaeImageProcessor.preprocess(images, height, width).
# One would guess: The processor's filter, resample="lanczos", is taken for an image whatever it comes as; a PIL image,
#   an array and a tensor of the same pixels give the same.
# What happens: Tensors and arrays are resized by nearest neighbour, without smoothing and whatever resample is: at half
#   the size each second pixel is dropped, and stripes of black and white become a black image instead of a grey one.
#   An autoencoder sees aliased images of a data set that is kept as tensors. Pull request 13500 of diffusers is open.
# Instead: Give PIL images, or resize tensors before by torchvision's resize(images, size, antialias=True).
# Output seen:
#   stripes of one pixel, 64 to 32 pixels, resample="lanczos": mean and deviation of what the autoencoder is given
#   PIL image  0.00  0.04
#   tensor    -1.00  0.00
#   array     -1.00  0.00
#   a circle: PIL image and tensor differ by up to 1.5 of 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.14.1 numpy==2.4.6 pillow==12.3.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

processor = VaeImageProcessor(vae_scale_factor=8, resample="lanczos")

def prepared(pixels):
    array = pixels[None].astype(np.float32) / 255  # (images, height, width, channels), as the processor wants it
    forms = {"PIL image": Image.fromarray(pixels), "tensor": torch.from_numpy(array).movedim(-1, 1), "array": array}
    return {name: processor.preprocess(image, height=32, width=32) for name, image in forms.items()}

stripes = np.tile(np.uint8([0, 255]), (64, 32))[..., None].repeat(3, axis=2)
print('stripes of one pixel, 64 to 32 pixels, resample="lanczos": mean and deviation of what the autoencoder is given')
seen = prepared(stripes)
for name, image in seen.items():
    print(f"{name:9} {round(image.mean().item(), 2) + 0.0:5.2f} {image.std():5.2f}")
across, down = np.mgrid[:64, :64] - 31.5
circle = prepared((np.hypot(across, down) < 25)[..., None].repeat(3, axis=2).astype(np.uint8) * 255)
difference = (circle["PIL image"] - circle["tensor"]).abs().max().item()
print(f"a circle: PIL image and tensor differ by up to {difference:.1f} of 2")
black = all((seen[name] == -1).all() for name in ("tensor", "array"))
if not black or seen["PIL image"].abs().mean() > 0.1 or difference < 0.5:
    sys.exit("the behaviour has changed")
PYTHON
