"""In batches of how many images does an autoencoder learn the most?  Reconstructions after equally many images.

    python benchmarks/autoencoders.py runs/downstream/real.parquet --name Fashion-MNIST --images 16000
    python benchmarks/autoencoders.py /usr/share/openclipart/png --name "clip art" --trim --channels 3 \\
        --classes "animals;buildings;food;geography;office;people;plants;recreation;tools;transportation"

A fifth of each class is held out and measured.  Seconds are those of one thread of a processor, so that other work
counts little.  Results go to benchmarks/results/autoencoders.json, a row after each training.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from time import process_time

import torch
from embedded import RESULTS, record
from torch import Tensor

from dag_diffusion import GeneratorConfig
from dag_diffusion.data import prepare, split_pool
from dag_diffusion.evaluation.labelled_images import load_labelled_images
from dag_diffusion.training.generators.vae import reconstruction_error, train_vae

CPU = torch.device("cpu")


def measure(learnt: Tensor, held_out: Tensor, batch_size: int, images: int) -> dict[str, float]:
    """Seconds, and the mean absolute difference of held-out images in levels.

    Args:
        learnt, held_out: ``(n, height, width, channels)`` uint8.
        images: how many are seen, in all steps together.
    """
    config = replace(GeneratorConfig().vae_loop, steps=images // batch_size, batch_size=batch_size)
    begun = process_time()
    with tempfile.TemporaryDirectory() as folder:
        vae = train_vae(learnt, Path(folder), config, flip=False, device=CPU, identity={})
    seconds = process_time() - begun
    return {"seconds": round(seconds), "difference": round(reconstruction_error(vae, held_out, CPU), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="images, as score reads them")
    parser.add_argument("--name", required=True, help="of the data, in the table")
    parser.add_argument("--classes", help="only these")
    parser.add_argument("--trim", action="store_true", help="cut transparent margins off")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 16, 8])
    parser.add_argument("--images", type=int, default=32_000, help="seen in each training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        found = prepare(
            options.source, classes=options.classes, trim=options.trim, skip_unreadable=True, cache=Path(cache)
        )
        learnt, held_out = (
            torch.as_tensor(load_labelled_images(part, size=(options.size,) * 2, channels=options.channels).images)
            for part in split_pool(found.pool, 0.2)
        )
    path = RESULTS / "autoencoders.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    for batch_size in options.batch_sizes:
        row = {"data": options.name, "batch_size": batch_size, "images": options.images}
        rows = [other for other in rows if row.items() - other.items()]
        rows.append(row | measure(learnt, held_out, batch_size, options.images))
        print(rows[-1], flush=True)
        record("autoencoders", {"rows": rows})


if __name__ == "__main__":
    main()
