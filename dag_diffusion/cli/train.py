"""``dag-diffusion train``: a generator of one's own images."""

from pathlib import Path
from typing import Annotated

from typer import Option

from .console import importing, stages
from .launching import launch_several
from .options import (
    FILES,
    MODELS,
    SPEED,
    Base,
    Classes,
    Device,
    FitUnasked,
    LogWith,
    NumProcesses,
    Overwrite,
    PoolPath,
    Quiet,
    ToPrepare,
    Tuning,
    Vae,
)
from .options.fields import Fields, Values

TRAINING = "Training"  # group in the help
OBJECTIVE = {
    "prediction": "prediction",
    "snr_gamma": "snr_gamma",
    "kind": "objective",
    "representativeness": "representativeness",
    "diversity": "diversity",
    "memory": "minimax_memory",
    "sparsity": "sparsity",
}
CONFIG = "training.generators.settings:GeneratorConfig"


def train(
    images: PoolPath,
    *,
    output: Annotated[Path, Option(help="folder of the pipeline")],
    kind: Annotated[Values, Fields(CONFIG, ["size", "channels", "flip", "seed"])],
    classes: Classes = None,
    to_prepare: ToPrepare,
    fit: FitUnasked = None,
    vae: Vae,
    model: Annotated[Values, Fields(CONFIG, ["width", "depth"], MODELS)],
    config: Annotated[
        Values,
        Fields(
            CONFIG,
            [
                "steps",
                "vae_steps",
                "batch_size",
                "learning_rate",
                "weight_decay",
                "average_width",
                "label_dropout",
                "guidance_scale",
                "sample_grids",
            ],
            TRAINING,
        ),
    ],
    objective: Annotated[Values, Fields("training.objectives:Objective", OBJECTIVE, TRAINING)],
    base: Base = None,
    tuning: Tuning,
    speed: Annotated[Values, Fields(CONFIG, ["precision", "accumulation", "gradient_checkpointing"], SPEED)],
    files: Annotated[Values, Fields(CONFIG, ["checkpoint_seconds"], FILES)],
    device: Device = None,
    num_processes: NumProcesses = 1,
    overwrite: Overwrite = False,
    log_with: LogWith = None,
    quiet: Quiet = False,
) -> None:
    """Train a generator on your own images.

    Losses and pictures of samples come into OUTPUT.training as it goes.  A run that was stopped goes on with the same
    command.

    Examples: dag-diffusion train my_images/ --output my_generator --size 32 --flip

    dag-diffusion train my_images/ --output my_generator --from facebook/DiT-XL-2-256 --tune difffit
    """
    from dag_diffusion.processes import fail_together, is_main_process

    quiet = launch_several(num_processes, quiet)
    with importing(quiet):
        from dag_diffusion.data.distilled_sets import require_apart
        from dag_diffusion.data.files import read_json_object
        from dag_diffusion.data.preparing.prepared import prepare
        from dag_diffusion.generation.tracking import require_trackers
        from dag_diffusion.training.checkpoints import removed_unless_begun, work_folder
        from dag_diffusion.training.fine_tuning import FineTuningConfig
        from dag_diffusion.training.generators.settings import GeneratorConfig
        from dag_diffusion.training.generators.training import RECORD, require_target, train_generator
        from dag_diffusion.training.objectives import Objective

    with fail_together():
        settings = GeneratorConfig(**kind, **vae, **model, **config, **speed, **files)
        asked, fine_tuning = Objective(**objective), FineTuningConfig(base=base, **tuning)
        require_trackers(log_with or [])
        if is_main_process():
            require_target(output)  # before the images are looked at, which may take minutes
            require_apart(images, output)
    with stages(quiet) as progress, removed_unless_begun(work_folder(output), RECORD):
        own = prepare(
            images,
            classes=classes,
            fit=fit,
            **to_prepare,
            seed=settings.seed,
            cache=work_folder(output),
            progress=progress,
        )
        pipeline = train_generator(
            own.pool,
            output,
            settings,
            objective=asked,
            fine_tuning=fine_tuning,
            trackers=log_with or [],
            device=device,
            overwrite=overwrite,
            progress=progress,
        )
    if is_main_process():
        made = read_json_object(output / RECORD)
        blur, kept = made["reconstruction_error"], made.get("fine_tuning", {}).get("kept", [])
        if kept:
            print(
                f"{base} knew {', '.join(kept)}; {'this class' if len(kept) == 1 else 'these classes'} began as there"
            )
        print(
            f"generator of {len(pipeline.class_names)} classes in {output}; its autoencoder changes a pixel by "
            f"{blur:.1f} of 255 on average; losses and samples in {work_folder(output)}"
        )
