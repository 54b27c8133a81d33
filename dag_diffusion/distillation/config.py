"""Settings of a distillation: its sizes, scales and seeds, and the models and real images that it works with."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dag_diffusion import embedded
from dag_diffusion.data.canvas import as_fit
from dag_diffusion.difficulty import Among, as_among
from dag_diffusion.evaluation.networks import build_network
from dag_diffusion.evaluation.protocols import require_hard_labels
from dag_diffusion.guidance.mode_guidance import ModeGuidance
from dag_diffusion.pipelines.call_inputs import require_number

PLACES = ("pipeline", "classifier", "evaluator", "weak", "base", "vae", "train", "test", "reference")  # settings
ROUNDS, MOST_SIDE = 5, 64  # of a choice where nothing is said, for images of so many pixels at most
EMBEDDED_SIZE, EMBEDDED_PER_CLASS = (32, 32), 100  # pixels of the embedded images; real training images of each class


@dataclass(frozen=True, kw_only=True)
class DistillationInputs:
    """What a run works with.  None, or nothing, stands for the embedded default.

    Attributes:
        pipeline: folder or Hub id of a DiT pipeline; default: the embedded one.
        classifier: folder or Hub id of the guide, which scores and steers; default: the pipeline's own.
        evaluator: folder or Hub id of a classifier of another family that only measures; default: the embedded one.
        weak: folder or Hub id of a pipeline with the same VAE and classes, smaller or less trained, for autoguidance;
            default: the pipeline's own weak denoiser, if it has one.
        train: real training images, such as train/n01440764/*.JPEG; default: embedded.
        test: real test images, such as val/n01440764/*.JPEG; default: embedded.
        classes: class name, ImageNet synset or label, or several with semicolons; default: all of the test images.
            Their order is that of the trained networks' labels.
        size: pixels per side for the trained networks; default: as the pipeline generates.
        channels: 1 (grey) or 3; default: as the test images have them.
        target: difficulties that DGS follows and images are steered to, as for generate; default: DGS follows the real
            training images and no image is steered.  ``reference`` means those images.
        reference: difficulties of real images by the same guide, or guides trained alike, such as a file that score
            --output wrote of images that it has not seen; default: those of the training images are measured.
        precision: float32, bfloat16 or float16, of pipeline and guide; default: as saved.  With float32 the trained
            networks compute in it too, else as their protocol says; those of ``rounds`` always do as it says.
        split: split of the test images, for the record, such as ilsvrc or fastai.
        fit: pad, crop or stretch of real images to a square; default: as the models were trained, if they were trained
            here, else crop.
        trim: cut off transparent margins of real images first, as where models were trained so here.
        trust_bin: read .bin weights of a pipeline that has no safetensors.
        among: all: difficulty among all classes of the classifier, as in the paper; set: among the classes of the set
            alone.  For a set, real images are scored anew, and a probe for all classes is left out.
    """

    pipeline: str | None = None
    classifier: str | None = None
    evaluator: str | None = None
    weak: str | None = None
    train: str | None = None
    test: str | None = None
    classes: tuple[str, ...] = ()
    size: int | None = None
    channels: int | None = None
    target: str | None = None
    reference: str | None = None
    precision: str | None = None
    split: str | None = None
    fit: str | None = None
    trim: bool = False
    trust_bin: bool = False
    among: Among = "all"

    def __post_init__(self) -> None:
        if (self.train is None) != (self.test is None):
            raise ValueError(
                f"train is {self.train!r} and test {self.test!r}, but real images of both kinds are needed; give "
                "train=FOLDER and test=FOLDER, or neither for Fashion-MNIST"
            )
        as_among(self.among)
        if self.fit is not None:
            as_fit(self.fit)
        if self.channels not in (None, 1, 3):
            raise ValueError(
                f"channels are {self.channels}, but images have 1 (grey) or 3; leave them out to take the test images'"
            )
        if self.size is not None and self.size < 1:
            raise ValueError(f"size is {self.size} pixels, but must be at least 1; leave it out for the pipeline's own")
        if self.evaluator is not None and self.evaluator == self.classifier:
            raise ValueError(
                f"classifier and evaluator are both {self.classifier}, so that one would judge its own steering; "
                "give an evaluator of another family"
            )

    def given(self) -> dict[str, Any]:
        """The attributes that were given, as JSON has them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {name: value for name, value in plain.items() if value not in (None, False, []) and value != "all"}


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """One distillation, from noise to test accuracy, by default on what is embedded.

    Attributes:
        ipc: images per class in the final sets.  At most as many as there are real training images (embedded: 100).
        pool_factor: pool size as a multiple of IPC; the paper advises 5.  So many images are drawn to each mode.
        network: classifier to train on each set, such as convnet-3 or resnet-ap-10.  See ``list_networks``.
        protocol: how to train it: quick, classic or hard-label.  See ``list_protocols``.
        seeds: draws and trainings of each set, paired by seed.  The i-th uses the same seed for every set.
        seed: random seed of the pools.  The seeds of draws and trainings follow from it.
        num_inference_steps: denoising steps; default: the pipeline's own.
        guidance_scale: strength of classifier-free guidance, on above 1; default: the pipeline's own.
        autoguidance_scale: strength of autoguidance of both pools, on above 1, which needs a weak denoiser; default:
            the pipeline's own, or else 1.5 where there is a weak denoiser.
        mode_scale: strength of mode guidance; default: as strong as 0.2 at 20 steps.  See ``ModeGuidance``.
        rounds: parts in which one image of each mode is chosen, in later ones what networks that learn those before
            have yet to learn, see ``subsample_in_rounds``; 1: the easiest image of each mode.  Default: 5 where
            images of up to 64 pixels a side are drawn for a ConvNet, to modes that were found for so many, else 1.
        herding: also train on real images chosen by herding on the guide's features, the usual coreset.
        inputs: models and real images.
    """

    ipc: int = 10
    pool_factor: int = 5
    network: str = "convnet-3"
    protocol: str = "quick"
    seeds: int = 3
    seed: int = 0
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    autoguidance_scale: float | None = None
    mode_scale: float | None = ModeGuidance.scale
    rounds: int | None = None
    herding: bool = False
    inputs: DistillationInputs = field(default_factory=DistillationInputs)

    def __post_init__(self) -> None:
        for name, least in {"ipc": 1, "pool_factor": 1, "seeds": 1, "seed": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        require_rounds(self.rounds, self.inputs.target)
        if self.inputs.train is None and self.ipc > EMBEDDED_PER_CLASS:
            raise ValueError(
                f"ipc is {self.ipc}, but there are only {EMBEDDED_PER_CLASS} real images a class to compare with; "
                "lower it"
            )
        ModeGuidance(scale=self.mode_scale)
        require_scales(self.guidance_scale, self.autoguidance_scale, weak=self.inputs.weak)
        require_hard_labels(self.protocol)
        if not self.inputs.given():  # else it depends on what will be loaded
            build_network(self.network, channels=1, size=EMBEDDED_SIZE, num_classes=len(embedded.CLASS_NAMES))

    def rounds_at(self, side: int) -> int:
        """Parts in which images are chosen that have so many pixels a side, see ``rounds_for``."""
        own = {"ipc": self.ipc, "pool_factor": self.pool_factor}
        return rounds_for(self.rounds, self.inputs.target, **own, network=self.network, side=side)

    def settings(self) -> dict[str, Any]:
        """What must agree when a run goes on; of the inputs, those that were given.  JSON values only."""
        own = {name: value for name, value in vars(self).items() if name != "inputs"}
        for name, usual in {"herding": False, "autoguidance_scale": None, "rounds": 1}.items():
            if own[name] in (None, usual):
                del own[name]  # so that runs of versions without it go on
        return own | ({"inputs": self.inputs.given()} if self.inputs.given() else {})

    def given(self) -> dict[str, Any]:
        """The settings that are not the defaults."""
        own = {name: value for name, value in vars(self).items() if name != "inputs"}
        return self.inputs.given() | {k: v for k, v in own.items() if v != getattr(DistillationConfig, k)}


def whole_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which folders and files that exist are whole paths, as they compare from wherever a call is made."""
    found = dict(settings)
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found[name] = whole_places(value)
        elif name in PLACES and isinstance(value, str) and Path(value).exists():
            found[name] = str(Path(value).resolve())
    return found


def rounds_for(rounds: int | None, target: str | None, *, ipc: int, pool_factor: int, network: str, side: int) -> int:
    """Parts in which one image of each mode is chosen; 1 where there is nothing to choose, or the target decides.

    Args:
        network: that learns from the set.  What ConvNets choose teaches ResNets less (docs/results/training.md).
        side: pixels of the longer side of generated images.
    """
    if target is not None or pool_factor == 1:
        return 1
    if rounds is None:
        rounds = ROUNDS if network.startswith("convnet") and side <= MOST_SIDE else 1
    return min(ipc, rounds)


def require_rounds(rounds: int | None, target: str | None) -> None:
    """Refuse rounds that are none, or where the set is not of one image of each mode; ValueError."""
    if rounds is not None and rounds < 1:
        raise ValueError(f"rounds is {rounds}; it must be at least 1, or be left out")
    if rounds is not None and rounds > 1 and target is not None:
        raise ValueError(
            f"rounds is {rounds} and target {target!r}, but images that are steered to a target are chosen by it; "
            "leave one of the two out"
        )


def require_scales(guidance_scale: float | None, autoguidance_scale: float | None, *, weak: str | None) -> None:
    """Refuse scales that are no finite numbers, and a weak denoiser that no image would be drawn with; ValueError."""
    for name, scale in (("guidance_scale", guidance_scale), ("autoguidance_scale", autoguidance_scale)):
        if scale is not None:
            require_number(name, scale)
    if weak is not None and autoguidance_scale is not None and autoguidance_scale <= 1:
        raise ValueError(
            f"weak is {weak!r}, which draws nothing at autoguidance_scale={autoguidance_scale:g}; leave one of the two "
            "out"
        )
