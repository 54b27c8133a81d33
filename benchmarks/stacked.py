"""What trainings at once as one stacked network gain over one after another: seconds and accuracies, side by side.

    python benchmarks/stacked.py --device cuda                                # 20 trainings of ConvNet-3, ``classic``
    python benchmarks/stacked.py --device cuda --protocol hard-label --network resnet-ap-10
    python benchmarks/stacked.py --device cpu --network convnet-3-w8 --protocol quick --turns 1

Each turn trains on as many random draws of 10 images per class of the embedded reference, seed by seed, both ways in
turn, and tests on 1,000 images; a first turn warms the device up and does not count.  The record is
benchmarks/results/stacked.json.
"""

import argparse
import statistics
import time
from dataclasses import replace

import torch
from embedded import record

from dag_diffusion import embedded, read_pool
from dag_diffusion.evaluation.labelled_images import LabelledImages, RandomDraw, load_labelled_images, random_subset
from dag_diffusion.evaluation.protocols import PROTOCOLS
from dag_diffusion.evaluation.trials import evaluate

SIZE = {"size": (32, 32), "channels": 1}


def timed(
    real: LabelledImages, test: LabelledImages, at_once: int, options: argparse.Namespace
) -> tuple[float, list[float]]:
    """Seconds and accuracies of all trainings."""
    begun = time.perf_counter()
    results = evaluate(
        {"random": RandomDraw(real, 10)},
        test,
        network=options.network,
        protocol=replace(PROTOCOLS[options.protocol], precision="float32"),  # in which CPUs stack too
        seeds=range(options.trainings),
        device=options.device,
        at_once=at_once,
    )
    return time.perf_counter() - begun, [result.accuracy for result in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--network", default="convnet-3")
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="classic")
    parser.add_argument("--trainings", type=int, default=20)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    test = load_labelled_images(read_pool(embedded.TEST), **SIZE)
    real = load_labelled_images(read_pool(embedded.REFERENCE), **SIZE, class_names=test.class_names)
    test, ratios = random_subset(test, 100, 0), []
    for turn in range(options.turns + 1):
        alone, expected = timed(real, test, 1, options)
        stacked, found = timed(real, test, options.trainings, options)
        apart = max(abs(one - other) for one, other in zip(expected, found, strict=True))
        print(f"alone {alone:.2f} s, at once {stacked:.2f} s, accuracies up to {apart:.3f} apart")
        if turn:
            ratios.append({"alone_s": alone, "at_once_s": stacked, "ratio": alone / stacked, "apart": apart})
    ratio = statistics.median(row["ratio"] for row in ratios)
    print(f"median ratio of {options.turns}: {ratio:.2f}")
    name = torch.cuda.get_device_name() if options.device == "cuda" else options.device
    record("stacked", {**vars(options), "gpu": name, "ratio": ratio, "turns_s": ratios})


if __name__ == "__main__":
    main()
