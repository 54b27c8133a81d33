"""``dag-diffusion run``: a whole distillation.  See ``cli`` for what holds for all commands."""

from pathlib import Path
from typing import Annotated

from typer import Option

from dag_diffusion.loading import device_named, hide_loading_bars

from .console import show_table, stages, user_errors
from .options import Device, GuidanceScale, Ipc, Pipeline, PipelinePrecision, Quiet, Seed, Steps, Target, TrustBin


def run(
    output: Annotated[Path, Option(help="folder for pools, sets and the report")] = Path("runs/first"),
    ipc: Ipc = 10,
    pool_factor: Annotated[int, Option(min=1, help="pool size as a multiple of IPC")] = 5,
    pipeline: Pipeline = "",
    guide: Annotated[
        str, Option(help="classifier that scores, and steers to a target; default: the pipeline's own")
    ] = "",
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
    seeds: Annotated[int, Option(min=1, help="draws of each set, with a downstream training each")] = 3,
    num_inference_steps: Steps = None,
    guidance_scale: GuidanceScale = None,
    mode_scale: Annotated[float, Option(help="how strongly images are drawn to modes of the real ones")] = 0.2,
    batch_size: Annotated[int, Option(min=1, help="images at a time; halved where memory does not suffice")] = 50,
    precision: PipelinePrecision = "",
    trust_bin: TrustBin = False,
    device: Device = "",
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Run a distillation, on the embedded default or your own models and images: pools, DGS, training, test, report.

    DGS follows the difficulties of the real training images; DAG draws images to their modes, of which DGS keeps the
    easiest. --target sets what DGS follows and DAG steers to.

    Examples:  dag-diffusion run --output runs/first --ipc 10

    dag-diffusion run --config examples/imagewoof.yaml --train ILSVRC/train --test ILSVRC/val --output runs/woof
    """
    with user_errors():
        from dag_diffusion.distillation import UNGUIDED, DistillationConfig, distill
        from dag_diffusion.distillation_setup import DistillationInputs
        from dag_diffusion.evaluation.control import control_table
        from dag_diffusion.evaluation.tables import accuracy_table

        hide_loading_bars()
        inputs = DistillationInputs(
            pipeline=pipeline or None,
            guide=guide or None,
            evaluator=evaluator or None,
            train=train or None,
            test=test or None,
            classes=tuple(classes or ()),
            size=size or None,
            channels=channels or None,
            target=target or None,
            precision=precision or None,
            split=split or None,
            trust_bin=trust_bin,
        )
        config = DistillationConfig(
            ipc=ipc,
            pool_factor=pool_factor,
            network=network,
            protocol=protocol,
            seeds=seeds,
            seed=seed,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            mode_scale=mode_scale,
            inputs=inputs,
        )
        with stages(quiet) as progress:
            result = distill(output, config, device=device_named(device), batch_size=batch_size, progress=progress)
        show_table(accuracy_table(result.results, baseline=UNGUIDED, note=result.note))
        if result.control:
            show_table(control_table(result.control))
        print(f"report: {result.report.absolute()}")
