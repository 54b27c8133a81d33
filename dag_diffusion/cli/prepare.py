"""``dag-diffusion train-classifier``, ``train-probe`` and ``find-modes``: what guidance needs beforehand."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from .console import importing, stages
from .launching import launch_several
from .options import (
    MODELS,
    AnyPipeline,
    BatchSize,
    Classes,
    Classifier,
    Device,
    FitAsTrained,
    FitUnasked,
    NumProcesses,
    OnCanvas,
    Overwrite,
    Pipeline,
    PoolPath,
    Quiet,
    Seed,
    ToPrepare,
    TrustBin,
)
from .options.fields import Fields, Values

if TYPE_CHECKING:
    from dag_diffusion.training.classifiers.classifier import TrainedClassifier

CLASSIFIER = "training.classifiers.plan:ClassifierConfig"


def train_probe(
    output: Annotated[Path, Argument(help="folder of the probe")],
    *,
    config: Annotated[
        Values,
        Fields(
            "generation.preparing.probe_training:ProbeConfig",
            ["trajectories", "training_steps", "num_inference_steps", "guidance_scale", "seed", "among"],
        ),
    ],
    classes: Classes = None,
    pipeline: Pipeline = None,
    classifier: Annotated[
        list[str] | None,
        Option(
            help="folder or Hub id of a guide, first the one that will steer, may be given several times; "
            "default: the pipeline's own",
            rich_help_panel=MODELS,
        ),
    ] = None,
    trust_bin: TrustBin = False,
    batch_size: BatchSize = 50,
    device: Device = None,
    num_processes: NumProcesses = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a probe, for guidance without decoding.

    It is a small network that predicts from latents what guides say of the images.  Killed while it draws, the same
    command goes on where it was.

    Example: dag-diffusion train-probe probe --pipeline facebook/DiT-XL-2-256
    --classifier timm/resnet50.tv_in1k --classifier timm/regnety_016.tv2_in1k --classes "tench;church"
    """
    from dag_diffusion.processes import fail_together, is_main_process

    quiet = launch_several(num_processes, quiet)
    with importing(quiet):
        from dag_diffusion.generation.preparing.outputs import probe_at, require_place_for_probe
        from dag_diffusion.generation.preparing.probe_training import ProbeConfig
        from dag_diffusion.loading import labels_of, load_guide, load_pipeline

    with fail_together():
        if is_main_process():
            require_place_for_probe(output)
        settings = ProbeConfig(**config)
        loaded = load_pipeline(pipeline, device=device, trust_bin=trust_bin)
        guides = [load_guide(name, device=device) for name in classifier or []]
        if not guides and loaded.classifier is not None:
            guides = [loaded.classifier]
        labels = labels_of(loaded, classes)
    with stages(quiet) as progress:
        fidelity = probe_at(
            output,
            loaded,
            guides,
            settings,
            labels=labels,
            batch_size=batch_size,
            overwrite=overwrite,
            progress=progress,
        )
    if is_main_process():
        print(
            f"probe in {output}; on runs that it has not seen, mean |d - d of the guides| = "
            f"{fidelity.difficulty_error:.3f}, rank correlation of the margins {fidelity.correlation:.2f}"
        )


def find_modes(
    images: PoolPath,
    output: Annotated[Path, Argument(help="safetensors file for the modes")],
    *,
    per_class: Annotated[int, Option(min=1, help="modes of each class, best the number of images to generate")] = 10,
    by_difficulty: Annotated[
        str | None,
        Option(
            help="a target as for generate: find clusters within strata of difficulty, as many in each as the target "
            "asks for"
        ),
    ] = None,
    canvas: OnCanvas,
    fit: FitAsTrained = None,
    size: Annotated[
        int | None,
        Option(min=1, help="side in pixels that a text-to-image pipeline will draw; default: the pipeline's own size"),
    ] = None,
    average: Annotated[int, Option(min=1, help="average-pool the latents by this factor before comparing them")] = 1,
    seed: Seed = 0,
    pipeline: AnyPipeline = None,
    classifier: Classifier = None,
    trust_bin: TrustBin = False,
    batch_size: BatchSize = 32,
    device: Device = None,
    num_processes: NumProcesses = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Find modes of real images, for mode guidance.

    They are clusters in the latent space, plain or by difficulty, for generate --modes.  Killed while it encodes, the
    same command goes on where it was.

    Examples:  dag-diffusion find-modes real_images/ modes.safetensors --per-class 10

    dag-diffusion find-modes real_images/ hard-modes.safetensors --per-class 10 --by-difficulty cliff

    dag-diffusion find-modes real_images/ modes.safetensors --pipeline black-forest-labs/FLUX.1-dev --size 512
    """
    from dag_diffusion.data.files import require_file_place
    from dag_diffusion.processes import fail_together, is_main_process

    if is_main_process():
        require_file_place(output, "modes.safetensors")
    quiet = launch_several(num_processes, quiet)
    with importing(quiet):
        from dag_diffusion.data.canvas import canvas_for
        from dag_diffusion.data.pools import read_pool
        from dag_diffusion.generation.modes import require_replaceable_modes
        from dag_diffusion.generation.preparing.outputs import modes_at
        from dag_diffusion.latent_spaces import load_latent_space
        from dag_diffusion.sampling.target_parser import as_target

    with fail_together():
        if is_main_process():
            require_replaceable_modes(output)
        real = read_pool(images, canvas=canvas_for(fit, [pipeline], **canvas))
        loaded = load_latent_space(pipeline, size=size, classifier=classifier, device=device, trust_bin=trust_bin)
        target = None if by_difficulty is None else as_target(by_difficulty, real.class_names)
    with stages(quiet) as progress:
        modes = modes_at(
            output,
            loaded,
            real,
            per_class,
            target=target,
            average=average,
            seed=seed,
            batch_size=batch_size,
            overwrite=overwrite,
            progress=progress,
        )
    if is_main_process():
        print(f"{len(modes.labels)} modes of {len(modes.class_names)} classes in {output}")


def train_classifier(
    images: PoolPath,
    output: Annotated[Path, Option(help="folder of the classifier")],
    *,
    config: Annotated[Values, Fields(CLASSIFIER, ["role", "model", "weights", "size", "held_out", "folds", "seed"])],
    holdout: Annotated[
        Path | None, Option(help="images to calibrate and test with; default: a share of each class is held out")
    ] = None,
    test: Annotated[
        Path | None, Option(help="images to test with, and nothing else; their twins are left out of training")
    ] = None,
    classes: Classes = None,
    to_prepare: ToPrepare,
    fit: FitUnasked = None,
    training: Annotated[
        Values,
        Fields(
            CLASSIFIER,
            [
                "steps",
                "batch_size",
                "learning_rate",
                "weight_decay",
                "augmentation",
                "never_mirror",
                "label_smoothing",
                "balance",
                "uncalibrated",
                "precision",
            ],
            "Training",
        ),
    ],
    overwrite: Overwrite = False,
    device: Device = None,
    num_processes: NumProcesses = 1,
    quiet: Quiet = False,
) -> None:
    """Train a guide or an evaluator on your own images.

    Its probabilities are calibrated on held-out images.  Killed, the same command goes on where it was.

    Examples:  dag-diffusion train-classifier my_images/ --output guide

    dag-diffusion train-classifier my_images/ --output evaluator --role evaluator --test my_test_images/

    dag-diffusion train-classifier my_images/ --output guide --model resnet18 --size 64 --folds 5
    """
    from dag_diffusion.processes import fail_together, is_main_process

    quiet = launch_several(num_processes, quiet)
    with importing(quiet):
        from dag_diffusion.data.distilled_sets import require_apart
        from dag_diffusion.data.preparing.prepared import prepare
        from dag_diffusion.loading import hide_loading_bars
        from dag_diffusion.training.checkpoints import removed_unless_begun, work_folder
        from dag_diffusion.training.classifiers.classifier import SETTINGS, require_target
        from dag_diffusion.training.classifiers.classifier import train_classifier as train
        from dag_diffusion.training.classifiers.plan import ClassifierConfig

    hide_loading_bars()
    with fail_together():
        settings = ClassifierConfig(**config, **training)
        if is_main_process():
            require_target(output)
            require_apart(images, output)
    with stages(quiet) as progress, removed_unless_begun(work_folder(output), SETTINGS):
        # of what is given besides nothing that can be read is left out, since nothing is learnt from it
        whole: Values = to_prepare | {"most": None, "twins": "keep"}
        held, tested = (
            None if source is None else prepare(source, fit=fit, **whole, progress=progress).pool
            for source in (holdout, test)
        )
        own = prepare(
            images,
            classes=classes,
            fit=fit,
            **to_prepare,
            apart_from=[pool for pool in (held, tested) if pool is not None],
            seed=settings.seed,
            cache=work_folder(output),
            progress=progress,
        )
        held, tested = (
            pool and replace(pool, canvas=own.pool.canvas)
            for pool in (held, tested)  # which all are seen on
        )
        trained = train(
            own.pool,
            output,
            settings,
            holdout=held,
            test=tested,
            about={"images": own.record},
            device=device,
            overwrite=overwrite,
            progress=progress,
        )
    if is_main_process():
        print("\n".join(_lines(trained)))


def _lines(trained: "TrainedClassifier") -> list[str]:
    """What a person wants to know of it."""
    record = trained.record
    weights = "from scratch" if record["weights"] == "random" else f"from {record['weights']}"
    lines = [f"{record['model']}, {record['parameters']:,} weights trained {weights}, in {trained.folder}"]
    for name, result in (("held-out", record["held_out"]), ("test", record.get("test"))):
        if result:
            worst, share = min(result["accuracy_by_class"].items(), key=lambda item: item[1])
            lines.append(
                f"accuracy on {result['images']} {name} images {result['accuracy']:.1%}, least of {worst} {share:.1%}; "
                f"expected calibration error {result['expected_calibration_error']:.3f}"
            )
    if (fit := record["canvas"]["fit"]) != "crop":
        lines.append(f"images were made squares by fit={fit!r}; score others of their kind with --fit {fit} too")
    if (found := record["calibration"]) is not None:
        lines.append(_calibration_line(found, record["config"]["uncalibrated"]))
    if (folds := record["folds"]) is not None:
        lines.append(
            f"difficulties of {folds['images']} images {_sample(record)} in {trained.folder / 'difficulties.jsonl'}: "
            f"{folds['classifiers']} classifiers, accuracy {folds['accuracy']:.1%}, "
            f"{_calibration_line(folds['calibration'], record['config']['uncalibrated'])}"
        )
    return lines


def _sample(record: dict[str, Any]) -> str:
    kept = record.get("keeps_head")
    return f"that {record['weights']} may have seen" if kept else "out of sample"


def _calibration_line(found: dict[str, Any], uncalibrated: bool) -> str:
    from dag_diffusion.training.classifiers.calibration import FEWEST

    if found["images"] < FEWEST:
        return f"a temperature is fitted to {FEWEST} held-out images or more, and there are {found['images']}"
    before, after = found["expected_calibration_error"]
    gain = f"temperature {found['temperature']:.2f}: expected calibration error {before:.3f} before, {after:.3f} after"
    if uncalibrated:
        return f"{gain}; left out as asked"
    helped = all(new < old for old, new in (found["expected_calibration_error"], found["negative_log_likelihood"]))
    why = "no last layer can be divided by it" if helped else "it does not help"
    return f"{gain}, on images that it was not fitted on" + ("" if found["kept"] else f"; {why}, and it is left out")
