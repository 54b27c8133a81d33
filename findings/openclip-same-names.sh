#!/usr/bin/env bash
# Library: open_clip_torch 3.3.0, torch 2.14.1
# Task: Make a classifier of ImageNet's 1,000 classes without training, by build_zero_shot_classifier and
#   IMAGENET_CLASSNAMES, and take 1 - p of the class for the difficulty of an image.
# One would guess: 1,000 names, 1,000 classes: each can be predicted, and an image can be easy in each.
# What happens: 657 and 744 are both "missile", 836 and 837 both "sunglasses", and their logits are the same to the last
#   bit. 744 and 837 are never predicted, and no image of these four classes, however clear, is less difficult than
#   0.5: there are no easy images to choose, a target below cannot be reached, and no gradient tells the two apart. The
#   other 996 classes are as they should be. Told of in issue 917 and pull request 842, which were closed, since CLIP
#   was always measured so; not told there what it does to probabilities.
# Instead: Give the four names of their own: "missile" and "projectile", "sunglass" and "dark glasses" in WordNet.
# Output seen:
#   images that are just what the text of their class says, weights at random
#   class           predicted  difficulty
#   657 missile     657        0.50
#   744 missile     657        0.50
#   836 sunglasses  836        0.50
#   837 sunglasses  836        0.50
#   996 others      996 right  0.03 at most
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet open_clip_torch==3.3.0 torch==2.14.1 torchvision==0.29.1 \
    timm==1.0.31 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import torch
from open_clip import CLIP, IMAGENET_CLASSNAMES, CLIPTextCfg, CLIPVisionCfg, SimpleTokenizer, build_zero_shot_classifier

torch.manual_seed(0)
tower = CLIPTextCfg(context_length=77, vocab_size=49408, width=128, heads=4, layers=2)
clip = CLIP(128, CLIPVisionCfg(layers=1, width=64, head_width=32, image_size=32, patch_size=16), tower).eval()
classes = build_zero_shot_classifier(clip, SimpleTokenizer(), IMAGENET_CLASSNAMES, ["a photo of a {}."])
images = classes.T  # as near to the text of its class as an image can be
logits = 1000 * images @ classes  # however sure a classifier becomes
difficulties, predicted = 1 - logits.double().softmax(1).diagonal(), logits.argmax(1).tolist()
shared = [label for label, name in enumerate(IMAGENET_CLASSNAMES) if IMAGENET_CLASSNAMES.count(name) > 1]
others = [label for label in range(1000) if label not in shared]
print("images that are just what the text of their class says, weights at random")
print("class           predicted  difficulty")
for label in shared:
    print(f"{label} {IMAGENET_CLASSNAMES[label]:12}{predicted[label]:<11}{difficulties[label]:.2f}")
own = sum(predicted[label] == label for label in others)
print(f"{len(others)} others      {own} right  {difficulties[others].max():.2f} at most")
halves = (difficulties[shared] - 0.5).abs().max() < 0.01
if shared != [657, 744, 836, 837] or [predicted[label] for label in shared] != [657, 657, 836, 836] or not halves:
    sys.exit("the behaviour has changed")
if own != 996 or difficulties[others].max() > 0.1:
    sys.exit("the behaviour has changed")
PYTHON
