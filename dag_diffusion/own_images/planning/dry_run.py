"""A plan of a distillation, or everything that stands against it, without anything being trained, drawn or written.

places, images, models, sizes, disk, memory -> problems, all of them -> or tables and commands
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dag_diffusion import embedded
from dag_diffusion.data.files import free_at
from dag_diffusion.data.provenance import AMONG_SET
from dag_diffusion.distillation.choosing import with_rounds
from dag_diffusion.distillation.config import EMBEDDED_SIZE, DistillationConfig
from dag_diffusion.distillation.run import check_output, rounds_asked
from dag_diffusion.distillation.targets_and_modes import has_embedded_modes, number_of_modes
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.own_images.config import OF_A_RUN, FolderConfig
from dag_diffusion.own_images.durations import read_plan
from dag_diffusion.own_images.requirements import USUAL_SIZE
from dag_diffusion.reporting.reproduction import command_of_run

from . import rates
from .checks import (
    Found,
    bytes_in_memory,
    bytes_of_work,
    check_disk,
    check_guide,
    check_images,
    check_memory,
    check_sizes,
    look_at_colours,
    look_at_test_images,
    number_of_images,
    read_models,
)
from .commands import commands_for
from .problems import Problems
from .times import stages_of, time_table

OF_ITS_INPUTS = (
    "classifier", "weak", "classes", "fit", "size", "channels", "target", "precision", "trust_bin", "split", "among",
    "trim",
)  # fmt: skip
WEIGHED = ("classifier", "evaluator")  # models whose trainings ``balance`` weighs


@dataclass(frozen=True)
class Plan:
    """What a distillation will do and need.

    Attributes:
        tables: what is there, and how long it takes.
        commands: number of GPUs to command.
        warnings: what does not stop it but makes its figures other than they seem.
    """

    tables: list[Table]
    commands: dict[int, str]
    warnings: list[str]


def dry_run(
    folder: str | Path,
    config: FolderConfig,
    *,
    command: str,
    check_places: Callable[[], None],
    work: Path,
    batch_size: int,
    trains: bool = True,
    channels: int = 3,
) -> Plan:
    """Check everything that can be checked beforehand, and tell the plan.

    Nothing is written, but for small configurations of models that the Hub's client keeps.

    Args:
        folder: real training images.
        config: of the distillation; where it names no model, one is trained, unless ``trains`` is false.
        command: that does the work on one GPU.
        check_places: raises where the output cannot be written.
        work: where models, pools and images go.
        batch_size: images drawn at a time.
        trains: models that are not given are trained and images copied, as ``distill`` does; ``run`` does not.
        channels: of the images, where the configuration does not say.

    Raises:
        ProblemsError: something stands against it; each thing in a sentence.
    """
    problems, found = Problems(), Found()
    with problems.gathered():
        check_places()
    read_models(config, problems, found)
    check_images(Path(folder), config, problems, found, trains=trains)
    if not trains:
        check_guide(config, problems, found)
    size = found.pipeline.size if found.pipeline is not None else config.size or USUAL_SIZE
    check_sizes(config, problems, found, size, channels, trains=trains)
    with problems.gathered():
        check_disk(config, found, size, work, trains=trains)
    with problems.gathered():
        check_memory(config, found, size, channels, trains=trains)
    problems.refuse()
    look_at_test_images(config, found, trains=trains)
    if trains:
        look_at_colours(config, found)
    assert found.train is not None
    here = read_plan(work)
    stages = stages_of(
        config,
        images=number_of_images(config, found)[0],
        classes=len(found.names),
        size=size,
        batch_size=batch_size,
        is_dit_xl=found.pipeline is not None and found.pipeline.is_dit_xl,
        trains=trains,
        here=here,
    )
    disk = bytes_of_work(config, found, size, trains=trains)
    memory = bytes_in_memory(config, found, size, channels, trains=trains)
    rows = [*_images(config, found, size), *_models(config, found, trains=trains), *_room(disk, memory, work)]
    if found.pipeline is not None and found.pipeline.is_dit_xl:
        rows.append(["GPU memory", _gpu_memory(batch_size, steered=config.target is not None)])
    times = time_table(stages, here, minutes=config.minutes)
    tables = [Table("Plan", ["what", "how much"], rows), times]
    return Plan(tables, commands_for(command), found.warnings)


def plan_run(output: Path, config: DistillationConfig, *, batch_size: int, command: str | None = None) -> Plan:
    """What ``distillation.distill`` would need for the same arguments, and how long it may take; nothing is done.

    Args:
        command: that does it on one GPU; default: put together from the configuration.

    Raises:
        ProblemsError: something stands against it; all of that, each in a sentence.
    """
    inputs, begun = config.inputs, replace(config, rounds=rounds_asked(config.rounds, output))
    with suppress(ValueError):  # which is told with everything else, see _check_run
        begun = _with_rounds(begun)
    own = {name: getattr(begun, name) for name in OF_A_RUN} | {name: getattr(inputs, name) for name in OF_ITS_INPUTS}
    return dry_run(
        inputs.train or embedded.REFERENCE,
        FolderConfig(
            pipeline=inputs.pipeline or str(embedded.PIPELINE),
            evaluator=inputs.evaluator or str(embedded.EVALUATOR),
            test=inputs.test or str(embedded.TEST),
            **own,
        ),
        command=command or command_of_run(output, config.given()),
        check_places=lambda: _check_run(output, begun),
        work=output,
        batch_size=batch_size,
        trains=False,
        channels=1 if inputs.train is None else 3,
    )


def _with_rounds(config: DistillationConfig) -> DistillationConfig:
    """The rounds that a run would choose in, where that is known without its pipeline."""
    if not has_embedded_modes(config.inputs):
        return config
    return with_rounds(config, side=max(EMBEDDED_SIZE), modes=number_of_modes(config.inputs, config.ipc))


def _check_run(output: Path, config: DistillationConfig) -> None:
    check_output(output, config)
    _with_rounds(config)
    if config.inputs.reference is not None and not Path(config.inputs.reference).exists():
        raise FileNotFoundError(
            f"there is no file {config.inputs.reference} of difficulties; give what score has written"
        )


def _images(config: FolderConfig, found: Found, size: int) -> list[list[str]]:
    train, test, names = found.train, found.test, list(found.names.values())
    assert train is not None
    counts = Counter(train.labels.tolist()).values()
    trained, _ = number_of_images(config, found)
    told = f"; {trained:,} are trained on" if trained < len(train) else ""
    drawn = config.ipc * config.pool_factor * len(names)
    return [
        ["classes", f"{len(names):,}: {', '.join(names[:3])}" + (f" and {len(names) - 3:,} more" * (len(names) > 3))],
        ["training images", f"{len(train):,} in {train.path}, {min(counts):,} to {max(counts):,} a class{told}"],
        ["test images", f"{config.held_out:.0%} of each class" if test is None else f"{len(test):,} in {config.test}"],
        ["generated images", f"2 x {drawn:,} of {size} px, of which {config.ipc * len(names):,} are kept"],
    ]


def _models(config: FolderConfig, found: Found, *, trains: bool) -> Iterator[list[str]]:
    given = {"pipeline": config.pipeline or config.base, "classifier": config.classifier, "evaluator": config.evaluator}
    if config.weak is not None or config.trains_weak:
        given["weak"] = config.weak
    for role, name in given.items():
        files = found.models.get(role)
        if name is None or files is None:
            weighed = f", images weighed by balance={config.balance:g}" if config.balance and role in WEIGHED else ""
            yield [role, f"is trained here{weighed}" if trains else "the pipeline's own"]
            continue
        place = "on this machine" if files.folder is not None else f"{files.to_fetch / 1e9:.1f} GB to be fetched"
        yield [role, f"{name}, {'fine-tuned here, ' if role == 'pipeline' and config.base else ''}{place}"]
    if _has_own_weak(config, found):
        yield ["weak", "the pipeline's own"]
    if config.among == "set":
        yield ["difficulty", f"by the guide{AMONG_SET}"]


def _has_own_weak(config: FolderConfig, found: Found) -> bool:
    """Whether images are drawn away from a weak denoiser that comes with the pipeline."""
    given = config.pipeline is not None and config.weak is None
    return config.autoguides and given and found.pipeline is not None and found.pipeline.has_weak


def _room(disk: int, memory: int, work: Path) -> list[list[str]]:
    return [
        ["disk", f"{disk / 1e9:.1f} of {free_at(work) / 1e9:.0f} GB that are free at {work}"],
        ["memory", f"{memory / 2**30:.1f} GiB for decoded images and weights"],
    ]


def _gpu_memory(batch_size: int, *, steered: bool) -> str:
    size = max((one for one in rates.PEAK_GIB_OF_DIT_XL if one <= batch_size), default=1)
    more = f", {rates.PEAK_GIB_STEERED:g} GiB steered in batches of 32" if steered else ""
    return f"{rates.PEAK_GIB_OF_DIT_XL[size]:g} GiB in batches of {size}{more}, and the guide (dit-xl.json)"
