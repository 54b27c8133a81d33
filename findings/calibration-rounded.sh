#!/usr/bin/env bash
# Library: uncertainty-calibration 0.1.4, scikit-learn 1.9.1, numpy 2.4.6
# Task: Measure how well a classifier is calibrated, by get_calibration_error on the probabilities of 10,000 images
#   that were stored with three or four decimals.
# One would guess: The fourth decimal changes the error by about as much, 0.0001.
# What happens: If each class has fewer different probabilities than a quarter of the images, they are taken for the
#   output of a method that bins, and each value becomes a bin of its own, most of them with a handful of images,
#   instead of fifteen equal ones. Stored with four decimals a calibrated classifier and one that is too sure have the
#   same error, stored in full the second one's is nine times as large. Its docstring tells of a heuristic. get_ece is
#   not affected.
# Instead: lower_bound_scaling_ce(probabilities, labels), which always takes fifteen bins, or get_ece.
# Output seen:
#                                       in full  four decimals  three decimals
#   get_calibration_error, calibrated   0.0031   0.0175         0.0185
#   get_calibration_error, too sure     0.0275   0.0176         0.0363
#   lower_bound_scaling_ce, calibrated  0.0031   0.0031         0.0032
#   lower_bound_scaling_ce, too sure    0.0275   0.0275         0.0275
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uncertainty-calibration==0.1.4 scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import numpy as np
from calibration import get_calibration_error, lower_bound_scaling_ce

rng = np.random.default_rng(0)
logits = rng.normal(0, 4, (10_000, 10))

def softmax(values):
    values = np.exp(values - values.max(1, keepdims=True))
    return values / values.sum(1, keepdims=True)

true = softmax(logits)
labels = (true.cumsum(1) > rng.random((len(true), 1))).argmax(1)
CLASSIFIERS = {"calibrated": true, "too sure": softmax(1.5 * logits)}
MEASURES = {"get_calibration_error": get_calibration_error, "lower_bound_scaling_ce": lower_bound_scaling_ce}
print(f"{'':36}in full  four decimals  three decimals")
seen = {}
for measure, error in MEASURES.items():
    for name, probabilities in CLASSIFIERS.items():
        stored = probabilities, probabilities.round(4), probabilities.round(3)
        seen[measure, name] = full, four, three = [error(values, labels) for values in stored]
        print(f"{measure + ', ' + name:36}{full:<9.4f}{four:<15.4f}{three:.4f}")
kept = max(abs(error - errors[0]) for (measure, _), errors in seen.items() if measure[0] == "l" for error in errors)
calibrated, too_sure = (seen["get_calibration_error", name] for name in CLASSIFIERS)
if kept > 0.001 or too_sure[0] < 5 * calibrated[0] or too_sure[1] > 1.5 * calibrated[1]:
    sys.exit("the behaviour has changed")
PYTHON
