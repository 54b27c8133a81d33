#!/usr/bin/env bash
# Library: webdataset 1.0.2
# Task: Train on shards with epochs of a fixed length, .with_epoch(5), on a set of 12 images.
# One would guess: An epoch is five images long and the next one goes on where the last one stopped.
# What happens: Every epoch starts at the first image of the first shard again: images 6 to 12 are never seen,
#   however long the training runs.
# Instead: Keep one iterator over .repeat() and take five images at a time from it; .repeat().with_epoch(5)
#   starts anew too.
# Output seen:
#   epoch 1: images [1, 2, 3, 4, 5]
#   epoch 2: images [1, 2, 3, 4, 5]
#   epoch 3: images [1, 2, 3, 4, 5]
#   epoch 4: images [1, 2, 3, 4, 5]
#   three epochs of one iterator that is kept: [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 1, 2, 3]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webdataset==1.0.2 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
from itertools import islice

import webdataset as wds

for shard in range(3):
    with wds.TarWriter(f"shard-{shard}.tar") as writer:
        for image in range(4):
            number = 4 * shard + image + 1
            writer.write({"__key__": f"{number:05d}", "cls": number})
images = wds.WebDataset("shard-{0..2}.tar", shardshuffle=False).decode().with_epoch(5)
epochs = [[sample["cls"] for sample in images] for _ in range(4)]
stream = iter(wds.WebDataset("shard-{0..2}.tar", shardshuffle=False).decode().repeat())
kept = [[sample["cls"] for sample in islice(stream, 5)] for _ in range(3)]
for number, epoch in enumerate(epochs, 1):
    print(f"epoch {number}: images {epoch}")
print("three epochs of one iterator that is kept:", kept)
if epochs != [[1, 2, 3, 4, 5]] * 4 or kept[1] != [6, 7, 8, 9, 10]:
    sys.exit("the behaviour has changed")
PYTHON
