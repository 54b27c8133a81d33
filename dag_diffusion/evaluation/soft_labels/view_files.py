"""Labels per view on disk: one index that says what they are, and the shards that it names, beside the images.

    SET/view_labels.json                                 teacher, classes, files, images, seed, shards and their digests
    SET/view_labels-KEY-00001-of-00016.safetensors       views 0 to 24: codes, steps, and columns if not all are kept

Shards come first and each at once; the index makes them the set's labels and comes last, so that a run that is killed
leaves the earlier labels in force and goes on where it was.  They are files, not a folder, which loaders of class
folders would take for a class.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dag_diffusion.data.files import read_json_object, recorded, write_atomically, write_json
from dag_diffusion.data.pools import Pool

from .compression import CompressedLogits, joined
from .per_image import require_rows
from .teachers import LabelSource, Teacher, bytes_of_images
from .views import ViewLabels, draws

VIEW_LABELS = "view_labels.json"
SHARD = re.compile(r"view_labels-[0-9a-f]+-\d+-of-\d+\.safetensors")
FORMAT = "dag-diffusion view labels 1"


def place_of(pool: Pool) -> Path:
    """The folder of a set, where its labels lie.

    Raises:
        ValueError: it is a single file.
    """
    folder = pool.listing or pool.path
    if not folder.is_dir():
        raise ValueError(
            f"soft labels lie beside the images in a folder, but {folder} is none; save the set as a folder"
        )
    return folder


def key_of(settings: Mapping[str, Any]) -> str:
    """What shards of the same settings share in their names."""
    text = json.dumps(recorded(settings), sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def shard_name(key: str, number: int, count: int) -> str:
    """File name of one of ``count`` shards, counted from 0."""
    return f"view_labels-{key}-{number + 1:05d}-of-{count:05d}.safetensors"


def is_shard(name: str) -> bool:
    """Whether a file is called as ``shard_name`` calls them."""
    return SHARD.fullmatch(name) is not None


def write_shard(path: Path, logits: CompressedLogits) -> None:
    """Write the labels of some views, ``(views, images)`` rows."""
    write_atomically(path, save({name: tensor.contiguous() for name, tensor in logits.tensors.items()}))


def write_index(folder: Path, settings: Mapping[str, Any], teacher: Teacher, names: list[str]) -> None:
    """Make shards the labels of the set, and remove those that are no longer."""
    files = [folder / name for name in names]
    shards = [{"file": file.name, "bytes": file.stat().st_size, "digest": _digest(file.read_bytes())} for file in files]
    write_json(
        folder / VIEW_LABELS,
        {"format": FORMAT, **settings, "teacher": asdict(teacher), "shards": shards},
    )
    for stale in {path for path in folder.iterdir() if is_shard(path.name)} - set(files):
        stale.unlink()


def read_index(folder: Path) -> dict[str, Any]:
    """What ``view_labels.json`` says.

    Raises:
        FileNotFoundError: there are no labels per view.
        ValueError: the file holds something else.
    """
    path = folder / VIEW_LABELS
    if not path.is_file():
        raise FileNotFoundError(f"there are no labels per view at {path}; write them with soft_labels.label_views")
    index = read_json_object(path)
    if index.get("format") != FORMAT:
        raise ValueError(
            f"{path} holds no labels per view, or of another version; write them again with overwrite=True"
        )
    return index


def whole_shards(folder: Path, names: Iterable[str]) -> set[str]:
    """Those of the shards that are there, and as the index in force says where it names them."""
    try:
        told = {shard["file"]: shard["digest"] for shard in read_index(folder)["shards"]}
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none is in force
        told = {}
    there = [name for name in names if (folder / name).is_file()]
    return {name for name in there if name not in told or told[name] == _digest((folder / name).read_bytes())}


def read_view_labels(pool: Pool, pixels: np.ndarray | None = None) -> ViewLabels:
    """The labels per view of a set, checked against its classes, files and images.

    Args:
        pixels: ``(images, height, width, channels)`` uint8, the images in the pool's order as they will be trained on;
            None: they are not compared with those that were labelled.

    Raises:
        FileNotFoundError: the set has none, or a shard is missing.
        ValueError: they are of other classes, files, pixels or another size, or are broken; or libraries here would
            draw other views.
    """
    folder = place_of(pool)
    index, path = read_index(folder), folder / VIEW_LABELS
    try:
        shape, names, seed = (*index["size"], index["channels"]), index["file_names"], int(index["seed"])
        classes, digest, drawing, drawn = index["class_names"], index["images"], dict(index["drawing"]), index["draws"]
        shards = [(str(shard["file"]), shard["digest"]) for shard in index["shards"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is incomplete ({error}); write the labels again with overwrite=True") from error
    _require_classes(path, pool, classes)
    require_rows(path, pool, names)
    if len(names) != len(pool):
        raise ValueError(f"{path} is of {len(names)} images, but the set has {len(pool)}; label the set as it is now")
    place = {row["file_name"]: number for number, row in enumerate(pool.rows)}
    rows = torch.tensor([place[name] for name in names])
    if pixels is not None:
        _require_pixels(path, pixels[rows.numpy()], shape, digest)
    if drawn != draws():
        raise ValueError(f"torch or numpy draw other views here than where {path} was made; use their versions there")
    logits = joined([_shard(folder, *shard, len(classes)) for shard in shards])
    return ViewLabels(logits, seed, drawing, rows, outputs=len(classes))


def view_source(pool: Pool) -> LabelSource:
    """Whose the labels per view of a set are, and what they weigh."""
    folder = place_of(pool)
    index = read_index(folder)
    size = (folder / VIEW_LABELS).stat().st_size + sum(shard["bytes"] for shard in index["shards"])
    return LabelSource(
        teacher=Teacher(**index["teacher"]),
        views=index["views"],
        top_k=index["top_k"],
        label_bytes=size,
        image_bytes=bytes_of_images(pool),
    )


def pixel_digest(pixels: np.ndarray) -> str:
    """A hash of images ``(n, height, width, channels)`` uint8, in order."""
    found = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    found.update(np.ascontiguousarray(pixels).tobytes())
    return found.hexdigest()


def renamed_index(
    index: Mapping[str, Any], names: Mapping[str, str], rename_teacher: Callable[[str], str]
) -> dict[str, Any]:
    """The index with other file names of images and another name of the teacher."""
    teacher = {name: rename_teacher(one) if isinstance(one, str) else one for name, one in index["teacher"].items()}
    return {**index, "file_names": [names.get(name, name) for name in index["file_names"]], "teacher": teacher}


def _require_classes(path: Path, pool: Pool, classes: list[str]) -> None:
    ours = [pool.class_names[label] for label in sorted(pool.class_names)]
    if classes != ours:
        raise ValueError(
            f"{path} is of the classes {', '.join(classes)[:60]}, but the set has {', '.join(ours)[:60]}; "
            "write the labels again"
        )


def _require_pixels(path: Path, pixels: np.ndarray, shape: tuple[int, ...], digest: str) -> None:
    if pixels.shape[1:] != shape:
        (height, width, channels), (other, wide, deep) = shape, pixels.shape[1:]
        raise ValueError(
            f"{path} is of images of {width} x {height} pixels in {channels} channels, but they are brought to "
            f"{wide} x {other} in {deep}; evaluate at that size, or label at this one"
        )
    if pixel_digest(pixels) != digest:
        raise ValueError(f"{path} is of other images than those that lie beside it now; label the set again")


def _shard(folder: Path, name: str, digest: str, classes: int) -> CompressedLogits:
    path = folder / Path(name).name  # never elsewhere, whatever the index says
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, which {VIEW_LABELS} names; restore it, or label the set again")
    data = path.read_bytes()
    if _digest(data) != digest:
        raise ValueError(f"{path} is not what {VIEW_LABELS} says; restore it, or label the set again")
    try:
        stored: dict[str, Tensor] = load(data)
        return CompressedLogits(stored["codes"], stored["step"], classes, stored.get("columns"), stored.get("rest"))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} holds no labels ({error}); remove it, and label the set again") from error


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
