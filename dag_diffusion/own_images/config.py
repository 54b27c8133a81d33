"""What can be said of a distillation from a folder; everything else follows from the images."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dag_diffusion.distillation import DistillationConfig
from dag_diffusion.evaluation.protocols import as_protocol

MOST_SIZE = 128  # pixels; a generator that is trained from nothing has learned little at more


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """From a folder of images to a distilled set.

    Attributes:
        ipc: images per class in the final set.
        size: pixels per side of the generated images; default: 32, or as a given pipeline draws them.
        test: real test images; default: a part of the folder is held out.
        held_out: share of the images that only test, where no test folder is given.
        classes: class folder to use, or several with semicolons; default: all.
        background: colour behind transparent images.
        most: images of a class that are used at most, drawn at random; default: all.
        least: classes that have fewer images are left out.
        skip_unreadable: leave out files that are no readable image, and tell which.
        pipeline: folder or Hub id of a DiT pipeline that knows the classes; default: one is trained.
        classifier: folder or Hub id of the guide; default: one is trained.
        evaluator: folder or Hub id of a classifier of another family, which only measures; default: one is trained.
        folds: classifiers that measure the difficulties of the training images, each those that it has not seen.
            Default: the guide measures images that are held out from it.
        minutes: how long all of it may take, by more or fewer training steps; default: the usual number of steps.
        generator_steps: training steps of the generator; default: by the number of images.
        classifier_steps: training steps of guide and evaluator each; default: by the number of images.
        never_mirror: guide and evaluator see no mirrored image, as for digits, letters and signs.
        pool_factor: pool size as a multiple of IPC.  So many images are drawn to each mode.
        network: classifier to train on each set, such as convnet-3 or resnet-ap-10.  See ``list_networks``.
        protocol: how to train it: quick, classic or hard-label.  See ``list_protocols``.
        seeds: draws and trainings of each set, paired by seed.
        seed: random seed of everything.
    """

    ipc: int = 10
    size: int | None = None
    test: str | None = None
    held_out: float = 0.2
    classes: tuple[str, ...] = ()
    background: str = "white"
    most: int | None = None
    least: int = 1
    skip_unreadable: bool = False
    pipeline: str | None = None
    classifier: str | None = None
    evaluator: str | None = None
    folds: int = 0
    minutes: float | None = None
    generator_steps: int | None = None
    classifier_steps: int | None = None
    never_mirror: bool = False
    pool_factor: int = DistillationConfig.pool_factor
    network: str = DistillationConfig.network
    protocol: str = DistillationConfig.protocol
    seeds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"ipc": 1, "pool_factor": 1, "seeds": 1, "seed": 0, "folds": 0, "least": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("generator_steps", "classifier_steps", "most", "minutes"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0, or be left out")
        if self.folds == 1:
            raise ValueError("folds is 1, but at least 2 classifiers are needed to leave each image to another; or 0")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}, but is a share of the images, such as 0.2 for a fifth")
        if self.size is not None and not (8 <= self.size <= MOST_SIZE and self.size % 8 == 0):
            raise ValueError(
                f"size is {self.size}, but a generator is trained at 8 to {MOST_SIZE} pixels in steps of 8; give 32 or "
                "64, or a pipeline of your own"
            )
        if self.evaluator is not None and self.evaluator == self.classifier:
            raise ValueError(
                f"classifier and evaluator are both {self.classifier}, so that one would judge its own steering; "
                "give an evaluator of another family"
            )
        as_protocol(self.protocol)

    @property
    def class_list(self) -> list[str] | None:
        """The classes that were named; None for all."""
        named = [part.strip() for text in self.classes for part in text.split(";") if part.strip()]
        return named or None

    def settings(self) -> dict[str, Any]:
        """What must agree when a distillation goes on; JSON values only."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def given(self) -> Mapping[str, Any]:
        """The settings that are not the defaults."""
        usual = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in self.settings().items() if vars(self)[name] != usual[name]}
