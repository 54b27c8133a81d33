"""What a pool past this machine would take: GPU hours and storage of 250,000 guided images of ImageNet-1k.

    hours = images / (GPUs x images a second)                           of one GPU, measured by benchmarks/dit_xl.py
    hours = images x FLOP an image / (GPUs x peak x utilisation)        FLOP counted by benchmarks/guidance.py cost

    python benchmarks/scaling.py                              # by the recorded rates of an H100 in bfloat16
    python benchmarks/scaling.py --peak-tflops 312            # an A100 at an assumed 32 % of its peak, as the H100
    python benchmarks/scaling.py --images-per-second 4.2      # what `dag-diffusion status` says of a pool of your own

Writes benchmarks/results/scaling.json.
"""

import argparse
import io
import json
from statistics import mean

import numpy as np
from embedded import RESULTS, record
from PIL import Image, ImageOps

from dag_diffusion.data.files import json_lines
from dag_diffusion.generation.plan import PoolConfig, plan

FORMS = ("unguided", "probe, last 2 decoded (default)", "decoder at every guided step")
CLASSES, IPC, POOL_FACTOR, GPUS = 1000, 50, 5, (1, 8, 64)
# photographs that scikit-learn and scikit-image ship
PHOTOGRAPHS = ("china", "flower", "astronaut", "chelsea", "coffee", "rocket")


def tflop_of_an_image(counted: dict) -> dict[str, float]:
    """TFLOP of one image for each form of guidance, loading and writing left out."""
    gflop = counted["gflop"]
    plain = counted["steps"] * 2 * gflop["DiT-XL/2"] + gflop["VAE decode"]
    forms = {"unguided": 1.0, **counted["ratios"]}
    return {form: plain * forms[form] / 1e3 for form in FORMS}


def measured_rates(timed: dict) -> dict[str, float]:
    """Images a second of one GPU for each form of guidance."""
    rows = timed["bfloat16, every step"] | timed["bfloat16, forms of guidance"]
    return {form: rows[form]["images_per_second"] for form in FORMS}


def hours(images: int, rate: float) -> dict[str, float]:
    """Wall-clock hours by number of GPUs, each drawing ``rate`` images a second."""
    return {str(gpus): images / (gpus * rate) / 3600 for gpus in GPUS}


def photograph(name: str) -> Image.Image:
    from skimage import data
    from sklearn.datasets import load_sample_image

    pixels = load_sample_image(f"{name}.jpg") if name in ("china", "flower") else getattr(data, name)()
    return ImageOps.fit(Image.fromarray(np.asarray(pixels)[..., :3]), (256, 256), Image.Resampling.BICUBIC)


def storage(images: int) -> dict[str, float]:
    """Bytes of a PNG as this project writes it, of a row of metadata, and of the whole pool."""
    sizes = []
    for name in PHOTOGRAPHS:
        file = io.BytesIO()
        photograph(name).save(file, format="PNG")
        sizes.append(file.tell())
    jobs = plan(PoolConfig(images_per_class=10), {label: "a name of usual length" for label in range(CLASSES)})
    row = mean(len(json_lines([{**job.row(), "difficulty": 0.123456789}])) for job in jobs[:100])
    return {
        "png_bytes": {"least": min(sizes), "mean": mean(sizes), "most": max(sizes)},
        "row_bytes": row,
        "pool_gigabytes": images * (mean(sizes) + row) / 1e9,
        "files": images + 2,
        "claims_while_it_runs": images // 50,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=CLASSES * IPC * POOL_FACTOR)
    parser.add_argument("--peak-tflops", type=float, help="dense bfloat16, of a GPU that was not timed")
    parser.add_argument("--utilisation", type=float, default=0.32, help="assumed share of that peak")
    parser.add_argument("--images-per-second", type=float, help="of one GPU, measured; instead of the two above")
    options = parser.parse_args()
    counted = json.loads((RESULTS / "guidance-cost.json").read_text())
    cost, table = tflop_of_an_image(counted), {}
    if options.images_per_second:
        table["measured"] = hours(options.images, options.images_per_second)
    elif options.peak_tflops:
        for form, tflop in cost.items():
            table[form] = hours(options.images, options.peak_tflops * options.utilisation / tflop)
    else:
        for form, rate in measured_rates(json.loads((RESULTS / "dit-xl.json").read_text())).items():
            table[form] = hours(options.images, rate)
    values = {"options": vars(options), "tflop_an_image": cost, "hours": table, "storage": storage(options.images)}
    print(json.dumps(values, indent=2))
    record("scaling", values)


if __name__ == "__main__":
    main()
