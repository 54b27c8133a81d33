"""``dag-diffusion run``, a whole distillation, and ``distill``, one from a folder of images."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from .console import importing, show_table, stages
from .launching import launch_several, processes_for
from .options import FILES, MODELS, Base, BatchSize, Device, ProcessesUnasked, Quiet, Tuning, Vae
from .options.fields import Fields, Values

if TYPE_CHECKING:
    from dag_diffusion.own_images.planning.dry_run import Plan

logger = logging.getLogger(__name__)
EXPERIMENT = [
    "ipc", "pool_factor", "network", "protocol", "seeds", "num_inference_steps", "guidance_scale",
    "autoguidance_scale", "mode_scale", "rounds", "herding", "seed",
]  # fmt: skip
INPUTS = [
    "pipeline", "classifier", "evaluator", "weak", "precision", "trust_bin", "train", "test", "classes", "split", "fit",
    "trim", "size", "channels", "target", "reference", "among",
]  # fmt: skip
FOLDER_SIZES = ["ipc", "size", "minutes", "generator_steps", "classifier_steps", "folds", "pool_factor", "seed"]
FOLDER_IMAGES = [
    "test", "held_out", "classes", "background", "fit", "trim", "most", "least", "links", "skip_unreadable",
    "never_mirror",
]  # fmt: skip
FOLDER_MODELS = ["pipeline", "classifier", "evaluator", "weak", "balance"]
FOLDER_COMPARISON = ["network", "protocol", "seeds"]
FOLDER_DRAWING = ["num_inference_steps", "guidance_scale", "autoguidance_scale", "mode_scale", "rounds"]
FOLDER_INPUTS = ["target", "among", "precision", "trust_bin", "channels", "split"]
CONFIG_OF_RUN, INPUTS_OF_RUN = "distillation.config:DistillationConfig", "distillation.config:DistillationInputs"
FOLDER_CONFIG = "own_images.config:FolderConfig"


DryRun = Annotated[
    bool,
    Option(
        "--dry-run",
        help="check images, models, disk and memory, tell times and the commands for 1, 8 and 64 GPUs, and stop",
    ),
]


def run(
    output: Annotated[Path, Option(help="folder for pools, sets and the report")] = Path("runs/first"),
    *,
    dry_run: DryRun = False,
    config: Annotated[Values, Fields(CONFIG_OF_RUN, EXPERIMENT, "Experiment")],
    inputs: Annotated[Values, Fields(INPUTS_OF_RUN, INPUTS, "Models and images")],
    batch_size: BatchSize = 50,
    device: Device = None,
    num_processes: ProcessesUnasked = None,
    quiet: Quiet = False,
) -> None:
    """Run a distillation experiment.

    Two pools, DGS, trainings and a report, on the embedded default or your own models and images. DGS follows the
    difficulties of the real training images; mode guidance draws images to their modes, of which DGS keeps one each.
    --target sets what DGS follows and difficulty guidance steers to.

    Examples:  dag-diffusion run --output runs/first --ipc 10

    dag-diffusion run --config examples/imagewoof.yaml --train ILSVRC/train --test ILSVRC/val --output runs/woof
    """
    if dry_run:
        from dag_diffusion.distillation.config import DistillationConfig, DistillationInputs
        from dag_diffusion.own_images.planning.dry_run import plan_run

        planned = DistillationConfig(**config, inputs=DistillationInputs(**inputs))
        return _show_plan(plan_run(output, planned, batch_size=batch_size, command=_without_dry_run()))
    quiet = launch_several(processes_for(5 * config["seeds"], num_processes, device, quiet), quiet)
    with importing(quiet):
        from dag_diffusion.distillation.compared_sets import UNGUIDED
        from dag_diffusion.distillation.config import DistillationConfig, DistillationInputs
        from dag_diffusion.distillation.run import distill
        from dag_diffusion.evaluation.tables import accuracy_table
        from dag_diffusion.loading import hide_loading_bars
        from dag_diffusion.processes import is_main_process, resolve_device
        from dag_diffusion.reporting.control import control_table

    settings = DistillationConfig(**config, inputs=DistillationInputs(**inputs))
    hide_loading_bars()
    with stages(quiet) as progress:
        result = distill(output, settings, device=resolve_device(device), batch_size=batch_size, progress=progress)
    if not is_main_process():
        return
    show_table(accuracy_table(result.results, baseline=UNGUIDED, note=result.note))
    if result.control:
        show_table(control_table(result.control))
    print(f"report: {result.report.absolute()}")


def distill(
    folder: Annotated[
        Path | None, Argument(help="images: a folder for each class, or whatever score reads", show_default=False)
    ] = None,
    *,
    output: Annotated[Path, Option(help="new folder for the distilled set")],
    train: Annotated[
        Path | None, Option(help="the same as FOLDER, so that --config takes a file written for run")
    ] = None,
    sizes: Annotated[Values, Fields(FOLDER_CONFIG, FOLDER_SIZES, "Size and time")],
    images: Annotated[Values, Fields(FOLDER_CONFIG, FOLDER_IMAGES, "Images")],
    models: Annotated[Values, Fields(FOLDER_CONFIG, FOLDER_MODELS, MODELS)],
    vae: Vae,
    base: Base = None,
    tuning: Tuning,
    drawing: Annotated[Values, Fields(CONFIG_OF_RUN, FOLDER_DRAWING, "Drawing and choosing")],
    inputs: Annotated[Values, Fields(INPUTS_OF_RUN, FOLDER_INPUTS, "Drawing and choosing")],
    comparison: Annotated[Values, Fields(FOLDER_CONFIG, FOLDER_COMPARISON, "Comparison")],
    dry_run: DryRun = False,
    estimate: Annotated[
        bool, Option("--estimate", help="prepare the images, tell how long the rest will take, and stop")
    ] = False,
    work: Annotated[
        Path | None,
        Option(help="folder for models, pools and the report; default: OUTPUT-work", rich_help_panel=FILES),
    ] = None,
    batch_size: BatchSize = 50,
    device: Device = None,
    num_processes: ProcessesUnasked = None,
    quiet: Quiet = False,
) -> None:
    """Distil a folder of your own images.

    Trains what is not given: a guide, an evaluator, a generator, and a weak generator for autoguidance. Then draws
    pools, chooses the set, trains networks on it and on real images, and writes a report. First tells how long it will
    take here. The same command continues where it stopped.

    Example:  dag-diffusion distill my_images --ipc 10 --output my_set
    """
    images_in = folder or train
    if images_in is None or (folder is not None and train is not None):
        raise ValueError(
            "distill takes one folder of images: give FOLDER, or --train where a file of options for run names it"
        )
    given = {**sizes, **images, **models, **vae, **tuning, **drawing, **inputs, **comparison}
    if dry_run:
        from dag_diffusion.own_images.config import FolderConfig
        from dag_diffusion.own_images.distilling import plan_folder

        planned, command = FolderConfig(base=base, **given), _without_dry_run()
        return _show_plan(plan_folder(images_in, output, planned, work=work, batch_size=batch_size, command=command))
    quiet = launch_several(processes_for(6 * comparison["seeds"], num_processes, device, quiet), quiet)
    with importing(quiet):
        from dag_diffusion.distillation.compared_sets import GUIDED_DGS, UNGUIDED
        from dag_diffusion.evaluation.tables import accuracy_table
        from dag_diffusion.loading import hide_loading_bars
        from dag_diffusion.own_images.config import FolderConfig
        from dag_diffusion.own_images.distilling import distill_folder
        from dag_diffusion.processes import is_main_process, resolve_device

    config = FolderConfig(base=base, **given)
    hide_loading_bars()
    with stages(quiet) as progress:
        result = distill_folder(
            images_in,
            output,
            config,
            work=work,
            device=resolve_device(device),
            batch_size=batch_size,
            only_estimate=estimate,
            on_plan=show_table,
            progress=progress,
        )
    if result is None or not is_main_process():
        return
    found = result.distillation
    show_table(accuracy_table(found.results, baseline=UNGUIDED, note=found.note))
    show_table(result.minutes)
    print(f"set: {output.absolute()}, in the table {GUIDED_DGS!r}")
    print(f"report: {found.report.absolute()}")


def _without_dry_run() -> str:
    from dag_diffusion.reporting.reproduction import program_of, this_command

    return program_of(this_command(without="--dry-run"))


def _show_plan(plan: "Plan") -> None:
    from dag_diffusion.own_images.planning.commands import told

    for table in plan.tables:
        show_table(table)
    for warning in plan.warnings:
        logger.warning("%s", warning)
    print("\n".join(told(plan.commands)))
