"""How long the first line of a script takes: imports in fresh interpreters, side by side.

    python benchmarks/startup.py [--turns 7]

``guidance`` imports every module of its room, not only the lazy package.  Turns alternate, so that
what else the machine does falls on all alike; the median counts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

GUIDANCE = "from dag_diffusion.guidance import difficulty_guidance, mode_guidance, probes, schedulers"
LINES = {
    "python": "pass",
    "torch": "import torch",
    "guidance": GUIDANCE,
    "package": "import dag_diffusion",
    "help": "import sys; sys.argv = ['dag-diffusion', '--help']; from dag_diffusion.cli import main; main()",
}


def seconds(line: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", line], check=True, capture_output=True)  # noqa: S603 - its own lines
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    turns = [{name: seconds(line) for name, line in LINES.items()} for _ in range(parser.parse_args().turns + 1)][1:]
    medians = {name: statistics.median(turn[name] for turn in turns) for name in LINES}
    ratio = statistics.median(turn["guidance"] / turn["torch"] for turn in turns)
    print(json.dumps({"seconds": {k: round(v, 3) for k, v in medians.items()}, "guidance / torch": round(ratio, 3)}))


if __name__ == "__main__":
    main()
