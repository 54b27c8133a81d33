"""How fast a pool is filled, by how many processes, at what cost of bookkeeping, and what kills leave of it.

    python benchmarks/generation.py loop        # against one image at a time over DiTPipeline, as peers generate
    python benchmarks/generation.py processes   # one process against two, one thread each
    python benchmarks/generation.py overhead    # share of a run that is not drawing; checks of a pool to resume
    python benchmarks/generation.py options     # batch sizes, precision, torch.compile, memory layout, sliced decoding
    python benchmarks/generation.py networks    # bfloat16 and intervals of classifier-free guidance
    python benchmarks/generation.py guidances   # classifier-free guidance and autoguidance, each and together
    python benchmarks/generation.py same        # which circumstances change how many bits of the images
    python benchmarks/generation.py kills       # kill -9 of all processes at random moments, then --resume

Everything is the embedded default, 12 steps of DPM-Solver++, classifier-free guidance 1.5.  Each ratio is of runs that
took turns in one call.  Each writes benchmarks/results/generation-WHAT.json with versions, processor and command.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import numpy as np
import psutil
import torch
from diffusers import DiTPipeline
from embedded import record

from dag_diffusion import PoolConfig, TargetDistribution, fill_pool, read_pool
from dag_diffusion.acceleration import speed_up
from dag_diffusion.data.pools import Pool
from dag_diffusion.generation.filling import BATCH_SIZE
from dag_diffusion.generation.plan import ImageJob, plan
from dag_diffusion.generation.work_queue import damaged_images
from dag_diffusion.loading import in_precision, load_embedded_pipeline
from dag_diffusion.memory import keep_freed_memory

GENERATE = [sys.executable, "-m", "dag_diffusion", "generate"]
STEERED = TargetDistribution.preset("ground")


def seconds_of(work: Callable[..., object], *arguments: object, **options: object) -> float:
    begun = perf_counter()
    work(*arguments, **options)
    return perf_counter() - begun


def one_by_one(pipeline: DiTPipeline, folder: Path, jobs: Sequence[ImageJob]) -> None:
    """The plain loop: each image is drawn, and written, before the next."""
    for job in jobs:
        generator, path = torch.Generator().manual_seed(job.seed), folder / job.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = pipeline([job.label], guidance_scale=1.5, num_inference_steps=12, generator=generator)
        drawn.images[0].save(path)


def plain_pipeline() -> DiTPipeline:
    ours = load_embedded_pipeline()
    pipeline = DiTPipeline(ours.transformer, ours.vae, ours.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    ours.transformer.register_forward_pre_hook(own_null_class, with_kwargs=True)
    return pipeline


def own_null_class(transformer: torch.nn.Module, given: tuple, named: dict) -> tuple[tuple, dict]:
    """`DiTPipeline` takes 1000 for the label that means none, which is 10 here."""
    return given, named | {"class_labels": named["class_labels"].clamp(max=transformer.config.num_embeds_ada_norm)}


def loop(arguments: argparse.Namespace, folder: Path) -> dict:
    """Rates of the plain loop, an unguided and a guided pool, in turn."""
    rates = {"one image at a time": [], "unguided pool": [], "guided pool": []}
    plain, ours, count = plain_pipeline(), load_embedded_pipeline(), arguments.images
    jobs = plan(PoolConfig(images_per_class=count // 50), ours.class_names)  # a fifth of the pool's
    for turn in range(arguments.repeats):
        seconds = seconds_of(one_by_one, plain, folder / f"loop-{turn}", jobs)
        rates["one image at a time"].append(len(jobs) / seconds)
        for name, target in (("unguided pool", None), ("guided pool", STEERED)):
            scale: dict = {"guidance_scale": 1.5, "guidance_interval": (0.0, 1.0)}  # as the plain loop's
            config = PoolConfig(images_per_class=count // 10, target=target, **scale)
            rates[name].append(count / seconds_of(fill_pool, ours, folder / f"{name} {turn}", config))
    return {"images_per_second": rates, "ratios": {k: ratio(v, rates["one image at a time"]) for k, v in rates.items()}}


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """Median of the ratios of runs that took turns."""
    return round(median(a / b for a, b in zip(these, those, strict=True)), 3)


def launched(folder: Path, count: int, processes: int, *options: str) -> float:
    """Images a second of the command line with one thread a process, as its log says: loading left out."""
    command = [*GENERATE, str(folder), "--images-per-class", str(count // 10), "--num-processes", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--target", "ground", "--quiet", *options], check=True, env=environment)  # noqa: S603
    return float(re.findall(r"([\d.]+) images/s in this run$", (folder / "generation.log").read_text(), re.M)[-1])


def processes(arguments: argparse.Namespace, folder: Path) -> dict:
    """Rates of one and two processes in turn, and whether their pools are the same."""
    rates, batch = {1: [], 2: []}, ("--batch-size", "25")
    for turn in range(arguments.repeats):
        for number, found in rates.items():
            found.append(launched(folder / f"{number}-{turn}", arguments.images, number, *batch))
    same = differing_pixels(read_pool(folder / "1-0"), read_pool(folder / "2-0"))
    return {"images_per_second": rates, "efficiency": ratio(rates[2], rates[1]) / 2, "pixels_that_differ": same}


def differing_pixels(first: Pool, second: Pool) -> dict[str, float]:
    """Share of pixels that two pools of the same plan do not agree in, and by how many of 255 at most."""
    pairs = ((np.asarray(first.open(i), np.int16), np.asarray(second.open(i), np.int16)) for i in range(len(first)))
    gaps = np.stack([np.abs(one - other) for one, other in pairs])
    return {"share": float((gaps > 0).mean()), "most": int(gaps.max())}


def overhead(arguments: argparse.Namespace, folder: Path) -> dict:
    """What a run does besides calling the pipeline, as a share of it; and how fast images are checked."""
    shares = []
    for turn in range(arguments.repeats):
        pipeline, spent = load_embedded_pipeline(), []

        class Timed(type(pipeline)):
            def __call__(self, *args: object, spent: list[float] = spent, **options: object) -> object:
                begun = perf_counter()
                try:
                    return super().__call__(*args, **options)
                finally:
                    spent.append(perf_counter() - begun)

        pipeline.__class__ = Timed
        config = PoolConfig(images_per_class=arguments.images // 10, target=STEERED)
        whole = seconds_of(fill_pool, pipeline, folder / str(turn), config)
        shares.append(1 - sum(spent) / whole)
    pool = read_pool(folder / "0")
    checks = seconds_of(damaged_images, pool.path, pool.rows, None)
    return {"share_besides_drawing": shares, "images_checked_per_second": len(pool) / checks}


def options(arguments: argparse.Namespace, folder: Path) -> dict:
    """Rate of each option against the default, in turn; compiling is timed apart, in a batch that does not count."""
    tried: dict[str, dict] = {
        "default": {},
        **{f"batch size {size}": {"batch_size": size} for size in (10, 100)},
        "bfloat16": {"dtype": torch.bfloat16},
        "channels-last": {"speed": {"channels_last": True}},
        "sliced decoding": {"speed": {"vae_slicing": True}},
        "torch.compile": {"speed": {"compiled": True}},
    }
    rates, errors, pipelines, first = {k: [] for k in tried}, {}, {}, {}
    for name, how in tried.items():
        pipelines[name] = in_precision(load_embedded_pipeline(), how.get("dtype"))
        speed_up(pipelines[name], **how.get("speed", {}))
        warm = PoolConfig(images_per_class=5, target=STEERED)
        first[name] = seconds_of(fill_pool, pipelines[name], folder / "warm", warm, overwrite=True)
    for turn in range(arguments.repeats):
        for name, how in tried.items():
            config = PoolConfig(images_per_class=arguments.images // 10, target=STEERED)
            place, size = folder / f"{name} {turn}", how.get("batch_size", BATCH_SIZE)
            seconds = seconds_of(fill_pool, pipelines[name], place, config, batch_size=size)
            rates[name].append(arguments.images / seconds)
            rows = read_pool(place).rows
            errors[name] = float(np.mean([abs(r["difficulty"] - r["target_difficulty"]) for r in rows]))
    default = rates["default"]
    return {
        "images_per_second": rates,
        "ratios": {name: ratio(found, default) for name, found in rates.items()},
        "seconds_of_first_batch": first,
        "difficulty_error": errors,
        "pixels_that_differ": {
            name: differing_pixels(read_pool(folder / "default 0"), read_pool(folder / f"{name} 0")) for name in tried
        },
    }


def networks(arguments: argparse.Namespace, folder: Path) -> dict:
    """Rates by what the networks compute in and where classifier-free guidance is on, in turn."""
    tried = {
        f"{precision}, {steps}": {"precision": precision, "guidance_interval": interval, "target": "reference"}
        for precision in ("float32", "bfloat16")
        for steps, interval in (("all steps", (0.0, 1.0)), ("first half", (0.0, 0.5)))
    }
    return rates_in_turn(tried, arguments, folder)


def guidances(arguments: argparse.Namespace, folder: Path) -> dict:
    """Rates without a target, by which guidance is on, in turn."""
    scales = {"none": (1.0, 1.0), "classifier-free": (1.5, 1.0), "autoguidance": (1.0, 1.5), "both": (1.5, 1.5)}
    tried = {name: {"guidance_scale": cfg, "autoguidance_scale": auto} for name, (cfg, auto) in scales.items()}
    return rates_in_turn(tried, arguments, folder)


def rates_in_turn(tried: dict[str, dict], arguments: argparse.Namespace, folder: Path) -> dict:
    """Images a second of pools of each configuration, and as a multiple of the first one's."""
    keep_freed_memory()  # as the command line does
    rates, pipeline = {name: [] for name in tried}, load_embedded_pipeline()
    fill_pool(pipeline, folder / "warm", PoolConfig(images_per_class=5, target="reference"))
    for turn in range(arguments.repeats):
        for name, how in tried.items():
            config = PoolConfig(images_per_class=arguments.images // 10, **how)
            rates[name].append(arguments.images / seconds_of(fill_pool, pipeline, folder / f"{name} {turn}", config))
    first = next(iter(rates.values()))
    return {"images_per_second": rates, "ratios": {name: ratio(found, first) for name, found in rates.items()}}


def same(arguments: argparse.Namespace, folder: Path) -> dict:
    """Pools of one plan drawn in other circumstances, compared pixel by pixel."""
    pools, threads, pipeline = {}, torch.get_num_threads(), load_embedded_pipeline()
    config = PoolConfig(images_per_class=arguments.images // 10, target=STEERED)
    for name, size, used in (("reference", 50, 2), ("again", 50, 2), ("one thread", 50, 1), ("batch size 7", 7, 2)):
        torch.set_num_threads(used)
        pools[name] = fill_pool(pipeline, folder / name, config, batch_size=size)
    torch.set_num_threads(threads)
    return {name: differing_pixels(pools["reference"], pool) for name, pool in pools.items() if name != "reference"}


def kills(arguments: argparse.Namespace, folder: Path) -> dict:
    """Two processes, killed at once when a random number of images is there, then resumed."""
    count, options = arguments.images, ("--batch-size", "10")
    launched(folder / "whole", count, 2, *options)
    expected, generator, found = files(folder / "whole"), np.random.default_rng(0), []
    for number, wanted in enumerate(generator.integers(0, count - 20, arguments.kills).tolist()):
        pool = folder / str(number)
        killed_at(pool, count, wanted, *options)
        there, torn = len(list(pool.glob("*/*.png"))), len(list(pool.rglob("*.partial")))
        launched(pool, count, 2, *options, "--resume")
        found.append({"images": there, "torn": torn, "same": files(pool) == expected})
        print(found[-1], flush=True)
    return {"kills": found, "same": sum(one["same"] for one in found)}


def killed_at(pool: Path, count: int, images: int, *options: str) -> None:
    """Start to fill a pool and kill every process with -9 as soon as there are so many images."""
    command = [*GENERATE, str(pool), "--images-per-class", str(count // 10), "--num-processes", "2", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([*command, "--target", "ground", "--quiet"], env=environment)  # noqa: S603
    while run.poll() is None and len(list(pool.glob("*/*.png"))) <= images:
        sleep(0.005)
    if run.poll() is not None:
        raise RuntimeError(f"the run ended with code {run.returncode} before it could be killed")
    started = psutil.Process(run.pid)
    for process in [started, *started.children(recursive=True)]:
        process.kill()
    run.wait()


def files(pool: Path) -> dict[str, bytes]:
    return {str(p.relative_to(pool)): p.read_bytes() for p in pool.rglob("*") if p.is_file() and p.suffix != ".log"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = {task.__name__: task for task in (loop, processes, overhead, options, networks, guidances, same, kills)}
    parser.add_argument("what", choices=tasks)
    parser.add_argument("--images", type=int, default=500, help="of each pool, over ten classes")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = tasks[arguments.what](arguments, Path(folder))
    record(f"generation-{arguments.what}", result)


if __name__ == "__main__":
    main()
