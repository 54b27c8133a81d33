"""What a classifier learns from distilled Fashion-MNIST: sets x IPC x networks x seeds, on real test images.

    python benchmarks/downstream.py pools FOLDER   # real images, pools by target, modes and CFG scale
    python benchmarks/downstream.py tune FOLDER    # targets, tested on held-out training images
    python benchmarks/downstream.py study FOLDER --ipc 10
    python benchmarks/downstream.py study FOLDER --ipc 50 --held-out    # to choose by, never on test images
    python benchmarks/downstream.py study FOLDER --ipc 10 --networks resnet-ap-10 --device cuda
    python benchmarks/downstream.py study FOLDER --ipc 10 --protocol classic --sets "random | real" "herding | real"

Whatever is drawn is drawn anew for each seed, which is also that of the training; the baseline is a random draw
from the unguided pool.  Results go to benchmarks/results/downstream-WHAT.json and .csv after every training, and the
same command goes on after a kill.  On a GPU one study leaves most of it idle: run several at once.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from embedded import RESULTS, ddim
from safetensors.torch import load_file
from safetensors.torch import save as as_safetensors
from subsampling import reference_target as reference
from torch import Tensor, nn

from dag_diffusion import (
    PoolConfig,
    SelectionRule,
    TargetDistribution,
    embedded,
    fill_pool,
    load_classifier,
    read_pool,
    score_pool,
    subsample,
)
from dag_diffusion.data.files import write_atomically
from dag_diffusion.data.pools import Pool
from dag_diffusion.distillation.compared_sets import STEERED_RULE
from dag_diffusion.distillation.learnable import learnable_rows
from dag_diffusion.evaluation.comparisons import summarise
from dag_diffusion.evaluation.labelled_images import LabelledImages, Labels, load_labelled_images, subset
from dag_diffusion.evaluation.protocols import PROTOCOLS
from dag_diffusion.evaluation.records import evaluation_record
from dag_diffusion.evaluation.trials import evaluate
from dag_diffusion.generation.modes import Modes
from dag_diffusion.generation.preparing.mode_merging import merge_modes
from dag_diffusion.generation.preparing.mode_search import encode_pool, find_modes
from dag_diffusion.loading import load_embedded_pipeline
from dag_diffusion.sampling.auto_target import AutoTarget
from dag_diffusion.sampling.selection import Method

SIZE = {"size": (32, 32), "channels": 1}
RULES = {
    "random": SelectionRule("random"),
    "easiest": SelectionRule("easiest"),
    "hardest": SelectionRule("hardest"),
    "herding": SelectionRule("herding"),
    "k-center": SelectionRule("k-center"),
    "histogram": SelectionRule("histogram"),
    "matching": SelectionRule("matching", diversity="k-center"),
    "cao2": SelectionRule("cao2"),
    "random, correct only": SelectionRule("random", correct_only=True),
}
EASY = TargetDistribution.beta(0.5, 20)  # half of the images below 0.011, one in ten above 0.066
PRESETS = ("hill", "ground", "slope", "cliff")
SCALES = (1.0, 2.0, 3.0)  # of classifier-free guidance, beside the default of 1.5
DDIM = {"scheduler": "DDIM", "num_inference_steps": 20}  # as the default was until it drew by DPM-Solver++
HALF = {"guidance_interval": (0.25, 0.75)}  # classifier-free guidance in the middle half of the steps, else in all
MERGED = "merged, "  # modes as ``run`` has them: the embedded 50 of each class, merged to as many as are wanted
MODE_FORMS: dict[str, dict] = {  # likewise, of images drawn to modes, and of autoguidance
    "CFG 1": {"guidance_scale": 1.0},
    "CFG 1.25": {"guidance_scale": 1.25},
    "auto 1.5": {"guidance_scale": 1.0, "autoguidance_scale": 1.5},
    "CFG 1.5, auto 1.5": {"autoguidance_scale": 1.5},
    "CFG 1.5, auto 2": {"autoguidance_scale": 2.0},
    "CFG 1.5, auto 3": {"autoguidance_scale": 3.0},
    "DDIM": DDIM,
    "CFG 1.5, auto 1.5, DDIM": {"autoguidance_scale": 1.5, **DDIM},
    f"{MERGED}CFG 1.5, auto 1.5": {"autoguidance_scale": 1.5},
    f"{MERGED}half CFG 1.5, auto 1.5": {"autoguidance_scale": 1.5, **HALF},
    f"{MERGED}half CFG 2, auto 1.5": {"guidance_scale": 2.0, "autoguidance_scale": 1.5, **HALF},
}
BASELINE = "random | unguided"
PER_MODE = 5  # images among which DGS chooses one for each mode
HELD_OUT = 5000  # training images that the tuned target is chosen by
Draw = Callable[[int], LabelledImages]


def candidates() -> dict[str, TargetDistribution]:
    """Targets from easy to hard around the reference, for matching."""
    easy, hard = EASY, TargetDistribution.beta(2, 2)
    mixtures = {
        f"{share:g} reference + {1 - share:g} {name}": TargetDistribution.mixture(
            [reference(), other], [share, 1 - share]
        )
        for name, other in (("easy", easy), ("hard", hard))
        for share in (0.75, 0.5, 0.25)
    }
    return {
        "reference": reference(),
        **mixtures,
        "easy": easy,
        "hard": hard,
        "uniform": TargetDistribution.uniform(0, 1),
    }


def make_pools(folder: Path, options: argparse.Namespace) -> None:
    """Every pool of the study; 5 x IPC 50 of the two that are used at all IPC, 5 x IPC 10 of the others.

    Of images drawn to modes there are ``PER_MODE`` for each mode and seed.
    """
    make_real(folder, options.data)
    pipeline = load_embedded_pipeline().to(options.device)
    samplers = {"": pipeline.scheduler, "DDIM": ddim(pipeline.scheduler)}

    def wanted(name: str) -> bool:
        return not options.only or name in options.only

    def pool(name: str, count: int, **settings: object) -> None:
        if not wanted(name):
            return
        pipeline.scheduler = samplers[str(settings.pop("scheduler", ""))]
        config = PoolConfig(images_per_class=count, **{"guidance_interval": (0.0, 1.0), **settings})
        fill_pool(
            pipeline, folder / name, config, batch_size=options.batch_size, resume=True, source="embedded default"
        )
        print(name, flush=True)

    pool("unguided", 250)
    pool("unguided, DDIM", 250, **DDIM)
    pool("unguided, half CFG", 250, **HALF)
    pool("unguided, half CFG 2", 250, guidance_scale=2.0, **HALF)
    pool("DAG, reference", 250, target=reference())
    for name in PRESETS:
        pool(f"DAG, {name}", 50, target=TargetDistribution.preset(name))
    for scale in SCALES:
        pool(f"CFG {scale:g}", 50, guidance_scale=scale)
    for count in (1, 10, 20, 50):
        forms: dict[str, dict] = {
            f"drawn to modes, {count}": {},
            f"drawn to modes and easy, {count}": {"target": EASY},
            **{f"drawn to modes, {count}, {name}": scales for name, scales in MODE_FORMS.items()},
        }
        if any(map(wanted, forms)):
            latents, labels = real_latents(folder, pipeline.vae)
            modes = find_modes(latents, labels, count, class_names=pipeline.class_names)
            merged = merge_modes(Modes.load(embedded.MODES), count)
            for name, settings in forms.items():
                drawn = {"modes": merged if MERGED in name else modes, **settings}
                pool(name, PER_MODE * count * options.seeds, **drawn)


def real_latents(folder: Path, vae: nn.Module) -> tuple[Tensor, np.ndarray]:
    """Of the first 5,000 training images of each class, ``(50000, 4, 8, 8)``, and their labels; encoded once."""
    real, path = read_pool(folder / "real.parquet"), folder / "latents.safetensors"
    rows = first_of(real, 5000)
    if not path.exists():
        latents = encode_pool(vae, real.select(rows), size=32, batch_size=100)
        write_atomically(path, as_safetensors({"latents": latents}))
    return load_file(path)["latents"], real.labels[rows]


def make_real(folder: Path, data: Path) -> None:
    """The 60,000 training images as parquet, in the order of the recorded difficulties."""
    sys.path.append(str(Path(__file__).parent.parent / "examples"))
    from train_embedded_default import read_fashion_mnist

    folder.mkdir(parents=True, exist_ok=True)
    read_fashion_mnist(data, folder / "real.parquet", "train")


def first_of(pool: Pool, count: int) -> np.ndarray:
    return np.concatenate([np.flatnonzero(pool.labels == label)[:count] for label in pool.class_names])


def with_difficulties(pool: Pool, difficulties: np.ndarray) -> Pool:
    rows = [{**row, "difficulty": float(d)} for row, d in zip(pool.rows, difficulties, strict=True)]
    return replace(pool, rows=rows)


def rounds(pool: Pool, modes: int) -> np.ndarray:
    """How often each image's mode had its turn before, ``(n,)``: a class's images are drawn to its modes in turn."""
    return np.array([int(Path(row["file_name"]).stem) for row in pool.rows]) // modes


def drawn_in_turn(images: LabelledImages, pool: Pool, modes: int, seed: int) -> LabelledImages:
    """One image to each mode, others for every seed."""
    return subset(images, np.flatnonzero(rounds(pool, modes) == seed))


def one_each(
    images: LabelledImages,
    pool: Pool,
    modes: int,
    rule: SelectionRule,
    seed: int,
    target: TargetDistribution | None = None,
    features: np.ndarray | None = None,
) -> LabelledImages:
    """DGS: of ``PER_MODE`` images of each mode one, or as many of a pool without modes; others for every seed.

    Seeds have images of their own as far as there are so many.
    """
    groups = rounds(pool, modes) // PER_MODE
    own = np.flatnonzero(groups == seed % (groups.max() + 1))
    options = {"target": target or reference(), "method": rule, "seed": seed}
    kept = None if features is None else features[own]
    return subset(images, own[subsample(pool.select(own), modes, features=kept, **options).indices])


def in_rounds(images: LabelledImages, pool: Pool, modes: int, seed: int, count: int = 5) -> LabelledImages:
    """One of the ``PER_MODE`` images of each mode that belong to a seed: what the set has yet to teach."""
    own = np.flatnonzero(rounds(pool, modes) // PER_MODE == seed)
    mode_of = np.array([int(pool.rows[row]["mode"]) for row in own])
    found = learnable_rows(subset(images, own), pool.difficulties[own], mode_of, rounds=count, seed=seed, device="cpu")
    return subset(images, own[found])


class Study:
    """The sets of one IPC by name, each made only when it is first asked for."""

    def __init__(
        self,
        folder: Path,
        ipc: int,
        test: LabelledImages,
        guide: Path = embedded.PIPELINE / "classifier",
        device: str = "cpu",
        size: dict = SIZE,
    ) -> None:
        self.folder, self.ipc, self.test, self.size = folder, ipc, test, size
        self.guide = load_classifier(guide).to(device)
        self.loaded: dict = {}

    def pool(self, name: str, count: int | None = None) -> tuple[Pool, LabelledImages, np.ndarray]:
        """A pool, or the first images of each class, with the guide's difficulties and features."""
        if (name, count) not in self.loaded:
            whole = read_pool(self.folder / name)
            pool = whole if count is None else whole.select(first_of(whole, count))
            scores = score_pool(pool, self.guide, features=True)
            images = load_labelled_images(pool, **self.size, class_names=self.test.class_names)
            self.loaded[name, count] = with_difficulties(pool, scores.difficulties), images, scores.features
        return self.loaded[name, count]

    def chosen(
        self, name: str, rule: str, target: TargetDistribution | None, count: int | None, seed: int
    ) -> LabelledImages:
        pool, images, features = self.pool(name, count)
        options = {"target": target, "method": RULES[rule], "features": features, "seed": seed}
        return subset(images, subsample(pool, self.ipc, **options).indices)

    def in_turn(self, seed: int, form: str = "") -> LabelledImages:
        pool, images, _ = self.pool(f"drawn to modes, {self.ipc}{form}")
        return drawn_in_turn(images, pool, self.ipc, seed)

    def one_each(
        self, method: Method, seed: int, target: TargetDistribution | None = None, form: str = ""
    ) -> LabelledImages:
        pool, images, _ = self.pool(f"drawn to modes, {self.ipc}{form}")
        return one_each(images, pool, self.ipc, SelectionRule(method, evenly="mode"), seed, target)

    def steered(self, rule: SelectionRule, seed: int) -> LabelledImages:
        pool, images, features = self.pool(f"drawn to modes and easy, {self.ipc}")
        return one_each(images, pool, self.ipc, rule, seed, EASY, features)

    def sets(self) -> Iterator[tuple[str, Draw]]:
        """Name and draw of every set of the study."""
        ipc, known = self.ipc, reference()
        for rule in ("random", "herding", "k-center"):
            yield f"{rule} | real", partial(self.chosen, "real.parquet", rule, None, 5000)
        for rule in RULES:
            yield f"{rule} | unguided", partial(self.chosen, "unguided", rule, known, 5 * ipc)
        yield "random | unguided, DDIM", partial(self.chosen, "unguided, DDIM", "random", None, 5 * ipc)
        for name in ("unguided, half CFG", "unguided, half CFG 2"):
            yield f"random | {name}", partial(self.chosen, name, "random", None, 5 * ipc)
        auto = AutoTarget(known)
        yield "matching, auto | unguided", partial(self.chosen, "unguided", "matching", auto, 5 * ipc)
        if ipc < 50:
            yield "matching | unguided, 250 a class", partial(self.chosen, "unguided", "matching", known, 250)
        for rule in ("random", "histogram", "matching"):
            yield f"{rule} | DAG, reference", partial(self.chosen, "DAG, reference", rule, known, 5 * ipc)
        yield "drawn to modes", self.in_turn
        for method in ("easiest", "matching", "cao2"):
            yield f"{method} of 5 | drawn to modes", partial(self.one_each, method)
        yield "matching, auto of 5 | drawn to modes", partial(self.one_each, "matching", target=auto)
        for rule in (STEERED_RULE, SelectionRule("easiest", evenly="mode")):  # the first as in `run --target`
            yield f"{rule.method} of 5 | drawn to modes and easy", partial(self.steered, rule)
        for form in (f", {name}" for name in MODE_FORMS):
            yield f"drawn to modes{form}", partial(self.in_turn, form=form)
            yield f"easiest of 5 | drawn to modes{form}", partial(self.one_each, "easiest", form=form)
        if ipc == 10:
            for name in PRESETS:
                target = TargetDistribution.preset(name)
                yield f"matching, {name} | unguided", partial(self.chosen, "unguided", "matching", target, 50)
                yield f"random | DAG, {name}", partial(self.chosen, f"DAG, {name}", "random", None, 50)
            for scale in SCALES:
                yield f"random | CFG {scale:g}", partial(self.chosen, f"CFG {scale:g}", "random", None, 50)
                yield f"matching | CFG {scale:g}", partial(self.chosen, f"CFG {scale:g}", "matching", known, 50)


def test_images(count: int) -> LabelledImages:
    """The real test images, or the first of each class of them."""
    test = load_labelled_images(read_pool(embedded.TEST), **SIZE)
    rows = [np.flatnonzero(test.labels == label)[: count // len(test.class_names)] for label in test.class_names]
    return subset(test, np.sort(np.concatenate(rows)))


def run(
    name: str,
    sets: dict[str, Draw],
    test: LabelledImages,
    options: argparse.Namespace,
    baseline: str = BASELINE,
    labels: Labels = "hard",
) -> None:
    """Train, keep every result at once, and tell the rows of the table."""
    gpu = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else None
    settings = {"protocol": options.protocol, "test_images": len(test), "device": gpu}
    with evaluation_record(RESULTS / f"downstream-{name}.json", settings) as kept:
        results = evaluate(
            sets,
            test,
            network=options.networks,
            protocol=PROTOCOLS[options.protocol],
            seeds=range(options.seeds),
            labels=labels,
            device=options.device,
            test_name=f"{len(test)} real images",
            known=kept.results,
            on_result=kept.add,
        )
    for row in summarise(results, baseline):
        deviation = 0.0 if row.std is None else row.std  # of one seed there is none
        print(
            f"{row.set:38} {row.network:12} {row.mean:.4f} {deviation:.4f} {row.difference:+.4f} {row.interval}",
            flush=True,
        )


def setting_of(options: argparse.Namespace) -> str:
    """What a record is named by: IPC, protocol, and networks other than the usual one."""
    others = [] if options.networks == ["convnet-3"] else options.networks
    return "-".join([str(options.ipc), options.protocol, *others])


def study(folder: Path, options: argparse.Namespace) -> None:
    test = test_images(options.test_images)
    if options.held_out:
        test = held_out(folder, test.class_names)
    sets = dict(Study(folder, options.ipc, test, device=options.device).sets())
    if options.sets:
        sets = {name: sets[name] for name in (BASELINE, *options.sets) if name in sets}
    before = [*options.record, *(["held-out"] if options.held_out else [])]
    run("-".join([*before, setting_of(options)]), sets, test, options)


def held_out(folder: Path, class_names: dict[int, str]) -> LabelledImages:
    """The last training images of each class, which no set here holds and by which choices are made."""
    whole = read_pool(folder / "real.parquet")
    last = [np.flatnonzero(whole.labels == label)[-HELD_OUT // 10 :] for label in whole.class_names]
    return load_labelled_images(whole.select(np.sort(np.concatenate(last))), **SIZE, class_names=class_names)


def tune(folder: Path, options: argparse.Namespace) -> None:
    """Matching to each candidate, from the unguided pool."""
    test = test_images(10)
    drawn = Study(folder, options.ipc, test, device=options.device)
    sets = {BASELINE: partial(drawn.chosen, "unguided", "random", None, 5 * options.ipc)}
    for name, target in candidates().items():
        sets[f"matching, {name}"] = partial(drawn.chosen, "unguided", "matching", target, 5 * options.ipc)
    run(f"tune-{options.ipc}", sets, held_out(folder, test.class_names), options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pools", "tune", "study"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="idx files")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--protocol", default="quick", choices=sorted(PROTOCOLS))
    parser.add_argument("--networks", nargs="+", default=["convnet-3"])
    parser.add_argument("--seeds", type=int, default=5, help="trainings, and draws that the pools hold images for")
    parser.add_argument("--sets", nargs="+", help="only these, and the baseline")
    parser.add_argument("--record", nargs="*", default=[], help="what its name begins with, beside another study's")
    parser.add_argument("--test-images", type=int, default=10_000)
    parser.add_argument("--held-out", action="store_true", help="test on held-out training images instead")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--only", nargs="+", help="of the pools, such as 'unguided'")
    parser.add_argument("--batch-size", type=int, default=50, help="of the pools; 500 for a GPU")
    options = parser.parse_args()
    if options.what == "pools":
        make_pools(options.folder, options)
    else:
        {"study": study, "tune": tune}[options.what](options.folder, options)


if __name__ == "__main__":
    main()
