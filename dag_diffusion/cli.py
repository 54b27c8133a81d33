"""``dag-diffusion COMMAND``: a thin, typed skin over the library.  A user's error is one line and exit code 2.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from .console import counter, show_table, stages, user_errors

if TYPE_CHECKING:
    from .pools import Pool
    from .targets import TargetDistribution

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
    help="Difficulty-aware dataset distillation: steer a diffusion model (DAG), then choose its best images (DGS).\n\n"
    "Start with: dag-diffusion run",
)

PoolPath = Annotated[Path, Argument(help="folder of class folders, with or without metadata.jsonl, or a .parquet file")]
Ipc = Annotated[int, Option(min=1, help="images per class in the final set")]
Seed = Annotated[int, Option(min=0, help="of every random choice")]
Quiet = Annotated[bool, Option("--quiet", help="no progress bars")]
Overwrite = Annotated[bool, Option("--overwrite", help="replace an earlier pool or set in the output folder")]
Pipeline = Annotated[str, Option(help="folder or Hub id of a DiT pipeline; default: the embedded one")]
Classifier = Annotated[str, Option(help="folder or Hub id of an image classifier; default: the pipeline's own guide")]
Target = Annotated[
    str,
    Option(
        help="'reference', a preset (hill, ground, slope, cliff), a number in [0, 1] where images are steered, ten "
        "numbers 'a,b,...,j' from easy to hard, or a scored folder of real images"
    ),
]
BatchSize = Annotated[int, Option(min=1, help="images at a time")]


@app.command()
def run(
    output: Annotated[Path, Option(help="folder for pools, sets and the report")] = Path("runs/first"),
    ipc: Ipc = 10,
    pool_factor: Annotated[int, Option(min=1, help="pool size as a multiple of IPC")] = 5,
    network: Annotated[str, Option(help="downstream network, such as convnet-3")] = "convnet-3",
    protocol: Annotated[str, Option(help="downstream training: quick or classic")] = "quick",
    seeds: Annotated[int, Option(min=1, help="downstream trainings of each set")] = 3,
    num_inference_steps: Annotated[int, Option(min=1, help="denoising steps")] = 20,
    guidance_scale: Annotated[float, Option(help="classifier-free guidance, on above 1")] = 1.5,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """The whole road on the embedded default: pools, DGS, training, real test images, report.

    Example: dag-diffusion run --output runs/first --ipc 10
    """
    with user_errors():
        from .distillation import RoadConfig, accuracy_table, control_table, distill

        _hide_loading_bars()
        config = RoadConfig(ipc, pool_factor, network, protocol, seeds, seed, num_inference_steps, guidance_scale)
        with stages(quiet) as progress:
            result = distill(output, config, progress=progress)
        for table in (accuracy_table(result.results), control_table(result.control)):
            show_table(table.title, table.columns, table.rows)
        print(f"report: {result.report.absolute()}")


@app.command()
def generate(
    output: Annotated[Path, Argument(help="folder of the pool")],
    images_per_class: Annotated[int, Option(min=1, help="pool size; the paper advises 5 x IPC")] = 50,
    target: Target | None = None,
    pipeline: Pipeline = "",
    classifier: Classifier = "",
    classes: Annotated[str, Option(help="class names or labels, separated by semicolons; default: all")] = "",
    num_inference_steps: Annotated[int, Option(min=1, help="denoising steps")] = 20,
    guidance_scale: Annotated[float, Option(help="classifier-free guidance, on above 1")] = 1.5,
    difficulty_guidance_scale: Annotated[float, Option(help="1 is the linearised hit of the target")] = 1.0,
    batch_size: BatchSize = 50,
    device: Annotated[str, Option(help="cpu, cuda, mps; default: what accelerate finds")] = "",
    trust_bin: Annotated[
        bool, Option("--trust-bin", help="read .bin weights of a pipeline without safetensors")
    ] = False,
    resume: Annotated[bool, Option("--resume", help="go on with an interrupted pool")] = False,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Generate a pool of images, steered toward a target difficulty if one is given.

    Examples:  dag-diffusion generate pool --images-per-class 50 --target reference

    accelerate launch -m dag_diffusion generate pool --pipeline facebook/DiT-XL-2-256
    --classifier timm/resnet50.tv_in1k --target 0.5 --classes "tench;church"
    """
    with user_errors():
        from .generation import PoolConfig, fill_pool
        from .guidance import GuidanceConfig
        from .pools import require_writable_target

        if not resume:
            require_writable_target(output, overwrite=overwrite)  # before the model is loaded, which may take minutes
        loaded = _load_pipeline(pipeline, classifier, device, use_safetensors=not trust_bin)
        config = PoolConfig(
            images_per_class=images_per_class,
            labels=_labels(loaded, classes),
            target=_target(target, loaded.class_names),
            seed=seed,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            difficulty_guidance=GuidanceConfig(scale=difficulty_guidance_scale),
        )
        total = images_per_class * len(config.labels or loaded.class_names)
        alone = _is_main_process()  # one bar and one line, however many processes
        with counter("images", total, quiet or not alone) as progress:
            pool = fill_pool(
                loaded,
                output,
                config,
                batch_size=batch_size,
                resume=resume,
                overwrite=overwrite,
                source=pipeline or "embedded default",
                progress=progress,
            )
        if alone:
            print(f"{len(pool)} images in {output}{_reached(pool)}")


@app.command()
def score(
    pool: PoolPath,
    classifier: Classifier = "",
    output: Annotated[Path | None, Option(help="JSON lines for the scores; default: POOL/metadata.jsonl")] = None,
    on_error: Annotated[str, Option(help="raise or skip at an unreadable image")] = "raise",
    batch_size: BatchSize = 256,
    quiet: Quiet = False,
) -> None:
    """Difficulty of every image of a folder, written to its metadata.

    Example: dag-diffusion score my_images/ --classifier timm/resnet50.tv_in1k
    """
    with user_errors():
        from .difficulty import score_pool
        from .pools import read_pool

        images = read_pool(pool)
        guide = _load_classifier(classifier)
        with counter("images", len(images), quiet) as progress:
            scores = score_pool(images, guide, batch_size=batch_size, on_error=on_error, progress=progress)
        written = _write_scores(images, scores.difficulties, output)
        print(f"{len(images) - len(scores.skipped)} difficulties in {written}, {len(scores.skipped)} files skipped")


@app.command()
def subsample(
    pool: PoolPath,
    output: Annotated[Path, Argument(help="folder of the distilled set")],
    ipc: Ipc = 10,
    target: Target = "reference",
    method: Annotated[str, Option(help="histogram (the paper's rule), random, easiest or hardest")] = "histogram",
    search: Annotated[str, Option(help="range of the threshold search: pool or ipc")] = "pool",
    overwrite: Overwrite = False,
    seed: Seed = 0,
) -> None:
    """Choose IPC images per class whose difficulties follow a target (DGS).

    Example: dag-diffusion subsample pool distilled --ipc 10 --target hill
    """
    with user_errors():
        from . import subsampling
        from .pools import read_pool, require_writable_target, write_distilled_set

        require_writable_target(output, overwrite=overwrite)
        images = read_pool(pool)
        wanted = _target(target, images.class_names) if method == "histogram" else None
        chosen = subsampling.subsample(images, ipc, target=wanted, method=method, seed=seed, search=search)
        settings = {"method": method, "ipc": ipc, "target": target, "search": search, "seed": seed}
        written = write_distilled_set(
            images,
            chosen.indices.tolist(),
            output,
            columns={"bin": chosen.bins.tolist()},
            provenance={"selection": settings},
            overwrite=overwrite,
        )
        missing = sum(sum(c.quotas) - sum(c.found) for c in chosen.classes.values())
        filled = f"; {missing} of them filled up at random, since their bins had too few" if missing else ""
        print(f"{len(written)} images in {output}{filled}")


@app.command()
def evaluate(
    sets: Annotated[list[Path], Argument(help="distilled sets, pools or real images; the first is the baseline")],
    test: Annotated[Path | None, Option(help="real test images; default: Fashion-MNIST's 10,000")] = None,
    network: Annotated[str, Option(help="convnet-DEPTH, or convnet-DEPTH-wWIDTH")] = "convnet-3",
    protocol: Annotated[str, Option(help="quick or classic")] = "classic",
    seeds: Annotated[int, Option(min=1, help="trainings of each set, paired by seed")] = 5,
    size: Annotated[int, Option(min=0, help="pixels a side to resize to; 0: as the first test image")] = 0,
    output: Annotated[Path | None, Option(help="JSON file for the results")] = None,
    quiet: Quiet = False,
) -> None:
    """Train a classifier on each set and test it on real images.

    Example: dag-diffusion evaluate runs/first/pool-unguided runs/first/set-dag-dgs --seeds 5
    """
    with user_errors():
        _evaluate(sets, test, network, protocol, seeds, size, output, quiet)


@app.command()
def report(
    pools: Annotated[list[Path], Argument(help="scored pools and distilled sets to show")],
    output: Annotated[Path, Option(help="HTML file")] = Path("report.html"),
    reference: Annotated[
        Path | None, Option(help="scored real images; default: Fashion-MNIST's training images")
    ] = None,
    title: Annotated[str, Option(help="of the page")] = "Difficulty report",
) -> None:
    """One HTML file with image grids by difficulty and difficulty histograms.

    Example: dag-diffusion report runs/first/pool-dag runs/first/set-dag-dgs --output report.html
    """
    with user_errors():
        from .pools import read_pool
        from .reporting import ReportedSet, write_report

        shown = [ReportedSet(path.name, read_pool(path)) for path in pools]
        is_set = ["selection" in s.pool.provenance for s in shown]
        written = write_report(
            output,
            title=title,
            reference=_reference(reference, shown[0].pool.class_names),
            pools=[s for s, chosen in zip(shown, is_set, strict=True) if not chosen],
            selected=[s for s, chosen in zip(shown, is_set, strict=True) if chosen],
            provenance={s.name: s.pool.provenance for s in shown},
        )
        print(f"report: {written.absolute()}")


def _hide_loading_bars() -> None:
    """Loading from disk takes a second and needs no bars; downloads keep theirs."""
    import diffusers
    import huggingface_hub.utils as hub
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    hub.enable_progress_bars()


def _load_pipeline(name: str, classifier: str, device: str, *, use_safetensors: bool) -> Any:
    from . import embedded
    from .pipelines.difficulty_guided import DifficultyGuidedPipeline

    _hide_loading_bars()
    options = {"use_safetensors": use_safetensors}
    if classifier:
        options["classifier"] = _load_classifier(classifier)
    try:
        pipeline = DifficultyGuidedPipeline.from_pretrained(name or embedded.PIPELINE, **options)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name} cannot be loaded as a DiT pipeline ({reason}); give its folder or Hub id") from error
    pipeline.set_progress_bar_config(disable=True)
    from accelerate import PartialState

    return pipeline.to(device or PartialState().device)


def _is_main_process() -> bool:
    from accelerate import PartialState

    return PartialState().is_main_process


def _load_classifier(name: str) -> Any:
    from . import embedded
    from .classifiers import load_classifier

    _hide_loading_bars()
    return load_classifier(name or embedded.PIPELINE / "classifier")


def _labels(pipeline: Any, classes: str) -> list[int] | None:
    if not classes:
        return None
    names = [name.strip() for name in classes.split(";") if name.strip()]
    return [int(name) if name.isdecimal() else pipeline.get_label_ids(name)[0] for name in names]


def _target(text: str | None, class_names: dict[int, str]) -> "TargetDistribution | None":
    from .targets import PRESETS, TargetDistribution

    if text is None:
        return None
    if text in PRESETS:
        return TargetDistribution.preset(text)
    if text == "reference" or Path(text).exists():
        path = None if text == "reference" else Path(text)
        return TargetDistribution.from_reference(_reference(path, class_names), name=text)
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        choices = ", ".join(["reference", *PRESETS])
        raise ValueError(
            f"--target {text!r} is no folder, number or preset; choose {choices}, 0.5, or ten numbers"
        ) from error
    if len(numbers) == 1:
        return TargetDistribution.constant(numbers[0])
    return TargetDistribution.histogram(numbers, name=text)


def _reference(path: Path | None, class_names: dict[int, str]) -> dict[str, Any]:
    """Difficulties of real images by class: a scored folder's, or those of the embedded training images."""
    from . import embedded
    from .classifiers import match_classes
    from .pools import read_pool

    if path is not None:
        pool = read_pool(path)
        return {name: pool.difficulties[pool.labels == label] for label, name in pool.class_names.items()}
    embedded_names = dict(enumerate(embedded.CLASS_NAMES))
    table = match_classes(class_names, embedded_names, "the embedded reference (Fashion-MNIST)")
    reference = embedded.training_difficulties(embedded_names)
    return {name: reference[embedded_names[table[label]]] for label, name in class_names.items()}


def _reached(pool: "Pool") -> str:
    """How far a steered pool got, by its own guide."""
    pairs = [(r["target_difficulty"], r["difficulty"]) for r in pool.rows if r.get("target_difficulty") is not None]
    if not pairs:
        return ""
    error = sum(abs(wanted - measured) for wanted, measured in pairs) / len(pairs)
    return f"; by the guide that steered, mean |d - d*| = {error:.3f}"


def _write_scores(pool: "Pool", difficulties: Any, output: Path | None) -> Path:
    from .pools import METADATA, json_lines, write_atomically

    path = output or pool.path / METADATA
    if output is None and pool.encoded is not None:
        raise ValueError(f"{pool.path} is one parquet file; say where the scores go with --output scores.jsonl")
    rows = [row | {"difficulty": float(d)} for row, d in zip(pool.rows, difficulties, strict=True) if d == d]
    write_atomically(path, json_lines(rows))
    return path


def _evaluate(
    sets: list[Path],
    test: Path | None,
    network: str,
    protocol: str,
    seeds: int,
    size: int,
    output: Path | None,
    quiet: bool,
) -> None:
    from dataclasses import asdict

    from . import embedded
    from .evaluation import evaluate, load_labelled_images
    from .pools import read_pool, write_atomically
    from .training import PROTOCOLS

    if protocol not in PROTOCOLS:
        raise ValueError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    tests = read_pool(test or embedded.TEST)
    first = tests.open(0)
    options = {"size": (size, size) if size else first.size[::-1], "channels": 1 if first.mode == "L" else 3}
    real = load_labelled_images(tests, **options)
    names = [path.name for path in sets] if len({path.name for path in sets}) == len(sets) else [str(p) for p in sets]
    loaded = {
        name: load_labelled_images(read_pool(path), **options, class_names=real.class_names)
        for name, path in zip(names, sets, strict=True)
    }
    with counter("trainings", len(loaded) * seeds, quiet) as progress:
        results = evaluate(
            loaded,
            real,
            network=network,
            protocol=PROTOCOLS[protocol],
            seeds=range(seeds),
            on_result=lambda result: progress(1),
        )
    _show_results(results, names[0])
    if output is not None:
        write_atomically(output, (json.dumps([asdict(r) for r in results], indent=2) + "\n").encode())


def _show_results(results: list[Any], baseline: str) -> None:
    from .distillation import accuracy_table

    table = accuracy_table(results, baseline=baseline)
    show_table(table.title, table.columns, table.rows)


def main() -> None:
    """Entry point of ``dag-diffusion``."""
    app()


if __name__ == "__main__":
    main()
