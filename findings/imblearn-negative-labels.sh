#!/usr/bin/env bash
# Library: imbalanced-learn 0.14.2, scikit-learn 1.9.1
# Task: Keep the 300 easiest of 1,000 samples of a class by InstanceHardnessThreshold, which measures by cross-validated
#   probabilities how hard each sample is, with labels -1 and 1 as scikit-learn knows them.
# One would guess: Labels are names: the same samples are kept whether the classes are called 0 and 1 or -1 and 1.
# What happens: The label is taken for the column of its probability, and column -1 is the last one: of class -1 the
#   samples are kept that look most like class 1, the hardest instead of the easiest. With -1, 0 and 1 each class is
#   judged by the probability of another. Texts and the labels 1 and 2 are refused by an IndexError. Not found among its
#   issues.
# Instead: Number the classes from 0 on, LabelEncoder().fit_transform(labels).
# Output seen:
#   labels    kept  mean probability of their own class, of all 1,000
#   0 and 1   300   1.00                                 0.89
#   -1 and 1  300   0.67                                 0.89
#   both have 0 of 300 in common
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet imbalanced-learn==0.14.2 scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
from imblearn.under_sampling import InstanceHardnessThreshold
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

rng = np.random.default_rng(0)
features = np.concatenate([rng.normal(-1, 1, (1000, 2)), rng.normal(1, 1, (1000, 2))])
classes = np.repeat([0, 1], 1000)
own = cross_val_predict(LogisticRegression(), features, classes, method="predict_proba")[:1000, 0]

def kept_of_first_class(names):
    sampler = InstanceHardnessThreshold(
        estimator=LogisticRegression(), sampling_strategy={names[0]: 300}, random_state=0
    )
    sampler.fit_resample(features, np.array(names)[classes])
    return sampler.sample_indices_[sampler.sample_indices_ < 1000]

print("labels    kept  mean probability of their own class, of all 1,000")
kept = {names: kept_of_first_class(names) for names in ((0, 1), (-1, 1))}
for (first, second), chosen in kept.items():
    print(f"{f'{first} and {second}':10}{len(chosen):<6}{own[chosen].mean():<37.2f}{own.mean():.2f}")
common = len(np.intersect1d(*kept.values()))
print(f"both have {common} of 300 in common")
right, wrong = (own[chosen].mean() for chosen in kept.values())
if not wrong < own.mean() < right or common:
    sys.exit("the behaviour has changed")
PYTHON
