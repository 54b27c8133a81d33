#!/usr/bin/env bash
# Library: datasets 5.2.0, pyarrow 26.0.1
# Task: Label the digits 3, 7 and 11 of a larger set, whose class names are numbers, and meet an image of
#   another class.
# One would guess: A name that is not among the class names is an error, whether it is made of digits or of
#   letters.
# What happens: A text that is no class name but a number within the range is taken for a *place*: an image of
#   class "2" gets label 2, which is class "11", and one of class "0" becomes class "3". Only numbers past the
#   end are refused.
# Instead: Look up names.index(text) yourself, or give numeric classes a prefix.
# Output seen:
#   classes of the images: ['3', '7', '11', '2', '0']
#   after the cast:        ['3', '7', '11', '11', '3']
#   class "9": Invalid string class label 9
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
label = ClassLabel(names=["3", "7", "11"])
rows = Dataset.from_dict({"label": ["3", "7", "11", "2", "0"]})
became = [label.int2str(number) for number in rows.cast_column("label", label)["label"]]
print("classes of the images:", rows["label"][:])
print("after the cast:       ", became)
refused = False
try:
    label.str2int("9")
except ValueError as error:
    refused = True
    print('class "9":', error)
if became != ["3", "7", "11", "11", "3"] or not refused:
    sys.exit("the behaviour has changed")
PYTHON
