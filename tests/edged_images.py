"""Small images of three classes that a small network tells apart: which side is bright."""

import json

import numpy as np
from PIL import Image

from dag_diffusion.data.pools import read_pool
from dag_diffusion.evaluation.labelled_images import LabelledImages

NAMES = {0: "left", 1: "right", 2: "top/bottom"}


def draw(seed, per_class=6):
    """Images of 8 pixels, grey noise with one bright edge (two for class 2)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    images = rng.integers(0, 60, (len(labels), 8, 8, 1), np.uint8)
    images[labels == 0, :, :3] += 180
    images[labels == 1, :, 5:] += 180
    images[labels == 2, :3] += 180
    images[labels == 2, 5:] += 180
    return LabelledImages(images, labels, NAMES)


def write_folder(path, given, names, rows=False):
    """One PNG an image in a folder named after its class; with ``rows``, the labels of ``given`` in the metadata."""
    lines = []
    for index, (image, label) in enumerate(zip(given.images, given.labels.tolist(), strict=True)):
        file = path / names[label] / f"{index:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(file)
        row = {"file_name": f"{names[label]}/{index:02d}.png", "label": label, "class_name": given.class_names[label]}
        lines.append(json.dumps(row) + "\n")
    if rows:
        (path / "metadata.jsonl").write_text("".join(lines))
    return read_pool(path)
