"""Which images a pool will hold: each has a name, and from its name alone its seed, target, mode and prompt.

    seed = f(pool seed, label, index)

So it does not matter which process draws an image, in which batch, or after how many kills.
"""

from collections.abc import Mapping, Sequence, Set, Sized
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from dag_diffusion.data.class_names import distinct_names
from dag_diffusion.data.layouts import class_folders
from dag_diffusion.guidance.difficulty_guidance import GuidanceConfig
from dag_diffusion.guidance.diversity_guidance import DiversityGuidance
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.sampling.target_parser import as_target
from dag_diffusion.sampling.targets import Target, TargetDistribution
from dag_diffusion.seeding import as_seed

from .drawing.prompts import Prompts
from .modes import Modes, allot, match_modes

OPTIONAL = ("mode", "prompt", "redrawn", "group")  # columns
GROUPING = ("group_size", "noise_candidates", "diversity")  # settings of images that are made in groups
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def networks_precision(weights: str | None) -> str:
    """What networks compute in where weights were asked for in a precision: ``float32`` in that, others as is fast."""
    return "float32" if weights == "float32" else "auto"


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """What a pool holds.  Together with the pipeline it determines every image.

    Attributes:
        images_per_class: images to generate for each class; the paper advises 5 x IPC.
        labels: classes to draw, by name or by the pipeline's labels, one or a list of them; None for all.
        target: difficulties to steer toward, whatever ``as_target`` reads, such as 0.5, ``hill`` or ``reference``; None
            for no difficulty guidance.
        seed: random seed of the pool.
        num_inference_steps: denoising steps; default: the pipeline's own.
        guidance_scale: strength of classifier-free guidance, on above 1; default: the pipeline's own, or what a pool
            that is gone on with was begun with.
        guidance_interval: ``(start, stop)`` of classifier-free guidance as fractions of the steps, of which those
            outside cost half; default: likewise.
        autoguidance_scale: strength of autoguidance, which needs the pipeline's ``weak_transformer``, on above 1;
            default: the pipeline's own.
        precision: what transformer, VAE and probe compute in, one of ``PRECISIONS``, if their weights are float32:
            ``auto`` is bfloat16 on a processor that has it, and in a pool to go on with what that was begun in.
            Latents, scheduler and measured difficulties are float32 in any case.
        difficulty_guidance: scale, window and trust region of the steering.
        modes: clusters of real images that each class's images are drawn to in turn.  If modes and images both have
            difficulties, the images with the hardest targets are drawn to the hardest modes.
        mode_guidance: strength and window of that.
        prompts: what a text-to-image pipeline is told to draw; None for pipelines that draw by labels.
        group_size: images of a class that are made as one set, by ``noise_candidates`` and ``diversity``; as many as a
            distilled set will hold.  Such a group is denoised at once, whatever the batch size.
        noise_candidates: sets of initial noise to draw for each group, of which the most regular one is used; 1 takes
            the first.  See ``noise_sets``.
        diversity: strength and window of diversity guidance, which pushes the images of a group apart.
    """

    images_per_class: int = 50
    labels: Sequence[int | str] | int | str | None = None
    target: Target | None = None
    seed: int = 0
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_interval: tuple[float, float] | None = None
    autoguidance_scale: float | None = None
    precision: str = "auto"
    difficulty_guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    modes: Modes | None = None
    mode_guidance: ModeGuidance = field(default_factory=ModeGuidance)
    prompts: Prompts | None = None
    group_size: int = 10
    noise_candidates: int = 1
    diversity: DiversityGuidance = field(default_factory=DiversityGuidance)

    def __post_init__(self) -> None:
        if isinstance(self.labels, Sized) and not isinstance(self.labels, str) and not len(self.labels):
            raise ValueError("the list of labels is empty; name at least one class, or leave it out for all of them")
        for name in ("images_per_class", "num_inference_steps", "group_size", "noise_candidates"):
            if (value := getattr(self, name)) is not None and not hasattr(value, "__index__"):
                raise ValueError(f"{name} is {value!r}; give a whole number, such as 50")
        if not isinstance(self.modes, Modes | None):
            raise ValueError(f"modes are a {type(self.modes).__name__}; read a file of them by Modes.load(FILE)")
        if as_seed(self.seed) < 0:
            raise ValueError(f"seed is {self.seed}, but that of a pool must not be negative; give 0 or a larger number")
        if self.images_per_class < 1:
            raise ValueError(f"images_per_class is {self.images_per_class}, and a pool has at least 1; ask for more")
        if self.num_inference_steps is not None and self.num_inference_steps < 1:
            raise ValueError(
                f"num_inference_steps is {self.num_inference_steps}, and images take at least 1; give more, such as "
                "50, or leave it out for the pipeline's own"
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"a pool has no precision {self.precision!r}; choose one of {', '.join(PRECISIONS)}")
        if self.noise_candidates < 1:
            raise ValueError(
                f"noise cannot be chosen among {self.noise_candidates} candidates; use noise_candidates=1000, or 1 for "
                "no choice"
            )
        size = min(self.group_size, self.images_per_class)
        if self.is_grouped and size < 2:
            raise ValueError(
                f"{size} images make no group, in which one could differ from another; use group_size=10 with as many "
                "images per class, or choose no noise and push no images apart"
            )

    @property
    def is_grouped(self) -> bool:
        """Whether images are made in groups; else each is made by itself."""
        return self.noise_candidates > 1 or self.diversity.scale > 0

    def labels_of(self, class_names: Mapping[int, str]) -> list[int]:
        """The labels to draw as numbers, each once, of a pipeline with these classes; ValueError for one it lacks."""
        if self.labels is None:
            return list(class_names)
        from dag_diffusion.pipelines.call_inputs import labels_named  # diffusers takes a second

        given = list(self.labels) if isinstance(self.labels, Set | Mapping) else self.labels
        return list(dict.fromkeys(labels_named(given, class_names, "the pipeline")))

    def for_classes(self, class_names: Mapping[int, str]) -> "PoolConfig":
        """The configuration with labels as numbers, and its target as a ``TargetDistribution`` for their classes."""
        labels = self.labels_of(class_names)
        names = {label: name for label, name in class_names.items() if self.labels is None or label in labels}
        target = None if self.target is None else as_target(self.target, names)
        return replace(self, labels=None if self.labels is None else labels, target=target)

    def settings(self) -> dict[str, Any]:
        """What must agree when a pool is resumed; JSON values only."""
        values = asdict(replace(self, target=None, modes=None, prompts=None))
        values["labels"] = self.labels if isinstance(self.labels, str | int | None) else list(self.labels)
        values["modes"] = None if self.modes is None else self.modes.summary()
        values["target"] = None if self.target is None else as_target(self.target).summary()
        if self.difficulty_guidance.among == "all":
            del values["difficulty_guidance"]["among"]  # as in pools from before there was a choice
        if self.prompts is None:
            del values["prompts"]  # as in pools from before there were any
        else:
            values["prompts"] = self.prompts.summary()
        if not self.is_grouped:
            for name in GROUPING:
                del values[name]
        return values


@dataclass(frozen=True)
class ImageJob:
    """One image to draw.

    Attributes:
        mode, prompt: None where a pool has none.
        redrawn: how often the image was drawn anew, each time with the next seed of its own; None where pools keep
            whatever comes, unless a repair is asked for.
        group: number of the group among those of its class; None where images are made one by one.
        first_seed: the one before it was drawn again; None of an image that was not.
    """

    file_name: str
    label: int
    class_name: str
    seed: int
    target_difficulty: float | None
    mode: int | None = None
    prompt: str | None = None
    redrawn: int | None = None
    group: int | None = None
    first_seed: int | None = None

    def row(self) -> dict[str, Any]:
        """Its columns in the metadata; those that pools of other kinds lack only if it has them."""
        own = {name: v for name, v in asdict(self).items() if v is not None or name not in OPTIONAL}
        del own["first_seed"]
        return own

    def made(self, row: Mapping[str, Any]) -> bool:
        """Whether a row, to which others may have added columns, is of this very image or of one drawn after it."""
        times = row.get("redrawn")
        own = self.again(times) if isinstance(times, int) and times >= (self.redrawn or 0) else self
        return all(row.get(name) == value for name, value in own.row().items())

    def again(self, times: int) -> "ImageJob":
        """The image as it is drawn after so many times, with a seed that its first one determines."""
        first = self.seed if self.first_seed is None else self.first_seed
        return replace(self, seed=seed_after(first, times), redrawn=times, first_seed=first)


def seed_after(seed: int, times: int) -> int:
    """Seed of an image that was drawn so many times in vain; the first for 0."""
    return seed if times == 0 else _seed_of([seed, times])


def image_seed(pool_seed: int, label: int, index: int) -> int:
    """Seed of one image, from its name alone: any process may draw it in any batch."""
    return _seed_of([pool_seed, label, index])


def _seed_of(numbers: Sequence[int]) -> int:
    word = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    # 53 bits are exact in every JSON reader.  torch's generator on the CPU starts from the low 32 of them: of n images
    # about n^2 / 2^33 pairs share their noise, 7 among 250,000, which of many classes are mostly two different ones
    return int(word >> np.uint64(11))


def plan(
    config: PoolConfig, class_names: Mapping[int, str], folders: Mapping[int, str] | None = None
) -> list[ImageJob]:
    """Every image of the pool, classes interleaved so that any stretch of the list holds all of them.

    The images of a group follow each other.

    Args:
        folders: class folder of each label; by default those of ``class_folders``.

    Raises:
        ValueError: a label that the pipeline lacks, or a target or prompts without one of the classes.
    """
    config = config.for_classes(class_names)  # read once, not for every class
    labels = config.labels_of(class_names)
    folders = folders or class_folders(class_names)
    drawn = {label: class_names[label] for label in labels}
    apart, prompts = distinct_names(drawn), {} if config.prompts is None else config.prompts.of_classes(drawn)
    jobs, size = [], config.group_size if config.is_grouped else 1
    for label in labels:
        targets = _shuffled_targets(config, apart[label], label)
        modes = _modes_of(config, label, targets)
        for index in range(config.images_per_class):
            file_name = f"{folders[label]}/{index:05d}.png"
            seed = image_seed(config.seed, label, index)
            job = ImageJob(file_name, label, class_names[label], seed, targets[index], modes[index])
            own, group = prompts.get(label), index // size
            if config.is_grouped:
                job = replace(job, group=group)
            jobs.append((group, replace(job, prompt=own[index % len(own)]) if own else job))
    return [job for _, job in sorted(jobs, key=lambda item: (item[0], item[1].label))]


def batch_end(jobs: Sequence[ImageJob], start: int, most: int) -> int:
    """Where a batch of at most so many images ends that begins at ``start``.

    It divides no group; a larger group is a batch of its own.
    """
    last = min(start + most, len(jobs))
    ends = (place for place in range(last, start, -1) if not _is_divided(jobs, place))
    return next(ends, None) or next(place for place in range(last, len(jobs) + 1) if not _is_divided(jobs, place))


def _is_divided(jobs: Sequence[ImageJob], place: int) -> bool:
    """Whether the images before and after a place are of one group."""
    if place == len(jobs):
        return False
    before, after = jobs[place - 1], jobs[place]
    return before.group is not None and (before.label, before.group) == (after.label, after.group)


def _shuffled_targets(config: PoolConfig, class_name: str, label: int) -> list[float | None]:
    if config.target is None:
        return [None] * config.images_per_class
    assert isinstance(config.target, TargetDistribution)  # plan has read it
    values = config.target.difficulties(class_name, config.images_per_class)
    # shuffled, so that the first images of a pool that is still growing follow the target too
    return np.random.default_rng([config.seed, label]).permutation(values).tolist()


def _modes_of(config: PoolConfig, label: int, targets: list[Any]) -> list[int | None]:
    if config.modes is None:
        return [None] * config.images_per_class
    by_size = config.mode_guidance.proportional
    chosen = allot(config.modes, label, config.images_per_class, proportional=by_size, seed=config.seed)
    if config.modes.difficulties is not None and config.target is not None:
        chosen = match_modes(config.modes, chosen, targets)
    return chosen.tolist()
