"""How much memory commands hold at their peak, and how much more for each further image; beside the build of dd3a76c.

    python benchmarks/memory.py                      # all rows
    python benchmarks/memory.py score --images 20000 # one of run, score, subsample, with fewer images

``run`` draws two pools of so many images together; ``score`` reads a folder of hard links by the embedded guide;
``subsample`` a parquet file of pictures with difficulties, of 1,000 classes.  Each also with a tenth of the
images, so that the difference says what one image costs.  Writes benchmarks/results/memory.json.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from builds import BASELINE, Build, both_builds
from embedded import RESULTS, record
from PIL import Image

from dag_diffusion import embedded

CLASSES = sorted(path.name for path in embedded.REFERENCE.iterdir() if path.is_dir())
LINKS = 50_000  # a file may have about so many names
IMAGES = {"run": 1000, "score": 100_000, "subsample": 1_000_000}  # run: of both pools


def run(images: int, folder: Path) -> list[object]:
    return ["run", "--output", "out", "--seeds", 1, "--ipc", images // (2 * 5 * len(CLASSES)), "--quiet"]


def score(images: int, folder: Path) -> list[object]:
    """A folder of hard links."""
    for number in range(images):
        name = f"{CLASSES[number % len(CLASSES)]}/{number:07d}.png"
        if number % LINKS == 0:
            picture = folder / f".{number}.png"
            Image.effect_noise((28, 28), 50).save(picture)
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(picture, folder / "images" / name)
    return ["score", "images", "--quiet"]


def subsample(images: int, folder: Path) -> list[object]:
    """A parquet file of pictures of few bytes with difficulties."""
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Image as ImageFeature

    Image.new("L", (1, 1)).save(folder / "one.png")
    columns = {
        "image": [{"bytes": (folder / "one.png").read_bytes(), "path": None}] * images,
        "label": np.arange(images) % 1000,
        "difficulty": 1 / (1 + np.exp(-np.random.default_rng(0).normal(-4, 2, images))),
    }
    names = [f"class {label:03d}" for label in range(1000)]
    features = Features(image=ImageFeature(), label=ClassLabel(names=names), difficulty=Value("float64"))
    Dataset.from_dict(columns, features).to_parquet(folder / "pool.parquet")
    options = ["--ipc", 10, "--target", "hill", "--method", "matching", "--files", "list"]
    return ["subsample", "pool.parquet", "out", *options]


ROWS: dict[str, Callable[[int, Path], list[object]]] = {"run": run, "score": score, "subsample": subsample}


def peaks(what: str, images: int, builds: Mapping[str, Build]) -> dict[str, float]:
    """MiB at the peak of each build, on inputs of its own."""
    found = {}
    for way, build in builds.items():
        with tempfile.TemporaryDirectory() as text:
            arguments = ROWS[what](images, Path(text))
            found[way] = build.command(*arguments, folder=Path(text), watched=True).mib
    return found


def measured(what: str, images: int, builds: Mapping[str, Build]) -> dict:
    few, many = (peaks(what, count, builds) for count in (images // 10, images))
    further = images - images // 10
    growth = {way: (many[way] - few[way]) * 1024 / further for way in builds}  # KiB an image
    return {"images": images, "mib": many, "mib_of_a_tenth": few, "kib_an_image": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--images", type=int, help="in place of the row's own number")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(unknown))}; choose of {', '.join(ROWS)}")
    path = RESULTS / "memory.json"
    rows = json.loads(path.read_text("utf-8"))["rows"] if path.exists() else {}
    with both_builds() as builds:
        for what in options.rows or ROWS:
            rows[what] = measured(what, options.images or IMAGES[what], builds)
            print(what, json.dumps(rows[what]), flush=True)
            record("memory", {"baseline": BASELINE, "rows": rows})


if __name__ == "__main__":
    main()
