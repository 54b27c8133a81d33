#!/usr/bin/env bash
# Library: datasets 5.2.0, pyarrow 26.0.1
# Task: Build a dataset from records of which only some are scored yet.
# One would guess: The columns are those of all records, with None where a record has no value.
# What happens: Dataset.from_list takes the columns from the first record alone. A first record without a
#   difficulty drops everybody's, in silence; with the same records in another order the column is there.
# Instead: Give every record every key, or pass features=.
# Output seen:
#   unscored record first: ['file_name']
#   scored record first: ['file_name', 'difficulty']
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

from datasets import Dataset

records = [{"file_name": "a.png"}, {"file_name": "b.png", "difficulty": 0.3}]
forwards = Dataset.from_list(records).column_names
backwards = Dataset.from_list(records[::-1]).column_names
print(f"unscored record first: {forwards}\nscored record first: {backwards}")
if (forwards, backwards) != (["file_name"], ["file_name", "difficulty"]):
    sys.exit("the behaviour has changed")
PYTHON
