#!/usr/bin/env bash
# Library: torchmetrics 1.9.0, scikit-learn 1.9.1, torch 2.14.1
# Task: Measure by BinaryAUROC how well a score (a distance, an energy, log odds) tells two groups of images apart.
# One would guess: Only the order of the scores counts, as in sklearn.metrics.roc_auc_score.
# What happens: Scores outside [0, 1] are taken for logits and go through a sigmoid in float32, where everything
#   above 17 becomes exactly 1: scores tie, and groups that are told apart perfectly get 0.5. And each update()
#   decides for its own batch: one whose scores lie within [0, 1] stays as it is, and is compared with others that
#   went through the sigmoid. BinaryAveragePrecision and BinaryROC do the same.
# Instead: Give ranks in [0, 1], scores.argsort().argsort() / len(scores), of all scores in one call, or use
#   roc_auc_score.
# Output seen:
#   scores:       AUROC of scikit-learn 1.000, of torchmetrics 1.000
#   scores + 10:  AUROC of scikit-learn 1.000, of torchmetrics 1.000
#   scores + 16:  AUROC of scikit-learn 1.000, of torchmetrics 0.940
#   scores + 20:  AUROC of scikit-learn 1.000, of torchmetrics 0.500
#   ranks of scores + 20:                      torchmetrics 1.000
#   in batches:   AUROC of scikit-learn 1.000, of torchmetrics 0.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torchmetrics==1.9.0 scikit-learn==1.9.1 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import torch
from sklearn.metrics import roc_auc_score
from torchmetrics.classification import BinaryAUROC

def both(*batches):
    metric = BinaryAUROC()
    for scores, groups in batches:
        metric.update(scores, groups)
    scores, groups = (torch.cat(parts) for parts in zip(*batches))
    return roc_auc_score(groups.numpy(), scores.numpy()), metric.compute().item()

scores = torch.linspace(-2, 4, 200)  # the upper half is the second group
groups = (torch.arange(200) >= 100).long()
seen = {added: both((scores + added, groups)) for added in (0, 10, 16, 20)}
for added, found in seen.items():
    name = f"scores + {added}:" if added else "scores:"
    print(f"{name:13} AUROC of scikit-learn {found[0]:.3f}, of torchmetrics {found[1]:.3f}")
ranks = both(((scores + 20).argsort().argsort() / 200, groups))[1]
print(f"ranks of scores + 20:                      torchmetrics {ranks:.3f}")
low = torch.tensor([0.90, 0.95]), torch.tensor([0, 0])  # all within [0, 1]
high = torch.tensor([1.05, 1.50]), torch.tensor([1, 1])  # sigmoid: 0.74, 0.82
batches = both(low, high)
print(f"in batches:   AUROC of scikit-learn {batches[0]:.3f}, of torchmetrics {batches[1]:.3f}")
if any(found[0] != 1 for found in seen.values()) or (seen[20][1], ranks) != (0.5, 1) or batches != (1, 0):
    sys.exit("the behaviour has changed")
PYTHON
