#!/usr/bin/env bash
# Library: pandas 3.1.1, numpy 2.4.6
# Task: Store difficulties 1 - p as JSON lines with to_json and read them back.
# One would guess: A float is written with all its digits, as by Python's json.
# What happens: to_json keeps ten places after the point. A difficulty of 3.2e-12, common for a good
#   classifier, is written as 0.0, and the log odds of the image go from 26.5 to infinity; 1/3 loses six
#   digits.
# Instead: Pass double_precision=15, which still cuts at 1e-15, or write the lines with Python's json.
# Output seen:
#   in the table: [3.2e-12, 0.3333333333333333]
#   in the file:  [0.0, 0.3333333333]
#   log odds of the first image: 26.5 then inf
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pandas==3.1.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import json
import math
import sys

import pandas as pd

table = pd.DataFrame({"difficulty": [3.2e-12, 1 / 3]})
text = table.to_json(orient="records", lines=True)
easy, third = (json.loads(line)["difficulty"] for line in text.splitlines())
print("in the table:", table["difficulty"].tolist())
print("in the file: ", [easy, third])
before = math.log1p(-3.2e-12) - math.log(3.2e-12)
print("log odds of the first image:", round(before, 1), "then", math.inf if easy == 0 else -math.log(easy))
if easy != 0.0 or third != 0.3333333333:
    sys.exit("the behaviour has changed")
PYTHON
