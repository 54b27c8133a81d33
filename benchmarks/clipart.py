"""What came of distilling Debian's clip art, a folder as messy as they come: a record, and a picture of the sets.

    apt-get install openclipart-png
    dag-diffusion distill /usr/share/openclipart/png --classes "..." --skip-unreadable --output runs/clipart
    dag-diffusion run --pipeline runs/clipart-work/generator ... --autoguidance-scale 1 --output runs/clipart-plain
    dag-diffusion evaluate random:runs/clipart-work/run/pool-unguided runs/clipart ... --output runs/clipart.json
    python benchmarks/clipart.py runs/clipart    # benchmarks/results/clipart.json, docs/images/clipart*.png

docs/results/clipart.md has the whole commands; the second draws without autoguidance, the third compares with more
seeds.  clipart-without.json is of a distillation without autoguidance, clipart-half.json of one with half the training
steps, on drawings with their margins.
"""

import argparse
from pathlib import Path

import numpy as np
from embedded import RESULTS, record
from PIL import Image

from dag_diffusion import read_pool
from dag_diffusion.data.files import read_json_object
from dag_diffusion.data.pools import Pool
from dag_diffusion.evaluation.labelled_images import load_labelled_images
from dag_diffusion.own_images.distilling import IMAGES, PLAN, RUN, TIMES, work_folder
from dag_diffusion.own_images.models import EVALUATOR, GENERATOR, GUIDE
from dag_diffusion.training.generators.samples import grid

PICTURES = Path(__file__).parent.parent / "docs" / "images"
COLUMNS, ENLARGED = 10, 2
KEPT = {  # of the records of the models
    GUIDE: ("model", "test", "calibration"),
    EVALUATOR: ("model", "test", "calibration"),
    GENERATOR: ("settings", "reconstruction_error"),
}
REPEATED = {  # sets of the third command, in words
    "random:runs/clipart-work/run/pool-unguided, IPC 10": "random, unguided pool",
    "random:runs/clipart-plain/pool-unguided, IPC 10": "random, unguided pool, without autoguidance",
    "random:runs/clipart-work/run/pool-guided, IPC 10": "random, guided pool",
    "runs/clipart": "DGS, guided pool",
    "runs/clipart-plain/set-guided": "DGS, guided pool, without autoguidance",
    "random:runs/clipart-work/images/train, IPC 10": "random real",
}


def recorded(output: Path, work: Path) -> dict:
    """Everything that the page tells, from the files that ``distill`` has left."""
    results, prepared = read_json_object(work / RUN / "results.json"), read_json_object(work / IMAGES / "images.json")
    counts = {
        part: {name: int((pool.labels == label).sum()) for label, name in pool.class_names.items()}
        for part in ("train", "test")
        for pool in [read_pool(work / IMAGES / part)]
    }
    models = {
        name: {key: value for key, value in read_json_object(work / name / "training.json").items() if key in keys}
        for name, keys in KEPT.items()
    }
    return {
        "distill": read_json_object(work / "distill.json"),
        "found": prepared["prepared"]["images"],
        "counts": counts,
        "models": models,
        "expected": read_json_object(work / PLAN),
        "seconds": read_json_object(work / TIMES),
        "results": results["results"],
        "control": results["control"],
        "repeated": repeated(Path(f"{output}.json")),
    }


def repeated(path: Path) -> list[dict]:
    """The trainings of ``evaluate``, whose sets are called as they were named there."""
    results = read_json_object(path)["results"] if path.exists() else []
    return [row | {"set": REPEATED[row["set"]]} for row in results]


def sheet(pool: Pool, path: Path) -> None:
    """A row of images for each class, the first of each."""
    loaded = load_labelled_images(pool, size=(32, 32), channels=3)
    rows = [np.flatnonzero(loaded.labels == label)[:COLUMNS] for label in pool.class_names]
    picture = grid(np.asarray(loaded.images)[np.concatenate(rows)] / 255, COLUMNS)
    larger = picture.resize((ENLARGED * picture.width, ENLARGED * picture.height), Image.Resampling.NEAREST)
    larger.quantize(256).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the distilled set")
    parser.add_argument("--work", type=Path, help="default: beside it")
    options = parser.parse_args()
    work = options.work or work_folder(options.output)
    record("clipart", recorded(options.output, work))
    print(RESULTS / "clipart.json")
    for name, folder in (
        ("real", work / IMAGES / "train"),
        ("unguided", work / RUN / "pool-unguided"),
        ("set", options.output),
    ):
        sheet(read_pool(folder), PICTURES / f"clipart-{name}.png")


if __name__ == "__main__":
    main()
