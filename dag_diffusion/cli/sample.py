"""``dag-diffusion score``, ``subsample`` and ``show-target``: DGS."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from .console import counted, importing, stages
from .launching import launch_several
from .options import (
    FILES,
    MODELS,
    SPEED,
    ClassMap,
    Device,
    FitAsTrained,
    Ipc,
    NumProcesses,
    OfClasses,
    OnCanvas,
    Overwrite,
    PoolPath,
    Precision,
    Quiet,
    ScoresPath,
    Seed,
    Target,
)
from .options.fields import Fields, Values

if TYPE_CHECKING:
    from dag_diffusion.data.pools import Pool
    from dag_diffusion.sampling.selection import SelectionRule
    from dag_diffusion.sampling.subsampling import PoolSelection
    from dag_diffusion.sampling.targets import TargetDistribution

logger = logging.getLogger(__name__)
EMBEDDED_GUIDE = ("embedded guide", "classifier of embedded default")  # as scores and pools record it
RULE = "sampling.selection:SelectionRule"
RULE_OPTIONS = ["search", "clipping", "scale", "diversity", "tolerance", "evenly", "correct_only", "hard_from"]


def score(
    pool: PoolPath,
    classifier: Annotated[
        list[str] | None,
        Option(
            help="folder or Hub id of an image classifier, may be given several times: their measures are averaged; "
            "default: the embedded guide",
            rich_help_panel=MODELS,
        ),
    ] = None,
    measure: Annotated[
        str, Option(help="error_probability (the paper's, 1 - p of the class), rival_margin, entropy or el2n")
    ] = "error_probability",
    among: OfClasses = "all",
    class_map: ClassMap = None,
    output: Annotated[Path | None, Option(help="JSON lines for the scores; default: POOL/metadata.jsonl")] = None,
    *,
    canvas: OnCanvas,
    fit: FitAsTrained = None,
    on_error: Annotated[str, Option(help="raise or skip at an unreadable image")] = "raise",
    batch_size: Annotated[
        int | None, Option(min=1, help="images at a time; default: what is fast here", rich_help_panel=SPEED)
    ] = None,
    precision: Precision = None,
    device: Device = None,
    num_processes: NumProcesses = 1,
    quiet: Quiet = False,
) -> None:
    """Measure the difficulty of every image.

    It is written to the metadata of the folder.  Images that are unchanged are not scored again.

    Examples:  dag-diffusion score my_images/ --classifier timm/resnet50.tv_in1k

    dag-diffusion score my_images/ --classifier timm/resnet50.tv_in1k --classifier timm/regnety_016.tv2_in1k
    --measure rival_margin --class-map names.json --output scores.jsonl --num-processes 2
    """
    from dag_diffusion.processes import fail_together, is_main_process

    quiet = launch_several(num_processes, quiet)
    with importing(quiet):
        from dag_diffusion.data.canvas import canvas_for
        from dag_diffusion.data.class_names import read_class_map
        from dag_diffusion.data.images import offering
        from dag_diffusion.data.pools import read_pool
        from dag_diffusion.difficulty import as_among, as_measure
        from dag_diffusion.loading import as_dtype, embedded_named, load_guide
        from dag_diffusion.sampling.score_cache import score_and_record
        from dag_diffusion.sampling.scoring import as_on_error

    with fail_together():
        images = read_pool(pool, canvas=canvas_for(fit, classifier or [], **canvas))
        names, dtype = None if class_map is None else read_class_map(class_map), as_dtype(precision)
        given: list[str | None] = [*classifier] if classifier else [None]
        guides = {embedded_named(name): load_guide(name, device=device) for name in given}
        measured, of_classes, unreadable = as_measure(measure), as_among(among), as_on_error(on_error)
    with stages(quiet) as progress, offering("or leave it out by --on-error skip"):
        done = score_and_record(
            images,
            guides,
            output,
            measure=measured,
            among=of_classes,
            batch_size=batch_size,
            on_error=unreadable,
            class_map=names,
            dtype=dtype,
            progress=progress,
        )
    if is_main_process():
        print(
            f"{done.scored + done.cached} difficulties in {done.path}: {done.scored} scored, "
            f"{done.cached} from the cache, {len(done.skipped)} files skipped"
        )


def subsample(
    pool: PoolPath,
    output: Annotated[Path, Argument(help="folder of the distilled set")],
    *,
    ipc: Annotated[
        list[int], Option(min=1, help="images per class; given several times: nested sets in OUTPUT/ipc-N")
    ] = [10],  # noqa: B006 - typer copies it
    target: Target = None,
    method: Annotated[Values, Fields(RULE, ["method"])],
    seed: Seed = 0,
    rule: Annotated[Values, Fields(RULE, RULE_OPTIONS, "Selection rule")],
    rounds: Annotated[
        int | None,
        Option(
            min=1,
            help="with --method easiest --evenly mode, of a pool drawn to --ipc modes: choose in so many rounds, such "
            "as 5; of the modes of later rounds what networks trained on earlier ones have yet to learn",
            rich_help_panel="Selection rule",
        ),
    ] = None,
    classifier: Annotated[
        str | None,
        Option(help="whose features k-center and the like use; default: the embedded guide", rich_help_panel=MODELS),
    ] = None,
    canvas: OnCanvas,
    fit: FitAsTrained = None,
    device: Device = None,
    class_map: ClassMap = None,
    scores: ScoresPath = None,
    skip_unscored: Annotated[bool, Option("--skip-unscored", help="leave out images without difficulty")] = False,
    files: Annotated[str, Option(help="copy, link (hard links) or list (no images)", rich_help_panel=FILES)] = "copy",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Choose images whose difficulties follow a target.

    This is difficulty-guided sampling (DGS): IPC images per class become a distilled set.

    Examples:  dag-diffusion subsample pool distilled --ipc 10 --target hill

    dag-diffusion subsample pool sets --ipc 10 --ipc 50 --method matching --diversity k-center --files link
    """
    from dag_diffusion.data.canvas import canvas_for
    from dag_diffusion.data.class_names import read_class_map
    from dag_diffusion.data.distilled_sets import as_files
    from dag_diffusion.data.pools import read_pool
    from dag_diffusion.sampling.selection import SelectionRule
    from dag_diffusion.sampling.subsampling import subsample as choose

    selection = SelectionRule(**method, **rule)
    if rounds is not None:
        _require_rule_of_rounds(selection, ipc)
    folders = _folders_of_sets(pool, output, ipc, overwrite=overwrite)
    images = read_pool(pool, scores=scores, canvas=canvas_for(fit, [classifier], **canvas))
    names = None if class_map is None else read_class_map(class_map)
    wanted = _target_of(target, images, names, needed=selection.needs_target)
    if rounds is not None:
        chosen = {ipc[0]: _in_rounds(images, ipc[0], rounds, wanted, selection, skip_unscored, seed, device, quiet)}
    else:
        chosen = choose(
            images,
            list(folders),
            target=wanted,
            method=selection,
            features=_features(images, classifier, device, skip_unscored, quiet) if selection.needs_features else None,
            skip_unscored=skip_unscored,
            seed=seed,
        )
    for size, one in chosen.items():
        written = one.save(folders[size], files=as_files(files), overwrite=overwrite)
        print(f"{counted(len(written), 'image')} in {folders[size]}{_distance_text(one)}")


def show_target(
    target: Annotated[str, Argument(help="as for subsample")],
    pool: Annotated[Path, Option(help="scored pool that images are chosen from")],
    output: Annotated[Path, Option(help="PNG file")] = Path("target.png"),
    ipc: Ipc = 10,
    scores: ScoresPath = None,
    class_map: ClassMap = None,
) -> None:
    """Draw a target beside what a pool offers.

    Example: dag-diffusion show-target "0.7*reference + 0.3*hill" --pool pool --output target.png
    """
    from dag_diffusion.data.class_names import read_class_map
    from dag_diffusion.data.distilled_sets import require_apart
    from dag_diffusion.data.pools import read_pool
    from dag_diffusion.reporting.difficulty_figures import require_figure_place, save_target_png

    require_apart(pool, output)
    require_figure_place(output)
    images = read_pool(pool, scores=scores)
    wanted = _target_of(target, images, None if class_map is None else read_class_map(class_map), needed=True)
    assert wanted is not None  # it was needed
    written = save_target_png(output, wanted, images, ipc=ipc)
    print(f"figure: {written.absolute()}")


def _folders_of_sets(pool: Path, output: Path, sizes: list[int], *, overwrite: bool) -> dict[int, Path]:
    """A folder for each number of images per class, checked before anything is read."""
    from dag_diffusion.data.distilled_sets import require_apart
    from dag_diffusion.data.pools import PROVENANCE, require_writable_target

    different = sorted(set(sizes))
    folders = {size: output if len(different) == 1 else output / f"ipc-{size}" for size in different}
    for folder in folders.values():
        require_apart(pool, folder)
        require_writable_target(folder, overwrite=overwrite)
    if len(folders) > 1 and (output / PROVENANCE).exists():
        raise FileExistsError(f"{output} is itself a pool; choose a new folder for nested sets")
    return folders


def _target_of(text: str | None, images: "Pool", class_map: Any, *, needed: bool) -> "TargetDistribution | None":
    """The target that was asked for; else the reference, which a baseline does without where it does not fit."""
    from dag_diffusion.sampling.references import measured_by
    from dag_diffusion.sampling.target_parser import as_target

    if text is None and not needed and any(row.get("difficulty") is None for row in images.rows):
        return None
    try:
        by = measured_by(images)
        return as_target(text or "reference", images.class_names, class_map=class_map, scored_by=by)
    except ValueError:
        if needed or text is not None:
            raise
        return None


def _require_rule_of_rounds(rule: "SelectionRule", ipc: list[int]) -> None:
    if rule.method != "easiest" or rule.evenly is None or rule.correct_only:
        raise ValueError("--rounds goes with --method easiest --evenly mode alone; give both, or leave --rounds out")
    if len(set(ipc)) > 1:
        raise ValueError("--rounds chooses one set, whose pool has as many modes; give one --ipc")


def _in_rounds(
    images: "Pool",
    ipc: int,
    rounds: int,
    target: "TargetDistribution | None",
    rule: "SelectionRule",
    skip_unscored: bool,
    seed: int,
    device: str | None,
    quiet: bool,
) -> "PoolSelection":
    with importing(quiet):
        from dag_diffusion.distillation.learnable import subsample_in_rounds

    assert rule.evenly is not None
    with stages(quiet) as progress:
        return subsample_in_rounds(
            images,
            ipc,
            rounds=rounds,
            evenly=rule.evenly,
            target=target,
            skip_unscored=skip_unscored,
            seed=seed,
            device=device,
            progress=progress,
        )


def _features(images: "Pool", classifier: str | None, device: str | None, skip: bool, quiet: bool) -> Any:
    """Input of a classifier's last layer for each image, ``(images, dim)``."""
    from dag_diffusion.data.images import offering
    from dag_diffusion.identity import digest_of
    from dag_diffusion.loading import load_guide
    from dag_diffusion.sampling.references import scored_by_another
    from dag_diffusion.sampling.scoring import score_pool

    guide = load_guide(classifier, device=device)
    if classifier is None and (others := scored_by_another(images, EMBEDDED_GUIDE, digest_of(guide))):
        logger.warning(
            "%s was scored by %s, but features are those of the embedded guide; give --classifier, the one that scored",
            images.path,
            others,
        )
    with stages(quiet) as progress, offering("or leave it out by --skip-unscored"):
        # entropy asks for no class, so that a classifier of other classes can tell images apart too
        return score_pool(
            images, guide, measure="entropy", on_error="skip" if skip else "raise", features=True, progress=progress
        ).features


def _distance_text(chosen: "PoolSelection") -> str:
    """Distance of a selection to its target, and what had to be filled up."""
    from dag_diffusion.sampling.rules.rule import FILLED

    near, missing = "", int((chosen.bins == FILLED).sum()) if any(one.quotas for one in chosen.classes.values()) else 0
    if chosen.distance is not None:
        floor = sum(one.floor or 0.0 for one in chosen.classes.values()) / len(chosen.classes)
        near = f"; Wasserstein-1 to the target {chosen.distance:.4f} ({floor:.4f} is the least so few can have)"
    filled = f"; {missing} of them filled up at random, since their bins had too few" if missing else ""
    return near + filled
