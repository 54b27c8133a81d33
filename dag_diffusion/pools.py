"""A pool, or a distilled set, on disk: class folders of images, one metadata row an image, and where it came from.

    POOL/T-shirt/00000.png ...   POOL/metadata.jsonl   POOL/pool.json

The rows make it an ordinary Hugging Face ``imagefolder``.  Labels are read from them, never from the order of folders.
A row names a file in its folder and no other, whoever wrote it.
"""

import io
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .files import LOCK, read_json_object, require_writable, write_json
from .image_formats import image_suffixes

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)
METADATA = "metadata.jsonl"
SELECTED = "selected.jsonl"  # instead of METADATA in a set that only lists images of its pool
PROVENANCE = "pool.json"
EARLIER = ".earlier"  # the pool that is being overwritten, until the new one is finished
COLUMNS = ("file_name", "label", "class_name", "target_difficulty", "difficulty", "seed")


class UnreadableImageError(ValueError):
    """A file that should be an image is none."""


@dataclass(frozen=True)
class Pool:
    """Images of known class.  ``rows`` follow the schema of ``COLUMNS`` plus whatever else their maker recorded.

    Attributes:
        path: the folder or parquet file that holds the images; for a ``datasets.Dataset`` its fingerprint.
        rows: one dictionary an image, sorted by label and file name, or in the order of a dataset; not to be changed.
        provenance: what ``pool.json`` says; empty for a folder that somebody else made.
        encoded: the bytes of each image, read when asked for, when they come from a dataset instead of a folder.
    """

    path: Path
    rows: list[dict[str, Any]]
    provenance: dict[str, Any] = field(default_factory=dict)
    encoded: Sequence[bytes] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def class_names(self) -> dict[int, str]:
        """Label to class name, of the classes that have images."""
        return {row["label"]: row["class_name"] for row in self.rows}

    @cached_property
    def labels(self) -> np.ndarray:
        """``(images,)`` int64."""
        return np.array([row["label"] for row in self.rows], np.int64)

    @cached_property
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
        except Image.DecompressionBombError as error:
            raise UnreadableImageError(
                f"{name} is too large: more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels, which no program should "
                "open unasked; shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
            ) from error
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all of these
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
            raise UnreadableImageError(
                f"{name} is not a readable image ({reason}); restore it, or remove the file and its row"
            ) from error


def read_pool(source: "str | Path | Dataset") -> Pool:
    """Read a pool, a distilled set, a bare folder of class folders, or a Hugging Face dataset of images.

    A folder without ``metadata.jsonl`` gets labels in the sorted order of its class folders; whoever compares them with
    a classifier does so by name.  Images stay where they are until they are asked for.

    Args:
        source: a folder, a ``.parquet`` file, a folder of ``Dataset.save_to_disk``, or a ``datasets.Dataset``.

    Raises:
        FileNotFoundError: there is nothing at ``source``.
        ValueError: it holds no images, a broken row, or a row that points outside the folder or to a missing file.
    """
    if isinstance(source, str | os.PathLike):
        source = Path(source)
        if not source.exists():
            raise FileNotFoundError(
                f"there is no pool at {source}; give a folder of class folders, or make one with `generate`"
            )
        if not _is_table(source):
            return _read_folder(source)
    from .image_tables import read_table  # pyarrow and datasets take a second, which folders need not wait for

    path, rows, encoded = read_table(source)
    return Pool(path, rows, encoded=encoded)


def _is_table(path: Path) -> bool:
    saved = all((path / name).exists() for name in ("state.json", "dataset_info.json"))
    return saved or (path / "dataset_dict.json").exists() or (path.suffix.lower() == ".parquet" and path.is_file())


def _read_folder(path: Path) -> Pool:
    if not path.is_dir():
        raise ValueError(f"{path} is neither a folder of class folders nor a .parquet image dataset; give one of them")
    provenance = read_json_object(path / PROVENANCE) if (path / PROVENANCE).exists() else {}
    listed = (path / METADATA).exists()
    if not listed:
        _require_no_part_of_a_pool(path, provenance)
    rows = read_rows(path / METADATA) if listed else _rows_of_folders(path)
    if not rows:
        raise ValueError(f"{path} holds no images; expected {path}/CLASS/IMAGE.png, with or without a {METADATA}")
    if not listed:
        _require_images_in_each(path, {row["class_name"] for row in rows})
    _check_rows(path, rows)
    if listed and (extra := sum(1 for _ in _image_names(path)) - len(rows)) > 0:
        logger.warning("%d images in %s have no row in %s and are left out", extra, path, METADATA)
    return Pool(path, sorted(rows, key=lambda row: (row["label"], row["file_name"])), provenance)


def _require_no_part_of_a_pool(path: Path, provenance: Mapping[str, Any]) -> None:
    if (path / SELECTED).exists():
        pool = provenance.get("pool")
        origin = pool.get("path") if isinstance(pool, dict) else "another pool"
        raise ValueError(
            f"{path} only lists images of {origin}; choose them again with files='copy', or copy each `source` in "
            f"{SELECTED} from there"
        )
    if (path / PROVENANCE).exists():
        raise ValueError(f"the pool at {path} is not finished; go on with the same `generate` command and --resume")


def _class_folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _image_names(path: Path) -> Iterator[tuple[str, str]]:
    """Class folder and name below ``path`` of every image in it that is not hidden; links to folders not followed."""
    for top in _class_folders(path):
        for place, folders, files in os.walk(top):
            folders[:] = [name for name in folders if not name.startswith(".")]  # such as .ipynb_checkpoints
            inside = Path(place).relative_to(path).as_posix()
            for name in files:
                if os.path.splitext(name)[1].lower() in image_suffixes() and not name.startswith("."):
                    yield top.name, f"{inside}/{name}"


def _rows_of_folders(path: Path) -> list[dict[str, Any]]:
    labels = {folder.name: label for label, folder in enumerate(_class_folders(path))}
    return [
        {"file_name": name, "label": labels[folder], "class_name": folder}
        for folder, name in sorted(_image_names(path))
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
    root = os.path.realpath(path)
    inside: dict[tuple[str, ...], bool] = {}
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        name = PurePath(row["file_name"])  # parts, since Bag/./1.png is Bag/1.png
        file = os.path.join(root, name)
        if _leads_out(root, name, file, inside):
            raise ValueError(
                f"{path / name} leads out of {path}; a row or link that does is refused, so copy the images"
            )
        if name.parts in seen:
            raise ValueError(f"{path / METADATA} names {str(name)!r} twice; keep one row an image")
        if not os.path.isfile(file):
            raise ValueError(
                f"{path / METADATA} names {str(name)!r}, which does not exist; remove the row or restore the file"
            )
        seen.add(name.parts)


def _leads_out(root: str, name: PurePath, file: str, inside: dict[tuple[str, ...], bool]) -> bool:
    """Whether a file is elsewhere than below ``root``; ``inside`` keeps the answer for each folder, for speed."""
    folder = name.parts[:-1]
    if name.anchor or ".." in name.parts:  # also one that comes back: a set is written to the names of its rows
        return True
    if folder not in inside:
        inside[folder] = _is_below(root, os.path.join(root, *folder))
    return not inside[folder] or (os.path.islink(file) and not _is_below(root, file))


def _is_below(root: str, path: str) -> bool:
    try:
        return os.path.commonpath([root, os.path.realpath(path)]) == root
    except ValueError:  # a NUL byte, or half a surrogate: there is no such file; or another drive
        return "\0" in path


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


def write_provenance(folder: Path, provenance: Mapping[str, Any]) -> None:
    """Write ``pool.json``: what made this pool, with versions, seeds and settings."""
    write_json(folder / PROVENANCE, provenance)
