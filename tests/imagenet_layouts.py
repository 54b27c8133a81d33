"""Stand-ins of ImageNet as it comes: few tiny images in the folders, lists and tables of the real thing."""

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from tiny import tiny_classifier, tiny_pipeline, tiny_transformer

from dag_diffusion.data.class_names import distinct_names
from dag_diffusion.data.imagenet import SUBSETS, imagenet_names

WOOF = SUBSETS["ImageWoof"]
DIT_XL = {"num_layers": 28, "num_attention_heads": 16, "attention_head_dim": 72, "num_embeds_ada_norm": 1000}


def write_jpeg(path: Path, seed: int = 0) -> None:
    """Noise, another for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(seed))


def jpeg(seed: int) -> bytes:
    encoded = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 14, 3), np.uint8)
    Image.fromarray(pixels).save(encoded, "JPEG")
    return encoded.getvalue()


def write_train(folder: Path, synsets: Iterable[str], count: int = 4) -> Path:
    """ILSVRC/train: a folder for each synset."""
    for place, synset in enumerate(synsets):
        for index in range(count):
            write_jpeg(folder / synset / f"{synset}_{37 * index}.JPEG", 100 * place + index)
    return folder


def write_val(folder: Path, synsets: Iterable[str], count: int = 2) -> Path:
    """ILSVRC/val sorted into folders, as most scripts leave it."""
    for place, synset in enumerate(synsets):
        for index in range(count):
            number = 100 * place + index
            write_jpeg(folder / synset / f"ILSVRC2012_val_{number:08d}.JPEG", 10_000 + number)
    return folder


def write_flat_val(folder: Path, synsets: Iterable[str], count: int = 2) -> dict[str, str]:
    """ILSVRC's validation images as they come, all in one folder; file to synset."""
    found, first = {}, None
    for place, synset in enumerate(synsets):
        for index in range(count):
            name = f"ILSVRC2012_val_{count * place + index + 1:08d}.JPEG"
            if first is None:
                write_jpeg(first := folder / name, 7)
            else:
                os.link(first, folder / name)
            found[name] = synset
    return found


def write_kaggle(root: Path) -> tuple[Path, Path]:
    """Kaggle's download; its train and val folders."""
    base = root / "ILSVRC" / "Data" / "CLS-LOC"
    classes = write_flat_val(base / "val", WOOF)
    with (root / "LOC_val_solution.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["ImageId", "PredictionString"])
        writer.writerows([Path(name).stem, f"{synset} 1 2 3 4 {synset} 5 6 7 8"] for name, synset in classes.items())
    write_train(base / "train", WOOF)
    for index in range(2):
        write_jpeg(base / "test" / f"ILSVRC2012_test_{index:08d}.JPEG", index)
    return base / "train", base / "val"


def write_fastai(root: Path) -> tuple[Path, Path]:
    """fastai's imagewoof2, whose training images are named as ILSVRC's validation images too."""
    for split, count in (("train", 4), ("val", 2)):
        for place, synset in enumerate(WOOF):
            for index in range(count):
                number = 1000 * (split == "val") + 10 * place + index
                name = f"ILSVRC2012_val_{number:08d}" if index % 2 else f"{synset}_{number}"
                write_jpeg(root / split / synset / f"{name}.JPEG", number)
    (root / "noisy_imagewoof.csv").write_text("path,noisy_labels_0,is_valid\ntrain/n02086240/a.JPEG,n02086240,False\n")
    return root / "train", root / "val"


def write_tiny_imagenet(root: Path) -> tuple[Path, Path]:
    """Tiny-ImageNet's ``class/images/*.JPEG`` and its annotated val."""
    for place, synset in enumerate(WOOF):
        for index in range(4):
            write_jpeg(root / "train" / synset / "images" / f"{synset}_{index}.JPEG", 10 * place + index)
        (root / "train" / synset / f"{synset}_boxes.txt").write_text(f"{synset}_0.JPEG\t0\t0\t62\t62\n")
    names = [f"val_{number}.JPEG" for number in range(2 * len(WOOF))]
    for number, name in enumerate(names):
        write_jpeg(root / "val" / "images" / name, 500 + number)
    lines = [f"{name}\t{WOOF[number % len(WOOF)]}\t0\t32\t44\t62\n" for number, name in enumerate(names)]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    write_jpeg(root / "test" / "images" / "test_0.JPEG")
    (root / "wnids.txt").write_text("\n".join(WOOF))
    (root / "words.txt").write_text("n02096294\tAustralian terrier\n")
    return root / "train", root / "val"


def write_hub(root: Path) -> tuple[str, str]:
    """Parquet files as the Hub's ImageNet has them: labels of all 1000 classes, of which ten have images."""
    import datasets

    names = distinct_names(imagenet_names())
    from timm.data import ImageNetInfo

    labels = [list(ImageNetInfo("imagenet-1k").label_names()).index(synset) for synset in WOOF]
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names.values()))}
    (root / "data").mkdir(parents=True)
    for split, count in (("train", 4), ("validation", 2)):
        rows = [
            {"image": {"bytes": jpeg(1000 * count + 10 * label + index), "path": None}, "label": label}
            for label in labels
            for index in range(count)
        ]
        table = datasets.Dataset.from_list(rows, features=datasets.Features(kinds))
        for part in range(2):
            shard = table.shard(2, part)
            shard.to_parquet(root / "data" / f"{split}-{part:05d}-of-00002.parquet")
    return f"{root}/data/train-*.parquet", f"{root}/data/validation-*.parquet"


def write_models(folder: Path) -> dict[str, str]:
    """A pipeline, a guide and an evaluator of ImageNet's classes, tiny and random."""
    names = imagenet_names()
    tiny_pipeline(transformer=tiny_transformer(1000), classifier=None, id2label=names).save_pretrained(folder / "dit")
    tiny_classifier(names).save_pretrained(folder / "guide")
    tiny_classifier(names, hidden_sizes=[8]).save_pretrained(folder / "evaluator")
    return {"pipeline": f"{folder}/dit", "classifier": f"{folder}/guide", "evaluator": f"{folder}/evaluator"}


def write_dit_xl(folder: Path) -> str:
    """The configurations of DiT-XL/2 at 256 px beside weights that nobody may load."""
    files = {
        "model_index.json": {"_class_name": "DiTPipeline", "id2label": imagenet_names()},
        "transformer/config.json": {**DIT_XL, "sample_size": 32},
        "vae/config.json": {"block_out_channels": [128, 256, 512, 512]},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    for part in ("transformer", "vae"):
        (folder / part / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    return str(folder)
