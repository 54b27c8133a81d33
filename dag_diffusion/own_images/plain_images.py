"""The images of a folder as all that follows reads them: n x n pixels, no transparency, divided once for good.

    FOLDER -> prepare -> split -> WORK/images/train, WORK/images/test, WORK/images/images.json

Guide, evaluator, generator and modes see the training images alone; sets are tested on the others.  A training image
that looks like a test image, pixel for pixel at this size, is left out, whatever its name and class.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from dag_diffusion.data.canvas import Canvas, fit_for, trim_for
from dag_diffusion.data.class_folders import limited_to
from dag_diffusion.data.class_names import match_classes
from dag_diffusion.data.common_kind import channels_of
from dag_diffusion.data.files import differences, json_line, read_json_object, write_atomically, write_image, write_json
from dag_diffusion.data.images import THREADS
from dag_diffusion.data.layouts import class_folders
from dag_diffusion.data.pools import Pool, read_pool, write_provenance
from dag_diffusion.data.preparing.leaving_out import sentences
from dag_diffusion.data.preparing.prepared import prepare
from dag_diffusion.data.rows import METADATA
from dag_diffusion.evaluation.labelled_images import REPORTED, read_pixels
from dag_diffusion.evaluation.tables import Table
from dag_diffusion.processes import fail_together, gather, is_main_process
from dag_diffusion.progress import Progress, Stage, renamed
from dag_diffusion.sampling.scoring import in_threads

from .config import FolderConfig
from .durations import BAR
from .requirements import (
    least_to_train_on,
    require_ipc,
    require_names_apart,
    require_several,
    require_several_images,
    require_there,
    rows_apart,
    several_images,
)

RECORD, TRAIN, TEST = "images.json", "train", "test"
CANVAS = ("background", "fit", "trim")


@dataclass(frozen=True, kw_only=True)
class PlainImages:
    """Training and test images of a folder, written once.

    Attributes:
        train, test: pools of PNGs of one size; labels 0, 1, 2, ... for the same classes.
        record: what was found, left out and divided; JSON values.
    """

    train: Pool
    test: Pool
    record: dict[str, Any]

    @property
    def class_names(self) -> dict[int, str]:
        """Label to name."""
        return self.train.class_names

    @property
    def channels(self) -> int:
        """1 (grey) or 3."""
        return int(self.record["channels"])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.record["size"], self.record["size"]

    def networks_size(self, config: FolderConfig) -> tuple[int, int]:
        """(height, width) for the networks that are trained on the sets: with a pipeline as was asked for."""
        side = (config.size if config.pipeline or config.base else None) or self.record["size"]
        return side, side

    @property
    def test_counts(self) -> dict[str, int]:
        """Class to number of test images."""
        return dict(Counter(row["class_name"] for row in self.test.rows))

    def summary(self) -> dict[str, Any]:
        """What a set that was made from them should say of them; JSON values."""
        prepared = self.record["prepared"]
        counts = {name: _count(name, left) for name, left in prepared["left_out"].items()}
        counts["twins_of_test_images"] = self.record["twins_of_test_images"]
        tests = self.record["prepared_test"]["left_out"] if "prepared_test" in self.record else {}
        counts |= {f"{name} of the test images": _count(name, left) for name, left in tests.items()}
        return {
            "source": self.record["source"],
            "found": prepared["images"],
            "training": len(self.train),
            "test": len(self.test),
            "left_out": {name: count for name, count in counts.items() if count},
            "background": prepared["background"],
            "fit": prepared["fit"],
            **({"trim": True} if prepared.get("trim") else {}),
        }

    def tables(self) -> list[Table]:
        """Images by class, with what was left out of the folder below them."""
        counts = [Counter(pool.labels.tolist()) for pool in (self.train, self.test)]
        rows = [[name, *(count[label] for count in counts)] for label, name in self.class_names.items()]
        prepared = self.record["prepared"]
        side = self.record["size"]
        told = [f"{self.record['source']}, on {prepared['background']}, {side} x {side} pixels by {prepared['fit']}"]
        told[0] += " of what is not transparent" if prepared.get("trim") else ""
        told += sentences(prepared)
        if "prepared_test" in self.record:
            told += [f"Of the test images: {said}" for said in sentences(self.record["prepared_test"])]
        if twins := self.record["twins_of_test_images"]:
            told.append(f"{twins} training images look like a test image, pixel for pixel, and are left out")
        return [Table("Real images", ["class", "training", "test"], rows, note=". ".join([*told, ""]).strip())]


def _count(name: str, left_out: Any) -> int:
    """Images of a part of what ``prepare`` left out: names, groups of equal ones, reasons or numbers by name."""
    kept = 1 if name == "copies" else 0  # of each group
    if isinstance(left_out, dict):
        return sum(value if isinstance(value, int) else 1 for value in left_out.values())
    return sum(len(one) - kept if isinstance(one, list) else 1 for one in left_out)


def plain_images(
    folder: Path, work: Path, config: FolderConfig, size: int, progress: Progress | None = None
) -> PlainImages:
    """Write the images of a folder into ``work``, or read what an earlier run has written of the same images.

    Every one of several processes has to call it.

    Args:
        size: pixels per side.
        progress: called with stage, done and total.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there are too few images or classes, an unreadable one that is not to be skipped, classes of the
            test images that the folder lacks, or other images than an earlier run had.
    """
    with fail_together():
        begun = gather((work / RECORD).exists())[0]
        if begun and is_main_process():
            require_same_images(folder, work, config)
        of_first = is_main_process() and not begun
        pools = {role: read_pool(place) for role, place in _places(folder, config).items()} if of_first else {}
        files = {role: _identity(pool) | _content(pool) for role, pool in pools.items()}
    if not begun:
        with fail_together():  # all come to the same, and one tells it
            train, test, record = _divided(folder, work, config, progress)
        record |= {"files": files, "size": size}
        with fail_together():
            if is_main_process():
                record["channels"] = config.channels or max(channels_of(train), channels_of(test))
                for pool, part in ((train, TRAIN), (test, TEST)):
                    _write(pool, work / part, record, progress)
                record["twins_of_test_images"] = _leave_out_twins(work, folder)
                write_json(work / RECORD, record)
    record = read_json_object(work / RECORD)
    # which they lie on already; who is trained on them records it
    canvas = Canvas(**{name: record["prepared"][name] for name in CANVAS if name in record["prepared"]})
    found = PlainImages(
        train=read_pool(work / TRAIN, canvas=canvas), test=read_pool(work / TEST, canvas=canvas), record=record
    )
    with fail_together():  # since those that look like a test image are left out
        _require_enough_left(replace(found.train, path=folder), config)
    return found


def _require_enough_left(train: Pool, config: FolderConfig) -> None:
    require_ipc(train, config, divided=True)
    require_several_images(train, least_to_train_on(config), config)


def _divided(
    folder: Path, work: Path, config: FolderConfig, progress: Progress | None
) -> tuple[Pool, Pool, dict[str, Any]]:
    """Training and test images with the same labels, and what is known of them."""
    looked = None if progress is None else renamed(progress, f"images{BAR}looked at")
    prepared = partial(
        prepare,
        classes=config.class_list,
        background=config.background,
        links=config.links,
        skip_unreadable=config.skip_unreadable,
        progress=looked,
    )
    models = (config.pipeline, config.base, config.classifier, config.evaluator)
    fit, trim = fit_for(config.fit, models), trim_for(config.trim, models)
    found = prepared(folder, fit=fit, trim=trim, most=config.most, least=config.least, seed=config.seed, cache=work)
    require_several(folder, found.pool.class_names)
    require_names_apart(folder, found.pool.class_names, config)
    record = {"source": str(folder.resolve()), "prepared": found.record}
    if config.test is None:
        with several_images(config):
            train, test = found.split(config.held_out, seed=config.seed)
    else:
        given = limited_to(read_pool(config.test), [found.pool.class_names], "the training images")
        tests = prepared(given, fit=found.pool.canvas.fit, trim=trim)
        train, test = found.pool, tests.pool
        record |= {"test_source": str(Path(config.test).resolve()), "prepared_test": tests.record}
    _require_enough_left(train, config)
    return _relabelled(train, found.pool), _relabelled(test, found.pool), record


def _relabelled(pool: Pool, like: Pool) -> Pool:
    """The pool with labels 0, 1, 2, ... in the order of another's, whose classes it must have.

    Raises:
        ValueError: it lacks a class.
    """
    names = like.class_names
    table = match_classes(names, pool.class_names, f"the folder {pool.path}", places=True)
    places = {theirs: place for place, (_, theirs) in enumerate(sorted(table.items()))}
    known = {theirs: names[ours] for ours, theirs in table.items()}
    rows = [row | {"label": places[row["label"]], "class_name": known[row["label"]]} for row in pool.rows]
    return replace(pool, rows=rows)


def _identity(pool: Pool) -> dict[str, Any]:
    """How many images there are, and hashes of their names, lengths and times, and of their classes."""
    classes = _digest(pool, lambda pool, index: pool.rows[index]["class_name"].encode())
    return {"images": len(pool), "classes": classes, "digest": _digest(pool, _size_and_time)}


def _content(pool: Pool) -> dict[str, Any]:
    """A hash of names and bytes of the images, which are the same when they were copied anew or elsewhere."""
    return {"content": _digest(pool, _bytes)}


def _digest(pool: Pool, of: Callable[[Pool, int], bytes]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for index, row in enumerate(pool.rows):
        found.update(f"{row['file_name']} ".encode() + of(pool, index))
    return found.hexdigest()


def _size_and_time(pool: Pool, index: int) -> bytes:
    if pool.encoded is not None:
        return str(len(pool.encoded[index])).encode()
    try:
        status = (pool.path / pool.rows[index]["file_name"]).stat()
    except OSError:
        return b"missing"  # such as a link that leads nowhere; whoever reads the image says so
    return f"{status.st_size} {status.st_mtime_ns}".encode()


def _bytes(pool: Pool, index: int) -> bytes:
    try:
        return pool.file_bytes(index)
    except OSError:
        return b"missing"


def _places(folder: Path, config: FolderConfig) -> dict[str, str | Path]:
    return {"folder": folder} | ({"test": config.test} if config.test else {})


def require_same_images(folder: Path, work: Path, config: FolderConfig) -> None:
    """Check that folders hold what an earlier run has written into ``work``; ValueError or FileNotFoundError if not."""
    before = read_json_object(work / RECORD)["files"]
    before = dict(zip(("folder", "test"), before.values(), strict=False))  # keyed by paths in earlier versions
    for role, place in _places(folder, config).items():
        require_there(Path(place))
        pool, old = read_pool(place), before.get(role) or {}
        now = _identity(pool)
        if any(old.get(name) != now[name] for name in ("images", "digest")):
            now |= _content(pool) if "content" in old else {}
            if "content" not in old or now["content"] != old["content"]:
                raise ValueError(
                    f"{place} has other images than when this distillation was begun: "
                    f"{list(differences(old, now))[-1]}; restore them, or choose another output"
                )
        if old.get("classes", now["classes"]) != now["classes"]:  # which a list may give anew; none in earlier versions
            raise ValueError(
                f"{place} has other classes of its images than when this distillation was begun; restore them, or "
                "choose another output"
            )


def _write(pool: Pool, folder: Path, record: Mapping[str, Any], progress: Progress | None) -> None:
    """Write the pool as PNGs of one size, each row with the name of the file that it was."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed before it had divided all
    side, channels = record["size"], record["channels"]
    told, places, rows = Stage(f"images{BAR}{folder.name}", len(pool), progress), class_folders(pool.class_names), []

    def written(index: int) -> dict[str, Any]:
        row, image = pool.rows[index], read_pixels(pool, index, (side, side), channels)
        name = f"{places[row['label']]}/{index:06d}.png"
        write_image(folder / name, Image.fromarray(image[..., 0] if channels == 1 else image))
        return {"file_name": name, "label": row["label"], "class_name": row["class_name"], "source": row["file_name"]}

    for row in in_threads(written, range(len(pool)), THREADS):
        rows.append(row)
        if len(rows) % REPORTED == 0 or len(rows) == len(pool):
            told(len(rows) - told.done)
    write_provenance(folder, {"images": {"source": record["source"], "size": side}})
    write_atomically(folder / METADATA, map(json_line, rows))


def _leave_out_twins(work: Path, folder: Path) -> int:
    """Leave out the training images that are, pixel for pixel, a test image; how many there were."""
    train, test = (read_pool(work / part) for part in (TRAIN, TEST))
    apart = rows_apart(train, test, folder)  # equal pixels are equal files, since one encoder has written them
    write_atomically(work / TRAIN / METADATA, (json_line(train.rows[row]) for row in apart))
    for row in set(range(len(train))).difference(apart):
        (work / TRAIN / train.rows[row]["file_name"]).unlink()
    return len(train) - len(apart)
