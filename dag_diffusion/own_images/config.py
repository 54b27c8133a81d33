"""What can be said of a distillation from a folder; everything else follows from the images."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from dag_diffusion.data.canvas import Canvas, fit_or_usual
from dag_diffusion.data.class_names import names_typed
from dag_diffusion.data.preparing.duplicates import as_link_rule
from dag_diffusion.difficulty import Among
from dag_diffusion.distillation.config import (
    DistillationConfig,
    DistillationInputs,
    require_rounds,
    require_scales,
    rounds_for,
)
from dag_diffusion.evaluation.protocols import require_hard_labels
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.training.classifiers.plan import ClassifierConfig
from dag_diffusion.training.fine_tuning import FineTuningConfig
from dag_diffusion.training.generators.settings import GeneratorConfig
from dag_diffusion.training.generators.sizes import require_suitable

MOST_SIZE = 128  # pixels; a generator that is trained from nothing has learned little at more
OF_A_RUN = (  # settings that a run of the same models has too
    "ipc", "pool_factor", "network", "protocol", "seeds", "seed", "num_inference_steps", "guidance_scale",
    "autoguidance_scale", "mode_scale", "rounds",
)  # fmt: skip
LATER = (  # settings that do not count at their defaults, so that distillations that were begun without them go on
    "fit", "links", "base", "tune", "rank", "vae", "target", "precision", "trust_bin", "channels", "split",
    "num_inference_steps", "guidance_scale", "mode_scale", "among", "balance", "trim", "weak", "autoguidance_scale",
    "rounds",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """From a folder of images to a distilled set.

    Attributes:
        ipc: images per class in the final set.
        size: pixels per side of the generated images, 32 unless said; with a pipeline, which has a size of its own,
            of the trained networks.
        test: real test images; default: a part of the folder is held out.
        held_out: share of the images that only test, where no test folder is given.
        classes: class folder to use, or several with semicolons; default: all.
        background: colour behind transparent images.
        fit: pad, crop or stretch to a square; default: as the models that are given were trained, if they were trained
            here, else by what most images are like.
        trim: cut off transparent margins first, so that a small thing on an empty canvas fills it.
        most: images of a class that are used at most, drawn at random; default: all.
        least: classes that have fewer images are left out.
        links: a picture that other classes link to is left out (leave_out), or kept where its file lies (real).
        skip_unreadable: leave out files that are no readable image, and tell which.
        pipeline: folder or Hub id of a DiT pipeline that knows the classes; default: one is trained.
        classifier: folder or Hub id of the guide; default: one is trained.
        evaluator: folder or Hub id of a classifier of another family, which only measures; default: one is trained.
        weak: folder or Hub id of a pipeline smaller or less trained than the one that is given, with the same VAE and
            classes, for autoguidance; default: its own weak denoiser, if it has one.  With a generator that is trained
            from nothing one is trained.
        balance: weight of images in the trainings of guide and evaluator, 0 every image alike, 1 every class alike.
        base: folder or Hub id of a DiT pipeline that the generator is fine-tuned from, see ``FineTuningConfig``.
        tune: what of it is trained: all, lora or difffit.
        rank: rank of the low-rank changes, for lora.
        vae: folder or Hub id of an AutoencoderKL for the generator, or of a pipeline that has one; default: one is
            trained, or that of the base.
        target: difficulties that DGS follows and images are steered to, see ``DistillationInputs``; default: no image
            is steered, and the set is one image of each mode.
        rounds: parts in which one image of each mode is chosen, in later ones what networks that learn those before
            have yet to learn, see ``subsample_in_rounds``; 1: the easiest image of each mode.  Default: 5 where
            images of up to 64 pixels a side are drawn for a ConvNet, to modes that were found for so many, else 1.
        among: all: difficulty among all classes of the classifier, as in the paper; set: among the classes of the set
            alone.  A guide that is trained here knows no others.
        precision: float32, bfloat16 or float16, of pipeline and guide; default: as saved.
        trust_bin: read .bin weights of a pipeline that has no safetensors.
        channels: 1 (grey) or 3; default: as the images have them.
        split: split of the test images, for the record, such as ilsvrc or fastai.
        num_inference_steps: denoising steps; default: the pipeline's own.
        guidance_scale: strength of classifier-free guidance, on above 1; default: the pipeline's own.
        autoguidance_scale: strength of autoguidance, on above 1; default: the pipeline's own, or else 1.5 where there
            is a weak denoiser.
        mode_scale: strength of mode guidance; default: as strong as 0.2 at 20 steps.
        folds: classifiers that measure the difficulties of the training images, each those that it has not seen.
            Default: the guide measures images that are held out from it.
        minutes: how long all of it may take, by more or fewer training steps, also of those that are given; default:
            the usual number of steps.
        generator_steps: training steps of the generator; default: by the number of images.
        classifier_steps: training steps of guide and evaluator each; default: by the number of images.
        never_mirror: no model sees a mirrored image, as for digits, letters and signs.
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
    fit: str | None = None
    trim: bool = False
    most: int | None = None
    least: int = 1
    links: str = "leave_out"
    skip_unreadable: bool = False
    pipeline: str | None = None
    classifier: str | None = None
    evaluator: str | None = None
    weak: str | None = DistillationInputs.weak
    balance: float = ClassifierConfig.balance
    base: str | None = FineTuningConfig.base
    tune: str = FineTuningConfig.tune
    rank: int = FineTuningConfig.rank
    vae: str | None = GeneratorConfig.vae
    target: str | None = DistillationInputs.target
    rounds: int | None = DistillationConfig.rounds
    among: Among = DistillationInputs.among
    precision: str | None = DistillationInputs.precision
    trust_bin: bool = DistillationInputs.trust_bin
    channels: int | None = DistillationInputs.channels
    split: str | None = DistillationInputs.split
    num_inference_steps: int | None = DistillationConfig.num_inference_steps
    guidance_scale: float | None = DistillationConfig.guidance_scale
    autoguidance_scale: float | None = DistillationConfig.autoguidance_scale
    mode_scale: float | None = DistillationConfig.mode_scale
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
        require_rounds(self.rounds, self.target)
        for name in ("generator_steps", "classifier_steps", "most", "minutes"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0, or be left out")
        if self.folds == 1:
            raise ValueError("folds is 1, but at least 2 classifiers are needed to leave each image to another; or 0")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}, but is a share of the images, such as 0.2 for a fifth")
        Canvas(self.background, fit_or_usual(self.fit, trim=self.trim), self.trim)
        as_link_rule(self.links)
        self._check_models()
        require_hard_labels(self.protocol)

    def _check_models(self) -> None:
        if self.pipeline is not None and (self.base or self.vae):
            raise ValueError(
                f"the pipeline {self.pipeline} is given, so that nothing is trained from {self.base or self.vae}; "
                f"leave {'base' if self.base else 'vae'} out, or the pipeline"
            )
        if self.base is None and self.pipeline is None and self.size is not None:
            if self.size > MOST_SIZE:
                raise ValueError(
                    f"size is {self.size}, but a generator is trained from scratch at {MOST_SIZE} pixels at most; give "
                    "32 or 64, or a pipeline of your own"
                )
            if self.vae is None:  # one that is named is loaded later
                require_suitable(self.size)
        DistillationInputs(
            classifier=self.classifier,
            evaluator=self.evaluator,
            size=self.size,
            channels=self.channels,
            precision=self.precision,
            fit=self.fit,
            among=self.among,
        )
        ModeGuidance(scale=self.mode_scale)
        self._check_autoguidance()
        ClassifierConfig(balance=self.balance)
        if self.balance and self.classifier is not None and self.evaluator is not None:
            raise ValueError(
                f"balance is {self.balance}, but classifier and evaluator are given, so that no training weighs images "
                "by it; leave it out"
            )
        self.fine_tuning  # noqa: B018 - which checks itself

    def _check_autoguidance(self) -> None:
        require_scales(self.guidance_scale, self.autoguidance_scale, weak=self.weak)
        if self.weak is not None and self.pipeline is None:
            raise ValueError(
                f"weak is {self.weak!r}, but the generator is trained here, for which there can be none before; leave "
                "weak out, or give a pipeline"
            )
        if self.base is not None and self.autoguidance_scale is not None and self.autoguidance_scale > 1:
            raise ValueError(
                f"autoguidance_scale is {self.autoguidance_scale:g}, but no weak denoiser is trained beside a "
                f"generator that is fine-tuned from {self.base}; leave autoguidance_scale out"
            )

    def rounds_at(self, side: int) -> int:
        """Parts in which images are chosen that have so many pixels a side, see ``rounds_for``."""
        own = {"ipc": self.ipc, "pool_factor": self.pool_factor}
        return rounds_for(self.rounds, self.target, **own, network=self.network, side=side)

    @property
    def autoguides(self) -> bool:
        """Whether autoguidance is used where there is a weak denoiser."""
        return self.autoguidance_scale is None or self.autoguidance_scale > 1

    @property
    def trains_weak(self) -> bool:
        """Whether a weak denoiser is trained along, for autoguidance."""
        return self.autoguides and self.pipeline is None and self.base is None

    @property
    def class_list(self) -> list[str] | None:
        """The classes that were named; None for all."""
        return names_typed(self.classes) or None

    @property
    def fine_tuning(self) -> FineTuningConfig:
        """What the generator starts from."""
        return FineTuningConfig(base=self.base, tune=self.tune, rank=self.rank)

    def settings(self) -> dict[str, Any]:
        """What must agree when a distillation goes on; JSON values only."""
        given = self.given()
        return {name: value for name, value in self._values() if name in given or name not in LATER}

    def given(self) -> dict[str, Any]:
        """The settings that are not the defaults."""
        usual = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in self._values() if vars(self)[name] != usual[name]}

    def _values(self) -> Iterator[tuple[str, Any]]:
        return ((name, list(value) if isinstance(value, tuple) else value) for name, value in vars(self).items())
