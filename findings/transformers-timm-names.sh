#!/usr/bin/env bash
# Library: transformers 5.24.0, timm 1.0.31, torch 2.14.1
# Task: Fine-tune a timm classifier for other classes in transformers, from_pretrained(folder, id2label=names,
#   label2id=...), and save it for others.
# One would guess: config.id2label, which names the classes right while one trains, is what is saved, as for every other
#   classifier of transformers.
# What happens: The wrapper of timm's models saves a list, label_names, and no id2label. Where the file that one started
#   from has such a list, and each that was saved in this way has one, the old names are written again: the cats
#   are roses after loading. Where it has none, the list has the names in the order of the dictionary, not of the
#   labels. Nothing is raised or logged. Not found among its issues.
# Instead: Set config.label_names = [names[label] for label in range(len(names))] before saving.
# Output seen:
#   while training:        {0: 'dog', 1: 'cat', 2: 'bird'}
#   saved and loaded:      {0: 'tulip', 1: 'rose', 2: 'daisy'}
#   with label_names set:  {0: 'dog', 1: 'cat', 2: 'bird'}
#   {1: 'cat', 2: 'bird', 0: 'dog'} in a new model:  {0: 'cat', 1: 'bird', 2: 'dog'}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.24.0 timm==1.0.31 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
cd "$folder"
export HF_HUB_OFFLINE=1
venv/bin/python - <<'PYTHON'
import sys

from transformers import TimmWrapperConfig, TimmWrapperForImageClassification
from transformers.utils.logging import disable_progress_bar

disable_progress_bar()

def named(names):
    return {"id2label": names, "label2id": {name: label for label, name in names.items()}}

def saved_and_loaded(classifier):
    classifier.save_pretrained("saved")
    return TimmWrapperForImageClassification.from_pretrained("saved").config.id2label

def new(names):
    return TimmWrapperForImageClassification(TimmWrapperConfig(architecture="test_resnet", **named(names)))

flowers, pets = {0: "tulip", 1: "rose", 2: "daisy"}, {0: "dog", 1: "cat", 2: "bird"}
new(flowers).save_pretrained("flowers")
tuned = TimmWrapperForImageClassification.from_pretrained("flowers", **named(pets))
training = dict(tuned.config.id2label)
after = saved_and_loaded(tuned)
tuned.config.label_names = [pets[label] for label in range(len(pets))]
mended = saved_and_loaded(tuned)
permuted = {1: "cat", 2: "bird", 0: "dog"}
ordered = saved_and_loaded(new(permuted))
print(f"while training:        {training}")
print(f"saved and loaded:      {after}")
print(f"with label_names set:  {mended}")
print(f"{permuted} in a new model:  {ordered}")
if (training, after, mended) != (pets, flowers, pets) or ordered != {0: "cat", 1: "bird", 2: "dog"}:
    sys.exit("the behaviour has changed")
PYTHON
