"""Does guidance reach the difficulty that was asked for, is it real, and what does it cost?  On the embedded default.

    python benchmarks/guidance.py main        # methods and baselines, 200 images a target, 3 seeds
    python benchmarks/guidance.py options     # every option of the family against the default, 100 images a target
    python benchmarks/guidance.py fast        # samplers, steps, bfloat16 and intervals of classifier-free guidance
    python benchmarks/guidance.py cost        # DiT-XL/2 at 256 px, random weights: counted FLOP and one step on the CPU
    python benchmarks/guidance.py figure      # docs/images/control.png from the results of `main`

Every method starts from the same noise.  Errors are mean |d - d*|, by the guide that steers and by the evaluator, which
never does.  ``real, chosen by the guide`` are the real test images whose difficulty by the guide is nearest to each
target: how well one classifier's difficulty stands for another's on real images, and so the mark to reach.  Fréchet
distances are between the evaluator's features; ``matched`` is to those real images, ``all`` to the other test images.
Diversity is the mean feature distance of two images of a class and target, as a multiple of that of the matched ones.
Wall time is a multiple of the unguided run beside it; a 5x pool is charged in full, though it may serve other targets.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedded import RESULTS, TARGETS, ddim, record
from scipy.linalg import sqrtm
from scipy.stats import spearmanr
from torch import Tensor

from dag_diffusion import GuidanceConfig, embedded, load_classifier, read_pool, score_pool
from dag_diffusion.difficulty import difficulty, difficulty_to_margin, margin
from dag_diffusion.generation.modes import allot, match_modes
from dag_diffusion.generation.plan import image_seed
from dag_diffusion.generation.preparing.mode_search import find_pool_modes
from dag_diffusion.guidance.difficulty_guidance import newton_step, within_trust_region
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.loading import load_embedded_pipeline
from dag_diffusion.sampling.targets import TargetDistribution

GUIDANCE_SCALE, BATCH = 1.5, 100
DEFAULT = GuidanceConfig()
DECODED = replace(DEFAULT, class_direction=0.0)  # without the probe: decoder and guide at every step


class Bench:
    """What all methods share: models, real images, and the labels, targets and seeds of one run."""

    def __init__(self, per_target: int) -> None:
        self.pipeline, self.evaluator = load_embedded_pipeline(), load_classifier(embedded.EVALUATOR)
        self.guide, self.probe, self.vae = self.pipeline.classifier, self.pipeline.probe, self.pipeline.vae
        self.per_class = per_target // 10
        targets = [target for target in TARGETS for _ in range(per_target)]
        self.targets = torch.tensor(targets)
        self.labels = torch.arange(10).repeat_interleave(self.per_class).repeat(len(TARGETS))
        test = read_pool(embedded.TEST)
        self.real_labels = torch.tensor(test.labels)
        self.real = torch.stack([torch.from_numpy(np.array(test.open(i)))[None] for i in range(len(test))])
        self.real_difficulties = torch.tensor(score_pool(test, self.guide).difficulties)
        self.matched = self.nearest(self.real_labels, self.real_difficulties)
        self.real_features = self.features(self.real)
        others = torch.ones(len(test), dtype=torch.bool)
        others[self.matched] = False
        self.others = self.real_features[others]

    def nearest(self, labels: Tensor, difficulties: Tensor) -> Tensor:
        """Rows of the images of each class whose difficulties lie nearest to each target."""
        chosen = []
        for target in TARGETS:
            for label in range(10):
                rows = torch.nonzero(labels == label)[:, 0]
                order = (difficulties[rows] - target).abs().argsort(stable=True)
                chosen.append(rows[order[: self.per_class]])
        return torch.cat(chosen)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        body = self.evaluator.regnet
        parts = [body(as_input(part)).pooler_output.flatten(1) for part in images.split(500)]
        return torch.cat(parts).double()

    @torch.no_grad()
    def difficulties(self, classifier: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        logits = torch.cat([classifier(as_input(part)).logits for part in images.split(500)])
        return difficulty(logits, labels)

    def draw(self, seed: int, *, guided: bool = True, probed: bool = True, **options) -> Tensor:
        """Images ``(n, 1, 32, 32)`` uint8; the same noise for the same seed, whatever the options."""
        self.pipeline.register_modules(probe=self.probe if probed else None)
        count, images = {}, []
        for start in range(0, len(self.labels), BATCH):
            chosen, generators = self.labels[start : start + BATCH], []
            for label in chosen.tolist():
                count[label] = count.get(label, -1) + 1
                generators.append(torch.Generator().manual_seed(image_seed(seed, label, count[label])))
            per_image = {k: v[start : start + BATCH] for k, v in options.items() if k == "modes"}
            usual = {"guidance_scale": GUIDANCE_SCALE, "guidance_interval": (0.0, 1.0), "output_type": "pt"}
            output = self.pipeline(
                chosen,
                self.targets[start : start + BATCH] if guided else None,
                generator=generators,
                **(usual | options | per_image),
            )
            images.append((output.images * 255).round().byte())
        return torch.cat(images)

    def measure(self, images: Tensor, seconds: float, plain_seconds: float) -> dict:
        guide = self.difficulties(self.guide, images, self.labels)
        evaluator = self.difficulties(self.evaluator, images, self.labels)
        features, matched = self.features(images), self.real_features[self.matched]
        row = {"targets": list(TARGETS), "seconds": seconds, "cost": seconds / plain_seconds}
        for name, found in (("guide", guide), ("evaluator", evaluator)):
            errors = (found - self.targets).abs().view(len(TARGETS), -1)
            row[f"{name}_errors"] = errors.mean(1).tolist()
            row[f"{name}_means"] = found.view(len(TARGETS), -1).mean(1).tolist()
            row[f"{name}_quartiles"] = found.view(len(TARGETS), -1).quantile(torch.tensor([0.25, 0.75]), dim=1).tolist()
            row[f"{name}_error"] = float(errors.mean())
            row[f"{name}_spearman"] = float(np.nan_to_num(spearmanr(self.targets, found).statistic))
        row["frechet_matched"] = frechet(features, matched)
        row["frechet_all"] = frechet(features, self.others)
        row["diversity"] = self.diversity(features) / self.diversity(matched)
        return row

    def diversity(self, features: Tensor) -> float:
        groups = features.view(-1, self.per_class, features.shape[1])
        distances = torch.cdist(groups, groups)
        return float(distances.sum() / (len(groups) * self.per_class * (self.per_class - 1)))


def as_input(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def frechet(first: Tensor, second: Tensor) -> float:
    """Fréchet distance of two sets of features, seen as Gaussians."""
    (mean1, cov1), (mean2, cov2) = ((x.mean(0).numpy(), torch.cov(x.T).numpy()) for x in (first, second))
    return float(((mean1 - mean2) ** 2).sum() + np.trace(cov1 + cov2 - 2 * sqrtm(cov1 @ cov2).real))


def post_hoc(bench: Bench, finished: Tensor, steps: int = 5) -> Tensor:
    """Newton steps on the pixels of finished images: the adversarial attack that guidance must be better than."""
    images, wanted = as_input(finished), difficulty_to_margin(bench.targets)
    for _ in range(steps):
        parts = []
        for rows in torch.arange(len(images)).split(BATCH):
            part, labels = images[rows].requires_grad_(), bench.labels[rows]
            logits = bench.guide(part).logits
            margins = margin(logits, labels)
            (gradient,) = torch.autograd.grad(margins.sum(), part)
            delta = newton_step((wanted[rows] - margins).detach(), gradient)
            parts.append((part + within_trust_region(delta, part, DEFAULT.max_norm)).detach().clamp(-1, 1))
        images = torch.cat(parts)
    return ((images + 1) * 127.5).round().byte()


def extra_guides(work: Path) -> dict[str, torch.nn.Module]:
    """The other teachers of the probe, as ``examples/train_embedded_default.py`` leaves them, if they are there."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    from train_embedded_default import TEACHERS

    names = [name for name in TEACHERS[1:] if (work / name).exists()]
    return {name: load_classifier(work / name).requires_grad_(False) for name in names}


def rows_of_modes(bench: Bench, per_class: int, *, by_difficulty: bool, average: int = 1) -> Tensor:
    """The mode of each image, from the embedded real images; the hardest for the hardest targets where they know."""
    real = read_pool(embedded.REFERENCE)
    target = TargetDistribution.histogram([1] * 10, name="even") if by_difficulty else None
    modes = find_pool_modes(bench.pipeline, real, per_class, target=target, average=average, batch_size=50)
    chosen = torch.empty(len(bench.labels), dtype=torch.long)
    for label in range(10):
        rows = torch.nonzero(bench.labels == label)[:, 0]
        allotted = allot(modes, label, len(rows))
        if by_difficulty:
            allotted = match_modes(modes, allotted, bench.targets[rows].tolist())
        chosen[rows] = torch.from_numpy(allotted)
    return modes.centres[chosen]


Method = Callable[[int], Tensor]


def main_methods(bench: Bench, others: dict) -> dict[str, Method]:
    draw = bench.draw
    methods = {
        "decoder at every step": lambda s: draw(s, probed=False, difficulty_guidance=DECODED),
        "probe alone": lambda s: draw(s, difficulty_guidance=replace(DEFAULT, decoded_steps=0)),
        "default: probe, last 2 decoded": lambda s: draw(s),
    }
    if others:
        methods["default, 5 guides decoded"] = lambda s: draw(s, extra_guides=tuple(others.values()))
    return methods


def option_methods(bench: Bench, others: dict) -> dict[str, Method]:
    def changed(probe: bool = True, **options) -> Method:
        return lambda s: bench.draw(s, probed=probe, difficulty_guidance=replace(DEFAULT, **options))

    plain, hard = (rows_of_modes(bench, 10, by_difficulty=by) for by in (False, True))
    pooled = rows_of_modes(bench, 10, by_difficulty=False, average=2)
    mgd3 = ModeGuidance(scale=0.1)
    methods = {
        "default": changed(),
        "class_direction=0": changed(class_direction=0.0),
        "class_direction=0.3": changed(class_direction=0.3),
        "decoded_steps=1": changed(decoded_steps=1),
        "decoded_steps=4": changed(decoded_steps=4),
        "start=0.3": changed(start=0.3),
        "stop=0.6": changed(stop=0.6),
        "stop=1.0": changed(stop=1.0),
        "every=2": changed(every=2),
        "max_norm=0.1": changed(max_norm=0.1),
        "decoder at every step, class_direction=0.1": changed(probe=False),
        "smoothing=0.3, 2 samples": changed(smoothing=0.3, samples=2),
        "modes, no classifier": lambda s: bench.draw(s, guided=False, modes=plain, mode_guidance=mgd3),
        "modes of pooled latents, no classifier": lambda s: bench.draw(
            s, guided=False, modes=pooled, mode_guidance=mgd3
        ),
        "modes by difficulty, no classifier": lambda s: bench.draw(s, guided=False, modes=hard, mode_guidance=mgd3),
        "modes by difficulty + default": lambda s: bench.draw(s, modes=hard, mode_guidance=mgd3),
    }
    if others:
        methods["decoder, 5 guides"] = lambda s: bench.draw(s, probed=False, extra_guides=tuple(others.values()))
    return methods


def fast_methods(bench: Bench, others: dict) -> dict[str, Method]:
    own, before = bench.pipeline.scheduler, ddim(bench.pipeline.scheduler)

    def draw(seed: int, scheduler: Any = own, **options) -> Tensor:
        bench.pipeline.scheduler = scheduler
        try:
            return bench.draw(seed, **{"network_dtype": torch.bfloat16, **options})
        finally:
            bench.pipeline.scheduler = own

    def way(class_direction: float = DEFAULT.class_direction, stop: float = DEFAULT.stop, **options) -> Method:
        steering = replace(DEFAULT, class_direction=class_direction, stop=stop)
        return lambda s: draw(s, difficulty_guidance=steering, **options)

    old = {"scheduler": before, "num_inference_steps": 20, "stop": 0.9}
    return {
        "DDIM, 20 steps, direction 0.1, stop 0.9, float32": way(0.1, network_dtype=torch.float32, **old),
        "DDIM, 20 steps, direction 0.1, stop 0.9": way(0.1, **old),
        "DDIM, 20 steps, stop 0.9": way(**old),
        "DDIM, 12 steps, stop 0.92": way(scheduler=before, stop=0.92),
        "DPM-Solver++, 20 steps, stop 0.9": way(num_inference_steps=20, stop=0.9),
        "default: DPM-Solver++, 12 steps, direction 0.3, stop 1": way(),
        "default, float32": way(network_dtype=torch.float32),
        "default, direction 0.1": way(0.1),
        "default, stop 0.92": way(stop=0.92),
        "default, stop 0.9": way(stop=0.9),
        "default, 10 steps": way(num_inference_steps=10),
        "default, interval 0 to 0.5": way(guidance_interval=(0.0, 0.5)),
        "default, interval 0.25 to 0.75": way(guidance_interval=(0.25, 0.75)),
        "default, scale 2 from 0.25 to 0.75": way(guidance_interval=(0.25, 0.75), guidance_scale=2.0),
    }


def drawn(method: Method, seed: int) -> tuple[Tensor, float]:
    started = time.perf_counter()
    images = method(seed)
    return images, time.perf_counter() - started


def run(name: str, per_target: int, seeds: int, work: Path, make: Callable, only: str) -> None:
    bench, rows = Bench(per_target), []
    if only:  # the other methods keep what an earlier run found
        rows = json.loads((RESULTS / f"guidance-{name}.json").read_text())["rows"]
    bench.pipeline(torch.arange(10), 0.5, num_inference_steps=4)  # so that the first run does not pay for warming up
    methods = make(bench, extra_guides(work))

    def keep(method: str, seed: int, values: dict) -> None:
        if only and only not in method:
            return
        rows[:] = [row for row in rows if (row["method"], row["seed"]) != (method, seed)]
        rows.append({"method": method, "seed": seed, **values})
        shown = {k: round(values[k], 3) for k in SHOWN}
        print(f"{seed} {method:38} {shown}", flush=True)
        record(f"guidance-{name}", {"images_per_target": per_target, "rows": rows})

    keep("real, chosen by the guide", -1, bench.measure(bench.real[bench.matched], 0.0, 1.0))
    for seed in range(seeds):
        unguided, plain = drawn(lambda s: bench.draw(s, guided=False), seed)
        keep("unguided", seed, bench.measure(unguided, plain, plain))
        if name == "main":
            own = bench.difficulties(bench.guide, unguided, bench.labels)
            nearest = bench.nearest(bench.labels, own)
            keep("nearest of a 5x pool", seed, bench.measure(unguided[nearest], 5 * plain, plain))
            attacked, seconds = drawn(lambda s, found=unguided: post_hoc(bench, found), seed)
            keep("post-hoc attack", seed, bench.measure(attacked, plain + seconds, plain))
        for method, draw in methods.items():
            if only not in method:
                continue
            images, seconds = drawn(draw, seed)
            keep(method, seed, bench.measure(images, seconds, plain))


SHOWN = (
    "guide_error",
    "guide_spearman",
    "evaluator_error",
    "evaluator_spearman",
    "frechet_matched",
    "frechet_all",
    "diversity",
    "cost",
)


def load_rows(name: str) -> dict[str, list[dict]]:
    rows: dict[str, list[dict]] = {}
    for row in json.loads((RESULTS / f"guidance-{name}.json").read_text())["rows"]:
        rows.setdefault(row["method"], []).append(row)
    return rows


def figure(path: Path) -> None:
    """Achieved against asked difficulty, guide and evaluator side by side: means of three seeds, quartiles as bands."""
    from matplotlib.figure import Figure

    names = {
        "real, chosen by the guide": ("real images, chosen by the guide", "#777777", ":"),
        "post-hoc attack": ("post-hoc attack", "#d55e00", "--"),
        "nearest of a 5x pool": ("nearest of a 5x pool", "#cc79a7", "--"),
        "decoder at every step": ("decoder at every step", "#0072b2", "-"),
        "default: probe, last 2 decoded": ("default", "#009e73", "-"),
    }
    shown = Figure(figsize=(9.2, 4.4), dpi=110, facecolor="white", layout="constrained")
    axes = shown.subplots(1, 2, sharey=True)
    rows = load_rows("main")
    for axis, who in zip(axes, ("guide", "evaluator"), strict=True):
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.8, alpha=0.4)
        for method, (label, colour, line) in names.items():
            means = np.mean([row[f"{who}_means"] for row in rows[method]], axis=0)
            axis.plot(TARGETS, means, line, color=colour, label=label, marker="o", markersize=4, linewidth=1.8)
        low, high = np.mean([r[f"{who}_quartiles"] for r in rows["default: probe, last 2 decoded"]], axis=0)
        axis.fill_between(TARGETS, low, high, color="#009e73", alpha=0.15, linewidth=0)
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="target difficulty d*", xticks=TARGETS)
        axis.set_title(f"by the {who}" + (", which steers" if who == "guide" else ", which never steers"), fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("mean difficulty reached")
    axes[0].legend(fontsize=8, frameon=False, loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    shown.savefig(path)


def cost() -> None:
    """Guided against unguided for DiT-XL/2 at 256 px with classifier-free guidance and 50 steps, counted."""
    from diffusers import AutoencoderKL, AutoencoderTiny, DiTTransformer2DModel
    from dit_xl import DIT_XL, SD_VAE
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import ResNetConfig, ResNetForImageClassification

    from dag_diffusion.generation.preparing.probe_training import ProbeConfig, build_probe
    from dag_diffusion.guidance.probes import with_signal_rate

    def counted(call: Callable[[], Tensor], backward: bool = False) -> float:
        with FlopCounterMode(display=False) as counter:
            out = call()
            if backward:
                out.sum().backward()
        return counter.get_total_flops() / 1e9

    def xl() -> DiTTransformer2DModel:
        return DiTTransformer2DModel(**DIT_XL).eval().requires_grad_(False)

    class Pipeline:  # all that build_probe asks for
        class_names = {i: str(i) for i in range(1000)}  # noqa: RUF012

    with torch.device("meta"):
        Pipeline.transformer, latents = xl(), torch.zeros(1, 4, 32, 32)
        labels, images = torch.zeros(1, dtype=torch.long), torch.zeros(1, 3, 256, 256)
        vae, tiny = AutoencoderKL(**SD_VAE), AutoencoderTiny()
        resnet, probe = ResNetForImageClassification(ResNetConfig()), build_probe(Pipeline, ProbeConfig())
        leaf, pixels = latents.clone().requires_grad_(), images.clone().requires_grad_()
        both = with_signal_rate(leaf, torch.ones(1))
        for part in (vae, tiny, resnet, probe):
            part.eval().requires_grad_(False)
        gflop = {
            "DiT-XL/2": counted(lambda: Pipeline.transformer(latents, timestep=labels, class_labels=labels).sample),
            "VAE decode": counted(lambda: vae.decode(latents).sample),
            "VAE decode + gradient": counted(lambda: vae.decode(leaf).sample, backward=True),
            "tiny decode + gradient": counted(lambda: tiny.decode(leaf).sample, backward=True),
            "ResNet-50 + gradient": counted(lambda: resnet(pixels).logits, backward=True),
            "probe + gradient": counted(lambda: probe(both).logits, backward=True),
        }
    steps, guided = 50, len(GuidanceConfig().steps(50))
    plain = steps * 2 * gflop["DiT-XL/2"] + gflop["VAE decode"]
    full, small = (
        gflop[f"{kind} + gradient"] + gflop["ResNet-50 + gradient"] for kind in ("VAE decode", "tiny decode")
    )
    probed = gflop["probe + gradient"]
    ratios = {
        "decoder at every guided step": 1 + guided * full / plain,
        "tiny decoder at every guided step": 1 + guided * small / plain,
        "probe alone": 1 + guided * probed / plain,
        "probe, last step decoded": 1 + ((guided - 1) * probed + full) / plain,
        "probe, last 2 decoded (default)": 1 + ((guided - 2) * probed + 2 * full) / plain,
        "probe, last 2 decoded by the tiny decoder": 1 + ((guided - 2) * probed + 2 * small) / plain,
    }
    seconds = timed_steps(xl(), Pipeline)
    print(json.dumps({"gflop": gflop, "ratios": ratios, "seconds": seconds}, indent=2))
    values = {"steps": steps, "guided_steps": guided, "gflop": gflop, "ratios": ratios, "seconds_on_cpu": seconds}
    record("guidance-cost", values)


def timed_steps(transformer: torch.nn.Module, pipeline: type) -> dict[str, float]:
    """Median seconds of one denoising step and of one probed shift, batch 1, on this processor."""
    from dag_diffusion.generation.preparing.probe_training import ProbeConfig, build_probe
    from dag_diffusion.guidance.difficulty_guidance import difficulty_shift
    from dag_diffusion.guidance.probes import probe_margin

    pipeline.transformer = transformer
    probe, latents = build_probe(pipeline, ProbeConfig()).eval().requires_grad_(False), torch.randn(2, 4, 32, 32)
    labels = torch.tensor([1, 1000])

    def step() -> None:
        with torch.no_grad():
            transformer(latents, timestep=torch.tensor([500, 500]), class_labels=labels)

    def shift() -> None:
        difficulty_shift(latents[:1], probe_margin(probe, labels[:1], 0.5), torch.tensor([0.5]), DEFAULT)

    found = {}
    for name, call in (("DiT-XL/2 step", step), ("probed shift", shift)):
        call()
        times = []
        for _ in range(5):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
        found[name] = float(np.median(times))
    return found | {"ratio": 1 + found["probed shift"] / found["DiT-XL/2 step"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["main", "options", "fast", "cost", "figure"])
    parser.add_argument("--images", type=int, help="for each target; 200 for main and fast, 100 for options")
    parser.add_argument("--seeds", type=int, help="3 for main, 1 for options")
    parser.add_argument("--work", type=Path, default=Path("runs/embedded"), help="checkpoints of the other teachers")
    parser.add_argument("--only", default="", help="measure again only the methods whose name holds this text")
    options = parser.parse_args()
    if options.what == "main":
        run("main", options.images or 200, options.seeds or 3, options.work, main_methods, options.only)
    elif options.what == "fast":
        run("fast", options.images or 200, options.seeds or 1, options.work, fast_methods, options.only)
    elif options.what == "options":
        run("options", options.images or 100, options.seeds or 1, options.work, option_methods, options.only)
    elif options.what == "cost":
        cost()
    else:
        figure(Path("docs/images/control.png"))


if __name__ == "__main__":
    main()
