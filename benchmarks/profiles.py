"""Where the time goes: seconds of one processor by kind of work, and what a compiled call of the probe would gain.

    python benchmarks/profiles.py pool        # drawing guided images, in float32 and in bfloat16
    python benchmarks/profiles.py training    # a ConvNet-3 as it is, with torch's pooling, and compiled
    python benchmarks/profiles.py run         # a whole run with one training of each set, by stage
    python benchmarks/profiles.py probe       # value and gradient of the probe, as it is and as one compiled call

Seconds are those that the process computed for, so that other work on the machine counts little; shares are torch's
profiler's.  All on one thread.  Each writes benchmarks/results/profile-WHAT.json.
"""

import argparse
import copy
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import torch
from embedded import record
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from dag_diffusion.evaluation.networks import build_network
from dag_diffusion.guidance.difficulty_guidance import margin_and_gradient
from dag_diffusion.guidance.probes import probe_margin
from dag_diffusion.loading import load_embedded_pipeline
from dag_diffusion.memory import keep_freed_memory
from dag_diffusion.processor import computing_in

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
KINDS = {  # parts of the names of torch's operations, the first that fits
    "matrix products": ("addmm", "aten::mm", "bmm"),
    "convolutions": ("convolution",),
    "attention": ("attention",),
    "activations": ("gelu", "silu", "relu", "clamp_min", "threshold"),
    "norms": ("norm",),
    "pooling": ("pool",),
    "fused by the compiler": ("Compiled", "graph_"),
    "copies and casts": ("copy", "contiguous", "clone", "cat"),
}
REST = "everything else"


def seconds_of(work: Callable[[], object]) -> float:
    begun = process_time()
    work()
    return process_time() - begun


def shares_of(work: Callable[[], object]) -> dict[str, float]:
    """Share of each kind of operation in the time of some work."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        work()
    found = Counter[str]()
    for one in profiled.key_averages():
        kind = next((kind for kind, parts in KINDS.items() if any(part in one.key for part in parts)), REST)
        found[kind] += one.self_cpu_time_total
    return {kind: round(found[kind] / found.total(), 3) for kind in (*KINDS, REST) if found[kind]}


def product_rates() -> dict[str, float]:
    """GFLOP/s of one large matrix product in each precision, which bound what networks can do."""
    found = {}
    for name, dtype in PRECISIONS.items():
        factors = torch.randn(2, 2048, 2048).to(dtype)
        seconds = median(seconds_of(lambda factors=factors: factors[0] @ factors[1]) for _ in range(5))
        found[name] = round(2 * 2048**3 / seconds / 1e9, 1)
    return found


def pool() -> dict[str, Any]:
    """Batches of the default pool, steered to targets from easy to hard, in each precision in turn."""
    pipeline, images, turns = load_embedded_pipeline(), 50, 3
    pipeline.set_progress_bar_config(disable=True)
    targets = [0.1, 0.3, 0.5, 0.7, 0.9] * (images // 5)

    def draw(dtype: torch.dtype, steps: int = 20) -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in range(images)]
        labels = [number % 10 for number in range(images)]
        pipeline(labels, targets, num_inference_steps=steps, network_dtype=dtype, generator=generators)

    for dtype in PRECISIONS.values():
        draw(dtype, steps=2)
    seconds = {name: [] for name in PRECISIONS}
    for _ in range(turns):
        for name, dtype in PRECISIONS.items():
            seconds[name].append(seconds_of(partial(draw, dtype)))
    shares = {name: shares_of(partial(draw, dtype)) for name, dtype in PRECISIONS.items()}
    return {"images": images, "steps": 20, "seconds": seconds, "shares": shares, "product_gflops": product_rates()}


def training() -> dict[str, Any]:
    """Steps of the classic protocol on 100 images, and tests in batches of 20."""
    torch.manual_seed(0)
    images, labels = torch.randn(100, 1, 32, 32), torch.arange(100) % 10
    network = build_network("convnet-3", channels=1, size=(32, 32), num_classes=10)
    torchs = copy.deepcopy(network)
    for block in torchs[:3]:
        block[3] = nn.AvgPool2d(2)
    compiled = torch.compile(torchs, dynamic=True)
    optimizers = {one: torch.optim.SGD(one.parameters(), 0.01, 0.9) for one in (network, torchs, compiled)}

    def train(network: nn.Module, precision: str, steps: int = 5) -> None:
        network.train()
        for _ in range(steps):
            with computing_in(precision, images.device):
                logits = network(images).float()
            optimizers[network].zero_grad()
            nn.functional.cross_entropy(logits, labels).backward()
            optimizers[network].step()

    def test(network: nn.Module, precision: str) -> None:
        network.eval()
        with torch.inference_mode(), computing_in(precision, images.device):
            for batch in images.split(20) * 5:
                network(batch)

    ways = {
        f"{precision}{how}": (one, precision)
        for precision in PRECISIONS
        for how, one in {"": network, ", torch's pooling": torchs, ", compiled": compiled}.items()
    }
    found: dict[str, Any] = {}
    for what, work in {"training": train, "testing": test}.items():
        milliseconds = {name: [] for name in ways}
        for turn in range(6):
            for name, way in ways.items():
                taken = 1000 * seconds_of(partial(work, *way)) / 500
                if turn:  # the first one warms up
                    milliseconds[name].append(taken)
        shares = {name: shares_of(partial(work, *way)) for name, way in ways.items()}
        found[what] = {"milliseconds_an_image": milliseconds, "shares": shares}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        torchs(images[:1])
    return found | {"mflop_of_logits": counter.get_total_flops() / 1e6, "product_gflops": product_rates()}


def run() -> dict[str, Any]:
    """``run`` as it is by default but for one training of each set, after the imports."""
    from dag_diffusion.distillation.config import DistillationConfig
    from dag_diffusion.distillation.run import distill

    found, last = Counter[str](), process_time()

    def told(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = process_time()
        found[stage if done else REST] += now - last
        last = now

    with tempfile.TemporaryDirectory() as folder:
        distill(Path(folder) / "run", DistillationConfig(seeds=1), progress=told)
    found[REST] += process_time() - last
    return {"seconds": {stage: round(seconds, 2) for stage, seconds in found.items()}}


def probe() -> dict[str, Any]:
    """A guided step's part that is the probe's, beside the transformer's, by batches of 100."""
    pipeline, images, turns = load_embedded_pipeline(), 100, 15
    labels, clean = torch.arange(images) % 10, torch.randn(images, 4, 8, 8)
    margin_of = probe_margin(pipeline.probe, labels, 0.5)

    def summed(sample: Tensor) -> tuple[Tensor, Tensor]:
        margin = margin_of(sample)
        return margin.sum(), margin

    fused = torch.compile(torch.func.grad(summed, has_aux=True))
    ways = {"as it is": lambda: margin_and_gradient(clean, margin_of), "one compiled call": lambda: fused(clean)}
    pipeline._guidance_scale = pipeline.default_guidance_scale
    found: dict[str, Any] = {}
    for name in PRECISIONS:
        with torch.no_grad(), computing_in(name, clean.device):
            first = {way: seconds_of(work) for way, work in ways.items()}
            milliseconds = {way: [] for way in ways}
            for _ in range(turns):
                for way, work in ways.items():
                    milliseconds[way].append(1000 * seconds_of(work))
            transformer = [
                1000 * seconds_of(lambda: pipeline.predict(clean, torch.tensor(500), labels)) for _ in range(3)
            ]
            (margin, gradient), (fused_gradient, fused_margin) = (work() for work in ways.values())
        found[name] = {
            "milliseconds": {way: round(median(each), 2) for way, each in milliseconds.items()},
            "transformer": round(median(transformer), 1),
            "seconds_of_first_call": first,
            "relative_difference": {
                "margin": relative(fused_margin, margin),
                "gradient": relative(fused_gradient, gradient),
            },
        }
    return {"images": images, "precisions": found}


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = {task.__name__: task for task in (pool, training, run, probe)}
    parser.add_argument("what", choices=tasks)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(1)
    record(f"profile-{arguments.what}", tasks[arguments.what]())


if __name__ == "__main__":
    main()
