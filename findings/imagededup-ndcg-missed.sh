#!/usr/bin/env bash
# Library: imagededup 0.3.3.post2, torch 2.14.1
# Task: Choose how near images must be to count as copies, by imagededup.evaluation.evaluate against the copies that
#   are known, with metric="ndcg", where the order of what was found counts too.
# One would guess: NDCG divides by the gain of the best list that there is, all known copies first, so that copies
#   that were missed cost something.
# What happens: It divides by the gain of the list that was found, sorted. A search that finds one of nine copies has
#   1.0, one that finds all nine and a stranger first has less: a threshold chosen by it is the strictest one that
#   still finds something. "map" and "jaccard" do count what was missed. Not found among its issues.
# Instead: metric="map", or scikit-learn's ndcg_score over all images.
# Output seen:
#   means of ten copies and a stranger, of whom it is right to find nothing
#   found of 9 copies          NDCG  by all known copies  MAP   Jaccard
#   all                        1.00  1.00                 1.00  1.00
#   three                      1.00  0.55                 0.39  0.39
#   one                        1.00  0.30                 0.19  0.19
#   all, after a stranger      0.76  0.76                 0.71  0.82
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet imagededup==0.3.3.post2 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 \
  scikit-learn==1.9.1
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import logging
import sys

import numpy as np
from imagededup.evaluation import evaluate

logging.disable(logging.INFO)  # it tells of each check of its input
group, stranger = [f"{number}.png" for number in range(10)], "stranger.png"
known = {name: [other for other in group if other != name] for name in group} | {stranger: []}

def others(name, reach):
    """Of ten copies in a circle the nearest on both sides, so that who finds whom is mutual."""
    place = group.index(name)
    steps = [step for near in range(1, reach + 1) for step in (near, -near)]
    return list(dict.fromkeys(group[(place + step) % 10] for step in steps))

pairs = {name: [group[group.index(name) ^ 1]] for name in group}
FOUND = {
    "all": {name: others(name, 5) for name in group} | {stranger: []},
    "three": {name: [*others(name, 1), group[(group.index(name) + 5) % 10]] for name in group} | {stranger: []},
    "one": pairs | {stranger: []},
    "all, after a stranger": {name: [stranger, *others(name, 5)] for name in group} | {stranger: group},
}

def gain(relevant):
    return sum(hit / np.log2(place + 2) for place, hit in enumerate(relevant))

def by_all_known(found):
    """NDCG where the best list of each of the ten copies has all nine others, and the stranger's has none."""
    copies = [gain([other in known[name] for other in found[name]]) / gain([1] * 9) for name in group]
    return np.mean([*copies, not found[stranger]])

print("means of ten copies and a stranger, of whom it is right to find nothing")
print("found of 9 copies          NDCG  by all known copies  MAP   Jaccard")
seen = {}
for name, found in FOUND.items():
    scores = {metric: evaluate(known, found, metric)[metric] for metric in ("ndcg", "map", "jaccard")}
    seen[name] = scores["ndcg"], by_all_known(found), scores["map"]
    print(f"{name:27}{scores['ndcg']:<6.2f}{seen[name][1]:<21.2f}{scores['map']:<6.2f}{scores['jaccard']:.2f}")
same = {name for name, (here, _, _) in seen.items() if abs(here - 1) < 1e-9}
if same != {"all", "three", "one"} or seen["one"][1] > 0.35 or seen["one"][2] > 0.35:
    sys.exit("the behaviour has changed")
PYTHON
