"""What labels per view weigh and lose when they are shortened, and what a network learns from them.

    python benchmarks/soft_labels.py sizes SET                         # bytes and divergence, of 20 views
    python benchmarks/soft_labels.py train SET runs/soft --seeds 1     # accuracy under the protocol unified

SET is a distilled set of Fashion-MNIST's classes, the teacher is the embedded guide.  ``train`` evaluates copies of it
with hard labels, labels per image, and labels per view of several sorts, by the command's own code.  Writes
benchmarks/results/soft-labels-sizes.json and soft-labels-train.json.
"""

import argparse
import shutil
from pathlib import Path

import torch
from embedded import record

from dag_diffusion import embedded, read_pool
from dag_diffusion.classifiers.image_classifiers import prepared_logits, preprocessing_of
from dag_diffusion.data.common_kind import common_kind
from dag_diffusion.evaluation.labelled_images import load_labelled_images
from dag_diffusion.evaluation.protocols import PROTOCOLS
from dag_diffusion.evaluation.runs import EvaluationConfig, evaluate_folders
from dag_diffusion.evaluation.soft_labels import ViewPlan, label_folder
from dag_diffusion.evaluation.soft_labels.compression import compress
from dag_diffusion.evaluation.soft_labels.views import PIXELS, generator_of, mixed_batches
from dag_diffusion.evaluation.training import derived_seeds
from dag_diffusion.loading import load_guide

VIEWS = 20
UNIFIED = PROTOCOLS["unified"]
SORTS = {  # of labels: kind, plan
    "hard": ("hard", None),
    "one an image": ("soft", None),
    "400 views, 10 logits": ("views", ViewPlan()),
    "400 views, 3 logits": ("views", ViewPlan(top_k=3)),
    "40 views, 10 logits": ("views", ViewPlan(views=40)),
}


@torch.inference_mode()
def logits_of_views(folder: Path) -> torch.Tensor:
    """``(views * images, classes)`` as the teacher gives them."""
    kind, teacher = common_kind(read_pool(embedded.TEST)), load_guide()
    loaded = load_labelled_images(read_pool(folder), size=kind.size, channels=kind.channels)
    images, preprocessing = torch.from_numpy(loaded.images).permute(0, 3, 1, 2).float() / 255, preprocessing_of(teacher)
    return torch.cat(
        [
            prepared_logits(teacher, preprocessing.normalised(preprocessing.fitted(inputs.clamp(0, 1)))).float()
            for view in range(VIEWS)
            for _, inputs in mixed_batches(images, UNIFIED, generator_of(0, view), PIXELS)
        ]
    )


def sizes(folder: Path) -> None:
    exact = logits_of_views(folder)
    rows = []
    for top_k in (1, 2, 3, 5, exact.shape[1]):
        kept = compress(exact, top_k)
        row = {"top_k": top_k, "bytes": sum(t.nbytes for t in kept.tensors.values()) / len(exact)}
        for temperature in (1.0, UNIFIED.temperature):
            told, said = (exact / temperature).log_softmax(1), kept.probabilities(temperature).log()
            row[f"divergence_{temperature:g}"] = (told.exp() * (told - said)).sum(1).mean().item()
        row["same_class"] = (kept.decoded().argmax(1) == exact.argmax(1)).double().mean().item()
        rows.append(row)
        print(row)
    record("soft-labels-sizes", {"labels": len(exact), "views": VIEWS, "rows": rows})


def train(folder: Path, work: Path, seeds: int, sorts: list[str]) -> None:
    teacher, rows = load_guide(), []
    for name in sorts:
        labels, plan = SORTS[name]
        place = work / name.replace(" ", "-").replace(",", "")
        if not place.exists():
            shutil.copytree(folder, place)
        source = label_folder(read_pool(place), teacher, "embedded guide", plan) if labels != "hard" else None
        config = EvaluationConfig("unified", seeds=derived_seeds(0, seeds), labels=labels)
        results, _ = evaluate_folders([str(place)], config, output=work / f"{place.name}.json")
        row = {"labels": name, "accuracies": [result.accuracy for result in results]}
        if source is not None:
            row |= {"label_bytes": source.label_bytes, "image_bytes": source.image_bytes}
            row["teacher_accuracy"] = source.teacher.accuracy
        rows.append(row)
        print(row, flush=True)
        record("soft-labels-train", {"set": folder.name, "network": "convnet-3", "rows": rows})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sizes", "train"])
    parser.add_argument("set", type=Path)
    parser.add_argument("work", type=Path, nargs="?", default=Path("runs/soft"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sorts", nargs="*", choices=SORTS, default=list(SORTS))
    given = parser.parse_args()
    if given.what == "sizes":
        sizes(given.set)
    else:
        train(given.set, given.work, given.seeds, given.sorts)
