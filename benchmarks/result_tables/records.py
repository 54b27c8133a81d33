"""Records of benchmarks, and the cells and lines that tables are made of."""

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "results"
LONG = 200  # characters of a command


@cache
def load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def grid(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *map(list, rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def source(*names: str) -> str:
    """The line under a table: by which command, on what, in which record."""
    parts = []
    for name in names:
        record = load(name)
        settings, machine = record.get("settings", {}), record.get("machine", {})
        device = record.get("device") or settings.get("device") or machine.get("processor") or "CPU"  # the GPU, if any
        command = record["command"] if "command" in record else record["commands"][-1]  # of evaluations
        command = command if command.startswith("python") else f"python {command}"
        if len(names) > 1 or len(command) > LONG:
            command = re.sub(r" --sets .*", " --sets ...", command)  # the record has all of it
        of = f"{device}, torch {record['versions']['torch']}"
        parts.append(f"`{command}` ({of}; `benchmarks/results/{name}.json`)")
    return "*Measured by " + ",\n".join(parts) + ".*"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]], *records: str) -> str:
    return f"{grid(heads, rows)}\n\n{source(*records)}"


def interval(difference: float, bounds: Iterable[float] | None, places: int = 1) -> str:
    text = _signed(difference, places)
    return text if bounds is None else text + " ({} to {})".format(*(_signed(bound, places) for bound in bounds))


def _signed(value: float, places: int) -> str:
    return f"{round(value, places) + 0.0:+.{places}f}"  # rounding leaves a minus before zero


def duration(seconds: float) -> str:
    milliseconds = 1000 * seconds
    return (
        f"{seconds:.1f} s"
        if seconds >= 1
        else f"{milliseconds:.0f} ms"
        if milliseconds >= 10
        else f"{milliseconds:.1f} ms"
    )


def hours_in_words(hours: float) -> str:
    minutes = 60 * hours
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.0f} min" if minutes >= 9.5 else f"{minutes:.1f} min"


def share_of_pixels(pixels: dict) -> str:
    return f"{pixels['share']:.2g}" if pixels["share"] else "none"
