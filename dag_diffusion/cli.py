"""``dag-diffusion COMMAND``: a thin, typed skin over the library.  A user's error is one line and exit code 2.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Exit, Option

from .cli_options import (
    BatchSize,
    Classes,
    Classifier,
    ClassMap,
    Device,
    GuidanceScale,
    Ipc,
    Overwrite,
    Pipeline,
    PipelinePrecision,
    PoolPath,
    Precision,
    Quiet,
    ScoresPath,
    Seed,
    Steps,
    Target,
    TrustBin,
)
from .configs import add_config_options
from .console import counter, show_table, stages, status_lines, user_errors
from .inputs import (
    device_named,
    features_of,
    hide_loading_bars,
    labels_named,
    load_guide,
    load_pipeline,
    target_of,
)
from .processes import leave

if TYPE_CHECKING:
    from .evaluation_runs import EvaluationConfig
    from .pools import Pool
    from .subsampling import PoolSelection

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
    help="Difficulty-aware dataset distillation: steer a diffusion model (DAG), then choose its best images (DGS).\n\n"
    "Start with: dag-diffusion run",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from . import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, Option("--version", callback=_show_version, is_eager=True, help="show the version and stop")
    ] = False,
) -> None:
    """What holds for every command; the help of the application stands above."""


@app.command()
def run(
    output: Annotated[Path, Option(help="folder for pools, sets and the report")] = Path("runs/first"),
    ipc: Ipc = 10,
    pool_factor: Annotated[int, Option(min=1, help="pool size as a multiple of IPC")] = 5,
    pipeline: Pipeline = "",
    guide: Annotated[str, Option(help="classifier that steers and scores; default: the pipeline's own")] = "",
    evaluator: Annotated[
        str, Option(help="classifier of another family that only measures; default: the embedded one")
    ] = "",
    train: Annotated[str, Option(help="real training images, such as train/n01440764/*.JPEG; default: embedded")] = "",
    test: Annotated[str, Option(help="real test images, such as val/n01440764/*.JPEG; default: embedded")] = "",
    classes: Annotated[
        list[str] | None,
        Option(help="class name, ImageNet synset or label, or several with semicolons; may be given several times"),
    ] = None,
    split: Annotated[str, Option(help="which split the test images are, for the record: ilsvrc or fastai")] = "",
    size: Annotated[
        int, Option(min=0, help="pixels a side for the downstream network; 0: as the pipeline draws them")
    ] = 0,
    channels: Annotated[int, Option(min=0, help="1 (grey) or 3; 0: as the test images have them")] = 0,
    target: Target = None,
    network: Annotated[str, Option(help="downstream network, such as convnet-3 or resnet-ap-10")] = "convnet-3",
    protocol: Annotated[
        str, Option(help="downstream training: quick, classic or another that evaluate knows")
    ] = "quick",
    seeds: Annotated[int, Option(min=1, help="downstream trainings of each set")] = 3,
    num_inference_steps: Steps = 20,
    guidance_scale: GuidanceScale = 1.5,
    mode_scale: Annotated[float, Option(help="how strongly images are drawn to modes of the real ones")] = 0.2,
    batch_size: Annotated[int, Option(min=1, help="images at a time; halved where memory does not suffice")] = 50,
    precision: PipelinePrecision = "",
    trust_bin: TrustBin = False,
    device: Device = "",
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """The whole road, on the embedded default or your own models and images: pools, DGS, training, test, report.

    DGS follows the difficulties of the real training images, DAG draws easy images to their modes; --target sets both.

    Examples:  dag-diffusion run --output runs/first --ipc 10

    dag-diffusion run --config examples/imagewoof.yaml --train ILSVRC/train --test ILSVRC/val --output runs/woof
    """
    with user_errors():
        from .distillation import RoadConfig, accuracy_table, distill
        from .road_inputs import RoadInputs
        from .road_pools import UNGUIDED, control_table

        hide_loading_bars()
        inputs = RoadInputs(
            pipeline, guide, evaluator, train, test, tuple(classes or ()), size, channels, target or "", precision,
            split, trust_bin,
        )  # fmt: skip
        config = RoadConfig(
            ipc, pool_factor, network, protocol, seeds, seed, num_inference_steps, guidance_scale, mode_scale, inputs
        )
        with stages(quiet) as progress:
            result = distill(output, config, device=device_named(device), batch_size=batch_size, progress=progress)
        show_table(accuracy_table(result.results, baseline=UNGUIDED, note=result.note))
        show_table(control_table(result.control))
        print(f"report: {result.report.absolute()}")


@app.command()
def generate(
    output: Annotated[Path, Argument(help="folder of the pool")],
    images_per_class: Annotated[int, Option(min=1, help="pool size; the paper advises 5 x IPC")] = 50,
    target: Target = None,
    pipeline: Pipeline = "",
    classifier: Classifier = "",
    classes: Classes = "",
    num_inference_steps: Steps = 20,
    guidance_scale: GuidanceScale = 1.5,
    difficulty_guidance_scale: Annotated[float, Option(help="1 is the linearised hit of the target")] = 1.0,
    guidance: Annotated[
        list[str] | None,
        Option(help="NAME=VALUE of GuidanceConfig, such as recurrence=2; may be given several times"),
    ] = None,
    probe: Annotated[str, Option(help="folder or Hub id of a probe, or 'none'; default: the pipeline's own")] = "",
    extra_guide: Annotated[
        list[str] | None,
        Option(help="another classifier that steers where the decoder is asked; may be given several times"),
    ] = None,
    reference_classifier: Annotated[
        str, Option(help="a classifier by which hard images should stay members of their class")
    ] = "",
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
        from .pools import require_writable_target
        from .processes import in_step, is_started, launch, speaks

        if not resume and speaks():
            require_writable_target(output, overwrite=overwrite)  # before the model is loaded, which may take minutes
        if num_processes > 1 and not is_started():
            raise Exit(launch(num_processes, sys.argv[1:]))

        from .acceleration import speed_up
        from .generation import fill_pool
        from .inputs import guidance_named, load_guides, mode_guidance_named, modes_named, precision_named
        from .plans import PoolConfig
        from .target_texts import target_named
        from .tracking import require_trackers, tracked

        curves = Path(f"{output.resolve()}-curves")
        with in_step():
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
                modes=None if modes is None else modes_named(modes, loaded.class_names),
                mode_guidance=mode_guidance_named(mode_scale, mode_window, modes_by_size),
            )
            others: dict[str, Any] = {
                "extra_guides": load_guides(extra_guide or [], device, dtype),
                "reference_classifier": load_guide(reference_classifier, device, dtype)
                if reference_classifier
                else None,
            }
            speed_up(loaded, compiled=compiled, channels_last=channels_last, vae_slicing=vae_slicing, xformers=xformers)
        with (
            stages(quiet or not speaks()) as progress,
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
                **others,
                progress=tell,
            )
        if speaks():
            print(f"{len(pool)} images in {output}{_reached(pool)}")


@app.command()
def status(
    pool: Annotated[Path, Argument(help="folder of a pool that generate has begun")],
    verify: Annotated[bool, Option("--verify", help="also check every image; exit code 2 if one is damaged")] = False,
) -> None:
    """How far a pool is, how fast it grows, and whether its images are whole.

    Example: dag-diffusion status pool --verify
    """
    with user_errors():
        from .pool_status import pool_status

        found = pool_status(pool, verify=verify)
        for line in status_lines(found):
            print(line)
        if found.damaged:
            raise ValueError(
                f"{len(found.damaged)} images of {pool} are damaged ({found.damaged[0]}, ...); give its `generate` "
                "command again with --resume to draw them again"
            )


@app.command()
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
    num_inference_steps: Steps = 20,
    guidance_scale: GuidanceScale = 1.5,
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
        from . import probes
        from .inputs import load_guides

        probes.require_no_other_files(output, overwrite=overwrite)
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
        probes.save_probe(probe, output)
        print(
            f"probe in {output}; on runs that it has not seen, mean |d - d of the guides| = "
            f"{fidelity.difficulty_error:.3f}, rank correlation of the margins {fidelity.correlation:.2f}"
        )


@app.command()
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
        from .inputs import modes_found
        from .pools import read_pool
        from .target_texts import target_named

        if output.exists() and not overwrite:
            raise FileExistsError(f"{output} exists; give --overwrite to replace it")
        real = read_pool(images)
        loaded = load_pipeline(pipeline, classifier, device, use_safetensors=None if trust_bin else True)
        target = target_named(by_difficulty, real.class_names) if by_difficulty else None
        with counter("images", len(real), quiet) as progress:
            modes = modes_found(
                loaded, real, per_class, target, average=average, seed=seed, batch_size=batch_size, progress=progress
            )
        modes.save(output)
        print(f"{len(modes.labels)} modes of {len(modes.class_names)} classes in {output}")


@app.command()
def score(
    pool: PoolPath,
    classifier: Annotated[
        list[str] | None,
        Option(
            help="folder or Hub id of an image classifier, may be given several times: their measures are averaged; "
            "default: the embedded guide"
        ),
    ] = None,
    measure: Annotated[
        str, Option(help="confidence (the paper's, 1 - p of the class), margin, entropy or el2n")
    ] = "confidence",
    class_map: ClassMap = None,
    output: Annotated[Path | None, Option(help="JSON lines for the scores; default: POOL/metadata.jsonl")] = None,
    on_error: Annotated[str, Option(help="raise or skip at an unreadable image")] = "raise",
    batch_size: Annotated[int | None, Option(min=1, help="images at a time; default: what is fast here")] = None,
    precision: Precision = "",
    device: Device = "",
    quiet: Quiet = False,
) -> None:
    """Difficulty of every image of a folder, written to its metadata.  Images that are unchanged are not scored again.

    Examples:  dag-diffusion score my_images/ --classifier timm/resnet50.tv_in1k

    dag-diffusion score my_images/ --classifier timm/resnet50.tv_in1k --classifier timm/regnety_016.tv2_in1k
    --measure margin --class-map names.json --output scores.jsonl
    """
    with user_errors():
        from .class_names import read_class_map
        from .inputs import load_guides, precision_named
        from .pools import read_pool
        from .score_cache import score_and_record

        images, names = read_pool(pool), classifier or [""]
        options: dict[str, Any] = {
            "measure": measure,
            "batch_size": batch_size,
            "on_error": on_error,
            "class_map": None if class_map is None else read_class_map(class_map),
            "dtype": precision_named(precision),
        }
        guides = {name or "embedded guide": g for name, g in zip(names, load_guides(names, device), strict=True)}
        with counter("images", len(images), quiet) as progress:
            done = score_and_record(images, guides, output, progress=progress, **options)
        print(
            f"{done.scored + done.cached} difficulties in {done.path}: {done.scored} scored, "
            f"{done.cached} from the cache, {len(done.skipped)} files skipped"
        )


@app.command()
def subsample(
    pool: PoolPath,
    output: Annotated[Path, Argument(help="folder of the distilled set")],
    ipc: Annotated[
        list[int], Option(min=1, help="images per class; given several times: nested sets in OUTPUT/ipc-N")
    ] = [10],  # noqa: B006 - typer copies it
    target: Target = None,
    method: Annotated[
        str,
        Option(
            help="matching (nearest in Wasserstein-1) and histogram (the paper's rule) follow the target, by default "
            "the reference; to compare with: random, easiest, hardest, k-center, herding"
        ),
    ] = "matching",
    search: Annotated[str, Option(help="range of histogram's threshold search: pool or ipc")] = "pool",
    clipping: Annotated[
        str, Option(help="histogram: clip the reference by the pool's counts, as the paper does, or by its values")
    ] = "counts",
    scale: Annotated[str, Option(help="of the ten bins: log, as the paper's, or raw")] = "log",
    diversity: Annotated[
        str, Option(help="matching: exchange nearly equal images by k-center, determinantal or random")
    ] = "",
    tolerance: Annotated[float, Option(help="what nearly equal means, in difficulty")] = 0.01,
    evenly: Annotated[
        str, Option(help="column of the metadata, such as mode, of whose values equally many images are chosen")
    ] = "",
    files: Annotated[str, Option(help="copy, link (hard links) or list (no images)")] = "copy",
    classifier: Annotated[
        str, Option(help="whose features k-center and the like use; default: the embedded guide")
    ] = "",
    class_map: ClassMap = None,
    scores: ScoresPath = None,
    skip_unscored: Annotated[bool, Option("--skip-unscored", help="leave out images without difficulty")] = False,
    device: Device = "",
    overwrite: Overwrite = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Choose IPC images per class whose difficulties follow a target (DGS).

    Examples:  dag-diffusion subsample pool distilled --ipc 10 --target hill

    dag-diffusion subsample pool sets --ipc 10 --ipc 50 --method matching --diversity k-center --files link
    """
    with user_errors():
        from .class_names import read_class_map
        from .distilled_sets import require_apart, write_distilled_set
        from .pools import PROVENANCE, read_pool, require_writable_target
        from .selection import BY_TARGET, SelectionRule
        from .subsampling import subsample as choose

        rule = SelectionRule(method, search, clipping, scale, diversity, tolerance, evenly)
        folders = {n: output if len(set(ipc)) == 1 else output / f"ipc-{n}" for n in sorted(set(ipc))}
        for folder in folders.values():
            require_apart(pool, folder)
            require_writable_target(folder, overwrite=overwrite)
        if len(folders) > 1 and (output / PROVENANCE).exists():
            raise FileExistsError(f"{output} is itself a pool; choose a new folder for nested sets")
        images, names = read_pool(pool, scores=scores), None if class_map is None else read_class_map(class_map)
        wanted = target_of(target, images, names, needed=rule.method in BY_TARGET)
        options: dict[str, Any] = {"target": wanted, "method": rule, "seed": seed}
        if rule.needs_features:
            with counter("features", len(images), quiet) as progress:
                options["features"] = features_of(images, classifier, device, skip=skip_unscored, progress=progress)
        for n, chosen in choose(images, list(folders), **options, skip_unscored=skip_unscored).items():
            written = write_distilled_set(
                images,
                chosen.indices.tolist(),
                folders[n],
                columns=chosen.columns,
                provenance={"selection": chosen.record},
                overwrite=overwrite,
                files=files,
            )
            print(f"{len(written)} images in {folders[n]}{_how_near(chosen)}")


@app.command()
def show_target(
    target: Annotated[str, Argument(help="as for subsample")],
    pool: Annotated[Path, Option(help="scored pool that shall follow it")],
    output: Annotated[Path, Option(help="PNG file")] = Path("target.png"),
    ipc: Ipc = 10,
    scores: ScoresPath = None,
    class_map: ClassMap = None,
) -> None:
    """Draw a target beside what a pool offers, before images are chosen by it.

    Example: dag-diffusion show-target "0.7*reference + 0.3*hill" --pool pool --output target.png
    """
    with user_errors():
        from .class_names import read_class_map
        from .distilled_sets import require_apart
        from .pools import read_pool
        from .reporting import save_target_png

        require_apart(pool, output)
        images = read_pool(pool, scores=scores)
        wanted = target_of(target, images, None if class_map is None else read_class_map(class_map), needed=True)
        assert wanted is not None  # needed
        written = save_target_png(output, wanted, images, ipc=ipc)
        print(f"figure: {written.absolute()}")


@app.command()
def evaluate(
    sets: Annotated[
        list[str],
        Argument(
            help="distilled sets, pools or real images; random:FOLDER draws from one anew for each seed, and is what "
            "sets of its IPC are compared with; without it the first set is"
        ),
    ],
    test: Annotated[Path | None, Option(help="real test images; default: Fashion-MNIST's 10,000")] = None,
    network: Annotated[
        list[str] | None,
        Option(
            help="convnet-3, convnet-6-w64, resnet-18, resnet-ap-10, timm/NAME, ...; may be given several times; "
            "default: convnet-3"
        ),
    ] = None,
    ipc: Annotated[
        list[int] | None,
        Option(min=1, help="at which random:FOLDER is drawn, may be given several times; default: that of the sets"),
    ] = None,
    protocol: Annotated[str, Option(help="classic, hard-label or quick")] = "classic",
    seeds: Annotated[int, Option(min=1, help="trainings of each set, paired by seed")] = 5,
    labels: Annotated[
        str, Option(help="hard, or soft for those that a teacher has written into every set; never in one table")
    ] = "hard",
    looks: Annotated[
        bool, Option("--looks", help="also test while training and tell the best epoch, as papers do; slow")
    ] = False,
    full: Annotated[Path | None, Option(help="all real training images, for DD-Ranking's hard-label recovery")] = None,
    without_augmentation: Annotated[
        bool, Option("--without-augmentation", help="train a second time without, for the augmentation-robust score")
    ] = False,
    size: Annotated[int, Option(min=0, help="pixels a side to resize to; 0: as the first test image")] = 0,
    output: Annotated[
        Path | None, Option(help="JSON file for every result at once, and CSV beside it; given again, it goes on")
    ] = None,
    device: Device = "",
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Train classifiers on each set and test them on real images.

    Examples:  dag-diffusion evaluate runs/first/set-paper runs/first/set-dgs --seeds 5

    dag-diffusion evaluate random:pool distilled --network convnet-3 --network resnet-ap-10 --output results.json
    """
    with user_errors():
        from .evaluation_runs import EvaluationConfig
        from .training import PROTOCOLS, derived_seeds

        if protocol not in PROTOCOLS:
            raise ValueError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
        config = EvaluationConfig(
            PROTOCOLS[protocol],
            networks=list(dict.fromkeys(network or ["convnet-3"])),
            seeds=derived_seeds(seed, seeds),
            labels=labels,
            looks=looks,
            without_augmentation=without_augmentation,
            device=device_named(device),
        )
        _evaluate(sets, config, test, full, ipc or [], size, output, quiet)


@app.command()
def report(
    pools: Annotated[list[Path], Argument(help="scored pools and distilled sets to show")],
    output: Annotated[Path, Option(help="HTML file")] = Path("report.html"),
    reference: Annotated[
        Path | None,
        Option(help="scored real images; default: Fashion-MNIST's training images, where the classes are its"),
    ] = None,
    title: Annotated[str, Option(help="of the page")] = "Difficulty report",
    target: Annotated[
        str, Option(help="drawn over the histograms, as for subsample; default: what the sets or pools record")
    ] = "",
    results: Annotated[
        list[Path] | None,
        Option(help="JSON file of evaluate or run, for accuracies and curves; may be given several times"),
    ] = None,
    baseline: Annotated[
        str, Option(help="set of the results that others are compared with; default: the random draw of their IPC")
    ] = "",
) -> None:
    """One HTML file: accuracies, difficulty histograms, quotas, image grids by difficulty, commands to repeat it.

    Examples:  dag-diffusion report runs/first/pool-dag runs/first/set-dag-dgs --output report.html

    dag-diffusion report pool distilled --results results.json
    """
    with user_errors():
        from .folder_reports import report_folders

        written = report_folders(
            pools,
            output,
            title=title,
            reference=reference,
            target=target,
            results=results or [],
            baseline=baseline,
        )
        print(f"report: {written.absolute()}")


@app.command("app")
def serve(
    pipeline: Pipeline = "",
    classifier: Classifier = "",
    evaluator: Annotated[
        str, Option(help="classifier that only measures; default: with the embedded pipeline the embedded one")
    ] = "",
    num_inference_steps: Steps = 20,
    guidance_scale: GuidanceScale = 1.5,
    host: Annotated[str, Option(help="address to listen at; 0.0.0.0 lets other machines in")] = "127.0.0.1",
    port: Annotated[int, Option(min=1, max=65535, help="of the page, on this machine")] = 7860,
    share: Annotated[bool, Option("--share", help="also a public address, by a tunnel of gradio's makers")] = False,
    precision: PipelinePrecision = "",
    trust_bin: TrustBin = False,
    device: Device = "",
) -> None:
    """A page to play with: class, difficulty and guidance scale, and the images with what was measured.

    Example: dag-diffusion app --port 7860
    """
    with user_errors():
        from . import embedded
        from .app import build_app, launch, require_gradio
        from .inputs import precision_named

        require_gradio()  # before the model is loaded, which may take minutes
        dtype, judge = precision_named(precision), evaluator or ("" if pipeline else str(embedded.EVALUATOR))
        loaded = load_pipeline(pipeline, classifier, device, use_safetensors=None if trust_bin else True, dtype=dtype)
        page = build_app(
            loaded,
            evaluator=load_guide(judge, device, dtype) if judge else None,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
        )
        print(f"app: {launch(page, host=host, port=port, share=share)} (Ctrl+C stops it)", flush=True)
        page.block_thread()


@app.command()
def push(
    source: Annotated[Path, Argument(help="folder of a pool, a distilled set or a pipeline")],
    repo: Annotated[str, Argument(help="OWNER/NAME on the Hub, made if need be")],
    private: Annotated[bool, Option("--private", help="visible to its owner alone")] = False,
    license: Annotated[str, Option(help="for the card, such as cc-by-4.0")] = "",
    title: Annotated[str, Option(help="of the card; default: the folder's name")] = "",
    dry_run: Annotated[Path | None, Option(help="new folder for all that would be sent; the Hub is not asked")] = None,
    replace_card: Annotated[
        bool, Option("--replace-card", help="also overwrite a card that somebody has edited on the Hub")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Share a pool, a distilled set or a pipeline on the Hub, with a card; given again it goes on.

    Log in once with `hf auth login`.  Examples:  dag-diffusion push distilled me/fashion-10 --private

    dag-diffusion push dit-with-guide me/guided-dit --license apache-2.0 --dry-run look-at-it-first
    """
    with user_errors():
        from .hub import hide_bars
        from .hub import push as share

        hide_bars(quiet)

        shared = share(
            source, repo, private=private, license=license, title=title, dry_run=dry_run, replace_card=replace_card
        )
        print(f"{shared.kind} {shared.repo}: {shared.files} files, {shared.place}")


@app.command()
def pull(
    repo: Annotated[str, Argument(help="OWNER/NAME on the Hub")],
    folder: Annotated[Path, Argument(help="new folder")],
    revision: Annotated[str, Option(help="branch, tag or commit; default: the newest")] = "",
    repo_type: Annotated[str, Option(help="dataset or model; default: whichever there is")] = "",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a pool, a distilled set or a pipeline from the Hub as a folder that every command reads.

    Example: dag-diffusion pull me/fashion-10 distilled
    """
    with user_errors():
        from .hub import hide_bars
        from .hub_pull import pull as fetch

        hide_bars(quiet)

        shared = fetch(repo, folder, revision=revision or None, repo_type=repo_type, overwrite=overwrite)
        print(f"{shared.kind} {shared.repo}: {shared.files} files in {shared.place}")


def _how_near(chosen: "PoolSelection") -> str:
    """What a person wants to know of a selection: distance to the target, and what had to be filled up."""
    from .selection import FILLED

    near, missing = "", int((chosen.bins == FILLED).sum()) if any(one.quotas for one in chosen.classes.values()) else 0
    if chosen.distance is not None:
        floor = sum(one.floor or 0.0 for one in chosen.classes.values()) / len(chosen.classes)
        near = f"; Wasserstein-1 to the target {chosen.distance:.4f} ({floor:.4f} is the least so few can have)"
    filled = f"; {missing} of them filled up at random, since their bins had too few" if missing else ""
    return near + filled


def _reached(pool: "Pool") -> str:
    """How far a steered pool got, by its own guide."""
    pairs = [(r["target_difficulty"], r["difficulty"]) for r in pool.rows if r.get("target_difficulty") is not None]
    if not pairs:
        return ""
    error = sum(abs(wanted - measured) for wanted, measured in pairs) / len(pairs)
    return f"; by the guide that steered, mean |d - d*| = {error:.3f}"


def _evaluate(
    sets: list[str],
    config: "EvaluationConfig",
    test: Path | None,
    full: Path | None,
    ipc: list[int],
    size: int,
    output: Path | None,
    quiet: bool,
) -> None:
    from . import embedded
    from .compared_sets import load_compared_sets, load_images
    from .evaluation_runs import run_evaluation
    from .labelled_images import load_labelled_images
    from .pools import read_pool

    tests = read_pool(test or embedded.TEST)
    first = tests.open(0)
    height_and_width = (size, size) if size else (first.height, first.width)
    real = load_labelled_images(tests, size=height_and_width, channels=1 if first.mode == "L" else 3)
    compared = load_compared_sets(sets, real, ipc=ipc, soft_labels=config.labels == "soft")
    everything = {} if full is None else {f"all of {full.name}": load_images(full, real)}
    name = f"{len(real):,} of {test.name if test else 'Fashion-MNIST'}"
    with counter("trainings", config.trainings(len(compared.sources), bool(everything)), quiet) as progress:
        _, tables = run_evaluation(
            compared, real, config, test_name=name, full=everything, output=output, progress=progress
        )
    for table in tables:
        show_table(table)


add_config_options(app)


def main() -> None:
    """Entry point of ``dag-diffusion``.  A wrong option too is one line and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for a wrong option, whichever version
            raise
        typer.echo(f"error: {' '.join(error.format_message().split())}; --help shows what there is", err=True)
        code = 2
    finally:
        leave()
    raise SystemExit(code)


if __name__ == "__main__":
    main()
