"""What labels per view weigh and lose when they are shortened, and what networks learn from them.

    python benchmarks/soft_labels.py sizes SET                         # bytes and divergence, of 20 views
    python benchmarks/soft_labels.py train SET runs/soft --seeds 1     # accuracy under the protocol unified
    python benchmarks/soft_labels.py sets POOLS runs/soft --ipc 10     # likewise, sets of downstream.py's pools

SET is a distilled set of Fashion-MNIST's classes, the teacher is the embedded guide.  ``train`` evaluates copies of it
with hard labels, labels per image, and labels per view of several sorts, by the command's own code.  ``sets`` draws
sets anew for each seed and labels 400 views of each.  Writes benchmarks/results/soft-labels-sizes.json,
soft-labels-train.json and downstream-soft-IPC.json.
"""

import argparse
import shutil
from functools import partial
from pathlib import Path

import torch
from downstream import BASELINE, SIZE, Draw, Study, run, test_images
from embedded import record
from PIL import Image

from dag_diffusion import embedded, read_pool
from dag_diffusion.classifiers.image_classifiers import prepared_logits, preprocessing_of
from dag_diffusion.data.common_kind import common_kind
from dag_diffusion.evaluation.labelled_images import LabelledImages, load_labelled_images
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
STUDIED = ["random | real", "herding | real", "drawn to modes", "easiest of 5 | drawn to modes"]


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


def sets(pools: Path, work: Path, options: argparse.Namespace) -> None:
    """Train on labels of each view of sets that are drawn anew for each seed."""
    options.protocol, options.networks, options.device = "unified", ["convnet-3"], "cpu"
    test, teacher = test_images(10_000), load_guide()
    known = dict(Study(pools, options.ipc, test).sets())
    names = options.sets or [BASELINE, *STUDIED]

    def labelled(name: str, draw: Draw, seed: int) -> LabelledImages:
        place = work / f"{name}, {options.ipc}, seed {seed}".replace("|", "of")
        if not place.exists():
            write_images(draw(seed), place)
        label_folder(read_pool(place), teacher, "embedded guide", ViewPlan(seed=seed))
        return load_labelled_images(read_pool(place), **SIZE, class_names=test.class_names, labels="views")

    drawn = {name: partial(labelled, name, known[name]) for name in names}
    run(f"soft-{options.ipc}", drawn, test, options, baseline=names[0], labels="views")


def write_images(images: LabelledImages, folder: Path) -> None:
    """As a folder of PNGs in folders by class, which appears whole."""
    partial_folder = folder.with_name(f"{folder.name}, partial")
    for index, (pixels, label) in enumerate(zip(images.images, images.labels, strict=True)):
        place = partial_folder / images.class_names[int(label)]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0]).save(place / f"{index:05}.png")
    partial_folder.rename(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sizes", "train", "sets"])
    parser.add_argument("set", type=Path, help="or the folder of pools")
    parser.add_argument("work", type=Path, nargs="?", default=Path("runs/soft"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sorts", nargs="*", choices=SORTS, default=list(SORTS))
    parser.add_argument("--ipc", type=int, default=10, help="of sets")
    parser.add_argument("--sets", nargs="+", help="only these, the first of which the others are compared with")
    given = parser.parse_args()
    if given.what == "sizes":
        sizes(given.set)
    elif given.what == "sets":
        sets(given.set, given.work, given)
    else:
        train(given.set, given.work, given.seeds, given.sorts)
