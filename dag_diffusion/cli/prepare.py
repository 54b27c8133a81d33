"""``dag-diffusion train-probe`` and ``find-modes``: what guidance needs beforehand."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .console import loading, stages
from .fields import Fields, Values
from .launching import launch_several
from .options import (
    MODELS,
    BatchSize,
    Classes,
    Classifier,
    Device,
    NumProcesses,
    Overwrite,
    Pipeline,
    PoolPath,
    Quiet,
    Seed,
    TrustBin,
)


def train_probe(
    output: Annotated[Path, Argument(help="folder of the probe")],
    *,
    config: Annotated[
        Values,
        Fields(
            "generation.probe_training:ProbeConfig",
            ["trajectories", "training_steps", "num_inference_steps", "guidance_scale", "seed"],
        ),
    ],
    classes: Classes = None,
    pipeline: Pipeline = None,
    classifier: Annotated[
        list[str] | None,
        Option(
            help="folder or Hub id of a guide, first the one that will steer, may be given several times; "
            "default: the pipeline's own",
            rich_help_panel=MODELS,
        ),
    ] = None,
    trust_bin: TrustBin = False,
    batch_size: BatchSize = 50,
    device: Device = None,
    num_processes: NumProcesses = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a probe, for guidance without decoding.

    It is a small network that predicts from latents what guides say of the images.

    Example: dag-diffusion train-probe probe --pipeline facebook/DiT-XL-2-256
    --classifier timm/resnet50.tv_in1k --classifier timm/regnety_016.tv2_in1k --classes "tench;church"
    """
    from dag_diffusion.processes import fail_together, is_main_process

    quiet = launch_several(num_processes, quiet)
    with loading("libraries", quiet):
        from dag_diffusion.generation import probe_training as probes
        from dag_diffusion.loading import labels_of, load_guide, load_pipeline, require_no_other_files, save_probe

    with fail_together():
        if is_main_process():
            require_no_other_files(output, overwrite=overwrite)
        settings = probes.ProbeConfig(**config)
        loaded = load_pipeline(pipeline, device=device, trust_bin=trust_bin)
        guides = [load_guide(name, device=device) for name in classifier or []]
        if not guides and loaded.classifier is not None:
            guides = [loaded.classifier]
        labels = labels_of(loaded, classes)
    with stages(quiet) as progress:
        probe, fidelity = probes.train_probe(
            loaded, guides, settings, labels=labels, batch_size=batch_size, progress=progress
        )
    if is_main_process():
        save_probe(probe, output)
        print(
            f"probe in {output}; on runs that it has not seen, mean |d - d of the guides| = "
            f"{fidelity.difficulty_error:.3f}, rank correlation of the margins {fidelity.correlation:.2f}"
        )


def find_modes(
    images: PoolPath,
    output: Annotated[Path, Argument(help="safetensors file for the modes")],
    *,
    per_class: Annotated[int, Option(min=1, help="modes of each class, best the number of images to generate")] = 10,
    by_difficulty: Annotated[
        str | None,
        Option(help="a target as for generate: cluster within strata of difficulty, with as many modes as it asks for"),
    ] = None,
    average: Annotated[int, Option(min=1, help="average-pool the latents by this factor before comparing them")] = 1,
    seed: Seed = 0,
    pipeline: Pipeline = None,
    classifier: Classifier = None,
    trust_bin: TrustBin = False,
    batch_size: BatchSize = 32,
    device: Device = None,
    num_processes: NumProcesses = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Find modes of real images, for mode guidance.

    They are clusters in the latent space, plain or by difficulty, for generate --modes.

    Examples:  dag-diffusion find-modes real_images/ modes.safetensors --per-class 10

    dag-diffusion find-modes real_images/ hard-modes.safetensors --per-class 10 --by-difficulty cliff
    """
    from dag_diffusion.processes import fail_together, is_main_process

    if is_main_process() and output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; give --overwrite to replace it")
    quiet = launch_several(num_processes, quiet)
    with loading("libraries", quiet):
        from dag_diffusion.data.pools import read_pool
        from dag_diffusion.generation.mode_search import find_pool_modes
        from dag_diffusion.loading import load_pipeline
        from dag_diffusion.sampling.target_parser import as_target

    with fail_together():
        real = read_pool(images)
        loaded = load_pipeline(pipeline, classifier=classifier, device=device, trust_bin=trust_bin)
        target = None if by_difficulty is None else as_target(by_difficulty, real.class_names)
    with stages(quiet) as progress:
        modes = find_pool_modes(
            loaded,
            real,
            per_class,
            target=target,
            average=average,
            seed=seed,
            batch_size=batch_size,
            progress=progress,
        )
    if is_main_process():
        modes.save(output)
        print(f"{len(modes.labels)} modes of {len(modes.class_names)} classes in {output}")
