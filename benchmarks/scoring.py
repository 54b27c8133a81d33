"""How many images a second are scored, against a plain loop over files: open, preprocess, one forward pass, 1 - p(y).

    python benchmarks/scoring.py                     # all of it, about ten minutes on two cores
    python benchmarks/scoring.py resnet50 --rounds 3 # one of lite0, resnet50, embedded, processes
    python benchmarks/scoring.py resnet50 --rounds 2 --more          # two rounds more in the same record

lite0 and resnet50: 500 x 375 JPEGs, crops of scikit-image's photographs, with EfficientNet-Lite0 and with a ResNet-50
of random weights.  Each round is a new process that runs the plain loop first, as a script does, and then scores for
the first time, as the command line does; its seconds hold the freezing of the network, which is told apart, so that the
gain at 3,000 photographs is computed from both.  embedded: the embedded reference images and guide, where both ways
take turns in one process.  processes: one process of one thread against two, after loading; with Lite0.

Written to benchmarks/results/scoring.json are all times, the images a second of the median time, and the largest
difference of a difficulty.  A second run on an unchanged pool, which only hashes its files, is timed too.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from embedded import RESULTS, record
from PIL import Image
from skimage.data import data_dir
from torch import nn

from dag_diffusion import embedded, load_classifier, read_pool, score_and_record, score_pool
from dag_diffusion.classifiers import class_names_of, preprocessing_of
from dag_diffusion.classifiers.frozen_networks import frozen
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.pools import Pool
from dag_diffusion.memory import keep_freed_memory
from dag_diffusion.processes import gather, is_main_process, leave_process_group
from dag_diffusion.sampling import scoring

PHOTOGRAPHS = {
    "espresso": "coffee.png",
    "tripod": "camera.png",
    "moped": "motorcycle_left.png",
    "missile": "rocket.jpg",
}
SIZE = (500, 375)  # what most files of ImageNet have


LARGE = 3000  # photographs at which the gain is computed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["lite0", "resnet50", "embedded", "processes"])
    parser.add_argument("--images", type=int, default=120, help="photographs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--more", action="store_true", help="add the rounds to those that are recorded")
    parser.add_argument("--round-of", nargs=2, metavar=("CLASSIFIER", "POOL"), help="what a round does in its process")
    parser.add_argument("--share-of", nargs=2, metavar=("CLASSIFIER", "POOL"), help="what one of the processes does")
    options = parser.parse_args()
    if options.round_of or options.share_of:
        found = first_time(*options.round_of) if options.round_of else shared(*options.share_of)
        if is_main_process():
            print(json.dumps(found))
        return leave_process_group()
    path = RESULTS / "scoring.json"
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what in options.what:
            title = TITLES[what]
            earlier = results.get(title, {}).get("rounds", []) if options.more else []
            results[title] = MEASURED[what](folder, options.images, options.rounds, earlier)
            shown = ((key, value) for key, value in results[title].items() if not isinstance(value, list | dict))
            print(f"{title}: {', '.join(f'{key} {value:.4g}' for key, value in shown)}", flush=True)
    record("scoring", {"command": "python benchmarks/scoring.py", "results": results})


def against_plain_loop(name: str, folder: Path, images: int, rounds: int, earlier: list[dict]) -> dict:
    """A first run of ``score`` against a plain loop, each round in a process of its own."""
    classifier, pool = folder / name, folder / "photographs"
    if not pool.exists():
        photograph_pool(pool, images)
    CLASSIFIERS[name](classifier)
    found = earlier + [run_alone([], "--round-of", classifier, pool) for _ in range(rounds)]
    seconds = {key: median(one[key] for one in found) for key in found[0]}
    count = len(read_pool(pool))
    freezing, plain = seconds["freezing"], seconds["plain loop"]
    large = freezing + (seconds["first record"] - freezing) * LARGE / count
    return {
        "images": count,
        **{f"{key}, images/s": count / seconds[key] for key in ("plain loop", "first record", "second record")},
        "gain": plain / seconds["first record"],
        f"gain at {LARGE} images": plain * LARGE / count / large,
        "freezing, s": freezing,
        "largest difference": max(one["largest difference"] for one in found),
        "rounds": found,
    }


def first_time(classifier: str, pool: str) -> dict[str, float]:
    """Seconds of a plain loop and of a first and a second recorded run, in this process, after loading."""
    images, network, seconds = read_pool(pool), load_classifier(classifier), []
    scoring.FROZEN_FROM = 1  # as for thousands of images
    scoring.frozen = lambda *given: timed(seconds, lambda: frozen(*given))
    times: dict[str, list[float]] = {"plain loop": [], "first record": [], "second record": []}
    plain = timed(times["plain loop"], lambda: one_by_one(images, network))
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        scores = Path(folder, "scores.jsonl")
        for run in ("first record", "second record"):
            timed(times[run], lambda: score_and_record(images, {"classifier": network}, scores))
        ours = read_pool(pool, scores=scores).difficulties
    difference = float(np.abs(plain - ours).max())
    return {key: one for key, (one,) in times.items()} | {"freezing": seconds[0], "largest difference": difference}


def processes(folder: Path, images: int, rounds: int, earlier: list[dict]) -> dict:
    """One process of one thread against two, with what loading takes told apart."""
    classifier, pool = folder / "lite0", folder / "photographs"
    if not pool.exists():
        photograph_pool(pool, images)
    lite0(classifier)
    two = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    found = list(earlier)
    for _ in range(rounds):
        times: dict[str, list[float]] = {"one": [], "two": []}
        one = timed(times["one"], lambda: run_alone([], "--share-of", classifier, pool))
        both = timed(times["two"], lambda: run_alone(two, "--share-of", classifier, pool))
        found.append({"one": one, "two": both, "one, whole": times["one"][0], "two, whole": times["two"][0]})
    return {
        "images": len(read_pool(pool)),
        "ratio": median(one["one"] / one["two"] for one in found),
        "ratio with starting and loading": median(one["one, whole"] / one["two, whole"] for one in found),
        "starting and loading two, s": median(one["two, whole"] - one["two"] for one in found),
        "rounds": found,
    }


def shared(classifier: str, pool: str) -> float:
    """Seconds of scoring in this process and those beside it, after loading."""
    keep_freed_memory()
    images, network, seconds = read_pool(pool), load_classifier(classifier), []
    folder = gather(tempfile.mkdtemp())[0]
    timed(seconds, lambda: score_and_record(images, {"classifier": network}, Path(folder, "scores.jsonl")))
    return seconds[0]


def run_alone(launcher: list[str], *arguments: object) -> Any:
    """What this script prints in a process of its own; one thread a process where a launcher starts several."""
    threads = {"OMP_NUM_THREADS": "1"} if "--share-of" in arguments else {}
    command = [sys.executable, *launcher, __file__, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=True)  # noqa: S603
    return json.loads(done.stdout.strip().splitlines()[-1])


def embedded_guide(folder: Path, images: int, rounds: int, earlier: list[dict]) -> dict:
    """Both ways in turn on the embedded reference images, whose number is given."""
    shutil.copytree(embedded.REFERENCE, folder / "reference")  # a score is written beside the images
    return compared(read_pool(folder / "reference"), load_classifier(embedded.PIPELINE / "classifier"), rounds)


def compared(pool: Pool, classifier: nn.Module, rounds: int) -> dict:
    """Times of both ways and of a first and a second recorded run, in turn."""
    seconds: dict[str, list[float]] = {"plain loop": [], "score_pool": [], "first record": [], "second record": []}
    one_by_one(Pool(pool.path, pool.rows[:5]), classifier)  # the first passes choose their kernels
    score_pool(Pool(pool.path, pool.rows[:50]), classifier)
    for turn in range(rounds):
        plain = timed(seconds["plain loop"], lambda: one_by_one(pool, classifier))
        ours = timed(seconds["score_pool"], lambda: score_pool(pool, classifier).difficulties)
        scores = pool.path.with_name(f"scores-{turn}.jsonl")
        for run in ("first record", "second record"):
            recorded = partial(score_and_record, read_pool(pool.path), {"classifier": classifier}, scores)
            timed(seconds[run], recorded)
    speed = {f"{run}, images/s": len(pool) / median(times) for run, times in seconds.items()}
    gain = median(seconds["plain loop"]) / median(seconds["score_pool"])
    difference = float(np.abs(plain - ours).max())
    return {"images": len(pool), **speed, "gain": gain, "largest difference": difference, "seconds": seconds}


def timed(seconds: list[float], run):
    start = perf_counter()
    result = run()
    seconds.append(perf_counter() - start)
    return result


def one_by_one(pool: Pool, classifier: nn.Module) -> np.ndarray:
    """What a script does that was written for one folder and one classifier; ``(images,)`` difficulties."""
    wanted, labels = preprocessing_of(classifier), match_classes(pool.class_names, class_names_of(classifier))
    values, device = [], next(classifier.parameters()).device
    with torch.no_grad():
        for row in pool.rows:
            image = Image.open(pool.path / row["file_name"]).convert("L" if wanted.channels == 1 else "RGB")
            probabilities = classifier(wanted.normalised(wanted.read(image)).to(device)).logits.softmax(1)
            values.append(1 - probabilities[0, labels[row["label"]]].item())
    return np.array(values)


def photograph_pool(folder: Path, images: int) -> Pool:
    generator = np.random.default_rng(0)
    for name, photograph in PHOTOGRAPHS.items():
        whole = Image.open(Path(data_dir) / photograph).convert("RGB")
        (folder / name).mkdir(parents=True)
        for index in range(images // len(PHOTOGRAPHS)):
            height = generator.uniform(0.6, 1) * min(whole.height, whole.width * SIZE[1] / SIZE[0])
            width = height * SIZE[0] / SIZE[1]
            left, top = generator.uniform(0, whole.width - width), generator.uniform(0, whole.height - height)
            crop = whole.resize(SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
            crop.save(folder / name / f"{index:05d}.jpg", quality=90)
    return read_pool(folder)


def lite0(folder: Path) -> nn.Module:
    path = Path(__file__).parents[1] / "examples" / "imagenet_classifier.py"
    spec = importlib.util.spec_from_file_location("imagenet_classifier", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.convert(folder)
    return load_classifier(folder)


def resnet50(folder: Path) -> nn.Module:
    """A ResNet-50 as timm makes it, with random weights and the names of ImageNet."""
    import timm
    from timm.data import ImageNetInfo
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    info, settings = ImageNetInfo(), timm.create_model("resnet50").pretrained_cfg
    names = {label: info.index_to_description(label) for label in range(info.num_classes())}
    torch.manual_seed(0)
    config = TimmWrapperConfig(architecture="resnet50", id2label=names, pretrained_cfg=settings)
    TimmWrapperForImageClassification(config).save_pretrained(folder)
    return load_classifier(folder)


CLASSIFIERS = {"lite0": lite0, "resnet50": resnet50}
MEASURED = {
    "lite0": partial(against_plain_loop, "lite0"),
    "resnet50": partial(against_plain_loop, "resnet50"),
    "embedded": embedded_guide,
    "processes": processes,
}
TITLES = {
    "lite0": "efficientnet-lite0, 500 x 375 JPEG",
    "resnet50": "ResNet-50, 500 x 375 JPEG",
    "embedded": "embedded guide, 28 x 28 PNG",
    "processes": "two processes against one, a thread each",
}

if __name__ == "__main__":
    main()
