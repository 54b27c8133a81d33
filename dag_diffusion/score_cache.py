"""Scores kept in a pool's metadata: what is unchanged is not scored again, what was killed goes on where it stopped.

    score_key = hash(measure, classifiers, their labels of the class, precision, bytes of the image file)

A score belongs to its key, not to a file name: a moved file keeps it, a changed file or classifier gets a new one.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .classifiers import class_names_of
from .files import held, json_lines, write_atomically
from .pools import METADATA, Pool, read_rows
from .scoring import Judge, judges_of, read_ahead, require_options, scored_batches

FORMAT = 1  # raise it when the same image and classifier come to another score, so that earlier ones are not kept
BLOCK = 1 << 20  # bytes of a file that are read at a time
FILES = 256  # files that are hashed between two calls of progress


@dataclass(frozen=True)
class Recorded:
    """What ``score_and_record`` did: the file written, images scored now, scores kept, names of files skipped."""

    path: Path
    scored: int
    cached: int
    skipped: list[str]


def score_and_record(
    pool: Pool,
    classifiers: Mapping[str, nn.Module],
    destination: Path | None = None,
    *,
    measure: str = "confidence",
    batch_size: int | None = None,
    on_error: str = "raise",
    class_map: Mapping[str, str | int] | None = None,
    dtype: torch.dtype | None = None,
    progress: Callable[[int], None] | None = None,
) -> Recorded:
    """Write difficulty, difficulty_by and score_key of every image beside its other columns, reusing what is there.

    Finished batches go to a journal beside the destination, from which the same call goes on after a kill.

    Args:
        classifiers: what to call each in ``difficulty_by``, and the classifier; the rest as of ``score_pool``.
        destination: JSON-lines file, whose earlier scores count too; None: the pool's own metadata.

    Raises:
        PermissionError: the folder of the destination cannot be written.
        FileExistsError: another run scores to the same destination.
        ValueError: see ``score_pool``; a destination that holds something else than rows.

    Example:
        >>> score_and_record(read_pool("my_images"), {"my guide": load_classifier("guide")})
    """
    path = _destination_of(pool, destination)
    require_options(measure, on_error)  # before the files are read, which may take minutes
    judges = judges_of(pool, list(classifiers.values()), class_map, dtype, measure)
    journal = path.with_name(f".{path.name}.scores")
    with _alone(path):
        known, keys = _known(pool, path, journal), []
        for batch in read_ahead(_key_of(pool, judges, measure), range(len(pool)), FILES):
            keys += [key for _, key in batch]
            if progress is not None:
                progress(sum(key in known for _, key in batch))
        todo = [index for index, key in enumerate(keys) if key not in known]
        options = {"measure": measure, "batch_size": batch_size, "on_error": on_error}
        for batch in scored_batches(pool, todo, judges, **options):
            scored = zip((keys[index] for index in batch.read), batch.values.tolist(), strict=True)
            found = {key: value for key, value in scored if key is not None}
            _append(journal, found)
            known |= found
            if progress is not None:
                progress(len(batch.seen))
        by = f"{measure} by {', '.join(classifiers)}"
        write_atomically(path, json_lines(_rows(pool, keys, known, by)))
        journal.unlink(missing_ok=True)
    skipped = [row["file_name"] for row, key in zip(pool.rows, keys, strict=True) if key not in known]
    return Recorded(path, len(todo) - len(skipped), len(pool) - len(todo), skipped)


def _rows(pool: Pool, keys: Sequence[str | None], known: Mapping[str, float], by: str) -> Iterator[dict[str, Any]]:
    for row, key in zip(pool.rows, keys, strict=True):
        key = key if key in known else None  # a skipped file is tried again by the next run
        yield row | {"difficulty": known.get(key), "difficulty_by": by, "score_key": key}


def _destination_of(pool: Pool, given: Path | None) -> Path:
    if given is None and pool.encoded is not None:
        raise ValueError(
            f"{pool.path} is a dataset, in which no scores are written; say where they go with --output scores.jsonl"
        )
    return pool.path / METADATA if given is None else Path(given)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other runs from scoring to the same file; refuse a folder that cannot be written before time is spent."""
    above = next(p for p in path.absolute().parents if p.exists())
    if not os.access(above, os.W_OK):
        raise PermissionError(f"{above} cannot be written; say where the scores go with --output scores.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path.with_name(f".{path.name}.lock"), path):
        yield


def _append(journal: Path, found: Mapping[str, float]) -> None:
    lines = json_lines({"score_key": key, "difficulty": d} for key, d in found.items())
    with journal.open("ab") as file:
        file.write(b"\n" + lines)  # the newline ends a line that a kill has cut off


def _known(pool: Pool, path: Path, journal: Path) -> dict[str, float]:
    """Scores by key, of the pool's rows, of an earlier destination and of an interrupted run."""
    rows = [*pool.rows, *(read_rows(path) if path.exists() else [])]
    for line in journal.read_text("utf-8").split("\n") if journal.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:  # blank, or cut off by a kill
            continue
    scored = [row for row in rows if row.get("score_key") and row.get("difficulty") is not None]
    return {row["score_key"]: row["difficulty"] for row in scored}


def _key_of(pool: Pool, judges: Sequence[Judge], measure: str) -> Callable[[int], str | None]:
    """Keys of images by their row; None for a file that cannot be read, which scoring will complain about."""
    identities = [identity(judge) for judge in judges]

    def key(index: int) -> str | None:
        label = pool.rows[index]["label"]
        by = sorted((name, judge.labels[label]) for name, judge in zip(identities, judges, strict=True))
        try:
            image = _file_digest(pool, index)
        except OSError:
            return None
        return hashlib.blake2b(json.dumps([FORMAT, measure, by, image]).encode(), digest_size=10).hexdigest()

    return key


def _file_digest(pool: Pool, index: int) -> str:
    if pool.encoded is not None:
        return hashlib.blake2b(pool.encoded[index]).hexdigest()
    digest = hashlib.blake2b()
    with (pool.path / pool.rows[index]["file_name"]).open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def identity(judge: Judge) -> str:
    """A digest of all that makes a classifier's logits: modules, every weight and buffer, preprocessing, precision.

    Unlike ``probes.fingerprint``, which knows a model again in another precision, it tells any two models apart.
    """
    digest = hashlib.blake2b(digest_size=16)
    parts = [str(judge.classifier), class_names_of(judge.classifier), judge.preprocessing.as_fields(), judge.precision]
    digest.update(json.dumps(parts, default=str).encode())
    for name, tensor in judge.classifier.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
