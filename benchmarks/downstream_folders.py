"""The downstream comparison on images of another kind, with models that are trained by the library as any user's.

    FOLDER/train, FOLDER/test    a folder for each class, from the benchmark's own ``images``
    FOLDER/guide                 a classifier, and two for difficulties out of sample
    FOLDER/pipeline              a generator
    FOLDER/weak                  a weak denoiser of the same latents, for autoguidance
    FOLDER/modes.safetensors     and pools, with 50 images a class for each seed

``benchmarks/digits.py``, ``emoji.py`` and ``clipart_draws.py`` say what is trained on; all else is here.  What FOLDER
holds is not made again.  Results go to benchmarks/results/downstream-NAME-IPC-PROTOCOL.json and .csv.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from downstream import BASELINE, EASY, PER_MODE, RULES, Draw, Study, in_rounds, one_each, run, setting_of
from downstream_modes import nearest_images

from dag_diffusion import (
    ClassifierConfig,
    GeneratorConfig,
    Modes,
    PoolConfig,
    SelectionRule,
    TargetDistribution,
    fill_pool,
    read_pool,
    subsample,
    train_classifier,
    train_generator,
)
from dag_diffusion.data.pools import Pool
from dag_diffusion.distillation.compared_sets import STEERED_RULE
from dag_diffusion.evaluation.labelled_images import LabelledImages, load_labelled_images, subset
from dag_diffusion.evaluation.protocols import PROTOCOLS
from dag_diffusion.generation.preparing.mode_search import encode_pool, find_pool_modes
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.loading import load_pipeline
from dag_diffusion.sampling.references import reference_named
from dag_diffusion.training.classifiers.classifier import DIFFICULTIES
from dag_diffusion.training.fine_tuning import FineTuningConfig

SIDE, MODES = 32, 10  # pixels; modes of each class, so that sets drawn to them are of that IPC
AUTO = "auto 1.5"  # beside the generator's own classifier-free guidance


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Images to compare on.

    Attributes:
        name: in the names of records.
        channels: 1 (grey) or 3.
        guide, generator, fine_tuning: how both are trained.
        weak_steps: of the weak denoiser; default: a third of the generator's.
        baseline: the set that all are compared with.
    """

    name: str
    channels: int
    guide: ClassifierConfig
    generator: GeneratorConfig
    fine_tuning: FineTuningConfig | None = None
    weak_steps: int | None = None
    baseline: str = BASELINE

    def load(self, pool: Pool) -> LabelledImages:
        """Its images in memory."""
        return load_labelled_images(pool, size=(SIDE, SIDE), channels=self.channels)


def train(subject: Subject, folder: Path, options: argparse.Namespace) -> None:
    images, test = read_pool(folder / "train"), read_pool(folder / "test")
    if not (folder / "guide").exists():
        config = replace(subject.guide, steps=options.guide_steps or subject.guide.steps)
        made = train_classifier(images, folder / "guide", config, test=test, device=options.device)
        print(f"guide: test accuracy {made.record['test']['accuracy']:.4f}", flush=True)
    steps = {name: value for name in ("steps", "vae_steps") if (value := getattr(options, name)) is not None}
    config = replace(subject.generator, **steps)
    train_generator(
        images, folder / "pipeline", config, fine_tuning=subject.fine_tuning, device=options.device, progress=told
    )
    weak = replace(config, learning_rate=None).weaker(folder / "pipeline")
    weak = replace(weak, steps=subject.weak_steps or weak.steps)
    train_generator(images, folder / "weak", weak, device=options.device, progress=told)


def told(stage: str, done: int, total: int) -> None:
    if total and done % max(1, total // 20) == 0:
        print(f"{stage}: {done} of {total}", flush=True)


def real_images(folder: Path) -> Pool:
    """The training images, each with the difficulty that a classifier gave it which was trained on others."""
    return read_pool(folder / "train", scores=folder / "guide" / DIFFICULTIES)


def reference(folder: Path) -> TargetDistribution:
    return TargetDistribution.from_reference(
        reference_named(folder / "guide" / DIFFICULTIES), "training images, out of sample"
    )


def make_pools(subject: Subject, folder: Path, options: argparse.Namespace) -> None:
    models = {"classifier": folder / "guide", "weak": folder / "weak"}
    pipeline = load_pipeline(folder / "pipeline", device=options.device, **models)
    if not (folder / "modes.safetensors").exists():
        find_pool_modes(pipeline, real_images(folder), MODES, batch_size=100).save(folder / "modes.safetensors")
    drawn = {"modes": Modes.load(folder / "modes.safetensors"), "mode_guidance": ModeGuidance(scale=0.2)}
    forms = {
        "unguided": {},
        "DAG, reference": {"target": reference(folder)},
        "drawn to modes": drawn,
        "drawn to modes and easy": {**drawn, "target": EASY},
        f"unguided, {AUTO}": {"autoguidance_scale": 1.5},
        f"drawn to modes, {AUTO}": {**drawn, "autoguidance_scale": 1.5},
    }
    for name in options.only or forms:
        form = {"guidance_interval": (0.0, 1.0), **forms[name]}
        config = PoolConfig(images_per_class=options.seeds * PER_MODE * MODES, **form)
        fill_pool(pipeline, folder / name, config, batch_size=options.batch_size, resume=True, source=subject.name)
        print(name, flush=True)


def chosen(drawn: Study, name: str, rule: SelectionRule, target: TargetDistribution, seed: int) -> LabelledImages:
    """DGS: of five times IPC images of each class, others for every seed as far as there are so many."""
    pool, images, features = drawn.pool(name)
    return one_each(images, pool, drawn.ipc, rule, seed, target, features)


def chosen_in_rounds(drawn: Study, name: str, seed: int) -> LabelledImages:
    """Of five images of each mode the one that the set has yet to teach, others for every seed."""
    pool, images, _ = drawn.pool(name)
    return in_rounds(images, pool, drawn.ipc, seed)


def study(subject: Subject, folder: Path, options: argparse.Namespace) -> None:
    test, real, ipc, known = (
        subject.load(read_pool(folder / "test")),
        real_images(folder),
        options.ipc,
        reference(folder),
    )
    size = {"size": (SIDE, SIDE), "channels": subject.channels}
    drawn = Study(folder, ipc, test, folder / "guide", options.device, size)
    sets: dict[str, Draw] = {BASELINE: partial(chosen, drawn, "unguided", RULES["random"], known)}
    for rule in ("random", "herding"):
        sets[f"{rule} | real"] = partial(drawn.chosen, "train", rule, None, None)
    sets["easiest | real"] = subset(subject.load(real), subsample(real, ipc, method="easiest").indices)
    for rule in ("easiest", "hardest", "histogram", "matching"):
        sets[f"{rule} | unguided"] = partial(chosen, drawn, "unguided", RULES[rule], known)
    for rule in ("random", "matching"):
        sets[f"{rule} | DAG, reference"] = partial(chosen, drawn, "DAG, reference", RULES[rule], known)
    if ipc == MODES:
        vae = load_pipeline(folder / "pipeline", device=options.device).vae
        latents = encode_pool(vae, real, size=SIDE, batch_size=100)
        nearest = nearest_images(latents, real.labels, Modes.load(folder / "modes.safetensors"))
        sets["nearest to modes | real"] = subset(subject.load(real), nearest)
        for pool in ("drawn to modes", f"drawn to modes, {AUTO}"):
            for method, name in (("random", ""), ("easiest", "easiest of 5 | "), ("matching", "matching of 5 | ")):
                rule = SelectionRule(method, evenly="mode")
                sets[f"{name}{pool}"] = partial(chosen, drawn, pool, rule, known)
            sets[f"in 5 rounds | {pool}"] = partial(chosen_in_rounds, drawn, pool)
        for method in ("random", "easiest"):
            sets[f"{method} | unguided, {AUTO}"] = partial(chosen, drawn, f"unguided, {AUTO}", RULES[method], known)
        steered = partial(chosen, drawn, "drawn to modes and easy", STEERED_RULE, EASY)
        sets["matching of 5 | drawn to modes and easy"] = steered
    wanted = {name: sets[name] for name in (subject.baseline, *options.sets)} if options.sets else sets
    name = "-".join([subject.name, *options.record, setting_of(options)])
    run(name, wanted, test, options, baseline=subject.baseline)


def picture(subject: Subject, folder: Path, options: argparse.Namespace) -> None:
    """Of each class eight training images, eight of the unguided pool, and eight drawn to modes."""
    from matplotlib.figure import Figure

    columns, sources = 8, {"real": "train", "unguided": "unguided", "drawn to modes": "drawn to modes"}
    names = read_pool(folder / "test").class_names
    figure = Figure(figsize=(11.2, 0.42 * len(names) + 0.4), dpi=100, facecolor="white", layout="constrained")
    axes = figure.subplots(1, len(sources))
    for axis, (title, name) in zip(axes, sources.items(), strict=True):
        shown = subject.load(read_pool(folder / name))
        rows = []
        for label in names:
            own = np.flatnonzero(shown.labels == label)
            rows.append(np.hstack(shown.images[own[:: len(own) // columns][:columns]]))
        axis.imshow(np.vstack(rows).squeeze(), cmap="gray")
        axis.set(title=title, xticks=[], yticks=SIDE * np.arange(len(names)) + SIDE // 2, yticklabels=[])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    axes[0].set_yticklabels(names.values(), fontsize=8)
    figure.savefig(Path(__file__).parent.parent / "docs" / "images" / f"{subject.name}.png")


def main(subject: Subject, images: Callable[[Path, argparse.Namespace], None], doc: str | None) -> None:
    """The command line of a benchmark, whose ``images`` writes ``train`` and ``test`` into a folder."""
    steps = {
        "images": images,
        "train": partial(train, subject),
        "pools": partial(make_pools, subject),
        "study": partial(study, subject),
        "picture": partial(picture, subject),
    }
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(steps))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path("node_modules"), help="where the images come from")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--guide-steps", type=int)
    parser.add_argument("--vae-steps", type=int)
    parser.add_argument("--steps", type=int, help="of the denoiser")
    parser.add_argument("--batch-size", type=int, default=50, help="of the pools; 500 for a GPU")
    parser.add_argument("--ipc", type=int, default=MODES)
    parser.add_argument("--only", nargs="+", help="of the pools, such as 'unguided'")
    parser.add_argument("--sets", nargs="+", help="of the study, only these and the baseline")
    parser.add_argument("--record", nargs="*", default=[], help="what its name has too, beside that of another study")
    parser.add_argument("--protocol", default="quick", choices=sorted(PROTOCOLS))
    parser.add_argument("--networks", nargs="+", default=["convnet-3"])
    parser.add_argument("--seeds", type=int, default=10, help="trainings, and draws that the pools hold images for")
    options = parser.parse_args()
    steps[options.what](options.folder, options)
