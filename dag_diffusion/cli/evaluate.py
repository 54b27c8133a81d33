"""``dag-diffusion evaluate``, ``redundancy`` and ``label``: trainings on sets, and a teacher's labels for them."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .console import importing, show_table, stages
from .launching import launch_several, processes_for
from .options import (
    FILES,
    MODELS,
    ClassMap,
    Device,
    FitAsTrained,
    NumProcesses,
    OnCanvas,
    Overwrite,
    PoolPath,
    ProcessesUnasked,
    Quiet,
    RealClassMap,
    Seed,
    SkipUnreadable,
)
from .options.fields import Fields, Values

TRAINING = {
    "networks": "network",
    "protocol": "protocol",
    "labels": "labels",
    "track_best": "track_best",
    "without_augmentation": "without_augmentation",
    "precision": "precision",
    "at_once": "at_once",
}


def evaluate(
    sets: Annotated[
        list[str],
        Argument(
            help="distilled sets, pools or real images; random:FOLDER draws anew for each seed, and sets of the same "
            "IPC are compared with it, or else with the first set"
        ),
    ],
    *,
    test: Annotated[Path | None, Option(help="real test images; default: Fashion-MNIST's 10,000")] = None,
    full: Annotated[Path | None, Option(help="all real training images, for DD-Ranking's hard-label recovery")] = None,
    ipc: Annotated[
        list[int] | None,
        Option(
            min=1, help="images per class that random:FOLDER draws; default: as in the sets; may be given several times"
        ),
    ] = None,
    size: Annotated[
        int | None, Option(min=1, help="pixels per side to resize to; default: as most test images")
    ] = None,
    class_map: RealClassMap = None,
    canvas: OnCanvas,
    fit: FitAsTrained = None,
    config: Annotated[Values, Fields("evaluation.runs:EvaluationConfig", TRAINING, "Training")],
    seeds: Annotated[int, Option(min=1, help="trainings of each set, paired by seed", rich_help_panel="Training")] = 5,
    seed: Seed = 0,
    device: Device = None,
    num_processes: ProcessesUnasked = None,
    output: Annotated[
        Path | None,
        Option(
            help="JSON file that gets every result at once, with CSV beside it; the same command goes on after a stop",
            rich_help_panel=FILES,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train on sets and test on real images.

    Examples:  dag-diffusion evaluate runs/first/set-paper runs/first/set-dgs --seeds 5

    dag-diffusion evaluate random:pool distilled --network convnet-3 --network resnet-ap-10 --output results.json
    """
    trainings = len(sets) * len(config["networks"]) * seeds
    quiet = launch_several(processes_for(trainings, num_processes, device, quiet), quiet)
    with importing(quiet):
        from dag_diffusion.data.canvas import canvas_for
        from dag_diffusion.data.class_names import read_class_map
        from dag_diffusion.evaluation.runs import EvaluationConfig, evaluate_folders
        from dag_diffusion.evaluation.sets import folders_of
        from dag_diffusion.evaluation.training import derived_seeds
        from dag_diffusion.processes import is_main_process, resolve_device

    networks = tuple(dict.fromkeys(config.pop("networks")))
    settings = EvaluationConfig(**config, networks=networks, seeds=derived_seeds(seed, seeds))
    settings = replace(settings, device=resolve_device(device))
    with stages(quiet) as progress:
        _, tables = evaluate_folders(
            sets,
            settings,
            test=test,
            full=full,
            ipc=ipc or (),
            size=size,
            class_map=None if class_map is None else read_class_map(class_map),
            canvas=canvas_for(fit, folders_of(sets), **canvas),
            output=output,
            progress=progress,
        )
    for table in tables if is_main_process() else []:
        show_table(table)


def label(
    pool: PoolPath,
    *,
    classifier: Annotated[
        str | None,
        Option(help="folder or Hub id of the teacher; default: the embedded guide", rich_help_panel=MODELS),
    ] = None,
    class_map: ClassMap = None,
    views: Annotated[
        int | None,
        Option(
            min=1,
            help="number of augmented views of the set to label, such as 400 for --protocol unified; default: each "
            "image once, unchanged",
            rich_help_panel="Views",
        ),
    ] = None,
    plan: Annotated[Values, Fields("evaluation.soft_labels.labelling:ViewPlan", ["top_k", "protocol"], "Views")],
    size: Annotated[
        int | None,
        Option(min=1, help="pixels a side of views; default: as most test images", rich_help_panel="Views"),
    ] = None,
    seed: Seed = 0,
    test: Annotated[
        Path | None,
        Option(help="real images to measure the teacher on; default: Fashion-MNIST's 10,000 where the classes are its"),
    ] = None,
    canvas: OnCanvas,
    fit: FitAsTrained = None,
    device: Device = None,
    num_processes: NumProcesses = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a teacher's soft labels beside a set.

    They are of each image, or of each of many views of it: its crops, flips and CutMix.

    Examples:  dag-diffusion label distilled

    dag-diffusion label distilled --classifier timm/resnet18.tv_in1k --views 400 --top-k 10 --test val --num-processes 2
    """
    quiet = launch_several(num_processes, quiet)
    with importing(quiet):
        from dag_diffusion.data.canvas import canvas_for
        from dag_diffusion.data.class_names import read_class_map
        from dag_diffusion.data.pools import read_pool
        from dag_diffusion.evaluation.soft_labels.labelling import ViewPlan, label_folder
        from dag_diffusion.loading import load_guide
        from dag_diffusion.processes import fail_together, is_main_process

    if views is None and plan["top_k"] is not None:
        raise ValueError(
            f"top_k={plan['top_k']} is of labels per view, since those of images are kept whole; add views=N"
        )
    with fail_together():
        images = read_pool(pool, canvas=canvas_for(fit, [str(pool)], **canvas))
        names = None if class_map is None else read_class_map(class_map)
        teacher = load_guide(classifier, device=device)
        wanted = None if views is None else ViewPlan(**plan, views=views, seed=seed)
    with stages(quiet) as progress:
        done = label_folder(
            images,
            teacher,
            classifier or "embedded guide",
            wanted,
            test=test,
            size=size,
            class_map=names,
            overwrite=overwrite,
            progress=progress,
        )
    if is_main_process():
        print(
            f"soft labels in {pool}: {done.told}, by {done.teacher.told}; {done.label_bytes / 1000:,.1f} kB beside "
            f"{done.image_bytes / 1000:,.1f} kB of images"
        )


def redundancy(
    sets: Annotated[
        list[str],
        Argument(help="distilled sets, pools or real images; random:FOLDER draws as many images a class as the first"),
    ],
    *,
    real: Annotated[
        Path | None, Option(help="real images to be covered; default: Fashion-MNIST's 10,000 test images")
    ] = None,
    classifier: Annotated[
        str | None,
        Option(
            help="folder or Hub id of a classifier whose features are compared; default: the embedded guide",
            rich_help_panel=MODELS,
        ),
    ] = None,
    ipc: Annotated[
        int | None, Option(min=1, help="images per class that random:FOLDER draws; default: as in the first other set")
    ] = None,
    class_map: RealClassMap = None,
    canvas: OnCanvas,
    fit: FitAsTrained = None,
    skip_unreadable: SkipUnreadable = False,
    measured: Annotated[
        Values, Fields("evaluation.redundancy.measuring:RedundancyConfig", ["parts", "neighbours", "seed"])
    ],
    config: Annotated[
        Values,
        Fields(
            "evaluation.redundancy.measuring:RedundancyConfig",
            ["network", "protocol", "seeds", "precision"],
            "Training",
        ),
    ],
    device: Device = None,
    num_processes: ProcessesUnasked = None,
    output: Annotated[
        Path | None,
        Option(
            help="JSON file of the record, for report --redundancy; the same command goes on after a stop",
            rich_help_panel=FILES,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Show what sets repeat and what they leave out.

    Each set is cut into disjoint parts; a network that is trained on one is tested on the others (cross accuracy).
    Precision, recall, density and coverage compare its features with those of real images, and copies are counted.

    Example: dag-diffusion redundancy distilled random:real --output redundancy.json
    """
    trainings = len(sets) * measured["parts"] * config["seeds"]
    quiet = launch_several(processes_for(trainings, num_processes, device, quiet), quiet)
    with importing(quiet):
        from dag_diffusion.data.canvas import canvas_for
        from dag_diffusion.data.class_names import read_class_map
        from dag_diffusion.evaluation.redundancy.measuring import RedundancyConfig, measure_redundancy
        from dag_diffusion.evaluation.redundancy.tables import class_table, fault_counts, redundancy_table
        from dag_diffusion.evaluation.sets import folders_of
        from dag_diffusion.loading import load_guide
        from dag_diffusion.processes import fail_together, is_main_process, resolve_device

    settings = RedundancyConfig(**measured, **config)
    with fail_together():
        settings = replace(settings, device=resolve_device(device))
        guide = load_guide(classifier, device=device)
    name = classifier or "embedded guide"
    with stages(quiet) as progress:
        found = measure_redundancy(
            sets,
            guide,
            settings,
            classifier_name=name,
            real=real,
            ipc=ipc,
            class_map=None if class_map is None else read_class_map(class_map),
            canvas=canvas_for(fit, folders_of(sets), **canvas),
            skip_unreadable=skip_unreadable,
            output=output,
            progress=progress,
        )
    if is_main_process():
        named = settings.settings() | {"real": real or "Fashion-MNIST's test images", "classifier": name}
        show_table(redundancy_table(found, named))
        show_table(fault_counts(found))
        show_table(class_table(found))
