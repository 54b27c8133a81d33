#!/usr/bin/env bash
# Library: lightning 2.6.6, torch 2.14.1
# Task: Train with an average of the weights that starts once the first, wild steps are over:
#   EMAWeightAveraging(update_starting_at_step=1000) among the callbacks of a Trainer.
# One would guess: Until the average starts, and if the training ends before, the model that is validated, saved and
#   kept is the one that is trained.
# What happens: The average is made at the start, as a copy of the random weights, and takes the place of the model in
#   all validations, in the checkpoints and at the end, whether it was ever updated or not. A training of fewer steps
#   than the average starts at is thrown away: the model has its random weights again, bit by bit, and so has
#   "state_dict" of the checkpoint. Where the average starts later than the first validation, early stopping and the
#   choice of a best checkpoint are about random weights up to there. Nothing is raised or logged. The validations are
#   reported in issue 21724, open with pull requests 21732 and 21754; the model after fit was not found there.
# Instead: Leave update_starting_at_step out: the first update copies the weights as they are after one step, and the
#   average forgets the first steps by itself.
# Output seen:
#   accuracy, 10 classes, 200 steps; validated after steps 20, 100 and 200
#   average starts     training  validated       after fit  checkpoint  weights of the start are back
#   never made         1.00      1.00 1.00 1.00  1.00       1.00        False
#   at step 0          1.00      1.00 1.00 1.00  1.00       1.00        False
#   at step 150        1.00      0.12 0.12 1.00  1.00       1.00        False
#   at step 1000       1.00      0.12 0.12 0.12  0.12       0.12        True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet lightning==2.6.6 torch==2.14.1 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - 2>log <<'PYTHON' || { cat log >&2; exit 1; }
import sys

import lightning
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

torch.manual_seed(0)
labels = torch.arange(200) % 10
images = torch.randn(10, 64)[labels] + 0.3 * torch.randn(200, 64)
data = torch.utils.data.TensorDataset(images, labels)

def loader(batch_size):
    return torch.utils.data.DataLoader(data, batch_size, shuffle=batch_size < len(data))

class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
        self.trained, self.validated = 0.0, []

    def accuracy(self, batch):
        return (self.network(batch[0]).argmax(1) == batch[1]).double().mean().item()

    def training_step(self, batch, _):
        self.trained = self.accuracy(batch)
        return torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch, _):
        self.validated.append(self.accuracy(batch))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)

def behaviour(averages):
    torch.manual_seed(1)
    model = Classifier()
    start = [weights.clone() for weights in model.parameters()]
    saved = ModelCheckpoint("checkpoints")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = lightning.Trainer(max_epochs=10, accelerator="cpu", callbacks=[saved, *averages], **quiet)
    trainer.fit(model, loader(10), loader(200))
    again = Classifier.load_from_checkpoint(saved.best_model_path)
    back = all(torch.equal(a, b) for a, b in zip(model.parameters(), start))
    validated = [model.validated[epoch] for epoch in (0, 4, 9)]
    everything = images, labels
    return model.trained, *validated, model.accuracy(everything), again.accuracy(everything), back

print("accuracy, 10 classes, 200 steps; validated after steps 20, 100 and 200")
print("average starts     training  validated       after fit  checkpoint  weights of the start are back")
starts = {"never made": (), "at step 0": (None,), "at step 150": (150,), "at step 1000": (1000,)}
seen = {name: behaviour([EMAWeightAveraging(decay=0.9, update_starting_at_step=start) for start in starts])
        for name, starts in starts.items()}
for name, found in seen.items():
    print("{:18} {:.2f}      {:.2f} {:.2f} {:.2f}  {:.2f}       {:.2f}        {}".format(name, *found))
right = all(min(seen[name][-3:-1]) > 0.95 and not seen[name][-1] for name in list(seen)[:3])
late = seen["at step 150"][1:3]
if not right or max(late) > 0.3 or max(seen["at step 1000"][1:-1]) > 0.3 or not seen["at step 1000"][-1]:
    sys.exit("the behaviour has changed")
PYTHON
