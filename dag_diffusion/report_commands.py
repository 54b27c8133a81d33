"""The commands that make the shown pools and sets again, with the places where they lie.

    pool.json -> generate, subsample, score;   results.json -> evaluate;   this process -> report

What a record cannot name, such as a file of modes, stands in capitals, and a comment before it says what it was.
"""

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .pools import Pool
from .reproduction import commands_of, generation_of

PROGRAM = "dag-diffusion"


def commands_for(pools: Sequence[tuple[Path, Pool]], others: Iterable[str] = ()) -> list[str]:
    """Commands for these pools and sets, the pools of the sets before them, then ``others``; each once.

    Args:
        pools: each with the path to write into its command.
        others: recorded commands, such as those of evaluations.
    """
    lines: list[str] = []
    for path, pool in pools:
        try:
            lines += _of_one(path, pool)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # of a record that somebody else wrote
            lines.append(_comment(f"{path}: its pool.json does not say how it was made"))
    return list(dict.fromkeys([*lines, *map(program_of, others)]))


def this_command() -> str:
    """The command that is running, as one would type it."""
    return shlex.join(sys.argv)


def program_of(command: str) -> str:
    """A recorded command whose first word is the program's name instead of the place of its file."""
    first, _, rest = command.partition(" ")
    return f"{PROGRAM} {rest}".strip() if first.endswith((f"/{PROGRAM}", "dag_diffusion/__main__.py")) else command


def _of_one(path: Path, pool: Pool) -> list[str]:
    record = pool.provenance
    is_set, source = isinstance(record.get("selection"), dict), record.get("pool")
    origin = str(source.get("path", "POOL")) if is_set and isinstance(source, dict) else str(path)
    lines = []
    for words in map(shlex.split, commands_of(record)):
        kind = words[1]
        words[2 : 3 if kind == "generate" else 4] = [origin] if kind == "generate" else [origin, str(path)]
        lines += [*_comments(words, record if kind == "subsample" else generation_of(record)), shlex.join(words)]
    return lines if is_set else [*lines, *_score(path, pool)]


def _comments(words: Sequence[str], record: Mapping[str, Any]) -> list[str]:
    """What the words in capitals stood for."""
    settings = record.get("settings") or record.get("selection") or {}
    comments = []
    if "TARGET" in words:
        comments.append(_comment(f"TARGET: {settings['target'].get('name')}"))
    if "MODES.safetensors" in words:
        modes = settings["modes"]
        digest = str(modes.get("sha256"))[:12]
        comments.append(_comment(f"MODES.safetensors: {modes.get('modes')} modes of find-modes, sha256 {digest}"))
    return comments


def _score(path: Path, pool: Pool) -> list[str]:
    """Only for difficulties that `score` wrote: a generated pool has those of its own guide from the start."""
    by = str(pool.rows[0].get("difficulty_by") or "") if pool.rows else ""
    measure, _, names = by.partition(" by ")
    if not names:
        return []
    parts = [PROGRAM, "score", str(path), *(["--measure", measure] if measure != "confidence" else [])]
    for name in names.split(", "):
        parts += [] if name == "embedded guide" else ["--classifier", name]
    return [shlex.join(parts)]


def _comment(text: str) -> str:
    return "# " + " ".join(text.split())
