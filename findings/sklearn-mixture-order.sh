#!/usr/bin/env bash
# Library: scikit-learn 1.9.1, numpy 2.4.6
# Task: Fit a mixture of two components to the difficulties of real images and draw targets from it for the
#   images to come.
# One would guess: sample(n) gives independent draws, in no order; the first ten of twenty are ten draws of
#   the mixture.
# What happens: The draws come component by component: the first ten are all of the easy component and the
#   last ten of the hard one. Given out in order, to classes or processes, one gets easy targets only and the
#   other hard ones only.
# Instead: Shuffle the draws before handing them out.
# Output seen:
#   targets:    0.8 0.8 0.8 0.8 0.8 0.8 0.8 0.8 0.8 0.8 0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1
#   components: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-learn==1.9.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
from sklearn.mixture import GaussianMixture

generator = np.random.default_rng(0)
easy, hard = generator.normal(0.1, 0.02, (300, 1)), generator.normal(0.8, 0.02, (300, 1))
mixture = GaussianMixture(2, random_state=0).fit(np.concatenate([easy, hard]))
targets, components = mixture.sample(20)
print("targets:   ", " ".join(f"{target:.1f}" for target in targets[:, 0]))
print("components:", components.tolist())
changes = int((np.diff(components) != 0).sum())
if changes != 1:
    sys.exit("the behaviour has changed")
PYTHON
