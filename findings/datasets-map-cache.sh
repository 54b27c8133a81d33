#!/usr/bin/env bash
# Library: datasets 5.2.0, pyarrow 26.0.1
# Task: Score a dataset with map(), correct the scoring function in its own module, and score again.
# One would guess: The changed function is seen as another function, so that map() runs again.
# What happens: What is hashed for the cache is the import path of a function from a module, not its code: the
#   second run takes the first run's scores from the cache, though the function now gives others.
# Instead: Pass load_from_cache_file=False, or new_fingerprint= with the version of the scorer in it.
# Output seen:
#   first scorer: [0.25, 0.25]
#   second scorer: [0.25, 0.25]
#   second scorer, cache not read: [0.75, 0.75]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/cache"
venv/bin/python - <<'PYTHON'
import subprocess
import sys
from pathlib import Path

Path("rows.jsonl").write_text('{"file_name": "a.png"}\n{"file_name": "b.png"}\n')
Path("run.py").write_text(
    """
import sys
import datasets, scorer
datasets.disable_progress_bars()
rows = datasets.load_dataset("json", data_files="rows.jsonl", split="train")
print(rows.map(scorer.score, load_from_cache_file="fresh" not in sys.argv)["difficulty"][:])
"""
)

def run(*options):
    command = [sys.executable, "-B", "run.py", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

Path("scorer.py").write_text("def score(row):\n    return {'difficulty': 0.25}\n")
first = run()
Path("scorer.py").write_text("def score(row):\n    return {'difficulty': 0.75}\n")
second, fresh = run(), run("fresh")
print(f"first scorer: {first}\nsecond scorer: {second}\nsecond scorer, cache not read: {fresh}")
if (first, second, fresh) != ("[0.25, 0.25]", "[0.25, 0.25]", "[0.75, 0.75]"):
    sys.exit("the behaviour has changed")
PYTHON
