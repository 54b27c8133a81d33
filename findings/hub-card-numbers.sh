#!/usr/bin/env bash
# Library: huggingface_hub 2.4.0, PyYAML 6.0.4
# Task: Write the class names of an ImageNet subset into a dataset card by hand (WordNet offsets without the
#   n), load the card and save it.
# One would guess: A name is kept as it was typed; at worst a leading zero is lost, alike for every class.
# What happens: Offsets without an 8 or a 9 are read as *octal*: 01440764 (tench) becomes 410100. Those with
#   an 8 or a 9 stay texts, so that most of the list looks right. Saving writes the new numbers into the card.
# Instead: Quote the names: '01440764'; cards made by DatasetCardData are quoted.
# Output seen:
#   typed:  01440764, 02102040, 02979186, '01440764'
#   loaded: [410100, 558112, '02979186', '01440764']
#   saved:  ["'0': 410100", "'1': 558112", "'2': 02979186", "'3': '01440764'"]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet huggingface_hub==2.4.0 PyYAML==6.0.4
cd "$folder"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/cache"
venv/bin/python - <<'PYTHON'
import sys
from pathlib import Path

from huggingface_hub import DatasetCard

Path("README.md").write_text(
    """---
dataset_info:
  features:
  - name: label
    dtype:
      class_label:
        names:
          '0': 01440764
          '1': 02102040
          '2': 02979186
          '3': '01440764'
---
# Three classes, the first a second time in quotes
"""
)

def names(card):
    return list(card.data.dataset_info["features"][0]["dtype"]["class_label"]["names"].values())

loaded = names(DatasetCard.load("README.md"))
DatasetCard.load("README.md").save("README.md")
print("typed:  01440764, 02102040, 02979186, '01440764'")
print("loaded:", loaded)
print("saved: ", [line.strip() for line in Path("README.md").read_text().splitlines()[7:11]])
if loaded != [0o1440764, 0o2102040, "02979186", "01440764"] or loaded[0] != 410100:
    sys.exit("the behaviour has changed")
PYTHON
