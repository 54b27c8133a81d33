"""``dag-diffusion run``: a whole distillation."""

from pathlib import Path
from typing import Annotated

from typer import Option

from .console import loading, show_table, stages
from .launching import launch_several, processes_for
from .options import BatchSize, Device, ProcessesUnasked, Quiet
from .options.fields import Fields, Values

EXPERIMENT = [
    "ipc", "pool_factor", "network", "protocol", "seeds", "num_inference_steps", "guidance_scale", "mode_scale",
    "herding", "seed",
]  # fmt: skip
INPUTS = [
    "pipeline", "classifier", "evaluator", "precision", "trust_bin", "train", "test", "classes", "split", "size",
    "channels", "target", "reference",
]  # fmt: skip


def run(
    output: Annotated[Path, Option(help="folder for pools, sets and the report")] = Path("runs/first"),
    *,
    config: Annotated[Values, Fields("distillation:DistillationConfig", EXPERIMENT, "Experiment")],
    inputs: Annotated[Values, Fields("distillation_setup:DistillationInputs", INPUTS, "Models and images")],
    batch_size: BatchSize = 50,
    device: Device = None,
    num_processes: ProcessesUnasked = None,
    quiet: Quiet = False,
) -> None:
    """Run a distillation experiment.

    Two pools, DGS, trainings and a report, on the embedded default or your own models and images. DGS follows the
    difficulties of the real training images; mode guidance draws images to their modes, of which DGS keeps the easiest.
    --target sets what DGS follows and difficulty guidance steers to.

    Examples:  dag-diffusion run --output runs/first --ipc 10

    dag-diffusion run --config examples/imagewoof.yaml --train ILSVRC/train --test ILSVRC/val --output runs/woof
    """
    quiet = launch_several(processes_for(5 * config["seeds"], num_processes, device, quiet), quiet)
    with loading("libraries", quiet):
        from dag_diffusion.compared_sets import UNGUIDED
        from dag_diffusion.distillation import DistillationConfig, distill
        from dag_diffusion.distillation_setup import DistillationInputs
        from dag_diffusion.evaluation.tables import accuracy_table
        from dag_diffusion.loading import hide_loading_bars
        from dag_diffusion.processes import is_main_process, resolve_device
        from dag_diffusion.reporting.control import control_table

    hide_loading_bars()
    settings = DistillationConfig(**config, inputs=DistillationInputs(**inputs))
    with stages(quiet) as progress:
        result = distill(output, settings, device=resolve_device(device), batch_size=batch_size, progress=progress)
    if not is_main_process():
        return
    show_table(accuracy_table(result.results, baseline=UNGUIDED, note=result.note))
    if result.control:
        show_table(control_table(result.control))
    print(f"report: {result.report.absolute()}")
