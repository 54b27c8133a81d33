"""Soft labels: a teacher's logits for each image of a set, kept beside the set's metadata and matched by file name.

    soft label = softmax(logits of the teacher / temperature),   loss = -sum(soft label * log p)

``SET/soft_labels.safetensors`` holds the logits, a row for each image, a column for each class of the set in the order
of its labels; the largest of a row is 0, since softmax knows only distances and half precision is finest there.  Its
header names teacher, classes and files, so that no row or column is matched by position, and has a digest of each file,
so that labels of other images of the same name are refused.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dag_diffusion.classifiers.image_classifiers import class_names_of, prepared_logits, preprocessing_of
from dag_diffusion.classifiers.model_transforms import AnyPreprocessing
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.files import safetensors_joined, safetensors_parts, write_safetensors
from dag_diffusion.data.images import readable
from dag_diffusion.data.pools import Pool, read_pool
from dag_diffusion.processor import usual_torch
from dag_diffusion.sampling.scoring import fitted_image, read_ahead

from .teachers import LabelSource, Teacher, bytes_of_images

SOFT_LABELS = "soft_labels.safetensors"
DIGESTS = "file_digests"  # files of earlier versions have none
DIGITS = 16  # of each
BATCH_SIZE = 64


@usual_torch()
def teacher_logits(
    classifier: nn.Module,
    images: Pool | Tensor,
    *,
    class_names: Mapping[int, str] | None = None,
    class_map: Mapping[str, str | int] | None = None,
    batch_size: int = BATCH_SIZE,
) -> Tensor:
    """Logits of a classifier for images, each seen once and unchanged.

    Args:
        classifier: the teacher, in evaluation mode; see ``classifiers.load_classifier``.
        images: a pool, or ``(n, 1 or 3, height, width)``, uint8 or float in [0, 1].
        class_names: label to name of the classes that get a column, matched with the teacher's by name.  None: those of
            the pool; for a tensor all of the teacher's.
        class_map: those names to the teacher's, where no rule finds them, see ``class_names.match_classes``.
        batch_size: images that it sees at a time.

    Returns:
        ``(n, classes)`` float32 on the CPU, columns in the order of the labels; rows in that of the images.

    Raises:
        ValueError: the classifier is in training mode, lacks a class, or gives logits that are not finite.
        UnreadableImageError: a file of the pool is no image; it is named.
    """
    if classifier.training:
        raise ValueError("the teacher is in training mode, where logits depend on the batch; call classifier.eval()")
    names = images.class_names if class_names is None and isinstance(images, Pool) else class_names
    found = (
        {}
        if names is None
        else match_classes(names, class_names_of(classifier), "the teacher", class_map or {}, trainable=True)
    )
    preprocessing = preprocessing_of(classifier)
    with torch.inference_mode():
        batches = _fitted_batches(images, preprocessing, batch_size)
        logits = torch.cat(
            [prepared_logits(classifier, preprocessing.normalised(batch)).float().cpu() for batch in batches]
        )
    if not logits.isfinite().all():
        raise ValueError("the teacher's logits are not finite; compute in float32 (classifier.float()) or check it")
    return logits if names is None else logits[:, [found[label] for label in sorted(names)]]


def _fitted_batches(images: Pool | Tensor, preprocessing: AnyPreprocessing, batch_size: int) -> Iterator[Tensor]:
    if isinstance(images, Tensor):
        yield from map(preprocessing.fitted, images.split(batch_size))
        return

    def fitted(index: int) -> Tensor:
        return fitted_image(images, index, [preprocessing])[preprocessing]

    for batch in read_ahead(fitted, range(len(images)), batch_size):
        yield torch.cat([image for _, image in batch])


def write_soft_labels(
    pool_folder: str | Path,
    logits: Tensor,
    file_names: Sequence[str],
    teacher: str | Teacher,
    *,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Keep a teacher's logits as ``soft_labels.safetensors`` in the folder of a set, whole or not at all.

    Args:
        pool_folder: of the set.
        logits: ``(n, classes)`` finite, one column a class of the set in the order of its labels.
        file_names: of the rows, as the set's metadata has them; every image of the set once, in any order.
        teacher: its name, or all that is known of it, for the record.
        dtype: of the file; float16 halves it and moves a probability above 0.001 by less than 1 %.

    Returns:
        The file written.

    Raises:
        ValueError: rows or columns do not fit the set's images and classes, or logits are not finite.
        FileNotFoundError: there is no set in the folder.
    """
    pool = read_pool(pool_folder)
    path = _place_of(pool)
    if logits.ndim != 2 or logits.shape[1] != len(pool.class_names) or len(logits) != len(file_names):
        raise ValueError(
            f"soft labels of {len(file_names)} files and {len(pool.class_names)} classes need logits of that shape, "
            f"but got {tuple(logits.shape)}; use teacher_logits(classifier, pool)"
        )
    kept = (logits - logits.amax(1, keepdim=True)).detach().to("cpu", dtype).contiguous()
    if not kept.isfinite().all():
        raise ValueError(f"logits are not finite as {str(dtype).removeprefix('torch.')}; use dtype=torch.float32")
    names = list(file_names)
    require_rows(path, pool, names)
    classes = [pool.class_names[label] for label in sorted(pool.class_names)]
    taught_by = Teacher(teacher) if isinstance(teacher, str) else teacher
    known = {
        f"teacher_{name}": str(value)
        for name, value in asdict(taught_by).items()
        if value not in ("", None) and name != "name"
    }
    digests = dict(zip((row["file_name"] for row in pool.rows), _digests(pool), strict=True))
    of_rows = [digests.get(name, "") for name in names]
    lists = {"class_names": _text(classes), "file_names": _text(names), DIGESTS: _text(of_rows)}
    header = {"teacher": taught_by.name, **known, **lists, "format": "pt"}
    write_safetensors(path, {"logits": kept}, header)
    return path


def read_soft_labels(pool: Pool) -> Tensor:
    """Probabilities that the teacher gave to the classes of a set, ready for ``training.train``.

    A protocol softens them by its own temperature.

    Returns:
        ``(n, classes)`` float32, rows in the pool's order, columns in the order of its labels, each row with sum 1;
        of labels for further classes what the teacher says among those of the pool.

    Raises:
        FileNotFoundError: the set has no soft labels.
        ValueError: they are broken, lack an image, name one twice, or are of other classes or of other images.
    """
    path = _place_of(pool)
    _, header, logits = _read(path)
    classes, labelled_as = [pool.class_names[label] for label in sorted(pool.class_names)], header["class_names"]
    if classes != labelled_as and (len(set(labelled_as)) < len(labelled_as) or not set(classes) < set(labelled_as)):
        raise ValueError(
            f"{path} is of the classes {', '.join(labelled_as)[:60]}, but the set has "
            f"{', '.join(classes)[:60]}; write the soft labels again"
        )
    names = header["file_names"]
    require_rows(path, pool, names)
    row_of = {name: row for row, name in enumerate(names)}
    order = [row_of[row["file_name"]] for row in pool.rows]
    if DIGESTS in header:
        labelled = [header[DIGESTS][row] for row in order]
        others = [row for row, then, now in zip(pool.rows, labelled, _digests(pool), strict=True) if then != now]
        if others:
            raise ValueError(
                f"{path} is of other images than {len(others)} of {len(pool)} that lie beside it now (first: "
                f"{others[0]['file_name']}); label the set again"
            )
    if classes != labelled_as:  # the images of some of its classes
        logits = logits[:, [labelled_as.index(name) for name in classes]]
    return logits[order].float().softmax(1)


def image_source(pool: Pool) -> LabelSource:
    """Whose the soft labels of a set are, one an image, and what they weigh.

    Raises:
        FileNotFoundError: the set has none.
        ValueError: they are broken.
    """
    path = _place_of(pool)
    known, lists, _ = _read(path)
    accuracy = known.get("teacher_accuracy")
    teacher = Teacher(
        known.get("teacher", ""),
        known.get("teacher_digest", ""),
        None if accuracy is None else float(accuracy),
        known.get("teacher_test", ""),
        known.get("teacher_key", ""),
    )
    return LabelSource(
        teacher=teacher,
        views=None,
        top_k=len(lists["class_names"]),
        label_bytes=path.stat().st_size,
        image_bytes=bytes_of_images(pool),
    )


def with_other_names(data: bytes, names: Mapping[str, str], rename_teacher: Callable[[str], str]) -> tuple[bytes, str]:
    """Rename the files and the teacher in the bytes of ``soft_labels.safetensors``.

    Only the header is written anew, its keys in their order: safetensors' own ``save`` orders them anew each time, so
    that the same labels would make another file.

    Args:
        names: earlier file name to new one; others are kept.
        rename_teacher: from the teacher's name to the new one.

    Returns:
        the bytes, and the teacher's new name, empty if none is recorded.
    """
    numbers, header = safetensors_parts(data)
    metadata = header["__metadata__"]
    teacher = rename_teacher(metadata.get("teacher", ""))
    files = [names.get(name, name) for name in json.loads(metadata["file_names"])]
    metadata |= {"teacher": teacher, "file_names": _text(files)}
    return safetensors_joined(numbers, header), teacher


def _place_of(pool: Pool) -> Path:
    return (pool.listing or pool.path) / SOFT_LABELS


def _read(path: Path) -> tuple[dict[str, str], dict[str, list[str]], Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"there are no soft labels at {path}; write them by label_folder()")
    try:
        with safe_open(path, "pt") as stored:
            header = stored.metadata() or {}
            lists = {name: json.loads(header[name]) for name in ("class_names", "file_names")}
            lists |= {DIGESTS: json.loads(header[DIGESTS])} if DIGESTS in header else {}
            return header, lists, stored.get_tensor("logits")
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} holds no soft labels ({error}); write them again, or remove the file") from error


def require_rows(path: Path, pool: Pool, names: Sequence[str]) -> None:
    """Each image of the set has one row; further rows, of images since removed, do no harm."""
    if len(set(names)) < len(names):
        raise ValueError(f"the soft labels of {path} name a file twice; give one row an image")
    known = set(names)
    if missing := [row["file_name"] for row in pool.rows if row["file_name"] not in known]:
        raise ValueError(
            f"{path} lacks {len(missing)} of {len(pool)} images (first: {missing[0]}); "
            "write soft labels of the whole set"
        )


def _digests(pool: Pool) -> list[str]:
    found = []
    for index, row in enumerate(pool.rows):
        with readable(pool.path / row["file_name"]):
            found.append(pool.file_digest(index)[:DIGITS])
    return found


def _text(names: Sequence[str]) -> str:
    return json.dumps(names, ensure_ascii=False)
