#!/usr/bin/env bash
# Library: piq 0.8.0, prdc 0.2, torch 2.14.1
# Task: Measure by piq.PR how much of a real set is covered by a generated one (recall), here by one that has collapsed
#   to the middle and covers nothing.
# One would guess: The recall of prdc, which piq's source names as its origin: the share of real images that lie within
#   the radius, the distance to the k-th neighbour, of at least one generated image.
# What happens: Besides these, piq counts each real image that has some generated image at its *own* radius, up to 1 in
#   100,000: the second half of its condition names the radii of the real images, where the first has those of the
#   generated. Among thousands of images one is nearly always that far away, so that recall grows with their number: 0
#   by prdc, 0.34 among 4,000 by piq. Precision is right. Not found among its issues.
# Instead: prdc.compute_prdc(real, fake, nearest_k), which gives density and coverage too.
# Output seen:
#   real images are 64 normal numbers, recall with k = 5
#   images  generated ones                 piq   prdc
#   1000    drawn as the real ones         0.74  0.74
#   1000    collapsed to 0.3 of the width  0.04  0.00
#   4000    drawn as the real ones         0.69  0.69
#   4000    collapsed to 0.3 of the width  0.34  0.00
#   precision of both agrees: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet piq==0.8.0 prdc==0.2 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 \
  scikit-learn==1.9.1 scipy==1.17.1
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import contextlib
import io
import sys

import torch
from piq import PR
from prdc import compute_prdc

torch.manual_seed(0)
NAMES = {1.0: "drawn as the real ones", 0.3: "collapsed to 0.3 of the width"}

def measured(number, width):
    real, fake = torch.randn(number, 64), width * torch.randn(number, 64)
    with contextlib.redirect_stdout(io.StringIO()):
        other = compute_prdc(real.numpy(), fake.numpy(), nearest_k=5)
    precision, recall = PR(nearest_k=5)(real, fake)
    return recall.item(), other["recall"], abs(precision.item() - other["precision"])

print("real images are 64 normal numbers, recall with k = 5")
print("images  generated ones                 piq   prdc")
seen = {(number, width): measured(number, width) for number in (1000, 4000) for width in NAMES}
for (number, width), (here, there, _) in seen.items():
    print(f"{number:<8}{NAMES[width]:31}{here:<6.2f}{there:.2f}")
alike = all(apart < 0.002 for *_, apart in seen.values())
print("precision of both agrees:", alike)
small, large = seen[1000, 0.3], seen[4000, 0.3]
if not alike or small[1] > 0.01 or large[1] > 0.01 or not 0.01 < small[0] < large[0] or large[0] < 0.2:
    sys.exit("the behaviour has changed")
PYTHON
