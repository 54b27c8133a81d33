"""``dag-diffusion evaluate``: trainings on sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from dag_diffusion.loading import device_named

from .console import counter, show_table, user_errors
from .options import Device, Quiet, Seed

if TYPE_CHECKING:
    from dag_diffusion.evaluation.runs import EvaluationConfig


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
    track_best: Annotated[
        bool, Option("--track-best", help="also test while training and report the best epoch, as papers do; slow")
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
        from dag_diffusion.evaluation.runs import EvaluationConfig
        from dag_diffusion.evaluation.training import derived_seeds
        from dag_diffusion.evaluation.trials import as_labels

        config = EvaluationConfig(
            protocol,
            networks=list(dict.fromkeys(network or ["convnet-3"])),
            seeds=derived_seeds(seed, seeds),
            labels=as_labels(labels),
            track_best=track_best,
            without_augmentation=without_augmentation,
            device=device_named(device),
        )
        _evaluate(sets, config, test, full, ipc or [], size, output, quiet)


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
    from dag_diffusion import embedded
    from dag_diffusion.data.pools import read_pool
    from dag_diffusion.evaluation.labelled_images import load_labelled_images
    from dag_diffusion.evaluation.runs import load_compared_sets, load_images, run_evaluation

    tests = read_pool(test or embedded.TEST)
    first = tests.open(0)
    height_and_width = (size, size) if size else (first.height, first.width)
    real = load_labelled_images(tests, size=height_and_width, channels=1 if first.mode == "L" else 3)
    compared = load_compared_sets(sets, real, ipc=ipc, soft_labels=config.labels == "soft")
    everything = {} if full is None else {f"all of {full.name}": load_images(full, real)}
    name = f"{len(real):,} of {test.name if test else 'Fashion-MNIST'}"
    with counter("trainings", config.trainings(len(compared.sources), full=bool(everything)), quiet) as progress:
        _, tables = run_evaluation(
            compared, real, config, test_name=name, full=everything, output=output, progress=progress
        )
    for table in tables:
        show_table(table)
