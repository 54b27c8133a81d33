"""Images of a class made as a set: noise chosen, images pushed apart, modes, and both, beside independent draws.

    python benchmarks/noise.py pools FOLDER --seeds 8    # images of each form, and what they are like
    python benchmarks/noise.py study FOLDER --seeds 8    # accuracy of a ConvNet-3 on real test images
    python benchmarks/noise.py candidates                # how regular the noise of the best of so many candidates is
    python benchmarks/noise.py cost                      # time of a call with diversity guidance beside a plain one

Ten images a class are made for every seed and all are trained on: nothing is selected, so that every form has drawn the
same number of images.  Forms share pool seeds, so that those that choose no noise begin with the same.  Features, and
the difficulty that never steered, are the evaluator's: Fréchet distance to real test images; the mean distance of two
images of a set and class, as a multiple of that of real ones; and the Vendi score of a set's cosines, which counts
distinct images.  Records name the digests of the models: figures of other assets do not belong beside them.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from downstream import BASELINE, SIZE, drawn_in_turn, first_of, run, test_images
from embedded import record
from guidance import frechet
from torch import Tensor

from dag_diffusion import PoolConfig, embedded, fill_pool, load_classifier, read_pool, score_pool
from dag_diffusion.data.pools import Pool
from dag_diffusion.evaluation.labelled_images import load_labelled_images
from dag_diffusion.generation.modes import Modes
from dag_diffusion.generation.noise_sets import best_candidate, irregularities
from dag_diffusion.generation.plan import image_seed, seed_after
from dag_diffusion.generation.preparing.mode_merging import merge_modes
from dag_diffusion.guidance.diversity_guidance import DiversityGuidance
from dag_diffusion.identity import digest_of
from dag_diffusion.loading import load_embedded_pipeline

IPC, CANDIDATES, SCALE, SHAPES = 10, 1000, 0.02, ((4, 8, 8), (4, 32, 32))
REAL_IMAGES = 100  # of each class of the test images, that features are compared with
MODES = {"modes": True}
APART = {"diversity": DiversityGuidance(scale=SCALE)}
FORMS: dict[str, dict] = {
    BASELINE: {},
    "noise sets": {"noise_candidates": CANDIDATES},
    "diversity 0.005": {"diversity": DiversityGuidance(scale=0.005)},
    f"diversity {SCALE:g}": APART,
    "diversity 0.05": {"diversity": DiversityGuidance(scale=0.05)},
    "drawn to modes": MODES,
    f"drawn to modes, diversity {SCALE:g}": MODES | APART,
}
STUDIED = [name for name in FORMS if name not in ("diversity 0.005", "diversity 0.05")]


class Bench:
    """Models and pools, each made when it is first asked for."""

    def __init__(self, folder: Path, seeds: int) -> None:
        self.folder, self.seeds, self.pipeline = folder, seeds, load_embedded_pipeline()
        self.evaluator = load_classifier(embedded.EVALUATOR)

    def pool(self, name: str) -> Pool:
        """``IPC`` images a class for each seed."""
        settings = dict(FORMS[name])
        if settings.pop("modes", False):
            settings["modes"] = merge_modes(Modes.load(embedded.MODES), IPC)  # as in `run`
        config = PoolConfig(images_per_class=IPC * self.seeds, group_size=IPC, **settings)
        place = self.folder / f"{name}, {self.seeds} seeds"
        return fill_pool(self.pipeline, place, config, resume=True, source="embedded default")

    def features(self, pool: Pool) -> tuple[Tensor, float]:
        """The evaluator's features, ``(n, size)`` by class and file, and the mean difficulty that it finds."""
        scored = score_pool(pool, self.evaluator, features=True)
        order = np.lexsort((np.array([row["file_name"] for row in pool.rows]), pool.labels))
        return torch.from_numpy(np.asarray(scored.features, np.float64))[order], float(scored.difficulties.mean())

    def measure(self) -> None:
        """A row for each form, kept at once."""
        test = read_pool(embedded.TEST)
        real, difficulty = self.features(test.select(first_of(test, REAL_IMAGES)))
        sets = of_sets(real)
        rows = [{"form": "real", "distance": 1.0, "vendi": mean_vendi(sets), "evaluator": difficulty}]
        for name in FORMS:
            pool = self.pool(name)
            found, difficulty = self.features(pool)
            row = {
                "form": name,
                "frechet": frechet(found, real),
                "distance": mean_distance(of_sets(found)) / mean_distance(sets),
                "vendi": mean_vendi(of_sets(found)),
                "guide": float(np.mean([row["difficulty"] for row in pool.rows])),
                "evaluator": difficulty,
            }
            rows.append(row)
            print(row, flush=True)
            parts = {"transformer": self.pipeline.transformer, "evaluator": self.evaluator}
            digests = {part: digest_of(model) for part, model in parts.items()}
            record("noise-sets", {"seeds": self.seeds, "images_per_set": IPC, "assets": digests, "rows": rows})

    def study(self, options: argparse.Namespace) -> None:
        """Train on each set."""
        sets, test = {}, test_images(10_000)
        for name in STUDIED:
            pool = self.pool(name)
            images = load_labelled_images(pool, **SIZE, class_names=test.class_names)
            sets[name] = partial(drawn_in_turn, images, pool, IPC)
        run("noise-10", sets, test, options)


def of_sets(features: Tensor) -> Tensor:
    return features.view(-1, IPC, features.shape[1])


def mean_distance(sets: Tensor) -> float:
    return float(torch.cdist(sets, sets).sum() / (len(sets) * IPC * (IPC - 1)))


def mean_vendi(sets: Tensor) -> float:
    """Exponential of the entropy of the eigenvalues of the cosines' matrix over its size (Friedman and Dieng, 2023)."""
    unit = torch.nn.functional.normalize(sets, dim=2)
    values = torch.linalg.eigvalsh(unit @ unit.transpose(1, 2) / IPC).clamp(min=1e-12)
    return float(torch.exp(-(values * values.log()).sum(1)).mean())


def candidates(sets: int = 8) -> None:
    """How much more regular the best of so many candidates is, in latents of 8 x 8 and of 32 x 32."""
    rows = []
    for shape in SHAPES:
        for count in (1, 100, CANDIDATES):
            started, chosen = time.perf_counter(), []
            for number in range(sets):
                seeds = [image_seed(number, 0, index) for index in range(IPC)]
                best = best_candidate(seeds, count, partial(drawn, shape)) if count > 1 else 0
                chosen.append(torch.stack([drawn(shape, seed_after(seed, best)) for seed in seeds]))
            seconds = (time.perf_counter() - started) / sets
            parts = {name: float(part.mean()) for name, part in irregularities(torch.stack(chosen)).items()}
            rows.append({"shape": shape, "candidates": count, **parts, "seconds_a_set": seconds})
            print(rows[-1], flush=True)
    record("noise-candidates", {"sets": sets, "images": IPC, "rows": rows})


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cost(turns: int) -> None:
    """Seconds for two groups, plain and pushed apart in turn."""
    pipeline, seconds = load_embedded_pipeline(), {"plain": [], "diversity": []}
    labels = [label for label in range(2) for _ in range(IPC)]
    for turn in range(turns + 1):
        for name, diversity in (("plain", DiversityGuidance()), ("diversity", APART["diversity"])):
            generators = [torch.Generator().manual_seed(seed) for seed in range(len(labels))]
            started = time.process_time()  # of this process alone, since others may share the machine
            pipeline(labels, generator=generators, diversity=diversity)
            if turn:  # the first warms up
                seconds[name].append(time.process_time() - started)
    ratios = [pushed / plain for plain, pushed in zip(*seconds.values(), strict=True)]
    print(ratios)
    record("noise-cost", {"images": len(labels), "cpu_seconds": seconds, "ratio": float(np.median(ratios))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pools", "study", "candidates", "cost"])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/noise"))
    parser.add_argument("--seeds", type=int, default=8, help="trainings, and sets that the pools hold images for")
    parser.add_argument("--turns", type=int, default=5, help="of cost")
    options = parser.parse_args()
    options.protocol, options.networks, options.device = "quick", ["convnet-3"], "cpu"
    if options.what == "pools":
        Bench(options.folder, options.seeds).measure()
    elif options.what == "study":
        Bench(options.folder, options.seeds).study(options)
    elif options.what == "candidates":
        candidates()
    else:
        cost(options.turns)


if __name__ == "__main__":
    main()
