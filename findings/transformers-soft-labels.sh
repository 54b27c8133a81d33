#!/usr/bin/env bash
# Library: transformers 5.24.0, torch 2.14.1
# Task: Train an image classifier of transformers on soft labels, those of a teacher, of mixup or of CutMix, by
#   model(pixel_values=images, labels=probabilities).loss, as the Trainer does.
# One would guess: The loss is torch's cross-entropy, which takes probabilities, as with labels that are numbers.
# What happens: Labels with decimals count as several classes at once: the first batch sets config.problem_type to
#   "multi_label_classification", and the loss becomes a binary cross-entropy of each class alone, averaged over
#   classes. One-hot rows have a third of the loss of their numbers. A student that fits its teacher perfectly has
#   sigmoids like the teacher's probabilities, and its softmax is surer: 0.99 where the teacher says 0.90, so that
#   difficulties, 1 - p, are a tenth. save_pretrained keeps the setting, which pipeline() then heeds by sigmoids. It
#   came with pull request 11012, for images with several classes; soft labels were not found among its issues.
# Instead: torch.nn.functional.cross_entropy(model(images).logits, probabilities), with the Trainer in compute_loss.
# Output seen:
#   loss of the same labels: numbers 2.33, one-hot 0.76, one-hot by torch 2.33
#   problem_type None is now multi_label_classification
#   the teacher's probability of the class  0.50  0.90  0.99
#   student by labels=                      0.65  0.99  1.00
#   student by cross_entropy                0.50  0.90  0.99
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.24.0 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import torch
from torch.nn.functional import cross_entropy
from transformers import ResNetConfig, ResNetForImageClassification

CLASSES = 10

def classifier():
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[16], depths=[1], num_labels=CLASSES, layer_type="basic")
    return ResNetForImageClassification(config).eval()  # the same features in every step

torch.manual_seed(1)
images, numbers = torch.randn(64, 3, 32, 32), torch.arange(64) % CLASSES
one_hot = torch.nn.functional.one_hot(numbers, CLASSES).float()
model = classifier()
before, by_torch = model.config.problem_type, cross_entropy(model(images).logits, one_hot).item()
soft = model(images, labels=one_hot).loss.item()
hard = classifier()(images, labels=numbers).loss.item()
print(f"loss of the same labels: numbers {hard:.2f}, one-hot {soft:.2f}, one-hot by torch {by_torch:.2f}")
print("problem_type", before, "is now", model.config.problem_type)

sure = torch.tensor([0.5, 0.9, 0.99])  # of class 0, for three images; the rest is spread evenly
teacher = torch.cat([sure[:, None], ((1 - sure) / (CLASSES - 1))[:, None].expand(-1, CLASSES - 1)], dim=1)

def student(loss_of):
    """The last layer has more weights than there are probabilities: it can say each of them."""
    model = classifier()
    optimizer = torch.optim.LBFGS(model.classifier.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    optimizer.step(closure)
    return model(images[:3]).logits.softmax(1)[:, 0].detach()

by_labels = student(lambda model: model(images[:3], labels=teacher).loss)
by_entropy = student(lambda model: cross_entropy(model(images[:3]).logits, teacher))
rows = {"the teacher's probability of the class": sure, "student by labels=": by_labels,
        "student by cross_entropy": by_entropy}
for name, row in rows.items():
    print(f"{name:40}" + "  ".join(f"{one:.2f}" for one in row))
if (
    abs(hard - by_torch) > 1e-5 or soft > 0.5 * hard or model.config.problem_type != "multi_label_classification"
    or not torch.allclose(by_entropy, sure, atol=0.01) or not (by_labels[:2] > sure[:2] + 0.08).all()
):
    sys.exit("the behaviour has changed")
PYTHON
