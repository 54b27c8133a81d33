"""``dag-diffusion generate``, ``status``, ``train-probe`` and ``find-modes``: DAG and its pools."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit, Option

from dag_diffusion.loading import labels_named, load_pipeline

from .console import counter, stages, status_lines, user_errors
from .options import (
    BatchSize,
    Classes,
    Classifier,
    Device,
    GuidanceScale,
    Overwrite,
    Pipeline,
    PipelinePrecision,
    PoolPath,
    Quiet,
    Seed,
    Steps,
    Target,
    TrustBin,
)

if TYPE_CHECKING:
    from dag_diffusion.data.pools import Pool


def generate(
    output: Annotated[Path, Argument(help="folder of the pool")],
    images_per_class: Annotated[int, Option(min=1, help="pool size; the paper advises 5 x IPC")] = 50,
    target: Target = None,
    pipeline: Pipeline = "",
    classifier: Classifier = "",
    classes: Classes = "",
    num_inference_steps: Steps = None,
    guidance_scale: GuidanceScale = None,
    difficulty_guidance_scale: Annotated[float, Option(help="1 is the linearised hit of the target")] = 1.0,
    guidance: Annotated[
        list[str] | None,
        Option(help="NAME=VALUE of GuidanceConfig, such as every=2; may be given several times"),
    ] = None,
    probe: Annotated[str, Option(help="folder or Hub id of a probe, or 'none'; default: the pipeline's own")] = "",
    extra_guide: Annotated[
        list[str] | None,
        Option(help="another classifier that steers where the decoder is asked; may be given several times"),
    ] = None,
    modes: Annotated[Path | None, Option(help="file of find-modes; images are drawn to its modes in turn")] = None,
    mode_scale: Annotated[float, Option(help="how strongly")] = 0.2,
    mode_window: Annotated[
        str, Option(help="mgd3, igd or lgd, as published; default: the first half of the steps")
    ] = "",
    modes_by_size: Annotated[
        bool, Option("--modes-by-size", help="draw to modes in proportion to their real images instead of in turn")
    ] = False,
    num_processes: Annotated[
        int, Option(min=1, help="processes on this machine, one a GPU; for several machines see docs/scaling.md")
    ] = 1,
    batch_size: Annotated[int, Option(min=1, help="images at a time; halved where memory does not suffice")] = 50,
    precision: PipelinePrecision = "",
    compiled: Annotated[
        bool, Option("--compile", help="torch.compile; the first batch takes minutes, for thousands of images")
    ] = False,
    channels_last: Annotated[
        bool, Option("--channels-last", help="memory layout for GPUs with tensor cores, in half precision")
    ] = False,
    vae_slicing: Annotated[
        bool, Option("--vae-slicing", help="decode finished images one at a time: larger batches in the same memory")
    ] = False,
    xformers: Annotated[
        bool, Option("--xformers", help="attention by xformers; torch's own is as frugal, so this rarely gains")
    ] = False,
    log_with: Annotated[
        list[str] | None,
        Option(help="tensorboard, wandb or another of accelerate's trackers; may be given several times"),
    ] = None,
    device: Device = "",
    trust_bin: TrustBin = False,
    resume: Annotated[bool, Option("--resume", help="check what is there and go on with an interrupted pool")] = False,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Generate a pool of images, steered toward a target difficulty if one is given.

    Examples:  dag-diffusion generate pool --images-per-class 50 --target reference --num-processes 2

    accelerate launch -m dag_diffusion generate pool --pipeline facebook/DiT-XL-2-256 --precision bfloat16
    --classifier timm/resnet50.tv_in1k --target 0.5 --classes "tench;church" --resume
    """
    with user_errors():
        from dag_diffusion.data.pools import require_writable_target
        from dag_diffusion.generation.processes import fail_together, is_main_process, is_started, launch

        if not resume and is_main_process():
            require_writable_target(output, overwrite=overwrite)  # before the model is loaded, which may take minutes
        if num_processes > 1 and not is_started():
            raise Exit(launch(num_processes, sys.argv[1:]))

        from dag_diffusion.generation.filling import fill_pool
        from dag_diffusion.generation.modes import load_modes
        from dag_diffusion.generation.plan import PoolConfig
        from dag_diffusion.generation.tracking import require_trackers, tracked
        from dag_diffusion.loading import load_guides, precision_named, speed_up
        from dag_diffusion.sampling.target_parser import target_named

        from .inputs import guidance_named, mode_guidance_named

        curves = Path(f"{output.resolve()}-curves")
        with fail_together():
            require_trackers(log_with or [], curves)
            dtype = precision_named(precision)
            loaded = load_pipeline(
                pipeline, classifier, device, probe=probe, use_safetensors=None if trust_bin else True, dtype=dtype
            )
            config = PoolConfig(
                images_per_class=images_per_class,
                labels=labels_named(loaded, classes),
                target=None if target is None else target_named(target, loaded.class_names),
                seed=seed,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                difficulty_guidance=guidance_named(guidance or [], difficulty_guidance_scale),
                modes=None if modes is None else load_modes(modes, loaded.class_names),
                mode_guidance=mode_guidance_named(mode_scale, mode_window, modes_by_size),
            )
            guides = load_guides(extra_guide or [], device, dtype)
            speed_up(loaded, compiled=compiled, channels_last=channels_last, vae_slicing=vae_slicing, xformers=xformers)
        with (
            stages(quiet or not is_main_process()) as progress,
            tracked(log_with or [], curves, {"pool": str(output), "command": shlex.join(sys.argv)}) as track,
        ):

            def tell(done: int, total: int) -> None:
                progress("images", done, total)
                track(done, total)

            pool = fill_pool(
                loaded,
                output,
                config,
                batch_size=batch_size,
                resume=resume,
                overwrite=overwrite,
                source=pipeline or "embedded default",
                extra_guides=guides,
                progress=tell,
            )
        if is_main_process():
            print(f"{len(pool)} images in {output}{_reached(pool)}")


def status(
    pool: Annotated[Path, Argument(help="folder of a pool that generate has begun")],
    verify: Annotated[bool, Option("--verify", help="also check every image; exit code 2 if one is damaged")] = False,
) -> None:
    """How far a pool is, how fast it grows, and whether its images are whole.

    Example: dag-diffusion status pool --verify
    """
    with user_errors():
        from dag_diffusion.generation.work_queue import pool_status

        found = pool_status(pool, verify=verify)
        for line in status_lines(found):
            print(line)
        if found.damaged:
            raise ValueError(
                f"{len(found.damaged)} images of {pool} are damaged ({found.damaged[0]}, ...); give its `generate` "
                "command again with --resume to draw them again"
            )


def train_probe(
    output: Annotated[Path, Argument(help="folder of the probe")],
    pipeline: Pipeline = "",
    classifier: Annotated[
        list[str] | None,
        Option(help="folder or Hub id of a guide, may be given several times, first the one that will steer"),
    ] = None,
    classes: Classes = "",
    trajectories: Annotated[int, Option(min=10, help="sampling runs to learn from")] = 3000,
    training_steps: Annotated[int, Option(min=1, help="of the probe")] = 6000,
    num_inference_steps: Steps = None,
    guidance_scale: GuidanceScale = None,
    batch_size: BatchSize = 50,
    device: Device = "",
    trust_bin: TrustBin = False,
    overwrite: Annotated[bool, Option("--overwrite", help="replace an earlier probe in the output folder")] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Train a small network that foretells what guides say of latents, so that steering needs no decoder.

    Example: dag-diffusion train-probe probe --pipeline facebook/DiT-XL-2-256
    --classifier timm/resnet50.tv_in1k --classifier timm/regnety_016.tv2_in1k --classes "tench;church"
    """
    with user_errors():
        from dag_diffusion.generation import probe_training as probes
        from dag_diffusion.loading import load_guides, require_no_other_files, save_probe

        require_no_other_files(output, overwrite=overwrite)
        loaded = load_pipeline(pipeline, "", device, use_safetensors=None if trust_bin else True)
        guides = load_guides(classifier or [], device) or [g for g in [loaded.classifier] if g is not None]
        config = probes.ProbeConfig(
            trajectories=trajectories,
            training_steps=training_steps,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            seed=seed,
        )
        labels = labels_named(loaded, classes)
        with stages(quiet) as progress:
            probe, fidelity = probes.train_probe(
                loaded, guides, config, labels=labels, batch_size=batch_size, progress=progress
            )
        save_probe(probe, output)
        print(
            f"probe in {output}; on runs that it has not seen, mean |d - d of the guides| = "
            f"{fidelity.difficulty_error:.3f}, rank correlation of the margins {fidelity.correlation:.2f}"
        )


def find_modes(
    images: PoolPath,
    output: Annotated[Path, Argument(help="safetensors file for the modes")],
    per_class: Annotated[int, Option(min=1, help="modes of each class, best the number of images to generate")] = 10,
    by_difficulty: Annotated[
        str,
        Option(help="a target as for generate: cluster within strata of difficulty, as many modes in each as asked"),
    ] = "",
    average: Annotated[int, Option(min=1, help="average-pool the latents by this factor before comparing them")] = 1,
    pipeline: Pipeline = "",
    classifier: Classifier = "",
    batch_size: BatchSize = 32,
    device: Device = "",
    trust_bin: TrustBin = False,
    overwrite: Annotated[bool, Option("--overwrite", help="replace the file")] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Clusters of real images, plain or by difficulty, for generate --modes.

    Examples:  dag-diffusion find-modes real_images/ modes.safetensors --per-class 10

    dag-diffusion find-modes real_images/ hard-modes.safetensors --per-class 10 --by-difficulty cliff
    """
    with user_errors():
        from dag_diffusion.data.pools import read_pool
        from dag_diffusion.generation.mode_search import find_pool_modes
        from dag_diffusion.sampling.target_parser import target_named

        if output.exists() and not overwrite:
            raise FileExistsError(f"{output} exists; give --overwrite to replace it")
        real = read_pool(images)
        loaded = load_pipeline(pipeline, classifier, device, use_safetensors=None if trust_bin else True)
        target = target_named(by_difficulty, real.class_names) if by_difficulty else None
        with counter("images", len(real), quiet) as progress:
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
        modes.save(output)
        print(f"{len(modes.labels)} modes of {len(modes.class_names)} classes in {output}")


def _reached(pool: "Pool") -> str:
    """How far a steered pool got, by its own guide."""
    pairs = [(row.get("target_difficulty"), row.get("difficulty")) for row in pool.rows]
    errors = [abs(target - found) for target, found in pairs if target is not None and found is not None]
    if not errors:
        return ""
    error = sum(errors) / len(errors)
    return f"; by the guide that steered, mean |d - d*| = {error:.3f}"
