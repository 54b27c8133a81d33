"""What an evaluation has found so far, on disk after every training: one JSON file, and the same as CSV beside it.

    results.json -> results.csv (a row a training), results-summary.csv (a row a set and network)

A second evaluation into the same file goes on, and is refused where it would mix what does not compare.
"""

import csv
import io
import json
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dag_diffusion.data.files import (
    differences,
    held,
    read_json_object,
    recorded,
    require_writable,
    write_atomically,
    write_json,
)

from .comparisons import Row
from .results import Result, results_of

FORMAT = "dag-diffusion evaluation 1"
LIBRARIES = ("dag-diffusion", "numpy", "pillow", "scipy", "timm", "torch")
MERGED = ("sets", "soft_labels")  # a later evaluation may name further ones, but not change one


class EvaluationRecord:
    """The file of one evaluation, written whole after each result.

    Attributes:
        results: all trainings so far, in the order in which they were done.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], results: Sequence[Result]) -> None:
        self.path, self.settings, self.results = path, dict(settings), list(results)

    def add(self, result: Result) -> None:
        """Keep one more training, on disk before this returns; it takes the place of one with the same set and seed."""
        self.results = [known for known in self.results if known.identity != result.identity] + [result]
        self.write()

    def write(self) -> None:
        """Write the JSON file and its CSV, each whole or not at all."""
        value = {
            "format": FORMAT,
            "command": shlex.join(sys.argv),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
            "settings": self.settings,
            "seeds": sorted({result.seed for result in self.results}),
            "results": [asdict(result) for result in self.results],
        }
        write_json(self.path, value)
        names = [field.name for field in fields(Result)]
        write_atomically(self.path.with_suffix(".csv"), csv_of(names, map(asdict, self.results)))


@contextmanager
def evaluation_record(path: Path, settings: Mapping[str, Any]) -> Iterator[EvaluationRecord]:
    """Hold the record at ``path``, begun now or by an earlier evaluation, while going on with it.

    Args:
        path: a ``.json`` file.
        settings: test set, sets, protocol: JSON values that must be those of the earlier evaluation.  Of ``sets`` and
            ``soft_labels`` only those must agree that both name.

    Raises:
        FileExistsError: another evaluation works on it.
        ValueError: it was begun with other settings, which are named, or holds something else.
    """
    if path.suffix.lower() != ".json":
        raise ValueError(f"results go to a .json file, with tables as .csv beside it, but {path} was given; rename it")
    require_writable(path)
    new_folder = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with held(path.with_name(f".{path.name}.lock"), path):
            yield EvaluationRecord(path, *_begun(path, json.loads(json.dumps(recorded(settings)))))
    finally:
        if new_folder and not any(path.parent.iterdir()):  # a mistake was found before the first training
            path.parent.rmdir()


def _begun(path: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], list[Result]]:
    if not path.exists():
        return settings, []
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
        before[key], now[key] = old, value
    if before != now:
        found = list(differences(before, now))
        raise ValueError(
            f"{path} was begun with other settings: {'; '.join(found[:5])}; give the same ones, or another output"
        )
    return merged, results_of(earlier["results"])


def write_summary(path: Path, rows: Sequence[Row]) -> Path:
    """Write one CSV row a set, network and setting beside the record at ``path``, and return its path."""
    lines = []
    for row in rows:
        low, high = row.interval or (None, None)
        line = {name: value for name, value in asdict(row).items() if name != "interval"}
        lines.append({**line, "low": low, "high": high})
    target = path.with_name(f"{path.stem}-summary.csv")
    write_atomically(target, csv_of(list(lines[0]) if lines else [], lines))
    return target


def csv_of(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as CSV with a heading; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
