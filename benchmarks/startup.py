"""How long a script's first line takes, and how long a command is silent: fresh interpreters, side by side.

    python benchmarks/startup.py                      # imports
    python benchmarks/startup.py commands             # seconds to the first bar, and to the first one that counts work
    python benchmarks/startup.py commands score run --turns 3

``guidance`` imports every module of its room, not only the lazy package.  Commands run on a pseudo-terminal, on what is
embedded, until their first bar of work, and are then killed.  Turns alternate, so that what else the machine does falls
on all alike; medians count, for commands those of the seconds more than ``import torch, diffusers`` in the same turn.
The second writes benchmarks/results/startup.json.
"""

import argparse
import json
import os
import pty
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GUIDANCE = "from dag_diffusion.guidance import difficulty_guidance, mode_guidance, probes, schedulers"
LINES = {
    "python": "pass",
    "torch": "import torch",
    "guidance": GUIDANCE,
    "package": "import dag_diffusion",
    "help": "import sys; sys.argv = ['dag-diffusion', '--help']; from dag_diffusion.cli import main; main()",
}
LIBRARIES = "import torch, diffusers"  # what any such command needs
IMAGES = "images"  # a copy of the embedded reference, where a command may write scores
COMMANDS = {
    "generate": ["generate", "out", "--images-per-class", "1"],
    "score": ["score", IMAGES],
    "evaluate": ["evaluate", f"random:{IMAGES}", "--ipc", "1"],
    "find-modes": ["find-modes", IMAGES, "out.safetensors"],
    "train-probe": ["train-probe", "out"],
    "run": ["run", "--output", "out"],
}
BAR, WORK = "\N{BOX DRAWINGS HEAVY HORIZONTAL}".encode(), re.compile(rb"\d/\d")  # any bar; one that counts what is done
LIMIT = 120.0  # seconds after which a command is taken to say nothing


def seconds(line: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", line], check=True, capture_output=True)  # noqa: S603 - its own lines
    return time.perf_counter() - begun


def silence(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Seconds until a command's first bar, and until its first that counts what is done."""
    outer, inner = pty.openpty()
    begun, shown, seen = time.perf_counter(), None, b""
    process = subprocess.Popen(  # noqa: S603 - its own commands
        [sys.executable, "-m", "dag_diffusion", *arguments],
        cwd=folder, stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
    )  # fmt: skip
    os.close(inner)
    try:
        while not WORK.search(seen):
            passed = time.perf_counter() - begun
            if passed > LIMIT or not select.select([outer], [], [], LIMIT - passed)[0]:
                raise TimeoutError(f"{arguments} showed no bar in {LIMIT:.0f} s, but {seen!r}")
            try:
                seen += os.read(outer, 1 << 16)
            except OSError as closed:
                raise RuntimeError(f"{arguments} ended without a bar: {seen.decode()}") from closed
            if shown is None and BAR in seen:
                shown = time.perf_counter() - begun
        counted = time.perf_counter() - begun
        return shown or counted, counted
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(outer)


def time_imports(turns: int) -> None:
    found = [{name: seconds(line) for name, line in LINES.items()} for _ in range(turns + 1)][1:]
    medians = {name: statistics.median(turn[name] for turn in found) for name in LINES}
    ratio = statistics.median(turn["guidance"] / turn["torch"] for turn in found)
    print(json.dumps({"seconds": {k: round(v, 3) for k, v in medians.items()}, "guidance / torch": round(ratio, 3)}))


def time_commands(names: list[str], turns: int) -> None:
    from embedded import RESULTS, record

    from dag_diffusion import embedded

    bare: list[float] = []
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(turns + 1):  # the first reads files from the disk and does not count
        for name in names:
            with tempfile.TemporaryDirectory() as text:
                folder = Path(text)
                shutil.copytree(embedded.REFERENCE, folder / IMAGES)
                libraries = seconds(LIBRARIES)
                first, counted = silence(COMMANDS[name], folder)
            if turn:
                bare.append(libraries)
                found[name].append((first - libraries, counted - libraries))
    rows = {
        name: {
            "first_bar": statistics.median(first for first, _ in pairs),
            "first_of_work": statistics.median(counted for _, counted in pairs),
            "pairs": pairs,
        }
        for name, pairs in found.items()
    }
    for name, row in rows.items():
        print(f"{name:12} first bar {row['first_bar']:+.2f} s, first of work {row['first_of_work']:+.2f} s")
    print(f"{LIBRARIES}: {statistics.median(bare):.2f} s")
    path = RESULTS / "startup.json"
    earlier = json.loads(path.read_text("utf-8"))["seconds_more"] if path.exists() else {}
    sys.argv[1:] = ["commands", "--turns", str(turns)]  # of all rows, whichever were measured now
    record("startup", {"libraries_s": statistics.median(bare), "seconds_more": earlier | rows})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["imports", "commands"], nargs="?", default="imports")
    parser.add_argument("names", nargs="*", choices=[*COMMANDS, []], default=[])
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    if options.what == "imports":
        time_imports(options.turns)
    else:
        time_commands(options.names or list(COMMANDS), options.turns)


if __name__ == "__main__":
    main()
