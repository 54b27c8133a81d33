"""Scores kept in a pool's metadata: what is unchanged is not scored again, what was killed goes on where it stopped.

    score_key = hash(measure, classifiers, their labels of the class and of those it is measured among, precision,
                     bytes of the image file, canvas)

A score belongs to its key, not to a file name: a moved file keeps it, a changed file or classifier gets a new one.
The rows hold the scores of the last run.  A hidden file beside them, ``.metadata.jsonl.scores``, holds one line
{score_key, difficulty, correct} for every image and every scorer so far, so that a guide and an evaluator may score in
turn.  It is a cache: nothing else reads it, a broken line is ignored, and deleting it only costs time.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from dag_diffusion.data.canvas import Canvas
from dag_diffusion.data.dataset_cards import renew_card
from dag_diffusion.data.files import held, json_line, json_lines, require_file_place, write_atomically
from dag_diffusion.data.pools import Pool, PoolSource, as_pool
from dag_diffusion.data.provenance import measure_text
from dag_diffusion.data.rows import METADATA, SELECTED, TRUTHS, Row, require_inside, with_columns
from dag_diffusion.data.sources.records import rows_in
from dag_diffusion.difficulty import LABEL_FREE, Among, MeasureName
from dag_diffusion.processes import StoppedError, fail_together, gather, stop_signal, this_process
from dag_diffusion.progress import Progress
from dag_diffusion.turns import Turns

from .scorers import Scorer, classifier_key, scorers_of
from .scoring import OnError, ScoredBatch, batch_size_for, read_ahead, require_options, scored_batches

logger = logging.getLogger(__name__)
FORMAT = 3  # raise it when the same image and classifier come to another score, so that earlier ones are not kept
FILES = 256  # files that are hashed between two calls of progress


class Score(NamedTuple):
    """A difficulty, and whether the classifiers are right; None where nobody has said."""

    difficulty: float
    correct: bool | None


Known = dict[str, Score]  # by key


@dataclass(frozen=True)
class Recorded:
    """What ``score_and_record`` did: the file written, images scored now, scores kept, names of files skipped."""

    path: Path
    scored: int
    cached: int
    skipped: list[str]


def score_and_record(
    pool: PoolSource,
    classifiers: Mapping[str, nn.Module],
    destination: str | Path | None = None,
    *,
    measure: MeasureName = "error_probability",
    among: Among = "all",
    batch_size: int | None = None,
    on_error: OnError = "raise",
    class_map: Mapping[str, str | int] | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
) -> Recorded:
    """Write difficulty, difficulty_by, score_key and correct of every image beside its columns, reusing what is there.

    Finished batches go to a file beside the destination, from which the same call goes on after a kill.  Whatever else
    has come into the destination when the last batch is done stays in it.  Under ``accelerate launch`` every process
    has to call it; they share the images, the first writes the rows, and each returns the same.

    Args:
        pool: from ``read_pool``, or what that reads.
        classifiers: what to call each in ``difficulty_by``, and the classifier.
        destination: JSON-lines file, whose earlier scores count too, for ``read_pool(..., scores=...)``; None: the
            pool's own metadata.
        measure, among, batch_size, on_error, class_map, dtype, progress: as of ``score_pool``.

    Raises:
        PermissionError: the folder of the destination cannot be written.
        FileExistsError: another run scores to the same destination.
        StoppedError: SIGTERM came; what is scored is kept.
        FailedElsewhereError: another process failed, which raises why.
        ValueError: see ``score_pool``; a destination that holds something else than rows of this pool.

    See Also:
        ``score_pool``, which returns the scores and writes nothing.

    Examples:
        >>> guides = {"my guide": load_classifier("guide")}  # doctest: +SKIP
        >>> score_and_record(read_pool("my_images"), guides)  # doctest: +SKIP
    """
    if not isinstance(classifiers, Mapping):
        raise ValueError(
            f"classifiers are a {type(classifiers).__name__}, which says no names to record; give "
            "{name: classifier}, such as {'my guide': load_classifier('guide')}"
        )
    pool = as_pool(pool)
    state, by = this_process(), f"{measure_text(measure, among)} by {', '.join(classifiers)}"
    with fail_together():
        path = _destination_of(pool, destination)
        require_options(measure, on_error, among)  # before the files are read, which may take minutes
        scorers = scorers_of(pool, list(classifiers.values()), class_map, dtype, measure, among)
        size = batch_size_for(scorers, batch_size)
        identities = [classifier_key(one.classifier, one.precision) for one in scorers]
    _require_alike([len(pool), by, identities, size])  # asks all, which they can only where none has failed
    cache = _Cache(path, state.process_index)
    with ExitStack() as leaving:
        earlier, known = [], Known()
        with fail_together():
            if state.is_main_process:
                leaving.enter_context(_alone(path))
                earlier = _earlier_rows(pool, path, own=destination is None)
                known = cache.fill(pool, earlier)
        asked, turns = leaving.enter_context(stop_signal()), Turns("images", len(pool), progress)
        key_of = _key_of(pool, scorers, identities, measure)
        keys = _keys_of_all(pool, key_of, known, turns)
        todo = gather([index for index, key in enumerate(keys) if key not in known] if state.is_main_process else [])[0]
        told = measure not in LABEL_FREE
        batches = scored_batches(
            pool,
            turns.take(todo, size, asked),
            scorers,
            measure=measure,
            batch_size=size,
            on_error=on_error,
            expected=len(pool) if todo else 0,  # so that a run that goes on rounds as one that was not killed
        )
        found, late, seen = _keep_scores(batches, keys, key_of, cache, turns, told=told)
        parts, left, skipped = gather(found), len(todo) - sum(gather(seen)), list[str]()
        for index, key in [item for part in gather(late) for item in part.items()]:
            keys[index] = key
        with fail_together():
            if state.is_main_process:
                cache.take_over(parts[1:])
                known = known | {key: value for part in parts for key, value in part.items()}
                skipped = [] if left else _write(pool, keys, known, by, path, earlier)
    if left:
        raise StoppedError(
            f"stopped as asked, {left} images are still to be scored; the same command goes on with them"
        )
    skipped = gather(skipped)[0]
    return Recorded(path, len(todo) - len(skipped), len(pool) - len(todo), skipped)


def _keep_scores(
    batches: Iterable[ScoredBatch],
    keys: Sequence[str | None],
    key_of: Callable[[int], str | None],
    cache: "_Cache",
    turns: Turns,
    *,
    told: bool,
) -> tuple[Known, dict[int, str], int]:
    """Scores by key, each batch on disk before the next one; keys that had none; and how many images were seen.

    A network disk may give at the second attempt, when the image is scored, what it refused when files were hashed.
    """
    found, late, seen = Known(), dict[int, str](), 0
    with turns.together():
        for batch in batches:
            late |= {index: key for index in batch.read if keys[index] is None and (key := key_of(index)) is not None}
            right = batch.correct.tolist() if told else [None] * len(batch.read)
            scores = map(Score, batch.values.tolist(), right)
            scored = zip((keys[index] or late.get(index) for index in batch.read), scores, strict=True)
            new = {key: score for key, score in scored if key is not None}
            cache.append(new)
            found |= new
            seen += len(batch.seen)
            turns.report(len(batch.seen))
    return found, late, seen


def _require_alike(circumstances: Sequence[Any]) -> None:
    """Processes of other settings, started by hand on another machine, would leave images out."""
    first, *rest = gather(list(circumstances))
    if differing := [number for number, other in enumerate(rest, 1) if other != first]:
        raise ValueError(
            f"process {differing[0]} was started with another pool, measure, classifier or batch size than process 0; "
            "start all with the same command"
        )


def _keys_of_all(
    pool: Pool, key_of: Callable[[int], str | None], known: Mapping[str, Score], turns: Turns
) -> list[str | None]:
    """Keys of all images, each process having read the files of its share; what is known already is reported."""
    state, mine = this_process(), list[str | None]()
    first, end = (len(pool) * (state.process_index + place) // state.num_processes for place in (0, 1))
    with fail_together():
        for hashed in read_ahead(key_of, range(first, end), FILES):
            mine += [key for _, key in hashed]
            turns.report(sum(key in known for _, key in hashed))
    _, *others = shares = gather(mine)
    if others:  # of which only the first process knows what is known
        turns.report(sum(key in known for share in others for key in share))
    return [key for share in shares for key in share]


def _write(
    pool: Pool, keys: Sequence[str | None], known: Mapping[str, Score], by: str, path: Path, earlier: Sequence[Row]
) -> list[str]:
    """Write the rows of the destination, and return the names of files without a score."""
    rows = _merged(pool, keys, known, by, path, earlier)
    write_atomically(path, map(json_line, rows))
    if path == pool.path / METADATA:  # `datasets` would go on showing the rows before
        renew_card(pool.path, rows, pool.provenance)
    return [row["file_name"] for row, key in zip(pool.rows, keys, strict=True) if key not in known]


def _merged(
    pool: Pool, keys: Sequence[str | None], known: Mapping[str, Score], by: str, path: Path, earlier: Sequence[Row]
) -> list[Row]:
    """Rows of the destination as it is now, which another program may have changed meanwhile, with the new scores.

    Images that it does not know are added, but for those whose rows it had ``earlier``, which were removed.
    """
    rows = rows_in(path) if path.exists() else []
    there = {row["file_name"] for row in (*rows, *(earlier if rows else []))}
    rows += [row for row in pool.rows if row["file_name"] not in there]
    key_of = {row["file_name"]: key for row, key in zip(pool.rows, keys, strict=True)}

    def scored(row: Row) -> Row:
        if (name := row["file_name"]) not in key_of:
            return row
        key = key_of[name] if key_of[name] in known else None  # none of a skipped file, so that it is tried again
        value, correct = (None, None) if key is None else known[key]
        told = {"correct": correct} if correct is not None or "correct" in row else {}
        return with_columns(row, {"difficulty": value, "difficulty_by": by, "score_key": key, **told})

    return [scored(row) for row in rows]


def _destination_of(pool: Pool, given: str | Path | None) -> Path:
    if given is not None:
        return Path(given)
    listed = pool.listing is not None and pool.listing.is_file()
    if listed or (pool.encoded is not None and pool.listing is None):
        kind = "list" if listed else "dataset"
        raise ValueError(
            f"{pool.listing or pool.path} is a {kind}, in which no scores are written; write them to "
            f"destination='scores.jsonl' and read the {kind} with scores='scores.jsonl'"
        )
    if pool.listing is not None:
        return pool.listing / SELECTED
    if not (pool.path / METADATA).exists():
        try:
            require_inside(pool.path, pool.rows, pool.path / METADATA)
        except ValueError as error:  # a folder that is a link, which rows must not follow
            raise ValueError(
                f"{error}, or write scores to destination='scores.jsonl' and read the pool with scores='scores.jsonl'"
            ) from error
    return pool.path / METADATA


def _earlier_rows(pool: Pool, path: Path, *, own: bool) -> list[Row]:
    """What the destination holds; rows of another pool in it are no reason to lose or to mix the two."""
    rows = rows_in(path) if path.exists() else []
    classes = {row["file_name"]: row["class_name"] for row in pool.rows}
    theirs = [classes[row["file_name"]] != row["class_name"] for row in rows if row["file_name"] in classes]
    if rows and not own and (not theirs or any(theirs)):
        raise ValueError(f"{path} holds rows of another pool than {pool.path}; give another destination, or remove it")
    return rows


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other runs from scoring to the same file; refuse a folder that cannot be written before time is spent."""
    way = "write destination='scores.jsonl' in a folder of your own, and read the pool with scores='scores.jsonl'"
    require_file_place(path, "scores.jsonl", way)
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path.with_name(f".{path.name}.lock"), path):
        yield


class _Cache:
    """The file of all scores beside a destination.  One that cannot be read or written costs time and no result."""

    def __init__(self, destination: Path, process: int = 0) -> None:
        self.path, self.writable = _cache_of(destination), True
        if process:  # in a part of its own, since lines of several programs tear each other on a network disk
            self.path = self.path.with_name(f"{self.path.name}.{process}")

    def fill(self, pool: Pool, rows: Iterable[Mapping[str, Any]]) -> Known:
        """Scores by key, of the pool, of an earlier destination and of earlier runs; all are then in the file."""
        own = _scores_in(_lines_of(_cache_of(pool.path / METADATA)))
        known = _scores_in([*pool.rows, *rows])
        self.take_over([_scores_in(_lines_of(part)) for part in self._parts()])  # of a run that was killed
        mine = _scores_in(_lines_of(self.path))
        self.append({key: score for key, score in known.items() if key not in mine})  # their rows may be overwritten
        return known | own | mine

    def append(self, found: Mapping[str, Score]) -> None:
        """Write scores at once, so that a kill loses none."""
        if not found or not self.writable:
            return
        lines = json_lines({"score_key": key, **_told(score)} for key, score in found.items())
        try:
            if self.path.is_symlink():
                raise PermissionError("it is a link, which might lead to any file")
            with self.path.open("ab") as file:
                file.write(b"\n" + lines)  # the newline ends a line that a kill has cut off
        except (PermissionError, IsADirectoryError) as error:  # not a full disk, on which the metadata too would fail
            self.writable = False
            logger.warning("%s cannot be written (%s); a run that is killed will begin anew", self.path, error)

    def take_over(self, parts: Sequence[Mapping[str, Score]]) -> None:
        """Keep what other processes have found, and remove the files where they wrote it."""
        for part in parts:
            self.append(part)
        if self.writable:
            for path in self._parts():
                path.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{escape(self.path.name)}.[0-9]*"))


def _cache_of(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.scores")


def _lines_of(path: Path) -> Iterator[Any]:
    with suppress(OSError), path.open("rb") as lines:  # there is none, or it cannot be read
        for line in lines:
            with suppress(ValueError, RecursionError):  # blank, cut off by a kill, or broken
                yield json.loads(line)


def _scores_in(rows: Iterable[Any]) -> Known:
    """Scores by key; what is no row with a key and a difficulty is left out."""
    found = Known()
    for row in rows:
        if isinstance(row, dict):
            values: tuple[Any, ...] = tuple(row.get(name) for name in ("score_key", "difficulty", "correct"))
            key, value, correct = values
            if isinstance(key, str) and type(value) in (float, int) and 0 <= value <= 1:
                found[key] = Score(value, TRUTHS.get(str(correct).casefold()))
    return found


def _told(score: Score) -> dict[str, Any]:
    """A score as its line says it; one of an entropy, or of an earlier version, says nothing of ``correct``."""
    return {name: value for name, value in score._asdict().items() if value is not None}


def _key_of(
    pool: Pool, scorers: Sequence[Scorer], identities: Sequence[str], measure: MeasureName
) -> Callable[[int], str | None]:
    """Keys of images by their row; None for a file that cannot be read, which scoring will complain about."""

    def key(index: int) -> str | None:
        label = pool.rows[index]["label"]
        by = sorted(
            (name, scorer.labels[label], *(scorer.classes or ()))
            for name, scorer in zip(identities, scorers, strict=True)
        )
        try:
            image = pool.file_digest(index)
        except OSError:
            return None
        seen = [] if pool.canvas == Canvas() else [pool.canvas.as_fields()]
        return hashlib.blake2b(json.dumps([FORMAT, measure, by, image, *seen]).encode(), digest_size=10).hexdigest()

    return key
