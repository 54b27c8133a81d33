"""Is another generator better than the embedded default?  Each beside the others, seed by seed, on real test images.

    python benchmarks/generators.py training FOLDER --other PIPELINE --ipc 10    # what a ConvNet-3 learns of each
    python benchmarks/generators.py images FOLDER --other PIPELINE               # agreement, distance, diversity
    python benchmarks/generators.py control FOLDER --other PIPELINE              # steered by the default method
    python benchmarks/generators.py training FOLDER --ipc 50 --intervals 0 1 0.25 0.75    # of classifier-free guidance
    python benchmarks/generators.py training FOLDER --other new=PIPELINE slow=PIPELINE --record new    # several
    python benchmarks/generators.py images FOLDER --samplers DDIM:20 DDPM:100 --record samplers
    python benchmarks/generators.py images FOLDER --auto 1 1.5 --weak auto= larger=PIPELINE --record autoguidance

FOLDER keeps the pools, so that a stopped run goes on.  Agreement is the share of images to which the evaluator gives
more than 1/2 for their class; the Fréchet distance is between the evaluator's features and those of the test images,
and diversity the mean feature distance of two images of a class as a multiple of that of real ones.  Results go to
benchmarks/results/generators-WHAT.json, those of trainings to downstream-generators-IPC.json; with intervals the names
begin with intervals- instead of generators-, and with --record NAME with that name.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import diffusers
import torch
from diffusers import DiffusionPipeline
from embedded import RESULTS, record
from guidance import Bench, frechet
from torch import Tensor

from dag_diffusion import PoolConfig, embedded, evaluate, fill_pool, read_pool, score_pool
from dag_diffusion.data.pools import Pool
from dag_diffusion.evaluation.comparisons import summarise
from dag_diffusion.evaluation.labelled_images import LabelledImages, load_labelled_images, random_subset
from dag_diffusion.evaluation.records import evaluation_record
from dag_diffusion.identity import digest_of
from dag_diffusion.loading import load_pipeline
from dag_diffusion.training.generators.vae import as_input, load_vae, reconstruction_error

WHOLE = [0.0, 1.0]
SHAPE = {"size": (32, 32), "channels": 1, "class_names": dict(enumerate(embedded.CLASS_NAMES))}


def places_of(options: argparse.Namespace) -> dict[str, Path]:
    """The generators by name; others may be left out."""
    named = (("other=" + one if "=" not in one else one).split("=", 1) for one in options.other)
    return {"embedded": embedded.PIPELINE} | {name: Path(place) for name, place in named}


def settings(options: argparse.Namespace) -> Iterator[tuple[str, Path, str, dict]]:
    """What each way to draw is called, pipeline, scheduler ("" is its own), and options: of the call, and ``weak``."""
    intervals = list(zip(options.intervals[::2], options.intervals[1::2], strict=True))
    guided = [("", 1.0)] if 1 in options.auto else []
    guided += product(options.weak, [scale for scale in options.auto if scale > 1])
    choices = (options.scales, intervals, options.samplers, guided, places_of(options).items())
    for scale, interval, sampler, (weak, auto), (name, place) in product(*choices):
        part = "" if interval == (0, 1) else f", {interval[0]:g} to {interval[1]:g}"
        drawn: dict = {"guidance_scale": scale, "guidance_interval": interval}
        if auto > 1:
            called, _, other = weak.partition("=")
            part += f", {called} {auto:g}"
            drawn |= {"weak": other or None, "autoguidance_scale": auto}
        scheduler, _, steps = sampler.partition(":")
        if sampler:
            part += f", {scheduler}, {steps} steps"
            drawn["num_inference_steps"] = int(steps)
        yield f"{name}, CFG {scale:g}{part}", place, scheduler, drawn


def pipeline_of(place: Path, scheduler: str, weak: str | None = None) -> DiffusionPipeline:
    pipeline = load_pipeline(place, weak=weak, device="cpu")
    if scheduler:
        kind = getattr(diffusers, f"{scheduler}Scheduler")
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config, clip_sample=False)
    return pipeline


def pool_of(options: argparse.Namespace, name: str, place: Path, scheduler: str, drawn: dict) -> Pool:
    """Unguided images, drawn once; the same noise whichever generator."""
    pipeline = pipeline_of(place, scheduler, drawn.pop("weak", None))
    config = PoolConfig(images_per_class=options.each, **drawn)
    return fill_pool(pipeline, options.folder / name, config, batch_size=100, resume=True, source=str(place))


def record_of(options: argparse.Namespace) -> str:
    return options.record or ("generators" if options.intervals == WHOLE else "intervals")


def images(options: argparse.Namespace) -> None:
    """Agreement, distance to the test images and diversity of each pool, and what each VAE changes in a pixel."""
    bench, rows, changed = Bench(10), {}, {}
    test = torch.as_tensor(load_labelled_images(read_pool(embedded.TEST), **SHAPE).images)
    real = bench.real_features
    spread = mean_distance(real, bench.real_labels, options.each)
    for name, place, *how in settings(options):
        pool = pool_of(options, name, place, *how)
        pixels = torch.from_numpy(load_labelled_images(pool, **SHAPE).images).permute(0, 3, 1, 2)
        features = bench.features(pixels)
        if place not in changed:
            changed[place] = reconstruction_error(load_vae(place), test, torch.device("cpu"))
        rows[name] = {
            "agreement": float((score_pool(pool, bench.evaluator).difficulties < 0.5).mean()),
            "frechet": frechet(features, real),
            "diversity": mean_distance(features, torch.as_tensor(pool.labels), options.each) / spread,
            "changed": changed[place],
        }
        print(name, {key: round(value, 3) for key, value in rows[name].items()}, flush=True)
        record(f"{record_of(options)}-images", {"images_per_class": options.each, "rows": rows})


def mean_distance(features: Tensor, labels: Tensor, each: int) -> float:
    """Of two images of a class, over the first ones of each."""
    groups = [features[labels == label][:each] for label in range(10)]
    return float(torch.stack([torch.cdist(group, group).sum() / (each * (each - 1)) for group in groups]).mean())


def control(options: argparse.Namespace) -> None:
    """Mean |d - d*| by guide and evaluator of each generator, steered by the default method."""
    bench, rows = Bench(options.images), []
    shown = ("guide_error", "evaluator_error", "evaluator_spearman", "frechet_matched", "diversity")
    for name, place, scheduler, drawn in settings(options):
        bench.pipeline = pipeline_of(place, scheduler, drawn.pop("weak", None))
        bench.probe = bench.pipeline.probe
        for seed in range(options.seeds):
            found = bench.measure(bench.draw(seed, **drawn), 1.0, 1.0)
            rows.append({"setting": name, "seed": seed} | {key: found[key] for key in shown})
            print(name, seed, {key: round(found[key], 3) for key in shown}, flush=True)
            record(f"{record_of(options)}-control", {"images_per_target": options.images, "rows": rows})


def training(options: argparse.Namespace) -> None:
    """Accuracy of networks trained on random images: real ones, the same through each VAE, and unguided ones."""
    test = load_labelled_images(read_pool(embedded.TEST), **SHAPE)
    real = partial(random_subset, load_labelled_images(read_pool(options.real), **SHAPE), options.ipc)
    sets: dict[str, Callable[[int], LabelledImages]] = {"real": real}
    vaes = {name: load_vae(place) for name, place in places_of(options).items()}
    for name, vae in {digest_of(vae): (name, vae) for name, vae in reversed(vaes.items())}.values():  # the same once
        sets[f"real, through the VAE, {name}"] = partial(drawn_through, vae, real)
    for name, *how in settings(options):
        drawn = load_labelled_images(pool_of(options, name, *how), **SHAPE)
        sets[name] = partial(random_subset, drawn, options.ipc)
    chosen = {"protocol": options.protocol, "test_images": len(test), "device": None}
    with evaluation_record(RESULTS / f"downstream-{record_of(options)}-{options.ipc}.json", chosen) as kept:
        known = {"known": kept.results, "on_result": kept.add, "test_name": f"{len(test)} real images"}
        results = evaluate(sets, test, protocol=options.protocol, seeds=range(options.seeds), **known)
    for row in summarise(results, next(name for name, *_ in settings(options))):
        print(f"{row.set:34} {row.mean:.4f} {row.std:.4f} {row.difference:+.4f} {row.interval}", flush=True)


@torch.no_grad()
def drawn_through(vae: torch.nn.Module, draw: Callable[[int], LabelledImages], seed: int) -> LabelledImages:
    """Real images as a VAE gives them back: what it alone costs."""
    images = draw(seed)
    inputs = as_input(torch.as_tensor(images.images), torch.device("cpu"))
    decoded = torch.cat([vae.decode(vae.encode(part).latent_dist.mean).sample for part in inputs.split(100)])
    pixels = ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
    return replace(images, images=pixels.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["training", "images", "control"])
    parser.add_argument("folder", type=Path, help="of the pools")
    parser.add_argument("--other", nargs="+", default=[], help="folders of other pipelines, as [NAME=]FOLDER")
    parser.add_argument("--record", help="how the names of the records begin")
    parser.add_argument("--real", type=Path, default=embedded.REFERENCE, help="real images to train on")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.5])
    parser.add_argument("--intervals", type=float, nargs="+", default=WHOLE, help="START STOP, several in one list")
    parser.add_argument("--samplers", nargs="+", default=[""], help="as SCHEDULER:STEPS; else each pipeline's own")
    parser.add_argument("--auto", type=float, nargs="+", default=[1.0], help="scales of autoguidance")
    parser.add_argument("--weak", nargs="+", default=["auto="], help="by which, NAME=FOLDER; NAME=: the pipeline's own")
    parser.add_argument("--each", type=int, default=250, help="images of a class in a pool")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=100, help="for each target, of control")
    parser.add_argument("--protocol", default="quick")
    options = parser.parse_args()
    {"training": training, "images": images, "control": control}[options.what](options)


if __name__ == "__main__":
    main()
