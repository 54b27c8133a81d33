#!/usr/bin/env bash
# Library: datasets 5.2.0, pyarrow 26.0.1
# Task: Turn the integer labels of a table with 12 classes into a ClassLabel column by class_encode_column.
# One would guess: Integers from 0 on are class ids already and stay what they are; the names become "0" to "11".
# What happens: They are made texts, sorted as texts, and numbered anew: 2 becomes 4, 10 becomes 2. Up to ten
#   classes nothing changes. A classifier that knows the old numbers is right for 2 of these 12 classes.
# Instead: cast_column("label", ClassLabel(names=[...])) with a name for each number.
# Output seen:
#   labels:              [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
#   class_encode_column: [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3]
#   cast_column:         [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
#   ten classes only:    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
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
from datasets import ClassLabel, Dataset

datasets.disable_progress_bars()
rows = Dataset.from_dict({"label": list(range(12))})
names = ClassLabel(names=[f"class {number}" for number in range(12)])
encoded = rows.class_encode_column("label")["label"][:]
cast = rows.cast_column("label", names)["label"][:]
ten = rows.select(range(10)).class_encode_column("label")["label"][:]
print("labels:             ", rows["label"][:])
print("class_encode_column:", encoded)
print("cast_column:        ", cast)
print("ten classes only:   ", ten)
by_text = sorted(range(12), key=str)
if encoded != [by_text.index(number) for number in range(12)] or cast != list(range(12)) or ten != list(range(10)):
    sys.exit("the behaviour has changed")
PYTHON
