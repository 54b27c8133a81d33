"""Training protocols: how long, how fast and with which augmentations; accuracies compare only under the same one.

    learning rate at a fraction f of the training = learning_rate * gamma ** (milestones reached)
                                                 or learning_rate * (1 + cos(pi f / smoothing)) / 2

``classic`` is that of dataset condensation (DC/DSA, Zhao et al., 2021): 30,000 image passes for 100 images.
``hard-label`` is that of generative distillation, begun by IDC (Kim et al., 2022) and kept by Minimax diffusion, MGD3
and those who compare with them; 2,000 epochs for 10 images per class.  It differs from their code in two points: a
milestone may lie within an epoch, and the classic sets of 100 classes get no rounding of the first one.
``unified`` is the one protocol under which RD3 (ICLR 2026, arXiv 2509.19743) compares methods with soft labels: 400
epochs, batches of 50, Adam at 0.001, a cosine that ends half-way (to the end for ResNet-18), crops, flips and CutMix,
and the divergence of Kullback and Leibler to a teacher.  What its summary leaves open is as in RDED (Sun et al., 2024),
whose augmentations it takes: decoupled weight decay, crops of half the area or more, temperature 20.
``quick`` takes 2,000 passes and is not a published protocol: no figure from it belongs beside published ones.  On 4
random subsets of Fashion-MNIST, 10 images per class, it came within 0.1 points of ``classic`` on average (0.8 at most),
but it was chosen on those very subsets; other data and sizes are untested.
"""

import math
from dataclasses import KW_ONLY, dataclass, replace
from itertools import pairwise

import torch

from dag_diffusion.processor import has_bfloat16

SCHEDULES = ("steps", "cosine")
OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Protocol:
    """How a network is trained on the cross-entropy, which has the gradient of the divergence to soft labels.

    Attributes:
        name: what results are filed under.
        epochs: passes over the set; or pairs (up to how many images per class, epochs) with rising numbers, the last of
            them None, since small sets need more passes; see ``epochs_for``.
        batch_size: images of a step.
        learning_rate, weight_decay: of the optimizer, the rate at its highest.
        optimizer: ``sgd`` with momentum, or ``adamw`` with ``momentum`` as its first beta and a second of 0.999.
        schedule: ``steps`` multiplies the rate by ``gamma`` at each milestone, ``cosine`` lets it fall smoothly to 0.
        smoothing: the cosine is this many times as long as the training, so that the rate ends above 0.
        unsmoothed: networks that a cosine of the training's own length is kept for.
        milestones: fractions of the training, rising, in (0, 1).
        max_shift: each image moves by up to so many pixels each way in every batch; 0 means none.
        crop_scale: smallest area of a random crop, as a fraction, that is resized to the whole; None means no crops.
        flip: half of the images are mirrored in every batch.
        color_jitter: strength of random brightness, contrast and saturation, in [0, 1]; three channels only; 0: none.
        lighting: deviation of random noise along the main colours of natural images; three channels only; 0: none.
        cutmix: both parameters of the Beta law of the area that a batch keeps when boxes are exchanged; 0: none.
        temperature: divides the logits of teacher and network where labels are soft; hard labels know none.
        precision: of convolutions and linear layers; weights and losses are float32.  ``auto`` is bfloat16 on CPUs with
            instructions for it, faster and as accurate within the noise (docs/results/speed), and float32 elsewhere.
    """

    name: str
    _: KW_ONLY
    epochs: int | tuple[tuple[float | None, int], ...]
    batch_size: int
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    optimizer: str = "sgd"
    schedule: str = "steps"
    smoothing: float = 1.0
    unsmoothed: tuple[str, ...] = ()
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    max_shift: int = 0
    crop_scale: float | None = None
    flip: bool = False
    color_jitter: float = 0.0
    lighting: float = 0.0
    cutmix: float = 0.0
    temperature: float = 1.0
    precision: str = "auto"

    def __post_init__(self) -> None:
        for field, holds, expected in self._rules():
            if not holds:
                value = getattr(self, field)
                raise ValueError(f"protocol {self.name!r} has {field}={value!r}; {field} must be {expected}")

    def _rules(self) -> list[tuple[str, bool, str]]:
        rising = all(a < b for a, b in pairwise((0, *self.milestones, 1)))
        return [
            ("epochs", _are_epochs(self.epochs), "at least 1, or such as ((10, 2000), (50, 1500), (None, 300))"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "a positive rate"),
            ("momentum", 0 <= self.momentum < 1, "a value in [0, 1)"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "a value of 0 or more"),
            ("optimizer", self.optimizer in OPTIMIZERS, " or ".join(OPTIMIZERS)),
            ("smoothing", 1 <= self.smoothing < math.inf, "a factor of 1 or more"),
            ("schedule", self.schedule in SCHEDULES, " or ".join(SCHEDULES)),
            ("milestones", rising, "rising fractions in (0, 1)"),
            ("gamma", 0 < self.gamma <= 1, "a factor in (0, 1]"),
            ("max_shift", self.max_shift >= 0, "0 or more pixels"),
            ("crop_scale", self.crop_scale is None or 0 < self.crop_scale <= 1, "an area in (0, 1], or None"),
            ("color_jitter", 0 <= self.color_jitter <= 1, "a strength in [0, 1]"),
            ("lighting", 0 <= self.lighting < math.inf, "a deviation of 0 or more"),
            ("cutmix", 0 <= self.cutmix < math.inf, "a Beta parameter, or 0 for none"),
            ("temperature", 0 < self.temperature < math.inf, "above 0"),
            ("precision", self.precision in PRECISIONS, " or ".join(PRECISIONS)),
        ]

    def epochs_for(self, ipc: float) -> int:
        """Passes over a set of ``ipc`` images per class.

        Raises:
            ValueError: there are none.
        """
        if not ipc > 0:
            raise ValueError(f"a set has {ipc} images per class; epochs follow from a number above 0, so give that")
        if isinstance(self.epochs, int):
            return self.epochs
        return next(epochs for most, epochs in self.epochs if most is None or ipc <= most)

    def on(self, device: str | torch.device) -> "Protocol":
        """The same with ``float32`` or ``bfloat16`` in the place of ``auto``, as the device computes fast.

        On a GPU small networks wait for kernels to start, not for multiplications, so that it keeps float32.
        """
        if self.precision != "auto":
            return self
        fast = torch.device(device).type == "cpu" and has_bfloat16(device)
        return replace(self, precision="bfloat16" if fast else "float32")

    def for_network(self, name: str) -> "Protocol":
        """The same for a network of this name."""
        return replace(self, smoothing=1.0) if name in self.unsmoothed else self

    def rate_factor(self, progress: float) -> float:
        """What multiplies the learning rate when the fraction ``progress`` of the training, in [0, 1], is over."""
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * progress / self.smoothing)) / 2
        return self.gamma ** sum(progress >= milestone for milestone in self.milestones)


def _are_epochs(epochs: int | tuple[tuple[float | None, int], ...]) -> bool:
    if isinstance(epochs, int):
        return epochs >= 1
    *limits, last = [most for most, _ in epochs] or [0]
    numbers = [most for most in limits if most is not None]
    rising = len(numbers) == len(limits) and all(a < b for a, b in pairwise((0, *numbers)))
    return last is None and rising and all(number >= 1 for _, number in epochs)


def list_protocols() -> list[str]:
    """Names that ``as_protocol``, and so ``evaluate``, takes."""
    return list(PROTOCOLS)


def as_protocol(protocol: str | Protocol) -> Protocol:
    """A protocol by its name, or one of your own as it is.

    Raises:
        ValueError: there is none of that name.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise ValueError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}, or make a Protocol")
    return PROTOCOLS[protocol]


def require_hard_labels(protocol: str) -> None:
    """Refuse a protocol that is made for soft labels where sets have none; ValueError, also if there is none such."""
    if as_protocol(protocol).temperature != 1:
        hard = ", ".join(name for name, known in PROTOCOLS.items() if known.temperature == 1)
        raise ValueError(
            f"protocol {protocol!r} is one for soft labels, but here networks learn from hard ones; use one of {hard}, "
            "and compare soft labels of the set afterwards, by label_folder() and evaluate()"
        )


PROTOCOLS = {
    # dataset condensation's own, which for Fashion-MNIST and this network augments nothing
    "classic": Protocol("classic", epochs=300, batch_size=256, milestones=(0.5,)),
    # our own: small batches at a low rate; on 100 images, higher rates and shifts lost 0.5 to 2 points
    "quick": Protocol("quick", epochs=20, batch_size=10, learning_rate=0.0025, schedule="cosine"),
    # IDC's for hard labels: length by images per class, crops, flips, colours and CutMix on every batch
    "hard-label": Protocol(
        "hard-label",
        epochs=((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500), (None, 300)),
        batch_size=64,
        milestones=(2 / 3, 5 / 6),
        gamma=0.2,
        crop_scale=0.5,
        flip=True,
        color_jitter=0.4,
        lighting=0.1,
        cutmix=1.0,
    ),
    # RD3's for soft labels, with RDED's temperature, decay and crops
    "unified": Protocol(
        "unified",
        epochs=400,
        batch_size=50,
        learning_rate=0.001,
        weight_decay=0.01,
        optimizer="adamw",
        schedule="cosine",
        smoothing=2.0,
        unsmoothed=("resnet-18",),
        crop_scale=0.5,
        flip=True,
        cutmix=1.0,
        temperature=20.0,
    ),
}
