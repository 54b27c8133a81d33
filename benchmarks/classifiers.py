"""Guides and evaluators of one's own images: accuracy, calibration before and after, and time.

    python benchmarks/classifiers.py FOLDER    # 10,000 test images of Fashion-MNIST, and clip art of eight classes
    python benchmarks/classifiers.py FOLDER --only fashion-guide    # one of them; the others' last results are kept

Fashion-MNIST: the first 600 training images of each class.  Clip art: Debian's openclipart-png (apt-get install
openclipart-png), 32 px on white, a fifth of each class held out.  What FOLDER holds already is not trained again.
Results go to benchmarks/results/classifiers.json.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from embedded import RESULTS, record

from dag_diffusion import ClassifierConfig, read_pool, train_classifier
from dag_diffusion.data.files import read_json_object
from dag_diffusion.data.pools import Pool
from dag_diffusion.data.preparing.prepared import prepare
from dag_diffusion.memory import keep_freed_memory

ROOT = Path(__file__).parent.parent
NAME = "classifiers"
CLIP_ART = "animals;food;people;transportation;recreation;geography;tools;office"
ROLES = {
    "guide": ClassifierConfig(),
    "evaluator": ClassifierConfig(role="evaluator", seed=1),
    "folds": ClassifierConfig(folds=2),
}
KEPT = ("model", "parameters", "training", "held_out", "calibration", "test", "folds", "seconds", "resumed")


def fashion(folder: Path, data: Path) -> tuple[Pool, Pool]:
    """6,000 images to train on and 10,000 to test with, as parquet files."""
    sys.path.insert(0, str(ROOT / "examples"))
    from train_embedded_default import read_idx, write_parquet

    found = []
    for split, most in (("train", 600), ("t10k", None)):
        path = folder / f"fashion-{split}.parquet"
        if not path.exists():
            images, labels = read_idx(data, split)
            rows = np.concatenate([np.flatnonzero(labels == label)[:most] for label in range(10)])
            write_parquet((images[rows], labels[rows]), path)
        found.append(read_pool(path))
    return found[0], found[1]


def trained(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The record of one training, which is done if it is not there."""
    data, role = name.split("-")
    output, config, test = folder / name, ROLES[role], None
    if not output.exists():
        if data == "fashion":
            images, test = fashion(folder, options.fashion)
        else:
            images = prepare(options.clip_art, classes=CLIP_ART, skip_unreadable=True, cache=folder).pool
            config = ClassifierConfig(**vars(config) | {"size": 32, "held_out": 0.2})
        train_classifier(images, output, config, test=test)
    made = read_json_object(output / "training.json")
    return {key: made.get(key) for key in KEPT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the classifiers")
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="idx files")
    parser.add_argument("--clip-art", type=Path, default=Path("/usr/share/openclipart/png"), help="class folders")
    names = [f"{data}-{role}" for data in ("fashion", "clipart") for role in ROLES]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()  # as the command line does
    path = RESULTS / f"{NAME}.json"
    results = read_json_object(path)["results"] if path.exists() else {}
    for name in options.only:
        results[name] = trained(name, options.folder, options)
        kept = {name: results[name] for name in names if name in results}
        record(NAME, {"command": "python benchmarks/classifiers.py runs/classifiers", "results": kept})


if __name__ == "__main__":
    main()
