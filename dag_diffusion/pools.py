"""A pool, or a distilled set, on disk: class folders of images, one metadata row an image, and where it came from.

    POOL/T-shirt/00000.png ...   POOL/metadata.jsonl   POOL/pool.json

The rows make it an ordinary Hugging Face ``imagefolder``.  Labels are read from them, never from the order of folders.
An image or a file exists whole or not at all: it is written under another name and then renamed.
"""

import io
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

logger = logging.getLogger(__name__)
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
METADATA = "metadata.jsonl"
PROVENANCE = "pool.json"
LOCK = ".lock"  # in a folder while a run works on it
EARLIER = ".earlier"  # the pool that is being overwritten, until the new one is finished
COLUMNS = ("file_name", "label", "class_name", "target_difficulty", "difficulty", "seed")


class UnreadableImageError(ValueError):
    """A file that should be an image is none."""


@dataclass(frozen=True)
class Pool:
    """Images of known class.  ``rows`` follow the schema of ``COLUMNS`` plus whatever else their maker recorded.

    Attributes:
        path: the folder, or the parquet file, that holds the images.
        rows: one dictionary an image, sorted by label and file name.
        provenance: what ``pool.json`` says; empty for a folder that somebody else made.
        encoded: the bytes of each image file when they come from a parquet file instead of a folder.
    """

    path: Path
    rows: list[dict[str, Any]]
    provenance: dict[str, Any] = field(default_factory=dict)
    encoded: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def class_names(self) -> dict[int, str]:
        """Label to class name, of the classes that have images."""
        return {row["label"]: row["class_name"] for row in self.rows}

    @property
    def labels(self) -> np.ndarray:
        """``(images,)`` int64."""
        return np.array([row["label"] for row in self.rows], np.int64)

    @property
    def difficulties(self) -> np.ndarray:
        """``(images,)`` float64 in [0, 1].

        Raises:
            ValueError: an image has no difficulty yet.
        """
        missing = [row["file_name"] for row in self.rows if row.get("difficulty") is None]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(self)} images in {self.path} have no difficulty (first: {missing[0]}); "
                f"run `dag-diffusion score {self.path}` first"
            )
        return np.array([row["difficulty"] for row in self.rows], np.float64)

    def open(self, index: int) -> Image.Image:
        """The image of one row, decoded.

        Raises:
            UnreadableImageError: the file is missing, not an image, cut off, or too large to be one; it is named.
        """
        name = self.path / self.rows[index]["file_name"]
        try:
            with Image.open(name if self.encoded is None else io.BytesIO(self.encoded[index])) as image:
                image.load()
                return image
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow raises all of these
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
            raise UnreadableImageError(
                f"{name} is not a readable image ({reason}); restore it, or remove the file and its row"
            ) from error


def folder_names(class_names: Mapping[int, str]) -> dict[int, str]:
    """A safe, distinct folder name for each label: the first synonym, without characters that a file system refuses."""
    names: dict[int, str] = {}
    for label, name in class_names.items():
        safe = re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", name.split(",")[0]).strip(" .") or "class"
        taken = {other.casefold() for other in names.values()}  # two names that differ in case are one on many disks
        while safe.casefold() in taken:
            safe = f"{safe}_{label}"
        names[label] = safe
    return names


def read_pool(path: str | Path) -> Pool:
    """Read a pool, a distilled set, a bare folder of class folders, or a parquet image dataset.

    A folder without ``metadata.jsonl`` gets labels in the sorted order of its class folders; whoever compares them with
    a classifier does so by name.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ValueError: it holds no images, a broken row, or a row that points outside the folder or to a missing file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no pool at {path}; give a folder of class folders, or make one with `generate`"
        )
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if not path.is_dir():
        raise ValueError(f"{path} is neither a folder of class folders nor a .parquet image dataset")
    if (path / PROVENANCE).exists() and not (path / METADATA).exists():
        raise ValueError(f"the pool at {path} is not finished; go on with the same `generate` command and --resume")
    listed = (path / METADATA).exists()
    rows = read_rows(path / METADATA) if listed else _rows_of_folders(path)
    if rows and not listed:
        _require_images_in_each(path, {row["class_name"] for row in rows})
    if not rows:
        raise ValueError(f"{path} holds no images; expected {path}/CLASS/IMAGE.png, with or without a {METADATA}")
    _check_rows(path, rows)
    if listed and (extra := len(_rows_of_folders(path)) - len(rows)) > 0:
        logger.warning("%d images in %s have no row in %s and are left out", extra, path, METADATA)
    provenance = json.loads((path / PROVENANCE).read_text("utf-8")) if (path / PROVENANCE).exists() else {}
    return Pool(path, sorted(rows, key=lambda row: (row["label"], row["file_name"])), provenance)


def _read_parquet(path: Path) -> Pool:
    import pyarrow.parquet
    from datasets import Dataset
    from datasets import Image as ImageFeature

    table = Dataset(pyarrow.parquet.read_table(path))  # in memory: Dataset.from_parquet would fill a cache at home
    if not {"image", "label"} <= set(table.column_names):
        raise ValueError(f"{path} needs the columns image and label, but has {', '.join(table.column_names)}")
    labels = table["label"]
    if not all(isinstance(label, int) and label >= 0 for label in labels):
        raise ValueError(f"the labels in {path} must be whole numbers from 0 on; cast the column to ClassLabel first")
    names = getattr(table.features["label"], "names", None) or [str(i) for i in range(max(labels) + 1)]
    folders, rows, encoded = folder_names(dict(enumerate(names))), [], []
    for i, entry in enumerate(table.cast_column("image", ImageFeature(decode=False))):
        image, label = entry.pop("image"), entry["label"]
        entry = {k: v for k, v in entry.items() if isinstance(v, bool | int | float | str | None)}
        # the names inside are not used: they may repeat, or point anywhere
        rows.append({**entry, "file_name": f"{folders[label]}/{i:06d}.png", "class_name": names[label]})
        encoded.append(image["bytes"])
    return Pool(path, rows, encoded=encoded)


def _class_folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _rows_of_folders(path: Path) -> list[dict[str, Any]]:
    return [
        {"file_name": file.relative_to(path).as_posix(), "label": label, "class_name": folder.name}
        for label, folder in enumerate(_class_folders(path))
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]


def _require_images_in_each(path: Path, filled: set[str]) -> None:
    empty = [folder.name for folder in _class_folders(path) if folder.name not in filled]
    if empty:
        raise ValueError(f"{path} has class folders without images: {', '.join(empty)}; fill or remove them")


def read_rows(path: Path, *, growing: bool = False) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file.

    Args:
        growing: rows are appended one by one, so that a last line without its newline was cut off by a kill; it is
            left out.

    Raises:
        ValueError: a line is no row; its number is named.
    """
    lines = path.read_text("utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines[:-1] if growing else lines, 1):
        try:
            if line.strip():
                rows.append(_row(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"line {number} of {path} has no file_name, label and class_name ({error}); mend or remove it"
            ) from error
    return rows


def _row(row: dict[str, Any]) -> dict[str, Any]:
    if not (isinstance(row["file_name"], str) and isinstance(row["class_name"], str)):
        raise TypeError("file_name and class_name must be text")
    return {**row, "label": int(row["label"])}


def _check_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    root = path.resolve()
    seen: set[str] = set()
    for row in rows:
        name = row["file_name"]
        if not (path / name).resolve().is_relative_to(root):
            raise ValueError(
                f"{path / name} leads out of {path}; a row or link that does is refused, so copy the images"
            )
        if name in seen:
            raise ValueError(f"{path / METADATA} names {name!r} twice; keep one row an image")
        if not (path / name).is_file():
            raise ValueError(
                f"{path / METADATA} names {name!r}, which does not exist; remove the row or restore the file"
            )
        seen.add(name)


def as_eight_bit(image: Image.Image, channels: int) -> np.ndarray:
    """Any image as ``(height, width, channels)`` uint8: grey, palette, 16-bit, CMYK and transparent ones included.

    Transparency is laid over white, as browsers and print do; a rotation in the EXIF data is applied.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[..., None] if channels == 1 else array


def require_writable_target(folder: Path, *, overwrite: bool = False) -> None:
    """Check that ``folder`` may become a pool: absent or empty, or an earlier pool when ``overwrite`` is asked for.

    Raises:
        FileExistsError: it holds something that would be lost.
        PermissionError: it, or the folder above it, cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; choose another output folder")
    if folder.exists() and any(path.name != LOCK for path in folder.iterdir()):
        if not any((place / PROVENANCE).exists() for place in (folder, folder / EARLIER)):
            raise FileExistsError(
                f"{folder} holds something that is no pool; choose an empty or new folder for the output"
            )
        if not overwrite:
            raise FileExistsError(
                f"{folder} already holds a pool; add --overwrite to replace it, or choose another folder"
            )
    require_writable(folder)


def require_writable(path: Path) -> None:
    """Check that ``path``, or the nearest folder above it that exists, can be written; PermissionError if not."""
    above = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not os.access(above, os.W_OK):
        raise PermissionError(
            f"{above} cannot be written; choose an output folder of your own or change its permissions"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if need be and removed again if nothing came into it.

    Raises:
        FileExistsError: another run works on it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise FileExistsError(f"another run works on {folder}; wait for it, or choose another folder") from error
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # it holds something, as it should
            folder.rmdir()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a kill or a full disk leaves the old one or none, never half of the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_image(path: Path, image: Image.Image) -> None:
    """Write a PNG, whole or not at all, making the class folder if need be."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as JSON lines, non-finite numbers refused since other readers reject them."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, non-finite numbers refused."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_provenance(folder: Path, provenance: Mapping[str, Any]) -> None:
    """Write ``pool.json``: what made this pool, with versions, seeds and settings."""
    write_json(folder / PROVENANCE, provenance)


def write_distilled_set(
    pool: Pool,
    indices: Sequence[int],
    folder: Path,
    *,
    columns: Mapping[str, Sequence],
    provenance: Mapping[str, Any],
    overwrite: bool = False,
) -> Pool:
    """Copy the chosen images of ``pool`` into a new folder of the same form.

    Args:
        indices: rows of ``pool`` to keep.
        columns: further metadata, one value per chosen image, such as the bin that it was drawn for.
        provenance: how they were chosen; the pool's own provenance is kept under ``pool``.

    Raises:
        FileExistsError: ``folder`` is the pool itself; and, as PermissionError, see ``require_writable_target``.
    """
    folder = Path(folder).resolve()  # behind a link, the folder itself is replaced and the link stays
    if folder == pool.path.resolve():
        raise FileExistsError(f"{folder} is the pool itself; choose another folder for the distilled set")
    require_writable_target(folder, overwrite=overwrite)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    earlier = folder.with_name(f".{folder.name}.{os.getpid()}.earlier")
    try:
        rows = [_copy_image(pool, index, partial) for index in indices]
        for name, values in columns.items():
            for row, value in zip(rows, values, strict=True):
                row[name] = value
        write_atomically(partial / METADATA, json_lines(rows))
        write_provenance(partial, {**provenance, "pool": {"path": str(pool.path), **pool.provenance}})
        if folder.exists():
            os.replace(folder, earlier)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if earlier.exists() and not folder.exists():
            os.replace(earlier, folder)
        shutil.rmtree(earlier, ignore_errors=True)
    return read_pool(folder)


def _copy_image(pool: Pool, index: int, folder: Path) -> dict[str, Any]:
    row = pool.rows[index]
    target = folder / row["file_name"]
    target.parent.mkdir(parents=True, exist_ok=True)
    if pool.encoded is None:
        shutil.copyfile(pool.path / row["file_name"], target)
    else:
        target.write_bytes(pool.encoded[index])
    return dict(row)
