#!/usr/bin/env bash
# Library: huggingface_hub 2.4.0, PyYAML 6.0.4
# Task: Tell the accuracies of a distilled set at 1, 10 and 50 images per class in a model card, by ModelCardData with
#   an EvalResult each, whose dataset_args say which it was.
# One would guess: The card holds three results with their arguments, as it does where dataset_config, dataset_split
#   or metric_args tell them apart.
# What happens: Results are grouped by task, dataset, configuration, split and revision, and a group has the
#   arguments, the name of the dataset and the source of its first result: all three accuracies belong to one image
#   per class once the card is written. Reported in its issue 4975.
# Instead: Tell them apart by dataset_config="ipc-10", or by metric_args.
# Output seen:
#   told apart by   written in the card
#   dataset_args    0.21 of 1, 0.46 of 1, 0.62 of 1
#   metric_args     0.21 of 1, 0.46 of 10, 0.62 of 50
#   dataset_config  0.21 of 1, 0.46 of 10, 0.62 of 50
#   source          0.21 of 1, 0.46 of 1, 0.62 of 1
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

from huggingface_hub import EvalResult, ModelCard, ModelCardData

ACCURACIES = {1: 0.21, 10: 0.46, 50: 0.62}
TOLD_APART_BY = {
    "dataset_args": (lambda ipc: {"dataset_args": {"ipc": ipc}}, lambda result: result.dataset_args["ipc"]),
    "metric_args": (lambda ipc: {"metric_args": {"ipc": ipc}}, lambda result: result.metric_args["ipc"]),
    "dataset_config": (lambda ipc: {"dataset_config": f"{ipc}"}, lambda result: int(result.dataset_config)),
    "source": (
        lambda ipc: {"source_name": f"{ipc}", "source_url": f"https://example.org/{ipc}"},
        lambda result: int(result.source_name),
    ),
}

def written(arguments, images_per_class):
    """Accuracies, and the images per class that they belong to by the text of the card."""
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="imagenet-1k",
            dataset_name="ImageNet",
            metric_type="accuracy",
            metric_value=accuracy,
            **arguments(ipc),
        )
        for ipc, accuracy in ACCURACIES.items()
    ]
    data = ModelCardData(model_name="classifier", eval_results=results)
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n# A classifier\n")
    return [(images_per_class(result), result.metric_value) for result in card.data.eval_results]

print("told apart by   written in the card")
seen = {}
for name, (arguments, images_per_class) in TOLD_APART_BY.items():
    seen[name] = written(arguments, images_per_class)
    print(f"{name:16}" + ", ".join(f"{accuracy} of {ipc}" for ipc, accuracy in seen[name]))
right = list(ACCURACIES.items())
lost = [(1, accuracy) for accuracy in ACCURACIES.values()]
if seen != {"dataset_args": lost, "metric_args": right, "dataset_config": right, "source": lost}:
    sys.exit("the behaviour has changed")
PYTHON
