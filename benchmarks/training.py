"""Training of generators against plain loops, and what ways of fine-tuning keep in memory.

    python benchmarks/training.py speed          # images a second of four loops, a turn; --more adds one to the record
    python benchmarks/training.py speed --latents 16    # with a VAE that leaves four times as many positions
    python benchmarks/training.py loss           # loss on held-out images after equally many steps of each
    python benchmarks/training.py memory         # gradients, optimiser and peak of each way to tune DiT-B/2 at 256 px
    python benchmarks/training.py peaks          # peak of the plain loop and of the library's
    python benchmarks/training.py kills          # a `train` that is killed with -9 and goes on, beside one that is not

The plain loop is written as example scripts of diffusers are: images from a DataLoader, encoded in every step, float32,
AdamW and EMAModel as they come.  The second has the latents cached and is the same otherwise.  The others are
``training.fit`` over the library's own latents.  All train the same DiT of 8 million weights, with the same objective,
on 64 px crops of scikit-image's photographs and latents of the same VAE of 5 million weights, whose weights are random
and whose posterior is as narrow as that of trained ones.

Written to benchmarks/results/training-WHAT.json with versions, processor and command.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel, compute_snr
from embedded import RESULTS, record
from PIL import Image
from skimage.data import data_dir
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from dag_diffusion import read_pool
from dag_diffusion.data.pools import Pool
from dag_diffusion.memory import keep_freed_memory
from dag_diffusion.training import LoopConfig, Objective, fit
from dag_diffusion.training.denoising import DenoisingLoss
from dag_diffusion.training.fine_tuning import TUNINGS, FineTuningConfig, adapt
from dag_diffusion.training.generators.attention import suited_attention
from dag_diffusion.training.generators.latents import Latents, encode_images
from dag_diffusion.training.generators.networks import build_scheduler, set_own_dropping
from dag_diffusion.training.generators.settings import GeneratorConfig
from dag_diffusion.training.generators.training import labelled_loss
from dag_diffusion.training.label_tables import set_classes

PHOTOGRAPHS = {"espresso": "coffee.png", "moped": "motorcycle_left.png", "missile": "rocket.jpg", "cat": "chelsea.png"}
SIZE = 64  # of images
PLAIN, CACHED = "plain loop, float32", "cached latents, float32"
OURS = {"float32": "dag-diffusion, float32", "bfloat16": "dag-diffusion, bfloat16"}
STEPS = {PLAIN: 4, CACHED: 10, OURS["float32"]: 10, OURS["bfloat16"]: 16}  # of a turn
LEVELS = {8: (32, 64, 128, 128), 16: (64, 128, 128)}  # channels of a VAE for 64 px, by the side of its latents
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "loss", "memory", "peaks", "kills"])
    parser.add_argument("--latents", type=int, choices=list(LEVELS), default=8, help="side of the latents")
    parser.add_argument("--more", action="store_true", help="add the turn to those that are recorded, for speed")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=120, help="of each loop, for loss")
    parser.add_argument("--only", choices=[PLAIN, CACHED, *OURS.values()], help="one loop, for loss")
    parser.add_argument("--mode", help="what one process measures, for memory")
    options = parser.parse_args()
    if options.mode:
        measured = memory_of if options.what == "memory" else peak_of
        return print(json.dumps(measured(*options.mode.split(";"))))
    with tempfile.TemporaryDirectory() as name:
        tasks = {"speed": speed, "loss": loss, "memory": memory, "peaks": peaks, "kills": kills}
        found = tasks[options.what](options, Path(name))
    record(f"training-{options.what}", found)
    print(json.dumps(found, indent=2))
    return None


# -- what is trained, on what


def photographs(folder: Path, images: int) -> Pool:
    """Square crops of photographs as PNG files of 64 px."""
    generator = np.random.default_rng(0)
    for name, file in PHOTOGRAPHS.items():
        whole = Image.open(Path(data_dir) / file).convert("RGB")
        (folder / name).mkdir(parents=True)
        for index in range(images // len(PHOTOGRAPHS)):
            side = generator.uniform(0.2, 0.8) * min(whole.size)
            left, top = generator.uniform(0, whole.width - side), generator.uniform(0, whole.height - side)
            crop = whole.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
            crop.save(folder / name / f"{index:05d}.png")
    return read_pool(folder)


def build_vae(side: int) -> AutoencoderKL:
    """5 million weights, 64 px to 4 x 8 x 8 as VAEs of Stable Diffusion would, or to 4 x 16 x 16."""
    torch.manual_seed(0)
    channels = LEVELS[side]
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=SIZE,
    )
    with torch.no_grad():  # deviations of latents, which are the second half of the channels
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -8
    return vae.eval().requires_grad_(False)


def build_denoiser(side: int) -> DiTTransformer2DModel:
    """8 million weights."""
    torch.manual_seed(1)
    return DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=64,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        sample_size=side,
        patch_size=2,
        num_embeds_ada_norm=len(PHOTOGRAPHS),
    )


class Files(Dataset):
    """Images and labels, as example scripts read them."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.prepare = transforms.Compose(
            [
                transforms.Resize(SIZE),
                transforms.CenterCrop(SIZE),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )

    def __len__(self) -> int:
        return len(self.pool)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        row = self.pool.rows[index]
        return self.prepare(Image.open(self.pool.path / row["file_name"]).convert("RGB")), row["label"]


# -- the loops


class PlainLoop:
    """A script's loop; ``step`` trains on one batch."""

    def __init__(self, batches: Iterator[Any], vae: AutoencoderKL | None, steps: int, side: int = 8) -> None:
        self.batches, self.vae, self.scheduler = batches, vae, build_scheduler("v_prediction")
        self.model = build_denoiser(side).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.01)
        self.rates = get_cosine_schedule_with_warmup(self.optimizer, max(1, steps // 20), steps)
        self.average = EMAModel(self.model.parameters(), decay=0.9999, use_ema_warmup=True)
        torch.manual_seed(2)

    def step(self) -> None:
        clean, labels = next(self.batches)
        if self.vae is not None:
            with torch.no_grad():
                clean = self.vae.encode(clean).latent_dist.sample() * self.vae.config.scaling_factor
        noise = torch.randn_like(clean)
        timesteps = torch.randint(0, 1000, (len(clean),))
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        predicted = self.model(noisy, timestep=timesteps, class_labels=labels).sample
        snr = compute_snr(self.scheduler, timesteps)
        weights = snr.clamp(max=5) / (snr + 1)
        error = F.mse_loss(predicted, self.scheduler.get_velocity(clean, noise, timesteps), reduction="none")
        loss = (weights * error.mean((1, 2, 3))).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.rates.step()
        self.optimizer.zero_grad()
        self.average.step(self.model.parameters())
        loss.item()

    def run(self, steps: int) -> DiTTransformer2DModel:
        """The averaged model after so many steps."""
        for _ in range(steps):
            self.step()
        self.average.copy_to(self.model.parameters())
        return self.model.eval()


def forever(loader: DataLoader) -> Iterator[Any]:
    while True:
        yield from loader


def of_files(pool: Pool, batch: int) -> Iterator[Any]:
    return forever(DataLoader(Files(pool), batch, shuffle=True, drop_last=True))


def of_latents(latents: Latents, pool: Pool, batch: int) -> Iterator[Any]:
    pairs = list(zip(latents.rows(torch.arange(len(pool))), pool.labels.tolist(), strict=True))
    return forever(DataLoader(pairs, batch, shuffle=True, drop_last=True))


def fitted(
    latents: Latents, pool: Pool, folder: Path, precision: str, steps: int, batch: int, **options: Any
) -> nn.Module:
    """The averaged model after so many steps of the library's loop."""
    model, scheduler = build_denoiser(latents.shape[1]), build_scheduler("v_prediction")
    set_own_dropping(model, 0.0)
    denoising = DenoisingLoss(Objective(), scheduler)
    of_batch = labelled_loss(denoising, latents, pool.labels, GeneratorConfig())
    config = LoopConfig(steps=steps, batch_size=batch, precision=precision)
    with suited_attention(model, precision, torch.device("cpu")):
        return fit(model, of_batch, len(pool), folder, config, state=denoising, **options)


# -- what is measured


def prepared(folder: Path, images: int, side: int = 8) -> tuple[Pool, AutoencoderKL, Latents, float]:
    """Images, a VAE whose scale is measured, latents, and how many images a second were encoded."""
    pool, vae = photographs(folder / "images", images), build_vae(side)
    with torch.no_grad():
        some = torch.stack([Files(pool)[i][0] for i in range(0, len(pool), len(pool) // 16)])
        vae.register_to_config(scaling_factor=float(1 / vae.encode(some).latent_dist.mean.std()))
    begun = perf_counter()
    latents = encode_images(vae, pool, folder / "latents", size=SIZE, flip=False, images="photographs")
    return pool, vae, latents, len(pool) / (perf_counter() - begun)


def speed(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Images a second of the loops, one after the other, start and end of a training left out.

    A call is one turn: before the library's own loops it keeps freed memory, as the command line does, which cannot be
    undone.
    """
    batch, path, side = options.batch_size, RESULTS / "training-speed.json", str(options.latents)
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    before = results.get(side, {}).get("images_per_second", {}) if options.more else {}
    pool, vae, latents, encoded = prepared(folder, 2 * batch, options.latents)
    loops = {
        PLAIN: PlainLoop(of_files(pool, batch), vae, 1000, options.latents),
        CACHED: PlainLoop(of_latents(latents, pool, batch), None, 1000, options.latents),
    }
    steps = {name: count if options.latents == 8 else max(4, count // 3) for name, count in STEPS.items()}
    found = {name: [perf_counter() for _ in range(steps[name]) if loop.step() is None] for name, loop in loops.items()}
    keep_freed_memory()
    for precision, name in OURS.items():
        times = found[name] = []
        tell = {"progress": lambda stage, done, total, times=times: times.append(perf_counter())}
        fitted(latents, pool, folder / name, precision, steps[name], batch, **tell)
        times.pop(0), times.pop()  # before the first step, and after the checkpoint at the end
    # the first steps choose their kernels and make the optimiser's state
    rates = {name: (len(times) - 2) * batch / (times[-1] - times[1]) for name, times in found.items()}
    rates = {name: [*before.get(name, []), round(rate, 2)] for name, rate in rates.items()}
    speeds = {name: median(values) for name, values in rates.items()}
    results[side] = {
        "weights": {"VAE": size_of(vae), "denoiser": size_of(loops[PLAIN].model)},
        "images_per_second": rates,
        "ratios": {kind: {name: round(speeds[name] / speeds[kind], 2) for name in speeds} for kind in (PLAIN, CACHED)},
        "encoded_once_images_per_second": round(encoded, 1),
    }
    return {"batch_size": batch, "results": results}


def loss(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Squared error of v on held-out images, the same noise and timesteps for all, after equally many steps."""
    steps, batch = options.steps, options.batch_size
    path = RESULTS / "training-loss.json"
    found = json.loads(path.read_text())["loss"] if options.only and path.exists() else {}
    pool, vae, latents, _ = prepared(folder, 1280)
    rows = torch.arange(len(pool))
    training, held_out = (pool.select(rows[keep].tolist()) for keep in (rows % 5 != 0, rows % 5 == 0))
    seen = Latents([latents.rows(rows[rows % 5 != 0])[:, None]])
    unseen, labels = latents.rows(rows[rows % 5 == 0]), torch.as_tensor(held_out.labels)
    run: dict[str, Callable[[], nn.Module]] = {
        PLAIN: lambda: PlainLoop(of_files(training, batch), vae, steps).run(steps),
        CACHED: lambda: PlainLoop(of_latents(seen, training, batch), None, steps).run(steps),
        **{
            name: lambda name=name, kind=kind: fitted(seen, training, folder / name, kind, steps, batch)
            for kind, name in OURS.items()
        },
    }
    for name, trained in run.items():
        if options.only in (None, name):
            found[name] = round(error_of(trained(), unseen, labels), 4)
            print(name, found[name], flush=True)
    return {"steps": steps, "batch_size": batch, "loss": found}


@torch.no_grad()
def error_of(model: nn.Module, clean: Tensor, labels: Tensor) -> float:
    """Mean squared error of v, over timesteps alike."""
    objective, generator = Objective(), torch.Generator().manual_seed(3)
    noise = torch.randn(clean.shape, generator=generator)
    timesteps = torch.linspace(0, 999, len(clean)).long()[torch.randperm(len(clean), generator=generator)]
    alphas = build_scheduler("v_prediction").alphas_cumprod[timesteps]
    noisy = objective.noisy(clean, noise, alphas)
    parts = zip(noisy.split(64), timesteps.split(64), labels.split(64), strict=True)
    predicted = torch.cat([model.eval()(x, timestep=t, class_labels=y).sample for x, t, y in parts])
    return float(F.mse_loss(predicted, objective.wanted(clean, noise, alphas)))


def size_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def memory(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Each way to tune, in a process of its own."""
    modes = [(tune, "float32") for tune in TUNINGS] + [(tune, "bfloat16") for tune in TUNINGS]
    found = {}
    for mode in modes:
        found[", ".join(mode)] = in_a_process("memory", *mode)
    return {"model": "DiT-B/2 of random weights, 256 px, 10 new classes, batch of 2, rank 8", "modes": found}


def in_a_process(what: str, *mode: str) -> Any:
    command = [sys.executable, __file__, what, "--mode", ";".join(mode)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    found = json.loads(done.stdout.strip().splitlines()[-1])
    print(*mode, found, flush=True)
    return found


def memory_of(tune: str, precision: str) -> dict[str, float]:
    """MiB of gradients and optimiser, and at the peak beyond what the process had before the model."""
    batch = 2
    labels, clean = torch.arange(8) % 10, torch.randn(8, 4, 32, 32)
    before = peak()
    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        num_attention_heads=12, attention_head_dim=64, in_channels=4, out_channels=4, num_layers=12, sample_size=32
    )
    set_classes(model, 10)
    set_own_dropping(model, 0.0)
    adaptation = adapt(model, FineTuningConfig(tune=tune, rank=8))
    if precision == "bfloat16":
        adaptation.rest_in(torch.bfloat16)
    trained = [parameter for _, parameter in adaptation.trained()]
    denoising = DenoisingLoss(Objective(), build_scheduler("v_prediction"))
    of_batch = labelled_loss(denoising, Latents([clean[:, None]]), labels.numpy(), GeneratorConfig())
    with tempfile.TemporaryDirectory() as folder:
        fit(model, of_batch, len(clean), folder, LoopConfig(steps=3, batch_size=batch, precision=precision))
    return {
        "trained weights": sum(parameter.numel() for parameter in trained),
        "gradients and optimiser, MiB": round(3 * sum(p.numel() * p.element_size() for p in trained) / MIB, 1),
        "peak, MiB": round((peak() - before) / MIB),
    }


def peaks(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Each loop in a process of its own."""
    found = {name: in_a_process("peaks", name, str(options.batch_size)) for name in (PLAIN, OURS["float32"])}
    return {"batch_size": options.batch_size, "peak, MiB": found}


def peak_of(name: str, batch: str) -> int:
    """MiB at the peak of some steps beyond what the process had before the models; latents are encoded here too."""
    with tempfile.TemporaryDirectory() as place:
        folder, size = Path(place), int(batch)
        pool = photographs(folder / "images", 2 * size)
        before, vae = peak(), build_vae(8)
        if name == PLAIN:
            PlainLoop(of_files(pool, size), vae, 1000).run(4)
        else:
            keep_freed_memory()
            latents = encode_images(vae, pool, folder / "latents", size=SIZE, flip=False, images="photographs")
            fitted(latents, pool, folder / "ours", "float32", 4, size)
        return round((peak() - before) / MIB)


def kills(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A small generator, killed with -9 at five random steps of autoencoder and denoiser in turn, in one training."""
    photographs(folder / "images", 40)
    size = "--size 32 --width 64 --depth 2 --batch-size 16 --steps 200 --vae-steps 60 --checkpoint-seconds 0.3"
    command = [sys.executable, "-m", "dag_diffusion", "train", str(folder / "images"), *size.split(), "--quiet"]
    steps = sorted(np.random.default_rng(0).integers(20, 240, 5).tolist())
    for wanted in steps:
        run = subprocess.Popen([*command, "--output", str(folder / "killed")])  # noqa: S603
        while run.poll() is None and steps_of(folder / "killed.training") < wanted:
            sleep(0.005)
        if run.poll() is not None:
            raise RuntimeError(f"the training ended with code {run.returncode} before it could be killed")
        run.kill()
        run.wait()
        print(f"killed at step {steps_of(folder / 'killed.training')}", flush=True)
    for name in ("killed", "whole"):
        subprocess.run([*command, "--output", str(folder / name)], check=True)  # noqa: S603
    killed, whole = weights_of(folder / "killed"), weights_of(folder / "whole")
    return {
        "killed at steps": steps,
        "steps": 260,
        "steps of an epoch": 2.5,
        "files": len(whole),
        "same": killed == whole,
    }


def steps_of(work: Path) -> int:
    """Steps of autoencoder and denoiser together that a training has told of."""
    files = (work / part / "losses.jsonl" for part in ("vae", "denoiser"))
    told = [file.read_text().rpartition("\n")[0].rpartition("\n")[2] for file in files if file.exists()]
    return sum(json.loads(line)["step"] for line in told if line)


def weights_of(pipeline: Path) -> dict[Path, bytes]:
    return {path.relative_to(pipeline): path.read_bytes() for path in pipeline.rglob("*.safetensors")}


def peak() -> int:
    """Bytes that this process had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
