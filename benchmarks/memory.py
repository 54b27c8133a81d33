"""How much memory commands hold at their peak, and how much more for each further image; beside the build of dd3a76c.

    python benchmarks/memory.py                      # all rows
    python benchmarks/memory.py score --images 20000 # one of run, score, subsample, with fewer images
    python benchmarks/memory.py preparing            # drawings of several sizes on their way to distill

``run`` draws two pools of so many images together; ``score`` reads a folder of hard links by the embedded guide;
``subsample`` a parquet file of pictures with difficulties, of 1,000 classes.  Each also with a tenth of the
images, so that the difference says what one image costs.  Writes benchmarks/results/memory.json.

``preparing`` looks at a dozen transparent drawings of one size and writes them with 64 px, as ``distill`` does first
of all.  Writes benchmarks/results/memory-preparing.json, which has no earlier build beside it.
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
from PIL import Image, ImageDraw

from dag_diffusion import embedded

CLASSES = sorted(path.name for path in embedded.REFERENCE.iterdir() if path.is_dir())
LINKS = 50_000  # a file may have about so many names
DRAWINGS, SIDES = 12, (500, 3900, 7100)  # pixels; from 16 million on an image is decoded while no other is
PREPARING = """
from pathlib import Path
from dag_diffusion.own_images import FolderConfig
from dag_diffusion.own_images.plain_images import plain_images
plain_images(Path("drawings"), Path("work"), FolderConfig(ipc=1), 64)
"""
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
    found = {"images": images, "mib": many, "mib_of_a_tenth": few, "kib_an_image": growth}
    if what == "run":  # which the earlier build did in one process, and this one in one on each core
        with tempfile.TemporaryDirectory() as text:
            arguments = [*run(images, Path(text)), "--num-processes", 1]
            found["mib_in_one_process"] = builds["now"].command(*arguments, folder=Path(text), watched=True).mib
    return found


def preparing(side: int) -> dict:
    """The peak of a process that prepares drawings of so many pixels a side, beside what one of them takes decoded."""
    with tempfile.TemporaryDirectory() as text:
        for number in range(DRAWINGS):
            drawing = Image.new("RGBA", (side, side))
            box = [side // 8 + number * side // 64, side // 8, side * 3 // 4, side * 7 // 8]
            ImageDraw.Draw(drawing).ellipse(box, fill=(200, 20 * number, 40, 255), outline="black", width=side // 50)
            place = Path(text) / "drawings" / ("round", "flat")[number % 2] / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            drawing.save(place, compress_level=1)
        cost = Build().python("-c", PREPARING, folder=Path(text), watched=True)
    return {"side": side, "mib_of_one": side * side * 4 / 2**20, "mib": cost.mib}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}, preparing; all by default")
    parser.add_argument("--images", type=int, help="in place of the row's own number")
    options = parser.parse_args()
    if unknown := set(options.rows) - {*ROWS, "preparing"}:
        parser.error(f"there is no row {', '.join(sorted(unknown))}; choose of {', '.join(ROWS)}, preparing")
    if not options.rows or "preparing" in options.rows:
        record("memory-preparing", {"drawings": DRAWINGS, "rows": [preparing(side) for side in SIDES]})
    if options.rows == ["preparing"]:
        return
    path = RESULTS / "memory.json"
    rows = json.loads(path.read_text("utf-8"))["rows"] if path.exists() else {}
    with both_builds() as builds:
        for what in [row for row in options.rows if row in ROWS] or ROWS:
            rows[what] = measured(what, options.images or IMAGES[what], builds)
            print(what, json.dumps(rows[what]), flush=True)
            record("memory", {"baseline": BASELINE, "rows": rows})


if __name__ == "__main__":
    main()
