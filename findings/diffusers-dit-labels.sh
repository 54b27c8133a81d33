#!/usr/bin/env bash
# Library: diffusers 0.42.1, torch 2.14.1
# Task: Train a DiT of one's own for classifier-free guidance with DiTTransformer2DModel in train mode, which
#   drops a tenth of the labels by itself.
# One would guess: An image loses its label as a whole, as in the paper: nine tenths are trained with their
#   label, one tenth without.
# What happens: Every block has a label embedder of its own and draws anew, the first of them a second time for
#   the output. With the 28 blocks of DiT-XL hardly an image keeps its label everywhere, and none is without
#   it everywhere: of the two inputs between which guidance goes, the model hardly sees one and never the other.
#   No option says so.
# Instead: Set dropout_prob = 0 on every LabelEmbedding, and give the null class (num_embeds_ada_norm) as the
#   label of a tenth of the images.
# Output seen:
#   draws for one image: 29
#   labels dropped:             0.1
#   kept in every draw:         0.045
#   dropped in every draw:      0.0
#   kept in eval mode:          1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import torch
from diffusers import DiTTransformer2DModel
from diffusers.models.embeddings import LabelEmbedding

torch.manual_seed(0)
images, classes = 4000, 10
model = DiTTransformer2DModel(
    num_attention_heads=1, attention_head_dim=8, in_channels=4, num_layers=28, sample_size=2, patch_size=2,
    num_embeds_ada_norm=classes,
)
given = []  # labels that reach the tables, of each draw
for module in model.modules():
    if isinstance(module, LabelEmbedding):
        module.embedding_table.register_forward_hook(lambda table, inputs, output: given.append(inputs[0]))

@torch.no_grad()
def dropped():
    given.clear()
    model(torch.randn(images, 4, 2, 2), torch.zeros(images, dtype=torch.long), torch.full((images,), 3))
    return torch.stack(given) == classes  # (draws, images)

training = dropped() if model.train() else None
sampling = dropped() if model.eval() else None
share = round(training.double().mean().item(), 2)
kept, lost = (training.logical_not().all(0).double().mean().item(), training.all(0).double().mean().item())
print("draws for one image:", len(training))
print("labels dropped:            ", share)
print("kept in every draw:        ", round(kept, 3))
print("dropped in every draw:     ", round(lost, 3))
print("kept in eval mode:         ", 1 - sampling.double().mean().item())
if len(training) != 29 or share != 0.1 or not 0.03 < kept < 0.07 or lost != 0 or sampling.any():
    sys.exit("the behaviour has changed")
PYTHON
