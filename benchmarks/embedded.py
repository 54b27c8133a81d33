"""How good the embedded default is: its images as training data, and a picture of them steered from easy to hard.

    python benchmarks/embedded.py quality     # 10 random unguided images a class against 10 random real ones
    python benchmarks/embedded.py picture     # docs/images/steered.png

The first writes benchmarks/results/embedded-quality-PROTOCOL.json with versions, processor and command; how well the
images can be steered is measured by benchmarks/guidance.py.
"""

import argparse
import json
import platform
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler

from dag_diffusion import PoolConfig, embedded, fill_pool, load_classifier, read_pool, score_pool
from dag_diffusion.evaluation.comparisons import summarise
from dag_diffusion.evaluation.labelled_images import load_labelled_images, random_subset
from dag_diffusion.evaluation.protocols import PROTOCOLS
from dag_diffusion.evaluation.trials import evaluate
from dag_diffusion.generation.provenance import LIBRARIES
from dag_diffusion.loading import load_embedded_pipeline

RESULTS = Path(__file__).parent / "results"
TARGETS = (0.1, 0.3, 0.5, 0.7, 0.9)


def record(name: str, values: dict) -> None:
    machine = {"processor": processor(), "threads": torch.get_num_threads(), "python": platform.python_version()}
    versions = {library: version(library) for library in LIBRARIES}
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"command": command, "machine": machine, "versions": versions, **values}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def ddim(scheduler: Any) -> DDIMScheduler:
    """DDIM for the denoiser of another scheduler."""
    return DDIMScheduler.from_config(scheduler.config, clip_sample=False)


def quality(protocol: str, scales: list[float], seeds: int, folder: Path) -> None:
    """Accuracy on the 10,000 real test images of a ConvNet-3 trained on 10 images a class."""
    pipeline, evaluator = load_embedded_pipeline(), load_classifier(embedded.EVALUATOR)
    test = load_labelled_images(read_pool(embedded.TEST), size=(32, 32), channels=1)
    options = {"size": (32, 32), "channels": 1, "class_names": test.class_names}
    real = load_labelled_images(read_pool(embedded.REFERENCE), **options)
    sets, agreement = {"real": lambda seed: random_subset(real, 10, seed)}, {}
    for scale in scales:
        pool = fill_pool(pipeline, folder / f"cfg-{scale}", PoolConfig(images_per_class=100, guidance_scale=scale))
        agreement[scale] = float((score_pool(pool, evaluator).difficulties < 0.5).mean())
        images = load_labelled_images(pool, **options)
        sets[f"unguided, CFG {scale}"] = lambda seed, images=images: random_subset(images, 10, seed)
        print(f"CFG {scale}: evaluator's probability of the class above 1/2 on {agreement[scale]:.1%}", flush=True)
    results = evaluate(sets, test, protocol=PROTOCOLS[protocol], seeds=range(seeds), on_result=print)
    rows = summarise(results, "real")
    for row in rows:
        print(f"{row.set:22} {row.mean:.4f} +- {row.std:.4f}   difference {row.difference:+.4f} {row.interval}")
    values = {"agreement": agreement, "rows": [asdict(r) for r in rows], "results": [asdict(r) for r in results]}
    record(f"embedded-quality-{protocol}", values)


def picture(path: Path) -> None:
    """A row a class, a column a target: the same noise throughout, so that all that changes is the difficulty asked."""
    from matplotlib.figure import Figure

    pipeline, evaluator = load_embedded_pipeline(), load_classifier(embedded.EVALUATOR)
    targets, names = [None, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98], list(pipeline.class_names.values())
    figure = Figure(figsize=(1.0 * len(targets) + 1.2, 1.0 * len(names) + 0.9), dpi=110, facecolor="white")
    axes = figure.subplots(len(names), len(targets), gridspec_kw={"wspace": 0.05, "hspace": 0.05})
    for column, target in enumerate(targets):
        generators = [torch.Generator().manual_seed(11 + label) for label in pipeline.class_names]
        images = pipeline(names, target, generator=generators).images
        measured = evaluated(evaluator, images).mean()
        head = "unguided" if target is None else f"d* = {target}"
        axes[0, column].set_title(f"{head}\nevaluator {measured:.2f}", fontsize=8)
        for row, image in enumerate(images):
            axes[row, column].imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255)
            axes[row, column].set(xticks=[], yticks=[])
    for row, name in enumerate(names):
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    figure.subplots_adjust(left=0.14, right=0.99, top=0.93, bottom=0.01)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.1)


def evaluated(evaluator: torch.nn.Module, images: list) -> torch.Tensor:
    from dag_diffusion.classifiers import image_logits
    from dag_diffusion.difficulty import difficulty

    batch = torch.from_numpy(np.stack([np.asarray(image) for image in images]))[:, None] / 255
    with torch.no_grad():
        return difficulty(image_logits(evaluator, batch), torch.arange(len(images)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["quality", "picture"])
    parser.add_argument("--protocol", default="classic", choices=sorted(PROTOCOLS))
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, PoolConfig.guidance_scale])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "quality":
            quality(options.protocol, options.scales, options.seeds, Path(folder))
        else:
            picture(Path("docs/images/steered.png"))


if __name__ == "__main__":
    main()
