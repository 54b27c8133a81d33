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


def training_difficulties(class_names: dict[int, str], *, out_of_sample: bool = True) -> dict[str, np.ndarray]:
    """The guide's difficulties of the 60,000 training images, by class, 6,000 each.

    Args:
        class_names: of the embedded pipeline.
        out_of_sample: each image scored by a guide trained on the other half; in sample they crowd at 0.
    """
    with np.load(TRAIN_DIFFICULTIES, allow_pickle=False) as arrays:
        labels, values = arrays["label"], arrays["cross_fitted" if out_of_sample else "in_sample"]
    return {name: values[labels == label].astype(np.float64) for label, name in class_names.items()}
