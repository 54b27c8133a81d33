#!/usr/bin/env bash
# Library: vendi-score 0.0.3, numpy 2.4.6
# Task: Measure how many different images a set has by the Vendi score of their features, with an order q that counts
#   rare images more (q below 1) or less (q above 1).
# One would guess: score_X(features, q) is score_K of their cosine similarities with the same q, and score_dual, which
#   is the faster form of it, agrees too.
# What happens: score_X takes q and computes the score of order 1, whatever q is; score_K and score_dual heed it.
#   The set of 91 copies of one image and 9 others counts as 1.63 images instead of 1.20 (q=2) or 3.37 (q=0.5), and
#   curves over q are flat. Not found among its issues.
# Instead: score_dual(features, q), or score_K(similarities, q).
# Output seen:
#   q      score_X  score_K  score_dual
#   0.5    1.63     3.37     3.37
#   1      1.63     1.63     1.63
#   2      1.63     1.20     1.20
#   inf    1.63     1.10     1.10
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet vendi-score==0.0.3 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import warnings

import numpy as np
from vendi_score import vendi

warnings.filterwarnings("ignore", category=DeprecationWarning)  # it asks scipy for an old name of a class
images = np.random.default_rng(0).normal(size=(10, 64))
features = np.concatenate([np.repeat(images[:1], 91, axis=0), images[1:]])
normed = features / np.linalg.norm(features, axis=1, keepdims=True)
orders = [0.5, 1, 2, "inf"]
scores = np.array([
    [vendi.score_X(features, q), vendi.score_K(normed @ normed.T, q), vendi.score_dual(features, q)] for q in orders
])
print("q      score_X  score_K  score_dual")
for q, row in zip(orders, scores):
    print(f"{q:<6} " + "     ".join(f"{score:.2f}" for score in row))
if np.ptp(scores[:, 0]) > 1e-9 or not np.allclose(scores[:, 1], scores[:, 2], rtol=1e-3) or np.ptp(scores[:, 1]) < 1:
    sys.exit("the behaviour has changed")
PYTHON
