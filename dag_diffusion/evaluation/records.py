"""What an evaluation has found so far, on disk after every training: one JSON file, and the same as CSV beside it.

    results.json -> results.csv (a row a training), results-summary.csv (a row a set and network)

A second evaluation into the same file goes on, and is refused where it would mix what does not compare.  Of several
processes the first writes the file; each other appends to ``.results.json.PROCESS`` beside it, which the first, or the
next evaluation, takes in.
"""

import csv
import io
import json
import logging
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dag_diffusion.data.files import (
    differences,
    held,
    json_lines,
    read_json_object,
    recorded,
    remove_partials,
    require_file_place,
    require_writable,
    write_atomically,
    write_json,
)

from .comparisons import Row
from .protocols import PRECISIONS, Protocol
from .results import Result, results_of
from .soft_labels.teachers import LabelSource, require_one_teacher

logger = logging.getLogger(__name__)
FORMAT = "dag-diffusion evaluation 1"
LIBRARIES = ("dag-diffusion", "numpy", "pillow", "scipy", "timm", "torch")
PER_VIEW = ", per view"  # after the names of sets with labels per view, which may have labels per image too
MERGED = ("sets", "soft_labels", "teachers", "canvas")  # a later evaluation may name further ones, but not change one
TOLD = ("normalisation", "canvas", "teachers")  # not compared: the digests tell what they change, older records less


class EvaluationRecord:
    """The file of one evaluation, written whole after each result.

    Attributes:
        results: all trainings so far, in the order in which they were done.
        commands: all that worked on it, each once.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], results: Sequence[Result], commands: Sequence[str] = ()
    ) -> None:
        self.path, self.settings, self.results = path, dict(settings), list(results)
        self.commands = list(dict.fromkeys([*commands, shlex.join(sys.argv)]))

    def add(self, *results: Result) -> None:
        """Keep more trainings, on disk before this returns; one takes the place of one with the same set and seed."""
        new = {result.identity: result for result in results}
        self.results = [known for known in self.results if known.identity not in new] + list(new.values())
        self.write()

    def write(self) -> None:
        """Write the JSON file and its CSV, each whole or not at all."""
        value = {
            "format": FORMAT,
            "commands": self.commands,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
            "settings": self.settings,
            "seeds": sorted({result.seed for result in self.results}),
            "results": [asdict(result) for result in self.results],
        }
        write_json(self.path, value)
        names = [field.name for field in fields(Result)]
        write_atomically(self.path.with_suffix(".csv"), csv_of(names, map(asdict, self.results)))


def part_of(path: Path, process: int) -> Path:
    """The file of one of several processes, beside the one at ``path``, which the first of them writes."""
    return path.with_name(f".{path.name}.{process}") if process else path


def append_result(path: Path, result: Result) -> None:
    """Keep one more training in a file of JSON lines, on disk before this returns."""
    with path.open("ab") as file:
        file.write(json_lines([asdict(result)]))


def results_in(paths: Iterable[Path]) -> list[Result]:
    """Results in files of JSON lines."""
    lines = [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]  # a kill may cut a letter
    return results_of(json.loads(line) for line in lines if line.endswith(b"\n"))


def parts_of(path: Path) -> list[Path]:
    """The files of all processes but the first, beside the one at ``path``."""
    return [part for part in path.parent.glob(f".{path.name}.*") if part.suffix[1:].isdigit()]


def remove_parts(path: Path) -> None:
    """Remove those files, once what they hold is in the one at ``path``."""
    for part in parts_of(path):
        part.unlink()


def finished_trainings(path: Path) -> list[Result]:
    """The trainings that the processes of an earlier run have kept at ``path`` and beside it, now all in one file."""
    kept = [*([path] if path.exists() else []), *parts_of(path)]
    found = results_in(kept)
    if kept:  # also where a kill tore the only line, to which the next one would be appended
        write_atomically(path, json_lines(map(asdict, found)))
    remove_parts(path)
    return found


def trainings_on(images: Mapping[str, Any], path: Path) -> list[Result]:
    """The ``finished_trainings`` at ``path`` that were on these images; those on others are forgotten with a warning.

    Args:
        images: hashes as the ``settings`` of an evaluation have them, kept as ``.json`` beside the trainings:
            ``{"test": {"digest": HASH}, "sets": {NAME: HASH}}``.  Trainings beside which there are none are taken.
    """
    found, kept = finished_trainings(path), path.with_suffix(".json")
    before = read_json_object(kept) if kept.exists() else images
    tested = before.get("test") == images["test"]
    others = {name for name, own in images["sets"].items() if not tested or before.get("sets", {}).get(name) != own}
    still = [result for result in found if result.set not in others]
    if len(still) < len(found):
        what = f"images of {', '.join(sorted(others))}" if tested else "test images"
        logger.warning("%s are others than before, so %d trainings are done again", what, len(found) - len(still))
        write_atomically(path, json_lines(map(asdict, still)))
    write_json(kept, images)
    return still


def begun_precision(path: Path) -> set[str]:
    """The precision of the evaluation that was begun at ``path``, if one was."""
    is_record = path.suffix.lower() == ".json" and path.is_file()  # other files are refused when the record is begun
    settings = read_json_object(path).get("settings") if is_record else None
    protocol = settings.get("protocol") if isinstance(settings, dict) else None
    return {protocol["precision"]} if isinstance(protocol, dict) and protocol.get("precision") in PRECISIONS else set()


def require_record_place(path: Path, named: Iterable[str] = ()) -> None:
    """Check that the record of an evaluation may be written at ``path``.

    Args:
        named: folders and files whose names it will have.

    Raises:
        IsADirectoryError: there is a folder.
        PermissionError: it cannot be written.
        ValueError: it is called otherwise than .json, or a name is no text.
    """
    for name in named:
        if os.fsencode(name) != name.encode(errors="replace"):
            raise ValueError(f"the name {name!r} is not in UTF-8, which a record has to be in; rename the folder")
    if path.suffix.lower() != ".json":
        raise ValueError(f"results go to a .json file, with tables as .csv beside it, but {path} was given; rename it")
    require_file_place(path, "results.json")
    require_writable(path)


def teachers_in(settings: Any) -> dict[tuple[str, str], LabelSource]:
    """Whose labels of which kind, soft or views, each set of a record has, by its ``settings``; nothing where none."""
    found = settings.get("teachers") if isinstance(settings, Mapping) else None
    named = {name: LabelSource.from_record(one) for name, one in found.items()} if isinstance(found, Mapping) else {}
    return {
        (name.removesuffix(PER_VIEW), "soft" if source.views is None else "views"): source
        for name, source in named.items()
    }


def commands_in(record: Mapping[str, Any]) -> list[str]:
    """The commands that made a record; those of earlier versions name the last one alone."""
    found = record.get("commands", [record.get("command")])
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def protocol_in(settings: Any) -> dict[str, Any] | None:
    """The protocol of a record, with what its fields were before they had a name; None where it does not say."""
    found = settings.get("protocol") if isinstance(settings, Mapping) else None
    defaults = {field.name: recorded(field.default) for field in fields(Protocol) if field.default is not MISSING}
    return {**defaults, **found} if isinstance(found, dict) else None


@contextmanager
def evaluation_record(path: Path, settings: Mapping[str, Any]) -> Iterator[EvaluationRecord]:
    """Hold the record at ``path``, begun now or by an earlier evaluation, while going on with it.

    Args:
        path: a ``.json`` file.
        settings: test set, sets, protocol: JSON values that must be those of the earlier evaluation.  Of ``sets``
            and ``soft_labels`` only those must agree that both name; what is ``TOLD`` need not.

    Raises:
        FileExistsError: another evaluation works on it.
        ValueError: it was begun with other settings, which are named, or holds something else.
    """
    require_record_place(path)
    new_folder = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with held(path.with_name(f".{path.name}.lock"), path):
            for table in (path.with_suffix(".csv"), _summary_of(path)):
                remove_partials(table.parent, table.name)
            record = EvaluationRecord(path, *_begun(path, json.loads(json.dumps(recorded(settings)))))
            if left := results_in(parts_of(path)):
                record.add(*left)
            remove_parts(path)
            yield record
            remove_parts(path)  # what they hold has been added; after an error they wait for the next evaluation
    finally:
        if new_folder and not any(path.parent.iterdir()):  # a mistake was found before the first training
            path.parent.rmdir()


def _begun(path: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], list[Result], list[str]]:
    if not path.exists():
        return settings, [], []
    earlier = read_json_object(path)
    whole = isinstance(earlier.get("settings"), dict) and isinstance(earlier.get("results"), list)
    if earlier.get("format") != FORMAT or not whole:
        raise ValueError(f"{path} holds something else than results of an evaluation; choose another output file")
    merged, before, now = dict(settings), {}, {}
    for key, value in settings.items():
        old = earlier["settings"].get(key)
        if key in MERGED:  # a set that only one of the two names is no difference
            merged[key] = {**(old or {}), **value}
            old = {**value, **{name: known for name, known in (old or {}).items() if name in value}}
        if key == "protocol":
            old = protocol_in(earlier["settings"]) or old  # which may be a name alone
        if key in TOLD:
            old = value
        before[key], now[key] = old, value
    if before != now:
        found = list(differences(before, now))
        raise ValueError(
            f"{path} was begun with other settings: {'; '.join(found[:5])}; give the same ones, or another output"
        )
    taught = teachers_in(merged)
    for kind in {kind for _, kind in taught}:
        require_one_teacher((name, source) for (name, own), source in taught.items() if own == kind)
    return merged, results_of(earlier["results"]), commands_in(earlier)


def write_summary(path: Path, rows: Sequence[Row]) -> Path:
    """Write one CSV row a set, network and setting beside the record at ``path``, and return its path."""
    lines = []
    for row in rows:
        low, high = row.interval or (None, None)
        line = {name: value for name, value in asdict(row).items() if name != "interval"}
        lines.append({**line, "low": low, "high": high})
    target = _summary_of(path)
    write_atomically(target, csv_of(list(lines[0]) if lines else [], lines))
    return target


def _summary_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}-summary.csv")


def csv_of(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as CSV with a heading; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
