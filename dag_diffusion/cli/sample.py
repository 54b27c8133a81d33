"""``dag-diffusion score``, ``subsample`` and ``show-target``: DGS."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from .console import counter, user_errors
from .inputs import features_of, target_of
from .options import ClassMap, Device, Ipc, Overwrite, PoolPath, Precision, Quiet, ScoresPath, Seed, Target

if TYPE_CHECKING:
    from dag_diffusion.sampling.subsampling import PoolSelection


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
        from dag_diffusion.data.class_names import read_class_map
        from dag_diffusion.data.pools import read_pool
        from dag_diffusion.loading import load_guides, precision_named
        from dag_diffusion.sampling.score_cache import score_and_record

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
        from dag_diffusion.data.class_names import read_class_map
        from dag_diffusion.data.distilled_sets import require_apart, write_distilled_set
        from dag_diffusion.data.pools import PROVENANCE, read_pool, require_writable_target
        from dag_diffusion.sampling.selection import SelectionRule
        from dag_diffusion.sampling.subsampling import subsample as choose

        rule = SelectionRule(
            method,
            search=search,
            clipping=clipping,
            scale=scale,
            diversity=diversity or None,
            tolerance=tolerance,
            evenly=evenly or None,
        )
        folders = {n: output if len(set(ipc)) == 1 else output / f"ipc-{n}" for n in sorted(set(ipc))}
        for folder in folders.values():
            require_apart(pool, folder)
            require_writable_target(folder, overwrite=overwrite)
        if len(folders) > 1 and (output / PROVENANCE).exists():
            raise FileExistsError(f"{output} is itself a pool; choose a new folder for nested sets")
        images, names = read_pool(pool, scores=scores), None if class_map is None else read_class_map(class_map)
        wanted = target_of(target, images, names, needed=rule.needs_target)
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
        from dag_diffusion.data.class_names import read_class_map
        from dag_diffusion.data.distilled_sets import require_apart
        from dag_diffusion.data.pools import read_pool
        from dag_diffusion.reporting.difficulty_figures import save_target_png

        require_apart(pool, output)
        images = read_pool(pool, scores=scores)
        wanted = target_of(target, images, None if class_map is None else read_class_map(class_map), needed=True)
        assert wanted is not None  # needed
        written = save_target_png(output, wanted, images, ipc=ipc)
        print(f"figure: {written.absolute()}")


def _how_near(chosen: "PoolSelection") -> str:
    """What a person wants to know of a selection: distance to the target, and what had to be filled up."""
    from dag_diffusion.sampling.rules import FILLED

    near, missing = "", int((chosen.bins == FILLED).sum()) if any(one.quotas for one in chosen.classes.values()) else 0
    if chosen.distance is not None:
        floor = sum(one.floor or 0.0 for one in chosen.classes.values()) / len(chosen.classes)
        near = f"; Wasserstein-1 to the target {chosen.distance:.4f} ({floor:.4f} is the least so few can have)"
    filled = f"; {missing} of them filled up at random, since their bins had too few" if missing else ""
    return near + filled
