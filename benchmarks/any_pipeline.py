"""How well and how fast ``steer`` guides: the embedded denoiser in a loop of its own, under schedulers of every family.

    python benchmarks/any_pipeline.py control     # mean |d - d*| by guide and evaluator, beside the DiT pipeline's own
    python benchmarks/any_pipeline.py control "steer, probe, DEIS"    # rows of it, into the same record
    python benchmarks/any_pipeline.py seeds 5 "steer, probe, LMS"    # rows over five seeds, paired with the first
    python benchmarks/any_pipeline.py overhead    # steer without a target, and with the probe, against plain calls
    python benchmarks/any_pipeline.py added       # what steer without a target adds to a step
    python benchmarks/any_pipeline.py large       # without a target at the size of DiT-XL/2, random weights, 3 GB

The network is the same one in all rows.  What a scheduler wants is converted exactly: a sample x = a x0 + s e is
brought to variance 1, the timestep is the one of the same s / a, and the velocity is made of what the network answers.
Rows of control share labels, targets and seeds; 40 images a target, 20 steps, classifier-free guidance 1.5, 8 bits.
Overhead is the median of the ratios of pairs of calls, one after the other in an order that alternates; at the large
size in processor time, which other work on the machine does not lengthen.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import diffusers
import dit_xl
import torch
from diffusers.utils import BaseOutput
from embedded import RESULTS, TARGETS, record
from torch import Tensor

from dag_diffusion import GuidanceConfig, embedded, load_classifier, steer
from dag_diffusion.classifiers.image_classifiers import Guide, mean_margin, preprocessing_of
from dag_diffusion.evaluation.comparisons import paired
from dag_diffusion.loading import load_embedded_pipeline

STEPS, GUIDANCE_SCALE, PER_TARGET, BATCH = 20, 1.5, 40, 100
ALIKE = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE_SCALE, "guidance_interval": (0.0, 1.0)}
LEADING = {"timestep_spacing": "leading"}  # trailing ones begin at 20,000 times as much noise as signal
DEFAULT, TO_THE_END = GuidanceConfig(), GuidanceConfig(stop=1.0)
PLAIN = GuidanceConfig(class_direction=0.0)
SCHEDULERS: dict[str, tuple[str, dict, GuidanceConfig]] = {
    "DDIM": ("DDIMScheduler", {}, DEFAULT),
    "Euler": ("EulerDiscreteScheduler", LEADING, DEFAULT),
    "Heun": ("HeunDiscreteScheduler", LEADING, DEFAULT),
    "DPM-Solver++": ("DPMSolverMultistepScheduler", LEADING, DEFAULT),
    "UniPC": ("UniPCMultistepScheduler", LEADING, DEFAULT),
    "DEIS": ("DEISMultistepScheduler", LEADING, DEFAULT),
    "LMS": ("LMSDiscreteScheduler", LEADING, DEFAULT),
    "PNDM": ("PNDMScheduler", LEADING | {"skip_prk_steps": True}, DEFAULT),
    "flow matching, Euler": ("FlowMatchEulerDiscreteScheduler", {}, DEFAULT),
    "Euler, ancestral, guided to the end": ("EulerAncestralDiscreteScheduler", LEADING, TO_THE_END),
    "Euler, ancestral, guided to the last but one": (
        "EulerAncestralDiscreteScheduler",
        LEADING,
        GuidanceConfig(stop=0.95),
    ),
}
REFERENCE = "DiT pipeline, its default"
OWN = ("DPM-Solver++", "UniPC")  # that the DiT pipeline takes too
DECODED = ("DDIM", "Euler", "UniPC", "flow matching, Euler")


class ClassPipeline(diffusers.DiffusionPipeline):
    """The embedded denoiser in a loop as diffusers' pipelines have it, under any scheduler."""

    def __init__(self, transformer: Any, vae: Any, scheduler: Any, trained: Tensor, null_class: int) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, vae=vae, scheduler=scheduler)
        self.ratios = ((1 - trained) / trained).sqrt().log().double()  # of noise and signal, by timestep
        self.null_class = null_class

    @torch.no_grad()
    def __call__(self, class_labels: Sequence[int], generator: Any, num_inference_steps: int = STEPS) -> BaseOutput:
        """Images ``(n, channels, height, width)`` in [0, 1]."""
        size, scheduler = self.transformer.config.sample_size, self.scheduler
        flows = "FlowMatch" in type(scheduler).__name__
        self.set_timesteps(num_inference_steps)
        shape = len(class_labels), self.transformer.config.in_channels, size, size
        latents = torch.stack([torch.randn(shape[1:], generator=one) for one in generator])
        latents = latents * (1.0 if flows else scheduler.init_noise_sigma)
        labels = torch.tensor(class_labels)
        for i, t in enumerate(scheduler.timesteps):
            if flows:
                answer = self.velocity(latents, float(scheduler.sigmas[i]), labels)
            else:
                answer = self.predict(scheduler.scale_model_input(latents, t), t, labels)
            latents = scheduler.step(answer, t, latents).prev_sample
        images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return BaseOutput(images=(images / 2 + 0.5).clamp(0, 1))

    def set_timesteps(self, count: int) -> None:
        if "FlowMatch" not in type(self.scheduler).__name__:
            return self.scheduler.set_timesteps(count)
        steps = torch.arange(len(self.ratios), 0, -len(self.ratios) / count).round().long() - 1
        return self.scheduler.set_timesteps(sigmas=self.ratios[steps].sigmoid().tolist())  # s / (a + s)

    def predict(self, sample: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        """What the network answers for samples of variance 1, with classifier-free guidance."""
        doubled, nulls = torch.cat([sample, sample]), torch.full_like(labels, self.null_class)
        times, both = timestep.expand(len(doubled)), torch.cat([labels, nulls])
        answers = self.transformer(doubled, timestep=times, class_labels=both).sample[:, : sample.shape[1]]
        given, null = answers.chunk(2)
        return null + GUIDANCE_SCALE * (given - null)

    def velocity(self, sample: Tensor, sigma: float, labels: Tensor) -> Tensor:
        """``e - x0`` at ``(1 - sigma) x0 + sigma e``."""
        size = ((1 - sigma) ** 2 + sigma**2) ** 0.5
        a, s, sample = (1 - sigma) / size, sigma / size, sample / size
        ratio = torch.tensor(sigma / (1 - sigma)).log().double()
        after = int(torch.searchsorted(self.ratios, ratio).clamp(1, len(self.ratios) - 1))
        low, high = self.ratios[after - 1], self.ratios[after]
        t = (after - 1 + (ratio - low) / (high - low)).float()
        v = self.predict(sample, t, labels)
        return (s * sample + a * v) - (a * sample - s * v)


def pipeline_under(base: Any, name: str, options: dict) -> ClassPipeline:
    kind = getattr(diffusers, name)
    scheduler = kind() if "FlowMatch" in name else kind.from_config(base.scheduler.config, **options)
    return ClassPipeline(base.transformer, base.vae, scheduler, base.scheduler.alphas_cumprod, base.null_class)


def generators(count: int, start: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(start + i) for i in range(count)]


Draw = Callable[[slice, int], Tensor]  # of which images, with which seed


def rows_of(base: Any, labels: Sequence[int], targets: Tensor) -> dict[str, Draw]:
    """How the images of each row of ``control`` are drawn."""

    def steered(name: str, probe: Any, **changes: Any) -> Draw:
        kind, options, config = SCHEDULERS[name]
        config = replace(config, **changes)
        pipeline = pipeline_under(base, kind, options)

        def draw(part: slice, seed: int) -> Tensor:
            with steer(pipeline, base.classifier, labels[part], targets[part], config=config, probe=probe):
                return pipeline(labels[part], generators(len(labels[part]), seed * len(labels) + part.start)).images

        return draw

    def own(config: GuidanceConfig, probe: Any, scheduler: Any = base.scheduler) -> Draw:
        def draw(part: slice, seed: int) -> Tensor:
            base.register_modules(probe=probe, scheduler=scheduler)
            options = {**ALIKE, "output_type": "pt"}
            seeds = generators(len(labels[part]), seed * len(labels) + part.start)
            return base(labels[part], targets[part], difficulty_guidance=config, generator=seeds, **options).images

        return draw

    probe, flat = base.probe, "no class direction"
    rows = {REFERENCE: own(DEFAULT, probe)}
    for name in OWN:
        kind, options, config = SCHEDULERS[name]
        solver = getattr(diffusers, kind).from_config(base.scheduler.config, **options)
        rows[f"DiT pipeline, {name}"] = own(config, probe, solver)
    rows |= {f"steer, probe, {name}": steered(name, probe) for name in SCHEDULERS}
    rows[f"DiT pipeline, probe, {flat}"] = own(PLAIN, probe)
    rows |= {f"steer, probe, {name}, {flat}": steered(name, probe, class_direction=0.0) for name in SCHEDULERS}
    every = "decoder at every step"
    rows[f"DiT pipeline, {every}, {flat}"] = own(PLAIN, None)
    return rows | {f"steer, {every}, {name}, {flat}": steered(name, None, class_direction=0.0) for name in DECODED}


def difficulties_by_row(names: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, dict[str, Tensor], Tensor]]:
    """Rows one after the other, all if none is named: difficulties by guide and evaluator, and their targets."""
    base, evaluator = load_embedded_pipeline(), load_classifier(embedded.EVALUATOR)
    labels = (list(range(10)) * (len(TARGETS) * PER_TARGET))[: len(TARGETS) * PER_TARGET]
    targets = torch.tensor([target for target in TARGETS for _ in range(PER_TARGET)])
    parts = [slice(start, start + BATCH) for start in range(0, len(labels), BATCH)]
    known = rows_of(base, labels, targets)
    for name in names or known:
        images = [(known[name](part, seed) * 255).round() / 255 for seed in seeds for part in parts]
        found = {}
        for who, network in (("guide", base.classifier), ("evaluator", evaluator)):
            guide = Guide(network, torch.tensor(labels * len(seeds)), preprocessing_of(network))
            with torch.no_grad():
                found[who] = torch.sigmoid(-mean_margin([guide], torch.cat(images)))
        yield name, found, targets.repeat(len(seeds))


def control(*names: str) -> None:
    rows: dict[str, dict] = json.loads((RESULTS / "any-pipeline-control.json").read_text())["rows"] if names else {}
    for name, found, targets in difficulties_by_row(names, [0]):
        rows[name] = {}
        for who, one in found.items():
            rows[name] |= {f"{who}_error": float((one - targets).abs().mean())}
            rows[name] |= {f"{who}_means": [float(part.mean()) for part in one.split(PER_TARGET)]}
        print(name, rows[name], flush=True)
        of = {"command": "python benchmarks/any_pipeline.py control", "targets": list(TARGETS), "images": len(targets)}
        record("any-pipeline-control", {**of, "rows": rows})


def seeds(count: str, *names: str) -> None:
    """Errors over several seeds, and how far the evaluator.s lies above the DiT pipeline's, by pairs of images."""
    kept = RESULTS / "any-pipeline-seeds.json"
    rows: dict[str, dict] = json.loads(kept.read_text())["rows"] if kept.exists() else {}
    reference = None
    for name, found, targets in difficulties_by_row([REFERENCE, *names], range(int(count))):
        errors = {who: (one - targets).abs().double().numpy() for who, one in found.items()}
        reference = errors["evaluator"] if reference is None else reference
        rows[name] = {who: float(each.mean()) for who, each in errors.items()} | {"images": len(targets)}
        if name != REFERENCE:
            rows[name] |= asdict(paired(errors["evaluator"], reference))
        print(name, rows[name], flush=True)
        of = {"command": f"python benchmarks/any_pipeline.py seeds {count} ROW...", "targets": list(TARGETS)}
        record("any-pipeline-seeds", {**of, "rows": rows})


def overhead(turns: int = 15, images: int = 10) -> None:
    torch.set_num_threads(1)
    base = load_embedded_pipeline()
    plain, labels = pipeline_under(base, "DDIMScheduler", {}), [i % 10 for i in range(images)]
    config = replace(PLAIN, decoded_steps=0)  # the probe alone

    def unsteered() -> Tensor:
        return plain(labels, generators(images)).images

    def untargeted() -> Tensor:
        with steer(plain, base.classifier, labels):
            return unsteered()

    def probed() -> Tensor:
        with steer(plain, base.classifier, labels, 0.5, config=config, probe=base.probe) as steered:
            drawn = unsteered()
            steered.measure(drawn)
        return drawn

    def own() -> Tensor:
        options = {**ALIKE, "output_type": "pt"}
        return base(labels, 0.5, difficulty_guidance=config, generator=generators(images), **options).images

    assert torch.equal(untargeted(), unsteered())
    probed(), own()
    found = {
        "steer without a target": ratios(untargeted, unsteered, turns),
        "steer with the probe": ratios(probed, own, turns),
    }
    found["largest difference of a pixel with the probe"] = float((probed() - own()).abs().max())
    print(found)
    record("any-pipeline-overhead", {"images": images, "steps": STEPS, **found})


def large(turns: str = "5", steps: int = 2) -> None:
    torch.set_num_threads(1)
    base = dit_xl.build("cpu", torch.float32, tiny=False)
    plain = pipeline_under(base, "DDIMScheduler", {"clip_sample": False})

    def unsteered() -> Tensor:
        return plain([0], generators(1), steps).images

    def untargeted() -> Tensor:
        with steer(plain, base.classifier, 0):
            return unsteered()

    assert torch.equal(untargeted(), unsteered())
    found = {"steer without a target": ratios(untargeted, unsteered, int(turns), time.process_time)}
    print(found)
    record("any-pipeline-large", {"images": 1, "steps": steps, **found})


def added(turns: int = 9, calls: int = 2000) -> None:
    """Microseconds that steer without a target adds to a step of the scheduler, whatever the denoiser's size."""
    torch.set_num_threads(1)
    base = load_embedded_pipeline()
    plain, sample = pipeline_under(base, "DDIMScheduler", {}), torch.zeros(1, 4, 32, 32)
    plain.scheduler.set_timesteps(STEPS)
    timestep = plain.scheduler.timesteps[0]

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            plain.scheduler.step(sample, timestep, sample)
        return time.perf_counter() - start

    found = []
    for _ in range(turns):
        before = seconds()
        with steer(plain, base.classifier, 0):
            found.append((seconds() - before) / calls * 1e6)
    print(f"{median(found):.1f} microseconds a step, of {turns} turns {min(found):.1f} to {max(found):.1f}")


def ratios(
    one: Callable[[], Tensor], other: Callable[[], Tensor], turns: int, clock: Callable[[], float] = time.perf_counter
) -> dict:
    """How much longer the one takes than the other, in pairs of calls after a first one of each."""
    each = []
    for turn in range(turns):
        seconds = {}
        for call in (one, other) if turn % 2 else (other, one):
            start = clock()
            call()
            seconds[call] = clock() - start
        each.append(seconds[one] / seconds[other])
    middle = sorted(each)
    return {"ratio": median(each), "least": middle[0], "most": middle[-1], "turns": turns}


if __name__ == "__main__":
    {"control": control, "seeds": seeds, "overhead": overhead, "large": large, "added": added}[sys.argv[1]](
        *sys.argv[2:]
    )
