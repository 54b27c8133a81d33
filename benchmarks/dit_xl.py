"""DiT-XL/2 at 256 px on an accelerator: images a second, what guidance costs, and memory.  Weights are random.

    python benchmarks/dit_xl.py --device cuda              # two to three minutes on an H100
    python benchmarks/dit_xl.py --device cpu --tiny        # the same lines at a size that says nothing, in float32

50 steps with classifier-free guidance, the VAE of Stable Diffusion, a ResNet-50 as the guide.  Speed does not depend on
what the weights say; how well a guide steers does, so that nothing here tells of it.  Runs of a comparison take turns.
Writes benchmarks/results/dit-xl.json after every comparison.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from embedded import record
from PIL import Image
from scoring import one_by_one
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from dag_diffusion import DifficultyGuidedPipeline, GuidanceConfig, PoolConfig, fill_pool, read_pool, score_pool
from dag_diffusion.acceleration import speed_up
from dag_diffusion.classifiers import Preprocessing
from dag_diffusion.data.pools import Pool
from dag_diffusion.generation.preparing.probe_training import ProbeConfig, build_probe
from dag_diffusion.guidance.probes import describe

STEPS = 50
DIT_XL = {  # the published shapes, in diffusers' words
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 28,
    "sample_size": 32,
    "patch_size": 2,
    "num_embeds_ada_norm": 1000,
    "norm_elementwise_affine": False,
}
SD_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "sample_size": 256,
}
TINY_DIT = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 4}
TINY_VAE = {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1, "sample_size": 32}
NAMES = {label: f"class {label}" for label in range(1000)}
GUIDED = {  # forms of guidance: options of the call, and whether the tiny decoder takes the place of the VAE's
    "probe, last 2 decoded (default)": (GuidanceConfig(), False),
    "probe, last 2 decoded by the tiny decoder": (GuidanceConfig(), True),
    "probe alone": (GuidanceConfig(decoded_steps=0), False),
}
EVERY_STEP = "decoder at every guided step"


def build(device: str, dtype: torch.dtype, tiny: bool) -> DifficultyGuidedPipeline:
    """The published shapes, or tiny ones, with random weights."""
    torch.manual_seed(0)
    with torch.device(device):
        transformer = DiTTransformer2DModel(**DIT_XL | (TINY_DIT if tiny else {}))
        vae = AutoencoderKL(**SD_VAE | (TINY_VAE if tiny else {}))
        config = ResNetConfig(id2label=NAMES, label2id={name: label for label, name in NAMES.items()})
        classifier = ResNetForImageClassification(config)
    classifier.config.preprocessing = Preprocessing(224, 224).as_fields()
    pipeline = DifficultyGuidedPipeline(
        transformer, vae, DDIMScheduler(clip_sample=False, set_alpha_to_one=False), classifier, id2label=NAMES
    )
    probe = build_probe(pipeline, ProbeConfig()).to(device)
    pipeline.register_modules(probe=probe, guidance_vae=AutoencoderTiny().to(device))
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.to(dtype).eval().requires_grad_(False)
    probe.config.probe = describe(pipeline, [classifier])
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Until the device has done all of it."""
    synchronise(device)
    begun = perf_counter()
    work()
    synchronise(device)
    return perf_counter() - begun


def synchronise(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize()


def peak_gib(work: Callable[[], object], device: str) -> float | None:
    if not device.startswith("cuda"):
        work()
        return None
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated() / 2**30


class Bench:
    """One pipeline with its tiny decoder at hand, and the calls that are compared."""

    def __init__(self, options: argparse.Namespace, dtype: torch.dtype) -> None:
        self.options = options
        self.pipeline = build(options.device, dtype, options.tiny)
        self.probe, self.tiny_vae = self.pipeline.probe, self.pipeline.guidance_vae

    def draw(self, count: int, form: str | None = None, steps: int | None = None) -> None:
        """``count`` images, unguided unless a form of guidance is named."""
        config, tiny_decoder = GUIDED.get(form, (GuidanceConfig(), False))
        self.pipeline.register_modules(
            probe=None if form == EVERY_STEP else self.probe, guidance_vae=self.tiny_vae if tiny_decoder else None
        )
        generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
        self.pipeline(
            [seed % 1000 for seed in range(count)],
            None if form is None else 0.5,
            generator=generators,
            num_inference_steps=steps or self.options.steps,
            difficulty_guidance=config,
        )

    def rates(self, forms: list[str | None], count: int, turns: int) -> dict[str, dict]:
        """Seconds of every turn, images a second, cost against the first form, and memory at its peak."""
        found: dict[str, dict] = {}
        for form in forms:  # a short first call of each chooses kernels, and does not count
            peak = peak_gib(lambda form=form: self.draw(count, form, steps=5), self.device)
            found[form or "unguided"] = {"peak_gib": peak}
        seconds = {name: [] for name in found}
        for _ in range(turns):
            for form in forms:
                seconds[form or "unguided"].append(seconds_of(lambda form=form: self.draw(count, form), self.device))
        first = next(iter(seconds.values()))
        for name, times in seconds.items():
            cost = median(a / b for a, b in zip(times, first, strict=True))
            found[name] |= {"seconds": times, "images_per_second": count / median(times), "cost": cost}
        return found

    @property
    def device(self) -> str:
        return self.options.device

    def one_by_one(self, count: int) -> float:
        """Images a second of the plain loop over ``DiTPipeline``."""
        ours = self.pipeline
        plain = DiTPipeline(ours.transformer, ours.vae, ours.scheduler)
        plain.set_progress_bar_config(disable=True)

        def loop(images: int) -> None:
            for seed in range(images):
                generator = torch.Generator(self.device).manual_seed(seed)
                plain([seed], generator=generator, num_inference_steps=self.options.steps)

        loop(1)
        return count / seconds_of(lambda: loop(count), self.device)

    def pool(self, folder: Path, count: int) -> dict[str, float]:
        """Images a second of ``fill_pool``, with writing and reading back."""
        self.pipeline.register_modules(probe=self.probe, guidance_vae=None)
        labels = list(range(4))
        config = PoolConfig(
            images_per_class=count // 2, labels=labels, num_inference_steps=self.options.steps, guidance_scale=4.0
        )
        spent = seconds_of(
            lambda: fill_pool(self.pipeline, folder, config, batch_size=count, source="random weights"), self.device
        )
        return {"images": 2 * count, "images_per_second": 2 * count / spent}


def scoring(bench: Bench, folder: Path, count: int) -> dict[str, float]:
    """Images a second of ``score_pool`` and of a plain loop over files, ResNet-50, noise of 256 px as PNG."""
    pixels = np.random.default_rng(0)
    for index in range(count):
        path = folder / NAMES[index % 4] / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(pixels.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        coarse.resize((256, 256), Image.Resampling.BICUBIC).save(path)
    pool, classifier = read_pool(folder), bench.pipeline.classifier.float()
    few = Pool(pool.path, pool.rows[: count // 4])
    one_by_one(Pool(pool.path, pool.rows[:5]), classifier)
    score_pool(few, classifier, dtype=torch.float32)
    plain = len(few) / seconds_of(lambda: one_by_one(few, classifier), bench.device)
    ours = len(pool) / seconds_of(lambda: score_pool(pool, classifier, dtype=torch.float32), bench.device)
    return {"plain loop": plain, "score_pool": ours, "gain": ours / plain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile, which takes a minute more")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to try the script out")
    options = parser.parse_args()
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu"
    values: dict = {"device": name, "batch": options.batch, "steps": options.steps, "tiny": options.tiny}

    def keep(what: str, found: object) -> None:
        values[what] = found
        print(what, found, flush=True)
        record("dit-xl-tiny" if options.tiny else "dit-xl", values)

    half = torch.float32 if options.tiny else torch.bfloat16  # which CPUs without it take minutes for
    bench, batch, turns = Bench(options, half), options.batch, options.turns
    with tempfile.TemporaryDirectory() as folder:
        keep("bfloat16, one image at a time over DiTPipeline", bench.one_by_one(3))
        keep("bfloat16, forms of guidance", bench.rates([None, *GUIDED], batch, turns))
        for size in (1, 8, 2 * batch):
            keep(f"bfloat16, batch of {size}", bench.rates([None], size, 1))
        keep("bfloat16, every step", bench.rates([None, EVERY_STEP], batch, 1))
        keep("bfloat16, fill_pool", bench.pool(Path(folder) / "pool", batch))
        speed_up(bench.pipeline, channels_last=True)
        keep("bfloat16, channels last", bench.rates([None, next(iter(GUIDED))], batch, turns))
        for dtype in (torch.float32,) if options.tiny else (torch.float16, torch.float32):
            other = Bench(options, dtype)
            keep(f"{dtype}".removeprefix("torch."), other.rates([None], batch, 1))
            del other
        keep("scoring", scoring(bench, Path(folder) / "scored", 40 if options.tiny else 2000))
        if options.compile:
            compiled = Bench(options, half)
            speed_up(compiled.pipeline, compiled=True)
            keep("bfloat16, compiled", compiled.rates([None, next(iter(GUIDED))], batch, turns))


if __name__ == "__main__":
    main()
