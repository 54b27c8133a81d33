#!/usr/bin/env bash
# Library: Pillow 12.3.0, numpy 2.4.6
# Task: Ask whether two generated images are equal by ImageChops.difference(a, b).getbbox() is None.
# One would guess: The box encloses all pixels that differ, in any channel.
# What happens: For images with an alpha channel getbbox looks at alpha alone, and two opaque images have no
#   difference there: a red and a blue one count as equal.
# Instead: Convert to RGB first, pass alpha_only=False, or compare the arrays.
# Output seen:
#   RGBA: None
#   RGBA, alpha_only=False: (0, 0, 8, 8)
#   RGB: (0, 0, 8, 8)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet Pillow==12.3.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

from PIL import Image, ImageChops

red, blue = Image.new("RGBA", (8, 8), "red"), Image.new("RGBA", (8, 8), "blue")
rgba = ImageChops.difference(red, blue).getbbox()
every = ImageChops.difference(red, blue).getbbox(alpha_only=False)
rgb = ImageChops.difference(red.convert("RGB"), blue.convert("RGB")).getbbox()
print(f"RGBA: {rgba}\nRGBA, alpha_only=False: {every}\nRGB: {rgb}")
if rgba is not None or every != (0, 0, 8, 8) or rgb != (0, 0, 8, 8):
    sys.exit("the behaviour has changed")
PYTHON
