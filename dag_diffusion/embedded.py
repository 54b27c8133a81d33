"""Where the embedded default lives: a tiny pipeline with its guide, an evaluator and real Fashion-MNIST images.

``examples/train_embedded_default.py`` makes all of it; ``assets/README.md`` says what it is and under which licence.
"""

from pathlib import Path

import numpy as np

ASSETS = Path(__file__).parent / "assets"
PIPELINE = ASSETS / "pipeline"
EVALUATOR = ASSETS / "evaluator"
REFERENCE = ASSETS / "reference"
TEST = ASSETS / "test.parquet"
CLASS_NAMES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
TRAIN_DIFFICULTIES = ASSETS / "train_difficulties.npz"
MODES = ASSETS / "modes.safetensors"


def training_difficulties(class_names: dict[int, str], *, out_of_sample: bool = True) -> dict[str, np.ndarray]:
    """The guide's difficulties of the 60,000 training images, by class, 6,000 each.

    Args:
        class_names: label to class name, of which only the names count: a folder's labels may be in another order.
        out_of_sample: each image scored by a guide trained on the other half; in sample they crowd at 0.

    Raises:
        ValueError: a name is none of ``CLASS_NAMES``.
    """
    if unknown := [name for name in class_names.values() if name not in CLASS_NAMES]:
        raise ValueError(f"{unknown[0]!r} is no class of Fashion-MNIST; those are {', '.join(CLASS_NAMES)}")
    with np.load(TRAIN_DIFFICULTIES, allow_pickle=False) as arrays:
        labels, values = arrays["label"], arrays["cross_fitted" if out_of_sample else "in_sample"]
    return {name: values[labels == CLASS_NAMES.index(name)].astype(np.float64) for name in class_names.values()}
