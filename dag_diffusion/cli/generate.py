"""``dag-diffusion generate`` and ``status``: pools."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from .console import counted, importing, loading, stages, status_lines
from .launching import launch_several, processes_to_draw
from .options import (
    FILES,
    MODELS,
    SPEED,
    BatchSize,
    Classes,
    Classifier,
    Device,
    LogWith,
    Overwrite,
    Pipeline,
    PipelinePrecision,
    ProcessesUnasked,
    Quiet,
    Target,
    TrustBin,
)
from .options.fields import Fields, Values
from .options.texts import GUIDANCE, classes_listed, mode_window_named, parse_call, parse_guidance, parse_interval

if TYPE_CHECKING:
    from dag_diffusion.data.pools import Pool

STEERING, MODES, SETS = "Difficulty guidance", "Mode guidance", "Images as a set"  # groups in the help
PROMPTS, REPAIR = "Prompts", "Repair"
SPEED_UPS = {
    "compiled": "compile",
    "channels_last": "channels_last",
    "vae_slicing": "vae_slicing",
    "xformers": "xformers",
}


def generate(
    output: Annotated[Path, Argument(help="folder of the pool")],
    *,
    config: Annotated[
        Values,
        Fields(
            "generation.plan:PoolConfig",
            ["images_per_class", "num_inference_steps", "guidance_scale", "autoguidance_scale", "seed"],
        ),
    ],
    target: Target = None,
    classes: Classes = None,
    pipeline: Pipeline = None,
    classifier: Classifier = None,
    probe: Annotated[
        str | None,
        Option(help="folder or Hub id of a probe, or 'none'; default: the pipeline's own", rich_help_panel=MODELS),
    ] = None,
    weak: Annotated[
        str | None,
        Option(
            help="folder or Hub id of a pipeline with the same VAE and classes, smaller or less trained, for "
            "--autoguidance-scale; default: the pipeline's own weak denoiser",
            rich_help_panel=MODELS,
        ),
    ] = None,
    extra_guide: Annotated[
        list[str] | None,
        Option(
            help="another classifier that steers where images are decoded; may be given several times",
            rich_help_panel=MODELS,
        ),
    ] = None,
    trust_bin: TrustBin = False,
    prompt: Annotated[
        list[str] | None,
        Option(
            help="a text with {class}, or a JSON file {class: prompts}, for a text-to-image pipeline; may be given "
            "several times, then the images of a class take them in turn",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    negative_prompt: Annotated[
        str | None, Option(help="what the images should not show", rich_help_panel=PROMPTS)
    ] = None,
    call: Annotated[
        list[str] | None,
        Option(
            help="NAME=VALUE of the text-to-image pipeline's own call, such as height=512; may be given several times",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    steering: Annotated[Values, Fields(GUIDANCE, {"scale": "difficulty_guidance_scale", "among": "among"}, STEERING)],
    guidance: Annotated[
        list[str] | None,
        Option(
            help="NAME=VALUE of GuidanceConfig, such as every=2; may be given several times", rich_help_panel=STEERING
        ),
    ] = None,
    modes: Annotated[
        Path | None,
        Option(help="file of find-modes; images are drawn to its modes in turn", rich_help_panel=MODES),
    ] = None,
    mode_guidance: Annotated[
        Values,
        Fields("guidance.mode_guidance:ModeGuidance", {"scale": "mode_scale", "proportional": "modes_by_size"}, MODES),
    ],
    guidance_interval: Annotated[
        str | None,
        Option(
            help="START,STOP of classifier-free guidance as fractions of the steps; those outside cost half; default: "
            "the pipeline's own, 0,1 if it has none"
        ),
    ] = None,
    mode_window: Annotated[
        str | None,
        Option(help="mgd3, igd or lgd, as published; default: the first half of the steps", rich_help_panel=MODES),
    ] = None,
    grouping: Annotated[Values, Fields("generation.plan:PoolConfig", ["group_size", "noise_candidates"], SETS)],
    diversity: Annotated[Values, Fields("guidance.diversity_guidance:DiversityGuidance", {"scale": "diversity"}, SETS)],
    repair: Annotated[
        list[str] | None,
        Option(
            help="images to draw again with their next seeds, once all are there: empty, duplicate, near (nearly like "
            "another), wrong (of another class, as the guide finds) or all; may be given several times; with --resume "
            "also in a finished pool",
            rich_help_panel=REPAIR,
        ),
    ] = None,
    repairing: Annotated[Values, Fields("generation.repairing.repair:Repair", ["most_redraws", "nearness"], REPAIR)],
    batch_size: BatchSize = 50,
    precision: PipelinePrecision = None,
    device: Device = None,
    num_processes: ProcessesUnasked = None,
    faster: Annotated[Values, Fields("acceleration:speed_up", SPEED_UPS, SPEED)],
    resume: Annotated[
        bool, Option("--resume", help="check what is there and go on with an interrupted pool", rich_help_panel=FILES)
    ] = False,
    overwrite: Overwrite = False,
    log_with: LogWith = None,
    quiet: Quiet = False,
) -> None:
    """Generate a pool of images.

    With --target they are steered to difficulties, with --modes drawn to modes of real images, with --prompt drawn by a
    text-to-image pipeline.

    Examples:  dag-diffusion generate pool --images-per-class 50 --target reference --num-processes 2

    accelerate launch -m dag_diffusion generate pool --pipeline facebook/DiT-XL-2-256 --precision bfloat16
    --classifier timm/resnet50.tv_in1k --target 0.5 --classes "tench;church" --resume
    """
    from dag_diffusion.data.pools import require_place_for_pool
    from dag_diffusion.processes import fail_together, is_main_process

    _check_prompts(prompt, negative_prompt, call, pipeline, {"--probe": probe, "--weak": weak})
    if weak is not None and (config.get("autoguidance_scale") or 1) <= 1:
        raise ValueError("--weak draws nothing by itself; give --autoguidance-scale above 1 with it, such as 1.5")
    if repair and not (resume or overwrite) and (output / "pool.json").exists():
        raise ValueError(f"{output} already holds a pool; give --resume to repair it, or choose another folder")
    if not resume and is_main_process():
        require_place_for_pool(output, overwrite=overwrite)  # before the model is loaded, which may take minutes
    images = config["images_per_class"] * len(classes_listed(classes) or range(10))  # as many as the default knows
    models = [pipeline, classifier, weak, probe, *(extra_guide or [])]
    quiet = launch_several(processes_to_draw(images, batch_size, models, num_processes, device, quiet), quiet)

    from dataclasses import replace

    with importing(quiet):
        from dag_diffusion.acceleration import speed_up
        from dag_diffusion.generation.drawing.prompts import as_prompts
        from dag_diffusion.generation.drawing.steerable import SteerablePipeline
        from dag_diffusion.generation.filling import fill_pool
        from dag_diffusion.generation.modes import load_modes
        from dag_diffusion.generation.plan import PoolConfig, networks_precision
        from dag_diffusion.generation.repairing.repair import Repair
        from dag_diffusion.generation.tracking import require_trackers, tracked
        from dag_diffusion.guidance.diversity_guidance import DiversityGuidance
        from dag_diffusion.guidance.mode_guidance import ModeGuidance
        from dag_diffusion.loading import labels_of, load_guide, load_pipeline, load_text_pipeline

    curves = Path(f"{output.resolve()}-curves")
    with fail_together():
        require_trackers(log_with or [])
        mended = Repair(faults=repair, **repairing) if repair else None
        settings = PoolConfig(
            **config,
            **grouping,
            diversity=DiversityGuidance(**diversity),
            difficulty_guidance=parse_guidance(guidance or [], **steering),
            mode_guidance=ModeGuidance(**mode_guidance, **mode_window_named(mode_window)),
            guidance_interval=None if guidance_interval is None else parse_interval(guidance_interval),
            precision=networks_precision(precision),
            prompts=as_prompts(prompt, negative_prompt) if prompt else None,
        )
        extra = [load_guide(name, device=device, dtype=precision) for name in extra_guide or []]
        loaded: Any
        if settings.prompts is not None and pipeline is not None:
            drawn_by = load_text_pipeline(pipeline, device=device, dtype=precision, trust_bin=trust_bin)
            speed_up(drawn_by, **faster)
            guide = None if classifier is None else load_guide(classifier, device=device)
            names = classes_listed(classes) or settings.prompts.class_names
            loaded, extra = SteerablePipeline(drawn_by, guide, names, parse_call(call or []), tuple(extra)), []
        else:
            loaded = load_pipeline(
                pipeline,
                classifier=classifier,
                probe=probe,
                weak=weak,
                device=device,
                dtype=precision,
                trust_bin=trust_bin,
            )
            speed_up(loaded, **faster)
            settings = replace(settings, labels=labels_of(loaded, classes))
        settings = replace(
            settings, target=target, modes=None if modes is None else load_modes(modes, loaded.class_names)
        )
    with (
        stages(quiet) as progress,
        tracked(log_with or [], curves, {"pool": str(output), "command": shlex.join(sys.argv)}) as track,
    ):

        def advance(stage: str, done: int, total: int) -> None:
            progress(stage, done, total)
            track(stage, done, total)

        pool = fill_pool(
            loaded,
            output,
            settings,
            batch_size=batch_size,
            resume=resume,
            overwrite=overwrite,
            source=pipeline or "embedded default",
            extra_guides=extra,
            repair=mended,
            progress=advance,
        )
    if is_main_process():
        print(f"{counted(len(pool), 'image')} in {output}{_control(pool)}{_redrawn(pool)}")


def status(
    pool: Annotated[Path, Argument(help="folder of a pool that generate has begun; with --verify also of a set")],
    verify: Annotated[
        bool, Option("--verify", help="also check every image; exit code 2 if one is damaged or empty")
    ] = False,
    classifier: Annotated[
        str | None,
        Option(
            help="folder or Hub id of a classifier, or 'embedded', by which --verify also finds near copies and images "
            "of another class",
            rich_help_panel=MODELS,
        ),
    ] = None,
    record: Annotated[
        bool, Option("--record", help="keep the numbers that --verify finds in pool.json, for report and card")
    ] = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Show the progress of a pool, and its bad images.

    How many images there are, how fast they come and when the last came.  With --verify, whether they are whole, empty
    (black, or all of one colour) or equal to others; with --classifier also which are nearly alike or of another class.

    Example: dag-diffusion status pool --verify --classifier embedded
    """
    if record and not verify:
        raise ValueError("--record keeps what --verify finds; give --verify with it, or leave it out")

    from dag_diffusion.generation.pool_state import pool_status, record_faults

    guide = None
    if classifier is not None:
        with loading("classifier", quiet):
            from dag_diffusion.loading import load_guide

            guide = load_guide(classifier, device=device)
    with stages(quiet or not verify) as progress:
        found = pool_status(pool, verify=verify, classifier=guide, name=classifier, progress=progress)
    for line in status_lines(found):
        print(line)
    if record and found.faults is not None:
        record_faults(pool, found.faults)
    if found.damaged:
        raise ValueError(
            f"{pool} has {counted(len(found.damaged), 'damaged image')}, first {found.damaged[0]}; give its `generate` "
            "command again with --resume to draw what is damaged again"
        )
    if found.faults is not None and (empty := found.faults.of("empty")):
        raise ValueError(
            f"{pool} has {counted(len(empty), 'empty image')}, first {empty[0]}; give its `generate` command again "
            "with --resume --repair empty to draw what is empty again"
        )


def _check_prompts(
    prompt: Sequence[str] | None,
    negative_prompt: str | None,
    call: Sequence[str] | None,
    pipeline: str | None,
    ours: Mapping[str, str | None],
) -> None:
    if not prompt and (negative_prompt is not None or call):
        raise ValueError("--negative-prompt and --call are for text-to-image pipelines; give --prompt with them")
    if prompt and pipeline is None:
        raise ValueError("--prompt is for a text-to-image pipeline; give the folder or Hub id of one by --pipeline")
    for option, given in ours.items():
        if prompt and given not in (None, "none"):
            raise ValueError(f"{option} is of our own pipeline alone; leave it out with --prompt")


def _redrawn(pool: "Pool") -> str:
    """How many images were drawn again, and which no further seed has mended."""
    found = sum(bool(row.get("redrawn")) for row in pool.rows)
    names = [row["file_name"] for row in pool.rows if row.get("fault")]
    told = f"; {found} were drawn again" if found else ""
    return f"{told}; {len(names)} are given up ({', '.join(names[:3])}, ...)" if names else told


def _control(pool: "Pool") -> str:
    """How near a steered pool came to its targets, by its own guide."""
    pairs = [(row.get("target_difficulty"), row.get("difficulty")) for row in pool.rows]
    errors = [abs(target - found) for target, found in pairs if target is not None and found is not None]
    return f"; by the guide that steered, mean |d - d*| = {sum(errors) / len(errors):.3f}" if errors else ""
