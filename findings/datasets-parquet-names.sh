#!/usr/bin/env bash
# Library: datasets 5.2.0, pyarrow 26.0.1
# Task: Load several Parquet files as one set, by load_dataset("parquet", data_files=[...]), where each was written
#   with class names of its own order: real images from one program, generated ones from another.
# One would guess: Labels follow their names, or the files are refused, as concatenate_datasets refuses the same two
#   sets because their features cannot be aligned.
# What happens: The names of the first file hold for all, and the numbers of the others are kept: each dog of the
#   second file is a cat. Names that the first file does not have are gone. Nothing is said; with streaming=True and
#   by Dataset.from_parquet it is the same. Not found among its issues.
# Instead: Load the files one by one and call concatenate_datasets, after align_labels_with_mapping on those that it
#   refuses.
# Output seen:
#   written:                   cat dog / dog cat
#   load_dataset:              cat dog / cat dog
#   load_dataset, streaming:   cat dog / cat dog
#   Dataset.from_parquet:      cat dog / cat dog
#   the second file comes first: dog cat / dog cat
#   concatenate_datasets:      ValueError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/cache" HF_DATASETS_DISABLE_PROGRESS_BARS=1
venv/bin/python -W ignore - <<'PYTHON'
import sys

from datasets import ClassLabel, Dataset, Features, concatenate_datasets, load_dataset

FILES = {"real.parquet": ["cat", "dog"], "generated.parquet": ["dog", "cat"]}

def written(file):
    """Two rows, one of each class, in the order of the file's own names."""
    dataset = Dataset.from_dict({"label": [0, 1]}, features=Features({"label": ClassLabel(names=FILES[file])}))
    dataset.to_parquet(file)
    return dataset

def words(dataset):
    names = dataset.features["label"].names
    found = [names[row["label"]] for row in dataset]
    return " / ".join([" ".join(found[:2]), " ".join(found[2:])])

parts = [written(file) for file in FILES]
real, generated = FILES
options = {"split": "train", "cache_dir": "cache"}
seen = {
    "load_dataset": words(load_dataset("parquet", data_files=[real, generated], **options)),
    "load_dataset, streaming": words(
        load_dataset("parquet", data_files=[real, generated], streaming=True, **options)
    ),
    "Dataset.from_parquet": words(Dataset.from_parquet([real, generated], cache_dir="cache")),
    "the second file comes first": words(load_dataset("parquet", data_files=[generated, real], **options)),
}
try:
    seen["concatenate_datasets"] = words(concatenate_datasets(parts))
except ValueError as error:
    seen["concatenate_datasets"] = type(error).__name__
print(f"{'written:':27}cat dog / dog cat")
for name, found in seen.items():
    print(f"{name + ':':27}{found}" if len(name) < 26 else f"{name}: {found}")
if list(seen.values()) != ["cat dog / cat dog"] * 3 + ["dog cat / dog cat", "ValueError"]:
    sys.exit("the behaviour has changed")
PYTHON
