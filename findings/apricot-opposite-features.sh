#!/usr/bin/env bash
# Library: apricot-select 0.6.1, scikit-learn 1.9.1, numpy 2.4.6
# Task: Choose images that stand for a set, by FacilityLocationSelection with metric="cosine" (or "corr") on features
#   that have both signs, as those of CLIP and DINO have, or centered ones.
# One would guess: Similarity is the cosine, or the largest distance minus distances as its docstring says: images
#   that point to opposite sides are as different as can be.
# What happens: The cosine is squared, and an image and its opposite count as copies: whoever is chosen stands for
#   both. Of twelve modes that lie in six pairs of opposites the rare partners are left out, and the common ones are
#   chosen twice. Features without negative values are not affected. Not found among its issues.
# Instead: metric="precomputed" with 1 + cosine_similarity(features).
# Output seen:
#   12 images of 6 modes with 50 images and their 6 opposites with 10
#   metric                             modes with an image  of those, opposites
#   cosine                             7                    1
#   corr                               7                    1
#   precomputed, 1 + cosine            12                   6
#   precomputed, cosine squared        7                    1
#   the same 12 images by "cosine" and by the cosine squared: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet apricot-select==0.6.1 scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1 \
  numba==0.68.1
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import numpy as np
from apricot import FacilityLocationSelection
from sklearn.metrics.pairwise import cosine_similarity

rng = np.random.default_rng(0)
directions = np.eye(32)[:6]
modes = np.repeat(np.arange(12), [50] * 6 + [10] * 6)
features = np.concatenate([directions, -directions])[modes] + rng.normal(0, 0.03, (len(modes), 32))
cosine = cosine_similarity(features)
FORMS = {
    "cosine": ("cosine", features),
    "corr": ("corr", features),
    "precomputed, 1 + cosine": ("precomputed", 1 + cosine),
    "precomputed, cosine squared": ("precomputed", cosine**2),
}
print("12 images of 6 modes with 50 images and their 6 opposites with 10")
print(f"{'metric':35}modes with an image  of those, opposites")
chosen, found = {}, {}
for name, (metric, values) in FORMS.items():
    chosen[name] = FacilityLocationSelection(12, metric=metric, optimizer="naive").fit(values).ranking.tolist()
    found[name] = set(modes[chosen[name]])
    print(f"{name:35}{len(found[name]):<21}{sum(mode >= 6 for mode in found[name])}")
same = set(chosen["cosine"]) == set(chosen["precomputed, cosine squared"])
print('the same 12 images by "cosine" and by the cosine squared:', same)
if not same or len(found["precomputed, 1 + cosine"]) != 12 or max(len(found[name]) for name in ("cosine", "corr")) > 9:
    sys.exit("the behaviour has changed")
PYTHON
