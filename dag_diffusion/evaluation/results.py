"""One training on one set and what it reached on real test images; and results read back from a file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Result:
    """One training: which set taught which network how, and how well it did.

    Attributes:
        set, network, protocol, seed: names, and what draw, initial weights and order of batches follow from.
        images_per_class: mean over the classes.
        accuracy: in [0, 1], after the last epoch.
        seconds: of training and testing; of trainings done at once, the share of each.
        draw: seed of the draw for a set drawn anew for each seed, None for a set that is the same for all.
        labels: ``hard``, or a teacher's probabilities, ``soft`` of each image or ``views``; no two of these compare.
        test: name of the test images.
        epochs: of the training, None in records that do not say.
        best: the largest accuracy of all looks at the test set while training, None without such looks.  The test set
            chose that epoch, so it is too high, and the higher the more looks.
        precision: in which the network computed, ``float32`` or ``bfloat16``.
    """

    set: str
    network: str
    protocol: str
    seed: int
    images_per_class: float
    accuracy: float
    seconds: float
    draw: int | None = None
    labels: str = "hard"
    test: str = ""
    epochs: int | None = None
    best: float | None = None
    precision: str = "float32"

    @property
    def identity(self) -> tuple[str, str, str, str, str, str, int]:
        """What no two trainings of one evaluation share."""
        return self.set, self.network, self.protocol, self.precision, self.labels, self.test, self.seed


def results_of(rows: Iterable[Mapping[str, Any]]) -> list[Result]:
    """Results from JSON; what older records do not say has its default.

    Raises:
        ValueError: a row is no training.
    """
    try:
        return [Result(**row) for row in rows]
    except TypeError as error:
        raise ValueError(f"a row of the earlier results is no training ({error}); choose another output") from error
