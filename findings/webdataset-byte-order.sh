#!/usr/bin/env bash
# Library: webdataset 1.0.2, astropy 8.0.2, numpy 2.4.6
# Task: Pack images of galaxies, read from FITS files by astropy, into shards as numpy arrays, in webdataset's own
#   form "ten", which is made for speed, or in "npy".
# One would guess: Values come back, as they do from "npy"; the types of the arrays are equal by name.
# What happens: FITS is stored with the high byte first, and astropy leaves the arrays so. "ten" writes their bytes
#   and the name of their type without that order, and reads them the other way round: 1 is 256, and 0.5 is 8.8e-44.
#   Shape and dtype come back right and all works on. Arrays that h5py or numpy.frombuffer(..., ">f4") gave do the
#   same. Not found among its issues.
# Instead: array.astype(array.dtype.newbyteorder("=")) before writing, or "npy".
# Output seen:
#   file     dtype in  form  dtype out  values in     values out
#   int16    >i2       npy   >i2        1, 2, 1000    1, 2, 1000
#   int16    >i2       ten   <i2        1, 2, 1000    256, 512, -6141
#   float32  >f4       npy   >f4        0.5, 1, 1000  0.5, 1, 1000
#   float32  >f4       ten   <f4        0.5, 1, 1000  8.828e-44, 4.601e-41, 4.386e-41
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webdataset==1.0.2 astropy==8.0.2 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import numpy as np
import webdataset as wds
from astropy.io import fits

IMAGES = {"int16": np.int16([[1, 2, 1000]]), "float32": np.float32([[0.5, 1, 1000]])}
SWAPPED = {"int16": IMAGES["int16"].byteswap(), "float32": IMAGES["float32"].byteswap()}

def text(image):
    return ", ".join(f"{value:.4g}" for value in image.ravel().tolist())

print("file     dtype in  form  dtype out  values in     values out")
right, swapped = [], []
for name, pixels in IMAGES.items():
    fits.PrimaryHDU(pixels).writeto(f"{name}.fits")
    image = fits.getdata(f"{name}.fits")
    for form in ("npy", "ten"):
        with wds.TarWriter(f"{name}-{form}.tar") as writer:
            writer.write({"__key__": "0", f"image.{form}": [image] if form == "ten" else image})
        sample = next(iter(wds.WebDataset(f"{name}-{form}.tar", shardshuffle=False).decode()))[f"image.{form}"]
        back = sample[0] if form == "ten" else sample
        print(f"{name:9}{image.dtype.str:10}{form:6}{back.dtype.str:11}{text(image):14}{text(back)}")
        if np.array_equal(back, pixels):
            right.append((name, form))
        if np.array_equal(back, SWAPPED[name]):
            swapped.append((name, form))
if right != [(name, "npy") for name in IMAGES] or swapped != [(name, "ten") for name in IMAGES]:
    sys.exit("the behaviour has changed")
PYTHON
