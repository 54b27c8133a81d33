#!/usr/bin/env bash
# Library: polars 2.1.0, pandas 3.1.1, pyarrow 26.0.1
# Task: Turn a column of class names into labels by pl.Categorical and to_physical(), in the program that trains and
#   again in the one that evaluates; or read a Parquet file that pandas wrote with a category column.
# One would guess: The numbers belong to the column: of its own values, in their order, or those of the category that
#   pandas wrote, whose codes it keeps in Parquet.
# What happens: All columns of a process share one list of names, in the order in which they were met, and it is
#   forgotten once none of them is left. The same test column has other labels alone than next to the training column,
#   and pandas' codes are lost. An Enum is kept, through Parquet too. Asked about in its issue 23948.
# Instead: pl.Enum(names), with the names in the order of the labels.
# Output seen:
#   names of the test column:                cat dog fox
#   next to the training column:             1 0 2
#   alone in its process:                    0 1 2
#   read by pandas from pandas' Parquet:     2 5 7
#   read by polars from pandas' Parquet:     0 1 2
#   as pl.Enum, written and read by polars:  2 5 7
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet polars==2.1.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
cat > labels.py <<'PYTHON'
import sys

import pandas as pd
import polars as pl

CLASSES = ["ant", "bee", "cat", "cow", "cub", "dog", "eel", "fox"]
TEST = ["cat", "dog", "fox"]

def labels(column):
    return " ".join(map(str, column.to_list()))

if "train" in sys.argv:
    train = pl.Series(["dog", "cat", "fox", "ant"], dtype=pl.Categorical)
    print(labels(pl.Series(TEST, dtype=pl.Categorical).to_physical()))
elif "alone" in sys.argv:
    print(labels(pl.Series(TEST, dtype=pl.Categorical).to_physical()))
elif "pandas" in sys.argv:
    pd.DataFrame({"name": pd.Categorical(TEST, categories=CLASSES)}).to_parquet("pandas.parquet")
    print(labels(pd.read_parquet("pandas.parquet")["name"].cat.codes))
elif "polars" in sys.argv:
    print(labels(pl.read_parquet("pandas.parquet")["name"].to_physical()))
else:
    pl.DataFrame({"name": pl.Series(TEST, dtype=pl.Enum(CLASSES))}).write_parquet("enum.parquet")
    print(labels(pl.read_parquet("enum.parquet")["name"].to_physical()))
PYTHON
venv/bin/python - <<'PYTHON'
import subprocess
import sys

NAMES = {
    "train": "next to the training column:",
    "alone": "alone in its process:",
    "pandas": "read by pandas from pandas' Parquet:",
    "polars": "read by polars from pandas' Parquet:",
    "enum": "as pl.Enum, written and read by polars:",
}
print(f"{'names of the test column:':41}cat dog fox")
seen = {}
for word, name in NAMES.items():
    seen[word] = subprocess.check_output([sys.executable, "labels.py", word], text=True).strip()
    print(f"{name:41}{seen[word]}")
wanted = {"train": "1 0 2", "alone": "0 1 2", "pandas": "2 5 7", "polars": "0 1 2", "enum": "2 5 7"}
if seen != wanted:
    sys.exit("the behaviour has changed")
PYTHON
