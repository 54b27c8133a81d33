#!/usr/bin/env bash
# Library: datasets 5.2.0, pyarrow 26.0.1
# Task: Bring a dataset to a model's label numbers, where two class names differ in case only (a crane is a
#   bird, a Crane is a machine).
# One would guess: Names are compared as they are written, or the clash is an error.
# What happens: align_labels_with_mapping compares names in lower case, so that both classes get the number of
#   the last one. The features of the result still name both, and no image is left in the other.
# Instead: Make the names distinct in lower case before aligning ("crane bird", "crane machine").
# Output seen:
#   classes before: ['Crane', 'crane', 'dog']
#   classes after:  ['Crane', 'Crane', 'dog']
#   names after:    ['crane', 'dog', 'Crane']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/cache"
venv/bin/python - <<'PYTHON'
import sys

import datasets
from datasets import ClassLabel, Dataset, Features

datasets.disable_progress_bars()
features = Features({"label": ClassLabel(names=["Crane", "crane", "dog"])})
rows = Dataset.from_dict({"label": [0, 1, 2]}, features=features)
aligned = rows.align_labels_with_mapping({"crane": 0, "dog": 1, "Crane": 2}, "label")
before = [rows.features["label"].int2str(number) for number in rows["label"]]
after = [aligned.features["label"].int2str(number) for number in aligned["label"]]
print(f"classes before: {before}\nclasses after:  {after}\nnames after:    {aligned.features['label'].names}")
if after != ["Crane", "Crane", "dog"]:
    sys.exit("the behaviour has changed")
PYTHON
